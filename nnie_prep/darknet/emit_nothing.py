"""Sections that compute nothing at inference: [dropout], [empty], [cost]."""

from __future__ import annotations

from nnie_prep.darknet.builder import Builder, Output
from nnie_prep.darknet.cfg import Section


def emit_identity(build: Builder, section: Section) -> Output:
    """[dropout] and [empty]: the output is the input (AlexeyAB parser.c:1633 makes them one buffer)."""
    return build.input()


def emit_cost(build: Builder, section: Section) -> Output:
    """[cost] only measures in training; the network's output is the section before it."""
    return Output(build.shape_before(), none="a cost: only training computes it")
