"""Replace Crop by a convolution with a one-hot kernel.

    before:  x, y -> Crop -> z        after:  x -> Convolution { group: C } -> z

The second bottom gives nothing but its size. Rows and columns are cut by a convolution each where that is
cheaper.

Declined where shapes are not known, where batch or channels are cut, where nobody else reads the second
bottom, which would become an output, and where more is cut off than a kernel of 255 can.
"""

from __future__ import annotations

from nnie_prep.blob_map import Note
from nnie_prep.composites import Add, crop
from nnie_prep.net import Layer, Net
from nnie_prep.passes.replacement import LARGEST_KERNEL, replace_layer, why_bottom_stays
from nnie_prep.shapes import Shape, known_shapes
from nnie_prep.shapes.tops import crop_offsets


def replace_crop(net: Net) -> list[Note]:
    """Replaces each Crop."""
    found = [layer for layer in net.layers if layer.type == "Crop"]
    shapes = known_shapes(net) if found else {}
    return [_replaced(net, layer, [shapes.get(name) for name in layer.bottoms]) for layer in found]


def _replaced(net: Net, layer: Layer, shapes: list[Shape | None]) -> Note:
    source, size = shapes
    if source is None or size is None:
        reason = f"the shape of {layer.bottoms[0 if source is None else 1]} is not known"
        return Note(layer.name, f"Crop not replaced: {reason}", changed=False)
    axis, offsets = crop_offsets(layer, [source, size])
    if len(source) != 4 or axis < 1 or (axis == 1 and source[1] != size[1]):
        return Note(layer.name, "Crop not replaced: it does not cut rows and columns alone", changed=False)
    sides = []
    for place in (2, 3):
        before = offsets[place - axis] if place >= axis else 0
        extent = size[place] if place >= axis else source[place]
        sides.append((before, source[place] - extent - before))
    rows, columns = sides
    reason = _why_not(net, layer, max(sum(rows), sum(columns)) + 1)
    if not reason:

        def form(add: Add, blob: str) -> str:
            return crop(add, blob, source[1], rows, columns)

        layer.bottoms = layer.bottoms[:1]
        _, reason = replace_layer(net, layer, form)
        assert not reason, reason  # a Crop is never in place
        return Note(layer.name, f"Crop of rows {rows} and columns {columns} replaced by convolution")
    return Note(layer.name, f"Crop not replaced: {reason}", changed=False)


def _why_not(net: Net, layer: Layer, kernel: int) -> str:
    if kernel == 1:
        return "it cuts nothing off"
    if kernel > LARGEST_KERNEL:
        return f"it would take a kernel of {kernel}, and NNIE's largest is {LARGEST_KERNEL}"
    first, second = layer.bottoms
    return why_bottom_stays(net, layer, 1) if first != second else ""
