"""Has the disk take a large file while it is being written, so that little is left to wait for at the end."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import SimpleQueue

_STEP = 8 << 20  # bytes; below it the final fsync takes no time that anyone notices

_LACKING = (errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)


@contextmanager
def if_supported() -> Iterator[None]:
    """Goes on where a file system has no such thing: modes on vfat, a flush on some of a program."""
    try:
        yield
    except OSError as error:
        if error.errno not in _LACKING:
            raise


def start_thread(work: Callable[[int], None], fd: int) -> None:
    """Calls `work` in a thread, with a descriptor of its own for the file behind `fd`.

    So `fd` may be closed whenever it likes, and its number become another file's. (To wait for the thread
    instead is not safe: an interrupted `join` makes Python before 3.13 take a thread for dead that runs,
    and an interrupt between a lock's release and the end of its `with` blocks whoever wants it next.)

    RuntimeError, OSError: no thread or no descriptor is to be had.
    """
    own = os.dup(fd)

    def run() -> None:
        try:
            work(own)
        finally:
            os.close(own)

    try:
        threading.Thread(target=run, daemon=True).start()
    except RuntimeError:
        os.close(own)
        raise


class EarlySync:
    """The background fdatasync of one growing file.

    The kernel reports a failure to write back only once, to all duplicates of a descriptor. So what the
    background is told is kept for `end`, which raises it.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._next = _STEP
        self._has_thread = False
        self._stopped = False
        self._grown: SimpleQueue[None] = SimpleQueue()
        self._ended: SimpleQueue[OSError | None] = SimpleQueue()

    def grown(self, size: int) -> None:
        """To be called with the file's size when it has grown."""
        if size >= self._next:
            self._next = size + _STEP
            if not self._has_thread:
                with suppress(RuntimeError, OSError):  # the disk takes it all at the end, then
                    start_thread(self._work, self._fd)
                    self._has_thread = True
            self._grown.put(None)

    def end(self) -> None:
        """Waits until the background is idle, for ever; to be called once. OSError: the disk failed."""
        self.stop()
        if self._has_thread and (error := self._ended.get()):
            raise error

    def stop(self) -> None:
        """Begins nothing more, and waits for nothing."""
        self._stopped = True
        self._grown.put(None)

    def _work(self, fd: int) -> None:
        failure = None
        while not failure:
            self._grown.get()
            if self._stopped:
                break
            try:
                with if_supported():
                    os.fdatasync(fd)
            except OSError as error:
                failure = error
        self._ended.put(failure)
