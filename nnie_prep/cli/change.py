"""The commands that change a net: read, change, write aside, prove, and only then let it appear.

darknet2caffe   convert                     merge-bn   insert_bias, folds, drops
prepare         all of it, from either      add-bias   insert_bias, insert_engine     strip   drops
"""

from __future__ import annotations

import json
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnie_prep import __version__, passes
from nnie_prep.blob_map import BlobMap, Note
from nnie_prep.caffe_io import format_prototxt, read_net, write_caffemodel
from nnie_prep.cli.judges import check_judge, judge_of
from nnie_prep.cli.report import Progress, count_text, few, size_text, table, verdict_json, verdict_text
from nnie_prep.darknet import Conversion, convert, describe
from nnie_prep.description import as_text, describe_surgery, made_by
from nnie_prep.errors import UserError
from nnie_prep.net import Net
from nnie_prep.outputs import Outputs
from nnie_prep.outputs.made_by import head_comment
from nnie_prep.passes.drop_identity import drop_identity
from nnie_prep.passes.drop_training import drop_training
from nnie_prep.passes.insert_bias import insert_bias
from nnie_prep.passes.insert_engine import insert_engine
from nnie_prep.show import layer_figures, totals

if TYPE_CHECKING:
    from nnie_prep.proof import Engine, Judge, Options
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


def prepare(options: Namespace) -> int:
    """Everything, from a Darknet or a Caffe pair."""
    if len(options.inputs) != 2:
        raise UserError(
            f"{count_text(len(options.inputs), 'file')} given",
            hint="give x.cfg and x.weights, or x.prototxt and x.caffemodel",
        )
    kinds = {path.suffix.lower(): path for path in options.inputs}
    if kinds.keys() == {".cfg", ".weights"}:
        inputs, is_darknet = [kinds[".cfg"], kinds[".weights"]], True
    elif kinds.keys() == {".prototxt", ".caffemodel"}:
        inputs, is_darknet = [kinds[".prototxt"], kinds[".caffemodel"]], False
    else:
        raise UserError(
            f"cannot tell what {' and '.join(path.name for path in options.inputs)} are",
            hint="give x.cfg and x.weights, or x.prototxt and x.caffemodel",
        )
    if not is_darknet and (odd := _darknet_options(options)):
        raise UserError(
            f"{' '.join(odd)} is about Darknet networks, and this is a Caffe net",
            str(inputs[0]),
            "leave it out",
        )
    stem = _beside(inputs[0], "" if is_darknet else "_nnie")
    prototxt, caffemodel = _named(str(stem) if options.output is None else options.output)
    return _change(Job(options, inputs, passes.PASSES, prototxt, caffemodel, is_darknet))


def _darknet_options(options: Namespace) -> list[str]:
    """What the user asked for that only a Darknet network can have, as it is typed."""
    defaults = {"flavor": "alexeyab", "bn_form": "standard", "against": "numpy", "darknet_lib": None}
    given = {name: getattr(options, name, default) for name, default in defaults.items()}
    odd = [f"--{name.replace('_', '-')} {given[name]}" for name in defaults if given[name] != defaults[name]]
    return odd + [f"--approximate {name}" for name in sorted(set(getattr(options, "approximate", [])))]


def darknet2caffe(options: Namespace) -> int:
    """Conversion alone, or with the folding."""
    stem = str(_beside(options.cfg, "")) if options.output is None else options.output
    prototxt, caffemodel = _named(stem)
    chosen = passes.PASSES if options.merge_bn else ()
    return _change(Job(options, [options.cfg, options.weights], chosen, prototxt, caffemodel, True))


def merge_bn(options: Namespace) -> int:
    """Both spellings of the arguments: two positions, or the four options of the well-known scripts."""
    for name, other in (("prototxt", "model"), ("caffemodel", "weights")):
        given = [value for value in (getattr(options, name), getattr(options, other)) if value is not None]
        if len(given) != 1:
            raise UserError(
                f"{name.upper()} is {'given twice' if given else 'missing'}",
                hint="give PROTOTXT CAFFEMODEL, or --model and --weights",
            )
        setattr(options, name, given[0])
    return _surgery(options, passes.PASSES, "_inference", options.output_model, options.output_weights)


def add_bias(options: Namespace) -> int:
    """insert_bias, and insert_engine where it is asked for."""
    chosen = (insert_bias, insert_engine) if options.engine_caffe else (insert_bias,)
    return _surgery(options, chosen, "_bias")


def strip(options: Namespace) -> int:
    """The dropping passes alone."""
    return _surgery(options, (drop_training, drop_identity), "_stripped")


def _surgery(
    options: Namespace,
    chosen: Sequence[passes.Pass],
    suffix: str,
    prototxt: Path | None = None,
    caffemodel: Path | None = None,
) -> int:
    """Changes a Caffe pair; each output is named after its own input unless the user names it."""
    if options.output is not None and (prototxt or caffemodel):
        raise UserError(
            "-o and --output_model or --output_weights name the same files", hint="give one of them"
        )
    inputs = [options.prototxt, options.caffemodel]
    if options.output is not None:
        prototxt, caffemodel = _named(options.output)
    for_input = [_beside(path, suffix + path.suffix) for path in inputs]
    return _change(Job(options, inputs, chosen, prototxt or for_input[0], caffemodel or for_input[1]))


def _beside(path: Path, ending: str) -> Path:
    """The input's own name with another ending."""
    if path.name in ("", ".."):
        raise UserError("is a folder", str(path), "give a file")
    return path.with_name(path.stem + ending)


def _named(stem: str) -> tuple[Path, Path]:
    """STEM.prototxt and STEM.caffemodel; a stem that already ends in a suffix of ours loses it."""
    for suffix in (".prototxt", ".caffemodel", ".json"):
        stem = stem.removesuffix(suffix)
    if stem.rpartition("/")[2] in ("", ".", ".."):
        raise UserError("names no file", f"-o {stem!r}", "give a name for the files, like out/yolov3-tiny")
    return Path(stem + ".prototxt"), Path(stem + ".caffemodel")


# ---- the work --------------------------------------------------------------------------------


@dataclass
class Outcome:
    """All that is reported of a job."""

    before: Net
    after: Net
    warnings: list[str]
    floats: int = 0  # of a Darknet weights file, which is used to the last
    inexact: list[str] = field(default_factory=list)  # the Darknet layers that are, as asked
    notes: dict[str, list[Note]] = field(default_factory=dict)
    verdict: Verdict | None = None


def _change(job: Job) -> int:
    """Reads, changes, writes to temporary files, proves what was written, and commits."""
    options = job.options
    check_judge(options)
    unknown = [name for name in options.skip if name not in passes.names_of(passes.PASSES)]
    if unknown:
        raise UserError(
            f"no pass is called {', '.join(unknown)}",
            hint=f"choose from {', '.join(passes.names_of(passes.PASSES))}",
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
        blob_map = BlobMap(outcome.before.blob_names())
        outcome.notes = passes.run(outcome.after, job.passes, blob_map, options.skip)
        if conversion is not None:
            about = describe(conversion, blob_map)
        else:
            about = describe_surgery(job.inputs[0], blob_map)
        _write(job, out, outcome, about, progress)
        if not options.no_verify:
            written = read_net(out.temporary(job.prototxt), out.temporary(job.caffemodel))
            outcome.verdict = _prove(job, outcome.before, conversion, written, blob_map, progress)
        passed = outcome.verdict is None or outcome.verdict.passed
        if passed:
            out.commit()
    _report(job, outcome, passed)
    return 0 if passed else 1


def _prove(
    job: Job,
    before: Net,
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
        return prove_surgery(before, written, fates, options, progress)
    original = _judge(job, conversion, job.inputs[0])
    if not conversion.approximated:
        return prove_conversion(conversion.layers, original, written, blob_map, options, progress)
    with tempfile.TemporaryDirectory(prefix="nnie_prep-") as folder:
        cfg = Path(folder, job.inputs[0].name)
        cfg.write_text(approximated_cfg(conversion.sections, conversion.approximated), encoding="utf-8")
        judge = _judge(job, conversion, cfg)
        return prove_conversion(conversion.layers, judge, written, blob_map, options, progress, original)


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
    net = read_net(job.inputs[0], job.inputs[1], warnings)
    return Outcome(net, net.copy(), warnings), None


def _write(
    job: Job, out: Outputs, outcome: Outcome, about: dict[str, Any], progress: Callable[[str], None]
) -> None:
    """Writes the three temporary files, weights first: each vouches for those before it."""
    net = outcome.after
    with out.open(job.caffemodel) as file:
        write_caffemodel(net, file, lambda done, count: progress(f"writing layer {done} of {count}"))
    command = f"nnie_prep {__version__} {job.options.command}"
    made = out.made(command, _influences(job.options))
    with out.open(job.json) as file:
        file.write(as_text(made_by(made) | about).encode())
    made = out.made(command, _influences(job.options))
    counts = {name: sum(note.changed for note in found) for name, found in outcome.notes.items()}
    comments = [f"{name}: {count} changes" for name, count in counts.items() if count]
    body = format_prototxt(net, comments + net.comments).encode()
    with out.open(job.prototxt) as file:
        file.write(head_comment(made, body) + body)


def _influences(options: Namespace) -> tuple[str, ...]:
    """The options that change the bytes of the result."""
    found = [f"--target {options.target}"] if hasattr(options, "target") else []
    found += [option for option in _darknet_options(options) if not option.startswith(_OF_THE_JUDGE)]
    found += ["--merge-bn"] if getattr(options, "merge_bn", False) else []
    found += ["--engine-caffe"] if getattr(options, "engine_caffe", False) else []
    return tuple(found + [f"--skip {name}" for name in sorted(set(options.skip))])


# ---- the report ------------------------------------------------------------------------------


def _report(job: Job, outcome: Outcome, passed: bool) -> None:
    options = job.options
    before, after = (totals(layer_figures(net)) for net in (outcome.before, outcome.after))
    if options.json:
        print(json.dumps(_report_json(job, outcome, passed, before, after), indent=2))
        return
    if options.quiet:
        return
    for warning in outcome.warnings:
        print(f"nnie_prep: warning: {warning}", file=sys.stderr)
    lines = [f"{options.command} {' '.join(path.name for path in job.inputs)}"]
    if outcome.floats:
        lines.append(f"{outcome.floats:,} of {outcome.floats:,} floats of {job.inputs[1].name} used")
    if outcome.inexact:
        lines.append(f"{count_text(len(outcome.inexact), 'layer')} inexact, as asked")
        lines += few(outcome.inexact, "such layer", options.verbose)
    if outcome.notes:
        lines += ["", *_passes_text(outcome.notes, options.verbose)]
    lines += ["", table(("", "before", "after"), _figure_rows(outcome, before, after)), ""]
    if outcome.verdict is None:
        lines.append("NOT VERIFIED: --no-verify was given")
    else:
        lines.append(verdict_text(outcome.verdict, options.verbose))
    lines.append("")
    if passed:
        written = (job.prototxt, job.caffemodel, job.json)
        lines += [f"wrote {path} ({size_text(path.stat().st_size)})" for path in written]
    else:
        lines.append("nothing was written; --no-verify writes the result unproven")
    print("\n".join(lines))


def _passes_text(notes: dict[str, list[Note]], verbose: bool) -> list[str]:
    """A row per pass, and what was declined; with -v also what was done."""
    counts = [(name, sum(note.changed for note in found), len(found)) for name, found in notes.items()]
    rows = [(name, changed, count - changed) for name, changed, count in counts]
    told = [note for found in notes.values() for note in found if verbose or not note.changed]
    texts = [f"{note.layer}: {note.text}" for note in told]
    return [table(("pass", "changes", "declined"), rows), *few(texts, "note", verbose)]


def _figure_rows(
    outcome: Outcome, before: tuple[int, int], after: tuple[int, int]
) -> list[tuple[str, str, str]]:
    counted = [
        ("layers", len(outcome.before.layers), len(outcome.after.layers)),
        ("parameters", before[0], after[0]),
        ("multiply-adds", before[1], after[1]),
    ]
    return [(name, f"{first:,}", f"{second:,}") for name, first, second in counted]


def _report_json(
    job: Job, outcome: Outcome, passed: bool, before: tuple[int, int], after: tuple[int, int]
) -> dict[str, Any]:
    return {
        "command": job.options.command,
        "inputs": [str(path) for path in job.inputs],
        "outputs": [str(path) for path in (job.prototxt, job.caffemodel, job.json)] if passed else [],
        "floats": outcome.floats,
        "inexact": outcome.inexact,
        "passes": {
            name: [{"layer": note.layer, "text": note.text, "changed": note.changed} for note in found]
            for name, found in outcome.notes.items()
        },
        "warnings": outcome.warnings,
        "layers": [len(outcome.before.layers), len(outcome.after.layers)],
        "parameters": [before[0], after[0]],
        "multiply_adds": [before[1], after[1]],
        "verification": None if outcome.verdict is None else verdict_json(outcome.verdict),
    }


def engine_of(options: Namespace) -> Engine:
    """The engine that the user chose."""
    from nnie_prep.proof import Engine

    return Engine(options.engine, options.caffe_python)


def proof_options(options: Namespace) -> Options:
    """How the user wants it proven."""
    from nnie_prep.proof import Options

    return Options(engine_of(options), options.input, options.seed, options.tolerance)
