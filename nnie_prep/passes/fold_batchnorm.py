"""Fold BatchNorm, and the Scale layers around it, into the layer before them.

    before:  conv -> BatchNorm -> Scale -> y        after:  conv' -> y

For Convolution, Deconvolution, InnerProduct and depthwise convolutions, in place or not. A Scale
right behind the BatchNorm, and one between it and the convolution, goes into the same rounding.

Declined where anything else reads what the convolution or the BatchNorm writes or it is an output
of the net, where a layer of another type stands between, for use_global_stats: false, for
a variance that leaves no finite result, for weights that are shared through `param { name }` or not
loaded, and where the output channels are not on axis 1. A Scale that cannot be folded stays, and
the BatchNorm before it folds alone.
"""

from __future__ import annotations

from nnie_prep.blob_map import Note
from nnie_prep.net import Net
from nnie_prep.passes.folding import FOLLOWERS, fold_run, foldable_run, shared_names, why_not_folded


def fold_batchnorm(net: Net) -> list[Note]:
    """Folds each BatchNorm with the Scale layers next to it into the layer before."""
    if not any(layer.type == "BatchNorm" for layer in net.layers):
        return []
    notes = []
    shared = shared_names(net)
    for layer in list(net.layers):
        run, factors = foldable_run(net, layer, shared, FOLLOWERS)
        if factors is not None and any(follower.type == "BatchNorm" for follower in run):
            notes.append(fold_run(net, layer, run, factors))
    for layer in net.layers:
        if layer.type == "BatchNorm":
            notes.append(Note(layer.name, f"not folded: {why_not_folded(net, layer, shared)}", changed=False))
    return notes
