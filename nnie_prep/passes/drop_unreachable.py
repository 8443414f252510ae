"""Drop what leads to none of the outputs that the user asked for: layers, inputs, whole branches.

    before:  conv -> prob (asked for)           after:  conv -> prob
             conv -> other -> loss2

An output is a blob that nobody reads, and so nothing is unreachable until somebody says which of them are
wanted (`Net.wanted`, `--until BLOB`); without that this pass leaves all as it is. A blob that was asked for
stays an output where layers read it, and all passes keep its name and value.

Another top of a layer that is needed cannot be dropped, unless that is a Split: it stays, as an output that
nobody asked for. If what is dropped overwrote it in place, it takes a name of its own, since it has another
value. An input that nobody reads is an output as well and stays, unless wanted outputs are named and it is
not among them. A layer in place stays where in Caffe it overwrites memory that a later layer needs.
"""

from __future__ import annotations

from collections.abc import Collection

from nnie_prep.blob_map import Fate, Note
from nnie_prep.memory import overwrites_for
from nnie_prep.net import Layer, Net
from nnie_prep.training_layers import DATA


def drop_unreachable(net: Net) -> list[Note]:
    """Drops each layer and input that no wanted output is made of."""
    if not net.wanted:
        text = "not dropped: nobody reads this input, and so it is an output too; --until says what is wanted"
        return [Note(name, text, changed=False) for name in net.inputs() if name in net.outputs()]
    wanted = ", ".join(net.wanted)
    gone = Fate((), f"cut: {wanted} does not need it")
    kept, last, known = net.makers(net.wanted), net.last_writers(), net.blob_names()
    held = {layer for layer in net.layers if layer not in kept and overwrites_for(net, layer, kept)}
    kept = net.makers([*net.wanted, *(name for layer in held for name in layer.tops)])
    notes = [
        Note(layer.name, "not dropped: in Caffe it overwrites memory that is needed", changed=False)
        for layer in net.layers
        if layer in held
    ]
    for layer in [layer for layer in net.layers if layer not in kept and layer.type != "Input"]:
        net.remove(layer)
        fates = {name: gone for name in layer.tops if last[name] is layer}
        notes.append(Note(layer.name, f"dropped: {wanted} does not need this {layer.type}", fates=fates))
    read = {name for layer in net.layers for name in layer.bottoms}.union(net.wanted)
    for name in [name for name in net.inputs() if name not in read]:
        net.drop_input(name)
        overwritten = name in last and last[name].type != "Input"  # which had its value under this name
        fates = {} if overwritten else {name: gone}
        notes.append(Note(name, f"input {name} dropped: {wanted} does not need it", fates=fates))
    now = net.last_writers()
    for name in [name for name in net.outputs() if name in now and name not in net.wanted]:
        layer = now[name]
        if layer.type == "Split":
            layer.tops.remove(name)
            fates = {name: gone} if last[name] is layer else {}
            notes.append(Note(layer.name, f"top {name} dropped: {wanted} does not need it", fates=fates))
        elif layer.type not in DATA:  # whose labels drop_training takes out
            if last[name] is not layer:
                notes.append(_renamed(layer, name, known))
            text = f"{name} stays an output: a top that nobody asked for cannot be left out"
            notes.append(Note(layer.name, text, changed=False))
    return notes


def _renamed(layer: Layer, name: str, known: Collection[str]) -> Note:
    """Gives an unread top a name that no blob ever had, and says so."""
    new = f"{name}_unread"
    while new in known:
        new += "_"
    layer.tops[layer.tops.index(name)] = new
    return Note(layer.name, f"top {name} renamed to {new}: what was {name} later is dropped")
