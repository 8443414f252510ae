"""Convolutions and pooling against loops over every element, written from what the words mean.

Needs no Caffe; with Caffe, test_numpy_engine.py compares all types.
"""

from __future__ import annotations

import math
from random import Random

import numpy as np
import pytest
from google.protobuf import text_format
from layer_cases import DRAW

from nnie_prep import params
from nnie_prep.blob import Array
from nnie_prep.engines.numpy import convolution, forward_layer
from nnie_prep.net import Layer
from nnie_prep.nnie_caffe_pb2 import LayerParameter
from nnie_prep.params import Pair
from nnie_prep.shapes import blob_shapes

CASES = 60


def draw(layer_type: str, number: int) -> tuple[Layer, list[Array]]:
    chance = Random(f"windows {layer_type} {number}")
    case = DRAW[layer_type](chance)
    proto = LayerParameter(name="drawn", type=layer_type)
    text_format.Merge(case.parameters, proto)
    bottoms = [f"in{index}" for index in range(len(case.bottoms))]
    layer = Layer(proto, bottoms, [f"out{index}" for index in range(case.tops)])
    random = np.random.default_rng(chance.randrange(2**32))
    layer.blobs = [random.normal(size=shape).astype(np.float32) for shape in blob_shapes(layer, case.bottoms)]
    return layer, [random.normal(size=shape) for shape in case.bottoms]


def starts(size: int, extent: int, stride: int, pad: int) -> list[int]:
    """Where a kernel may stand within the padding; at least at the beginning."""
    return [at - pad for at in range(0, size + 2 * pad, stride) if at + extent <= size + 2 * pad] or [-pad]


def convolve(x: Array, kernel: Array, window: params.Convolution) -> Array:
    """(N, C, H, W) with kernel (out, in/group, kh, kw), pixel by pixel."""
    rows, columns = (
        starts(x.shape[2 + axis], window.extent[axis], window.stride[axis], window.pad[axis])
        for axis in (0, 1)
    )
    padded = np.pad(x, ((0, 0), (0, 0), (99, 99), (99, 99)))
    inputs, outputs = kernel.shape[1], len(kernel) // window.group
    y = np.empty((len(x), len(kernel), len(rows), len(columns)))
    for output in range(len(kernel)):
        first = output // outputs * inputs
        for i, row in enumerate(rows):
            for j, column in enumerate(columns):
                patch = padded[
                    :,
                    first : first + inputs,
                    99 + row : 99 + row + window.extent[0] : window.dilation[0],
                    99 + column : 99 + column + window.extent[1] : window.dilation[1],
                ]
                y[:, output, i, j] = (patch * kernel[output]).sum(axis=(1, 2, 3))
    return y


def deconvolve(x: Array, kernel: Array, window: params.Convolution) -> Array:
    """Every pixel of (N, C, H, W) lays its kernel (in, out/group, kh, kw) onto the top."""
    inputs, outputs = x.shape[1] // window.group, kernel.shape[1]
    size = [window.stride[a] * (x.shape[2 + a] - 1) + window.extent[a] for a in (0, 1)]
    y = np.zeros((len(x), outputs * window.group, *size))
    for channel in range(x.shape[1]):
        first = channel // inputs * outputs
        for i in range(x.shape[2]):
            for j in range(x.shape[3]):
                top, left = i * window.stride[0], j * window.stride[1]
                y[
                    :,
                    first : first + outputs,
                    top : top + window.extent[0] : window.dilation[0],
                    left : left + window.extent[1] : window.dilation[1],
                ] += x[:, channel, i, j, np.newaxis, np.newaxis, np.newaxis] * kernel[channel]
    (ph, pw) = window.pad
    return y[:, :, ph : size[0] - ph, pw : size[1] - pw]


@pytest.mark.parametrize("layer_type", ["Convolution", "Deconvolution", *params.DEPTHWISE_TYPES])
@pytest.mark.parametrize("scratch", [convolution.SCRATCH_BYTES, 3000])
def test_convolutions(layer_type: str, scratch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with so little scratch memory that the rows are computed in blocks."""
    monkeypatch.setattr(convolution, "SCRATCH_BYTES", scratch)
    loops = deconvolve if layer_type == "Deconvolution" else convolve
    for number in range(CASES):
        layer, bottoms = draw(layer_type, number)
        for bottom, top in zip(bottoms, forward_layer(layer, bottoms), strict=True):
            x = bottom.reshape(-1, *bottom.shape[-3:])
            window = params.convolution(layer, x.shape[1])
            expected = loops(x, np.asarray(layer.blobs[0], dtype=np.float64), window)
            if len(layer.blobs) == 2:
                expected += np.asarray(layer.blobs[1]).reshape(-1, 1, 1)
            assert top.shape == (*bottom.shape[:-3], *expected.shape[1:]), f"{layer.proto} on {bottom.shape}"
            # float64: sums of a hundred products of size 1
            np.testing.assert_allclose(top.reshape(expected.shape), expected, rtol=0, atol=1e-12)


def pooled_starts(window: params.Pooling, size: Pair) -> list[list[int]]:
    """Windows go on until one has covered the last row, padding included."""
    kernel = size if window.global_pooling else window.kernel
    found = []
    for extent, k, stride, pad in zip(size, kernel, window.stride, window.pad, strict=True):
        places = [-pad]
        while (
            (places[-1] + k < extent + pad) if window.round_up else (places[-1] + stride + k <= extent + pad)
        ):
            places.append(places[-1] + stride)
        if any(window.pad) and places[-1] >= extent:
            places.pop()
        found.append(places)
    return found


def test_pooling() -> None:
    for number in range(4 * CASES):
        layer, (x,) = draw("Pooling", number)
        window = params.pooling(layer)
        height, width = x.shape[2:]
        (ph, pw), (kh, kw) = window.pad, window.kernel_on((height, width))
        rows, columns = pooled_starts(window, (height, width))
        tops = forward_layer(layer, [x])
        assert tops[0].shape[2:] == (len(rows), len(columns)), f"{layer.proto} on {x.shape}"
        for (n, c, i, j), value in np.ndenumerate(tops[0]):
            inside = [
                (x[n, c, row, column], row * width + column)
                for row in range(max(rows[i], 0), min(rows[i] + kh, height))
                for column in range(max(columns[j], 0), min(columns[j] + kw, width))
            ]
            if window.method == "MAX":
                best = max((value for value, _ in inside), default=-np.finfo(np.float32).max)
                assert value == best
                if len(tops) == 2:
                    assert tops[1][n, c, i, j] == next((at for value, at in inside if value == best), -1)
            else:
                area = min(kh, height + ph - rows[i]) * min(kw, width + pw - columns[j])
                total = math.fsum(value for value, _ in inside)
                # A window that begins behind the bottom has no elements, and an area of 0 or less.
                expected = total / area if area else math.nan
                np.testing.assert_allclose(value, expected, rtol=0, atol=1e-13)
