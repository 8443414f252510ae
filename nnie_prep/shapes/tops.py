"""The shapes of a layer's tops: one function for each type, of (layer, shapes of the bottoms)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from nnie_prep import params
from nnie_prep.net import Layer
from nnie_prep.params import canonical_axis, layer_error
from nnie_prep.shapes import regions, windows
from nnie_prep.shapes.checks import MOST_ELEMENTS, Shape, check_axes, check_counts, check_in_place, listed

TopShapes = Callable[[Layer, Sequence[Shape]], list[Shape]]


def top_shapes(layer: Layer, bottom_shapes: Sequence[Shape]) -> list[Shape]:
    """The shapes of the layer's tops. The layer's type must be in TOP_SHAPES."""
    bottoms = [tuple(shape) for shape in bottom_shapes]
    assert len(bottoms) == len(layer.bottoms), (layer, bottoms)
    check_counts(layer)
    check_in_place(layer)
    tops = TOP_SHAPES[layer.type](layer, bottoms)
    check_tops(layer, tops, bottoms)
    return tops


def check_tops(layer: Layer, tops: Sequence[Shape], bottoms: Sequence[Shape]) -> None:
    """Raises UserError where Caffe could not hold a top of such a shape."""
    for name, shape in zip(layer.tops, tops, strict=True):
        if any(extent < 1 for extent in shape):
            raise layer_error(layer, f"its top {name!r} would have shape {shape}, made of {listed(bottoms)}")
        if math.prod(shape) > MOST_ELEMENTS:
            raise layer_error(layer, f"its top {name!r} of shape {shape} has more than 2^31 - 1 elements")


# ---- layers without bottoms, and those whose top is like the bottom -----------------------------


def _input(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    shapes = [tuple(shape.dim) for shape in layer.proto.input_param.shape]
    if len(shapes) == 1:
        shapes *= len(layer.tops)
    if len(shapes) != len(layer.tops):
        raise layer_error(
            layer,
            f"{len(shapes)} shapes for {len(layer.tops)} tops; it takes one, or one for each",
            "write input_param { shape { dim: .. } }",
        )
    return shapes


def _parameter(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    return [tuple(layer.proto.parameter_param.shape.dim)]


def _like_bottom(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    return [bottoms[0]] * len(layer.tops)


def _batch_norm(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    check_axes(layer, bottoms[0], 2, 32)
    return [bottoms[0]]


def _like_bottom_with_channels(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    check_axes(layer, bottoms[0], 2, 4)
    return [bottoms[0]]


def _mvn(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    check_axes(layer, bottoms[0], 0, 4)
    return [bottoms[0] + (1,) * (4 - len(bottoms[0]))]


def _softmax(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    canonical_axis(layer, layer.proto.softmax_param.axis, bottoms[0])
    return [bottoms[0]]


def _lrn(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    check_axes(layer, bottoms[0], 4, 4)
    if layer.proto.lrn_param.local_size % 2 == 0:
        raise layer_error(layer, f"local_size is {layer.proto.lrn_param.local_size}; it must be odd")
    return [bottoms[0]]


def _scale(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    axis, coefficients = coefficient_shape(layer, bottoms)
    if bottoms[0][axis : axis + len(coefficients)] != coefficients:
        raise layer_error(layer, f"its bottoms {listed(bottoms)} do not match from axis {axis} on")
    return [bottoms[0]]


def coefficient_shape(layer: Layer, bottoms: Sequence[Shape]) -> tuple[int, Shape]:
    """For Scale and Bias: the axis where the coefficients begin, and their shape."""
    scale = params.scale(layer)
    if len(bottoms) == 2 and bottoms[1] == ():
        return 0, ()
    axis = canonical_axis(layer, scale.axis, bottoms[0])
    if len(bottoms) == 2:
        return axis, bottoms[1]
    end = len(bottoms[0]) if scale.num_axes == -1 else axis + scale.num_axes
    if end > len(bottoms[0]):
        raise layer_error(layer, f"{scale.num_axes} axes from axis {axis} on exceed its bottom {bottoms[0]}")
    return axis, bottoms[0][axis:end]


def _eltwise(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    params.eltwise(layer)
    for shape in bottoms[1:]:
        if shape != bottoms[0]:
            raise layer_error(layer, f"its bottoms must have one shape, not {listed((bottoms[0], shape))}")
    return [bottoms[0]]


# ---- products and reductions -------------------------------------------------------------------


def _inner_product(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    product = params.inner_product(layer)
    return [(*bottoms[0][: canonical_axis(layer, product.axis, bottoms[0])], product.num_output)]


def _embed(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    parameter = layer.proto.embed_param
    if parameter.num_output < 1 or parameter.input_dim < 1:
        raise layer_error(layer, "num_output and input_dim must be positive")
    return [(*bottoms[0], parameter.num_output)]


def _reduction(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    return [bottoms[0][: canonical_axis(layer, layer.proto.reduction_param.axis, bottoms[0])]]


def _argmax(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """(.., top_k, ..) on a given axis; else (N, 1, top_k), or (N, 2, top_k) with the values."""
    parameter, shape = layer.proto.argmax_param, bottoms[0]
    if parameter.HasField("axis"):
        axis = canonical_axis(layer, parameter.axis, shape)
        choices = shape[axis]
        top = (*shape[:axis], parameter.top_k, *shape[axis + 1 :])
    else:
        check_axes(layer, shape, 1, 32)
        choices = math.prod(shape[1:])
        top = (shape[0], 2 if parameter.out_max_val else 1, parameter.top_k, *(1 for _ in shape[3:]))
    if not 1 <= parameter.top_k <= choices:
        raise layer_error(layer, f"top_k {parameter.top_k} of {choices} values; its bottom has shape {shape}")
    return [top]


# ---- layers that move values about -------------------------------------------------------------


def _reshape(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    parameter, shape = layer.proto.reshape_param, bottoms[0]
    new = list(parameter.shape.dim)
    # A negative axis counts the gaps between axes: -1 is behind the last one.
    start = parameter.axis if parameter.axis >= 0 else len(shape) + parameter.axis + 1
    end = len(shape) if parameter.num_axes == -1 else start + parameter.num_axes
    if not 0 <= start <= end <= len(shape) or parameter.num_axes < -1:
        raise layer_error(
            layer, f"axis {parameter.axis} and num_axes {parameter.num_axes} are out of range for {shape}"
        )
    wanted = (*shape[:start], *new, *shape[end:])
    if new.count(-1) > 1 or any(extent < -1 for extent in new):
        raise layer_error(layer, f"shape {new} may hold one -1, and no other negative value")
    for place, extent in enumerate(new):
        if extent == 0:
            if start + place >= len(shape):
                raise layer_error(layer, f"shape {new} has a 0 where its bottom {shape} has no axis to copy")
            new[place] = shape[start + place]
    explicit = math.prod((*shape[:start], *(extent for extent in new if extent != -1), *shape[end:]))
    if -1 in new and explicit > 0 and math.prod(shape) % explicit == 0:
        new[new.index(-1)] = math.prod(shape) // explicit
    top = (*shape[:start], *new, *shape[end:])
    if -1 in new or math.prod(top) != math.prod(shape):
        raise layer_error(layer, f"its bottom of shape {shape} cannot be reshaped to {wanted}")
    return [top]


def _flatten(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    shape = bottoms[0]
    start = canonical_axis(layer, layer.proto.flatten_param.axis, shape)
    end = canonical_axis(layer, layer.proto.flatten_param.end_axis, shape) + 1
    if start > end:
        raise layer_error(layer, f"axis {start} is behind end_axis {end - 1}; its bottom has shape {shape}")
    return [(*shape[:start], math.prod(shape[start:end]), *shape[end:])]


def _concat(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    first = bottoms[0]
    axis = params.concat_axis(layer, first)
    for shape in bottoms[1:]:
        if len(shape) != len(first) or shape[:axis] + shape[axis + 1 :] != first[:axis] + first[axis + 1 :]:
            raise layer_error(layer, f"its bottoms {listed((first, shape))} may differ on axis {axis} alone")
    return [(*first[:axis], sum(shape[axis] for shape in bottoms), *first[axis + 1 :])]


def _slice(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    shape, tops = bottoms[0], len(layer.tops)
    axis = params.slice_axis(layer, shape)
    points = list(layer.proto.slice_param.slice_point)
    if not points:
        if shape[axis] % tops:
            raise layer_error(layer, f"{tops} tops do not divide axis {axis} of its bottom {shape} evenly")
        points = [shape[axis] // tops * top for top in range(1, tops)]
    ends = [0, *points, shape[axis]]
    extents = [end - start for start, end in zip(ends, ends[1:], strict=False)]
    if len(extents) != tops or min(extents) < 1:
        raise layer_error(layer, f"slice_point {points} on axis {axis} of {shape} does not give {tops} tops")
    return [(*shape[:axis], extent, *shape[axis + 1 :]) for extent in extents]


def _crop(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    axis, offsets = crop_offsets(layer, bottoms)
    source, size = bottoms
    top = source[:axis] + size[axis : len(source)]
    ends = (offset + extent for offset, extent in zip(offsets, top[axis:], strict=False))
    if len(top) != len(source) or any(end > extent for end, extent in zip(ends, source[axis:], strict=True)):
        raise layer_error(layer, f"the size {size} at offset {list(offsets)} exceeds its bottom {source}")
    return [top]


def crop_offsets(layer: Layer, bottoms: Sequence[Shape]) -> tuple[int, tuple[int, ...]]:
    """For Crop: the first axis that is cropped, and the offset on it and on each that follows."""
    axis = canonical_axis(layer, layer.proto.crop_param.axis, bottoms[0])
    cropped = len(bottoms[0]) - axis
    offsets = tuple(layer.proto.crop_param.offset) or (0,)
    if len(offsets) == 1:
        offsets *= cropped
    if len(offsets) != cropped:
        raise layer_error(layer, f"{len(offsets)} offsets for {cropped} axes; it takes one, or one for each")
    return axis, offsets


def _tile(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    parameter, shape = layer.proto.tile_param, bottoms[0]
    axis = canonical_axis(layer, parameter.axis, shape)
    if parameter.tiles < 1:
        raise layer_error(layer, "tiles is missing or not positive", "write tile_param { tiles: .. }")
    return [(*shape[:axis], shape[axis] * parameter.tiles, *shape[axis + 1 :])]


def _batch_reindex(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    check_axes(layer, bottoms[0], 1, 32)
    if len(bottoms[1]) != 1:
        raise layer_error(layer, f"its second bottom, the indices, has shape {bottoms[1]}, not one axis")
    return [bottoms[1] + bottoms[0][1:]]


def _permute(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    return [tuple(bottoms[0][axis] for axis in params.permutation(layer, len(bottoms[0])))]


def _upsample(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    check_axes(layer, bottoms[0], 4, 4)
    batch, channels, height, width = bottoms[0]
    if len(bottoms) == 2:  # the inverse of a max pooling, whose mask is the second
        if bottoms[0] != bottoms[1]:
            raise layer_error(layer, f"its bottoms are {listed(bottoms)}; a mask has the shape of the map")
        return [(batch, channels, *params.unpooled(layer, height, width))]
    vertical, horizontal = params.upsample(layer)
    return [(batch, channels, height * vertical, width * horizontal)]


def _pass_through(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    check_axes(layer, bottoms[0], 4, 4)
    batch, channels, height, width = bottoms[0]
    vertical, horizontal = params.pass_through(layer)
    if height % vertical or width % horizontal:
        raise layer_error(layer, f"blocks of {vertical} x {horizontal} do not divide its bottom {bottoms[0]}")
    outputs = channels * vertical * horizontal
    if layer.proto.pass_through_param.num_output != outputs:
        given = layer.proto.pass_through_param.num_output
        raise layer_error(layer, f"num_output is {given}; its bottom {bottoms[0]} gives {outputs}")
    return [(batch, outputs, height // vertical, width // horizontal)]


def _shuffle_channel(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    check_axes(layer, bottoms[0], 2, 32)
    group = layer.proto.shuffle_channel_param.group
    if group < 1 or bottoms[0][1] % group:
        raise layer_error(layer, f"group {group} does not divide the channels of its bottom {bottoms[0]}")
    return [bottoms[0]]


def _crelu(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    check_axes(layer, bottoms[0], 2, 32)
    batch, channels, *rest = bottoms[0]
    return [(batch, 2 * channels, *rest)]


def _axpy(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    factors, x, y = bottoms
    check_axes(layer, x, 2, 32)
    if x != y:
        raise layer_error(layer, f"its second and third bottom must have one shape, not {listed((x, y))}")
    if factors[:2] != x[:2] or math.prod(factors[2:]) != 1:
        raise layer_error(
            layer, f"its first bottom must hold one value for each channel of {x}, not {factors}"
        )
    return [x]


def _interp(layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
    """A factor goes before a size; each pad is negative and crops all sides (interp_layer.cpp, Reshape).

    Both factors do not: DeepLab's layer takes the size then, and others stop.
    """
    check_axes(layer, bottoms[0], 4, 4)
    parameter = layer.proto.interp_param
    zoom, shrink, crop = parameter.zoom_factor, parameter.shrink_factor, parameter.pad_beg + parameter.pad_end
    by_factor = parameter.HasField("zoom_factor") or parameter.HasField("shrink_factor")
    if not by_factor and not (parameter.HasField("height") and parameter.HasField("width")):
        raise layer_error(layer, "it needs zoom_factor, shrink_factor, or height and width")
    fields = ("zoom_factor", "shrink_factor", "height", "width")
    if all(map(parameter.HasField, fields)):
        hint = "leave out both factors, or height and width"
        raise layer_error(
            layer, f"it has all of {', '.join(fields)}, of which forks of Caffe take others", hint
        )
    if min(zoom, shrink) < 1:
        raise layer_error(layer, f"zoom_factor is {zoom}, shrink_factor {shrink}; both must be at least 1")
    if max(parameter.pad_beg, parameter.pad_end) > 0:
        raise layer_error(layer, "pad_beg and pad_end crop: they must be 0 or negative")
    size = bottoms[0][2] + crop, bottoms[0][3] + crop
    if min(size) < 1:
        raise layer_error(layer, f"pad_beg and pad_end leave nothing of its bottom {bottoms[0]}")
    if by_factor:
        vertical, horizontal = ((extent - 1) // shrink for extent in size)
        return [(*bottoms[0][:2], vertical * zoom + 1, horizontal * zoom + 1)]
    return [(*bottoms[0][:2], parameter.height, parameter.width)]


TOP_SHAPES: dict[str, TopShapes] = {
    "AbsVal": _like_bottom,
    "ArgMax": _argmax,
    "Axpy": _axpy,
    "BatchNorm": _batch_norm,
    "BatchReindex": _batch_reindex,
    "Bias": _scale,
    "BNLL": _like_bottom,
    "Clip": _like_bottom,
    "Concat": _concat,
    "Convolution": windows.convolution,
    "ConvolutionDepthwise": windows.convolution,
    "CReLU": _crelu,
    "Crop": _crop,
    "Deconvolution": windows.convolution,
    "DepthwiseConv": windows.convolution,
    "DepthwiseConvolution": windows.convolution,
    "DetectionOutput": regions.detection_output_tops,
    "Dropout": _like_bottom,
    "Eltwise": _eltwise,
    "ELU": _like_bottom,
    "Embed": _embed,
    "Exp": _like_bottom,
    "Flatten": _flatten,
    "Im2col": windows.im2col,
    "InnerProduct": _inner_product,
    "Input": _input,
    "Interp": _interp,
    "Log": _like_bottom,
    "LRN": _lrn,
    "Mish": _like_bottom,
    "MVN": _mvn,
    "Normalize": _like_bottom_with_channels,
    "Parameter": _parameter,
    "PassThrough": _pass_through,
    "Permute": _permute,
    "Pooling": windows.pooling,
    "Power": _like_bottom,
    "PriorBox": regions.prior_box_tops,
    "PReLU": _like_bottom_with_channels,
    "PSROIPooling": regions.psroi_pooling,
    "Reduction": _reduction,
    "ReLU": _like_bottom,
    "ReLU6": _like_bottom,
    "Reshape": _reshape,
    "ROIPooling": regions.roi_pooling,
    "Scale": _scale,
    "ShuffleChannel": _shuffle_channel,
    "Sigmoid": _like_bottom,
    "Silence": _like_bottom,
    "Slice": _slice,
    "Softmax": _softmax,
    "Split": _like_bottom,
    "SPP": windows.spp,
    "Swish": _like_bottom,
    "TanH": _like_bottom,
    "Threshold": _like_bottom,
    "Tile": _tile,
    "Upsample": _upsample,
}
