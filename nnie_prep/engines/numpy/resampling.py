"""Interp: layers whose tops are weighted means of a bottom's pixels."""

from __future__ import annotations

import numpy as np

from nnie_prep.blob import Array
from nnie_prep.net import Layer
from nnie_prep.shapes import top_shapes


def interp(layer: Layer, bottoms: list[Array]) -> list[Array]:
    """Bilinear, with the pixels of the corners where they were (DeepLab's and PSPNet's interp_layer.cpp)."""
    parameter, x = layer.proto.interp_param, bottoms[0]
    (top,) = top_shapes(layer, [x.shape])
    cropped = x[
        :,
        :,
        -parameter.pad_beg : x.shape[2] + parameter.pad_end,
        -parameter.pad_beg : x.shape[3] + parameter.pad_end,
    ]
    return [_resize_axis(_resize_axis(cropped, 2, top[2]), 3, top[3])]


def _resize_axis(x: Array, axis: int, size: int) -> Array:
    """Linear along one axis, from the first element to the last; a single one is the first."""
    last = x.shape[axis] - 1
    places = np.arange(size) * (last / (size - 1) if size > 1 else 0.0)
    before = np.minimum(places.astype(np.int64), last)
    weights = (places - before).astype(x.dtype).reshape(-1, *[1] * (x.ndim - axis - 1))
    y: Array = x.take(before, axis) * (1 - weights) + x.take(np.minimum(before + 1, last), axis) * weights
    return y
