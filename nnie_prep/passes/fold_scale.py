"""Fold the Scale, Bias and Power layers that stand without a BatchNorm into the layer before them.

    before:  conv -> Scale -> Bias -> y        after:  conv' -> y

For Convolution, Deconvolution, InnerProduct and depthwise convolutions; in place or not; several in
a row go into one rounding. A Power counts where its power is 1: with scale and shift. Layers that
share weights through `param { name }` are folded together where what follows each does the same.

Declined where anything else reads what is scaled or it is an output of the net, for a Scale or Bias
with two bottoms, with an axis or num_axes other than 1 or with another number of channels, for weights
that are shared otherwise or not loaded, where the output channels are not on axis 1, and where a
shift finds no bias.
"""

from __future__ import annotations

from nnie_prep.blob_map import Note
from nnie_prep.net import Net
from nnie_prep.passes.folding import fold_run, foldable, why_not_folded
from nnie_prep.passes.followers import SCALES, is_follower
from nnie_prep.passes.sharing import Sharing


def fold_scale(net: Net) -> list[Note]:
    """Folds each row of Scale, Bias and Power layers into the layer before."""
    if not any(layer.type in SCALES for layer in net.layers):
        return []
    notes = []
    sharing = Sharing(net)
    for layer in list(net.layers):
        notes += [fold_run(net, fold) for fold in foldable(net, layer, sharing, SCALES)]
    for layer in net.layers:
        if layer.type in SCALES and is_follower(layer):
            reason = why_not_folded(net, layer, sharing)
            notes.append(Note(layer.name, f"not folded: {reason}", changed=False))
    return notes
