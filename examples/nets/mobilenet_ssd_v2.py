"""MobileNet v2 with SSDLite, arXiv 1801.04381, section 6.2: the heads' convolutions are depthwise and 1x1.

The first map is the expansion in the first block of 160 channels, the second the network's last
convolution. Confidences are sigmoids, as in the networks that TensorFlow trained.
"""

from __future__ import annotations

from caffe_layers import Draft, Pair
from mobilenet_v2 import LAST, features, normalized, of_eight
from ssd import Map, ssd_heads

from nnie_prep.net import Net

EXTRAS = ((2, 512), (3, 256), (4, 256), (5, 128))  # number, channels at depth 1
FIRST, LARGEST = 0.2, 0.95  # boxes of the first and last map, as shares of the picture


def mobilenet_ssd_v2(size: Pair, classes: int, seed: int, depth: float) -> Net:
    """`depth` is the share of the channels; `classes` count the background."""
    draft = Draft(f"MobileNet v2 SSDLite {depth:g}", size, seed)
    features(draft, depth)
    blobs = ["conv7_1/expand", draft.convolution("Conv_1", of_eight(LAST * depth), 1)]
    normalized(draft, "Conv_1")
    for number, full in EXTRAS:
        wide = of_eight(full * depth)
        normalized(draft, draft.convolution(f"layer_19_1_{number}", wide // 2, 1))
        normalized(draft, draft.depthwise(f"layer_19_2_{number}/depthwise", 2))
        blobs.append(draft.convolution(f"layer_19_2_{number}", wide, 1))
        normalized(draft, blobs[-1])
    last = len(blobs) - 1
    sizes = [min(size) * (FIRST + (LARGEST - FIRST) * at / last) for at in range(last + 1)] + [min(size)]
    maps = [
        Map(blob, sizes[at], sizes[at + 1] if at else None, (2, 3) if at else (2,))
        for at, blob in enumerate(blobs)
    ]
    ssd_heads(draft, maps, classes, _predict, "Sigmoid")
    return draft.net


def _predict(draft: Draft, name: str, bottom: str, outputs: int) -> str:
    normalized(draft, draft.depthwise(f"{name}/depthwise", bottom=bottom))
    return draft.convolution(name, outputs, 1, bias=True)
