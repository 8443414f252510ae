"""`quantize-sim` and `compare-dump`: what they print, and when the answer is no."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli_cases import refuses, run

from nnie_prep.caffe_io import read_net, write_caffemodel
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


@pytest.mark.parametrize("rest", ["-1", "12"], ids=["torn", "refused"])
def test_a_batch_that_reshapes_name(folder: Path, rest: str) -> None:
    """They are run as what each makes of a picture in the batch, which is what `edit` makes of them too."""
    pair = ("batch.prototxt", "batch.caffemodel")
    Path(pair[0]).write_text(
        'input: "data" input_shape { dim: 2 dim: 3 dim: 2 dim: 2 }\n'
        'layer { name: "row" type: "Reshape" bottom: "data" top: "row"\n'
        f"  reshape_param {{ shape {{ dim: 2 dim: {rest} }} }} }}\n"
        'layer { name: "fc" type: "InnerProduct" bottom: "row" top: "fc"\n'
        "  inner_product_param { num_output: 4 } }\n"
        'layer { name: "map" type: "Reshape" bottom: "fc" top: "map"\n'
        "  reshape_param { shape { dim: 2 dim: 2 dim: 2 dim: 1 } } }\n"
    )
    net, random = read_net(Path(pair[0])), np.random.default_rng(6)
    net.layers[1].blobs = [random.normal(size=shape).astype(np.float32) for shape in ((4, 12), (4,))]
    with Path(pair[1]).open("wb") as file:
        write_caffemodel(net, file)
    pictures = random.normal(size=(2, 3, 2, 2)).astype(np.float32)
    np.save("x.npy", pictures)
    done = run("quantize-sim", *pair, "--input", "x.npy", "--json")
    assert done.code == 0 and done.err.splitlines() == [
        f"nnie_prep: warning: batch.prototxt:{line}: layer {name!r} (Reshape) is for batches of 2 (dim: 2); "
        "pictures are run one by one, with dim: 0 in its place"
        for line, name in ((2, "row"), (6, "map"))
    ]
    assert run("quantize-sim", *pair, "--input", "x.npy", "-q").err == ""
    mend = [f"--set=layer[name={name}].reshape_param.shape.dim[0]=0" for name in ("row", "map")]
    assert run("edit", *pair, *mend, "--batch", "1", "-o", "mended", "-q").code == 0
    assert run("quantize-sim", "mended.prototxt", "mended.caffemodel", "--input", "x.npy", "--json") == (
        0, done.out, ""
    )  # fmt: skip
    whole = forward(net, {"data": pictures})["map"]
    one = forward(read_net(Path("mended.prototxt"), Path("mended.caffemodel")), {"data": pictures[1:]})["map"]
    np.testing.assert_allclose(one, whole[1:], rtol=1e-5, atol=1e-6)  # float32, summed in another order


def test_other_reshapes_name_no_batch(folder: Path) -> None:
    """Of another axis, across pictures, and of what does not come of a picture."""
    Path("rows.prototxt").write_text(
        'input: "data" input_shape { dim: 2 dim: 3 dim: 2 dim: 2 }\n'
        'layer { name: "rows" type: "Reshape" bottom: "data" top: "rows"\n'
        "  reshape_param { axis: 1 shape { dim: 2 dim: -1 } } }\n"
        'layer { name: "mixed" type: "Reshape" bottom: "rows" top: "mixed"\n'
        "  reshape_param { shape { dim: 3 dim: -1 } } }\n"
        'layer { name: "own" type: "Parameter" top: "own"\n'
        "  parameter_param { shape { dim: 3 dim: 4 } } }\n"
        'layer { name: "table" type: "Reshape" bottom: "own" top: "table"\n'
        "  reshape_param { shape { dim: 2 dim: -1 } } }\n"
    )
    net = read_net(Path("rows.prototxt"))
    net.layers[2].blobs = [np.ones((3, 4), np.float32)]
    with Path("rows.caffemodel").open("wb") as file:
        write_caffemodel(net, file)
    np.save("x.npy", np.random.default_rng(7).normal(size=(3, 3, 2, 2)))
    done = run("quantize-sim", "rows.prototxt", "rows.caffemodel", "--input", "x.npy")
    assert (done.code, done.err) == (0, "")


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
