"""How the prototxt is written: the older forms of layers and inputs, and what Caffe itself refuses."""

from __future__ import annotations

from collections.abc import Iterator

from nnie_prep.nnie.finding import Found, Rule
from nnie_prep.nnie.subject import Subject
from nnie_prep.training_layers import DATA

_INPUT_FORMS = 'input with input_shape { dim x 4 }, or a layer of type "Input"'


def v1_layers(subject: Subject) -> Iterator[Found]:
    """A layer is written in Caffe's older form, as layers { type: CONVOLUTION }.

    The compiler reads layer { type: "Convolution" } alone. Caffe itself upgrades the older form when it
    loads the file, so such a net runs everywhere but on the chip.

    Instead: let any command of this tool write the net; all of them write today's form.
    """
    if lines := subject.lines.get("layers"):
        yield Found(
            None,
            f"{len(lines)} of its layers are written as `layers`, with an unquoted type",
            len(lines),
            'layer { type: ".." }',
            subject.command("prepare"),
            lines[0],
        )


def input_form(subject: Subject) -> Iterator[Found]:
    """The net's input is declared in a form that the compiler does not read.

    It takes exactly two: `input` with an `input_shape` of four dims, and a layer of type Input. With the
    older input_dim RuyiStudio's marked prototxt stays empty, and a layer that reads a database or a file
    has no place on the chip at all.

    Instead: `prepare` writes input_shape, and puts an input in the place of a data layer.
    """
    net = subject.net
    lines = {name: subject.lines.get(name) or [0] for name in ("input", "input_dim", "input_shape")}
    repair = subject.command("prepare")
    if net.header.input_dim:
        shapes = list(net.header.input_dim)
        message = f"the input is declared with input_dim ({', '.join(map(str, shapes))})"
        yield Found(None, message, "input_dim", _INPUT_FORMS, repair, lines["input_dim"][0])
    for name in net.header.input:
        if name not in subject.input_shapes:
            hint = f"write input_shape {{ dim: 1 dim: 3 dim: H dim: W }} for {name}"
            yield Found(None, f"input {name} has no shape", name, _INPUT_FORMS, hint, lines["input"][0])
    for layer in net.layers:
        if layer.type in DATA:
            message = f"a layer of type {layer.type} feeds the net"
            yield Found(layer, message, layer.type, _INPUT_FORMS, repair)
    for name, shape in subject.input_shapes.items():
        if len(shape) != 4 and not net.header.input_dim:
            feeding = next((one for one in net.layers if one.type == "Input" and name in one.tops), None)
            message = f"input {name} has {len(shape)} dims"
            line = 0 if feeding else lines["input_shape"][0]
            yield Found(feeding, message, len(shape), _INPUT_FORMS, line=line, severity="warning")


def caffe_refuses(subject: Subject) -> Iterator[Found]:
    """Caffe itself refuses the layer: its parameters contradict each other, or its bottoms.

    The compiler is built on Caffe 1.0 and computes the same shapes, so it stops there too. What depends on
    such a layer has no known shape, and rules about sizes pass over it.

    Instead: correct the layer as the message says; `show` then lists its shapes.
    """
    for layer, error in subject.refused.items():
        if layer.type not in ("Upsample", "PassThrough"):  # have rules of their own
            yield Found(layer, error.message, layer.type, "what Caffe accepts", error.hint)


_NOTES = "users' reports of RuyiStudio and nnie_mapper"
RULES = (
    Rule(v1_layers, "A", _NOTES),
    Rule(input_form, "A", _NOTES),
    Rule(caffe_refuses, "A", "Caffe's own layers, as nnie_prep restates them"),
)
