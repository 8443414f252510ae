"""STEM.report.txt: what was made of a net, for the person who takes it to RuyiStudio.

Nothing in it depends on when, where or how fast it was made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nnie_prep.blob_map import Note, blobs_in
from nnie_prep.caffe_io import format_prototxt
from nnie_prep.cli.job_report import figures_text
from nnie_prep.cli.report import count_text, proof_text, shape_text, size_text, table
from nnie_prep.nnie import check, read_limits
from nnie_prep.nnie.cfg_draft import compile_mode, norm_type
from nnie_prep.nnie.preprocessing import described_preprocessing
from nnie_prep.normalization import folded_into
from nnie_prep.passes import summary_of
from nnie_prep.passes.fold_input import fold_input
from nnie_prep.passes.pipelines import ALL_PASSES
from nnie_prep.shapes import known_shapes, net_input_shapes

if TYPE_CHECKING:
    from nnie_prep.cli.job import Job
    from nnie_prep.cli.job_work import Outcome


def hand_over(job: Job, outcome: Outcome, sizes: Sequence[tuple[str, int]]) -> list[str]:
    """The report's lines.

    Args:
        sizes: (name, bytes) of the inputs and of the files that were written.
    """
    proof = proof_text(outcome.verdict, False).replace(" (-v lists them)", "")
    parts = [
        ("Files", table(("file", "size"), [(name, size_text(size)) for name, size in sizes]).split("\n")),
        ("The net", _net_lines(outcome)),
        ("Changed", _notes_lines(outcome, True)),
        ("Left as it was, and why", _notes_lines(outcome, False)),
        ("What it costs", outcome.costs),
        ("Warnings", [*outcome.warnings, *outcome.inexact]),
        ("What check says of it", _check_lines(job, outcome)),
        ("Proof", proof.split("\n")),
        ("For the code on the CPU", _heads_lines(job, outcome)),
        ("In RuyiStudio", _next_lines(job, outcome)),
    ]
    lines = [f"{job.prototxt.stem}: prepared for {_target(job)}"]
    for title, body in parts:
        if body:
            lines += ["", title, *(f"  {line}".rstrip() for line in body)]
    return lines


def _target(job: Job) -> str:
    return "NNIE" if job.options.target == "nnie" else "Caffe"


def _net_lines(outcome: Outcome) -> list[str]:
    net = outcome.after
    shapes = known_shapes(net) or net_input_shapes(net)
    rows = [("input", name, _shape(shapes, name)) for name in net.inputs()]
    rows += [("output", name, _shape(shapes, name)) for name in net.outputs()]
    return [
        *table(("", "blob", "shape"), rows).split("\n"),
        "",
        *figures_text(outcome).split("\n"),
    ]


def _shape(shapes: dict[str, tuple[int, ...]], name: str) -> str:
    return shape_text(shapes[name]) if name in shapes else "not known"


def _notes_lines(outcome: Outcome, changed: bool) -> list[str]:
    """The notes of each pass, under its name and what it says of itself."""
    whys = {one.__name__: summary_of(one) for one in ALL_PASSES}
    whys |= {"fold_input": summary_of(fold_input), "as asked": "On the command line."}
    lines = []
    for name, notes in outcome.notes.items():
        told = [note for note in notes if note.changed == changed]
        if told:
            lines += [f"{name}: {whys[name]}", *(f"  {_note(note)}" for note in told)]
    return lines


def _note(note: Note) -> str:
    return f"{note.layer}: {note.text}" if note.layer else note.text


def _check_lines(job: Job, outcome: Outcome) -> list[str]:
    """What of the result the chip would not take, or would take badly; without --chip, what none would."""
    if job.options.target != "nnie":
        return []
    text = format_prototxt(outcome.after, [])
    limits = read_limits(job.options.chip, job.options.limits)
    findings = check(outcome.after, limits=limits, text=text, description=outcome.about)
    kinds = Counter(finding.severity for finding in findings)
    counts = [count_text(kinds[kind], kind) for kind in ("error", "warning") if kinds[kind]]
    lines = [", ".join(counts) or "no errors, no warnings"]
    for finding in findings:
        if finding.severity != "info":
            at = f" {finding.layer}" if finding.layer else ""
            lines.append(f"  {finding.severity} {finding.rule}{at}: {finding.message}")
    return [*lines, f"nnie-prep check {job.prototxt.name} {job.caffemodel.name} --chip CHIP says more"]


def _heads_lines(job: Job, outcome: Outcome) -> list[str]:
    """What is left to be done behind the net, of which STEM.json has the numbers."""
    cut = [f"{head['output']}: {head['type']}, of {', '.join(blobs_in(head))}" for head in outcome.heads]
    if cut:
        return [*cut, f"{job.json.name} says how, under heads"]
    if outcome.about.get("heads"):
        return [f"the heads are decoded from the outputs: {job.json.name} says how, under heads"]
    return []


def _next_lines(job: Job, outcome: Outcome) -> list[str]:
    """What the compiler is to be told, as far as the model says."""
    if job.options.target != "nnie":
        return []
    lines = [
        f"[prototxt_file] {job.prototxt.name}",
        f"[caffemodel_file] {job.caffemodel.name}",
        f"[compile_mode] {compile_mode(outcome.after)}",
    ]
    folded = folded_into(outcome.after)
    if folded is not None:
        order = folded.feed or folded.order or ("RGB" if job.is_darknet else "")
        only = "" if len(outcome.after.inputs()) == 1 else f", of {folded.blob}"
        lines += [
            f"[norm_type] 0{only}",
            f"[RGB_order] {order}" if order else "RGB_order as the net was trained",
        ]
        lines.append(f"the net normalises {folded.blob} itself: feed it raw")
        if others := [name for name in outcome.after.inputs() if name != folded.blob]:
            lines.append(f"norm_type, data_scale and mean_file of {', '.join(others)} as the net was trained")
    elif job.is_darknet:
        lines += ["[norm_type] 3", "[data_scale] 0.0039215686", "[RGB_order] RGB"]
    else:
        lines += _trained_lines(job, outcome)
    inputs = count_text(len(outcome.after.inputs()), "input")
    lines.append(f"[image_list] one for each of {inputs}, 20 to 50 typical images")
    return lines


def _trained_lines(job: Job, outcome: Outcome) -> list[str]:
    """The same for a Caffe net, of whose pictures the layer tells that fed them in training."""
    said = [entry for entry in outcome.inputs if entry.get("scale") and "trained_with" in entry]
    untold = [name for name in outcome.after.inputs() if name not in [entry["blob"] for entry in said]]
    lines = []
    for entry in said:
        only = "" if len(outcome.after.inputs()) == 1 else f", of {entry['blob']}"
        found = described_preprocessing(entry, job.inputs[0])
        lines.append(f"[norm_type] {norm_type(found, 1, (1, max(len(found.mean), 1)), entry['blob'])}{only}")
        lines += [f"[data_scale] {found.scale:.10g}{only}"] if found.scale != 1 else []
        lines += [f"[mean_file] {entry['mean_file']}{only}"] if found.mean_file else []
        if any(found.mean):
            values = ", ".join(f"{value:g}" for value in found.mean)
            lines.append(f"[mean_file] one that holds {values}, one a line{only}")
        lines.append(f"[RGB_order] {found.order}")
        how = entry["trained_with"]
        lines.append(f"as layer {how['layer']} fed it in training: {how['transform_param']}")
    if untold:
        only = f" of {', '.join(untold)}" if said else ""
        lines.append(f"norm_type, data_scale, mean_file and RGB_order{only} as the net was trained")
    return lines
