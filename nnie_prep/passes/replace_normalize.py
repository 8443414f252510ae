"""Replace SSD's Normalize by layers that stock Caffe has.

    before:  x -> Normalize -> y        after:  x * (eps + sum of x^2 over the channels) ^ -1/2 -> Scale -> y

The sum is a 1x1 convolution of ones. Declined for across_spatial: true, which sums over the whole picture,
where it is not known how many channels the layer reads, and for weights that are not loaded.
"""

from __future__ import annotations

import numpy as np

from nnie_prep import kernels
from nnie_prep.blob_map import Note
from nnie_prep.composites import Add, scaled_by_squares
from nnie_prep.net import Layer, Net
from nnie_prep.passes.replacement import replace_layer
from nnie_prep.shapes import Shape, known_shapes


def replace_normalize(net: Net) -> list[Note]:
    """Replaces each Normalize."""
    found = [layer for layer in net.layers if layer.type == "Normalize"]
    shapes = known_shapes(net) if found else {}
    return [_replaced(net, layer, shapes.get(layer.bottoms[0])) for layer in found]


def _replaced(net: Net, layer: Layer, shape: Shape | None) -> Note:
    parameter = layer.proto.norm_param
    reason = ""
    if parameter.across_spatial:
        reason = "it sums over the whole picture (across_spatial)"
    elif shape is None or len(shape) != 4:
        reason = f"the channels of {layer.bottoms[0]} are not known"
    elif not layer.blobs:
        reason = f"the weights of {layer.name} are not loaded"
    if not reason and shape is not None:
        channels, eps = shape[1], parameter.eps
        factors = np.asarray(layer.blobs[0])

        def form(add: Add, blob: str) -> str:
            ones = kernels.filled((channels, channels, 1, 1), 1.0)
            product = scaled_by_squares(add, blob, ones, eps, -0.5)
            scale = np.broadcast_to(factors.reshape(-1), (channels,))
            return add("Scale", "scale", product, in_place=True, blobs=[scale])

        _, reason = replace_layer(net, layer, form)
    if reason:
        return Note(layer.name, f"Normalize not replaced: {reason}", changed=False)
    return Note(layer.name, "Normalize replaced by Power, Convolution, Power, Eltwise and Scale")
