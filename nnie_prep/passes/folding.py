"""What fold_batchnorm and fold_scale share: taking BatchNorm and Scale layers into the layer before them.

    before:  layer -> follower -> follower -> y        after:  layer' -> y

A run of followers is taken in one rounding of the weights, and these are computed when they are read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

import numpy as np

from nnie_prep import params, weights
from nnie_prep.blob_map import Fate, Note
from nnie_prep.net import DeferredBlob, Layer, Net
from nnie_prep.nnie_caffe_pb2 import ConvolutionParameter, InnerProductParameter
from nnie_prep.weights import Factors, Layout

WEIGHTED = ("Convolution", "Deconvolution", "InnerProduct", *params.DEPTHWISE_TYPES)
FOLLOWERS = ("BatchNorm", "Scale")


def shared_names(net: Net) -> set[str]:
    """The names by which several params share their weights (`param { name: "w" }`)."""
    names = Counter(spec.name for layer in net.layers for spec in layer.proto.param if spec.name)
    return {name for name, count in names.items() if count > 1}


def weighted_param(layer: Layer) -> ConvolutionParameter | InnerProductParameter:
    """The message that holds num_output and bias_term of a WEIGHTED layer."""
    if layer.type == "InnerProduct":
        return layer.proto.inner_product_param
    return layer.proto.convolution_param


def layout_of(layer: Layer) -> tuple[Layout, int]:
    """How the weights of a WEIGHTED layer lie, and in how many groups."""
    if layer.type == "Deconvolution":
        return "in, out", layer.proto.convolution_param.group
    if layer.type == "InnerProduct" and layer.proto.inner_product_param.transpose:
        return "in, out", 1
    return "out, in", 1


def weights_problem(layer: Layer) -> str:
    """Why the weights of a WEIGHTED layer cannot be worked on, or ""."""
    if not layer.blobs:
        return f"the weights of {layer.name} are not loaded"
    param = weighted_param(layer)
    expected = 2 if param.bias_term else 1
    if len(layer.blobs) != expected:
        return f"{layer.name} has {len(layer.blobs)} blobs, and by its bias_term {expected}"
    layout, group = layout_of(layer)
    shape = layer.blobs[0].shape
    if layout == "in, out":
        fits = len(shape) > 1 and shape[1] * group == param.num_output and shape[0] % group == 0
    elif layer.type == "InnerProduct":
        fits = shape[:-1] in ((param.num_output,), (1, 1, param.num_output))  # the latter in old files
    else:
        fits = len(shape) > 1 and shape[0] == param.num_output
    if not fits:
        return f"the weights {shape} of {layer.name} do not fit its num_output {param.num_output}"
    if param.bias_term and layer.blobs[1].size != param.num_output:
        shape = layer.blobs[1].shape
        return f"the bias {shape} of {layer.name} does not fit its num_output {param.num_output}"
    return ""


def foldable_run(
    net: Net, layer: Layer, shared: Collection[str], types: tuple[str, ...]
) -> tuple[list[Layer], Factors | None]:
    """The followers behind a layer that can be taken into it, and what they do together."""
    run: list[Layer] = []
    total: Factors | None = None
    if layer.type not in WEIGHTED or _why_not_into(layer, shared):
        return run, total
    while True:
        follower, _ = net.only_reader(run[-1] if run else layer, *types)
        if follower is None:
            return run, total
        factors, _ = follower_factors(follower, shared)
        if factors is None or _misfit(layer, factors):
            return run, total
        run.append(follower)
        total = factors if total is None else total.then(factors)


def fold_run(net: Net, layer: Layer, run: list[Layer], factors: Factors) -> Note:
    """Takes the run into the layer's weights, and the run's last top for its own."""
    names = dict.fromkeys(one.tops[0] for one in (layer, *run))
    del names[run[-1].tops[0]]
    for follower in run:
        net.absorb(layer, follower)

    layout, group = layout_of(layer)
    old = layer.blobs
    layer.blobs = [
        DeferredBlob(
            old[0].shape,
            lambda: weights.scale_output_channels(np.asarray(old[0]), factors.scale, layout, group),
        )
    ]
    if len(old) > 1:
        layer.blobs.append(
            DeferredBlob(old[1].shape, lambda: weights.scale_bias(np.asarray(old[1]), factors))
        )
    folded = ", ".join(f"{one.name} ({one.type})" for one in run)
    fate = Fate((), f"folded into {layer.name}")
    return Note(layer.name, f"folded {folded} into {layer.name}", fates=dict.fromkeys(names, fate))


def why_not_folded(net: Net, follower: Layer, shared: Collection[str]) -> str:
    """Why a BatchNorm or Scale that `foldable_run` left standing could not be taken."""
    factors, reason = follower_factors(follower, shared)
    if factors is None:
        return reason
    before = net.writer(follower)
    if before is None:
        return f"{follower.bottoms[0]} is an input of the net"
    if before.type not in WEIGHTED + FOLLOWERS:
        return f"{follower.bottoms[0]} is written by {before.name} ({before.type})"
    if before.type in WEIGHTED and (reason := _why_not_into(before, shared)):
        return reason
    _, reason = net.only_reader(before)
    if reason:
        return reason
    if before.type in WEIGHTED and (reason := _misfit(before, factors)):
        return reason
    return f"{before.name} ({before.type}) before it is not folded"


def follower_factors(follower: Layer, shared: Collection[str]) -> tuple[Factors | None, str]:
    """What a BatchNorm or Scale does in each channel (axis 1): (factors, "") or (None, why unknown)."""
    if len(follower.bottoms) != 1 or len(follower.tops) != 1:
        return None, f"{follower.name} has {len(follower.bottoms)} bottoms and {len(follower.tops)} tops"
    if reason := _shares(follower, shared):
        return None, reason
    factors, reason = (_batchnorm if follower.type == "BatchNorm" else _scale)(follower)
    if factors is not None and not factors.are_finite():
        return None, f"{follower.name} makes values that are not finite"
    return factors, reason


def _batchnorm(layer: Layer) -> tuple[Factors | None, str]:
    param = params.batch_norm(layer)
    if not param.use_global_stats:
        return None, f"{layer.name} uses the statistics of the batch, not stored ones (use_global_stats)"
    if not layer.blobs:
        return None, f"the weights of {layer.name} are not loaded"
    if len(layer.blobs) != 3:
        return None, f"{layer.name} has {len(layer.blobs)} blobs, and Caffe's BatchNorm has 3"
    mean, variance, factor = (weights.vector(np.asarray(blob)) for blob in layer.blobs)
    if mean.size != variance.size or factor.size != 1:
        return None, f"the blobs of {layer.name} have sizes {mean.size}, {variance.size} and {factor.size}"
    return weights.batchnorm_factors(mean, variance, float(factor[0]), param.eps), ""


def _scale(layer: Layer) -> tuple[Factors | None, str]:
    param = layer.proto.scale_param
    if param.axis != 1 or param.num_axes != 1:
        return None, f"{layer.name} does not scale channels (axis {param.axis}, num_axes {param.num_axes})"
    if not layer.blobs:
        return None, f"the weights of {layer.name} are not loaded"
    expected = 2 if param.bias_term else 1
    if len(layer.blobs) != expected:
        return None, f"{layer.name} has {len(layer.blobs)} blobs, and by its bias_term {expected}"
    scale, *bias = (np.asarray(blob) for blob in layer.blobs)
    if bias and bias[0].size != scale.size:
        return None, f"the blobs of {layer.name} have sizes {scale.size} and {bias[0].size}"
    return weights.scale_factors(scale, bias[0] if bias else None), ""


def _why_not_into(layer: Layer, shared: Collection[str]) -> str:
    """Why nothing can be taken into a WEIGHTED layer, or ""."""
    if reason := weights_problem(layer) or _shares(layer, shared):
        return reason
    axis = weighted_param(layer).axis
    return f"the channels of {layer.name} are not on axis 1 (axis {axis})" if axis != 1 else ""


def _misfit(layer: Layer, factors: Factors) -> str:
    """Why these factors cannot be taken into this layer, or ""."""
    channels = weighted_param(layer).num_output
    if factors.scale.size != channels:
        return f"{layer.name} has {channels} output channels, and {factors.scale.size} are scaled"
    if len(layer.blobs) == 1 and factors.shift.any():
        return f"{layer.name} has no bias to take the shift; insert_bias gives it one"
    return ""


def _shares(layer: Layer, shared: Collection[str]) -> str:
    for spec in layer.proto.param:
        if spec.name in shared:
            return f"the weights of {layer.name} are shared (param name {spec.name!r})"
    return ""
