"""The arithmetic on weights, against the formulas, element by element."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray

from nnie_prep.weights import (
    Factors,
    Layout,
    batchnorm_factors,
    scale_bias,
    scale_factors,
    scale_input_channels,
    scale_output_channels,
    sum_over_inputs,
)

random = np.random.default_rng(3)


def normal(*shape: int) -> NDArray[np.float32]:
    return random.standard_normal(shape).astype(np.float32)


# ---- batchnorm_factors --------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1.0, 0.5, 999.98])
def test_batchnorm_is_what_caffe_does_to_a_value(factor: float) -> None:
    mean, variance, eps = normal(5), random.uniform(0.1, 2, 5).astype(np.float32), 1e-3
    scale, shift = batchnorm_factors(mean * factor, variance * factor, factor, eps)
    x = normal(5).astype(np.float64)
    for channel in range(5):
        y = (x[channel] - float(mean[channel])) / (float(variance[channel]) + eps) ** 0.5
        assert scale[channel] * x[channel] + shift[channel] == pytest.approx(y, rel=1e-6)


def test_a_factor_of_zero_makes_mean_and_variance_zero() -> None:
    scale, shift = batchnorm_factors([3.0, -4.0], [5.0, 6.0], 0.0, 0.25)
    assert scale.tolist() == [2, 2]
    assert shift.tolist() == [0, 0]


@pytest.mark.parametrize(("variance", "eps"), [(-1.0, 1e-5), (0.0, 0.0), (float("nan"), 1e-5)])
def test_a_variance_without_a_root_is_not_finite(variance: float, eps: float) -> None:
    assert not batchnorm_factors([0.0, 0.0], [1.0, variance], 1.0, eps).are_finite()


def test_a_variance_that_eps_makes_positive_is_finite() -> None:
    assert batchnorm_factors([1.0], [-1e-6], 1.0, 1e-5).are_finite()


# ---- Factors ------------------------------------------------------------------------------------


def test_then_is_one_after_the_other() -> None:
    one, two = (scale_factors(normal(4), normal(4)) for _ in range(2))
    both = one.then(two)
    x = normal(4).astype(np.float64)
    y = two.scale * (one.scale * x + one.shift) + two.shift
    assert np.allclose(both.scale * x + both.shift, y, rtol=1e-14, atol=1e-14)


def test_scale_factors_without_bias() -> None:
    assert scale_factors([2.0, 3.0], None).shift.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("scale", "shift", "identity"),
    [
        ([1.0, 1.0], [0.0, 0.0], True),
        ([1.0, 1.0 + 1e-9], [0.0, 0.0], True),
        ([1.0, 1.0 + 1e-6], [0.0, 0.0], False),
        ([1.0, 1.0], [0.0, 1e-20], False),
        ([1.0, -1.0], [0.0, 0.0], False),
    ],
)
def test_are_identity(scale: list[float], shift: list[float], identity: bool) -> None:
    assert Factors(np.array(scale), np.array(shift)).are_identity() is identity


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 1e39])
def test_are_finite_in_float32(value: float) -> None:
    assert Factors(np.array([1.0]), np.array([2.0])).are_finite()
    assert not Factors(np.array([value]), np.array([2.0])).are_finite()
    assert not Factors(np.array([1.0]), np.array([value])).are_finite()


# ---- scale_output_channels ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "layout", "group"),
    [
        ((6, 3, 3, 1), "out, in", 1),  # a convolution, also in groups: (out, in/group, kh, kw)
        ((5, 1, 2, 3), "out, in", 1),  # depthwise
        ((5, 7), "out, in", 1),
        ((7, 5), "in, out", 1),  # InnerProduct with transpose
        ((1, 1, 5, 7), "out, in", 1),  # InnerProduct in a file of old
        ((4, 3, 2, 3), "in, out", 1),
        ((6, 2, 3, 2), "in, out", 3),  # neither 1 nor all
        ((4, 1, 2, 2), "in, out", 4),
    ],
)
def test_each_weight_is_scaled_by_its_output_channel(
    shape: tuple[int, ...], layout: Layout, group: int
) -> None:
    weights = normal(*shape)
    if layout == "out, in":
        channels = shape[-2] if len(shape) == 4 and shape[:2] == (1, 1) else shape[0]
    else:
        channels = shape[1] * group
    scale = random.standard_normal(channels)
    scaled = scale_output_channels(weights, scale, layout, group)
    assert scaled.shape == shape
    assert scaled.dtype == np.float32
    for index in np.ndindex(*shape):
        if layout == "in, out":
            channel = index[0] // (shape[0] // group) * shape[1] + index[1]
        else:
            channel = index[2] if channels != shape[0] else index[0]
        assert scaled[index] == np.float32(float(weights[index]) * scale[channel])


def test_scaling_needs_no_copy_in_float64() -> None:
    weights, scale = normal(256, 64, 3, 3), random.standard_normal(256)
    tracemalloc.start()
    scale_output_channels(weights, scale, "out, in")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.5 * weights.nbytes


def test_weights_are_not_written_to() -> None:
    weights, bias, scale = normal(4, 3), normal(4), random.standard_normal(4)
    for values in (weights, bias):
        values.flags.writeable = False
    scale_output_channels(weights, scale, "out, in")
    scale_bias(bias, Factors(scale, scale))


def test_the_bias_is_scaled_and_shifted_in_its_own_shape() -> None:
    bias, factors = normal(1, 1, 1, 3), scale_factors(normal(3), normal(3))
    found = scale_bias(bias, factors)
    assert found.shape == bias.shape
    assert found.dtype == np.float32
    for channel in range(3):
        exact = float(bias[0, 0, 0, channel]) * factors.scale[channel] + factors.shift[channel]
        assert found[0, 0, 0, channel] == np.float32(exact)


# ---- input channels ------------------------------------------------------------------------------


@pytest.mark.parametrize(("group", "inputs", "outputs"), [(1, 3, 4), (2, 4, 6), (3, 6, 3), (5, 5, 10)])
@pytest.mark.parametrize("layout", ["out, in", "in, out"])
def test_input_channels_of_a_kernel(layout: Layout, group: int, inputs: int, outputs: int) -> None:
    """By loops over inputs and outputs: 3 x 2 kernels, ordinary to depthwise with two outputs a channel."""
    shape = (outputs, inputs // group) if layout == "out, in" else (inputs, outputs // group)
    weights, factors = normal(*shape, 3, 2), normal(inputs).astype(np.float64)
    expected, sums = np.empty_like(weights), np.zeros(outputs)
    for i in range(inputs):
        for o in range(outputs):
            if i // (inputs // group) != o // (outputs // group):
                continue
            row, column = (o, i % (inputs // group)) if layout == "out, in" else (i, o % (outputs // group))
            expected[row, column] = weights[row, column] * factors[i]
            sums[o] += weights[row, column].astype(np.float64).sum() * factors[i]
    assert np.array_equal(scale_input_channels(weights, factors, outputs, layout, group), expected)
    np.testing.assert_allclose(sum_over_inputs(weights, factors, outputs, layout, group), sums, rtol=1e-12)


@pytest.mark.parametrize("layout", ["out, in", "in, out"])
def test_input_channels_of_an_inner_product(layout: Layout) -> None:
    """Each of 3 channels has 7 pixels, one behind the other."""
    weights, factors = normal(4, 21), normal(3).astype(np.float64)
    each = np.repeat(factors, 7)
    given = weights if layout == "out, in" else np.ascontiguousarray(weights.T)
    scaled = scale_input_channels(given, factors, 4, layout)
    assert np.array_equal(scaled if layout == "out, in" else scaled.T, (weights * each).astype(np.float32))
    found = sum_over_inputs(given, factors, 4, layout)
    np.testing.assert_allclose(found, weights.astype(np.float64) @ each, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("layout", ["out, in", "in, out"])
def test_sums_over_inputs_have_one_order(layout: Layout) -> None:
    """To the last bit what adding one after the other gives, whatever processor this runs on."""
    weights, shift = normal(60, 60, 3, 5), random.standard_normal(60)
    found = sum_over_inputs(weights, shift, 60, layout)
    for output in range(60):
        kernels = weights[output] if layout == "out, in" else weights[:, output]
        total = 0.0
        for kernel, its in zip(kernels, shift.tolist(), strict=True):
            for weight in kernel.ravel().tolist():
                total += weight * its
        assert found[output] == total


def test_sums_over_inputs_make_no_copy_in_float64() -> None:
    weights, shift = normal(256, 512, 3, 3), normal(512).astype(np.float64)
    tracemalloc.start()
    sum_over_inputs(weights, shift, 256, "out, in")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < weights.nbytes / 4


def test_factors_that_are_the_same_in_all_channels() -> None:
    """What a Power does, before and behind a Scale, and spread over channels."""
    power = Factors(np.array(2.0), np.array(-1.0))
    scale = Factors(np.array([3.0, 5.0]), np.array([0.5, 0.25]))
    assert power.then(scale).equal(Factors(np.array([6.0, 10.0]), np.array([-2.5, -4.75])))
    assert scale.then(power).equal(Factors(np.array([6.0, 10.0]), np.array([0.0, -0.5])))
    assert power.over(2).equal(Factors(np.array([2.0, 2.0]), np.array([-1.0, -1.0])))
    assert power.fit(7) and scale.fit(2) and not scale.fit(1)
    assert not scale.equal(power) and not scale.equal(Factors(scale.scale, scale.scale))
