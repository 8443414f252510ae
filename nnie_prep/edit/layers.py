"""Single layers and blobs: renamed, dropped."""

from __future__ import annotations

from nnie_prep.blob_map import Fate, Note
from nnie_prep.errors import UserError
from nnie_prep.memory import why_memory_matters
from nnie_prep.names import meant
from nnie_prep.net import Layer, Net


def no_blob(net: Net, name: str) -> UserError:
    """That the net has no such blob, and what was meant perhaps."""
    layer = net.layer(name)
    hint = meant(name, net.blob_names()) or "see `show -v`"
    if layer and layer.tops:
        hint = f"layer {name} writes {', '.join(layer.tops)}"
    return UserError(f"the net has no blob {name!r}", net.source, hint)


def find_layer(net: Net, name: str) -> Layer:
    """The one layer of that name."""
    found = [layer for layer in net.layers if layer.name == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(
            f"{len(found)} layers are called {name!r}", found[1].origin, "rename them in the text"
        )
    writers = [layer.name for layer in net.layers if name in layer.tops]
    hint = meant(name, [layer.name for layer in net.layers]) or "see `show` for its layers"
    if writers:
        hint = f"blob {name} is written by {', '.join(writers)}"
    raise UserError(f"the net has no layer {name!r}", net.source, hint)


def rename_layer(net: Net, old: str, new: str) -> list[Note]:
    layer = find_layer(net, old)
    if not new or net.layer(new):
        why = "is taken" if new else "is empty"
        raise UserError(
            f"layer {old!r} cannot be called {new!r}: that name {why}", layer.origin, "choose another"
        )
    layer.proto.name = new
    return [Note(old, f"renamed to {new}")]


def rename_blob(net: Net, old: str, new: str) -> list[Note]:
    known = net.blob_names()
    if old not in known:
        raise no_blob(net, old)
    if not new or new in known:
        why = "is taken" if new else "is empty"
        raise UserError(
            f"blob {old!r} cannot be called {new!r}: that name {why}", net.source, "choose another"
        )
    net.rename_blob(old, new)
    return [Note(old, f"blob renamed to {new}", fates={old: Fate((new,))})]


def drop(net: Net, name: str) -> list[Note]:
    layer = find_layer(net, name)
    before = net.blob_names()
    if not any(net.readers(layer, top) for top in range(len(layer.tops))):
        net.remove(layer)
    elif not layer.bottoms:
        raise UserError(
            f"layer {name!r} is a source that others read", layer.origin, "begin behind it: --from"
        )
    elif reason := why_memory_matters(net, layer) or net.bypass(layer):
        raise UserError(f"layer {name!r} cannot be dropped: {reason}", layer.origin, "cut: --until or --from")
    gone = [one for one in before if one not in net.blob_names()]
    text = f"dropped as asked: {layer.type}"
    return [Note(name, text, fates={one: Fate((), f"dropped as asked, with {name}") for one in gone})]
