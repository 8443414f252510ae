"""What a command's work is compared with, and on which nets."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nnie_prep.blob_map import BlobMap
from nnie_prep.cli.judges import judge_of, proof_options
from nnie_prep.cli.requests import own_layers, own_names
from nnie_prep.darknet.approximation import approximated_cfg
from nnie_prep.darknet.conversion import Conversion
from nnie_prep.engines.numpy.layers import LAYERS
from nnie_prep.net import Net
from nnie_prep.passes.replace_inputs import on_as_many_pictures, replace_inputs
from nnie_prep.proof import Judge, prove_conversion, prove_surgery
from nnie_prep.verify import Verdict

if TYPE_CHECKING:
    from nnie_prep.cli.job import Job
    from nnie_prep.cli.job_work import Outcome


def prove(
    job: Job,
    outcome: Outcome,
    conversion: Conversion | None,
    written: Net,
    blob_map: BlobMap,
    progress: Callable[[str], None],
) -> Verdict:
    """Compares what was written with the source, as it is on the disk."""
    if conversion is None:
        return _prove_surgery(job, outcome, written, blob_map, progress)
    if not own_names(outcome.before, job.options):
        return _prove_conversion(job, outcome, conversion, written, blob_map, progress)
    # Darknet's layers are larger than Caffe's: what is in one with the user's own code takes two steps.
    kept = BlobMap(outcome.before.blob_names())
    unfolded = replace(outcome, folded=None)
    converted = _prove_conversion(job, unfolded, conversion, outcome.before, kept, progress)
    if not converted.passed:
        return converted
    verdict = _prove_surgery(job, outcome, written, blob_map, progress, (0.0, 1.0))
    verdict.reasons += [f"before the passes {converted.answer} to {converted.judge}", *converted.reasons]
    verdict.answer = converted.answer if verdict.passed else verdict.answer
    return verdict


def _prove_surgery(
    job: Job,
    outcome: Outcome,
    written: Net,
    blob_map: BlobMap,
    progress: Callable[[str], None],
    fed: tuple[float, float] | None = None,
) -> Verdict:
    fates = {name: blob_map[name] for name in blob_map.names()}
    ends = [*outcome.before.inputs(), *outcome.before.outputs()]
    cut = bool(blob_map.heads) or any(fates[name].blobs not in ((), (name,)) for name in ends)
    options, source = proof_options(job.options), _source(job, outcome)
    written = on_as_many_pictures(written, source, fates)
    return prove_surgery(source, written, fates, options, progress, cut=cut, folded=outcome.folded, fed=fed)


def _prove_conversion(
    job: Job,
    outcome: Outcome,
    conversion: Conversion,
    written: Net,
    blob_map: BlobMap,
    progress: Callable[[str], None],
) -> Verdict:
    options = proof_options(job.options)
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


def _source(job: Job, outcome: Outcome) -> Net:
    """The source as it is run: on one picture if the result is and the source can be, without the user's own
    layers where nobody else knows them, and whole where the result is."""
    source = outcome.before.copy()
    own_layers(source, job.options, lambda type_: type_ not in LAYERS)
    if "drop_unreachable" in job.options.skip:
        source.wanted = ()  # what these do not need is in the result too
    if any(note.changed for note in outcome.notes.get("replace_inputs", [])):
        replace_inputs(source)
    return source


def _judge(job: Job, conversion: Conversion, cfg: Path) -> Judge:
    """Who says what Darknet computes for this cfg."""
    return judge_of(job.options, cfg, job.inputs[1], job.inputs[0], conversion.approximated)
