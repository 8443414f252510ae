"""Replace PassThrough, which turns blocks of pixels into channels, by a convolution with a one-hot kernel.

    before:  x -> PassThrough -> y        after:  x -> Convolution { kernel_size: 2 stride: 2 } -> y

Declined where it is not known how many channels the layer reads.
"""

from __future__ import annotations

from nnie_prep import params
from nnie_prep.blob_map import Note
from nnie_prep.composites import Add, space_to_depth
from nnie_prep.net import Layer, Net
from nnie_prep.passes.replacement import replace_layer
from nnie_prep.shapes import Shape, known_shapes


def replace_pass_through(net: Net) -> list[Note]:
    """Replaces each PassThrough."""
    found = [layer for layer in net.layers if layer.type == "PassThrough"]
    shapes = known_shapes(net) if found else {}
    return [_replaced(net, layer, shapes.get(layer.bottoms[0])) for layer in found]


def _replaced(net: Net, layer: Layer, shape: Shape | None) -> Note:
    block = params.pass_through(layer)
    if shape is None:
        reason = f"the channels of {layer.bottoms[0]} are not known"
        return Note(layer.name, f"PassThrough not replaced: {reason}", changed=False)
    channels = shape[1]

    def form(add: Add, blob: str) -> str:
        return space_to_depth(add, "", blob, channels, block)

    replace_layer(net, layer, form)
    return Note(layer.name, "PassThrough replaced by a Convolution that moves pixels")
