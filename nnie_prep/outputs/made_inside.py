"""What made a file that is no text: the note of made_by.py at its end, where its format has room for it.

.png          a tEXt chunk before IEND
.jpg          a comment (COM) before the end of the image
.bmp          behind the pixels
.npz          the comment of the zip archive
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import numpy as np
import xxhash

from nnie_prep.outputs.made_by import Made, tail_comment

_PNG_END, _JPEG_END, _ZIP_END = 12, 2, 22  # bytes of IEND, of EOI, and of the record that ends an archive
_PNG_KEYWORD = b"tEXtComment\0"


def picture_made(content: bytes, kind: str, made: Made) -> bytes:
    """A picture file with the note in it; its pixels are what they were. `kind`: PNG, JPEG or BMP."""
    if kind == "PNG":
        size = len(_noted(b"", made)) + len(_PNG_KEYWORD) - 4
        chunk = _noted(content[:-_PNG_END] + struct.pack(">I", size) + _PNG_KEYWORD, made)
        checked = chunk[len(content) - _PNG_END + 4 :]
        return chunk + struct.pack(">I", zlib.crc32(checked)) + content[-_PNG_END:]
    if kind == "JPEG":
        marker = b"\xff\xfe" + struct.pack(">H", len(_noted(b"", made)) + 2)
        return _noted(content[:-_JPEG_END] + marker, made) + content[-_JPEG_END:]
    return _noted(content, made)


def _noted(content: bytes, made: Made) -> bytes:
    return content + tail_comment(made, xxhash.xxh3_128(content).hexdigest())


def write_npz(file: BinaryIO, arrays: Mapping[str, np.ndarray[Any, Any]], made: Made) -> None:
    """An .npz. (numpy.savez takes names as keywords, and a blob may be called "file".)"""
    held = _HoldingBack(file.write)
    with zipfile.ZipFile(held, "w") as archive:
        for name, values in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(values), allow_pickle=False)
    assert len(held.last) == _ZIP_END, "the archive does not end with its record"
    size = len(tail_comment(made, xxhash.xxh3_128(b"").hexdigest()))
    end = held.last[:-2] + struct.pack("<H", size)
    held.digest.update(end)
    file.write(end + tail_comment(made, held.digest.hexdigest()))


class _HoldingBack(io.RawIOBase):
    """Passes on what is written but for the last of it, and hashes what it passes on."""

    def __init__(self, write: Callable[[bytes], int]) -> None:
        super().__init__()
        self._write = write
        self.last = b""
        self.digest = xxhash.xxh3_128()

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        if data:
            self.digest.update(self.last)
            self._write(self.last)
            self.last = bytes(data)
        return len(data)
