"""Write a MobileNet v1 as a Caffe pair with random weights that behave as trained ones do.

    python examples/mobilenet/mobilenet_v1.py --depth 0.75 --size 128 -o mobilenet_075_128

The network of arXiv 1704.04861, table 1: a 3x3 convolution, thirteen pairs of a depthwise 3x3 and a 1x1
convolution, each with BatchNorm, Scale and ReLU in place behind it, the mean over the picture, a classifier.
Names are those that Caffe's users know it by: conv1, conv2_1/dw, conv2_1/sep ...

Kernels are He-normal, some scales negative; the BatchNorm statistics are those of seeded pictures, measured
layer by layer, under the factor by which Caffe stores them. So no layer's values vanish or explode, and a
comparison of two such nets can tell right from wrong.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from nnie_prep.caffe_io import format_prototxt, write_caffemodel
from nnie_prep.engines.numpy import forward_layer
from nnie_prep.net import Array, Layer, Net
from nnie_prep.nnie_caffe_pb2 import LayerParameter

# (name, channels at depth 1, stride of the depthwise convolution)
PAIRS = (
    *(("2_1", 64, 1), ("2_2", 128, 2), ("3_1", 128, 1), ("3_2", 256, 2), ("4_1", 256, 1), ("4_2", 512, 2)),
    *((f"5_{place}", 512, 1) for place in range(1, 6)),
    *(("5_6", 1024, 2), ("6", 1024, 1)),
)
FEWEST_CHANNELS = 8
FACTOR = 999.98  # what Caffe has stored after many iterations with a moving average of 0.999
SHRINKS = 32  # from the picture to the last blob
SAMPLES = 100  # values of each channel, at least, that its statistics are made of


class Draft:
    """A net that grows layer by layer; `values` is what its last blob holds for the pictures."""

    def __init__(self, name: str, size: int, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        pictures = -(-SAMPLES // (size // SHRINKS) ** 2)
        self.values = self.random.uniform(-128, 128, (pictures, 3, size, size)).astype(np.float32)
        self.net = Net()
        self.net.header.name = name
        self.net.header.input.append("data")
        self.net.header.input_shape.add().dim.extend([1, 3, size, size])
        self.blob = "data"

    def layer(self, type_: str, name: str, *blobs: Array, top: str = "", **params: dict[str, Any]) -> None:
        """Adds a layer behind the last one and runs it. Without a top it works in place."""
        stored = [np.asarray(blob, np.float32) for blob in blobs]
        layer = Layer(
            LayerParameter(name=name, type=type_, **params), [self.blob], [top or self.blob], stored
        )
        (self.values,) = forward_layer(layer, [self.values])
        self.net.layers.append(layer)
        self.blob = layer.tops[0]

    def convolution(self, name: str, outputs: int, kernel: int, stride: int = 1, group: int = 1) -> None:
        inputs = self.values.shape[1] // group
        spread = (2 / (inputs * kernel**2)) ** 0.5
        weights = self.random.normal(0, spread, (outputs, inputs, kernel, kernel))
        param: dict[str, Any] = {"num_output": outputs, "bias_term": False, "kernel_size": [kernel]}
        param |= {"pad": [1]} if kernel == 3 else {}
        param |= {"stride": [stride]} if stride > 1 else {}
        param |= {"group": group} if group > 1 else {}
        self.layer("Convolution", name, weights, top=name, convolution_param=param)
        self.normalization(name)
        self.layer("ReLU", f"relu{name.removeprefix('conv')}")

    def normalization(self, name: str) -> None:
        """BatchNorm with the statistics of what is before it, and Scale."""
        channels = self.values.shape[1]
        mean, variance = self.values.mean((0, 2, 3)), self.values.var((0, 2, 3))
        self.layer("BatchNorm", f"{name}/bn", mean * FACTOR, variance * FACTOR, np.full(1, FACTOR))
        signs = np.where(self.random.random(channels) < 0.15, -1, 1)
        scales, biases = signs * self.random.uniform(0.5, 1.5, channels), self.random.normal(0, 0.3, channels)
        self.layer("Scale", f"{name}/scale", scales, biases, scale_param={"bias_term": True})

    def classifier(self, classes: int) -> None:
        self.layer("Pooling", "pool6", top="pool6", pooling_param={"pool": "AVE", "global_pooling": True})
        channels = self.values.shape[1]
        weights = self.random.normal(0, channels**-0.5, (classes, channels))
        biases = self.random.normal(0, 0.3, classes)
        self.layer(
            "InnerProduct", "fc7", weights, biases, top="fc7", inner_product_param={"num_output": classes}
        )
        self.layer("Softmax", "prob", top="prob")


def mobilenet_v1(depth: float = 1.0, size: int = 224, classes: int = 1000, seed: int = 0) -> Net:
    """The net for one picture of size x size, with a share `depth` of the channels."""

    def channels(full: int) -> int:
        return max(int(full * depth), FEWEST_CHANNELS)

    draft = Draft(f"MobileNet v1 {depth:g} {size}", size, seed)
    draft.convolution("conv1", channels(32), 3, stride=2)
    for name, outputs, stride in PAIRS:
        inputs = draft.values.shape[1]
        draft.convolution(f"conv{name}/dw", inputs, 3, stride, group=inputs)
        draft.convolution(f"conv{name}/sep", channels(outputs), 1)
    draft.classifier(classes)
    return draft.net


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a MobileNet v1 with seeded random weights.")
    parser.add_argument("--depth", type=float, default=1.0, help="share of the channels (default: 1.0)")
    parser.add_argument(
        "--size", type=int, default=224, help="height and width of the picture (default: 224)"
    )
    parser.add_argument("--classes", type=int, default=1000, help="(default: 1000)")
    parser.add_argument("--seed", type=int, default=0, help="of the weights (default: 0)")
    parser.add_argument(
        "-o", "--output", default="mobilenet_v1", metavar="STEM", help="(default: mobilenet_v1)"
    )
    options = parser.parse_args()
    if not (0 < options.depth <= 4 and options.size >= SHRINKS and options.classes > 0):
        parser.error(
            f"the depth is over 0 and 4 at most, the size {SHRINKS} at least, the classes 1 at least"
        )
    net = mobilenet_v1(options.depth, options.size, options.classes, options.seed)
    with Path(f"{options.output}.caffemodel").open("wb") as file:
        write_caffemodel(net, file)
    Path(f"{options.output}.prototxt").write_text(format_prototxt(net), encoding="utf-8")


if __name__ == "__main__":
    main()
