"""SSD's DetectionOutput: a layer that decodes and suppresses in the net itself, and leaves rows of boxes."""

from __future__ import annotations

import numpy as np

from nnie_prep.blob import Array
from nnie_prep.detection import Detection
from nnie_prep.detection.preparation import Size
from nnie_prep.errors import UserError
from nnie_prep.net import Layer, Net


def detection_output(net: Net) -> Layer | None:
    """The DetectionOutput that the net ends in, if it does. UserError for several."""
    outputs = net.outputs()
    found = [layer for layer in net.layers if layer.type == "DetectionOutput" and layer.tops[0] in outputs]
    if len(found) > 1:
        names = ", ".join(layer.name for layer in found)
        hint = f"end the net at one: nnie-prep edit --until {found[0].tops[0]}"
        raise UserError(f"ends in {len(found)} DetectionOutput layers: {names}", net.source, hint)
    return found[0] if found else None


def boxes_of(layer: Layer, rows: Array, picture: Size, threshold: float) -> list[Detection]:
    """What the layer found, its kinds being labels, the most confident first.

    Args:
        rows: (1, 1, N, 7) of image, label, confidence, xmin, ymin, xmax, ymax, these in units of the
            network's input (detection_output_layer.cpp); a row of -1 says that nothing was found.
        picture: it was stretched over the input.
        threshold: what a confidence must exceed, 0 or more, besides the layer's own.

    Boxes are cut at the picture's edges; one that lies wholly outside is left out.
    """
    values = np.asarray(rows, np.float64).reshape(-1, 7)
    if not np.isfinite(values).all():
        hint = "`nnie-prep run --blobs all` shows where they begin"
        what = f"blob {layer.tops[0]} holds values that are not finite"
        raise UserError(what, layer.origin or layer.name, hint)
    corners = np.clip(values[:, 3:], 0, 1) * (*picture, *picture)
    seen = (values[:, 2] > threshold) & (corners[:, :2] < corners[:, 2:]).all(axis=1)
    found = [
        Detection(int(row[1]), float(row[2]), *map(float, box))
        for row, box in zip(values[seen], corners[seen], strict=True)
    ]
    return sorted(found, key=lambda one: (-one.confidence, one.kind, one[2:]))
