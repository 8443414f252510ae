"""Runs two networks on an engine and compares them: the proof behind every command that changes one."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nnie_prep.blob_map import BlobMap, Fate
from nnie_prep.caffe_io import format_prototxt, write_caffemodel
from nnie_prep.engines import numpy as numpy_engine
from nnie_prep.errors import UserError
from nnie_prep.net import Array, Net
from nnie_prep.passes.drop_training import drop_training
from nnie_prep.shapes import infer_shapes
from nnie_prep.verify import TOLERANCE, Verdict, compare

if TYPE_CHECKING:
    from nnie_prep.darknet import DarknetLayer
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

        python = caffe_engine.find_caffe_python(self.caffe_python)
        with tempfile.TemporaryDirectory(prefix="nnie_prep-") as folder:
            prototxt, caffemodel = Path(folder, "net.prototxt"), Path(folder, "net.caffemodel")
            prototxt.write_text(format_prototxt(net), encoding="utf-8")
            with caffemodel.open("wb") as file:
                write_caffemodel(net, file)
            return dict(caffe_engine.forward(python, prototxt, caffemodel, dict(feeds), wanted, forced))


@dataclass(frozen=True)
class Options:
    """How to prove: on which engine, from which input, how strictly."""

    engine: Engine = Engine()
    input: Path | None = None
    seed: int = 0
    tolerance: float = TOLERANCE


def without_training(net: Net) -> Net:
    """The net as it runs at inference: data layers are inputs, losses are gone."""
    twin = net.copy()
    while any(note.changed for note in drop_training(twin)):
        pass
    return twin


def draw_feeds(net: Net, options: Options, low: float, high: float) -> dict[str, Array]:
    """A value for each input: the user's (.npy, or .npz by name), or seeded uniform noise."""
    shapes = infer_shapes(net)
    wanted = {name: shapes[name] for name in net.inputs()}
    if not wanted:
        raise UserError("has no input", net.source, "add `input:` and `input_shape {{ .. }}` to the prototxt")
    if options.input is not None:
        return read_feeds(options.input, wanted)
    random = np.random.default_rng(options.seed)
    return {name: random.uniform(low, high, shape).astype(np.float32) for name, shape in wanted.items()}


def read_feeds(path: Path, wanted: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    """Inputs from a file. A missing batch axis is added; any other difference in shape but that of
    the batch, height and width raises UserError."""
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            arrays = dict(loaded) if hasattr(loaded, "files") else {next(iter(wanted)): loaded}
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", str(path)) from None
    except (ValueError, EOFError) as error:
        raise UserError(
            f"is not a .npy or .npz file of numbers ({error})", str(path), "save it with numpy.save"
        ) from None
    missing, unknown = (
        [name for name in wanted if name not in arrays],
        [name for name in arrays if name not in wanted],
    )
    if missing or unknown:
        raise UserError(
            f"holds {', '.join(arrays)}, and the net's inputs are {', '.join(wanted)}",
            str(path),
            "save one array per input with numpy.savez(path, name=array)",
        )
    feeds = {}
    for name, shape in wanted.items():
        array = np.asarray(arrays[name], dtype=np.float32)
        if array.ndim == len(shape) - 1:
            array = array[np.newaxis]
        if array.ndim != len(shape) or (len(shape) > 1 and array.shape[1] != shape[1]) or array.size == 0:
            raise UserError(f"input {name!r} has shape {array.shape}, and the net wants {shape}", str(path))
        feeds[name] = array
    return feeds


def prove_surgery(
    a: Net, b: Net, fates: Mapping[str, Fate], options: Options, progress: Progress = lambda text: None
) -> Verdict:
    """Compares a Caffe net with what was made of it.

    The input is noise of -128 to 128, which is what byte pictures less their mean look like, in
    the range that the net's own transform_param gives where it has one.
    """
    first, second = without_training(a), without_training(b)
    low, high = _input_range(a)
    feeds = draw_feeds(first, options, low, high)
    progress("running the source")
    reference = options.engine.run(first, feeds)
    progress("measuring its rounding noise")
    precise = numpy_engine.forward(first, feeds, dtype=np.float64)
    progress("running the result")
    return compare(
        _in_order(reference, first.blob_names()),
        precise,
        fates,
        lambda forced: options.engine.run(second, feeds, forced),
        outputs=first.outputs(),
        tolerance=options.tolerance,
        engine=options.engine.name,
    )


def _in_order(values: Mapping[str, Array], names: list[str]) -> dict[str, Array]:
    return {name: values[name] for name in names if name in values}


def _input_range(net: Net) -> tuple[float, float]:
    """What the net is fed with, from the transform_param of a data layer if it has one."""
    for layer in net.layers:
        transform = layer.proto.transform_param
        if layer.proto.HasField("transform_param"):
            mean = float(np.mean(transform.mean_value)) if transform.mean_value else 0.0
            mean = 128.0 if transform.mean_file else mean
            return (0.0 - mean) * transform.scale, (255.0 - mean) * transform.scale
    return -128.0, 128.0


def prove_conversion(
    layers: Sequence[DarknetLayer],
    judge: Reference,
    b: Net,
    blob_map: BlobMap,
    options: Options,
    progress: Progress = lambda text: None,
) -> Verdict:
    """Compares a Darknet network, run straight from its cfg and weights, with the Caffe net made of it.

    The blobs of A are Darknet's layers, named "<index> <section>"; `layers` tell where their outputs
    lay when the net was converted, `blob_map` what became of those blobs. The input is what
    Darknet feeds: RGB in 0 to 1.
    """
    feeds = draw_feeds(b, options, 0.0, 1.0)
    ((_, pictures),) = feeds.items()
    if len(pictures) != 1:
        raise UserError(
            f"holds {len(pictures)} pictures", str(options.input), "give one: Darknet is run on one"
        )
    names = [f"{layer.index} {layer.section}" for layer in layers]

    def outputs(dtype: type) -> dict[str, Array]:
        values = (value for _, value in judge.iterate(pictures[0], dtype))
        return {name: value for name, value in zip(names, values, strict=True) if value is not None}

    progress("running Darknet's layers in NumPy")
    expected = outputs(np.float32)
    progress("measuring their rounding noise")
    precise = outputs(np.float64)
    progress("running the result")
    fates = [blob_map.joined(layer.blobs) if layer.blobs else Fate((), layer.none) for layer in layers]
    unread = set(b.outputs())
    return compare(
        expected,
        precise,
        dict(zip(names, fates, strict=True)),
        lambda forced: options.engine.run(b, feeds, forced),
        outputs=[name for name, fate in zip(names, fates, strict=True) if unread.intersection(fate.blobs)],
        tolerance=options.tolerance,
        engine=options.engine.name,
    )
