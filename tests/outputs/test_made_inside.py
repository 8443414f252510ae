"""Notes in pictures and archives: those who read the formats see what they saw, and no more."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from nnie_prep.outputs.made_by import Made, made_from
from nnie_prep.outputs.made_inside import picture_made, write_npz

MADE = Made("nnie_prep 0.1.0 detect", (("ä b.png", "0" * 32), ("net", "12" * 16)), ("--nms 0.3",))


def encoded(kind: str, **options: object) -> bytes:
    pixels = np.random.default_rng(3).integers(0, 256, (31, 17, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def chunks(content: bytes) -> list[bytes]:
    """The types of a PNG's chunks, whose sums must be right."""
    place, found = 8, []
    while place < len(content):
        (size,) = struct.unpack_from(">I", content, place)
        (checked,) = struct.unpack_from(">I", content, place + 8 + size)
        assert zlib.crc32(content[place + 4 : place + 8 + size]) == checked
        found.append(content[place + 4 : place + 8])
        place += 12 + size
    return found


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP"])
def test_pictures(tmp_path: Path, kind: str) -> None:
    """To OpenCV and Pillow they are what they were, and the note is read again."""
    plain, path = encoded(kind), tmp_path / "picture"
    noted = picture_made(plain, kind, MADE)
    path.write_bytes(noted)
    assert made_from(path) == MADE and 0 < len(noted) - len(plain) < 400
    before, after = (cv2.imdecode(np.frombuffer(one, np.uint8), 1) for one in (plain, noted))
    assert before is not None and after is not None and np.array_equal(before, after)
    with Image.open(path) as picture:
        assert np.array_equal(np.asarray(picture)[:, :, ::-1], after)
        if kind == "PNG":
            assert picture.info["Comment"].startswith("# nnie_prep 0.1.0 detect\n# input: ")
            assert chunks(noted) == [b"IHDR", b"IDAT", b"tEXt", b"IEND"]
    path.write_bytes(plain)
    assert made_from(path) is None


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP"])
def test_pictures_that_were_edited(tmp_path: Path, kind: str) -> None:
    """A bit anywhere before the note; and what stands behind it is not ours."""
    path, content = tmp_path / "picture", picture_made(encoded(kind), kind, MADE)
    for place in (0, 100, content.rfind(b"# nnie_prep") - 1):
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        made = made_from(path)
        assert made is not None and not made.intact
    for more in (b"\n", bytes(17)):
        path.write_bytes(content + more)
        assert made_from(path) is None


def test_a_picture_that_carries_an_older_note(tmp_path: Path) -> None:
    """A JPEG's comment may be copied with it; the last note counts."""
    older = Made("nnie_prep 0.0.9 run", (("x", "f" * 32),))
    note = picture_made(b"", "BMP", older)
    path = tmp_path / "a.jpg"
    path.write_bytes(picture_made(encoded("JPEG", comment=note), "JPEG", MADE))
    assert made_from(path) == MADE


@pytest.mark.parametrize("count", [0, 1, 70])
def test_archives(tmp_path: Path, count: int) -> None:
    """More than a chunk of an archive, and none."""
    random, path = np.random.default_rng(count), tmp_path / "a.npz"
    arrays = {f"blob/{number}": random.random((number, 331, 7), np.float32) for number in range(count)}
    with path.open("wb") as file:
        write_npz(file, arrays, MADE)
    assert made_from(path) == MADE
    with np.load(path) as found:
        assert found.files == list(arrays)
        for name, values in arrays.items():
            np.testing.assert_array_equal(found[name], values)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None and archive.comment.startswith(b"# nnie_prep 0.1.0 detect\n")
    content = path.read_bytes()
    path.write_bytes(content[:3] + b"\x07" + content[4:])
    made = made_from(path)
    assert made is not None and not made.intact
