"""What a command does with a net: read it, change it, write it aside and prove what was written."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnie_prep import __version__
from nnie_prep.blob_map import BlobMap, Note
from nnie_prep.caffe_io import format_prototxt, read_net, write_caffemodel
from nnie_prep.cli.job import darknet_options
from nnie_prep.cli.placing import read_back
from nnie_prep.cli.requests import as_typed, check_own, own_layers, suffixes, unreported
from nnie_prep.cli.weights import reader_of, save_with_caffe
from nnie_prep.description import as_text, describe_inputs, describe_surgery, described_inputs, made_by
from nnie_prep.errors import UserError
from nnie_prep.net import Net
from nnie_prep.outputs import hash_of
from nnie_prep.outputs.made_by import head_comment
from nnie_prep.show import layer_figures, totals

if TYPE_CHECKING:
    from nnie_prep.cli.job import Configured, Job
    from nnie_prep.cli.report import Progress
    from nnie_prep.darknet.conversion import Conversion
    from nnie_prep.normalization import Normalization
    from nnie_prep.outputs import Outputs
    from nnie_prep.verify import Verdict

_OF_THE_JUDGE = ("--against", "--darknet-lib")


@dataclass
class Outcome:
    """All that is reported of a job."""

    before: Net
    after: Net
    warnings: list[str]
    floats: int = 0  # of a Darknet weights file, which is used to the last
    inexact: list[str] = field(default_factory=list)  # the Darknet layers that are, as asked
    costs: list[str] = field(default_factory=list)  # what of a Darknet network is exact, and dear on NNIE
    left_out: list[str] = field(default_factory=list)  # of a caffemodel, which no Caffe would read either
    notes: dict[str, list[Note]] = field(default_factory=dict)
    folded: Normalization | None = None  # into the readers of the input
    inputs: list[dict[str, Any]] = field(default_factory=list)  # how they are fed, as far as anybody says
    heads: list[dict[str, Any]] = field(default_factory=list)  # what was cut off, for the CPU
    about: dict[str, Any] = field(default_factory=dict)  # STEM.json, but for who made it
    verdict: Verdict | None = None
    configured: Configured | None = None

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against the result, which is so without a proof, too."""
        return self.verdict is None or self.verdict.passed

    @cached_property
    def figures(self) -> list[tuple[str, int | None, int | None]]:
        """What the net comes to: (name, before, after), None for what is not known. To be asked when the
        work is done."""
        before = totals(layer_figures(self.before))
        after = totals(layer_figures(self.after)) if self.notes else before
        return [
            ("layers", len(self.before.layers), len(self.after.layers)),
            ("parameters", before[0], after[0]),
            ("multiply-adds", before[1], after[1]),
        ]


def work(job: Job, out: Outputs, progress: Progress) -> Outcome:
    """Leaves the result in temporary files, and says of it what is to be reported."""
    options = job.options
    passes = job.passes()
    outcome, conversion = read(job, out.input_hash)
    if options.strict and outcome.warnings:
        raise UserError(" | ".join(outcome.warnings), hint="correct that, or leave out --strict")
    if until := getattr(options, "until", []):
        from nnie_prep.edit import want

        want(outcome.before, until)
    check_own(outcome.before, options)
    outcome.after = outcome.before.copy()
    blob_map = BlobMap(outcome.before.blob_names())
    asked = own_layers(outcome.after, options)
    if passes:
        from nnie_prep.passes import run

        outcome.notes = run(outcome.after, passes, blob_map, options.skip)
    asked += suffixes(outcome.after, options, outcome.before, blob_map)
    if job.with_report and options.target == "nnie":
        asked += unreported(outcome.after, blob_map)
    if asked:
        outcome.notes["as asked"] = asked
    outcome.heads = blob_map.heads
    _check_wanted(outcome.after, blob_map)
    if getattr(options, "fold_input", None) is not None:
        _fold_input(options.fold_input, outcome, blob_map, job.is_darknet)
    outcome.about = _describe(job, outcome, conversion, blob_map)
    _write(job, out, outcome, progress)
    if not options.no_verify:
        with read_back(out, job.targets()):
            written = read_net(out.temporary(job.prototxt), out.temporary(job.caffemodel))
            from nnie_prep.cli.job_proof import prove

            outcome.verdict = prove(job, outcome, conversion, written, blob_map, progress)
    if outcome.passed and job.with_report:
        _write_report(job, out, outcome)
    return outcome


def _describe(job: Job, outcome: Outcome, conversion: Conversion | None, blob_map: BlobMap) -> dict[str, Any]:
    """STEM.json, but for what made it."""
    if conversion is None:
        from nnie_prep.cli.job_inputs import trained_with

        about = describe_surgery(job.inputs[0], blob_map)
        outcome.inputs = trained_with(about, job.inputs[0], outcome.after, blob_map)
    else:
        from nnie_prep.darknet.description import describe

        about = describe(conversion, blob_map)
        outcome.inputs = described_inputs(about)
    if outcome.folded is not None:
        from nnie_prep.cli.job_inputs import folded_in

        outcome.inputs = folded_in(outcome.inputs, outcome.folded)
    describe_inputs(about, outcome.inputs)
    return about


def _check_wanted(net: Net, blob_map: BlobMap) -> None:
    """Raises UserError where a pass took out a blob that the user asked for."""
    for name in net.wanted:
        if not (fate := blob_map[name]).blobs:
            raise UserError(f"is {fate.reason}", f"--until {name}", f"outputs are {', '.join(net.outputs())}")


def _fold_input(text: str, outcome: Outcome, blob_map: BlobMap, is_darknet: bool) -> None:
    """What --fold-input asks for, or UserError why it cannot be."""
    from nnie_prep.normalization import asked, folded_into
    from nnie_prep.passes.fold_input import fold_input, input_readers, spoiled_by

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
    asked_for = asked_for._replace(blob=place[0] if place else asked_for.blob)
    spoiled = spoiled_by(input_readers(outcome.after, asked_for.blob), asked_for)
    notes = fold_input(outcome.after, asked_for)
    if declined := [note.text for note in notes if not note.changed]:
        hint = "feed the net as before, and leave that out"
        if spoiled and not asked_for.border:
            hint = "fold scale and order alone, and let the compiler subtract the mean; or add border=inexact"
        raise UserError(" | ".join(declined), where, hint)
    outcome.notes["fold_input"], outcome.folded = notes, asked_for
    names = {layer.name for layer in spoiled}
    outcome.inexact += [f"{note.layer}: {note.text}" for note in notes if note.layer in names]


def read(job: Job, digest_of: Callable[[Path], str] = hash_of) -> tuple[Outcome, Conversion | None]:
    """The source, as yet unchanged, and for Darknet how it was converted."""
    if job.is_darknet:
        from nnie_prep.darknet import convert

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
        net, floats, costs = conversion.net, conversion.floats, conversion.costs
        return Outcome(net, net, told, floats, inexact, costs), conversion
    warnings: list[str] = []
    left_out: list[str] = []
    prototxt, caffemodel = job.inputs
    net = read_net(prototxt, caffemodel, warnings, reader_of(job.options), digest_of, left_out)
    return Outcome(net, net, warnings, left_out=left_out), None


def _write(job: Job, out: Outputs, outcome: Outcome, progress: Callable[[str], None]) -> None:
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
        file.write(as_text(made_by(made, counts) | outcome.about).encode())
    made = out.made(command, _influences(job.options))
    comments = [f"{name}: {count} changes" for name, count in counts.items() if count]
    body = format_prototxt(net, comments + net.comments).encode()
    with out.open(job.prototxt) as file:
        file.write(head_comment(made, body) + body)


def _write_report(job: Job, out: Outputs, outcome: Outcome) -> None:
    """Says what was made, in a file that vouches for itself: the prototxt was written before the proof."""
    from nnie_prep.cli.handover import hand_over

    made = out.made(f"nnie_prep {__version__} {job.options.command}", _influences(job.options))
    sizes = [(path.name, path.stat().st_size) for path in job.inputs]
    written = [job.prototxt, job.caffemodel, job.json]
    sizes += [(path.name, out.temporary(path).stat().st_size) for path in written]
    body = "\n".join([*hand_over(job, outcome, sizes), ""]).encode(errors="replace")
    with out.open(job.report) as file:
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
    found += as_typed(options)
    return tuple(found + [f"--skip {name}" for name in sorted(set(options.skip))])
