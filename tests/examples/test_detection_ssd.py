"""The SSDs of examples/nets: published figures, boxes, and surgery in Caffe."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_cases import run
from drawn_nets import conditioned, drawn, figures, layer_counts, operate, parameters_of, table

pytestmark = pytest.mark.slow

NETWORKS = ("mobilenet_ssd_v1", "mobilenet_ssd_v2")

# Parameters in units of 1000, with BatchNorm folded, and GFLOPs, as Open Model Zoo gives them:
# mobilenet-ssd (the Caffe model for VOC) and ssdlite_mobilenet_v2 (TensorFlow's for COCO), both at 300x300.
PUBLISHED = {"mobilenet_ssd_v1": (5_783, 2.316), "mobilenet_ssd_v2": (4_475, 1.525)}


def operations(document: Any) -> int:
    """Two for each multiply-add, one for each bias, and for each value that is activated."""
    values = {"Convolution": 0, "ReLU": 0}
    for row in document["layers"]:
        if row["type"] in values:
            values[row["type"]] += math.prod(row["shape"])
    return int(2 * document["multiply_adds"] + sum(values.values()))


@pytest.mark.parametrize("network", NETWORKS)
def test_published_figures(tmp_path: Path, network: str) -> None:
    pair = drawn(network)
    assert run("merge-bn", *pair, "-o", tmp_path / "merged", "--no-verify", "-q").code == 0
    document = figures(tmp_path / "merged.prototxt", tmp_path / "merged.caffemodel")
    parameters, billions = PUBLISHED[network]
    assert round(document["parameters"] / 1000) == parameters
    # What Sigmoid or Softmax costs is not said there.
    assert operations(document) / 1e9 == pytest.approx(billions, abs=0.001)


@pytest.mark.parametrize(("network", "boxes"), [("mobilenet_ssd_v1", 1917), ("mobilenet_ssd_v2", 1917)])
def test_boxes(network: str, boxes: int) -> None:
    """19x19 cells of 3 boxes, then 10x10, 5x5, 3x3, 2x2 and 1 of 6."""
    cells = {row["name"]: row["shape"] for row in figures(*drawn(network))["layers"]}
    assert cells["mbox_priorbox"] == [1, 2, 4 * boxes] and cells["mbox_loc"] == [1, 4 * boxes]
    assert cells["mbox_conf_reshape"][1] == boxes == 19 * 19 * 3 + 6 * (100 + 25 + 9 + 4 + 1)


@pytest.mark.parametrize("network", NETWORKS)
def test_well_conditioned(network: str) -> None:
    """There are detections of several classes too."""
    values = conditioned(drawn(network, "--depth=0.25", "--size", "192", "256"))
    found = values["detection_out"][0, 0]
    assert len(found) > 10 and len(set(found[:, 1])) > 3


@pytest.mark.caffe
@pytest.mark.parametrize("network", NETWORKS)
def test_surgery_in_caffe(tmp_path: Path, network: str) -> None:
    found = operate(tmp_path, drawn(network))
    assert table("detection-ssd")[network] == found.row()
    _check_that_all_folds(found.before, found.merged)
    assert not [note for notes in found.passes.values() for note in notes if not note["changed"]]


@pytest.mark.caffe
@pytest.mark.parametrize("network", NETWORKS)
def test_quarter_depth_in_caffe(tmp_path: Path, network: str) -> None:
    """The thinnest that people train, on a picture that is not square."""
    found = operate(tmp_path, drawn(network, "--depth=0.25", "--size", "240", "320"))
    _check_that_all_folds(found.before, found.merged)


def _check_that_all_folds(before: Any, after: Any) -> None:
    """The heads stay as they are."""
    gone = {"BatchNorm", "Scale"}
    counts = layer_counts(before)
    assert layer_counts(after) == {name: many for name, many in counts.items() if name not in gone}
    assert parameters_of(after, *gone) == 0 and counts["BatchNorm"] == counts["Scale"]


def test_the_table_names_every_detector() -> None:
    assert set(table("detection-ssd")) == set(NETWORKS)


@pytest.mark.caffe
def test_detections_are_those_of_the_source(tmp_path: Path) -> None:
    """Not only within a blob's deviation: the same boxes, in the same order."""
    pair = drawn("mobilenet_ssd_v1", "--depth=0.25", "--size", "240", "320")
    assert run("merge-bn", *pair, "-o", tmp_path / "merged", "-q").code == 0
    x = np.random.default_rng(2).uniform(-128, 128, (1, 3, 240, 320)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    found = []
    for number, files in enumerate(
        (pair, [tmp_path / f"merged.{end}" for end in ("prototxt", "caffemodel")])
    ):
        output = tmp_path / f"{number}.npz"
        done = run(
            "run", *files, "--input", tmp_path / "x.npy", "--output", output, "--engine", "caffe", "--json"
        )
        assert done.code == 0, done
        assert json.loads(done.out)
        found.append(np.load(output)["detection_out"][0, 0])
    before, after = found
    assert len(before) > 10
    np.testing.assert_array_equal(after[:, :2], before[:, :2])
    np.testing.assert_allclose(after[:, 2:], before[:, 2:], rtol=0, atol=1e-4)
