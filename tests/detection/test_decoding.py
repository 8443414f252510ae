"""Heads against outputs of real Darknet, against OpenCV's, and against Darknet's loops written out."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from darknet_cases import darknet_case
from numpy.typing import NDArray

from nnie_prep.detection import decoding
from nnie_prep.detection.class_tree import read_tree
from nnie_prep.detection.suppression import suppress

Array = NDArray[Any]
# Darknet computes in float32, and its values lie below 10.
FLOAT32 = 2e-6


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def drawn(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(0, 1.5, shape).astype(np.float32)


# ---- activations: real Darknet ------------------------------------------------------------------


@pytest.mark.parametrize(("index", "size", "scale"), [(2, 8, 1.0), (8, 16, 1.05)])
def test_yolo_is_darknets(index: int, size: int, scale: float) -> None:
    case = darknet_case("yolo_heads")
    values = case.expected[index].reshape(1, 24, size, size)
    found = decoding.activated_yolo(values, 3, scale, False)
    assert np.abs(found.reshape(-1) - case.expected[index + 1]).max() < FLOAT32


def test_region_is_alexeyabs() -> None:
    """Its output runs (y, x, anchor, entry), with x and y as they came."""
    case = darknet_case("region")
    values = case.expected[1].reshape(1, 40, 16, 16)
    found = decoding.activated_region(values, 5, 4, "softmax", False, None)
    expected = case.expected[2].reshape(16, 16, 5, 8).transpose(2, 3, 0, 1).astype(np.float64)
    expected[:, :2] = 1 / (1 + np.exp(-expected[:, :2]))
    assert np.abs(found - expected).max() < FLOAT32


def test_region_is_pjreddies() -> None:
    case = darknet_case("region_pj")
    values = case.expected[1].reshape(1, 40, 16, 16)
    found = decoding.activated_region(values, 5, 4, "softmax", False, None)
    assert np.abs(found.reshape(-1) - case.expected[2]).max() < FLOAT32


def test_detection_is_darknets() -> None:
    case = darknet_case("detection")
    found = decoding.activated_detection(case.expected[1].reshape(1, -1), 7, 3, False)
    assert np.abs(found - case.expected[2]).max() < FLOAT32


# ---- boxes: OpenCV's region layer ---------------------------------------------------------------


def rows_of_opencv(folder: Path, head: str, channels: int, values: Array) -> Array:
    """The rows (x, y, w, h, objectness, scores) that OpenCV's head makes of values (channels, H, W).

    The network before it is a convolution that passes them on.
    """
    _, rows, columns = values.shape
    cfg = (
        f"[net]\nchannels={channels}\nheight={rows}\nwidth={columns}\n[convolutional]\nfilters={channels}\n"
        f"size=1\nstride=1\nactivation=linear\n{head}\n"
    )
    (folder / "head.cfg").write_text(cfg)
    floats = np.concatenate([np.zeros(channels), np.eye(channels).reshape(-1)]).astype("<f4")
    (folder / "head.weights").write_bytes(struct.pack("<3iQ", 0, 2, 0, 0) + floats.tobytes())
    net = cv2.dnn.readNetFromDarknet(str(folder / "head.cfg"), str(folder / "head.weights"))
    net.setInput(values[np.newaxis])
    return np.asarray(net.forward()).reshape(rows * columns, -1, 4 + 1 + (channels // 3 - 5))


def same_as_opencv(found: decoding.Candidates, rows: Array, threshold: float) -> None:
    """OpenCV keeps all places in order, with scores of 0 where they are below the threshold."""
    theirs = rows.reshape(-1, rows.shape[-1])
    seen = (theirs[:, 5:] > threshold).any(axis=1)
    ours = (found.scores > 0).any(axis=1)

    def in_order(boxes: Array, scores: Array) -> Array:
        both = np.concatenate([boxes, scores], axis=1)
        return both[np.lexsort(np.round(both, 4).T)]

    assert 5 < seen.sum() < len(theirs)
    expected = in_order(theirs[seen, :4], theirs[seen, 5:])
    assert np.abs(in_order(found.boxes[ours], found.scores[ours]) - expected).max() < 2e-5


YOLO = "[yolo]\nmask=1,2,4\nanchors=1,2, 3,4, 9,7, 2,2, 5,12\nclasses=3\nnum=5\nthresh=0.2\n"
ANCHORS = np.array([[3, 4], [9, 7], [5, 12]], np.float64)


@pytest.mark.parametrize("scale", [1.0, 1.2])
def test_yolo_boxes_are_opencvs(tmp_path: Path, scale: float) -> None:
    values = drawn(24, 7, 5)
    rows = rows_of_opencv(tmp_path, f"{YOLO}scale_x_y={scale}", 24, values)
    found = decoding.decode_yolo(
        values[None], (5, 7), 0.2, anchors=ANCHORS, scale_x_y=scale, new_coords=False
    )
    same_as_opencv(found, rows, 0.2)


def test_new_coords_boxes_are_opencvs(tmp_path: Path) -> None:
    """The values are activated already; widths are squares."""
    values = 1 / (1 + np.exp(-drawn(24, 7, 5, seed=1)))
    rows = rows_of_opencv(tmp_path, f"{YOLO}scale_x_y=2\nnew_coords=1", 24, values.astype(np.float32))
    found = decoding.decode_yolo(values[None], (5, 7), 0.2, anchors=ANCHORS, scale_x_y=2.0, new_coords=True)
    same_as_opencv(found, rows, 0.2)


def test_region_boxes_are_opencvs(tmp_path: Path) -> None:
    values = drawn(24, 7, 5, seed=2)
    head = "[region]\nanchors=1,2, 3,1.5, 0.7,1\nclasses=3\ncoords=4\nnum=3\nsoftmax=1\nthresh=0.2\n"
    rows = rows_of_opencv(tmp_path, head, 24, values)
    anchors = np.array([[1, 2], [3, 1.5], [0.7, 1]])
    found = decoding.decode_region(
        values[None],
        (5, 7),
        0.2,
        anchors=anchors,
        coords=4,
        classes="softmax",
        background=False,
        classfix=0,
        tree=None,
    )
    kept = suppress(found.boxes, found.scores, 0.4, "default", 0.6)  # OpenCV's region layer does that itself
    assert (kept > 0).sum() < (found.scores > 0).sum()
    same_as_opencv(decoding.Candidates(found.boxes, kept), rows, 0.2)


# ---- what OpenCV does not have: Darknet's loops written out ---------------------------------------


def compared(found: decoding.Candidates, expected: dict[tuple[float, ...], list[float]]) -> None:
    """Candidates against {box: scores}; those without a score are none."""
    ours = {
        tuple(np.round(box, 9)): scores
        for box, scores in zip(found.boxes, found.scores, strict=True)
        if scores.any()
    }
    theirs = {tuple(np.round(box, 9)): scores for box, scores in expected.items() if any(scores)}
    assert ours.keys() == theirs.keys() and len(ours) > 3
    for box, scores in theirs.items():
        assert ours[box] == pytest.approx(scores, abs=1e-12)


@pytest.mark.parametrize(("point", "sign"), [("center", 0), ("left_top", 1), ("right_bottom", -1)])
def test_gaussian_yolo(point: str, sign: int) -> None:
    """gaussian_yolo_layer.c: nine entries before the classes."""
    values, scale, limit = drawn(22, 4, 6, seed=3), 1.1, 0.15
    anchors, network = [[20.0, 30.0], [50.0, 40.0]], (96, 64)
    expected = {}
    for anchor, row, column in np.ndindex(2, 4, 6):
        entry = [float(one) for one in values[11 * anchor : 11 * anchor + 11, row, column]]
        objectness = sigmoid(entry[8])
        width = math.exp(entry[4]) * anchors[anchor][0] / network[0]
        height = math.exp(entry[6]) * anchors[anchor][1] / network[1]
        x = (column + sigmoid(entry[0]) * scale - (scale - 1) / 2) / 6 + sign * width / 2
        y = (row + sigmoid(entry[2]) * scale - (scale - 1) / 2) / 4 + sign * height / 2
        doubt = sum(sigmoid(entry[place]) for place in (1, 3, 5, 7)) / 4
        scores = [objectness * sigmoid(entry[9 + kind]) * (1 - doubt) for kind in range(2)]
        if objectness > limit:
            expected[x, y, width, height] = [score if score > limit else 0 for score in scores]
    found = decoding.decode_gaussian_yolo(
        values[None], network, limit, anchors=np.array(anchors), scale_x_y=scale, yolo_point=point
    )
    compared(found, expected)


@pytest.mark.parametrize(
    ("classes", "background", "coords", "classfix"),
    [("softmax", True, 4, 0), ("logistic", False, 6, 0), ("linear", False, 4, 0), ("softmax", False, 4, -1)],
)
def test_other_regions(classes: str, background: bool, coords: int, classfix: int) -> None:
    values, limit = drawn(2 * (coords + 4), 5, 3, seed=4), 0.3
    anchors = [[1.5, 2.0], [0.4, 0.9]]
    expected = {}
    for anchor, row, column in np.ndindex(2, 5, 3):
        first = anchor * (coords + 4)
        entry = [float(one) for one in values[first : first + coords + 4, row, column]]
        kinds = entry[coords + 1 :]
        if classes == "softmax":
            powers = [math.exp(one) for one in entry[coords + (not background) :]]
            kinds = [power / sum(powers) for power in powers][-3:]
        elif classes == "logistic":
            kinds = [sigmoid(one) for one in kinds]
        scale = 1.0 if background else sigmoid(entry[coords])
        if classfix == -1 and scale < 0.5:
            scale = 0.0
        box = (
            (column + sigmoid(entry[0])) / 3,
            (row + sigmoid(entry[1])) / 5,
            math.exp(entry[2]) * anchors[anchor][0] / 3,
            math.exp(entry[3]) * anchors[anchor][1] / 5,
        )
        if scale > limit:
            expected[box] = [scale * kind if scale * kind > limit else 0 for kind in kinds]
    found = decoding.decode_region(
        values[None],
        (96, 160),
        limit,
        anchors=np.array(anchors),
        coords=coords,
        classes=classes,
        background=background,
        classfix=classfix,
        tree=None,
    )
    compared(found, expected)


TREE = "thing -1\nbeing -1\ncat 1\ndog 1\nplant 1\ntabby 2\nsiamese 2\noak 4\nelm 4\n"


def test_a_tree_of_classes(tmp_path: Path) -> None:
    """A class counts with its parents; of those likelier than not the deepest is the box's."""
    (tmp_path / "a.tree").write_text(TREE)
    tree = read_tree(tmp_path / "a.tree")
    families = [(0, 1), (2, 3, 4), (5, 6), (7, 8)]
    parent = {
        kind: one for one, family in ((1, families[1]), (2, families[2]), (4, families[3])) for kind in family
    }
    values, limit = 2 * drawn(14, 6, 6, seed=5), 0.2
    expected = {}
    for row, column in np.ndindex(6, 6):
        entry = [float(one) for one in values[:, row, column]]
        chance = {}
        for family in families:
            whole = sum(math.exp(entry[5 + kind]) for kind in family)
            for kind in family:
                chance[kind] = math.exp(entry[5 + kind]) / whole * chance.get(parent.get(kind, -1), 1.0)
        likely = [kind for kind in range(9) if chance[kind] > 0.5]
        box = (
            (column + sigmoid(entry[0])) / 6,
            (row + sigmoid(entry[1])) / 6,
            math.exp(entry[2]) * 2 / 6,
            math.exp(entry[3]) * 3 / 6,
        )
        if sigmoid(entry[4]) > limit and likely:
            expected[box] = [chance[kind] if kind == likely[-1] else 0 for kind in range(9)]
    found = decoding.decode_region(
        values[None],
        (96, 96),
        limit,
        anchors=np.array([[2.0, 3.0]]),
        coords=4,
        classes="softmax",
        background=False,
        classfix=0,
        tree=tree,
    )
    compared(found, expected)
    depths = {int(np.argmax(scores)) for scores in found.scores if scores.any()}
    assert depths & {0, 1} and depths & {5, 6, 7, 8}


def test_a_tree_that_ends_with_a_root(tmp_path: Path) -> None:
    """The first class has the parent of the last one, and is in a group of its own all the same."""
    (tmp_path / "a.tree").write_text("thing -1\ncat 0\ndog 0\nsky -1\n")
    tree = read_tree(tmp_path / "a.tree")
    x = drawn(5, 4, seed=8).astype(np.float64)
    powers = np.exp(x)
    pair = powers[:, 1] + powers[:, 2]
    expected = np.stack([np.ones(5), powers[:, 1] / pair, powers[:, 2] / pair, np.ones(5)], axis=1)
    np.testing.assert_allclose(tree.softmax(x), expected, rtol=1e-12)  # float64's own rounding


@pytest.mark.parametrize("sqrt", [False, True])
@pytest.mark.parametrize("softmax", [False, True])
def test_detection_boxes(sqrt: bool, softmax: bool) -> None:
    """YOLOv1: side 3, 2 boxes a cell, 4 classes; first all classes, then all confidences, then all boxes."""
    side, num, classes, limit = 3, 2, 4, 0.2
    values = drawn(1, side * side * (classes + num * 5), seed=6)
    flat = [float(one) for one in values[0]]
    expected = {}
    for row, column, box in np.ndindex(side, side, num):
        cell = row * side + column
        kinds = flat[cell * classes : (cell + 1) * classes]
        if softmax:
            powers = [math.exp(one) for one in kinds]
            kinds = [power / sum(powers) for power in powers]
        confidence = flat[side * side * classes + cell * num + box]
        first = side * side * (classes + num) + (cell * num + box) * 4
        x, y, w, h = flat[first : first + 4]
        place = ((x + column) / side, (y + row) / side, w * w if sqrt else w, h * h if sqrt else h)
        expected[place] = [confidence * kind if confidence * kind > limit else 0 for kind in kinds]
    found = decoding.decode_detection(
        values, (96, 96), limit, side=side, num=num, classes=classes, softmax=softmax, sqrt=sqrt
    )
    compared(found, expected)


def test_logistic_does_not_overflow() -> None:
    with np.errstate(over="raise"):
        found = decoding.logistic(np.array([-1e4, -30.0, 0.0, 30.0, 1e4]))
    assert found.tolist() == pytest.approx([0, math.exp(-30), 0.5, 1 - math.exp(-30), 1], rel=1e-9)
