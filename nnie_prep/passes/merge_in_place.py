"""Merge the top of BatchNorm, Scale and activations into their bottom where nobody else reads that.

    before:  conv -> conv, ReLU: conv -> relu        after:  conv -> relu, ReLU: relu -> relu

The form that NNIE computes fastest. The blob keeps the name that it has in the end, so that outputs
keep theirs.

Declined where others share the memory that would be overwritten. Where the bottom is read elsewhere too, is
wanted as an output, or is what the net is fed with, there is nothing to be done, and nothing is said.
"""

from __future__ import annotations

from nnie_prep.blob_map import Fate, Note
from nnie_prep.memory import is_fed, memory_is_shared
from nnie_prep.net import Net

_IN_PLACE = (
    "BatchNorm", "Bias", "BNLL", "ELU", "Power", "PReLU", "ReLU", "Scale", "Sigmoid", "TanH"
)  # fmt: skip


def merge_in_place(net: Net) -> list[Note]:
    """Puts each such layer in place."""
    notes = []
    for layer in net.layers:
        if layer.type not in _IN_PLACE or len(layer.bottoms) != 1 or len(layer.tops) != 1:
            continue
        bottom, top = layer.bottoms[0], layer.tops[0]
        writer = net.writer(layer)
        if bottom == top or writer is None or is_fed(net, layer):
            continue
        if net.readers(writer, writer.tops.index(bottom)) != [layer] or net.is_wanted(writer, bottom):
            continue
        if memory_is_shared(net, layer):
            reason = f"others share the memory of {bottom}"
            notes.append(Note(layer.name, f"not in place: {reason}", changed=False))
            continue
        layer.tops = [bottom]
        net.rename_blob(bottom, top)
        fate = Fate((), f"overwritten in place by {layer.name}")
        notes.append(Note(layer.name, f"in place on {top}, which was {bottom} before", fates={bottom: fate}))
    return notes
