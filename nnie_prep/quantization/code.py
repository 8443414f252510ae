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
    absolute = np.abs(values.astype(np.float64))
    is_negative = values < 0
    is_zero = np.where(is_negative, absolute <= magnitudes[1] / 2, absolute < magnitudes[0] / 2)
    absolute[is_zero] = 1.0  # any value that has a logarithm
    codes = np.rint(steps * np.log2(absolute)) - z
    rounded = magnitudes[np.clip(codes, np.where(is_negative, 1, 0), top).astype(np.intp)]
    rounded[is_zero] = 0.0
    signed: Array = np.where(is_negative, -rounded, rounded).astype(np.float32)
    return signed
