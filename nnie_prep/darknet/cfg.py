"""Reading a Darknet cfg file by Darknet's own rules.

    sections = read_cfg(Path("yolov3-tiny.cfg"))     # [net] first, its index is -1
    section = sections[1]
    section.index, section.type, section.header      # 0, "convolutional", "conv"
    section.int("stride", 1, at_least=1)             # the value or the default; marks the key as asked for
    section.float("scale_x_y", 1.0)
    section.string("activation", "logistic")
    section.ints("layers"), section.floats("anchors")
    section.has("from")                              # is it written?  (asks for it, too)
    section.ignore("jitter", "random")               # keys that are known and have no say here
    section.where("stride")                          # "nets/yolov3-tiny.cfg:27"
    section.origin                                   # "yolov3-tiny.cfg:25", the same wherever the file lies
    section.unused()                                 # remarks: keys nobody asked for, repeated keys; those of
                                                     # TRAINING_KEYS count as asked for
    section.unasked()                                # the same section with nothing asked for yet

The rules (AlexeyAB src/parser.c read_cfg, src/option_list.c, src/utils.c strip): blanks, tabs and CR are
removed anywhere in a line; `#` and `;` begin a comment only as the first character that is left; the
first of several equal keys wins; sections are numbered from 0 without [net].

Stricter than Darknet, always with a UserError that names file and line:
- a number must be one. atoi and atof turn `abc`, the empty text and each empty element of a list into 0
  and read `1e3` or `3.5` as the integers 1 and 3. What follows a number may only be a remark that begins
  with `#` or `;`, as in `filters=40#32`, which stock cfg files have;
- integers must fit 32 bits, floats must be finite in float32;
- a line that is neither option nor header nor comment, an option without key or value, an option before
  the first section, a malformed header, a first section other than [net] or [network], a second one,
  bytes that no text has, more than 1 MiB or 10,000 sections.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from nnie_prep.errors import UserError
from nnie_prep.outputs.target_checks import stat_of_input

# Every name that string_to_layer_type (AlexeyAB parser.c:62, pjreddie parser.c:39) knows beside the
# canonical one.
ALIASES = {
    "network": "net",
    "conv": "convolutional",
    "deconv": "deconvolutional",
    "conn": "connected",
    "max": "maxpool",
    "avg": "avgpool",
    "local_avg": "local_avgpool",
    "lrn": "normalization",
    "soft": "softmax",
    "silence": "empty",
}

# Keys that Darknet reads and that have no say in inference, in the layout of the weights or in the
# decoding of a head (AlexeyAB parser.c, pjreddie parser.c). "" holds those of every layer.
_HEAD = (
    "max max_delta counters_per_class jitter resize random label_smooth_eps objectness_smooth focal_loss "
    "iou_normalizer obj_normalizer cls_normalizer delta_normalizer uc_normalizer iou_loss iou_thresh_kind "
    "ignore_thresh truth_thresh iou_thresh show_details track_history_size sim_thresh dets_for_track "
    "dets_for_show track_ciou_norm embedding_layer"
)
TRAINING_KEYS = {
    name: frozenset(keys.split())
    for name, keys in {
        "": "clip onlyforward dont_update burnin_update stopbackward train_only_bn learning_rate dontsave",
        "net": "batch subdivisions max_batches learning_rate learning_rate_min momentum decay policy power "
        "step steps scale scales seq_scales gamma burn_in sgdr_cycle sgdr_mult adam B1 B2 eps ema_alpha "
        "loss_scale time_steps track augment_speed sequential_subdivisions dynamic_minibatch "
        "optimized_memory workspace_size_limit_MB use_cuda_graph try_fix_nan weights_reject_freq "
        "equidistant_point badlabels_rejection_percentage num_sigmas_reject_badlabels max_crop min_crop "
        "max_ratio min_ratio center notruth random flip blur gaussian_noise mixup cutmix mosaic mosaic_bound "
        "contrastive contrastive_jit_flip contrastive_color unsupervised label_smooth_eps resize_step "
        "attention adversarial_lr max_chart_loss angle aspect saturation exposure hue show_receptive_field",
        "convolutional": "sway rotate stretch stretch_sway angle assisted_excitation dot grad_centr stream "
        "wait_stream bin_output",
        "route": "stream wait_stream",
        "maxpool": "maxpool_zero_nonmax",
        "dropout": "probability dropblock dropblock_size_rel dropblock_size_abs",
        "crop": "flip angle saturation exposure shift",
        "cost": "type scale ratio",
        "softmax": "noloss",
        "implicit": "mean std",
        "yolo": _HEAD,
        "Gaussian_yolo": _HEAD,
        "region": "max jitter resize random focal_loss log sqrt rescore thresh classfix absolute bias_match "
        "coord_scale object_scale noobject_scale mask_scale class_scale",
        "detection": "max jitter resize random forced rescore coord_scale object_scale noobject_scale "
        "class_scale",
        "contrastive": "temperature cls_normalizer max_delta contrastive_neg_max",
    }.items()
}

_LARGEST_FILE = 1 << 20
_MOST_SECTIONS = 10_000
_LARGEST_FLOAT32 = 3.4028234663852886e38
_BLANKS = str.maketrans("", "", " \t\r\n")
# Messages quote the names of sections; no tree has one of half that length.
_LONGEST_NAME = 40
_HEADER = re.compile(r"\[([^\[\]]+)\]")
_INTEGER = re.compile(r"([+-]?[0-9]+)(?:[#;].*)?")
_FLOAT = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)(?:[#;].*)?")
# Below blank only TAB, LF and CR belong into a text; DEL and NUL are the marks of a binary file.
_NOT_TEXT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


class Remark(NamedTuple):
    """Something in a cfg that the user should know: `where` is file:line."""

    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


@dataclass(eq=False)
class Section:
    """One section, its options as written, and which of them were asked for.

    `index` is Darknet's layer index, -1 for [net]. `header` is the name as written, `type` the canonical
    one (`conv` -> `convolutional`). `options` maps a key to its value, without blanks, and its line.
    `repeated` holds the later occurrences of a key, which Darknet ignores.
    """

    index: builtins.int
    type: str
    header: str
    path: Path
    line: builtins.int
    options: dict[str, tuple[str, builtins.int]] = field(default_factory=dict)
    repeated: list[tuple[str, str, builtins.int]] = field(default_factory=list)
    _asked: set[str] = field(default_factory=set, repr=False)

    def __str__(self) -> str:
        return f"section {self.index} [{self.header}]" if self.index >= 0 else f"[{self.header}]"

    @property
    def origin(self) -> str:
        """The file's name and the line of the header, without the folder."""
        return f"{self.path.name}:{self.line}"

    def line_of(self, key: str) -> builtins.int:
        """The line of the option, or of the section's header where it is not written."""
        return self.options[key][1] if key in self.options else self.line

    def where(self, key: str = "") -> str:
        """`file:line` of the option, or of the header, with the path that the user gave."""
        return f"{self.path}:{self.line_of(key)}"

    def has(self, key: str) -> bool:
        """Whether the option is written."""
        self._asked.add(key)
        return key in self.options

    def ignore(self, *keys: str) -> None:
        """Marks keys as known to the caller, who does not need their values."""
        self._asked.update(keys)

    def unasked(self) -> Section:
        """A copy that was asked for nothing, for a reader that keeps its own account."""
        return replace(self, _asked=set())

    def string(self, key: str, default: str = "") -> str:
        """The value as text, without blanks."""
        return self.options[key][0] if self.has(key) else default

    def int(
        self,
        key: str,
        default: builtins.int,
        *,
        at_least: builtins.int | None = None,
        at_most: builtins.int | None = None,
    ) -> builtins.int:
        """The integer as C's atoi reads it. UserError: no 32-bit integer, or out of the range."""
        if not self.has(key):
            return default
        value = self._integer(key, self.options[key][0])
        self._check_range(key, value, at_least, at_most)
        return value

    def float(
        self,
        key: str,
        default: builtins.float,
        *,
        at_least: builtins.float | None = None,
        at_most: builtins.float | None = None,
    ) -> builtins.float:
        """The number as C's atof reads it, not rounded to float32. UserError: as `int`."""
        if not self.has(key):
            return default
        value = self._real(key, self.options[key][0])
        self._check_range(key, value, at_least, at_most)
        return value

    def ints(self, key: str, default: Sequence[builtins.int] = ()) -> list[builtins.int]:
        """The integers between the commas of the whole value; a remark's commas count as Darknet's do."""
        if not self.has(key):
            return list(default)
        return [self._integer(key, text) for text in self.options[key][0].split(",")]

    def floats(self, key: str, default: Sequence[builtins.float] = ()) -> list[builtins.float]:
        """The numbers between the commas of the whole value."""
        if not self.has(key):
            return list(default)
        return [self._real(key, text) for text in self.options[key][0].split(",")]

    def unused(self) -> list[Remark]:
        """A remark for each key that nobody asked for, and for each written again, by line.

        Keys that only training reads give none.
        """
        training = TRAINING_KEYS[""] | TRAINING_KEYS.get(self.type, frozenset())
        known = self._asked | training
        candidates = sorted(known - self.options.keys())
        found: list[tuple[int, str]] = []
        for key, (value, line) in self.options.items():
            if key not in known:
                from difflib import get_close_matches

                near = get_close_matches(key, candidates, n=1, cutoff=0.7)
                advice = f"; did you mean {near[0]}?" if near else ""
                found.append((line, f"{shown(f'{key}={value}')} is not used{advice}"))
        for key, value, line in self.repeated:
            if key not in training:
                first, first_line = self.options[key]
                advice = f"Darknet takes the first, {shown(f'{key}={first}')} in line {first_line}"
                found.append((line, f"{shown(f'{key}={value}')} is not used: {advice}"))
        return [Remark(f"{self.path}:{line}", text) for line, text in sorted(found)]

    def _integer(self, key: str, text: str) -> builtins.int:
        match = _INTEGER.fullmatch(text)
        if not match:
            raise self._no_number(key, text, "an integer")
        # A double holds every 32-bit integer exactly, and Python's int refuses very long texts.
        value = float(match[1])
        if not -(2**31) <= value < 2**31:
            raise UserError(
                f"{key}={shown(text)} does not fit Darknet's 32-bit integers",
                self.where(key),
                "correct the number",
            )
        return int(value)

    def _real(self, key: str, text: str) -> builtins.float:
        match = _FLOAT.fullmatch(text)
        if not match:
            raise self._no_number(key, text, "a number")
        value = float(match[1])
        if abs(value) > _LARGEST_FLOAT32:
            raise UserError(f"{key}={shown(text)} is beyond float32", self.where(key), "correct the number")
        return value

    def _no_number(self, key: str, text: str, wanted: str) -> UserError:
        whole = self.options[key][0]
        place = "" if text == whole else f" in {shown(f'{key}={whole}')}"
        return UserError(
            f"[{self.header}] needs {wanted} for {key}, found {shown(text)!r}{place}",
            self.where(key),
            "correct the value; only a remark that begins with # may follow a number",
        )

    def _check_range(
        self, key: str, value: builtins.float, at_least: builtins.float | None, at_most: builtins.float | None
    ) -> None:
        if at_least is not None and value < at_least:
            wanted = f"at least {at_least}"
        elif at_most is not None and value > at_most:
            wanted = f"at most {at_most}"
        else:
            return
        raise UserError(
            f"[{self.header}] has {key}={shown(self.options[key][0])}, expected {wanted}",
            self.where(key),
            "correct the value",
        )


def read_cfg(path: Path) -> list[Section]:
    """All sections of a cfg file, [net] first.

    Sections of unknown type are returned as they are: it is for the reader of the network to report
    them, all at once. UserError: the file cannot be read or is no cfg (see the module's docstring).
    """
    sections: list[Section] = []
    for number, line in enumerate(_text(path).split("\n"), 1):
        stripped = line.translate(_BLANKS)
        if not stripped or stripped[0] in "#;":
            continue
        where = f"{path}:{number}"
        garbage = _NOT_TEXT.search(stripped)
        if garbage:
            raise UserError(
                f"found byte 0x{ord(garbage[0]):02x}, which no text has", where, "give a Darknet cfg file"
            )
        if stripped[0] == "[":
            sections.append(_header(stripped, path, number, len(sections) - 1))
            if len(sections) > _MOST_SECTIONS:
                raise UserError(
                    f"found more than {_MOST_SECTIONS} sections, which no network has",
                    where,
                    "remove what was repeated",
                )
        elif not sections:
            raise UserError(
                f"expected [net] before the first option, found {shown(stripped)!r}",
                where,
                "give a Darknet cfg file; it begins with [net]",
            )
        else:
            _add_option(sections[-1], stripped, where, number)
    _check_sections(sections, path)
    return sections


def _text(path: Path) -> str:
    stat_of_input(path, "give the path of a Darknet cfg file")
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise UserError(
            f"cannot be read: {error.strerror}", str(path), "give the path of a Darknet cfg file"
        ) from None
    if len(data) > _LARGEST_FILE:
        raise UserError(
            f"is longer than {_LARGEST_FILE >> 20} MiB, which no cfg file is",
            str(path),
            "give the cfg file, not the weights",
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        # Remarks and file names may be in any old encoding; Darknet compares bytes.
        return data.decode("latin-1")


def _header(stripped: str, path: Path, number: int, index: int) -> Section:
    match = _HEADER.fullmatch(stripped)
    if not match or len(match[1]) > _LONGEST_NAME or not match[1].isprintable():
        raise UserError(
            f"expected a section header such as [convolutional], found {shown(stripped)!r}",
            f"{path}:{number}",
            "write the name in brackets, alone in its line",
        )
    section = Section(index, ALIASES.get(match[1], match[1]), match[1], path, number)
    if index >= 0 and section.type == "net":
        raise UserError(
            f"found a second [{match[1]}]",
            section.where(),
            "give a file with one network; this looks like two files joined",
        )
    return section


def _add_option(section: Section, stripped: str, where: str, number: int) -> None:
    key, equals, value = stripped.partition("=")
    if not (key and equals and value):
        raise UserError(
            f"expected key=value in [{section.header}], found {shown(stripped)!r}",
            where,
            "complete the line, or make it a comment with #",
        )
    if key in section.options:
        section.repeated.append((key, value, number))
    else:
        section.options[key] = (value, number)


def _check_sections(sections: list[Section], path: Path) -> None:
    if not sections:
        raise UserError("has no sections", str(path), "give a Darknet cfg file; it begins with [net]")
    if sections[0].type != "net":
        raise UserError(
            f"expected [net] as the first section, found [{sections[0].header}]",
            sections[0].where(),
            "put [net] with width, height and channels before it",
        )
    if len(sections) == 1:
        raise UserError("has no layers after [net]", sections[0].where(), "give the complete cfg file")


def shown(text: str) -> str:
    """A piece of the file that fits a one-line message and does no harm to a terminal."""
    text = text if len(text) <= 60 else f"{text[:57]}..."
    return "".join(char if char.isprintable() else "?" for char in text)
