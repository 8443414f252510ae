"""A file is hashed, and goes to the disk, while it is written; and hashing in the background."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TYPE_CHECKING, Generic, TypeVar

import xxhash

from nnie_prep.outputs.early_sync import EarlySync, if_supported, start_thread

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

T = TypeVar("T")

_BUFFER = 1 << 19  # bytes; three of these stay in the caches of two cores
_OTHERS = 2  # buffers beside the one that is being filled


class Background(threading.Thread, Generic[T]):
    """A function call in a thread of its own; it does not keep the program from ending.

    Where no thread is to be had, `start` makes the call itself.
    """

    def __init__(self, work: Callable[[], T]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self._value: T
        self._error: BaseException | None = None

    def start(self) -> None:
        try:
            super().start()
        except RuntimeError:
            self.run()

    def run(self) -> None:
        try:
            self._value = self._work()
        except BaseException as error:  # for whoever asks for the result
            self._error = error

    def result(self) -> T:
        """Waits for the call and returns its value or raises its exception."""
        if self.ident is not None:
            self.join()
        if self._error:
            raise self._error
        return self._value


class HashingWriter(io.RawIOBase):
    """Appends to the empty file behind `fd`, which stays open on `close`, and hashes what it writes.

    What is larger than a buffer is hashed and written in a thread, while the caller makes what comes next;
    where no thread is to be had, at once.
    So a failure to write is raised by one of the next calls of `write`, or by `close`, and again by `sync`.

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
        self._error: BaseException | None = None
        self._digest = xxhash.xxh3_128()
        self._sync = EarlySync(fd)
        self._buffer = memoryview(bytearray(_BUFFER))
        self._filled = 0
        self._has_thread = False
        self._free: SimpleQueue[memoryview] = SimpleQueue()
        self._full: SimpleQueue[memoryview | None] = SimpleQueue()

    def writable(self) -> bool:
        return True

    def __exit__(self, kind: type[BaseException] | None, *error_and_trace: object) -> None:
        if kind:
            self.stop()
        self.close()

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
        if not self._has_thread:
            try:
                start_thread(self._work, self._fd)
            except (RuntimeError, OSError):
                self._append(self._buffer, self._fd)
                self._filled = 0
                self._raise_failure()
                return
            self._has_thread = True
            for _ in range(_OTHERS):
                self._free.put(memoryview(bytearray(_BUFFER)))
        self._full.put(self._buffer)
        self._buffer, self._filled = self._free.get(), 0
        self._raise_failure()

    def _work(self, fd: int) -> None:
        while (buffer := self._full.get()) is not None:
            self._append(buffer, fd)
            self._free.put(buffer)

    def _append(self, data: memoryview, fd: int) -> None:
        try:
            if not (self._stopped or self._error):
                self._digest.update(data)
            while data and not (self._stopped or self._error):
                count = os.pwrite(fd, data, self._size)
                self._size += count
                data = data[count:]
            self._sync.grown(self._size)
        except BaseException as error:  # for whoever asks next
            self._error = error

    def _raise_failure(self) -> None:
        if self._error:
            self._stopped = True
            if isinstance(self._error, OSError):
                raise self._failed(self._error) from self._error
            raise self._error

    def close(self) -> None:
        """Waits until all is written. A writer that nobody closed does so when it is collected."""
        if not self.closed:
            try:
                if not self._stopped:
                    if self._has_thread:
                        for _ in range(_OTHERS):
                            self._free.get()
                    self._append(self._buffer[: self._filled], self._fd)
                    self._raise_failure()
            finally:
                self._full.put(None)
                super().close()

    def hash(self) -> str:
        """XXH128 of all that was written, in hexadecimal; the writer must be closed."""
        assert self.closed
        return self._digest.hexdigest()

    def sync(self) -> None:
        """Waits until the file is on the disk. OSError: the disk failed, perhaps a while ago."""
        if self._error:
            raise self._error
        assert not self._stopped, "not all was written"
        self._sync.end()
        with if_supported():
            os.fsync(self._fd)

    def stop(self) -> None:
        """Begins to write nothing more, and waits for nothing; the descriptor may be closed."""
        self._stopped = True
        self._full.put(None)
        self._sync.stop()
