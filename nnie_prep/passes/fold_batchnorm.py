"""Fold BatchNorm, and the Scale, Bias and Power layers around it, into the layer before them.

    before:  conv -> BatchNorm -> Scale -> y        after:  conv' -> y

For Convolution, Deconvolution, InnerProduct and depthwise convolutions, in place or not. All Scale,
Bias and Power (with power 1) right behind the BatchNorm, or between it and the convolution, go into
the same rounding. Layers that share weights through `param { name }` are folded together where what
follows each of them does the same.

Declined where anything else reads what the convolution or the BatchNorm writes or it is an output
of the net, where a layer of another type stands between, for use_global_stats: false, for
a variance that leaves no finite result, for weights that are shared otherwise or not loaded, and
where the output channels are not on axis 1. A Scale that cannot be folded stays, and the BatchNorm
before it folds alone.
"""

from __future__ import annotations

from nnie_prep.blob_map import Note
from nnie_prep.net import Net
from nnie_prep.passes.folding import fold_run, foldable, why_not_folded
from nnie_prep.passes.followers import FOLLOWERS
from nnie_prep.passes.sharing import Sharing


def fold_batchnorm(net: Net) -> list[Note]:
    """Folds each BatchNorm with the layers next to it into the layer before."""
    if not any(layer.type == "BatchNorm" for layer in net.layers):
        return []
    notes = []
    sharing = Sharing(net)
    for layer in list(net.layers):
        folds = foldable(net, layer, sharing, FOLLOWERS)
        if any(follower.type == "BatchNorm" for fold in folds for follower in fold.run):
            notes += [fold_run(net, fold) for fold in folds]
    for layer in net.layers:
        if layer.type == "BatchNorm":
            reason = why_not_folded(net, layer, sharing)
            notes.append(Note(layer.name, f"not folded: {reason}", changed=False))
    return notes
