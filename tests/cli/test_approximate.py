"""`--approximate`: what is inexact is said and measured, and all the rest is proven as always."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calibrated import draw_weights
from cli_cases import CFG, listing, refuses, run, write_caffe

from nnie_prep import darknet
from nnie_prep.caffe_io import read_net
from nnie_prep.cli import job_work
from nnie_prep.darknet import reference
from nnie_prep.engines.numpy import forward
from nnie_prep.net import Net
from nnie_prep.outputs.made_by import made_from

# Layers 0 and 6 have mish, 3 is the 2/1 pool, 4 hands it on.
TEXT = CFG.replace("activation=leaky", "activation=mish", 1)
TEXT = TEXT.replace("[maxpool]\nsize=2\nstride=1\n", "[maxpool]\nsize=2\nstride=1\n\n[dropout]\n")
TEXT = TEXT.replace("from=-3", "from=-4").replace("layers=-1,5", "layers=-1,6")
TEXT = TEXT.replace("activation=linear", "activation=mish", 1)
INEXACT = {
    "0 convolutional": "leaky for mish",
    "3 maxpool": "kernel 3, pad 1 for the 2/1 pool",
    "4 dropout": "kernel 3, pad 1 for the 2/1 pool",
    "6 shortcut": "leaky for mish",
}
BOTH = ("--approximate", "pool-2-1", "--approximate", "mish-as-leaky")


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with net.cfg, net.weights and picture.npy, which is the working directory."""
    monkeypatch.chdir(tmp_path)
    picture = np.random.default_rng(1).random((3, 16, 24), np.float32)
    Path("net.cfg").write_text(TEXT)
    draw_weights(Path("net.cfg"), Path("net.weights"), picture, seed=2)
    np.save("picture.npy", picture)
    return tmp_path


def verified(*arguments: str, code: int = 0) -> dict[str, Any]:
    done = run(*arguments, "--input", "picture.npy", "--json")
    assert done.code == code and done.err == "", done
    verdict: dict[str, Any] = json.loads(done.out)["verification"]
    return verdict


@pytest.mark.parametrize("command", ["darknet2caffe", "prepare"])
@pytest.mark.parametrize("engine", ["numpy", pytest.param("caffe", marks=pytest.mark.caffe)])
def test_the_difference_is_measured_and_the_rest_proven(pair: Path, command: str, engine: str) -> None:
    verdict = verified(command, "net.cfg", "net.weights", "-o", "x", "--engine", engine, *BOTH)
    assert verdict["answer"] == "inexact, as asked"
    (reason,) = verdict["reasons"]
    assert reason.startswith("equal to Darknet in NumPy, inexact layers and all: worst by segment ")

    blobs = {blob["name"]: blob for blob in verdict["blobs"]}
    assert {name: blob["inexact"] for name, blob in blobs.items() if blob["inexact"]} == INEXACT
    assert not any(blob["problem"] for blob in blobs.values())
    for name, blob in blobs.items():
        assert (blob["by_segment"] > 0.02) if name in INEXACT else (blob["by_segment"] < 1e-4), blob
    assert verdict["first_divergence"] is None and verdict["smallest_tolerance"] < 1e-4

    # The difference at the output, by hand: the network as it is, and the files as they were written.
    picture = np.load("picture.npy")
    expected = reference.load(Path("net.cfg"), Path("net.weights")).forward(picture)[10]
    assert expected is not None
    found = forward(read_net(Path("x.prototxt"), Path("x.caffemodel")), {"data": picture[None]})
    difference = np.abs(found["layer11-conv"][0] - expected).max() / expected.std()
    assert blobs["10 convolutional"]["is_output"]
    assert blobs["10 convolutional"]["end_to_end"] == pytest.approx(float(difference), rel=1e-3)
    assert difference > 0.1


def test_it_is_written_into_the_files(pair: Path) -> None:
    done = run("prepare", "net.cfg", "net.weights", "-o", "x", *BOTH, *BOTH[:2])
    assert done.code == 0 and done.err == ""
    made = made_from(Path("x.prototxt"))
    options = ("--target nnie", "--approximate mish-as-leaky", "--approximate pool-2-1")
    assert made is not None and made.options == options
    assert "# INEXACT, as asked: leaky for mish, in Darknet's layer 0, 6\n" in Path("x.prototxt").read_text()
    about = json.loads(Path("x.json").read_text())
    assert {entry["index"] for entry in about["layers"] if "inexact" in entry} == {0, 3, 6}
    assert about["made_by"]["options"] == list(options)


def test_what_people_read(pair: Path) -> None:
    done = run("prepare", "net.cfg", "net.weights", "-o", "x", *BOTH)
    lines = done.out.split("\n")
    assert "3 layers inexact, as asked" in lines
    assert "  3 maxpool: kernel 3, pad 1 for the 2/1 pool" in lines
    assert any(line.startswith("INEXACT, AS ASKED: 11 blobs compared with Darknet") for line in lines)
    assert sum(line.endswith("kernel 3, pad 1 for the 2/1 pool") for line in lines) == 3
    assert any(line.startswith("10 convolutional") for line in lines)


def test_without_proof_it_is_said_all_the_same(pair: Path) -> None:
    done = run("darknet2caffe", "net.cfg", "net.weights", "-o", "x", "--no-verify", *BOTH)
    assert done.code == 0 and "3 layers inexact, as asked" in done.out and "NOT VERIFIED" in done.out


def test_what_mish_costs_is_said_in_a_line(pair: Path) -> None:
    """As of a Caffe net, where a note says it: it is no warning, and nothing for --strict."""
    line = (
        "activations of several layers each: mish in 2 sections; costs time and 8 bit precision, which "
        "training again with leaky would save"
    )
    for command in ("prepare", "darknet2caffe"):
        done = run(command, "net.cfg", "net.weights", "-o", command, "--strict")
        assert (done.code, done.err) == (0, "") and done.out.splitlines().count(line) == 1
    assert f"What it costs\n  {line}\n" in Path("prepare.report.txt").read_text()
    for options in (("--target", "caffe"), ("--approximate", "mish-as-leaky")):
        done = run("prepare", "net.cfg", "net.weights", "-o", options[1], *options)
        assert done.code == 0 and "costs" not in done.out
        assert "costs" not in Path(f"{options[1]}.report.txt").read_text()


def test_never_by_default(pair: Path) -> None:
    done = run("prepare", "net.cfg", "net.weights", "-o", "x", "--json")
    report = json.loads(done.out)
    assert (
        len(report["costs"]) == 1 and report["inexact"] == [] and report["verification"]["answer"] == "equal"
    )
    for path in pair.glob("x.*"):
        assert b"inexact" not in path.read_bytes().lower() and b"approximate" not in path.read_bytes()


def test_in_vain(pair: Path) -> None:
    Path("net.cfg").write_text(TEXT.replace("mish", "leaky"))
    message = "net.cfg: --approximate mish-as-leaky changes nothing: the network does not have mish"
    asked = ("prepare", "net.cfg", "net.weights", "-o", "x", "--approximate", "mish-as-leaky")
    assert refuses(pair, *asked, "--strict").startswith(message)
    done = run(*asked)
    assert (done.code, done.err) == (0, f"nnie_prep: warning: {message}\n")
    assert "EQUAL: " in done.out and "inexact" not in done.out


def test_caffe_nets_have_nothing_to_approximate(tmp_path: Path) -> None:
    pair = write_caffe(tmp_path)
    message = refuses(tmp_path, "prepare", *pair, "--approximate", "pool-2-1")
    assert "--approximate pool-2-1 is about Darknet networks" in message


def test_opencv_may_be_the_judge(pair: Path) -> None:
    text = TEXT.replace("mish", "leaky")
    Path("net.cfg").write_text(text)
    draw_weights(Path("net.cfg"), Path("net.weights"), np.load("picture.npy"), seed=2)
    asked = ("prepare", "net.cfg", "net.weights", "-o", "x", "--approximate", "pool-2-1")
    verdict = verified(*asked, "--against", "opencv")
    assert verdict["answer"] == "inexact, as asked" and verdict["judge"].startswith("OpenCV")
    assert verdict["reasons"][0].startswith("equal to OpenCV")


# ---- faults in a net that is inexact elsewhere ---------------------------------------------------


def wrong_fold(net: Net, name: str) -> None:
    """One channel of the kernel off by a hundredth of its size."""
    layer = net.layer(name)
    assert layer is not None
    kernel = np.array(layer.blobs[0])
    kernel[1] *= 1.01
    layer.blobs[0] = kernel


def exact_layer(net: Net) -> None:
    wrong_fold(net, "layer3-conv")


def behind_all_inexact_ones(net: Net) -> None:
    wrong_fold(net, "layer11-conv")


def inexact_layer(net: Net) -> None:
    """Mish is replaced there, and the fold is wrong besides."""
    wrong_fold(net, "layer1-conv")


def average_pool(net: Net) -> None:
    layer = net.layer("layer4-maxpool")
    assert layer is not None
    layer.proto.pooling_param.pool = layer.proto.pooling_param.AVE


def other_slope(net: Net) -> None:
    layer = net.layer("layer7-act")
    assert layer is not None
    layer.proto.relu_param.negative_slope = 0.11


@pytest.mark.parametrize(
    ("fault", "first"),
    [
        (exact_layer, "2 convolutional"),
        (behind_all_inexact_ones, "10 convolutional"),
        (inexact_layer, "0 convolutional"),
        (average_pool, "3 maxpool"),
        (other_slope, "6 shortcut"),
    ],
)
@pytest.mark.parametrize("command", ["prepare", "darknet2caffe"])
def test_a_fault_is_seen(
    pair: Path, command: str, fault: Callable[[Net], None], first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In exact layers, and in what stands for the inexact ones."""
    write = job_work.write_caffemodel

    def spoiled(net: Net, *others: Any) -> None:
        fault(net)
        write(net, *others)

    monkeypatch.setattr(job_work, "write_caffemodel", spoiled)
    before = listing(pair)
    verdict = verified(command, "net.cfg", "net.weights", "-o", "x", *BOTH, code=1)
    assert verdict["answer"] == "differs" and verdict["first_divergence"] == first
    assert verdict["judge"] == "Darknet in NumPy, inexact layers and all"
    assert listing(pair) == before


def test_an_approximation_of_another_layer_is_seen(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The judge is told of a change that no layer says it has: equal to that network, yet not as asked."""
    convert = darknet.convert

    def silent(*arguments: Any, **options: Any) -> Any:
        conversion = convert(*arguments, **options)
        conversion.layers[0] = dataclasses.replace(conversion.layers[0], inexact="")
        return conversion

    monkeypatch.setattr(darknet, "convert", silent)
    verdict = verified("prepare", "net.cfg", "net.weights", "-o", "x", *BOTH, code=1)
    assert (verdict["answer"], verdict["first_divergence"]) == ("differs", "0 convolutional")
    assert verdict["judge"] == "Darknet in NumPy"
