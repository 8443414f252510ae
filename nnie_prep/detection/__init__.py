"""Detection heads on a picture: prepared as Darknet does, decoded, suppressed, drawn; and what an SSD found.

preparation.py   plain resizing and letterboxing by Darknet's own rules, and the way back
decoding.py      [yolo], [Gaussian_yolo], [region], [detection]: a head's blob to candidates
class_tree.py    the tree of classes of yolo9000
suppression.py   Darknet's three kinds of non-maximum suppression
heads.py         STEM.json: which blobs, decoded with which numbers
fields.py        the values of one head there, checked
detection_output.py  the rows of an SSD's own layer
cut_ssd.py       that layer, put back where it was cut off
picture.py       picture files, through Pillow
drawing.py       boxes and labels, through Pillow

    description = read_description(Path("yolov3-tiny.json"))
    x, placement = prepare(picture, width=416, height=416, letterbox=description.letterbox)
    found = detect(description.heads, blobs, placement, threshold=0.25, overlap=0.45)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from nnie_prep.blob import Array
from nnie_prep.detection.heads import Head
from nnie_prep.detection.preparation import Placement
from nnie_prep.detection.suppression import suppress


class Detection(NamedTuple):
    """One thing found. Edges in pixels of the picture, 0 <= left < right <= width."""

    kind: int
    confidence: float
    left: float
    top: float
    right: float
    bottom: float


def detect(
    heads: Sequence[Head],
    blobs: Mapping[str, Array],
    placement: Placement,
    threshold: float,
    overlap: float,
) -> list[Detection]:
    """What the heads see in a picture, the most confident first.

    Args:
        blobs: those that the heads read, (1, C, H, W) or (1, C), by name.
        placement: how the picture lies in the network's input.
        threshold: what a confidence must exceed.
        overlap: intersection over union above which the less confident of two boxes of a class goes.

    Boxes are cut at the picture's edges; one that lies wholly outside, in a letterbox's grey, is left
    out. The last head says how boxes are suppressed, for all (AlexeyAB detector.c, test_detector).
    Raises UserError where a blob does not fit its head.
    """
    candidates = [head.decode(head.joined(blobs), placement.network, threshold) for head in heads]
    boxes = placement.on_picture(np.concatenate([found.boxes for found in candidates]))
    scores = suppress(
        boxes,
        np.concatenate([found.scores for found in candidates]),
        overlap,
        heads[-1].nms_kind,
        heads[-1].beta_nms,
    )
    width, height = placement.picture
    half = boxes[:, 2:] / 2
    low = np.clip(boxes[:, :2] - half, 0, 1) * (width, height)
    high = np.clip(boxes[:, :2] + half, 0, 1) * (width, height)
    visible = np.all(low < high, axis=1)
    found = [
        Detection(int(kind), float(scores[box, kind]), *map(float, (*low[box], *high[box])))
        for box, kind in np.argwhere(scores > 0)
        if visible[box]
    ]
    return sorted(found, key=lambda one: (-one.confidence, one.kind, one[2:]))
