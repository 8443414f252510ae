"""The shapes of blobs and of weights, as Caffe computes them when it reshapes a net.

Shapes are tuples, batch first: (N, C, H, W) for pictures, () for a scalar. What Caffe refuses
raises UserError at the layer's origin.
"""

from nnie_prep.shapes.checks import Shape
from nnie_prep.shapes.net import (
    data_dependent_blobs,
    infer_shapes,
    known_shapes,
    net_input_shapes,
    walk_shapes,
)
from nnie_prep.shapes.regions import DATA_DEPENDENT
from nnie_prep.shapes.tops import TOP_SHAPES, top_shapes
from nnie_prep.shapes.weights import blob_shapes, multiply_adds

__all__ = [
    "DATA_DEPENDENT",
    "TOP_SHAPES",
    "Shape",
    "blob_shapes",
    "data_dependent_blobs",
    "infer_shapes",
    "known_shapes",
    "multiply_adds",
    "net_input_shapes",
    "top_shapes",
    "walk_shapes",
]
