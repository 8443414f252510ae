"""Types of layers that only training needs: those that read pictures and labels, losses and measures."""

from __future__ import annotations

from nnie_prep.net import Layer

# Layers that feed a net from files or databases: Caffe's own, SSD's, SegNet's.
DATA = (
    *("AnnotatedData", "Data", "DenseImageData", "DummyData", "HDF5Data", "ImageData", "MemoryData"),
    *("VideoData", "WindowData"),
)

# Besides all types that end in "Loss" and all layers with a loss_weight.
_MEASURES = ("Accuracy", "DetectionEvaluate", "EvalDetection", "HDF5Output", "Silence")


def is_training_layer(layer: Layer) -> bool:
    """Whether the layer computes a loss or a measure, or swallows blobs."""
    return layer.type in _MEASURES or layer.type.endswith("Loss") or any(layer.proto.loss_weight)
