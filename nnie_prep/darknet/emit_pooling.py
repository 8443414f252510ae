"""[maxpool], [local_avgpool] and [avgpool].

Darknet's pool of size k, stride s and TOTAL padding p has (in + p - k) / s + 1 windows, rounded down, of
which window i begins at i*s - p/2; what lies outside does not count (AlexeyAB maxpool_layer.c:79 and :323).
Caffe pads by the same P on both sides, rounds up, and has windows beginning at i*s - P. So P = p/2 + m*s
gives the same windows behind m more in front, and maybe some at the end; these are cut off again by a
depthwise convolution with a one-hot kernel, which leaves no output dangling as a Slice would.
"""

from __future__ import annotations

from typing import Any

from nnie_prep.blob import Array, DeferredBlob
from nnie_prep.composites import crop, selected
from nnie_prep.darknet.builder import LARGEST_STEP, Builder, Output, refusal
from nnie_prep.darknet.cfg import Section
from nnie_prep.darknet.emit_convolution import blur
from nnie_prep.params import Pair

_MOST_RUNS = 4096
# Windows along one side; the numbers that each of them needs are computed at once.
_MOST_WINDOWS = 1 << 20


def emit_maxpool(build: Builder, section: Section) -> Output:
    size, stride, padding = _read_window(section, with_directions=build.flavor == "alexeyab")
    depth = antialiasing = 0
    if build.flavor == "alexeyab":
        depth = section.int("maxpool_depth", 0)
        antialiasing = section.int("antialiasing", 0, at_least=0, at_most=2)
    if depth:
        return _maxpool_depth(build, section, antialiasing)
    is_2_1 = (size, stride, padding, antialiasing) == (2, (1, 1), 1, 0)
    if is_2_1 and build.approximates("pool-2-1", "kernel 3, pad 1 for the 2/1 pool", size=3, padding=2):
        size, padding = 3, 2
    source = build.input()
    windows = _Windows(section, source, size, (1, 1) if antialiasing else stride, padding)
    blob = _pool(build, "maxpool", "MAX", build.picture(source), windows)
    if antialiasing:
        blob = blur(build, blob, antialiasing, stride)
    _, channels, height, width = build.shapes[blob]
    return Output((channels, height, width), blob, blurred=bool(antialiasing))


def _read_window(section: Section, *, with_directions: bool) -> tuple[int, Pair, int]:
    """Size, stride (vertical, horizontal) and total padding."""
    stride = section.int("stride", 1, at_least=1, at_most=LARGEST_STEP)
    strides = (stride, stride)
    if with_directions:
        strides = (
            section.int("stride_y", stride, at_least=1, at_most=LARGEST_STEP),
            section.int("stride_x", stride, at_least=1, at_most=LARGEST_STEP),
        )
    size = section.int("size", stride, at_least=1, at_most=LARGEST_STEP)
    return size, strides, section.int("padding", size - 1, at_least=0, at_most=2 * LARGEST_STEP)


class _Windows:
    """Darknet's windows on both axes, and where they lie among Caffe's. Pairs: (vertical, horizontal).

    `out` is the number of windows, `before` the first of them on each side (p/2), `extra` the number m of
    Caffe's windows in front of them, `pad` Caffe's padding.
    """

    def __init__(self, section: Section, source: Output, size: int, stride: Pair, padding: int) -> None:
        self.size, self.stride, self.source, self.before = size, stride, source, padding // 2
        self.section = section
        axes = [self._place(extent, step, padding) for extent, step in zip(source.size, stride, strict=True)]
        (out_h, extra_h), (out_w, extra_w) = axes
        self.out, self.extra = (out_h, out_w), (extra_h, extra_w)
        self.pad = (self.before + extra_h * stride[0], self.before + extra_w * stride[1])

    def _place(self, extent: int, stride: int, padding: int) -> Pair:
        size, before = self.size, self.before
        free = extent + padding - size
        # C's division rounds towards zero.
        out = (free // stride if free >= 0 else -(-free // stride)) + 1
        problem = ""
        if out < 1:
            problem = f"size={size} is larger than its input of {extent} with padding {padding}"
        elif before >= size or (out - 1) * stride - before >= extent:
            problem = (
                f"with size={size} and padding {padding} there are windows that lie in the padding alone"
            )
        if problem:
            raise refusal(self.section, "padding", problem, "correct size or padding")
        for extra in range(2):
            pad = before + extra * stride
            if pad < size and -(-(extent + 2 * pad - size) // stride) + 1 >= out + extra:
                return out, extra
        raise AssertionError((extent, size, stride, padding))


def _pool(build: Builder, suffix: str, method: str, blob: str, windows: _Windows) -> str:
    parameters: dict[str, Any] = {"pool": method, "kernel_size": windows.size}
    for what, values, default in (("stride", windows.stride, 1), ("pad", windows.pad, 0)):
        if values[0] != values[1]:
            parameters[f"{what}_h"], parameters[f"{what}_w"] = values
        elif values[0] != default:
            parameters[what] = values[0]
    blob = build.add("Pooling", suffix, blob, pooling_param=parameters)
    if method == "AVE":
        _check_average(build, windows, blob)
    rows, columns = (
        (extra, have - extra - out)
        for extra, out, have in zip(windows.extra, windows.out, build.shapes[blob][2:], strict=True)
    )
    return crop(build.add, blob, build.shapes[blob][1], rows, columns)


def _maxpool_depth(build: Builder, section: Section, antialiasing: int) -> Output:
    """Output channel g is the largest of the channels g, g + n, g + 2n ... (AlexeyAB maxpool_layer.c:285).

    Size and stride have no say. The channels are cut into runs of n; of a last, shorter run the missing
    ones are taken from the run before it.
    """
    n = section.int("out_channels", 1, at_least=1)
    if antialiasing:
        build.refuse("antialiasing", "antialiasing has no meaning with maxpool_depth", "remove it")
    source = build.input()
    channels = source.channels
    if n > channels:
        raise refusal(
            section,
            "out_channels",
            f"out_channels={n} exceeds the {channels} channels of its input",
            "correct it",
        )
    blob = build.picture(source)
    runs = -(-channels // n)
    if runs == 1:
        return Output(source.shape, blob)
    if runs > _MOST_RUNS:
        raise refusal(
            section,
            "out_channels",
            f"out_channels={n} cuts the {channels} channels of its input into {runs} runs, and Caffe needs a "
            f"blob for each; expected at most {_MOST_RUNS}",
            "correct it",
        )
    if channels % n == 0:
        name = f"layer{build.index + 1}-slice"
        tops = [f"{name}{run}" for run in range(1, runs + 1)]
        parts = build.add_layer("Slice", name, [blob], tops, slice_param={"axis": 1})
    else:
        build.check_loadable((n, channels, 1, 1))
        parts = [
            selected(
                build.add,
                f"run{run + 1}",
                blob,
                channels,
                [g if g < channels else g - n for g in range(run * n, run * n + n)],
            )
            for run in range(runs)
        ]
    blob = build.add("Eltwise", "maxpool", parts, eltwise_param={"operation": "MAX"})
    return Output((n, *source.size), blob)


def emit_local_avgpool(build: Builder, section: Section) -> Output:
    """The mean of those elements of a window that lie inside (AlexeyAB maxpool_layer.c:355).

    Caffe divides by the part of the window inside the padded picture; a Scale of one coefficient per
    place corrects that where the two counts differ.
    """
    import numpy as np

    size, stride, padding = _read_window(section, with_directions=True)
    source = build.input()
    windows = _Windows(section, source, size, stride, padding)
    if max(windows.out) > _MOST_WINDOWS:
        raise refusal(
            section,
            "stride",
            f"makes a map of {windows.out[0]} x {windows.out[1]}, expected at most {_MOST_WINDOWS} each way",
            "use a smaller picture",
        )
    blob = _pool(build, "local-avgpool", "AVE", build.picture(source), windows)
    factors = [_correction(windows, axis) for axis in range(2)]
    if any(np.any(factor != 1) for factor in factors):
        blob = build.add(
            "Scale",
            "count",
            blob,
            in_place=True,
            blobs=[DeferredBlob(windows.out, lambda: np.outer(*factors))],
            scale_param={"axis": 2, "num_axes": 2, "bias_term": False},
        )
    return Output((source.channels, *windows.out), blob)


def _correction(windows: _Windows, axis: int) -> Array:
    """For each of Darknet's windows along an axis: Caffe's count over the number of elements inside."""
    import numpy as np

    extent = windows.source.size[axis]
    starts = np.arange(windows.out[axis]) * windows.stride[axis] - windows.before
    ends = starts + windows.size
    caffe = np.minimum(ends, extent + windows.pad[axis]) - starts
    inside = np.minimum(ends, extent) - np.maximum(starts, 0)
    factor: Array = caffe / inside
    return factor


def _check_average(build: Builder, windows: _Windows, blob: str) -> None:
    """Caffe divides by zero in a window that holds nothing; cutting it off would spread the NaN."""
    for axis, have in enumerate(build.shapes[blob][2:]):
        if (have - 1) * windows.stride[axis] - windows.pad[axis] >= windows.source.size[axis]:
            raise refusal(
                windows.section,
                "stride",
                f"an average of size={windows.size} with a larger stride {windows.stride[axis]} has no form "
                f"in Caffe for an input of {windows.source.size[axis]}",
                "use a stride that is at most the size",
            )


def emit_avgpool(build: Builder, section: Section) -> Output:
    """The mean of each channel."""
    source = build.input()
    blob = build.add(
        "Pooling", "avgpool", build.picture(source), pooling_param={"pool": "AVE", "global_pooling": True}
    )
    return Output((source.channels, 1, 1), blob)
