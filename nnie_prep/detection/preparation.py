"""A picture as Darknet feeds it: resized to the network's input, or letterboxed into it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nnie_prep.blob import Array
from nnie_prep.errors import UserError

Size = tuple[int, int]  # width, height

_GREY = 0.5


class Placement(NamedTuple):
    """How a picture lies in a network's input: sizes in pixels. `inner` is the picture's own there."""

    picture: Size
    network: Size
    inner: Size

    def on_picture(self, boxes: Array) -> Array:
        """Boxes (N, 4) of centre x, y, width, height: fractions of the network's input to such of the
        picture. (AlexeyAB yolo_layer.c, correct_yolo_boxes: the margin is halved without rounding,
        where embedding rounds down, which is half a pixel at most.)
        """
        network, inner = np.array(self.network, np.float64), np.array(self.inner, np.float64)
        ratio = inner / network
        centre = (boxes[:, :2] - (network - inner) / 2 / network) / ratio
        return np.concatenate([centre, boxes[:, 2:] / ratio], axis=1)


def prepare(picture: Array, width: int, height: int, letterbox: bool) -> tuple[Array, Placement]:
    """What the network is fed with, (C, height, width), and how the picture lies in it.

    Args:
        picture: (C, H, W), float32 in 0..1.
        letterbox: keep the sides' proportion, on grey 0.5 (image.c, letterbox_image); else stretch.
    """
    rows, columns = picture.shape[1:]
    whole = (width, height)
    if not letterbox:
        return resize(picture, width, height), Placement((columns, rows), whole, whole)
    if np.float32(width) / np.float32(columns) < np.float32(height) / np.float32(rows):
        inner = (width, rows * width // columns)
    else:
        inner = (columns * height // rows, height)
    if 0 in inner:
        raise UserError(
            f"a picture of {columns}x{rows} leaves nothing when it is letterboxed to {width}x{height}",
            hint="cut it, or stretch it with --no-letterbox",
        )
    canvas = np.full((len(picture), height, width), _GREY, np.float32)
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    canvas[:, top : top + inner[1], left : left + inner[0]] = resize(picture, *inner)
    return canvas, Placement((columns, rows), whole, inner)


def resize(picture: Array, width: int, height: int) -> Array:
    """(C, H, W) to (C, height, width), by Darknet's own bilinear rule (image.c, resize_image).

    Corners fall on corners: output i lies at i * (old - 1) / (new - 1), reckoned in float32. Columns first,
    then rows; no smoothing where it shrinks. In the last row Darknet leaves out the second of
    the two rows even where rounding has put it a hair before the end, which makes it dark; so
    does this.
    """
    if picture.shape[1:] == (height, width):
        return picture.astype(np.float32)
    index, part = _taps(picture.shape[2], width)
    after = np.minimum(index + 1, picture.shape[2] - 1)
    index[-1], part[-1] = picture.shape[2] - 1, 0.0
    wide = picture[:, :, index] * (1 - part) + picture[:, :, after] * part

    index, part = _taps(picture.shape[1], height)
    after = np.minimum(index + 1, picture.shape[1] - 1)
    second = part.copy()
    second[-1] = 0.0
    high = wide[:, index] * (1 - part)[:, np.newaxis] + wide[:, after] * second[:, np.newaxis]
    return np.asarray(high, np.float32)


def _taps(old: int, new: int) -> tuple[Array, Array]:
    """For each output the first of the two inputs that it lies between, and the second's part."""
    scale = np.float32(old - 1) / np.float32(max(new - 1, 1))
    place = np.arange(new, dtype=np.float32) * scale
    index = place.astype(np.intp)
    return index, place - index.astype(np.float32)
