"""A head's blob to candidates: what Darknet's head layers and their get_.._detections compute.

`activated_*` give the head layer's own output, by anchor, entry and place; `decode_*` the boxes in it.
Everything is float64.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nnie_prep.blob import Array
from nnie_prep.detection.class_tree import ClassTree
from nnie_prep.detection.preparation import Size

# What a class of a tree must exceed (AlexeyAB region_layer.c, get_region_boxes).
_TREE_THRESHOLD = 0.5
# Below it a head with classfix=-1 sees nothing (AlexeyAB region_layer.c, get_region_boxes).
_CLASSFIX_OBJECTNESS = 0.5


class Candidates(NamedTuple):
    """Boxes (N, 4) of centre x, y, width, height as fractions of the network's input; scores
    (N, classes), 0 where they do not exceed the threshold."""

    boxes: Array
    scores: Array


def logistic(x: Array) -> Array:
    """1 / (1 + e^-x), without an overflow."""
    power = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1, power) / (1 + power))


def _by_anchor(values: Array, anchors: int) -> Array:
    """(1, anchors * entries, H, W) -> (anchors, entries, H, W)."""
    return values.astype(np.float64).reshape(anchors, -1, *values.shape[2:])


# ---- [yolo] and [Gaussian_yolo] ---------------------------------------------------------------


def activated_yolo(values: Array, anchors: int, scale_x_y: float, new_coords: bool) -> Array:
    """(anchors, entries, H, W): x, y, w, h, objectness, classes.

    (AlexeyAB yolo_layer.c, forward_yolo_layer)
    """
    maps = _by_anchor(values, anchors)
    if not new_coords:
        maps[:, :2] = logistic(maps[:, :2])
        maps[:, 4:] = logistic(maps[:, 4:])
    maps[:, :2] = maps[:, :2] * scale_x_y - 0.5 * (scale_x_y - 1)
    return maps


def decode_yolo(
    values: Array, network: Size, threshold: float, *, anchors: Array, scale_x_y: float, new_coords: bool
) -> Candidates:
    """Args:
    values: (1, anchors * (5 + classes), H, W).
    anchors: (anchors, 2), width and height in pixels of the network's input.

    (AlexeyAB yolo_layer.c, get_yolo_box, get_yolo_detections)
    """
    maps = activated_yolo(values, len(anchors), scale_x_y, new_coords)
    anchor, row, column = np.nonzero(maps[:, 4] > threshold)
    found = maps[anchor, :, row, column]
    sides = 4 * found[:, 2:4] ** 2 if new_coords else np.exp(found[:, 2:4])
    sides = sides * anchors[anchor] / network
    boxes = np.concatenate([_centres(found[:, :2], row, column, maps), sides], axis=1)
    return Candidates(boxes, _above(found[:, 4:5] * found[:, 5:], threshold))


def activated_gaussian_yolo(values: Array, anchors: int, scale_x_y: float) -> Array:
    """(anchors, entries, H, W): x, y, w, h, each with its deviation behind it, objectness, classes.

    (AlexeyAB gaussian_yolo_layer.c, forward_gaussian_yolo_layer)
    """
    maps = _by_anchor(values, anchors)
    free = [4, 6]  # width and height
    bound = np.setdiff1d(np.arange(maps.shape[1]), free)
    maps[:, bound] = logistic(maps[:, bound])
    maps[:, [0, 2]] = maps[:, [0, 2]] * scale_x_y - 0.5 * (scale_x_y - 1)
    return maps


def decode_gaussian_yolo(
    values: Array, network: Size, threshold: float, *, anchors: Array, scale_x_y: float, yolo_point: str
) -> Candidates:
    """As decode_yolo; a score is lowered by the mean deviation, and x, y may be a corner.

    (AlexeyAB gaussian_yolo_layer.c, get_gaussian_yolo_box, get_gaussian_yolo_detections)
    """
    maps = activated_gaussian_yolo(values, len(anchors), scale_x_y)
    anchor, row, column = np.nonzero(maps[:, 8] > threshold)
    found = maps[anchor, :, row, column]
    sides = np.exp(found[:, [4, 6]]) * anchors[anchor] / network
    shift = {"left_top": 0.5, "right_bottom": -0.5}.get(yolo_point, 0.0)
    centres = _centres(found[:, [0, 2]], row, column, maps) + shift * sides
    certainty = 1 - found[:, [1, 3, 5, 7]].mean(axis=1, keepdims=True)
    scores = _above(found[:, 8:9] * found[:, 9:] * certainty, threshold)
    return Candidates(np.concatenate([centres, sides], axis=1), scores)


def _centres(offsets: Array, row: Array, column: Array, maps: Array) -> Array:
    rows, columns = maps.shape[2:]
    return np.asarray((offsets + np.stack([column, row], axis=1)) / (columns, rows))


def _above(scores: Array, threshold: float) -> Array:
    return np.where(scores > threshold, scores, 0.0)


# ---- [region] ---------------------------------------------------------------------------------


def activated_region(
    values: Array, anchors: int, coords: int, classes: str, background: bool, tree: ClassTree | None
) -> Array:
    """(anchors, entries, H, W): x, y, w, h, mask, objectness, classes.

    Args:
        classes: how they are activated: "softmax", "logistic" or "linear".
        background: the softmax is over the objectness, too, which is the background then.

    pjreddie's order. AlexeyAB's layer leaves x and y to the decoding (region_layer.c, forward_region_layer).
    """
    maps = _by_anchor(values, anchors)
    maps[:, :2] = logistic(maps[:, :2])
    first = coords if background else coords + 1
    if not background:
        maps[:, coords] = logistic(maps[:, coords])
    if tree is not None:
        maps[:, coords + 1 :] = np.moveaxis(tree.softmax(np.moveaxis(maps[:, coords + 1 :], 1, -1)), -1, 1)
    elif classes == "softmax":
        powers = np.exp(maps[:, first:] - maps[:, first:].max(axis=1, keepdims=True))
        maps[:, first:] = powers / powers.sum(axis=1, keepdims=True)
    elif classes == "logistic":
        maps[:, coords + 1 :] = logistic(maps[:, coords + 1 :])
    return maps


def decode_region(
    values: Array,
    network: Size,
    threshold: float,
    *,
    anchors: Array,
    coords: int,
    classes: str,
    background: bool,
    classfix: int,
    tree: ClassTree | None,
) -> Candidates:
    """Args:
    values: (1, anchors * (coords + 1 + classes), H, W).
    anchors: (anchors, 2), width and height in cells of the map.

    With a tree a box is of one class, the deepest that is likelier than not, with that class's
    probability as its score (AlexeyAB region_layer.c, get_region_boxes).
    """
    maps = activated_region(values, len(anchors), coords, classes, background, tree)
    objectness = np.ones_like(maps[:, 0]) if background else maps[:, coords].copy()
    if classfix == -1:
        objectness[objectness < _CLASSFIX_OBJECTNESS] = 0
    anchor, row, column = np.nonzero(objectness > threshold)
    found, scale = maps[anchor, :, row, column], objectness[anchor, row, column]
    sides = np.exp(found[:, 2:4]) * anchors[anchor] / maps.shape[:1:-1]
    boxes = np.concatenate([_centres(found[:, :2], row, column, maps), sides], axis=1)
    if tree is None:
        scores = _above(scale[:, np.newaxis] * found[:, coords + 1 :], threshold)
    else:
        scores = _deepest(tree.absolute(found[:, coords + 1 :]))
    return Candidates(boxes, scores)


def _deepest(probabilities: Array) -> Array:
    """(N, classes) with but the last class above the tree's threshold: children stand behind parents."""
    above = probabilities > _TREE_THRESHOLD
    last = above.shape[1] - 1 - above[:, ::-1].argmax(axis=1)
    chosen = np.arange(above.shape[1]) == last[:, np.newaxis]
    return np.where(chosen & above, probabilities, 0.0)


# ---- [detection] ------------------------------------------------------------------------------


def activated_detection(values: Array, side: int, classes: int, softmax: bool) -> Array:
    """The flat vector: classes of each cell, confidences of each, boxes of each (detection_layer.c)."""
    flat = values.astype(np.float64).reshape(-1)
    if softmax:
        scores = flat[: side * side * classes].reshape(-1, classes)
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        scores[...] = powers / powers.sum(axis=1, keepdims=True)
    return flat


def decode_detection(
    values: Array,
    network: Size,
    threshold: float,
    *,
    side: int,
    num: int,
    classes: int,
    softmax: bool,
    sqrt: bool,
) -> Candidates:
    """Args:
    values: side^2 * (classes + num * 5) of them.
    sqrt: widths and heights are to be squared.

    (AlexeyAB detection_layer.c, get_detection_detections)
    """
    flat = activated_detection(values, side, classes, softmax)
    cells = side * side
    kinds, confidences, boxes = np.split(flat, [cells * classes, cells * (classes + num)])
    scores = kinds.reshape(cells, 1, classes) * confidences.reshape(cells, num, 1)
    boxes = boxes.reshape(cells, num, 4)
    row, column = np.divmod(np.arange(cells), side)
    centres = (boxes[..., :2] + np.stack([column, row], axis=1)[:, np.newaxis]) / side
    sides = boxes[..., 2:] ** 2 if sqrt else boxes[..., 2:]
    whole = np.concatenate([centres, sides], axis=2).reshape(-1, 4)
    scores = _above(scores.reshape(-1, classes), threshold)
    some = (scores > 0).any(axis=1)
    return Candidates(whole[some], scores[some])
