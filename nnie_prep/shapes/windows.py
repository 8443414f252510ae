"""The tops of layers whose kernels move over the two spatial axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nnie_prep import params
from nnie_prep.net import Layer
from nnie_prep.params import Pair, canonical_axis, layer_error
from nnie_prep.shapes.checks import Shape, check_axes, listed


def convolution(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """Convolution, Deconvolution and the depthwise types: as many tops as bottoms, one shape."""
    if len(layer.tops) != len(bottoms):
        raise layer_error(layer, f"it has {len(bottoms)} bottoms and {len(layer.tops)} tops, not as many")
    for shape in bottoms[1:]:
        if shape != bottoms[0]:
            raise layer_error(layer, f"its bottoms must have one shape, not {listed((bottoms[0], shape))}")
    window, axis = convolution_on(layer, bottoms[0])
    if bottoms[0][axis] % window.group:
        raise layer_error(
            layer, f"the channels of its bottom of shape {bottoms[0]} are no multiple of group {window.group}"
        )
    size = convolved_size(window, bottoms[0][axis + 1 :])
    return [(*bottoms[0][:axis], window.num_output, *size)] * len(bottoms)


def im2col(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    window, axis = convolution_on(layer, bottoms[0])
    channels = bottoms[0][axis] * math.prod(window.kernel)
    return [(*bottoms[0][:axis], channels, *convolved_size(window, bottoms[0][axis + 1 :]))]


def convolution_on(layer: Layer, shape: Shape) -> tuple[params.Convolution, int]:
    """The layer's parameters on a bottom of that shape, and the axis of the channels.

    Exactly two spatial axes must follow the channels.
    """
    axis = canonical_axis(layer, layer.proto.convolution_param.axis, shape)
    if len(shape) - axis != 3:
        raise layer_error(
            layer,
            f"{len(shape) - axis - 1} spatial axes in its bottom of shape {shape}; only 2 are supported",
        )
    return params.convolution(layer, shape[axis]), axis


def convolved_size(window: params.Convolution, size: Sequence[int]) -> Pair:
    """Height and width of the top (conv_layer.cpp and deconv_layer.cpp, compute_output_shape).

    C++'s division rounds towards zero: a kernel that exceeds the padded bottom by less than its
    stride gives one element, computed with zeros beyond the padding.
    """

    def extent(axis: int) -> int:
        pad, stride = window.pad[axis], window.stride[axis]
        if window.is_deconvolution:
            return stride * (size[axis] - 1) + window.extent[axis] - 2 * pad
        free = size[axis] + 2 * pad - window.extent[axis]
        return (free // stride if free >= 0 else -(-free // stride)) + 1

    return extent(0), extent(1)


def pooling(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """Pooling: the pooled values, and for MAX optionally the index of each maximum."""
    check_axes(layer, bottoms[0], 4, 4)
    batch, channels, height, width = bottoms[0]
    return [(batch, channels, *pooled_size(params.pooling(layer), (height, width)))] * len(layer.tops)


def pooled_size(window: params.Pooling, size: Pair) -> Pair:
    """Height and width of a pooling's top (pooling_layer.cpp, Reshape)."""
    kernel = window.kernel_on(size)

    def extent(axis: int) -> int:
        pad, stride = window.pad[axis], window.stride[axis]
        free = size[axis] + 2 * pad - kernel[axis]
        pooled = (-(-free // stride) if window.round_up else free // stride) + 1
        # With padding on either axis, a window that begins behind bottom and first padding is dropped.
        if window.pad != (0, 0) and (pooled - 1) * stride >= size[axis] + pad:
            pooled -= 1
        return pooled

    return extent(0), extent(1)


def spp(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """SPP: its poolings side by side as one vector; a pyramid of one level keeps its four axes."""
    check_axes(layer, bottoms[0], 4, 4)
    batch, channels, height, width = bottoms[0]
    sizes = [pooled_size(window, (height, width)) for window in params.pyramid(layer, (height, width))]
    if len(sizes) == 1:
        return [(batch, channels, *sizes[0])]
    return [(batch, channels * sum(math.prod(size) for size in sizes))]
