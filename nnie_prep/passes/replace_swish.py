"""Replace Swish by a product.

    before:  x -> Swish -> y        after:  x * Sigmoid(beta * x) -> y

Declined where it is in place on an input of the net, or on memory that others share.
"""

from __future__ import annotations

from functools import partial

from nnie_prep.blob_map import Note
from nnie_prep.composites import swish
from nnie_prep.net import Net
from nnie_prep.passes.replacement import replace_activation


def replace_swish(net: Net) -> list[Note]:
    """Replaces each Swish."""
    return [
        replace_activation(net, layer, partial(swish, beta=layer.proto.swish_param.beta), "leaky ReLU")
        for layer in list(net.layers)
        if layer.type == "Swish"
    ]
