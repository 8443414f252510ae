"""Faults on purpose, one for each seed: what the fuzzer must see of itself."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

from fuzzing.trial import LEAN, Trial, check_lean, check_text

SUFFIXES = (".a", ".b")


def original(r: Random, folder: Path) -> tuple[bytes, bytes, None]:
    return b"sound", b"sound", None


def edit(files: list[bytes], r: Random) -> None:
    """The faults below need one edit or none."""
    files[0] = b"damaged"


def run(first: Path, second: Path, about: None, r: Random) -> Trial:
    """The fault that the seed stands for."""
    _FAULTS[int(first.parent.name)](first.read_bytes())
    return Trial("read", "nothing wrong")


def _raise(data: bytes) -> None:
    if data == b"damaged":
        raise ZeroDivisionError


def _hang(data: bytes) -> None:
    while True:
        pass


def _crash(data: bytes) -> None:
    os.abort()


def _devour(data: bytes) -> None:
    bytes(3 << 30)


def _waste(data: bytes) -> None:
    with check_lean():
        b"x" * (LEAN + (9 << 20))


def _babble(data: bytes) -> None:
    check_text("\x1b[31m is not what a message should hold")


def _nothing(data: bytes) -> None:
    pass


_FAULTS = (_nothing, _raise, _hang, _crash, _devour, _waste, _babble)
