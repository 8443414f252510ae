"""`mapper-cfg`: the compiler's .cfg for a pair, its pictures and lists; and --check of one that is there."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nnie_prep import nnie
from nnie_prep.caffe_io import read_net, read_prototxt, read_text
from nnie_prep.cli.check import list_rules
from nnie_prep.cli.findings import tell
from nnie_prep.cli.mapper_inputs import asked_preprocessing, calibration, check_names, is_asked
from nnie_prep.cli.placing import beside
from nnie_prep.cli.report import few, size_text
from nnie_prep.cli.weights import read_pair, reader_of
from nnie_prep.description import description_of
from nnie_prep.errors import UserError
from nnie_prep.net import Net
from nnie_prep.nnie import Finding, cfg_draft
from nnie_prep.nnie.cfg_rules import CFG_RULES, cfg_path, check_cfg
from nnie_prep.nnie.cfg_subject import CfgSubject
from nnie_prep.nnie.limits import Limits
from nnie_prep.nnie.mapper_cfg import (
    SPELLINGS,
    ImageGroup,
    MapperCfg,
    differences,
    format_cfg,
    path_text,
    read_cfg,
    set_value,
)
from nnie_prep.nnie.preprocessing import Preprocessing, known_preprocessing
from nnie_prep.outputs import Outputs
from nnie_prep.outputs.input_files import is_file
from nnie_prep.shapes import Shape, net_input_shapes

# The keys that --set does not set, and what does.
_OTHERWISE = {
    "prototxt_file": "give it as PROTOTXT",
    "caffemodel_file": "give it as CAFFEMODEL",
    "RGB_order": "give --order",
    "image_list": "give --images or --tensors",
    "image_type": "give --image-type, or --tensors for 0",
    "mean_file": "give --mean",
    "norm_type": "give --mean and --scale, which it follows from",
    "data_scale": "give --scale",
}


@dataclass
class Draft:
    """A .cfg with all that belongs to it, before anything is written; `files` in the order of writing, the
    last of them `target`, the .cfg itself."""

    target: Path
    cfg: MapperCfg
    files: dict[Path, bytes] = field(default_factory=dict)
    read: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def mapper_cfg(options: Namespace) -> int:
    """Writes the .cfg, or with --check finds what is wrong with one: then 1 if there is an error."""
    if options.rules:
        return list_rules(options, CFG_RULES)
    limits = nnie.read_limits(options.chip, options.limits)
    if options.check is not None:
        _refuse_writing(options)
        return _check(options, limits)
    if options.prototxt is None or options.caffemodel is None:
        missing = "CAFFEMODEL is" if options.prototxt else "PROTOTXT and CAFFEMODEL are"
        raise UserError(f"{missing} missing", hint="give both, or --check FILE.cfg")
    report(options, write(options, limits))
    return 0


def write(options: Namespace, limits: Limits) -> Draft:
    """Writes the .cfg that the options of mapper-cfg ask for, and all that belongs to it."""
    draft = _draft(options, limits)
    _write(options, draft)
    return draft


def report(options: Namespace, draft: Draft) -> None:
    """Prints what was written: as text, or as one JSON document."""
    for warning in [] if options.quiet or options.json else draft.warnings:
        print(f"nnie_prep: warning: {warning}", file=sys.stderr)
    if options.json:
        written = [str(path) for path in draft.files]
        said = {
            "cfg": str(draft.target),
            "written": written,
            "notes": draft.notes,
            "warnings": draft.warnings,
        }
        print(json.dumps(said, indent=2))
    elif not options.quiet:
        print("\n".join(draft.notes))
        sizes = [f"wrote {path} ({size_text(len(data))})" for path, data in draft.files.items()]
        rest = [line.removeprefix("  ") for line in few(sizes[:-1], "file", options.verbose)]
        print("\n".join([*rest, sizes[-1]]))
        if not options.absolute:
            print(f"start the compiler in {draft.target.parent}: the paths in the .cfg begin there")


# ---- writing -------------------------------------------------------------------------------------


def _draft(options: Namespace, limits: Limits) -> Draft:
    """All that is to be written, worked out."""
    target = _target(options)
    net = read_pair(options)
    shapes = net_input_shapes(net)
    if not net.inputs() or len(shapes) != len(net.inputs()):
        raise UserError(
            "has no input, or one without a shape",
            str(options.prototxt),
            "prepare writes both: nnie-prep prepare PROTOTXT CAFFEMODEL",
        )
    check_names(options, net.inputs())
    draft = Draft(target, _cfg(options, net, limits, target))
    draft.read += [options.prototxt, options.caffemodel]
    groups = []
    orders: dict[str, str] = {}
    for name in net.inputs():
        preprocessing = asked_preprocessing(options, net, name, shapes[name], limits)
        group, order = _group(options, draft, limits, name, shapes, preprocessing)
        groups.append(group)
        orders |= {order: name} if order else {}
    if len(orders) > 1:
        told = ", ".join(f"{name} wants {order}" for order, name in orders.items())
        raise UserError(f"{told}, and there is one RGB_order for all", str(options.prototxt), "give --order")
    draft.cfg = replace(draft.cfg, groups=tuple(groups), RGB_order=next(iter(orders), "BGR"))
    odd = cfg_path(CfgSubject(draft.cfg, limits))
    draft.warnings += [f"{found.message} (wanted: {found.limit}); {found.repair}" for found in odd]
    draft.files[target] = format_cfg(draft.cfg).encode("utf-8", "surrogateescape")
    return draft


def _target(options: Namespace) -> Path:
    """Where the .cfg goes; not over the Darknet .cfg that a prototxt of that name was made from."""
    target = beside(options.prototxt, "_mapper.cfg")
    if options.output is not None:
        if options.output.endswith("/"):
            target = Path(options.output, target.name)
        else:
            target = Path(options.output.removesuffix(".cfg") + ".cfg")
        if target.name in (".cfg", "..cfg", "...cfg"):
            raise UserError("names no file", f"-o {options.output!r}", "write -o net_mapper.cfg, say")
    if is_file(target):
        try:
            read_cfg(target)
        except UserError as error:
            raise UserError(
                f"exists and is no .cfg of the compiler's ({error.message})",
                str(target),
                "name another with -o",
            ) from None
    return target


def _cfg(options: Namespace, net: Net, limits: Limits, target: Path) -> MapperCfg:
    """The keys that stand once."""
    values: dict[str, Any] = {
        "batch_num": options.batch_num,
        "net_type": cfg_draft.net_type(net),
        "sparse_rate": options.sparse_rate,
        "compile_mode": cfg_draft.compile_mode(net, options.bits),
        "is_simulation": int(options.simulation),
        "log_level": options.log_level,
        "instruction_name": target.stem.removesuffix("_mapper")
        + ("_func" if options.simulation else "_inst"),
        "internal_stride": cfg_draft.stride(limits, options.stride),
    }
    values |= _set_values(options.set)
    for key, value in values.items():
        measured = len(value) if key == "instruction_name" else value
        limit = limits.get(f"cfg_{key}")
        if limit is not None and not limit.allows(measured):
            raise UserError(f"{key} is {value}; it must be {limit}", str(target), "choose another")
    prototxt = path_text(options.prototxt, target, options.absolute)
    return MapperCfg(prototxt, path_text(options.caffemodel, target, options.absolute), **values)


def _set_values(texts: Sequence[str]) -> dict[str, Any]:
    """What --set says, by key. UserError for a key that has an option of its own, or is given twice."""
    values: dict[str, Any] = {}
    for text in texts:
        key, sign, value = text.partition("=")
        where = f"--set {text}"
        if not sign:
            raise UserError("is no KEY=VALUE", where, "write --set compress_mode=1, say")
        if key in _OTHERWISE:
            raise UserError(f"{key} follows from the net and its inputs", where, _OTHERWISE[key])
        new = set_value(key, value, where)
        key = SPELLINGS.get(key, key)
        if key in values and not isinstance(new, tuple):
            raise UserError(f"{key} is given twice", where, "leave one of them")
        values[key] = (*values.get(key, ()), *new) if isinstance(new, tuple) else new
    return values


def _group(
    options: Namespace,
    draft: Draft,
    limits: Limits,
    name: str,
    shapes: Mapping[str, Shape],
    preprocessing: Preprocessing | None,
) -> tuple[ImageGroup, str]:
    """What one input is fed with, and the order of channels that it wants, "" if it has none.

    Its mean, list and pictures go into the draft.
    """
    shape, target = shapes[name], draft.target
    found = calibration(options, target, name, shapes, limits)
    draft.files |= found.files
    draft.read += found.read
    draft.warnings += found.warnings
    image_list = path_text(found.image_list, target, options.absolute)
    if preprocessing is None or found.image_type == 0:
        draft.notes.append(f"{name}: feature map, image_type 0; values are taken as they are listed")
        return ImageGroup(image_list, image_type=0), ""
    kind = cfg_draft.norm_type(preprocessing, found.image_type, shape, f"input {name}")
    mean_file = "null"
    if kind in (1, 4):
        assert preprocessing.mean_file is not None
        if not is_file(preprocessing.mean_file):
            raise UserError(
                f"does not exist, and is the mean of input {name} ({preprocessing.who})",
                str(preprocessing.mean_file),
                "give it with --mean FILE.binaryproto",
            )
        mean_file = path_text(preprocessing.mean_file, target, options.absolute)
        draft.read.append(preprocessing.mean_file)
    elif kind in (2, 5):
        path = target.with_name(f"{found.stem}_mean.txt")
        draft.files[path] = cfg_draft.mean_text(preprocessing, shape[1])
        mean_file = path_text(path, target, options.absolute)
    order = (preprocessing.order or "BGR") if shape[1] == 3 else ""
    group = ImageGroup(image_list, found.image_type, mean_file, kind, preprocessing.scale)
    if kind not in (3, 4, 5):
        group = replace(group, data_scale=1.0)
    draft.notes.append(_note(name, preprocessing, group, order))
    return group, order


def _note(name: str, preprocessing: Preprocessing, group: ImageGroup, order: str) -> str:
    """What the .cfg does to an input, and who says so."""
    steps = [order] * bool(order)
    if group.norm_type in (1, 4):
        steps.append(f"minus {preprocessing.mean_file}")
    elif group.norm_type in (2, 5):
        steps.append("minus " + "/".join(f"{value:g}" for value in preprocessing.mean))
    steps += [f"times {group.scale:.10g}"] if group.scale != 1 else []
    return f"{name}: {', '.join(steps) or 'as it is'} (norm_type {group.norm_type}; {preprocessing.who})"


def _write(options: Namespace, draft: Draft) -> None:
    """All files or none. What is there already with the same content needs no --force."""
    other = [path for path, data in draft.files.items() if is_file(path) and not _holds(path, data)]
    if other and not options.force:
        _refuse_ours(draft, other)
    with ExitStack() as stack:
        for folder in {path.parent for path in draft.files}:
            if not folder.exists() and folder.parent.is_dir():
                folder.mkdir()
                stack.callback(_remove_empty, folder)
        out = stack.enter_context(
            Outputs(list(draft.files), [], list(dict.fromkeys(draft.read)), force=options.force or not other)
        )
        for path, data in draft.files.items():
            with out.open(path) as file:
                file.write(data)
        out.commit()


def _refuse_ours(draft: Draft, other: Sequence[Path]) -> None:
    """UserError where a .cfg is there, for it and for what belongs to it. All else is left to Outputs.

    A .cfg has no room for a note of what made it, as a prototxt has: its form tells.
    """
    target = draft.target
    if not is_file(target):
        return
    there = read_cfg(target)
    if _holds(target, format_cfg(there).encode("utf-8", "surrogateescape")):
        what = "was written for other input or with other options, or edited since"
    else:
        what = "is not as nnie_prep writes it"
    changes = differences(there, draft.cfg)
    told = ", ".join([*changes[:2], *([f"{len(changes) - 2} more"] if changes[2:] else [])])
    where = target if target in other else other[0]
    message = f"exists and {what}" + (f" ({told})" if told else "")
    raise UserError(message, str(where), "--force replaces it, another output (-o) spares it")


def _holds(path: Path, data: bytes) -> bool:
    return is_file(path) and path.stat().st_size == len(data) and path.read_bytes() == data


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):  # it holds what was written
        folder.rmdir()


# ---- checking ------------------------------------------------------------------------------------


def _refuse_writing(options: Namespace) -> None:
    """UserError for what --check would pass over, though the user hopes for something of it."""
    asked = {"-o": options.output, "--images": options.images, "--tensors": options.tensors}
    asked |= {"--set": options.set, "--bits": options.bits, "--stride": options.stride}
    asked |= {"--resize": options.resize, "--absolute": options.absolute, "--force": options.force}
    if given := [name for name, value in asked.items() if value]:
        raise UserError(
            "--check only looks at what is there", ", ".join(given), "leave that out, or --check to write"
        )


def _check(options: Namespace, limits: Limits) -> int:
    head = {"cfg": str(options.check), "chip": options.chip}
    return tell(options, head, CFG_RULES, check_cfg(_subject(options, limits)))


def _subject(options: Namespace, limits: Limits) -> CfgSubject:
    """The .cfg with the net that it names, if there is one, and all that is known of that."""
    cfg = read_cfg(options.check)
    prototxt, caffemodel = options.prototxt or cfg.path(cfg.prototxt_file), options.caffemodel
    caffemodel = caffemodel or cfg.path(cfg.caffemodel_file)
    if not is_file(prototxt):
        return CfgSubject(cfg, limits)
    net = read_prototxt(prototxt)
    check_names(options, net.inputs())
    description = description_of(prototxt)
    wanted = {name: _wanted(options, net, name, prototxt, description, limits) for name in net.inputs()}
    found = _net_findings(options, limits, prototxt, caffemodel, description)
    return CfgSubject(cfg, limits, net, wanted, found, (prototxt, caffemodel))


def _wanted(
    options: Namespace,
    net: Net,
    name: str,
    prototxt: Path,
    description: Mapping[str, Any],
    limits: Limits,
) -> Preprocessing | None:
    shape = net_input_shapes(net).get(name, ())
    if is_asked(options, name):
        return asked_preprocessing(options, net, name, shape, limits, prototxt)
    return known_preprocessing(net, name, prototxt, description, options.transform)


def _net_findings(
    options: Namespace, limits: Limits, prototxt: Path, caffemodel: Path, description: Mapping[str, Any]
) -> list[Finding]:
    files = [path for path in (prototxt, caffemodel) if is_file(path)]
    reader = reader_of(options)
    net = read_net(prototxt, caffemodel, read_weights=reader) if len(files) == 2 else read_prototxt(prototxt)
    text = read_text(prototxt)
    return nnie.check(net, options.chip, limits=limits, text=text, description=description, files=files)
