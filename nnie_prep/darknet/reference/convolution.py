"""[convolutional], [connected], [local], [batchnorm]: the sections with kernels, and batch normalisation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnie_prep.blob import Array, Blob
from nnie_prep.darknet.cfg import Section
from nnie_prep.darknet.reference.activations import activation
from nnie_prep.darknet.reference.plan import Plan, Step, inconsistent, quotient, values
from nnie_prep.darknet.weights import BatchNormForm
from nnie_prep.errors import UserError

# What BatchNorm takes from the stream, in its order; beside them a section has biases and weights.
STATISTICS = ("scales", "rolling mean", "rolling variance")

# The unfolded input that lies in memory at a time, in floats.
_COLUMNS = 1 << 23


@dataclass(frozen=True)
class Window:
    """A sliding window. Sizes are (y, x); `pad` is that of the top and the left edge."""

    size: tuple[int, int]
    stride: tuple[int, int]
    pad: tuple[int, int]
    dilation: int
    out: tuple[int, int]

    @property
    def taps(self) -> list[tuple[int, int]]:
        """The places within a window, row by row."""
        return [(ky, kx) for ky in range(self.size[0]) for kx in range(self.size[1])]


def inside(extent: int, out: int, stride: int, start: int) -> tuple[slice, slice]:
    """For o < out, those for which o * stride + start lies in the extent: (slice of o, slice of places)."""
    first = max(-(start // stride), 0)
    last = min((extent - 1 - start) // stride, out - 1)
    if last < first:
        return slice(0), slice(0)
    return slice(first, last + 1), slice(first * stride + start, last * stride + start + 1, stride)


def unfold(x: Array, window: Window, rows: range) -> Array:
    """im2col of some output rows: x (C, H, W) -> (C, taps, rows, out width), zero outside of x."""
    columns = np.zeros((len(x), len(window.taps), len(rows), window.out[1]), x.dtype)
    for number, (ky, kx) in enumerate(window.taps):
        top = rows.start * window.stride[0] + ky * window.dilation - window.pad[0]
        into_y, from_y = inside(x.shape[1], len(rows), window.stride[0], top)
        left = kx * window.dilation - window.pad[1]
        into_x, from_x = inside(x.shape[2], window.out[1], window.stride[1], left)
        columns[:, number, into_y, into_x] = x[:, from_y, from_x]
    return columns


def convolve(x: Array, kernel: Array, groups: int, window: Window) -> Array:
    """Cross-correlation: x (C, H, W), kernel (out, C/groups, kh, kw) -> (out, *window.out)."""
    filters = len(kernel)
    out = np.empty((filters, *window.out), x.dtype)
    matrix = kernel.reshape(groups, filters // groups, -1)
    rows_at_a_time = max(_COLUMNS // (len(x) * len(window.taps) * window.out[1]), 1)
    for start in range(0, window.out[0], rows_at_a_time):
        rows = range(start, min(start + rows_at_a_time, window.out[0]))
        columns = unfold(x, window, rows).reshape(groups, matrix.shape[2], -1)
        out[:, rows.start : rows.stop] = np.matmul(matrix, columns).reshape(filters, len(rows), -1)
    return out


def normalize(
    x: Array, parameters: list[Blob], biases: Blob | None, bn_form: BatchNormForm, dtype: Any
) -> Array:
    """scale * (x - mean) / D + bias per first axis, written into x; parameters are scales, mean, variance.

    D = sqrt(variance + 1e-5) (AlexeyAB blas.c:292, pjreddie blas_kernels.cu:200), or on pjreddie's CPU
    sqrt(variance) + 1e-6 (pjreddie blas.c:154).
    """
    scales, mean, variance = (values(blob, dtype) for blob in parameters)
    deviation = np.sqrt(variance + dtype(1e-5)) if bn_form == "standard" else np.sqrt(variance) + dtype(1e-6)
    per_channel = (-1,) + (1,) * (x.ndim - 1)
    x -= mean.reshape(per_channel)
    x *= (scales / deviation).reshape(per_channel)
    if biases is not None:
        x += values(biases, dtype).reshape(per_channel)
    return x


def add_biases(x: Array, biases: Blob, dtype: Any) -> Array:
    """x + bias per first axis, written into x."""
    x += values(biases, dtype).reshape((-1,) + (1,) * (x.ndim - 1))
    return x


def blur_window(section: Section, shape: tuple[int, int, int], kind: int, stride: tuple[int, int]) -> Window:
    """The window of the blur that antialiasing=1 or 2 puts behind a layer that runs at stride 1."""
    size, pad = (3, 1) if kind == 1 else (2, 0)
    out = (
        quotient(shape[1] + 2 * pad - size, stride[0]) + 1,
        quotient(shape[2] + 2 * pad - size, stride[1]) + 1,
    )
    if min(out) < 1:
        raise inconsistent(section, f"nothing is left of {shape[1]} x {shape[2]} after antialiasing")
    return Window((size, size), stride, (pad, pad), 1, out)


def blur(x: Array, kind: int, window: Window) -> Array:
    """[1 2 1; 2 4 2; 1 2 1] / 16 for antialiasing=1, else 2x2 of 1/4 (convolutional_layer.c:693)."""
    line = np.array([1, 2, 1] if kind == 1 else [1, 1], x.dtype)
    kernel = np.outer(line, line) / line.sum() ** 2
    return convolve(x, np.broadcast_to(kernel, (len(x), 1, *kernel.shape)), len(x), window)


def convolutional(section: Section, plan: Plan) -> Step:
    """conv -> BatchNorm or biases -> activation -> blur."""
    modern = plan.flavor == "alexeyab"
    channels, height, width = plan.image(plan.previous, section)
    filters = section.int("filters", 1, at_least=1)
    size = section.int("size", 1, at_least=1)
    groups = max(section.int("groups", 1), 1)
    if channels % groups or filters % groups:
        raise inconsistent(
            section, f"groups={groups} divides not both {channels} channels and {filters} filters"
        )
    stride, padding, dilation = _conv_geometry(section, size, modern)
    antialiasing = section.int("antialiasing", 0) if modern else 0
    own_stride = (1, 1) if antialiasing else stride
    out = (
        quotient(height + 2 * padding - size, own_stride[0]) + 1,
        quotient(width + 2 * padding - size, own_stride[1]) + 1,
    )
    if min(out) < 1:
        raise inconsistent(section, f"size={size} does not fit an input of {height} x {width}")
    for extent, step, result in ((height, own_stride[0], out[0]), (width, own_stride[1], out[1])):
        reach = extent + 2 * padding * dilation - dilation * (size - 1) - 1
        if quotient(reach, step) + 1 != result:
            raise inconsistent(section, f"dilation={dilation} with padding {padding} and size={size}")
    if size == 1 and own_stride[1] == 1 and (padding or own_stride[0] != 1):
        raise inconsistent(section, "a 1x1 convolution with padding or with stride_y alone")
    window = Window((size, size), own_stride, (padding * dilation,) * 2, dilation, out)
    shape: tuple[int, int, int] = (filters, *out)
    blurred = blur_window(section, shape, antialiasing, stride) if antialiasing else None
    kernel, biases, parameters = _conv_weights(section, plan, (filters, channels // groups, size, size))
    activate = activation(section, plan.flavor)
    bn_form = plan.bn_form

    def compute(inputs: list[Array], dtype: Any) -> Any:
        x = convolve(inputs[0], values(kernel, dtype), groups, window)
        x = normalize(x, parameters, biases, bn_form, dtype) if parameters else add_biases(x, biases, dtype)
        x = activate(x)
        return blur(x, antialiasing, blurred) if blurred else x

    if blurred:
        plan.blurred.add(section.index)
        shape = (filters, *blurred.out)
    return plan.step(section, shape, [plan.previous], compute)


def _conv_geometry(section: Section, size: int, modern: bool) -> tuple[tuple[int, int], int, int]:
    """(stride y, x), padding and dilation (AlexeyAB parser.c parse_convolutional)."""
    stride = section.int("stride", 1)
    stride_x = section.int("stride_x", -1) if modern else -1
    stride_y = section.int("stride_y", -1) if modern else -1
    strides = (stride_y if stride_y >= 1 else stride, stride_x if stride_x >= 1 else stride)
    if min(strides) < 1:
        raise UserError(
            f"{section} has stride={stride}", section.where("stride"), "give a stride of 1 or more"
        )
    padding = section.int("padding", 0, at_least=0)
    if section.int("pad", 0):
        padding = size // 2
    dilation = section.int("dilation", 1, at_least=1) if modern and size > 1 else 1
    return strides, padding, dilation


def _conv_weights(
    section: Section, plan: Plan, shape: tuple[int, int, int, int]
) -> tuple[Blob, Blob, list[Blob]]:
    """(kernel, biases, [scales, mean, variance] or []), from the stream or from share_index's layer."""
    normalized = bool(section.int("batch_normalize", 0)) or bool(section.int("cbn", 0))
    if plan.flavor == "alexeyab" and section.has("share_index"):
        written = section.int("share_index", 0)
        index = section.index + written if written < 0 else written
        shared = plan.convolutions.get(index)
        if not shared or shared[0].shape != shape or bool(shared[2]) != normalized:
            raise UserError(
                f"{section} has share_index={written}, layer {index}, which is no earlier convolution with "
                f"weights {shape} and batch_normalize={int(normalized)}",
                section.where("share_index"),
                "name a layer with the same weights",
            )
        plan.convolutions[section.index] = shared
        return shared
    filters = shape[0]
    biases = plan.take((filters,), "biases", section)
    parameters = _batchnorm_parameters(section, plan, filters) if normalized else []
    flipped = bool(section.int("flipped", 0))
    kernel = plan.take(shape, "weights", section, "transposed" if flipped else "plain")
    plan.convolutions[section.index] = (kernel, biases, parameters)
    return kernel, biases, parameters


def _batchnorm_parameters(section: Section, plan: Plan, channels: int) -> list[Blob]:
    return [plan.take((channels,), what, section) for what in STATISTICS]


def connected(section: Section, plan: Plan) -> Step:
    """W x -> BatchNorm or biases -> activation. The file has the weights before the BatchNorm parameters."""
    inputs_shape = plan.shape(plan.previous, section)
    inputs_size = math.prod(inputs_shape)
    outputs = section.int("output", 1, at_least=1)
    biases = plan.take((outputs,), "biases", section)
    matrix = plan.take((outputs, inputs_size), "weights", section, "by_version")
    normalized = bool(section.int("batch_normalize", 0))
    parameters = _batchnorm_parameters(section, plan, outputs) if normalized else []
    activate = activation(section, plan.flavor)
    bn_form = plan.bn_form

    def compute(inputs: list[Array], dtype: Any) -> Any:
        x = values(matrix, dtype) @ inputs[0].reshape(-1)
        x = normalize(x, parameters, biases, bn_form, dtype) if parameters else add_biases(x, biases, dtype)
        return activate(x).reshape(-1, 1, 1)

    return plan.step(section, (outputs, 1, 1), [plan.previous], compute)


def local(section: Section, plan: Plan) -> Step:
    """A kernel of its own for every place, a bias for every output (local_layer.c)."""
    channels, height, width = plan.image(plan.previous, section)
    filters = section.int("filters", 1, at_least=1)
    size = section.int("size", 1, at_least=1)
    stride = section.int("stride", 1, at_least=1)
    pad = section.int("pad", 0, at_least=0)
    lost = 1 if pad else size
    out = (quotient(height - lost, stride) + 1, quotient(width - lost, stride) + 1)
    unfolded = tuple(quotient(extent + 2 * pad - size, stride) + 1 for extent in (height, width))
    if unfolded != out or min(out) < 1:
        raise inconsistent(section, f"size={size} and pad={pad} give two sizes, {out} and {unfolded}")
    window = Window((size, size), (stride, stride), (pad, pad), 1, out)
    places = out[0] * out[1]
    biases = plan.take((filters, *out), "biases", section)
    weights = plan.take((places, filters, channels * size * size), "weights", section)
    activate = activation(section, plan.flavor)

    def compute(inputs: list[Array], dtype: Any) -> Any:
        columns = unfold(inputs[0], window, range(out[0])).reshape(-1, places).T[:, :, None]
        x = np.matmul(values(weights, dtype), columns)[:, :, 0].T.reshape(filters, *out)
        return activate(x + values(biases, dtype))

    return plan.step(section, (filters, *out), [plan.previous], compute)


def batchnorm(section: Section, plan: Plan) -> Step:
    """BatchNorm of its input; pjreddie's files have no biases, which then are 0."""
    shape = plan.image(plan.previous, section)
    biases = plan.take((shape[0],), "biases", section) if plan.flavor == "alexeyab" else None
    parameters = _batchnorm_parameters(section, plan, shape[0])
    bn_form = plan.bn_form

    def compute(inputs: list[Array], dtype: Any) -> Any:
        return normalize(inputs[0].copy(), parameters, biases, bn_form, dtype)

    return plan.step(section, shape, [plan.previous], compute)


BUILDERS: dict[str, Callable[[Section, Plan], Step]] = {
    "convolutional": convolutional,
    "connected": connected,
    "local": local,
    "batchnorm": batchnorm,
}
