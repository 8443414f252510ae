"""Resizing and letterboxing, against Darknet's rules written out pixel by pixel, and against OpenCV."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nnie_prep.detection.preparation import prepare, resize
from nnie_prep.errors import UserError

Array = NDArray[Any]
# Four products and sums in float32 of numbers up to 1.
ROUNDING = 5e-7


def drawn(shape: tuple[int, ...], seed: int = 0) -> Array:
    return np.random.default_rng(seed).random(shape, np.float32)


def by_the_pixel(plane: Array, width: int, height: int) -> Array:
    """One plane by image.c, resize_image: places in float32 as there, values in float64."""
    rows, columns = plane.shape
    out = np.empty((height, width))
    for y in range(height):
        for x in range(width):
            here = np.float32(x) * (np.float32(columns - 1) / np.float32(width - 1)) if width > 1 else 0.0
            below = np.float32(y) * (np.float32(rows - 1) / np.float32(height - 1)) if height > 1 else 0.0
            left, top = int(here), int(below)

            def across(row: int, x: int = x, left: int = left, part: float = float(here) - left) -> float:
                if x == width - 1 or columns == 1:
                    return float(plane[row, columns - 1])
                return (1 - part) * float(plane[row, left]) + part * float(plane[row, left + 1])

            part = float(below) - top
            out[y, x] = (1 - part) * across(top)
            if y < height - 1 and rows > 1:
                out[y, x] += part * across(top + 1)
    return out


sizes = st.integers(1, 23)


@settings(max_examples=60)
@given(sizes, sizes, sizes, sizes, st.integers(0, 99))
def test_resize_is_darknets(columns: int, rows: int, width: int, height: int, seed: int) -> None:
    picture = drawn((2, rows, columns), seed)
    found = resize(picture, width, height)
    assert found.dtype == np.float32 and found.shape == (2, height, width)
    for plane, one in zip(picture, found, strict=True):
        assert np.abs(by_the_pixel(plane, width, height) - one).max() < ROUNDING


def test_the_last_row_of_some_sizes_is_dark() -> None:
    """Darknet's rounding puts it a hair before the last row of the picture, and then forgets that one."""
    dark = [
        (rows, height)
        for rows in range(2, 60)
        for height in range(2, 60)
        if resize(np.ones((1, rows, 1), np.float32), 1, height)[0, -1, 0] < 0.5
    ]
    for rows, height in dark:
        step = np.float32(rows - 1) / np.float32(height - 1)
        assert np.float32(height - 1) * step < rows - 1
    assert 0 < len(dark) < 58 * 58 / 4


def test_resize_against_opencv() -> None:
    """OpenCV's remap, with the places that put corners on corners."""
    picture = drawn((3, 37, 53), 3)
    width, height = 24, 41
    across, down = np.meshgrid(np.linspace(0, 52, width), np.linspace(0, 36, height))
    places = across.astype(np.float32), down.astype(np.float32)
    expected = cv2.remap(
        picture.transpose(1, 2, 0), *places, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    # remap's own places have 5 bits behind the point
    assert np.abs(expected.transpose(2, 0, 1) - resize(picture, width, height)).max() < 2 / 32


@settings(max_examples=60)
@given(sizes, sizes, sizes, sizes)
def test_letterbox(columns: int, rows: int, width: int, height: int) -> None:
    """The picture on grey, as large as it can be; boxes come back to where they were."""
    picture = drawn((3, rows, columns), columns)
    try:
        x, placement = prepare(picture, width, height, letterbox=True)
    except UserError as error:
        assert rows * width < columns or columns * height < rows, error
        return
    inner_width, inner_height = placement.inner
    assert inner_width == width or inner_height == height
    assert (inner_width, inner_height) == (
        min(width, columns * height // rows),
        min(height, rows * width // columns),
    )
    left, top = (width - inner_width) // 2, (height - inner_height) // 2
    expected = np.full((3, height, width), 0.5)
    for plane, out in zip(picture, expected, strict=True):
        out[top : top + inner_height, left : left + inner_width] = by_the_pixel(
            plane, inner_width, inner_height
        )
    assert np.abs(expected - x).max() < ROUNDING

    # the picture's own frame, in the network's input, margins not rounded
    margins = (width - inner_width) / 2, (height - inner_height) / 2
    middle = [(margins[0] + inner_width / 2) / width, (margins[1] + inner_height / 2) / height]
    frame = np.array([[*middle, inner_width / width, inner_height / height]])
    quarter = np.array(
        [[(margins[0] + inner_width / 4) / width, (margins[1] + inner_height / 8) / height, 0.5, 0.25]]
    )
    assert placement.on_picture(frame) == pytest.approx(np.array([[0.5, 0.5, 1, 1]]))
    assert placement.on_picture(quarter) == pytest.approx(
        np.array([[0.25, 0.125, 0.5 * width / inner_width, 0.25 * height / inner_height]])
    )


def test_plain_resizing_needs_no_way_back() -> None:
    x, placement = prepare(drawn((3, 9, 14)), 8, 6, letterbox=False)
    assert np.array_equal(x, resize(drawn((3, 9, 14)), 8, 6))
    boxes = np.random.default_rng(1).random((5, 4))
    assert placement.on_picture(boxes) == pytest.approx(boxes)
    assert (placement.picture, placement.network) == ((14, 9), (8, 6))


def test_a_picture_too_thin() -> None:
    with pytest.raises(
        UserError, match="200x1 leaves nothing when it is letterboxed to 32x32; .*--no-letterbox"
    ):
        prepare(drawn((3, 1, 200)), 32, 32, letterbox=True)
