"""Drop the layers whose tops equal their bottom when the net is run.

    before:  x -> Dropout -> y -> conv        after:  x -> conv

By type: Dropout, Split, a Concat of one bottom, a Slice into one top. By value: Power with power 1,
scale 1 and shift 0, Scale of ones and Bias of zeros, BatchNorm whose statistics leave the values as
they are, ReLU behind a ReLU. By shape: Flatten, Reshape and Crop to the shape that the bottom has.

An output of the net keeps its name, and then the blob before it takes that name. Declined where the
blob before it is an input of the net or read elsewhere too, so that both names are needed, where the
order of the outputs would change, for a Dropout that says `phase: TRAIN`, for a Crop whose second bottom
nobody else reads, and where in Caffe a layer in place overwrites memory that a later reader of the
same values shares, or would share, or that a layer moved for the order of the outputs would read.
"""

from __future__ import annotations

import numpy as np

from nnie_prep.blob_map import Fate, Note
from nnie_prep.memory import why_memory_matters
from nnie_prep.net import Layer, Net
from nnie_prep.params import is_training
from nnie_prep.passes.followers import follower_factors
from nnie_prep.passes.replacement import why_bottom_stays
from nnie_prep.shapes import Shape, known_shapes


def drop_identity(net: Net) -> list[Note]:
    """Drops each layer that does nothing."""
    notes = []
    shapes = _shapes(net)
    for layer in list(net.layers):
        why = _why_identity(net, layer, shapes)
        if not why:
            continue
        bottom = layer.bottoms[0]
        if layer.type == "Dropout" and is_training(layer):
            reason = "it says phase: TRAIN"
        else:
            reason = why_memory_matters(net, layer) or _bypass(net, layer)
        if reason:
            notes.append(Note(layer.name, f"not dropped: {reason}", changed=False))
        else:
            notes.append(Note(layer.name, f"dropped: {why}", fates=_fates(net, bottom, layer.tops)))
    return notes


def _bypass(net: Net, layer: Layer) -> str:
    """Removes the layer, which may have a second bottom for its shape's sake; "" or why it cannot be."""
    first, *others = layer.bottoms
    for place, name in enumerate(others, 1):
        if name != first and (reason := why_bottom_stays(net, layer, place)):
            return reason
    layer.bottoms = [first]
    reason = net.bypass(layer)
    if reason:
        layer.bottoms = [first, *others]
    return reason


def _why_identity(net: Net, layer: Layer, shapes: dict[str, Shape]) -> str:
    """What makes the layer an identity; "" if it is none, or that cannot be known."""
    if layer.type in ("Dropout", "Split"):
        return f"{layer.type} changes no values"
    if layer.type == "Concat" and len(layer.bottoms) == 1:
        return "Concat has one bottom"
    if layer.type == "Slice" and len(layer.tops) == 1:
        return "Slice has one top"
    if layer.type == "Power":
        param = layer.proto.power_param
        plain = param.power == 1 and param.scale == 1 and param.shift == 0
        return "Power has power 1, scale 1 and shift 0" if plain else ""
    if layer.type in ("Scale", "Bias", "BatchNorm") and len(layer.bottoms) == 1 and layer.blobs:
        return f"{layer.type} changes no values" if _is_empty(layer) else ""
    if layer.type == "ReLU" and len(layer.bottoms) == 1:
        before = net.writer(layer)
        if before is None or before.type != "ReLU" or before.proto.relu_param.negative_slope:
            return ""
        return f"no value is negative behind {before.name} (ReLU)"
    if layer.type == "Crop" or (layer.type in ("Flatten", "Reshape") and len(layer.bottoms) == 1):
        shape = shapes.get(layer.bottoms[0])
        return f"{layer.type} keeps the shape {shape}" if shape and shape == shapes.get(layer.tops[0]) else ""
    return ""


def _is_empty(layer: Layer) -> bool:
    """Whether the values of a Scale, Bias or BatchNorm leave what they are applied to as it is."""
    if layer.type == "BatchNorm":
        factors, _ = follower_factors(layer)
        return factors is not None and factors.are_identity()
    identity = [1, 0] if layer.type == "Scale" else [0]
    return all((np.asarray(blob) == value).all() for blob, value in zip(layer.blobs, identity, strict=False))


def _fates(net: Net, bottom: str, tops: list[str]) -> dict[str, Fate]:
    """What became of the names that a layer read and wrote before it was bypassed."""
    left = {name for layer in net.layers for name in layer.tops}.union(net.header.input)
    if bottom not in left:
        return {bottom: Fate((tops[0],))}
    return {top: Fate((bottom,)) for top in tops if top not in left}


def _shapes(net: Net) -> dict[str, Shape]:
    """The shapes of the net's blobs, if anything asks for them."""
    asked = any(layer.type in ("Flatten", "Reshape", "Crop") for layer in net.layers)
    return known_shapes(net) if asked else {}
