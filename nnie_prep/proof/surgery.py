"""The proof that a Caffe net computes what the net computed that it was made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from nnie_prep.blob import Array
from nnie_prep.blob_map import Fate
from nnie_prep.engines import numpy as numpy_engine
from nnie_prep.errors import UserError
from nnie_prep.net import Net
from nnie_prep.normalization import Normalization
from nnie_prep.own_code import invented, opened, taken_as_given, told
from nnie_prep.proof.feeds import all_shapes, draw_feeds, input_range
from nnie_prep.proof.folded_input import account_for_input, pad_with_mean, spoiled
from nnie_prep.proof.running import Options, Progress, without_training, worst_errors
from nnie_prep.shapes import data_dependent_blobs
from nnie_prep.verify import Verdict, compare, rounding_noise


def prove_surgery(
    a: Net,
    b: Net,
    fates: Mapping[str, Fate],
    options: Options,
    progress: Progress = lambda text: None,
    *,
    cut: bool = False,
    folded: Normalization | None = None,
    fed: tuple[float, float] | None = None,
) -> Verdict:
    """Compares a Caffe net with what was made of it.

    The input is noise in the range `fed`; else of -128 to 128, which is what byte pictures less their
    mean look like, or in the range that the net's own transform_param gives where it has one.

    With `cut`, B may have other inputs and outputs than A: each input is fed with A's value of the blob
    that lies there, and the outputs are those of B.

    With `folded`, B does that to its input itself: B is fed with raw pictures (the user's, or noise of 0 to
    255), and A with what `folded` makes of them. Where zeros at a border stand for the mean, B must equal
    the source that pads with the mean's place in its own values; how far that is from A is measured.
    """
    first, second = without_training(a), without_training(b)
    low, high = (0.0, 255.0) if folded else fed or input_range(a)
    feeds = draw_feeds(first, options, low, high)
    if folded is None:
        return _compare(first, second, feeds, {}, fates, options, progress, cut)
    sources = [name for name, fate in fates.items() if fate.blobs == (folded.blob,) and name in feeds]
    (source,) = sources or [folded.blob]
    raw, feeds = {folded.blob: feeds[source]}, feeds | {source: folded.apply(feeds[source])}
    fates = account_for_input(second, fates, folded)
    inexact = spoiled(second, fates, folded)
    if not inexact:
        return _compare(first, second, feeds, raw, fates, options, progress, cut)
    padded = pad_with_mean(first, second, feeds, source, folded)
    verdict = _compare(padded.net, second, padded.feeds, raw, fates, options, progress, cut)
    verdict.judge = "the source that pads with the mean"
    if not verdict.passed:
        return verdict
    against = _compare(first, second, feeds, raw, fates, options, progress, cut, inexact)
    against.reasons.append(f"equal to {verdict.judge}: {worst_errors(verdict)}")
    return against


def _compare(
    first: Net,
    second: Net,
    feeds: Mapping[str, Array],
    raw: Mapping[str, Array],
    fates: Mapping[str, Fate],
    options: Options,
    progress: Progress,
    cut: bool,
    inexact: Mapping[str, str] = MappingProxyType({}),
) -> Verdict:
    """As prove_surgery; `raw` are inputs of B that are not fed with what A has there."""
    given = invented(first, all_shapes(first), options.seed)
    first_run, first_feeds = opened(first, given), {**feeds, **given}
    progress("running the source")
    reference = options.engine.run(first_run, first_feeds)
    progress("measuring its rounding noise")
    noise: dict[str, float] = {}

    def measure(name: str, value: Array) -> None:
        if name in reference:
            noise[name] = rounding_noise(reference[name], value)

    numpy_engine.forward(first_run, first_feeds, (), dtype=np.float64, seen=measure)
    progress("running the result")
    values = {**reference, **feeds}
    inputs = [name for name in second.inputs() if name not in raw]
    source_of = _sources(inputs, fates, values) if cut else {name: name for name in feeds if name not in raw}
    theirs = {name: values[source] for name, source in source_of.items()} | dict(raw)
    own, fates = taken_as_given(second, fates, values)
    second_run = opened(second, own)
    ends = set(second.outputs())
    run = set(first.blob_names())
    for_training = Fate((), "only training needs it, and it was not run")
    verdict = compare(
        {name: reference[name] for name in first.blob_names() if name in reference},
        noise,
        {name: fate if name in run or not fate.blobs else for_training for name, fate in fates.items()},
        lambda forced: options.engine.run(second_run, theirs | own, forced),
        outputs=[name for name in fates if ends & set(fates[name].blobs)] if cut else first.outputs(),
        tolerance=options.tolerance,
        engine=options.engine.name,
        inexact=inexact,
        same_shapes=True,
        choices=data_dependent_blobs(first),
    )
    if options.input is None:  # else the user decides what shapes both are fed with
        _compare_inputs(verdict, all_shapes(first), all_shapes(second), source_of)
    verdict.reasons += [*options.engine.told, *told(own)]
    return verdict


def _sources(inputs: Sequence[str], fates: Mapping[str, Fate], values: Mapping[str, Array]) -> dict[str, str]:
    """For each input of B the blob of A that lies there."""
    found = {fate.blobs[0]: name for name, fate in fates.items() if len(fate.blobs) == 1 and name in values}
    if missing := [name for name in inputs if name not in found]:
        raise UserError(
            f"what input {', '.join(missing)} is fed with could not be computed",
            hint="--engine caffe may know the layers before it, --no-verify leaves the proof out",
        )
    return {name: found[name] for name in inputs}


def _compare_inputs(
    verdict: Verdict,
    ours: Mapping[str, tuple[int, ...]],
    theirs: Mapping[str, tuple[int, ...]],
    source_of: Mapping[str, str],
) -> None:
    """Both nets must declare the same; the engines take what they are fed with."""
    for name, source in source_of.items():
        if ours[source] != theirs[name]:
            declared = ["x".join(map(str, shape)) for shape in (ours[source], theirs[name])]
            verdict.reasons.append(f"input {name} is {declared[0]} in A and {declared[1]} in B")
            verdict.answer = "differs"
