"""The hash of what is written is the hash of what the file holds, and the disk has it."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
import threading

import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from nnie_prep.outputs import early_sync
from nnie_prep.outputs.hashing_writer import HashingWriter


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
