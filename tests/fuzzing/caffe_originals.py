"""The Caffe pairs that are going to be damaged.

Nets of tests/data/passes, nets drawn from motifs, single layers of every type, converted Darknet networks,
and one net in each of Caffe's older formats.
"""

from __future__ import annotations

import functools
import io
from pathlib import Path
from random import Random

import golden
import numpy as np
from cli_cases import write_caffe
from darknet_drafts import drawn
from google.protobuf import text_format
from layer_cases import DRAW
from strategies import MOTIFS, random_net

from nnie_prep.caffe_io import format_prototxt, write_caffemodel
from nnie_prep.darknet import convert
from nnie_prep.net import Layer, Net
from nnie_prep.nnie_caffe_pb2 import (
    BlobProto,
    LayerParameter,
    NetParameter,
    V0LayerParameter,
    V1LayerParameter,
)
from nnie_prep.shapes import blob_shapes, walk_shapes

_V1 = """\
name: "first"
input: "data"
input_dim: 1 input_dim: 3 input_dim: 9 input_dim: 7
layers { name: "conv" type: CONVOLUTION bottom: "data" top: "conv" blobs_lr: 1 blobs_lr: 2 weight_decay: 1
         convolution_param { num_output: 4 kernel_size: 3 pad: 1 } }
layers { name: "relu" type: RELU bottom: "conv" top: "conv" }
layers { name: "pool" type: POOLING bottom: "conv" top: "pool" pooling_param { pool: MAX kernel_size: 2 } }
layers { name: "fc" type: INNER_PRODUCT bottom: "pool" top: "fc" inner_product_param { num_output: 5 } }
layers { name: "prob" type: SOFTMAX bottom: "fc" top: "prob" include { phase: TEST } }
layers { name: "loss" type: SOFTMAX_LOSS bottom: "fc" bottom: "data" top: "loss" include { phase: TRAIN } }
"""
_V0 = """\
name: "zeroth"
input: "data"
input_dim: 1 input_dim: 3 input_dim: 9 input_dim: 7
layers { layer { name: "pad" type: "padding" pad: 1 } bottom: "data" top: "padded" }
layers { layer { name: "conv" type: "conv" num_output: 4 kernelsize: 3 blobs_lr: 1 blobs_lr: 2 }
         bottom: "padded" top: "conv" }
layers { layer { name: "relu" type: "relu" } bottom: "conv" top: "conv" }
layers { layer { name: "pool" type: "pool" pool: MAX kernelsize: 2 stride: 2 } bottom: "conv" top: "pool" }
layers { layer { name: "fc" type: "innerproduct" num_output: 5 } bottom: "pool" top: "fc" }
layers { layer { name: "prob" type: "softmax" } bottom: "fc" top: "prob" }
"""


def original(r: Random, folder: Path) -> tuple[bytes, bytes, None]:
    """prototxt and caffemodel; there is nothing more to know."""
    kind = r.choice(
        ["golden", "golden", "drawn", "drawn", "layer", "layer", "darknet", "old", "command line"]
    )
    if kind == "command line":
        prototxt, caffemodel = write_caffe(folder, seed=r.randrange(100))
        return prototxt.read_bytes(), caffemodel.read_bytes(), None
    if kind == "old":
        return (*_old(r), None)
    if kind == "golden":
        net = golden.read(r.choice(_goldens())).drawn.net
    elif kind == "drawn":
        net = random_net([r.choice(MOTIFS) for _ in range(r.randint(1, 5))], r.randrange(10**6)).net
    elif kind == "layer":
        net = _layers(r)
    else:
        flavor = r.choice(["alexeyab", "pjreddie"])
        cfg, weights = drawn(r.randrange(10**6), flavor).write(folder)
        net = convert(cfg, weights, flavor=flavor, target=r.choice(["nnie", "caffe"])).net
    stored = io.BytesIO()
    write_caffemodel(net, stored)
    return _text(net, r), _respelt(stored.getvalue(), r), None


@functools.cache
def _goldens() -> list[Path]:
    return sorted(golden.FOLDER.glob("*/*.prototxt"))


def _text(net: Net, r: Random) -> bytes:
    """Sometimes with the blobs spelt out, as nobody does."""
    text = format_prototxt(net)
    if r.random() < 0.1:
        message = text_format.Parse(text, NetParameter())
        for proto, layer in zip(message.layer, net.layers, strict=True):
            proto.blobs.extend(_blob(np.asarray(blob)) for blob in layer.blobs if blob.size < 2000)
        text = text_format.MessageToString(message)
    return text.encode()


def _blob(values: np.ndarray) -> BlobProto:
    blob = BlobProto(data=values.ravel().tolist())
    blob.shape.dim.extend(values.shape)
    return blob


def _respelt(data: bytes, r: Random) -> bytes:
    """The same weights in another of the encodings that readers know."""
    if r.random() < 0.7:
        return data
    net = NetParameter.FromString(data)
    for layer in net.layer:
        for blob in layer.blobs:
            if r.random() < 0.3 and len(blob.shape.dim) <= 4:
                extents = [1] * (4 - len(blob.shape.dim)) + list(blob.shape.dim)
                blob.num, blob.channels, blob.height, blob.width = extents
                blob.ClearField("shape")
            if r.random() < 0.2:
                blob.double_data.extend(blob.data)
                blob.ClearField("data")
    return net.SerializeToString()


def _layers(r: Random) -> Net:
    """One layer of any type, with weights."""
    kind = r.choice(sorted(DRAW))
    case = DRAW[kind](r)
    net = Net()
    bottoms = [f"x{number}" for number in range(len(case.bottoms))]
    for name, shape in zip(bottoms, case.bottoms, strict=True):
        net.header.input.append(name)
        net.header.input_shape.add().dim.extend(shape)
    proto = text_format.Parse(case.parameters, LayerParameter(name="layer", type=kind))
    tops = [bottoms[0]] if case.in_place else [f"y{number}" for number in range(case.tops)]
    net.layers.append(Layer(proto, bottoms, tops, origin="drawn:1"))
    random = np.random.default_rng(r.randrange(2**32))
    for layer, known, _ in walk_shapes(net):
        shapes = blob_shapes(layer, known or [])
        layer.blobs = [random.uniform(0.2, 2, shape).astype(np.float32) for shape in shapes]
    return net


def _old(r: Random) -> tuple[bytes, bytes]:
    """A pair in the format of 2014 or of 2013."""
    random = np.random.default_rng(r.randrange(2**32))
    net = NetParameter(name="old")
    zeroth = r.random() < 0.5
    for name, shapes in (("conv", ((4, 3, 3, 3), (1, 1, 1, 4))), ("fc", ((1, 1, 5, 48), (1, 1, 1, 5)))):
        blobs = []
        for shape in shapes:
            num, channels, height, width = shape
            data = random.standard_normal(shape).ravel().tolist()
            blobs.append(BlobProto(num=num, channels=channels, height=height, width=width, data=data))
        if zeroth:
            net.layers.append(V1LayerParameter(layer=V0LayerParameter(name=name, blobs=blobs)))
        else:
            net.layers.append(V1LayerParameter(name=name, blobs=blobs))
    return (_V0 if zeroth else _V1).encode(), net.SerializeToString()
