"""What is done to a picture's values before a net sees them; and the note in a net that has taken that in.

    y = (x - mean) * scale        in each channel, as Caffe's transform_param (data_transformer.cpp) has it
    y = x / 255                   Darknet's (image.c)

A net that does this itself says so in a comment at its head, which every command keeps:

    # input folded: scale=0.017,mean=103.94/116.78/123.68,order=BGR,feed=RGB data
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from nnie_prep.blob import Array
from nnie_prep.errors import UserError
from nnie_prep.net import INPUT_FOLDED, Layer, Net
from nnie_prep.training_layers import DATA
from nnie_prep.weights import Factors

ORDERS = ("RGB", "BGR")
KEYS = ("scale", "mean", "order", "feed", "input", "border")
_MARK = re.compile(INPUT_FOLDED + r"(\S+) (.+)")


class Normalization(NamedTuple):
    """`scale` and `mean` have one value, or one for each channel in the net's own order.

    `order` is that of the net's channels and `feed` that of the pictures, "" where nobody said; where they
    are not the same, the channels are swapped. `border` is "inexact" where zeros that a layer pads with may
    stand for the mean.
    """

    blob: str = ""
    scale: tuple[float, ...] = (1.0,)
    mean: tuple[float, ...] = (0.0,)
    order: str = ""
    feed: str = ""
    border: str = ""

    @property
    def swaps(self) -> bool:
        """Whether the pictures that are fed have the channels in the opposite order of the net's."""
        return bool(self.order and self.feed and self.order != self.feed)

    def factors(self) -> Factors:
        """As a layer: (channels,) in the net's order, or () where all channels are alike."""
        both = (np.array(one if len(one) > 1 else one[0]) for one in (self.scale, self.mean))
        scale, mean = np.broadcast_arrays(*both)
        return Factors(scale, -mean * scale)

    def apply(self, raw: Array) -> Array:
        """What the net took before, of raw pictures (N, C, ...); float32, computed in float64."""
        scale, shift = (_over_channels(values, raw) for values in self.factors())
        x = raw[:, ::-1] if self.swaps else raw
        return np.asarray(x * scale + shift, dtype=np.float32)

    def undo(self, values: Array) -> Array:
        """The raw pictures that `apply` makes these of."""
        scale, shift = (_over_channels(one, values) for one in self.factors())
        x = np.asarray((values - shift) / scale, dtype=np.float32)
        return x[:, ::-1] if self.swaps else x

    def text(self) -> str:
        """As it is typed behind --fold-input, without the blob."""
        found = ["scale=" + "/".join(map(repr, self.scale))]
        found += ["mean=" + "/".join(map(repr, self.mean))] if any(self.mean) else []
        told = {"order": self.order, "feed": self.feed, "border": self.border}
        return ",".join(found + [f"{key}={value}" for key, value in told.items() if value])

    def mark(self) -> str:
        """The comment at the head of a net that has taken this in."""
        return f"{INPUT_FOLDED}{self.text()} {self.blob}"

    def description(self) -> dict[str, Any]:
        """What STEM.json says of the input: `order` is that of the pictures to be fed, with raw values.

        `scale` and `mean` are what the weights have taken in, in the order of the net's own channels.
        """
        about: dict[str, Any] = {"blob": self.blob}
        for key, values in (("scale", self.scale), ("mean", self.mean)):
            about[key] = values[0] if len(values) == 1 else list(values)
        about |= {"order": self.feed or self.order or None, "range": [0, 255], "folded": True}
        return about | ({"border": self.border} if self.border else {})


def _over_channels(values: Array, like: Array) -> Array:
    return values.reshape(-1, *[1] * (like.ndim - 2)) if values.ndim else values


def folded_into(net: Net) -> Normalization | None:
    """What the net says that it does to raw pictures itself."""
    for comment in net.comments:
        match = _MARK.fullmatch(comment)
        if match and match[2] in net.inputs():  # else the net begins somewhere else now
            options = read_options(match[1])
            return _with(Normalization(), options | {"input": match[2]}, comment)
    return None


def read_options(text: str) -> dict[str, str]:
    """KEY=VALUE,.. of --fold-input; a word alone has no value. UserError for what is not known."""
    found: dict[str, str] = {}
    for part in text.split(","):
        key, sign, value = part.strip().partition("=")
        known = key in KEYS if sign else key in ("transform", "darknet")
        if not known or key in found or (sign and not value):
            raise UserError(
                f"{part!r} is {'given twice' if key in found else 'not understood'}",
                f"--fold-input {text}",
                "write transform, darknet, or scale=0.017,mean=103.94/116.78/123.68,order=bgr,feed=rgb",
            )
        found[key] = value
    return found


def asked(text: str, net: Net) -> Normalization:
    """What --fold-input asks for; `transform` takes it from the layer that feeds the net."""
    where = f"--fold-input {text}"
    options = read_options(text)
    start = Normalization()
    if "transform" in options and "darknet" in options:
        raise UserError("transform and darknet are two answers", where, "choose one")
    if "transform" in options:
        start = _of_transform(net, options.get("input", ""), where)
    if "darknet" in options:
        start = Normalization(scale=(1 / 255,), order="RGB", feed="RGB")
    found = _with(start, options, where)
    if found.feed and not found.order:
        raise UserError("says what is fed, and not what the net takes", where, "add order=rgb or order=bgr")
    return found if found.blob else found._replace(blob=_only_input(net, where))


def _with(start: Normalization, options: Mapping[str, str], where: str) -> Normalization:
    changes: dict[str, Any] = {}
    for key in ("scale", "mean"):
        if key in options:
            changes[key] = _numbers(key, options[key], where)
    for key in ("order", "feed"):
        if key in options:
            changes[key] = options[key].upper()
            if changes[key] not in ORDERS:
                raise UserError(f"{key}={options[key]} is no order of channels", where, "write rgb or bgr")
    if "border" in options:
        changes["border"] = options["border"]
        if changes["border"] != "inexact":
            text = f"border={options['border']} is not known"
            raise UserError(text, where, "write border=inexact, or nothing")
    if "input" in options:
        changes["blob"] = options["input"]
    found = start._replace(**changes)
    if len({len(found.scale), len(found.mean), 1}) > 2:
        counts = f"{len(found.scale)} scales and {len(found.mean)} means"
        raise UserError(counts, where, "give as many of both, or one")
    return found


def _numbers(key: str, text: str, where: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split("/"))
    except ValueError:
        values = (math.nan,)
    if not all(map(math.isfinite, values)) or (key == "scale" and 0 in values):
        raise UserError(
            f"{key}={text} is no list of {'numbers but 0' if key == 'scale' else 'numbers'}",
            where,
            f"write {key}={'0.017' if key == 'scale' else '104/117/123'}",
        )
    return values


def _only_input(net: Net, where: str) -> str:
    inputs = _fed(net)
    if len(inputs) != 1:
        raise UserError(
            f"the net has {len(inputs)} inputs: {', '.join(inputs) or 'none'}", where, "say which: input=NAME"
        )
    return inputs[0]


def _fed(net: Net) -> Sequence[str]:
    """Inputs, and the pictures (first tops) of data layers."""
    data = [layer.tops[0] for layer in net.layers if layer.type in DATA and layer.tops]
    return [*net.inputs(), *(name for name in data if name not in net.inputs())]


def _of_transform(net: Net, blob: str, where: str) -> Normalization:
    """What the transform_param of a data layer says."""
    found: list[Layer] = [
        layer
        for layer in net.layers
        if layer.proto.HasField("transform_param") and layer.tops and blob in ("", layer.tops[0])
    ]
    if len(found) != 1:
        raise UserError(
            f"{len(found)} layers have a transform_param in the TEST phase",
            where,
            "write it out: scale=0.017,mean=103.94/116.78/123.68",
        )
    (layer,) = found
    transform = layer.proto.transform_param
    if transform.mean_file:
        raise UserError(
            f"layer {layer.name!r} has its mean in {transform.mean_file}, pixel by pixel",
            layer.origin,
            "write the mean of each channel out: mean=104/117/123",
        )
    return Normalization(layer.tops[0], (transform.scale,), tuple(transform.mean_value) or (0.0,))
