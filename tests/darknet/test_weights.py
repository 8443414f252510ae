"""Reading weights files: the header's length, the order of the numbers, exact consumption."""

from __future__ import annotations

import os
import struct
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from darknet_cases import darknet_case
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nnie_prep.darknet.cfg import Section, read_cfg
from nnie_prep.darknet.weights import Flavor, WeightsFile
from nnie_prep.errors import UserError

FIRST = Section(0, "convolutional", "convolutional", Path("some/net.cfg"), 5)
SECOND = Section(3, "connected", "conn", Path("some/net.cfg"), 30)


def header(version: Sequence[int], seen: int | None = 32013312, seen_bytes: int = 8) -> bytes:
    """major, minor, revision and what follows."""
    if seen is None:
        return struct.pack("<3i", *version)
    return struct.pack("<3i", *version) + seen.to_bytes(seen_bytes, "little")


def numbers(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(count).standard_normal(count).astype("<f4")


def written(folder: Path, *parts: bytes | NDArray[Any]) -> Path:
    path = folder / "net.weights"
    path.write_bytes(b"".join(part if isinstance(part, bytes) else part.tobytes() for part in parts))
    return path


def read_all(path: Path, count: int, flavor: Flavor = "alexeyab") -> tuple[WeightsFile, NDArray[Any]]:
    weights = WeightsFile(path, flavor)
    blob = weights.take((count,), "weights", FIRST)
    weights.finish()
    return weights, np.asarray(blob)


# ---- the header ----------------------------------------------------------------------------------

FLAVORS: tuple[Flavor, Flavor] = ("alexeyab", "pjreddie")


@pytest.mark.parametrize(
    ("version", "alexeyab", "pjreddie"),
    [
        ((0, 1, 0), 16, 16),
        ((0, 2, 0), 20, 20),
        ((0, 2, 5), 20, 20),
        ((1, 0, 0), 20, 20),
        ((0, 1001, 0), 20, 16),  # transposed
        ((1001, 0, 0), 20, 16),
        ((1000, 0, 0), 20, 16),  # not yet transposed
    ],
)
def test_length_by_version(tmp_path: Path, version: Sequence[int], alexeyab: int, pjreddie: int) -> None:
    data = numbers(7)
    for flavor, length in zip(FLAVORS, (alexeyab, pjreddie), strict=True):
        path = written(tmp_path, header(version, 77, length - 12), data)
        weights, read = read_all(path, 7, flavor)
        assert (weights.header_bytes, weights.seen, weights.note) == (length, 77, "")
        assert weights.version == version and weights.transposed == (max(version) > 1000)
        np.testing.assert_array_equal(read, data)


@pytest.mark.parametrize(
    ("version", "seen_bytes", "named"),
    [((0, 1, 0), 8, "asks for a header of 16 bytes"), ((0, 2, 5), 4, "asks for a header of 20 bytes")],
)
def test_other_length_of_seen(tmp_path: Path, version: Sequence[int], seen_bytes: int, named: str) -> None:
    data = numbers(9)
    weights, read = read_all(written(tmp_path, header(version, 64000, seen_bytes), data), 9)
    np.testing.assert_array_equal(read, data)
    assert weights.header_bytes == 12 + seen_bytes
    assert named in weights.note and f"comes out exactly with {12 + seen_bytes} bytes" in weights.note


@pytest.mark.parametrize("version", [(0, 1, 0), (0, 2, 0)])
def test_header_without_seen(tmp_path: Path, version: Sequence[int]) -> None:
    data = numbers(9)
    weights, read = read_all(written(tmp_path, header(version, None), data), 9)
    np.testing.assert_array_equal(read, data)
    assert weights.header_bytes == 12 and "with 12 bytes" in weights.note


def test_no_header(tmp_path: Path) -> None:
    data = numbers(12)
    weights = WeightsFile(written(tmp_path, data))
    # The first floats, read as a version, are above 1000: such a file must not count as transposed.
    assert weights.transposed
    blob = weights.take((3, 4), "weights", SECOND, stored="by_version")
    weights.finish()
    np.testing.assert_array_equal(np.asarray(blob), data.reshape(3, 4))
    assert not weights.transposed and weights.header_bytes == 0 and "none that is" in weights.note


@pytest.mark.parametrize("lacking", [1, 2, 3, 4, 5, 6])
def test_a_cut_file_is_no_file_with_a_shorter_header(tmp_path: Path, lacking: int) -> None:
    whole = header((0, 2, 5)) + numbers(50).tobytes()
    with pytest.raises(UserError, match=f"; {lacking} of 50 floats are missing in all"):
        read_all(written(tmp_path, whole[: -4 * lacking]), 50)


@pytest.mark.parametrize("more", [1, 2, 3])
def test_an_extended_file_is_no_file_with_a_longer_header(tmp_path: Path, more: int) -> None:
    whole = header((0, 1, 0), 64, 4) + numbers(50 + more).tobytes()
    with pytest.raises(UserError, match=f"{more} floats are left over"):
        read_all(written(tmp_path, whole), 50)


# ---- the order of the numbers --------------------------------------------------------------------


@pytest.mark.parametrize("version", [(0, 2, 5), (0, 1002, 0)])
def test_order_and_transposition(tmp_path: Path, version: Sequence[int]) -> None:
    data = numbers(5 + 24 + 24 + 36)
    weights = WeightsFile(written(tmp_path, header(version), data))
    biases = weights.take((5,), "biases", FIRST)
    plain = weights.take((4, 6), "weights", FIRST)
    by_version = weights.take((4, 6), "weights", SECOND, stored="by_version")
    flipped = weights.take((4, 1, 3, 3), "weights", SECOND, stored="transposed")
    assert weights.floats == data.size and [taken.start for taken in weights.taken] == [0, 5, 29, 53]
    weights.finish()
    # In any order, and each time anew.
    for _ in range(2):
        np.testing.assert_array_equal(np.asarray(flipped), data[53:].reshape(9, 4).T.reshape(4, 1, 3, 3))
        matrix = data[29:53].reshape(6, 4).T if version[1] > 1000 else data[29:53].reshape(4, 6)
        np.testing.assert_array_equal(np.asarray(by_version), matrix)
        np.testing.assert_array_equal(np.asarray(plain), data[5:29].reshape(4, 6))
        np.testing.assert_array_equal(np.asarray(biases), data[:5])
    assert np.asarray(plain).dtype == np.float32 and np.asarray(plain, dtype=np.float64).dtype == np.float64


def test_the_transposed_file_of_darknet_is_the_plain_one(tmp_path: Path) -> None:
    """AlexeyAB wrote the same network both ways."""
    matrices = []
    for name in ("connected", "weights_transposed_ab", "weights_hdr_0_1_0"):
        case = darknet_case(name)
        weights = WeightsFile(case.weights(tmp_path), case.flavor)
        sections = read_cfg(case.cfg)
        for what in ("biases", "scales", "mean", "variance"):
            weights.take((8,), what, sections[1])
        weights.take((8, 3, 3, 3), "weights", sections[1])
        weights.take((20,), "biases", sections[2])
        first = weights.take((20, 8 * 7 * 9), "weights", sections[2], stored="by_version")
        weights.take((12,), "biases", sections[3])
        second = weights.take((12, 20), "weights", sections[3], stored="by_version")
        weights.finish()
        assert weights.note == "" and weights.transposed == (name == "weights_transposed_ab")
        matrices.append((np.asarray(first), np.asarray(second)))
    for index in (0, 1):
        np.testing.assert_array_equal(matrices[0][index], matrices[1][index])
        np.testing.assert_array_equal(matrices[0][index], matrices[2][index])
        assert matrices[0][index].std() > 0


@settings(max_examples=60)
@given(
    shapes=st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=4), min_size=1, max_size=8),
    surplus=st.integers(-30, 30),
    version=st.sampled_from([(0, 1, 0), (0, 2, 0), (0, 2, 5), (0, 1001, 0)]),
    flavor=st.sampled_from(FLAVORS),
)
def test_exact_consumption(
    tmp_path: Path, shapes: list[list[int]], surplus: int, version: tuple[int, int, int], flavor: Flavor
) -> None:
    count = sum(int(np.prod(shape)) for shape in shapes)
    long_seen = version[1] >= 2 and (flavor == "alexeyab" or version[1] < 1000)
    data = numbers(max(count + surplus, 0))
    weights = WeightsFile(written(tmp_path, header(version, 640, 8 if long_seen else 4), data), flavor)
    blobs = [weights.take(shape, "weights", FIRST) for shape in shapes]
    if data.size == count:
        weights.finish()
        read = np.concatenate([np.asarray(blob).ravel() for blob in blobs])
        np.testing.assert_array_equal(read, data)
    else:
        with pytest.raises(UserError, match="missing in all" if data.size < count else "left over"):
            weights.finish()


# ---- what is refused -----------------------------------------------------------------------------


def test_running_out_names_the_section(tmp_path: Path) -> None:
    path = written(tmp_path, header((0, 2, 5)), numbers(17))
    weights = WeightsFile(path)
    weights.take((5,), "biases", FIRST)
    weights.take((5,), "biases", SECOND)
    weights.take((5, 3), "weights", SECOND)
    with pytest.raises(UserError) as caught:
        weights.finish()
    assert str(caught.value) == (
        f"some/net.cfg:30: the weights file {path} ends in section 3 [conn]: its weights (5, 3) are "
        "15 floats, of which 7 are there; 8 of 25 floats are missing in all; give the weights that were "
        "trained with this cfg, or get the file again if it was cut off; `nnie-prep inspect` lists what each "
        "section takes"
    )


def test_a_pretrained_backbone_is_recognised(tmp_path: Path) -> None:
    weights = WeightsFile(written(tmp_path, header((0, 2, 5)), numbers(5)))
    weights.take((5,), "biases", FIRST)
    weights.take((5,), "biases", SECOND)
    with pytest.raises(UserError, match="end exactly before section 3, as those of a pretrained backbone do"):
        weights.finish()


def test_what_is_left_over_names_the_last_section(tmp_path: Path) -> None:
    path = written(tmp_path, header((0, 2, 5)), numbers(4000))
    weights = WeightsFile(path)
    weights.take((5,), "biases", FIRST)
    with pytest.raises(UserError) as caught:
        weights.finish()
    assert str(caught.value) == (
        f"{path}: 3,995 floats are left over after section 0 [convolutional] (net.cfg:5), the last section "
        "that takes weights; the cfg asks for 5; give the weights that were trained with this cfg; "
        "`nnie-prep inspect` lists what each section takes"
    )
    nothing = WeightsFile(path)
    with pytest.raises(UserError, match="4,000 floats are left over; the cfg asks for 0"):
        nothing.finish()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has 0 bytes, expected a header"),
        (header((0, 2, 5)) + b"\0\0\0", "has 23 bytes, expected a header and a whole number"),
        (header((0, 2, 5))[:8], "has 8 bytes"),
        (header((0, 2, 5))[:16], "has 16 bytes, expected at least the 20 of a header of version 0.2.5"),
        (header((0, 1, 0))[:12], "has 12 bytes, expected at least the 16"),
    ],
)
def test_files_too_short_for_a_header(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        WeightsFile(written(tmp_path, content))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.weights: cannot be read: No such file"):
        WeightsFile(tmp_path / "absent.weights")
    with pytest.raises(UserError, match="is not a regular file"):
        WeightsFile(tmp_path)


def test_another_kind_of_file(tmp_path: Path) -> None:
    weights = WeightsFile(written(tmp_path, b"<!DOCTYPE html><html><body>404 not found</body></html>!!"))
    weights.take((50,), "weights", FIRST)
    with pytest.raises(UserError, match="give a Darknet weights file; this one does not begin as they do"):
        weights.finish()


@pytest.mark.parametrize("change", ["cut", "touch"])
def test_a_file_that_changes_meanwhile(tmp_path: Path, change: str) -> None:
    path = written(tmp_path, header((0, 2, 5)), numbers(8))
    weights = WeightsFile(path)
    blob = weights.take((8,), "weights", FIRST)
    weights.finish()
    if change == "cut":
        os.truncate(path, 40)
    else:
        os.utime(path, (1, 1))
    message = "became shorter" if change == "cut" else "was changed"
    with pytest.raises(UserError, match=f"{message} while it was read"):
        np.asarray(blob)
    with pytest.raises(UserError, match=f"{message} while it was read"):
        list(blob.pieces())


def test_a_file_that_is_replaced_meanwhile_is_read_as_it_was(tmp_path: Path) -> None:
    path = written(tmp_path, header((0, 2, 5)), numbers(8))
    weights = WeightsFile(path)
    blob = weights.take((8,), "weights", FIRST)
    weights.finish()
    path.unlink()
    path.write_bytes(header((0, 2, 5)) + numbers(8)[::-1].tobytes())
    np.testing.assert_array_equal(np.asarray(blob), numbers(8))
    assert b"".join(map(bytes, blob.pieces())) == numbers(8).tobytes()


def test_a_pointer_of_git_lfs(tmp_path: Path) -> None:
    path = tmp_path / "net.weights"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 35434956\n")
    with pytest.raises(UserError, match="Git LFS"):
        WeightsFile(path)


# ---- cost ----------------------------------------------------------------------------------------


def test_memory_stays_near_one_blob(tmp_path: Path) -> None:
    path = written(tmp_path, header((0, 2, 5)))
    blob_bytes, blobs_taken = 1 << 20, 200
    os.truncate(path, 20 + blob_bytes * blobs_taken)
    weights = WeightsFile(path)
    blobs = [weights.take((blob_bytes // 4,), "weights", FIRST) for _ in range(blobs_taken)]
    tracemalloc.start()
    weights.finish()
    for blob in blobs:
        np.asarray(blob)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * blob_bytes


def test_nothing_is_allocated_for_what_the_file_does_not_hold(tmp_path: Path) -> None:
    weights = WeightsFile(written(tmp_path, header((0, 2, 5)), numbers(8)))
    weights.take((2**31 - 1, 2**31 - 1, 99, 99), "weights", FIRST)
    with pytest.raises(UserError, match="missing in all"):
        weights.finish()
