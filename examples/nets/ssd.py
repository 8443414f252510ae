"""The heads of an SSD, arXiv 1512.02325, as its authors' Caffe writes them.

Each map gets convolutions for locations and confidences, brought to (N, values) by Permute and Flatten, and
a PriorBox; Concats join the maps, a Reshape and a Flatten stand about the Softmax, DetectionOutput decodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from caffe_layers import Draft

VARIANCE = [0.1, 0.1, 0.2, 0.2]


class Map(NamedTuple):
    """A blob that boxes are predicted from; sizes are in pixels, no max_size means no square between."""

    blob: str
    min_size: float
    max_size: float | None
    aspect_ratios: Sequence[float]

    def priors(self) -> int:
        """The boxes of each cell; each aspect ratio counts twice, as itself and its inverse."""
        return 1 + (self.max_size is not None) + 2 * len(self.aspect_ratios)


Predict = Callable[[Draft, str, str, int], str]  # draft, name, bottom, outputs -> top


def ssd_heads(draft: Draft, maps: Sequence[Map], classes: int, predict: Predict, activation: str) -> None:
    """`predict` adds the convolutions of a head; `activation` is Softmax or Sigmoid; class 0 is
    the background."""
    joined: dict[str, list[str]] = {"loc": [], "conf": [], "priorbox": []}
    for one in maps:
        for kind, values in (("loc", 4), ("conf", classes)):
            name = f"{one.blob}_mbox_{kind}"
            predict(draft, name, one.blob, one.priors() * values)
            order = {"order": [0, 2, 3, 1]}
            draft.layer("Permute", f"{name}_perm", tops=[f"{name}_perm"], permute_param=order)
            joined[kind].append(
                draft.layer("Flatten", f"{name}_flat", tops=[f"{name}_flat"], flatten_param={"axis": 1})
            )
        joined["priorbox"].append(_prior_box(draft, one))
    for kind, tops in joined.items():
        axis = {"axis": 2 if kind == "priorbox" else 1}
        draft.layer("Concat", f"mbox_{kind}", bottoms=tops, tops=[f"mbox_{kind}"], concat_param=axis)
    _detections(draft, classes, activation)


def _prior_box(draft: Draft, one: Map) -> str:
    param: dict[str, Any] = {"min_size": [one.min_size], "aspect_ratio": list(one.aspect_ratios)}
    param |= {"max_size": [one.max_size]} if one.max_size is not None else {}
    param |= {"flip": True, "clip": False, "variance": VARIANCE, "offset": 0.5}
    name = f"{one.blob}_mbox_priorbox"
    return draft.layer("PriorBox", name, bottoms=[one.blob, "data"], tops=[name], prior_box_param=param)


def _detections(draft: Draft, classes: int, activation: str) -> None:
    draft.layer(
        "Reshape", "mbox_conf_reshape", bottoms=["mbox_conf"], tops=["mbox_conf_reshape"],
        reshape_param={"shape": {"dim": [0, -1, classes]}},
    )  # fmt: skip
    name = f"mbox_conf_{activation.lower()}"
    param: dict[str, Any] = {"softmax_param": {"axis": 2}} if activation == "Softmax" else {}
    draft.layer(activation, name, tops=[name], **param)
    draft.layer("Flatten", "mbox_conf_flatten", tops=["mbox_conf_flatten"], flatten_param={"axis": 1})
    draft.layer(
        "DetectionOutput", "detection_out",
        bottoms=["mbox_loc", "mbox_conf_flatten", "mbox_priorbox"], tops=["detection_out"],
        detection_output_param={
            "num_classes": classes, "share_location": True, "background_label_id": 0,
            "nms_param": {"nms_threshold": 0.45, "top_k": 100}, "code_type": "CENTER_SIZE",
            "keep_top_k": 100, "confidence_threshold": 0.25,
        },
    )  # fmt: skip
