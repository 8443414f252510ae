"""The proof that a Caffe net, or another Darknet network, computes what a Darknet network computes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from nnie_prep.blob import Array
from nnie_prep.blob_map import BlobMap, Fate
from nnie_prep.errors import UserError
from nnie_prep.net import Net
from nnie_prep.normalization import Normalization
from nnie_prep.proof.feeds import draw_feeds, drawn
from nnie_prep.proof.running import Options, Progress, worst_errors
from nnie_prep.verify import Verdict, compare, rounding_noise

if TYPE_CHECKING:
    from nnie_prep.darknet import DarknetLayer
    from nnie_prep.darknet.cfg import Section
    from nnie_prep.darknet.reference import Reference


class Judge(Protocol):
    """Who computes what Darknet computes: darknet.reference.Reference, opencv.OpenCV or library.Library.

    By Darknet's index, `left_out` says which sections with an output it does not compute, and why; `doubts`
    which it may compute wrongly, and how.
    """

    name: str
    left_out: Mapping[int, str]
    doubts: Mapping[int, str]

    def iterate(self, x: Array, dtype: Any = np.float32) -> Iterator[tuple[Section, Array | None]]:
        """Each section of the cfg with its output, in np.float32 or, for its rounding noise, np.float64."""


def prove_conversion(
    layers: Sequence[DarknetLayer],
    judge: Judge,
    b: Net,
    blob_map: BlobMap,
    options: Options,
    progress: Progress = lambda text: None,
    original: Judge | None = None,
    folded: Normalization | None = None,
) -> Verdict:
    """Compares a Darknet network, run straight from its cfg and weights, with the Caffe net made of it.

    The blobs of A are Darknet's layers, named "<index> <section>"; `layers` tell where their outputs
    lay when the net was converted, `blob_map` what became of those blobs. The input is what
    Darknet feeds: RGB in 0 to 1.

    Where some layers are inexact as the user asked, `judge` is the network with these layers in it, to
    which B is held, and `original` the one as it was: how far B is from that is measured, and every other
    layer judged by segment.

    With `folded`, B is fed with raw pictures (the user's, or noise of 0 to 255), and Darknet with what
    `folded` makes of them.
    """
    feeds = draw_feeds(b, options, 0.0, 255.0 if folded else 1.0)
    pictures = _one_picture(feeds, options)
    fates = [blob_map.joined(layer.blobs) if layer.blobs else Fate((), layer.none) for layer in layers]
    fates = [
        Fate((), judge.left_out[layer.index]) if fate.blobs and layer.index in judge.left_out else fate
        for layer, fate in zip(layers, fates, strict=True)
    ]
    picture = (folded.apply(pictures) if folded else pictures)[0]
    verdict = _compare_layers(layers, fates, judge, b, feeds, picture, options, progress)
    if original is None:
        return verdict
    verdict.judge += ", inexact layers and all"
    if not verdict.passed:
        return verdict
    # By blobs: a route may hand on what an inexact layer computes.
    forms = {fate.blobs: layer.inexact for layer, fate in zip(layers, fates, strict=True) if layer.inexact}
    against = _compare_layers(layers, fates, original, b, feeds, picture, options, progress, forms)
    against.reasons.append(f"equal to {verdict.judge}: {worst_errors(verdict)}")
    return against


def _one_picture(feeds: Mapping[str, Array], options: Options) -> Array:
    """The value (1, C, H, W) of the one input, for Darknet is run on a single picture."""
    (pictures,) = feeds.values()
    if len(pictures) != 1:
        raise UserError(
            f"holds {len(pictures)} pictures", str(options.input), "give one: Darknet is run on one"
        )
    return pictures


def _compare_layers(
    layers: Sequence[DarknetLayer],
    fates: Sequence[Fate],
    judge: Judge,
    b: Net,
    feeds: Mapping[str, Array],
    picture: Array,
    options: Options,
    progress: Progress,
    forms: Mapping[tuple[str, ...], str] = MappingProxyType({}),
) -> Verdict:
    """As prove_conversion; `picture` is what Darknet takes, `forms` says which blobs are inexact, and how."""
    names = [f"{layer.index} {layer.section}" for layer in layers]

    progress(f"running {judge.name}")
    expected = dict(_named(names, judge.iterate(picture, np.float32)))
    progress("measuring the rounding noise")
    noise = {} if forms else _noise(expected, _named(names, judge.iterate(picture, np.float64)))
    progress("running the result")
    fate_of = dict(zip(names, fates, strict=True))
    unread = set(b.outputs())
    verdict = compare(
        expected,
        noise,
        fate_of,
        lambda forced: options.engine.run(b, feeds, forced),
        outputs=[name for name, fate in fate_of.items() if unread.intersection(fate.blobs)],
        tolerance=options.tolerance,
        engine=options.engine.name,
        inexact={name: forms[fate.blobs] for name, fate in fate_of.items() if fate.blobs in forms},
    )
    verdict.judge = judge.name
    verdict.reasons += options.engine.told
    _add_doubts(verdict, names, judge)
    return verdict


def _named(
    names: Sequence[str], outputs: Iterator[tuple[Section, Array | None]]
) -> Iterator[tuple[str, Array]]:
    """The outputs that there are, under the names of their blobs, as they are computed."""
    for name, (_, value) in zip(names, outputs, strict=True):
        if value is not None:
            yield name, value


def _noise(single: Mapping[str, Array], double: Iterable[tuple[str, Array]]) -> dict[str, float]:
    """The rounding noise of each blob; those in float64 are asked for one by one, and not kept."""
    return {name: rounding_noise(single[name], value) for name, value in double if name in single}


def _add_doubts(verdict: Verdict, names: Sequence[str], judge: Judge) -> None:
    """Says how the judge may be wrong in the first section that differs, or in those left out before it."""
    first = verdict.first_divergence()
    if first is None:
        return
    compared = {result.name for result in verdict.results}
    end = begin = names.index(first.name)
    while begin and names[begin - 1] not in compared:
        begin -= 1
    verdict.reasons += [
        f"{names[at]}: {judge.doubts[at]}" for at in range(begin, end + 1) if at in judge.doubts
    ]


def prove_darknet(
    a: Reference, b: Reference, options: Options, progress: Progress = lambda text: None
) -> Verdict:
    """Compares two Darknet networks with the same sections and other weights, both in the NumPy Darknet.

    The blobs are the sections' outputs, named "<index> <section>".
    """
    feeds = drawn({"data": (1, *a.input_shape)}, options, 0.0, 1.0)
    picture = _one_picture(feeds, options)[0]
    names = [f"{section.index} {section.type}" for section in a.sections]

    def outputs(darknet: Reference, dtype: type, forced: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
        by_index = {index: forced[name] for index, name in enumerate(names) if name in forced}
        return _named(names, darknet.iterate(picture, dtype, by_index))

    progress("running the source")
    expected = dict(outputs(a, np.float32, {}))
    progress("measuring its rounding noise")
    noise = _noise(expected, outputs(a, np.float64, {}))
    progress("running the result")
    gone = Fate((), "has no output in Darknet")
    return compare(
        expected,
        noise,
        {name: Fate((name,)) if name in expected else gone for name in names},
        lambda forced: dict(outputs(b, np.float32, forced)),
        outputs=[names[index] for index in a.unread],
        tolerance=options.tolerance,
        engine="NumPy Darknet",
    )
