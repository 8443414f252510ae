"""Picture files, read and written with Pillow, which is an optional dependency."""

from __future__ import annotations

import importlib
import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from nnie_prep.blob import Array
from nnie_prep.errors import UserError
from nnie_prep.outputs.target_checks import stat_of_input

_READ = ("JPEG", "PNG", "BMP", "PPM", "WEBP")
_WRITTEN = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP"}
_MODES = {1: "L", 3: "RGB"}
# What Pillow raises for a file that is cut short or damaged.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)


def pillow(module: str) -> Any:
    """PIL.<module>. UserError if Pillow is missing or too old."""
    try:
        found = importlib.import_module(f"PIL.{module}")
        version = importlib.import_module("PIL").__version__
    except ImportError as error:
        raise UserError(
            f"pictures need Pillow, which cannot be imported ({error})",
            hint="pip install 'pillow>=10.1'",
        ) from None
    if tuple(map(int, version.split(".")[:2])) < (10, 1):
        raise UserError(f"found Pillow {version}, expected 10.1", hint="pip install 'pillow>=10.1'")
    return found


def read_picture(path: Path) -> Any:
    """A picture of Pillow's, upright, RGB or grey with 8 bits; an alpha channel is left out.

    That is what Darknet does where it reads with OpenCV.
    """
    pil = pillow("Image")
    stat_of_input(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pil.DecompressionBombWarning)
            picture = pil.open(path, formats=_READ)
            picture.load()
    except pil.DecompressionBombError:
        raise UserError("has too many pixels", str(path), "make it smaller") from None
    except pil.UnidentifiedImageError:
        raise UserError(f"is no picture; {', '.join(_READ)} can be read", str(path), "convert it") from None
    except _DAMAGED as error:
        what = getattr(error, "strerror", None) or f"damaged, or cut short ({error})"
        raise UserError(f"cannot be read: {what}", str(path), "check the path and the file") from None
    if picture.mode.startswith(("I", "F")):
        raise UserError("has more than 8 bits for a colour", str(path), "save it with 8 bits")
    grey = picture.mode in ("1", "L", "LA")
    return pillow("ImageOps").exif_transpose(picture).convert("L" if grey else "RGB")


def as_planes(picture: Any, channels: int) -> Array:
    """(channels, H, W), float32 in 0..1: RGB for 3, grey for 1."""
    if channels not in _MODES:
        raise UserError(
            f"the network reads pictures of {channels} channels", hint="`nnie-prep run` takes any as .npy"
        )
    values = np.asarray(picture.convert(_MODES[channels]), np.float32)
    planes = values.reshape(*values.shape[:2], channels).transpose(2, 0, 1) / np.float32(255)
    return np.ascontiguousarray(planes)


def format_of(path: Path) -> str:
    """The format that a file's name asks for. UserError if it is none that can be written."""
    if path.suffix.lower() not in _WRITTEN:
        raise UserError(f"ends in {path.suffix!r}", str(path), f"name a file in {', '.join(_WRITTEN)}")
    return _WRITTEN[path.suffix.lower()]


def encode(picture: Any, kind: str) -> bytes:
    """The content of a picture file."""
    file = io.BytesIO()
    picture.save(file, kind, **({"quality": 92} if kind == "JPEG" else {}))
    return file.getvalue()
