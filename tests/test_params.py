"""Every way to write a parameter gives the same value. Refusals are in engines/test_refusals.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st

from nnie_prep import params
from nnie_prep.errors import UserError
from nnie_prep.net import Layer
from nnie_prep.nnie_caffe_pb2 import LayerParameter

Pair = tuple[int, int]


def layer(layer_type: str, text: str = "", bottoms: int = 1) -> Layer:
    proto = LayerParameter(name="the layer", type=layer_type)
    text_format.Merge(text, proto)
    return Layer(proto, [f"in{index}" for index in range(bottoms)], ["out"], origin="net.prototxt:5")


def pairs(least: int, most: int = 9) -> st.SearchStrategy[Pair]:
    return st.tuples(st.integers(least, most), st.integers(least, most)) | st.integers(least, most).map(
        lambda value: (value, value)
    )


def spellings(
    pair: Pair, both: str, split: tuple[str, str] | None, default: Pair | None = None, repeats: bool = True
) -> list[str]:
    ways = [f"{split[0]}: {pair[0]} {split[1]}: {pair[1]}"] if split else []
    if repeats:
        ways.append(f"{both}: {pair[0]} {both}: {pair[1]}")
    if pair[0] == pair[1]:
        ways.append(f"{both}: {pair[0]}")
    if pair == default:
        ways.append("")
    return ways


@given(st.floats(width=32, allow_nan=False))
def test_a_float_as_written_is_that_float_in_as_few_digits_as_can_be(value: float) -> None:
    found = params.as_written(value)
    assert np.float32(found) == value
    with np.errstate(over="ignore"):  # the largest floats, rounded up
        digits = next(count for count in range(1, 10) if np.float32(f"{value:.{count}g}") == value)
    assert found == float(f"{found:.{digits}g}")


@given(st.data(), pairs(1), pairs(1), pairs(0), pairs(1))
def test_convolution_spellings(
    data: st.DataObject, kernel: Pair, stride: Pair, pad: Pair, dilation: Pair
) -> None:
    text = " ".join(
        data.draw(st.sampled_from(ways))
        for ways in (
            spellings(kernel, "kernel_size", ("kernel_h", "kernel_w")),
            spellings(stride, "stride", ("stride_h", "stride_w"), (1, 1)),
            spellings(pad, "pad", ("pad_h", "pad_w"), (0, 0)),
            spellings(dilation, "dilation", None, (1, 1)),
        )
    )
    layer_type = data.draw(st.sampled_from(["Convolution", "Deconvolution"]))
    found = params.convolution(layer(layer_type, f"convolution_param {{ num_output: 12 group: 3 {text} }}"))
    assert found == params.Convolution(
        12,
        kernel,
        stride,
        pad,
        dilation,
        3,
        bias=True,
        axis=1,
        is_deconvolution=layer_type == "Deconvolution",
    )
    # A dilated kernel covers its first and last tap and what lies between them.
    assert found.extent == tuple(
        len(range(0, k * d, d)) * d - d + 1 for k, d in zip(kernel, dilation, strict=True)
    )


def test_convolution_pad_of_one_axis() -> None:
    found = params.convolution(
        layer("Convolution", "convolution_param { num_output: 1 kernel_size: 3 pad_w: 2 }")
    )
    assert found.pad == (0, 2)


@pytest.mark.parametrize("layer_type", params.DEPTHWISE_TYPES)
@pytest.mark.parametrize("group", ["", "group: 6"])
def test_depthwise_group_is_the_number_of_input_channels(layer_type: str, group: str) -> None:
    depthwise = layer(layer_type, f"convolution_param {{ num_output: 6 kernel_size: 3 {group} }}")
    assert params.convolution(depthwise).group == params.convolution(depthwise, 6).group == 6
    depthwise.proto.convolution_param.num_output = 12
    assert params.convolution(depthwise).group == (6 if group else 12)
    assert params.convolution(depthwise, 6).group == 6


@given(st.data(), pairs(2), pairs(1), pairs(0, 1), st.sampled_from(["MAX", "AVE"]), st.booleans())
def test_pooling_spellings(
    data: st.DataObject, kernel: Pair, stride: Pair, pad: Pair, method: str, round_up: bool
) -> None:
    text = " ".join(
        data.draw(st.sampled_from(ways))
        for ways in (
            spellings(kernel, "kernel_size", ("kernel_h", "kernel_w"), repeats=False),
            spellings(stride, "stride", ("stride_h", "stride_w"), (1, 1), repeats=False),
            spellings(pad, "pad", ("pad_h", "pad_w"), (0, 0), repeats=False),
        )
    )
    rounding = "" if round_up else "round_mode: FLOOR"
    found = params.pooling(layer("Pooling", f"pooling_param {{ pool: {method} {text} {rounding} }}"))
    assert found == params.Pooling(method, kernel, stride, pad, global_pooling=False, round_up=round_up)
    assert found.kernel_on((20, 30)) == kernel


def test_global_pooling_takes_the_size_of_the_bottom() -> None:
    found = params.pooling(layer("Pooling", "pooling_param { global_pooling: true }"))
    assert found.global_pooling and found.method == "MAX"
    assert found.kernel_on((7, 9)) == (7, 9)


def test_batch_norm_uses_stored_statistics_unless_told_otherwise() -> None:
    assert params.batch_norm(layer("BatchNorm")) == params.BatchNorm(pytest.approx(1e-5), True)
    assert not params.batch_norm(
        layer("BatchNorm", "batch_norm_param { use_global_stats: false }")
    ).use_global_stats
    assert not params.batch_norm(layer("BatchNorm", "phase: TRAIN")).use_global_stats
    assert params.batch_norm(layer("BatchNorm", "phase: TEST")).use_global_stats
    told = params.batch_norm(layer("BatchNorm", "phase: TRAIN batch_norm_param { use_global_stats: true }"))
    assert told.use_global_stats


def test_defaults_of_elements() -> None:
    assert params.scale(layer("Scale")) == params.Scale(axis=1, num_axes=1, bias=False)
    assert params.scale(layer("Bias", "bias_param { axis: 2 }")) == params.Scale(
        axis=2, num_axes=1, bias=True
    )
    assert params.eltwise(layer("Eltwise", bottoms=3)) == params.Eltwise("SUM", (1.0, 1.0, 1.0))
    two = params.eltwise(layer("Eltwise", "eltwise_param { coeff: 1 coeff: -1 }", bottoms=2))
    assert two == params.Eltwise("SUM", (1.0, -1.0))
    product = params.inner_product(layer("InnerProduct", "inner_product_param { num_output: 4 }"))
    assert product == params.InnerProduct(4, axis=1, bias=True, transpose=False)


def test_axes() -> None:
    shape = (2, 3, 4, 5)
    assert params.concat_axis(layer("Concat"), shape) == 1
    assert params.concat_axis(layer("Concat", "concat_param { axis: -1 }"), shape) == 3
    assert params.concat_axis(layer("Concat", "concat_param { concat_dim: 2 }"), shape) == 2
    assert params.slice_axis(layer("Slice"), shape) == 1
    assert params.slice_axis(layer("Slice", "slice_param { slice_dim: 0 }"), shape) == 0
    assert params.permutation(layer("Permute", "permute_param { order: 2 order: 0 }"), 4) == (2, 0, 1, 3)


def test_factors_and_blocks() -> None:
    assert params.upsample(layer("Upsample", "upsample_param { scale: 3 }")) == (3, 3)
    assert params.upsample(layer("Upsample", "upsample_param { scale_h: 2 scale_w: 5 }")) == (2, 5)
    block = "pass_through_param { num_output: 24 block_height: 2 block_width: 3 }"
    assert params.pass_through(layer("PassThrough", block)) == (2, 3)


@pytest.mark.parametrize(
    ("fields", "rounds_up"),
    [
        ({}, True),
        ({"ceil_mode": True}, True),
        ({"ceil_mode": False}, False),
        ({"round_mode": "FLOOR"}, False),
        ({"round_mode": "FLOOR", "ceil_mode": False}, False),
        ({"round_mode": "CEIL", "ceil_mode": True}, True),
    ],
)
def test_two_words_for_rounding(fields: dict[str, Any], rounds_up: bool) -> None:
    proto = LayerParameter(type="Pooling", pooling_param={"kernel_size": 2, **fields})
    assert params.pooling(Layer(proto)).round_up is rounds_up


def test_two_words_that_contradict_each_other() -> None:
    proto = LayerParameter(
        type="Pooling", pooling_param={"kernel_size": 2, "ceil_mode": True, "round_mode": "FLOOR"}
    )
    with pytest.raises(UserError, match="contradict"):
        params.pooling(Layer(proto))
