"""What the replacing passes share: several layers in the place of one, with its bottom and its top.

    before:  x -> layer -> y        after:  x -> layer-a -> layer-b -> layer -> y

The last of the new layers has the name and the top of the one that goes, so that no blob is lost. One
that works in place overwrites what several of the new layers read, and then what was in the blob before
gets a name of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from nnie_prep.blob import Blob
from nnie_prep.blob_map import Note
from nnie_prep.composites import Add, cost_of
from nnie_prep.memory import is_fed, memory_is_shared
from nnie_prep.net import Layer, Net
from nnie_prep.nnie_caffe_pb2 import LayerParameter
from nnie_prep.shapes import known_shapes

LARGEST_KERNEL = 255  # of NNIE: window_size in nnie/chips


def replace_layer(net: Net, layer: Layer, form: Callable[[Add, str], str]) -> tuple[list[Layer], str]:
    """Puts what `form(add, bottom)` builds in the place of a layer with one top.

    The new layers read the layer's first bottom. Returns (them, "") or ([], why it cannot be).
    """
    if reason := _why_not_apart(net, layer):
        return [], reason
    bottom, top = layer.bottoms[0], layer.tops[0]
    if bottom == top:
        bottom = free_name(net, f"{layer.name}-in")
        net.rename_before(layer, top, bottom)
    new: list[Layer] = []

    def add(
        kind: str,
        suffix: str,
        bottoms: str | Sequence[str],
        *,
        in_place: bool = False,
        blobs: Sequence[Blob | None] = (),
        **parameters: Any,
    ) -> str:
        bottoms = [bottoms] if isinstance(bottoms, str) else list(bottoms)
        name = free_name(net, f"{layer.name}-{suffix or 'out'}", new)
        known = [blob for blob in blobs if blob is not None]
        proto = LayerParameter(name=name, type=kind, **parameters)
        new.append(Layer(proto, bottoms, [bottoms[0] if in_place else name], known, layer.origin))
        return new[-1].tops[0]

    result = form(add, bottom)
    assert new and new[-1].tops == [result], layer
    new[-1].proto.name = layer.name
    for one in new:
        one.bottoms = [top if name == result else name for name in one.bottoms]
        one.tops = [top if name == result else name for name in one.tops]
    net.replace(layer, *new)
    return new, ""


def replace_activation(net: Net, layer: Layer, form: Callable[[Add, str], str], training: str) -> Note:
    """Replaces an activation, and says what that costs; `training` with what the network could be."""
    kind = layer.type
    new, reason = replace_layer(net, layer, form)
    if reason:
        return Note(layer.name, f"{kind} not replaced: {reason}", changed=False)
    text = f"{kind} replaced by {', '.join(one.type for one in new)}"
    if len(new) > 1:
        text += f"; {cost_of(training)}"
    return Note(layer.name, text)


def replace_by_channels(
    net: Net, kind: str, form: Callable[[Layer, int, Add, str], str], by: str
) -> list[Note]:
    """Replaces each layer of this type whose bottom has a known shape (N, C, ...).

    Args:
        form: builds it, given the layer, C, and what `replace_layer` gives.
        by: says in the note what that is.
    """
    found = [layer for layer in net.layers if layer.type == kind]
    shapes = known_shapes(net) if found else {}
    notes = []
    for layer in found:
        reason = f"the channels of {layer.bottoms[0]} are not known"
        if len(layer.bottoms) != 1:
            reason = f"it has {len(layer.bottoms)} bottoms"
        elif shape := shapes.get(layer.bottoms[0]):
            _, reason = replace_layer(net, layer, partial(form, layer, shape[1]))
        text = f"{kind} not replaced: {reason}" if reason else f"{kind} replaced by {by}"
        notes.append(Note(layer.name, text, changed=not reason))
    return notes


def _why_not_apart(net: Net, layer: Layer) -> str:
    """Why what a layer in place reads cannot be another blob than what it writes, or ""."""
    name = layer.bottoms[0]
    if name not in layer.tops:
        return ""
    if is_fed(net, layer):
        return f"it is in place on {name}, which the net is fed with"
    if memory_is_shared(net, layer):
        return f"it is in place on {name}, whose memory other layers share"
    return ""


def why_bottom_stays(net: Net, layer: Layer, place: int) -> str:
    """Why a layer must go on reading a bottom of which it needs nothing but the size, or ""."""
    name, writer = layer.bottoms[place], net.writer(layer, place)
    readers = net.layers if writer is None else net.readers(writer, writer.tops.index(name))
    if any(name in one.bottoms for one in readers if one is not layer):
        return ""
    return f"{name}, which nobody else reads, would become an output of the net"


def free_name(net: Net, wanted: str, new: Sequence[Layer] = ()) -> str:
    """The name, or the name with a number, that no layer and no blob has; nor one of those that are new."""
    layers = [*net.layers, *new]
    taken = {one.name for one in layers}.union(net.header.input, *(one.tops for one in layers))
    name, number = wanted, 1
    while name in taken:
        number += 1
        name = f"{wanted}{number}"
    return name
