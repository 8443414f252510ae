"""Picture files that are read, written, damaged; and what is drawn on them."""

from __future__ import annotations

import functools
import io
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFont

from nnie_prep.detection import Detection, drawing
from nnie_prep.detection.drawing import colour, draw
from nnie_prep.detection.picture import as_planes, encode, format_of, read_picture
from nnie_prep.errors import UserError

Array = NDArray[Any]
PHOTO = Path(__file__).parents[1] / "data" / "photo.jpg"


def pixels(shape: tuple[int, ...], seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".ppm"])
def test_planes_are_rgb(tmp_path: Path, suffix: str) -> None:
    """Written by OpenCV from blue, green, red."""
    bgr = pixels((7, 5, 3))
    cv2.imwrite(str(tmp_path / f"a{suffix}"), bgr)
    planes = as_planes(read_picture(tmp_path / f"a{suffix}"), 3)
    assert np.array_equal(planes, bgr[:, :, ::-1].transpose(2, 0, 1).astype(np.float32) / np.float32(255))


def test_alpha_is_left_out(tmp_path: Path) -> None:
    rgba = pixels((7, 5, 4))
    Image.fromarray(rgba, "RGBA").save(tmp_path / "a.png")
    planes = as_planes(read_picture(tmp_path / "a.png"), 3)
    assert np.array_equal(np.round(planes * 255), rgba[:, :, :3].transpose(2, 0, 1))


def test_grey(tmp_path: Path) -> None:
    """A network of one channel sees the usual weights of colours; a grey picture is three times the same."""
    rgb = pixels((7, 5, 3))
    Image.fromarray(rgb).save(tmp_path / "a.png")
    planes = as_planes(read_picture(tmp_path / "a.png"), 1)
    assert np.abs(planes[0] * 255 - rgb @ [0.299, 0.587, 0.114]).max() < 1
    Image.fromarray(rgb[:, :, 0]).save(tmp_path / "a.png")
    planes = as_planes(read_picture(tmp_path / "a.png"), 3)
    assert all(np.array_equal(np.round(plane * 255), rgb[:, :, 0]) for plane in planes)
    with pytest.raises(UserError, match="pictures of 4 channels"):
        as_planes(read_picture(tmp_path / "a.png"), 4)


def test_a_picture_stands_upright(tmp_path: Path) -> None:
    """As OpenCV reads it: a camera's note of how it was held is followed."""
    image = Image.open(PHOTO)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    expected = cv2.imread(str(tmp_path / "a.jpg"))
    assert expected is not None
    planes = as_planes(read_picture(tmp_path / "a.jpg"), 3)
    assert planes.shape[1:] == expected.shape[:2] == (653, 373)
    assert np.abs(planes * 255 - expected[:, :, ::-1].transpose(2, 0, 1)).mean() < 0.1


def test_what_is_written_is_read(tmp_path: Path) -> None:
    image = Image.fromarray(pixels((9, 12, 3)))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encode(image, "PNG")))), np.asarray(image))
    assert Image.open(io.BytesIO(encode(image, "JPEG"))).format == "JPEG"
    assert [format_of(Path(name)) for name in ("a.PNG", "b.jpeg", "c.bmp")] == ["PNG", "JPEG", "BMP"]
    with pytest.raises(UserError, match=r"a.gif: ends in '.gif'; name a file in .png, .jpg"):
        format_of(Path("a.gif"))


def test_no_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    with pytest.raises(UserError, match="No such file"):
        read_picture(path)
    path.write_text("hello")
    with pytest.raises(UserError, match="is no picture; JPEG, PNG"):
        read_picture(path)
    cv2.imwrite(str(path), np.zeros((3, 3), np.uint16))
    with pytest.raises(UserError, match="more than 8 bits"):
        read_picture(path)


def test_a_picture_of_too_many_pixels(tmp_path: Path) -> None:
    """The size is what the head of the file says; there is no content."""
    (tmp_path / "a.png").write_bytes(b"P6 100000 100000 255\n")
    with pytest.raises(UserError, match="too many pixels"):
        read_picture(tmp_path / "a.png")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "PPM", "WEBP"])
def test_damaged_pictures(tmp_path: Path, kind: str) -> None:
    """Cut short, or with bytes changed: read, or refused in one line."""
    random = np.random.default_rng(1)
    file = io.BytesIO()
    Image.fromarray(pixels((24, 31, 3))).save(file, kind)
    whole = file.getvalue()
    refused = 0
    for turn in range(150):
        content = bytearray(whole)
        if turn % 2:
            del content[random.integers(len(content)) :]
        else:
            for place in random.integers(min(len(content), 200), size=3):
                content[place] = random.integers(256)
        (tmp_path / "a").write_bytes(content)
        try:
            as_planes(read_picture(tmp_path / "a"), 3)
        except UserError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 30


@pytest.mark.parametrize("missing", ["PIL", "PIL.Image"])
def test_without_pillow(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UserError, match=r"pictures need Pillow.*pip install 'pillow>=10\.1'"):
        read_picture(PHOTO)


def test_with_an_old_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.__version__", "9.5.0")
    with pytest.raises(UserError, match="found Pillow 9.5.0, expected 10.1"):
        read_picture(PHOTO)
    monkeypatch.setattr("PIL.__version__", "10.1.0")
    read_picture(PHOTO)


# ---- drawing ------------------------------------------------------------------------------------


def on_grey(found: list[Detection], names: list[str], size: tuple[int, int] = (200, 120)) -> Array:
    return np.asarray(draw(Image.new("RGB", size, (90, 90, 90)), found, names)[0])


def test_lines_and_labels_are_where_the_boxes_are() -> None:
    found = [Detection(1, 0.9, 50, 40, 150, 110), Detection(0, 0.4, 10, 75, 40, 110)]
    image = on_grey(found, ["a", "b"])
    for one in found:
        ink = colour(one.kind)
        middle = int((one.left + one.right) / 2), int((one.top + one.bottom) / 2)
        for x, y in ((one.left, middle[1]), (one.right - 1, middle[1]), (middle[0], one.bottom - 1)):
            assert tuple(image[int(y), int(x)]) == ink
        assert tuple(image[middle[1], middle[0]]) == (90, 90, 90)
        above = image[int(one.top) - 12 : int(one.top) - 2, int(one.left) : int(one.left) + 20]
        assert (above == ink).all(axis=2).mean() > 0.3  # the label's ground
    assert (image[80:, 160:] == 90).all()


def test_the_most_confident_lies_on_top() -> None:
    """Where two lines cross."""
    found = [Detection(0, 0.9, 20, 60, 160, 80), Detection(1, 0.8, 60, 40, 120, 110)]
    assert tuple(on_grey(found, ["", ""])[61, 61]) == colour(0)


def test_the_picture_itself_is_not_drawn_on() -> None:
    image = Image.new("L", (60, 50), 90)
    drawn, lacking = draw(image, [Detection(0, 0.5, 5, 5, 50, 40)], ["a"])
    assert not lacking
    assert np.all(np.asarray(image) == 90) and drawn.mode == "RGB"
    assert np.all(np.asarray(draw(image, [], [])[0]) == 90)


def test_classes_have_colours_of_their_own() -> None:
    colours = [colour(kind) for kind in range(80)]
    assert len(set(colours)) == 80
    for one, other in zip(colours, colours[1:], strict=False):
        assert sum(abs(a - b) for a, b in zip(one, other, strict=True)) > 150


def test_labels_do_not_cover_each_other() -> None:
    """Two boxes in one place, two names: each label can be seen whole."""
    found = [Detection(0, 0.9, 60, 50, 140, 100), Detection(1, 0.8, 61, 51, 141, 101)]
    both = on_grey(found, ["first", "second"])
    grounds = []
    for one in found:
        alone = on_grey([one], ["first", "second"])
        grounds.append(((alone == colour(one.kind)).all(axis=2)).sum())
        seen = ((both == colour(one.kind)).all(axis=2)).sum()
        assert seen > 0.55 * grounds[-1]


def test_what_shares_a_box_shares_a_label() -> None:
    box = (60.0, 50.0, 180.0, 100.0)
    shared = on_grey([Detection(0, 0.9, *box), Detection(1, 0.8, *box)], ["a", "b"])
    assert np.array_equal(shared, on_grey([Detection(0, 0.8, *box)], ["a 90%, b"]))


def test_letters_stand_out_from_their_ground() -> None:
    """Black or white, by W3C's ratio for large letters: 3 to 1."""

    def luminance(ink: tuple[int, ...]) -> float:
        linear = [(part / 255 + 0.055) ** 2.4 / 1.055**2.4 if part > 10 else part / 3294.6 for part in ink]
        return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    for kind in (0, 1, 3, 43, 64):  # 3, 43 and 64 come nearest to it
        image = on_grey([Detection(kind, 0.5, 5, 60, 190, 110)], ["MMM"] * 80)[48:58, 6:]
        (letters,) = [ink for ink in ((0, 0, 0), (255, 255, 255)) if (image == ink).all(axis=2).sum() > 3]
        dark, light = sorted((luminance(letters), luminance(colour(kind))))
        assert (light + 0.05) / (dark + 0.05) > 3, kind


@pytest.mark.parametrize(
    "box", [(0, 0, 200, 120), (190, 110, 200, 120), (-0.0, 0, 0.3, 0.2), (100, 0, 199.9, 5)]
)
@pytest.mark.parametrize("size", [(200, 120), (6, 4), (1, 1)])
def test_boxes_at_the_edges(box: tuple[float, ...], size: tuple[int, int]) -> None:
    """Nothing fails, and the line runs in the picture, however small that is."""
    place = [min(edge, size[at % 2]) for at, edge in enumerate(box)]
    image = on_grey(
        [Detection(3, 0.5, *place)], ["a", "b", "c", "a name that is longer than the picture"], size
    )
    assert image.shape == (size[1], size[0], 3) and not (image == 90).all()
    if size == (200, 120):
        assert tuple(image[round(box[1]), round(box[0])]) == colour(3)


@pytest.mark.parametrize("name", ["кошка", "Türschloß", "κότα", "猫咪", "\U0001f408\U0001f415", "กข"])
def test_names_in_any_script(name: str) -> None:
    """In letters if a font has them, else by the number of the class: never in empty rectangles."""
    found = [Detection(0, 0.5, 5, 40, 190, 100)]
    _, lacking = draw(Image.new("RGB", (9, 9)), found, [name])
    same = np.array_equal(on_grey(found, [name]), on_grey(found, [name[1:] + name[0]]))
    assert same == bool(lacking), "rectangles are alike, letters are not"


def test_a_name_that_no_font_has() -> None:
    found = [Detection(1, 0.5, 5, 40, 190, 100)]
    nowhere = on_grey(found, ["", "\U000ffffd"])
    assert draw(Image.new("RGB", (9, 9)), found, ["", "\U000ffffd"])[1] == ["\U000ffffd 50%"]
    expected = on_grey(found, ["", "class 1"])
    assert np.array_equal(nowhere, expected)
    assert not np.array_equal(expected, on_grey(found, ["", "class 2"]))


def test_a_font_of_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked before Pillow's own, and the system's are not; without it they are."""
    asked: list[str] = []
    large, by_pillow = ImageFont.load_default(40), ImageFont.truetype

    def truetype(file: Any, *rest: Any, **options: Any) -> Any:
        if not isinstance(file, str):
            return by_pillow(file, *rest, **options)
        asked.append(file)
        return large

    draw_a = functools.partial(draw, Image.new("RGB", (60, 50)), [Detection(0, 0.5, 5, 5, 50, 40)], ["a"])
    plain = np.asarray(draw_a()[0])
    with monkeypatch.context() as patch:
        patch.setattr(ImageFont, "truetype", truetype)
        assert not np.array_equal(draw_a(tmp_path / "a.ttf")[0], plain)
        assert asked == [str(tmp_path / "a.ttf")]
        draw_a()
        assert asked[1:] == list(drawing._FONTS)
    (tmp_path / "a.ttf").write_text("no font")
    with pytest.raises(UserError, match="a.ttf: is no font that can be read"):
        draw_a(tmp_path / "a.ttf")
