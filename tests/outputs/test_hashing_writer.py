"""The hash of what is written is the hash of what the file holds."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile

import pytest
import xxhash
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
        assert writer.hash() == xxhash.xxh3_128(whole).hexdigest() == writer.hash()
        assert os.pread(file.fileno(), len(whole) + 1, 0) == whole


def test_writing_in_part_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: pwrite(fd, data[:777], offset))
    content = hashlib.shake_128(b"x").digest(99_999)
    with tempfile.TemporaryFile() as file:
        writer = HashingWriter(file.fileno(), _failed)
        assert writer.write(content) == len(content)
        writer.close()
        assert writer.hash() == xxhash.xxh3_128(content).hexdigest()
        assert file.read() == content


def test_what_a_forgotten_buffer_flushes_late_does_not_reach_the_next_file_of_that_number() -> None:
    with tempfile.TemporaryFile() as file:
        writer = HashingWriter(file.fileno(), _failed)
        sink = io.BufferedWriter(writer)
        sink.write(b"late")
        writer.stop()
        sink.close()
        assert file.read() == b""
