"""The commands that change a net, each a Job: what to read, which passes to run, where the result goes.

darknet2caffe   convert                     merge-bn   insert_bias, folds, drops
prepare         all of it, from either      add-bias   insert_bias, insert_engine     strip   drops
"""

from __future__ import annotations

import signal
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from nnie_prep.cli.job import Configured, Job, change, darknet_options
from nnie_prep.cli.placing import beside, named, placed
from nnie_prep.cli.report import count_text
from nnie_prep.cli.weights import has_weights, named_after
from nnie_prep.errors import UserError

if TYPE_CHECKING:
    from nnie_prep.passes import Pass

_PAIR = (".prototxt", ".caffemodel")
_KINDS = (".cfg", ".weights", *_PAIR)


def prepare(options: Namespace) -> int:
    """Everything, from a Darknet or a Caffe pair."""
    if len(options.inputs) != 2:
        raise UserError(
            f"{count_text(len(options.inputs), 'file')} given",
            hint="give x.cfg and x.weights, or x.prototxt and x.caffemodel",
        )
    kinds = {_kind(path): path for path in options.inputs}
    if kinds.keys() == {".cfg", ".weights"}:
        inputs, is_darknet = [kinds[".cfg"], kinds[".weights"]], True
    elif kinds.keys() == {".prototxt", ".caffemodel"}:
        inputs, is_darknet = [kinds[".prototxt"], kinds[".caffemodel"]], False
    else:
        odd = [path for path in options.inputs if _kind(path) not in _KINDS]
        files = " and ".join(path.name or str(path) for path in odd or options.inputs)
        raise UserError(
            f"cannot tell what {files} is by its name" if len(odd) == 1 else f"{files} are no pair",
            hint="give x.cfg and x.weights, or x.prototxt and x.caffemodel",
        )
    if is_darknet and options.weights_engine != "protobuf":
        raise UserError(
            f"--weights-engine {options.weights_engine} reads Caffe models, and this is a Darknet network",
            str(inputs[1]),
            "leave it out",
        )
    if not is_darknet and (odd := darknet_options(options)):
        raise UserError(
            f"{' '.join(odd)} is about Darknet networks, and this is a Caffe net",
            str(inputs[0]),
            "leave it out",
        )
    own = [beside(inputs[0], ("" if is_darknet else "_nnie") + suffix) for suffix in _PAIR]
    prototxt, caffemodel = placed(options.output, own, _PAIR)

    def passes() -> Sequence[Pass]:
        from nnie_prep.passes.pipelines import NNIE_PASSES, STOCK_PASSES
        from nnie_prep.passes.replace_deconvolution import replace_deconvolution
        from nnie_prep.passes.replace_upsample import replace_upsample

        chosen = NNIE_PASSES if options.target == "nnie" else STOCK_PASSES
        if options.upsample == "deconvolution":
            chosen = tuple(replace_upsample if one is replace_deconvolution else one for one in chosen)
        return chosen

    if options.images is not None:
        _check_pictures(options)
    job = Job(options, inputs, passes, prototxt, caffemodel, is_darknet, with_report=True)
    if options.images is not None:
        job.configure = partial(_configure, options, prototxt, caffemodel, None if is_darknet else inputs[0])
    return change(job)


def _kind(path: Path) -> str:
    """Which of _KINDS a file is by its name, else its suffix. x.backup is what Darknet saves in between."""
    suffix = path.suffix.lower()
    return ".caffemodel" if has_weights(path) else ".weights" if suffix == ".backup" else suffix


def _check_pictures(options: Namespace) -> None:
    """Raises UserError for what can be known of --images before the work: minutes, for a large network."""
    from nnie_prep.detection.picture import pillow
    from nnie_prep.nnie import read_limits
    from nnie_prep.nnie.calibration import find_pictures

    limits = read_limits(options.chip, options.limits)
    find_pictures(options.images, limits["picture_suffixes"].one_of or ())
    pillow("Image")


def _configure(options: Namespace, prototxt: Path, caffemodel: Path, source: Path | None) -> Configured:
    """Writes the compiler's .cfg beside the pair, as mapper-cfg does. `source` is the Caffe prototxt that
    the pair was made of, which may say how pictures are transformed."""
    from nnie_prep.cli import mapper
    from nnie_prep.cli.parser import parse
    from nnie_prep.nnie import read_limits
    from nnie_prep.nnie.preprocessing import has_transform

    arguments = ["mapper-cfg", str(prototxt), str(caffemodel), "--images", str(options.images), "--resize"]
    arguments += ["--chip", options.chip] if options.chip else []
    arguments += ["--limits", str(options.limits)] if options.limits else []
    arguments += ["--transform", str(source)] if source and has_transform(source) else []
    asked = parse(arguments)
    asked.force, asked.quiet, asked.verbose = options.force, options.quiet, options.verbose
    try:
        draft = mapper.write(asked, read_limits(asked.chip, asked.limits))
    except UserError as error:
        import shlex

        again = f"the pair is written, its .cfg is not; for that, nnie-prep {shlex.join(arguments)}"
        raise UserError(error.message, error.where, f"{again}: {error.hint}") from None
    except KeyboardInterrupt as error:
        print("nnie_prep: interrupted; the pair is written, its .cfg is not", file=sys.stderr)
        raise SystemExit(128 + int(*error.args or (signal.SIGINT,))) from None
    return Configured(list(draft.files), draft.warnings, partial(mapper.report, asked, draft))


def darknet2caffe(options: Namespace) -> int:
    """Conversion alone, or with the folding."""
    prototxt, caffemodel = placed(options.output, [beside(options.cfg, suffix) for suffix in _PAIR], _PAIR)
    passes = _folding if options.merge_bn else tuple
    return change(Job(options, [options.cfg, options.weights], passes, prototxt, caffemodel, True))


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
    return _surgery(options, _folding, "_inference", options.output_model, options.output_weights)


def add_bias(options: Namespace) -> int:
    """insert_bias, and insert_engine where it is asked for."""

    def passes() -> Sequence[Pass]:
        from nnie_prep.passes.insert_bias import insert_bias
        from nnie_prep.passes.insert_engine import insert_engine

        return (insert_bias, insert_engine) if options.engine_caffe else (insert_bias,)

    return _surgery(options, passes, "_bias")


def strip(options: Namespace) -> int:
    """The dropping passes alone."""

    def passes() -> Sequence[Pass]:
        from nnie_prep.passes.drop_identity import drop_identity
        from nnie_prep.passes.drop_training import drop_training
        from nnie_prep.passes.drop_unreachable import drop_unreachable

        return (drop_unreachable, drop_training, drop_identity)

    return _surgery(options, passes, "_stripped")


def _folding() -> Sequence[Pass]:
    from nnie_prep.passes import PASSES

    return PASSES


def _surgery(
    options: Namespace,
    passes: Callable[[], Sequence[Pass]],
    suffix: str,
    prototxt: Path | None = None,
    caffemodel: Path | None = None,
) -> int:
    """Changes a Caffe pair; each output is named after its own input unless the user names one."""
    if options.output is not None and (prototxt or caffemodel):
        raise UserError(
            "-o and --output_model or --output_weights name the same files", hint="give one of them"
        )
    inputs = [options.prototxt, options.caffemodel]
    names = (options.prototxt, named_after(options.caffemodel))
    own = [beside(path, suffix + path.suffix) for path in names]
    first, second = placed(options.output, own, _PAIR)
    if prototxt:
        first = named(prototxt, "--output_model")
        second = first.with_suffix(".caffemodel")
    if caffemodel:
        second = named(caffemodel, "--output_weights")
        first = prototxt or second.with_suffix(".prototxt")
    return change(Job(options, inputs, passes, first, second))
