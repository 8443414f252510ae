"""What the CPU does behind an SSD that was cut: detections from the cut outputs and STEM.json's head alone.

Plain loops, after the text of passes/head_descriptions.py and SSD's own code (bbox_util.cpp); nothing of the
package is used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Box = tuple[float, float, float, float]


def detections(head: Mapping[str, Any], blobs: Mapping[str, Values]) -> Values:
    """Rows of image, label, confidence and corners of one picture, as DetectionOutput has them."""
    classes, shared = head["classes"], head["share_location"]
    boxes: list[dict[int, Box]] = []
    scores: list[Values] = []
    for source in head["sources"]:
        offsets = permuted(source["location"], blobs).reshape(-1, 1 if shared else classes, 4)
        confidences = permuted(source["confidence"], blobs).reshape(-1, classes)
        priors = prior_boxes(source["map"], source["priors"])
        assert len(priors) == len(offsets) == len(confidences)
        for prior, offset, confidence in zip(priors, offsets, confidences, strict=True):
            variance = [1.0] * 4 if head["variance_encoded_in_target"] else source["priors"]["variance"]
            scores.append(squashed(confidence, head["confidence"]))
            boxes.append(
                {
                    label: decoded(head["code_type"], prior, offset[0 if shared else label] * variance)
                    for label in range(classes)
                }
            )
    kept: list[tuple[int, int]] = []
    for label in range(classes):
        if label != head["background_label"]:
            kept += [(label, place) for place in suppressed(head, label, boxes, scores)]
    if 0 <= head["keep_top_k"] < len(kept):
        kept.sort(key=lambda one: -scores[one[1]][one[0]])
        kept = sorted(kept[: head["keep_top_k"]], key=lambda one: one[0])
    rows = [(0, label, scores[place][label], *boxes[place][label]) for label, place in kept]
    return np.array(rows or [(0, *[-1] * 6)])


def permuted(place: Mapping[str, Any], blobs: Mapping[str, Values]) -> Values:
    return np.transpose(blobs[place["blob"]], place["order"]).reshape(-1)


def prior_boxes(size: list[int], prior: Mapping[str, Any]) -> list[Box]:
    found = []
    for y in range(size[0]):
        for x in range(size[1]):
            centre = (x + prior["offset"]) * prior["step"][1], (y + prior["offset"]) * prior["step"][0]
            for width, height in prior["sizes"]:
                corners = [
                    (centre[0] - width / 2) / prior["image"][1],
                    (centre[1] - height / 2) / prior["image"][0],
                    (centre[0] + width / 2) / prior["image"][1],
                    (centre[1] + height / 2) / prior["image"][0],
                ]
                if prior["clip"]:
                    corners = [min(max(one, 0.0), 1.0) for one in corners]
                found.append((corners[0], corners[1], corners[2], corners[3]))
    return found


def squashed(values: Values, how: str) -> Values:
    if how == "softmax":
        powers = np.exp(values - values.max())
        return np.asarray(powers / powers.sum())
    return 1 / (1 + np.exp(-values)) if how == "sigmoid" else values


def decoded(code: str, prior: Box, offset: Values) -> Box:
    width, height = prior[2] - prior[0], prior[3] - prior[1]
    a, b, c, d = map(float, offset)
    if code == "CORNER":
        return prior[0] + a, prior[1] + b, prior[2] + c, prior[3] + d
    if code == "CORNER_SIZE":
        return prior[0] + a * width, prior[1] + b * height, prior[2] + c * width, prior[3] + d * height
    x, y = (prior[0] + prior[2]) / 2 + a * width, (prior[1] + prior[3]) / 2 + b * height
    wide, high = math.exp(c) * width, math.exp(d) * height
    return x - wide / 2, y - high / 2, x + wide / 2, y + high / 2


def suppressed(
    head: Mapping[str, Any], label: int, boxes: list[dict[int, Box]], scores: list[Values]
) -> list[int]:
    least = head["confidence_threshold"]
    order = [place for place, score in enumerate(scores) if least is None or score[label] > least]
    order.sort(key=lambda place: -scores[place][label])
    if head["nms_top_k"] >= 0:
        order = order[: head["nms_top_k"]]
    kept: list[int] = []
    threshold = head["nms_threshold"]
    for place in order:
        if all(overlap(boxes[place][label], boxes[other][label]) <= threshold for other in kept):
            kept.append(place)
            if head["nms_eta"] < 1 and threshold > 0.5:
                threshold *= head["nms_eta"]
    return kept


def overlap(one: Box, other: Box) -> float:
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    if wide <= 0 or high <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return wide * high / (areas[0] + areas[1] - wide * high)
