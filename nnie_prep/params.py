"""The effective parameters of a layer: Caffe's defaults applied and its several spellings made one.

Caffe says `kernel_size: 3`, `kernel_size: 3 kernel_size: 3` or `kernel_h: 3 kernel_w: 3` and means
the same. Here are the parameters that more than one module needs. Pairs are (vertical, horizontal).
What Caffe refuses raises UserError at the layer's origin.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from nnie_prep.errors import UserError
from nnie_prep.net import Layer
from nnie_prep.nnie_caffe_pb2 import (
    TRAIN,
    BatchNormParameter,
    ConvolutionParameter,
    EltwiseParameter,
    PoolingParameter,
    SPPParameter,
)

Pair = tuple[int, int]

# Grouped convolutions with one input channel to a group, as forks of Caffe call them.
DEPTHWISE_TYPES = ("DepthwiseConv", "ConvolutionDepthwise", "DepthwiseConvolution")


def layer_error(layer: Layer, message: str, hint: str = "") -> UserError:
    """The error to raise for what is wrong with one layer."""
    return UserError(f"{layer.type} layer {layer.name!r}: {message}", layer.origin, hint)


def canonical_axis(layer: Layer, axis: int, shape: Sequence[int]) -> int:
    """The axis counted from the front (-1 is the last); UserError if the blob has no such axis."""
    if not -len(shape) <= axis < len(shape):
        raise layer_error(layer, f"axis {axis} is out of range for its bottom of shape {tuple(shape)}")
    return axis % len(shape)


def as_written(value: float) -> float:
    """A float field's value, a float32, as the shortest decimal that means it: 0.017, not 0.0170000009."""
    import numpy as np

    return float(str(np.float32(value)))


# ---- kernels that move over the two spatial axes -----------------------------------------------


class Convolution(NamedTuple):
    """Convolution, Deconvolution, DepthwiseConv and its aliases, Im2col (which has no num_output: 0).

    `axis` is as written, the axis of the channels. Depthwise layers have a group for each input channel.
    """

    num_output: int
    kernel: Pair
    stride: Pair
    pad: Pair
    dilation: Pair
    group: int
    bias: bool
    axis: int
    is_deconvolution: bool

    @property
    def extent(self) -> Pair:
        """The span of the dilated kernel in pixels."""
        (kh, kw), (dh, dw) = self.kernel, self.dilation
        return dh * (kh - 1) + 1, dw * (kw - 1) + 1


def convolution(layer: Layer, channels: int | None = None) -> Convolution:
    """The parameters of any layer that has a convolution_param (base_conv_layer.cpp, LayerSetUp).

    Where a depthwise layer writes no group and the input's `channels` are not given, its group is taken for
    num_output: each channel makes one output, where it may make several.
    """
    parameter = layer.proto.convolution_param
    kernel = _convolution_pair(layer, parameter, "kernel_size", "kernel_h", "kernel_w", 0)
    stride = _convolution_pair(layer, parameter, "stride", "stride_h", "stride_w", 1)
    dilation = _convolution_pair(layer, parameter, "dilation", "", "", 1)
    for value, what in ((kernel, "kernel_size"), (stride, "stride"), (dilation, "dilation")):
        if min(value) < 1:
            raise layer_error(layer, f"{what} is missing or 0 ({value[0]} x {value[1]})")
    num_output, group = parameter.num_output, parameter.group
    if layer.type != "Im2col":
        if num_output < 1:
            raise layer_error(
                layer, "num_output is missing or 0", "write convolution_param { num_output: .. }"
            )
        if layer.type in DEPTHWISE_TYPES:
            if channels and group not in (1, channels):
                raise layer_error(layer, f"group is {group}, and its type says one for each input channel")
            group = channels or (group if group != 1 else num_output)
        if group < 1 or num_output % group:
            raise layer_error(layer, f"num_output {num_output} is not a multiple of group {group}")
    return Convolution(
        num_output=num_output,
        kernel=kernel,
        stride=stride,
        pad=_convolution_pair(layer, parameter, "pad", "pad_h", "pad_w", 0),
        dilation=dilation,
        group=group,
        bias=parameter.bias_term,
        axis=parameter.axis,
        is_deconvolution=layer.type == "Deconvolution",
    )


def _convolution_pair(
    layer: Layer, parameter: ConvolutionParameter, both: str, vertical: str, horizontal: str, default: int
) -> Pair:
    """A value written as `both` (once, twice, or not at all) or as `vertical` and `horizontal`."""
    values = list(getattr(parameter, both))
    if vertical and (parameter.HasField(vertical) or parameter.HasField(horizontal)):
        if values:
            raise layer_error(
                layer, f"either {both} or {vertical}/{horizontal} should be specified; not both"
            )
        return getattr(parameter, vertical), getattr(parameter, horizontal)
    if len(values) > 2:
        raise layer_error(layer, f"{both} is specified {len(values)} times; there are 2 spatial axes")
    values = values or [default]
    return values[0], values[-1]


class Pooling(NamedTuple):
    """MAX or AVE pooling. `kernel` is (0, 0) for global pooling: the size of the bottom."""

    method: str
    kernel: Pair
    stride: Pair
    pad: Pair
    global_pooling: bool
    round_up: bool

    def kernel_on(self, size: Pair) -> Pair:
        """The kernel on a bottom of that height and width."""
        return size if self.global_pooling else self.kernel


def pooling(layer: Layer) -> Pooling:
    """The parameters of a Pooling layer (pooling_layer.cpp, LayerSetUp)."""
    parameter = layer.proto.pooling_param
    method = PoolingParameter.PoolMethod.Name(parameter.pool)
    has_kernel = parameter.HasField("kernel_size")
    has_pair = parameter.HasField("kernel_h") and parameter.HasField("kernel_w")
    kernel = (parameter.kernel_size,) * 2 if has_kernel else (parameter.kernel_h, parameter.kernel_w)
    if parameter.global_pooling:
        if has_kernel or parameter.HasField("kernel_h") or parameter.HasField("kernel_w"):
            raise layer_error(layer, "with global_pooling: true the filter size cannot be specified")
    elif has_kernel == has_pair:
        raise layer_error(layer, "filter size is kernel_size OR kernel_h and kernel_w; exactly one of them")
    elif min(kernel) < 1:
        raise layer_error(layer, f"kernel is {kernel[0]} x {kernel[1]}; both must be at least 1")
    stride = _pooling_pair(layer, parameter, "stride")
    pad = _pooling_pair(layer, parameter, "pad")
    if min(stride) < 1:
        raise layer_error(layer, f"stride is {stride[0]} x {stride[1]}; both must be at least 1")
    if parameter.global_pooling and (pad != (0, 0) or stride != (1, 1)):
        raise layer_error(layer, "with global_pooling: true only pad 0 and stride 1 are allowed")
    result = Pooling(
        method=method,
        kernel=(0, 0) if parameter.global_pooling else kernel,
        stride=stride,
        pad=pad,
        global_pooling=parameter.global_pooling,
        round_up=_rounds_up(layer, parameter),
    )
    _check_pooling(layer, result)
    return result


def _rounds_up(layer: Layer, parameter: PoolingParameter) -> bool:
    """round_mode (BVLC) and ceil_mode (forks, exporters) say the same thing in two words."""
    by_mode = parameter.round_mode == PoolingParameter.CEIL
    if (
        parameter.HasField("round_mode")
        and parameter.HasField("ceil_mode")
        and by_mode != parameter.ceil_mode
    ):
        raise layer_error(layer, "round_mode and ceil_mode contradict each other", "remove one of them")
    return by_mode and parameter.ceil_mode


def _pooling_pair(layer: Layer, parameter: PoolingParameter, name: str) -> Pair:
    """`name`, or `name`_h and `name`_w together."""
    has = [parameter.HasField(field) for field in (name, f"{name}_h", f"{name}_w")]
    if has not in ([False] * 3, [True, False, False], [False, True, True]):
        raise layer_error(layer, f"{name} is {name} OR {name}_h and {name}_w; not a mixture")
    if has[1]:
        return getattr(parameter, f"{name}_h"), getattr(parameter, f"{name}_w")
    value: int = getattr(parameter, name)
    return value, value


def _check_pooling(layer: Layer, window: Pooling) -> None:
    if window.method == "STOCHASTIC":
        raise layer_error(layer, "pool: STOCHASTIC is random, only MAX and AVE can be computed")
    if window.pad != (0, 0) and any(p >= k for p, k in zip(window.pad, window.kernel, strict=True)):
        (ph, pw), (kh, kw) = window.pad, window.kernel
        raise layer_error(layer, f"pad {ph} x {pw} must be less than the kernel {kh} x {kw}")


def pyramid(layer: Layer, size: Pair) -> list[Pooling]:
    """The poolings of an SPP layer on a bottom of that height and width (spp_layer.cpp)."""
    parameter = layer.proto.spp_param
    if parameter.pyramid_height < 1:
        raise layer_error(layer, "pyramid_height is missing or 0", "write spp_param { pyramid_height: .. }")
    levels = []
    for level in range(parameter.pyramid_height):
        bins = 2**level
        vertical, horizontal = (-(-extent // bins) for extent in size)
        remainders = (vertical * bins - size[0], horizontal * bins - size[1])
        window = Pooling(
            method=SPPParameter.PoolMethod.Name(parameter.pool),
            kernel=(vertical, horizontal),
            stride=(vertical, horizontal),
            pad=((remainders[0] + 1) // 2, (remainders[1] + 1) // 2),
            global_pooling=False,
            round_up=True,
        )
        _check_pooling(layer, window)
        levels.append(window)
    return levels


# ---- channels and elements ---------------------------------------------------------------------


class InnerProduct(NamedTuple):
    """`axis` is as written: the first of the axes that are multiplied with the weights."""

    num_output: int
    axis: int
    bias: bool
    transpose: bool


def inner_product(layer: Layer) -> InnerProduct:
    """The parameters of an InnerProduct layer."""
    parameter = layer.proto.inner_product_param
    if parameter.num_output < 1:
        raise layer_error(layer, "num_output is missing or 0", "write inner_product_param { num_output: .. }")
    return InnerProduct(parameter.num_output, parameter.axis, parameter.bias_term, parameter.transpose)


class BatchNorm(NamedTuple):
    """With `use_global_stats` the mean and variance of the blobs are used, else those of the batch.

    `scale_bias` is NVCaffe's: five blobs (mean, variance, correction, scale, bias) in the place of three, of
    which the mean and variance are not sums, and y = scale * normalized x + bias.
    """

    eps: float
    use_global_stats: bool
    scale_bias: bool = False


def batch_norm(layer: Layer) -> BatchNorm:
    """The parameters of a BatchNorm layer in the TEST phase (batch_norm_layer.cpp, LayerSetUp).

    NVCaffe (NVIDIA/caffe 2d23717, the same file) takes no eps under 1e-5, has scale and bias where a filler
    for them is given too, and looks at the phase alone.
    """
    parameter = layer.proto.batch_norm_param
    stored = not is_training(layer)
    scale_bias = (
        parameter.scale_bias or parameter.HasField("scale_filler") or parameter.HasField("bias_filler")
    )
    if parameter.HasField("use_global_stats"):
        if scale_bias and parameter.use_global_stats != stored:
            raise layer_error(
                layer,
                f"use_global_stats: {str(parameter.use_global_stats).lower()} beside scale_bias, which is "
                "NVCaffe's, and NVCaffe goes by the phase",
                "remove use_global_stats, or scale_bias if another Caffe trained this net",
            )
        stored = parameter.use_global_stats
    least = BatchNormParameter().eps  # 1e-5, as float32 has it
    return BatchNorm(max(parameter.eps, least) if scale_bias else parameter.eps, stored, scale_bias)


def is_training(layer: Layer) -> bool:
    """Whether the layer itself says `phase: TRAIN`, which Caffe obeys in a TEST net too."""
    return layer.proto.HasField("phase") and layer.proto.phase == TRAIN


class Scale(NamedTuple):
    """Scale or Bias: one coefficient for each element of `num_axes` axes (-1: all) from `axis` on."""

    axis: int
    num_axes: int
    bias: bool


def scale(layer: Layer) -> Scale:
    """The parameters of a Scale layer, or of a Bias layer (whose `bias` is true)."""
    is_bias = layer.type == "Bias"
    parameter = layer.proto.bias_param if is_bias else layer.proto.scale_param
    if parameter.num_axes < -1:
        raise layer_error(layer, f"num_axes is {parameter.num_axes}; it must be non-negative, or -1 for all")
    return Scale(parameter.axis, parameter.num_axes, is_bias or layer.proto.scale_param.bias_term)


class Eltwise(NamedTuple):
    """`operation` is PROD, SUM or MAX; `coefficients` has one value for each bottom, 1 by default."""

    operation: str
    coefficients: tuple[float, ...]


def eltwise(layer: Layer) -> Eltwise:
    """The parameters of an Eltwise layer (eltwise_layer.cpp, LayerSetUp)."""
    parameter = layer.proto.eltwise_param
    operation = EltwiseParameter.EltwiseOp.Name(parameter.operation)
    given = tuple(parameter.coeff)
    if given and len(given) != len(layer.bottoms):
        raise layer_error(
            layer, f"{len(given)} coeff for {len(layer.bottoms)} bottoms; one for each is needed"
        )
    if given and operation == "PROD":
        raise layer_error(layer, "coeff is only for operation: SUM")
    return Eltwise(operation, given or (1.0,) * len(layer.bottoms))


# ---- axes and blocks ---------------------------------------------------------------------------


def concat_axis(layer: Layer, shape: Sequence[int]) -> int:
    """The axis along which Concat joins bottoms of that rank."""
    parameter = layer.proto.concat_param
    if not parameter.HasField("concat_dim"):
        return canonical_axis(layer, parameter.axis, shape)
    if parameter.HasField("axis"):
        raise layer_error(layer, "either axis or concat_dim should be specified; not both")
    return canonical_axis(layer, parameter.concat_dim, shape)


def slice_axis(layer: Layer, shape: Sequence[int]) -> int:
    """The axis along which Slice cuts a bottom of that rank."""
    parameter = layer.proto.slice_param
    if not parameter.HasField("slice_dim"):
        return canonical_axis(layer, parameter.axis, shape)
    if parameter.HasField("axis"):
        raise layer_error(layer, "either axis or slice_dim should be specified; not both")
    return canonical_axis(layer, parameter.slice_dim, shape)


def permutation(layer: Layer, num_axes: int) -> tuple[int, ...]:
    """For each axis of Permute's top the axis of its bottom; axes not named in `order` follow."""
    order = list(layer.proto.permute_param.order)
    if len(set(order)) != len(order) or any(axis >= num_axes for axis in order):
        raise layer_error(layer, f"order {order} must name different axes of a bottom with {num_axes} axes")
    return tuple(order + [axis for axis in range(num_axes) if axis not in order])


def upsample(layer: Layer) -> Pair:
    """The factors of a nearest-neighbour Upsample layer.

    NNIE's layer knows `scale`, or `scale_h` and `scale_w`. The fields that SegNet's unpooling uses,
    and an unwritten scale, whose default differs between copies of the schema, are refused.
    """
    parameter = layer.proto.upsample_param
    if len(layer.bottoms) != 1:
        raise layer_error(layer, f"{len(layer.bottoms)} bottoms; only nearest-neighbour with 1 is known")
    for field in ("pad_out_h", "pad_out_w", "upsample_h", "upsample_w"):
        if parameter.HasField(field):
            raise layer_error(layer, f"{field} belongs to unpooling by indices, which is not supported")
    has = [parameter.HasField(field) for field in ("scale", "scale_h", "scale_w")]
    if has not in ([True, False, False], [False, True, True]):
        raise layer_error(
            layer, "it needs scale, or scale_h and scale_w", "write upsample_param { scale: 2 }"
        )
    factors = (parameter.scale,) * 2 if has[0] else (parameter.scale_h, parameter.scale_w)
    if min(factors) < 1:
        raise layer_error(layer, f"scale is {factors[0]} x {factors[1]}; both must be at least 1")
    return factors


def unpooled(layer: Layer, height: int, width: int) -> Pair:
    """The height and width that an Upsample with a mask, SegNet's and ENet's, gives a map of these.

    caffe-segnet, upsample_layer.cpp: upsample_h and upsample_w, or scales of 2 and more, where pad_out leaves
    a row or a column away.
    """
    parameter = layer.proto.upsample_param
    if parameter.HasField("upsample_h") and parameter.HasField("upsample_w"):
        return parameter.upsample_h, parameter.upsample_w
    by_axis = parameter.HasField("scale_h") and parameter.HasField("scale_w")
    scales = (parameter.scale_h, parameter.scale_w) if by_axis else (parameter.scale, parameter.scale)
    if min(scales) < 2:
        hint = "write upsample_param { upsample_h: .. upsample_w: .. }"
        raise layer_error(layer, f"scale is {scales[0]} x {scales[1]}; with a mask both are 2 or more", hint)
    return height * scales[0] - parameter.pad_out_h, width * scales[1] - parameter.pad_out_w


def pass_through(layer: Layer) -> Pair:
    """The height and width of the blocks that PassThrough turns into channels."""
    parameter = layer.proto.pass_through_param
    block = parameter.block_height, parameter.block_width
    if min(block) < 1:
        raise layer_error(
            layer,
            "block_height and block_width are required",
            "write pass_through_param { num_output: .. block_height: .. block_width: .. }",
        )
    return block
