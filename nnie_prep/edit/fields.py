"""A field set by its path: layer[name=conv1].convolution_param.pad, layer[3].param[0].lr_mult, name."""

from __future__ import annotations

import re
from collections.abc import Sequence

from google.protobuf import text_format
from google.protobuf.message import Message

from nnie_prep.blob_map import Fate, Note
from nnie_prep.edit.layers import find_layer
from nnie_prep.errors import UserError
from nnie_prep.names import meant
from nnie_prep.net import Net
from nnie_prep.nnie_caffe_pb2 import NetParameter

_LAYER = re.compile(r"layer\[(?:name=(?P<name>.*?)|(?P<place>\d+))\]\.(?P<rest>[A-Za-z_][\w.\[\]]*)")
_STEP = re.compile(r"(\w+)(?:\[(\d+)\])?")
_LIFTED = {
    "name": "rename it with --rename-layer",
    "blobs": "weights are not set by hand",
    "include": "the net is read for the TEST phase; edit the text for others",
    "exclude": "the net is read for the TEST phase; edit the text for others",
    "input": "rename it with --rename-blob",
    "input_shape": "set it with --input-shape",
    "input_dim": "set it with --input-shape",
    "layer": "write layer[name=NAME].FIELD",
    "layers": "write layer[name=NAME].FIELD",
}


def set_field(net: Net, path: str, value: str) -> list[Note]:
    match = _LAYER.fullmatch(path)
    if match is None and path.startswith("layer"):
        raise UserError("names no field", path, "write layer[name=NAME].FIELD or layer[NUMBER].FIELD")
    if match is None:
        _assign(net.header, path, value, path)
        return [Note("", f"{path} = {value or 'unset'}")]
    if match["place"] is not None:
        place = int(match["place"])
        if place >= len(net.layers):
            raise UserError(f"the net has {len(net.layers)} layers", path, "count them from 0")
        layer = net.layers[place]
    else:
        layer = find_layer(net, match["name"])
    before = net.blob_names()
    step = _STEP.fullmatch(match["rest"])
    if step and step[1] in ("bottom", "top"):
        names = layer.bottoms if step[1] == "bottom" else layer.tops
        names[:] = _list_with(names, step[2], value, path)
    else:
        _assign(layer.proto, match["rest"], value, path)
    gone = [name for name in before if name not in net.blob_names()]
    fates = {name: Fate((), f"gone: {path} was set") for name in gone}
    return [Note(layer.name, f"{match['rest']} = {value or 'unset'}", fates=fates)]


def _list_with(old: Sequence[str], place: str | None, value: str, path: str) -> list[str]:
    """A list of blob names, whole or with another name at one place."""
    if place is None:
        return [name.strip() for name in value.split(",")] if value else []
    if int(place) >= len(old):
        raise UserError(f"the layer has {len(old)} of these", path, "count them from 0")
    return [value if number == int(place) else name for number, name in enumerate(old)]


def _assign(message: Message, rest: str, value: str, path: str) -> None:
    """Sets, or with an empty value unsets, the field at the end of a path."""
    steps = rest.split(".")
    first = steps[0].partition("[")[0]
    if first in _LIFTED and (first != "name" or not isinstance(message, NetParameter)):
        raise UserError("is not set this way", path, _LIFTED[first])
    for number, step in enumerate(steps):
        match = _STEP.fullmatch(step)
        field = match and message.DESCRIPTOR.fields_by_name.get(match[1])
        if not match or not field:
            what = f"{message.DESCRIPTOR.name} has no field {step!r}"
            raise UserError(what, path, meant(step, message.DESCRIPTOR.fields_by_name) or "see Caffe's proto")
        is_last, old = number == len(steps) - 1, getattr(message, match[1])
        if is_last and (field.message_type is None or not value):
            _assign_value(message, match[1], match[2], value, path)
            return
        if is_last or field.message_type is None:
            what = "holds fields of its own" if is_last else "holds no fields"
            raise UserError(
                f"{match[1]} {what}", path, "name one of them" if is_last else "end the path there"
            )
        message = _member(old, match[2], path) if not isinstance(old, Message) else old


def _member(messages: Sequence[Message], place: str | None, path: str) -> Message:
    if place is None or int(place) >= len(messages):
        raise UserError(f"is a list of {len(messages)}", path, "give a place in it, counted from 0: [0]")
    return messages[int(place)]


def _assign_value(message: Message, name: str, place: str | None, value: str, path: str) -> None:
    """Sets one field by way of its text, which knows enums, numbers and ranges."""
    field = message.DESCRIPTOR.fields_by_name[name]
    old = getattr(message, name)
    is_list = not isinstance(old, str | bytes | bool | int | float | Message)
    if place is not None and not is_list:
        raise UserError(f"{name} is no list", path, "leave out the place")
    if place is not None and int(place) >= len(old):
        raise UserError(f"{name} has {len(old)} element(s)", path, "count them from 0, or set the whole list")
    if not value:
        if place is None:
            message.ClearField(name)
        else:
            del old[int(place)]
        return
    texts = [one.strip() for one in value.strip("[]").split(",")] if is_list and place is None else [value]
    if field.cpp_type == field.CPPTYPE_STRING:
        texts = [text if text[:1] in "\"'" else f'"{text}"' for text in texts]
    parsed = type(message)()
    try:
        text_format.Parse("\n".join(f"{name}: {text}" for text in texts), parsed)
    except text_format.ParseError as error:
        what = re.sub(r"^\d+:\d+ : ", "", " ".join(str(error).split())).rstrip(".")
        raise UserError(
            f"{value!r} is no value of {name}: {what}", path, "give one as a prototxt has it"
        ) from None
    count = len(getattr(parsed, name)) if is_list else 1
    if [one.name for one, _ in parsed.ListFields()] != [name] or count != len(texts):
        raise UserError(f"{value!r} is no value of {name}: it holds more", path, "set one field at a time")
    if place is not None:
        old[int(place)] = getattr(parsed, name)[0]
        return
    message.ClearField(name)
    message.MergeFrom(parsed)
