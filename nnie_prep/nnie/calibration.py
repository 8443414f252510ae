"""Calibration pictures: chosen, resized, listed; and made into what the net is fed with.

The compiler runs the net on some typical pictures to see how large values become. It reads them with OpenCV,
stretches them to the size of the input, takes the planes in the order that RGB_order says, subtracts the
mean, and then multiplies by data_scale. With image_type 3 and 5 a board's pictures come in as YUV; the
compiler is given RGB files for these too, and what is done to them is taken for the same.

How well it is known: mean before scale, RGB files for YUV, and one tensor a line for image_type 0 are in
the vendor's guide as its readers quote it. That RGB_order is the order that the net sees, the vendor's
documents say of the compiler's successor, and MindSpore Lite's of this one; that pictures are stretched
bilinearly, the latter alone. (For image_type 1 the guide says of RGB_order only that a board is to be
given BGR planes whatever it is.) Pictures of the net's own size leave less to chance.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from google.protobuf.message import DecodeError

from nnie_prep.blob import Array
from nnie_prep.detection.picture import encode, pillow, read_picture
from nnie_prep.errors import UserError
from nnie_prep.nnie.mapper_cfg import (
    FEATURE_MAP,
    NO_FILE,
    WITH_MEAN_IMAGE,
    WITH_MEAN_VALUES,
    ImageGroup,
    MapperCfg,
    read_cfg,
)
from nnie_prep.nnie_caffe_pb2 import BlobProto
from nnie_prep.outputs import made_from
from nnie_prep.outputs.input_files import is_file, read_input
from nnie_prep.shapes import Shape

# What Pillow is asked to read for us, of what the compiler reads.
READABLE = (".bmp", ".dib", ".jpeg", ".jpg", ".jpe", ".png", ".webp", ".pbm", ".pgm", ".ppm")
# How the files begin that the compiler reads. Like OpenCV it goes by that, and not by the suffix. What a
# text may begin with too is told by what follows: the size of a BMP's header, the width of a PBM.
_BEGINNINGS = re.compile(
    rb"BM.{12}.\0|\xff\xd8\xff|\x89PNG\r\n\x1a\n|RIFF....WEBP|P[1-6]\s+[\d#]|II\*\0|MM\0\*|\x59\xa6\x6a\x95"
    rb"|\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51",  # the two of JPEG 2000
    re.DOTALL,
)
_MODES = {1: "L", 3: "RGB"}
_COEFFICIENT = 2048  # OpenCV's weights have 11 binary places

Item = TypeVar("Item")


class Listed(NamedTuple):
    """An entry of an image list, where it leads to, and on which line it stands."""

    text: str
    path: Path
    line: int


# ---- choosing ------------------------------------------------------------------------------------


def find_pictures(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """The folder's pictures and those of its folders, by path; what is hidden is passed over, and what
    `detect` drew boxes into and named after its picture."""
    hint = "give a folder of calibration pictures"
    try:
        if not folder.is_dir():
            raise UserError("is no folder", str(folder), hint)
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", str(folder), hint) from None
    if folder.samefile("/"):
        raise UserError("holds all files that there are", str(folder), hint)
    seen = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = [Path(place, name) for name in names if not name.startswith(".")]
        pictures = [path for path in paths if path.suffix in suffixes and is_file(path)]
        seen += [path.relative_to(folder) for path in pictures if not _is_drawn(path)]
    if not seen:
        raise UserError(
            "holds no picture that the compiler reads",
            str(folder),
            f"put some there that end in {', '.join(sorted({one.lower() for one in suffixes}))}",
        )
    return [folder / path for path in sorted(seen, key=lambda path: path.as_posix())]


def _is_drawn(path: Path) -> bool:
    """Whether `detect` wrote a picture, under the name that it chooses itself."""
    made = made_from(path) if path.stem.endswith("_detected") else None
    return made is not None and made.command.endswith(" detect")


def sample(items: Sequence[Item], count: int, seed: int) -> list[Item]:
    """`count` of the items, in their order, spread evenly: one at random of each of as many equal stretches.

    Neighbours in a folder are often frames of one film. The same items, count and seed give the same
    ones; all of them where there are no more.
    """
    if count >= len(items):
        return list(items)
    draw = random.Random(seed)
    bounds = [place * len(items) // count for place in range(count + 1)]
    return [
        items[low + int(draw.random() * (high - low))] for low, high in zip(bounds, bounds[1:], strict=False)
    ]


# ---- pictures ------------------------------------------------------------------------------------


def check_beginning(path: Path) -> None:
    """UserError for a file that does not begin as a picture does; the rest of it is not looked at."""
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", str(path), "check the path") from None
    if not _BEGINNINGS.match(start):
        what = f"begins with {start!r}" if start else "is empty"
        hint = "take it out of the folder, or put the picture there that it was made of"
        raise UserError(f"is no picture that the compiler reads: it {what}", str(path), hint)


def pixels(path: Path, channels: int) -> Array:
    """A picture file as (H, W, channels), uint8: RGB for 3, grey for 1."""
    picture = read_picture(path).convert(_MODES[channels])
    return np.asarray(picture).reshape(picture.height, picture.width, channels)


def resize(picture: Array, width: int, height: int) -> Array:
    """(H, W, C) to (height, width, C), uint8, stretched by OpenCV's INTER_LINEAR in its own fixed point.

    (OpenCV modules/imgproc/src/resize.cpp: pixels' centres fall on centres, edges are repeated, nothing
    is smoothed where it shrinks. Its vector code differs by one level in a few pixels of ten thousand.)
    """
    if picture.shape[:2] == (height, width):
        return picture
    left, right, by_left, by_right = _taps(picture.shape[1], width)
    upper, lower, by_upper, by_lower = _taps(picture.shape[0], height)
    values = picture.astype(np.int64)
    wide = values[:, left] * by_left[:, None] + values[:, right] * by_right[:, None]
    high = ((wide[upper] >> 4) * by_upper[:, None, None] >> 16) + (
        (wide[lower] >> 4) * by_lower[:, None, None] >> 16
    )
    return np.asarray(np.clip((high + 2) >> 2, 0, 255), np.uint8)


def _taps(old: int, new: int) -> tuple[Array, Array, Array, Array]:
    """For each output its two inputs, and the weight of each in 1/2048."""
    place = ((np.arange(new) + 0.5) * (1 / (new / old)) - 0.5).astype(np.float32)
    place = np.clip(place, 0, old - 1)
    first = np.floor(place).astype(np.intp)
    part = place - first.astype(np.float32)
    weights = [np.rint(one * np.float32(_COEFFICIENT)).astype(np.int64) for one in (1 - part, part)]
    return first, np.minimum(first + 1, old - 1), weights[0], weights[1]


def resized_copy(path: Path, shape: Shape) -> bytes:
    """A picture as a BMP of an input's size (N, C, H, W), which says the same to every reader."""
    _, channels, height, width = shape
    values = resize(pixels(path, channels), width, height)
    picture = pillow("Image").fromarray(values if channels == 3 else values[:, :, 0])
    return encode(picture, "BMP")


# ---- lists ---------------------------------------------------------------------------------------


def read_list(cfg: MapperCfg, group: ImageGroup) -> list[Listed]:
    """The pictures that an image list names, from the folder of the .cfg."""
    return [
        Listed(line.strip(), cfg.path(line.strip()), number)
        for number, line in enumerate(_lines(cfg.path(group.image_list)), 1)
        if line.strip()
    ]


def tensor_lines(tensors: Array) -> bytes:
    """Tensors (N, ...) as an image list of image_type 0: the floats of one in a line, exact in float32."""
    rows = (" ".join(f"{value:.9g}" for value in row) for row in tensors.reshape(len(tensors), -1).tolist())
    return "".join(f"{row}\n" for row in rows).encode()


def read_tensors(path: Path, shape: Shape) -> Iterator[tuple[int, Array | str]]:
    """(line, tensor) of an image list of image_type 0, each (1, ...) of the input's shape, or (line, what is
    wrong with it)."""
    count = int(np.prod(shape[1:]))
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        try:
            values = np.array(line.replace(",", " ").split(), np.float32)
        except ValueError as error:
            yield number, f"holds what is no number ({error})"
            continue
        if values.size != count:
            yield number, f"{values.size} numbers"
        elif not np.isfinite(values).all():
            yield number, "a number that is not finite"
        else:
            yield number, values.reshape(1, *shape[1:])


def _lines(path: Path) -> list[str]:
    return read_input(path).decode("utf-8-sig", errors="surrogateescape").splitlines()


# ---- the mean ------------------------------------------------------------------------------------


def read_mean(cfg: MapperCfg, group: ImageGroup, shape: Shape) -> Array:
    """What is subtracted, float32: (C, 1, 1) or (C, H, W) for an input (N, C, H, W); zeros without a mean.

    Raises UserError for a file that does not fit.
    """
    channels = shape[1]
    if group.norm_type not in (*WITH_MEAN_IMAGE, *WITH_MEAN_VALUES):
        return np.zeros((channels, 1, 1), np.float32)
    path = cfg.path(group.mean_file)
    if group.mean_file == NO_FILE or not is_file(path):
        raise UserError(
            f"norm_type {group.norm_type} subtracts a mean, and mean_file {group.mean_file} does not exist",
            cfg_where(cfg, group, "mean_file"),
            "name the file, or choose another norm_type",
        )
    if group.norm_type in WITH_MEAN_IMAGE:
        mean = read_mean_image(path)
        if mean.shape != shape[1:]:
            raise UserError(
                f"its shape is {mean.shape}, and the input's {tuple(shape[1:])}",
                str(path),
                "compute it for pictures of that size, or use one value for each channel (norm_type 2 or 5)",
            )
        return mean
    values = read_mean_values(path)
    if len(values) != channels:
        raise UserError(
            f"holds {len(values)} values, and the input has {channels} channels",
            str(path),
            "write the mean of each channel on a line of its own",
        )
    return np.array(values, np.float32).reshape(-1, 1, 1)


def read_mean_values(path: Path) -> list[float]:
    """One float a line."""
    values = []
    for number, line in enumerate(_lines(path), 1):
        if line.strip():
            try:
                values.append(float(line))
            except ValueError:
                values.append(float("nan"))
            if not np.isfinite(values[-1]):
                raise UserError(
                    f"{line.strip()[:40]!r} is no number", f"{path}:{number}", "write one number a line"
                )
    return values


def read_mean_image(path: Path) -> Array:
    """A Caffe mean file, a BlobProto, as (C, H, W), float32."""
    message, data = BlobProto(), read_input(path)
    try:
        message.ParseFromString(data)
    except DecodeError:
        message.Clear()
    shape = [*message.shape.dim] or [message.num, message.channels, message.height, message.width]
    values = np.array(message.data or message.double_data, np.float32)
    if values.size == 0 or values.size != np.prod(shape) or len(shape) < 3:
        raise UserError(
            "is no mean file of Caffe's", str(path), "give the .binaryproto that compute_image_mean wrote"
        )
    return values.reshape(shape[-3:])


def cfg_where(cfg: MapperCfg, group: ImageGroup, key: str) -> str:
    """file:line of a key, as well as it is known."""
    line = group.lines.get(key)
    source = str(cfg.source) if cfg.source else "the .cfg"
    return f"{source}:{line}" if line else source


# ---- what the net is fed with --------------------------------------------------------------------


def picture_tensor(path: Path, shape: Shape, order: str, mean: Array, scale: float) -> Array:
    """What a picture becomes: (1, C, H, W), float32."""
    _, channels, height, width = shape
    planes = resize(pixels(path, channels), width, height).transpose(2, 0, 1)
    if order == "BGR":
        planes = planes[::-1]
    fed = (planes.astype(np.float32) - mean) * np.float32(scale)
    return np.asarray(fed[np.newaxis], dtype=np.float32)


def cfg_feeds(path: Path, shapes: Mapping[str, Shape]) -> dict[str, list[Array]]:
    """What each input is fed with, (1, ...), one for each picture of the .cfg, as the compiler computes it.

    Args:
        shapes: of the net's inputs, in its order.

    Raises UserError for what the compiler could not use.
    """
    cfg = read_cfg(path)
    if len(cfg.groups) != len(shapes):
        raise UserError(
            f"{len(cfg.groups)} image_list, and the net's inputs are {', '.join(shapes)}",
            str(path),
            "give each input its own, in the order of the prototxt",
        )
    pairs = zip(shapes.items(), cfg.groups, strict=True)
    feeds = {name: group_tensors(cfg, group, shape) for (name, shape), group in pairs}
    for (name, tensors), group in zip(feeds.items(), cfg.groups, strict=True):
        if not tensors:
            raise UserError(f"lists nothing for input {name}", str(cfg.path(group.image_list)))
    return feeds


def group_tensors(cfg: MapperCfg, group: ImageGroup, shape: Shape) -> list[Array]:
    """What one input is fed with, picture by picture. Raises UserError for what the compiler cannot use."""
    if group.image_type == FEATURE_MAP:
        tensors = []
        for line, found in read_tensors(cfg.path(group.image_list), shape):
            if isinstance(found, str):
                raise UserError(
                    f"{found}, expected {int(np.prod(shape[1:]))} numbers",
                    f"{cfg.path(group.image_list)}:{line}",
                    "write one tensor a line",
                )
            tensors.append(found)
        return tensors
    if len(shape) != 4 or shape[1] not in _MODES:
        raise UserError(
            f"an input of shape {tuple(shape)} takes no pictures",
            cfg_where(cfg, group, "image_type"),
            "set image_type 0, and list tensors",
        )
    mean = read_mean(cfg, group, shape)
    return [
        picture_tensor(listed.path, shape, cfg.RGB_order, mean, group.scale)
        for listed in read_list(cfg, group)
    ]
