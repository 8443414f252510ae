"""MobileNet v1 in its published sizes: figures, conditioning, folding."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_cases import run

from nnie_prep.caffe_io import read_net
from nnie_prep.engines.numpy import forward

SCRIPT = Path(__file__).parents[2] / "examples" / "mobilenet" / "mobilenet_v1.py"

# Convolutions of the base network: parameters and multiply-adds, as the page of TF-slim gives them.
PUBLISHED = {(1.0, 224): (3_185_088, 567_716_352), (0.75, 128): (1_800_144, 106_002_432)}

# arXiv 1704.04861, table 1: channels, stride and size of the picture that each pair is fed with at 224.
TABLE = (
    (32, 64, 1, 112), (64, 128, 2, 112), (128, 128, 1, 56), (128, 256, 2, 56), (256, 256, 1, 28),
    (256, 512, 2, 28), *[(512, 512, 1, 14)] * 5, (512, 1024, 2, 14), (1024, 1024, 1, 7),
)  # fmt: skip


def generate(folder: Path, depth: float, size: int, *more: str) -> tuple[Path, Path]:
    arguments = [f"--depth={depth}", f"--size={size}", "-o", str(folder / "net"), *more]
    done = subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return folder / "net.prototxt", folder / "net.caffemodel"


@pytest.mark.parametrize(("depth", "size"), PUBLISHED)
def test_published_figures(tmp_path: Path, depth: float, size: int) -> None:
    pair = generate(tmp_path, depth, size)
    expected = {"conv1": (9 * 3 * 32 * depth, (size // 2) ** 2)}
    for number, (inputs, outputs, stride, fed) in enumerate(TABLE):
        inputs, outputs, area = inputs * depth, outputs * depth, (fed * size // 224 // stride) ** 2
        expected[f"{number} dw"] = (9 * inputs, area)
        expected[f"{number} sep"] = (inputs * outputs, area)
    for files in (pair, pair[:1]):
        done = run("show", *files, "--json")
        assert done.code == 0
        document = json.loads(done.out)
        rows = [row for row in document["layers"] if row["type"] == "Convolution"]
        assert [(row["parameters"], row["weights"], row["multiply_adds"]) for row in rows] == [
            (weights, weights, weights * area) for weights, area in expected.values()
        ]
        weights, operations = PUBLISHED[depth, size]
        assert document["convolutions"] == {
            "layers": 27, "parameters": weights, "weights": weights, "multiply_adds": operations
        }  # fmt: skip
        classifier = int(1024 * depth) * 1000
        assert document["types"][-2:] == [
            {"type": "InnerProduct", "layers": 1, "parameters": classifier + 1000, "weights": classifier,
             "multiply_adds": classifier},
            {"type": "Softmax", "layers": 1, "parameters": 0, "weights": 0, "multiply_adds": 0},
        ]  # fmt: skip
        for name in ("parameters", "multiply_adds"):
            assert document[name] == sum(one[name] for one in document["types"])
    last = run("show", *pair).out.splitlines()[-1].split()
    assert last[:2] == ["convolutions", "27"] and f"{weights:,}" in last and f"{operations:,}" in last


def test_figures_after_folding(tmp_path: Path) -> None:
    """Biases come, BatchNorm goes, and the figures stay."""
    pair = generate(tmp_path, 0.75, 128)
    assert run("merge-bn", *pair, "-o", tmp_path / "merged", "-q").code == 0
    document = json.loads(run("show", tmp_path / "merged.prototxt", "--json").out)
    biases = sum(row["shape"][1] for row in document["layers"] if row["type"] == "Convolution")
    assert document["convolutions"] == {
        "layers": 27, "parameters": 1_800_144 + biases, "weights": 1_800_144, "multiply_adds": 106_002_432
    }  # fmt: skip
    assert {row["type"] for row in document["types"]} == {
        "Convolution", "ReLU", "Pooling", "InnerProduct", "Softmax"
    }  # fmt: skip


@pytest.mark.parametrize(("depth", "size", "seed"), [(0.25, 96, "0"), (0.25, 64, "7")])
def test_well_conditioned(tmp_path: Path, depth: float, size: int, seed: str) -> None:
    """On another picture than its own, no blob vanishes or explodes."""
    net = read_net(*generate(tmp_path, depth, size, "--seed", seed))
    x = np.random.default_rng(1).uniform(-128, 128, (1, 3, size, size)).astype(np.float32)
    values = forward(net, {"data": x})
    assert np.all(
        [0.1 < float(value.std()) < 10 for name, value in values.items() if name.startswith("conv")]
    )
    assert float(values["prob"].max()) < 0.5
    assert min(int(layer.proto.convolution_param.num_output or 8) for layer in net.layers) >= 8
    scales = np.concatenate([np.asarray(one.blobs[0]) for one in net.layers if one.type == "Scale"])
    assert 0.05 < float((scales < 0).mean()) < 0.3


def test_seeded(tmp_path: Path) -> None:
    def content(*more: str) -> bytes:
        return generate(tmp_path, 0.1, 32, *more)[1].read_bytes()

    assert content() == content() == content("--seed", "0") != content("--seed", "1")


@pytest.mark.parametrize("option", ["--depth=0", "--size=31", "--classes=0", "--depth=nan"])
def test_refused(tmp_path: Path, option: str) -> None:
    arguments = [sys.executable, str(SCRIPT), option, "-o", "x"]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and "error: the depth" in done.stderr and not list(tmp_path.iterdir())


@pytest.mark.caffe
@pytest.mark.parametrize(("depth", "size"), PUBLISHED)
def test_folded_in_caffe(tmp_path: Path, depth: float, size: int) -> None:
    pair = generate(tmp_path, depth, size)
    done = run("merge-bn", *pair, "-o", tmp_path / "merged", "--engine", "caffe", "--json")
    assert done.code == 0, done
    verdict = json.loads(done.out)["verification"]
    assert (verdict["answer"], verdict["engine"]) == ("equal", "caffe")
    assert len(verdict["blobs"]) == 1 + 27 + 3
    # 5e-5 is what a fold may cost by segment on nets of this depth.
    assert 0 < max(blob["by_segment"] for blob in verdict["blobs"]) < 5e-5
    assert math.isfinite(max(blob["end_to_end"] for blob in verdict["blobs"]))
