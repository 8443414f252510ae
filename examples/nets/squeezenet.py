"""SqueezeNet 1.1, arXiv 1602.07360 as its authors revised it: no BatchNorm, a bias everywhere."""

from __future__ import annotations

from caffe_layers import Draft, Pair

from nnie_prep.net import Net

# By fire module: channels of the 1x1 convolution, and of each of the two that read it.
FIRES = dict.fromkeys((2, 3), (16, 64)) | dict.fromkeys((4, 5), (32, 128))
FIRES |= dict.fromkeys((6, 7), (48, 192)) | dict.fromkeys((8, 9), (64, 256))


def squeezenet(size: Pair, classes: int, seed: int) -> Net:
    draft = Draft("SqueezeNet 1.1", size, seed)
    _convolution(draft, "conv1", 64, 3, stride=2, relu="relu_conv1")
    draft.pooling("pool1", "MAX", 3, 2)
    for number, (narrow, wide) in FIRES.items():
        fire = f"fire{number}"
        squeezed = _convolution(draft, f"{fire}/squeeze1x1", narrow, 1)
        first = _convolution(draft, f"{fire}/expand1x1", wide, 1)
        draft.blob = squeezed
        second = _convolution(draft, f"{fire}/expand3x3", wide, 3, pad=1)
        draft.concat(f"{fire}/concat", first, second)
        if number in (3, 5):
            draft.pooling(f"pool{number}", "MAX", 3, 2)
    draft.dropout("drop9")
    _convolution(draft, "conv10", classes, 1, relu="relu_conv10")
    draft.pooling("pool10", "AVE")
    draft.softmax()
    return draft.net


def _convolution(
    draft: Draft, name: str, outputs: int, kernel: int, *, stride: int = 1, pad: int = 0, relu: str = ""
) -> str:
    draft.convolution(name, outputs, kernel, stride=stride, pad=pad, bias=True)
    fire, _, place = name.partition("/")
    return draft.relu(relu or f"{fire}/relu_{place}")
