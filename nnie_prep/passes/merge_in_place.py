"""Merge the top of BatchNorm, Scale and activations into their bottom where nobody else reads that.

    before:  conv -> conv, ReLU: conv -> relu        after:  conv -> relu, ReLU: relu -> relu

The form that NNIE computes fastest. The blob keeps the name that it has in the end, so that outputs
keep theirs.

Declined for what the net is fed with, and where others share the memory that would be overwritten. Where the
bottom is read elsewhere too there is nothing to be done, and nothing is said.
"""

from __future__ import annotations

from nnie_prep.blob_map import Fate, Note
from nnie_prep.net import Layer, Net
from nnie_prep.passes.memory import memory_is_shared

_IN_PLACE = (*("BatchNorm", "Bias", "BNLL", "ELU", "Power", "PReLU", "ReLU", "Scale", "Sigmoid", "TanH"),)


def merge_in_place(net: Net) -> list[Note]:
    """Puts each such layer in place."""
    notes = []
    for layer in net.layers:
        if layer.type not in _IN_PLACE or len(layer.bottoms) != 1 or len(layer.tops) != 1:
            continue
        bottom, top = layer.bottoms[0], layer.tops[0]
        writer = net.writer(layer)
        if bottom == top or writer is None or net.readers(writer, writer.tops.index(bottom)) != [layer]:
            continue
        if reason := _why_not(net, layer, writer):
            notes.append(Note(layer.name, f"not in place: {reason}", changed=False))
            continue
        layer.tops = [bottom]
        net.rename_blob(bottom, top)
        fate = Fate((), f"overwritten in place by {layer.name}")
        notes.append(Note(layer.name, f"in place on {top}, which was {bottom} before", fates={bottom: fate}))
    return notes


def _why_not(net: Net, layer: Layer, writer: Layer) -> str:
    first: Layer | None = writer
    while first is not None and layer.bottoms[0] in first.bottoms:
        first = net.writer(first, first.bottoms.index(layer.bottoms[0]))
    if first is None or not first.bottoms:
        return f"the net is fed with {layer.bottoms[0]}"
    return f"others share the memory of {layer.bottoms[0]}" if memory_is_shared(net, layer) else ""
