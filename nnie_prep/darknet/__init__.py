"""From a Darknet cfg and weights file to a Caffe net.

    conversion = convert(Path("yolov3.cfg"), Path("yolov3.weights"))
    conversion.net                        # a Net whose blobs are read when they are needed
    describe(conversion)                  # STEM.json: layers, heads, input

One emitter for each type of section reads its options, takes its weights and adds its layers (builder.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from nnie_prep.composites import cost_of
from nnie_prep.darknet.approximation import APPROXIMATIONS, Approximation
from nnie_prep.darknet.builder import (
    INPUT,
    Builder,
    NotKnown,
    Output,
    Target,
)
from nnie_prep.darknet.cfg import Section, read_cfg
from nnie_prep.darknet.conversion import Conversion, DarknetLayer
from nnie_prep.darknet.description import describe
from nnie_prep.darknet.emit_activation import (
    emit_activation,
    emit_l2norm,
    emit_logistic,
    emit_normalization,
)
from nnie_prep.darknet.emit_convolution import emit_batchnorm, emit_convolutional
from nnie_prep.darknet.emit_dense import emit_connected, emit_implicit, emit_softmax
from nnie_prep.darknet.emit_heads import emit_head
from nnie_prep.darknet.emit_merging import emit_route, emit_sam, emit_scale_channels
from nnie_prep.darknet.emit_nothing import emit_cost, emit_identity
from nnie_prep.darknet.emit_pooling import emit_avgpool, emit_local_avgpool, emit_maxpool
from nnie_prep.darknet.emit_resampling import emit_crop, emit_reorg, emit_reorg3d, emit_upsample
from nnie_prep.darknet.emit_shortcut import emit_shortcut
from nnie_prep.darknet.weights import BatchNormForm, Flavor, WeightsFile
from nnie_prep.errors import UserError
from nnie_prep.nnie_caffe_pb2 import NetParameter
from nnie_prep.shapes.checks import MOST_ELEMENTS

__all__ = ["EMITTERS", "Conversion", "DarknetLayer", "convert", "describe"]

# By the canonical name of the section; cfg.ALIASES maps the others to these.
EMITTERS: dict[str, Callable[[Builder, Section], Output]] = {
    "Gaussian_yolo": emit_head,
    "activation": emit_activation,
    "avgpool": emit_avgpool,
    "batchnorm": emit_batchnorm,
    "connected": emit_connected,
    "contrastive": emit_head,
    "convolutional": emit_convolutional,
    "cost": emit_cost,
    "crop": emit_crop,
    "detection": emit_head,
    "dropout": emit_identity,
    "empty": emit_identity,
    "implicit": emit_implicit,
    "l2norm": emit_l2norm,
    "local_avgpool": emit_local_avgpool,
    "logistic": emit_logistic,
    "maxpool": emit_maxpool,
    "normalization": emit_normalization,
    "region": emit_head,
    "reorg": emit_reorg,
    "reorg3d": emit_reorg3d,
    "route": emit_route,
    "sam": emit_sam,
    "scale_channels": emit_scale_channels,
    "shortcut": emit_shortcut,
    "softmax": emit_softmax,
    "upsample": emit_upsample,
    "yolo": emit_head,
}

# Sections that one of the two trees knows and the other would skip with "Type not recognized".
ONLY_IN: dict[Flavor, frozenset[str]] = {
    "alexeyab": frozenset(
        [
            "Gaussian_yolo",
            "contrastive",
            "empty",
            "implicit",
            "local_avgpool",
            "reorg3d",
            "sam",
            "scale_channels",
        ]
    ),
    "pjreddie": frozenset(["l2norm", "logistic"]),
}

_RECURRENT = "is recurrent, and only feed-forward networks can be converted"
REFUSED = {
    "rnn": _RECURRENT,
    "gru": _RECURRENT,
    "lstm": _RECURRENT,
    "crnn": _RECURRENT,
    "conv_lstm": _RECURRENT,
    "history": "keeps earlier pictures, and only feed-forward networks can be converted",
    "local": "has weights of its own for every place, which no Caffe layer has, and costs too much as others",
    "deconvolutional": "cannot be loaded by Darknet itself",
    "iseg": "is a head for instance segmentation that is not supported",
}


def convert(
    cfg: Path,
    weights: Path | None,
    *,
    target: Target = "nnie",
    flavor: Flavor = "alexeyab",
    bn_form: BatchNormForm = "standard",
    approximate: Collection[Approximation] = (),
) -> Conversion:
    """Converts a Darknet network.

    Args:
        cfg: the cfg file.
        weights: the weights file; with None the net has no weights but constant ones.
        target: "nnie" may use NNIE's own layers, "caffe" keeps to those of BVLC Caffe.
        flavor: whose Darknet trained it, where the two trees differ.
        bn_form: what BatchNorm divides by: "standard" sqrt(variance + 1e-5), "pjreddie-cpu"
            sqrt(variance) + 1e-6.
        approximate: inexact forms to be used where they apply (approximation.py).

    Raises UserError, which lists all that cannot be converted, or names where cfg and weights part.
    """
    sections = read_cfg(cfg)
    file = WeightsFile(weights, flavor) if weights else None
    build = Builder(sections, file, target, flavor, bn_form, frozenset(approximate))
    _emit_all(build)
    net = build.net
    if build.problems:
        raise _joined(build.problems, cfg)
    if file:
        file.finish()
    if not net.layers:
        raise UserError("has no section that computes anything", str(cfg), "give the cfg of a whole network")
    net.source = str(cfg)
    net.header.name = cfg.stem.encode("utf-8", "replace").decode()
    net.comments = _comments(cfg, weights, build)
    layers = [_darknet_layer(build, section) for section in sections[1:]]
    if file and file.note:
        build.notes.insert(0, f"{weights}: {file.note}")
    return Conversion(
        net=net,
        layers=layers,
        heads=build.heads,
        input=_describe_input(build),
        sections=sections,
        warnings=[str(remark) for section in sections for remark in section.unused()]
        + _without_effect(cfg, build),
        notes=build.notes + _remarks_on_outputs(build, layers),
        costs=_costs(build),
        floats=file.floats if file else 0,
        approximated=build.approximated,
    )


def _emit_all(build: Builder) -> None:
    """Runs the emitters in order; what cannot be converted is gathered in build.problems."""
    emit_net(build)
    for section in build.sections[1:]:
        build.outputs.append(emit_section(build, section))


def emit_net(build: Builder) -> None:
    """Reads [net]; what is wrong with it is put into build.problems."""
    try:
        _emit_net(build, build.sections[0])
    except UserError as problem:
        build.problems.append(problem)


def emit_section(build: Builder, section: Section) -> Output | None:
    """Runs the emitter of the section whose turn it is; None, and build.problems, where it gives up."""
    try:
        return _emitter(build, section)(build, section)
    except UserError as problem:
        build.problems.append(problem)
    except NotKnown:
        pass
    return None


def _emit_net(build: Builder, section: Section) -> None:
    """[net]: the input's shape."""
    section.ignore("letter_box")
    sizes = {key: section.int(key, 0, at_least=1, at_most=65535) for key in ("height", "width", "channels")}
    missing = [key for key, value in sizes.items() if not value]
    if missing:
        raise UserError(
            f"[{section.header}] gives no {' and no '.join(missing)}",
            section.where(),
            "write them all; a network without a picture as its input cannot be converted",
        )
    height, width, channels = sizes.values()
    if height * width * channels > MOST_ELEMENTS:
        raise UserError(
            f"height * width * channels = {height * width * channels} is more than Caffe can hold",
            section.where("width"),
            "use a smaller picture",
        )
    inputs = section.int("inputs", height * width * channels)
    if inputs != height * width * channels:
        raise UserError(
            f"inputs={inputs} is not height * width * channels = {height * width * channels}",
            section.where("inputs"),
            "remove inputs",
        )
    build.net.header.CopyFrom(
        NetParameter(input=[INPUT], input_shape=[{"dim": [1, channels, height, width]}])
    )
    build.network_shape = (channels, height, width)
    build.shapes[INPUT] = (1, channels, height, width)


def _emitter(build: Builder, section: Section) -> Callable[[Builder, Section], Output]:
    other: Flavor = "pjreddie" if build.flavor == "alexeyab" else "alexeyab"
    if section.type in REFUSED:
        raise UserError(f"[{section.header}] {REFUSED[section.type]}", section.where())
    if section.type not in EMITTERS:
        raise UserError(
            f"[{section.header}] is no section that Darknet knows", section.where(), "correct its name"
        )
    if section.type in ONLY_IN[other]:
        raise UserError(
            f"[{section.header}] is known to {other}'s Darknet only",
            section.where(),
            f"convert with the flavor {other}",
        )
    return EMITTERS[section.type]


def _joined(problems: list[UserError], cfg: Path) -> UserError:
    """One error for all; several stand in a line each."""
    if len(problems) == 1:
        return problems[0]
    listed = "".join(f"\n  {problem}" for problem in problems)
    return UserError(f"cannot be converted, for {len(problems)} reasons:{listed}", str(cfg))


def _comments(cfg: Path, weights: Path | None, build: Builder) -> list[str]:
    form = "sqrt(variance + 1e-5)" if build.bn_form == "standard" else "sqrt(variance) + 1e-6"
    return [
        f"made from {cfg.name}" + (f" and {weights.name}" if weights else ""),
        f"flavor {build.flavor}, target {build.target}; BatchNorm divides by {form}",
        f"input: {_order(build.shapes[INPUT][1])} values in 0..1",
        *_inexact_sections(build),
    ]


def _inexact_sections(build: Builder) -> list[str]:
    """A line for each inexact form, with the sections that have it."""
    forms: dict[str, list[int]] = {}
    for index, approximated in build.approximated.items():
        forms.setdefault(approximated.form, []).append(index)
    return [
        f"INEXACT, as asked: {form}, in Darknet's layer {', '.join(map(str, indices))}"
        for form, indices in forms.items()
    ]


def _costs(build: Builder) -> list[str]:
    """A line for all activations that became several layers, as passes.replacement has one for each."""
    if build.target != "nnie" or not build.composed:
        return []
    told = [f"{name} in {count} section{'s' * (count != 1)}" for name, count in build.composed.items()]
    return [f"activations of several layers each: {', '.join(told)}; {cost_of('leaky')}"]


def _without_effect(cfg: Path, build: Builder) -> list[str]:
    """The approximations that were asked for and found nothing to approximate."""
    used = {approximated.name for approximated in build.approximated.values()}
    return [
        f"{cfg}: --approximate {name} changes nothing: the network does not have {APPROXIMATIONS[name]}"
        for name in sorted(build.approximate - used)
    ]


def _order(channels: int) -> str:
    return {1: "grey", 3: "RGB"}.get(channels, f"{channels}-channel")


def _darknet_layer(build: Builder, section: Section) -> DarknetLayer:
    output = build.outputs[section.index]
    assert output is not None
    blobs = (output.blob,) if output.blob else ()
    approximated = build.approximated.get(section.index)
    inexact = approximated.form if approximated else ""
    return DarknetLayer(section.index, section.type, section.line, blobs, output.none, output.shape, inexact)


def _describe_input(build: Builder) -> dict[str, object]:
    shape = build.shapes[INPUT]
    return {
        "blob": INPUT,
        "shape": list(shape),
        "range": [0, 1],
        "scale": 1 / 255,
        "order": _order(shape[1]),
        "letter_box": bool(build.sections[0].int("letter_box", 0)) or _always_letterboxes(build),
    }


def _always_letterboxes(build: Builder) -> bool:
    """pjreddie's detector does (examples/detector.c, test_detector), but not its command for YOLOv1."""
    return build.flavor == "pjreddie" and any(head["type"] in ("yolo", "region") for head in build.heads)


def _remarks_on_outputs(build: Builder, layers: list[DarknetLayer]) -> list[str]:
    """Where the net's outputs are not just what heads read, or what the last section computes."""
    wanted = {head["blob"]: build.sections[head["index"] + 1] for head in build.heads}
    last = next((layer for layer in reversed(layers) if layer.blobs), None)
    if last:
        wanted.setdefault(last.blobs[0], build.sections[last.index + 1])
    first = {blob: layer for layer in reversed(layers) for blob in layer.blobs}
    outputs = build.net.outputs()
    notes = []
    for blob in outputs:
        if blob == INPUT:
            notes.append(f"{build.sections[0].where()}: no section reads the input")
        elif blob not in wanted:
            section = build.sections[first[blob].index + 1]
            notes.append(f"{section.where()}: nobody reads {section}; the net has {blob} as an output")
    for blob in wanted.keys() - outputs:
        section = wanted[blob]
        if not build.heads or section.index in {head["index"] for head in build.heads}:
            notes.append(
                f"{section.where()}: the result of {section} is {blob}, which other layers read, too; "
                "so it is no output of the net and has to be asked for by name"
            )
    return notes
