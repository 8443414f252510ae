"""[softmax], [yolo], [Gaussian_yolo], [region], [detection], [cost], [contrastive]: where networks end."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nnie_prep.blob import Array
from nnie_prep.darknet.cfg import Section
from nnie_prep.darknet.reference.activations import logistic
from nnie_prep.darknet.reference.plan import Plan, Step, inconsistent
from nnie_prep.errors import UserError


def _softmax(x: Array, axis: int, temperature: float = 1.0) -> Array:
    powers = np.exp((x - x.max(axis=axis, keepdims=True)) / x.dtype.type(temperature))
    return np.asarray(powers / powers.sum(axis=axis, keepdims=True))


def softmax(section: Section, plan: Plan) -> Step:
    """Over `groups` consecutive runs of the flat input (softmax_layer.c:51).

    With `tree` it would be one for each group of a file's tree; then the output is not computed.
    """
    size = math.prod(plan.shape(plan.previous, section))
    groups = section.int("groups", 1, at_least=1)
    temperature = section.float("temperature", 1.0)
    if size % groups or not temperature:
        raise inconsistent(section, f"{size} inputs in groups={groups} at temperature={temperature}")
    if section.has("tree"):
        return plan.step(section, (), [plan.previous], lambda inputs, dtype: None)

    def compute(inputs: list[Array], dtype: Any) -> Any:
        return _softmax(inputs[0].reshape(groups, -1), 1, temperature).reshape(-1)

    return plan.step(section, (size,), [plan.previous], compute)


def _anchors(section: Section, channels: int, entries: int, number: int = 0) -> int:
    """How many anchors a head has. UserError: they do not account for the input's channels."""
    number = number or section.int("num", 1, at_least=1)
    if channels != number * entries:
        raise UserError(
            f"{section} needs {number} anchors x {entries} = {number * entries} channels, its input has "
            f"{channels}",
            section.where(),
            "correct filters= of the convolution before, or classes=, coords=, mask=, num= here",
        )
    return number


def yolo(section: Section, plan: Plan) -> Step:
    """Logistic on x, y, objectness and classes, then x and y stretched by scale_x_y (yolo_layer.c:691)."""
    shape = plan.image(plan.previous, section)
    classes = section.int("classes", 20, at_least=0)
    number = _anchors(section, shape[0], classes + 5, len(section.ints("mask")))
    modern = plan.flavor == "alexeyab"
    stretch = section.float("scale_x_y", 1.0) if modern else 1.0
    raw = bool(section.int("new_coords", 0)) if modern else False

    def compute(inputs: list[Array], dtype: Any) -> Any:
        boxes = inputs[0].reshape(number, classes + 5, *shape[1:]).copy()
        if not raw:
            boxes[:, :2] = logistic(boxes[:, :2])
            boxes[:, 4:] = logistic(boxes[:, 4:])
        boxes[:, :2] = boxes[:, :2] * dtype(stretch) - dtype(0.5 * (stretch - 1))
        return boxes.reshape(shape)

    return plan.step(section, shape, [plan.previous], compute)


def gaussian_yolo(section: Section, plan: Plan) -> Step:
    """Entries x, y, w, h, each with its deviation behind it, objectness, classes (gaussian_yolo_layer.c)."""
    shape = plan.image(plan.previous, section)
    classes = section.int("classes", 20, at_least=0)
    number = _anchors(section, shape[0], classes + 9, len(section.ints("mask")))
    stretch = section.float("scale_x_y", 1.0)

    def compute(inputs: list[Array], dtype: Any) -> Any:
        boxes = inputs[0].reshape(number, classes + 9, *shape[1:]).copy()
        for entry in (0, 1, 2, 3, 5, 7):
            boxes[:, entry] = logistic(boxes[:, entry])
        boxes[:, 8:] = logistic(boxes[:, 8:])
        boxes[:, 0:3:2] = boxes[:, 0:3:2] * dtype(stretch) - dtype(0.5 * (stretch - 1))
        return boxes.reshape(shape)

    return plan.step(section, shape, [plan.previous], compute)


def region(section: Section, plan: Plan) -> Step:
    """YOLOv2's head: AlexeyAB's output runs (y, x, anchor, entry), pjreddie's stays (anchor, entry, y, x).

    With `tree` the classes' softmax goes by a file's tree; then the output is not computed.
    """
    shape = plan.image(plan.previous, section)
    classes = section.int("classes", 20, at_least=1)
    coords = section.int("coords", 4, at_least=0)
    entries = classes + coords + 1
    number = _anchors(section, shape[0], entries)
    by_softmax = bool(section.int("softmax", 0))
    if section.has("tree"):
        return plan.step(section, (), [plan.previous], lambda inputs, dtype: None)
    if plan.flavor == "pjreddie":
        return _planar_region(section, plan, number, coords, by_softmax)
    if coords != 4:
        raise inconsistent(section, f"coords={coords}, where AlexeyAB's Darknet counts on 4")

    def compute(inputs: list[Array], dtype: Any) -> Any:
        boxes = inputs[0].reshape(number, entries, -1).transpose(2, 0, 1).copy()
        boxes[:, :, 4] = logistic(boxes[:, :, 4])
        if by_softmax:
            boxes[:, :, 5:] = _softmax(boxes[:, :, 5:], 2)
        return boxes.reshape(-1)

    return plan.step(section, (math.prod(shape),), [plan.previous], compute)


def _planar_region(section: Section, plan: Plan, number: int, coords: int, by_softmax: bool) -> Step:
    """pjreddie region_layer.c:169: logistic on x and y, too, and on the classes where there is no softmax."""
    shape = plan.image(plan.previous, section)
    background = bool(section.int("background", 0))

    def compute(inputs: list[Array], dtype: Any) -> Any:
        boxes = inputs[0].reshape(number, -1, *shape[1:]).copy()
        boxes[:, :2] = logistic(boxes[:, :2])
        if not background:
            boxes[:, coords] = logistic(boxes[:, coords])
        if by_softmax:
            first = coords if background else coords + 1
            boxes[:, first:] = _softmax(boxes[:, first:], 1)
        else:
            boxes[:, coords + 1 :] = logistic(boxes[:, coords + 1 :])
        return boxes.reshape(shape)

    return plan.step(section, shape, [plan.previous], compute)


def detection(section: Section, plan: Plan) -> Step:
    """YOLOv1's head: classes of each place, then objectness and boxes; softmax=1 is over the classes."""
    size = math.prod(plan.shape(plan.previous, section))
    side = section.int("side", 7, at_least=1)
    classes = section.int("classes", 1, at_least=1)
    number, coords = section.int("num", 1, at_least=1), section.int("coords", 1, at_least=0)
    wanted = side * side * ((1 + coords) * number + classes)
    if wanted != size:
        raise UserError(
            f"{section} needs {wanted} inputs, the layer before has {size} outputs",
            section.where(),
            "correct output= of the layer before, or side=, num=, coords=, classes= here",
        )
    by_softmax = bool(section.int("softmax", 0))

    def compute(inputs: list[Array], dtype: Any) -> Any:
        out = inputs[0].reshape(-1).copy()
        if by_softmax:
            scores = out[: side * side * classes].reshape(-1, classes)
            scores[...] = _softmax(scores, 1)
        return out

    return plan.step(section, (size,), [plan.previous], compute)


def training_only(section: Section, plan: Plan) -> Step:
    """[cost] and [contrastive]: a loss, which outputs nothing at inference."""
    return plan.step(section, (), [], lambda inputs, dtype: None)


BUILDERS: dict[str, Callable[[Section, Plan], Step]] = {
    "softmax": softmax,
    "yolo": yolo,
    "Gaussian_yolo": gaussian_yolo,
    "region": region,
    "detection": detection,
    "cost": training_only,
    "contrastive": training_only,
}
