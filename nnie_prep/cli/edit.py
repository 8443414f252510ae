"""`edit`: cuts, renames, other inputs, fields; what keeps the function is proven before it appears."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnie_prep import __version__
from nnie_prep import edit as edits
from nnie_prep.blob_map import BlobMap, Note
from nnie_prep.caffe_io import format_prototxt, read_net, write_caffemodel
from nnie_prep.cli.judges import proof_options
from nnie_prep.cli.placing import beside, folder_of, placed, read_back, writing
from nnie_prep.cli.report import (
    Progress,
    count_text,
    few,
    shape_text,
    table,
    verdict_json,
    verdict_text,
    written_text,
)
from nnie_prep.cli.weights import named_after, read_pair, reader_of, save_with_caffe
from nnie_prep.description import as_text, made_by
from nnie_prep.edit import cuts, fields, inputs, layers
from nnie_prep.errors import UserError
from nnie_prep.net import Net
from nnie_prep.outputs import Outputs
from nnie_prep.outputs.made_by import head_comment
from nnie_prep.shapes import known_shapes

if TYPE_CHECKING:
    from nnie_prep.verify import Verdict

_KEEPING = ("until", "from", "rename-layer", "rename-blob")


@dataclass
class _Outcome:
    """All that is reported."""

    before: Net
    after: Net
    blob_map: BlobMap
    written: list[Path]
    notes: list[Note] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    unproven: str = ""  # why there is no proof
    verdict: Verdict | None = None

    @property
    def passed(self) -> bool:
        return self.verdict is None or self.verdict.passed


def edit(options: Namespace) -> int:
    """Reads, edits in the order of the command line, writes, proves where it can, and commits."""
    if not options.edits:
        raise UserError("no edit is given", hint="give --until, --rename-layer or another; see edit --help")
    given = [options.prototxt] + ([options.caffemodel] if options.caffemodel else [])
    targets = _targets(options)
    also_read = [options.input] if options.input else []
    outputs = Outputs(targets, given, also_read, force=options.force)
    with (
        folder_of(options.output),
        writing(outputs, lambda: read_pair(options)) as out,
        Progress(not options.quiet and not options.json) as progress,
    ):
        progress("reading")
        warnings: list[str] = []
        before = read_net(options.prototxt, options.caffemodel, warnings, reader_of(options))
        after, blob_map = before.copy(), BlobMap(before.blob_names())
        outcome = _Outcome(before, after, blob_map, targets, warnings=warnings)
        asked = [_edit(name, values) for name, values in _joined(options.edits)]
        for notes in edits.together(after, asked):
            blob_map.follow(notes)
            outcome.notes += notes
        _write(options, out, outcome, progress)
        outcome.unproven = _why_unproven(options)
        if not outcome.unproven:
            outcome.verdict = _prove(options, out, outcome, progress)
        if outcome.passed:
            out.commit()
    for warning in [] if options.quiet or options.json else outcome.warnings:
        print(f"nnie_prep: warning: {warning}", file=sys.stderr)
    if options.json:
        print(json.dumps(_json(given, outcome), indent=2))
    elif not options.quiet:
        print("\n".join(_text(options, given, outcome)))
    return 0 if outcome.passed else 1


def _targets(options: Namespace) -> list[Path]:
    """The files to be written, the prototxt last; without -o each is named after its own input."""
    names = [options.prototxt] + ([named_after(options.caffemodel)] if options.caffemodel else [])
    own = [beside(path, f"_edited{path.suffix}") for path in names]
    prototxt, *weights = placed(options.output, own, (".prototxt", ".caffemodel")[: len(own)])
    return [*weights, prototxt.with_suffix(".json"), prototxt]


# ---- the work ----------------------------------------------------------------------------------


def _joined(given: Sequence[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    """The edits in order; all --until are one cut, and so are all --from, where the first of them stands."""
    found: list[tuple[str, list[str]]] = []
    for name, value in given:
        cut = next((values for one, values in found if one == name and name in ("until", "from")), None)
        if cut is None:
            found.append((name, [value]))
        else:
            cut.append(value)
    return found


def _edit(name: str, values: list[str]) -> tuple[str, edits.Edit]:
    """An edit, and how it is typed."""
    return " ".join(f"--{name} {value}" for value in values), _change(name, values)


def _change(name: str, values: list[str]) -> edits.Edit:
    value = values[0]
    if name == "until":
        return lambda net: cuts.until(net, values)
    if name == "from":
        return lambda net: cuts.from_(net, values)
    if name in ("rename-layer", "rename-blob"):
        old, new = _halves(name, value)
        rename = layers.rename_layer if name == "rename-layer" else layers.rename_blob
        return lambda net: rename(net, old, new)
    if name == "drop":
        return lambda net: layers.drop(net, value)
    if name == "batch":
        if len(extents := _extents(name, value)) != 1:
            raise UserError("takes one number", f"--batch {value}", "write --batch 2")
        return lambda net: inputs.batch(net, extents[0])
    if name == "input-shape":
        blob, _, text = value.rpartition("=")
        shape = tuple(_extents(name, text))
        return lambda net: inputs.input_shape(net, shape, blob or None)
    # A layer's name may hold an equals sign, a field's cannot.
    end = value.find("=", value.rfind("]", 0, value.find("].") + 1) + 1)
    if end < 0:
        raise UserError("has no value", f"--set {value}", "write --set 'layer[name=conv1].FIELD=VALUE'")
    return lambda net: fields.set_field(net, value[:end].strip(), value[end + 1 :].strip())


def _halves(name: str, value: str) -> tuple[str, str]:
    old, sign, new = value.partition("=")
    if not sign:
        raise UserError("names no two things", f"--{name} {value}", f"write --{name} OLD=NEW")
    return old, new


def _extents(name: str, text: str) -> list[int]:
    try:
        return [int(one) for one in text.split(",")]
    except ValueError:
        form = "2" if name == "batch" else "data=1,3,416,416"
        raise UserError("is no list of numbers", f"--{name} {text}", f"write --{name} {form}") from None


def _write(options: Namespace, out: Outputs, outcome: _Outcome, progress: Progress) -> None:
    """Writes the temporary files, the prototxt last: it vouches for those before it."""
    *weights, about, prototxt = outcome.written
    net = outcome.after
    for path in weights:
        with out.open(path) as file:
            if options.save_with == "pycaffe":
                progress("having Caffe write the weights")
                save_with_caffe(options, net, file)
            else:
                write_caffemodel(net, file, lambda done, count: progress(f"writing layer {done} of {count}"))
    command = f"nnie_prep {__version__} edit"
    influences = [f"--{name} {value}" for name, value in options.edits]
    influences += [f"--save-with {options.save_with}"] if options.save_with != "protobuf" else []
    document = edits.describe(options.prototxt, outcome.blob_map, outcome.before, net, outcome.warnings)
    with out.open(about) as file:
        file.write(as_text(made_by(out.made(command, influences)) | document).encode())
    made = out.made(command, influences)
    body = format_prototxt(net).encode()
    with out.open(prototxt) as file:
        file.write(head_comment(made, body) + body)


def _why_unproven(options: Namespace) -> str:
    changing = [f"--{name}" for name, _ in options.edits if name not in _KEEPING]
    if changing:
        names = ", ".join(dict.fromkeys(changing))
        return f"NOT PROVEN: what {names} does may change what the net computes, as asked"
    if not options.caffemodel:
        return "NOT PROVEN: without a caffemodel there is nothing to run"
    return "NOT VERIFIED: --no-verify was given" if options.no_verify else ""


def _prove(options: Namespace, out: Outputs, outcome: _Outcome, progress: Progress) -> Verdict:
    """Compares what was written with the source, as far as the source is still in it."""
    from nnie_prep.proof import prove_surgery

    caffemodel, _, prototxt = outcome.written
    fates = {name: outcome.blob_map[name] for name in outcome.blob_map.names()}
    with read_back(out, outcome.written):
        written = read_net(out.temporary(prototxt), out.temporary(caffemodel))
        return prove_surgery(outcome.before, written, fates, proof_options(options), progress, cut=True)


# ---- the report --------------------------------------------------------------------------------


def _shape_changes(outcome: _Outcome) -> list[tuple[str, list[int] | None, list[int] | None]]:
    """The blobs that are there still, under their new names, and have another shape."""
    before, after = known_shapes(outcome.before), known_shapes(outcome.after)
    rows = []
    for name in outcome.blob_map.names():
        blobs = outcome.blob_map[name].blobs
        if len(blobs) == 1 and before.get(name) != after.get(blobs[0]):
            old, new = before.get(name), after.get(blobs[0])
            rows.append((blobs[0], None if old is None else list(old), None if new is None else list(new)))
    return rows


def _text(options: Namespace, given: Sequence[Path], outcome: _Outcome) -> list[str]:
    net = outcome.after
    lines = [f"edit {' '.join(path.name for path in given)}", ""]
    told = [f"{note.layer}: {note.text}" if note.layer else note.text for note in outcome.notes]
    lines += [*few(told, "change", options.verbose), ""]
    rows = [
        (name, *("?" if shape is None else shape_text(shape) for shape in shapes))
        for name, *shapes in _shape_changes(outcome)
    ]
    if rows:
        shown = rows if options.verbose or len(rows) <= 12 else [*rows[:6], *rows[-5:]]
        lines.append(table(("blob", "before", "after"), shown))
        if len(shown) < len(rows):
            lines.append(
                f"and {count_text(len(rows) - len(shown), 'more blob')} between them (-v lists them)"
            )
        lines.append("")
    lines.append(f"inputs   {', '.join(net.inputs())}")
    lines.append(f"outputs  {', '.join(net.outputs())}")
    lines.append(f"layers   {len(outcome.before.layers)} before, {len(net.layers)} after")
    lines.append("")
    if outcome.verdict is None:
        lines.append(outcome.unproven)
    else:
        lines.append(verdict_text(outcome.verdict, options.verbose))
    lines.append("")
    return lines + written_text(outcome.written[::-1] if outcome.passed else [])


def _json(given: Sequence[Path], outcome: _Outcome) -> dict[str, Any]:
    net = outcome.after
    return {
        "command": "edit",
        "inputs": [str(path) for path in given],
        "outputs": [str(path) for path in outcome.written] if outcome.passed else [],
        "changes": [{"layer": note.layer, "text": note.text} for note in outcome.notes],
        "shapes": [
            {"blob": name, "before": before, "after": after}
            for name, before, after in _shape_changes(outcome)
        ],
        "net": {"inputs": net.inputs(), "outputs": net.outputs()},
        "warnings": outcome.warnings,
        "layers": [len(outcome.before.layers), len(net.layers)],
        "unproven": outcome.unproven,
        "verification": None if outcome.verdict is None else verdict_json(outcome.verdict),
    }
