"""Runs two networks on an engine and compares them: the proof behind every command that changes one."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol
from zipfile import BadZipFile
from zlib import error as ZlibError

import numpy as np

from nnie_prep.blob_map import BlobMap, Fate
from nnie_prep.caffe_io import format_prototxt, write_caffemodel
from nnie_prep.engines import numpy as numpy_engine
from nnie_prep.errors import UserError
from nnie_prep.net import Array, Net
from nnie_prep.passes.drop_training import drop_training
from nnie_prep.passes.drop_unreachable import drop_unreachable
from nnie_prep.shapes import infer_shapes, net_input_shapes
from nnie_prep.verify import TOLERANCE, Verdict, compare

if TYPE_CHECKING:
    from nnie_prep.darknet import DarknetLayer
    from nnie_prep.darknet.cfg import Section
    from nnie_prep.darknet.reference import Reference

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Engine:
    """What runs Caffe nets: "numpy", or "caffe" in a child process under `caffe_python`."""

    name: str = "numpy"
    caffe_python: str | None = None

    def run(
        self,
        net: Net,
        feeds: Mapping[str, Array],
        forced: Mapping[str, Array] | None = None,
        wanted: set[str] | None = None,
    ) -> dict[str, Array]:
        """The blobs of the net, as far as the engine can compute them; see `forward` of the engines."""
        if self.name == "numpy":
            return numpy_engine.forward(net, feeds, wanted, forced)
        from nnie_prep.engines import caffe_engine

        try:
            python = caffe_engine.find_caffe_python(self.caffe_python)
            with tempfile.TemporaryDirectory(prefix="nnie_prep-") as folder:
                prototxt, caffemodel = Path(folder, "net.prototxt"), Path(folder, "net.caffemodel")
                prototxt.write_text(format_prototxt(net), encoding="utf-8")
                with caffemodel.open("wb") as file:
                    write_caffemodel(net, file)
                return dict(caffe_engine.forward(python, prototxt, caffemodel, dict(feeds), wanted, forced))
        except OSError as error:
            where = error.filename or tempfile.gettempdir()
            raise UserError(
                f"cannot be written: {error.strerror}", str(where), "set TMPDIR to a folder with room"
            ) from None


@dataclass(frozen=True)
class Options:
    """How to prove: on which engine, from which input, how strictly."""

    engine: Engine = Engine()
    input: Path | None = None
    seed: int = 0
    tolerance: float = TOLERANCE


def without_training(net: Net) -> Net:
    """The net as it runs at inference: data layers are inputs; losses, and what is not wanted, are gone."""
    twin = net.copy()
    for one in (drop_unreachable, drop_training):
        while any(note.changed for note in one(twin)):
            pass
    return twin


def _all_shapes(net: Net) -> dict[str, tuple[int, ...]]:
    """The shapes of all blobs as far as they are known; those of the inputs always are."""
    return infer_shapes(net) | net_input_shapes(net)


def draw_feeds(net: Net, options: Options, low: float, high: float) -> dict[str, Array]:
    """A value for each input: the user's (.npy, or .npz by name), or seeded uniform noise."""
    shapes = _all_shapes(net)
    wanted = {name: shapes[name] for name in net.inputs()}
    if not wanted:
        raise UserError("has no input", net.source, "add `input:` and `input_shape { .. }` to the prototxt")
    return _drawn(wanted, options, low, high)


def _drawn(
    wanted: Mapping[str, tuple[int, ...]], options: Options, low: float, high: float
) -> dict[str, Array]:
    if options.input is not None:
        return read_feeds(options.input, wanted)
    random = np.random.default_rng(options.seed)
    return {name: random.uniform(low, high, shape).astype(np.float32) for name, shape in wanted.items()}


def read_feeds(path: Path, wanted: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    """Inputs from a file. A missing batch axis is added; any other difference in shape but that of
    the batch, height and width raises UserError, and so do values that are no finite numbers."""
    arrays = _load_arrays(path, next(iter(wanted)))
    if arrays.keys() != wanted.keys():
        raise UserError(
            f"holds {', '.join(arrays) or 'nothing'}, and the net's inputs are {', '.join(wanted)}",
            str(path),
            "save one array per input with numpy.savez(path, name=array)",
        )
    feeds = {}
    for name, shape in wanted.items():
        array = arrays[name]
        if array.dtype.kind not in "fiub":
            raise UserError(
                f"input {name!r} is of type {array.dtype}", str(path), "save float32 or integer numbers"
            )
        if array.ndim == len(shape) - 1:
            array = array[np.newaxis]
        if array.ndim != len(shape) or array.shape[1:2] != shape[1:2] or array.size == 0:
            raise UserError(
                f"input {name!r} has shape {arrays[name].shape}, and the net wants {shape}",
                str(path),
                "save an array of that shape, or of another height and width",
            )
        feeds[name] = array.astype(np.float32)
        if not np.isfinite(feeds[name]).all():
            raise UserError(
                f"input {name!r} holds values that are not finite in float32",
                str(path),
                "replace infinities and NaN",
            )
    return feeds


def _load_arrays(path: Path, name: str) -> dict[str, Array]:
    """The arrays of an .npz, or the one of an .npy under the given name."""
    hint = "save it with numpy.save or numpy.savez"
    try:
        with path.open("rb") as file:
            if not file.read(6).startswith((b"\x93NUMPY", b"PK")):
                raise UserError("is not a .npy or .npz file", str(path), hint)
            file.seek(0)
            loaded = np.load(file, allow_pickle=False)
            return {name: loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", str(path), "check the path") from None
    except (ValueError, EOFError, BadZipFile, ZlibError, MemoryError) as error:
        raise UserError(f"is damaged, or holds no numbers ({error})", str(path), hint) from None


def prove_surgery(
    a: Net,
    b: Net,
    fates: Mapping[str, Fate],
    options: Options,
    progress: Progress = lambda text: None,
    *,
    cut: bool = False,
) -> Verdict:
    """Compares a Caffe net with what was made of it.

    The input is noise of -128 to 128, which is what byte pictures less their mean look like, in
    the range that the net's own transform_param gives where it has one.

    With `cut`, B may have other inputs and outputs than A: each input is fed with A's value of the blob
    that lies there, and the outputs are those of B.
    """
    first, second = without_training(a), without_training(b)
    low, high = _input_range(a)
    feeds = draw_feeds(first, options, low, high)
    progress("running the source")
    reference = options.engine.run(first, feeds)
    progress("measuring its rounding noise")
    precise = numpy_engine.forward(first, feeds, dtype=np.float64)
    progress("running the result")
    values = {**reference, **feeds}
    source_of = _sources(second.inputs(), fates, values) if cut else {name: name for name in feeds}
    theirs = {name: values[source] for name, source in source_of.items()}
    ends = set(second.outputs())
    run = set(first.blob_names())
    for_training = Fate((), "only training needs it, and it was not run")
    verdict = compare(
        _in_order(reference, first.blob_names()),
        precise,
        {name: fate if name in run or not fate.blobs else for_training for name, fate in fates.items()},
        lambda forced: options.engine.run(second, theirs, forced),
        outputs=[name for name in fates if ends & set(fates[name].blobs)] if cut else first.outputs(),
        tolerance=options.tolerance,
        engine=options.engine.name,
        same_shapes=True,
    )
    if options.input is None:  # else the user decides what shapes both are fed with
        _compare_inputs(verdict, _all_shapes(first), _all_shapes(second), source_of)
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


def _in_order(values: Mapping[str, Array], names: list[str]) -> dict[str, Array]:
    return {name: values[name] for name in names if name in values}


def _input_range(net: Net) -> tuple[float, float]:
    """What the net is fed with, from the transform_param of a data layer if it has one."""
    for layer in net.layers:
        transform = layer.proto.transform_param
        if layer.proto.HasField("transform_param"):
            mean = float(np.mean(transform.mean_value)) if transform.mean_value else 0.0
            mean = 128.0 if transform.mean_file else mean
            low, high = sorted(((0.0 - mean) * transform.scale, (255.0 - mean) * transform.scale))
            return low, high
    return -128.0, 128.0


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
) -> Verdict:
    """Compares a Darknet network, run straight from its cfg and weights, with the Caffe net made of it.

    The blobs of A are Darknet's layers, named "<index> <section>"; `layers` tell where their outputs
    lay when the net was converted, `blob_map` what became of those blobs. The input is what
    Darknet feeds: RGB in 0 to 1.

    Where some layers are inexact as the user asked, `judge` is the network with these layers in it, to
    which B is held, and `original` the one as it was: how far B is from that is measured, and every other
    layer judged by segment.
    """
    feeds = draw_feeds(b, options, 0.0, 1.0)
    ((_, pictures),) = feeds.items()
    if len(pictures) != 1:
        raise UserError(
            f"holds {len(pictures)} pictures", str(options.input), "give one: Darknet is run on one"
        )
    fates = [blob_map.joined(layer.blobs) if layer.blobs else Fate((), layer.none) for layer in layers]
    fates = [
        Fate((), judge.left_out[layer.index]) if fate.blobs and layer.index in judge.left_out else fate
        for layer, fate in zip(layers, fates, strict=True)
    ]
    verdict = _compare_layers(layers, fates, judge, b, feeds, options, progress)
    if original is None:
        return verdict
    verdict.judge += ", inexact layers and all"
    if not verdict.passed:
        return verdict
    # By blobs: a route may hand on what an inexact layer computes.
    forms = {fate.blobs: layer.inexact for layer, fate in zip(layers, fates, strict=True) if layer.inexact}
    against = _compare_layers(layers, fates, original, b, feeds, options, progress, forms)
    against.reasons.append(f"equal to {verdict.judge}: {_worst_errors(verdict)}")
    return against


def _compare_layers(
    layers: Sequence[DarknetLayer],
    fates: Sequence[Fate],
    judge: Judge,
    b: Net,
    feeds: Mapping[str, Array],
    options: Options,
    progress: Progress,
    forms: Mapping[tuple[str, ...], str] = MappingProxyType({}),
) -> Verdict:
    """As prove_conversion; `forms` says which blobs are inexact, and how."""
    names = [f"{layer.index} {layer.section}" for layer in layers]
    picture = next(iter(feeds.values()))[0]

    def outputs(dtype: type) -> dict[str, Array]:
        values = (value for _, value in judge.iterate(picture, dtype))
        return {name: value for name, value in zip(names, values, strict=True) if value is not None}

    progress(f"running {judge.name}")
    expected = outputs(np.float32)
    progress("measuring the rounding noise")
    precise = {} if forms else outputs(np.float64)
    progress("running the result")
    fate_of = dict(zip(names, fates, strict=True))
    unread = set(b.outputs())
    verdict = compare(
        expected,
        precise,
        fate_of,
        lambda forced: options.engine.run(b, feeds, forced),
        outputs=[name for name, fate in fate_of.items() if unread.intersection(fate.blobs)],
        tolerance=options.tolerance,
        engine=options.engine.name,
        inexact={name: forms[fate.blobs] for name, fate in fate_of.items() if fate.blobs in forms},
    )
    verdict.judge = judge.name
    _add_doubts(verdict, names, judge)
    return verdict


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


def _worst_errors(verdict: Verdict) -> str:
    segment, end_to_end = verdict.worst("segment"), verdict.worst("end_to_end")
    assert segment and end_to_end  # it passed
    return f"worst by segment {segment.segment:.1e}, end to end {end_to_end.end_to_end:.1e}"


def prove_darknet(
    a: Reference, b: Reference, options: Options, progress: Progress = lambda text: None
) -> Verdict:
    """Compares two Darknet networks with the same sections and other weights, both in the NumPy Darknet.

    The blobs are the sections' outputs, named "<index> <section>".
    """
    feeds = _drawn({"data": (1, *a.input_shape)}, options, 0.0, 1.0)
    if len(feeds["data"]) != 1:
        raise UserError(
            f"holds {len(feeds['data'])} pictures", str(options.input), "give one: Darknet is run on one"
        )
    names = [f"{section.index} {section.type}" for section in a.sections]

    def outputs(darknet: Reference, dtype: type, forced: Mapping[str, Array]) -> dict[str, Array]:
        values = darknet.iterate(
            feeds["data"][0],
            dtype,
            {index: forced[name] for index, name in enumerate(names) if name in forced},
        )
        return {name: value for name, (_, value) in zip(names, values, strict=True) if value is not None}

    progress("running the source")
    expected = outputs(a, np.float32, {})
    progress("measuring its rounding noise")
    precise = outputs(a, np.float64, {})
    progress("running the result")
    gone = Fate((), "has no output in Darknet")
    return compare(
        expected,
        precise,
        {name: Fate((name,)) if name in expected else gone for name in names},
        lambda forced: outputs(b, np.float32, forced),
        outputs=[names[index] for index in a.unread],
        tolerance=options.tolerance,
        engine="NumPy Darknet",
    )
