"""Replace deconvolutions that are nearest neighbour, two by two, by NNIE's Upsample.

    before:  Deconvolution { kernel_size: 2 stride: 2 group: C }, all ones
    after:   Upsample { scale: 2 }

A larger kernel whose padding takes off its zeros counts as well (kernel_size: 4 pad: 1), and so does one
without groups whose weights between different channels are 0. A bias of zeros goes.

Declined for other weights, and for weights that are not loaded; other deconvolutions are not looked at.
"""

from __future__ import annotations

import numpy as np

from nnie_prep import params
from nnie_prep.blob_map import Note
from nnie_prep.net import Layer, Net
from nnie_prep.nnie_caffe_pb2 import LayerParameter


def replace_deconvolution(net: Net) -> list[Note]:
    """Replaces each such Deconvolution."""
    notes = []
    for layer in net.layers:
        if layer.type != "Deconvolution" or not _doubles(layer):
            continue
        if reason := _why_not_nearest(layer):
            notes.append(Note(layer.name, f"not replaced by Upsample: {reason}", changed=False))
            continue
        layer.proto = LayerParameter(name=layer.name, type="Upsample", upsample_param={"scale": 2})
        layer.blobs = []
        notes.append(Note(layer.name, "Deconvolution that is nearest neighbour replaced by Upsample"))
    return notes


def _doubles(layer: Layer) -> bool:
    """Whether each channel becomes one of twice the size, or so it looks."""
    if len(layer.bottoms) != 1 or len(layer.tops) != 1 or layer.proto.convolution_param.axis != 1:
        return False
    window = params.convolution(layer)
    fits = all(kernel == 2 * pad + 2 for kernel, pad in zip(window.kernel, window.pad, strict=True))
    if layer.blobs:
        fits = fits and layer.blobs[0].shape[0] == window.num_output
    else:
        fits = fits and window.group == window.num_output
    return fits and window.stride == (2, 2) and window.dilation == (1, 1)


def _why_not_nearest(layer: Layer) -> str:
    window = params.convolution(layer)
    if not layer.blobs:
        return f"the weights of {layer.name} are not loaded"
    weights, *bias = (np.asarray(blob) for blob in layer.blobs)
    channels, each = window.num_output, window.num_output // window.group
    if weights.shape != (channels, each, *window.kernel):
        return f"its weights {weights.shape} do not fit its num_output {channels}"
    if any(values.any() for values in bias):
        return "it has a bias"
    expected = np.zeros_like(weights)
    pixel = expected[:, :, window.pad[0] : window.pad[0] + 2, window.pad[1] : window.pad[1] + 2]
    # Input channel i is the (i % each)th of its group.
    pixel[np.arange(channels), np.arange(channels) % each] = 1
    return "" if np.array_equal(weights, expected) else "its weights are not those of nearest neighbour"
