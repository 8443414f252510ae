"""MobileNet v2, arXiv 1801.04381, table 2: inverted residuals.

A 1x1 convolution that expands the channels, a depthwise one, and a 1x1 that narrows them without a
ReLU; where nothing changes in size, what went in is added. With ReLU where the paper has ReLU6, as in the
Caffe models that people have. `features` serves the detector of the same network.
"""

from __future__ import annotations

from caffe_layers import Draft, Pair

from nnie_prep.net import Net

# Expansion, channels at depth 1, blocks, stride of the first of them.
STAGES = (
    *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
    *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
)
LAST = 1280


def mobilenet_v2(size: Pair, classes: int, seed: int, depth: float) -> Net:
    """`depth` is the share of the channels; more than 1 widens the last convolution too."""
    draft = Draft(f"MobileNet v2 {depth:g}", size, seed)
    features(draft, depth)
    normalized(draft, draft.convolution("conv6_4", of_eight(LAST * max(depth, 1.0)), 1))
    draft.pooling("pool6", "AVE")
    draft.convolution("fc7", classes, 1, bias=True)
    draft.softmax()
    return draft.net


def features(draft: Draft, depth: float) -> None:
    """All blocks; the blob of block b's expansion is "conv<stage>_<block>/expand"."""
    normalized(draft, draft.convolution("conv1", of_eight(32 * depth), 3, stride=2, pad=1))
    for stage, (expansion, outputs, blocks, stride) in enumerate(STAGES, 2):
        for block in range(1, blocks + 1):
            _inverted_residual(
                draft, f"{stage}_{block}", expansion, of_eight(outputs * depth), stride if block == 1 else 1
            )


def _inverted_residual(draft: Draft, name: str, expansion: int, outputs: int, stride: int) -> None:
    bottom, inputs = draft.blob, draft.channels()
    if expansion > 1:
        normalized(draft, draft.convolution(f"conv{name}/expand", inputs * expansion, 1))
    normalized(draft, draft.depthwise(f"conv{name}/dwise", stride))
    normalized(draft, draft.convolution(f"conv{name}/linear", outputs, 1), relu=False)
    if stride == 1 and inputs == outputs:
        draft.sum(f"block_{name}", bottom, draft.blob)


def normalized(draft: Draft, name: str, relu: bool = True) -> None:
    draft.batchnorm(f"{name}/bn")
    draft.scale(f"{name}/scale")
    if relu:
        draft.relu(f"relu{name.removeprefix('conv')}")


def of_eight(channels: float) -> int:
    """The nearest multiple of 8, 8 at least, and not below nine tenths of the number."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest
