"""Replace Upsample, which is nearest neighbour, by a deconvolution that stock Caffe has.

    before:  Upsample { scale: 2 }
    after:   Deconvolution { kernel_size: 2 stride: 2 group: C }, all ones

Declined where it is not known how many channels the layer reads.
"""

from __future__ import annotations

from nnie_prep import params
from nnie_prep.blob_map import Note
from nnie_prep.composites import Add, enlarged
from nnie_prep.net import Layer, Net
from nnie_prep.passes.replacement import replace_layer
from nnie_prep.shapes import Shape, known_shapes


def replace_upsample(net: Net) -> list[Note]:
    """Replaces each Upsample."""
    found = [layer for layer in net.layers if layer.type == "Upsample"]
    shapes = known_shapes(net) if found else {}
    return [_replaced(net, layer, shapes.get(layer.bottoms[0])) for layer in found]


def _replaced(net: Net, layer: Layer, shape: Shape | None) -> Note:
    factors = params.upsample(layer)
    if shape is None:
        reason = f"the channels of {layer.bottoms[0]} are not known"
        return Note(layer.name, f"Upsample not replaced: {reason}", changed=False)
    channels = shape[1]

    def form(add: Add, blob: str) -> str:
        return enlarged(add, "", blob, channels, factors)

    replace_layer(net, layer, form)
    return Note(layer.name, "Upsample replaced by Deconvolution")
