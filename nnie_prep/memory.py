"""Which blobs are one memory in Caffe, and what a layer in place does to those who share it."""

from __future__ import annotations

from collections.abc import Collection

from nnie_prep.net import Layer, Net
from nnie_prep.params import shares_memory


def is_fed(net: Net, layer: Layer) -> bool:
    """Whether the layer's first bottom has the name of what the net is fed with."""
    name = layer.bottoms[0]
    writer = net.writer(layer)
    while writer is not None and name in writer.bottoms:
        writer = net.writer(writer, writer.bottoms.index(name))
    return writer is None or not writer.bottoms


def memory_is_shared(net: Net, layer: Layer) -> bool:
    """Whether a layer in place may overwrite what others find in the same memory."""
    name = layer.bottoms[0]
    writer = net.writer(layer)
    while writer is not None and name in writer.bottoms and not shares_memory(writer):
        writer = net.writer(writer, writer.bottoms.index(name))
    return writer is not None and shares_memory(writer)


def overwrites_for(net: Net, layer: Layer, kept: Collection[Layer]) -> bool:
    """Whether a layer in place overwrites, in Caffe's shared memory, what layers of `kept` read later."""
    if not set(layer.bottoms).intersection(layer.tops) or not memory_is_shared(net, layer):
        return False
    owner, name = net.writer(layer), layer.bottoms[0]
    while owner is not None and (shares_memory(owner) or name in owner.bottoms):
        name = owner.bottoms[0]
        owner = net.writer(owner)
    memory, is_later = {name}, False
    for one in net.layers[net.index(owner) + 1 if owner else 0 :]:
        if memory.intersection(one.bottoms):
            if is_later and one in kept:
                return True
            memory.update(one.tops if shares_memory(one) else ())
        is_later |= one is layer
    return False


def reads_alone(net: Net, layer: Layer) -> bool:
    """Whether nobody else reads what the layer's first bottom is in memory; the net's inputs are others'."""
    writer = net.writer(layer)
    if writer is None or not writer.bottoms:
        return False
    readers = net.readers(writer, writer.tops.index(layer.bottoms[0]))
    wanted = net.is_wanted(writer, layer.bottoms[0])
    return readers == [layer] and not wanted and not memory_is_shared(net, layer)


def why_memory_matters(net: Net, layer: Layer) -> str:
    """Why Caffe computes something else once the layer's readers read its bottom, or "".

    A layer in place on memory that others share changes what they find, if they run later. So it
    does for those that shared it through this layer, and would for those whom this layer gave a copy.
    """
    if layer.bottoms == layer.tops or not any(shares_memory(one) for one in net.layers):
        return ""
    first, writer = layer, net.writer(layer)
    while writer is not None and shares_memory(writer):
        first, writer = writer, net.writer(writer)
    copies = not shares_memory(layer)
    memory, copied = {first.bottoms[0]}, set[str]()  # names of blobs
    overwriter: Layer | None = None
    for one in net.layers[net.index(writer) + 1 if writer else 0 :]:
        reads, reads_copy = memory.intersection(one.bottoms), copied.intersection(one.bottoms)
        if shares_memory(one):
            memory.update(one.tops if reads else ())
            copied.update(one.tops if reads_copy else ())
        elif overwriter and (one is layer or (reads_copy if copies else reads)):
            return f"in Caffe {overwriter.name} overwrites memory that {one.name} reads later"
        elif one is layer:
            copied.update(one.tops)
        else:
            if reads.intersection(one.tops):
                overwriter = one
            memory.difference_update(one.tops)
            copied.difference_update(one.tops)
    return ""
