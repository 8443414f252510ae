"""The temporary files beside the targets: created, locked, found again after a crash, renamed.

A run holds a flock on each of its temporary files. One that can be locked was left by a dead run; one that
cannot belongs to a living run, and the newcomer gives up. Both create first and look afterwards, so two
that start in the same instant may both give up, but never both go on.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from nnie_prep.errors import UserError
from nnie_prep.outputs.early_sync import if_supported
from nnie_prep.outputs.hashing_writer import HashingWriter

ELSEWHERE = "name another place for it"
_HINTS = dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), f"make room there or {ELSEWHERE}")


class Temporary:
    """A target and the file that is to take its place.

    Attributes:
        backup: keeps what is replaced, until all are.
        fd: open for reading and writing, and the holder of the lock; -1 before and after.
        mode: the permissions to have in the end.
        replaced: the file that lies at the target's path.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = _beside(target)
        self.backup = _beside(target, "-old")
        self.fd = -1
        self.mode = 0
        self.replaced: os.stat_result | None = None
        self.writer: HashingWriter | None = None


def create(file: Temporary) -> None:
    """Creates and locks a temporary file. UserError if the folder does not let us."""
    try:
        while True:
            file.fd = os.open(file.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            with suppress(OSError):  # some file systems have no locks
                fcntl.flock(file.fd, fcntl.LOCK_EX)
            status = os.fstat(file.fd)
            if status.st_nlink:
                break
            os.close(file.fd)  # another run took it for a leftover before it was locked
            file.fd = -1
        set_mode(file, status.st_mode)
    except OSError as error:
        raise cannot_write(file.target, error) from error


def set_mode(file: Temporary, mode: int) -> None:
    """The permissions to have in the end. Until then its owner may always read and write it."""
    file.mode = stat.S_IMODE(mode)
    with if_supported():
        os.fchmod(file.fd, file.mode | 0o600)


def make_durable(file: Temporary) -> None:
    """Flushes a temporary file, which is written, to the disk. UserError if the disk fails."""
    assert file.writer
    try:
        with if_supported():
            os.fchmod(file.fd, file.mode)
        file.writer.sync()
    except OSError as error:
        raise cannot_write(file.target, error) from error


@contextmanager
def lock_leftovers(files: Sequence[Temporary]) -> Iterator[dict[Path, list[Path]]]:
    """Target -> temporary files of dead runs for it, locked meanwhile. UserError if a living run has one."""
    found: dict[Path, list[Path]] = {file.target: [] for file in files}
    fds: list[int] = []
    try:
        for file in files:
            pattern = re.compile(rf"\.{re.escape(file.target.name)}\.nnie_prep-(\d+)-[0-9a-f]{{8}}(-old)?")
            for path in _listing(file.target):
                match = pattern.fullmatch(path.name)
                if not match or path == file.path:
                    continue
                try:
                    fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
                except OSError:
                    continue  # gone meanwhile, or another user's
                fds.append(fd)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    what = f"another run (process {match[1]}) is writing this file"
                    hint = f"wait until it has ended or {ELSEWHERE}"
                    raise UserError(what, str(file.target), hint) from None
                except OSError:
                    continue  # a file system without locks cannot tell the dead from the living
                if _is_at(path, fd):  # and was not renamed or removed before it was locked
                    found[file.target].append(path)
        yield found
    finally:
        for fd in fds:
            os.close(fd)


def rename_all(files: Sequence[Temporary]) -> None:
    """Gives all files their targets' names, in order. On any exception the targets are as they were.

    The backups are left to the caller to remove.
    """
    try:
        for file in files:
            _rename(file)
    except BaseException:
        for file in reversed(files):
            with suppress(OSError):
                if file.replaced:
                    file.backup.rename(file.target)
                elif not file.path.exists():
                    file.target.unlink()
        raise


def _rename(file: Temporary) -> None:
    if file.replaced:
        with suppress(OSError):  # without hard links there is no way back once this is replaced
            os.link(file.target, file.backup)
    try:
        file.path.rename(file.target)
    except OSError as error:
        raise cannot_write(file.target, error) from error


def remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


def cannot_write(target: Path, error: OSError) -> UserError:
    hint = _HINTS.get(error.errno or 0, ELSEWHERE)
    return UserError(f"cannot be written: {error.strerror}", str(target), hint)


def is_backup(leftover: Path) -> bool:
    """It only keeps what is being replaced, is not locked, and may vanish under the reader."""
    return leftover.name.endswith("-old")


def _beside(target: Path, suffix: str = "") -> Path:
    return target.parent / f".{target.name}.nnie_prep-{os.getpid()}-{os.urandom(4).hex()}{suffix}"


def _is_at(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(fd))
    except OSError:
        return False


def _listing(target: Path) -> list[Path]:
    try:
        return list(target.parent.iterdir())
    except OSError as error:
        raise cannot_write(target, error) from error
