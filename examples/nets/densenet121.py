"""DenseNet-121, arXiv 1608.06993, table 1: BatchNorm, Scale and ReLU stand before each convolution.

What a layer adds is concatenated to all that was there, so the first BatchNorm of a layer reads a blob
that the next Concat reads too, and is not in place.
"""

from __future__ import annotations

from caffe_layers import Draft, Pair

from nnie_prep.net import Net

BLOCKS = (6, 12, 24, 16)  # layers in each
GROWTH = 32


def densenet121(size: Pair, classes: int, seed: int) -> Net:
    draft = Draft("DenseNet-121", size, seed)
    draft.convolution("conv1", 64, 7, stride=2, pad=3)
    draft.batchnorm("conv1/bn")
    draft.scale("conv1/scale")
    draft.relu("relu1")
    draft.pooling("pool1", "MAX", 3, 2)
    for block, layers in enumerate(BLOCKS, 2):
        for layer in range(1, layers + 1):
            _dense_layer(draft, f"{block}_{layer}")
        _activated(draft, f"conv{block}_blk")
        if block <= len(BLOCKS):
            draft.convolution(f"conv{block}_blk", draft.channels() // 2, 1)
            draft.pooling(f"pool{block}", "AVE", 2, 2)
    draft.pooling("pool5", "AVE")
    draft.convolution("fc6", classes, 1, bias=True)
    draft.softmax()
    return draft.net


def _dense_layer(draft: Draft, name: str) -> None:
    """A 1x1 convolution to four times the growth, and a 3x3 to the growth."""
    bottom = draft.blob
    _activated(draft, f"conv{name}/x1")
    draft.convolution(f"conv{name}/x1", 4 * GROWTH, 1)
    _activated(draft, f"conv{name}/x2")
    draft.convolution(f"conv{name}/x2", GROWTH, 3, pad=1)
    draft.concat(f"concat_{name}", bottom, draft.blob)


def _activated(draft: Draft, name: str) -> None:
    draft.batchnorm(f"{name}/bn", top=f"{name}/bn")
    draft.scale(f"{name}/scale")
    draft.relu(f"relu{name.removeprefix('conv')}")
