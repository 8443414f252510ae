"""Edits of a Caffe net by hand, named as the options of `edit`.

    until(net, ["pool5"])                       the net ends there
    from_(net, ["conv4"])                       the net begins there: conv4 is an input
    rename_layer(net, "fc", "fc1")              rename_blob(net, "data", "image")
    input_shape(net, [1, 3, 416, 416], "data")  batch(net, 4)
    drop(net, "prob")                           readers of prob read its bottom instead
    set_field(net, "layer[name=conv1].convolution_param.pad", "1")
    report(net, "conv4")                        conv4 is called conv4_report
    high_precision(net, "fc")                   cpu(net, "prob")
    custom(net, "mish1")                        proposal(net, "rois")

Each changes the net in place and returns notes, whose fates say what became of blobs. An edit that cannot be
done, or that makes a net whose shapes, wiring or weights do not fit together, raises UserError and leaves
the net as it was; `together` does several that only fit with each other. Only `until`, `from_` and the
renames keep what the net computes.

cuts.py    until, from_            layers.py  rename_layer, rename_blob, drop
inputs.py  input_shape, batch      fields.py  set_field       heads.py  what STEM.json says of heads
custom.py  custom, proposal        suffixes.py  report, high_precision, cpu
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nnie_prep.blob_map import BlobMap, Note
from nnie_prep.description import describe_surgery, described_inputs
from nnie_prep.edit import custom as own_layers
from nnie_prep.edit import cuts, fields, inputs, layers, suffixes
from nnie_prep.edit.heads import RESIZED, resize_head
from nnie_prep.edit.inputs import shapes_text
from nnie_prep.errors import UserError
from nnie_prep.net import Net, check_wiring
from nnie_prep.shapes import Shape, blob_shapes, known_shapes, walk_shapes

Edit = Callable[[Net], list[Note]]


def until(net: Net, blobs: Sequence[str]) -> list[Note]:
    """Keeps what these blobs need, each as its last writer leaves it; they become outputs.

    Another top of a layer that is kept stays, and is an output too.
    """
    return _change(net, lambda one: cuts.until(one, blobs))


def want(net: Net, blobs: Sequence[str]) -> None:
    """Says which blobs the net is for, each as its last writer leaves it; `until` for all passes together.

    drop_unreachable drops what they do not need, and every pass leaves them their names and values.
    """
    cuts.want(net, blobs)


def from_(net: Net, blobs: Sequence[str]) -> list[Note]:
    """Makes inputs of these blobs and keeps what leads from them to the net's outputs.

    Refused where that also needs something that these blobs were made of, by another way.
    """
    return _change(net, lambda one: cuts.from_(one, blobs))


def rename_layer(net: Net, old: str, new: str) -> list[Note]:
    """Renames a layer; its blobs keep their names, and its weights stay with it."""
    return _change(net, lambda one: layers.rename_layer(one, old, new))


def rename_blob(net: Net, old: str, new: str) -> list[Note]:
    """Renames a blob, in-place versions and all, wherever the net names it."""
    return _change(net, lambda one: layers.rename_blob(one, old, new))


def input_shape(net: Net, shape: Sequence[int], name: str | None = None) -> list[Note]:
    """Declares another shape for an input; the name may be left out where there is one input."""
    return _change(net, lambda one: inputs.input_shape(one, tuple(shape), name))


def batch(net: Net, count: int) -> list[Note]:
    """Sets the first extent of every input."""
    return _change(net, lambda one: inputs.batch(one, count))


def drop(net: Net, layer: str) -> list[Note]:
    """Takes a layer out. Its readers read its bottom; nothing else changes where it has none."""
    return _change(net, lambda one: layers.drop(one, layer))


def set_field(net: Net, path: str, value: str) -> list[Note]:
    """Sets a field of a layer, or of the net itself, to a value in prototxt's notation.

    `layer[name=conv1].convolution_param.pad` or `layer[3].param[0].lr_mult`, counted from 0;
    `bottom` and `top` too. A list is written with commas, and one of its elements set by its place. An
    empty value unsets the field.
    """
    return _change(net, lambda one: fields.set_field(one, path, value))


def report(net: Net, blob: str) -> list[Note]:
    """Has NNIE's compiler report an inner blob: `_report` behind its name."""
    return _change(net, lambda one: suffixes.report(one, blob))


def high_precision(net: Net, layer: str) -> list[Note]:
    """Asks for 16 bits in a layer: `_hp` behind its name."""
    return _change(net, lambda one: suffixes.high_precision(one, layer))


def cpu(net: Net, layer: str) -> list[Note]:
    """Has the CPU do a layer: `_cpu` behind its name."""
    return _change(net, lambda one: suffixes.cpu(one, layer))


def custom(net: Net, layer: str, shapes: Sequence[Shape] = ()) -> list[Note]:
    """Makes a layer NNIE's Custom; a shape for each top, where they are not known."""
    return _change(net, lambda one: own_layers.custom(one, layer, shapes))


def proposal(net: Net, layer: str) -> list[Note]:
    """Makes a layer NNIE's Proposal."""
    return _change(net, lambda one: own_layers.proposal(one, layer))


def check(net: Net) -> None:
    """Raises UserError where wiring, shapes or weights do not fit together, as far as shapes are known."""
    if not net.layers:
        raise UserError("no layer would be left", net.source, "cut or drop less")
    check_wiring(net)
    for layer, bottoms, tops in walk_shapes(net):
        if bottoms is None or tops is None or not layer.blobs:
            continue
        needed, found = blob_shapes(layer, bottoms), [tuple(blob.shape) for blob in layer.blobs]
        if needed != found:
            raise UserError(
                f"the weights of layer {layer.name!r} have shapes {shapes_text(found)}, "
                f"and it would need {shapes_text(needed)}",
                layer.origin or net.source,
                "train again for such a net, or leave out the caffemodel",
            )


def _change(net: Net, apply: Edit) -> list[Note]:
    """Tries an edit on a copy, and does it if that is a net."""
    (notes,) = together(net, [("", apply)])
    return notes


def together(net: Net, edits: Sequence[tuple[str, Edit]]) -> list[list[Note]]:
    """Does edits, those of cuts.py and its neighbours, one after the other; the notes of each.

    Args:
        edits: each with how the user calls it.

    What comes of them all must be a net; what stands between need not be. Where it is none, the UserError
    names the edit since which it was none, and the net is as it was.
    """
    trial = net.copy()
    for _, apply in edits:
        apply(trial)
    try:
        check(trial)
    except UserError as error:
        culprit = _culprit(net, edits) if len(edits) > 1 else ""
        message = f"after {culprit}: {error.message}" if culprit else error.message
        raise UserError(message, error.where, error.hint) from None
    return [apply(net) for _, apply in edits]


def _culprit(net: Net, edits: Sequence[tuple[str, Edit]]) -> str:
    """The first edit since which the net has not fitted together; "" if it never did."""
    trial, found = net.copy(), ""
    did = _fits(trial)
    for text, apply in edits:
        apply(trial)
        before, did = did, _fits(trial)
        if before and not did:
            found = text
    return found


def _fits(net: Net) -> bool:
    try:
        check(net)
    except UserError:
        return False
    return True


def describe(prototxt: Path, blob_map: BlobMap, before: Net, net: Net, warnings: list[str]) -> dict[str, Any]:
    """STEM.json of an edited net: as after any surgery, with the input and heads that it has now.

    A head that is not told of any more gives a warning.
    """
    document = describe_surgery(prototxt, blob_map)
    shapes = known_shapes(net)
    for about in described_inputs(document):
        if about.get("blob") in net.inputs():
            if "shape" in about:
                about["shape"] = list(shapes.get(about["blob"], ())) or about["shape"]
        elif "none" in about or "blob" in about:
            why = about.get("none", "")
            about.clear()
            about["none"] = why
    sizes = known_shapes(before)
    pictures_differ = any(
        shapes[blob][2:] != sizes[name][2:]
        for name in before.inputs()
        for blob in blob_map[name].blobs
        if name in sizes and blob in shapes
    )
    for head in document.get("heads", []):
        if not resize_head(head, shapes, pictures_differ):
            warnings.append(
                f"the .json describes {head.get('layer')} ({head.get('type')}) no more: {RESIZED}"
            )
    return document
