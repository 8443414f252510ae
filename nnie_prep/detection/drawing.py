"""Boxes and labels on a picture: one colour for each class, labels that do not cover each other."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnie_prep.detection.picture import pillow
from nnie_prep.errors import UserError

if TYPE_CHECKING:
    from nnie_prep.detection import Detection

# Fonts with many scripts, by the names under which systems have them; Pillow's own knows Latin alone.
_FONTS = (
    "DejaVuSans.ttf",
    "NotoSansCJK-Regular.ttc",
    "wqy-microhei.ttc",
    "msyh.ttc",
    "PingFang.ttc",
    "Arial Unicode.ttf",
)
_GOLDEN = 0.618034
_LINE, _TEXT = 0.005, 0.028  # of the mean of the picture's sides
_LEAST_LINE, _LEAST_TEXT = 2, 12  # pixels

Rectangle = tuple[float, float, float, float]  # left, top, right, bottom
Colour = tuple[int, int, int]


def draw(
    picture: Any, found: Sequence[Detection], names: Sequence[str], font: Path | None = None
) -> tuple[Any, list[str]]:
    """A copy of a picture of Pillow's, in RGB, with a box and a label for each detection; and labels that
    no font has the letters of: the class's number stands in their place.

    Args:
        found: the most confident first; it is drawn last. What shares a box shares a label.
        names: of the classes.
        font: a TrueType file; else one that has the names' letters is looked for.
    """
    image = picture.convert("RGB")
    canvas = pillow("ImageDraw").Draw(image)
    mean = sum(image.size) / 2
    width = max(_LEAST_LINE, round(_LINE * mean))
    size = max(_LEAST_TEXT, round(_TEXT * mean))
    groups: dict[Rectangle, list[Detection]] = {}
    for one in found:
        groups.setdefault(one[2:], []).append(one)
    texts = [", ".join(_text(one, names) for one in group) for group in groups.values()]
    letters = _Letters(size, font)
    for box, group in reversed(groups.items()):
        _outline(canvas, box, image.size, width, colour(group[0].kind))
    taken: list[Rectangle] = []
    lacking = []
    for (box, group), text in zip(groups.items(), texts, strict=True):
        face = letters.font_for(text)
        if face is None:
            lacking.append(text)
            text = f"class {group[0].kind} {group[0].confidence:.0%}"
            face = letters.first
        _label(canvas, box, image.size, text, face, colour(group[0].kind), taken)
    return image, lacking


def colour(kind: int) -> Colour:
    """Neighbouring classes lie far apart on the wheel of colours."""
    red, green, blue = colorsys.hsv_to_rgb(kind * _GOLDEN % 1, 0.9, 1.0 if kind % 2 else 0.85)
    return round(255 * red), round(255 * green), round(255 * blue)


def _text(one: Detection, names: Sequence[str]) -> str:
    return f"{names[one.kind]} {one.confidence:.0%}"


def _outline(canvas: Any, box: Rectangle, size: tuple[int, int], width: int, ink: Colour) -> None:
    """A coloured line inside the box, with a thin dark one around it that shows on any ground."""
    left, top = (max(0, round(edge)) for edge in box[:2])
    right, bottom = (min(size[axis], round(box[2 + axis])) - 1 for axis in (0, 1))
    right, bottom = max(left, right), max(top, bottom)
    canvas.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=(0, 0, 0))
    canvas.rectangle((left, top, right, bottom), outline=ink, width=width)


def _label(
    canvas: Any,
    box: Rectangle,
    size: tuple[int, int],
    text: str,
    font: Any,
    ink: Colour,
    taken: list[Rectangle],
) -> None:
    """Above the box, or inside it, or below: the first place in the picture that is free."""
    x0, y0, x1, y1 = canvas.textbbox((0, 0), text, font=font)
    margin = max(2, round((y1 - y0) / 5))
    width, height = x1 - x0 + 2 * margin, y1 - y0 + 2 * margin
    left = max(0, min(box[0], size[0] - width))
    tops = [box[1] - height, box[1], box[3], box[3] - height]
    places = [(left, top, left + width, top + height) for top in tops if 0 <= top <= size[1] - height]
    places = places or [(left, max(0, min(box[1], size[1] - height)), left + width, box[1] + height)]
    place = next((one for one in places if not any(_meet(one, other) for other in taken)), places[0])
    taken.append(place)
    left, top = round(place[0]), round(place[1])
    canvas.rectangle((left, top, left + width - 1, top + height - 1), fill=ink)
    red, green, blue = ink
    dark = 0.299 * red + 0.587 * green + 0.114 * blue > 130
    canvas.text(
        (left + margin - x0, top + margin - y0), text, font=font, fill=(0, 0, 0) if dark else (255, 255, 255)
    )


def _meet(a: Rectangle, b: Rectangle) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


class _Letters:
    """Fonts of one size, and which has the letters of a text."""

    def __init__(self, size: int, file: Path | None) -> None:
        self._fonts = []
        module = pillow("ImageFont")
        if file is not None:
            try:
                self._fonts = [module.truetype(str(file), size)]
            except OSError as error:
                raise UserError(
                    f"is no font that can be read ({error})", str(file), "give a TrueType font"
                ) from None
        for name in _FONTS if file is None else ():
            try:
                self._fonts.append(module.truetype(name, size))
            except OSError:
                continue
        self._fonts.append(module.load_default(size))

    @property
    def first(self) -> Any:
        return self._fonts[0]

    def font_for(self, text: str) -> Any:
        """The first font that has all letters of a text; None if none has."""
        return next((font for font in self._fonts if all(_has(font, letter) for letter in set(text))), None)


def _has(font: Any, letter: str) -> bool:
    """A letter that a font lacks looks like one that no font has."""
    nothing = font.getmask("\uffff")
    mask = font.getmask(letter)
    return letter.isspace() or (mask.size, bytes(mask)) != (nothing.size, bytes(nothing))
