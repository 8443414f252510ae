"""The passes, in the order in which they run, and the driver.

A pass is one public function in a file of its name: a single sweep over the net that returns a
`Note` for each thing it did or declined to do. The driver repeats a pass until it changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from nnie_prep.blob_map import BlobMap, Note
from nnie_prep.net import Net
from nnie_prep.passes.drop_heads import drop_heads
from nnie_prep.passes.drop_identity import drop_identity
from nnie_prep.passes.drop_training import drop_training
from nnie_prep.passes.drop_unreachable import drop_unreachable
from nnie_prep.passes.fold_batchnorm import fold_batchnorm
from nnie_prep.passes.fold_scale import fold_scale
from nnie_prep.passes.fold_scale_forward import fold_scale_forward
from nnie_prep.passes.fold_shuffle_channel import fold_shuffle_channel
from nnie_prep.passes.insert_bias import insert_bias
from nnie_prep.passes.merge_batchnorm import merge_batchnorm
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

Pass = Callable[[Net], list[Note]]

PASSES: tuple[Pass, ...] = (
    drop_unreachable,  # first: what leads to no output that is wanted must not hold up what follows
    drop_training,  # before the rest: what only training needs would be a second reader to all that follow
    drop_identity,  # a Dropout or Split between a convolution and its BatchNorm would prevent the fold
    insert_bias,  # folding needs a bias to fold into
    fold_batchnorm,  # with the Scale behind it, in one rounding
    fold_scale,  # what scales and shifts channels without a BatchNorm
    fold_scale_forward,  # only what has no layer with weights before it: forwards, padding may spoil it
    merge_batchnorm,  # last: a fold leaves nothing where this leaves a Scale
)

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

# Which pass replaces a layer that some Caffe has not, and leaves all other blobs as they are.
REPLACES: Mapping[str, Pass] = {
    "Clip": replace_relu6,
    "ConvolutionDepthwise": replace_depthwise_convolution,
    "DepthwiseConv": replace_depthwise_convolution,
    "DepthwiseConvolution": replace_depthwise_convolution,
    "Interp": replace_interp,
    "Mish": replace_mish,
    "Normalize": replace_normalize,
    "PassThrough": replace_pass_through,
    "Permute": replace_permute,
    "ReLU6": replace_relu6,
    "ShuffleChannel": replace_shuffle_channel,
    "Swish": replace_swish,
    "Upsample": replace_upsample,
}


def names_of(passes: Iterable[Pass]) -> list[str]:
    """The passes' names, as `--skip` takes them."""
    return [one.__name__ for one in passes]


def run(
    net: Net, passes: Iterable[Pass], blob_map: BlobMap, skip: Collection[str] = ()
) -> dict[str, list[Note]]:
    """Runs the passes over the net in place, and returns the notes of each pass by its name.

    A note that a pass repeats in a later sweep (a layer that it declines each time) is kept once.
    """
    notes: dict[str, list[Note]] = {}
    for one in passes:
        if one.__name__ in skip:
            continue
        kept: list[Note] = []
        while True:
            sweep = one(net)
            changes = [note for note in sweep if note.changed]
            blob_map.follow(changes)
            kept += changes
            if not changes:
                break
        notes[one.__name__] = kept + sweep
    return notes


def lower(net: Net, known: Callable[[], Collection[str]]) -> tuple[Net, list[str]]:
    """The net for a Caffe that knows these layer types only, and what was replaced, in words.

    The net itself where nothing is. All its blobs keep their names and values; what cannot be replaced
    stays. BVLC's Caffe has no `ceil_mode` either. `known` is asked only where it matters.
    """
    counts = Counter(layer.type for layer in net.layers)
    foreign = [kind for kind in counts if kind in REPLACES]
    foreign = [kind for kind in foreign if kind not in known()] if foreign else []
    poolings = [layer for layer in net.layers if layer.proto.pooling_param.HasField("ceil_mode")]
    if not foreign and not poolings:
        return net, []
    twin = net.copy()
    replacing = dict.fromkeys(REPLACES[kind] for kind in foreign)
    run(twin, [*replacing, *([replace_floor_pooling] if poolings else [])], BlobMap([]))
    gone = counts - Counter(layer.type for layer in twin.layers)
    told = [f"{count} {kind}" for kind, count in gone.items() if kind in foreign]
    return twin, told + ([f"ceil_mode, which {len(poolings)} Pooling have"] if poolings else [])
