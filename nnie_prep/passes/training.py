"""Which parts of a net only training needs.

Losses, accuracies and all that is computed from them; and the sources and layers that feed nothing
else. What depends on a source that feeds weights, or an output, is the network itself and stays.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from nnie_prep.net import Layer, Net
from nnie_prep.shapes.weights import LEARNED
from nnie_prep.training_layers import DATA, is_training_layer

# A blob between two writings: its writer, None where the net's header feeds it, and its name.
Version = tuple["Layer | None", str]


@dataclass
class TrainingParts:
    """`dropped` are layers, sources aside; `gone` are blobs of sources that nothing else reads.

    `needed` are the blobs of sources that feed the network, by their readers among its layers.
    `silences` are Silence layers that must stay, each with the blob that would become an output.
    """

    dropped: set[Layer] = field(default_factory=set)
    gone: set[Version] = field(default_factory=set)
    needed: dict[Version, list[Layer]] = field(default_factory=dict)
    silences: dict[Layer, str] = field(default_factory=dict)


def is_source(layer: Layer) -> bool:
    """Whether the layer feeds the net."""
    return not layer.bottoms and layer.type != "Parameter"


def training_parts(net: Net) -> TrainingParts:
    """Finds what only training needs."""
    wires = _Wires(net)
    parts = TrainingParts()
    while True:
        training = {layer for layer in net.layers if is_training_layer(layer) and layer not in parts.silences}
        _find(net, wires, training, parts)
        exposed = {layer: _exposed(layer, wires, parts) for layer in training if layer.type == "Silence"}
        exposed = {layer: name for layer, name in exposed.items() if name}
        if not exposed:
            return parts
        parts.silences |= exposed


class _Wires:
    """What each layer reads and who reads each version of a blob, at one moment."""

    def __init__(self, net: Net) -> None:
        self.sources: list[Version] = [(None, name) for name in net.header.input]
        self.read: dict[Layer, list[Version]] = {}
        self.readers: dict[Version, list[Layer]] = {version: [] for version in self.sources}
        last: dict[str, Version] = {name: (None, name) for name in net.header.input}
        for layer in net.layers:
            self.read[layer] = [last[name] for name in layer.bottoms]
            for version in self.read[layer]:
                self.readers[version].append(layer)
            for name in layer.tops:
                last[name] = (layer, name)
                self.readers[last[name]] = []
                if is_source(layer):
                    self.sources.append(last[name])


def _find(net: Net, wires: _Wires, training: Collection[Layer], parts: TrainingParts) -> None:
    """Fills `dropped`, `gone` and `needed`, with these as the training layers."""
    dropped = set(training)
    for layer in net.layers:
        if any(writer in dropped for writer, _ in wires.read[layer]):
            dropped.add(layer)

    network: set[Layer] = set()
    for source in wires.sources:
        fed: set[Layer] = set()
        for layer in net.layers:
            if layer not in dropped and any(one == source or one[0] in fed for one in wires.read[layer]):
                fed.add(layer)
        outputs = [name for layer in fed for name in layer.tops if not wires.readers[layer, name]]
        if outputs or any(layer.type in LEARNED or layer.blobs for layer in fed):
            network |= fed

    for layer in reversed(net.layers):
        readers = [wires.readers[layer, name] for name in layer.tops]
        if layer not in network and readers and all(one and dropped.issuperset(one) for one in readers):
            dropped.add(layer)

    parts.dropped = dropped
    parts.gone = {
        one
        for one in wires.sources
        if dropped.issuperset(wires.readers[one]) and (wires.readers[one] or (one[0] and one[0].type in DATA))
    }
    parts.needed = {
        one: [layer for layer in wires.readers[one] if layer in network]
        for one in wires.sources
        if not network.isdisjoint(wires.readers[one])
    }


def _exposed(silence: Layer, wires: _Wires, parts: TrainingParts) -> str:
    """A blob that would be an output of the net if this Silence did not read it, or ""."""
    for version in wires.read[silence]:
        gone = version[0] in parts.dropped or version in parts.gone
        if not gone and all(reader.type == "Silence" for reader in wires.readers[version]):
            return version[1]
    return ""
