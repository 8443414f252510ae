"""Layers that the user's own code on the CPU computes, Custom and Proposal, in a proof.

No engine runs them, so that a proof takes what they compute as given: the source's value where the source
has a layer that can be run, and else, in both nets, noise of the shape that the layer declares. What
is before and behind them is proven; they themselves are not.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from nnie_prep.blob import Array
from nnie_prep.blob_map import Fate
from nnie_prep.net import Layer, Net
from nnie_prep.nnie_caffe_pb2 import LayerParameter

OWN_CODE = ("Custom", "Proposal")
UNPROVEN = "not proven: your own code on the CPU computes it"

_BOXES = 7  # of a Proposal, which declares no shape


def own_tops(net: Net) -> dict[str, Layer]:
    """What such layers write, as far as it is left as they wrote it."""
    last = net.last_writers()
    return {name: layer for name, layer in last.items() if layer.type in OWN_CODE}


def opened(net: Net, tops: Collection[str]) -> Net:
    """The net with inputs in the place of the layers that write these."""
    twin = net.copy()
    for layer in list(twin.layers):
        if layer.type in OWN_CODE and set(layer.tops) <= set(tops):
            twin.replace(layer, Layer(LayerParameter(name=layer.name, type="Input"), tops=list(layer.tops)))
    return twin


def taken_as_given(
    b: Net, fates: Mapping[str, Fate], values: Mapping[str, Array]
) -> tuple[dict[str, Array], dict[str, Fate]]:
    """The source's `values` of what the user's own code computes in B, by B's names, and the fates of the
    source's blobs, which say so."""
    tops = own_tops(b)
    of = {fate.blobs[0]: name for name, fate in fates.items() if len(fate.blobs) == 1}
    own = {top: values[of[top]] for top in tops if of.get(top) in values}
    return own, {**fates, **{of[top]: Fate((), UNPROVEN) for top in own}}


def told(own: Collection[str]) -> list[str]:
    """What a verdict says of them."""
    return [f"{', '.join(own)}: {UNPROVEN}; what is before and behind is compared"] if own else []


def invented(net: Net, shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, Array]:
    """Noise for the tops of all such layers: Custom's as it declares, boxes of (0, x1, y1, x2, y2) in pixels
    of the first input for a Proposal's."""
    random = np.random.default_rng(seed)
    found: dict[str, Array] = {}
    for name, layer in own_tops(net).items():
        place = layer.tops.index(name)
        if layer.type == "Custom" and place < len(layer.proto.custom_param.shape):
            found[name] = random.standard_normal(tuple(layer.proto.custom_param.shape[place].dim))
        elif layer.type == "Proposal" and len(shapes.get(net.inputs()[0], ())) == 4:
            height, width = shapes[net.inputs()[0]][2:]
            found[name] = boxes(random, _BOXES, height, width)
    return {name: value.astype(np.float32) for name, value in found.items()}


def boxes(random: np.random.Generator, count: int, height: float, width: float) -> Array:
    """Regions of image 0 as layers that pool them read them: (count, 5), (0, x1, y1, x2, y2) in pixels."""
    corners = np.sort(random.uniform(0, 1, (count, 2, 2)), axis=1) * (width - 1, height - 1)
    return np.concatenate([np.zeros((count, 1)), corners.reshape(count, 4)], axis=1).astype(np.float32)
