"""Hints on speed."""

from __future__ import annotations

from collections.abc import Iterator

from nnie_prep.net import Layer
from nnie_prep.nnie.finding import Found, Rule
from nnie_prep.nnie.subject import Subject
from nnie_prep.shapes import Shape


def channel_multiples(subject: Subject) -> Iterator[Found]:
    """A convolution has a number of channels that leaves a part of the chip idle.

    It computes 16 input channels and 4 output channels at a time; what is missing to the next multiple is
    computed for nothing. The layer that reads the picture is left out, and so are outputs of the net.

    Instead: when you train again, choose channels in multiples of 16.
    """
    inner, outer = subject.limits["efficient_inputs"], subject.limits["efficient_outputs"]
    for layer, bottom, top in _convolutions(subject):
        writer = subject.net.writer(layer)
        if writer is not None and writer.type != "Input" and not inner.allows(bottom[1]):
            yield Found(layer, f"it has {bottom[1]} input channels", bottom[1], inner)
        if subject.net.readers(layer) and not outer.allows(top[1]):
            yield Found(layer, f"it has {top[1]} output channels", top[1], outer)


def width_multiples(subject: Subject) -> Iterator[Found]:
    """A convolution works on a map whose width is no multiple of 16.

    Rows lie in memory in blocks of 16, and the rest of the last block is moved for nothing.

    Instead: choose the picture's width so that the large maps come out even.
    """
    limit, small = subject.limits["efficient_width"], subject.limits["efficient_map"]
    for layer, bottom, _ in _convolutions(subject):
        if small.allows(bottom[3]) and not limit.allows(bottom[3]):
            yield Found(layer, f"its bottom is {bottom[3]} wide", bottom[3], limit)


def small_maps(subject: Subject) -> Iterator[Found]:
    """A convolution works on a map smaller than 16 x 16.

    There the time goes into reading the weights, not into computing.

    Instead: fewer channels in the last stages cost little accuracy and save most.
    """
    limit = subject.limits["efficient_map"]
    for layer, bottom, _ in _convolutions(subject):
        if not all(limit.allows(extent) for extent in bottom[2:]):
            message = f"its bottom is {bottom[2]}x{bottom[3]}"
            yield Found(layer, message, min(bottom[2:]), limit)


def _convolutions(subject: Subject) -> Iterator[tuple[Layer, Shape, Shape]]:
    """Each with the shapes of its bottom and its top, but for those on vectors."""
    for layer in subject.net.layers:
        bottoms, tops = subject.bottom_shapes(layer), subject.top_shapes(layer)
        if layer.type in ("Convolution", "DepthwiseConv") and bottoms and tops and len(bottoms[0]) == 4:
            yield layer, bottoms[0], tops[0]


_MEASURED = "one user's measurements"
RULES = (
    Rule(channel_multiples, "C", _MEASURED, "info", limits=("efficient_inputs", "efficient_outputs")),
    Rule(width_multiples, "C", _MEASURED, "info", limits=("efficient_width",)),
    Rule(small_maps, "C", _MEASURED, "info", limits=("efficient_map",)),
)
