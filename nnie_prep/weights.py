"""Arithmetic on weights: what BatchNorm and Scale do to each channel, and taking that into other weights.

All arithmetic is float64; weights are rounded once, to float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

Weights: TypeAlias = "NDArray[np.float32]"
Vector: TypeAlias = "NDArray[np.float64]"

# Where the output channels of weights are:
#   "out, in"  (out, in/group, ...) Convolution of any kind; (out, in) InnerProduct
#   "in, out"  (in, out/group, ...) Deconvolution; (in, out) InnerProduct with `transpose`
Layout = Literal["out, in", "in, out"]


class Factors(NamedTuple):
    """y = scale * x + shift in each channel. Both are (channels,), or () where all channels are alike."""

    scale: Vector
    shift: Vector

    def then(self, following: Factors) -> Factors:
        """What both do, one after the other."""
        return Factors(self.scale * following.scale, self.shift * following.scale + following.shift)

    def over(self, channels: int) -> Factors:
        """The same, as (channels,)."""
        return Factors(*(np.broadcast_to(values, (channels,)) for values in self))

    def fit(self, channels: int) -> bool:
        """Whether they can be applied to so many channels."""
        return self.scale.ndim == 0 or self.scale.size == channels

    def equal(self, other: Factors) -> bool:
        """Whether both do the same, to the last bit."""
        return all(np.array_equal(mine, its) for mine, its in zip(self, other, strict=True))

    def are_finite(self) -> bool:
        """Whether all are finite in float32 too."""
        with np.errstate(over="ignore"):
            return bool(all(np.isfinite(values.astype(np.float32)).all() for values in self))

    def are_identity(self) -> bool:
        """Whether float32 arithmetic cannot tell y from x."""
        return bool((self.scale.astype(np.float32) == 1).all() and (self.shift.astype(np.float32) == 0).all())


def batchnorm_factors(mean: ArrayLike, variance: ArrayLike, factor: float, eps: float) -> Factors:
    """What a BatchNorm with stored statistics does.

    Caffe stores sums: `mean` and `variance` (channels,) are divided by `factor`, the third blob,
    and a factor of 0 means that both are 0 (caffe src/caffe/layers/batch_norm_layer.cpp:98-103).
    Where variance/factor + eps is not positive, the result is not finite.
    """
    correction = 0.0 if factor == 0 else 1.0 / float(factor)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        scale = 1.0 / np.sqrt(vector(variance) * correction + eps)
        return Factors(scale, -vector(mean) * correction * scale)


def scale_factors(scale: ArrayLike, bias: ArrayLike | None) -> Factors:
    """What a Scale does: `scale` and, if it has one, `bias` are (channels,)."""
    factors = vector(scale)
    return Factors(factors, np.zeros_like(factors) if bias is None else vector(bias))


def scale_output_channels(weights: Weights, scale: Vector, layout: Layout, group: int = 1) -> Weights:
    """The weights times the scale of the output channel that each belongs to.

    In "in, out" output channel o of group g = o // (out/group) is at
    weights[g * in/group : (g + 1) * in/group, o - g * out/group]; in "out, in" at weights[o].
    """
    channels = len(scale)
    if layout == "out, in":
        blocks = weights.reshape(1, 1, channels, -1)
    else:
        assert weights.shape[1] * group == channels, (weights.shape, group, channels)
        blocks = weights.reshape(group, weights.shape[0] // group, channels // group, -1)
    factors = scale.reshape(blocks.shape[0], 1, blocks.shape[2], 1)
    scaled = np.empty(blocks.shape, dtype=np.float32)
    _multiply(blocks, factors, scaled)
    return scaled.reshape(weights.shape)


def scale_in_pieces(pieces: Iterable[memoryview], scale: Vector, row: int) -> Iterator[memoryview]:
    """What scale_output_channels makes of weights (out, ...), for which `row` is the size of the rest.

    Piece by piece: each holds whole rows, as contiguous float32, and is valid until the next is asked for.
    """
    first, buffer = 0, np.empty((0, row), np.float32)
    for piece in pieces:
        values = np.frombuffer(piece, np.float32).reshape(-1, row)
        if len(values) > len(buffer):
            buffer = np.empty_like(values)
        factors = scale[first : first + len(values), None]
        _multiply(values, factors, buffer[: len(values)])
        first += len(values)
        yield buffer[: len(values)].data


def scale_input_channels(
    weights: Weights, scale: Vector, outputs: int, layout: Layout, group: int = 1
) -> Weights:
    """The weights times the scale (in,) of the input channel that each belongs to.

    Where an InnerProduct has h * w inputs to a channel, they lie one behind the other.
    """
    scaled = np.empty(weights.shape, dtype=np.float32)
    _multiply(
        _by_input_channel(weights, len(scale), outputs, layout, group),
        scale.reshape(group, 1, -1, 1, 1),
        _by_input_channel(scaled, len(scale), outputs, layout, group),
    )
    return scaled


def _multiply(weights: Weights, factors: Vector, product: Weights) -> None:
    """Sets product = weights * factors, computed in float64 and rounded once, without a float64 copy."""
    # NumPy converts so many elements at a time; as many as fit a processor's first cache take a third less.
    size = np.setbufsize(2048)
    try:
        np.multiply(weights, factors, out=product, dtype=np.float64, casting="same_kind")
    finally:
        np.setbufsize(size)


def reverse_input_channels(weights: Weights, inputs: int, outputs: int, layout: Layout) -> Weights:
    """The weights for input channels in the opposite order, as RGB is to BGR; not for grouped ones."""
    reversed_ = np.empty(weights.shape, dtype=np.float32)
    source = _by_input_channel(weights, inputs, outputs, layout, 1)
    _by_input_channel(reversed_, inputs, outputs, layout, 1)[:] = source[:, :, ::-1]
    return reversed_


def sum_over_inputs(weights: Weights, shift: Vector, outputs: int, layout: Layout, group: int = 1) -> Vector:
    """What a shift (in,) of the input channels adds to an output (out,) that sees it through all weights.

    Added up weight by weight: NumPy's own sums take the order that suits the processor, and their last
    bits with it.
    """
    blocks = _by_input_channel(weights, len(shift), outputs, layout, group)
    shifts = shift.reshape(group, -1)
    sums = np.zeros(blocks.shape[:2])
    for channel, row, column in np.ndindex(blocks.shape[2:]):
        sums += blocks[:, :, channel, row, column] * shifts[:, None, channel]
    return vector(sums)


def _by_input_channel(weights: Weights, inputs: int, outputs: int, layout: Layout, group: int) -> Weights:
    """A view as (group, out/group, in/group, h * w, kh * kw), of which one of the last two is 1."""
    if layout == "out, in":
        blocks = weights.reshape(group, outputs // group, inputs // group, -1, 1)
    else:
        rows = weights.shape[0] // inputs  # of one channel
        blocks = weights.reshape(group, inputs // group, rows, outputs // group, -1).transpose(0, 3, 1, 2, 4)
    return blocks


def scale_bias(bias: Weights, factors: Factors) -> Weights:
    """The bias of output channels that `factors` are applied to afterwards, in the bias's own shape."""
    return (vector(bias) * factors.scale + factors.shift).astype(np.float32).reshape(bias.shape)


def vector(values: ArrayLike) -> Vector:
    """All values in one axis, in float64."""
    return np.asarray(values, dtype=np.float64).reshape(-1)
