"""Layers that every Caffe has, for what one layer of another kind would do.

Each function adds layers through `add` and returns the top that holds the result. `add(type, suffix,
bottoms, ...)` is who builds the net: it makes one layer, names it after the place it stands for and
the suffix (the layer with the result has none), and returns its top.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

from nnie_prep import kernels
from nnie_prep.blob import Blob
from nnie_prep.params import Pair

Step = tuple[str, dict[str, Any]]

# A kernel larger than this in both directions is applied as two, one for each direction.
_SEPARATE_ABOVE = 3


class Add(Protocol):
    """Adds a layer: `blobs` are its weights, `in_place` its top is the bottom, `parameters` its fields."""

    def __call__(
        self,
        kind: str,
        suffix: str,
        bottoms: str | Sequence[str],
        *,
        in_place: bool = False,
        blobs: Sequence[Blob | None] = (),
        **parameters: Any,
    ) -> str: ...


# ---- sums and products of several branches -----------------------------------------------------


def relu(slope: float = 0.0) -> Step:
    """max(x, 0) + slope * min(x, 0)"""
    return "ReLU", {"relu_param": {"negative_slope": slope}} if slope else {}


def power(scale: float = 1.0, shift: float = 0.0, power: float = 1.0) -> Step:
    """(shift + scale * x) ** power"""
    values = {"power": power, "scale": scale, "shift": shift}
    neutral = {"power": 1.0, "scale": 1.0, "shift": 0.0}
    return "Power", {"power_param": {key: value for key, value in values.items() if value != neutral[key]}}


def branch(add: Add, suffix: str, blob: str, *steps: Step) -> str:
    """Steps on a copy of the blob; only the first writes a blob of its own."""
    for number, (kind, parameters) in enumerate(steps):
        name = suffix if number == 0 else f"{suffix}-{kind.lower()}"
        blob = add(kind, name, blob, in_place=number > 0, **parameters)
    return blob


def times(add: Add, blob: str, factor: str) -> str:
    """The product, element by element."""
    return add("Eltwise", "", [blob, factor], eltwise_param={"operation": "PROD"})


def weighted_sum(add: Add, suffix: str, blobs: Sequence[str], coefficients: Sequence[float]) -> str:
    """The sum of the blobs, each times its coefficient."""
    return add("Eltwise", suffix, blobs, eltwise_param={"operation": "SUM", "coeff": coefficients})


# ---- activations -------------------------------------------------------------------------------


def cost_of(training: str) -> str:
    """What an activation of several layers costs on NNIE; `training` names a cheaper one."""
    return f"costs time and 8 bit precision, which training again with {training} would save"


def swish(add: Add, blob: str, beta: float = 1.0) -> str:
    """x * sigmoid(beta * x)"""
    if beta == 1.0:
        return times(add, blob, branch(add, "sigmoid", blob, ("Sigmoid", {})))
    return times(add, blob, branch(add, "beta", blob, power(beta), ("Sigmoid", {})))


def mish(add: Add, blob: str) -> str:
    """x * tanh(ln(1 + e^x)); BNLL is the logarithm."""
    return times(add, blob, branch(add, "bnll", blob, ("BNLL", {}), ("TanH", {})))


def clip(add: Add, blob: str, low: float, high: float, slope: float = 0.0) -> str:
    """min(max(x, low), high) = relu(x - low) - relu(x - high) + low; each of the bounds may be infinite.

    A difference of two bent lines keeps small values exact, where high - relu(high - x) would round them
    to the precision of `high`, which is coarse in 8 bits. With low = 0 what is below it is `slope` * x.
    """
    parts, coefficients = [blob], [1.0]
    if low == 0:
        parts = [branch(add, "relu", blob, relu(slope))]
    elif low != -math.inf:
        parts = [branch(add, "low", blob, power(shift=-low), relu())]
    if high != math.inf:
        parts.append(branch(add, "above", blob, power(shift=-high), relu()))
        coefficients.append(-1.0)
    is_shifted = low not in (0, -math.inf)
    result = parts[0]
    if len(parts) > 1:
        result = weighted_sum(add, "bent" if is_shifted else "", parts, coefficients)
    if is_shifted:
        kind, parameters = power(shift=low)
        result = add(kind, "", result, in_place=True, **parameters)
    return result


# ---- pictures ----------------------------------------------------------------------------------


def crop(
    add: Add, blob: str, channels: int, rows: Pair, columns: Pair, *, scale: float = 1.0, shift: float = 0.0
) -> str:
    """Takes off (first, last) rows and columns; the rest becomes scale * x + shift.

    A depthwise convolution with a one-hot kernel, which leaves no output dangling as a Slice would.
    """
    if rows == columns == (0, 0) and (scale, shift) == (1.0, 0.0):
        return blob
    if sum(rows) >= _SEPARATE_ABOVE and sum(columns) >= _SEPARATE_ABOVE:
        blob = _crop(add, "crop-rows", blob, channels, rows, (0, 0), 1.0, 0.0)
        rows = (0, 0)
    return _crop(add, "crop", blob, channels, rows, columns, scale, shift)


def _crop(
    add: Add, suffix: str, blob: str, channels: int, rows: Pair, columns: Pair, scale: float, shift: float
) -> str:
    kernel = (sum(rows) + 1, sum(columns) + 1)
    blobs = [kernels.depthwise(channels, kernels.one_hot(kernel, (rows[0], columns[0]), scale))]
    if shift:
        blobs.append(kernels.filled((channels,), shift))
    return add(
        "Convolution",
        suffix,
        blob,
        blobs=blobs,
        convolution_param=kernels.convolution_param(channels, kernel, group=channels, bias=bool(shift)),
    )


def thinned(add: Add, blob: str, channels: int, stride: Pair) -> str:
    """Every so many pixels, from the first on."""
    return add(
        "Convolution",
        "",
        blob,
        blobs=[kernels.filled((channels, 1, 1, 1), 1.0)],
        convolution_param=kernels.convolution_param(channels, (1, 1), stride=stride, group=channels),
    )


def enlarged(add: Add, suffix: str, blob: str, channels: int, factors: Pair, value: float = 1.0) -> str:
    """Nearest neighbour: each pixel becomes a block of `value` times itself."""
    return add(
        "Deconvolution",
        suffix,
        blob,
        blobs=[kernels.filled((channels, 1, *factors), value)],
        convolution_param=kernels.convolution_param(channels, factors, stride=factors, group=channels),
    )


def space_to_depth(add: Add, suffix: str, blob: str, channels: int, block: Pair) -> str:
    """The pixels of each block behind each other as channels: off*channels + c, as in a PassThrough."""
    return add(
        "Convolution",
        suffix,
        blob,
        blobs=[kernels.space_to_depth(channels, block)],
        convolution_param=kernels.convolution_param(channels * block[0] * block[1], block, stride=block),
    )


def selected(add: Add, suffix: str, blob: str, channels: int, chosen: Sequence[int]) -> str:
    """Some of the channels, or all in another order."""
    return add(
        "Convolution",
        suffix,
        blob,
        blobs=[kernels.selection(chosen, channels)],
        convolution_param=kernels.convolution_param(len(chosen), (1, 1)),
    )


# ---- over all channels of a pixel --------------------------------------------------------------


def scaled_by_squares(add: Add, blob: str, weights: Blob, shift: float, exponent: float) -> str:
    """x * (shift + weights * x^2) ^ exponent; the weights are (channels, channels, 1, 1)."""
    factor = add("Power", "square", blob, power_param={"power": 2.0})
    factor = add(
        "Convolution",
        "sum",
        factor,
        blobs=[weights],
        convolution_param=kernels.convolution_param(weights.shape[0], (1, 1)),
    )
    kind, parameters = power(shift=shift, power=exponent)
    add(kind, "power", factor, in_place=True, **parameters)
    return times(add, blob, factor)
