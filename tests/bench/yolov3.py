"""A yolov3.cfg and yolov3.weights of the real size, with random weights.

    python tests/bench/yolov3.py FOLDER

Darknet-53 and three heads: 107 sections after [net], 62,001,757 floats, 248 MB. Convolutions are
He-normal and batch statistics near 0 and 1, so that values neither vanish nor overflow.
The layers themselves, like the numbers above, are those of "YOLOv3: An Incremental Improvement".
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FLOATS = 62_001_757

Section = tuple[str, dict[str, object]]


def conv(filters: int, size: int, stride: int = 1) -> Section:
    options = {
        "batch_normalize": 1,
        "filters": filters,
        "size": size,
        "stride": stride,
        "pad": 1,
        "activation": "leaky",
    }
    return "convolutional", options


def head(filters: int, mask: str) -> Iterator[Section]:
    for _ in range(3):
        yield conv(filters, 1)
        yield conv(2 * filters, 3)
    yield "convolutional", {"filters": 255, "size": 1, "stride": 1, "pad": 1, "activation": "linear"}
    anchors = "10,13, 16,30, 33,23, 30,61, 62,45, 59,119, 116,90, 156,198, 373,326"
    yield "yolo", {"mask": mask, "anchors": anchors, "classes": 80, "num": 9}


def sections() -> Iterator[Section]:
    yield "net", {"batch": 1, "subdivisions": 1, "width": 416, "height": 416, "channels": 3}
    yield conv(32, 3)
    for filters, repeats in ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4)):
        yield conv(filters, 3, stride=2)
        for _ in range(repeats):
            yield conv(filters // 2, 1)
            yield conv(filters, 3)
            yield "shortcut", {"from": -3, "activation": "linear"}
    yield from head(512, "6,7,8")
    for filters, mask, source in ((256, "3,4,5", 61), (128, "0,1,2", 36)):
        yield "route", {"layers": "-4"}
        yield conv(filters, 1)
        yield "upsample", {"stride": 2}
        yield "route", {"layers": f"-1,{source}"}
        yield from head(filters, mask)


def write_cfg(path: Path) -> None:
    text = ""
    for name, options in sections():
        text += f"[{name}]\n" + "".join(f"{key}={value}\n" for key, value in options.items()) + "\n"
    path.write_text(text)


def input_channels() -> Iterator[tuple[int, dict[str, object]]]:
    """Every convolution's number of input channels and options, in order."""
    channels: list[int] = []
    for name, options in list(sections())[1:]:
        before = channels[-1] if channels else 3
        if name == "convolutional":
            yield before, options
            channels.append(int(str(options["filters"])))
        elif name == "route":
            sources = [int(index) for index in str(options["layers"]).split(",")]
            channels.append(sum(channels[index] for index in sources))
        else:
            channels.append(before)


def write_weights(path: Path) -> None:
    random = np.random.default_rng(3)
    floats = 0
    with path.open("wb") as out:
        out.write(struct.pack("<iiiQ", 0, 2, 5, 32_013_312))
        for channels, options in input_channels():
            filters, size = int(str(options["filters"])), int(str(options["size"]))
            fan_in = channels * size * size
            parts: list[NDArray[np.floating]] = [0.1 * random.standard_normal(filters)]  # biases
            if "batch_normalize" in options:
                parts.append(random.uniform(0.3, 0.9, filters))  # scales
                parts.append(0.1 * random.standard_normal(filters))  # rolling means
                parts.append(random.uniform(0.5, 1.5, filters))  # rolling variances
            weights = random.standard_normal((filters, fan_in), dtype=np.float32)
            parts.append(weights * np.float32((2 / fan_in) ** 0.5))
            for part in parts:
                out.write(np.ascontiguousarray(part, dtype="<f4").data)
                floats += part.size
    assert floats == FLOATS, floats


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    write_cfg(folder / "yolov3.cfg")
    write_weights(folder / "yolov3.weights")
