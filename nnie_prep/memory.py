"""Which blobs are one memory in Caffe, and what a layer in place does to those who share it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from nnie_prep.net import Layer, Net


def shares_memory(layer: Layer) -> bool:
    """Whether the layer's tops are its bottom's own memory in Caffe (`ShareData`), not a copy."""
    if layer.type in ("Concat", "Slice"):
        return len(layer.bottoms) == len(layer.tops) == 1
    return layer.type in ("Flatten", "Reshape", "Split")


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
    if not any(shares_memory(one) for one in net.layers):
        return ""
    first, writer = layer, net.writer(layer)
    moves = writer is not None and net.overtakes_output(writer, layer)
    if writer is not None and moves and (reason := why_not_joined(net, (writer, layer))):
        return reason
    if layer.bottoms == layer.tops:
        return ""
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


def why_not_joined(net: Net, run: Sequence[Layer]) -> str:
    """Why Caffe computes something else once the first of a run does what all of it do, or "".

    Each reads the one before alone. The first, which moves to the last's place where the order of the net's
    outputs demands it, must find there what it finds now; and if it is in place, everyone else too.
    """
    first, last = run[0], run[-1]
    between = [one for one in net.layers[net.index(first) + 1 : net.index(last)] if one not in run]
    in_place = not set(first.bottoms).isdisjoint(first.tops)
    if not between or not (in_place or net.overtakes_output(first, last)):
        return ""
    uses = {layer: (read, overwritten) for layer, read, overwritten in _uses(net)}
    own, _ = uses[first]
    for one in between:
        read, overwritten = uses[one]
        if own & overwritten:
            return f"in Caffe {one.name} overwrites memory that {first.name} would read later"
        if in_place and own & read:
            return f"in Caffe {one.name} reads memory that {first.name} overwrites"
    return ""


def _uses(net: Net) -> Iterator[tuple[Layer, set[int], set[int]]]:
    """Each layer with the memory that it reads and what it overwrites of that, each by a number."""
    memory: dict[str, int] = {}
    for layer in net.layers:
        read = [memory.setdefault(name, len(memory)) for name in layer.bottoms]
        shares = shares_memory(layer)
        found = {
            top: read[0] if shares else memory[top] if top in layer.bottoms else -1 for top in layer.tops
        }
        yield layer, set(read), set() if shares else set(found.values()).intersection(read)
        for top, number in found.items():
            memory[top] = number if number >= 0 else len(memory)
