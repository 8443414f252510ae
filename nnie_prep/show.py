"""What a net consists of: layers, shapes, parameters, multiply-adds."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nnie_prep.net import Net
from nnie_prep.shapes import blob_shapes, multiply_adds, walk_shapes


@dataclass(frozen=True)
class LayerFigures:
    """One layer: shape of its first top, number of weights, multiply-adds for the net's batch.

    `shape`, `parameters` and `multiply_adds` are None where the layer's type is not known here.
    """

    name: str
    type: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    shape: tuple[int, ...] | None
    parameters: int | None
    multiply_adds: int | None
    origin: str


def layer_figures(net: Net) -> list[LayerFigures]:
    """The figures of each layer, in execution order. Weights are counted as the prototxt implies them."""
    rows = []
    for layer, bottoms, tops in walk_shapes(net):
        parameters: int | None = sum(blob.size for blob in layer.blobs)
        if not layer.blobs:
            is_known = bottoms is not None and tops is not None
            parameters = sum(map(math.prod, blob_shapes(layer, bottoms or []))) if is_known else None
        rows.append(
            LayerFigures(
                layer.name,
                layer.type,
                tuple(layer.bottoms),
                tuple(layer.tops),
                tops[0] if tops else None,
                parameters,
                None if bottoms is None or tops is None else multiply_adds(layer, bottoms, tops),
                layer.origin,
            )
        )
    return rows


def totals(rows: list[LayerFigures]) -> tuple[int, int]:
    """Parameters and multiply-adds of all layers whose figures are known."""
    return sum(row.parameters or 0 for row in rows), sum(row.multiply_adds or 0 for row in rows)
