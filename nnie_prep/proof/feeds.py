"""What nets are fed with: the user's arrays, or seeded noise in the range that the net is used to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from zipfile import BadZipFile
from zlib import error as ZlibError

import numpy as np

from nnie_prep.blob import Array
from nnie_prep.errors import UserError
from nnie_prep.net import Net
from nnie_prep.outputs.target_checks import stat_of_input
from nnie_prep.own_code import boxes
from nnie_prep.proof.running import Options
from nnie_prep.shapes import infer_shapes, net_input_shapes
from nnie_prep.training_layers import DATA


def all_shapes(net: Net) -> dict[str, tuple[int, ...]]:
    """The shapes of all blobs as far as they are known; those of the inputs always are."""
    return infer_shapes(net) | net_input_shapes(net)


def draw_feeds(net: Net, options: Options, low: float, high: float) -> dict[str, Array]:
    """A value for each input: the user's (.npy, or .npz by name), or seeded noise.

    It is uniform from low to high; an input that layers pool regions by holds regions.
    """
    shapes = all_shapes(net)
    wanted = {name: shapes[name] for name in net.inputs()}
    if not wanted:
        if source := next((layer for layer in net.layers if layer.type in DATA), None):
            raise UserError(
                f"nobody says how large the pictures are that {source.name} ({source.type}) feeds",
                source.origin,
                'write input: "data" and input_shape { .. } in place of the data layers',
            )
        raise UserError("has no input", net.source, "add `input:` and `input_shape { .. }` to the prototxt")
    feeds = drawn(wanted, options, low, high)
    if options.input is None:
        feeds |= _regions(net, shapes, wanted, options.seed)
    return feeds


def _regions(
    net: Net, shapes: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]], seed: int
) -> dict[str, Array]:
    """Regions of the first picture for the inputs that layers pool by: noise would name no picture."""
    random = np.random.default_rng(seed)
    found: dict[str, Array] = {}
    for layer in net.layers:
        if layer.type not in ("ROIPooling", "PSROIPooling") or len(layer.bottoms) != 2:
            continue
        over, name = layer.bottoms[:2]
        parameter = (
            layer.proto.roi_pooling_param if layer.type == "ROIPooling" else layer.proto.psroi_pooling_param
        )
        scale = parameter.spatial_scale  # pixels of the map in one of the picture
        if name in wanted and name not in found and over in shapes and scale > 0:
            height, width = (extent / scale for extent in shapes[over][2:])
            found[name] = boxes(random, wanted[name][0], height, width).reshape(wanted[name])
    return found


def drawn(
    wanted: Mapping[str, tuple[int, ...]], options: Options, low: float, high: float
) -> dict[str, Array]:
    """A value for each input of these shapes: the user's, or seeded uniform noise from low to high."""
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
        with np.errstate(over="ignore"):
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
    stat_of_input(path)
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


def input_range(net: Net) -> tuple[float, float]:
    """What the net is fed with, from the transform_param of a data layer if it has one."""
    for layer in net.layers:
        transform = layer.proto.transform_param
        if layer.proto.HasField("transform_param"):
            mean = float(np.mean(transform.mean_value)) if transform.mean_value else 0.0
            mean = 128.0 if transform.mean_file else mean
            low, high = sorted(((0.0 - mean) * transform.scale, (255.0 - mean) * transform.scale))
            return low, high
    return -128.0, 128.0
