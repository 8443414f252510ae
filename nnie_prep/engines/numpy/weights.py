"""A layer's weights for a computation: checked against the shapes that Caffe expects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnie_prep.blob import Array
from nnie_prep.net import Layer
from nnie_prep.params import layer_error
from nnie_prep.shapes import Shape, blob_shapes


def weights(layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
    """The layer's blobs in the shapes of `blob_shapes` and the dtype of the bottoms.

    Shapes that differ only in leading ones are the same: files of old write (1, 1, 1, C) for (C,).
    """
    expected = blob_shapes(layer, [bottom.shape for bottom in bottoms])
    found = [tuple(blob.shape) for blob in layer.blobs]
    if len(found) != len(expected):
        raise layer_error(
            layer,
            f"it has {len(found)} blobs of weights, and needs {len(expected)}: {expected}",
            "give the caffemodel that belongs to this prototxt",
        )
    for index, (have, want) in enumerate(zip(found, expected, strict=True)):
        if _without_leading_ones(have) != _without_leading_ones(want):
            raise layer_error(
                layer,
                f"blob {index} has shape {have}, and shape {want} is needed",
                "give the caffemodel that belongs to this prototxt",
            )
    dtype = bottoms[0].dtype if bottoms else np.float32
    return [
        np.asarray(blob, dtype=dtype).reshape(want) for blob, want in zip(layer.blobs, expected, strict=True)
    ]


def _without_leading_ones(shape: Shape) -> Shape:
    start = next((axis for axis, extent in enumerate(shape) if extent != 1), len(shape))
    return shape[start:]
