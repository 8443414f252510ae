"""Constant weights that move, select or sum values without changing them, and parameters for them.

All are computed when they are read. A product with 1 and sums with 0 are exact, so a layer with one-hot
weights moves finite values bit by bit.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

from nnie_prep.blob import Array, DeferredBlob
from nnie_prep.params import Pair


def filled(shape: Sequence[int], value: float) -> DeferredBlob:
    """The same value everywhere."""

    def compute() -> Array:
        import numpy as np

        return np.full(tuple(shape), value, np.float32)

    return DeferredBlob(
        shape, compute, lambda unit: iter([memoryview(array("f", [value]) * math.prod(shape))])
    )


def depthwise(channels: int, kernel: Array) -> DeferredBlob:
    """(channels, 1, kh, kw): the same kernel (kh, kw) for each channel."""
    import numpy as np

    kept = np.asarray(kernel, dtype=np.float32)
    shape = (channels, 1, *kept.shape)
    return DeferredBlob(shape, lambda: np.broadcast_to(kept, shape))


def one_hot(size: Pair, at: Pair, value: float = 1.0) -> Array:
    """A kernel (kh, kw) that is zero but for one place."""
    import numpy as np

    kernel: Array = np.zeros(size, np.float32)
    kernel[at] = value
    return kernel


def selection(chosen: Sequence[int], channels: int) -> DeferredBlob:
    """(len(chosen), channels, 1, 1): output k is channel chosen[k]; zero where there is none."""
    shape = (len(chosen), channels, 1, 1)

    def compute() -> Array:
        import numpy as np

        weights: Array = np.zeros(shape, np.float32)
        for output, channel in enumerate(chosen):
            if 0 <= channel < channels:
                weights[output, channel] = 1.0
        return weights

    return DeferredBlob(shape, compute)


def space_to_depth(channels: int, block: Pair) -> DeferredBlob:
    """(bh*bw*channels, channels, bh, bw): output off*channels + c is c at (off / bw, off % bw) of a block."""
    rows, columns = block
    shape = (rows * columns * channels, channels, rows, columns)

    def compute() -> Array:
        import numpy as np

        weights: Array = np.zeros(shape, np.float32)
        for offset in range(rows * columns):
            part = weights[offset * channels : (offset + 1) * channels]
            np.fill_diagonal(part[:, :, offset // columns, offset % columns], 1.0)
        return weights

    return DeferredBlob(shape, compute)


def convolution_param(
    num_output: int,
    kernel: Pair,
    *,
    stride: Pair = (1, 1),
    pad: Pair = (0, 0),
    dilation: int = 1,
    group: int = 1,
    bias: bool = False,
) -> Mapping[str, Any]:
    """Caffe's parameters, with what is Caffe's default left out. Pairs are (vertical, horizontal)."""
    parameters: dict[str, Any] = {"num_output": num_output}
    if not bias:
        parameters["bias_term"] = False
    for values, both, each, default in (
        (pad, "pad", "pad", 0),
        (kernel, "kernel_size", "kernel", None),
        (stride, "stride", "stride", 1),
    ):
        if values[0] != values[1]:
            parameters[f"{each}_h"], parameters[f"{each}_w"] = values
        elif values[0] != default:
            parameters[both] = [values[0]]
    if dilation != 1:
        parameters["dilation"] = [dilation]
    if group != 1:
        parameters["group"] = group
    return parameters
