"""The chip's numbers: a sign and a logarithm to the base of 2^(1/16) (8 bits) or 2^(1/128) (16 bits).

All values of a tensor share an offset z, which follows from the largest of them, c:

    z = round(16 * log2(c)) - 127
    x becomes  sign(x) * 2^((k + z) / 16),  k = clamp(round(16 * log2|x|) - z, 0, 127)

so the largest value is one of 2^(i/16), the range is 2^(127/16) = 245 : 1, and what is less than half of the
smallest, 2^(z/16), becomes 0. Negative values have no k = 0, since that code is the zero: theirs start at
k = 1, with half of 2^((z + 1)/16) as the border. (MQBench, "NNIE" in its hardware notes. For
16 bits the same with 128 for 16 and 4095 for 127.)
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from nnie_prep.blob import Array

Bits = Literal[8, 16]


class Format(NamedTuple):
    """`steps` to a factor of two, and the largest code."""

    steps: int
    top: int


_PIECE = 1 << 14  # values at a time: what is computed of them stays in the processor's cache

FORMATS: dict[Bits, Format] = {8: Format(16, 127), 16: Format(128, 4095)}


def offset(largest: float, bits: Bits = 8) -> int:
    """z of a tensor whose largest magnitude is `largest`, which is positive."""
    steps, top = FORMATS[bits]
    return round(steps * float(np.log2(largest))) - top


def round_to_code(values: Array, largest: float, bits: Bits = 8) -> Array:
    """What the chip makes of the values, in float32 and of the same shape.

    `largest` is the magnitude that the range is laid out for; greater values become it. 0 makes all 0.
    """
    if largest == 0:
        return np.zeros(values.shape, np.float32)
    steps, top = FORMATS[bits]
    z = offset(largest, bits)
    magnitudes = 2.0 ** ((np.arange(top + 1) + z) / steps)
    flat = np.ravel(values)
    rounded = np.empty(flat.shape, np.float32)
    for begin in range(0, flat.size, _PIECE):
        rounded[begin : begin + _PIECE] = _round(flat[begin : begin + _PIECE], magnitudes, z, steps)
    return rounded.reshape(values.shape)


def _round(values: Array, magnitudes: Array, z: int, steps: int) -> Array:
    """A few values, (n,), in float64; `magnitudes` are those of the codes, the first that of code 0.

    Without branches: a processor foresees no signs of weights.
    """
    is_negative = values < 0
    borders = np.array([magnitudes[0] / 2, np.nextafter(magnitudes[1] / 2, np.inf)])
    absolute = np.abs(values.astype(np.float64))
    is_kept = absolute >= borders[is_negative.astype(np.intp)]
    codes = np.rint(steps * np.log2(np.maximum(absolute, np.finfo(np.float64).tiny))) - z
    codes = np.minimum(np.maximum(codes, is_negative), len(magnitudes) - 1)
    signed: Array = np.copysign(magnitudes[codes.astype(np.intp)] * is_kept, values)
    return signed
