"""Cut off what the CPU does behind a net: detection heads, Permute tails, a trailing ArgMax.

    before:  conv -> loc -> Permute -> Flatten -> Concat \\
             conv, data -> PriorBox -> Concat -----------  DetectionOutput -> detection_out
             conv -> conf -> Permute -> .. -> Softmax ---/
    after:   conv -> loc    conv -> conf

Heads are DetectionOutput and the YoloDetectionOutput layers. A tail is a Permute, PriorBox or ArgMax
from which only Permute, Reshape, Flatten, Concat, Softmax, Sigmoid, Slice, Split and PriorBox lead to
the net's outputs: all of those go with it, and a Flatten or Reshape that leads to nothing else. The
notes say in `heads` what the CPU must do instead (head_descriptions.py). A blob that both these and layers
that stay read gets `_report` behind its name, or the compiler would not hand it out; not one that is wanted
by its name.

Declined for a head whose wiring is not understood, for outputs that the user asked for, and where an input
of the net would feed nothing. A Softmax at the end that stands behind none of these, a classifier's, is
a layer of NNIE's and stays.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from nnie_prep.blob_map import Fate, Note, blobs_in
from nnie_prep.errors import UserError
from nnie_prep.names import REPORT, shortened
from nnie_prep.net import Layer, Net
from nnie_prep.passes.head_descriptions import HEADS, describe_head, describe_tail
from nnie_prep.shapes import Shape, infer_shapes, net_input_shapes

_BEGINS = ("Permute", "ArgMax", "PriorBox")
_FLAT = ("Flatten", "Reshape")
_TAIL = (*_BEGINS, *_FLAT, "Concat", "Softmax", "Sigmoid", "Slice", "Split")


def drop_heads(net: Net) -> list[Note]:
    """Cuts all heads and tails at once."""
    if not any(layer.type in (*HEADS, *_BEGINS, "Softmax") for layer in net.layers):
        return []
    shapes = _shapes(net)
    notes, heads = [], {}
    for layer in net.layers:
        if layer.type in HEADS:
            described, reason = describe_head(net, layer, shapes)
            if reason:
                notes.append(Note(layer.name, f"not cut: {reason}", changed=False))
            else:
                heads[layer] = described
    readers = _all_readers(net)
    cut = _cut(net, readers, heads, shapes)
    starved = _starved(net, cut, readers)
    notes += [
        Note(layer.name, f"not cut: {', '.join(asked)} was asked for", changed=False)
        for layer in net.layers
        if layer.type in (*HEADS, *_BEGINS) and (asked := _asked_for(net, layer))
    ]
    if unfed := _unfed_inputs(net, cut, starved):
        text = "nothing cut: the input would feed nothing; leave it out by hand with `edit`"
        return [*notes, Note(", ".join(unfed), text, changed=False)] if cut else notes
    notes += [
        Note(layer.name, "not cut: NNIE computes Softmax", changed=False)
        for layer in net.layers
        if layer.type == "Softmax" and layer not in cut and not readers[layer]
    ]
    if not cut:
        return notes
    told = []
    for layer in [layer for layer in net.layers if layer in cut and not readers[layer]]:
        told.append(heads.get(layer) or describe_tail(net, layer, cut, shapes))
        notes.append(Note(layer.name, f"cut: {layer.type} is done on the CPU", heads=told[-1:]))
    last = net.last_writers()
    fates = {name: Fate((), "cut: the CPU does it") for name, layer in last.items() if layer in cut}
    fates |= {
        name: Fate((), "cut: only its size was needed") for name, layer in last.items() if layer in starved
    }
    net.layers = [layer for layer in net.layers if layer not in cut and layer not in starved]
    ends = ", ".join(net.outputs())
    count = f"{len(cut)} layer{'s' * (len(cut) > 1)} cut"
    notes.append(Note(ends, f"the net ends here: {count}, which the CPU does", fates=fates))
    return notes + _reported(net, told)


def _reported(net: Net, heads: Sequence[Mapping[str, Any]]) -> list[Note]:
    """Has the compiler hand out what the heads read and layers read too."""
    notes = []
    for name in blobs_in(list(heads)):
        writer = net.last_writers().get(name)
        if name in (*net.outputs(), *net.wanted) or name.endswith(REPORT):
            continue
        if writer is None or not writer.bottoms:
            continue
        new = shortened(name, net.blob_names(), REPORT)
        net.rename_blob(name, new)
        text = f"blob renamed to {new}, which the compiler reports: the CPU reads it, and so do layers"
        notes.append(Note(name, text, fates={name: Fate((new,))}))
    return notes


def _shapes(net: Net) -> dict[str, Shape]:
    """All shapes for one picture, which is what heads are described for; {} where inputs have none."""
    declared = net_input_shapes(net)
    if any(name not in declared for name in net.inputs()):
        return {}
    try:
        return infer_shapes(net, {name: (1, *shape[1:]) for name, shape in declared.items() if shape})
    except UserError:  # a Reshape that names the batch
        return infer_shapes(net)


def _all_readers(net: Net) -> dict[Layer, list[Layer]]:
    """Who reads any top of each layer."""
    readers: dict[Layer, list[Layer]] = {layer: [] for layer in net.layers}
    writers: dict[str, Layer] = {}
    for layer in net.layers:
        for name in layer.bottoms:
            if name in writers:
                readers[writers[name]].append(layer)
        writers.update(dict.fromkeys(layer.tops, layer))
    return readers


def _cut(
    net: Net, readers: dict[Layer, list[Layer]], heads: Collection[Layer], shapes: dict[str, Shape]
) -> set[Layer]:
    """The heads, and the tails: what only leads to outputs or heads, from a layer that begins a tail on."""
    tailing: set[Layer] = set()
    for layer in reversed(net.layers):
        may_go = (layer in heads or layer.type in _TAIL) and not _asked_for(net, layer)
        if may_go and tailing.issuperset(readers[layer]):
            tailing.add(layer)
    cut: set[Layer] = set()
    for layer in net.layers:
        begins = layer in heads or layer.type in _BEGINS
        if layer in tailing and (begins or layer in cut):
            cut.add(layer)
            cut.update(readers[layer])
    for layer in reversed(net.layers):  # what only puts values in order for what is cut
        flat = layer.type in _FLAT or (layer.type == "Concat" and len(shapes.get(layer.tops[0], ())) == 2)
        may_go = flat and not _asked_for(net, layer)
        if may_go and readers[layer] and cut.issuperset(readers[layer]):
            cut.add(layer)
    return cut


def _asked_for(net: Net, layer: Layer) -> list[str]:
    return [name for name in layer.tops if net.is_wanted(layer, name)]


def _starved(net: Net, cut: Collection[Layer], readers: dict[Layer, list[Layer]]) -> set[Layer]:
    """Layers of which only PriorBoxes wanted anything, and these only the size."""
    starved: set[Layer] = set()
    wanted = {name for layer in cut if layer.type != "PriorBox" for name in layer.bottoms}
    for layer in reversed(net.layers):
        if layer in cut or not layer.bottoms or not readers[layer] or not wanted.isdisjoint(layer.tops):
            continue
        if all(reader in starved or reader in cut for reader in readers[layer]):
            starved.add(layer)
    return starved


def _unfed_inputs(net: Net, cut: Collection[Layer], starved: Collection[Layer]) -> list[str]:
    """Inputs that only layers read which are to go."""
    read = {name for layer in net.layers for name in layer.bottoms}
    left = {
        name for layer in net.layers if layer not in cut and layer not in starved for name in layer.bottoms
    }
    return [name for name in net.inputs() if name in read and name not in left]
