"""`--until`: the outputs that the user asks for, in the commands that drop and fold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_cases import refuses, run

from nnie_prep.caffe_io import read_net


@pytest.mark.parametrize("command", ["strip", "merge-bn", "prepare"])
def test_the_net_ends_where_it_is_told_to(folder: Path, command: str) -> None:
    done = run(command, "small.prototxt", "small.caffemodel", "--until", "fc", "-o", "cut")
    assert (done.code, done.err) == (0, "")
    assert "EQUAL: " in done.out
    net = read_net(folder / "cut.prototxt", folder / "cut.caffemodel")
    assert net.outputs() == ["fc"]
    about = json.loads((folder / "cut.json").read_text())
    assert about["blobs"]["prob"] == {"none": "cut: fc does not need it"}
    assert about["blobs"]["fc"] == {"blob": "fc"}
    assert "# option: --until fc" in (folder / "cut.prototxt").read_text()


def test_what_is_asked_for_is_not_folded(folder: Path) -> None:
    """Dropout writes a blob of another name, which goes unless it is asked for."""
    for until, kept in (((), False), (("--until", "dropped", "--until", "prob"), True)):
        done = run("merge-bn", "small.prototxt", "small.caffemodel", *until, "-o", "x", "--force")
        assert done.code == 0 and "EQUAL: " in done.out
        assert ("dropped" in read_net(folder / "x.prototxt").blob_names()) is kept
    net = read_net(folder / "x.prototxt")
    assert net.outputs() == ["prob"]  # the other one is read, and an output for who asks for it


def test_a_darknet_network(folder: Path) -> None:
    assert run("prepare", "net.cfg", "net.weights", "-o", "whole").code == 0
    whole = json.loads((folder / "whole.json").read_text())
    inner = next(layer["blob"] for layer in whole["layers"] if layer["section"] == "convolutional")
    done = run("prepare", "net.cfg", "net.weights", "--until", inner, "-o", "cut")
    assert done.code == 0 and "EQUAL: " in done.out, done
    cut = json.loads((folder / "cut.json").read_text())
    assert read_net(folder / "cut.prototxt", folder / "cut.caffemodel").outputs() == [inner]
    assert cut["layers"][0]["blob"] == inner
    assert all(head["none"].startswith("cut: ") for head in cut["heads"])


@pytest.mark.parametrize(
    ("blob", "says"),
    [
        ("nothing", "small.prototxt: the net has no blob 'nothing'"),
        ("relu", "layer relu writes conv"),
        ("data", "no layer computes data; its outputs: prob"),
    ],
)
def test_blobs_that_cannot_be_outputs(folder: Path, blob: str, says: str) -> None:
    assert says in refuses(folder, "strip", "small.prototxt", "small.caffemodel", "--until", blob)


def test_what_only_training_computes(folder: Path) -> None:
    text = (folder / "small.prototxt").read_text()
    loss = 'layer { name: "l" type: "EuclideanLoss" bottom: "fc" bottom: "fc" top: "cost" }\n'
    (folder / "small.prototxt").write_text(text + loss)
    says = refuses(folder, "strip", "small.prototxt", "small.caffemodel", "--until", "cost")
    assert says.startswith("--until cost: is dropped: only training needs it")
