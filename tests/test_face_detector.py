"""OpenCV's face detector, a real SSD in Caffe with its own weights: a ResNet with BatchNorm before and behind
its convolutions, Normalize, and all of an SSD's head."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from cli_cases import run
from numpy.typing import NDArray

from nnie_prep.caffe_io import read_net
from nnie_prep.cli import main
from nnie_prep.engines import numpy as numpy_engine
from nnie_prep.proof import Engine

pytestmark = pytest.mark.slow

ENGINES = ["numpy", pytest.param("caffe", marks=pytest.mark.caffe)]

# Convolutions that take up the BatchNorm and Scale behind them.
FOLDED = (
    "conv1_h",
    "layer_64_1_conv1_h",
    "layer_128_1_conv1_h",
    "layer_256_1_conv1",
    "layer_512_1_conv1_h",
)
# Scales that BatchNorms are merged into, and why those stay: what is before them, and behind.
LEFT = {
    "data_scale": ("data is an input of the net", "conv1_h pads with zeros"),
    "layer_128_1_scale1_h": ("written by layer_64_1_sum (Eltwise)", "layer_128_1_relu1 (ReLU)"),
    "layer_256_1_scale1": ("written by layer_128_1_sum (Eltwise)", "layer_256_1_relu1 (ReLU)"),
    "layer_512_1_scale1": ("written by layer_256_1_sum (Eltwise)", "layer_512_1_relu1 (ReLU)"),
    "last_scale_h": ("written by layer_512_1_sum (Eltwise)", "last_relu (ReLU)"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, face_detector) -> Path:
    """A folder with the pair, and what merge-bn made of it."""
    folder = tmp_path_factory.mktemp("face_detector")
    shutil.copy(face_detector.description, folder / "net.prototxt")
    shutil.copy(face_detector.weights, folder / "net.caffemodel")
    assert main(["merge-bn", str(folder / "net.prototxt"), str(folder / "net.caffemodel"), "-q"]) == 0
    return folder


def _report(folder: Path, command: str, engine: str) -> Any:
    done = run(
        command, folder / "net.prototxt", folder / "net.caffemodel", "-o", folder / f"{command}-{engine}",
        "--engine", engine, "--json", "--force",
    )  # fmt: skip
    assert done.code == 0, done
    return json.loads(done.out)


@pytest.mark.parametrize("engine", ENGINES)
def test_what_folds_and_what_does_not(folder: Path, engine: str) -> None:
    report = _report(folder, "merge-bn", engine)
    assert report["layers"] == [112, 97]

    notes = report["passes"]
    changed = {name: [note["layer"] for note in found if note["changed"]] for name, found in notes.items()}
    assert changed["fold_batchnorm"] == list(FOLDED)
    assert changed["merge_batchnorm"] == list(LEFT)
    assert not changed["fold_scale_forward"] and not changed["drop_identity"]
    for scale, (before, behind) in LEFT.items():
        batchnorm = scale.replace("scale", "bn")
        assert any(note["layer"] == batchnorm and before in note["text"] for note in notes["fold_batchnorm"])
        assert any(note["layer"] == scale and behind in note["text"] for note in notes["fold_scale_forward"])

    verdict = report["verification"]
    assert (verdict["answer"], verdict["engine"], len(verdict["blobs"])) == ("equal", engine, 81)
    assert 0 < max(blob["by_segment"] for blob in verdict["blobs"]) < 5e-5


@pytest.mark.parametrize("command", ["strip", "prepare"])
@pytest.mark.parametrize("engine", ENGINES)
def test_strip_and_prepare(folder: Path, command: str, engine: str) -> None:
    """There is nothing to strip; `prepare` leaves no BatchNorm."""
    report = _report(folder, command, engine)
    assert report["verification"]["answer"] == "equal"
    prototxt = next(Path(path) for path in report["outputs"] if path.endswith(".prototxt"))
    types = [layer.type for layer in read_net(prototxt).layers]
    assert types.count("BatchNorm") == (10 if command == "strip" else 0)


def _detections(folder: Path, stem: str, engine: str, picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of (picture, class, confidence, left, top, right, bottom), for a picture (1, 3, H, W) in BGR."""
    net = read_net(folder / f"{stem}.prototxt", folder / f"{stem}.caffemodel")
    return np.asarray(Engine(engine).run(net, {"data": picture})["detection_out"][0, 0])


@pytest.fixture(scope="module")
def picture(photo: NDArray[np.float32]) -> NDArray[np.float32]:
    """A picture with one face on it, as the detector wants it: 300x300, BGR, less its mean."""
    bgr = np.ascontiguousarray(photo.transpose(1, 2, 0)[:, :, ::-1]) * 255
    return np.asarray(cv2.dnn.blobFromImage(bgr, 1, (300, 300), (104, 177, 123)), np.float32)


@pytest.mark.parametrize("engine", ENGINES)
def test_it_finds_the_face_that_opencv_finds(folder: Path, picture: NDArray[np.float32], engine: str) -> None:
    """Before and after, and where OpenCV's own reader and layers have it, to 1e-4 of the picture's size."""
    theirs = cv2.dnn.readNetFromCaffe(str(folder / "net.prototxt"), str(folder / "net.caffemodel"))
    theirs.setInput(picture)
    expected = theirs.forward()[0, 0]
    assert expected[0, 2] > 0.9 > expected[1, 2]
    before = _detections(folder, "net", engine, picture)
    after = _detections(folder, "net_inference", engine, picture)
    np.testing.assert_allclose(before[0], expected[0], rtol=0, atol=1e-4)
    # Rows that hardly differ in confidence may change places.
    assert before.shape == after.shape
    sure = before[:, 2] > 0.1
    assert sure.sum() > 3
    np.testing.assert_allclose(after[sure], before[sure], rtol=0, atol=1e-5)


@pytest.mark.parametrize("mean", [(104.0, 177.0, 123.0), ()])
def test_detect_draws_the_box_that_opencv_finds(
    folder: Path, photo: NDArray[np.float32], mean: tuple[float, ...]
) -> None:
    """On the whole photograph, which is stretched; raw, if one asks for it."""
    bgr = np.round(photo.transpose(1, 2, 0)[:, :, ::-1] * 255).astype(np.uint8)
    cv2.imwrite(str(folder / "photo.png"), bgr)
    theirs = cv2.dnn.readNetFromCaffe(str(folder / "net.prototxt"), str(folder / "net.caffemodel"))
    theirs.setInput(cv2.dnn.blobFromImage(bgr, 1, (300, 300), mean))
    expected = theirs.forward()[0, 0, 0]
    options = ["--mean", ",".join(map(str, mean))] if mean else ["--scale", "1"]
    done = run(
        "detect", folder / "net.prototxt", folder / "net.caffemodel", folder / "photo.png",
        "--json", *options,
    )  # fmt: skip
    assert done.code == 0, done
    document = json.loads(done.out)
    (found,) = document["detections"]
    assert found["name"] == "1" and abs(found["confidence"] - expected[2]) < 1e-5
    height, width = bgr.shape[:2]
    box = np.array([found[edge] for edge in ("left", "top", "right", "bottom")])
    # float32 keeps 6e-8 of an edge near 400; seen were 8e-5 pixels
    np.testing.assert_allclose(box, expected[3:] * (width, height, width, height), rtol=0, atol=5e-4)
    assert document["fed"] == (["BGR", "minus 104/177/123"] if mean else ["BGR"])


def test_what_was_done_before_the_first_layer_is_asked_for(folder: Path) -> None:
    """Its BatchNorm saw channels of mean -1.4, -5.1 and -1.8; what it becomes is a Scale."""
    for stem, first in (("net", "data_bn"), ("net_inference", "data_scale")):
        pair = [folder / f"{stem}.{end}" for end in ("prototxt", "caffemodel")]
        done = run("mapper-cfg", *pair, "-o", folder / "never.cfg")
        assert (
            done.code == 2
            and f"nobody says how input data was normalised in training, before its layer {first}" in done.err
        ), done
        assert not (folder / "never.cfg").exists()


@pytest.mark.caffe
def test_both_engines_agree(folder: Path, picture: NDArray[np.float32]) -> None:
    ours, theirs = (_detections(folder, "net_inference", engine, picture) for engine in ("numpy", "caffe"))
    sure = theirs[:, 2] > 0.1
    np.testing.assert_allclose(ours[sure], theirs[sure], rtol=0, atol=1e-5)
    assert numpy_engine.unsupported(read_net(folder / "net.prototxt")) == []


def test_merging_again_changes_nothing(folder: Path) -> None:
    pair = [folder / f"net_inference.{end}" for end in ("prototxt", "caffemodel")]
    done = run("merge-bn", *pair, "-o", folder / "again", "--json")
    assert done.code == 0, done
    notes = [note for found in json.loads(done.out)["passes"].values() for note in found]
    assert not [note for note in notes if note["changed"]]
