"""Replace convolutions with a group for each channel by NNIE's DepthwiseConv.

    before:  Convolution { group: 32 } of 32 channels        after:  DepthwiseConv { }

DepthwiseConv takes no group. The types of the forks, ConvolutionDepthwise and DepthwiseConvolution, become
DepthwiseConv too.

Declined where a channel makes several outputs, and where the channels are not on axis 1.
"""

from __future__ import annotations

from nnie_prep.blob_map import Note
from nnie_prep.net import Layer, Net
from nnie_prep.params import DEPTHWISE_TYPES
from nnie_prep.shapes import Shape, known_shapes

_TYPE = "DepthwiseConv"


def replace_grouped_convolution(net: Net) -> list[Note]:
    """Replaces each Convolution that is depthwise."""
    notes = []
    shapes = known_shapes(net) if any(_may_be_depthwise(layer) for layer in net.layers) else {}
    for layer in net.layers:
        if not _may_be_depthwise(layer):
            continue
        parameter, kind = layer.proto.convolution_param, layer.type
        channels = _channels(layer, shapes)
        if kind == "Convolution" and channels != parameter.group:
            continue
        reason = ""
        if parameter.axis != 1:
            reason = f"its channels are on axis {parameter.axis}"
        elif channels is not None and parameter.num_output != channels:
            reason = f"it makes {parameter.num_output} outputs of {channels} channels"
        if reason:
            notes.append(Note(layer.name, f"not replaced by {_TYPE}: {reason}", changed=False))
            continue
        layer.proto.type = _TYPE
        parameter.ClearField("group")
        notes.append(Note(layer.name, f"{kind} with a group for each channel replaced by {_TYPE}"))
    return notes


def _may_be_depthwise(layer: Layer) -> bool:
    group = layer.proto.convolution_param.group
    if layer.type == "Convolution":
        return group > 1
    return layer.type in DEPTHWISE_TYPES and (layer.type != _TYPE or group > 1)


def _channels(layer: Layer, shapes: dict[str, Shape]) -> int | None:
    """How many channels the layer reads, if it is known; a Convolution's weights know."""
    if layer.type == "Convolution" and layer.blobs and len(layer.blobs[0].shape) == 4:
        return layer.blobs[0].shape[1] * layer.proto.convolution_param.group
    shape = shapes.get(layer.bottoms[0])
    return shape[1] if shape is not None else None
