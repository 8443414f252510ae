"""Suppression against its definition over pairs, and against OpenCV's."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nnie_prep.detection.suppression import closeness, suppress

Array = NDArray[Any]
KINDS = ("default", "cornersnms", "greedynms", "diounms")


def drawn(seed: int, count: int, classes: int) -> tuple[Array, Array]:
    """Boxes that crowd around three places, and scores with ties and zeros."""
    random = np.random.default_rng(seed)
    centres = random.uniform(0.3, 0.7, (3, 2))[random.integers(3, size=count)]
    boxes = np.concatenate(
        [centres + random.normal(0, 0.03, (count, 2)), random.uniform(0.1, 0.3, (count, 2))], axis=1
    )
    scores = np.round(random.random((count, classes)), 1) * (random.random((count, classes)) < 0.6)
    return boxes, scores


def edges(box: Array) -> tuple[float, float, float, float]:
    x, y, width, height = map(float, box)
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def measure(a: Array, b: Array, kind: str, beta: float) -> float:
    """How much two boxes are one: what Darknet holds against the threshold."""
    one, two = edges(a), edges(b)
    width = min(one[2], two[2]) - max(one[0], two[0])
    height = min(one[3], two[3]) - max(one[1], two[1])
    both = width * height if width > 0 and height > 0 else 0.0
    union = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, two)) - both
    result = both / union
    if kind in ("greedynms", "diounms"):
        around = (max(one[2], two[2]) - min(one[0], two[0]), max(one[3], two[3]) - min(one[1], two[1]))
        apart = float((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2)
        result -= (apart / (around[0] ** 2 + around[1] ** 2)) ** (0.6 if kind == "greedynms" else beta)
    return result


@settings(max_examples=80)
@given(st.integers(0, 10**6), st.integers(0, 25), st.sampled_from(KINDS), st.floats(0.05, 0.95))
def test_suppression_is_its_definition(seed: int, count: int, kind: str, threshold: float) -> None:
    """Darknet's own two loops over the boxes, sorted; ties by place."""
    boxes, scores = drawn(seed, count, 3)
    beta = 0.4 + seed % 5 / 5
    expected = scores.copy()
    for one in range(3):
        order = sorted(range(count), key=lambda i: (-scores[i, one], *boxes[i]))
        for at, i in enumerate(order):
            for j in order[at + 1 :]:
                if expected[i, one] > 0 and measure(boxes[i], boxes[j], kind, beta) > threshold:
                    expected[j, one] = 0
    assert np.array_equal(suppress(boxes, scores, threshold, kind, beta), expected)


@pytest.mark.parametrize(("kind", "power"), [("default", None), ("greedynms", 0.6), ("diounms", 0.45)])
def test_closeness_is_its_definition(kind: str, power: float | None) -> None:
    boxes, _ = drawn(3, 40, 1)
    expected = [measure(boxes[0], other, kind, 0.45) for other in boxes]
    np.testing.assert_allclose(closeness(boxes[0], boxes, power), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("kind", "power"), [("greedynms", 0.6), ("diounms", 0.45)])
def test_the_power_of_a_kind(kind: str, power: float) -> None:
    """A box goes where it comes just above the threshold, and stays just below it."""
    boxes, _ = drawn(3, 40, 1)
    near = [box for box in boxes[1:] if 0.1 < measure(boxes[0], box, kind, power) < 0.9]
    assert len(near) > 3
    for box in near:
        limit = measure(boxes[0], box, kind, power)
        kept = [
            int((suppress(np.stack([boxes[0], box]), np.array([[0.9], [0.5]]), one, kind, power) > 0).sum())
            for one in (limit - 1e-9, limit + 1e-9)
        ]
        assert kept == [1, 2]


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from(KINDS))
def test_the_order_of_boxes_does_not_matter(seed: int, kind: str) -> None:
    boxes, scores = drawn(seed, 20, 2)
    order = np.random.default_rng(seed).permutation(20)
    found = suppress(boxes, scores, 0.4, kind, 0.6)
    assert np.array_equal(suppress(boxes[order], scores[order], 0.4, kind, 0.6), found[order])


@pytest.mark.parametrize("threshold", [0.2, 0.45, 0.8])
def test_suppression_is_opencvs(threshold: float) -> None:
    random = np.random.default_rng(5)
    boxes, _ = drawn(5, 60, 1)
    scores = random.permutation(np.linspace(0.1, 0.9, 60))  # no ties
    corners = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, 2:]], axis=1)
    expected = cv2.dnn.NMSBoxes(corners.tolist(), scores.tolist(), 0.05, threshold)
    found = np.flatnonzero(suppress(boxes, scores[:, np.newaxis], threshold, "default", 0.6)[:, 0])
    assert sorted(expected) == found.tolist() and 1 < len(found) < 60


def test_the_kinds_differ() -> None:
    """Off-centre boxes survive the kinds that subtract the distance."""
    kept = []
    for kind in KINDS:
        boxes, scores = drawn(2, 40, 1)
        kept.append(int((suppress(boxes, scores, 0.4, kind, 0.3) > 0).sum()))
    default, corners, greedy, diou = kept
    assert default == corners < greedy < diou


def test_boxes_without_area() -> None:
    """Darknet's intersection over union of them is 0, not a division by zero."""
    boxes = np.array([[0.5, 0.5, 0, 0], [0.5, 0.5, 0, 0], [0.5, 0.5, 0.2, 0.2]])
    with np.errstate(all="raise"):
        assert closeness(boxes[0], boxes, None).tolist() == [0, 0, 0]
        assert closeness(boxes[0], boxes, 0.6).tolist() == [0, 0, 0]
