"""What fold_batchnorm and fold_scale share: taking layers that scale channels into the layer before them.

    before:  layer -> follower -> follower -> y        after:  layer' -> y

A run of followers is taken in one rounding of the weights, and these are computed when they are read.
Layers that share weights are folded together, where what follows them does the same to each.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from nnie_prep import weights
from nnie_prep.blob import DeferredBlob, pieces_of
from nnie_prep.blob_map import Fate, Note
from nnie_prep.memory import why_not_joined
from nnie_prep.net import Layer, Net
from nnie_prep.nnie_caffe_pb2 import ConvolutionParameter, InnerProductParameter
from nnie_prep.passes.followers import FOLLOWERS, follower_factors
from nnie_prep.passes.sharing import Sharing
from nnie_prep.shapes.weights import WEIGHTED
from nnie_prep.weights import Factors, Layout


def weighted_param(layer: Layer) -> ConvolutionParameter | InnerProductParameter:
    """The message that holds num_output and bias_term of a WEIGHTED layer."""
    if layer.type == "InnerProduct":
        return layer.proto.inner_product_param
    return layer.proto.convolution_param


def layout_of(layer: Layer) -> tuple[Layout, int]:
    """How the weights of a WEIGHTED layer lie, and in how many groups their outputs do."""
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


class Fold(NamedTuple):
    """A WEIGHTED layer, the followers that can be taken into it, and what they do together."""

    layer: Layer
    run: list[Layer]
    factors: Factors


def foldable(net: Net, layer: Layer, sharing: Sharing, types: tuple[str, ...]) -> list[Fold]:
    """What can be folded into a layer, and at once into all that share its weights; [] if nothing can."""
    if layer.type not in WEIGHTED or _why_not_into(layer, sharing):
        return []
    found = [_longest_run(net, one, sharing, types) for one in sharing.group(layer)]
    folds = [fold for fold in found if fold is not None]
    if len(folds) < len(found) or not all(folds[0].factors.equal(fold.factors) for fold in folds):
        return []
    return folds


def _longest_run(net: Net, layer: Layer, sharing: Sharing, types: tuple[str, ...]) -> Fold | None:
    run: list[Layer] = []
    total = Factors(np.array(1.0), np.array(0.0)).over(weighted_param(layer).num_output)
    while True:
        follower, _ = net.only_reader(run[-1] if run else layer, *types)
        if follower is None:
            break
        factors, _ = follower_factors(follower)
        if factors is None or sharing.dispute(follower) or _misfit(layer, factors):
            break
        if why_not_joined(net, (layer, *run, follower)):
            break
        run.append(follower)
        total = total.then(factors)
    return Fold(layer, run, total) if run else None


def fold_run(net: Net, fold: Fold) -> Note:
    """Takes the run into the layer's weights, and the run's last top for its own."""
    layer, run, factors = fold
    names = dict.fromkeys(one.tops[0] for one in (layer, *run))
    del names[run[-1].tops[0]]
    for follower in run:
        net.absorb(layer, follower)

    layout, group = layout_of(layer)
    old = layer.blobs
    row = old[0].size // factors.scale.size  # of an output channel, where these come first

    def pieces(unit: int) -> Iterator[memoryview]:
        return weights.scale_in_pieces(pieces_of(old[0], math.lcm(unit, row)), factors.scale, row)

    layer.blobs = [
        DeferredBlob(
            old[0].shape,
            lambda: weights.scale_output_channels(np.asarray(old[0]), factors.scale, layout, group),
            pieces if layout == "out, in" else None,
        )
    ]
    if len(old) > 1:
        layer.blobs.append(
            DeferredBlob(old[1].shape, lambda: weights.scale_bias(np.asarray(old[1]), factors))
        )
    folded = ", ".join(f"{one.name} ({one.type})" for one in run)
    fate = Fate((), f"folded into {layer.name}")
    return Note(layer.name, f"folded {folded} into {layer.name}", fates=dict.fromkeys(names, fate))


def why_not_folded(net: Net, follower: Layer, sharing: Sharing) -> str:
    """Why one of FOLLOWERS that `foldable` left standing could not be taken."""
    factors, reason = follower_factors(follower)
    if factors is None:
        return reason
    if reason := sharing.dispute(follower):
        return reason
    before = net.writer(follower)
    if before is None:
        return f"{follower.bottoms[0]} is an input of the net"
    if before.type not in WEIGHTED + FOLLOWERS:
        return f"{follower.bottoms[0]} is written by {before.name} ({before.type})"
    if before.type in WEIGHTED and (reason := _why_not_into(before, sharing)):
        return reason
    _, reason = net.only_reader(before)
    if reason:
        return reason
    if before.type in WEIGHTED:
        if reason := _misfit(before, factors):
            return reason
        if reason := sharing.text(before):
            return f"{reason}, and not everything that shares them is followed by the same"
        if reason := why_not_joined(net, (before, follower)):
            return reason
    return f"{before.name} ({before.type}) before it is not folded"


def _why_not_into(layer: Layer, sharing: Sharing) -> str:
    """Why nothing can be taken into a WEIGHTED layer, or ""."""
    if reason := weights_problem(layer):
        return reason
    for other in sharing.group(layer)[1:]:
        if other.type != layer.type or weights_problem(other) or _form(other) != _form(layer):
            return f"{sharing.text(layer)}, and {other.name} ({other.type}) uses them differently"
        if reason := sharing.dispute(other):
            return reason
    axis = weighted_param(layer).axis
    return f"the channels of {layer.name} are not on axis 1 (axis {axis})" if axis != 1 else ""


def _form(layer: Layer) -> object:
    """How a WEIGHTED layer takes its weights; those that share weights must be alike in it."""
    param = weighted_param(layer)
    names = [spec.name for spec in layer.proto.param][: len(layer.blobs)]
    shapes = [blob.shape for blob in layer.blobs]
    return layout_of(layer), param.num_output, param.bias_term, param.axis, names, shapes


def _misfit(layer: Layer, factors: Factors) -> str:
    """Why these factors cannot be taken into this layer, or ""."""
    channels = weighted_param(layer).num_output
    if not factors.fit(channels):
        return f"{layer.name} has {channels} output channels, and {factors.scale.size} are scaled"
    if len(layer.blobs) == 1 and factors.shift.any():
        return f"{layer.name} has no bias to take the shift; insert_bias gives it one"
    return ""
