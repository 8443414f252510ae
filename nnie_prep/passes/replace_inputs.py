"""Replace the ways to declare an input that NNIE's compiler does not take, and batches of several pictures.

    before:  input: "data" input_dim: 8 input_dim: 3 input_dim: 224 input_dim: 224
    after:   input: "data" input_shape { dim: 1 dim: 3 dim: 224 dim: 224 }

`input` with `input_shape`, and Input layers, stay as they are but for a batch of several pictures, which
becomes 1: the compiler's cfg says how many are run at once. An Input layer with one shape for
several tops gets a shape for each.

The batch stays, with a note, where an input is no picture of 4 axes, where another blob's shape would
change by more than its batch (a Reshape that names it), and where a layer computes from all pictures
together: BatchNorm with the statistics of the batch, Softmax and the like on axis 0, weights for each
picture of the batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nnie_prep import params
from nnie_prep.blob_map import Fate, Note
from nnie_prep.errors import UserError
from nnie_prep.net import Layer, Net
from nnie_prep.shapes import Shape, blob_shapes, net_input_shapes, walk_shapes


def replace_inputs(net: Net) -> list[Note]:
    """Rewrites the inputs' shapes."""
    shapes = net_input_shapes(net)
    if any(name not in shapes for name in net.inputs()):
        return []
    notes = []
    if net.header.input_dim:
        _declare(net, shapes)
        notes.append(Note(", ".join(net.header.input), "input_dim written as input_shape"))
    for layer in net.layers:
        count = len(layer.proto.input_param.shape)
        if layer.type == "Input" and count == 1 < len(layer.tops):
            _declare(net, shapes)
            notes.append(Note(layer.name, f"its shape written for each of {len(layer.tops)} tops"))
    several = {name: shape for name, shape in shapes.items() if shape[:1] not in ((), (1,))}
    if not several:
        return notes
    if reason := _why_batch_stays(net, shapes, several):
        return [*notes, Note(", ".join(several), f"batch not set to 1: {reason}", changed=False)]
    _declare(net, {name: (1, *shape[1:]) for name, shape in shapes.items()})
    for name, shape in several.items():
        notes.append(
            Note(name, f"batch of {shape[0]} set to 1; batch_num in the compiler's cfg says how many")
        )
    return notes


def _why_batch_stays(net: Net, shapes: dict[str, Shape], several: dict[str, Shape]) -> str:
    for name, shape in several.items():
        if len(shape) != 4:
            return f"{name} of {'x'.join(map(str, shape))} is no batch of pictures"
    if len({shape[0] for shape in shapes.values()}) > 1:
        return "the inputs differ in it"
    try:
        before = walk_shapes(net)
        after = walk_shapes(net, {name: (1, *shape[1:]) for name, shape in shapes.items()})
        for (layer, had, was), (_, has, becomes) in zip(before, after, strict=True):
            for name, old, new in zip(layer.tops, was or (), becomes or (), strict=False):
                if old and (old[1:] != new[1:] or new[0] != 1):
                    return f"{name} would become {'x'.join(map(str, new))}"
            if had and has and (reason := _why_joins(layer, had, has)):
                return reason
    except UserError as error:
        return str(error)
    return ""


def _why_joins(layer: Layer, had: Sequence[Shape], has: Sequence[Shape]) -> str:
    """Why what the layer computes of one picture depends on the others, though the shapes allow it, or ""."""
    if had[0] == has[0]:
        return ""
    if layer.type == "BatchNorm" and not params.batch_norm(layer).use_global_stats:
        return f"{layer.name} uses the statistics of the batch"
    axes = {
        "ArgMax": layer.proto.argmax_param.axis if layer.proto.argmax_param.HasField("axis") else 1,
        "Reduction": layer.proto.reduction_param.axis,
        "Softmax": layer.proto.softmax_param.axis,
    }
    if layer.type in axes and params.canonical_axis(layer, axes[layer.type], had[0]) == 0:
        return f"{layer.name} ({layer.type}) works across the pictures (axis 0)"
    if blob_shapes(layer, had) != blob_shapes(layer, has):
        return f"the weights of {layer.name} are for {had[0][0]} pictures"
    return ""


def on_as_many_pictures(net: Net, source: Net, fates: Mapping[str, Fate]) -> Net:
    """The net, whose batch this pass may have set to 1, with a batch as large as its source's.

    The source may not run on one picture: what names its batch, or works across it, may be cut off here.
    """
    ours, theirs = net_input_shapes(net), net_input_shapes(source)
    given = {fate.blobs[0]: theirs[name] for name, fate in fates.items() if name in theirs and fate.blobs}
    larger = {
        name: (given[name][0], *shape[1:])
        for name, shape in ours.items()
        if name in given and shape[:1] == (1,) < given[name][:1]
    }
    if not larger:
        return net
    twin = net.copy()
    _declare(twin, ours | larger)
    return twin


def _declare(net: Net, shapes: dict[str, Shape]) -> None:
    """Writes these shapes in NNIE's forms."""
    header = net.header
    del header.input_dim[:], header.input_shape[:]
    for name in header.input:
        header.input_shape.add().dim.extend(shapes[name])
    for layer in net.layers:
        if layer.type == "Input":
            del layer.proto.input_param.shape[:]
            for name in layer.tops:
                layer.proto.input_param.shape.add().dim.extend(shapes[name])
