"""A prototxt and a caffemodel that are damaged at random, and all that nnie_prep does with the two."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from random import Random

from fuzzing import edits
from fuzzing.caffe_originals import original
from fuzzing.edits import Edit, joined, lines_of, value
from fuzzing.trial import Trial, check_lean, check_message, command, read_back, refusal, size_of
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError

from nnie_prep import passes
from nnie_prep.blob_map import BlobMap
from nnie_prep.caffe_io import format_prototxt, read_net, wire
from nnie_prep.description import describe_surgery
from nnie_prep.errors import UserError
from nnie_prep.nnie_caffe_pb2 import (
    BlobProto,
    LayerParameter,
    NetParameter,
    V1LayerParameter,
)
from nnie_prep.shapes import TOP_SHAPES

__all__ = ["SUFFIXES", "edit", "original", "run"]

SUFFIXES = (".prototxt", ".caffemodel")


# ---- edits of the text ---------------------------------------------------------------------------

_STRING = re.compile(r'"[^"\n]*"')
_FIELD = re.compile(r"\b[a-z][a-z_0-9]*(?= *[:{])")
_TYPES = sorted(
    {*TOP_SHAPES, "Data", "Python", "SoftmaxWithLoss", "Accuracy", "Nonsense", "", "DummyData", "ImageData"}
)


@functools.cache
def _names() -> list[str]:
    """Every field name of the schema and every enumerator."""
    found = {"layer", "layers", "x"}
    for message in NetParameter.DESCRIPTOR.file.message_types_by_name.values():
        found.update(field.name for field in message.fields)
        found.update(value.name for enum in message.enum_types for value in enum.values)
    return sorted(found)


def _replace(data: bytes, r: Random, pattern: re.Pattern[str], new: str | None = None) -> bytes:
    """One occurrence becomes another text: one given, or another occurrence."""
    text = data.decode("latin-1")
    found = list(pattern.finditer(text))
    if not found:
        return data
    match = r.choice(found)
    new = r.choice(found)[0] if new is None else new
    return (text[: match.start()] + new + text[match.end() :]).encode("latin-1")


def change_string(data: bytes, r: Random) -> bytes:
    """Names of blobs and layers: others of the same file, mostly."""
    if r.random() < 0.7:
        return _replace(data, r, _STRING)
    return _replace(
        data,
        r,
        _STRING,
        r.choice(['""', '"x"', "'y'", '"\\n"', '"\\377"', '"\\x00"', '"é"', '"\\', '"a" "b"']),
    )


def change_type(data: bytes, r: Random) -> bytes:
    return _replace(data, r, re.compile(r'(?<=type: )"[^"\n]*"'), f'"{r.choice(_TYPES)}"')


def change_field(data: bytes, r: Random) -> bytes:
    return _replace(data, r, _FIELD, r.choice(_names()))


def change_word(data: bytes, r: Random) -> bytes:
    """Enumerators and booleans."""
    return _replace(
        data,
        r,
        re.compile(r"(?<=: )[A-Za-z_]+"),
        r.choice([*_names(), "true", "false", "MAX", "AVE", "TEST"]),
    )


def move_brace(data: bytes, r: Random) -> bytes:
    return _replace(
        data, r, re.compile(r"[{}]"), r.choice(["", "{", "}", "{{", "}}", "<", ">", "[", "]", "{}", ";", ","])
    )


def _blocks(lines: list[str]) -> list[tuple[int, int]]:
    """First and last line of each layer that begins a line."""
    starts = [number for number, line in enumerate(lines) if line.startswith(("layer {", "layers {"))]
    return list(zip(starts, [*starts[1:], len(lines)], strict=False))


def move_layer(data: bytes, r: Random) -> bytes:
    """Layers repeated, deleted, moved."""
    lines = lines_of(data)
    blocks = _blocks(lines)
    if not blocks:
        return data
    start, end = r.choice(blocks)
    part = lines[start:end]
    kind = r.choice(["repeat", "delete", "move"])
    if kind != "repeat":
        del lines[start:end]
    if kind != "delete":
        at = r.choice([0, len(lines), *(first for first, _ in blocks if first <= len(lines))])
        lines[at:at] = part * (r.choice([1, 2, 300]) if kind == "repeat" else 1)
    return joined(lines)


def add_field(data: bytes, r: Random) -> bytes:
    """A field that a layer may have, with any value that its kind may have, behind the opening of a layer."""
    text = data.decode("latin-1")
    found = [match.end() for match in re.finditer(r"^layers? ?\{", text, re.M)]
    if not found:
        return data
    at = r.choice(found)
    layer = V1LayerParameter if text[:at].endswith(("layers {", "layers{")) else LayerParameter
    return (text[:at] + " " + _drawn_field(layer.DESCRIPTOR, r) + " " + text[at:]).encode("latin-1")


def _drawn_field(message: object, r: Random, depth: int = 0) -> str:
    fields = list(message.fields)  # type: ignore[attr-defined]
    inner = [field for field in fields if field.message_type]
    field: FieldDescriptor = r.choice(inner if depth == 0 and r.random() < 0.7 else fields)
    if field.message_type:
        count = r.choice([0, 1, 1, 2, 3]) if depth < 3 else 0
        inner_fields = (_drawn_field(field.message_type, r, depth + 1) for _ in range(count))
        return f"{field.name} {{ {' '.join(inner_fields)} }}"
    if field.enum_type:
        return f"{field.name}: {r.choice([one.name for one in field.enum_type.values])}"
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return f'{field.name}: "{r.choice(["", "x", "data", "conv", "fc", "shared"])}"'
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return f"{field.name}: {r.choice(['true', 'false'])}"
    usual = r.choice(["0", "1", "2", "3", "5", "4096", "1000000", "-1"])
    return f"{field.name}: {value(r) if r.random() < 0.4 else usual}"


def spell_as_list(data: bytes, r: Random) -> bytes:
    """Other ways of protobuf to write the same."""
    text = data.decode("latin-1")
    kind = r.randrange(5)
    if kind == 0:
        text = re.sub(r"^(layers?) ?\{", r"\1: {", text, flags=re.M)
    elif kind == 1:
        blocks = re.split(r"^layer \{", text, flags=re.M)
        text = blocks[0] + "layer: [ {" + ", {".join(blocks[1:]) + " ]" if len(blocks) > 1 else text
    elif kind == 2:
        text = text.replace("{", "<").replace("}", ">")
    elif kind == 3:
        text = text.replace("\n", " ; " if r.random() < 0.5 else " ")
    else:
        text = re.sub(
            r"^layer \{", r.choice(["layers {", "layer{", "layer\n{", "layer # {\n{"]), text, flags=re.M
        )
    return text.encode("latin-1")


_PROTOTXT: tuple[Edit, ...] = (
    edits.change_number, edits.change_number, edits.change_number, edits.change_number, change_string,
    change_string, change_string, change_type, change_type, change_field, change_word, move_brace, move_layer,
    move_layer, add_field, add_field, add_field, spell_as_list,
)  # fmt: skip


# ---- edits of the weights ------------------------------------------------------------------------

_EXTENTS = (0, 1, 2, 3, -1, -2, -6, 4096, 65536, 2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1, -(2**63))


def change_weights(data: bytes, r: Random) -> bytes:
    """Shapes, values and names of the message's own fields."""
    try:
        net = NetParameter.FromString(data)
    except DecodeError:
        return data
    layers = [*net.layer, *net.layers]
    found = [blob for layer in layers for blob in layer.blobs]
    found += [blob for layer in net.layers for blob in layer.layer.blobs]
    kind = r.choice(["shape", "shape", "shape", "legacy", "data", "data", "name", "blobs", "layers"])
    if kind == "layers" and net.layer:
        place = r.randrange(len(net.layer))
        if r.random() < 0.5:
            del net.layer[place]
        else:
            net.layer.extend([net.layer[place]] * r.choice([1, 50]))
    elif kind == "name" and layers:
        r.choice(layers).name = r.choice([r.choice(layers).name, "", "x" * 5000, "é\n"])
    elif kind == "blobs" and layers:
        blobs = r.choice(layers).blobs
        if blobs and r.random() < 0.5:
            del blobs[r.randrange(len(blobs))]
        else:
            blobs.extend([r.choice(found) if found else BlobProto()] * r.choice([1, 2, 40]))
    elif found:
        _change_blob(r.choice(found), kind, r)
    return net.SerializeToString()


def _change_blob(blob: BlobProto, kind: str, r: Random) -> None:
    dims = blob.shape.dim
    if kind == "shape":
        change = r.choice(["one", "one", "two", "reverse", "add", "remove", "many", "negate"])
        if change in ("one", "two") and dims:
            for _ in range(1 + (change == "two")):
                dims[r.randrange(len(dims))] = r.choice(_EXTENTS)
        elif change == "negate":
            dims[:] = [-extent if number < 2 else extent for number, extent in enumerate(dims)]
        elif change == "reverse":
            dims[:] = list(dims)[::-1]
        elif change == "remove" and dims:
            del dims[r.randrange(len(dims)) :]
        else:
            dims.extend([r.choice(_EXTENTS)] if change != "many" else [1] * 40)
    elif kind == "legacy":
        for field in r.sample(["num", "channels", "height", "width"], r.randint(1, 4)):
            setattr(blob, field, r.choice([0, 1, 2, 3, -1, 5, 48, 2**31 - 1, -(2**31)]))
        if r.random() < 0.5:
            blob.ClearField("shape")
    elif kind == "data":
        change = r.choice(["cut", "extend", "empty", "double", "both", "strange"])
        if change == "cut":
            del blob.data[r.randrange(len(blob.data) + 1) :]
        elif change == "extend":
            blob.data.extend([1.5] * r.choice([1, 3, 1000]))
        elif change == "empty":
            del blob.data[:]
        elif change in ("double", "both"):
            blob.double_data.extend([1e300, -1e300, 0.1] if change == "both" else blob.data)
        elif blob.data:
            blob.data[r.randrange(len(blob.data))] = r.choice([float("nan"), float("inf"), 1e38, 1e-45, -0.0])


def change_wire(data: bytes, r: Random) -> bytes:
    """A field of protobuf's wire format that lies about its length or number, or that nobody knows."""
    at = r.randrange(len(data) + 1)
    number = r.choice([0, 1, 2, 4, 5, 6, 7, 8, 50, 100, 999, 2**29 - 1, 2**40])
    field = wire.key(number, r.randrange(8))
    field += wire.varint(r.choice([0, 1, 4, 5, 100, 2**31, 2**32, 2**63, 2**64 - 1, 2**69]))
    field += r.choice([b"", bytes(4), r.randbytes(9), b"\xff" * 11])
    return data[:at] + field + data[at + r.choice([0, 0, len(field)]) :]


def edit(files: list[bytes], r: Random) -> None:
    """One edit of one of the two files."""
    kind = r.random()
    if kind < 0.45:
        files[0] = r.choice(_PROTOTXT)(files[0], r)
    elif kind < 0.55:
        files[0] = r.choice(edits.TEXT)(files[0], r)
    elif kind < 0.6:
        files[0] = r.choice(edits.BYTES)(files[0], r)
    elif kind < 0.8:
        files[1] = change_weights(files[1], r)
    elif kind < 0.87:
        files[1] = change_wire(files[1], r)
    elif kind < 0.995:
        files[1] = r.choice(edits.BYTES)(files[1], r)
    else:
        files.reverse()


# ---- what is done with a pair --------------------------------------------------------------------


def run(prototxt: Path, caffemodel: Path, about: None, r: Random) -> Trial:
    """Reads, plans and writes the pair, and sometimes runs a whole command on it."""
    has_weights = r.random() < 0.85
    given = (prototxt, caffemodel) if has_weights else (prototxt,)
    chance = r.random()
    try:
        with check_lean():
            net = read_net(*given)
            size = size_of(net)
            changed = net.copy()
            blob_map = BlobMap(net.blob_names())
            if not has_weights or size.fits:
                passes.run(changed, passes.PASSES, blob_map)
            json.dumps(describe_surgery(prototxt, blob_map), allow_nan=False)
            format_prototxt(changed)
    except UserError as error:
        check_message(error)
        if chance < 0.2:
            # A command may know better what is wrong, as `verify` does; it may not do it after all.
            command(2, "prepare", prototxt, caffemodel) if has_weights else command(None, "show", prototxt)
        return refusal(error)
    if has_weights and size.fits:
        read_back(changed, size.known)
    if chance < 0.4 and has_weights and size.fits:
        name = r.choice(["prepare", "prepare", "merge-bn", "strip", "add-bias"])
        proof = [] if size.runs else ["--no-verify"]
        code = command(None, name, prototxt, caffemodel, *proof)
        return Trial("read", f"{' '.join([name, *proof])}: exit {code}")
    if chance < 0.5:
        return Trial("read", f"show: exit {command(None, 'show', *given)}")
    return Trial("read", "read and plan")
