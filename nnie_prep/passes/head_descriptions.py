"""What the CPU must do in the place of layers that are cut off, as JSON values for STEM.json.

Common keys: `layer`, `line` and `type` of the layer that wrote the net's output `output`. Blobs are given as
{"blob": name}; they are batch 1.

DetectionOutput (the SSD branch of Caffe: detection_output_layer.cpp, prior_box_layer.cpp, bbox_util.cpp):
    classes, background_label, share_location, code_type, variance_encoded_in_target,
    confidence_threshold (null: none), nms_threshold, nms_eta, nms_top_k, keep_top_k (-1: all),
    confidence: "softmax" over the classes, "sigmoid", or "as is"
    sources, in the order in which their boxes count, each of a map of height x width cells:
        map: [height, width]
        location: {blob, order}    permuted by `order`, values (cell, box, [class,] x y w h)
        confidence: {blob, order}  permuted by `order`, values (cell, box, class)
        priors: layer, image [height, width] and step [vertical, horizontal] in pixels, offset in cells,
            sizes: [width, height] in pixels of each box of a cell, clip, variance (four), and, as they
            stand in the prototxt, min_size, max_size, aspect_ratio, flip
Box i of cell (y, x) is centred at ((x + offset) * step horizontal, (y + offset) * step vertical).

YoloDetectionOutput, Yolov3DetectionOutput (eric612/MobileNet-YOLO, layers of these names):
    classes, confidence_threshold, nms_threshold, entries: the order of the values of one anchor;
    class_activation: "softmax" of which the best class counts, or "logistic" of which each counts;
    nms_across_classes: boxes suppress each other whatever their classes are
    sources: {blob, map, anchors [width, height], anchor_unit, stride}; channel
    anchor * (5 + classes) + entry, where the last entry stands for all classes

Any other type, and a DetectionOutput that refines what a first stage found (RefineDet's, which reads five
blobs: location, confidence, priors, and the first stage's confidence and location):
    `layers` are the layers to be computed, in their order and in the prototxt's own words; `reads` are the
    blobs that they begin with, under the `name` that they use; without a blob where only the shape is
    wanted.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf.json_format import MessageToDict

from nnie_prep.errors import UserError
from nnie_prep.net import Layer, Net
from nnie_prep.nnie_caffe_pb2 import (
    PriorBoxParameter,
    YoloDetectionOutputParameter,
    Yolov3DetectionOutputParameter,
)
from nnie_prep.params import as_written, concat_axis, permutation
from nnie_prep.shapes import Shape
from nnie_prep.shapes.regions import prior_box

HEADS = ("DetectionOutput", "YoloDetectionOutput", "Yolov3DetectionOutput")


class _NotKnown(Exception):
    """Why a head is not understood."""


def describe_head(net: Net, layer: Layer, shapes: dict[str, Shape]) -> tuple[dict[str, Any], str]:
    """(description, "") of one of HEADS, or ({}, why it is not understood).

    ({}, "") is one of two stages, which is told of in the prototxt's words, as a tail is.
    """
    describe = {
        "DetectionOutput": _detection_output,
        "YoloDetectionOutput": _yolo,
        "Yolov3DetectionOutput": _yolov3,
    }[layer.type]
    if not layer.bottoms or len(layer.tops) != 1:
        return {}, f"it has {len(layer.bottoms)} bottoms and {len(layer.tops)} tops"
    if net.readers(layer):
        return {}, f"{layer.tops[0]} is read by other layers"
    if layer.type == "DetectionOutput" and len(layer.bottoms) == 5:
        return {}, ""
    try:
        return {**_names(layer), **describe(net, layer, shapes)}, ""
    except _NotKnown as reason:
        return {}, str(reason)


def describe_tail(net: Net, layer: Layer, cut: Collection[Layer], shapes: dict[str, Shape]) -> dict[str, Any]:
    """The description of what makes an output, the layers that are cut of it."""
    makers = [layer]
    reads: dict[str, dict[str, Any]] = {}
    for maker in makers:  # grows while it is walked
        for place, name in enumerate(maker.bottoms):
            writer = net.writer(maker, place)
            if writer is not None and writer in cut:
                makers += [] if writer in makers else [writer]
                continue
            read = reads.setdefault(name, {"name": name, "shape": list(shapes.get(name, ()))})
            if maker.type != "PriorBox":  # which wants nothing but the shape
                read["blob"] = name
    return {**_names(layer), "reads": list(reads.values()), "layers": _in_words(net, makers)}


def _in_words(net: Net, layers: Collection[Layer]) -> list[dict[str, Any]]:
    found = []
    for layer in sorted(layers, key=net.index):
        words = _with_numbers(MessageToDict(layer.proto, preserving_proto_field_name=True))
        words.pop("phase", None)
        wires = {"bottom": list(layer.bottoms), "top": list(layer.tops)}
        found.append({"name": words.pop("name"), "type": words.pop("type"), **wires, **words})
    return found


def _with_numbers(words: dict[str, Any]) -> dict[str, Any]:
    """A message in JSON writes its 64-bit integers, the dims of shapes, as strings."""
    found = {}
    for key, value in words.items():
        if isinstance(value, dict):
            value = _with_numbers(value)
        elif isinstance(value, list):
            value = [_with_numbers(one) if isinstance(one, dict) else one for one in value]
            value = [int(one) for one in value] if key == "dim" else value
        found[key] = value
    return found


def _names(layer: Layer) -> dict[str, Any]:
    return {"layer": layer.name, "line": layer.origin, "type": layer.type, "output": layer.tops[0]}


# ---- SSD ---------------------------------------------------------------------------------------


@dataclass
class _Part:
    """A blob whose values, permuted, stand in a row among those of other blobs."""

    blob: str
    shape: Shape
    order: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape[1:])

    def place(self) -> dict[str, Any]:
        return {"blob": self.blob, "order": list(self.order)}


def _detection_output(net: Net, layer: Layer, shapes: dict[str, Shape]) -> dict[str, Any]:
    param = layer.proto.detection_output_param
    if len(layer.bottoms) != 3:
        raise _NotKnown(f"it has {len(layer.bottoms)} bottoms, not location, confidence and priors")
    classes, per_box = param.num_classes, 4 if param.share_location else 4 * param.num_classes
    if not classes:
        raise _NotKnown("num_classes is missing")
    squash: set[str] = set()
    locations = _parts(net, layer, 0, shapes, 0, squash)
    if squash:
        raise _NotKnown(f"a {squash.pop()} stands before its location bottom")
    confidences = _parts(net, layer, 1, shapes, classes, squash)
    priors = _priors(net, layer, shapes)
    counts = [
        [part.size / per_box for part in locations],
        [part.size / classes for part in confidences],
        [len(prior["sizes"]) * math.prod(prior["map"]) for prior in priors],
    ]
    if not counts[0] == counts[1] == counts[2]:
        raise _NotKnown(f"location, confidence and priors differ: boxes {counts}")
    nms = param.nms_param
    return {
        "classes": classes,
        "background_label": param.background_label_id,
        "share_location": param.share_location,
        "code_type": PriorBoxParameter.CodeType.Name(param.code_type),
        "variance_encoded_in_target": param.variance_encoded_in_target,
        "confidence": squash.pop() if squash else "as is",
        "confidence_threshold": _exact(param.confidence_threshold)
        if param.HasField("confidence_threshold")
        else None,
        "nms_threshold": _exact(nms.nms_threshold),
        "nms_eta": _exact(nms.eta),
        "nms_top_k": nms.top_k if nms.HasField("top_k") else -1,
        "keep_top_k": param.keep_top_k,
        "sources": [
            {"map": prior.pop("map"), "location": loc.place(), "confidence": conf.place(), "priors": prior}
            for loc, conf, prior in zip(locations, confidences, priors, strict=True)
        ],
    }


def _parts(
    net: Net, layer: Layer, place: int, shapes: dict[str, Shape], classes: int, squash: set[str]
) -> list[_Part]:
    """The blobs whose values stand one behind the other in a bottom; what squashes them is added to `squash`.

    Flatten and Reshape leave the order of the values as it is, and so does Concat along the first
    axis of what belongs to one picture.
    """
    name, writer = layer.bottoms[place], net.writer(layer, place)
    shape = shapes.get(name)
    if shape is None:
        raise _NotKnown(f"the shape of {name} is not known")
    if writer is None:
        raise _NotKnown(f"it reads {name}, an input of the net")
    if writer.type in ("Flatten", "Reshape", "Split"):
        return _parts(net, writer, 0, shapes, classes, squash)
    if writer.type == "Concat" and concat_axis(writer, shape) == 1 and len(shape) < 4:
        rows: list[tuple[list[_Part], set[str]]] = []
        for one in range(len(writer.bottoms)):
            own = set(squash)
            rows.append((_parts(net, writer, one, shapes, classes, own), own))
        if any(own != rows[0][1] for _, own in rows):
            raise _NotKnown(f"not all that {writer.name} joins is squashed alike")
        squash |= rows[0][1]
        return [part for parts, _ in rows for part in parts]
    if writer.type in ("Softmax", "Sigmoid") and _is_behind_tail(net, writer):
        if squash:
            raise _NotKnown(f"{writer.name} is the second of two that squash its values")
        if writer.type == "Softmax" and not (
            shape[-1] == classes and writer.proto.softmax_param.axis in (-1, len(shape) - 1)
        ):
            raise _NotKnown(f"{writer.name} is no softmax over the {classes} classes of a box")
        squash.add(writer.type.lower())
        return _parts(net, writer, 0, shapes, classes, squash)
    if writer.type == "Permute":
        bottom = shapes.get(writer.bottoms[0])
        if bottom is None:
            raise _NotKnown(f"the shape of {writer.bottoms[0]} is not known")
        return [_Part(writer.bottoms[0], bottom, permutation(writer, len(bottom)))]
    return [_Part(name, shape, tuple(range(len(shape))))]


def _is_behind_tail(net: Net, layer: Layer) -> bool:
    writer = net.writer(layer)
    return writer is not None and writer.type in ("Flatten", "Reshape", "Concat", "Permute")


def _priors(net: Net, layer: Layer, shapes: dict[str, Shape]) -> list[dict[str, Any]]:
    """What the PriorBoxes in the third bottom do, in their order."""
    writer = net.writer(layer, 2)
    if writer is not None and writer.type == "Concat":
        writers = [net.writer(writer, place) for place in range(len(writer.bottoms))]
        if (axis := concat_axis(writer, (1, 2, 0))) != 2:
            raise _NotKnown(f"{writer.name} joins priors along axis {axis}, not 2")
    else:
        writers = [writer]
    found = []
    for one in writers:
        if one is None or one.type != "PriorBox":
            raise _NotKnown(f"{layer.bottoms[2]} does not come of PriorBox layers")
        found.append(_prior(one, shapes))
    return found


def _prior(layer: Layer, shapes: dict[str, Shape]) -> dict[str, Any]:
    """One PriorBox, with its own words for what the CPU's code reckons with."""
    both = [shapes.get(name, ()) for name in layer.bottoms[:2]]
    if [len(shape) for shape in both] != [4, 4]:
        raise _NotKnown(f"the shapes of what {layer.name} reads are not known")
    (height, width), size = both[0][2:], both[1][2:]
    try:
        prior = prior_box(layer)
    except UserError as error:
        raise _NotKnown(str(error)) from None
    image = prior.image or (size[0], size[1])
    param = layer.proto.prior_box_param
    return {
        "map": [height, width],
        "layer": layer.name,
        "image": list(image),
        "step": [_exact(one) for one in prior.step or (image[0] / height, image[1] / width)],
        "offset": _exact(prior.offset),
        "sizes": [list(pair) for pair in prior.sizes],
        "clip": prior.clip,
        "variance": [_exact(one) for one in prior.variance],
        "min_size": [_exact(one) for one in param.min_size],
        "max_size": [_exact(one) for one in param.max_size],
        "aspect_ratio": [_exact(one) for one in param.aspect_ratio],
        "flip": param.flip,
    }


def _exact(value: float) -> float:
    """A float32 as it was written; a size that was reckoned here as it is."""
    return as_written(value) if value == float(np.float32(value)) else value


# ---- YOLO --------------------------------------------------------------------------------------


def _yolo(net: Net, layer: Layer, shapes: dict[str, Shape]) -> dict[str, Any]:
    """YOLOv2: anchors in cells; x y and objectness of a sigmoid, w h of exp."""
    param = layer.proto.yolo_detection_output_param
    anchors = _pairs(param.biases)
    if len(anchors) != param.num_box:
        raise _NotKnown(f"{len(anchors)} anchors in biases for num_box {param.num_box}")
    channels = param.num_box * (5 + param.num_classes)
    sources = [
        {**_source(layer, place, shapes, channels), "anchors": anchors, "anchor_unit": "cells"}
        for place in range(len(layer.bottoms))
    ]
    return _yolo_head(param, "softmax", sources)


def _yolov3(net: Net, layer: Layer, shapes: dict[str, Shape]) -> dict[str, Any]:
    """YOLOv3: anchors in pixels; x y, objectness and classes of a sigmoid, w h of exp."""
    param = layer.proto.yolov3_detection_output_param
    anchors, mask = _pairs(param.biases), list(param.mask)
    bottoms, each = len(layer.bottoms), param.num_box
    if (
        param.mask_group_num != bottoms
        or each * bottoms != len(mask)
        or len(param.anchors_scale) != bottoms
        or any(one >= len(anchors) for one in mask)
    ):
        raise _NotKnown(
            f"{len(mask)} mask, {len(anchors)} anchors and {len(param.anchors_scale)} anchors_scale "
            f"for {bottoms} bottoms of {each} boxes"
        )
    sources = []
    for place in range(bottoms):
        own = mask[each * place : each * (place + 1)]
        source = _source(layer, place, shapes, each * (5 + param.num_classes))
        source |= {"mask": own, "anchors": [anchors[one] for one in own]}
        source |= {"anchor_unit": "pixels", "stride": param.anchors_scale[place]}
        sources.append(source)
    return _yolo_head(param, "logistic", sources)


def _yolo_head(
    param: YoloDetectionOutputParameter | Yolov3DetectionOutputParameter,
    class_activation: str,
    sources: list[dict[str, Any]],
) -> dict[str, Any]:
    return {
        "classes": param.num_classes,
        "entries": ["x", "y", "w", "h", "objectness", "classes"],
        "class_activation": class_activation,
        "nms_across_classes": True,
        "confidence_threshold": _exact(param.confidence_threshold),
        "nms_threshold": _exact(param.nms_threshold),
        "sources": sources,
    }


def _source(layer: Layer, place: int, shapes: dict[str, Shape], channels: int) -> dict[str, Any]:
    name = layer.bottoms[place]
    shape = shapes.get(name, ())
    if len(shape) != 4 or shape[1] != channels:
        raise _NotKnown(f"{name} has shape {shape or '?'}, expected {channels} channels")
    return {"blob": name, "map": list(shape[2:])}


def _pairs(values: Collection[float]) -> list[list[float]]:
    if len(values) % 2:
        raise _NotKnown(f"{len(values)} biases are no pairs of width and height")
    exact = [_exact(one) for one in values]
    return [list(pair) for pair in zip(exact[0::2], exact[1::2], strict=True)]
