"""Letting a convolution make some of its output channels only, or all of them in another order.

    before:  conv -> relu -> consumer -> y        after:  conv' -> relu -> y

Between the two may stand layers that treat each value by itself. The blobs between are not what they
were, and lose their names.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnie_prep.blob_map import Fate
from nnie_prep.net import Array, Blob, DeferredBlob, Layer, Net
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
        if before.type not in _EACH_VALUE or len(before.bottoms) != 1:
            break
        one = before
    conv = row[0]
    if conv.type != "Convolution" or len(conv.bottoms) != 1:
        return [], f"{conv.tops[0]} is written by {conv.name} ({conv.type})"
    parameter = conv.proto.convolution_param
    if parameter.group != 1 or parameter.axis != 1:
        return [], f"{conv.name} is in {parameter.group} groups, with its channels on axis {parameter.axis}"
    return ([], reason) if (reason := weights_problem(conv) or Sharing(net).text(conv)) else (row, "")


def choose_outputs(
    net: Net, row: Sequence[Layer], chosen: Sequence[int], top: str, why: str
) -> dict[str, Fate]:
    """Lets the first of the row, a convolution, make only these channels; the last writes `top`.

    Returns the fates of the row's blobs, whose names are given up: `why`.
    """
    conv = row[0]
    names = list(dict.fromkeys(one.tops[0] for one in row))
    new = {name: free_name(net, f"{top}-{name}") for name in names} | {row[-1].tops[0]: top}
    for one in row:
        if one is not conv:
            one.bottoms = [new[name] for name in one.bottoms]
        one.tops = [new[name] for name in one.tops]
    conv.proto.convolution_param.num_output = len(chosen)
    conv.blobs = [_taken(blob, chosen, place) for place, blob in enumerate(conv.blobs)]
    return {name: Fate((), why) for name in names}


def _taken(blob: Blob, chosen: Sequence[int], place: int) -> DeferredBlob:
    """Some entries along the first axis of the weights, or of the bias, which may have several axes."""

    def compute() -> Array:
        values = np.asarray(blob)
        taken: Array = values[list(chosen)] if place == 0 else values.reshape(-1)[list(chosen)]
        return taken

    return DeferredBlob((len(chosen), *(blob.shape[1:] if place == 0 else ())), compute)
