"""Names: what was meant by one that is not known, and what NNIE makes of names: room, and suffixes."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import xxhash

LONGEST = 31  # bytes: SVP_NNIE_NODE_NAME_LEN is 32, with the zero behind it

# What the compiler heeds behind a layer's name, or a blob's: REPORT, it is handed out though layers read it.
REPORT, HIGH_PRECISION, CPU = "_report", "_hp", "_cpu"

_DIGITS = 6


def fits(name: str) -> bool:
    """Whether NNIE's runtime can hold the name of an input or output."""
    return len(name.encode()) <= LONGEST


def shortened(name: str, taken: Collection[str], suffix: str = "") -> str:
    """The name with the suffix behind it, at most LONGEST bytes and none of those taken.

    What is cut off leaves a few digits of the whole name's hash, so that equal names give equal names,
    and names that begin alike do not. A name that fits as it is stays.
    """
    if fits(name + suffix) and name + suffix not in taken:
        return name + suffix
    room = LONGEST - len(suffix.encode()) - _DIGITS - 1
    kept = name.encode()[:room].decode(errors="ignore").rstrip("_-/.")
    turn = 0
    while True:
        digits = xxhash.xxh3_128(f"{name}{turn or ''}".encode()).hexdigest()[:_DIGITS]
        if (short := f"{kept}_{digits}{suffix}") not in taken:
            return short
        turn += 1


def meant(name: str, known: Iterable[str]) -> str:
    """A question for a hint, "" if no name comes near."""
    import difflib

    near = difflib.get_close_matches(name, list(known), 1)
    return f"did you mean {near[0]}?" if near else ""
