"""Caffe's files: a prototxt and its caffemodel read into one `Net`, and written from one.

prototxt.py    text: fields, phases, line numbers, head comments
caffemodel.py  weights: walked layer by layer, floats left in the file until they are needed
upgrade.py     layers of Caffe's two older formats
wire.py        protobuf's wire format, as far as that walk needs it
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from nnie_prep.blob import Blob
from nnie_prep.caffe_io.caffemodel import StoredBlob, StoredLayer, read_caffemodel, write_caffemodel
from nnie_prep.caffe_io.prototxt import field_lines, format_prototxt, read_prototxt, read_text
from nnie_prep.errors import UserError
from nnie_prep.net import Layer, Net
from nnie_prep.nnie_caffe_pb2 import ParamSpec
from nnie_prep.outputs.made_by import hash_of, why_mixed
from nnie_prep.shapes import Shape, blob_shapes, walk_shapes
from nnie_prep.shapes.weights import CONVOLUTION_TYPES

__all__ = [
    "WeightsReader",
    "field_lines",
    "format_prototxt",
    "load_weights",
    "read_caffemodel",
    "read_net",
    "read_prototxt",
    "read_text",
    "write_caffemodel",
]

WeightsReader = Callable[[Net, Path], list[StoredLayer]]

# How many axes the weights have where the bottoms are not known; those of a bias are always one. Types that
# came after the legacy shapes are left out.
_AXES = dict.fromkeys(CONVOLUTION_TYPES, 4) | {"InnerProduct": 2, "Embed": 2, "PReLU": 1}


def read_net(
    prototxt: Path,
    caffemodel: Path | None = None,
    warnings: list[str] | None = None,
    read_weights: WeightsReader | None = None,
    digest_of: Callable[[Path], str] = hash_of,
    notes: list[str] | None = None,
) -> Net:
    """The net of a prototxt, with the weights of a caffemodel if one is given.

    `read_weights` gets the net and the caffemodel and reads it in the place of `read_caffemodel`;
    `digest_of` gets the caffemodel and says its hash, where that is known already.

    Raises UserError where either file is not what it should be, or where they do not belong
    together. What is odd but harmless is appended to `warnings`, what is common but worth a word to `notes`.
    """
    net = read_prototxt(prototxt)
    if any(layer.blobs for layer in net.layers):
        _fit_written(net, _needed(net))
    if caffemodel is not None:
        if why := why_mixed(prototxt, caffemodel, digest_of):
            raise UserError(
                why,
                hint="write the pair anew, or remove the prototxt's `# output:` lines if it is on purpose",
            )
        stored = read_weights(net, caffemodel) if read_weights else read_caffemodel(caffemodel)
        found = load_weights(net, stored, str(caffemodel))
        if warnings is not None:
            warnings += found
        if notes is not None:
            notes += _left_out(net, stored, str(caffemodel))
    return net


def load_weights(net: Net, stored: list[StoredLayer], source: str) -> list[str]:
    """Gives the net's layers the blobs of the stored layers of the same name; returns warnings.

    As Caffe does (net.cpp CopyTrainedLayersFrom): by name, the first layer of a name, the same
    number of blobs, the same shapes; of layers that share weights the last of the file. Unlike Caffe, a
    layer whose weights the file lacks is an error, for its weights would be random.
    """
    expected = _needed(net)
    by_name: dict[str, Layer] = {}
    for layer in net.layers:
        by_name.setdefault(layer.name, layer)
    unused = []
    found: list[Layer] = []
    for source_layer in stored:
        target = by_name.get(source_layer.name)
        if target is None:
            unused += [source_layer.name] if source_layer.blobs else []
            continue
        target.blobs = _fit(target, source_layer.blobs, expected.get(target), source)
        found.append(target)
    warnings = _share(net, found, expected, source)
    missing = [layer for layer in net.layers if expected.get(layer) and not layer.blobs]
    if missing:
        other = f"; it has weights for {_listed(unused)} instead" if unused else ""
        raise UserError(
            f"has no weights for {len(missing)} layer(s) of {net.source}: "
            f"{_listed([layer.name for layer in missing])}{other}",
            source,
            "give the caffemodel that was trained with this prototxt",
        )
    if unused:
        count = len(unused)
        warnings += [f"{source}: weights of {count} layer(s) are not in {net.source}: {_listed(unused)}"]
    return warnings


def _left_out(net: Net, stored: list[StoredLayer], source: str) -> list[str]:
    """What the file says of the net's layers in fields that our schema lacks; Caffe asks the prototxt."""
    names = {layer.name for layer in net.layers}
    counts = Counter(number for layer in stored if layer.name in names for number in layer.unknown)
    if not counts:
        return []
    found = ", ".join(f"{number} in {count} layer(s)" for number, count in sorted(counts.items()))
    return [f"{source}: fields that are not known here are left out, for the prototxt decides: {found}"]


def _share(net: Net, found: Sequence[Layer], expected: Mapping[Layer, list[Shape]], source: str) -> list[str]:
    """Gives layers that share weights, by the names of their params, one and the same; returns warnings.

    In Caffe they are one memory, and each stored layer that is copied overwrites it: the last is left
    (net.cpp AppendParam, CopyTrainedLayersFrom). `found` are the layers in the order of the file.
    """
    order = {layer: number for number, layer in enumerate(found)}
    lacking: dict[Layer, dict[int, Blob]] = {}
    warnings = []
    for name, sharing in net.shared_params().items():
        stored = [(layer, place) for layer, place in sharing if layer in order and place < len(layer.blobs)]
        if not stored:
            continue
        last, at = max(stored, key=lambda one: (order[one[0]], one[1]))
        blob = last.blobs[at]
        if differ := [layer.name for layer, place in stored if not _equal(layer.blobs[place], blob)]:
            warnings.append(
                f"{source}: {_listed([*differ, last.name])} share weights (param name {name!r}) and are "
                f"stored with different ones; Caffe takes the last, those of {last.name}"
            )
        for layer, place in sharing:
            shapes = expected.get(layer, [one.shape for one in layer.blobs])
            if place >= len(shapes):
                continue
            modes = {layer.proto.param[place].share_mode, last.proto.param[at].share_mode}
            fits = math.prod(shapes[place]) == blob.size
            if not fits or (shapes[place] != blob.shape and ParamSpec.PERMISSIVE not in modes):
                raise UserError(
                    f"layer {layer.name!r} shares weights (param name {name!r}) with {last.name!r} and "
                    f"needs {_text(shapes[place])}, where that has {_text(blob.shape)}",
                    layer.origin,
                    "give the params different names",
                )
            shared = _reshape(blob, shapes[place], source)
            if layer.blobs:
                layer.blobs[place] = shared
            else:
                lacking.setdefault(layer, {})[place] = shared
    for layer, blobs in lacking.items():
        if len(blobs) == len(expected[layer]):
            layer.blobs = [blobs[place] for place in range(len(blobs))]
    return warnings


def _equal(one: Blob, other: Blob) -> bool:
    import numpy as np

    return np.array_equal(np.ravel(np.asarray(one)), np.ravel(np.asarray(other)))


def _needed(net: Net) -> dict[Layer, list[Shape]]:
    """The shapes of the blobs of each layer whose bottoms are known."""
    return {
        layer: blob_shapes(layer, bottoms)
        for layer, bottoms, tops in walk_shapes(net)
        if bottoms is not None and tops is not None
    }


def _fit_written(net: Net, expected: dict[Layer, list[Shape]]) -> None:
    """Checks the blobs that the prototxt itself spells out."""
    for layer in net.layers:
        if layer.blobs:
            written = [StoredBlob(blob, blob.shape, legacy=True) for blob in layer.blobs]
            layer.blobs = _fit(layer, written, expected.get(layer), net.source)


def _listed(names: list[str]) -> str:
    """The first names, as far as a line has room for them."""
    shown = [repr(name)[1:-1] for name in names[:5]]
    shown = [name if len(name) <= 60 else f"{name[:57]}..." for name in shown]
    return ", ".join(shown) + (", ..." if len(names) > 5 else "")


def _fit(layer: Layer, stored: list[StoredBlob], shapes: list[Shape] | None, source: str) -> list[Blob]:
    """The stored blobs in the shapes that the layer needs; `shapes` is None where nobody knows."""
    where = f"{source}: layer {layer.name!r} ({layer.origin})"
    if shapes is not None and len(shapes) != len(stored):
        hint = "give the caffemodel that was trained with this prototxt"
        if layer.type == "BatchNorm" and len(stored) == 5:
            hint += ", or write batch_norm_param { scale_bias: true } if NVCaffe trained it"
        raise UserError(f"{len(stored)} blob(s) stored, {len(shapes)} needed by {layer.type}", where, hint)
    blobs: list[Blob] = []
    for index, blob in enumerate(stored):
        found, needed = blob.shape, blob.shape
        if shapes is not None:
            needed = shapes[index]
            if blob.legacy:
                found = _drop_leading_ones(found, len(needed))
        elif blob.legacy and layer.type in _AXES:
            found = needed = _drop_leading_ones(found, 1 if index else _AXES[layer.type])
        if found != needed:
            raise UserError(
                f"blob {index} has shape {_text(blob.shape)}, and the prototxt needs {_text(needed)}",
                where,
                "give the caffemodel that was trained with this prototxt",
            )
        if blob.unknown and not blob.values.size and 0 not in needed:
            numbers = ", ".join(map(str, blob.unknown))
            raise UserError(
                f"blob {index} has no float32 values, and fields of numbers that are not known: {numbers}",
                where,
                "add --weights-engine pycaffe, with --caffe-python for the Caffe that wrote it",
            )
        blobs.append(_reshape(blob.values, needed, f"{where} blob {index}"))
    return blobs


def _drop_leading_ones(shape: Shape, ndim: int) -> Shape:
    """Legacy shapes are padded with ones in front to four extents."""
    surplus = max(0, len(shape) - ndim)
    return shape[surplus:] if all(extent == 1 for extent in shape[:surplus]) else shape


def _reshape(values: Blob, shape: Shape, where: str) -> Blob:
    if any(extent < 0 for extent in shape):
        raise UserError(f"has the impossible shape {_text(shape)}", where, "obtain the caffemodel again")
    if values.size != math.prod(shape):
        raise UserError(
            f"{values.size} values stored for shape {_text(shape)}", where, "obtain the caffemodel again"
        )
    return values.reshape(shape)


def _text(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "scalar"
