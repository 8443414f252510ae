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
from nnie_prep.passes.replacement import replace_by_channels


def replace_upsample(net: Net) -> list[Note]:
    """Replaces each Upsample."""
    return replace_by_channels(net, "Upsample", _form, "Deconvolution")


def _form(layer: Layer, channels: int, add: Add, blob: str) -> str:
    return enlarged(add, "", blob, channels, params.upsample(layer))
