"""The tops of layers that make boxes, pool what lies in them, or keep the best; and their parameters.

Formulas are those of the forks that the layers come from: SSD (prior_box_layer.cpp,
detection_output_layer.cpp, bbox_util.cpp), Fast R-CNN (roi_pooling_layer.cpp) and R-FCN
(psroi_pooling_layer.cpp).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from nnie_prep.net import Layer
from nnie_prep.nnie_caffe_pb2 import PriorBoxParameter
from nnie_prep.params import Pair, layer_error
from nnie_prep.shapes.checks import Shape, check_axes, listed

# How many rows their top has is known after the forward pass only; Caffe says 1 before it, and so do
# the functions here. What they keep may change as a whole with the last bit of a bottom.
DATA_DEPENDENT = ("DetectionOutput",)


class PriorBox(NamedTuple):
    """`sizes` are the (width, height) of the boxes at each position, in pixels, in Caffe's order.

    `image` is (height, width), None for that of the second bottom; `step` is the (vertical, horizontal)
    distance of positions in pixels, None where they share the image evenly.
    """

    sizes: tuple[tuple[float, float], ...]
    variance: tuple[float, float, float, float]
    image: Pair | None
    step: tuple[float, float] | None
    offset: float
    clip: bool


def prior_box(layer: Layer) -> PriorBox:
    """The parameters of a PriorBox layer (SSD's prior_box_layer.cpp, LayerSetUp and Forward_cpu)."""
    parameter = layer.proto.prior_box_param
    variance = tuple(parameter.variance) or (0.1,)
    if len(variance) == 1:
        variance *= 4
    if len(variance) != 4 or min(variance) <= 0:
        raise layer_error(layer, f"variance is {list(variance)}; it takes one positive number, or four")
    image = _sides(layer, parameter, "img_size", "img_h", "img_w")
    if image is None and len(layer.bottoms) < 2:
        raise layer_error(layer, "it has neither img_size nor a second bottom", "add the image's blob")
    return PriorBox(
        sizes=_sizes(layer, parameter),
        variance=(variance[0], variance[1], variance[2], variance[3]),
        image=None if image is None else (int(image[0]), int(image[1])),
        step=_sides(layer, parameter, "step", "step_h", "step_w"),
        offset=parameter.offset,
        clip=parameter.clip,
    )


def _sides(
    layer: Layer, parameter: PriorBoxParameter, both: str, vertical: str, horizontal: str
) -> tuple[float, float] | None:
    """`both`, or `vertical` and `horizontal`, or None if nothing is written."""
    if parameter.HasField(vertical) or parameter.HasField(horizontal):
        if parameter.HasField(both):
            raise layer_error(
                layer, f"either {both} or {vertical}/{horizontal} should be specified; not both"
            )
        sides = getattr(parameter, vertical), getattr(parameter, horizontal)
    elif parameter.HasField(both):
        sides = (getattr(parameter, both),) * 2
    else:
        return None
    if min(sides) <= 0:
        raise layer_error(layer, f"{both} is {sides[0]:g} x {sides[1]:g}; both must be positive")
    return sides


def _sizes(layer: Layer, parameter: PriorBoxParameter) -> tuple[tuple[float, float], ...]:
    """For each min_size: its square, that of sqrt(min_size * max_size), one box for each ratio but 1.

    SSD cuts both sizes off to whole pixels there, and so trains with these. A ratio that was there
    before, flipped or not, is left out; a flipped one never is.
    """
    smallest, largest = list(parameter.min_size), list(parameter.max_size)
    if not smallest or not all(0 < size < math.inf for size in smallest):
        raise layer_error(layer, f"min_size is {smallest}; it takes positive numbers of pixels")
    if largest and len(largest) != len(smallest):
        raise layer_error(
            layer, f"{len(largest)} max_size for {len(smallest)} min_size; there must be as many"
        )
    if not all(low < high < math.inf for low, high in zip(smallest, largest, strict=False)):
        raise layer_error(layer, f"max_size {largest} must be greater than min_size {smallest}, and finite")
    ratios = [1.0]
    for ratio in parameter.aspect_ratio:
        if ratio <= 0:
            raise layer_error(layer, f"aspect_ratio is {ratio:g}; it must be positive")
        if all(abs(ratio - other) >= 1e-6 for other in ratios):
            ratios += [ratio, 1 / ratio] if parameter.flip else [ratio]
    sizes = []
    for place, size in enumerate(map(int, smallest)):
        sizes.append((float(size), float(size)))
        if largest:
            sizes.append((math.sqrt(size * int(largest[place])),) * 2)
        for ratio in ratios:
            if abs(ratio - 1) >= 1e-6:
                sizes.append((size * math.sqrt(ratio), size / math.sqrt(ratio)))
    return tuple(sizes)


def prior_box_tops(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """(1, 2, 4 * H * W * boxes at a position): boxes, then variances."""
    for shape in bottoms:
        check_axes(layer, shape, 4, 4)
    return [(1, 2, math.prod(bottoms[0][2:]) * len(prior_box(layer).sizes) * 4)]


def detection_output_tops(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """(1, 1, 1, 7), as Caffe says before the forward pass; the third axis becomes the number of rows."""
    parameter = layer.proto.detection_output_param
    if parameter.num_classes < 1:
        raise layer_error(
            layer, "num_classes is missing or 0", "write detection_output_param { num_classes: .. }"
        )
    nms = parameter.nms_param
    if nms.nms_threshold < 0:
        raise layer_error(layer, f"nms_threshold is {nms.nms_threshold:g}; it must not be negative")
    if not 0 < nms.eta <= 1:
        raise layer_error(layer, f"eta is {nms.eta:g}; it must be above 0 and at most 1")
    locations, confidences, priors = bottoms[:3]  # RefineDet has those of its first stage behind them
    if len(priors) < 3 or priors[:2] != (1, 2) or math.prod(priors[2:]) % 4:
        raise layer_error(layer, f"its priors have shape {priors}; PriorBox makes (1, 2, 4 * priors)")
    count = math.prod(priors[2:]) // 4
    sets = 1 if parameter.share_location else parameter.num_classes
    for shape, values, what in (
        (locations, count * sets * 4, "locations"),
        (confidences, count * parameter.num_classes, "confidences"),
    ):
        if len(shape) < 2 or shape[0] != locations[0] or math.prod(shape[1:]) != values:
            raise layer_error(
                layer, f"its {what} have shape {shape}; {count} priors need ({locations[0]}, {values})"
            )
    return [(1, 1, 1, 7)]


def roi_pooling(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """(regions, C, pooled_h, pooled_w)"""
    parameter = layer.proto.roi_pooling_param
    if min(parameter.pooled_h, parameter.pooled_w) < 1:
        raise layer_error(
            layer,
            "pooled_h and pooled_w are required",
            "write roi_pooling_param { pooled_h: .. pooled_w: .. }",
        )
    _check_regions(layer, bottoms)
    return [(bottoms[1][0], bottoms[0][1], parameter.pooled_h, parameter.pooled_w)]


def psroi_pooling(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """(regions, output_dim, group_size, group_size)"""
    parameter = layer.proto.psroi_pooling_param
    outputs, group = parameter.output_dim, parameter.group_size
    if min(outputs, group) < 1:
        raise layer_error(layer, f"output_dim is {outputs}, group_size {group}; both must be at least 1")
    _check_regions(layer, bottoms)
    if bottoms[0][1] != outputs * group * group:
        raise layer_error(
            layer, f"output_dim {outputs} of group_size {group} needs {outputs * group * group} channels; "
            f"its bottom has shape {bottoms[0]}"
        )  # fmt: skip
    return [(bottoms[1][0], outputs, group, group)]


def _check_regions(layer: Layer, bottoms: Sequence[Shape]) -> None:
    check_axes(layer, bottoms[0], 4, 4)
    if len(bottoms[1]) < 2 or math.prod(bottoms[1][1:]) != 5:
        raise layer_error(
            layer, f"its bottoms are {listed(bottoms)}; the second takes 5 values for each region"
        )
