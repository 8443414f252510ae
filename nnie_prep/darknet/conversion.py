"""The result of a conversion from Darknet."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nnie_prep.darknet.approximation import Approximated
from nnie_prep.darknet.cfg import Section
from nnie_prep.net import Net


@dataclass(frozen=True)
class DarknetLayer:
    """Where the output of one section of the cfg lies in the Caffe net.

    `index` is Darknet's, counted from 0 behind [net]; `section` its type, `line` that of its header.
    `blobs` hold the output, concatenated along the channels; where there are none, `none` says why.
    `shape` is Darknet's (channels, height, width). The blobs hold the values in that order, but may have
    another shape of as many elements. `inexact` says what is computed in the place of the section, where
    the user asked for something cheaper.
    """

    index: int
    section: str
    line: int
    blobs: tuple[str, ...]
    none: str
    shape: tuple[int, int, int]
    inexact: str = ""


@dataclass(eq=False)
class Conversion:
    """A Caffe net and what ties it to the Darknet network that it was made from.

    `heads` describe the detection heads (darknet/heads.py), `input` what the net is to be fed with.
    `warnings` name keys of the cfg that nobody asked for; `notes` are what else the user should know.
    `costs` say what is exact and yet slow and coarse on NNIE.
    `floats` is how many the weights file holds, all of which are used. `approximated` are the sections
    that are inexact as the user asked, by index.
    """

    net: Net
    layers: list[DarknetLayer]
    heads: list[dict[str, Any]]
    input: dict[str, Any]
    sections: list[Section]
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    costs: list[str] = field(default_factory=list)
    floats: int = 0
    approximated: dict[int, Approximated] = field(default_factory=dict)
