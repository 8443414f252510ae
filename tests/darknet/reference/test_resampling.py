"""Pools, reorg, upsample and crop against Darknet's loops written out element by element."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from darknet_nets import assert_near, random_net
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nnie_prep.errors import UserError

Array = NDArray[Any]

drawn = settings(max_examples=120)


def c_div(dividend: int, divisor: int) -> int:
    return int(dividend / divisor)


def pooled(
    x: Array, size: int, stride: tuple[int, int], padding: int, combine: Callable[[list[float]], float]
) -> Array | None:
    """Windows begin at i * stride - padding/2; None where one of them is empty."""
    out = [c_div(n + padding - size, s) + 1 for n, s in zip(x.shape[1:], stride, strict=True)]
    if min(out) < 1:
        return None
    result = np.empty((len(x), *out))
    for c, i, j in np.ndindex(*result.shape):
        found = []
        for n, m in np.ndindex(size, size):
            row, column = i * stride[0] - padding // 2 + n, j * stride[1] - padding // 2 + m
            if 0 <= row < x.shape[1] and 0 <= column < x.shape[2]:
                found.append(x[c, row, column])
        if not found:
            return None
        result[c, i, j] = combine(found)
    return result


@drawn
@given(
    kind=st.sampled_from(["maxpool", "local_avgpool"]),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    stride=st.integers(1, 4),
    others=st.dictionaries(st.sampled_from(["size", "stride_x", "stride_y"]), st.integers(1, 5)),
    padding=st.one_of(st.none(), st.integers(0, 6)),
)
def test_pools(
    tmp_path: Path,
    kind: str,
    height: int,
    width: int,
    stride: int,
    others: dict[str, int],
    padding: int | None,
) -> None:
    options = {"stride": stride, **others} | ({} if padding is None else {"padding": padding})
    text = f"[{kind}]\n" + "\n".join(f"{key}={value}" for key, value in options.items())
    size = others.get("size", stride)
    strides = (others.get("stride_y", stride), others.get("stride_x", stride))
    rng = np.random.default_rng(height * 10 + width)
    x = rng.standard_normal((3, height, width))
    combine: Any = max if kind == "maxpool" else np.mean
    expected = pooled(x, size, strides, size - 1 if padding is None else padding, combine)
    if expected is None:
        with pytest.raises(UserError, match="lies outside"):
            random_net(tmp_path, text, x.shape)
        return
    reference = random_net(tmp_path, text, x.shape).reference
    (actual,) = reference.forward(x, np.float64)
    assert actual is not None and actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)


def test_a_pool_is_never_zero_outside(tmp_path: Path) -> None:
    net = random_net(tmp_path, "[max]\nsize=3\nstride=1", (2, 4, 5))
    (actual,) = net.reference.forward(-1 - np.abs(net.input))
    assert actual is not None and actual.max() <= -1


def test_huge_windows_cost_nothing(tmp_path: Path) -> None:
    net = random_net(tmp_path, "[max]\nsize=2000000001\nstride=1\npadding=2000000000", (2, 4, 5))
    tracemalloc.start()
    (actual,) = net.outputs()
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    assert_near(actual, np.broadcast_to(net.input.max(axis=(1, 2))[:, None, None], (2, 4, 5)).astype(float))


@pytest.mark.parametrize(("channels", "out_channels"), [(7, 3), (8, 8), (6, 1), (5, 4)])
def test_maxpool_depth(tmp_path: Path, channels: int, out_channels: int) -> None:
    text = f"[max]\nmaxpool_depth=1\nout_channels={out_channels}\nstride=2"
    net = random_net(tmp_path, text, (channels, 4, 5))
    expected = np.full((out_channels, 4, 5), -np.inf)
    for channel in range(channels):
        expected[channel % out_channels] = np.maximum(expected[channel % out_channels], net.input[channel])
    assert_near(net.outputs()[0], expected)


@drawn
@given(
    stride=st.integers(1, 4),
    size=st.integers(1, 4),
    kind=st.sampled_from([1, 2]),
    shape=st.tuples(st.integers(4, 9), st.integers(4, 9)),
)
def test_antialiased_pools(tmp_path: Path, stride: int, size: int, kind: int, shape: tuple[int, int]) -> None:
    net = random_net(tmp_path, f"[max]\nsize={size}\nstride={stride}\nantialiasing={kind}", (2, *shape))
    inner = pooled(net.input, size, (1, 1), size - 1, max)
    assert inner is not None
    line = [1, 2, 1] if kind == 1 else [1, 1]
    pad, total = (1, 16) if kind == 1 else (0, 4)
    out = [c_div(n + 2 * pad - len(line), stride) + 1 for n in inner.shape[1:]]
    expected = np.zeros((2, *out))
    for c, i, j, n, m in np.ndindex(2, *out, len(line), len(line)):
        row, column = i * stride - pad + n, j * stride - pad + m
        if 0 <= row < inner.shape[1] and 0 <= column < inner.shape[2]:
            expected[c, i, j] += inner[c, row, column] * line[n] * line[m] / total
    assert_near(net.outputs()[0], expected)


def test_avgpool(tmp_path: Path) -> None:
    net = random_net(tmp_path, "[avg]", (5, 4, 7))
    expected = [sum(channel.ravel().tolist()) / 28 for channel in net.input]
    assert_near(net.outputs()[0], np.array(expected).reshape(5, 1, 1))


@pytest.mark.parametrize("scale", [1, -0.75])
@pytest.mark.parametrize("stride", [1, 3, -1, -2])
def test_upsample(tmp_path: Path, stride: int, scale: float) -> None:
    net = random_net(tmp_path, f"[upsample]\nstride={stride}\nscale={scale}", (3, 4, 6))
    small, large = (net.input, None) if stride > 0 else (None, net.input)
    s = abs(stride)
    out = np.zeros((3, 4 * s, 6 * s) if stride > 0 else (3, 4 // s, 6 // s))
    rows, columns = (4, 6) if stride > 0 else (4 // s, 6 // s)
    # upsample_cpu walks over the large image in both directions.
    for k, j, i in np.ndindex(3, rows * s, columns * s):
        if small is not None:
            out[k, j, i] = scale * small[k, j // s, i // s]
        elif large is not None:
            out[k, j // s, i // s] += scale * large[k, j, i]
    assert_near(net.outputs()[0], out)


def reorg_cpu(x: Array, w: int, h: int, c: int, stride: int, forward: bool) -> Array:
    """Place by place, as blas.c numbers them; a place that is written twice or never would show as nan."""
    out = np.full(x.size, np.nan)
    per_offset = c // stride**2
    for k, j, i in np.ndindex(c, h, w):
        here = i + w * (j + h * k)
        offset = k // per_offset
        there = (i * stride + offset % stride) + w * stride * (
            (j * stride + offset // stride) + h * stride * (k % per_offset)
        )
        if forward:
            out[there] = x[here]
        else:
            out[here] = x[there]
    return out


@drawn
@given(
    header=st.sampled_from(["reorg", "reorg3d"]),
    reverse=st.booleans(),
    stride=st.integers(1, 3),
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)),
    flavor=st.sampled_from(["alexeyab", "pjreddie"]),
)
def test_reorganisations(
    tmp_path: Path, header: str, reverse: bool, stride: int, sizes: tuple[int, int, int], flavor: Any
) -> None:
    square = stride**2
    if reverse:
        c, h, w = sizes[0] * square * (square if header == "reorg3d" else 1), sizes[1], sizes[2]
        out = (c // square, h * stride, w * stride)
    else:
        c, h, w = sizes[0] * (square if header == "reorg" else 1), sizes[1] * stride, sizes[2] * stride
        out = (c * square, h // stride, w // stride)
    net = random_net(
        tmp_path, f"[{header}]\nstride={stride}\nreverse={int(reverse)}", (c, h, w), flavor=flavor
    )
    dims = (c, h, w) if header == "reorg" else out
    expected = reorg_cpu(net.input.ravel(), dims[2], dims[1], dims[0], stride, reverse)
    (actual,) = net.outputs()
    np.testing.assert_array_equal(actual, expected.reshape(out))


def test_pjreddies_reorg(tmp_path: Path) -> None:
    net = random_net(tmp_path, "[reorg]\nstride=2\nflatten=1\nreverse=1", (8, 2, 3), flavor="pjreddie")
    x = net.input.ravel()
    expected = [x[place * 8 + channel] for channel in range(8) for place in range(6)]
    assert_near(net.outputs()[0], np.array(expected, float).reshape(2, 4, 6))
    net = random_net(
        tmp_path, "[reorg]\nextra=3\n[connected]\noutput=2\nactivation=linear", (2, 3, 1), flavor="pjreddie"
    )
    longer = np.concatenate([net.input.ravel(), np.zeros(3)])
    appended, connected = net.outputs()
    assert_near(appended, longer)
    assert_near(connected.ravel(), net.stream[2:].astype(float).reshape(2, 9) @ longer + net.stream[:2])


@drawn
@given(
    shape=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    crop=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    noadjust=st.integers(0, 1),
)
def test_crop(tmp_path: Path, shape: tuple[int, int], crop: tuple[int, int], noadjust: int) -> None:
    assume(crop[0] <= shape[0] and crop[1] <= shape[1])
    text = f"[crop]\ncrop_height={crop[0]}\ncrop_width={crop[1]}\nflip=1\nangle=7\nnoadjust={noadjust}"
    net = random_net(tmp_path, text, (2, *shape))
    expected = np.empty((2, *crop))
    for c, i, j in np.ndindex(*expected.shape):
        value = net.input[c, i + (shape[0] - crop[0]) // 2, j + (shape[1] - crop[1]) // 2]
        expected[c, i, j] = value if noadjust else value * 2.0 - 1.0
    np.testing.assert_allclose(net.outputs()[0], expected, rtol=1e-12)
