"""ResNet-50, arXiv 1512.03385, table 1, as its authors' Caffe model has it.

The stride is in the first 1x1 convolution of a stage, not in its 3x3, and only conv1 has a bias.
"""

from __future__ import annotations

from caffe_layers import Draft, Pair

from nnie_prep.net import Net

STAGES = (("2", 64, 3), ("3", 128, 4), ("4", 256, 6), ("5", 512, 3))  # name, narrow channels, blocks


def resnet50(size: Pair, classes: int, seed: int) -> Net:
    draft = Draft("ResNet-50", size, seed)
    draft.convolution("conv1", 64, 7, stride=2, pad=3, bias=True)
    draft.batchnorm("bn_conv1")
    draft.scale("scale_conv1")
    draft.relu("conv1_relu")
    draft.pooling("pool1", "MAX", 3, 2)
    for stage, narrow, blocks in STAGES:
        for block in range(blocks):
            _bottleneck(draft, f"{stage}{'abcdef'[block]}", narrow, block == 0)
    draft.pooling("pool5", "AVE")
    draft.inner_product(f"fc{classes}", classes)
    draft.softmax()
    return draft.net


def _bottleneck(draft: Draft, name: str, narrow: int, is_first: bool) -> None:
    """1x1, 3x3, 1x1 with four times the channels, and what went in, or a 1x1 convolution of it."""
    bottom = shortcut = draft.blob
    stride = 2 if is_first and not name.startswith("2") else 1
    if is_first:
        shortcut = draft.convolution(f"res{name}_branch1", 4 * narrow, 1, stride=stride)
        _normalized(draft, f"{name}_branch1")
    draft.convolution(f"res{name}_branch2a", narrow, 1, stride=stride, bottom=bottom)
    _normalized(draft, f"{name}_branch2a", relu=True)
    draft.convolution(f"res{name}_branch2b", narrow, 3, pad=1)
    _normalized(draft, f"{name}_branch2b", relu=True)
    draft.convolution(f"res{name}_branch2c", 4 * narrow, 1)
    _normalized(draft, f"{name}_branch2c")
    draft.sum(f"res{name}", shortcut, draft.blob)
    draft.relu(f"res{name}_relu")


def _normalized(draft: Draft, branch: str, relu: bool = False) -> None:
    draft.batchnorm(f"bn{branch}")
    draft.scale(f"scale{branch}")
    if relu:
        draft.relu(f"res{branch}_relu")
