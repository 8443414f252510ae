"""Layers that move values about: Permute, Reshape, Upsample, PassThrough, and the batch axis."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from nnie_prep import params
from nnie_prep.errors import UserError
from nnie_prep.net import Layer
from nnie_prep.nnie.finding import Found, Rule
from nnie_prep.nnie.subject import Subject

_RESHAPE = "0,A,B,C, or 0,-1 before an InnerProduct"
# Whose first axis is not that of the pictures.
_OTHER_BATCH = ("Custom", "Input", "LSTM", "Permute", "Proposal", "PSROIPooling", "RNN", "ROIPooling")


def permute_order(subject: Subject) -> Iterator[Found]:
    """A Permute has another order than 0, 2, 3, 1.

    The compiler stops with "Permute can only support (0,1,2,3) -> (0,2,3,1) order!". Mostly it is the tail
    of a network that was exported with the decoding of its boxes.

    Instead: end the net before the tail, as the finding's command does, and do on the CPU what it did.
    """
    limit = subject.limits["permute_order"]
    for layer in subject.net.layers:
        if layer.type == "Permute":
            axes = len((subject.bottom_shapes(layer) or [(1, 1, 1, 1)])[0])
            order = subject.parameters(functools.partial(params.permutation, num_axes=axes), layer)
            if order is not None and not limit.allows(order):
                message = f"its order is {', '.join(map(str, order))}"
                yield Found(layer, message, list(order), limit, subject.cut(layer))


def reshape_form(subject: Subject) -> Iterator[Found]:
    """A Reshape is not of a form that is known to compile.

    Two are: four dims of which the first is 0 (the batch as it was), and 0, -1 right before an
    InnerProduct. Five dims are rejected. Mostly it is the tail of a network that was exported with the
    decoding of its boxes.

    Instead: write four dims with a 0 in front, as the finding's command does where it can; or end the net
    before it.
    """
    limit = subject.limits["reshape_axes"]
    for layer in subject.net.layers:
        if layer.type != "Reshape":
            continue
        parameter = layer.proto.reshape_param
        dims = list(parameter.shape.dim)
        is_whole = parameter.axis == 0 and parameter.num_axes == -1
        if is_whole and limit.allows(len(dims)) and dims[0] == 0:
            continue
        readers = subject.net.readers(layer) if layer.tops else []
        if is_whole and dims == [0, -1] and readers and all(one.type == "InnerProduct" for one in readers):
            continue
        message = f"its dims are {', '.join(map(str, dims)) or 'not given'}"
        if not is_whole:
            message += f", from axis {parameter.axis} on"
        yield Found(layer, message, dims, _RESHAPE, _reshaped(subject, layer) or subject.cut(layer))


def reshape_inside(subject: Subject) -> Iterator[Found]:
    """A Reshape stands inside the net: other layers than an InnerProduct read it.

    Whether the chip does that is not known. In the vendor's samples a Reshape is the last layer, or
    feeds an InnerProduct.

    Instead: try it with is_check_prototxt 1 in the compiler's .cfg, which takes a second. Where it is
    refused, end the net before it and go on from there by a second net (`edit --until`, `edit --from`).
    """
    for layer in subject.net.layers:
        readers = subject.net.readers(layer) if layer.type == "Reshape" and layer.tops else []
        types = sorted({reader.type for reader in readers} - {"InnerProduct"})
        if types:
            message = f"{', '.join(types)} reads it"
            hint = "try it with is_check_prototxt 1"
            yield Found(layer, message, types, "the net's end, or an InnerProduct", hint)


def _reshaped(subject: Subject, layer: Layer) -> str:
    """The command that writes the same reshape with four dims and a 0 in front, "" where there is none."""
    bottoms, tops = subject.bottom_shapes(layer), subject.top_shapes(layer)
    if not tops or len(tops[0]) != 4 or tops[0][0] != bottoms[0][0]:
        return ""
    dims = ",".join(map(str, (0, *tops[0][1:])))
    return subject.set_fields(
        layer, reshape_param__axis="", reshape_param__num_axes="", reshape_param__shape__dim=dims
    )


def batch_axis(subject: Subject) -> Iterator[Found]:
    """A layer changes the first axis, that of the batch.

    The chip computes picture by picture, and the first axis is not in its memory at all. A Flatten or
    Concat along it cannot be done.

    Instead: leave the first axis alone: Flatten, Concat and Slice from axis 1 on, Reshape with a 0 in
    front.
    """
    for layer in subject.net.layers:
        bottoms, tops = subject.bottom_shapes(layer), subject.top_shapes(layer)
        if not bottoms or not tops or not bottoms[0] or layer.type in _OTHER_BATCH:
            continue
        first = tops[0][0] if tops[0] else 0
        if first != bottoms[0][0]:
            message = f"it makes a first axis of {first} from one of {bottoms[0][0]}"
            yield Found(layer, message, first, str(bottoms[0][0]), subject.cut(layer))


def upsample_form(subject: Subject) -> Iterator[Found]:
    """An Upsample is not the one that the chip has: twice the size, nearest neighbour.

    That has one bottom and upsample_param { scale: 2 }. The scale must be written, for its default is 2 in
    some copies of the schema and 1 in others. With two bottoms the layer is SegNet's unpooling.

    Instead: write the scale, as the finding's command does; write four times the size as two layers; or use
    a Deconvolution with kernel 2, stride 2, a group for each channel and weights of 1.
    """
    limit = subject.limits["upsample_scale"]
    for layer in subject.net.layers:
        if layer.type != "Upsample":
            continue
        parameter = layer.proto.upsample_param
        written = "upsample_param { scale: 2 } and one bottom"
        try:
            vertical, horizontal = params.upsample(layer)
        except UserError as error:
            missing = not any(parameter.HasField(name) for name in ("scale", "scale_h", "scale_w"))
            hint = f"write {written}"
            yield Found(layer, error.message, "no scale" if missing else "unpooling", written, hint)
            continue
        repair = ""
        if vertical == horizontal and not parameter.HasField("scale"):
            repair = subject.set_fields(
                layer,
                upsample_param__scale_h="",
                upsample_param__scale_w="",
                upsample_param__scale=str(vertical),
            )
        if vertical != horizontal or not limit.allows(vertical):
            message = f"its scale is {vertical} x {horizontal}"
            yield Found(layer, message, [vertical, horizontal], limit, "write it as several layers")
        elif repair:
            yield Found(layer, "its scale is written as scale_h and scale_w", "scale_h", written, repair)


def pass_through_form(subject: Subject) -> Iterator[Found]:
    """A PassThrough lacks num_output, has blocks out of range, or blocks that do not divide its bottom.

    The layer turns blocks of block_height x block_width into channels. The compiler wants num_output given,
    though it follows from the blocks, and blocks that fit.

    Instead: write num_output: C * block_height * block_width.
    """
    limit = subject.limits["pass_through_block"]
    for layer in subject.net.layers:
        if layer.type != "PassThrough":
            continue
        parameter = layer.proto.pass_through_param
        block = (parameter.block_height, parameter.block_width)
        shapes = subject.bottom_shapes(layer)
        if not parameter.HasField("num_output"):
            wanted = shapes[0][1] * block[0] * block[1] if shapes else 0
            hint = f"write pass_through_param {{ num_output: {wanted or '..'} }}"
            yield Found(layer, "num_output is not given", None, f"{wanted}" if wanted else "given", hint)
        elif not all(limit.allows(extent) for extent in block):
            yield Found(layer, f"its blocks are {block[0]} x {block[1]}", list(block), limit)
        elif layer in subject.refused:
            error = subject.refused[layer]
            yield Found(layer, error.message, list(block), "blocks that divide its bottom", error.hint)


_READER = "one reader of the vendor's tables"
RULES = (
    Rule(permute_order, "A", "the compiler's own message", limits=("permute_order",)),
    Rule(reshape_form, "B", "two users' conversions, and the vendor's own sample", limits=("reshape_axes",)),
    Rule(reshape_inside, "G", "no source shows one"),
    Rule(batch_axis, "B", "two readers of the vendor's guide"),
    Rule(upsample_form, "B", "two users' conversions", limits=("upsample_scale",)),
    Rule(pass_through_form, "C", _READER, limits=("pass_through_block",)),
)
