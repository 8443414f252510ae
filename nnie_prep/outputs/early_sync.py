"""Has the disk take a large file while it is being written, so that little is left to wait for at the end."""

from __future__ import annotations

import os
import threading

_STEP = 8 << 20  # bytes; below it the final fsync takes no time that anyone notices


class EarlySync:
    """The background fdatasync of one growing file.

    The kernel reports a failure to write back only once to each descriptor. So what the background is told
    is kept, and `end` raises it.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._next = _STEP
        self._grown = threading.Semaphore(0)
        self._thread: threading.Thread | None = None
        self._ended = False
        self._error: OSError | None = None

    def grown(self, size: int) -> None:
        """To be called with the file's size when it has grown."""
        if size >= self._next:
            self._next = size + _STEP
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, daemon=True)
                self._thread.start()
            self._grown.release()

    def end(self) -> None:
        """Waits until the background is idle, for ever. OSError: the disk failed."""
        self._ended = True
        if self._thread is not None:
            self._grown.release()
            self._thread.join()
        if self._error:
            raise self._error

    def _work(self) -> None:
        while self._grown.acquire() and not self._ended:
            try:
                os.fdatasync(self._fd)
            except OSError as error:
                self._error = error
                return
