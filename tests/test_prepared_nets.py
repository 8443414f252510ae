"""Whole networks through `prepare` for NNIE: no output but the heads', in the order of their strides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from calibrated import draw_weights
from cli_cases import run
from conftest import Letterbox
from drawn_nets import command, drawn
from ssd_decoding import detections
from walk_cfgs import resized

from nnie_prep.caffe_io import read_net
from nnie_prep.engines.numpy import forward

pytestmark = pytest.mark.slow

CFGS = Path(__file__).with_name("data") / "cfg"


class Case(NamedTuple):
    cfg: str
    strides: list[int]
    width: int = 160
    height: int = 96


CASES = (
    Case("yolov3.cfg", [32, 16, 8]),
    Case("yolov4-tiny.cfg", [32, 16]),
    Case("yolov2_reorg.cfg", [16]),
)


def accepted(folder: Path, stem: str) -> bool:
    """Whether `check` finds no error in a prepared pair."""
    return run("check", folder / f"{stem}.prototxt", folder / f"{stem}.caffemodel", "-q").code == 0


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.cfg)
def test_darknet(case: Case, tmp_path: Path, letterboxed: Letterbox) -> None:
    cfg, weights = tmp_path / "net.cfg", tmp_path / "net.weights"
    text = (CFGS / case.cfg).read_text()
    cfg.write_text(resized(text, {"width": case.width, "height": case.height}))
    picture = letterboxed(case.height, case.width)
    np.save(tmp_path / "picture.npy", picture)
    draw_weights(cfg, weights, picture, seed=3)
    done = run(
        "prepare", cfg, weights, "-o", f"{tmp_path}/ruyi/", "--input", tmp_path / "picture.npy", "--json"
    )
    assert done.code == 0, done
    assert json.loads(done.out)["verification"]["answer"] == "equal"
    net = read_net(tmp_path / "ruyi" / "net.prototxt")
    heads = json.loads((tmp_path / "ruyi" / "net.json").read_text())["heads"]
    strides = {head["blob"]: head["stride"] for head in heads}
    assert [strides[name] for name in net.outputs()] == case.strides
    assert accepted(tmp_path / "ruyi", "net")


def test_ssd(tmp_path: Path) -> None:
    """It ends at its twelve convolutions, and the description has all six maps."""
    pair = drawn("mobilenet_ssd_v1", "--depth", "0.25", "--size", "192", "256")
    report = command(tmp_path, "prepare", pair)
    assert report["verification"]["answer"] == "equal"
    net = read_net(tmp_path / "prepare.prototxt", tmp_path / "prepare.caffemodel")
    (head,) = json.loads((tmp_path / "prepare.json").read_text())["heads"]
    read = [source[kind]["blob"] for source in head["sources"] for kind in ("location", "confidence")]
    assert len(read) == 12 and sorted(read) == sorted(net.outputs())
    writers = net.last_writers()
    assert {writers[name].type for name in read} == {"Convolution"}
    assert not {layer.type for layer in net.layers} & {"Permute", "PriorBox", "DetectionOutput", "Softmax"}
    assert accepted(tmp_path, "prepare")

    x = np.random.default_rng(2).uniform(-128, 128, (1, 3, 192, 256)).astype(np.float32)
    expected = forward(read_net(*pair), {"data": x}, {"detection_out"}, dtype=np.float64)["detection_out"]
    found = detections(head, forward(net, {"data": x}, set(read), dtype=np.float64))
    assert len(found) == len(expected[0, 0]) > 20
    np.testing.assert_allclose(found, expected[0, 0], rtol=0, atol=2e-5)  # weights were folded in float32


def test_resnet50(tmp_path: Path) -> None:
    report = command(tmp_path, "prepare", drawn("resnet50", "--size", "96", "128"))
    assert report["verification"]["answer"] == "equal"
    net = read_net(tmp_path / "prepare.prototxt")
    assert net.outputs() == ["prob"] and accepted(tmp_path, "prepare")
    assert [note["text"] for note in report["passes"]["drop_heads"]] == ["not cut: NNIE computes Softmax"]
