"""Input files, looked at and read; none of them makes a command wait, or run until the memory is full."""

from __future__ import annotations

from pathlib import Path

from nnie_prep.errors import UserError
from nnie_prep.outputs.target_checks import stat_of_input


def is_file(path: Path) -> bool:
    """Whether a file is there, as far as one can see.

    Before Python 3.14 Path.is_file fails for a name that is too long, and in a folder that is closed.
    """
    try:
        return path.is_file()
    except OSError:
        return False


def read_input(path: Path, hint: str = "check the path") -> bytes:
    """What a regular file holds. UserError for all else: who opens a FIFO waits, and /dev/zero has no end."""
    stat_of_input(path, hint)
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", str(path), hint) from None
