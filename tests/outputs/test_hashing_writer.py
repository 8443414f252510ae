"""The hash of what is written is the hash of what the file holds."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnie_prep.outputs.hashing_writer import HashingWriter


def _failed(error: OSError) -> Exception:
    return RuntimeError(error)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.sampled_from([0, 1, 7, 4096, (1 << 20) - 1, 1 << 20, 2_500_000]), max_size=6), st.booleans()
)
def test_hash_and_content_of_pieces_of_any_size_whose_buffer_is_reused(
    sizes: list[int], buffered: bool
) -> None:
    whole = b"".join(hashlib.shake_128(bytes([index])).digest(size) for index, size in enumerate(sizes))
    with tempfile.TemporaryFile() as file:
        writer = HashingWriter(file.fileno(), _failed)
        sink = io.BufferedWriter(writer, 1 << 16) if buffered else writer
        reused = bytearray(2_500_000)
        at = 0
        for size in sizes:
            reused[:size] = whole[at : at + size]
            assert sink.write(memoryview(reused)[:size]) == size
            reused[:size] = bytes(size)
            at += size
        sink.close()
        assert writer.sha256() == hashlib.sha256(whole).hexdigest() == writer.sha256()
        assert os.pread(file.fileno(), len(whole) + 1, 0) == whole


def test_writing_in_part_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: pwrite(fd, data[:777], offset))
    content = hashlib.shake_128(b"x").digest(99_999)
    with tempfile.TemporaryFile() as file:
        writer = HashingWriter(file.fileno(), _failed)
        assert writer.write(content) == len(content)
        writer.close()
        assert writer.sha256() == hashlib.sha256(content).hexdigest()
        assert file.read() == content


def test_a_file_that_another_program_cuts_short_is_an_error_not_a_wrong_hash(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    preadv = os.preadv

    def cut_first(fd: int, buffers: list[memoryview], offset: int) -> int:
        os.ftruncate(fd, 10)
        return preadv(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", cut_first)
    with tempfile.TemporaryFile() as file:
        writer = HashingWriter(file.fileno(), _failed)
        writer.write(b"x" * 1000)
        writer.close()
        with pytest.raises(RuntimeError, match="cut short"):
            writer.sha256()


def test_stopping_ends_the_thread_of_an_unfinished_file() -> None:
    with tempfile.TemporaryFile() as file:
        before = threading.active_count()
        writer = HashingWriter(file.fileno(), _failed)
        writer.write(b"x" * 3_000_000)
        start = time.monotonic()
        writer.stop()
        assert threading.active_count() == before and time.monotonic() - start < 5


def test_what_a_forgotten_buffer_flushes_late_does_not_reach_the_next_file_of_that_number() -> None:
    with tempfile.TemporaryFile() as file:
        writer = HashingWriter(file.fileno(), _failed)
        sink = io.BufferedWriter(writer)
        sink.write(b"late")
        writer.stop()
        sink.close()
        assert file.read() == b""
