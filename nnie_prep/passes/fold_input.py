"""Fold what is done to the pictures into the layers that read them, so that the board feeds raw bytes.

    before:  (x - mean) * scale -> data -> conv        after:  x -> data -> conv'

Into every Convolution, Deconvolution, InnerProduct, depthwise convolution and Scale that reads the input: all
of them, or none; a PriorBox, and a Crop as its second bottom, read the size alone. A scale goes into the
weights; a mean, through the weights, into the bias; RGB for BGR swaps the weights' input channels. The input
keeps its name, and its values have another meaning.

Declined where a layer of another type reads the input, or none, or it is an output, for weights that are
shared or not loaded, for a swap of channels that are not three or in several groups, for a mean before a
kernel larger than the picture, and for a mean before a convolution with padding: its zeros at the border
stood for the mean, and stand for black now. With `border` "inexact" that is done all the same, where one
convolution alone reads the input.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnie_prep.blob_map import Note
from nnie_prep.net import Layer, Net
from nnie_prep.normalization import Normalization
from nnie_prep.passes.followers import follower_factors
from nnie_prep.passes.forwards import inputs_of, misfit, reaches_over, spoils_shift, take_in, why_not_into
from nnie_prep.passes.sharing import Sharing
from nnie_prep.shapes import Shape, net_input_shapes
from nnie_prep.shapes.weights import WEIGHTED
from nnie_prep.weights import Factors

_SIZE_ALONE = {"PriorBox": (0, 1), "Crop": (1,)}  # the bottoms whose values Caffe does not look at


def fold_input(net: Net, normalization: Normalization) -> list[Note]:
    """Folds it into all readers of the input `normalization.blob`, and says so at the head of the net."""
    name = normalization.blob
    readers, factors = input_readers(net, name), normalization.factors()
    factors = factors.over(3) if normalization.swaps else factors
    reasons = [_why_not(net, name, factors) or ("" if readers else f"no layer reads the values of {name}")]
    sharing = Sharing(net)
    shape = net_input_shapes(net).get(name)
    for layer in readers:
        reasons.append(_why_not_into(layer, factors, normalization.swaps, sharing, shape))
    spoiled = spoiled_by(readers, normalization)
    if spoiled and normalization.border != "inexact":
        reasons += spoiled.values()
    elif spoiled and (len(readers) > 1 or readers[0].type == "Deconvolution"):
        reasons.append(f"border=inexact is for one convolution, and {name} is read by {_named(readers)}")
    if declined := [reason for reason in reasons if reason]:
        return [Note(name, f"input not folded: {reason}", changed=False) for reason in declined]
    for layer in readers:
        if layer.type == "Scale":
            _take_into_scale(layer, factors)
        else:
            take_in(layer, factors, normalization.swaps)
    net.comments.insert(0, normalization.mark())
    text = f"folded {normalization.text()} of input {name} into"
    return [Note(layer.name, f"{text} {layer.name}" + _border(layer in spoiled)) for layer in readers]


def spoiled_by(readers: Sequence[Layer], normalization: Normalization) -> dict[Layer, str]:
    """The layers that do not see the mean through all weights, and why."""
    if not normalization.factors().shift.any():
        return {}
    reasons = {layer: spoils_shift(layer, "the input") for layer in readers if layer.type in WEIGHTED}
    return {layer: reason for layer, reason in reasons.items() if reason}


def _named(layers: Sequence[Layer]) -> str:
    return ", ".join(f"{layer.name} ({layer.type})" for layer in layers)


def _border(is_spoiled: bool) -> str:
    return "; inexact at the border, where zeros stand for the mean" if is_spoiled else ""


def input_readers(net: Net, name: str) -> list[Layer]:
    """Who reads the input's values before a layer in place overwrites it."""
    found = []
    for layer in net.layers:
        places = {place for place, bottom in enumerate(layer.bottoms) if bottom == name}
        if not places.issubset(_SIZE_ALONE.get(layer.type, ())):
            found.append(layer)
            if name in layer.tops:
                break
    return found


def _why_not(net: Net, name: str, factors: Factors) -> str:
    if name not in net.inputs():
        return f"the net has no input {name}"
    if name in net.outputs() or (name in net.wanted and name not in net.last_writers()):
        return f"{name} is an output of the net too"
    shape = net_input_shapes(net).get(name, ())
    if factors.scale.ndim and len(shape) > 1 and shape[1] != factors.scale.size:
        return f"{name} has {shape[1]} channels, and there are values for {factors.scale.size}"
    return ""


def _why_not_into(layer: Layer, factors: Factors, swaps: bool, sharing: Sharing, shape: Shape | None) -> str:
    """Why it cannot be taken into one reader, or ""."""
    if layer.type == "Scale":
        own, reason = follower_factors(layer)
        if own is None:
            return reason
        if swaps:
            return f"{layer.name} (Scale) would hand on the channels in the other order"
        if factors.scale.ndim and not own.fit(factors.scale.size):
            return f"{layer.name} does not have the {factors.scale.size} channels that are scaled"
        return sharing.text(layer)
    if layer.type not in WEIGHTED:
        return f"{layer.name} ({layer.type}) reads it"
    if reason := why_not_into(layer, sharing) or misfit(layer, factors):
        return reason
    if swaps and inputs_of(layer, factors)[1] > 1:
        return f"{layer.name} works on the channels in groups, which cannot change places"
    return reaches_over(layer, "the input", shape) if factors.shift.any() else ""


def _take_into_scale(layer: Layer, factors: Factors) -> None:
    own, reason = follower_factors(layer)
    assert own is not None, reason
    layer.proto.scale_param.bias_term = True
    layer.blobs = [np.asarray(one, dtype=np.float32) for one in factors.then(own).over(own.scale.size)]
