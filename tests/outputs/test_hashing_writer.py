"""The hash of what is written is the hash of what the file holds, and the disk has it."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from nnie_prep.outputs import early_sync
from nnie_prep.outputs.hashing_writer import Background, HashingWriter


def _failed(error: OSError) -> Exception:
    return RuntimeError(error)


@settings(max_examples=60)
@given(
    st.lists(st.sampled_from([0, 1, 7, 4096, (1 << 19) - 1, 1 << 19, (1 << 20) + 1, 2_500_000]), max_size=8)
)
def test_hash_and_content_of_pieces_of_any_size_whose_buffer_is_reused(sizes: list[int]) -> None:
    whole = b"".join(hashlib.shake_128(bytes([index])).digest(size) for index, size in enumerate(sizes))
    with tempfile.TemporaryFile() as file:
        writer = HashingWriter(file.fileno(), _failed)
        reused = bytearray(2_500_000)
        at = 0
        for size in sizes:
            reused[:size] = whole[at : at + size]
            assert writer.write(memoryview(reused)[:size]) == size
            reused[:size] = bytes(size)
            at += size
        writer.close()
        assert writer.hash() == xxhash.xxh3_128(whole).hexdigest() == writer.hash()
        assert os.pread(file.fileno(), len(whole) + 1, 0) == whole


def test_writing_in_part_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: pwrite(fd, data[:777], offset))
    content = hashlib.shake_128(b"x").digest(99_999)
    with tempfile.TemporaryFile() as file:
        writer = HashingWriter(file.fileno(), _failed)
        assert writer.write(content[:9]) + writer.write(content[9:]) == len(content)
        writer.close()
        assert writer.hash() == xxhash.xxh3_128(content).hexdigest()
        assert file.read() == content


def test_what_is_flushed_late_does_not_reach_the_next_file_of_that_number() -> None:
    with tempfile.TemporaryFile() as file:
        writer = HashingWriter(file.fileno(), _failed)
        writer.write(b"late")
        writer.stop()
        writer.close()
        assert file.read() == b""


def test_what_failed_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "pwrite", full)
    with tempfile.TemporaryFile() as file:
        writer = HashingWriter(file.fileno(), _failed)
        with pytest.raises(RuntimeError, match="full"):  # by one of the next
            for _ in range(5):
                writer.write(bytes(1 << 19))
        writer.close()


def test_what_fails_at_the_end_is_told_of_by_close(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    for size in (9, (1 << 19) + 9):
        with tempfile.TemporaryFile() as file:
            writer = HashingWriter(file.fileno(), _failed)
            with monkeypatch.context() as patched:
                patched.setattr(os, "pwrite", full)
                writer.write(bytes(size))
                with pytest.raises(RuntimeError, match="full"):
                    writer.close()
            assert writer.closed


def test_the_disk_has_most_of_a_large_file_before_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early_sync, "_STEP", 1_000_000)
    synced: list[int] = []
    started, resumed = threading.Event(), threading.Event()

    def slow(fd: int) -> None:
        started.set()
        assert resumed.wait(30)
        synced.append(os.fstat(fd).st_size)

    monkeypatch.setattr(os, "fdatasync", slow)
    with tempfile.TemporaryFile() as file:
        writer = HashingWriter(file.fileno(), _failed)
        writer.write(bytes(900_000))
        assert not started.is_set()
        writer.write(bytes(900_000))
        assert started.wait(30)
        writer.write(bytes(900_000))
        threading.Timer(0.05, resumed.set).start()
        writer.close()
        writer.sync()
        assert synced and synced[0] > 1_000_000  # which was waited for


def test_a_disk_that_failed_in_the_background_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early_sync, "_STEP", 1_000_000)
    tried = threading.Event()

    def fail(fd: int) -> None:
        tried.set()
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "fdatasync", fail)
    with tempfile.TemporaryFile() as file:
        writer = HashingWriter(file.fileno(), _failed)
        writer.write(bytes(2_000_000))
        assert tried.wait(30)
        writer.close()
        with pytest.raises(OSError, match="broken"):
            writer.sync()
        writer.stop()


class _Interrupted(Exception):
    pass


@pytest.fixture
def interrupt_in() -> Iterator[Callable[[float], None]]:
    """Has what the main thread does in so many seconds be interrupted, as Ctrl-C does."""

    def interrupt(*arguments: object) -> None:
        raise _Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds) and None
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("slow", ["pwrite", "fdatasync"])
def test_after_an_interrupt_the_next_file_of_that_number_is_safe(
    monkeypatch: pytest.MonkeyPatch, interrupt_in: Callable[[float], None], slow: str
) -> None:
    monkeypatch.setattr(early_sync, "_STEP", 1_000_000)
    started, resumed, used = threading.Event(), threading.Event(), SimpleQueue[os.stat_result]()
    real, threads = getattr(os, slow), threading.active_count()

    def slowly(fd: int, *arguments: Any) -> Any:
        started.set()
        assert resumed.wait(30)
        used.put(os.fstat(fd))
        return real(fd, *arguments)

    monkeypatch.setattr(os, slow, slowly)
    with tempfile.TemporaryFile() as file, tempfile.TemporaryFile() as other:
        mine = os.fstat(file.fileno())
        writer = HashingWriter(file.fileno(), _failed)
        with pytest.raises(_Interrupted), writer:
            writer.write(bytes(1_500_000))
            assert started.wait(30)
            interrupt_in(0.05)
            writer.close()
            writer.sync()
        writer.stop()
        os.dup2(other.fileno(), file.fileno())
        resumed.set()
        assert os.path.samestat(used.get(timeout=30), mine)
        assert _idle(threads)
        assert used.empty() and other.read() == b""


def _idle(threads: int) -> bool:
    """Whether all threads end but for so many."""
    for _ in range(1000):
        if threading.active_count() <= threads:
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("runs", [False, True])
def test_an_interrupt_while_the_thread_is_started_is_what_is_raised(
    monkeypatch: pytest.MonkeyPatch, runs: bool
) -> None:
    start, threads = threading.Thread.start, threading.active_count()

    def interrupted(thread: threading.Thread) -> None:
        if runs:
            start(thread)
        raise _Interrupted

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with tempfile.TemporaryFile() as file:
        writer = HashingWriter(file.fileno(), _failed)
        with pytest.raises(_Interrupted), writer:
            writer.write(bytes(3 << 19))
        writer.stop()
    assert _idle(threads)


def test_without_a_thread_for_it_the_disk_takes_the_file_at_the_end(
    monkeypatch: pytest.MonkeyPatch, interrupt_in: Callable[[float], None]
) -> None:
    monkeypatch.setattr(early_sync, "_STEP", 1_000_000)
    start = threading.Thread.start
    count = 0

    def second_fails(thread: threading.Thread) -> None:
        nonlocal count
        count += 1
        if count > 1:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", second_fails)
    content = hashlib.shake_128(b"x").digest(4_000_000)
    with tempfile.TemporaryFile() as file:
        writer = HashingWriter(file.fileno(), _failed)
        interrupt_in(20)  # a hang is a failure
        with writer:
            writer.write(content)
        writer.sync()
        assert signal.setitimer(signal.ITIMER_REAL, 0)[0] > 0
        assert writer.hash() == xxhash.xxh3_128(content).hexdigest()
        assert os.pread(file.fileno(), len(content) + 1, 0) == content


def test_what_no_disk_does_to_the_thread_is_told_of_too(
    monkeypatch: pytest.MonkeyPatch, interrupt_in: Callable[[float], None]
) -> None:
    def fail(*arguments: object) -> int:
        raise MemoryError("none")

    monkeypatch.setattr(os, "pwrite", fail)
    with tempfile.TemporaryFile() as file:
        writer = HashingWriter(file.fileno(), _failed)
        interrupt_in(20)
        with pytest.raises(MemoryError), writer:
            writer.write(bytes(6 << 19))
        assert signal.setitimer(signal.ITIMER_REAL, 0)[0] > 0
        writer.stop()


def test_what_failed_or_was_left_is_never_taken_for_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    with tempfile.TemporaryFile() as file:
        writer = HashingWriter(file.fileno(), _failed)
        with monkeypatch.context() as patched:
            patched.setattr(os, "pwrite", full)
            with pytest.raises(RuntimeError, match="full"), writer:
                writer.write(b"lost")
        with pytest.raises(OSError, match="full"):  # though a caller did not mind
            writer.sync()


def test_no_descriptor_and_no_thread_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early_sync, "_STEP", 1_000_000)
    with tempfile.TemporaryFile() as file:
        threads, before = threading.active_count(), _descriptors()
        for breaks in (False, True):
            writer = HashingWriter(file.fileno(), _failed)
            with suppress(_Interrupted), writer:
                writer.write(bytes(2_500_000))
                if breaks:
                    raise _Interrupted
            writer.stop()
            assert _idle(threads)
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", _refused)
            HashingWriter(file.fileno(), _failed).write(bytes(3 << 19))
        assert _descriptors() == before


@pytest.mark.parametrize("lacks", ["threads", "descriptors", "threads at first"])
def test_without_a_thread_the_file_is_written_all_the_same(
    monkeypatch: pytest.MonkeyPatch, lacks: str
) -> None:
    """Under a tight limit of processes, as a container may have."""
    content = hashlib.shake_128(b"y").digest(5 << 19) + b"rest"
    if lacks == "descriptors":
        monkeypatch.setattr(os, "dup", _no_descriptor)
    else:
        monkeypatch.setattr(threading.Thread, "start", _refused)
    with tempfile.TemporaryFile() as file:
        writer = HashingWriter(file.fileno(), _failed)
        with writer:
            for start in range(0, len(content), 333_333):
                writer.write(content[start : start + 333_333])
                if start > 1 << 20 and lacks == "threads at first":
                    monkeypatch.undo()
        writer.sync()
        assert writer.hash() == xxhash.xxh3_128(content).hexdigest()
        assert os.pread(file.fileno(), len(content) + 1, 0) == content


def test_without_a_thread_a_full_disk_is_told_of_by_the_write(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(threading.Thread, "start", _refused)
    monkeypatch.setattr(os, "pwrite", full)
    with tempfile.TemporaryFile() as file:
        with pytest.raises(RuntimeError, match="full"), HashingWriter(file.fileno(), _failed) as writer:
            writer.write(bytes(1 << 19))
            writer.write(b"one more")
        writer.stop()


def test_without_a_thread_what_is_asked_for_is_computed_by_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading.Thread, "start", _refused)
    for work, answer in ((lambda: 7, 7), (lambda: int("x"), ValueError)):
        background = Background(work)
        background.start()
        if answer is ValueError:
            with pytest.raises(ValueError, match="invalid literal"):
                background.result()
        else:
            assert background.result() == answer == background.result()


def _no_descriptor(fd: int) -> int:
    raise OSError(errno.EMFILE, "Too many open files")


def _refused(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def _descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
