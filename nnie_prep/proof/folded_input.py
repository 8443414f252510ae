"""What a proof does where the result is fed with raw pictures, and the source with normalized ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from nnie_prep import params
from nnie_prep.blob import Array
from nnie_prep.blob_map import Fate
from nnie_prep.net import Layer, Net
from nnie_prep.normalization import Normalization
from nnie_prep.passes.fold_input import input_readers, spoiled_by
from nnie_prep.shapes.weights import CONVOLUTION_TYPES

_FORM = "pads with zeros where the mean was"


def account_for_input(b: Net, fates: Mapping[str, Fate], folded: Normalization) -> dict[str, Fate]:
    """The fates, without what lay in the input: its values have another meaning in B, under the same name."""
    writer = b.last_writers().get(folded.blob)
    if writer is not None and writer.type != "Input":
        return dict(fates)  # a layer in place makes of it what it made before
    readers = ", ".join(layer.name for layer in input_readers(b, folded.blob))
    raw = Fate((), f"fed raw: the rest is folded into {readers}")
    return {name: raw if fate.blobs == (folded.blob,) else fate for name, fate in fates.items()}


def spoiled(b: Net, fates: Mapping[str, Fate], folded: Normalization) -> dict[str, str]:
    """The blobs of A that B computes inexactly at the border, and how."""
    tops = {layer.tops[0] for layer in spoiled_by(input_readers(b, folded.blob), folded)}
    return {name: _FORM for name, fate in fates.items() if len(fate.blobs) == 1 and fate.blobs[0] in tops}


class Padded(NamedTuple):
    """A source that does not pad, and what it is fed with: pictures with a border."""

    net: Net
    feeds: dict[str, Array]


def pad_with_mean(a: Net, b: Net, feeds: Mapping[str, Array], source: str, folded: Normalization) -> Padded:
    """The source whose border is what raw zeros are in its own values, which is exactly what B computes.

    B has one reader of its input, a convolution. Passes may have given it another name and type.
    """
    (reader,) = input_readers(b, folded.blob)
    vertical, horizontal = params.convolution(reader).pad
    x = feeds[source]
    batch, channels, height, width = x.shape
    shift = folded.factors().over(channels).shift.astype(np.float32).reshape(-1, 1, 1)
    bordered = np.empty((batch, channels, height + 2 * vertical, width + 2 * horizontal), np.float32)
    bordered[:] = shift
    bordered[:, :, vertical : vertical + height, horizontal : horizontal + width] = x
    net = a.copy()
    layer = _first_convolution(net, source)
    for field in ("pad", "pad_h", "pad_w"):
        layer.proto.convolution_param.ClearField(field)
    return Padded(net, {**feeds, source: bordered})


def _first_convolution(net: Net, source: str) -> Layer:
    """What B's reader was made of: before it in A are layers that went into its weights, or did nothing."""
    found = input_readers(net, source)
    for layer in found:  # which grows
        if layer.type in CONVOLUTION_TYPES:
            break
        found += [reader for place in range(len(layer.tops)) for reader in net.readers(layer, place)]
    return layer
