"""Replace a Slice of which nobody reads some tops, which NNIE would take for outputs of the net.

    before:  conv -> relu -> Slice -> a, b        after:  conv' -> relu -> b

Where the Slice alone reads a convolution, that makes only the channels that are read. Otherwise a 1x1
convolution with one-hot weights takes them. Where several tops are read, a Slice of these is left.

Declined where nothing with weights follows, so that the tops look like outputs that are meant, for an
axis other than that of the channels, and where their number is not known.
"""

from __future__ import annotations

from nnie_prep import params
from nnie_prep.blob_map import Fate, Note
from nnie_prep.composites import Add, selected
from nnie_prep.net import Layer, Net
from nnie_prep.passes.output_channels import choose_outputs, producer
from nnie_prep.passes.replacement import free_name, replace_layer
from nnie_prep.shapes import Shape, known_shapes, top_shapes
from nnie_prep.shapes.weights import WEIGHTED


def replace_slice(net: Net) -> list[Note]:
    """Replaces each Slice that has both, tops that are read and tops that are not."""
    found = []
    for layer in net.layers:
        if layer.type == "Slice":
            read = [
                bool(net.readers(layer, place)) or net.is_wanted(layer, top)
                for place, top in enumerate(layer.tops)
            ]
            if any(read) and not all(read):
                found.append((layer, read))
    shapes = known_shapes(net) if found else {}
    return [_replaced(net, layer, read, shapes.get(layer.bottoms[0])) for layer, read in found]


def _replaced(net: Net, layer: Layer, read: list[bool], shape: Shape | None) -> Note:
    unread = [top for top, is_read in zip(layer.tops, read, strict=True) if not is_read]
    reason = ""
    if shape is None:
        reason = f"the shape of {layer.bottoms[0]} is not known"
    elif len(shape) != 4 or params.slice_axis(layer, shape) != 1:
        reason = "it does not slice channels"
    elif not _weights_follow(net, layer):
        reason = (
            "nothing with weights follows, so they may be meant; `edit --until` can end the net elsewhere"
        )
    if reason or shape is None:
        text = f"not replaced, though nobody reads {', '.join(unread)}: {reason}"
        return Note(layer.name, text, changed=False)

    extents = [top[1] for top in top_shapes(layer, [shape])]
    starts = [sum(extents[:place]) for place in range(len(extents))]
    kept = [place for place, is_read in enumerate(read) if is_read]
    chosen = [starts[place] + channel for place in kept for channel in range(extents[place])]
    tops = [layer.tops[place] for place in kept]
    name, bottom = layer.name, layer.bottoms[0]
    top = tops[0] if len(tops) == 1 else free_name(net, f"{bottom}-read")
    fates = {one: Fate((), f"dropped: a part of {bottom} that nobody reads") for one in unread}

    row, reason = producer(net, layer)
    if row:
        why = f"{row[0].name} computes only what {name} handed on"
        fates |= choose_outputs(net, row, layer, chosen, top, why)
        text = f"{row[0].name} computes {len(chosen)} of its {shape[1]} channels, which are all that is read"
    else:
        text = f"a one-hot convolution takes {len(chosen)} of {shape[1]} channels ({reason})"
        layer.tops = [top]

        def form(add: Add, blob: str) -> str:
            return selected(add, "", blob, shape[1], chosen)

        new, reason = replace_layer(net, layer, form)
        assert not reason, reason
        row = new
    if len(tops) > 1:
        row[-1].proto.name = row[-1].name if row[-1].name != name else free_name(net, f"{name}-read")
        ends = [sum(extents[place] for place in kept[:count]) for count in range(1, len(kept))]
        rest = layer.copy()
        rest.bottoms, rest.tops, rest.blobs = [top], tops, []
        rest.proto.slice_param.slice_point[:] = ends
        net.insert_after(row[-1], rest)
    return Note(name, f"nobody reads {', '.join(unread)}: {text}", fates=fates)


def _weights_follow(net: Net, layer: Layer) -> bool:
    """Whether a layer with weights computes something from a top of the Slice."""
    fed = set(layer.tops)
    for one in net.layers[net.index(layer) + 1 :]:
        reads = not fed.isdisjoint(one.bottoms)
        if reads and one.type in WEIGHTED:
            return True
        fed = fed | set(one.tops) if reads else fed - set(one.tops)
    return False
