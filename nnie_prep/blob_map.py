"""What became of every blob: one map from old names to new ones, kept true through all passes.

A pass that removes or renames a blob says so in a `Fate`. The driver composes the fates of all
passes into one `BlobMap`, and verification, the heads file and STEM.json all read that map.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Fate:
    """Where a blob's value is now.

    `blobs` hold the value, concatenated along the channels in this order: one name where the blob
    was kept or renamed, several where it was split. None where the value no longer exists, and
    then `reason` says why: "folded into conv3", "dropped: only training needs it".
    """

    blobs: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Note:
    """What a pass did at a layer, or declined to do and why (`changed=False`).

    `fates` names the blobs whose name or existence the change affected; all others are kept.
    """

    layer: str
    text: str
    changed: bool = True
    fates: Mapping[str, Fate] = field(default_factory=dict)


class BlobMap:
    """From the blobs of the first net to those of the present one."""

    def __init__(self, names: Iterable[str]) -> None:
        self._fates = {name: Fate((name,)) for name in names}

    def __getitem__(self, name: str) -> Fate:
        return self._fates[name]

    def names(self) -> list[str]:
        """The blobs of the first net."""
        return list(self._fates)

    def joined(self, names: Iterable[str]) -> Fate:
        """The fate of a value that lay in several blobs, concatenated along the channels."""
        return _follow(Fate(tuple(names)), self._fates)

    def follow(self, notes: Iterable[Note]) -> None:
        """Applies what the notes of one pass, in their order, say of names."""
        for note in notes:
            if note.fates:
                self._fates = {name: _follow(fate, note.fates) for name, fate in self._fates.items()}


def _follow(fate: Fate, step: Mapping[str, Fate]) -> Fate:
    """The fate of a blob whose parts met the fates of one step."""
    blobs: list[str] = []
    for name in fate.blobs:
        if name not in step:
            blobs.append(name)
        elif step[name].blobs:
            blobs += step[name].blobs
        else:
            return Fate((), step[name].reason)
    return Fate(tuple(blobs), fate.reason)
