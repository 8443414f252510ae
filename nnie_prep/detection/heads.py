"""STEM.json: which blobs the heads read, and the numbers they are decoded with."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nnie_prep.blob import Array
from nnie_prep.detection.class_tree import ClassTree
from nnie_prep.detection.decoding import (
    Candidates,
    decode_detection,
    decode_gaussian_yolo,
    decode_region,
    decode_yolo,
)
from nnie_prep.detection.fields import MOST, Fields
from nnie_prep.detection.preparation import Size
from nnie_prep.errors import UserError
from nnie_prep.outputs.input_files import read_input

_HINT = "--heads names the .json that was written with the pair"
Decode = Callable[[Array, Size, float], Candidates]


@dataclass(frozen=True)
class Head:
    """One head.

    Args:
        blobs: what it reads, to be joined along the channels.
        shape: of what it reads, (channels,) and, unless it is a flat one, any height and width.
        where: the place in the file, for errors.
        names: of its classes, if a tree gives them.
    """

    type: str
    blobs: tuple[str, ...]
    channels: int
    flat: bool
    classes: int
    decode: Decode
    nms_kind: str
    beta_nms: float
    where: str
    names: tuple[str, ...] = ()

    def joined(self, blobs: Mapping[str, Array]) -> Array:
        """What the head reads, of one picture. UserError if it is not what the head expects."""
        parts = [blobs[name] for name in self.blobs]
        name = " + ".join(self.blobs)
        if len({part.shape[:1] + part.shape[2:] for part in parts}) > 1:
            raise UserError(f"the blobs {name} differ in height or width", self.where, "give its own net")
        values = np.concatenate(parts, axis=1)
        expected = f"{self.channels} values" if self.flat else f"{self.channels} channels"
        count = values[0].size if self.flat else values.shape[1]
        if count != self.channels or not (self.flat or values.ndim == 4):
            shape = "x".join(map(str, values.shape))
            raise UserError(f"blob {name} is {shape}, expected {expected}", self.where, "give its own net")
        if not np.isfinite(values).all():
            raise UserError(
                f"blob {name} holds values that are not finite",
                self.where,
                "`nnie-prep run` shows where they begin",
            )
        return values


@dataclass(frozen=True)
class Description:
    """What STEM.json says of a net's input and heads; `ignored` are heads that see no boxes."""

    heads: tuple[Head, ...]
    ignored: tuple[str, ...]
    letterbox: bool

    @property
    def classes(self) -> int:
        """The number that all heads have."""
        return self.heads[0].classes


def read_document(path: Path) -> dict[str, Any]:
    """STEM.json, of which `heads` is a list; UserError if it cannot be read, or is of another format."""
    data = read_input(path, _HINT)
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UserError(f"is not JSON: {str(error).splitlines()[0]}", str(path), _HINT) from None
    if not isinstance(document, dict) or not isinstance(document.get("heads"), list):
        raise UserError("describes no heads of a detector", str(path), _HINT)
    return document


def read_description(path: Path, tree: Path | None = None) -> Description:
    """Reads the heads of STEM.json.

    Args:
        tree: the tree of classes; else where the head says, or under that name beside the file.

    UserError: the file cannot be read, is of another format, or has no head that detects; or its heads
    differ in the number of classes, where Darknet counts on one.
    """
    document = read_document(path)
    heads, ignored = [], []
    for index, fields in enumerate(document["heads"]):
        where = f"{path}: head {index}"
        if not isinstance(fields, dict):
            raise UserError("is not an object", where, _HINT)
        kind = fields.get("type")
        if kind in ("contrastive", "softmax"):
            ignored.append(f"{kind} of section {fields.get('index')}")
        elif isinstance(kind, str) and kind in _READERS:
            heads.append(_READERS[kind](Fields(fields, where, path.parent, tree)))
        elif "output" in fields:
            text = f"is a {kind} that was cut off, and only a DetectionOutput is done here"
            raise UserError(text, where, "give the pair that it was cut from, if that ends in one")
        else:
            raise UserError(f"is of type {kind!r}, expected {', '.join(_READERS)}", where, _HINT)
    if not heads:
        raise UserError("describes no detection head", str(path), "give a network that ends in one")
    for head in heads:
        if head.classes != heads[0].classes:
            found = f"has {head.classes} classes, and the first head has {heads[0].classes}"
            raise UserError(found, head.where, "give a network whose heads agree")
    source = document.get("input")
    letterbox = source.get("letter_box", False) if isinstance(source, dict) else False
    return Description(tuple(heads), tuple(ignored), letterbox is True)


# ---- one reader for each type -----------------------------------------------------------------


def _yolo(fields: Fields) -> Head:
    fields.expect("anchor_unit", "pixels of the network's input")
    decode = partial(
        decode_yolo,
        anchors=fields.anchors(),
        scale_x_y=fields.number("scale_x_y"),
        new_coords=bool(fields.integer("new_coords", 0)),
    )
    return _head(fields, decode, len(fields.anchors()), 5)


def _gaussian_yolo(fields: Fields) -> Head:
    fields.expect("anchor_unit", "pixels of the network's input")
    decode = partial(
        decode_gaussian_yolo,
        anchors=fields.anchors(),
        scale_x_y=fields.number("scale_x_y"),
        yolo_point=fields.text("yolo_point"),
    )
    return _head(fields, decode, len(fields.anchors()), 9)


def _region(fields: Fields) -> Head:
    fields.expect("anchor_unit", "cells of the head's map")
    coords, tree = fields.integer("coords", 4), fields.tree()
    decode = partial(
        decode_region,
        anchors=fields.anchors(),
        coords=coords,
        classes=fields.text("class_activation"),
        background=bool(fields.integer("background", 0)),
        classfix=fields.integer("classfix", -MOST),
        tree=tree,
    )
    return _head(fields, decode, len(fields.anchors()), coords + 1, tree)


def _detection(fields: Fields) -> Head:
    classes, side, num = (fields.integer(key, 1) for key in ("classes", "side", "num"))
    if fields.integer("coords", 0) != 4:
        raise UserError("has boxes of other than 4 coordinates", fields.where, "Darknet itself counts on 4")
    decode = partial(
        decode_detection,
        side=side,
        num=num,
        classes=classes,
        softmax=bool(fields.integer("softmax", 0)),
        sqrt=bool(fields.integer("sqrt", 0)),
    )
    count = side * side * (classes + num * 5)
    return Head("detection", fields.blobs(), count, True, classes, decode, "default", 0.0, fields.where)


def _head(fields: Fields, decode: Decode, anchors: int, entries: int, tree: ClassTree | None = None) -> Head:
    classes = fields.integer("classes", 1)
    return Head(
        type=fields.text("type"),
        blobs=fields.blobs(),
        channels=anchors * (entries + classes),
        flat=False,
        classes=classes,
        decode=decode,
        nms_kind=fields.text("nms_kind", "default"),
        beta_nms=fields.number("beta_nms", 0.6),
        where=fields.where,
        names=tree.names if tree else (),
    )


_READERS = {
    "yolo": _yolo,
    "Gaussian_yolo": _gaussian_yolo,
    "region": _region,
    "detection": _detection,
}
