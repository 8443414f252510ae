"""Replace ShuffleChannel by a 1x1 convolution with one-hot weights.

    before:  x -> ShuffleChannel -> y        after:  x -> Convolution -> y

Declined where it is not known how many channels the layer reads, and for channels of vectors: a
convolution takes pictures.
"""

from __future__ import annotations

from nnie_prep.blob_map import Note
from nnie_prep.composites import Add, selected
from nnie_prep.net import Layer, Net
from nnie_prep.passes.replacement import replace_layer
from nnie_prep.shapes import Shape, known_shapes


def replace_shuffle_channel(net: Net) -> list[Note]:
    """Replaces each ShuffleChannel."""
    found = [layer for layer in net.layers if layer.type == "ShuffleChannel"]
    shapes = known_shapes(net) if found else {}
    return [_replaced(net, layer, shapes.get(layer.bottoms[0])) for layer in found]


def shuffled(channels: int, group: int) -> list[int]:
    """For each channel behind a ShuffleChannel the one before: g*(C/group) + c becomes c*group + g."""
    return [place % group * (channels // group) + place // group for place in range(channels)]


def _replaced(net: Net, layer: Layer, shape: Shape | None) -> Note:
    reason = f"the channels of {layer.bottoms[0]} are not known"
    if shape is None or len(shape) != 4:
        reason = f"{layer.bottoms[0]} of {'x'.join(map(str, shape))} is no picture" if shape else reason
        return Note(layer.name, f"ShuffleChannel not replaced: {reason}", changed=False)
    channels = shape[1]
    order = shuffled(channels, layer.proto.shuffle_channel_param.group)

    def form(add: Add, blob: str) -> str:
        return selected(add, "", blob, channels, order)

    _, reason = replace_layer(net, layer, form)
    if reason:
        return Note(layer.name, f"ShuffleChannel not replaced: {reason}", changed=False)
    return Note(layer.name, "ShuffleChannel replaced by a 1x1 Convolution")
