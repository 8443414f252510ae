"""The shapes of all blobs of a net, and those that the net declares for its inputs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from nnie_prep.errors import UserError
from nnie_prep.net import Layer, Net
from nnie_prep.shapes.checks import MOST_ELEMENTS, Shape
from nnie_prep.shapes.regions import DATA_DEPENDENT
from nnie_prep.shapes.tops import TOP_SHAPES, check_tops, top_shapes


def infer_shapes(net: Net, input_shapes: Mapping[str, Sequence[int]] | None = None) -> dict[str, Shape]:
    """The shape of every blob of the net, as its last writer leaves it.

    Left out are the tops of layers whose type is unknown here, and all that depends on them.
    `input_shapes` overrides what `net_input_shapes` finds, and may name tops of data layers.
    """
    known = _header_shapes(net, input_shapes)
    for layer, _, tops in walk_shapes(net, input_shapes):
        for name in layer.tops:
            known.pop(name, None)
        if tops is not None:
            known.update(zip(layer.tops, tops, strict=True))
    return known


def known_shapes(net: Net) -> dict[str, Shape]:
    """As infer_shapes; nothing where the net does not say how large its inputs are."""
    declared = net_input_shapes(net)
    return infer_shapes(net) if all(name in declared for name in net.inputs()) else {}


def walk_shapes(
    net: Net,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    refused: dict[Layer, UserError] | None = None,
) -> Iterator[tuple[Layer, list[Shape] | None, list[Shape] | None]]:
    """Each layer with the shapes of its bottoms and of its tops; None for either that is not known.

    With `refused`, which is filled, a layer that Caffe refuses has tops that are not known, and so has
    an input whose shape is not declared. Without it either raises UserError.
    """
    given = _given(net, input_shapes)
    if refused is None:
        known = _header_shapes(net, input_shapes)
    else:
        known = {name: given[name] for name in net.header.input if name in given}
    for layer in net.layers:
        bottoms = None
        if all(name in known for name in layer.bottoms):
            bottoms = [known[name] for name in layer.bottoms]
        try:
            tops = _tops(net, layer, bottoms, given)
        except UserError as error:
            if refused is None:
                raise
            refused[layer], tops = error, None
        for name in layer.tops:
            known.pop(name, None)
        if tops is not None:
            known.update(zip(layer.tops, tops, strict=True))
        yield layer, bottoms, tops


def data_dependent_blobs(net: Net) -> set[str]:
    """The blobs whose shapes only a forward pass knows: DetectionOutput's tops, and what is made of them."""
    found: set[str] = set()
    for layer in net.layers:
        if layer.type in DATA_DEPENDENT or not found.isdisjoint(layer.bottoms):
            found.update(layer.tops)
    return found


def _tops(
    net: Net, layer: Layer, bottoms: list[Shape] | None, given: Mapping[str, Shape]
) -> list[Shape] | None:
    if layer.type == "Input":
        return [_shape_of_input(name, given, net.source) for name in layer.tops]
    if layer.type in TOP_SHAPES and bottoms is not None:
        return top_shapes(layer, bottoms)
    if layer.type == "Custom" and len(layer.proto.custom_param.shape) == len(layer.tops):
        declared = [tuple(shape.dim) for shape in layer.proto.custom_param.shape]
        check_tops(layer, declared, bottoms or [])
        return declared
    if not layer.bottoms and all(name in given for name in layer.tops):
        return [given[name] for name in layer.tops]
    return None


def _header_shapes(net: Net, input_shapes: Mapping[str, Sequence[int]] | None) -> dict[str, Shape]:
    given = _given(net, input_shapes)
    return {name: _shape_of_input(name, given, net.source) for name in net.header.input}


def _given(net: Net, input_shapes: Mapping[str, Sequence[int]] | None) -> dict[str, Shape]:
    """The shapes of the inputs: those that the net declares, overridden by the caller's."""
    return net_input_shapes(net) | {name: tuple(shape) for name, shape in (input_shapes or {}).items()}


def net_input_shapes(net: Net) -> dict[str, Shape]:
    """The shapes that the net itself declares for its inputs: input_shape, input_dim, Input layers.

    An input whose shape is not declared is left out.
    """
    header = net.header
    names, dims = list(header.input), list(header.input_dim)
    shapes: list[Shape] = []
    if header.input_shape:
        shapes = [tuple(shape.dim) for shape in header.input_shape]
        if len(shapes) != len(names):
            raise UserError(f"{len(shapes)} input_shape for {len(names)} input", net.source)
    elif dims:
        shapes = [tuple(dims[start : start + 4]) for start in range(0, len(dims), 4)]
        if len(dims) != 4 * len(names):
            raise UserError(f"{len(dims)} input_dim for {len(names)} input; each takes 4", net.source)
    declared = dict(zip(names, shapes, strict=False))
    for name, shape in declared.items():
        _check_input(name, shape, net.source)
    for layer in net.layers:
        if layer.type == "Input" and layer.proto.input_param.shape:
            tops = top_shapes(layer, [])
            declared.update(zip(layer.tops, tops, strict=True))
    return declared


def _check_input(name: str, shape: Shape, where: str) -> None:
    if any(extent < 1 for extent in shape) or math.prod(shape) > MOST_ELEMENTS:
        raise UserError(f"input {name!r} has the impossible shape {shape}", where, "correct its input_shape")


def _shape_of_input(name: str, given: Mapping[str, Shape], where: str) -> Shape:
    if name not in given:
        raise UserError(f"the shape of input {name!r} is not declared", where, "add an input_shape")
    return given[name]
