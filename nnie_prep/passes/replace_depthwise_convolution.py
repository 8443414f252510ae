"""Replace DepthwiseConv and its like by a Convolution with a group for each channel.

    before:  DepthwiseConv { } of 32 channels        after:  Convolution { group: 32 }

DepthwiseConv is NNIE's, ConvolutionDepthwise and DepthwiseConvolution are those of forks of Caffe.

Declined where it is not known how many channels the layer reads.
"""

from __future__ import annotations

from nnie_prep.blob_map import Note
from nnie_prep.net import Net
from nnie_prep.params import DEPTHWISE_TYPES
from nnie_prep.shapes import known_shapes


def replace_depthwise_convolution(net: Net) -> list[Note]:
    """Replaces each depthwise layer."""
    found = [layer for layer in net.layers if layer.type in DEPTHWISE_TYPES]
    shapes = known_shapes(net) if found else {}
    notes = []
    for layer in found:
        parameter, kind = layer.proto.convolution_param, layer.type
        shape = shapes.get(layer.bottoms[0])
        if shape is None:
            reason = f"the channels of {layer.bottoms[0]} are not known"
            notes.append(Note(layer.name, f"{kind} not replaced: {reason}", changed=False))
            continue
        layer.proto.type = "Convolution"
        parameter.group = shape[parameter.axis]
        notes.append(Note(layer.name, f"{kind} replaced by a Convolution in {parameter.group} groups"))
    return notes
