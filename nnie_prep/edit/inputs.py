"""Inputs in any of Caffe's forms: `input` with `input_shape` or `input_dim`, and Input layers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nnie_prep.blob_map import Note
from nnie_prep.errors import UserError
from nnie_prep.net import Layer, Net
from nnie_prep.nnie_caffe_pb2 import InputParameter, LayerParameter
from nnie_prep.shapes import Shape, net_input_shapes
from nnie_prep.shapes.checks import MOST_ELEMENTS


def shapes_text(shapes: Sequence[Shape]) -> str:
    """Shapes for a message."""
    return ", ".join("x".join(map(str, shape)) or "scalar" for shape in shapes) or "none"


def check_extents(what: str, shape: Shape, where: str) -> None:
    """Raises UserError for a shape that a user asks for and that Caffe could not hold."""
    if not shape or min(shape) < 1 or math.prod(shape) > MOST_ELEMENTS:
        text = f"{what} cannot have shape {shapes_text([shape])}"
        raise UserError(text, where, "give numbers from 1 on, whose product is at most 2^31 - 1")


def declare_input(net: Net, name: str, shape: Shape, in_header: bool) -> None:
    """A new input behind the others, in the header or as an Input layer."""
    if in_header:
        shapes = net_input_shapes(net)
        _write_inputs(net, {one: shapes.get(one) for one in net.header.input} | {name: shape})
        return
    layer = Layer(LayerParameter(name=name, type="Input"), [], [name])
    taken = {one.name for one in net.layers}
    while layer.proto.name in taken:
        layer.proto.name += "_input"
    layer.proto.input_param.shape.add().dim.extend(shape)
    net.layers.insert(sum(one.type == "Input" for one in net.layers), layer)


def _write_inputs(net: Net, shapes: dict[str, Shape | None]) -> None:
    """The header's inputs, with input_shape in the place of the older input_dim."""
    header = net.header
    del header.input[:], header.input_shape[:], header.input_dim[:]
    header.input.extend(shapes)
    known = [shape for shape in shapes.values() if shape is not None]
    for shape in known if len(known) == len(shapes) else []:
        header.input_shape.add().dim.extend(shape)


def input_shape(net: Net, shape: Shape, name: str | None) -> list[Note]:
    inputs = net.inputs()
    if not inputs:
        raise UserError("the net has no input", net.source, "`strip` makes inputs of data layers")
    if name is None and len(inputs) > 1:
        raise UserError(f"the net has {len(inputs)} inputs", net.source, f"say which: {inputs[0]}=..")
    name = inputs[0] if name is None else name
    if name not in inputs:
        raise UserError(f"the net has no input {name!r}", net.source, f"its inputs: {', '.join(inputs)}")
    check_extents(f"input {name!r}", shape, net.source)
    shapes: dict[str, Shape | None] = dict.fromkeys(inputs) | net_input_shapes(net) | {name: shape}
    if any(shapes[one] is None for one in net.header.input):
        raise UserError("some inputs have no shape yet", net.source, "write an input_shape for each")
    if name in net.header.input:
        _write_inputs(net, {one: shapes[one] for one in net.header.input})
    for layer in net.layers:
        if layer.type == "Input" and name in layer.tops:
            declared = [list(shapes[one] or ()) for one in layer.tops]
            layer.proto.input_param.CopyFrom(InputParameter(shape=[{"dim": dims} for dims in declared]))
    return [Note(name, f"input {name} has shape {shapes_text([shape])}")]


def batch(net: Net, count: int) -> list[Note]:
    shapes = net_input_shapes(net)
    if not net.inputs() or any(name not in shapes for name in net.inputs()):
        raise UserError("the net declares no input with its shape", net.source, "set it with --input-shape")
    return [note for name in net.inputs() for note in input_shape(net, (count, *shapes[name][1:]), name)]
