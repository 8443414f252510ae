"""What CPU code must know to decode the blob that a head reads, as JSON values.

Common keys: `classes`; `entries`, the order of the values of one anchor; `anchors` as [width, height]
pairs, after the mask, and their `anchor_unit`; `stride` in pixels of the network's input, one number or
[vertical, horizontal]. Channel anchor * len(entries) + entry of the blob holds that entry's map.
"""

from __future__ import annotations

from typing import Any

from nnie_prep.darknet.builder import Builder, NotKnown, Output, refusal
from nnie_prep.darknet.cfg import Section

# Darknet's anchor where the cfg gives none (AlexeyAB yolo_layer.c:62, region_layer.c:43)
_DEFAULT_ANCHOR = 0.5

_MOST_ANCHORS = 4096

_YOLO_ENTRIES = ("x", "y", "w", "h", "objectness")
_GAUSSIAN_ENTRIES = (
    "x", "x_sigma", "y", "y_sigma", "w", "w_sigma", "h", "h_sigma", "objectness",
)  # fmt: skip


def yolo(build: Builder, section: Section, source: Output) -> dict[str, Any]:
    """[yolo] (AlexeyAB yolo_layer.c, parser.c:489)."""
    described = _masked(build, section, source, _YOLO_ENTRIES)
    described["new_coords"] = 0
    if build.flavor == "alexeyab":
        described["new_coords"] = section.int("new_coords", 0)
        described["objectness_smooth"] = section.int("objectness_smooth", 0)
        if section.has("embedding_layer"):
            written = section.int("embedding_layer", 0)
            described["embedding_layer"] = written if written >= 0 else build.index + written
    return described


def gaussian_yolo(build: Builder, section: Section, source: Output) -> dict[str, Any]:
    """[Gaussian_yolo] (AlexeyAB gaussian_yolo_layer.c, parser.c:640)."""
    described = _masked(build, section, source, _GAUSSIAN_ENTRIES)
    described["objectness_smooth"] = section.int("objectness_smooth", 0)
    described["yolo_point"] = section.string("yolo_point", "center")
    return described


def _masked(build: Builder, section: Section, source: Output, entries: tuple[str, ...]) -> dict[str, Any]:
    """What [yolo] and [Gaussian_yolo] have in common."""
    classes = section.int("classes", 20, at_least=1)
    num = section.int("num", 1, at_least=1, at_most=_MOST_ANCHORS)
    mask = section.ints("mask") or list(range(num))
    anchors = _anchors(section, num)
    _check_mask(build, section, mask, num, len(anchors))
    _check_channels(section, source, len(mask), len(entries) + classes, "mask")
    described: dict[str, Any] = {
        "classes": classes,
        "coords": 4,
        "num": num,
        "mask": mask,
        "anchors": [anchors[position] for position in mask],
        "anchor_unit": "pixels of the network's input",
        "entries": [*entries, "classes"],
        "stride": _stride(build, source),
        "scale_x_y": 1.0,
        "ignore_thresh": section.float("ignore_thresh", 0.5),
        "truth_thresh": section.float("truth_thresh", 1.0),
    }
    if section.has("map"):
        described["map"] = section.string("map")
    if build.flavor == "alexeyab":
        described["scale_x_y"] = section.float("scale_x_y", 1.0)
        described["nms_kind"] = section.string("nms_kind", "default")
        described["beta_nms"] = section.float("beta_nms", 0.6)
    return described


def region(build: Builder, section: Section, source: Output) -> dict[str, Any]:
    """[region] of YOLOv2 (AlexeyAB region_layer.c, parser.c:735)."""
    classes = section.int("classes", 20, at_least=1)
    num = section.int("num", 1, at_least=1, at_most=_MOST_ANCHORS)
    coords = section.int("coords", 4, at_least=4, at_most=_MOST_ANCHORS)
    background = section.int("background", 0) if build.flavor == "pjreddie" else 0
    softmax = section.int("softmax", 0)
    without_softmax = "logistic" if build.flavor == "pjreddie" else "linear"
    _check_channels(section, source, num, coords + 1 + classes, "num")
    mask = [f"mask{number}" for number in range(1, coords - 3)]
    described: dict[str, Any] = {
        "classes": classes,
        "coords": coords,
        "num": num,
        "anchors": _anchors(section, num)[:num],
        "anchor_unit": "cells of the head's map",
        "entries": ["x", "y", "w", "h", *mask, "objectness", "classes"],
        "stride": _stride(build, source),
        "softmax": softmax,
        "class_activation": "softmax" if softmax or section.has("tree") else without_softmax,
        "background": background,
        "thresh": section.float("thresh", 0.5),
        "classfix": section.int("classfix", 0),
    }
    for key in ("tree", "map"):
        if section.has(key):
            described[key] = section.string(key)
    return described


def detection(build: Builder, section: Section, source: Output) -> dict[str, Any]:
    """[detection] of YOLOv1 (AlexeyAB detection_layer.c:48, parser.c:790).

    The flat blob holds side^2 cells of classes, then side^2 of num confidences, then side^2 of num boxes
    of (x, y, w, h) each.
    """
    classes, num = section.int("classes", 1, at_least=1), section.int("num", 1, at_least=1)
    coords, side = section.int("coords", 1, at_least=1), section.int("side", 7, at_least=1)
    wanted = side * side * ((1 + coords) * num + classes)
    if source.count != wanted:
        raise refusal(
            section,
            "",
            f"reads {source.count} values, expected side^2 * ((1 + coords) * num + classes) = {wanted}",
            "correct the number of outputs before it",
        )
    section.ignore("reorg")
    return {
        "classes": classes,
        "coords": coords,
        "num": num,
        "side": side,
        "softmax": section.int("softmax", 0),
        "sqrt": section.int("sqrt", 0),
        "entries": ["classes of each cell", "confidences of each cell", "boxes of each cell"],
    }


def contrastive(build: Builder, section: Section, source: Output) -> dict[str, Any]:
    """[contrastive]: compares embeddings in training (AlexeyAB contrastive_layer.c, parser.c:434)."""
    layer = section.int("yolo_layer", 0)
    layer = layer if layer >= 0 else build.index + layer
    if not 0 <= layer < build.index or build.sections[layer + 1].type != "yolo":
        raise refusal(
            section,
            "yolo_layer",
            f"yolo_layer names section {layer}, expected a [yolo] before it",
            "correct it",
        )
    return {"classes": section.int("classes", 1000, at_least=1), "yolo_layer": layer}


def _check_mask(build: Builder, section: Section, mask: list[int], num: int, listed: int) -> None:
    """The mask must name anchors that are listed; a stock cfg (cspx-p7-mish) lists more than its num."""
    for position in mask:
        if not 0 <= position < listed:
            raise refusal(
                section,
                "mask",
                f"mask names anchor {position}, expected 0 to {listed - 1}",
                "correct mask, num or anchors",
            )
    if max(mask) >= num:
        build.notes.append(
            f"{section.where('mask')}: mask names anchor {max(mask)}, but num={num}: Darknet reads beyond "
            "its list; the head is described with the anchors that the cfg lists"
        )


def _anchors(section: Section, num: int) -> list[list[float]]:
    """All pairs that are listed, at least `num` of them, filled up as Darknet does."""
    values = section.floats("anchors")
    values += [_DEFAULT_ANCHOR] * (2 * num - len(values))
    return [list(pair) for pair in zip(values[0::2], values[1::2], strict=False)]


def _stride(build: Builder, source: Output) -> int | float | list[int | float]:
    if build.network_shape is None:
        raise NotKnown
    pairs = zip(build.network_shape[1:], source.size, strict=True)
    vertical, horizontal = (whole // cells if whole % cells == 0 else whole / cells for whole, cells in pairs)
    return vertical if vertical == horizontal else [vertical, horizontal]


def _check_channels(section: Section, source: Output, anchors: int, entries: int, key: str) -> None:
    if source.channels != anchors * entries:
        raise refusal(
            section,
            "classes",
            f"reads {source.channels} channels, expected {anchors} anchors of {entries} entries = "
            f"{anchors * entries}",
            f"correct filters before it, or classes and {key}",
        )


DESCRIPTIONS = {
    "yolo": yolo,
    "Gaussian_yolo": gaussian_yolo,
    "region": region,
    "detection": detection,
    "contrastive": contrastive,
}
