"""`quantize-sim` and `compare-dump`: what they print, and when the answer is no."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli_cases import refuses, run

from nnie_prep.caffe_io import read_net
from nnie_prep.engines.numpy import forward
from nnie_prep.quantization import Simulation, snr

PAIR = ("small.prototxt", "small.caffemodel")


@pytest.fixture
def pictures(folder: Path) -> np.ndarray:
    values = np.random.default_rng(5).normal(0, 0.5, (3, 3, 11, 13)).astype(np.float32)
    np.save("x.npy", values)
    return values


def test_quantize_sim_says_what_the_simulation_measures(pictures: np.ndarray) -> None:
    done = run("quantize-sim", *PAIR, "--input", "x.npy", "--json")
    assert (done.code, done.err) == (0, "")
    said = json.loads(done.out)
    simulation = Simulation(read_net(*map(Path, PAIR)))
    for picture in pictures:
        exact = simulation.calibrate({"data": picture[None]})
    rounded = simulation.run({"data": pictures[2:]})
    layers = {row["layer"]: row for row in said["layers"]}
    assert said["pictures"] == 3
    assert layers["fc"]["end_to_end"] == pytest.approx(snr(exact["fc"], rounded["fc"]))
    assert layers["conv"]["largest"] == float(np.abs(pictures).max())
    assert said["proposal"]["before"] == pytest.approx(snr(exact["prob"], rounded["prob"]))


def test_quantize_sim_for_people(pictures: np.ndarray) -> None:
    done = run("quantize-sim", *PAIR, "--input", "x.npy", "--target", "200")
    assert done.code == 0
    assert done.out.startswith("small.prototxt at 8 bits, ranges from 3 pictures, measured on the last\n")
    outputs = done.out[done.out.index("outputs") : done.out.index("layers that lose most")]
    assert "prob" in outputs and "fc" not in outputs
    assert "nnie-prep prepare ... --high-precision" in done.out
    assert "no layer needs 16 bits" in run("quantize-sim", *PAIR, "--input", "x.npy", "--target", "1").out


def test_quantize_sim_of_sixteen_bits_loses_less(pictures: np.ndarray) -> None:
    def end(*options: str) -> float:
        said = json.loads(run("quantize-sim", *PAIR, "--input", "x.npy", "--json", *options).out)
        return float(said["layers"][-1]["end_to_end"])

    every = end("--bits", "16")
    assert end() + 10 < every
    by_name = [f"--high-precision={name}" for name in ("conv", "fc", "prob")]
    assert end() < end(*by_name) <= every


def test_decibels_without_noise_are_json_too(folder: Path) -> None:
    """What a power of two is in 8 bits is itself, and there is nothing to propose."""
    inputs = 'input: "data" input_shape { dim: 1 dim: 3 dim: 2 dim: 2 }'
    Path("relu.prototxt").write_text(inputs + 'layer { name: "relu" type: "ReLU" bottom: "data" top: "y" }')
    np.save("two.npy", np.full((1, 3, 2, 2), 2, np.float32))
    done = run("quantize-sim", "relu.prototxt", "small.caffemodel", "--input", "two.npy", "--json")

    def refused(constant: str) -> None:
        raise AssertionError(constant)

    said = json.loads(done.out, parse_constant=refused)
    assert said["proposal"] == {"before": "inf", "steps": []}
    assert said["layers"][0]["end_to_end"] == "inf"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--high-precision", "conw"), "the net has no layer conw"),
        (("--input", "missing.npy"), "cannot be read"),
        (("--bits", "12"), "invalid choice"),
    ],
)
def test_mistakes(pictures: np.ndarray, folder: Path, options: tuple[str, ...], message: str) -> None:
    assert message in refuses(folder, "quantize-sim", *PAIR, "--input", "x.npy", *options)


def write_dumps(folder: Path, picture: np.ndarray, wrong: str = "") -> None:
    """The blobs as the compiler writes them, one of them upside down."""
    folder.mkdir()
    blobs = forward(read_net(*map(Path, PAIR)), {"data": picture})
    for name in ("conv", "fc"):
        values = blobs[name][:, ::-1] if name == wrong else blobs[name]
        extents = "_".join(map(str, values.shape[1:]))
        numbers = np.rint(values.reshape(-1).astype(np.float64) * 4096).astype(np.int64)
        text = "".join(f"{number & 0xFFFFFFFF:08x}\n" for number in numbers.tolist())
        (folder / f"{name}_output0_{extents}_quant.linear.hex").write_text(text)


def test_compare_dump(pictures: np.ndarray) -> None:
    write_dumps(Path("good"), pictures[2:])
    done = run("compare-dump", *PAIR, "good", "--input", "x.npy")
    assert (done.code, done.err) == (0, "")
    assert "2 dumps compared, 0 with a cosine below 0.95" in done.out
    write_dumps(Path("bad"), pictures[2:], wrong="fc")
    done = run("compare-dump", *PAIR, "bad", "--input", "x.npy")
    assert done.code == 1
    (marked,) = (line for line in done.out.splitlines() if line.endswith("<- first below"))
    assert marked.startswith("fc ")
    said = json.loads(run("compare-dump", *PAIR, "bad", "--input", "x.npy", "--json").out)
    assert said["first_unlike"] == "fc" and [row["layer"] for row in said["compared"]] == ["conv", "fc"]


def test_compare_dump_of_the_wrong_net(pictures: np.ndarray, folder: Path) -> None:
    Path("other").mkdir()
    Path("other/block_output0_1_quant.linear.hex").write_text("0\n")
    said = refuses(folder, "compare-dump", *PAIR, "other", "--input", "x.npy")
    assert "layer 'block' is not in the net" in said
