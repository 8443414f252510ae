"""NNIE's suffixes, on request: `_report` on a blob, `_hp` and `_cpu` on a layer's name."""

from __future__ import annotations

from nnie_prep.blob_map import Fate, Note
from nnie_prep.edit.layers import find_layer, no_blob
from nnie_prep.errors import UserError
from nnie_prep.names import CPU, HIGH_PRECISION, REPORT, shortened
from nnie_prep.net import Net
from nnie_prep.own_code import OWN_CODE


def report(net: Net, name: str) -> list[Note]:
    if name not in net.blob_names():
        raise no_blob(net, name)
    writer = net.last_writers().get(name)
    if name.endswith(REPORT):
        raise UserError(f"blob {name!r} ends in {REPORT} already", net.source, "leave out that --report")
    if writer is None or writer.type == "Input":
        raise UserError(f"blob {name!r} is an input of the net", net.source, "report what a layer computes")
    if writer.type in OWN_CODE:
        raise UserError(
            f"blob {name!r} is written by {writer.name} ({writer.type}), and NNIE's compiler reports no top "
            "of such a layer",
            writer.origin,
            "your own code on the CPU has it",
        )
    if name in net.outputs():
        raise UserError(
            f"blob {name!r} is an output of the net, which is reported anyway",
            writer.origin,
            "leave out that --report",
        )
    new = shortened(name, net.blob_names(), REPORT)
    net.rename_blob(name, new)
    text = f"blob renamed to {new}: reported, as asked"
    return [Note(name, text, fates={name: Fate((new,))})]


def high_precision(net: Net, name: str) -> list[Note]:
    return _suffixed(net, name, HIGH_PRECISION, "16 bits, as asked (compile_mode 2)", CPU)


def cpu(net: Net, name: str) -> list[Note]:
    return _suffixed(net, name, CPU, "done on the CPU, as asked", HIGH_PRECISION)


def _suffixed(net: Net, name: str, suffix: str, what: str, other: str) -> list[Note]:
    layer = find_layer(net, name)
    new = name + suffix
    if name.endswith(suffix):
        raise UserError(f"layer {name!r} ends in {suffix} already", layer.origin, "leave it out")
    if name.endswith(other):
        raise UserError(
            f"layer {name!r} has {other}, and cannot have {suffix} too", layer.origin, "ask for one of them"
        )
    if layer.type == "Input":
        raise UserError(f"layer {name!r} is an input and computes nothing", layer.origin, "name another")
    if layer.type in OWN_CODE:
        raise UserError(
            f"layer {name!r} is a {layer.type}, which the CPU does anyway", layer.origin, "leave it out"
        )
    if net.layer(new):
        raise UserError(f"layer {name!r} cannot be called {new!r}: that is taken", layer.origin, "rename it")
    layer.proto.name = new
    return [Note(name, f"layer renamed to {new}: {what}")]
