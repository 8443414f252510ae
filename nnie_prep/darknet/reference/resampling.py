"""[maxpool], [local_avgpool], [avgpool], [upsample], [reorg], [reorg3d], [crop]: what changes the size."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nnie_prep.blob import Array
from nnie_prep.darknet.cfg import Section
from nnie_prep.darknet.reference.convolution import Window, blur, blur_window, inside
from nnie_prep.darknet.reference.plan import Plan, Step, inconsistent, quotient
from nnie_prep.errors import UserError


def maxpool(section: Section, plan: Plan) -> Step:
    """The largest of each window, over places or, with maxpool_depth, over channels; then the blur."""
    modern = plan.flavor == "alexeyab"
    shape = plan.image(plan.previous, section)
    stride, window, out = _pool_window(section, shape, modern)
    depth = bool(section.int("maxpool_depth", 0)) if modern else False
    antialiasing = section.int("antialiasing", 0) if modern else 0
    if depth:
        out = (section.int("out_channels", 1, at_least=1, at_most=shape[0]), *shape[1:])
    else:
        _check_windows(section, window, shape)
    blurred = blur_window(section, out, antialiasing, stride) if antialiasing else None

    def compute(inputs: list[Array], dtype: Any) -> Any:
        if depth:
            x = _largest_channels(inputs[0], out[0])
        else:
            x = _combined(inputs[0], window, np.maximum, -np.inf)
        return blur(x, antialiasing, blurred) if blurred else x

    if blurred:
        plan.blurred.add(section.index)
        out = (out[0], *blurred.out)
    return plan.step(section, out, [plan.previous], compute)


def local_avgpool(section: Section, plan: Plan) -> Step:
    """The mean of those elements of each window that lie inside of the input."""
    shape = plan.image(plan.previous, section)
    _, window, out = _pool_window(section, shape, True)
    _check_windows(section, window, shape)

    def compute(inputs: list[Array], dtype: Any) -> Any:
        ones = np.ones((1, *shape[1:]), inputs[0].dtype)
        return _combined(inputs[0], window, np.add, 0) / _combined(ones, window, np.add, 0)

    return plan.step(section, out, [plan.previous], compute)


def _pool_window(
    section: Section, shape: tuple[int, int, int], modern: bool
) -> tuple[tuple[int, int], Window, tuple[int, int, int]]:
    """(stride y, x), the window, the output (AlexeyAB maxpool_layer.c make_maxpool_layer).

    The padding is the total of both sides; the window starts padding/2 before the edge.
    """
    both = section.int("stride", 1)
    stride = (section.int("stride_y", both), section.int("stride_x", both)) if modern else (both, both)
    if min(stride) < 1:
        raise UserError(
            f"{section} has a stride of {min(stride)}", section.where("stride"), "give a stride of 1 or more"
        )
    size = section.int("size", both, at_least=1)
    padding = section.int("padding", size - 1, at_least=0)
    pooled = section.type == "maxpool" and modern and section.int("antialiasing", 0)
    own_stride = (1, 1) if pooled else stride
    out = (
        quotient(shape[1] + padding - size, own_stride[0]) + 1,
        quotient(shape[2] + padding - size, own_stride[1]) + 1,
    )
    window = Window((size, size), own_stride, (padding // 2, padding // 2), 1, out)
    return stride, window, (shape[0], *out)


def _check_windows(section: Section, window: Window, shape: tuple[int, int, int]) -> None:
    """UserError where there is no output, or a window lies wholly outside of the input."""
    for axis in (0, 1):
        last = (window.out[axis] - 1) * window.stride[axis] - window.pad[axis]
        if window.out[axis] < 1 or window.pad[axis] >= window.size[axis] or last >= shape[axis + 1]:
            raise inconsistent(
                section, f"a window of {window.size[axis]} lies outside of the {shape[axis + 1]} inputs"
            )


def _combined(x: Array, window: Window, ufunc: np.ufunc, nothing: float) -> Array:
    """The elements of each window that lie inside of x (C, H, W), combined along rows, then columns."""
    for axis in (0, 1):
        extent, out = x.shape[axis + 1], window.out[axis]
        stride, pad = window.stride[axis], window.pad[axis]
        combined = np.full((*x.shape[: axis + 1], out, *x.shape[axis + 2 :]), nothing, x.dtype)
        before = (slice(None),) * (axis + 1)
        # The places of a window that no window has inside of x are passed over, however many they are.
        for place in range(max(pad - (out - 1) * stride, 0), min(window.size[axis], extent + pad)):
            into, taken = inside(extent, out, stride, place - pad)
            target = combined[(*before, into)]
            ufunc(target, x[(*before, taken)], out=target)
        x = combined
    return x


def _largest_channels(x: Array, out_channels: int) -> Array:
    """Output channel g is the largest of the input channels k with k % out_channels == g."""
    return np.stack([x[channel::out_channels].max(axis=0) for channel in range(out_channels)])


def avgpool(section: Section, plan: Plan) -> Step:
    """The mean of each channel."""
    channels = plan.image(plan.previous, section)[0]

    def compute(inputs: list[Array], dtype: Any) -> Any:
        return inputs[0].reshape(channels, -1).mean(axis=1, dtype=dtype).reshape(channels, 1, 1)

    return plan.step(section, (channels, 1, 1), [plan.previous], compute)


def upsample(section: Section, plan: Plan) -> Step:
    """Each element stride x stride times, for a negative stride the sum of such blocks; times scale."""
    channels, height, width = plan.image(plan.previous, section)
    stride = section.int("stride", 2)
    scale = section.float("scale", 1.0)
    if stride == 0:
        raise UserError(f"{section} has stride=0", section.where("stride"), "give another stride")
    if stride > 0:
        shape = (channels, height * stride, width * stride)

        def enlarge(inputs: list[Array], dtype: Any) -> Any:
            return dtype(scale) * inputs[0].repeat(stride, axis=1).repeat(stride, axis=2)

        return plan.step(section, shape, [plan.previous], enlarge)
    if height % stride or width % stride:
        raise inconsistent(section, f"{height} x {width} cannot be divided by {-stride}")
    rows, columns = height // -stride, width // -stride

    def shrink(inputs: list[Array], dtype: Any) -> Any:
        blocks = inputs[0].reshape(channels, rows, -stride, columns, -stride)
        return dtype(scale) * blocks.sum(axis=(2, 4), dtype=dtype)

    return plan.step(section, (channels, rows, columns), [plan.previous], shrink)


def _reorganized(x: Array, shape: tuple[int, int, int], stride: int, scatter: bool) -> Array:
    """Darknet's reorg_cpu (blas.c:9) on flat arrays, called with dims (C, H, W).

    With C' = C/s^2 it pairs place (k, j, i) of (C, H, W) with place (k % C', j*s + o/s, i*s + o%s) of
    (C', H*s, W*s), where o = k / C'. The first is written from the second, or the second from the first.
    """
    channels, height, width = shape
    per_offset = channels // (stride * stride)
    if scatter:
        parts = x.reshape(stride, stride, per_offset, height, width)  # (o/s, o%s, c, j, i)
        ordered: Array = parts.transpose(2, 3, 0, 4, 1)  # (c, j, o/s, i, o%s)
    else:
        parts = x.reshape(per_offset, height, stride, width, stride)
        ordered = parts.transpose(2, 4, 0, 1, 3)
    return ordered.reshape(-1)


def reorg3d(section: Section, plan: Plan) -> Step:
    """Space to depth; reverse=1 scatters the flat input with the dims of the output (reorg_layer.c:76)."""
    channels, height, width = plan.image(plan.previous, section)
    stride, reverse, shape = _reorg_options(section, (channels, height, width))
    if reverse and shape[0] % stride**2:
        raise inconsistent(section, f"{shape[0]} output channels cannot be divided by {stride**2}")

    def compute(inputs: list[Array], dtype: Any) -> Any:
        return _reorganized(inputs[0], shape, stride, reverse).reshape(shape)

    return plan.step(section, shape, [plan.previous], compute)


def reorg(section: Section, plan: Plan) -> Step:
    """The same routine called with the dims of the input (reorg_old_layer.c:73), so not space to depth.

    pjreddie's has `flatten` (C, H, W -> H, W, C) and `extra` (that many zeros at the end), too.
    """
    image = plan.image(plan.previous, section)
    stride, reverse, shape = _reorg_options(section, image)
    if plan.flavor == "pjreddie" and section.int("flatten", 0):
        return plan.step(section, shape, [plan.previous], _flatten(image, shape, reverse))
    extra = section.int("extra", 0, at_least=0) if plan.flavor == "pjreddie" else 0
    if extra:

        def append(inputs: list[Array], dtype: Any) -> Any:
            return np.concatenate([inputs[0].reshape(-1), np.zeros(extra, dtype)])

        return plan.step(section, (math.prod(image) + extra,), [plan.previous], append)
    if image[0] % stride**2:
        raise inconsistent(section, f"{image[0]} channels cannot be divided by {stride**2}")

    def compute(inputs: list[Array], dtype: Any) -> Any:
        return _reorganized(inputs[0], image, stride, reverse).reshape(shape)

    return plan.step(section, shape, [plan.previous], compute)


def _flatten(
    image: tuple[int, int, int], shape: tuple[int, int, int], reverse: bool
) -> Callable[[list[Array], Any], Any]:
    def compute(inputs: list[Array], dtype: Any) -> Any:
        if reverse:
            return inputs[0].reshape(-1, image[0]).T.reshape(shape)
        return inputs[0].reshape(image[0], -1).T.reshape(shape)

    return compute


def _reorg_options(section: Section, image: tuple[int, int, int]) -> tuple[int, bool, tuple[int, int, int]]:
    """(stride, reverse, the output's shape)."""
    channels, height, width = image
    stride = section.int("stride", 1, at_least=1)
    reverse = bool(section.int("reverse", 0))
    if reverse:
        if channels % stride**2:
            raise inconsistent(section, f"{channels} channels cannot be divided by {stride**2}")
        return stride, reverse, (channels // stride**2, height * stride, width * stride)
    if height % stride or width % stride:
        raise inconsistent(section, f"{height} x {width} cannot be divided by {stride}")
    return stride, reverse, (channels * stride**2, height // stride, width // stride)


def crop(section: Section, plan: Plan) -> Step:
    """The middle of the image, times 2 minus 1 unless noadjust=1 (crop_layer.c:62)."""
    channels, height, width = plan.image(plan.previous, section)
    rows = section.int("crop_height", 1, at_least=1, at_most=height)
    columns = section.int("crop_width", 1, at_least=1, at_most=width)
    adjusted = not section.int("noadjust", 0)
    top, left = (height - rows) // 2, (width - columns) // 2

    def compute(inputs: list[Array], dtype: Any) -> Any:
        middle = inputs[0][:, top : top + rows, left : left + columns]
        return middle * 2 - 1 if adjusted else middle

    return plan.step(section, (channels, rows, columns), [plan.previous], compute)


BUILDERS: dict[str, Callable[[Section, Plan], Step]] = {
    "maxpool": maxpool,
    "local_avgpool": local_avgpool,
    "avgpool": avgpool,
    "upsample": upsample,
    "reorg": reorg,
    "reorg3d": reorg3d,
    "crop": crop,
}
