"""OpenCV as an independent reader of Caffe's files."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from nnie_prep.net import Net
from nnie_prep.nnie_caffe_pb2 import NetParameter


def opencv_forward(
    net: Net, data: NDArray[np.float32] | Mapping[str, NDArray[np.float32]]
) -> NDArray[np.float64]:
    """The net's one output, of its one input or of several by name."""
    message = NetParameter()
    message.CopyFrom(net.header)
    for layer in net.layers:
        proto = message.layer.add()
        proto.CopyFrom(layer.proto)
        proto.bottom.extend(layer.bottoms)
        proto.top.extend(layer.tops)
        for values in layer.blobs:
            blob = proto.blobs.add()
            blob.shape.dim.extend(values.shape)
            blob.data.extend(np.asarray(values).ravel().tolist())
    weights = message.SerializeToString()
    for proto in message.layer:
        del proto.blobs[:]
    reader = cv2.dnn.readNetFromCaffe(
        np.frombuffer(str(message).encode(), np.uint8), np.frombuffer(weights, np.uint8)
    )
    reader.enableFusion(False)
    if isinstance(data, Mapping):
        for name, values in data.items():
            reader.setInput(values, name)
    else:
        reader.setInput(data)
    return np.asarray(reader.forward(), dtype=np.float64)
