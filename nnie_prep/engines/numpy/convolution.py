"""Convolution, Deconvolution, the depthwise types and Im2col, over two spatial axes.

Inside, blobs are (N, C, H, W): what stands before the channel axis is one batch axis.
"""

from __future__ import annotations

import math

import numpy as np

from nnie_prep.blob import Array
from nnie_prep.engines.numpy.taps import fall
from nnie_prep.engines.numpy.weights import weights
from nnie_prep.net import Layer
from nnie_prep.params import Convolution, Pair
from nnie_prep.shapes.windows import convolution_on, convolved_size

SCRATCH_BYTES = 32 * 2**20  # the unfolded rows of one matrix product


def convolution(layer: Layer, bottoms: list[Array]) -> list[Array]:
    """Convolution, Deconvolution and the depthwise types."""
    kernel, *bias = weights(layer, bottoms)
    window, axis = convolution_on(layer, bottoms[0].shape)
    tops = []
    for bottom in bottoms:
        x = _as_pictures(bottom, axis)
        top_size = convolved_size(window, x.shape[2:])
        if window.is_deconvolution:
            y = _deconvolve(x, kernel, window, top_size)
        elif 1 < window.group == x.shape[1]:
            y = _convolve_depthwise(x, kernel, window, top_size)
        else:
            y = _convolve(x, kernel, window, top_size)
        if bias:
            y += bias[0].reshape(-1, 1, 1)
        tops.append(y.reshape(*bottom.shape[:axis], *y.shape[1:]))
    return tops


def im2col(layer: Layer, bottoms: list[Array]) -> list[Array]:
    """All patches: channel (c * kh + i) * kw + j of the top is tap (i, j) on channel c."""
    window, axis = convolution_on(layer, bottoms[0].shape)
    x = _as_pictures(bottoms[0], axis)
    top_size = convolved_size(window, x.shape[2:])
    y = np.stack([_unfold(picture, window, range(top_size[0]), top_size[1]) for picture in x])
    return [y.reshape(*bottoms[0].shape[:axis], -1, *top_size)]


def _as_pictures(bottom: Array, channel_axis: int) -> Array:
    return bottom.reshape(math.prod(bottom.shape[:channel_axis]), *bottom.shape[channel_axis:])


def _convolve(x: Array, kernel: Array, window: Convolution, top_size: Pair) -> Array:
    """Matrix products of the kernel with unfolded blocks of rows, group by group."""
    batch, channels = x.shape[:2]
    height, width = top_size
    group, outputs = window.group, window.num_output // window.group
    matrix = kernel.reshape(group, outputs, -1)  # (group, out/group, in/group * kh * kw)
    y = np.empty((batch, group, outputs, height * width), dtype=x.dtype)
    bytes_of_row = channels * math.prod(window.kernel) * width * x.itemsize
    rows_at_once = height if _is_pointwise(window) else max(1, SCRATCH_BYTES // bytes_of_row)
    for picture, top in zip(x, y, strict=True):
        for first in range(0, height, rows_at_once):
            rows = range(first, min(first + rows_at_once, height))
            patches = _unfold(picture, window, rows, width).reshape(group, matrix.shape[2], -1)
            np.matmul(matrix, patches, out=top[:, :, rows.start * width : rows.stop * width])
    return y.reshape(batch, window.num_output, height, width)


def _is_pointwise(window: Convolution) -> bool:
    return window.kernel == (1, 1) and window.stride == (1, 1) and window.pad == (0, 0)


def _unfold(picture: Array, window: Convolution, rows: range, width: int) -> Array:
    """The patches (C, kh, kw, rows, width) of (C, H, W) under those rows of the top."""
    if _is_pointwise(window):
        return picture[:, np.newaxis, np.newaxis, rows.start : rows.stop]
    channels, *size = picture.shape
    patches = np.zeros((channels, *window.kernel, len(rows), width), dtype=picture.dtype)
    for i in range(window.kernel[0]):
        start = rows.start * window.stride[0] + i * window.dilation[0] - window.pad[0]
        to_rows, from_rows = fall(len(rows), start, window.stride[0], size[0])
        for j in range(window.kernel[1]):
            start = j * window.dilation[1] - window.pad[1]
            to_columns, from_columns = fall(width, start, window.stride[1], size[1])
            patches[:, i, j, to_rows, to_columns] = picture[:, from_rows, from_columns]
    return patches


def _convolve_depthwise(x: Array, kernel: Array, window: Convolution, top_size: Pair) -> Array:
    """One input channel to a group: tap by tap, since matrix products would be vectors."""
    batch, channels, *size = x.shape
    outputs = window.num_output // channels
    taps = kernel.reshape(channels, outputs, *window.kernel)
    y = np.zeros((batch, channels, outputs, *top_size), dtype=x.dtype)
    for i in range(window.kernel[0]):
        start = i * window.dilation[0] - window.pad[0]
        to_rows, from_rows = fall(top_size[0], start, window.stride[0], size[0])
        for j in range(window.kernel[1]):
            start = j * window.dilation[1] - window.pad[1]
            to_columns, from_columns = fall(top_size[1], start, window.stride[1], size[1])
            part = x[:, :, np.newaxis, from_rows, from_columns]
            y[..., to_rows, to_columns] += part * taps[:, :, i, j, np.newaxis, np.newaxis]
    return y.reshape(batch, window.num_output, *top_size)


def _deconvolve(x: Array, kernel: Array, window: Convolution, top_size: Pair) -> Array:
    """Each tap spreads its product with the whole bottom over the top, `stride` apart."""
    batch, channels, *size = x.shape
    group, outputs = window.group, window.num_output // window.group
    inputs = channels // group
    pixels = x.reshape(batch, group, inputs, -1)
    # (in, out/group, kh, kw) -> (kh, kw, group, out/group, in/group)
    taps = np.ascontiguousarray(
        kernel.reshape(group, inputs, outputs, *window.kernel).transpose(3, 4, 0, 2, 1)
    )
    y = np.zeros((batch, group, outputs, *top_size), dtype=x.dtype)
    for i in range(window.kernel[0]):
        start = i * window.dilation[0] - window.pad[0]
        from_rows, to_rows = fall(size[0], start, window.stride[0], top_size[0])
        for j in range(window.kernel[1]):
            start = j * window.dilation[1] - window.pad[1]
            from_columns, to_columns = fall(size[1], start, window.stride[1], top_size[1])
            product = taps[i, j] * pixels if inputs == 1 else taps[i, j] @ pixels
            product = product.reshape(batch, group, outputs, *size)
            y[..., to_rows, to_columns] += product[..., from_rows, from_columns]
    return y.reshape(batch, window.num_output, *top_size)
