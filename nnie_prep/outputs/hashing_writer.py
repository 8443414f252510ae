"""A file is hashed, and goes to the disk, while it is written; and hashing in the background."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Generic, TypeVar

import xxhash

from nnie_prep.outputs.early_sync import EarlySync

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

T = TypeVar("T")

_BUFFER = 1 << 19  # bytes; three of these stay in the caches of two cores


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

    What is larger than a buffer is hashed and written in a thread, while the caller makes what comes next.
    So a failure to write is raised by one of the next calls of `write`, or by `close`.

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
        self._error: OSError | None = None
        self._digest = xxhash.xxh3_128()
        self._sync = EarlySync(fd)
        self._buffer = memoryview(bytearray(_BUFFER))
        self._filled = 0
        self._free: SimpleQueue[memoryview] = SimpleQueue()
        self._full: SimpleQueue[memoryview | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        """Takes all of `data`."""
        view = memoryview(data).cast("B")
        size = len(view)
        while view and not self._stopped:
            if self._filled == _BUFFER:
                self._hand_over()
            count = min(_BUFFER - self._filled, len(view))
            self._buffer[self._filled : self._filled + count] = view[:count]
            self._filled += count
            view = view[count:]
        return size

    def _hand_over(self) -> None:
        """Gives the full buffer to the thread, and waits for one that it is done with."""
        if self._thread is None:
            for _ in range(2):
                self._free.put(memoryview(bytearray(_BUFFER)))
            self._thread = threading.Thread(target=self._work, daemon=True)
            self._thread.start()
        self._full.put(self._buffer)
        self._buffer, self._filled = self._free.get(), 0
        self._raise_failure()

    def _work(self) -> None:
        while (buffer := self._full.get()) is not None:
            if not self._error:
                self._append(buffer)
            self._free.put(buffer)

    def _append(self, data: memoryview) -> None:
        self._digest.update(data)
        try:
            while data:
                count = os.pwrite(self._fd, data, self._size)
                self._size += count
                data = data[count:]
        except OSError as error:
            self._error = error
        self._sync.grown(self._size)

    def _raise_failure(self) -> None:
        if self._error:
            self._stopped = True
            raise self._failed(self._error) from self._error

    def close(self) -> None:
        """Waits until all is written. A writer that nobody closed does so when it is collected."""
        if not self.closed:
            try:
                if not self._stopped:
                    self._end_thread()
                    self._raise_failure()
                    self._append(self._buffer[: self._filled])
                    self._raise_failure()
            finally:
                super().close()

    def _end_thread(self) -> None:
        if self._thread is not None:
            self._full.put(None)
            self._thread.join()

    def hash(self) -> str:
        """XXH128 of all that was written, in hexadecimal; the writer must be closed."""
        assert self.closed
        return self._digest.hexdigest()

    def sync(self) -> None:
        """Waits until the file is on the disk. OSError: the disk failed, perhaps a while ago."""
        self._sync.end()
        os.fsync(self._fd)

    def stop(self) -> None:
        """Writes nothing more, so that the descriptor may be closed."""
        self._stopped = True
        self._end_thread()
        with suppress(OSError):
            self._sync.end()
