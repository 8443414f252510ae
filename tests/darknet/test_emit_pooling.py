"""Pools of every geometry against windows counted out by hand, and those that have no result."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from darknet_texts import line_of, refusal, structure
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nnie_prep.engines.numpy import forward
from nnie_prep.errors import UserError


def pooled(
    picture: NDArray[np.float64], size: int, stride: int, padding: int, kind: str
) -> NDArray[np.float64]:
    """Darknet's definition, window by window; NaN where a window holds nothing."""
    channels, height, width = picture.shape
    rows, columns = ((extent + padding - size) // stride + 1 for extent in (height, width))
    result = np.full((channels, rows, columns), np.nan)
    for row in range(rows):
        for column in range(columns):
            top, left = row * stride - padding // 2, column * stride - padding // 2
            window = picture[:, max(top, 0) : max(top + size, 0), max(left, 0) : max(left + size, 0)]
            if window.size:
                reduce = np.max if kind == "maxpool" else np.mean
                result[:, row, column] = reduce(window, axis=(1, 2))
    return result


@settings(max_examples=300)
@given(
    st.integers(1, 12), st.integers(1, 12), st.integers(1, 6), st.integers(1, 4), st.integers(0, 12),
    st.sampled_from(["maxpool", "local_avgpool"]), st.integers(0, 2**32),
)  # fmt: skip
def test_every_geometry(
    height: int, width: int, size: int, stride: int, padding: int, kind: str, seed: int
) -> None:
    """Exact for the maximum; all values negative, so that zeros of the padding would show."""
    picture = -1 - np.random.default_rng(seed).random((2, height, width))
    expected = (
        pooled(picture, size, stride, padding, kind) if min(height, width) + padding >= size else np.zeros(0)
    )
    text = f"[{kind}]\nsize={size}\nstride={stride}\npadding={padding}"
    with TemporaryDirectory() as folder:
        try:
            conversion = structure(Path(folder), text, (2, height, width))
        except UserError as refused:
            wide = kind == "local_avgpool" and stride > size
            small = min(height, width) + padding < size
            assert small or wide or padding // 2 >= size or np.isnan(expected).any(), refused
            return
        if not small_enough(height, width, size, padding):
            return
        (blob,) = conversion.layers[0].blobs
        have = forward(conversion.net, {"data": picture[None]}, dtype=np.float64)[blob][0]
    assert conversion.layers[0].shape == have.shape == expected.shape
    np.testing.assert_allclose(have, expected, rtol=0, atol=0 if kind == "maxpool" else 1e-6)
    assert conversion.net.outputs() == [blob]


def small_enough(height: int, width: int, size: int, padding: int) -> bool:
    return min(height, width) + padding >= size


def types(folder: Path, text: str, shape: tuple[int, int, int] = (3, 8, 6)) -> list[str]:
    return [layer.type for layer in structure(folder, text, shape).net.layers]


def test_pools_that_fit_need_one_layer(tmp_path: Path) -> None:
    assert types(tmp_path, "[maxpool]\nsize=2\nstride=2") == ["Pooling"]
    assert types(tmp_path, "[maxpool]\nsize=5\nstride=1") == ["Pooling"]
    assert types(tmp_path, "[maxpool]\nsize=3\nstride=2", (3, 7, 9)) == ["Pooling"]
    assert types(tmp_path, "[maxpool]\nsize=2\nstride=1") == ["Pooling", "Convolution"]
    assert types(tmp_path, "[local_avgpool]\nsize=2\nstride=2") == ["Pooling"]
    assert types(tmp_path, "[local_avgpool]\nsize=3\nstride=1") == ["Pooling", "Scale"]


def test_the_crop_of_the_tiny_yolos(tmp_path: Path) -> None:
    """A depthwise 2 x 2 convolution that keeps the element at (1, 1)."""
    crop = structure(tmp_path, "[maxpool]\nsize=2\nstride=1").net.layers[1]
    np.testing.assert_array_equal(np.asarray(crop.blobs[0]), np.tile([[[0, 0], [0, 1]]], (3, 1, 1, 1)))


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("[maxpool]\npadding=6\nsize=3", 6, "windows that lie in the padding alone"),
        ("[maxpool]\npadding=1\nsize=1", 6, "windows that lie in the padding alone"),
        ("[maxpool]\npadding=0\nsize=9", 6, "size=9 is larger than its input of 8 with padding 0"),
        ("[maxpool]\npadding=-1", 6, "at least 0"),
        ("[maxpool]\nstride=0", 6, "at least 1"),
        ("[maxpool]\nsize=5000", 6, "at most 4096"),
        ("[maxpool]\nout_channels=4\nmaxpool_depth=1", 6, "out_channels=4 exceeds the 3 channels"),
        (
            "[maxpool]\nantialiasing=1\nmaxpool_depth=1\nout_channels=2",
            6,
            "has no meaning with maxpool_depth",
        ),
        ("[local_avgpool]\nstride=3\nsize=1\npadding=0", 6, "has no form in Caffe"),
    ],
)
def test_refusals(text: str, line: int, words: str, tmp_path: Path) -> None:
    error = refusal(tmp_path, text)
    assert words in error.message and line_of(error) == line and error.hint


def test_pjreddie_has_one_stride_and_no_average(tmp_path: Path) -> None:
    conversion = structure(tmp_path, "[maxpool]\nsize=2\nstride=2\nstride_x=1", flavor="pjreddie")
    assert conversion.layers[0].shape == (3, 4, 3) and len(conversion.warnings) == 1
    assert "known to alexeyab's" in refusal(tmp_path, "[local_avgpool]", flavor="pjreddie").message


@pytest.mark.parametrize(
    ("width", "text", "words"),
    [
        (1, "[conv]\nfilters=500000000\n[maxpool]\nmaxpool_depth=1\nout_channels=1", "into 500000000 runs"),
        (1, "[conv]\nfilters=500000001\n[maxpool]\nmaxpool_depth=1\nout_channels=2", "into 250000001 runs"),
        (
            1,
            "[conv]\nfilters=500000001\n[maxpool]\nmaxpool_depth=1\nout_channels=500000000",
            "more than Caffe can",
        ),
        (60000, "[upsample]\nstride=100\n[local_avgpool]\nsize=3", "100 x 6000000, expected at most 1048576"),
        (
            1,
            "[upsample]\nstride=4096\n[upsample]\nstride=7\n[local_avgpool]\nsize=3",
            "more than Caffe can load",
        ),
    ],
)
def test_absurd_sizes_are_refused_without_memory_for_them(
    width: int, text: str, words: str, tmp_path: Path
) -> None:
    tracemalloc.start()
    error = refusal(tmp_path, text, (1, 1, width))
    needed = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert words in error.message and needed < 5e6
