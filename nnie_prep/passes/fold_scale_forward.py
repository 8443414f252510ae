"""Fold BatchNorm, Scale, Bias and Power layers into the layer with weights behind them.

    before:  x -> BatchNorm -> Scale -> conv        after:  x -> conv'

For Convolution, Deconvolution, InnerProduct and depthwise convolutions; several in a row go into one
rounding. A scale goes into the weights, and a shift, through the weights, into the bias.

A shift is exact only where every output sees it through all weights: it is declined for a Convolution with
padding or a kernel larger than the picture, since the zeros at the border are not shifted, and for a
Deconvolution whose kernel and stride are not 1. Declined too where anything else reads what is scaled or it
is an output of the net, where a layer of another type stands between, for factors that are not known or not
finite, for weights that are shared through `param { name }` or not loaded, where the input channels are not
on axis 1, where a shift finds no bias, for a layer in place on an input of the net, which keeps its name
and value, and where memory that Caffe shares would be overwritten.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nnie_prep.blob_map import Fate, Note
from nnie_prep.memory import memory_is_shared, why_memory_matters
from nnie_prep.net import Layer, Net
from nnie_prep.passes.followers import FOLLOWERS, follower_factors, is_follower
from nnie_prep.passes.forwards import misfit, reaches_over, spoils_shift, take_in, why_not_into
from nnie_prep.passes.sharing import Sharing
from nnie_prep.shapes import Shape, known_shapes
from nnie_prep.shapes.weights import WEIGHTED
from nnie_prep.weights import Factors


def fold_scale_forward(net: Net) -> list[Note]:
    """Folds each row of such layers into the layer behind it."""
    if not any(is_follower(layer) for layer in net.layers):
        return []
    notes = []
    sharing, shapes = Sharing(net), known_shapes(net)
    reasons: dict[Layer, str] = {}
    for layer in list(net.layers):
        if layer.type in WEIGHTED:
            run, factors = _take_run(net, layer, sharing, shapes, reasons)
            if run:
                notes.append(_fold(net, layer, run, factors))
    for layer in net.layers:
        if is_follower(layer):
            reason = reasons.get(layer) or _why_not_tried(net, layer)
            notes.append(Note(layer.name, f"not folded forward: {reason}", changed=False))
    return notes


def _take_run(
    net: Net, layer: Layer, sharing: Sharing, shapes: Mapping[str, Shape], reasons: dict[Layer, str]
) -> tuple[list[Layer], Factors]:
    """Takes the layers that can be folded out of the net, the nearest first; what they do together.

    `reasons` receives why it ends where it ends.
    """
    run: list[Layer] = []
    shape = shapes.get(layer.bottoms[0])
    total = Factors(np.array(1.0), np.array(0.0))
    while True:
        before = net.writer(layer)
        if before is None or before.type not in FOLLOWERS:
            return run, total
        factors, reason = follower_factors(before)
        if factors is not None and total.scale.ndim and not factors.fit(total.scale.size):
            reason = f"what is behind {before.name} has another number of channels"
        elif factors is not None:
            factors = factors.then(total)
            reason = _why_not(net, before, layer, factors, sharing, shape) or net.bypass(before)
        if factors is None or reason:
            reasons[before] = reason
            return run, total
        run.insert(0, before)
        total = factors


def _fold(net: Net, layer: Layer, run: list[Layer], factors: Factors) -> Note:
    """Takes what the run did into the layer's weights and bias."""
    names = dict.fromkeys(one.tops[0] for one in run)
    bottom = layer.bottoms[0]
    if bottom in names:  # it has another value than before
        net.rename_blob(bottom, _name_before(run[0]))

    take_in(layer, factors)
    folded = ", ".join(f"{one.name} ({one.type})" for one in run)
    fate = Fate((), f"folded into {layer.name}")
    return Note(layer.name, f"folded {folded} forward into {layer.name}", fates=dict.fromkeys(names, fate))


def _name_before(layer: Layer) -> str:
    """A name for the blob that a layer in place no longer overwrites."""
    return f"{layer.tops[0]}_before_{layer.name}"


def _why_not(
    net: Net, before: Layer, layer: Layer, factors: Factors, sharing: Sharing, shape: Shape | None
) -> str:
    """Why a layer, and what is taken already behind it (`factors` are of both), cannot be taken, or ""."""
    if reason := sharing.dispute(before) or why_not_into(layer, sharing):
        return reason
    _, reason = net.only_reader(before)
    if reason or (reason := _misfit(before, layer, factors, shape)):
        return reason
    if before.bottoms != before.tops:
        return why_memory_matters(net, before)
    name = before.tops[0]
    if name in net.header.input or any(name in one.tops for one in net.layers if not one.bottoms):
        return f"{before.name} is in place on {name}, an input of the net"
    if _name_before(before) in net.blob_names():
        return f"there is a blob {_name_before(before)} already"
    return f"in Caffe others share the memory of {name}" if memory_is_shared(net, before) else ""


def _misfit(before: Layer, layer: Layer, factors: Factors, shape: Shape | None) -> str:
    """Why these factors cannot be taken into this layer, or ""."""
    if (reason := misfit(layer, factors)) or not factors.shift.any():
        return reason
    return spoils_shift(layer, before.name) or reaches_over(layer, before.name, shape)


def _why_not_tried(net: Net, layer: Layer) -> str:
    """Why a layer was not met before a layer with weights."""
    factors, reason = follower_factors(layer)
    if factors is None:
        return reason
    reader, reason = net.only_reader(layer)
    if reader is None:
        return reason
    if is_follower(reader):
        return f"{reader.name} ({reader.type}) behind it is not folded"
    return f"{layer.tops[0]} is read by {reader.name} ({reader.type})"
