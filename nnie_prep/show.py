"""What a net consists of: layers, shapes, parameters, multiply-adds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from nnie_prep.net import Layer, Net
from nnie_prep.shapes import blob_shapes, multiply_adds, walk_shapes
from nnie_prep.shapes.weights import CONVOLUTION_TYPES, WEIGHTED


class LayerFigures(NamedTuple):
    """One layer: shape of its first top, number of parameters, multiply-adds for the net's batch.

    `weights` are the parameters that multiply: those of convolutions and inner products, without their
    biases. `shape` and the counts are None where the layer's type is not known here.
    """

    name: str
    type: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    shape: tuple[int, ...] | None
    parameters: int | None
    weights: int | None
    multiply_adds: int | None
    origin: str


class Subtotal(NamedTuple):
    """What all layers of some types come to, as far as their figures are known; None where none is."""

    type: str
    layers: int
    parameters: int | None
    weights: int | None
    multiply_adds: int | None


def layer_figures(net: Net) -> list[LayerFigures]:
    """The figures of each layer, in execution order. Weights are counted as the prototxt implies them."""
    rows = []
    for layer, bottoms, tops in walk_shapes(net):
        counts: list[int] | None = [blob.size for blob in layer.blobs]
        if not layer.blobs:
            is_known = bottoms is not None and tops is not None
            counts = list(map(math.prod, blob_shapes(layer, bottoms or []))) if is_known else None
        rows.append(
            LayerFigures(
                layer.name,
                layer.type,
                tuple(layer.bottoms),
                tuple(layer.tops),
                tops[0] if tops else None,
                None if counts is None else sum(counts),
                None if counts is None else _multiplying(layer, counts),
                None if bottoms is None or tops is None else multiply_adds(layer, bottoms, tops),
                layer.origin,
            )
        )
    return rows


def _multiplying(layer: Layer, counts: Sequence[int]) -> int:
    return counts[0] if layer.type in WEIGHTED and counts else 0


def subtotals(rows: Iterable[LayerFigures]) -> list[Subtotal]:
    """A subtotal for each type, in the order of its first layer."""
    by_type: dict[str, list[LayerFigures]] = {}
    for row in rows:
        by_type.setdefault(row.type, []).append(row)
    return [_subtotal(type_, found) for type_, found in by_type.items()]


def convolutions(rows: Iterable[LayerFigures]) -> Subtotal:
    """All convolutions, whatever their type is called. What papers give for a network's size are mostly
    these weights, without biases and BatchNorm (arXiv 1704.04861, tables 1 and 2, for one)."""
    return _subtotal("convolutions", [row for row in rows if row.type in CONVOLUTION_TYPES])


def _subtotal(type_: str, rows: Sequence[LayerFigures]) -> Subtotal:
    return Subtotal(
        type_,
        len(rows),
        _sum([row.parameters for row in rows]),
        _sum([row.weights for row in rows]),
        _sum([row.multiply_adds for row in rows]),
    )


def totals(rows: Sequence[LayerFigures]) -> tuple[int | None, int | None]:
    """Parameters and multiply-adds of all layers whose figures are known; None where none is."""
    return _sum([row.parameters for row in rows]), _sum([row.multiply_adds for row in rows])


def _sum(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return None if counts and not known else sum(known)
