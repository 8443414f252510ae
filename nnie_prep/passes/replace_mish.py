"""Replace Mish by a product.

    before:  x -> Mish -> y        after:  x * TanH(BNLL(x)) -> y

Declined where it is in place on an input of the net, or on memory that others share.
"""

from __future__ import annotations

from nnie_prep.blob_map import Note
from nnie_prep.composites import mish
from nnie_prep.net import Net
from nnie_prep.passes.replacement import replace_activation


def replace_mish(net: Net) -> list[Note]:
    """Replaces each Mish."""
    return [
        replace_activation(net, layer, mish, "leaky ReLU")
        for layer in list(net.layers)
        if layer.type == "Mish"
    ]
