"""Write a well-known network as a Caffe pair with random weights that behave as trained ones do.

    python examples/nets/draw.py mobilenet_v2 --depth 0.5 --size 160 224 -o small

Each file beside this one is a network; caffe_layers.py is what they are built with.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from densenet121 import densenet121
from inception_v3 import inception_v3
from mobilenet_ssd_v1 import mobilenet_ssd_v1
from mobilenet_ssd_v2 import mobilenet_ssd_v2
from mobilenet_v1 import mobilenet_v1
from mobilenet_v2 import mobilenet_v2
from resnet50 import resnet50
from shufflenet_v1 import shufflenet_v1
from shufflenet_v2 import CHANNELS as SHUFFLENETS
from shufflenet_v2 import shufflenet_v2
from squeezenet import squeezenet
from unet import unet
from yolov2_resnet18 import yolov2_resnet18

from nnie_prep.caffe_io import format_prototxt, write_caffemodel
from nnie_prep.net import Net


class Network(NamedTuple):
    """`build` takes size, classes and seed, and depth too where the network has one."""

    build: Callable[..., Net]
    size: int
    smallest: int
    classes: int = 1000
    has_depth: bool = False


NETWORKS = {
    "densenet121": Network(densenet121, 224, 32),
    "inception_v3": Network(inception_v3, 299, 75),
    "mobilenet_ssd_v1": Network(mobilenet_ssd_v1, 300, 128, classes=21, has_depth=True),
    "mobilenet_ssd_v2": Network(mobilenet_ssd_v2, 300, 128, classes=91, has_depth=True),
    "mobilenet_v1": Network(mobilenet_v1, 224, 32, has_depth=True),
    "mobilenet_v2": Network(mobilenet_v2, 224, 32, has_depth=True),
    "resnet50": Network(resnet50, 224, 32),
    "shufflenet_v1": Network(shufflenet_v1, 224, 32, has_depth=True),
    "shufflenet_v2": Network(shufflenet_v2, 224, 32, has_depth=True),
    "squeezenet": Network(squeezenet, 224, 32),
    "unet": Network(unet, 572, 188, classes=2, has_depth=True),
    "yolov2_resnet18": Network(yolov2_resnet18, 416, 32, classes=20),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a well-known network with seeded random weights.")
    parser.add_argument("network", choices=NETWORKS, help=", ".join(NETWORKS), metavar="NETWORK")
    parser.add_argument("--depth", type=float, help="share of the channels (default: 1.0)")
    parser.add_argument(
        "--size", type=int, nargs="+", metavar="N", help="height and width (default: the published size)"
    )
    parser.add_argument("--classes", type=int, help="(default: as published)")
    parser.add_argument("--seed", type=int, default=0, help="of the weights (default: 0)")
    parser.add_argument("-o", "--output", metavar="STEM", help="(default: the network's name)")
    options = parser.parse_args()
    network = NETWORKS[options.network]
    height, *rest = options.size or [network.size]
    size = (height, rest[0] if rest else height)
    if len(rest) > 1 or min(size) < network.smallest:
        parser.error(f"--size takes a height and a width of {network.smallest} at least")
    if options.network == "unet" and any(extent % 16 != 12 for extent in size):
        parser.error("--size of unet is 12 more than a multiple of 16: 188, 204 .. 572")
    if options.depth is not None and not network.has_depth:
        parser.error(f"{options.network} has no --depth")
    depth = 1.0 if options.depth is None else options.depth
    if not 0 < depth <= 4:
        parser.error("--depth is over 0 and 4 at most")
    if options.network.startswith("shufflenet") and depth not in SHUFFLENETS:
        parser.error(f"--depth of {options.network} is one of {', '.join(map(str, SHUFFLENETS))}")
    classes = network.classes if options.classes is None else options.classes
    if classes < 1:
        parser.error("--classes is 1 at least")
    net = network.build(size, classes, options.seed, *([depth] if network.has_depth else []))
    stem = options.output or options.network
    with Path(f"{stem}.caffemodel").open("wb") as file:
        write_caffemodel(net, file)
    Path(f"{stem}.prototxt").write_text(format_prototxt(net), encoding="utf-8")


if __name__ == "__main__":
    main()
