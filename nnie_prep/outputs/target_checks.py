"""What a target must not be, whatever the user forces.

A symbolic link is refused: replacing the link would part it from its file, and writing through it would
change a file that was not named, in a content-addressed store perhaps one that many share.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from nnie_prep.errors import UserError
from nnie_prep.outputs.temporaries import ELSEWHERE, cannot_write


def stat_of_input(path: Path, hint: str = "check the path") -> os.stat_result:
    """UserError if there is no such regular file. (What is not regular may not be readable twice.)"""
    try:
        found = path.stat()
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", str(path), hint) from error
    except ValueError as error:  # from a file that names it
        raise UserError("no file can have this name", repr(str(path)), "correct the name there") from error
    if not stat.S_ISREG(found.st_mode):
        raise UserError("is not a regular file, as an input must be", str(path), "save it to a file")
    return found


def check_target(target: Path, read: Mapping[Path, os.stat_result]) -> os.stat_result | None:
    """What lies at a target's path, None if nothing does. UserError if it must not be replaced."""
    if target.name.partition(".")[0] == "-":  # -o - as well: the files would be called -.prototxt
        raise UserError("- is no file's name, and nothing but text is printed", str(target), ELSEWHERE)
    folder = target.parent
    try:
        if not stat.S_ISDIR(folder.stat().st_mode):
            raise UserError(f"{folder} is not a folder", str(target), ELSEWHERE)
    except FileNotFoundError:
        import shlex

        hint = f"mkdir -p {shlex.quote(str(folder))}"
        raise UserError("the folder to write to does not exist", str(folder), hint) from None
    except OSError as error:
        raise cannot_write(target, error) from error
    try:
        found = target.lstat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise cannot_write(target, error) from error
    what = ""
    if stat.S_ISLNK(found.st_mode):
        what = f"is a symbolic link to {target.readlink()}"
    elif stat.S_ISDIR(found.st_mode):
        what = "is a folder"
    elif not stat.S_ISREG(found.st_mode):
        what = "is not a regular file"
    for path, of_input in read.items():
        if os.path.samestat(found, of_input):
            what = f"is the input {path}"
    if what:
        raise UserError(f"{what} and is not replaced", str(target), ELSEWHERE)
    return found


def check_distinct(targets: Sequence[Path]) -> None:
    """UserError if two targets, their folders resolved, are the same path."""
    seen: set[tuple[str, str]] = set()
    for target in targets:
        key = (os.path.realpath(target.parent), target.name)
        if key in seen:
            raise UserError("two outputs are to be written to this file", str(target), "name two files")
        seen.add(key)


def check_unchanged(target: Path, before: os.stat_result | None) -> None:
    """UserError if a target is another file than it was (None: absent), or was written to."""
    try:
        now = target.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise cannot_write(target, error) from error
    if before is None or _identity(now) != _identity(before):
        raise UserError("was written by another program meanwhile", str(target), "look at it and run again")


def check_same(path: Path, before: os.stat_result) -> None:
    """UserError if an input is another file than it was, or was written to."""
    with suppress(OSError):  # it may be gone: all of it was read
        if _identity(path.stat()) != _identity(before):
            raise UserError("was changed while it was read", str(path), "run the command again")


def _identity(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
