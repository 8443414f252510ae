"""A Caffe net that grows layer by layer, with random weights that behave as trained ones do.

    draft = Draft("my net", (224, 320), seed=0)
    draft.convolution("conv1", 32, 3, stride=2, pad=1)
    draft.batchnorm("conv1/bn")
    draft.scale("conv1/scale")
    draft.relu("relu1")

Each layer is run on seeded pictures as soon as it is added. Kernels are He-normal; what BatchNorm stores
are the statistics of those pictures, under the factor by which Caffe stores them; one scale in seven is
negative; a layer with a bias is brought to deviation 1. So however deep the net is, no layer's values
vanish or explode, and a comparison of two such nets can tell right from wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nnie_prep.blob import Array, Blob
from nnie_prep.engines.numpy import forward_layer
from nnie_prep.net import Layer, Net
from nnie_prep.nnie_caffe_pb2 import LayerParameter

Pair = tuple[int, int]  # vertical, horizontal

FACTORS = (1.0, 999.98)  # the latter is what many iterations with a moving average of 0.999 leave
SHRINKS = 32  # from the picture to the last map of most networks
SAMPLES = 100  # values of each channel of that map, at least, that its statistics are made of
FEWEST = 16  # with fewer than these, the statistics of all channels serve for each
PICTURES = 25  # at most


class Draft:
    """A net that is being drawn. `blob` is the blob written last, which the next layer reads unless told
    otherwise; `values` are the blobs' values for the pictures."""

    def __init__(self, name: str, size: Pair, seed: int, channels: int = 3) -> None:
        self.random = np.random.default_rng(seed)
        maps = max(size[0] // SHRINKS, 1) * max(size[1] // SHRINKS, 1)
        pictures = self.random.uniform(-128, 128, (min(-(-SAMPLES // maps), PICTURES), channels, *size))
        self.net = Net()
        self.net.header.name = name
        self.net.header.input.append("data")
        self.net.header.input_shape.add().dim.extend([1, channels, *size])
        self.blob = "data"
        self.values: dict[str, Array] = {"data": pictures.astype(np.float32)}

    def channels(self, blob: str = "") -> int:
        return int(self.values[blob or self.blob].shape[1])

    def layer(
        self,
        type_: str,
        name: str,
        *blobs: Array,
        bottoms: Sequence[str] = (),
        tops: Sequence[str] = (),
        **params: Any,
    ) -> str:
        """Adds a layer and runs it: behind the last blob, and in place, unless told otherwise.

        Returns its first top.
        """
        bottoms = list(bottoms) or [self.blob]
        stored: list[Blob] = [np.asarray(blob, np.float32) for blob in blobs]
        layer = Layer(
            LayerParameter(name=name, type=type_, **params), bottoms, list(tops) or bottoms[:1], stored
        )
        found = forward_layer(layer, [self.values[bottom] for bottom in bottoms])
        self.values |= dict(zip(layer.tops, found, strict=True))
        self.net.layers.append(layer)
        self.blob = layer.tops[0]
        return self.blob

    # ---- layers with weights -------------------------------------------------------------------

    def convolution(
        self,
        name: str,
        outputs: int,
        kernel: int | Pair,
        *,
        stride: int = 1,
        pad: int | Pair = 0,
        group: int = 1,
        bias: bool = False,
        bottom: str = "",
        type_: str = "Convolution",
    ) -> str:
        """A Convolution, a Deconvolution, or a depthwise type, whose groups go without saying."""
        inputs = self.channels(bottom)
        group = group if type_ in ("Convolution", "Deconvolution") else inputs
        param: dict[str, Any] = {"num_output": outputs}
        param |= {} if bias else {"bias_term": False}
        param |= _window("pad", pad) if pad else {}
        param |= _window("kernel", kernel)
        param |= {"stride": [stride]} if stride > 1 else {}
        param |= {"group": group} if group > 1 and type_ in ("Convolution", "Deconvolution") else {}
        height, width = kernel if isinstance(kernel, tuple) else (kernel, kernel)
        first, second = (inputs, outputs) if type_ == "Deconvolution" else (outputs, inputs)
        shape = (first, second // group, height, width)
        taps = height * width / (stride**2 if type_ == "Deconvolution" else 1)  # that reach an output
        fan_in = inputs // group * taps
        return self._weighted(type_, name, shape, fan_in, bias, bottom, convolution_param=param)

    def depthwise(self, name: str, stride: int = 1, bottom: str = "") -> str:
        """A 3x3 Convolution with as many groups as channels, which every Caffe has."""
        channels = self.channels(bottom)
        return self.convolution(name, channels, 3, stride=stride, pad=1, group=channels, bottom=bottom)

    def inner_product(self, name: str, outputs: int) -> str:
        inputs = math.prod(self.values[self.blob].shape[1:])
        shape, param = (outputs, inputs), {"num_output": outputs}
        return self._weighted("InnerProduct", name, shape, inputs, True, inner_product_param=param)

    def _weighted(
        self,
        type_: str,
        name: str,
        shape: Sequence[int],
        fan_in: float,
        bias: bool,
        bottom: str = "",
        **params: Any,
    ) -> str:
        """With a bias, the values get deviation 1 before it is added, as nothing normalizes them later."""
        weights = self.random.normal(0, math.sqrt(2 / fan_in), shape).astype(np.float32)
        bottoms = [bottom or self.blob]
        if not bias:
            return self.layer(type_, name, weights, bottoms=bottoms, tops=[name], **params)
        outputs = shape[0] if type_ != "Deconvolution" else params["convolution_param"]["num_output"]
        zeros = np.zeros(outputs, np.float32)
        self.layer(type_, name, weights, zeros, bottoms=bottoms, tops=[name], **params)
        values = self.values[name]
        factor = np.float32(1 / values.std())
        biases = self.random.normal(0, 0.3, outputs).astype(np.float32)
        self.net.layers[-1].blobs = [weights * factor, biases]
        self.values[name] = values * factor + biases.reshape(-1, *[1] * (values.ndim - 2))
        return name

    def batchnorm(self, name: str, eps: float = 1e-5, bottom: str = "", top: str = "") -> str:
        """With the statistics of what is before it."""
        values = self.values[bottom or self.blob]
        axes: tuple[int, ...] = (0, 2, 3)
        if values.size // values.shape[1] < FEWEST:
            axes = (0, 1, 2, 3)
        mean = np.broadcast_to(values.mean(axes), values.shape[1])
        variance = np.broadcast_to(values.var(axes), values.shape[1])
        factor = self.random.choice(FACTORS)
        return self.layer(
            "BatchNorm", name, mean * factor, variance * factor, np.full(1, factor),
            bottoms=[bottom or self.blob], tops=[top] if top else (),
            **({} if eps == 1e-5 else {"batch_norm_param": {"eps": eps}}),
        )  # fmt: skip

    def scale(self, name: str) -> str:
        """With a bias, in place."""
        channels = self.channels()
        signs = np.where(self.random.random(channels) < 0.15, -1, 1)
        scales, biases = signs * self.random.uniform(0.5, 1.5, channels), self.random.normal(0, 0.3, channels)
        return self.layer("Scale", name, scales, biases, scale_param={"bias_term": True})

    def bias(self, name: str) -> str:
        return self.layer("Bias", name, self.random.normal(0, 0.3, self.channels()))

    # ---- layers without ------------------------------------------------------------------------

    def relu(self, name: str) -> str:
        return self.layer("ReLU", name)

    def dropout(self, name: str, ratio: float = 0.5) -> str:
        return self.layer("Dropout", name, dropout_param={"dropout_ratio": ratio})

    def pooling(
        self, name: str, method: str, kernel: int = 0, stride: int = 1, pad: int = 0, bottom: str = ""
    ) -> str:
        """Over the whole map if the kernel is 0."""
        param: dict[str, Any] = {"pool": method}
        param |= {"kernel_size": kernel, "stride": stride} if kernel else {"global_pooling": True}
        param |= {"pad": pad} if pad else {}
        return self.layer("Pooling", name, bottoms=[bottom or self.blob], tops=[name], pooling_param=param)

    def concat(self, name: str, *bottoms: str) -> str:
        return self.layer("Concat", name, bottoms=bottoms, tops=[name])

    def sum(self, name: str, *bottoms: str) -> str:
        return self.layer("Eltwise", name, bottoms=bottoms, tops=[name], eltwise_param={"operation": "SUM"})

    def shuffle(self, name: str, group: int) -> str:
        """What comes from each group in turn: ShuffleChannel."""
        return self.layer("ShuffleChannel", name, tops=[name], shuffle_channel_param={"group": group})

    def softmax(self, name: str = "prob") -> str:
        return self.layer("Softmax", name, tops=[name])


def _window(what: str, value: int | Pair) -> dict[str, Any]:
    """kernel_size or pad, as fields of convolution_param."""
    if isinstance(value, tuple):
        return {f"{what}_h": value[0], f"{what}_w": value[1]}
    return {"kernel_size" if what == "kernel" else what: [value]}
