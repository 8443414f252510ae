"""Where the taps of a moving kernel fall."""

from __future__ import annotations


def fall(places: int, start: int, stride: int, extent: int) -> tuple[slice, slice]:
    """The places p in 0..places-1 with an element 0 <= start + p * stride < extent, and those elements.

    One axis of one tap of a kernel that stands at `places` places, `stride` apart: what it leaves
    out lies in the padding. Both slices are empty where all does.
    """
    first = max(0, -(start // stride))
    end = min(places, (extent - 1 - start) // stride + 1)
    if end <= first:
        return slice(0, 0), slice(0, 0)
    return slice(first, end), slice(start + first * stride, start + (end - 1) * stride + 1, stride)
