"""Fold the Scale layers that stand without a BatchNorm into the layer before them.

    before:  conv -> Scale -> Scale -> y        after:  conv' -> y

For Convolution, Deconvolution, InnerProduct and depthwise convolutions; with bias or without, in
place or not; several in a row go into one rounding.

Declined where anything else reads what is scaled or it is an output of the net, for a Scale with two
bottoms, with an axis or num_axes other than 1 or with another number of channels, for weights that
are shared through `param { name }` or not loaded, where the output channels are not on axis 1, and
where a shift finds no bias.
"""

from __future__ import annotations

from nnie_prep.blob_map import Note
from nnie_prep.net import Net
from nnie_prep.passes.folding import fold_run, foldable_run, shared_names, why_not_folded


def fold_scale(net: Net) -> list[Note]:
    """Folds each row of Scale layers into the layer before."""
    if not any(layer.type == "Scale" for layer in net.layers):
        return []
    notes = []
    shared = shared_names(net)
    for layer in list(net.layers):
        run, factors = foldable_run(net, layer, shared, ("Scale",))
        if factors is not None:
            notes.append(fold_run(net, layer, run, factors))
    for layer in net.layers:
        if layer.type == "Scale":
            notes.append(Note(layer.name, f"not folded: {why_not_folded(net, layer, shared)}", changed=False))
    return notes
