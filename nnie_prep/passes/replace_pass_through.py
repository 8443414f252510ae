"""Replace PassThrough, which turns blocks of pixels into channels, by a convolution with a one-hot kernel.

    before:  x -> PassThrough -> y        after:  x -> Convolution { kernel_size: 2 stride: 2 } -> y

Declined where it is not known how many channels the layer reads.
"""

from __future__ import annotations

from nnie_prep import params
from nnie_prep.blob_map import Note
from nnie_prep.composites import Add, space_to_depth
from nnie_prep.net import Layer, Net
from nnie_prep.passes.replacement import replace_by_channels


def replace_pass_through(net: Net) -> list[Note]:
    """Replaces each PassThrough."""
    return replace_by_channels(net, "PassThrough", _form, "a Convolution that moves pixels")


def _form(layer: Layer, channels: int, add: Add, blob: str) -> str:
    return space_to_depth(add, "", blob, channels, params.pass_through(layer))
