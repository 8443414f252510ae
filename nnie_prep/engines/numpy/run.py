"""The forward pass of a net."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
from numpy.typing import DTypeLike

from nnie_prep.blob import Array
from nnie_prep.engines.numpy.layers import forward_layer, is_supported
from nnie_prep.errors import UserError
from nnie_prep.memory import shares_memory
from nnie_prep.net import Layer, Net


def forward(
    net: Net,
    feeds: Mapping[str, Array],
    wanted: Collection[str] | None = None,
    forced: Mapping[str, Array] | None = None,
    dtype: DTypeLike = np.float32,
    progress: Callable[[int, int], None] | None = None,
    compute: Callable[[Layer, list[Array]], list[Array]] = forward_layer,
    seen: Callable[[str, Array], None] = lambda name, value: None,
) -> dict[str, Array]:
    """The value of each wanted blob as its last writer leaves it.

    Layers of unknown type, and those that need what they write, are not run, and what they would
    write is not in the result. Arrays of the result may share memory with each other and the feeds.

    Args:
        feeds: a value for each input of the net, of any shape that its layers accept. The tops of
            data layers, which are not run, may be fed too.
        wanted: names of blobs, None for all of them.
        forced: values that later layers read instead of what the last writer of that name computed,
            or could not compute. The result still holds the computed value, and nothing for a
            writer that was not run. A forced input need not be fed. Other names are ignored.
        dtype: float32 or float64, of the whole computation.
        progress: called with the layers done and the number of layers.
        compute: what makes a layer's tops of its bottoms, in place of `forward_layer`.
        seen: called with each blob as its last writer leaves it, wanted or not.
    """
    forced = forced or {}
    last_writers = net.last_writers()
    last_reads = {name: place for place, layer in enumerate(net.layers) for name in layer.bottoms}
    known = {*net.header.input, *last_writers}
    _check_names(net, feeds, wanted, known)
    wanted = known if wanted is None else set(wanted)
    blobs: dict[str, Array] = {}  # versions that are still to be read
    memory: dict[str, set[str]] = {}  # names of blobs that are one memory in Caffe
    result: dict[str, Array] = {}

    def write(name: str, value: Array | None, is_last: bool) -> None:
        if is_last and value is not None:
            seen(name, value)
            if name in wanted:
                result[name] = value
        if is_last and name in forced:
            value = np.asarray(forced[name], dtype=dtype)
        if value is None:
            blobs.pop(name, None)
        else:
            blobs[name] = value

    for name in net.header.input:
        write(name, _input(name, feeds, forced, dtype, net.source), name not in last_writers)
    for place, layer in enumerate(net.layers):
        for name, value in zip(layer.tops, _run(layer, blobs, feeds, forced, dtype, compute), strict=True):
            write(name, value, last_writers[name] is layer)
            _share(layer, name, memory, blobs)
        for name in (*layer.bottoms, *layer.tops):
            if last_reads.get(name, -1) <= place:
                blobs.pop(name, None)
        if progress:
            progress(place + 1, len(net.layers))
    return result


def _share(layer: Layer, top: str, memory: dict[str, set[str]], blobs: dict[str, Array]) -> None:
    """What Caffe's sharing of memory does: a layer in place is seen through Reshape, Split and the like.

    Values as they were recorded stay; later readers of the other names find what was written.
    """
    if shares_memory(layer):
        together = memory.setdefault(layer.bottoms[0], {layer.bottoms[0]})
        together.add(top)
        memory[top] = together
    elif top not in layer.bottoms:
        memory.pop(top, set()).discard(top)
    elif top in blobs:
        for other in memory.get(top, set()) - {top}:
            if other in blobs:
                blobs[other] = blobs[top].reshape(blobs[other].shape)


def _run(
    layer: Layer,
    blobs: Mapping[str, Array],
    feeds: Mapping[str, Array],
    forced: Mapping[str, Array],
    dtype: DTypeLike,
    compute: Callable[[Layer, list[Array]], list[Array]],
) -> Sequence[Array | None]:
    """The layer's tops, None for each that is not known."""
    if layer.type == "Input":
        return [_input(name, feeds, forced, dtype, layer.origin) for name in layer.tops]
    if not is_supported(layer):
        fed = {} if layer.bottoms else feeds  # its top may be an input's, in place
        return [np.asarray(fed[name], dtype=dtype) if name in fed else None for name in layer.tops]
    if any(name not in blobs for name in layer.bottoms):
        return [None] * len(layer.tops)
    return [np.asarray(top, dtype=dtype) for top in compute(layer, [blobs[name] for name in layer.bottoms])]


def _input(
    name: str, feeds: Mapping[str, Array], forced: Mapping[str, Array], dtype: DTypeLike, where: str
) -> Array:
    value = feeds.get(name, forced.get(name))
    if value is None:
        raise UserError(f"no value is given for input {name!r}", where)
    return np.asarray(value, dtype=dtype)


def _check_names(
    net: Net, feeds: Mapping[str, Array], wanted: Collection[str] | None, known: Collection[str]
) -> None:
    inputs = {*net.header.input, *(name for layer in net.layers if not layer.bottoms for name in layer.tops)}
    for name in feeds:
        if name not in inputs:
            raise UserError(f"{name!r} is not an input; the net has {', '.join(sorted(inputs))}", net.source)
    for name in wanted or ():
        if name not in known:
            raise UserError(f"the net has no blob {name!r}", net.source)
