"""prototxt files: Caffe's NetParameter as text, read into a `Net` and written from one."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

from google.protobuf import text_format

from nnie_prep import nnie_caffe_pb2
from nnie_prep.blob import Array
from nnie_prep.caffe_io.caffemodel import layer_message
from nnie_prep.caffe_io.upgrade import upgrade_layers
from nnie_prep.errors import UserError
from nnie_prep.net import INPUT_FOLDED, Layer, Net, check_wiring
from nnie_prep.nnie_caffe_pb2 import TEST, BlobProto, LayerParameter, NetParameter, NetState, NetStateRule
from nnie_prep.outputs.input_files import read_input

_TOKEN = re.compile(r""""(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|#[^\n]*|[{}<>]|\n|[A-Za-z_]\w*""")
_LONGEST_NAME = 512
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def read_prototxt(path: Path) -> Net:
    """The net that the file describes for the TEST phase, without weights but for those in the text.

    V1 and V0 layers become today's; the include and exclude rules are applied and then removed.
    Raises UserError with file:line:column for what is not a NetParameter.
    """
    text = read_text(path)
    message = NetParameter()
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise _explain(error, path) from None
    lines = field_lines(text)
    if message.layer and message.layers:
        raise UserError(
            "mixes `layer` with the older `layers`",
            f"{path}:{lines['layers'][0]}",
            'write all layers in one form; `layer { type: "Convolution" .. }` is today\'s',
        )
    origins = [f"{path.name}:{line}" for line in lines["layers" if message.layers else "layer"]]
    protos: list[tuple[LayerParameter, str]] = (
        upgrade_layers(message.layers, origins)
        if message.layers
        else list(zip(message.layer, origins, strict=True))
    )
    if not protos:
        raise UserError("describes no layers", str(path), "is it a solver, or cut short?")
    net = Net(source=path.name, comments=_head_comments(text))
    net.header.CopyFrom(message)
    del net.header.layer[:], net.header.layers[:]
    state = NetState()
    state.CopyFrom(message.state)
    state.phase = TEST
    state.level = 0  # as Caffe's Net does with a file, whatever the file says (net.cpp)
    net.layers = [_lift(proto, origin) for proto, origin in protos if _is_included(proto, state, origin)]
    for layer in net.layers:
        if not layer.type:
            raise UserError(
                f"layer {layer.name!r} has no type", layer.origin, 'write type: "Convolution", say'
            )
    if not net.layers:
        raise UserError(
            "has no layer left in the TEST phase", str(path), "check its include and exclude rules"
        )
    _check_names(net, path)
    _check_input(net, path)
    check_wiring(net)
    return net


def read_text(path: Path) -> str:
    """The text; bytes that are not UTF-8 are tolerated in comments, where they harm nobody."""
    data = read_input(path)
    if b"\0" in data:
        line = data.count(b"\n", 0, data.index(b"\0")) + 1
        raise UserError("is a binary file, a caffemodel perhaps", f"{path}:{line}", "give the prototxt first")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("utf-8-sig", errors="surrogateescape")
    code = re.sub(_TOKEN, lambda token: "" if token[0][0] == "#" else token[0], text)
    for number, row in enumerate(code.split("\n"), 1):
        if any("\udc80" <= char <= "\udcff" for char in row):
            raise UserError(
                "holds bytes that are not UTF-8", f"{path}:{number}", "save the file as UTF-8 text"
            )
    return text.encode("utf-8", "replace").decode()


def _explain(error: text_format.ParseError, path: Path) -> UserError:
    """protobuf's message with its place taken out, and what to do about it."""
    text = str(error).replace("nnie_prep.caffe.", "")
    place = re.match(r"(\d+):(\d+) : (.*)", text, re.S)
    where = f"{path}:{place[1]}:{place[2]}" if place else str(path)
    text = " ".join((place[3] if place else text).split()).rstrip(".")
    text = re.sub(r"^'.*': (?=[A-Z])", "", text)  # newer protobufs quote the whole line
    text = text if len(text) < 200 else f"{text[:150]} ... {text[-40:]}"
    text = _one_line(text)
    unknown = re.search(r'Message type "(\w[\w.]*)" (?:should not have|has no field named) "(\w+)"', text)
    if "does not have extensions" in text:  # which is what a [ makes it say
        hint = "give a prototxt; of a .cfg and .weights of Darknet `nnie-prep prepare` makes one"
        return UserError("a [ stands where a field is expected", where, hint)
    if unknown is None or "no field" not in text:
        return UserError(text, where, "correct the text there, or just before it")
    owner, name = unknown[1], unknown[2]
    descriptor = nnie_caffe_pb2.DESCRIPTOR.message_types_by_name.get(owner.split(".")[0])
    known = [field.name for field in descriptor.fields] if descriptor else []
    import difflib

    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]}? If your Caffe has {name}" if near else f"if your Caffe has {name}"
    return UserError(
        f"{owner} has no field {name!r}",
        where,
        f"{hint}, add it to message {owner} in proto/nnie_caffe.proto and run `make proto`",
    )


def field_lines(text: str) -> dict[str, list[int]]:
    """The lines on which each `layer`, `layers`, `input`, `input_shape` and `input_dim` of the net begins."""
    lines: dict[str, list[int]] = {"layer": [], "layers": [], "input_shape": []}
    scalars: dict[str, list[int]] = {"input": [], "input_dim": []}
    depth, line, word, word_line = 0, 1, "", 1
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token == "\n":
            line += 1
        elif token in "{<":
            if depth == 0 and word in lines:
                lines[word].append(word_line)
            depth += 1
        elif token in "}>":
            depth -= 1
            word_line = line  # of the next in a list, as in layer: [{ .. }, { .. }]
        elif depth == 0 and token[0] not in "\"'#":
            word, word_line = token, line
            if token in scalars:
                scalars[token].append(line)
    return lines | scalars


def _head_comments(text: str) -> list[str]:
    """The comment lines before anything else, without '#' and one space; behind an empty line only what
    must not be forgotten."""
    comments: list[str] = []
    is_first = True  # of the blocks of comments that empty lines part
    for line in text.split("\n"):
        if line.strip() and not line.lstrip().startswith("#"):
            break
        is_first = is_first and bool(line.strip())
        comment = line.strip()[1:].removeprefix(" ")
        if is_first or comment.startswith(INPUT_FOLDED):
            comments.append(comment)
    return comments


def _lift(proto: LayerParameter, origin: str) -> Layer:
    """A layer whose wiring and blobs are taken out of its message."""
    layer = Layer(LayerParameter(), list(proto.bottom), list(proto.top), origin=origin)
    layer.proto.CopyFrom(proto)
    layer.blobs = [
        _blob_of(blob, f"{origin}: blob {place} of layer {proto.name!r}")
        for place, blob in enumerate(proto.blobs)
    ]
    for name in ("bottom", "top", "blobs", "include", "exclude"):
        layer.proto.ClearField(name)
    return layer


def _blob_of(proto: BlobProto, where: str) -> Array:
    import numpy as np

    shape = tuple(proto.shape.dim)
    if any(proto.HasField(name) for name in ("num", "channels", "height", "width")):
        shape = (proto.num, proto.channels, proto.height, proto.width)
    values = np.array(proto.double_data or proto.data, dtype=np.float32)
    if any(extent < 0 for extent in shape) or values.size != math.prod(shape):
        raise UserError(f"{values.size} values for the shape {shape}", where, "correct its shape or its data")
    return values.reshape(shape)


def _is_included(proto: LayerParameter, state: NetState, where: str) -> bool:
    """Whether the layer belongs to the net in this state (BVLC Caffe, net.cpp FilterNet)."""
    if proto.include and proto.exclude:
        raise UserError(f"layer {proto.name!r} has include and exclude rules", where, "keep one of them")
    if proto.include:
        return any(_meets(state, rule) for rule in proto.include)
    return not any(_meets(state, rule) for rule in proto.exclude)


def _meets(state: NetState, rule: NetStateRule) -> bool:
    """Whether a state satisfies a rule: phase, levels, and stages (net.cpp StateMeetsRule)."""
    if rule.HasField("phase") and rule.phase != state.phase:
        return False
    if rule.HasField("min_level") and state.level < rule.min_level:
        return False
    if rule.HasField("max_level") and state.level > rule.max_level:
        return False
    stages = set(state.stage)
    return stages.issuperset(rule.stage) and stages.isdisjoint(rule.not_stage)


def _check_names(net: Net, path: Path) -> None:
    """Messages and notes quote names as they are: none may fill a screen or steer a terminal."""
    found = [(name, str(path)) for name in net.header.input]
    for layer in net.layers:
        found += [(name, layer.origin) for name in (layer.name, layer.type, *layer.bottoms, *layer.tops)]
    for name, where in found:
        if len(name) > _LONGEST_NAME:
            raise UserError(
                f"found a name of {len(name)} characters, {name[:40]!r}.., expected at most {_LONGEST_NAME}",
                where,
                "shorten it, in the caffemodel too if it is that of a layer",
            )
        if _CONTROL.search(name):
            raise UserError(f"found a control character in the name {name!r}", where, "rename it")


def _check_input(net: Net, path: Path) -> None:
    """The legacy input fields must agree in number, as Caffe demands."""
    count, shapes, extents = len(net.header.input), len(net.header.input_shape), len(net.header.input_dim)
    if shapes and shapes != count:
        raise UserError(
            f"has {count} input(s) and {shapes} input_shape(s)", str(path), "give one shape per input"
        )
    if extents and extents != 4 * count:
        raise UserError(
            f"has {count} input(s) and {extents} input_dim(s)", str(path), "give four input_dim per input"
        )


# ---- writing ---------------------------------------------------------------------------------


def format_prototxt(net: Net, comments: Sequence[str] | None = None) -> str:
    """The net as text, without weights; `comments` (the net's own by default) stand at its head."""
    lines = [
        f"# {_one_line(line)}".rstrip() + "\n" for line in (net.comments if comments is None else comments)
    ]
    header: str = text_format.MessageToString(net.header, as_utf8=True)
    layers = [
        "layer {\n" + text_format.MessageToString(layer_message(layer), as_utf8=True, indent=2) + "}\n"
        for layer in net.layers
    ]
    return "".join(lines) + header + "".join(layers)


def _one_line(comment: str) -> str:
    # It may name a file, and such a name may hold line breaks and bytes that are not UTF-8.
    return "".join(char if char.isprintable() or char == "\t" else "?" for char in comment)
