"""Types of layers: what the chip has, what belongs on the CPU, and what only training needs."""

from __future__ import annotations

from collections.abc import Iterator

from nnie_prep.net import Layer
from nnie_prep.nnie.finding import Found, Rule
from nnie_prep.nnie.subject import Subject
from nnie_prep.params import DEPTHWISE_TYPES
from nnie_prep.training_layers import DATA, is_training_layer

_BOXES = (
    *("DetectionOutput", "PriorBox", "Region", "Yolo", "YoloDetectionOutput", "Yolov3DetectionOutput"),
    *("RegionOutput", "YoloLayer"),
)
_RETRAIN = "which costs bandwidth and 8-bit precision; training again with a leaky ReLU is the usual advice"
# What `prepare` makes of a type that the chip lacks.
_LOWERED = {
    "Clip": f"`prepare` builds it of ReLU and Power, {_RETRAIN}",
    "Interp": "`prepare` makes a Deconvolution of one by whole factors between the corners",
    "Mish": f"`prepare` builds it of layers that Caffe has, {_RETRAIN}",
    "ReLU6": f"`prepare` builds it of ReLU and Power, {_RETRAIN}",
    "ShuffleChannel": "`prepare` folds it into a convolution, or makes it one",
    "Swish": f"`prepare` builds it of Sigmoid and Eltwise, {_RETRAIN}",
}
# What to do by hand about one that `prepare` leaves alone.
_BY_HAND = {
    "Axpy": "write it as Scale with two bottoms and Eltwise",
    "BN": "write it as BatchNorm and Scale",
    "NNUpsample": 'write type: "Upsample" with upsample_param { scale: 2 }',
    "Reorg": 'write type: "PassThrough" if it is a plain space-to-depth; Darknet\'s [reorg] is not',
}
_DEPTHWISE = "DepthwiseConv"


def training_layers(subject: Subject) -> Iterator[Found]:
    """A layer is there that only training needs.

    Losses, accuracies and their kin have no place on the chip, and the compiler knows none of them. What
    they read stops being an output, too.

    Instead: `strip` drops them, and so does `prepare`.
    """
    for layer in subject.net.layers:
        if is_training_layer(layer):
            message = f"{layer.type} is for training"
            yield Found(layer, message, layer.type, "no such layer", subject.command("strip"))


def box_layers(subject: Subject) -> Iterator[Found]:
    """A layer makes or decodes boxes, which is the CPU's work.

    PriorBox, DetectionOutput and the heads of YOLO are not layers of the chip, nor are the Permutes,
    Flattens and Softmax of an SSD between the last convolutions and them of use there: the net ends at its
    last convolutions, and your code decodes what they give.

    Instead: `prepare` cuts them off, and describes in STEM.json what is left for the CPU to do.
    """
    for layer in subject.net.layers:
        if layer.type in _BOXES:
            message = f"{layer.type} is computed on the CPU"
            limit = "an end at the last convolutions"
            yield Found(layer, message, layer.type, limit, subject.command("prepare"))


def unknown_types(subject: Subject) -> Iterator[Found]:
    """The chip has no layer of this type.

    The compiler takes Caffe's standard layers and some of its own, and stops at any other. Mish, Swish,
    ReLU6 and Interp are among those that it lacks.

    Instead: what `prepare` can build of standard layers it builds, exactly. Anything else can be a layer of
    type Custom with the shapes of its tops, which your own code computes between two segments.
    """
    known, likely = subject.limits["layer_types"], subject.limits["likely_types"]
    for layer in subject.net.layers:
        if known.allows(layer.type) or likely.allows(layer.type) or _has_its_own_rule(layer):
            continue
        name = layer.type[:1].upper() + layer.type[1:].lower() if layer.type.isupper() else layer.type
        hint = _BY_HAND.get(name, 'make it type: "Custom" with the shapes of its tops')
        message = f"the chip has no {layer.type}"
        if layer.type in DEPTHWISE_TYPES and layer.type != _DEPTHWISE:
            message = f"{message}: it is {_DEPTHWISE} there"
            hint = subject.set_fields(layer, type=_DEPTHWISE)
        elif name in _LOWERED:
            message, hint = f"{message}; {_LOWERED[name]}", subject.command("prepare")
        yield Found(layer, message, layer.type, "a type that the chip has", hint)


def _has_its_own_rule(layer: Layer) -> bool:
    return layer.type in (*_BOXES, *DATA) or is_training_layer(layer)


def unnamed_types(subject: Subject) -> Iterator[Found]:
    """Caffe 1.0 has this type, and no source names it among those of the chip.

    The compiler is built on Caffe 1.0, so it may know the type; the vendor's own table of types was not at
    hand when this rule was written.

    Instead: try it with is_check_prototxt 1 in the compiler's .cfg, which takes a second. If it is refused,
    write the layer by others, or as Custom. If you have the table, write it into a file of limits
    (`--limits`).
    """
    limit, known = subject.limits["likely_types"], subject.limits["layer_types"]
    for layer in subject.net.layers:
        if limit.allows(layer.type) and not known.allows(layer.type):
            droppable = layer.type in ("Dropout", "Split")
            hint = subject.command("strip") if droppable else "try it with is_check_prototxt 1"
            message = f"no source says that the chip has {layer.type}"
            yield Found(layer, message, layer.type, "a type that the chip has", hint)


def custom_form(subject: Subject) -> Iterator[Found]:
    """A layer of type Custom or Proposal is not written as the compiler wants it.

    Custom needs custom_param with one shape for each of its tops, for the compiler cannot know them.
    Proposal gives boxes, as one top.

    Instead: write custom_param { shape { dim: 1 dim: C dim: H dim: W } }, once for each top; give a
    Proposal one top, or make it Custom.
    """
    for layer in subject.net.layers:
        shapes, tops = len(layer.proto.custom_param.shape), len(layer.tops)
        if layer.type == "Custom" and shapes != tops:
            message = f"it has {tops} tops and {shapes} shapes in its custom_param"
            hint = "write custom_param { shape { dim: 1 dim: C dim: H dim: W } } for each top"
            yield Found(layer, message, shapes, f"{tops}, one for each top", hint)
        elif layer.type == "Proposal" and tops != 1:
            message = f"it has {tops} tops"
            yield Found(layer, message, tops, "1 top", "make it Custom, with a shape for each top")


_TYPES = "vendor's guide to standard and extension layers, as two readers quote it"
RULES = (
    Rule(training_layers, "A", "Caffe's losses and measures have no forward pass that inference needs"),
    Rule(box_layers, "A", "vendor's samples, which decode boxes on the CPU"),
    Rule(unknown_types, "B", _TYPES, limits=("layer_types",)),
    Rule(unnamed_types, "G", "Caffe 1.0", limits=("likely_types",)),
    Rule(custom_form, "A", "vendor's guide to layers that the chip lacks (OpenHarmony, hi3516dv300)"),
)
