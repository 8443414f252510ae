"""What a .cfg says that the compiler does not take, or that is not right for its net.

A rule here is written like those of a net (see __init__.py), and is given a `CfgSubject`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from nnie_prep.detection.picture import read_picture
from nnie_prep.errors import UserError
from nnie_prep.nnie import cfg_draft
from nnie_prep.nnie.calibration import READABLE, read_tensors
from nnie_prep.nnie.cfg_input_rules import GUIDE, INPUT_RULES
from nnie_prep.nnie.cfg_subject import CfgSubject
from nnie_prep.nnie.finding import Finding, Found, Rule
from nnie_prep.nnie.mapper_cfg import FEATURE_MAP, GROUP_KEYS, KEYS, ImageGroup
from nnie_prep.nnie.subject import blocks
from nnie_prep.outputs.input_files import is_file


def check_cfg(subject: CfgSubject) -> list[Finding]:
    """What stands between a .cfg and a .wk, by line."""
    findings = [_finding(subject, rule, found) for rule in CFG_RULES for found in rule.check(subject)]
    return sorted(findings, key=lambda finding: finding.line)


def _finding(subject: CfgSubject, rule: Rule, found: Found) -> Finding:
    source = str(subject.cfg.source or "the .cfg")
    return Finding(
        rule=rule.name,
        severity=rule.severity_of(found),
        layer="",
        where=f"{source}:{found.line}" if found.line else source,
        line=found.line,
        message=found.message,
        limit=str(found.limit),
        value=found.value,
        repair=found.repair,
    )


# ---- the file itself -----------------------------------------------------------------------------


def cfg_value(subject: CfgSubject) -> Iterator[Found]:
    """A key has a value that the compiler does not take.

    Every key has a range. nnie_mapper stops, or takes its default, and says so in its log at best.

    Instead: write a value in the range; `mapper-cfg` writes them all.
    """
    places: list[tuple[Any, Mapping[str, Any], ImageGroup | None]] = [(subject.cfg, KEYS, None)]
    places += [(group, GROUP_KEYS, group) for group in subject.cfg.groups]
    for owner, keys, group in places:
        for name in keys:
            limit = subject.limits.get(f"cfg_{name}")
            value = getattr(owner, name)
            if limit is None:
                continue
            measured = len(value) if name == "instruction_name" else value
            what = f"{name} has {measured} characters" if measured != value else f"{name} is {value}"
            if not limit.allows(measured):
                yield Found(None, what, measured, limit, f"correct {name}", subject.line(name, group))


def cfg_file(subject: CfgSubject) -> Iterator[Found]:
    """A file that the .cfg names does not exist.

    Paths are taken from the folder that the compiler is started in, or that RuyiStudio's project lies in. It
    stops at the first that is not there.

    Instead: start the compiler in the folder of the .cfg, for which `mapper-cfg` writes relative paths; or
    have it write absolute ones with --absolute.
    """
    cfg = subject.cfg
    named = [(key, getattr(cfg, key)) for key in ("prototxt_file", "caffemodel_file")]
    named += [("roi_coordinate_file", text) for text in cfg.roi_coordinate_file]
    named += [("gfpq_param_file", cfg.gfpq_param_file)] if cfg.gfpq_param_file else []
    for key, text in named:
        if not is_file(cfg.path(text)):
            yield Found(None, f"{key} {text} does not exist", text, "a file", line=subject.line(key))
    for group in cfg.groups:
        if not is_file(cfg.path(group.image_list)):
            message = f"image_list {group.image_list} does not exist"
            repair = "nnie-prep mapper-cfg PROTOTXT CAFFEMODEL --images FOLDER writes it"
            line = subject.line("image_list", group)
            yield Found(None, message, group.image_list, "a file", repair, line)


def cfg_path(subject: CfgSubject) -> Iterator[Found]:
    """A path has characters in it that old programs stumble over.

    RuyiStudio and the compiler split lines at spaces in places, and are built for the code page of their
    makers. A path of plain letters, digits and ._-/ is safe.

    Instead: rename the folder or the file.
    """
    cfg = subject.cfg
    keys = ("prototxt_file", "caffemodel_file", "instruction_name")
    named = [(key, str(getattr(cfg, key)), subject.line(key)) for key in keys]
    for group in cfg.groups:
        for key in ("image_list", "mean_file"):
            named.append((key, str(getattr(group, key)), subject.line(key, group)))
    for key, text, line in named:
        if not text.isascii() or " " in text:
            message = f"{key} {text!r} is no plain path"
            yield Found(None, message, text, "letters, digits and ._-/", "rename it", line)


# ---- the net -------------------------------------------------------------------------------------


def cfg_pair(subject: CfgSubject) -> Iterator[Found]:
    """The .cfg names other files than the pair that it is checked with.

    The compiler reads the files that the .cfg names, whatever was checked here. One name in common is
    enough, for RuyiStudio's marked prototxt is not called like the one that it was made from.

    Instead: give the .cfg of this pair, or leave the pair out and have its own checked.
    """
    cfg = subject.cfg
    if subject.pair is not None and not cfg.is_of(*subject.pair):
        message = f"is about {cfg.prototxt_file} and {cfg.caffemodel_file}"
        wanted = " and ".join(path.name for path in subject.pair)
        line = subject.line("prototxt_file")
        yield Found(None, message, cfg.prototxt_file, wanted, "give the .cfg of this pair", line)


def cfg_prototxt(subject: CfgSubject) -> Iterator[Found]:
    """`check` finds errors in the prototxt.

    The compiler would stop there, after the .cfg has been read.

    Instead: `check` says what they are and how each is repaired.
    """
    errors = [finding for finding in subject.net_findings if finding.severity == "error"]
    if errors:
        first = f"{errors[0].where}: {errors[0].message}"
        more = f", and {len(errors) - 1} more" if len(errors) > 1 else ""
        repair = f"nnie-prep check {subject.cfg.path(subject.cfg.prototxt_file)}"
        line = subject.line("prototxt_file")
        yield Found(None, f"check finds {first}{more}", len(errors), "no errors", repair, line)


def cfg_net_type(subject: CfgSubject) -> Iterator[Found]:
    """net_type is not that of the net.

    Nets with pooling of regions (1) and recurrent ones (2) are compiled in another way than all others (0).

    Instead: set it as the finding says.
    """
    if subject.net is not None:
        wanted = cfg_draft.net_type(subject.net)
        if subject.cfg.net_type != wanted:
            message = f"net_type is {subject.cfg.net_type}"
            repair, line = f"set net_type {wanted}", subject.line("net_type")
            yield Found(None, message, subject.cfg.net_type, str(wanted), repair, line)


def cfg_high_precision(subject: CfgSubject) -> Iterator[Found]:
    """compile_mode and the names of the layers do not belong together.

    With compile_mode 2 the layers named .._hp have 16 bits and all others 8; with 0 and 1 their names mean
    nothing. A net without such a layer is compiled with 8 bits, whatever was intended.

    Instead: `quantize-sim` proposes layers; `prepare --high-precision LAYER` names them; else set 0 or 1.
    """
    if subject.net is None:
        return
    layers, mode = cfg_draft.high_precision_layers(subject.net), subject.cfg.compile_mode
    line = subject.line("compile_mode")
    if mode == cfg_draft.BITS_BY_LAYER and not layers:
        message = "compile_mode is 2, and no layer is named .._hp"
        yield Found(None, message, mode, "0 or 1, or layers named .._hp", "set compile_mode 0 or 1", line)
    elif mode == cfg_draft.BITS_8 and layers:
        message = f"compile_mode is 0, and {layers[0]} asks for 16 bits"
        yield Found(None, message, mode, "2", "set compile_mode 2", line, severity="warning")


def cfg_roi(subject: CfgSubject) -> Iterator[Found]:
    """A net that pools regions has not a file of regions for each such layer.

    While it calibrates, the compiler cannot run what finds the regions, so that each ROIPooling and
    PSROIPooling needs a roi_coordinate_file: a line for each region, of picture, left, top, right, bottom.

    Instead: run the net in Caffe up to its regions on the same pictures, save them with numpy.savetxt, and
    name one file for each layer, in their order.
    """
    if subject.net is None:
        return
    layers, files = cfg_draft.roi_layers(subject.net), subject.cfg.roi_coordinate_file
    if len(files) != len(layers):
        message = f"{len(files)} roi_coordinate_file for {len(layers)} layers that pool regions"
        line = subject.line("roi_coordinate_file")
        yield Found(None, message, len(files), str(len(layers)), "name one for each of them", line)


def cfg_stride(subject: CfgSubject) -> Iterator[Found]:
    """internal_stride is not what the chip's memory reads best.

    Maps are aligned to 16 bytes for DDR3 and to 32 for DDR4. The other works, and is slower or larger.

    Instead: set 32 for a board with DDR4, 16 for one with DDR3.
    """
    limit, value = subject.limits["memory_stride"], subject.cfg.internal_stride
    if not limit.allows(value) and subject.limits["cfg_internal_stride"].allows(value):
        line = subject.line("internal_stride")
        yield Found(None, f"internal_stride is {value}", value, limit, f"set internal_stride {limit}", line)


def cfg_no_wk(subject: CfgSubject) -> Iterator[Found]:
    """The compiler will make no .wk that a board can load.

    With is_simulation 1 the .wk is for the simulator on a PC, and with is_check_prototxt 1 there is none.

    Instead: set both to 0 when the net is to go on the board.
    """
    for key in ("is_simulation", "is_check_prototxt"):
        if getattr(subject.cfg, key) == 1:
            yield Found(None, f"{key} is 1", 1, "0 for a board", f"set {key} 0", subject.line(key))


# ---- the lists -----------------------------------------------------------------------------------


def cfg_picture(subject: CfgSubject) -> Iterator[Found]:
    """An entry of an image list is no picture that the compiler reads.

    It does not exist, or its suffix is not one that the compiler knows (which are in small letters or in
    capitals, not mixed), or it cannot be decoded. The compiler stops while it calibrates.

    Instead: `mapper-cfg --images FOLDER --resize` writes copies that can be read, and the list.
    """
    limit = subject.limits["picture_suffixes"]
    for group in subject.cfg.groups:
        if group.image_type == FEATURE_MAP:
            continue
        for text, path, number in subject.listed(group):
            place = f"{group.image_list}:{number}: {text}"
            line = subject.line("image_list", group)
            if not is_file(path):
                beside = subject.cfg.path(group.image_list).parent / text
                hint = "write paths from the folder of the .cfg" if is_file(beside) else "correct the list"
                yield Found(None, f"{place} does not exist", text, "a file", hint, line)
            elif not limit.allows(path.suffix):
                message = f"{place} ends in {path.suffix!r}"
                yield Found(None, message, path.suffix, limit, "convert it, or rename it", line)
            elif path.suffix.lower() in READABLE:
                try:
                    read_picture(path)
                except UserError as error:
                    yield Found(None, f"{place} {error.message}", text, "a picture", error.hint, line)


def cfg_picture_count(subject: CfgSubject) -> Iterator[Found]:
    """There are too few pictures to calibrate with, or more than are of use.

    From them the compiler learns how large values become. With few, what they do not show is cut off; more
    than some 50 cost time and change little.

    Instead: list 20 to 50 that show all that the camera will see; `mapper-cfg --images` chooses them.
    """
    limit = subject.limits["calibration_pictures"]
    for group in subject.cfg.groups:
        if group.image_type == FEATURE_MAP or not is_file(subject.cfg.path(group.image_list)):
            continue
        count = len(subject.listed(group))
        if not limit.allows(count):
            severity = "error" if not count else "warning" if count < (limit.at_least or 0) else "info"
            message = f"{group.image_list} lists {count} picture{'s' * (count != 1)}"
            line = subject.line("image_list", group)
            repair = "list fewer" if severity == "info" else "list more"
            yield Found(None, message, count, limit, repair, line, severity=severity)


def cfg_tensor(subject: CfgSubject) -> Iterator[Found]:
    """A line of the list of a feature map is not a tensor of the input's size.

    With image_type 0 each line holds all numbers of one tensor, channel by channel and row by row, with
    spaces or commas between.

    Instead: `mapper-cfg --tensors FILE.npy` writes the list.
    """
    for name, shape, group in subject.inputs():
        path = subject.cfg.path(group.image_list)
        if group.image_type != FEATURE_MAP or not is_file(path):
            continue
        line, count = subject.line("image_list", group), 0
        wanted = f"{math.prod(shape[1:])} numbers for input {name} ({blocks(shape[1:])})"
        for number, tensor in read_tensors(path, shape):
            count += 1
            if isinstance(tensor, str):
                message = f"{group.image_list}:{number}: {tensor}"
                yield Found(None, message, tensor, wanted, "write the list anew, with --tensors", line)
        if not count:
            yield Found(None, f"{group.image_list} is empty", 0, wanted, "write one tensor a line", line)


CFG_RULES: tuple[Rule, ...] = (
    *INPUT_RULES,
    Rule(cfg_value, "B", GUIDE, limits=tuple(f"cfg_{name}" for name in (*KEYS, *GROUP_KEYS)
         if not name.endswith(("_file", "_list")))),
    Rule(cfg_file, "A", "a compiler cannot read what is not there"),
    Rule(cfg_path, "G", "experience with programs of that kind"),
    Rule(cfg_pair, "A", "what the .cfg says of itself", "warning"),
    Rule(cfg_prototxt, "A", "the rules of check, each with its own source"),
    Rule(cfg_net_type, "B", GUIDE + ", and working files"),
    Rule(cfg_high_precision, "B", GUIDE + ", and the guide as others quote it"),
    Rule(cfg_roi, "C", GUIDE),
    Rule(cfg_stride, "B", GUIDE, limits=("memory_stride",)),
    Rule(cfg_no_wk, "B", GUIDE + ", and working files", "info"),
    Rule(cfg_picture, "B", GUIDE, limits=("picture_suffixes",)),
    Rule(cfg_picture_count, "B", "two readers of the vendor's guide", limits=("calibration_pictures",)),
    Rule(cfg_tensor, "B", GUIDE + ", and the vendor's documents on the compiler's successor"),
)  # fmt: skip
