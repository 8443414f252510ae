"""Layers that the user's own code on the CPU computes: NNIE's Custom and Proposal, on request.

    before:  conv -> Mish -> y        after:  conv -> Custom -> y, custom_param { shape { dim .. } }

The layer keeps its name and its blobs' names; its parameters and weights are gone from the pair, since the
compiler wants nothing but the shape of each top. One that is in place gets a bottom of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from nnie_prep.blob_map import Note
from nnie_prep.edit.inputs import check_extents
from nnie_prep.edit.layers import find_layer
from nnie_prep.errors import UserError
from nnie_prep.net import Layer, Net
from nnie_prep.nnie_caffe_pb2 import LayerParameter
from nnie_prep.shapes import Shape, known_shapes


def custom(net: Net, name: str, shapes: Sequence[Shape] = ()) -> list[Note]:
    layer = _on_cpu(net, name)
    found = list(shapes) or _shapes_of_tops(net, layer)
    if len(found) != len(layer.tops):
        raise UserError(
            f"{len(found)} shapes are given for the {len(layer.tops)} tops of layer {name!r}",
            layer.origin,
            "give one for each, with / between them",
        )
    for shape in found:
        check_extents(f"a top of layer {name!r}", shape, layer.origin)
    note = _replaced(net, layer, "Custom")
    for shape in found:
        layer.proto.custom_param.shape.add().dim.extend(shape)
    return [note]


def proposal(net: Net, name: str) -> list[Note]:
    layer = _on_cpu(net, name)
    if len(layer.tops) != 1:
        raise UserError(
            f"layer {name!r} has {len(layer.tops)} tops, and a Proposal has one, of boxes",
            layer.origin,
            "make it --custom",
        )
    return [_replaced(net, layer, "Proposal")]


def _on_cpu(net: Net, name: str) -> Layer:
    layer = find_layer(net, name)
    if not layer.bottoms or not layer.tops:
        what = "bottom" if not layer.bottoms else "top"
        raise UserError(f"layer {name!r} has no {what}", layer.origin, "name a layer that computes something")
    return layer


def _shapes_of_tops(net: Net, layer: Layer) -> list[Shape]:
    """The shapes of its tops as the source declares or implies them."""
    declared = [tuple(shape.dim) for shape in layer.proto.custom_param.shape]
    if declared:
        return declared
    known = known_shapes(net)
    if missing := [top for top in layer.tops if top not in known]:
        raise UserError(
            f"the shape of {', '.join(missing)} is not known: {layer.name} is of type {layer.type}",
            layer.origin,
            f"write it behind the name: --custom {layer.name}=1,C,H,W",
        )
    return [known[top] for top in layer.tops]


def out_of_place(net: Net, name: str) -> None:
    """Gives a layer that is in place a bottom of its own, so that what it overwrites can be looked at."""
    layer = find_layer(net, name)
    for top in [top for top in layer.tops if top in layer.bottoms]:
        _own_bottom(net, layer, top)


def _replaced(net: Net, layer: Layer, kind: str) -> Note:
    if layer.type == kind:
        raise UserError(f"layer {layer.name!r} is a {kind} already", layer.origin, "leave it out")
    text = f"{layer.type} made a {kind} layer, as asked: your own code on the CPU computes it"
    for top in [top for top in layer.tops if top in layer.bottoms]:
        text += f"; it was in place, and reads {_own_bottom(net, layer, top)} now"
    layer.proto = LayerParameter(name=layer.name, type=kind)
    layer.blobs = []
    return Note(layer.name, text)


def _own_bottom(net: Net, layer: Layer, name: str) -> str:
    """Renames what the layer overwrites, up to the layer; the name stays with what it computes."""
    if name in net.inputs():
        raise UserError(
            f"layer {layer.name!r} overwrites {name}, an input of the net",
            layer.origin,
            "give its top a name of its own",
        )
    new, taken = f"{name}_before", net.blob_names()
    while new in taken:
        new += "_"
    net.rename_before(layer, name, new)
    return new
