"""Layers that normalize a blob by statistics of it, or by stored ones."""

from __future__ import annotations

import numpy as np

from nnie_prep import params
from nnie_prep.blob import Array
from nnie_prep.engines.numpy.pooling import pool
from nnie_prep.engines.numpy.weights import weights
from nnie_prep.net import Layer


def batch_norm(layer: Layer, bottoms: list[Array]) -> list[Array]:
    """(x - mean) / sqrt(variance + eps) for each channel (batch_norm_layer.cpp, Forward_cpu).

    NVCaffe's of five blobs multiplies by a scale and adds a bias after that, and neither reads the
    correction nor sums its statistics (NVIDIA/caffe 2d23717, the same file, Forward_cpu).
    """
    parameter = params.batch_norm(layer)
    x = bottoms[0]
    per_channel = (-1, *[1] * (x.ndim - 2))
    others = tuple(axis for axis in range(x.ndim) if axis != 1)
    # Statistics of the batch need no weights, and none are asked for then.
    stored = weights(layer, bottoms) if parameter.use_global_stats or parameter.scale_bias else []
    if parameter.use_global_stats:
        mean, variance, factor = stored[:3]
        if not parameter.scale_bias:  # sums, and how much has been summed
            unit = 0 if factor[0] == 0 else 1 / factor[0]
            mean, variance = mean * unit, variance * unit
        y, variance = x - mean.reshape(per_channel), variance.reshape(per_channel)
    else:
        y = x - x.mean(axis=others, keepdims=True)
        variance = np.mean(y * y, axis=others, keepdims=True)
    y /= np.sqrt(variance + x.dtype.type(parameter.eps))
    if parameter.scale_bias:
        scale, bias = (values.reshape(per_channel) for values in stored[3:])
        y = y * scale + bias
    return [y]


def lrn(layer: Layer, bottoms: list[Array]) -> list[Array]:
    """x / (k + alpha/n * sum of squares) ^ beta (lrn_layer.cpp).

    The sum goes over local_size channels, and n is local_size; or, WITHIN_CHANNEL, over a square of
    local_size pixels, n is its area and k is always 1.
    """
    parameter = layer.proto.lrn_param
    x = bottoms[0]
    size, around = parameter.local_size, parameter.local_size // 2
    squares = x * x
    if parameter.norm_region == parameter.WITHIN_CHANNEL:
        window = params.Pooling("AVE", (size, size), (1, 1), (around, around), False, True)
        return [x * np.power(1 + parameter.alpha * pool(squares, window), -parameter.beta)]
    padded = np.pad(squares, ((0, 0), (around, around), (0, 0), (0, 0)))
    total = padded[:, : x.shape[1]].copy()
    for channel in range(1, size):
        total += padded[:, channel : channel + x.shape[1]]
    return [x * np.power(parameter.k + parameter.alpha / size * total, -parameter.beta)]


def mvn(layer: Layer, bottoms: list[Array]) -> list[Array]:
    """(x - mean) / (sqrt(variance) + eps) for each image and channel, or for each image."""
    parameter = layer.proto.mvn_param
    x = bottoms[0].reshape(*bottoms[0].shape, *[1] * (4 - bottoms[0].ndim))
    axes = (1, 2, 3) if parameter.across_channels else (2, 3)
    y = x - x.mean(axis=axes, keepdims=True)
    if parameter.normalize_variance:
        y /= np.sqrt(np.mean(y * y, axis=axes, keepdims=True)) + parameter.eps
    return [y]


def normalize(layer: Layer, bottoms: list[Array]) -> list[Array]:
    """SSD's scale * x / sqrt(sum of squares + eps), over the channels or the whole image."""
    parameter = layer.proto.norm_param
    x = bottoms[0]
    (factors,) = weights(layer, bottoms)
    axes = tuple(range(1, x.ndim)) if parameter.across_spatial else (1,)
    norm = np.sqrt(np.sum(x * x, axis=axes, keepdims=True) + parameter.eps)
    return [x / norm * (factors.reshape(-1, *[1] * (x.ndim - 2)) if factors.ndim else factors)]


def softmax(layer: Layer, bottoms: list[Array]) -> list[Array]:
    x = bottoms[0]
    axis = params.canonical_axis(layer, layer.proto.softmax_param.axis, x.shape)
    y = np.exp(x - x.max(axis=axis, keepdims=True))
    y /= y.sum(axis=axis, keepdims=True)
    return [y]
