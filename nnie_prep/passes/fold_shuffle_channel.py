"""Fold ShuffleChannel into the convolution before it, or behind it.

    before:  conv -> relu -> ShuffleChannel -> y        after:  conv' -> relu -> y
    before:  x -> ShuffleChannel -> conv -> y           after:  x -> conv' -> y

The filters, or the input channels of the weights, change places. For a Convolution in one group, of any
kernel. Declined where anything else reads what is between or it is an output of the net, for weights that
are shared or not loaded, and for other layers: then replace_shuffle_channel takes it.
"""

from __future__ import annotations

import numpy as np

from nnie_prep.blob import Array, DeferredBlob
from nnie_prep.blob_map import Fate, Note
from nnie_prep.memory import why_memory_matters
from nnie_prep.net import Layer, Net
from nnie_prep.passes.folding import weights_problem
from nnie_prep.passes.output_channels import choose_outputs, form_problem, producer
from nnie_prep.passes.replace_shuffle_channel import shuffled
from nnie_prep.passes.sharing import Sharing


def fold_shuffle_channel(net: Net) -> list[Note]:
    """Folds each ShuffleChannel."""
    return [_folded(net, layer) for layer in list(net.layers) if layer.type == "ShuffleChannel"]


def _folded(net: Net, layer: Layer) -> Note:
    group = layer.proto.shuffle_channel_param.group
    row, why_not_before = producer(net, layer)
    if row and row[0].proto.convolution_param.num_output % group == 0:
        order = shuffled(row[0].proto.convolution_param.num_output, group)
        fates = choose_outputs(net, row, layer, order, layer.tops[0], f"shuffled by {row[0].name} itself")
        return Note(layer.name, f"folded into {row[0].name}, whose filters changed places", fates=fates)
    conv, why_not_behind = net.only_reader(layer)
    why_not_behind = why_not_behind or _why_not_into(net, conv) or why_memory_matters(net, layer)
    if conv is None or why_not_behind:
        return Note(layer.name, f"not folded: {why_not_before}; {why_not_behind}", changed=False)
    weights = conv.blobs[0]
    order = shuffled(weights.shape[1], group)

    def compute() -> Array:
        values = np.asarray(weights)
        moved: Array = np.empty_like(values)
        moved[:, order] = values
        return moved

    conv.blobs = [DeferredBlob(weights.shape, compute), *conv.blobs[1:]]
    conv.bottoms = [layer.bottoms[0]]
    net.remove(layer)
    fates = {layer.tops[0]: Fate((), f"folded into {conv.name}")}
    return Note(layer.name, f"folded into {conv.name}, whose weights changed places", fates=fates)


def _why_not_into(net: Net, conv: Layer | None) -> str:
    if conv is None or conv.type != "Convolution" or len(conv.bottoms) != 1:
        return f"{conv.name} ({conv.type}) behind it is no Convolution of one bottom" if conv else ""
    return form_problem(conv) or weights_problem(conv) or Sharing(net).text(conv)
