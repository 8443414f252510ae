"""float32 numbers that lie in a file, read when they are asked for; none are kept."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

from nnie_prep.errors import UserError

if TYPE_CHECKING:
    from nnie_prep.blob import Array

# Bytes at a time, small enough to stay in the processor's cache while they are hashed and written.
_PIECE = 1 << 19


def read_floats(file: BinaryIO, begin: int, count: int) -> Array:
    """`count` little-endian floats from byte `begin` of an open file, as an array (count,).

    UserError: the file ends before, or its disk fails.
    """
    import numpy as np

    values = np.empty(count, "<f4")
    _fill(values.view(np.uint8).data, file, begin)
    return values


def read_in_pieces(file: BinaryIO, begin: int, count: int, unit: int = 1) -> Iterator[memoryview]:
    """The bytes of the same floats through one buffer: each piece is valid until the next is asked for.

    Each is a multiple of `unit` floats, which divides `count`.
    """
    end = begin + 4 * count
    size = min(end - begin, max(_PIECE // (4 * unit), 1) * 4 * unit)
    buffer = memoryview(bytearray(size))
    for position in range(begin, end, size or 1):
        piece = buffer[: end - position]
        _fill(piece, file, position)
        yield piece


def _fill(view: memoryview, file: BinaryIO, begin: int) -> None:
    done = 0
    while done < len(view):
        try:
            got = os.preadv(file.fileno(), [view[done:]], begin + done)
        except OSError as error:
            raise cannot_read(file, error) from error
        if got == 0:
            raise UserError("became shorter while it was read", str(file.name), "run the command again")
        done += got


def cannot_read(file: BinaryIO, error: OSError) -> UserError:
    """Of an open file, whose disk failed or whose server went away."""
    return UserError(f"cannot be read: {error.strerror}", str(file.name), "obtain the file again")
