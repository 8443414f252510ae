"""What a user asks of single layers and blobs: --custom, --proposal, --report, --high-precision, --cpu.

Layers of his own are made before the passes, by the source's names; suffixes are put behind names when the
passes are done, and then a blob may be called as in the source.
"""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Callable

from nnie_prep.blob_map import BlobMap, Note
from nnie_prep.errors import UserError
from nnie_prep.names import meant
from nnie_prep.net import Net
from nnie_prep.shapes import Shape

_SHAPES = re.compile(r"(.*)=(\d+(?:,\d+)*(?:/\d+(?:,\d+)*)*)", re.DOTALL)
_NAMES = ("custom", "proposal", "report", "high_precision", "cpu")


def as_typed(options: Namespace) -> list[str]:
    """The requests as the user would type them, each once."""
    return [
        f"--{name.replace('_', '-')} {value}"
        for name in _NAMES
        for value in dict.fromkeys(getattr(options, name, []))
    ]


def own_names(net: Net, options: Namespace) -> list[str]:
    """The layers that are to be the user's own code."""
    named = [_split(net, text)[0] for text in getattr(options, "custom", [])]
    return list(dict.fromkeys(named + getattr(options, "proposal", [])))


def check_own(net: Net, options: Namespace) -> None:
    """Raises UserError where a layer that is to be the user's own code cannot be."""
    if names := own_names(net, options):
        from nnie_prep.edit.custom import out_of_place

        for name in names:
            out_of_place(net, name)


def own_layers(net: Net, options: Namespace, apart: Callable[[str], bool] = lambda type_: True) -> list[Note]:
    """Makes Custom and Proposal layers of those asked for; only where `apart` says so of their type."""
    notes: list[Note] = []
    if not own_names(net, options):
        return notes
    from nnie_prep import edit

    for text in dict.fromkeys(getattr(options, "custom", [])):
        name, shapes = _split(net, text)
        if _is_wanted(net, name, apart):
            notes += edit.custom(net, name, shapes)
    for name in dict.fromkeys(getattr(options, "proposal", [])):
        if _is_wanted(net, name, apart):
            notes += edit.proposal(net, name)
    return notes


def _is_wanted(net: Net, name: str, apart: Callable[[str], bool]) -> bool:
    layer = net.layer(name)
    return layer is None or apart(layer.type)


def _split(net: Net, text: str) -> tuple[str, list[Shape]]:
    """LAYER=1,8,5,7/1,3 is a layer with a shape for each top; names may hold an equals sign too."""
    match = _SHAPES.fullmatch(text)
    if match is None or net.layer(text):
        return text, []
    return match[1], [tuple(map(int, one.split(","))) for one in match[2].split("/")]


def suffixes(net: Net, options: Namespace, before: Net, blob_map: BlobMap) -> list[Note]:
    """Puts NNIE's suffixes behind names; the notes are for the map, which they follow."""
    notes: list[Note] = []
    if not any(getattr(options, name, []) for name in ("report", "high_precision", "cpu")):
        return notes
    from nnie_prep import edit

    for name in dict.fromkeys(getattr(options, "report", [])):
        for blob in _blobs_now(name, blob_map):
            found = edit.report(net, blob)
            blob_map.follow(found)
            notes += found
    for layers, ask in (("high_precision", edit.high_precision), ("cpu", edit.cpu)):
        for name in dict.fromkeys(getattr(options, layers, [])):
            if net.layer(name) is None and before.layer(name) is not None:
                near = meant(name, [layer.name for layer in net.layers])
                raise UserError(
                    f"layer {name!r} is not in the result any more",
                    before.source,
                    f"{near or 'name another'} (--skip leaves out the pass that took it)",
                )
            notes += ask(net, name)
    return notes


def unreported(net: Net, blob_map: BlobMap) -> list[Note]:
    """Says which blobs the compiler keeps to itself though they are wanted, as layers of the chip read them.

    They keep their names, as they were asked for by these.
    """
    if not net.wanted:
        return []
    from nnie_prep.nnie.limits import read_limits
    from nnie_prep.nnie.subject import Subject, runs_on_cpu

    subject = Subject(net, read_limits(None, None))
    handed_out = {name for segment in subject.segments for name in segment.outputs}
    writers, notes = net.last_writers(), []
    for name in dict.fromkeys(net.wanted):
        kept = [one for one in blob_map[name].blobs if one not in handed_out]
        if kept and not all(runs_on_cpu(writers[one]) for one in kept):
            text = f"wanted, but layers read it, and the compiler hands out none such: add --report {name}"
            notes.append(Note(", ".join(kept), text, changed=False))
    return notes


def _blobs_now(name: str, blob_map: BlobMap) -> tuple[str, ...]:
    """Where a blob of the source is; any other name is one of the result."""
    if name not in blob_map.names():
        return (name,)
    fate = blob_map[name]
    if not fate.blobs:
        raise UserError(f"blob {name!r} is gone: {fate.reason}", hint="report another, or --skip that pass")
    return fate.blobs
