"""The layers behind a cut SSD, put back by what STEM.json says of them (passes/head_descriptions.py).

    location   -> Permute -> Flatten -> Concat ----------------------  DetectionOutput -> output
    confidence -> Permute -> Flatten -> Concat -> Reshape -> Softmax -/
    location   -> PriorBox ----------------------------> Concat -----/

So the same engine computes them that runs the net, and they are the layers that the net was trained with.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nnie_prep.detection.fields import Fields
from nnie_prep.detection.heads import read_document
from nnie_prep.errors import UserError
from nnie_prep.net import Layer, Net, check_wiring
from nnie_prep.nnie_caffe_pb2 import LayerParameter, PriorBoxParameter
from nnie_prep.shapes import Shape, infer_shapes
from nnie_prep.shapes.regions import prior_box

_SQUASH = {"softmax": "Softmax", "sigmoid": "Sigmoid", "as is": ""}
_UNCUT = "give the pair that it was cut from"


def ssd_head(path: Path) -> Fields | None:
    """The DetectionOutput that STEM.json says was cut off, if it does. UserError for several."""
    heads = read_document(path)["heads"]
    found = [
        Fields(values, f"{path}: head {index}", path.parent, None)
        for index, values in enumerate(heads)
        if isinstance(values, dict) and values.get("type") == "DetectionOutput"
    ]
    if len(found) > 1:
        raise UserError(f"tells of {len(found)} DetectionOutput layers that were cut off", str(path), _UNCUT)
    if found and "none" in found[0].values:
        raise UserError(f"is a DetectionOutput that is not told of: {found[0].text('none')}", found[0].where)
    if found and "layers" in found[0].values:
        text = "is a DetectionOutput of two stages, RefineDet's, which is not done here"
        raise UserError(text, found[0].where, "decode it on the CPU, as its layers say")
    return found[0] if found else None


def with_head(net: Net, head: Fields) -> Net:
    """The net with the layers that `head` describes behind it, batch 1; it ends in DetectionOutput.

    UserError: the head is not of this net, or is not understood.
    """
    return _Behind(net, head).net


class _Behind:
    """A net that grows; `shapes` are those of its blobs before."""

    def __init__(self, net: Net, head: Fields) -> None:
        self.net, self.head, self.shapes = net.copy(), head, infer_shapes(net)
        self.output = head.text("output")
        classes = head.integer("classes", 1)
        squash = head.text("confidence")
        if squash not in _SQUASH:
            raise head.wrong("confidence", ", ".join(_SQUASH))
        count = len(self._sources())
        if not count:
            raise head.wrong("sources", "a list of objects")
        locations = [self._row(number, "location") for number in range(count)]
        confidences = [self._row(number, "confidence") for number in range(count)]
        priors = [self._priors(number) for number in range(count)]
        location, confidence = self._joined("location", locations, 1), self._joined("score", confidences, 1)
        if _SQUASH[squash]:
            shape = {"shape": {"dim": [0, -1, classes]}}
            confidence = self._add("Reshape", "boxes", [confidence], reshape_param=shape)
            told = {"softmax_param": {"axis": 2}} if squash == "softmax" else {}
            confidence = self._add(_SQUASH[squash], "squashed", [confidence], **told)
            confidence = self._add("Flatten", "confidence", [confidence])
        bottoms = [location, confidence, self._joined("priors", priors, 2)]
        self._add("DetectionOutput", "", bottoms, detection_output_param=_parameter(head, classes))
        check_wiring(self.net)

    def _sources(self) -> list[Fields]:
        values = self.head.values.get("sources")
        found = values if isinstance(values, list) else []
        if not all(isinstance(one, dict) for one in found):
            raise self.head.wrong("sources", "a list of objects")
        where = self.head.where
        return [
            Fields(one, f"{where}: source {number}", self.head.folder, None)
            for number, one in enumerate(found)
        ]

    def _add(self, kind: str, suffix: str, bottoms: list[str], **parameters: Any) -> str:
        """Adds a layer, and returns its top. The last one has the name that was cut off."""
        name = f"{self.output}-{suffix}" if suffix else self.output
        proto = LayerParameter(name=name if suffix else self.head.text("layer"), type=kind, **parameters)
        self.net.layers.append(Layer(proto, bottoms, [name], [], self.head.where))
        return name

    def _joined(self, suffix: str, blobs: list[str], axis: int) -> str:
        if len(blobs) == 1:
            return blobs[0]
        return self._add("Concat", suffix, blobs, concat_param={"axis": axis})

    def _blob(self, place: Fields) -> tuple[str, Shape]:
        """What is read there, and its shape; several blobs are joined along the channels."""
        names = place.blobs()
        for name in names:
            if name not in self.shapes:
                hint = "--heads names the .json that was written with the pair"
                raise UserError(f"reads blob {name}, which {self.net.source} has not", place.where, hint)
        if len(names) == 1:
            return names[0], self.shapes[names[0]]
        shapes = [self.shapes[name] for name in names]
        if len({(*shape[:1], *shape[2:]) for shape in shapes}) > 1:
            raise UserError(
                f"the blobs {' + '.join(names)} differ in more than channels", place.where, _UNCUT
            )
        suffix = "-".join(names)
        if (joined := f"{self.output}-{suffix}") not in self.shapes:
            self._joined(suffix, list(names), 1)
            self.shapes[joined] = (shapes[0][0], sum(one[1] for one in shapes), *shapes[0][2:])
        return joined, self.shapes[joined]

    def _row(self, number: int, what: str) -> str:
        """The values of a source in one row, in the order in which they count."""
        place = self._sources()[number].inner(what)
        blob, shape = self._blob(place)
        order = place.integers("order", 0)
        if sorted(order) != list(range(len(shape))):
            raise place.wrong("order", f"the axes of {blob}, which are {len(shape)}")
        if order != sorted(order):
            blob = self._add("Permute", f"{what}{number}", [blob], permute_param={"order": order})
        return self._add("Flatten", f"{what}{number}-row", [blob])

    def _priors(self, number: int) -> str:
        source = self._sources()[number]
        values = source.inner("priors")
        place = source.inner("location")
        blob, shape = self._blob(place)
        size = source.integers("map", 1, 2)
        if len(shape) != 4 or list(shape[2:]) != size:
            text = f"its priors are for a map of {size[0]}x{size[1]}, and blob {blob} is none"
            raise UserError(text, source.where, _UNCUT)
        image, step = values.integers("image", 1, 2), values.numbers("step", 2)
        if min(step) <= 0:
            raise values.wrong("step", "two numbers above 0")
        parameter = PriorBoxParameter(
            min_size=values.numbers("min_size"),
            max_size=values.numbers("max_size"),
            aspect_ratio=values.numbers("aspect_ratio"),
            flip=values.flag("flip"),
            clip=values.flag("clip"),
            variance=values.numbers("variance", 4),
            offset=values.number("offset"),
            img_h=image[0],
            img_w=image[1],
            step_h=step[0],
            step_w=step[1],
        )
        name = self._add(
            "PriorBox", f"priors{number}", [blob, self.net.inputs()[0]], prior_box_param=parameter
        )
        if not _is_near(prior_box(self.net.layers[-1]).sizes, values.values.get("sizes")):
            raise values.wrong("sizes", "those that min_size, max_size and aspect_ratio make")
        return name


def _is_near(sizes: Any, told: Any) -> bool:
    """Whether sizes are those that are told in 7 digits."""
    try:
        values = np.asarray(told, np.float64)
    except (TypeError, ValueError):
        return False
    return values.shape == np.shape(sizes) and bool(np.allclose(values, sizes, rtol=1e-6, atol=0))


def _parameter(head: Fields, classes: int) -> Mapping[str, Any]:
    """The words of the DetectionOutput."""
    code = head.text("code_type")
    if code not in PriorBoxParameter.CodeType.keys():  # noqa: SIM118, as it is no mapping
        raise head.wrong("code_type", ", ".join(PriorBoxParameter.CodeType.keys()))
    nms: dict[str, Any] = {"nms_threshold": head.number("nms_threshold"), "eta": head.number("nms_eta")}
    if (top_k := head.integer("nms_top_k", -1)) >= 0:
        nms["top_k"] = top_k
    found: dict[str, Any] = {
        "num_classes": classes,
        "background_label_id": head.integer("background_label", -1),
        "share_location": head.flag("share_location"),
        "code_type": PriorBoxParameter.CodeType.Value(code),
        "variance_encoded_in_target": head.flag("variance_encoded_in_target"),
        "keep_top_k": head.integer("keep_top_k", -1),
        "nms_param": nms,
    }
    if head.values.get("confidence_threshold", 0) is not None:
        found["confidence_threshold"] = head.number("confidence_threshold")
    return found
