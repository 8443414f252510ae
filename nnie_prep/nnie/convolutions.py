"""Convolutions in groups."""

from __future__ import annotations

from collections.abc import Iterator

from nnie_prep import params
from nnie_prep.net import Layer
from nnie_prep.nnie.finding import Found, Rule
from nnie_prep.nnie.subject import Subject


def depthwise_convolution(subject: Subject) -> Iterator[Found]:
    """A Convolution has a group for each channel, and is not written as DepthwiseConv.

    Plain grouped convolutions compile, but users report nets with them that detect nothing on the board.
    For one filter to a channel the chip has a layer of its own.

    Instead: `prepare` makes it type DepthwiseConv, without group.
    """
    for layer, window, channels in _grouped(subject):
        if window.group == channels == window.num_output:
            message = f"it has a group for each of its {channels} channels"
            yield Found(
                layer,
                message,
                window.group,
                'type: "DepthwiseConv" without group',
                subject.command("prepare"),
            )


def group_convolution(subject: Subject) -> Iterator[Found]:
    """A Convolution works in groups, neither in one nor in one for each channel with one filter in it.

    The compiler takes up to 2048 groups. One user reports a net with such layers that compiled, and
    detected nothing on the board.

    Instead: compare the layer's output on the board with Caffe's. Where they differ, split it into a Slice,
    a convolution for each group and a Concat, or train without groups.
    """
    limit = subject.limits["group"]
    for layer, window, channels in _grouped(subject):
        filters = window.num_output
        if not window.group == channels == filters:
            hint = "compare its output on the board with Caffe's"
            message = f"it works in {window.group} groups"
            wanted = "1, or a group for each channel"
            if window.group == channels:
                message += f" and has {filters} filters, and of DepthwiseConv that is not known"
                wanted += ", of one filter"
            broken = limit if not limit.allows(window.group) else wanted
            yield Found(layer, message, window.group, broken, hint)


def depthwise_group(subject: Subject) -> Iterator[Found]:
    """A DepthwiseConv has a group.

    The chip's layer takes convolution_param without one, for its type says it already.

    Instead: unset it, as the finding's command does.
    """
    for layer in subject.net.layers:
        if layer.type == "DepthwiseConv" and layer.proto.convolution_param.HasField("group"):
            group = layer.proto.convolution_param.group
            repair = subject.set_fields(layer, convolution_param__group="")
            yield Found(layer, f"it has group {group}", group, "no group", repair)


def _grouped(subject: Subject) -> Iterator[tuple[Layer, params.Convolution, int]]:
    """Convolutions with more than one group, and the channels of their bottoms (0: not known)."""
    for layer in subject.net.layers:
        if layer.type == "Convolution" and layer.proto.convolution_param.group > 1:
            shapes = subject.bottom_shapes(layer)
            window = subject.parameters(params.convolution, layer)
            if window is not None:
                yield layer, window, shapes[0][1] if shapes else 0


_REPORT = "vendor's guide to extension layers, and a user's report of a net that detected nothing"
RULES = (
    Rule(depthwise_convolution, "B", _REPORT),
    Rule(group_convolution, "C", "a user's report of a net that detected nothing", limits=("group",)),
    Rule(depthwise_group, "B", _REPORT),
)
