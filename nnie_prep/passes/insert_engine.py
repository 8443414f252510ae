"""Insert `engine: CAFFE` into every convolution with a kernel of 1 x 1.

    before:  kernel_size: 1        after:  kernel_size: 1 engine: CAFFE

A Caffe that was built with cuDNN then computes these layers itself. No value changes, so nothing is
declined; a net gets this only where it is asked for.
"""

from __future__ import annotations

from nnie_prep import params
from nnie_prep.blob_map import Note
from nnie_prep.net import Net
from nnie_prep.nnie_caffe_pb2 import ConvolutionParameter


def insert_engine(net: Net) -> list[Note]:
    """Lets Caffe's own code compute each 1 x 1 Convolution."""
    notes = []
    for layer in net.layers:
        if layer.type != "Convolution" or params.convolution(layer).kernel != (1, 1):
            continue
        param = layer.proto.convolution_param
        if param.engine != ConvolutionParameter.CAFFE:
            param.engine = ConvolutionParameter.CAFFE
            notes.append(Note(layer.name, "engine: CAFFE inserted"))
    return notes
