"""Letting a convolution make some of its output channels only, or all of them in another order.

    before:  conv -> relu -> consumer -> y        after:  conv' -> relu -> y

Between the two may stand layers that treat each value, or each channel, by itself. The blobs between are
not what they were, and lose their names.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnie_prep import params
from nnie_prep.blob import Blob, DeferredBlob
from nnie_prep.blob_map import Fate
from nnie_prep.memory import why_not_joined
from nnie_prep.net import Layer, Net
from nnie_prep.passes.folding import weights_problem
from nnie_prep.passes.replacement import free_name
from nnie_prep.passes.sharing import Sharing

# Layers without weights that compute y = f(x) for each value.
_EACH_VALUE = (
    *("AbsVal", "BNLL", "Clip", "Dropout", "ELU", "Exp", "Log", "Mish", "Power", "ReLU", "ReLU6"),
    *("Sigmoid", "Swish", "TanH", "Threshold"),
)


def producer(net: Net, consumer: Layer) -> tuple[list[Layer], str]:
    """The convolution whose outputs the consumer reads first, and what stands between: ([conv, ..], "").

    Or ([], why its outputs cannot be chosen).
    """
    row: list[Layer] = []
    one = consumer
    while True:
        before = net.writer(one)
        if before is None or not before.bottoms:
            return [], f"{one.bottoms[0]} is an input of the net"
        only, reason = net.only_reader(before)
        if only is not one:
            return [], reason
        row.insert(0, before)
        if len(before.bottoms) != 1 or not (before.type in _EACH_VALUE or _is_by_channel(before)):
            break
        one = before
    conv = row[0]
    if conv.type != "Convolution" or len(conv.bottoms) != 1:
        return [], f"{conv.tops[0]} is written by {conv.name} ({conv.type})"
    sharing = Sharing(net)
    reason = form_problem(conv) or weights_problem(conv) or next(filter(None, map(sharing.text, row)), "")
    reason = reason or why_not_joined(net, (row[-1], consumer))
    return ([], reason) if reason else (row, "")


def choose_outputs(
    net: Net, row: Sequence[Layer], consumer: Layer, chosen: Sequence[int], top: str, why: str
) -> dict[str, Fate]:
    """Lets the first of the row, a convolution, make only these channels; the last writes `top`, in the
    consumer's place where the order of the net's outputs would change.

    Removes the consumer. Returns the fates of the row's blobs, whose names are given up: `why`.
    """
    conv, last = row[0], row[-1]
    if net.overtakes_output(last, consumer):
        net.remove(last)
        net.replace(consumer, last)
    else:
        net.remove(consumer)
    names = list(dict.fromkeys(one.tops[0] for one in row))
    new = {name: free_name(net, f"{top}-{name}") for name in names} | {row[-1].tops[0]: top}
    for one in row:
        if one is not conv:
            one.bottoms = [new[name] for name in one.bottoms]
        one.tops = [new[name] for name in one.tops]
    channels = conv.proto.convolution_param.num_output
    conv.proto.convolution_param.num_output = len(chosen)
    conv.blobs = [_taken(conv.blobs[0], chosen), *(_taken_values(blob, chosen) for blob in conv.blobs[1:])]
    for one in row[1:]:
        # The one slope of a PReLU for all channels is no vector, however many channels there are.
        one.blobs = [
            _taken_values(blob, chosen) if blob.shape and blob.size == channels else blob
            for blob in one.blobs
        ]
    return {name: Fate((), why) for name in names}


def form_problem(conv: Layer) -> str:
    """Why the channels of a Convolution cannot be told apart by the first axes of its weights, or ""."""
    parameter = conv.proto.convolution_param
    if parameter.group != 1:
        return f"{conv.name} is in {parameter.group} groups"
    return f"the channels of {conv.name} are on axis {parameter.axis}" if parameter.axis != 1 else ""


def _is_by_channel(layer: Layer) -> bool:
    """Whether the layer treats each channel by itself, with a weight for each, or one for all."""
    if layer.type in ("Scale", "Bias"):
        parameter = params.scale(layer)
        return bool(layer.blobs) and parameter.axis == parameter.num_axes == 1
    return layer.type in ("BatchNorm", "PReLU") and bool(layer.blobs)


def _taken(weights: Blob, chosen: Sequence[int]) -> DeferredBlob:
    """Some filters; the first axis of the weights is that of the outputs."""
    return DeferredBlob((len(chosen), *weights.shape[1:]), lambda: np.asarray(weights)[list(chosen)])


def _taken_values(values: Blob, chosen: Sequence[int]) -> DeferredBlob:
    """Some of a vector's values, which may have several axes in old files."""
    return DeferredBlob((len(chosen),), lambda: np.asarray(values).reshape(-1)[list(chosen)])
