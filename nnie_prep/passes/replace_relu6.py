"""Replace ReLU6 and Clip by the difference of two ReLUs.

    before:  x -> ReLU6 -> y        after:  relu(x) - relu(x - 6) -> y

And Clip by relu(x - min) - relu(x - max) + min; a bound of float32's largest magnitude is none.

Declined where it is in place on an input of the net, or on memory that others share, and for a Clip
without a bound, or with bounds that are not in order.
"""

from __future__ import annotations

import math

from nnie_prep.blob_map import Note
from nnie_prep.composites import Add, clip
from nnie_prep.net import Layer, Net
from nnie_prep.passes.replacement import replace_activation

_NO_BOUND = 3.4e38


def replace_relu6(net: Net) -> list[Note]:
    """Replaces each ReLU6 and Clip."""
    return [_replaced(net, layer) for layer in list(net.layers) if layer.type in ("ReLU6", "Clip")]


def _replaced(net: Net, layer: Layer) -> Note:
    low, high, slope = _bounds(layer)
    reason = "it bounds nothing" if (low, high) == (-math.inf, math.inf) else ""
    if not low < high:
        reason = f"its bounds {low:g} and {high:g} are not in order"

    def form(add: Add, blob: str) -> str:
        return clip(add, blob, low, high, slope)

    if reason:
        return Note(layer.name, f"{layer.type} not replaced: {reason}", changed=False)
    return replace_activation(net, layer, form, "ReLU")


def _bounds(layer: Layer) -> tuple[float, float, float]:
    """The lower and upper bound, infinite where there is none, and the slope below the lower."""
    if layer.type == "ReLU6":
        parameter = layer.proto.relu6_param
        return 0.0, parameter.threshold, parameter.negative_slope
    low, high = layer.proto.clip_param.min, layer.proto.clip_param.max
    return (-math.inf if low <= -_NO_BOUND else low), (math.inf if high >= _NO_BOUND else high), 0.0
