"""The chip's numbers against their formula, written down once more for one number at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnie_prep.quantization.code import Bits, offset, round_to_code

STEPS: dict[Bits, tuple[int, int]] = {8: (16, 127), 16: (128, 4095)}


def stated(x: float, largest: float, bits: Bits) -> tuple[float, bool]:
    """One value as MQBench states it, and whether it lies so near a border that rounding decides."""
    steps, top = STEPS[bits]
    z = round(steps * math.log2(largest)) - top
    lowest = 0 if x > 0 else 1
    half = 2.0 ** ((z + lowest) / steps - 1)
    if x == 0:
        return 0.0, False
    place = steps * math.log2(abs(x))
    near = abs(place - math.floor(place) - 0.5) < 1e-9 or abs(abs(x) - half) < 1e-9 * half
    if (x > 0 and x < half) or (x < 0 and x >= -half):
        return 0.0, near
    k = min(max(round(place) - z, lowest), top)
    return math.copysign(2.0 ** ((k + z) / steps), x), near


@pytest.mark.parametrize("bits", (8, 16))
@given(
    st.floats(-(2**20), 2**20, width=32, allow_subnormal=False),
    st.floats(2**-20, 2**20, width=32),
)
def test_every_number_is_rounded_as_stated(bits: Bits, x: float, largest: float) -> None:
    expected, near = stated(x, largest, bits)
    found = float(round_to_code(np.array([x], np.float32), largest, bits)[0])
    assert near or found == pytest.approx(expected, rel=1e-6, abs=0), (x, largest)


@pytest.mark.parametrize("largest", (0.37, 1.0, 255.0, 6.5e4))
def test_eight_bits_have_256_values_and_keep_them(largest: float) -> None:
    reach = np.geomspace(largest / 1e4, largest, 200_000)
    values = np.concatenate([-reach, [0], reach]).astype(np.float32)
    rounded = round_to_code(values, largest)
    codes = np.unique(rounded)
    assert (codes > 0).sum() == 128 and (codes < 0).sum() == 127 and (codes == 0).sum() == 1
    np.testing.assert_array_equal(round_to_code(codes, largest), codes)


@pytest.mark.parametrize(("bits", "error"), [(8, 2 ** (1 / 32) - 1), (16, 2 ** (1 / 256) - 1)])
def test_in_range_the_error_is_half_a_step(bits: Bits, error: float) -> None:
    """2.2 % at 8 bits, whatever the value's size."""
    values = np.random.default_rng(1).uniform(0.01, 1, 50_000).astype(np.float32)
    off = np.abs(round_to_code(values, 1.0, bits) / values - 1)
    assert 0.95 * error < off.max() < 1.0001 * error


@pytest.mark.parametrize("bits", (8, 16))
def test_one_and_powers_of_two_are_exact(bits: Bits) -> None:
    """So one-hot kernels lose nothing."""
    values = np.array([1, -1, 0.5, -0.25, 2**-6, 0, 1], np.float32)
    np.testing.assert_array_equal(round_to_code(values, 1.0, bits), values)


def test_the_borders_of_zero() -> None:
    """Half of the smallest code: 2^(z/16) of positive values, 2^((z+1)/16) of negative ones."""
    z = -127
    positive, negative = 2 ** (z / 16) / 2, 2 ** ((z + 1) / 16) / 2
    values = [1.001 * positive, 0.999 * positive, -1.001 * negative, -0.999 * negative]
    found = round_to_code(np.array(values, np.float32), 1.0)
    np.testing.assert_allclose(found, [2 * positive, 0, -2 * negative, 0], rtol=1e-6)


@pytest.mark.parametrize(("z", "sign", "kept"), [(-112, 1, True), (-113, -1, False)])
def test_on_a_border_of_zero(z: int, sign: int, kept: bool) -> None:
    """Where the smallest code is a power of two, so is its half: a positive value stays, a negative goes."""
    smallest = 2.0**-7
    found = round_to_code(np.float32([sign * smallest / 2]), 2 ** ((z + 127) / 16))
    assert found.tolist() == ([sign * smallest] if kept else [0])


def test_out_of_range() -> None:
    found = round_to_code(np.array([3.0, -3.0, 1e-9, -1e-9], np.float32), 1.0)
    np.testing.assert_array_equal(found, [1, -1, 0, 0])
    np.testing.assert_array_equal(round_to_code(np.zeros((2, 3), np.float32), 0.0), np.zeros((2, 3)))


def test_offset() -> None:
    """245 : 1 from the largest to the smallest code."""
    assert offset(1.0) == -127 and offset(2.0) == -111 and offset(0.5, 16) == -4223
    assert 2 ** ((offset(1.0) + 127) / 16) / 2 ** (offset(1.0) / 16) == pytest.approx(245, rel=2e-3)
