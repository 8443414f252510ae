"""The layers of layer_cases.py in a net, with weights and values of their bottoms."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import numpy as np
from google.protobuf import text_format
from layer_cases import DRAW, Case

from nnie_prep.blob import Array
from nnie_prep.net import Layer, Net, check_wiring
from nnie_prep.nnie_caffe_pb2 import LayerParameter, NetParameter
from nnie_prep.shapes import blob_shapes


def values(case: Case, index: int, random: np.random.Generator) -> Array:
    shape, is_last = case.bottoms[index], index == len(case.bottoms) - 1
    if callable(case.values):
        return case.values(index, shape, random).astype(np.float32)
    if isinstance(case.values, int):
        if is_last:
            return random.integers(0, case.values, shape).astype(np.float32)
        return random.normal(size=shape).astype(np.float32)
    x = random.normal(size=shape) * 2
    if case.values == "positive":
        x = np.abs(x) + 0.01
    if case.values == "tied":
        x = np.round(x)
    if case.values == "special":
        chosen = random.random(shape) < 0.3
        x = np.where(chosen, random.choice([np.inf, -np.inf, np.nan, 0.0, -0.0, 1e-30, -80.0], shape), x)
    return np.asarray(x, dtype=np.float32)


def weights(layer_type: str, shapes: list[tuple[int, ...]], random: np.random.Generator) -> list[Array]:
    """Random weights; BatchNorm's are sums: a positive variance, and a factor that is not 1, or is 0."""
    if layer_type == "BatchNorm":
        factor = np.float32(random.choice([0.0, 1.0, random.uniform(0.5, 900)]))
        blobs = [random.normal(size=shapes[0]), random.uniform(0.1, 3, size=shapes[1]), np.ones(1)]
        return [np.asarray(blob * (factor or 1), dtype=np.float32) for blob in blobs[:2]] + [
            np.full(1, factor, dtype=np.float32)
        ]
    return [random.normal(size=shape).astype(np.float32) for shape in shapes]


@dataclass
class Sample:
    """Layers side by side in one net, with its inputs, and which blobs belong to which type."""

    net: Net
    feeds: dict[str, Array]
    blobs: dict[str, list[str]]

    def text(self, blob: str) -> str:
        layer = self.net.last_writers()[blob]
        bottoms = [self.feeds[name].shape for name in layer.bottoms]
        return f"{layer} on {bottoms}\n{layer.proto}"


def draw(types: list[str], count: int, seed: int) -> Sample:
    sample = Sample(Net(header=NetParameter(name="sample")), {}, {})
    for layer_type in types:
        chance = Random(f"{seed} {layer_type}")
        random = np.random.default_rng(chance.randrange(2**32))
        sample.blobs[layer_type] = []
        for number in range(count):
            case = DRAW[layer_type](chance)
            name = f"{layer_type}-{number}"
            proto = LayerParameter(name=name, type=layer_type)
            text_format.Merge(case.parameters, proto)
            bottoms = [f"{name}-in{index}" for index in range(len(case.bottoms))]
            tops = [bottoms[0]] if case.in_place else [f"{name}-out{index}" for index in range(case.tops)]
            layer = Layer(proto, bottoms, tops, origin=f"{name}.prototxt:1")
            layer.blobs = [*weights(layer_type, blob_shapes(layer, case.bottoms), random)]
            for index, (bottom, shape) in enumerate(zip(bottoms, case.bottoms, strict=True)):
                sample.net.header.input.append(bottom)
                sample.net.header.input_shape.add().dim.extend(shape)
                sample.feeds[bottom] = values(case, index, random)
            sample.net.layers.append(layer)
            sample.blobs[layer_type] += tops
    check_wiring(sample.net)
    return sample
