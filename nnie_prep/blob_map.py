"""What became of every blob: one map from old names to new ones, kept true through all passes.

A pass that removes or renames a blob says so in a `Fate`. The driver composes the fates of all
passes into one `BlobMap`, and verification, the heads file and STEM.json all read that map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple


class Fate(NamedTuple):
    """Where a blob's value is now.

    `blobs` hold the value, concatenated along the channels in this order: one name where the blob
    was kept or renamed, several where it was split. None where the value no longer exists, and
    then `reason` says why: "folded into conv3", "dropped: only training needs it".
    """

    blobs: tuple[str, ...] = ()
    reason: str = ""


class Note(NamedTuple):
    """What a pass did at a layer, or declined to do and why (`changed=False`).

    `fates` names the blobs whose name or existence the change affected; all others are kept. `heads` say,
    as JSON values, what the code on the CPU must do in the place of layers that were cut off; the blobs
    in them are those of the net as it is after this note.
    """

    layer: str
    text: str
    changed: bool = True
    fates: Mapping[str, Fate] = {}
    heads: Sequence[Mapping[str, Any]] = ()


class BlobMap:
    """From the blobs of the first net to those of the present one; `heads` as in `Note`, kept true."""

    def __init__(self, names: Iterable[str]) -> None:
        self._fates = {name: Fate((name,)) for name in names}
        self.heads: list[dict[str, Any]] = []

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
                step = note.fates
                self._fates = {name: _follow(fate, step) for name, fate in self._fates.items()}
                self.heads = relocated(self.heads, lambda names: _follow(Fate(names), step))  # noqa: B023
            self.heads += [dict(head) for head in note.heads]


def place(fate: Fate) -> dict[str, Any]:
    """Where a value is: {"blob": name}, {"blobs": [names]} or {"none": reason}."""
    if not fate.blobs:
        return {"none": fate.reason}
    return {"blob": fate.blobs[0]} if len(fate.blobs) == 1 else {"blobs": list(fate.blobs)}


def fate_at(entry: Mapping[str, Any]) -> Fate:
    """The fate that `place` made this entry of."""
    if "none" in entry:
        return Fate((), entry["none"])
    return Fate(tuple(entry.get("blobs", [entry.get("blob")])))


def relocated(value: Any, fate_of: Callable[[tuple[str, ...]], Fate]) -> Any:
    """JSON values in which every {"blob": name} and {"blobs": [names]}, however deep, says its new place."""
    if isinstance(value, list):
        return [relocated(one, fate_of) for one in value]
    if not isinstance(value, dict):
        return value
    found: dict[str, Any] = {}
    for key, one in value.items():
        if key == "blob" and isinstance(one, str):
            found |= place(fate_of((one,)))
        elif key == "blobs" and isinstance(one, list) and one:
            found |= place(fate_of(tuple(one)))
        else:
            found[key] = relocated(one, fate_of)
    return found


def blobs_in(value: Any) -> list[str]:
    """The blobs that JSON values name in such a way, each once."""
    found: dict[str, None] = {}

    def collect(names: tuple[str, ...]) -> Fate:
        found.update(dict.fromkeys(names))
        return Fate(names)

    relocated(value, collect)
    return list(found)


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
