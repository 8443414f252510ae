"""For a Caffe that lacks some layer types: the same net in layers that it has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping

from nnie_prep.blob_map import BlobMap
from nnie_prep.net import Net
from nnie_prep.passes import Pass, run
from nnie_prep.passes.replace_depthwise_convolution import replace_depthwise_convolution
from nnie_prep.passes.replace_floor_pooling import replace_floor_pooling
from nnie_prep.passes.replace_interp import replace_interp
from nnie_prep.passes.replace_mish import replace_mish
from nnie_prep.passes.replace_normalize import replace_normalize
from nnie_prep.passes.replace_pass_through import replace_pass_through
from nnie_prep.passes.replace_permute import replace_permute
from nnie_prep.passes.replace_relu6 import replace_relu6
from nnie_prep.passes.replace_shuffle_channel import replace_shuffle_channel
from nnie_prep.passes.replace_swish import replace_swish
from nnie_prep.passes.replace_upsample import replace_upsample

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
