"""Where a net ends and begins: what blobs need, and what is made of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from nnie_prep.blob_map import Fate, Note
from nnie_prep.edit.inputs import declare_input
from nnie_prep.edit.layers import no_blob
from nnie_prep.errors import UserError
from nnie_prep.memory import overwrites_for
from nnie_prep.net import Layer, Net
from nnie_prep.shapes import infer_shapes


def until(net: Net, blobs: Sequence[str]) -> list[Note]:
    _check_known(net, blobs)
    makers = net.makers(blobs)
    for layer in net.layers:
        if layer not in makers and overwrites_for(net, layer, makers):
            raise UserError(
                f"in Caffe layer {layer.name!r} overwrites memory that is needed",
                layer.origin or net.source,
                f"end the net there as well: --until {layer.tops[0]}",
            )
    return _keep(net, makers, blobs, f"cut: {_named(blobs)} does not need it")


def want(net: Net, blobs: Sequence[str]) -> None:
    _check_known(net, blobs)
    if not any(layer.bottoms for layer in net.makers(blobs)):
        raise UserError(
            f"no layer computes {_named(blobs)}", net.source, f"its outputs: {_named(net.outputs())}"
        )
    net.wanted = tuple(dict.fromkeys(blobs))


def from_(net: Net, blobs: Sequence[str]) -> list[Note]:
    _check_known(net, blobs)
    shapes = infer_shapes(net)
    for name in blobs:
        if name in net.inputs():
            raise UserError(f"blob {name!r} is an input already", net.source, "leave out that --from")
        if name not in shapes:
            raise UserError(
                f"the shape of blob {name!r} is not known: it comes of a layer of unknown type",
                net.source,
                "begin at a blob whose shape is known",
            )
    makers, in_header = net.makers(blobs), bool(net.header.input)
    outputs = [name for name in _made_of(net, blobs) if name in net.outputs()]
    if not outputs:
        raise UserError(f"nothing reads {_named(blobs)}", net.source, "begin at a blob before the outputs")
    kept = net.makers(outputs, blobs)
    _check_cut(net, kept, makers, blobs)
    notes = _keep(net, kept, [*outputs, *blobs], f"cut: the net begins at {_named(blobs)}")
    for name in blobs:
        declare_input(net, name, shapes[name], in_header)
    return notes


def _check_known(net: Net, blobs: Sequence[str]) -> None:
    known = net.blob_names()
    for name in blobs:
        if name not in known:
            raise no_blob(net, name)


def _made_of(net: Net, blobs: Collection[str]) -> list[str]:
    """The blobs that are computed from these, each as its last writer leaves it."""
    last = {name: net.index(layer) for name, layer in net.last_writers().items()}
    made: dict[str, None] = {}
    for place, layer in enumerate(net.layers):
        if any(name in made or (name in blobs and place > last[name]) for name in layer.bottoms):
            made.update(dict.fromkeys(layer.tops))
    return list(made)


def _check_cut(net: Net, kept: Sequence[Layer], makers: Sequence[Layer], blobs: Sequence[str]) -> None:
    """Raises UserError where what is kept needs something that the cut-off part computes."""
    read_before = {name for layer in makers for name in layer.bottoms}
    for layer in kept:
        if layer in makers:
            continue
        for place, name in enumerate(layer.bottoms):
            writer = net.writer(layer, place)
            if name not in blobs and (writer in makers if writer else name in read_before):
                raise UserError(
                    f"layer {layer.name!r} needs blob {name!r} too, which comes before the cut",
                    layer.origin or net.source,
                    f"begin there as well: --from {name}",
                )
    if both := [layer for layer in kept if layer in makers]:
        raise UserError(
            f"layer {both[-1].name!r} is before the cut, and an output comes of it by another way",
            both[-1].origin or net.source,
            "cut at other blobs, or end the net first with --until",
        )


def _keep(net: Net, kept: Sequence[Layer], wanted: Collection[str], reason: str) -> list[Note]:
    """Removes all layers but these, and the inputs that none of them reads."""
    before, writers = net.blob_names(), net.last_writers()
    dropped = [layer for layer in net.layers if layer not in kept]
    net.layers = [layer for layer in net.layers if layer in kept]
    read = {name for layer in net.layers for name in layer.bottoms}.union(wanted)
    for name in [name for name in net.inputs() if name not in read]:
        net.drop_input(name)
    # Another top of a layer that is kept may have been overwritten in place by one that is not.
    now = net.last_writers()
    left = {name for name in net.blob_names() if now.get(name) is writers.get(name)}
    gone = {name: Fate((), reason) for name in before if name not in left and name not in wanted}
    notes = [Note(layer.name, reason) for layer in dropped]
    return notes + ([Note("", f"{len(gone)} blob(s) gone, {reason}", fates=gone)] if gone else [])


def _named(blobs: Sequence[str]) -> str:
    return ", ".join(blobs)
