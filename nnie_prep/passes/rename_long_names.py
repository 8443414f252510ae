"""Rename the inputs and outputs of the net whose names NNIE's runtime has no room for.

    before:  conv -> detection_head_of_the_largest_scale_location
    after:   conv -> detection_head_of_the_la_1c39f2

The limit is 31 bytes. A new name keeps the beginning of the old one and ends in digits of its hash; it is
the same in every run and none that the net has already. Inner blobs and layers keep their names, and so
does, with a note, an output that is wanted by name.
"""

from __future__ import annotations

from nnie_prep.blob_map import Fate, Note
from nnie_prep.names import LONGEST, fits, shortened
from nnie_prep.net import Net


def rename_long_names(net: Net) -> list[Note]:
    """Renames each of them, wherever the net names it."""
    notes = []
    for name in dict.fromkeys([*net.inputs(), *net.outputs()]):
        if fits(name):
            continue
        if name in net.wanted:
            notes.append(Note(name, "not renamed: it is wanted by that name", changed=False))
            continue
        short = shortened(name, net.blob_names())
        net.rename_blob(name, short)
        text = f"blob renamed to {short}: {len(name.encode())} bytes, and there is room for {LONGEST}"
        notes.append(Note(name, text, fates={name: Fate((short,))}))
    return notes
