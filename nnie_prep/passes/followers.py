"""The layers that do y = scale * x + shift in each channel, and what their scale and shift are.

BatchNorm with stored statistics, Scale and Bias with weights of their own, and Power with power 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnie_prep import params, weights
from nnie_prep.blob import Blob
from nnie_prep.net import Layer
from nnie_prep.weights import Factors, Vector

SCALES = ("Scale", "Bias", "Power")
FOLLOWERS = ("BatchNorm", *SCALES)


def is_follower(layer: Layer) -> bool:
    """Whether the layer is of a type that does this; a Power with another power is not."""
    return layer.type in FOLLOWERS and (layer.type != "Power" or layer.proto.power_param.power == 1)


def follower_factors(layer: Layer) -> tuple[Factors | None, str]:
    """What one of FOLLOWERS does in each channel (axis 1): (factors, "") or (None, why unknown).

    The factors of a Power are (), for any number of channels.
    """
    if len(layer.bottoms) != 1 or len(layer.tops) != 1:
        return None, f"{layer.name} has {len(layer.bottoms)} bottoms and {len(layer.tops)} tops"
    factors, reason = (
        _power(layer) if layer.type == "Power" else
        _batchnorm(layer) if layer.type == "BatchNorm" else
        _scale(layer)
    )  # fmt: skip
    if factors is not None and not factors.are_finite():
        return None, f"{layer.name} makes values that are not finite"
    return factors, reason


def _power(layer: Layer) -> tuple[Factors | None, str]:
    param = layer.proto.power_param
    if param.power != 1:
        return None, f"{layer.name} has power {param.power:g}"
    return Factors(np.array(param.scale), np.array(param.shift)), ""


def _batchnorm(layer: Layer) -> tuple[Factors | None, str]:
    param = params.batch_norm(layer)
    if not param.use_global_stats:
        return None, f"{layer.name} uses the statistics of the batch, not stored ones (use_global_stats)"
    if not layer.blobs:
        return None, f"the weights of {layer.name} are not loaded"
    expected = 5 if param.scale_bias else 3
    if len(layer.blobs) != expected:
        return None, f"{layer.name} has {len(layer.blobs)} blobs, and by its scale_bias {expected}"
    mean, variance, factor, *scale_bias = vectors = _vectors(layer.blobs)
    if [one.size for one in vectors] != [mean.size, mean.size, 1, mean.size, mean.size][:expected]:
        return None, f"the blobs of {layer.name} have sizes {', '.join(str(one.size) for one in vectors)}"
    if not scale_bias:
        return weights.batchnorm_factors(mean, variance, float(factor[0]), param.eps), ""
    # NVCaffe stores no sums and divides by nothing, whatever the third blob holds.
    normalized = weights.batchnorm_factors(mean, variance, 1.0, param.eps)
    return normalized.then(weights.scale_factors(*scale_bias)), ""


def _scale(layer: Layer) -> tuple[Factors | None, str]:
    """Of a Scale or a Bias."""
    param = params.scale(layer)
    if param.axis != 1 or param.num_axes != 1:
        does = "add to" if layer.type == "Bias" else "scale"
        return None, f"{layer.name} does not {does} channels (axis {param.axis}, num_axes {param.num_axes})"
    if not layer.blobs:
        return None, f"the weights of {layer.name} are not loaded"
    if layer.type == "Bias":
        if len(layer.blobs) != 1:
            return None, f"{layer.name} has {len(layer.blobs)} blobs, and Caffe's Bias has 1"
        (shift,) = _vectors(layer.blobs)
        return weights.scale_factors(np.ones_like(shift), shift), ""
    expected = 2 if param.bias else 1
    if len(layer.blobs) != expected:
        return None, f"{layer.name} has {len(layer.blobs)} blobs, and by its bias_term {expected}"
    scale, *bias = _vectors(layer.blobs)
    if bias and bias[0].size != scale.size:
        return None, f"the blobs of {layer.name} have sizes {scale.size} and {bias[0].size}"
    return weights.scale_factors(scale, bias[0] if bias else None), ""


def _vectors(blobs: Sequence[Blob]) -> list[Vector]:
    return [weights.vector(np.asarray(blob)) for blob in blobs]
