"""Shapes of nets, and multiply-adds. Layer by layer, engines/test_numpy_engine.py compares with Caffe."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from google.protobuf import text_format
from layer_cases import DRAW

from nnie_prep.engines.numpy import forward_layer
from nnie_prep.errors import UserError
from nnie_prep.net import Layer, Net
from nnie_prep.nnie_caffe_pb2 import LayerParameter, NetParameter
from nnie_prep.shapes import blob_shapes, infer_shapes, multiply_adds, net_input_shapes, walk_shapes


def net(text: str) -> Net:
    """A net from prototxt text, without weights."""
    header = text_format.Parse(text, NetParameter())
    result = Net(source="net.prototxt")
    for number, proto in enumerate(header.layer):
        own = LayerParameter()
        own.CopyFrom(proto)
        del own.bottom[:], own.top[:]
        result.layers.append(Layer(own, list(proto.bottom), list(proto.top), origin=f"net.prototxt:{number}"))
    del header.layer[:]
    result.header = header
    return result


CONVOLUTION = """layer { name: "c" type: "Convolution" bottom: "data" top: "c"
    convolution_param { num_output: 4 kernel_size: 3 stride: 2 } }"""

HEADERS = {
    "input_shape": 'input: "data" input_shape { dim: 1 dim: 3 dim: 11 dim: 8 }',
    "input_dim": 'input: "data" input_dim: 1 input_dim: 3 input_dim: 11 input_dim: 8 ',
    "Input": """layer { name: "d" type: "Input" top: "data"
        input_param { shape { dim: 1 dim: 3 dim: 11 dim: 8 } } }""",
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS.keys())
def test_input_shapes(header: str) -> None:
    found = net(header + CONVOLUTION)
    assert net_input_shapes(found) == {"data": (1, 3, 11, 8)}
    assert infer_shapes(found) == {"data": (1, 3, 11, 8), "c": (1, 4, 5, 3)}
    assert infer_shapes(found, {"data": (2, 3, 5, 5)}) == {"data": (2, 3, 5, 5), "c": (2, 4, 2, 2)}


def test_several_inputs() -> None:
    two = """input: "a" input: "b" input_dim: 1 input_dim: 2 input_dim: 3 input_dim: 4
        input_dim: 5 input_dim: 6 input_dim: 7 input_dim: 8"""
    assert net_input_shapes(net(two)) == {"a": (1, 2, 3, 4), "b": (5, 6, 7, 8)}
    one_for_all = 'layer { type: "Input" top: "a" top: "b" input_param { shape { dim: 3 dim: 4 } } }'
    assert net_input_shapes(net(one_for_all)) == {"a": (3, 4), "b": (3, 4)}
    each = one_for_all.replace("shape { dim: 3 dim: 4 }", "shape { dim: 3 } shape { dim: 4 dim: 5 }")
    assert net_input_shapes(net(each)) == {"a": (3,), "b": (4, 5)}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('input: "data"', "the shape of input 'data' is not declared"),
        ('layer { type: "Input" top: "data" }', "the shape of input 'data' is not declared"),
        ('input: "data" input_dim: 1 input_dim: 3', "2 input_dim for 1 input"),
        ('input: "data" input: "b" input_shape { dim: 1 }', "1 input_shape for 2 input"),
        ('input: "data" input_shape { dim: 1 dim: 0 }', "impossible shape (1, 0)"),
        ('input: "data" input_shape { dim: 60000 dim: 60000 }', "impossible shape"),
        ('layer { type: "Input" top: "data" input_param { shape { dim: -1 } } }', "would have shape (-1,)"),
        (
            'input: "i" input_shape { dim: 1 } '
            'layer { type: "Custom" bottom: "i" top: "c" custom_param { shape { dim: 2 dim: -1 } } }',
            "its top 'c' would have shape (2, -1)",
        ),
    ],
)
def test_bad_inputs(text: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        infer_shapes(net(text))
    assert words in str(caught.value) and caught.value.where.startswith("net.prototxt")


def test_unknown_layers_and_what_depends_on_them_are_left_out() -> None:
    found = net(
        HEADERS["input_shape"]
        + CONVOLUTION
        + """
        layer { name: "u" type: "Unheard" bottom: "c" top: "u" }
        layer { name: "r" type: "ReLU" bottom: "u" top: "r" }
        layer { name: "in place" type: "Unheard" bottom: "c" top: "c" }
        layer { name: "t" type: "ReLU" bottom: "c" top: "t" }
        layer { name: "s" type: "ReLU" bottom: "data" top: "s" }"""
    )
    assert infer_shapes(found) == {"data": (1, 3, 11, 8), "s": (1, 3, 11, 8)}
    walked = {layer.name: (bottoms, tops) for layer, bottoms, tops in walk_shapes(found)}
    assert walked["u"] == ([(1, 4, 5, 3)], None)
    assert walked["r"] == walked["t"] == (None, None)
    assert walked["s"] == ([(1, 3, 11, 8)], [(1, 3, 11, 8)])


def test_data_layers_are_inputs_where_their_shape_is_given() -> None:
    found = net('layer { type: "ImageData" top: "data" top: "label" }' + CONVOLUTION)
    assert infer_shapes(found) == {}
    assert infer_shapes(found, {"data": (1, 3, 9, 9), "label": (1,)})["c"] == (1, 4, 4, 4)


def test_the_last_writer_counts() -> None:
    found = net(
        HEADERS["input_shape"]
        + 'layer { type: "Flatten" bottom: "data" top: "f" }'
        + 'layer { type: "Concat" bottom: "f" top: "f" }'
        + 'layer { type: "ReLU" bottom: "data" top: "data" }'
    )
    assert infer_shapes(found) == {"data": (1, 3, 11, 8), "f": (1, 264)}


@pytest.mark.parametrize(
    "layer_type", ["Convolution", "Deconvolution", "DepthwiseConv", "InnerProduct", "ReLU"]
)
def test_multiply_adds_are_the_products_of_ones(layer_type: str) -> None:
    """With ones in bottoms and weights and no padding, every product adds 1 to the sum of the tops."""
    chance = Random(layer_type)
    count = 0
    while count < 40:
        case = DRAW[layer_type](chance)
        proto = LayerParameter(name="n", type=layer_type)
        text_format.Merge(case.parameters, proto)
        proto.inner_product_param.bias_term = proto.convolution_param.bias_term = False
        window = proto.convolution_param
        if any(window.pad) or window.pad_h or window.pad_w:
            continue
        layer = Layer(proto, ["in"] * len(case.bottoms), [f"out{index}" for index in range(case.tops)])
        layer.blobs = [np.ones(shape, dtype=np.float32) for shape in blob_shapes(layer, case.bottoms)]
        tops = forward_layer(layer, [np.ones(shape, dtype=np.float64) for shape in case.bottoms])
        products = 0 if layer_type == "ReLU" else sum(top.sum() for top in tops)
        counted = multiply_adds(layer, case.bottoms, [top.shape for top in tops])
        if layer_type != "Deconvolution" and layer_type != "InnerProduct" and products != counted:
            # The kernel reaches beyond the bottom, by less than its stride.
            assert products < counted and min(tops[0].shape[-2:]) == 1
        else:
            assert counted == products, f"{proto} on {case.bottoms}"
        count += 1


def test_multiply_adds_are_half_of_what_darknet_prints() -> None:
    """Darknet's table says 1.595 BFLOPs for layer 12 of yolov3-tiny.cfg."""
    text = CONVOLUTION.replace(
        "num_output: 4 kernel_size: 3 stride: 2", "num_output: 1024 kernel_size: 3 pad: 1"
    )
    found = net('input: "data" input_shape { dim: 1 dim: 512 dim: 13 dim: 13 }' + text)
    ((layer, bottoms, tops),) = walk_shapes(found)
    assert bottoms is not None and tops is not None
    assert round(2 * multiply_adds(layer, bottoms, tops) / 1e9, 3) == 1.595
