"""Sums and products of blobs, and reductions."""

from __future__ import annotations

import math

import numpy as np

from nnie_prep import params
from nnie_prep.blob import Array
from nnie_prep.engines.numpy.weights import weights
from nnie_prep.net import Layer
from nnie_prep.params import canonical_axis
from nnie_prep.shapes.tops import coefficient_shape


def eltwise(layer: Layer, bottoms: list[Array]) -> list[Array]:
    parameter = params.eltwise(layer)
    y = bottoms[0]
    if parameter.operation == "SUM":
        y = y * parameter.coefficients[0]
        for x, coefficient in zip(bottoms[1:], parameter.coefficients[1:], strict=True):
            y += x * coefficient
    elif parameter.operation == "PROD":
        for x in bottoms[1:]:
            y = y * x
    else:
        # With NaN the comparisons decide as they stand in eltwise_layer.cpp: the first pair keeps
        # its second, later bottoms must be greater.
        y = np.where(bottoms[0] > bottoms[1], bottoms[0], bottoms[1])
        for x in bottoms[2:]:
            y = np.where(x > y, x, y)
    return [y]


def axpy(layer: Layer, bottoms: list[Array]) -> list[Array]:
    """SENet's a * x + y, with one a for each image and channel."""
    factors, x, y = bottoms
    return [_spread(factors.reshape(x.shape[:2]), 0, x) * x + y]


def scale(layer: Layer, bottoms: list[Array]) -> list[Array]:
    blobs = weights(layer, bottoms)
    factors = bottoms[1] if len(bottoms) == 2 else blobs[0]
    axis, _ = coefficient_shape(layer, [bottom.shape for bottom in bottoms])
    y = bottoms[0] * _spread(factors, axis, bottoms[0])
    if params.scale(layer).bias:
        y += _spread(blobs[-1], axis, bottoms[0])
    return [y]


def bias(layer: Layer, bottoms: list[Array]) -> list[Array]:
    summand = bottoms[1] if len(bottoms) == 2 else weights(layer, bottoms)[0]
    axis, _ = coefficient_shape(layer, [bottom.shape for bottom in bottoms])
    return [bottoms[0] + _spread(summand, axis, bottoms[0])]


def _spread(coefficients: Array, axis: int, x: Array) -> Array:
    """The coefficients with axes of extent 1 behind, so that they stand on `axis` of x and those after it."""
    return coefficients.reshape(*coefficients.shape, *[1] * (x.ndim - axis - coefficients.ndim))


def reduction(layer: Layer, bottoms: list[Array]) -> list[Array]:
    """SUM, ASUM, SUMSQ or MEAN over all axes from `axis` on, times coeff."""
    parameter = layer.proto.reduction_param
    x = bottoms[0]
    axis = canonical_axis(layer, parameter.axis, x.shape)
    rows = x.reshape(*x.shape[:axis], math.prod(x.shape[axis:]))
    coefficient = parameter.coeff
    if parameter.operation == parameter.ASUM:
        rows = np.abs(rows)
    elif parameter.operation == parameter.SUMSQ:
        rows = rows * rows
    elif parameter.operation == parameter.MEAN:
        coefficient /= rows.shape[-1]
    return [np.asarray(rows.sum(axis=-1) * coefficient, dtype=x.dtype)]


def argmax(layer: Layer, bottoms: list[Array]) -> list[Array]:
    """The top_k indices in falling order of value; of equal values the later comes first."""
    parameter = layer.proto.argmax_param
    x = bottoms[0]
    if parameter.HasField("axis"):
        axis = canonical_axis(layer, parameter.axis, x.shape)
        indices = _largest(x, parameter.top_k, axis)
        return [np.take_along_axis(x, indices, axis) if parameter.out_max_val else indices.astype(x.dtype)]
    rows = x.reshape(x.shape[0], math.prod(x.shape[1:]))
    indices = _largest(rows, parameter.top_k, 1)
    parts = [indices.astype(x.dtype)]
    if parameter.out_max_val:
        parts.append(np.take_along_axis(rows, indices, 1))
    top = np.stack(parts, axis=1)  # (N, 1 or 2, top_k)
    return [top.reshape(*top.shape, *[1] * (x.ndim - 3))]


def _largest(x: Array, count: int, axis: int) -> Array:
    backwards = np.flip(x, axis)
    order = np.argsort(-backwards, axis=axis, kind="stable")
    places: Array = x.shape[axis] - 1 - order.take(range(count), axis=axis)
    return places


def inner_product(layer: Layer, bottoms: list[Array]) -> list[Array]:
    product = params.inner_product(layer)
    blobs = weights(layer, bottoms)  # (out, in), or (in, out) if transposed
    x = bottoms[0]
    axis = canonical_axis(layer, product.axis, x.shape)
    rows = x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))
    y = rows @ (blobs[0] if product.transpose else blobs[0].T)
    if product.bias:
        y += blobs[1]
    return [y.reshape(*x.shape[:axis], product.num_output)]


def embed(layer: Layer, bottoms: list[Array]) -> list[Array]:
    """Rows of the weights, chosen by the bottom's values."""
    blobs = weights(layer, bottoms)
    y = blobs[0][indices(layer, bottoms[0], len(blobs[0]))]
    return [y + blobs[1] if len(blobs) == 2 else y]


def batch_reindex(layer: Layer, bottoms: list[Array]) -> list[Array]:
    """The images of the first bottom, chosen by the values of the second."""
    return [bottoms[0][indices(layer, bottoms[1], len(bottoms[0]))]]


def indices(layer: Layer, values: Array, count: int) -> Array:
    """A blob's values as indices, rounded towards zero as C++ does; UserError outside of 0..count-1."""
    if not ((values >= 0) & (values < count)).all():
        raise params.layer_error(
            layer, f"an index is outside of 0..{count - 1}: {values.min()}..{values.max()}"
        )
    return values.astype(np.int64)
