"""MobileNet-SSD: an SSD on MobileNet v1, with the names and boxes of the Caffe model that is in wide use.

Its six maps are 1/16, 1/32 ... of the picture; the convolutions behind the MobileNet have the same number
of channels whatever its depth.
"""

from __future__ import annotations

from caffe_layers import Draft, Pair
from mobilenet_v1 import FEWEST_CHANNELS, PAIRS
from ssd import Map, ssd_heads

from nnie_prep.net import Net

EXTRAS = ((14, 256, 512), (15, 128, 256), (16, 128, 256), (17, 64, 128))  # number, narrow, wide
# Sizes of the boxes on a picture of 300, and the aspect ratios.
BOXES = {
    "conv11": (60, None, (2,)),
    "conv13": (105, 150, (2, 3)),
    "conv14_2": (150, 195, (2, 3)),
    "conv15_2": (195, 240, (2, 3)),
    "conv16_2": (240, 285, (2, 3)),
    "conv17_2": (285, 300, (2, 3)),
}


def mobilenet_ssd_v1(size: Pair, classes: int, seed: int, depth: float) -> Net:
    """`depth` is the share of the MobileNet's channels; `classes` count the background."""

    def channels(full: int) -> int:
        return max(int(full * depth), FEWEST_CHANNELS)

    draft = Draft(f"MobileNet-SSD {depth:g}", size, seed)
    _normalized(draft, draft.convolution("conv0", channels(32), 3, stride=2, pad=1))
    for number, (_, outputs, stride) in enumerate(PAIRS, 1):
        _normalized(draft, draft.depthwise(f"conv{number}/dw", stride))
        _normalized(draft, draft.convolution(f"conv{number}", channels(outputs), 1))
    for number, narrow, wide in EXTRAS:
        _normalized(draft, draft.convolution(f"conv{number}_1", narrow, 1))
        _normalized(draft, draft.convolution(f"conv{number}_2", wide, 3, stride=2, pad=1))
    unit = min(size) / 300
    maps = [
        Map(blob, least * unit, most and most * unit, ratios) for blob, (least, most, ratios) in BOXES.items()
    ]
    ssd_heads(draft, maps, classes, _predict, "Softmax")
    return draft.net


def _predict(draft: Draft, name: str, bottom: str, outputs: int) -> str:
    return draft.convolution(name, outputs, 1, bias=True, bottom=bottom)


def _normalized(draft: Draft, name: str) -> None:
    draft.batchnorm(f"{name}/bn")
    draft.scale(f"{name}/scale")
    draft.relu(f"{name}/relu")
