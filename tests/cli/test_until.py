"""`--until`: the outputs that the user asks for, in the commands that drop and fold."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli_cases import refuses, run

from nnie_prep.caffe_io import read_net
from nnie_prep.nnie_caffe_pb2 import BlobShape, LayerParameter, NetParameter


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


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--until", "fc", "--until", "prob"), True),
        (("--until", "fc", "--until", "prob", "--report", "fc"), False),
        (("--until", "fc", "--until", "prob", "--cpu", "prob"), False),  # which leaves the chip
        (("--until", "fc", "--until", "prob", "--target", "caffe"), False),
        (
            (
                "--until",
                "prob",
            ),
            False,
        ),
    ],
    ids=["wanted", "reported", "read on the CPU", "for Caffe", "at the end"],
)
def test_what_the_compiler_does_not_hand_out_is_told(
    folder: Path, options: tuple[str, ...], told: bool
) -> None:
    """It hands out what nobody on the chip reads, and what ends in _report; a wanted blob keeps its name."""
    done = run("prepare", "small.prototxt", "small.caffemodel", *options, "-o", "x")
    assert (done.code, done.err) == (0, "")
    text = "fc: wanted, but layers read it, and the compiler hands out none such: add --report fc"
    assert (text in done.out) is told
    assert (text in (folder / "x.report.txt").read_text()) is told
    assert json.loads((folder / "x.json").read_text())["blobs"]["prob"] == {"blob": "prob"}


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


# A branch that names the batch, which can be taken out by hand or goes as a head.
BATCH = """
input: "data"
input_shape { dim: 2 dim: 3 dim: 4 dim: 5 }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "order" type: "Permute" bottom: "conv" top: "order"
  permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "boxes" type: "Reshape" bottom: "order" top: "boxes"
  reshape_param { shape { dim: 2 dim: -1 } } }
"""


@pytest.mark.parametrize("until", [(), ("--until", "conv")], ids=["head", "asked"])
def test_what_is_cut_off_does_not_keep_the_batch(folder: Path, until: tuple[str, ...]) -> None:
    """Nor does the source, which it keeps from running on one picture, stand in the way of the proof."""
    Path("batch.prototxt").write_text(BATCH)
    net = NetParameter(layer=[LayerParameter(name="conv")])
    for shape in ((4, 3, 3, 3), (4,)):
        values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        net.layer[0].blobs.add(shape=BlobShape(dim=shape), data=values.ravel())
    Path("batch.caffemodel").write_bytes(net.SerializeToString())
    done = run("prepare", "batch.prototxt", "batch.caffemodel", *until, "-o", "one")
    assert done.code == 0 and "EQUAL: 2 blobs" in done.out, done
    cut = read_net(folder / "one.prototxt", folder / "one.caffemodel")
    assert cut.outputs() == ["conv"]
    assert [list(shape.dim) for shape in cut.header.input_shape] == [[1, 3, 4, 5]]


@pytest.mark.parametrize("command", ["strip", "merge-bn", "prepare"])
@pytest.mark.parametrize(
    "reader", ["", 'layer { name: "double" type: "Power" bottom: "other" top: "double" }\n']
)
def test_what_is_not_needed_and_stays(folder: Path, command: str, reader: str) -> None:
    """With drop_unreachable left out, all that stays is proven, an input that nobody reads as well."""
    prototxt = folder / "small.prototxt"
    other = 'layer { name: "other" type: "Input" top: "other"\n'
    other += "        input_param { shape { dim: 1 dim: 3 dim: 5 dim: 7 } } }\n"
    text = prototxt.read_text()
    prototxt.write_text(text.replace('layer { name: "conv"', f'{other}{reader}layer {{ name: "conv"', 1))
    done = run(
        command, prototxt, "small.caffemodel", "--until", "fc", "--skip", "drop_unreachable", "-o", "x"
    )
    assert (done.code, done.err) == (0, "") and "EQUAL: " in done.out
    outputs = {"double" if reader else "other", "prob"}
    assert set(read_net(folder / "x.prototxt", folder / "x.caffemodel").outputs()) == outputs
    told = {line.split()[0] for line in done.out.partition("blob ")[2].splitlines()[1:3]}
    assert told == outputs


def test_a_darknet_network_of_which_nothing_is_dropped(folder: Path) -> None:
    for until in ((), ("--until", "layer7-conv")):
        done = run(
            "prepare", "net.cfg", "net.weights", *until, "--skip", "drop_unreachable", "-o", "x", "--force"
        )
        assert (done.code, done.err) == (0, "") and "EQUAL: " in done.out
