"""A random net that is being drawn, layer by layer, with random weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnie_prep.net import Layer, Net
from nnie_prep.nnie_caffe_pb2 import LayerParameter

Shape = tuple[int, ...]

SCALE_FACTORS = (1.0, 0.5, 999.98, 0.0)  # Caffe reads 0 as "mean and variance are 0"


class Draft:
    """A net that is being drawn, with the shapes of its blobs."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.net = Net()
        self.shapes: dict[str, Shape] = {}
        self.read: set[str] = set()  # blobs that somebody reads: not to be overwritten
        self.count = 0

    def coin(self, chance: float = 0.5) -> bool:
        return bool(self.random.random() < chance)

    def pick(self, *values: Any) -> Any:
        return values[int(self.random.integers(len(values)))]

    def normal(self, *shape: int, spread: float = 1.0) -> NDArray[np.float32]:
        return (self.random.standard_normal(shape) * spread).astype(np.float32)

    def signed(self, *shape: int) -> NDArray[np.float32]:
        """Away from 0, of either sign."""
        sizes = self.random.uniform(0.5, 2.0, shape)
        return np.where(self.random.random(shape) < 0.3, -sizes, sizes).astype(np.float32)

    def layer(
        self,
        type_: str,
        bottoms: Sequence[str],
        tops: Sequence[str] | None = None,
        shapes: Sequence[Shape] | None = None,
        blobs: Sequence[NDArray[np.float32]] = (),
        in_place: bool = False,
        **params: Any,
    ) -> str:
        """Adds a layer with one top of its own unless told otherwise; returns the first top."""
        self.count += 1
        name = f"{type_.lower()}{self.count}"
        if tops is None:
            tops = [bottoms[0]] if in_place and bottoms[0] not in self.read else [name]
        self.read = self.read.union(bottoms).difference(tops)
        for blob in blobs:
            blob.flags.writeable = False
        proto = LayerParameter(name=name, type=type_, **params)
        self.net.layers.append(Layer(proto, list(bottoms), list(tops), list(blobs), f"drawn:{self.count}"))
        for top, shape in zip(tops, shapes or [self.shapes[bottoms[0]]] * len(tops), strict=True):
            self.shapes[top] = shape
        return tops[0] if tops else ""

    # ---- single layers -------------------------------------------------------------------------

    def weights_of(self, fan_in: int, *shape: int) -> NDArray[np.float32]:
        return self.normal(*shape, spread=np.sqrt(2.0 / fan_in))

    def convolution(
        self, x: str, type_: str = "", outputs: int = 0, padded: bool = True, **params: Any
    ) -> str:
        """Of the size of its bottom, unless it is not padded."""
        batch, channels, height, width = self.shapes[x]
        type_ = type_ or self.pick("Convolution", "Convolution", "Convolution", "DepthwiseConv")
        depthwise = type_ != "Convolution"
        outputs = channels if depthwise else outputs or self.pick(2, 4, 6)
        groups = [g for g in (1, 2, 3) if channels % g == outputs % g == 0]
        group = channels if depthwise else self.pick(*groups)
        kernel = self.pick(1, 3) if min(height, width) > 4 or padded else 1
        pad = kernel // 2 if padded else 0
        bias = self.coin()
        fan_in = channels // group * kernel**2
        blobs = [self.weights_of(fan_in, outputs, channels // group, kernel, kernel)]
        blobs += [self.normal(outputs)] * bias
        param: dict[str, Any] = {"num_output": outputs, "kernel_size": [kernel], "pad": [pad]}
        param |= {} if depthwise else {"group": group}
        param |= {} if bias else {"bias_term": False}
        shrunk = kernel - 1 - 2 * pad
        top = (batch, outputs, height - shrunk, width - shrunk)
        return self.layer(type_, [x], shapes=[top], blobs=blobs, convolution_param=param, **params)

    def deconvolution(self, x: str, kernel: int = 0) -> str:
        batch, channels, height, width = self.shapes[x]
        group = self.pick(*(g for g in (1, 2, 3) if channels % g == 0))
        outputs = group * self.pick(1, 2)
        kernel, bias = kernel or self.pick(2, 3), self.coin()
        blobs = [self.weights_of(channels // group * kernel, channels, outputs // group, kernel, kernel)]
        blobs += [self.normal(outputs)] * bias
        param = {"num_output": outputs, "kernel_size": [kernel], "pad": [kernel // 3], "group": group}
        param |= {} if bias else {"bias_term": False}
        grown = kernel - 1 - 2 * (kernel // 3)
        top = (batch, outputs, height + grown, width + grown)
        return self.layer("Deconvolution", [x], shapes=[top], blobs=blobs, convolution_param=param)

    def inner_product(self, x: str) -> str:
        batch, *extents = self.shapes[x]
        inputs, outputs, bias, transpose = int(np.prod(extents)), self.pick(3, 5), self.coin(), self.coin()
        weights = self.weights_of(inputs, *((inputs, outputs) if transpose else (outputs, inputs)))
        param = {"num_output": outputs, "bias_term": bias, "transpose": transpose}
        blobs = [weights] + [self.normal(outputs)] * bias
        return self.layer(
            "InnerProduct", [x], shapes=[(batch, outputs)], blobs=blobs, inner_product_param=param
        )

    def batchnorm(self, x: str, in_place: bool | None = None, **params: Any) -> str:
        channels = self.shapes[x][1]
        factor = self.pick(*SCALE_FACTORS)
        mean, variance = self.normal(channels), self.random.uniform(0.3, 3.0, channels)
        stored = factor or 1.0
        blobs = [mean * np.float32(stored), (variance * stored).astype(np.float32), np.float32([factor])]
        param = {"eps": self.pick(1e-5, 1e-3, 0.1)} if self.coin(0.7) or factor == 0 else {}
        param |= {"use_global_stats": True} if self.coin() else {}
        params = {"batch_norm_param": param} | params
        in_place = self.coin() if in_place is None else in_place
        return self.layer("BatchNorm", [x], blobs=blobs, in_place=in_place, **params)

    def five_blobs(self, x: str) -> str:
        """NVCaffe's BatchNorm: no sums, and a factor that must not matter."""
        channels = self.shapes[x][1]
        blobs = [self.normal(channels), self.random.uniform(0.3, 3.0, channels).astype(np.float32)]
        blobs += [np.float32([self.pick(*SCALE_FACTORS)]), self.signed(channels), self.normal(channels)]
        filler = {"type": "constant", "value": 1}
        says = self.pick({"scale_bias": True}, {"scale_filler": filler}, {"bias_filler": filler})
        param = says | {"eps": self.pick(1e-7, 1e-5, 0.1)}
        return self.layer("BatchNorm", [x], blobs=blobs, in_place=self.coin(), batch_norm_param=param)

    def scale(self, x: str, in_place: bool | None = None) -> str:
        channels, bias = self.shapes[x][1], self.coin(0.7)
        blobs = [self.signed(channels)] + [self.normal(channels)] * bias
        in_place = self.coin() if in_place is None else in_place
        return self.layer("Scale", [x], blobs=blobs, in_place=in_place, scale_param={"bias_term": bias})

    def bias(self, x: str) -> str:
        blobs = [self.normal(self.shapes[x][1])]
        return self.layer("Bias", [x], blobs=blobs, in_place=self.coin())

    def power(self, x: str) -> str:
        param = {"scale": self.pick(-0.5, 1, 2), "shift": self.pick(-1.25, 0, 0.5)}
        return self.layer("Power", [x], in_place=self.coin(), power_param=param)

    def any_scale(self, x: str) -> str:
        step: Callable[[str], str] = self.pick(self.scale, self.scale, self.bias, self.power)
        return step(x)

    def relu(self, x: str) -> str:
        """Leaky, since a plain ReLU that lets next to nothing through leaves noise to be compared."""
        slope = {"negative_slope": self.pick(0.1, 0.3)}
        return self.layer("ReLU", [x], in_place=self.coin(0.7), relu_param=slope)

    def any_weighted(self, x: str) -> str:
        return self.deconvolution(x) if self.coin(0.2) else self.convolution(x)
