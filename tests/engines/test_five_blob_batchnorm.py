"""NVCaffe's BatchNorm of five blobs, which the Caffe that is built here does not know.

Judged by a statement of it, written element by element from NVIDIA/caffe's source (2d23717,
batch_norm_layer.cpp), and by the BatchNorm and Scale of Caffe that say the same.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from caffe_case import Case, assert_close, layer, normal
from google.protobuf import text_format

from nnie_prep.blob import Array
from nnie_prep.engines.caffe_engine import find_caffe_python
from nnie_prep.engines.numpy import forward
from nnie_prep.errors import UserError
from nnie_prep.net import Layer, Net
from nnie_prep.nnie_caffe_pb2 import LayerParameter
from nnie_prep.passes.followers import follower_factors

SHAPES = [(2, 3, 5, 4), (1, 1, 3, 7), (3, 4), (2, 5, 3)]


def five(rng: np.random.Generator, channels: int) -> list[Array]:
    """The third blob is not 1, and the least variances are of the size of the least eps."""
    variance = (10.0 ** rng.uniform(-6, 1, channels)).astype(np.float32)
    correction = np.float32([rng.choice([0.0, 0.5, 999.98])])
    return [normal(rng, channels), variance, correction, normal(rng, channels), normal(rng, channels)]


def batchnorm(text: str, blobs: list[Array]) -> Layer:
    proto = LayerParameter(name="bn", type="BatchNorm")
    text_format.Merge(text, proto)
    return Layer(proto, ["x"], ["y"], list(blobs), origin="net.prototxt:7")


def run(one: Layer, x: Array) -> Array:
    net = Net([one])
    net.header.input.append("x")
    return forward(net, {"x": x})["y"]


def stated(x: Array, blobs: list[Array], eps: float) -> Array:
    mean, variance, _, scale, bias = blobs
    y = np.empty(x.shape)
    for index in np.ndindex(*x.shape):
        channel = index[1]
        root = math.sqrt(float(variance[channel]) + max(eps, 1e-5))
        y[index] = (float(x[index]) - float(mean[channel])) / root * float(scale[channel]) + float(
            bias[channel]
        )
    return y


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("eps", [1e-8, 1e-5, 0.01])
@pytest.mark.parametrize(
    "says", ["scale_bias: true", "scale_filler { value: 1 }", "bias_filler { type: 'constant' }"]
)
def test_against_a_statement_of_it(shape: tuple[int, ...], eps: float, says: str) -> None:
    rng = np.random.default_rng(len(shape))
    x, blobs = normal(rng, *shape), five(rng, shape[1])
    one = batchnorm(f"batch_norm_param {{ eps: {eps} {says} engine: CUDNN }}", blobs)
    expected = stated(x, blobs, eps)
    # Divided by roots down to 3e-3, float32 rounds what it subtracts: 3e-7 measured.
    assert_close(run(one, x), expected, 2e-6)
    factors, reason = follower_factors(one)
    assert factors is not None, reason
    per_channel = (-1, *[1] * (len(shape) - 2))
    folded = x * factors.scale.reshape(per_channel) + factors.shift.reshape(per_channel)
    assert_close(folded, expected, 1e-7)  # eps is rounded to float32


def test_statistics_of_the_batch_are_scaled_too() -> None:
    rng = np.random.default_rng(1)
    x, blobs = normal(rng, 3, 2, 5, 4), five(rng, 2)
    one = batchnorm("phase: TRAIN batch_norm_param { scale_bias: true }", blobs)
    batch = [x.mean((0, 2, 3)), x.var((0, 2, 3)), *blobs[2:]]
    assert_close(run(one, x), stated(x, batch, 1e-5), 2e-6)
    assert follower_factors(one)[0] is None


@pytest.mark.caffe
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_against_caffes_batchnorm_and_scale(tmp_path: Path, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(len(shape))
    x, blobs = normal(rng, *shape), five(rng, shape[1])
    mean, variance, _, scale, bias = blobs
    layers = layer("BatchNorm", "x", "n", name="n") + layer(
        "Scale", "n", "y", "scale_param { bias_term: true }", "s"
    )
    weights = {"n": [mean, variance, np.float32([1])], "s": [scale, bias]}
    theirs = Case(tmp_path, find_caffe_python(None), {"x": x.shape}, layers, weights).run({"x": x}, {"y"})[
        "y"
    ]
    ours = run(batchnorm("batch_norm_param { scale_bias: true }", blobs), x)
    assert_close(ours, theirs.astype(np.float64), 2e-6)  # as BatchNorm's own, 3e-7


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("batch_norm_param { scale_bias: true use_global_stats: false }", "NVCaffe goes by the phase"),
        ("phase: TRAIN batch_norm_param { scale_bias: true use_global_stats: true }", "goes by the phase"),
        ("", "it has 5 blobs of weights, and needs 3"),
    ],
)
def test_what_nvcaffe_and_others_read_differently_is_refused(text: str, words: str) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(UserError, match=words) as caught:
        run(batchnorm(text, five(rng, 3)), normal(rng, 2, 3, 4, 5))
    assert caught.value.where == "net.prototxt:7"
