"""What STEM.json says of heads, when the maps that they read have got another size.

A head of anchors is told of by the cell, and so is what has no words of its own for a size: there only the
size changes. An SSD's priors, or what a Reshape behind the net does, were told for the size that was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from nnie_prep.shapes import Shape

RESIZED = "what it reads has another size now: give the net that it was cut from this size, and prepare that"
_NAMES = ("layer", "line", "type", "output")
_OF_A_SIZE = ("PriorBox", "Reshape")


def resize_head(head: dict[str, Any], shapes: Mapping[str, Shape], pictures_differ: bool) -> bool:
    """Makes one of the heads true of blobs of these shapes; whether it is told of still.

    Args:
        pictures_differ: an input has another height or width, which priors are in units of, too.
    """
    if pictures_differ or _is_resized(head, shapes):
        fixed = any("location" in source for source in _objects(head.get("sources")))
        if fixed or any(layer.get("type") in _OF_A_SIZE for layer in _objects(head.get("layers"))):
            told = {name: head[name] for name in _NAMES if name in head}
            head.clear()
            head.update(told, none=RESIZED)
            return False
    if head.get("blob") in shapes and "shape" in head:
        head["shape"] = list(shapes[head["blob"]][1:])
    for source in _objects(head.get("sources")):
        if source.get("blob") in shapes and "map" in source:
            source["map"] = list(shapes[source["blob"]][2:])
    for read in _objects(head.get("reads")):
        if read.get("blob") in shapes:
            read["shape"] = [*read["shape"][:1], *shapes[read["blob"]][1:]]
    return True


def _is_resized(head: Mapping[str, Any], shapes: Mapping[str, Shape]) -> bool:
    """Whether what an SSD's head or a tail reads has another shape than it tells."""
    for source in _objects(head.get("sources")):
        place = source.get("location", {})
        shape = shapes.get(place.get("blob"))
        if shape and [shape[axis] for axis in place["order"][1:3]] != source["map"]:
            return True
    return any(
        shapes[read["blob"]][1:] != tuple(read["shape"][1:])
        for read in _objects(head.get("reads"))
        if read.get("blob") in shapes
    )


def _objects(values: Any) -> Iterator[dict[str, Any]]:
    yield from (one for one in values or () if isinstance(one, dict))
