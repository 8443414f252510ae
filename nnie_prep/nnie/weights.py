"""Values of the weights: what is not finite, what BatchNorm cannot divide by, what 8 bits lose."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from nnie_prep import params
from nnie_prep.blob import Array
from nnie_prep.names import HIGH_PRECISION
from nnie_prep.net import Layer
from nnie_prep.nnie.finding import Found, Rule
from nnie_prep.nnie.subject import Subject
from nnie_prep.quantization.code import round_to_code


def finite_weights(subject: Subject) -> Iterator[Found]:
    """Weights hold NaN or an infinity.

    They spread over all that depends on the layer, and calibration comes to no range at all.

    Instead: take the weights from an earlier snapshot of the training.
    """
    for layer in subject.net.layers:
        for number, blob in enumerate(layer.blobs):
            count = int(np.count_nonzero(~np.isfinite(np.asarray(blob))))
            if count:
                message = f"{count} of the {blob.size} values of its blob {number} are not finite"
                yield Found(layer, message, count, "0 such values")


def batchnorm_values(subject: Subject) -> Iterator[Found]:
    """A BatchNorm's statistics cannot be right: a variance below 0, or sums over a factor of 0.

    The root of a negative number is NaN. Where the factor (the third blob) is 0, Caffe takes mean and
    variance for 0 and multiplies the values by 1/sqrt(eps): nothing was ever learned there, or the weights
    were not loaded.

    Instead: take the weights from a snapshot in which they are; check that the caffemodel is that of this
    net.
    """
    for layer in subject.net.layers:
        if layer.type != "BatchNorm" or len(layer.blobs) != 3:
            continue
        factor = float(np.asarray(layer.blobs[2]).reshape(-1)[0])
        variance = np.asarray(layer.blobs[1], dtype=np.float64)
        if factor == 0:
            message = "its factor is 0, so that mean and variance count as 0"
            yield Found(layer, message, 0.0, "a factor above 0")
            continue
        lowest = float(np.min(variance / factor, initial=math.inf))
        if lowest + params.batch_norm(layer).eps <= 0:
            yield Found(layer, f"its smallest variance is {lowest:.3g}", lowest, "variance + eps above 0")


def lost_filters(subject: Subject) -> Iterator[Found]:
    """All weights of a filter are too small for the 8-bit code of its layer, and become 0.

    The chip keeps a layer's weights as logarithms of 8 bits with one range for the whole layer: 245 : 1
    below its largest weight. What lies below half of the foot of that range becomes 0. Where that is each
    weight of a filter, its channel is a constant on the chip. Folding a BatchNorm whose scales differ
    widely brings it about, in depthwise layers above all; a filter that died in training is lost too, and
    no loss.

    Instead: ask for 16 bits for this layer (a name that ends in _hp, and compile_mode 2), or leave its
    BatchNorm unmerged (`--skip fold_batchnorm`).
    """
    for layer in subject.net.layers:
        filters = _filters(layer)
        if filters is None or not np.isfinite(filters).all():
            continue
        lost = _lost(filters)
        if lost.any():
            names = np.flatnonzero(lost)
            listed = ", ".join(map(str, names[:5])) + (", .." if len(names) > 5 else "")
            message = f"{len(names)} of its {len(lost)} filters become 0 in 8 bits ({listed})"
            new = f"{layer.name}={layer.name}{HIGH_PRECISION}"
            repair = subject.command("edit", "--rename-layer", new)
            yield Found(layer, message, len(names), "0 such filters", repair)


def _filters(layer: Layer) -> Array | None:
    """The weights, a row for each output (out, weights of one); None where the type has none."""
    if not layer.blobs or layer.name.endswith(HIGH_PRECISION):
        return None
    weights = np.asarray(layer.blobs[0])
    if layer.type in ("Convolution", *params.DEPTHWISE_TYPES):
        return weights.reshape(len(weights), -1)
    if layer.type == "InnerProduct" and weights.ndim == 2:
        return weights.T if layer.proto.inner_product_param.transpose else weights
    return None


def _lost(filters: Array) -> Array:
    """Which rows have values, and none that the layer's code keeps: neither the largest nor the smallest."""
    ends = np.stack([filters.max(axis=1), filters.min(axis=1)], axis=1)
    kept = round_to_code(ends, float(np.max(np.abs(ends), initial=0.0)))
    return np.logical_and(ends.any(axis=1), ~kept.any(axis=1))


RULES = (
    Rule(finite_weights, "A", "arithmetic"),
    Rule(batchnorm_values, "A", "Caffe's batch_norm_layer.cpp"),
    Rule(lost_filters, "A", "SenseTime's MQBench, which describes the chip's code", "info"),
)
