"""What Caffe checks of a layer's bottoms and tops before it looks at the parameters."""

from __future__ import annotations

from collections.abc import Sequence

from nnie_prep import params
from nnie_prep.net import Layer
from nnie_prep.params import layer_error

Shape = tuple[int, ...]

MOST_ELEMENTS = 2**31 - 1  # blob.cpp, Reshape: "blob size exceeds INT_MAX"

_MANY = 10**9

# Fewest and most bottoms, fewest and most tops (...BottomBlobs() and ...TopBlobs() in Caffe's
# headers); one of each where a type is not listed.
_COUNTS: dict[str, tuple[int, int, int, int]] = {
    "Axpy": (3, 3, 1, 1),
    "BatchReindex": (2, 2, 1, 1),
    "Bias": (1, 2, 1, 1),
    "Concat": (1, _MANY, 1, 1),
    "Convolution": (1, _MANY, 1, _MANY),
    "Crop": (2, 2, 1, 1),
    "Deconvolution": (1, _MANY, 1, _MANY),
    "DetectionOutput": (3, 5, 1, 1),  # with more than SSD's three, RefineDet's
    "Eltwise": (2, _MANY, 1, 1),
    "Input": (0, 0, 1, _MANY),
    "Parameter": (0, 0, 1, 1),
    "Pooling": (1, 1, 1, 2),
    "PriorBox": (1, 2, 1, 1),
    "PSROIPooling": (2, 2, 1, 1),
    "ROIPooling": (2, 2, 1, 1),
    "Scale": (1, 2, 1, 1),
    "Silence": (1, _MANY, 0, 0),
    "Slice": (1, 1, 1, _MANY),
    "Split": (1, 1, 1, _MANY),
    "Upsample": (1, 2, 1, 1),  # with two SegNet's
} | dict.fromkeys(params.DEPTHWISE_TYPES, (1, _MANY, 1, _MANY))

# Caffe computes these right where the top is the bottom; others overwrite what they still read.
_IN_PLACE = (
    *("BatchNorm", "Bias", "BNLL", "Clip", "Dropout", "ELU", "Exp", "Log", "Mish", "MVN", "Power"),
    *("PReLU", "ReLU", "ReLU6", "Scale", "Sigmoid", "Softmax", "Swish", "TanH", "Threshold"),
)


def check_counts(layer: Layer) -> None:
    """Raises UserError where the layer has more or fewer bottoms or tops than its type allows."""
    fewest_bottoms, most_bottoms, fewest_tops, most_tops = _COUNTS.get(layer.type, (1, 1, 1, 1))
    if layer.type == "Pooling" and params.pooling(layer).method != "MAX":
        most_tops = 1
    for names, fewest, most, what in (
        (layer.bottoms, fewest_bottoms, most_bottoms, "bottom"),
        (layer.tops, fewest_tops, most_tops, "top"),
    ):
        if not fewest <= len(names) <= most:
            wanted = f"{fewest} or more" if most == _MANY else _range(fewest, most)
            count = f"{len(names)} {what}{'s' * (len(names) != 1)}"
            raise layer_error(layer, f"it has {count}; Caffe wants {wanted}")


def check_in_place(layer: Layer) -> None:
    """Raises UserError where a top is a bottom too, and Caffe refuses that or computes nonsense."""
    for name in layer.tops:
        if name not in layer.bottoms or layer.type in _IN_PLACE:
            continue
        if layer.type in ("Concat", "Slice") and len(layer.bottoms) == len(layer.tops) == 1:
            continue
        is_product = layer.type == "Eltwise" and params.eltwise(layer).operation == "PROD"
        if not (is_product and name in layer.bottoms[:2]):
            raise layer_error(layer, f"it cannot write blob {name!r} in place", "rename its top")


def check_axes(layer: Layer, shape: Shape, fewest: int, most: int) -> None:
    """Raises UserError where the shape has fewer or more axes."""
    if not fewest <= len(shape) <= most:
        raise layer_error(layer, f"its bottom has shape {shape}; it must have {_range(fewest, most)} axes")


def listed(shapes: Sequence[Shape]) -> str:
    """Shapes for a message."""
    return " and ".join(str(shape) for shape in shapes) or "no bottom"


def _range(fewest: int, most: int) -> str:
    return str(fewest) if fewest == most else f"{fewest} to {most}"
