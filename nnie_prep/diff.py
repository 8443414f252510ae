"""Where two Caffe nets differ: header, layers, parameters, wiring, shapes, weights.

Layers are matched by name; of several with one name, the first with the first. What is compared is what
the files say, field by field: a field that is unset in one and spells out its default in the other
differs, since for some of Caffe's fields that is not the same. Whether two nets compute the same is
`verify`'s question.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import numpy as np
from google.protobuf.message import Message

from nnie_prep.blob import Array, Blob, pieces_of
from nnie_prep.net import Layer, Net
from nnie_prep.params import as_written
from nnie_prep.shapes import Shape, blob_shapes, net_input_shapes, walk_shapes

_PIECE = 1 << 18  # floats
_INPUTS = ("input", "input_shape", "input_dim")

Key = tuple[str, int]


@dataclass(frozen=True)
class ValueChange:
    """A field, a list of blob names or a shape that is not the same; None where a net has none.

    Values are str, int, float, bool, or a list of them; enum values are given by name.
    """

    what: str
    a: Any
    b: Any


@dataclass(frozen=True)
class BlobChange:
    """Weights that are not the same. A shape is None where the net has no such blob.

    The numbers are None where the shapes differ or weights were not compared: how many elements
    differ, max|a - b|, and that in units of max|a|. Both are infinite where one of the nets holds a
    NaN or an infinity and the other something else, and `relative` also where A's blob is all zero.
    """

    index: int
    a: Shape | None
    b: Shape | None
    differing: int | None = None
    max_abs: float | None = None
    relative: float | None = None


@dataclass(frozen=True)
class LayerChange:
    """A layer that both nets have. `values` are its parameters, then `bottom` and `top`."""

    a: Layer
    b: Layer
    values: tuple[ValueChange, ...]
    shapes: tuple[ValueChange, ...]  # of its tops, by name
    blobs: tuple[BlobChange, ...]


@dataclass
class Difference:
    """All differences between two nets, in A's order; what is added in B's."""

    header: list[ValueChange] = field(default_factory=list)
    removed: list[Layer] = field(default_factory=list)
    added: list[Layer] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)  # layers whose place among the common ones is another
    changed: list[LayerChange] = field(default_factory=list)
    common: int = 0  # layers that both have

    @property
    def is_empty(self) -> bool:
        return not (self.header or self.removed or self.added or self.moved or self.changed)


@dataclass(frozen=True)
class _Shaped:
    """A layer with the shapes of its tops and of its weights; None where they are not known."""

    layer: Layer
    tops: list[Shape] | None
    blobs: list[Shape] | None


def diff(
    a: Net, b: Net, *, weights: bool = True, progress: Callable[[str], None] = lambda text: None
) -> Difference:
    """Compares two nets. `weights` says that both were read with theirs, and compares the values.

    Without them, the shapes of the weights are those that the parameters imply. Values are read piece by
    piece, so that two large models take the memory of a few MB.
    """
    ours, theirs = _shaped(a), _shaped(b)
    found = Difference(header=_header_changes(a, b))
    found.removed = [one.layer for key, one in ours.items() if key not in theirs]
    found.added = [one.layer for key, one in theirs.items() if key not in ours]
    common = [key for key in ours if key in theirs]
    found.common = len(common)
    places = {key: place for place, key in enumerate(theirs)}
    staying = _longest_rise([places[key] for key in common])
    found.moved = [key[0] for place, key in enumerate(common) if place not in staying]
    for place, key in enumerate(common):
        progress(f"comparing layer {place + 1} of {len(common)}")
        change = _layer_change(ours[key], theirs[key], weights)
        if change.values or change.shapes or change.blobs:
            found.changed.append(change)
    return found


def _shaped(net: Net) -> dict[Key, _Shaped]:
    """The layers by name, and by number where several have one name."""
    seen: Counter[str] = Counter()
    layers = {}
    for layer, bottoms, tops in walk_shapes(net):
        is_known = bottoms is not None and tops is not None
        blobs = blob_shapes(layer, bottoms or []) if is_known else None
        layers[layer.name, seen[layer.name]] = _Shaped(layer, tops, blobs)
        seen[layer.name] += 1
    return layers


def _header_changes(a: Net, b: Net) -> list[ValueChange]:
    """Inputs with their shapes, however they are declared; outputs; and all other fields."""
    ours, theirs = (_input_shapes(net) for net in (a, b))
    changes = _changes(ours, theirs)
    if list(ours) != list(theirs) and ours.keys() == theirs.keys():
        changes.append(ValueChange("inputs", list(ours), list(theirs)))
    if a.outputs() != b.outputs():
        changes.append(ValueChange("outputs", a.outputs(), b.outputs()))
    headers = []
    for net in (a, b):
        values = field_values(net.header)
        headers.append({path: value for path, value in values.items() if _first(path) not in _INPUTS})
    return changes + _changes(*headers)


def _first(path: str) -> str:
    return path.partition(".")[0].partition("[")[0]


def _input_shapes(net: Net) -> dict[str, Any]:
    shapes = net_input_shapes(net)
    return {f"input {name}": list(shapes[name]) if name in shapes else [] for name in net.inputs()}


def _changes(a: dict[str, Any], b: dict[str, Any]) -> list[ValueChange]:
    """What is not the same in two maps, in A's order."""
    pairs = ((name, a.get(name), b.get(name)) for name in dict.fromkeys([*a, *b]))
    return [ValueChange(name, old, new) for name, old, new in pairs if not _same(old, new)]


def _same(a: Any, b: Any) -> bool:
    # 1 == 1.0 == True, and a NaN is not itself.
    return repr(a) == repr(b)


def field_values(message: Message, prefix: str = "") -> dict[str, Any]:
    """The fields that are set, by path: `convolution_param.pad` -> [1], `param[0].lr_mult` -> 2.0.

    A list of messages has a value of its own, its length: `param` -> 2.
    """
    values: dict[str, Any] = {}
    for descriptor, value in message.ListFields():
        path = prefix + descriptor.name
        if isinstance(value, Message):
            values |= field_values(value, path + ".")
        elif descriptor.message_type is not None:
            values[path] = len(value)
            for place, inner in enumerate(value):
                values |= field_values(inner, f"{path}[{place}].")
        elif isinstance(value, str | bytes | bool | int | float):
            values[path] = _plain(descriptor, value)
        else:
            values[path] = [_plain(descriptor, one) for one in value]
    return values


def _plain(descriptor: Any, value: Any) -> Any:
    if descriptor.enum_type is not None:
        return descriptor.enum_type.values_by_number[value].name
    if descriptor.cpp_type == descriptor.CPPTYPE_FLOAT:
        return as_written(value)
    return value


def _longest_rise(places: Sequence[int]) -> set[int]:
    """The indices of a longest subsequence that rises: what need not be moved to sort the rest."""
    ends: list[int] = []  # index of the smallest last place of a rise of each length
    before: list[int] = []
    for index, place in enumerate(places):
        length = bisect_left(ends, place, key=places.__getitem__)
        before.append(ends[length - 1] if length else -1)
        ends[length : length + 1] = [index]
    rise = set()
    index = ends[-1] if ends else -1
    while index >= 0:
        rise.add(index)
        index = before[index]
    return rise


# ---- layers ------------------------------------------------------------------------------------


def _layer_change(a: _Shaped, b: _Shaped, weights: bool) -> LayerChange:
    ours, theirs = (
        field_values(one.layer.proto) | {"bottom": one.layer.bottoms, "top": one.layer.tops} for one in (a, b)
    )
    blobs = _blob_changes(a, b) if weights else _blob_shape_changes(a, b)
    return LayerChange(
        a.layer, b.layer, tuple(_changes(ours, theirs)), tuple(_top_changes(a, b)), tuple(blobs)
    )


def _top_changes(a: _Shaped, b: _Shaped) -> list[ValueChange]:
    """Tops by place, each under the name that it has in B."""
    changes = []
    for place, name in enumerate(b.layer.tops[: len(a.layer.tops)]):
        old, new = (None if one.tops is None else list(one.tops[place]) for one in (a, b))
        if old != new:
            changes.append(ValueChange(name, old, new))
    return changes


def _blob_shape_changes(a: _Shaped, b: _Shaped) -> Iterator[BlobChange]:
    """From the shapes that the parameters imply, as far as both are known."""
    if a.blobs is None or b.blobs is None:
        return
    for index, (old, new) in enumerate(zip_longest(a.blobs, b.blobs)):
        if old != new:
            yield BlobChange(index, old, new)


def _blob_changes(a: _Shaped, b: _Shaped) -> Iterator[BlobChange]:
    for index, (old, new) in enumerate(zip_longest(a.layer.blobs, b.layer.blobs)):
        if old is not None and new is not None and tuple(old.shape) == tuple(new.shape):
            change = _compare_values(index, old, new)
            if change.differing:
                yield change
        else:
            a_shape, b_shape = (None if blob is None else tuple(blob.shape) for blob in (old, new))
            yield BlobChange(index, a_shape, b_shape)


def _compare_values(index: int, a: Blob, b: Blob) -> BlobChange:
    """Two blobs of one shape, a piece at a time."""
    differing, largest, scale = 0, 0.0, 0.0
    for x, y in _paired(a, b):
        scale = max(scale, _largest_finite(x))
        if np.array_equal(x.view(np.int32), y.view(np.int32)):
            continue
        unequal = ~((x == y) | (np.isnan(x) & np.isnan(y)))
        differing += int(np.count_nonzero(unequal))
        errors = np.abs(np.subtract(x[unequal], y[unequal], dtype=np.float64))
        if errors.size:
            most = float(errors.max())
            largest = max(largest, math.inf if math.isnan(most) else most)
    relative = largest / scale if scale else math.inf
    shape = tuple(a.shape)
    return BlobChange(index, shape, shape, differing, largest, relative)


def _largest_finite(values: Array) -> float:
    magnitudes = np.abs(values)
    largest = float(magnitudes.max())
    return largest if math.isfinite(largest) else float(magnitudes[np.isfinite(magnitudes)].max(initial=0.0))


def _paired(a: Blob, b: Blob) -> Iterator[tuple[Array, Array]]:
    """The values of two blobs of one size, flat, in pieces of equal length."""
    ours, theirs = _pieces(a), _pieces(b)
    x = y = np.empty(0, np.float32)
    left = a.size
    while left:
        x = x if x.size else next(ours)
        y = y if y.size else next(theirs)
        count = min(x.size, y.size)
        yield x[:count], y[:count]
        x, y = x[count:], y[count:]
        left -= count


def _pieces(blob: Blob) -> Iterator[Array]:
    for piece in pieces_of(blob):
        flat = np.frombuffer(piece, np.float32)
        for first in range(0, flat.size, _PIECE):
            yield flat[first : first + _PIECE]
