"""What the net is fed with: size, channels, batch, values; and for which NNIE it is compiled."""

from __future__ import annotations

import math
from collections.abc import Iterator

from nnie_prep.description import described_inputs
from nnie_prep.net import Layer
from nnie_prep.nnie.cfg_draft import RECURRENT
from nnie_prep.nnie.finding import Found, Rule
from nnie_prep.nnie.preprocessing import believable, normalising_layer
from nnie_prep.nnie.subject import Subject, blocks
from nnie_prep.shapes import Shape


def input_size(subject: Subject) -> Iterator[Found]:
    """A picture that the net is fed with is too small or too large for the chip.

    Height and width of a picture (U8 or YUV) must lie between 8 and 4096. The driver refuses the task on
    the board, after the net has been compiled.

    Instead: `edit --input-shape 1,3,H,W` declares another size, where the net has no inner product that
    fixes it.
    """
    limit = subject.limits["input_side"]
    for name, shape, layer, line in _pictures(subject):
        wrong = [extent for extent in shape[2:] if not limit.allows(extent)]
        if wrong and subject.limits["input_channels"].allows(shape[1]):
            message = f"input {name} is a picture of {blocks(shape[2:])}"
            low, high = limit.at_least or 1, limit.at_most or math.inf
            fitting = [int(min(max(extent, low), high)) for extent in shape[2:]]
            options = f"{name}={','.join(map(str, (*shape[:2], *fitting)))}"
            repair = subject.command("edit", "--input-shape", options)
            repair = repair if all(map(limit.allows, fitting)) else ""
            yield Found(layer, message, wrong[0], limit, repair, line)


def input_channels(subject: Subject) -> Iterator[Found]:
    """The net is fed with something that is no picture: not of 1 or of 3 channels.

    The chip takes pictures of one channel (grey) or of three (RGB planes or YUV). All else goes in as a
    feature map of 32-bit fixed-point numbers, which your code has to fill, and calibration needs text files
    of floats in the place of pictures.

    Instead: where the input is a picture, cut the net or convert the picture so that it has 1 or 3
    channels; where it is not, set image_type 0 and norm_type 0 in the compiler's .cfg.
    """
    limit = subject.limits["input_channels"]
    for name, shape, layer, line in _pictures(subject):
        if not limit.allows(shape[1]):
            message = f"input {name} has {shape[1]} channels and can be fed only as a feature map"
            hint = "set image_type 0 and norm_type 0 in the compiler's .cfg"
            yield Found(layer, message, shape[1], limit, hint, line, severity="warning")


def input_batch(subject: Subject) -> Iterator[Found]:
    """The prototxt asks for a batch of more than one.

    The compiler takes the batch from batch_num of its .cfg, and expects 1 in the prototxt. Left
    out are numbers beside a picture (regions, say), and nets with LSTM or RNN layers, whose first axis is
    time.

    Instead: `edit --batch 1`; batch_num in the .cfg then says how many pictures are computed at once.
    """
    limit = subject.limits["input_batch"]
    if any(layer.type in RECURRENT for layer in subject.net.layers):
        return
    repair = subject.command("edit", "--batch", "1")
    for name, shape, layer, line in list(_pictures(subject)) or _declared(subject):
        if shape and not limit.allows(shape[0]):
            message = f"input {name} has a batch of {shape[0]}"
            yield Found(layer, message, shape[0], limit, repair, line)


def input_values(subject: Subject) -> Iterator[Found]:
    """How the values must be that the net was trained with, for the compiler's .cfg.

    The compiler's defaults are BGR planes and a scale of 1/256. A Darknet network wants RGB and 1/255: with
    the defaults colours are swapped and boxes weak, and nothing says so.

    Instead: set RGB_order and data_scale in the .cfg as the finding says, with norm_type 3, and scale
    nowhere else.
    """
    for described in map(believable, described_inputs(subject.description)):
        if not described.get("scale") or not described.get("order"):
            continue
        if described.get("folded"):  # then it wants them raw, which needs no saying
            continue
        order, scale = described["order"], described["scale"]
        mean = described.get("mean_file") or ",".join(f"{one:g}" for one in described.get("mean", ()))
        name = f"input {described.get('blob')}" if "inputs" in subject.description else "the net"
        less = f", less the mean {mean}" if mean else ""
        message = f"{name} is fed with {order}{less}, multiplied by {scale:.10f}"
        kinds = ("0", "3") if not mean else ("1 or 2", "4 or 5")
        kind = kinds[scale != 1]
        hint = f"set RGB_order {order}, norm_type {kind} and data_scale {scale:.10f} in the compiler's .cfg"
        yield Found(
            None, message, {"RGB_order": order, "data_scale": scale}, "what it was trained with", hint,
            line=_line(subject),
        )  # fmt: skip


def input_normalised(subject: Subject) -> Iterator[Found]:
    """The net normalises its input itself, in its first layer.

    That is fine, but then the compiler must not do it too: with a data_scale or a mean in the .cfg the
    values are normalised twice, and nothing says so.

    Instead: `prepare` folds the layer into the convolution behind it. Where it stays, set norm_type 0; but
    where the net was trained with a mean or a scale before that layer, the .cfg has to say those.
    """
    for name in subject.net.inputs():
        if layer := normalising_layer(subject.net, name):
            message = f"{layer.type} normalises input {name}"
            hint = "set norm_type 0, unless the net was trained with a mean or a scale before it"
            yield Found(layer, message, layer.type, "one of the net and the .cfg", hint)


def nnie_version(subject: Subject) -> Iterator[Found]:
    """Which NNIE the .wk must be compiled for.

    There are two, and two compilers. The board refuses a .wk of the other with a message like
    "arch_version(12) of input model should be 11". A prototxt is the same for both.

    Instead: compile with nnie_mapper_12 for NNIE 1.2, and with nnie_mapper_11 for 1.1; in RuyiStudio choose
    the chip when you create the project.
    """
    limit = subject.limits["nnie_version"]
    versions = limit.one_of or ()
    if subject.chip and len(versions) == 1:
        digits = str(versions[0]).replace(".", "")
        message = f"{subject.chip} has NNIE {versions[0]}"
        hint = f"compile with nnie_mapper_{digits} (arch_version {digits})"
    else:
        message, hint = "no chip is given", "give --chip: the .wk is for one version of NNIE"
    yield Found(None, message, list(versions), limit, hint, line=_line(subject))


def _line(subject: Subject) -> int:
    """Where the net's input is declared, or where its layers begin."""
    return next((found[0] for name in ("input", "layer", "layers") if (found := subject.lines.get(name))), 0)


def _declared(subject: Subject) -> Iterator[tuple[str, Shape, Layer | None, int]]:
    """Each input with its shape, its layer and its line; one of the latter two is not there."""
    header = list(subject.net.header.input)
    lines = subject.lines.get("input_shape") or subject.lines.get("input") or []
    for name, shape in subject.input_shapes.items():
        layer = next((one for one in subject.net.layers if one.type == "Input" and name in one.tops), None)
        place = header.index(name) if name in header else -1
        yield name, shape, layer, lines[place] if 0 <= place < len(lines) else 0


def _pictures(subject: Subject) -> Iterator[tuple[str, Shape, Layer | None, int]]:
    """The inputs that have height and width above 1: others are vectors, or numbers about a picture."""
    for name, shape, layer, line in _declared(subject):
        if len(shape) == 4 and shape[2:] != (1, 1):
            yield name, shape, layer, line


_NOTES = "vendor documents, as they are quoted by their readers"
RULES = (
    Rule(nnie_version, "A", "the driver's own message", "info", limits=("nnie_version",)),
    Rule(input_size, "A", _NOTES, limits=("input_side",)),
    Rule(input_channels, "A", _NOTES, limits=("input_channels",)),
    Rule(input_batch, "A", _NOTES, limits=("input_batch",)),
    Rule(input_values, "A", "the compiler's defaults, and Darknet's input in 0..1", "info"),
    Rule(input_normalised, "A", "the arithmetic of normalising twice", "info"),
)
