"""Pooling: rounding, and padding of a maximum."""

from __future__ import annotations

from collections.abc import Iterator

from nnie_prep import params
from nnie_prep.net import Layer
from nnie_prep.nnie.finding import Found, Rule
from nnie_prep.nnie.subject import Subject, blocks
from nnie_prep.shapes.windows import pooled_size

# Whose values are never below 0; ReLU with a slope and Eltwise are asked for more.
_NOT_NEGATIVE = ("AbsVal", "BNLL", "Exp", "Sigmoid", "Softmax")


def pooling_rounding(subject: Subject) -> Iterator[Found]:
    """A pooling rounds its size down, and that makes a difference.

    The chip rounds up, always. A net that was trained with floor (PyTorch's default, and Darknet's) then
    has maps that are one row or column larger on the chip, which shows as an output size that is one too
    large, or as a Concat or Eltwise whose bottoms do not fit.

    Instead: `prepare` writes the pooling so that rounding up gives the size that it was trained with.
    """
    for layer, window in _poolings(subject):
        shapes = subject.bottom_shapes(layer)
        if window.round_up or not shapes or len(shapes[0]) != 4:
            continue
        height, width = shapes[0][2:]
        floor = pooled_size(window, (height, width))
        ceil = pooled_size(window._replace(round_up=True), (height, width))
        if floor != ceil:
            message = f"it rounds {height}x{width} down to {blocks(floor)}, and the chip up to {blocks(ceil)}"
            yield Found(layer, message, blocks(floor), blocks(ceil), subject.command("prepare"))


def pooling_field(subject: Subject) -> Iterator[Found]:
    """A pooling has round_mode or ceil_mode, which the compiler's Caffe has not.

    Its Caffe 1.0 stops at a field that it does not know, even where rounding makes no difference.

    Instead: unset the field where the size is the same both ways, as the finding's command does. Where it
    is not, `prepare` rewrites the pooling.
    """
    differing = {found.layer for found in pooling_rounding(subject)}
    for layer, _ in _poolings(subject):
        for name in ("round_mode", "ceil_mode"):
            if layer.proto.pooling_param.HasField(name):
                repair = subject.set_fields(layer, **{f"pooling_param__{name}": ""})
                if layer in differing:
                    repair = subject.command("prepare")
                yield Found(layer, f"it has the field {name}", name, "no such field", repair)


def pooling_padding(subject: Subject) -> Iterator[Found]:
    """A maximum is taken over padding, of values that may be below 0.

    Caffe leaves padding out of a maximum. Whether the chip does, or takes it for zeros, is not known.
    Behind a ReLU both give the same; behind a leaky ReLU, or no activation, a border where all values are
    negative would differ. The maxpool of size 2 and stride 1 in the tiny YOLOs is such a one.

    Instead: compare the chip's border with Caffe's on a picture of yours. Where they differ, train with a
    ReLU before the pooling, or with a pooling without padding.
    """
    for layer, window in _poolings(subject):
        if window.method == "MAX" and window.pad != (0, 0) and not _not_negative(subject, layer, 0, 0):
            message = f"it takes a maximum over pad {blocks(window.pad)} of values that may be negative"
            hint = "compare the chip's border with Caffe's"
            yield Found(layer, message, list(window.pad), "no padding, or a ReLU before it", hint)


def _poolings(subject: Subject) -> Iterator[tuple[Layer, params.Pooling]]:
    for layer in subject.net.layers:
        window = subject.parameters(params.pooling, layer) if layer.type == "Pooling" else None
        if window is not None:
            yield layer, window


def _not_negative(subject: Subject, layer: Layer, bottom: int, depth: int) -> bool:
    """Whether what the layer reads is certainly not below 0."""
    source = subject.source(layer, bottom)
    if source is None or depth > 50:
        return False
    if source.type == "ReLU":
        return source.proto.relu_param.negative_slope == 0
    inner = (_not_negative(subject, source, number, depth + 1) for number in range(len(source.bottoms)))
    if source.type in ("Concat", "Pooling"):
        return all(inner)
    if source.type == "Eltwise":
        eltwise = subject.parameters(params.eltwise, source)
        if eltwise is None:
            return False
        if eltwise.operation == "MAX":
            return any(inner)
        return min(eltwise.coefficients) >= 0 and all(inner)
    return source.type in _NOT_NEGATIVE


RULES = (
    Rule(
        pooling_rounding,
        "A",
        "Caffe 1.0, which rounds up, and users' reports of sizes that are one too large",
    ),
    Rule(pooling_field, "A", "Caffe 1.0's schema, which has neither field"),
    Rule(pooling_padding, "G", "no source says what the chip does"),
)
