"""caffemodel files: weights in Caffe's binary NetParameter, read and written layer by layer.

Reading locates packed floats and leaves them in the file: each blob becomes a `DeferredBlob` that
reads its bytes when it is asked. What newer files do not contain (unpacked or split floats,
double_data) is parsed by protobuf at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

from google.protobuf.message import DecodeError

from nnie_prep.blob import Blob, DeferredBlob, pieces_of
from nnie_prep.caffe_io import wire
from nnie_prep.errors import UserError
from nnie_prep.net import Layer, Net
from nnie_prep.nnie_caffe_pb2 import BlobProto, BlobShape, LayerParameter, V0LayerParameter, V1LayerParameter
from nnie_prep.outputs.target_checks import stat_of_input
from nnie_prep.stored import read_floats, read_in_pieces


class _Form(NamedTuple):
    """The numbers of a layer's fields in one of Caffe's formats, and what all of them are in `message`."""

    message: type[LayerParameter | V1LayerParameter | V0LayerParameter]
    name: int
    blobs: int


_V2 = _Form(LayerParameter, 1, 7)
_V1 = _Form(V1LayerParameter, 4, 6)
_V0 = _Form(V0LayerParameter, 1, 50)
_V0_LAYER = 1  # V1LayerParameter
_NAME, _LAYERS, _LAYER = 1, 2, 100  # NetParameter
_FORMS = {_LAYER: _V2, _LAYERS: _V1}
_DATA, _SHAPE, _DOUBLE_DATA = 5, 7, 8  # BlobProto
_LEGACY = {1: "num", 2: "channels", 3: "height", 4: "width"}

_HDF5 = b"\x89HDF\r\n\x1a\n"


@dataclass
class StoredBlob:
    """A blob as the file holds it: its values, flat, and its shape.

    `legacy` marks the four deprecated extents num, channels, height, width, which count from the
    end: a bias of n values is (1, 1, 1, n). `unknown` are the numbers of the fields that no BlobProto of
    ours has: other forks keep values in them.
    """

    values: Blob
    shape: tuple[int, ...]
    legacy: bool
    unknown: tuple[int, ...] = ()


@dataclass
class StoredLayer:
    """A layer of a caffemodel: the name by which it is matched, and its blobs.

    What else the file says of a layer is the prototxt's business; Caffe ignores it too. `unknown` are the
    numbers of the fields that our schema lacks, most of them parameters that a fork numbers its own way.
    """

    name: str
    blobs: list[StoredBlob] = field(default_factory=list)
    unknown: list[int] = field(default_factory=list)


def read_caffemodel(path: Path) -> list[StoredLayer]:
    """All layers of the file, in its order. Raises UserError where it is none, or is cut short."""
    if is_hdf5(path):
        raise UserError(
            "is an HDF5 file, which Caffe itself has to read",
            str(path),
            "add --weights-engine pycaffe, with a Caffe built with HDF5",
        )
    try:
        file = path.open("rb")
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", str(path)) from None
    source = wire.Source(file)
    layers: list[StoredLayer] = []
    try:
        for part in wire.fields(source, 0, source.size):
            if part.wire_type == wire.LENGTH and part.number in _FORMS:
                layers.append(_read_layer(source, part, _FORMS[part.number]))
    except (wire.WireError, DecodeError, UnicodeDecodeError) as error:
        place = f"after {len(layers)} whole layers, file of {source.size} bytes"
        raise UserError(
            f"is not a whole caffemodel: {error} ({place})",
            str(path),
            "obtain the file again; its copy or download may be incomplete",
        ) from None
    if not layers:
        raise UserError("has no layers", str(path), "give the .caffemodel that belongs to the prototxt")
    return layers


def is_hdf5(path: Path) -> bool:
    """Whether the file is in HDF5 format. UserError if it cannot be read, or holds no weights at all."""
    stat_of_input(path)
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(64)
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", str(path)) from None
    _refuse_other_formats(path, head, size)
    return head.startswith(_HDF5)


def _refuse_other_formats(path: Path, head: bytes, size: int) -> None:
    """Names what is commonly mistaken for weights."""
    if size == 0:
        raise UserError("is empty", str(path), "obtain the file again")
    if head.startswith(b"version https://git-lfs"):
        raise UserError("is a pointer of Git LFS, not the file itself", str(path), "run git lfs pull")
    words = head.lstrip()
    if words.startswith((b"name:", b"layer", b"input:", b"#")):
        raise UserError("is a text file, a prototxt perhaps", str(path), "give the caffemodel second")


def _read_layer(source: wire.Source, part: wire.Field, form: _Form) -> StoredLayer:
    """A layer; one of V1 may wrap one of V0, with blobs of its own."""
    layer = StoredLayer("")
    known = form.message.DESCRIPTOR.fields_by_number
    for inner in wire.fields(source, part.begin, part.end):
        if inner.number not in known and inner.number not in layer.unknown:
            layer.unknown.append(inner.number)
        if inner.wire_type != wire.LENGTH:
            continue
        if inner.number == form.name:
            layer.name = wire.read_bytes(source, inner.begin, inner.end).decode()
        elif inner.number == form.blobs:
            layer.blobs.append(_read_blob(source, inner))
        elif inner.number == _V0_LAYER and form is _V1:
            v0 = _read_layer(source, inner, _V0)
            layer = StoredLayer(v0.name or layer.name, layer.blobs + v0.blobs, layer.unknown + v0.unknown)
    return layer


def _read_blob(source: wire.Source, part: wire.Field) -> StoredBlob:
    """A blob whose floats lie in one packed field stays in the file; any other is parsed."""
    shape: tuple[int, ...] = ()
    legacy = dict.fromkeys(_LEGACY, 0)
    is_legacy = False
    packed: list[wire.Field] = []
    unknown: list[int] = []
    for inner in wire.fields(source, part.begin, part.end):
        if inner.number == _SHAPE and inner.wire_type == wire.LENGTH:
            shape = tuple(BlobShape.FromString(wire.read_bytes(source, inner.begin, inner.end)).dim)
        elif inner.number in _LEGACY and inner.wire_type == wire.VARINT:
            legacy[inner.number] = inner.value
            is_legacy = True
        elif inner.number == _DATA and inner.wire_type == wire.LENGTH and not packed:
            packed.append(inner)
        elif inner.number in (_DATA, _DOUBLE_DATA):
            return _parse_blob(wire.read_bytes(source, part.begin, part.end))
        elif inner.number not in BlobProto.DESCRIPTOR.fields_by_number:
            unknown.append(inner.number)
    if is_legacy:
        shape = tuple(legacy.values())
    if not packed:
        return StoredBlob(stored_floats(source.file, part.end, 0), shape, is_legacy, tuple(unknown))
    size = packed[0].end - packed[0].begin
    if size % 4:
        raise wire.WireError(f"byte {packed[0].start}: {size} bytes are no whole number of floats")
    return StoredBlob(stored_floats(source.file, packed[0].begin, size // 4), shape, is_legacy)


def _parse_blob(data: bytes) -> StoredBlob:
    """The slow way, right for every encoding protobuf allows."""
    import numpy as np

    proto = BlobProto.FromString(data)
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, as in Caffe
        values = np.array(proto.double_data or proto.data, dtype=np.float32)
    if any(proto.HasField(name) for name in _LEGACY.values()):
        return StoredBlob(values, (proto.num, proto.channels, proto.height, proto.width), True)
    return StoredBlob(values, tuple(proto.shape.dim), False)


def stored_floats(file: BinaryIO, begin: int, count: int) -> DeferredBlob:
    """`count` little-endian floats from byte `begin` of an open file, read whenever they are asked for."""
    return DeferredBlob(
        (count,),
        lambda: read_floats(file, begin, count),
        lambda unit: read_in_pieces(file, begin, count, unit),
    )


# ---- writing ---------------------------------------------------------------------------------


def write_caffemodel(net: Net, file: BinaryIO, progress: Callable[[int, int], None] | None = None) -> None:
    """Writes name and layers with their blobs as packed floats, one blob in memory at a time."""
    if net.header.name:
        file.write(wire.length_delimited(_NAME, net.header.name.encode()))
    for position, layer in enumerate(net.layers):
        for piece in _encode_layer(layer):
            file.write(piece)
        if progress:
            progress(position + 1, len(net.layers))


def layer_message(layer: Layer) -> LayerParameter:
    """The layer as Caffe spells it, wiring included, without blobs."""
    proto = LayerParameter()
    proto.CopyFrom(layer.proto)
    proto.bottom.extend(layer.bottoms)
    proto.top.extend(layer.tops)
    return proto


def _encode_layer(layer: Layer) -> Iterator[bytes | memoryview]:
    """The field `layer` of a NetParameter in pieces; lengths follow from shapes alone."""
    parameters = layer_message(layer).SerializePartialToString(deterministic=True)
    heads = [_blob_head(blob) for blob in layer.blobs]
    sizes = [len(head) + 4 * blob.size for head, blob in zip(heads, layer.blobs, strict=True)]
    prefixes = [wire.key(_V2.blobs, wire.LENGTH) + wire.varint(size) for size in sizes]
    total = len(parameters) + sum(map(len, prefixes)) + sum(sizes)
    yield wire.key(_LAYER, wire.LENGTH) + wire.varint(total) + parameters
    for prefix, head, blob in zip(prefixes, heads, layer.blobs, strict=True):
        yield prefix + head
        yield from pieces_of(blob)


def _blob_head(blob: Blob) -> bytes:
    """A BlobProto up to its floats: the shape, and the key and length of the packed data."""
    shape = BlobShape(dim=blob.shape).SerializeToString(deterministic=True)
    return wire.length_delimited(_SHAPE, shape) + wire.key(_DATA, wire.LENGTH) + wire.varint(4 * blob.size)
