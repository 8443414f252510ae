"""Replace Interp, bilinear with the corners where they were, by a deconvolution or a convolution.

    before:  x -> Interp { zoom_factor: 8 } -> y
    after:   x -> Deconvolution { kernel_size: 15 stride: 8 pad: 7 group: C }, tents -> y

Where n pixels become f * (n - 1) + 1, as with a zoom_factor, each becomes a tent that ends at its
neighbours. One pixel becomes a picture of itself. Where every f-th pixel stays, as with a shrink_factor,
that is a convolution with a stride.

Declined for other sizes, for one that grows one way and shrinks the other, where it crops, where the size
of its bottom is not known, and for kernels beyond NNIE's 255.
"""

from __future__ import annotations

import numpy as np

from nnie_prep import kernels
from nnie_prep.blob import Array
from nnie_prep.blob_map import Note
from nnie_prep.composites import Add, thinned
from nnie_prep.net import Layer, Net
from nnie_prep.passes.replacement import LARGEST_KERNEL, replace_layer
from nnie_prep.shapes import Shape, known_shapes

# What one axis takes: the kernel, the stride, and the padding, of a deconvolution.
Axis = tuple[Array, int, int]


def replace_interp(net: Net) -> list[Note]:
    """Replaces each Interp that has such a form."""
    found = [layer for layer in net.layers if layer.type == "Interp"]
    shapes = known_shapes(net) if found else {}
    return [_replaced(net, layer, shapes.get(layer.bottoms[0]), shapes.get(layer.tops[0])) for layer in found]


def _replaced(net: Net, layer: Layer, before: Shape | None, after: Shape | None) -> Note:
    parameter = layer.proto.interp_param
    if before is None or after is None:
        reason = f"the size of {layer.bottoms[0]} is not known"
        return Note(layer.name, f"Interp not replaced: {reason}", changed=False)
    sizes = f"{before[2]} x {before[3]} to {after[2]} x {after[3]}"
    channels = before[1]
    grows = [_grown(have, want) for have, want in zip(before[2:], after[2:], strict=True)]
    shrinks = [_step(have, want) for have, want in zip(before[2:], after[2:], strict=True)]

    def spread(add: Add, blob: str) -> str:
        (tall, *rows), (wide, *columns) = (axis for axis in grows if axis is not None)
        parameter = kernels.convolution_param(
            channels,
            (tall.size, wide.size),
            stride=(rows[0], columns[0]),
            pad=(rows[1], columns[1]),
            group=channels,
        )
        weights = kernels.depthwise(channels, np.outer(tall, wide))
        return add("Deconvolution", "", blob, blobs=[weights], convolution_param=parameter)

    def skip(add: Add, blob: str) -> str:
        return thinned(add, blob, channels, (shrinks[0], shrinks[1]))

    if parameter.pad_beg or parameter.pad_end:
        return Note(layer.name, "Interp not replaced: it crops (pad_beg, pad_end)", changed=False)
    if all(shrinks):
        form = skip
    elif None not in grows:
        form = spread
    else:
        return Note(
            layer.name, f"Interp not replaced: {sizes} is no whole factor between corners", changed=False
        )
    new, _ = replace_layer(net, layer, form)
    return Note(layer.name, f"Interp from {sizes} replaced by {new[0].type}")


def _grown(have: int, want: int) -> Axis | None:
    """From `have` pixels to `want`; None if there is no such kernel, as where that is less."""
    if have == 1:
        return (np.ones(want), want, 0) if want <= LARGEST_KERNEL else None
    factor = (want - 1) // (have - 1)
    if factor < 1 or factor * (have - 1) != want - 1 or 2 * factor - 1 > LARGEST_KERNEL:
        return None
    tent: Array = 1 - np.abs(np.arange(1 - factor, factor)) / factor
    return tent, factor, factor - 1


def _step(have: int, want: int) -> int:
    """Every how many pixels one stays; 0 if that is no whole number."""
    if want == 1:
        return have if have <= LARGEST_KERNEL else 0  # the first, whatever comes behind
    return (have - 1) // (want - 1) if (have - 1) % (want - 1) == 0 else 0
