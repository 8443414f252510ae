"""The whole way on real networks: official yolov3-tiny on a photograph, its depthwise form, and yolov3.

What is compared with: OpenCV's reader of Darknet networks, which nobody here wrote, fed as
darknet/opencv.py says, and for boxes as it is. The files are those that the commands write.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
from calibrated import draw_weights
from conftest import Letterbox, ModelFiles
from numpy.typing import NDArray

from nnie_prep.caffe_io import read_net
from nnie_prep.cli import main
from nnie_prep.darknet import opencv
from nnie_prep.engines import caffe_engine
from nnie_prep.engines import numpy as numpy_engine
from nnie_prep.net import Net

Array = NDArray[Any]

ENGINES = ["numpy", pytest.param("caffe", marks=pytest.mark.caffe)]
EMPTY = {"BatchNorm", "Scale", "Dropout", "Split"}
STOCK = {"Convolution", "ReLU", "Pooling", "Concat", "Deconvolution", "Eltwise"}
# The sections of yolov3-tiny that are heads; all others have an output.
HEADS = {16, 23}
FLOATS = 8_858_734


class Pair(NamedTuple):
    """What a command wrote, and what it printed with --json."""

    prototxt: Path
    caffemodel: Path
    about: dict[str, Any]
    report: dict[str, Any]

    def read(self) -> Net:
        return read_net(self.prototxt, self.caffemodel)

    def forward(self, engine: str, picture: Array) -> dict[str, Array]:
        """All blobs; Caffe loads the very files."""
        feeds = {"data": picture[np.newaxis]}
        if engine == "numpy":
            return numpy_engine.forward(self.read(), feeds)
        return caffe_engine.forward(sys.executable, self.prototxt, self.caffemodel, feeds, None)

    def blobs(self) -> dict[int, str]:
        """Section index -> the blob that holds its output."""
        return {layer["index"]: layer["blob"] for layer in self.about["layers"] if "blob" in layer}


def run(*arguments: object) -> str:
    """The standard output of a command that succeeds."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main([str(argument) for argument in arguments]) == 0, printed.getvalue()
    return printed.getvalue()


def made(command: str, files: ModelFiles, stem: Path, picture: Array, *options: str) -> Pair:
    """The pair that a command makes and proves on the picture."""
    np.save(stem.parent / "picture.npy", picture)
    feed = ["--input", stem.parent / "picture.npy"]
    report = run(command, *files, "-o", stem, *feed, "--json", *options)
    paths = [stem.with_suffix(suffix) for suffix in (".prototxt", ".caffemodel", ".json")]
    return Pair(paths[0], paths[1], json.loads(paths[2].read_text()), json.loads(report))


def off(expected: Array, found: Array) -> float:
    """The largest error in units of the expected deviation."""
    assert found.size == expected.size and expected.std() > 0
    error = np.abs(found.reshape(-1).astype(np.float64) - expected.reshape(-1)).max() / expected.std()
    assert np.isfinite(error)
    return float(error)


def worst(pair: Pair, expected: dict[int, Array], values: dict[str, Array]) -> float:
    """The largest error of any section that STEM.json gives a blob for: all but heads."""
    blobs = pair.blobs()
    assert blobs.keys() == expected.keys()
    return max(off(expected[index], values[blob]) for index, blob in blobs.items())


# ---- official yolov3-tiny on a photograph --------------------------------------------------------

PREPARATIONS: dict[str, tuple[str, ...]] = {
    "converted": ("darknet2caffe",),
    "converted for stock Caffe": ("darknet2caffe", "--target", "caffe"),
    "prepared": ("prepare",),
    "prepared for stock Caffe": ("prepare", "--target", "caffe"),
}


@pytest.fixture(scope="module")
def picture(letterboxed: Letterbox) -> Array:
    return letterboxed(416, 416)


@pytest.fixture(scope="module")
def pairs(
    yolov3_tiny: ModelFiles, picture: Array, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Pair]:
    """pairs("prepared"): made once, with OpenCV as the judge."""
    done: dict[str, Pair] = {}

    def pair(name: str) -> Pair:
        if name not in done:
            command, *options = PREPARATIONS[name]
            stem = tmp_path_factory.mktemp("pair") / "yolov3-tiny"
            done[name] = made(command, yolov3_tiny, stem, picture, *options, "--against", "opencv")
        return done[name]

    return pair


@pytest.fixture(scope="module")
def expected(yolov3_tiny: ModelFiles, picture: Array) -> dict[int, Array]:
    """Section index -> OpenCV's output of it on the photo."""
    outputs = opencv.load(*yolov3_tiny).iterate(picture)
    return {section.index: output for section, output in outputs if output is not None}


def test_every_float_is_used_and_in_its_place(yolov3_tiny: ModelFiles, pairs: Callable[[str], Pair]) -> None:
    """The weights file, put together again from the converted layers in the order of Darknet's format."""
    floats = np.fromfile(yolov3_tiny.weights, "<f4", offset=20)
    assert floats.size == FLOATS
    by_name = {layer.name: layer for layer in pairs("converted").read().layers if layer.blobs}
    stream: list[Array] = []
    for name in [name for name in by_name if name.endswith("-conv")]:
        kernel, *bias = by_name[name].blobs
        if bias:
            stream += [np.asarray(bias[0])]
        else:
            mean, variance, factor = by_name[name.replace("-conv", "-bn")].blobs
            scale, shift = by_name[name.replace("-conv", "-scale")].blobs
            assert np.asarray(factor).tolist() == [1.0]
            stream += [np.asarray(part) for part in (shift, scale, mean, variance)]
        stream.append(np.asarray(kernel).reshape(-1))
    assert np.array_equal(np.concatenate(stream), floats)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", PREPARATIONS)
def test_every_layer_is_opencvs(
    name: str, engine: str, picture: Array, pairs: Callable[[str], Pair], expected: dict[int, Array]
) -> None:
    pair = pairs(name)
    kinds = {layer.type for layer in pair.read().layers}
    if name.startswith("prepared"):
        assert not kinds & EMPTY
    if name.endswith("stock Caffe"):
        assert "Deconvolution" in kinds and kinds <= STOCK | EMPTY
    else:
        assert "Upsample" in kinds and "Deconvolution" not in kinds
    assert set(range(24)) - HEADS == expected.keys()
    assert worst(pair, expected, pair.forward(engine, picture)) < 1e-4


@pytest.mark.parametrize("name", PREPARATIONS)
def test_the_commands_prove_it(name: str, pairs: Callable[[str], Pair]) -> None:
    """Every section was compared, by segment and end to end, and the heads are accounted for."""
    verdict = pairs(name).report["verification"]
    assert (verdict["answer"], verdict["judge"]) == ("equal", f"OpenCV {cv2.__version__}")
    assert {int(blob["name"].split()[0]) for blob in verdict["blobs"]} == set(range(24)) - HEADS
    assert {int(blob.split()[0]) for blob in verdict["accounted"]} == HEADS
    for blob in verdict["blobs"]:
        assert blob["by_segment"] < 1e-4 and blob["end_to_end"] < 1e-4 and not blob["problem"], blob
    outputs = [blob["name"] for blob in verdict["blobs"] if blob["is_output"]]
    assert outputs == ["15 convolutional", "22 convolutional"]


@pytest.mark.caffe
def test_caffe_computes_what_the_numpy_engine_does(picture: Array, pairs: Callable[[str], Pair]) -> None:
    ours, theirs = (pairs("prepared").forward(engine, picture) for engine in ("numpy", "caffe"))
    assert ours.keys() == theirs.keys() and len(theirs) > 20
    assert max(off(theirs[name], ours[name]) for name in theirs) < 1e-4


# ---- boxes ---------------------------------------------------------------------------------------

THRESHOLD, OVERLAP = 0.25, 0.4


class Box(NamedTuple):
    """Edges as fractions of the picture."""

    left: float
    top: float
    right: float
    bottom: float
    score: float
    kind: int


def overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    width = min(a.right, b.right) - max(a.left, b.left)
    height = min(a.bottom, b.bottom) - max(a.top, b.top)
    both = max(width, 0.0) * max(height, 0.0)
    areas = [(box.right - box.left) * (box.bottom - box.top) for box in (a, b)]
    return both / (sum(areas) - both)


def suppressed(boxes: list[Box]) -> list[Box]:
    """Without those that overlap a better one of their class (Darknet's do_nms_sort)."""
    kept: list[Box] = []
    for box in sorted(boxes, key=lambda box: -box.score):
        if all(box.kind != other.kind or overlap(box, other) <= OVERLAP for other in kept):
            kept.append(box)
    return kept


def logistic(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x.astype(np.float64))))


def decoded(head: dict[str, Any], values: Array) -> Iterator[Box]:
    """The boxes of one [yolo] (Darknet's yolo_layer.c): all it needs is in STEM.json."""
    anchors, classes = head["anchors"], head["classes"]
    assert head["entries"] == ["x", "y", "w", "h", "objectness", "classes"] and head["type"] == "yolo"
    assert head["new_coords"] == 0 and head["anchor_unit"] == "pixels of the network's input"
    rows, columns = values.shape[2:]
    maps = values.reshape(len(anchors), 5 + classes, rows, columns)
    height, width = rows * head["stride"], columns * head["stride"]
    stretch = head["scale_x_y"]
    centre = logistic(maps[:, :2]) * stretch - 0.5 * (stretch - 1)
    scores = logistic(maps[:, 5:]) * logistic(maps[:, 4:5])
    for anchor, kind, row, column in np.argwhere(scores > THRESHOLD):
        x = (column + centre[anchor, 0, row, column]) / columns
        y = (row + centre[anchor, 1, row, column]) / rows
        w = np.exp(float(maps[anchor, 2, row, column])) * anchors[anchor][0] / width
        h = np.exp(float(maps[anchor, 3, row, column])) * anchors[anchor][1] / height
        score = scores[anchor, kind, row, column]
        yield Box(x - w / 2, y - h / 2, x + w / 2, y + h / 2, float(score), int(kind))


def boxes_of_opencv(files: ModelFiles, picture: Array) -> list[Box]:
    """What OpenCV finds with the official files as they are: its own heads, its own suppression."""
    net = cv2.dnn.readNetFromDarknet(str(files.description), str(files.weights))
    net.setInput(picture[np.newaxis])
    rows = np.concatenate(net.forward(net.getUnconnectedOutLayersNames()))
    boxes = []
    for kind in range(rows.shape[1] - 5):
        scores = rows[:, 5 + kind]
        corners = np.concatenate([rows[:, :2] - rows[:, 2:4] / 2, rows[:, 2:4]], axis=1).astype(np.float64)
        for index in cv2.dnn.NMSBoxes(corners.tolist(), scores.tolist(), THRESHOLD, OVERLAP):
            left, top, width, height = corners[index]
            boxes.append(Box(left, top, left + width, top + height, float(scores[index]), kind))
    return boxes


@pytest.mark.parametrize("engine", ENGINES)
def test_boxes_are_opencvs(
    engine: str, yolov3_tiny: ModelFiles, picture: Array, pairs: Callable[[str], Pair]
) -> None:
    pair = pairs("prepared")
    values = pair.forward(engine, picture)
    heads = pair.about["heads"]
    assert [(head["stride"], head["mask"]) for head in heads] == [(32, [3, 4, 5]), (16, [0, 1, 2])]
    found = [box for head in heads for box in decoded(head, values[head["blob"]])]
    ours = suppressed(found)
    assert len(ours) < len(found)
    theirs = boxes_of_opencv(yolov3_tiny, picture)
    assert sorted(box.kind for box in ours) == sorted(box.kind for box in theirs)
    assert {0, 15} <= {box.kind for box in ours}  # there is a person and a cat
    for box in theirs:
        best = max((other for other in ours if other.kind == box.kind), key=lambda other: overlap(box, other))
        assert overlap(box, best) > 0.99 and best.score == pytest.approx(box.score, abs=2e-3)


# ---- drawn weights -------------------------------------------------------------------------------

CONVOLUTION_1024 = """[convolutional]
batch_normalize=1
filters=1024
size=3
stride=1
pad=1
activation=leaky
"""
DEPTHWISE = """[convolutional]
batch_normalize=1
filters=512
size=3
stride=1
pad=1
groups=512
activation=leaky

[convolutional]
batch_normalize=1
filters=1024
size=1
stride=1
pad=1
activation=leaky
"""


def drawn(folder: Path, cfg: str, picture: Array, seed: int) -> ModelFiles:
    """A cfg with calibrated random weights."""
    files = ModelFiles(folder / "drawn.cfg", folder / "drawn.weights")
    files.description.write_text(cfg)
    draw_weights(*files, picture, seed=seed)
    return files


def shown(pair: Pair) -> tuple[int, str]:
    """How many parameters `show` reports, and its line about them."""
    text = run("show", pair.prototxt, pair.caffemodel)
    line = next(line for line in text.splitlines() if line.startswith("parameters"))
    return int(re.split(r"\s+", line)[1].replace(",", "")), line


@pytest.mark.caffe
def test_depthwise_separable_yolov3_tiny(
    yolov3_tiny: ModelFiles, picture: Array, pairs: Callable[[str], Pair], tmp_path: Path
) -> None:
    """Its largest convolution as one per channel and a 1x1: half the size, and equal in Caffe and OpenCV."""
    official = yolov3_tiny.description.read_text()
    assert official.count(CONVOLUTION_1024) == 1
    files = drawn(tmp_path, official.replace(CONVOLUTION_1024, DEPTHWISE), picture, seed=11)
    pair = made("prepare", files, tmp_path / "separable", picture, "--engine", "caffe")
    verdict = pair.report["verification"]
    assert (verdict["answer"], verdict["engine"]) == ("equal", "caffe") and len(verdict["blobs"]) == 23

    outputs = opencv.load(*files).iterate(picture)
    expected = {section.index: output for section, output in outputs if output is not None}
    assert worst(pair, expected, pair.forward("caffe", picture)) < 1e-4
    depthwise = [layer for layer in pair.read().layers if layer.type == "DepthwiseConv"]
    assert [layer.blobs[0].shape[:2] for layer in depthwise] == [(512, 1)] * 2  # and behind the 2/1 pool
    assert not any(layer.proto.convolution_param.HasField("group") for layer in pair.read().layers)

    saved = 512 * 1024 * 9 - (512 * 9 + 512 + 512 * 1024)  # kernels, and one bias more
    (before, line_before), (after, line_after) = shown(pairs("prepared")), shown(pair)
    assert before - after == saved
    for count, line, low, high in ((before, line_before, 33.5, 34.5), (after, line_after, 17.5, 18.5)):
        assert f"{4 * count / 1e6:.1f} MB" in line
        assert low < 4 * count / 2**20 < high


@pytest.mark.caffe
def test_yolov3(tmp_path: Path, letterboxed: Letterbox) -> None:
    """75 convolutions and 23 shortcuts, on a picture that is not square, in Caffe."""
    cfg = Path(__file__).with_name("data").joinpath("cfg", "yolov3.cfg").read_text()
    for size, smaller in (("width=416", "width=160"), ("height=416", "height=96")):
        assert cfg.count(size) == 1
        cfg = cfg.replace(size, smaller)
    picture = letterboxed(96, 160)
    files = drawn(tmp_path, cfg, picture, seed=12)
    assert files.weights.stat().st_size == 4 * 62_001_757 + struct.calcsize("<3iQ")
    pair = made("prepare", files, tmp_path / "yolov3", picture, "--engine", "caffe")
    verdict = pair.report["verification"]
    assert verdict["answer"] == "equal" and len(verdict["blobs"]) == 104 and len(verdict["accounted"]) == 3
    assert max(blob["by_segment"] for blob in verdict["blobs"]) < 1e-4
    net = pair.read()
    assert not {layer.type for layer in net.layers} & EMPTY
    assert sum(layer.type == "Convolution" for layer in net.layers) == 75
    assert [head["stride"] for head in pair.about["heads"]] == [32, 16, 8]
