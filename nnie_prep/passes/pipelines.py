"""What `prepare` runs: PASSES, and around them what takes the place of layers that the target has not."""

from __future__ import annotations

from collections.abc import Sequence

from nnie_prep.passes import PASSES, Pass
from nnie_prep.passes.drop_heads import drop_heads
from nnie_prep.passes.fold_shuffle_channel import fold_shuffle_channel
from nnie_prep.passes.insert_bias import insert_bias
from nnie_prep.passes.merge_in_place import merge_in_place
from nnie_prep.passes.rename_long_names import rename_long_names
from nnie_prep.passes.replace_crop import replace_crop
from nnie_prep.passes.replace_deconvolution import replace_deconvolution
from nnie_prep.passes.replace_depthwise_convolution import replace_depthwise_convolution
from nnie_prep.passes.replace_floor_pooling import replace_floor_pooling
from nnie_prep.passes.replace_grouped_convolution import replace_grouped_convolution
from nnie_prep.passes.replace_inputs import replace_inputs
from nnie_prep.passes.replace_interp import replace_interp
from nnie_prep.passes.replace_mish import replace_mish
from nnie_prep.passes.replace_normalize import replace_normalize
from nnie_prep.passes.replace_pass_through import replace_pass_through
from nnie_prep.passes.replace_permute import replace_permute
from nnie_prep.passes.replace_power import replace_power
from nnie_prep.passes.replace_relu6 import replace_relu6
from nnie_prep.passes.replace_shuffle_channel import replace_shuffle_channel
from nnie_prep.passes.replace_slice import replace_slice
from nnie_prep.passes.replace_swish import replace_swish
from nnie_prep.passes.replace_upsample import replace_upsample

# What goes, and what then folds.
_DROPPING, _FOLDING = PASSES[: PASSES.index(insert_bias)], PASSES[PASSES.index(insert_bias) :]

# PASSES, and before and behind them what takes the place of layers that NNIE has not, or computes slowly.
NNIE_PASSES: tuple[Pass, ...] = (
    *_DROPPING,
    drop_heads,  # before what would be done for the sake of layers that go
    replace_inputs,  # behind it: a Reshape that names the batch is often one of those
    replace_floor_pooling,  # before the folds, as all that makes convolutions: a Scale behind it can fold
    replace_crop,
    replace_interp,
    fold_shuffle_channel,  # before replace_slice, which may take the convolution before both apart
    replace_shuffle_channel,  # what could not be folded
    replace_slice,
    replace_relu6,
    replace_mish,
    replace_swish,
    replace_power,
    *_FOLDING,
    replace_deconvolution,  # one that took a BatchNorm is no nearest neighbour any more, and better so
    replace_grouped_convolution,  # behind all that make grouped convolutions, and those that fold into them
    merge_in_place,  # for what the others left
    rename_long_names,  # last: only then it is known what the outputs are called
)

# The same for layers that stock BVLC Caffe has not; its 1.0 lacks rounding down, Clip and Swish too.
STOCK_PASSES: tuple[Pass, ...] = (
    *_DROPPING,
    replace_floor_pooling,
    replace_interp,
    fold_shuffle_channel,
    replace_shuffle_channel,
    replace_relu6,
    replace_mish,
    replace_swish,
    replace_upsample,  # before the folds, as all that makes convolutions
    replace_pass_through,
    replace_depthwise_convolution,
    replace_normalize,  # ends in a Scale, which may fold forwards
    replace_permute,
    *_FOLDING,
)


def _in_one_order(first: Sequence[Pass], second: Sequence[Pass]) -> tuple[Pass, ...]:
    """Both, each in its order: what only the second has stands behind what it follows there."""
    order = list(first)
    for before, one in zip(second, second[1:], strict=False):
        if one not in order:
            order.insert(order.index(before) + 1, one)
    return tuple(order)


ALL_PASSES = _in_one_order(NNIE_PASSES, STOCK_PASSES)
