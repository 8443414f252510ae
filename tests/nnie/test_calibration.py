"""Pictures as the compiler feeds them, against OpenCV; lists and means; and which pictures are chosen."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnie_prep.errors import UserError
from nnie_prep.nnie.calibration import (
    cfg_feeds,
    check_beginning,
    find_pictures,
    read_mean_image,
    resize,
    resized_copy,
    sample,
    tensor_lines,
)
from nnie_prep.nnie.limits import read_limits
from nnie_prep.nnie.mapper_cfg import ImageGroup, MapperCfg, format_cfg
from nnie_prep.nnie_caffe_pb2 import BlobProto

PHOTO = Path(__file__).parent.parent / "data" / "photo.jpg"
MEAN = [104.0, 116.5, 123.25]
SIZES = [(416, 416), (97, 61), (653, 373), (1000, 80), (33, 500), (1, 1)]  # width, height


def write(folder: Path, *groups: ImageGroup, order: str = "BGR") -> Path:
    path = folder / "n.cfg"
    path.write_text(format_cfg(MapperCfg("n.prototxt", "n.caffemodel", RGB_order=order, groups=groups)))
    return path


def binaryproto(path: Path, values: np.ndarray, old: bool = False) -> None:
    message = BlobProto(data=values.ravel())
    if old:
        message.num, message.channels, message.height, message.width = 1, *values.shape
    else:
        message.shape.dim.extend([1, *values.shape])
    path.write_bytes(message.SerializeToString())


# ---- the numbers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_resize_is_opencvs(width: int, height: int) -> None:
    """Its vector code rounds once more than its plain code does: one level, in a few of ten thousand."""
    photo = cv2.imread(str(PHOTO))
    ours, theirs = resize(photo, width, height), cv2.resize(photo, (width, height))
    difference = np.abs(ours.astype(int) - theirs)
    assert ours.dtype == np.uint8 and difference.max() <= 1 and (difference > 0).mean() < 2e-3


@pytest.mark.parametrize("norm_type", range(6))
@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_tensors_are_what_opencv_makes_of_the_photo(tmp_path: Path, norm_type: int, order: str) -> None:
    width, height, scale = 96, 61, 0.017
    photo = cv2.resize(cv2.imread(str(PHOTO)), (width, height)).astype(np.float64)
    planes = (photo if order == "BGR" else photo[:, :, ::-1]).transpose(2, 0, 1)
    mean = np.zeros((3, 1, 1))
    if norm_type in (1, 4):
        mean = np.random.default_rng(0).uniform(90, 130, (3, height, width)).astype(np.float32)
        binaryproto(tmp_path / "mean", mean, old=norm_type == 4)
    elif norm_type in (2, 5):
        mean = np.array(MEAN).reshape(3, 1, 1)
        (tmp_path / "mean").write_text("".join(f"{value}\n" for value in MEAN))
    expected = (planes - mean) * (scale if norm_type >= 3 else 1)

    (tmp_path / "list.txt").write_text(f"{PHOTO}\n\n{PHOTO}\n")
    cfg = write(tmp_path, ImageGroup("./list.txt", 1, "mean", norm_type, scale), order=order)
    found = cfg_feeds(cfg, {"data": (1, 3, height, width)})["data"]
    assert len(found) == 2 and found[0].shape == (1, 3, height, width) and found[0].dtype == np.float32
    level = scale if norm_type >= 3 else 1.0
    difference = np.abs(found[0][0] - expected)
    assert difference.max() <= 1.001 * level, "a level of the resized picture at most"
    assert (difference > 1e-4 * level).mean() < 2e-3, "and that in hardly any pixel"


def test_a_grey_net_takes_luminance(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"{PHOTO}\n")
    (tmp_path / "mean.txt").write_text("128\n")
    cfg = write(tmp_path, ImageGroup("list.txt", 1, "mean.txt", 5, 0.5))
    (found,) = cfg_feeds(cfg, {"data": (1, 1, 373, 653)})["data"]
    grey = cv2.cvtColor(cv2.imread(str(PHOTO)), cv2.COLOR_BGR2GRAY)
    assert np.abs(found[0, 0] - (grey - 128.0) * 0.5).max() <= 0.5  # a level: both round


def test_copies_are_what_the_compiler_would_have_made(tmp_path: Path) -> None:
    for shape in ((1, 3, 61, 97), (1, 1, 40, 50)):
        (tmp_path / "copy.bmp").write_bytes(resized_copy(PHOTO, shape))
        read = cv2.imread(str(tmp_path / "copy.bmp"), cv2.IMREAD_UNCHANGED)
        assert read.shape[:2] == shape[2:] and (read.ndim == 3) == (shape[1] == 3)
        for name, path in (("direct", PHOTO), ("copied", tmp_path / "copy.bmp")):
            (tmp_path / f"{name}.txt").write_text(f"{path}\n")
        feeds = [
            cfg_feeds(write(tmp_path, ImageGroup(f"{name}.txt")), {"data": shape})["data"][0]
            for name in ("direct", "copied")
        ]
        np.testing.assert_array_equal(*feeds)
    assert resized_copy(PHOTO, (1, 3, 61, 97)) == resized_copy(PHOTO, (1, 3, 61, 97))


def test_lists_of_tensors_are_exact(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    values = (random.normal(0, 1, (3, 4, 2, 5)) * 10.0 ** random.integers(-20, 20, (3, 4, 2, 5))).astype(
        np.float32
    )
    text = tensor_lines(values)
    (tmp_path / "list.txt").write_bytes(text)
    (tmp_path / "commas.txt").write_bytes(text.replace(b" ", b", "))
    assert len(text.splitlines()) == 3
    for name in ("list.txt", "commas.txt"):
        cfg = write(tmp_path, ImageGroup(name, 0, "null", 0))
        found = cfg_feeds(cfg, {"data": (1, 4, 2, 5)})["data"]
        np.testing.assert_array_equal(np.concatenate(found), values)


def test_each_input_has_its_own(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(f"{PHOTO}\n")
    (tmp_path / "b.txt").write_text("1 2\n")
    cfg = write(tmp_path, ImageGroup("a.txt"), ImageGroup("b.txt", 0))
    found = cfg_feeds(cfg, {"picture": (1, 3, 8, 9), "size": (1, 2)})
    assert [found["picture"][0].shape, found["size"][0].tolist()] == [(1, 3, 8, 9), [[1.0, 2.0]]]
    wrong = write(tmp_path, ImageGroup("a.txt"), ImageGroup("b.txt", 1))
    (_, line) = [n for n, text in enumerate(wrong.read_text().splitlines(), 1) if "image_type" in text]
    with pytest.raises(UserError, match=rf"n\.cfg:{line}: an input of shape \(1, 2\) takes no pictures"):
        cfg_feeds(wrong, {"picture": (1, 3, 8, 9), "size": (1, 2)})
    with pytest.raises(UserError, match="2 image_list, and the net's inputs are data"):
        cfg_feeds(cfg, {"data": (1, 3, 8, 9)})


def test_a_list_in_any_encoding(tmp_path: Path) -> None:
    """A name is the bytes that the file system has."""
    name = b"caf\xe9.jpg"
    Path(tmp_path, os.fsdecode(name)).write_bytes(PHOTO.read_bytes())
    (tmp_path / "list.txt").write_bytes(name + b"\n")
    (found,) = cfg_feeds(write(tmp_path, ImageGroup("list.txt")), {"data": (1, 3, 373, 653)})["data"]
    np.testing.assert_array_equal(found[0].transpose(1, 2, 0), cv2.imread(str(PHOTO)))


# ---- what cannot be used -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("group", "message"),
    [
        (ImageGroup("none.txt"), "none.txt: cannot be read"),
        (ImageGroup("empty.txt"), "lists nothing for input data"),
        (ImageGroup("broken.txt"), "one.txt: is no picture"),
        (ImageGroup("photo.txt", 1, "null", 2), "norm_type 2 subtracts a mean, and mean_file null does no"),
        (ImageGroup("photo.txt", 1, "one.txt", 5), "one.txt: holds 1 values, and the input has 3 channels"),
        (ImageGroup("photo.txt", 1, "broken.txt", 2), "broken.txt:1: './one.txt' is no number"),
        (ImageGroup("photo.txt", 1, "one.txt", 4), "one.txt: is no mean file of Caffe's"),
        (ImageGroup("photo.txt", 1, "m.binaryproto", 1), "its shape is (3, 2, 2), and the input's (3, 8, 9)"),
        (ImageGroup("one.txt", 0), "one.txt:1: 1 numbers, expected 216 numbers"),
        (ImageGroup("broken.txt", 0), "broken.txt:1: holds what is no number"),
    ],
)  # fmt: skip
def test_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: ImageGroup, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.txt").write_text("\n")
    Path("one.txt").write_text("1\n")
    Path("broken.txt").write_text("./one.txt\n")
    Path("photo.txt").write_text(f"{PHOTO}\n")
    binaryproto(Path("m.binaryproto"), np.zeros((3, 2, 2)))
    with pytest.raises(UserError) as error:
        cfg_feeds(write(Path(), group), {"data": (1, 3, 8, 9)})
    assert message in str(error.value)


def test_a_mean_file_with_double_values(tmp_path: Path) -> None:
    path = tmp_path / "m.binaryproto"
    path.write_bytes(
        BlobProto(num=1, channels=1, height=1, width=2, double_data=[1.5, 2.5]).SerializeToString()
    )
    assert read_mean_image(path).tolist() == [[[1.5, 2.5]]]


# ---- which are chosen ----------------------------------------------------------------------------


@given(st.integers(1, 300), st.integers(1, 60), st.integers(0, 2**40))
def test_the_sample_is_even_and_always_the_same(length: int, count: int, seed: int) -> None:
    items = list(range(length))
    chosen = sample(items, count, seed)
    assert chosen == sample(items, count, seed)
    assert len(chosen) == min(count, length) and sorted(set(chosen)) == chosen
    for place, item in enumerate(chosen):  # one of each of as many equal stretches
        assert place * length // len(chosen) <= item < (place + 1) * length // len(chosen)


def test_another_seed_chooses_others() -> None:
    chosen = {tuple(sample(range(300), 30, seed)) for seed in range(20)}
    assert len(chosen) == 20
    assert sample(range(100), 5, 0) == [16, 35, 48, 65, 90], "the same from one release to the next"


def test_every_kind_of_picture_begins_like_one(tmp_path: Path) -> None:
    """As OpenCV writes them; it goes by the beginning too, so that a PNG may be called .jpg."""
    colour = cv2.imread(str(PHOTO))[:72, :64]
    kinds = {suffix.lower() for suffix in read_limits()["picture_suffixes"].one_of or ()}
    assert {".jpg", ".jp2", ".sr", ".tif", ".pbm"} < kinds
    for suffix in kinds:
        data = cv2.imencode(suffix, colour[:, :, 0] if suffix in (".pbm", ".pgm") else colour)[1].tobytes()
        picture = tmp_path / "any.jpg"
        picture.write_bytes(data)
        check_beginning(picture)
        picture.write_bytes(data[1:])
        with pytest.raises(UserError, match=r"any\.jpg: is no picture that the compiler reads"):
            check_beginning(picture)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "it is empty; take it out of the folder"),
        (b"no picture", "it begins with b'no picture'"),
        (b"<!DOCTYPE html><html>", "it begins with b'<!DOCTYPE html><'"),
        (b"RIFF\x10\0\0\0WAVEfmt ", "it begins with b'RIFF"),
        (b"P6-1.2", "it begins with b'P6-1.2'"),
        (b"P5 is the fifth page of it\n", "it begins with b'P5 is the fifth "),
        (b"BM is short for a benchmark, which this is", "it begins with b'BM is short for '"),
    ],
)
def test_what_is_no_picture(tmp_path: Path, data: bytes, says: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    assert cv2.imread(str(path)) is None
    with pytest.raises(UserError) as caught:
        check_beginning(path)
    assert says in str(caught.value)


def test_pictures_are_found_in_one_order(tmp_path: Path) -> None:
    for name in ("b.jpg", "a.PNG", "c/z.bmp", "c.tif", "no.txt", "d.JpG", ".hidden/e.jpg", "c/.f.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = find_pictures(tmp_path, (".jpg", ".PNG", ".bmp", ".tif"))
    assert [path.relative_to(tmp_path).as_posix() for path in found] == ["a.PNG", "b.jpg", "c.tif", "c/z.bmp"]
    with pytest.raises(UserError, match="holds no picture that the compiler reads"):
        find_pictures(tmp_path, (".webp",))
    with pytest.raises(UserError, match="is no folder"):
        find_pictures(tmp_path / "b.jpg", (".jpg",))
