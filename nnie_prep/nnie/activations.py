"""Hints about BatchNorm, activations in place, and activations that are built of several layers."""

from __future__ import annotations

from collections.abc import Iterator

from nnie_prep import params
from nnie_prep.memory import shares_memory
from nnie_prep.net import Layer
from nnie_prep.nnie.finding import Found, Rule
from nnie_prep.nnie.subject import Subject

_IN_PLACE = ("BatchNorm", "PReLU", "ReLU", "Scale", "Sigmoid", "TanH")
_ELEMENTWISE = (*_IN_PLACE, "BNLL", "Power", "AbsVal", "ELU", "Exp", "Log")


def unmerged_batchnorm(subject: Subject) -> Iterator[Found]:
    """A BatchNorm is not merged into the layer before it.

    It compiles, but it is a pass over the map of its own, with a rounding to 8 bits of its own.

    Instead: `merge-bn` folds it, with the Scale behind it, or says why it does not.
    """
    for layer in subject.net.layers:
        if layer.type == "BatchNorm":
            message = "it is not merged into the layer before it"
            yield Found(layer, message, layer.type, "none left", subject.command("merge-bn"))


def in_place(subject: Subject) -> Iterator[Found]:
    """A BatchNorm, Scale or activation has a top of its own where it could work in place.

    In place the compiler joins it with the layer before it. With a top of its own the map is written and
    read once more.

    Instead: `prepare` gives the layer its bottom's name as its top.
    """
    for layer in subject.net.layers:
        if layer.type not in _IN_PLACE or len(layer.bottoms) != 1 or layer.bottoms == layer.tops:
            continue
        writer = subject.net.writer(layer)
        if writer is None or writer.type in ("Input", "Slice") or shares_memory(writer):
            continue
        if subject.net.readers(writer, writer.tops.index(layer.bottoms[0])) == [layer]:
            message = f"it writes {layer.tops[0]} where it could work in place"
            yield Found(layer, message, layer.tops[0], layer.bottoms[0], subject.command("prepare"))


def composite_activation(subject: Subject) -> Iterator[Found]:
    """An activation is built of several layers: x * f(x), as Swish and Mish are.

    It is exact and it compiles, but each of its layers is a pass over the map, and each rounds to 8 bits.

    Instead: train again with a leaky ReLU, which is what users of the chip usually do.
    """
    for layer in subject.net.layers:
        if layer.type == "Eltwise" and len(layer.bottoms) == 2:
            chains = [_chain(subject, layer, number) for number in range(2)]
            for (_, own), (other, _) in (chains, chains[::-1]):
                eltwise = subject.parameters(params.eltwise, layer)
                if own and own[-1].bottoms[0] == other and eltwise and eltwise.operation == "PROD":
                    parts = ", ".join(part.type for part in reversed(own))
                    message = f"it multiplies {other} with {parts} of itself"
                    yield Found(layer, message, len(own) + 1, "one layer", "train again with a leaky ReLU")
                    break


def _chain(subject: Subject, layer: Layer, bottom: int) -> tuple[str, list[Layer]]:
    """A bottom's name, and the elementwise layers that it comes through, the last of them first."""
    name, found = layer.bottoms[bottom], []
    writer = subject.net.writer(layer, bottom)
    while writer and writer.bottoms and writer.type in _ELEMENTWISE and writer.bottoms != writer.tops:
        found.append(writer)
        writer = subject.net.writer(writer)
    return name, found


RULES = (
    Rule(unmerged_batchnorm, "A", "vendor's own walk-through, which compiles without merging", "info"),
    Rule(in_place, "A", "vendor's advice on efficient networks, as its readers quote it", "info"),
    Rule(composite_activation, "B", "users' reports of activations that the chip lacks", "info"),
)
