"""yolov4 and yolov4-tiny in full width, drawn weights: converted, prepared, verified, in both engines."""

from __future__ import annotations

import json
import struct
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from calibrated import draw_weights
from cli_cases import run
from conftest import Letterbox
from walk_cfgs import resized

from nnie_prep.caffe_io import read_prototxt

pytestmark = pytest.mark.slow

HEIGHT, WIDTH = 96, 160
ENGINES = ["numpy", pytest.param("caffe", marks=pytest.mark.caffe)]


class Case(NamedTuple):
    """What is known of a network: bytes of its official weights file, sections, strides of its heads."""

    name: str
    size: int
    convolutions: int
    compared: int
    strides: list[int]


CASES = (
    Case("yolov4-tiny", 24_251_276, 21, 36, [32, 16]),
    Case("yolov4", 257_717_640, 110, 159, [8, 16, 32]),
)


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def network(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, letterboxed: Letterbox
) -> tuple[Case, Path]:
    """A folder with net.cfg, net.weights and the picture that they are calibrated on."""
    case: Case = request.param
    folder = tmp_path_factory.mktemp(case.name)
    text = Path(__file__).with_name("data").joinpath("cfg", f"{case.name}.cfg").read_text()
    (folder / "net.cfg").write_text(resized(text, {"width": WIDTH, "height": HEIGHT}))
    picture = letterboxed(HEIGHT, WIDTH)
    np.save(folder / "picture.npy", picture)
    draw_weights(folder / "net.cfg", folder / "net.weights", picture, seed=21)
    return case, folder


def done(*arguments: object) -> dict[str, Any]:
    """The report of a command that succeeds without a warning."""
    result = run(*arguments, "--json")
    assert (result.code, result.err) == (0, ""), result
    report: dict[str, Any] = json.loads(result.out)
    assert not report.get("warnings")
    return report


@pytest.mark.parametrize("engine", ENGINES)
def test_converted_prepared_and_verified(network: tuple[Case, Path], engine: str, tmp_path: Path) -> None:
    case, folder = network
    assert (folder / "net.weights").stat().st_size == case.size
    how = ("--input", folder / "picture.npy", "--engine", engine)
    pairs = []
    for command in ("darknet2caffe", "prepare"):
        stem = tmp_path / command
        report = done(command, folder / "net.cfg", folder / "net.weights", "-o", stem, *how)
        assert report["floats"] == (case.size - struct.calcsize("<3iQ")) / 4
        verdict = report["verification"]
        assert (verdict["answer"], verdict["engine"]) == ("equal", engine)
        assert len(verdict["blobs"]) == case.compared
        assert {reason.partition(":")[0] for reason in verdict["accounted"].values()} == {"a yolo head"}
        assert not any(blob["problem"] for blob in verdict["blobs"])
        assert max(blob["by_segment"] for blob in verdict["blobs"]) < 1e-4
        assert sum(blob["is_output"] for blob in verdict["blobs"]) == len(case.strides)
        pairs += [stem.with_suffix(".prototxt"), stem.with_suffix(".caffemodel")]

    kinds = Counter(layer.type for layer in read_prototxt(pairs[2]).layers)
    assert not kinds.keys() & {"BatchNorm", "Scale", "Dropout", "Split"}
    assert kinds["Convolution"] >= case.convolutions
    about = json.loads(pairs[2].with_suffix(".json").read_text())
    assert [head["stride"] for head in about["heads"]] == case.strides
    verdict = done("verify", *pairs, *how)
    assert verdict["answer"] == "equal" and len(verdict["blobs"]) >= case.compared
