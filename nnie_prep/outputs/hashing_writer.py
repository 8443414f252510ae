"""Hashing: of a file while it is written, and in the background."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

import xxhash

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

T = TypeVar("T")


class Background(threading.Thread, Generic[T]):
    """A function call in a thread of its own; it does not keep the program from ending."""

    def __init__(self, work: Callable[[], T]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self._value: T
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._value = self._work()
        except BaseException as error:  # for whoever asks for the result
            self._error = error

    def result(self) -> T:
        """Waits for the call and returns its value or raises its exception."""
        self.join()
        if self._error:
            raise self._error
        return self._value


class HashingWriter(io.RawIOBase):
    """Appends to the empty file behind `fd`, which stays open on `close`, and hashes what it writes.

    Args:
        fd: a descriptor at offset 0.
        failed: makes the exception to raise from an OSError of the file.
    """

    def __init__(self, fd: int, failed: Callable[[OSError], Exception]) -> None:
        super().__init__()
        self._fd = fd
        self._failed = failed
        self._size = 0
        self._stopped = False
        self._digest = xxhash.xxh3_128()

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        """Writes all of `data`."""
        view = memoryview(data).cast("B")
        if self._stopped:
            return len(view)  # a buffer that nobody closed is flushed when it is collected
        done = 0
        while done < len(view):
            try:
                done += os.pwrite(self._fd, view[done:], self._size + done)
            except OSError as error:
                raise self._failed(error) from error
        self._digest.update(view)
        self._size += done
        return done

    def hash(self) -> str:
        """XXH128 of all that was written, in hexadecimal; the writer must be closed."""
        assert self.closed
        return self._digest.hexdigest()

    def stop(self) -> None:
        """Writes nothing more, so that the descriptor may be closed."""
        self._stopped = True
