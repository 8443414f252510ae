"""U-Net, arXiv 1505.04597, figure 1: unpadded convolutions, and crops where the two sides meet.

With BatchNorm and Scale behind each convolution and deconvolution, as it is mostly trained today. `group`
is that of the deconvolutions, which is 1 in the paper: with more, their weights are
(inputs, outputs / group, 2, 2), where many tools fold wrongly.
"""

from __future__ import annotations

from caffe_layers import Draft, Pair

from nnie_prep.net import Net

CHANNELS = (64, 128, 256, 512, 1024)


def unet(size: Pair, classes: int, seed: int, depth: float, group: int = 4) -> Net:
    """One grey picture, whose height and width are 12 more than a multiple of 16; `depth` is the share of the
    channels."""
    *down, bottom = (max(int(full * depth) // group, 1) * group for full in CHANNELS)
    draft = Draft(f"U-Net {depth:g}", size, seed, channels=1)
    sides = []
    for level, outputs in enumerate(down, 1):
        sides.append(_convolutions(draft, f"d{level}", outputs))
        if level == len(down):
            draft.dropout("d4_drop")
        draft.pooling(f"d{level}_pool", "MAX", 2, 2)
    _convolutions(draft, "d5", bottom)
    draft.dropout("d5_drop")
    for level, outputs in reversed(list(enumerate(down, 1))):
        draft.convolution(f"u{level}_up", outputs, 2, stride=2, group=group, bias=True, type_="Deconvolution")
        up = _normalized(draft, f"u{level}_up")
        side = _cropped(draft, f"u{level}_crop", sides[level - 1], up)
        draft.concat(f"u{level}_concat", side, up)
        _convolutions(draft, f"u{level}", outputs)
    draft.convolution("score", classes, 1, bias=True)
    draft.softmax()
    return draft.net


def _convolutions(draft: Draft, name: str, outputs: int) -> str:
    for letter in "ab":
        draft.convolution(f"{name}{letter}", outputs, 3, bias=True)
        _normalized(draft, f"{name}{letter}")
    return draft.blob


def _normalized(draft: Draft, name: str) -> str:
    draft.batchnorm(f"{name}_bn")
    draft.scale(f"{name}_scale")
    return draft.relu(f"{name}_relu")


def _cropped(draft: Draft, name: str, blob: str, like: str) -> str:
    """The middle of a blob, as large as the other."""
    spare = [a - b for a, b in zip(draft.values[blob].shape[2:], draft.values[like].shape[2:], strict=True)]
    offsets = [extent // 2 for extent in spare]
    return draft.layer(
        "Crop", name, bottoms=[blob, like], tops=[name], crop_param={"axis": 2, "offset": offsets}
    )
