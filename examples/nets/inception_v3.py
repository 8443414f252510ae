"""Inception-v3, arXiv 1512.00567, with the names and in the form of TF-slim.

Its normalization has a shift and no scale: BatchNorm with eps 0.001, which is not in place here, and Bias.
Convolutions are factorized into 1x7 and 7x1, 1x3 and 3x1.
"""

from __future__ import annotations

from caffe_layers import Draft, Pair

from nnie_prep.net import Net

# Channels of the 7x1 convolutions in Mixed_6b to Mixed_6e, and of the pooled branch in Mixed_5b to Mixed_5d.
SEVENS = {"6b": 128, "6c": 160, "6d": 160, "6e": 192}
POOLED = {"5b": 32, "5c": 64, "5d": 64}

Step = tuple[int, int | Pair]  # channels, kernel (vertical, horizontal)


def inception_v3(size: Pair, classes: int, seed: int) -> Net:
    draft = Draft("Inception-v3", size, seed)
    _convolution(draft, "Conv2d_1a_3x3", 32, 3, stride=2, padded=False)
    _convolution(draft, "Conv2d_2a_3x3", 32, 3, padded=False)
    _convolution(draft, "Conv2d_2b_3x3", 64, 3)
    draft.pooling("MaxPool_3a_3x3", "MAX", 3, 2)
    _convolution(draft, "Conv2d_3b_1x1", 80, 1)
    _convolution(draft, "Conv2d_4a_3x3", 192, 3, padded=False)
    draft.pooling("MaxPool_5a_3x3", "MAX", 3, 2)
    for name, pooled in POOLED.items():
        _mixed(draft, name, [[(64, 1)], [(48, 1), (64, 5)], [(64, 1), (96, 3), (96, 3)]], pooled)
    _reduction(draft, "6a", [[(384, 3)], [(64, 1), (96, 3), (96, 3)]])
    for name, narrow in SEVENS.items():
        once: list[Step] = [(narrow, 1), (narrow, (1, 7)), (192, (7, 1))]
        twice: list[Step] = [(narrow, 1), *[(narrow, (7, 1)), (narrow, (1, 7))] * 2]
        twice[-1] = (192, (1, 7))
        _mixed(draft, name, [[(192, 1)], once, twice], 192)
    _reduction(draft, "7a", [[(192, 1), (320, 3)], [(192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3)]])
    for name in ("7b", "7c"):
        _mixed(draft, name, [[(320, 1)], [(384, 1)], [(448, 1), (384, 3)]], 192, splits=(1, 2))
    draft.pooling("AvgPool_1a", "AVE")
    draft.dropout("Dropout_1b", 0.2)
    draft.inner_product("Logits", classes)
    draft.softmax("Predictions")
    return draft.net


def _convolution(
    draft: Draft, name: str, outputs: int, kernel: int | Pair, stride: int = 1, padded: bool = True
) -> str:
    pad = tuple(extent // 2 for extent in kernel) if isinstance(kernel, tuple) else kernel // 2
    assert isinstance(pad, int) or len(pad) == 2
    draft.convolution(name, outputs, kernel, stride=stride, pad=pad if padded else 0)
    draft.batchnorm(f"{name}/BatchNorm", eps=0.001, top=f"{name}/BatchNorm")
    draft.bias(f"{name}/beta")
    return draft.relu(f"{name}/Relu")


def _name(module: str, branch: int, place: int, kernel: int | Pair) -> str:
    height, width = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    return f"Mixed_{module}/Branch_{branch}/Conv2d_0{'abcde'[place]}_{height}x{width}"


def _branch(draft: Draft, module: str, branch: int, steps: list[Step], bottom: str) -> str:
    draft.blob = bottom
    for place, (outputs, kernel) in enumerate(steps):
        _convolution(draft, _name(module, branch, place, kernel), outputs, kernel)
    return draft.blob


def _mixed(
    draft: Draft, module: str, branches: list[list[Step]], pooled: int, splits: tuple[int, ...] = ()
) -> None:
    """Branches that keep the size; those of `splits` end in a 1x3 and a 3x1 convolution side by side."""
    bottom, found = draft.blob, []
    for number, steps in enumerate(branches):
        end = _branch(draft, module, number, steps, bottom)
        if number in splits:
            kernels: list[Pair] = [(1, 3), (3, 1)]
            halves = []
            for kernel in kernels:
                draft.blob = end
                halves.append(_convolution(draft, _name(module, number, len(steps), kernel), 384, kernel))
            end = draft.concat(f"Mixed_{module}/Branch_{number}/concat", *halves)
        found.append(end)
    number = len(branches)
    draft.pooling(f"Mixed_{module}/Branch_{number}/AvgPool_0a_3x3", "AVE", 3, 1, 1, bottom=bottom)
    found.append(_convolution(draft, _name(module, number, 1, 1), pooled, 1))
    draft.concat(f"Mixed_{module}", *found)


def _reduction(draft: Draft, module: str, branches: list[list[Step]]) -> None:
    """Branches whose last convolution has stride 2 and no padding, and a maximum."""
    bottom, found = draft.blob, []
    for number, steps in enumerate(branches):
        *first, (outputs, kernel) = steps
        _branch(draft, module, number, first, bottom)
        name = _name(module, number, len(first), kernel)
        found.append(_convolution(draft, name, outputs, kernel, stride=2, padded=False))
    number = len(branches)
    found.append(draft.pooling(f"Mixed_{module}/Branch_{number}/MaxPool_1a_3x3", "MAX", 3, 2, bottom=bottom))
    draft.concat(f"Mixed_{module}", *found)
