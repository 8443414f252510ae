"""Drop what only training needs: losses, accuracies, labels, Silence; a data layer becomes an Input.

    before:  Data -> data, label    conv(data) -> fc    SoftmaxWithLoss(fc, label) -> loss
    after:   Input -> data          conv(data) -> fc

Dropped are the layers that compute losses and accuracies, what is computed from those, and the
sources, inputs and layers that feed nothing else; what a loss was computed from stays, as an output.
The Input gets the shape (1, C, H, W) where the file makes it certain: H and W from crop_size or
new_height and new_width, C from the weights that read the data, all three from MemoryData or DummyData.

Declined as a whole where such a shape is not certain, where a loss's second top is a prediction, and
where no layer would be left. A Silence stays where a blob that it reads would become an output, and
a DummyData that is not the net's only source is taken for a constant and stays.
"""

from __future__ import annotations

from nnie_prep.blob_map import Fate, Note
from nnie_prep.net import Layer, Net
from nnie_prep.nnie_caffe_pb2 import LayerParameter
from nnie_prep.passes.data_shapes import data_shape
from nnie_prep.passes.training import TrainingParts, is_source, training_parts
from nnie_prep.shapes import Shape, net_input_shapes
from nnie_prep.training_layers import DATA, is_training_layer

GONE = Fate((), "dropped: only training needs it")


def drop_training(net: Net) -> list[Note]:
    """Drops what only training needs, or nothing."""
    if not any(is_training_layer(layer) or layer.type in DATA for layer in net.layers):
        return []
    parts = training_parts(net)
    shapes, problems = _input_shapes(net, parts)
    problems += [_declined(layer, reason) for layer in net.layers if (reason := _prediction(net, layer))]
    if not parts.needed:
        problems.append(_declined(net.layers[0], "no source feeds a layer that would be left"))
    if problems:
        return problems

    notes = []
    for name in [name for name in net.header.input if (None, name) in parts.gone]:
        net.drop_input(name)
        notes.append(Note(name, f"input {name} dropped: only training needs it", fates={name: GONE}))
    for layer in list(net.layers):
        fates = {name: GONE for name in layer.tops if layer in parts.dropped or (layer, name) in parts.gone}
        if layer in parts.dropped or (fates and len(fates) == len(layer.tops)):
            net.remove(layer)
            notes.append(Note(layer.name, f"dropped: only training needs {layer.type}", fates=fates))
        elif layer in shapes:
            net.replace(layer, _input_layer(layer, shapes[layer]))
            notes.append(Note(layer.name, _replaced(layer, shapes[layer]), fates=fates))
        elif layer in parts.silences:
            text = f"not dropped: {parts.silences[layer]} would become an output of the net"
            notes.append(Note(layer.name, text, changed=False))
        elif layer.type == "DummyData":
            text = "left alone: beside another source it is a constant"
            notes.append(Note(layer.name, text, changed=False))
    return notes


def _declined(layer: Layer, reason: str) -> Note:
    return Note(layer.name, f"nothing dropped: {reason}", changed=False)


def _prediction(net: Net, layer: Layer) -> str:
    """Why a loss cannot be dropped: it is asked for its predictions too."""
    if layer.type != "SoftmaxWithLoss" or len(layer.tops) < 2:
        return ""
    readers = net.readers(layer, 1)
    if readers and all(is_training_layer(reader) for reader in readers):
        return ""
    return f"{layer.tops[1]}, the second top of {layer.name}, is a prediction; write it as a Softmax layer"


def _input_shapes(net: Net, parts: TrainingParts) -> tuple[dict[Layer, dict[str, Shape]], list[Note]]:
    """The sources to be written as Input layers, each with the tops that stay; and what prevents it."""
    shapes: dict[Layer, dict[str, Shape]] = {}
    problems = []
    declared = net_input_shapes(net)
    others = any(layer is None or layer.type != "DummyData" for layer, _ in parts.needed)
    for layer in filter(is_source, net.layers):
        stays = [name for name in layer.tops if (layer, name) not in parts.gone]
        if not stays or (len(stays) == len(layer.tops) and layer.type not in DATA):
            continue
        if layer.type == "Input":
            shapes[layer] = {name: declared.get(name, ()) for name in stays}
        elif layer.type not in DATA or (layer.type == "DummyData" and others):
            if len(stays) < len(layer.tops):
                reason = f"of its tops only {', '.join(stays)} would be left; write it as an Input layer"
                problems.append(_declined(layer, reason))
        else:
            found = {name: data_shape(layer, name, parts.needed.get((layer, name), [])) for name in stays}
            shapes[layer] = {name: shape for name, (shape, _) in found.items()}
            problems += [_declined(layer, reason) for _, reason in found.values() if reason]
    return shapes, problems


def _input_layer(layer: Layer, shapes: dict[str, Shape]) -> Layer:
    proto = LayerParameter(name=layer.name, type="Input")
    for shape in filter(None, shapes.values()):
        proto.input_param.shape.add().dim.extend(shape)
    return Layer(proto, tops=list(shapes), origin=layer.origin)


def _replaced(layer: Layer, shapes: dict[str, Shape]) -> str:
    """The note for a data layer, with what it did to the pictures."""
    inputs = ", ".join(f"{name} of {' x '.join(map(str, shape))}" for name, shape in shapes.items())
    if layer.type == "Input":
        return f"only {inputs} left: only training needs the other tops"
    text = f"{layer.type} replaced by an Input: {inputs}"
    transform = layer.proto.transform_param
    did = []
    if transform.mean_file or transform.mean_value:
        mean = transform.mean_file or ", ".join(f"{value:g}" for value in transform.mean_value)
        did.append(f"subtracted the mean {mean}")
    if transform.scale != 1:
        did.append(f"multiplied by {transform.scale:g}")
    return f"{text}; it {' and '.join(did)}, which the caller must do now" if did else text
