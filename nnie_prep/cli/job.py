"""A command's work on a net: read, change, write aside, prove, and only then let it appear."""

from __future__ import annotations

import tempfile
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnie_prep import __version__, passes
from nnie_prep.blob_map import BlobMap, Note
from nnie_prep.caffe_io import format_prototxt, read_net, write_caffemodel
from nnie_prep.cli.job_report import report
from nnie_prep.cli.judges import check_judge, judge_of, proof_options
from nnie_prep.cli.report import Progress
from nnie_prep.cli.weights import reader_of, save_with_caffe
from nnie_prep.darknet import Conversion, convert, describe
from nnie_prep.description import as_text, describe_surgery, made_by
from nnie_prep.edit import want
from nnie_prep.errors import UserError
from nnie_prep.net import Net
from nnie_prep.normalization import Normalization, asked, folded_into
from nnie_prep.outputs import Outputs
from nnie_prep.outputs.made_by import head_comment
from nnie_prep.passes.fold_input import fold_input

if TYPE_CHECKING:
    from nnie_prep.proof import Judge
    from nnie_prep.verify import Verdict

_OF_THE_JUDGE = ("--against", "--darknet-lib")


@dataclass
class Job:
    """One command's work: what to read, which passes to run, where the result goes."""

    options: Namespace
    inputs: list[Path]
    passes: Sequence[passes.Pass]
    prototxt: Path
    caffemodel: Path
    is_darknet: bool = False

    @property
    def json(self) -> Path:
        return self.prototxt.with_suffix(".json")


@dataclass
class Outcome:
    """All that is reported of a job."""

    before: Net
    after: Net
    warnings: list[str]
    floats: int = 0  # of a Darknet weights file, which is used to the last
    inexact: list[str] = field(default_factory=list)  # the Darknet layers that are, as asked
    notes: dict[str, list[Note]] = field(default_factory=dict)
    folded: Normalization | None = None  # into the readers of the input
    verdict: Verdict | None = None


def change(job: Job) -> int:
    """Reads, changes, writes to temporary files, proves what was written, and commits."""
    options = job.options
    check_judge(options)
    unknown = [name for name in options.skip if name not in passes.names_of(passes.ALL_PASSES)]
    if unknown:
        raise UserError(
            f"no pass is called {', '.join(unknown)}",
            hint=f"choose from {', '.join(passes.names_of(passes.ALL_PASSES))}",
        )
    targets = [job.caffemodel, job.json, job.prototxt]
    also_read = [options.input] if options.input else []
    with (
        Outputs(targets, job.inputs, also_read, force=options.force) as out,
        Progress(not options.quiet and not options.json) as progress,
    ):
        progress("reading")
        outcome, conversion = _read(job)
        if options.strict and outcome.warnings:
            raise UserError(" | ".join(outcome.warnings), hint="correct that, or leave out --strict")
        if until := getattr(options, "until", []):
            want(outcome.before, until)
            outcome.after.wanted = outcome.before.wanted
        blob_map = BlobMap(outcome.before.blob_names())
        outcome.notes = passes.run(outcome.after, job.passes, blob_map, options.skip)
        _check_wanted(outcome.after, blob_map)
        if getattr(options, "fold_input", None) is not None:
            _fold_input(options.fold_input, outcome, blob_map, job.is_darknet)
        if conversion is not None:
            about = describe(conversion, blob_map)
        else:
            about = describe_surgery(job.inputs[0], blob_map)
        if outcome.folded is not None:
            about["input"] = about.get("input", {}) | outcome.folded.description()
        _write(job, out, outcome, about, progress)
        if not options.no_verify:
            written = read_net(out.temporary(job.prototxt), out.temporary(job.caffemodel))
            outcome.verdict = _prove(job, outcome, conversion, written, blob_map, progress)
        passed = outcome.verdict is None or outcome.verdict.passed
        if passed:
            out.commit()
    report(job, outcome, passed)
    return 0 if passed else 1


def _check_wanted(net: Net, blob_map: BlobMap) -> None:
    """Raises UserError where a pass took out a blob that the user asked for."""
    for name in net.wanted:
        if not (fate := blob_map[name]).blobs:
            raise UserError(f"is {fate.reason}", f"--until {name}", f"outputs are {', '.join(net.outputs())}")


def _fold_input(text: str, outcome: Outcome, blob_map: BlobMap, is_darknet: bool) -> None:
    """What --fold-input asks for, or UserError why it cannot be."""
    where = f"--fold-input {text}"
    if mark := folded_into(outcome.before):
        raise UserError(
            f"input {mark.blob} is folded already: {mark.text()}",
            where,
            "feed it raw, and leave that out",
        )
    asked_for = asked(text, outcome.before)
    if is_darknet and (asked_for.scale, any(asked_for.mean)) != ((1 / 255,), False):
        raise UserError("Darknet takes x / 255 and nothing else", where, "write darknet, or darknet,feed=bgr")
    place = blob_map[asked_for.blob].blobs if asked_for.blob in blob_map.names() else ()
    asked_for = replace(asked_for, blob=place[0] if place else asked_for.blob)
    notes = fold_input(outcome.after, asked_for)
    if declined := [note.text for note in notes if not note.changed]:
        hint = "feed the net as before, and leave that out"
        if any(asked_for.mean):
            hint = "fold scale and order alone, and let the compiler subtract the mean; or add border=inexact"
        raise UserError(" | ".join(declined), where, hint)
    outcome.notes["fold_input"], outcome.folded = notes, asked_for
    outcome.inexact += [f"{note.layer}: {note.text}" for note in notes if "inexact" in note.text]


def _prove(
    job: Job,
    outcome: Outcome,
    conversion: Conversion | None,
    written: Net,
    blob_map: BlobMap,
    progress: Callable[[str], None],
) -> Verdict:
    """Compares what was written with the source, as it is on the disk."""
    from nnie_prep.darknet.approximation import approximated_cfg
    from nnie_prep.proof import prove_conversion, prove_surgery

    options = proof_options(job.options)
    if conversion is None:
        fates = {name: blob_map[name] for name in blob_map.names()}
        return prove_surgery(outcome.before, written, fates, options, progress, folded=outcome.folded)
    original = _judge(job, conversion, job.inputs[0])
    if not conversion.approximated:
        return prove_conversion(
            conversion.layers, original, written, blob_map, options, progress, folded=outcome.folded
        )
    with tempfile.TemporaryDirectory(prefix="nnie_prep-") as folder:
        cfg = Path(folder, job.inputs[0].name)
        cfg.write_text(approximated_cfg(conversion.sections, conversion.approximated), encoding="utf-8")
        judge = _judge(job, conversion, cfg)
        return prove_conversion(
            conversion.layers, judge, written, blob_map, options, progress, original, outcome.folded
        )


def _judge(job: Job, conversion: Conversion, cfg: Path) -> Judge:
    """Who says what Darknet computes for this cfg."""
    return judge_of(job.options, cfg, job.inputs[1], job.inputs[0], conversion.approximated)


def _read(job: Job) -> tuple[Outcome, Conversion | None]:
    """The source, a copy of it to be changed, and for Darknet how it was converted."""
    if job.is_darknet:
        cfg, weights = job.inputs
        options = job.options
        conversion = convert(
            cfg,
            weights,
            target=options.target,
            flavor=options.flavor,
            bn_form=options.bn_form,
            approximate=options.approximate,
        )
        told = conversion.warnings + conversion.notes
        inexact = [
            f"{layer.index} {layer.section}: {layer.inexact}" for layer in conversion.layers if layer.inexact
        ]
        return Outcome(conversion.net, conversion.net.copy(), told, conversion.floats, inexact), conversion
    warnings: list[str] = []
    net = read_net(job.inputs[0], job.inputs[1], warnings, reader_of(job.options))
    return Outcome(net, net.copy(), warnings), None


def _write(
    job: Job, out: Outputs, outcome: Outcome, about: dict[str, Any], progress: Callable[[str], None]
) -> None:
    """Writes the three temporary files, weights first: each vouches for those before it."""
    net = outcome.after
    with out.open(job.caffemodel) as file:
        if job.options.save_with == "pycaffe":
            progress("having Caffe write the weights")
            save_with_caffe(job.options, net, file)
        else:
            write_caffemodel(net, file, lambda done, count: progress(f"writing layer {done} of {count}"))
    command = f"nnie_prep {__version__} {job.options.command}"
    counts = {name: sum(note.changed for note in found) for name, found in outcome.notes.items()}
    made = out.made(command, _influences(job.options))
    with out.open(job.json) as file:
        file.write(as_text(made_by(made, counts) | about).encode())
    made = out.made(command, _influences(job.options))
    comments = [f"{name}: {count} changes" for name, count in counts.items() if count]
    body = format_prototxt(net, comments + net.comments).encode()
    with out.open(job.prototxt) as file:
        file.write(head_comment(made, body) + body)


def _influences(options: Namespace) -> tuple[str, ...]:
    """The options that change the bytes of the result."""
    found = [f"--target {options.target}"] if hasattr(options, "target") else []
    found += [option for option in darknet_options(options) if not option.startswith(_OF_THE_JUDGE)]
    found += [f"--fold-input {options.fold_input}"] if getattr(options, "fold_input", None) else []
    found += [f"--until {name}" for name in getattr(options, "until", [])]
    found += ["--merge-bn"] if getattr(options, "merge_bn", False) else []
    found += ["--upsample deconvolution"] if getattr(options, "upsample", "") == "deconvolution" else []
    found += ["--engine-caffe"] if getattr(options, "engine_caffe", False) else []
    found += [f"--save-with {options.save_with}"] if options.save_with != "protobuf" else []
    return tuple(found + [f"--skip {name}" for name in sorted(set(options.skip))])


def darknet_options(options: Namespace) -> list[str]:
    """What the user asked for that only a Darknet network can have, as it is typed."""
    defaults = {"flavor": "alexeyab", "bn_form": "standard", "against": "numpy", "darknet_lib": None}
    given = {name: getattr(options, name, default) for name, default in defaults.items()}
    odd = [f"--{name.replace('_', '-')} {given[name]}" for name in defaults if given[name] != defaults[name]]
    return odd + [f"--approximate {name}" for name in sorted(set(getattr(options, "approximate", [])))]
