"""Pooling and SPP."""

from __future__ import annotations

import numpy as np

from nnie_prep import params
from nnie_prep.blob import Array
from nnie_prep.engines.numpy.taps import fall
from nnie_prep.net import Layer
from nnie_prep.params import Pooling
from nnie_prep.shapes.windows import pooled_size

LOWEST = float(-np.finfo(np.float32).max)  # Caffe's -FLT_MAX, in double nets too


def pooling(layer: Layer, bottoms: list[Array]) -> list[Array]:
    window = params.pooling(layer)
    tops = [pool(bottoms[0], window)]
    if len(layer.tops) == 2:
        tops.append(_places_of_maxima(bottoms[0], window))
    return tops


def spp(layer: Layer, bottoms: list[Array]) -> list[Array]:
    """Poolings of 1, 2 x 2, 4 x 4 .. windows, side by side (spp_layer.cpp)."""
    x = bottoms[0]
    tops = [pool(x, window) for window in params.pyramid(layer, x.shape[2:])]
    if len(tops) == 1:
        return tops
    return [np.concatenate([top.reshape(len(x), -1) for top in tops], axis=1)]


def pool(x: Array, window: Pooling) -> Array:
    """MAX or AVE pooling of (N, C, H, W) (pooling_layer.cpp, Forward_cpu).

    MAX leaves out padding and NaN, and a window without elements gives -FLT_MAX. AVE divides by the
    area of the window, cut off where the padding ends: a window without elements gives 0 or NaN.
    """
    height, width = x.shape[2:]
    kernel = window.kernel_on((height, width))
    top_size = pooled_size(window, (height, width))
    y = x
    for axis in (0, 1):
        y = _pool_axis(
            y, axis + 2, window.method, kernel[axis], window.stride[axis], window.pad[axis], top_size[axis]
        )
    if window.method == "AVE":
        lengths = []
        for axis, extent in enumerate((height, width)):
            starts = np.arange(top_size[axis]) * window.stride[axis] - window.pad[axis]
            lengths.append(np.minimum(starts + kernel[axis], extent + window.pad[axis]) - starts)
        y /= np.outer(*lengths).astype(x.dtype)
    return y


def _pool_axis(x: Array, axis: int, method: str, kernel: int, stride: int, pad: int, places: int) -> Array:
    """Maxima or sums under the windows along one axis."""
    shape = list(x.shape)
    shape[axis] = places
    y = np.full(shape, LOWEST if method == "MAX" else 0, dtype=x.dtype)
    y_along, x_along = np.moveaxis(y, axis, 0), np.moveaxis(x, axis, 0)
    combine = np.fmax if method == "MAX" else np.add
    for tap in range(kernel):
        to, taken = fall(places, tap - pad, stride, x.shape[axis])
        combine(y_along[to], x_along[taken], out=y_along[to])
    return y


def _places_of_maxima(x: Array, window: Pooling) -> Array:
    """The second top of MAX pooling: h * width + w of the first maximum, -1 where there is none."""
    height, width = x.shape[2:]
    kernel = window.kernel_on((height, width))
    top_size = pooled_size(window, (height, width))
    best = np.full((*x.shape[:2], *top_size), LOWEST, dtype=x.dtype)
    places = np.full_like(best, -1)
    for i in range(kernel[0]):
        to_rows, rows = fall(top_size[0], i - window.pad[0], window.stride[0], height)
        for j in range(kernel[1]):
            to_columns, columns = fall(top_size[1], j - window.pad[1], window.stride[1], width)
            here = (..., to_rows, to_columns)
            found = x[..., rows, columns]
            index = np.arange(height)[rows, np.newaxis] * width + np.arange(width)[columns]
            greater = found > best[here]
            best[here] = np.where(greater, found, best[here])
            places[here] = np.where(greater, index, places[here])
    return places
