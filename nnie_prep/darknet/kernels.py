"""Constant weights that move, select or sum values without changing them.

All are computed when they are read. A product with 1 and sums with 0 are exact, so a layer with one-hot
weights moves finite values bit by bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnie_prep.net import Array, DeferredBlob

Pair = tuple[int, int]


def filled(shape: Sequence[int], value: float) -> DeferredBlob:
    """The same value everywhere."""
    return DeferredBlob(shape, lambda: np.full(tuple(shape), value, np.float32))


def depthwise(channels: int, kernel: Array) -> DeferredBlob:
    """(channels, 1, kh, kw): the same kernel (kh, kw) for each channel."""
    kept = np.asarray(kernel, dtype=np.float32)
    shape = (channels, 1, *kept.shape)
    return DeferredBlob(shape, lambda: np.broadcast_to(kept, shape))


def one_hot(size: Pair, at: Pair, value: float = 1.0) -> Array:
    """A kernel (kh, kw) that is zero but for one place."""
    kernel: Array = np.zeros(size, np.float32)
    kernel[at] = value
    return kernel


def selection(chosen: Sequence[int], channels: int) -> DeferredBlob:
    """(len(chosen), channels, 1, 1): output k is channel chosen[k]; zero where there is none."""
    shape = (len(chosen), channels, 1, 1)

    def compute() -> Array:
        weights: Array = np.zeros(shape, np.float32)
        for output, channel in enumerate(chosen):
            if 0 <= channel < channels:
                weights[output, channel] = 1.0
        return weights

    return DeferredBlob(shape, compute)


def space_to_depth(channels: int, stride: int) -> DeferredBlob:
    """(s*s*channels, channels, s, s): output off*channels + c is c at (off / s, off % s) of each block."""
    shape = (stride * stride * channels, channels, stride, stride)

    def compute() -> Array:
        weights: Array = np.zeros(shape, np.float32)
        for offset in range(stride * stride):
            block = weights[offset * channels : (offset + 1) * channels]
            np.fill_diagonal(block[:, :, offset // stride, offset % stride], 1.0)
        return weights

    return DeferredBlob(shape, compute)
