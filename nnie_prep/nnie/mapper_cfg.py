"""The .cfg that nnie_mapper reads: `[key] value` lines, in and out of a `MapperCfg`.

    [prototxt_file] ./yolov3-tiny.prototxt
    [caffemodel_file] ./yolov3-tiny.caffemodel
    ...
    [image_list] ./yolov3-tiny_images.txt        once for each input of the net, in its order,
    [image_type] 1                               and so the three keys behind it
    [mean_file] null
    [norm_type] 3

The fields of `MapperCfg` and `ImageGroup` are the compiler's keys, and their defaults the compiler's. What
values a key may have is data, `cfg_<key>` in chips/base.json. Paths are relative to the folder that the
compiler is started in, or that RuyiStudio's project lies in, which is to be the folder of the .cfg.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from nnie_prep.errors import UserError
from nnie_prep.names import meant
from nnie_prep.outputs.input_files import read_input

DEFAULT_SCALE = 1 / 256
NO_FILE = "null"
# The guide's table prints the second, working files have the first.
SPELLINGS = {"instructions_name": "instruction_name"}

FEATURE_MAP = 0  # image_type
WITH_SCALE = (3, 4, 5)  # norm_type: data_scale is used
WITH_MEAN_IMAGE = (1, 4)  # mean_file is a .binaryproto
WITH_MEAN_VALUES = (2, 5)  # mean_file holds one float a line

_LINE = re.compile(r"\[\s*(\w+)\s*\]\s*(.*?)\s*")


@dataclass(frozen=True)
class ImageGroup:
    """What one input of the net is fed with. `lines` says on which line each key stands."""

    image_list: str
    image_type: int = 1
    mean_file: str = NO_FILE
    norm_type: int = 0
    data_scale: float = DEFAULT_SCALE
    lines: Mapping[str, int] = field(default_factory=dict, compare=False)

    @property
    def scale(self) -> float:
        """What values are multiplied by."""
        return self.data_scale if self.norm_type in WITH_SCALE else 1.0


@dataclass(frozen=True)
class MapperCfg:
    """A whole .cfg. `source` is its path, None while it is not written; `lines` as for a group."""

    prototxt_file: str
    caffemodel_file: str
    batch_num: int = 256
    net_type: int = 0
    sparse_rate: float = 0.0
    compile_mode: int = 0
    is_simulation: int = 0
    log_level: int = 0
    instruction_name: str = "inst"
    RGB_order: str = "BGR"
    internal_stride: int = 16
    compress_mode: int = 0
    max_roi_frame_cnt: int = 300
    roi_coordinate_file: tuple[str, ...] = ()
    recurrent_tmax: int = 1024
    gfpq_param_file: str = ""
    is_check_prototxt: int = 0
    groups: tuple[ImageGroup, ...] = ()
    source: Path | None = field(default=None, compare=False)
    lines: Mapping[str, int] = field(default_factory=dict, compare=False)

    def path(self, text: str) -> Path:
        """Where a path of the file leads: from the folder of the .cfg. Windows' separators are understood."""
        return (self.source.parent if self.source else Path()) / text.replace("\\", "/")

    def is_of(self, prototxt: Path, caffemodel: Path) -> bool:
        """Whether it may be about a pair, by the names of its files. RuyiStudio's marked prototxt has another
        name than the one it was marked from; the caffemodel is then the same."""
        named = ((self.prototxt_file, prototxt), (self.caffemodel_file, caffemodel))
        return any(self.path(text).name == path.name for text, path in named)


_SPECIAL = ("groups", "source", "lines")
KEYS = {one.name: one for one in fields(MapperCfg) if one.name not in _SPECIAL}
GROUP_KEYS = {one.name: one for one in fields(ImageGroup) if one.name not in _SPECIAL}
# Written only where they say something: a compiler that does not know them need not see them.
_SELDOM = ("compress_mode", "max_roi_frame_cnt", "recurrent_tmax", "gfpq_param_file", "is_check_prototxt")


# ---- out -----------------------------------------------------------------------------------------


def format_cfg(cfg: MapperCfg) -> str:
    """The file's text: the keys of working files in their order, the inputs last.

    No comments, for nobody knows whether the compiler takes them. data_scale stands once where it is the
    same for all inputs, as in working files, and with each input otherwise.
    """
    one_scale = len({group.data_scale for group in cfg.groups}) == 1
    lines = []
    for name in KEYS:
        value = getattr(cfg, name)
        if name == "roi_coordinate_file":
            lines += [(name, text) for text in value]
        elif name not in _SELDOM or value != KEYS[name].default:
            lines.append((name, value))
        if name == "RGB_order" and one_scale:
            lines.append(("data_scale", cfg.groups[0].data_scale))
    for group in cfg.groups:
        keys = [name for name in GROUP_KEYS if name != "data_scale" or not one_scale]
        lines += [(name, getattr(group, name)) for name in keys]
    return "".join(f"[{name}] {_text(name, value)}\n" for name, value in lines)


def path_text(path: Path, cfg: Path, absolute: bool = False) -> str:
    """A path as the .cfg is to name it: from the folder of the .cfg, or from the root."""
    if absolute:
        return os.path.abspath(path)  # noqa: PTH100 - a link stays what the user named
    text = Path(os.path.relpath(path, cfg.parent)).as_posix()
    return text if text.startswith("..") else f"./{text}"


def differences(old: MapperCfg, new: MapperCfg) -> list[str]:
    """What the keys of two files say, where that is not the same: "compile_mode 0, now 1"."""
    found = [(name, getattr(old, name), getattr(new, name)) for name in KEYS]
    if len(old.groups) != len(new.groups):
        found.append(("image_list", f"{len(old.groups)} times", f"{len(new.groups)} times"))
    for before, after in zip(old.groups, new.groups, strict=False):
        found += [(name, getattr(before, name), getattr(after, name)) for name in GROUP_KEYS]
    texts = [(name, _text(name, before), _text(name, after)) for name, before, after in found]
    return [f"{name} {before}, now {after}" for name, before, after in texts if before != after]


def _text(name: str, value: object) -> str:
    text = f"{value:.10g}" if isinstance(value, float) else str(value)
    if any(ord(character) < 32 for character in text):
        raise UserError(
            f"{name} has a line break or another control character in it", repr(text), "rename it"
        )
    return text


# ---- in ------------------------------------------------------------------------------------------


def read_cfg(path: Path) -> MapperCfg:
    """Reads a .cfg. UserError with file:line for what is no key, no value, or given too often."""
    return parse_cfg(read_input(path).decode("utf-8-sig", errors="surrogateescape"), path)


def parse_cfg(text: str, source: Path) -> MapperCfg:
    """As `read_cfg`, of a file's text. Empty lines and lines that begin with # are passed over."""
    found: dict[str, list[tuple[Any, int]]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        where = f"{source}:{number}"
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise UserError(f"found {line.strip()!r}, expected [key] value", where, "write [net_type] 0, say")
        name = SPELLINGS.get(match[1], match[1])
        known = KEYS.get(name) or GROUP_KEYS.get(name)
        if known is None:
            hint = meant(match[1], [*KEYS, *GROUP_KEYS, *SPELLINGS]) or "remove the line"
            raise UserError(f"{match[1]!r} is no key of the compiler's", where, hint)
        found.setdefault(name, []).append((_value(known, match[2], where), number))
    if not found:
        raise UserError("holds no [key] value", str(source), "give a .cfg of nnie_mapper's")
    groups = _groups(found, source)
    values: dict[str, Any] = {}
    for name, entries in found.items():
        if name == "roi_coordinate_file":
            values[name] = tuple(value for value, _ in entries)
        elif name in KEYS and len(entries) > 1:
            raise UserError(
                f"{name} stands on line {entries[0][1]} already", f"{source}:{entries[1][1]}", "remove one"
            )
        elif name in KEYS:
            values[name] = entries[0][0]
    for name in ("prototxt_file", "caffemodel_file"):
        if name not in values:
            raise UserError(f"{name} is missing", str(source), f"add [{name}] PATH")
    lines = {name: entries[0][1] for name, entries in found.items()}
    return MapperCfg(**values, groups=groups, source=source, lines=lines)


def _groups(found: Mapping[str, list[tuple[Any, int]]], source: Path) -> tuple[ImageGroup, ...]:
    """The n-th of each key belongs to the n-th input; one alone holds for all inputs."""
    lists = found.get("image_list", [])
    if not lists:
        raise UserError("image_list is missing", str(source), "add [image_list] PATH for each input")
    groups = []
    for place in range(len(lists)):
        values: dict[str, Any] = {}
        lines = {}
        for name in GROUP_KEYS:
            entries = found.get(name, [])
            if len(entries) not in (0, 1, len(lists)):
                raise UserError(
                    f"{name} is given {len(entries)} times, and image_list {len(lists)} times",
                    f"{source}:{entries[-1][1]}",
                    "give each input its own, in the order of the prototxt",
                )
            if entries:
                values[name], lines[name] = entries[place if len(entries) > 1 else 0]
        groups.append(ImageGroup(**values, lines=lines))
    return tuple(groups)


def set_value(name: str, text: str, where: str) -> Any:
    """The value of a key that is typed somewhere else, with the same UserErrors."""
    name = SPELLINGS.get(name, name)
    known = KEYS.get(name)
    if known is None:
        raise UserError(f"{name!r} is no key of the compiler's", where, meant(name, KEYS) or "see the README")
    value = _value(known, text, where)
    return (value,) if name == "roi_coordinate_file" else value


def _value(key: Field[Any], text: str, where: str) -> Any:
    kinds: dict[str, tuple[Callable[[str], Any], str]] = {
        "int": (int, "a whole number"),
        "float": (float, "a number"),
    }
    convert, what = kinds.get(str(key.type), (str, "a value"))
    try:
        value = convert(text)
        if text and (not isinstance(value, float) or math.isfinite(value)):
            return value
    except ValueError:
        pass
    raise UserError(
        f"{key.name} is {text!r}; it must be {what}", where, f"write [{key.name}] {_example(key)}"
    )


def _example(key: Field[Any]) -> str:
    return str(key.default) if isinstance(key.default, int | float) else "PATH"
