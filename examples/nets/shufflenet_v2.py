"""ShuffleNet v2, arXiv 1807.11164, table 5: Slice in two, one half convolved, Concat and ShuffleChannel."""

from __future__ import annotations

from caffe_layers import Draft, Pair

from nnie_prep.net import Net

STAGES = ((2, 4), (3, 8), (4, 4))  # number, units
# Channels of the stages and of the last convolution.
CHANNELS = {
    0.5: (48, 96, 192, 1024),
    1.0: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
    2.0: (244, 488, 976, 2048),
}


def shufflenet_v2(size: Pair, classes: int, seed: int, depth: float) -> Net:
    """`depth` is one of the four that were published: 0.5, 1.0, 1.5, 2.0."""
    *stages, last = CHANNELS[depth]
    draft = Draft(f"ShuffleNet v2 {depth:g}", size, seed)
    _convolution(draft, "conv1", 24, 3, stride=2)
    draft.pooling("pool1", "MAX", 3, 2)
    for (stage, units), outputs in zip(STAGES, stages, strict=True):
        for unit in range(1, units + 1):
            _unit(draft, f"stage{stage}_{unit}", outputs // 2, is_first=unit == 1)
    _convolution(draft, "conv5", last, 1)
    draft.pooling("pool5", "AVE")
    draft.inner_product("fc", classes)
    draft.softmax()
    return draft.net


def _unit(draft: Draft, name: str, half: int, is_first: bool) -> None:
    """With stride 2 both branches read all channels, else one hands its half on."""
    if is_first:
        bottom = draft.blob
        draft.depthwise(f"{name}/branch1/dw", stride=2)
        _normalized(draft, f"{name}/branch1/dw")
        other = _convolution(draft, f"{name}/branch1/pw", half, 1)
    else:
        tops = [f"{name}/kept", f"{name}/branch2"]
        other = draft.layer(
            "Slice", f"{name}/slice", tops=tops, slice_param={"axis": 1, "slice_point": [half]}
        )
        bottom = tops[1]
    draft.blob = bottom
    _convolution(draft, f"{name}/branch2/pw1", half, 1)
    draft.depthwise(f"{name}/branch2/dw", stride=2 if is_first else 1)
    _normalized(draft, f"{name}/branch2/dw")
    branch = _convolution(draft, f"{name}/branch2/pw2", half, 1)
    draft.concat(f"{name}/concat", other, branch)
    draft.shuffle(f"{name}/shuffle", 2)


def _convolution(draft: Draft, name: str, outputs: int, kernel: int, stride: int = 1) -> str:
    draft.convolution(name, outputs, kernel, stride=stride, pad=kernel // 2)
    _normalized(draft, name)
    return draft.relu(f"{name}/relu")


def _normalized(draft: Draft, name: str) -> None:
    draft.batchnorm(f"{name}/bn")
    draft.scale(f"{name}/scale")
