"""The shapes of a layer's blobs, its weights, and the multiplications that they cost."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nnie_prep import params
from nnie_prep.net import Layer
from nnie_prep.params import canonical_axis
from nnie_prep.shapes.checks import Shape
from nnie_prep.shapes.tops import coefficient_shape
from nnie_prep.shapes.windows import convolution_on

CONVOLUTION_TYPES = ("Convolution", "Deconvolution", *params.DEPTHWISE_TYPES)
WEIGHTED = (*CONVOLUTION_TYPES, "InnerProduct")  # with num_output, weights and perhaps a bias
LEARNED = (*WEIGHTED, "BatchNorm", "Embed", "LSTM", "PReLU", "RNN")  # whose weights are learned


def blob_shapes(layer: Layer, bottom_shapes: Sequence[Shape]) -> list[Shape]:
    """The shapes that the layer's blobs must have; [] for types without weights.

    Convolution (out, in/group, kh, kw), Deconvolution (in, out/group, kh, kw), InnerProduct
    (out, in) or transposed (in, out), Embed (words, out), each with a bias (out,) if it has one;
    BatchNorm mean (C,), variance (C,), scale factor (1,), and NVCaffe's scale (C,), bias (C,); Scale its
    coefficients and their bias;
    Bias, PReLU (C,) or (), Normalize (C,) or ().
    """
    bottoms = [tuple(shape) for shape in bottom_shapes]
    if layer.type in CONVOLUTION_TYPES:
        return _convolution(layer, bottoms[0])
    if layer.type == "InnerProduct":
        product = params.inner_product(layer)
        inputs = math.prod(bottoms[0][canonical_axis(layer, product.axis, bottoms[0]) :])
        weights = (inputs, product.num_output) if product.transpose else (product.num_output, inputs)
        return [weights] + [(product.num_output,)] * product.bias
    if layer.type == "Embed":
        parameter = layer.proto.embed_param
        return [(parameter.input_dim, parameter.num_output)] + [(parameter.num_output,)] * parameter.bias_term
    if layer.type == "BatchNorm":
        channels: Shape = (bottoms[0][1],)
        return [channels, channels, (1,)] + [channels] * (2 * params.batch_norm(layer).scale_bias)
    if layer.type in ("Scale", "Bias"):
        _, coefficients = coefficient_shape(layer, bottoms)
        own = layer.type == "Scale" and len(bottoms) == 1
        own_bias = params.scale(layer).bias and not (layer.type == "Bias" and len(bottoms) == 2)
        return [coefficients] * (own + own_bias)
    if layer.type == "PReLU":
        return [() if layer.proto.prelu_param.channel_shared else (bottoms[0][1],)]
    if layer.type == "Normalize":
        return [() if layer.proto.norm_param.channel_shared else (bottoms[0][1],)]
    if layer.type == "Parameter":
        return [tuple(layer.proto.parameter_param.shape.dim)]
    return []


def _convolution(layer: Layer, bottom: Shape) -> list[Shape]:
    window, axis = convolution_on(layer, bottom)
    first, second = window.num_output, bottom[axis]
    if window.is_deconvolution:
        first, second = second, first
    return [(first, second // window.group, *window.kernel)] + [(window.num_output,)] * window.bias


def multiply_adds(layer: Layer, bottom_shapes: Sequence[Shape], top_shapes: Sequence[Shape]) -> int:
    """Multiplications with weights in one forward pass; each comes with an addition.

    Counted are Convolution, Deconvolution, the depthwise types and InnerProduct, without their
    biases and including those with padding, and 0 for all other types.
    """
    if layer.type in CONVOLUTION_TYPES:
        weights = _convolution(layer, tuple(bottom_shapes[0]))[0]
        # Every weight is used once at each place of the top, or of the bottom for Deconvolution.
        places = bottom_shapes if layer.type == "Deconvolution" else top_shapes
        _, axis = convolution_on(layer, tuple(bottom_shapes[0]))
        return sum(
            math.prod(weights) * math.prod(shape[:axis]) * math.prod(shape[axis + 1 :]) for shape in places
        )
    if layer.type == "InnerProduct":
        weights = blob_shapes(layer, bottom_shapes)[0]
        return math.prod(weights) * math.prod(top_shapes[0][:-1])
    return 0
