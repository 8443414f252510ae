"""`prepare` for NNIE and for stock Caffe: a net of what either has not, proven, and what is left of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_cases import refuses, run
from foreign import FOREIGN
from strategies import random_net

from nnie_prep.caffe_io import format_prototxt, read_net, write_caffemodel
from nnie_prep.net import Net

ENGINES = ["numpy", pytest.param("caffe", marks=pytest.mark.caffe)]
# What a net may still have for a target; of a replaced type nothing but what a pass says it declined.
LACKS = {
    "nnie": ("ReLU6", "Clip", "Mish", "Swish", "ShuffleChannel", "Crop", "ConvolutionDepthwise"),
    "caffe": (
        *("ReLU6", "Clip", "Mish", "Swish", "ShuffleChannel", "Upsample", "PassThrough", "Permute"),
        *("DepthwiseConv", "ConvolutionDepthwise", "Normalize"),
    ),
}


def write(folder: Path, seed: int) -> None:
    """foreign.prototxt and foreign.caffemodel, of every motif in random order, fed by one input."""
    random = np.random.default_rng(seed)
    motifs = [FOREIGN[place] for place in random.permutation(len(FOREIGN))]
    drawn = next(
        one for one in (random_net(motifs, 100 * seed + n) for n in range(99)) if list(one.feeds) == ["data"]
    )
    folder.joinpath("foreign.prototxt").write_text(format_prototxt(drawn.net))
    with folder.joinpath("foreign.caffemodel").open("wb") as file:
        write_caffemodel(drawn.net, file)


def prepared(*options: str) -> tuple[Net, dict[str, Any]]:
    done = run("prepare", "foreign.prototxt", "foreign.caffemodel", "-o", "x", "--json", "--force", *options)
    assert done.code == 0, done
    return read_net(Path("x.prototxt"), Path("x.caffemodel")), json.loads(done.out)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("target", ["nnie", "caffe"])
@pytest.mark.parametrize("seed", [1, 2])
def test_what_is_left(folder: Path, target: str, engine: str, seed: int) -> None:
    write(folder, seed)
    net, report = prepared("--target", target, "--engine", engine)
    assert report["verification"]["answer"] == "equal"
    declined = {note["layer"] for notes in report["passes"].values() for note in notes if not note["changed"]}
    for layer in net.layers:
        assert layer.type not in LACKS[target] or layer.name in declined, layer
        assert not re.search("round_mode|ceil_mode", str(layer.proto)) or layer.name in declined
    once = format_prototxt(net)
    Path("foreign.prototxt").write_text(once)
    Path("foreign.caffemodel").write_bytes(Path("x.caffemodel").read_bytes())
    again, _ = prepared("--target", target)
    assert format_prototxt(again).partition("layer {")[2] == once.partition("layer {")[2]


@pytest.mark.parametrize(("choice", "kind"), [("layer", "Upsample"), ("deconvolution", "Deconvolution")])
def test_upsample(folder: Path, choice: str, kind: str) -> None:
    """From Darknet, whose importer writes the layer; and back from a Caffe net."""
    assert run("prepare", "net.cfg", "net.weights", "-o", "x", "--upsample", choice).code == 0
    assert types(Path("x.prototxt")) & {"Upsample", "Deconvolution"} == {kind}
    assert ("--upsample deconvolution" in Path("x.prototxt").read_text()) == (choice == "deconvolution")
    assert run("prepare", "x.prototxt", "x.caffemodel", "-o", "y").code == 0
    assert types(Path("y.prototxt")) & {"Upsample", "Deconvolution"} == {"Upsample"}


def types(path: Path) -> set[str]:
    return {layer.type for layer in read_net(path).layers}


def test_a_pass_can_be_skipped(folder: Path) -> None:
    skip = ("--skip", "replace_grouped_convolution")
    assert run("prepare", "net.cfg", "net.weights", "-o", "x", *skip).code == 0
    assert "DepthwiseConv" not in types(Path("x.prototxt"))
    assert run("prepare", "net.cfg", "net.weights", "-o", "y").code == 0
    assert "DepthwiseConv" in types(Path("y.prototxt"))
    found = refuses(folder, "prepare", "net.cfg", "net.weights", "-o", "z", "--skip", "replace_things")
    assert found.startswith("no pass is called replace_things; choose from drop_unreachable, ")
