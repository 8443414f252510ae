"""Layers that treat each element by itself: y = f(x).

Written as Caffe writes them, so that infinities and NaN come out alike. Each returns a new array.
"""

from __future__ import annotations

import numpy as np

from nnie_prep.blob import Array
from nnie_prep.engines.numpy.weights import weights
from nnie_prep.net import Layer
from nnie_prep.params import is_training, layer_error


def relu(layer: Layer, bottoms: list[Array]) -> list[Array]:
    return [_leaky(bottoms[0], layer.proto.relu_param.negative_slope)]


def prelu(layer: Layer, bottoms: list[Array]) -> list[Array]:
    (slopes,) = weights(layer, bottoms)
    if slopes.ndim:
        slopes = slopes.reshape(-1, *[1] * (bottoms[0].ndim - 2))
    return [_leaky(bottoms[0], slopes)]


def _leaky(x: Array, slope: float | Array) -> Array:
    """max(x, 0) + slope * min(x, 0)"""
    y = np.minimum(x, 0)
    y *= slope
    y += np.maximum(x, 0)
    return y


def relu6(layer: Layer, bottoms: list[Array]) -> list[Array]:
    """min(max(x, 0), threshold) + negative_slope * min(x, 0)"""
    parameter, x = layer.proto.relu6_param, bottoms[0]
    y = np.minimum(x, 0)
    y *= parameter.negative_slope
    y += np.minimum(np.maximum(x, 0), parameter.threshold)
    return [y]


def crelu(layer: Layer, bottoms: list[Array]) -> list[Array]:
    """max(x, 0) and max(-x, 0), side by side along the channels."""
    return [np.concatenate([np.maximum(bottoms[0], 0), np.maximum(-bottoms[0], 0)], axis=1)]


def elu(layer: Layer, bottoms: list[Array]) -> list[Array]:
    x = bottoms[0]
    return [np.maximum(x, 0) + layer.proto.elu_param.alpha * (np.exp(np.minimum(x, 0)) - 1)]


def sigmoid(layer: Layer, bottoms: list[Array]) -> list[Array]:
    return [_sigmoid(bottoms[0])]


def _sigmoid(x: Array) -> Array:
    return 0.5 * np.tanh(0.5 * x) + 0.5


def swish(layer: Layer, bottoms: list[Array]) -> list[Array]:
    x = bottoms[0]
    return [x * _sigmoid(layer.proto.swish_param.beta * x)]


def tanh(layer: Layer, bottoms: list[Array]) -> list[Array]:
    return [np.tanh(bottoms[0])]


def absval(layer: Layer, bottoms: list[Array]) -> list[Array]:
    return [np.abs(bottoms[0])]


def power(layer: Layer, bottoms: list[Array]) -> list[Array]:
    """(shift + scale * x) ^ power, each step only where it is not neutral (power_layer.cpp)."""
    parameter = layer.proto.power_param
    x = bottoms[0]
    if parameter.power * parameter.scale == 0:
        # Not computed from x at all: NaN and infinities do not reach the top.
        return [np.full_like(x, np.power(x.dtype.type(parameter.shift), x.dtype.type(parameter.power)))]
    y = x * parameter.scale if parameter.scale != 1 else x
    if parameter.shift != 0:
        y = y + parameter.shift
    if parameter.power == 0.5:
        y = np.where(y == -np.inf, np.inf, y)  # what C's pow makes of it; NumPy takes a root
    if parameter.power != 1:
        y = np.power(y, parameter.power)
    return [y]


def exp(layer: Layer, bottoms: list[Array]) -> list[Array]:
    """base ^ (shift + scale * x), base -1 being e (exp_layer.cpp)."""
    parameter = layer.proto.exp_param
    log_base = _log_base(layer, parameter.base)
    y = np.exp(bottoms[0] * (log_base * parameter.scale))
    if parameter.shift != 0:
        y *= float(np.exp(log_base * parameter.shift))
    return [y]


def log(layer: Layer, bottoms: list[Array]) -> list[Array]:
    """log to the base of (shift + scale * x), base -1 being e (log_layer.cpp)."""
    parameter = layer.proto.log_param
    log_base = _log_base(layer, parameter.base)
    if log_base == 0:
        raise layer_error(layer, "base is 1, which has no logarithms")
    return [np.log(bottoms[0] * parameter.scale + parameter.shift) * (1 / log_base)]


def _log_base(layer: Layer, base: float) -> float:
    if base == -1:
        return 1.0
    if not 0 < base < float("inf"):
        raise layer_error(layer, f"base is {base}; it must be positive, or -1 for e")
    return float(np.log(base))


def bnll(layer: Layer, bottoms: list[Array]) -> list[Array]:
    """log(1 + e^x)"""
    return [_softplus(bottoms[0])]


def _softplus(x: Array) -> Array:
    y: Array = np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))
    return y


def mish(layer: Layer, bottoms: list[Array]) -> list[Array]:
    """x * tanh(log(1 + e^x))"""
    return [bottoms[0] * np.tanh(_softplus(bottoms[0]))]


def threshold(layer: Layer, bottoms: list[Array]) -> list[Array]:
    """1 where x is greater, else 0."""
    return [(bottoms[0] > layer.proto.threshold_param.threshold).astype(bottoms[0].dtype)]


def clip(layer: Layer, bottoms: list[Array]) -> list[Array]:
    """max(min, min(x, max)), where NaN becomes min as std::max has it (clip_layer.cpp)."""
    parameter = layer.proto.clip_param
    return [np.fmax(np.minimum(bottoms[0], parameter.max), parameter.min)]


def dropout(layer: Layer, bottoms: list[Array]) -> list[Array]:
    if is_training(layer):
        raise layer_error(layer, "it says phase: TRAIN, and then its top is random", "remove the phase")
    return [bottoms[0]]
