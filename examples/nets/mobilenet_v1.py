"""MobileNet v1, arXiv 1704.04861, table 1, with the names by which Caffe's users know it.

A 3x3 convolution, thirteen pairs of a depthwise 3x3 and a 1x1 convolution, each with BatchNorm, Scale and
ReLU in place behind it, the mean over the picture, a classifier.
"""

from __future__ import annotations

from caffe_layers import Draft, Pair

from nnie_prep.net import Net

# (name, channels at depth 1, stride of the depthwise convolution)
PAIRS = (
    *(("2_1", 64, 1), ("2_2", 128, 2), ("3_1", 128, 1), ("3_2", 256, 2), ("4_1", 256, 1), ("4_2", 512, 2)),
    *((f"5_{place}", 512, 1) for place in range(1, 6)),
    *(("5_6", 1024, 2), ("6", 1024, 1)),
)
FEWEST_CHANNELS = 8


def mobilenet_v1(size: Pair, classes: int, seed: int, depth: float) -> Net:
    """`depth` is the share of the channels."""

    def channels(full: int) -> int:
        return max(int(full * depth), FEWEST_CHANNELS)

    draft = Draft(f"MobileNet v1 {depth:g}", size, seed)
    draft.convolution("conv1", channels(32), 3, stride=2, pad=1)
    normalized(draft, "conv1")
    for name, outputs, stride in PAIRS:
        draft.depthwise(f"conv{name}/dw", stride)
        normalized(draft, f"conv{name}/dw")
        draft.convolution(f"conv{name}/sep", channels(outputs), 1)
        normalized(draft, f"conv{name}/sep")
    draft.pooling("pool6", "AVE")
    draft.inner_product("fc7", classes)
    draft.softmax()
    return draft.net


def normalized(draft: Draft, name: str) -> None:
    draft.batchnorm(f"{name}/bn")
    draft.scale(f"{name}/scale")
    draft.relu(f"relu{name.removeprefix('conv')}")
