"""ShuffleNet v1 with three groups, arXiv 1707.01083, table 1: grouped 1x1 convolutions, and ShuffleChannel.

The depthwise convolutions are of type DepthwiseConv, as NNIE knows it, whose weights are (channels, 1, 3, 3)
and which has no group.
"""

from __future__ import annotations

from caffe_layers import Draft, Pair

from nnie_prep.net import Net

STAGES = ((2, 4), (3, 8), (4, 4))  # number, units
# Channels of the first convolution and of the stages.
CHANNELS = {
    0.5: (12, 120, 240, 480),
    1.0: (24, 240, 480, 960),
    1.5: (24, 360, 720, 1440),
    2.0: (48, 480, 960, 1920),
}
GROUP = 3


def shufflenet_v1(size: Pair, classes: int, seed: int, depth: float) -> Net:
    """`depth` is one of the four that were published: 0.5, 1.0, 1.5, 2.0."""
    first, *stages = CHANNELS[depth]
    draft = Draft(f"ShuffleNet v1 {depth:g}", size, seed)
    _normalized(draft, draft.convolution("conv1", first, 3, stride=2, pad=1), relu=True)
    draft.pooling("pool1", "MAX", 3, 2)
    for (stage, units), outputs in zip(STAGES, stages, strict=True):
        for unit in range(1, units + 1):
            _unit(draft, f"stage{stage}_{unit}", outputs, unit == 1, GROUP if draft.blob != "pool1" else 1)
    draft.pooling("pool_ave", "AVE")
    draft.inner_product(f"fc{classes}", classes)
    draft.softmax()
    return draft.net


def _unit(draft: Draft, name: str, outputs: int, is_first: bool, group: int) -> None:
    """Added to what goes in or, with stride 2, concatenated to the mean of it."""
    bottom, narrow = draft.blob, outputs // 4
    if is_first:
        outputs -= draft.channels()
    _normalized(draft, draft.convolution(f"{name}_conv1", narrow, 1, group=group), relu=True)
    draft.shuffle(f"{name}_shuffle", GROUP)
    stride = 2 if is_first else 1
    draft.convolution(f"{name}_conv2", narrow, 3, stride=stride, pad=1, type_="DepthwiseConv")
    _normalized(draft, f"{name}_conv2")
    _normalized(draft, draft.convolution(f"{name}_conv3", outputs, 1, group=GROUP), relu=is_first)
    branch = draft.blob
    if is_first:
        pooled = draft.pooling(f"{name}_match", "AVE", 3, 2, bottom=bottom)
        draft.concat(f"{name}_concat", pooled, branch)
    else:
        draft.sum(f"{name}_sum", bottom, branch)
        draft.relu(f"{name}_relu")


def _normalized(draft: Draft, name: str, relu: bool = False) -> None:
    draft.batchnorm(f"{name}_bn")
    draft.scale(f"{name}_scale")
    if relu:
        draft.relu(f"{name}_relu")
