"""`edit`: order, proof, files, the description beside the pair, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_cases import listing, refuses, run

from nnie_prep.caffe_io import read_net
from nnie_prep.edit import cuts
from nnie_prep.engines.numpy import forward
from nnie_prep.net import Net
from nnie_prep.shapes import net_input_shapes

SMALL = ("small.prototxt", "small.caffemodel")
X = np.random.default_rng(0).normal(0, 60, (1, 3, 11, 13)).astype(np.float32)


def edited(*arguments: object, stem: str = "e") -> Net:
    done = run("edit", *SMALL, *arguments, "-o", stem)
    assert done.code == 0, done
    return read_net(Path(f"{stem}.prototxt"), Path(f"{stem}.caffemodel"))


def test_cuts_are_proven(folder: Path) -> None:
    old = forward(read_net(*map(Path, SMALL)), {"data": X})
    done = run("edit", *SMALL, "--until", "dropped", "--rename-blob", "data=image", "-o", "head")
    assert done.code == 0 and done.err == ""
    assert "EQUAL: 3 blobs compared, on the numpy engine" in done.out
    assert "inputs   image\noutputs  dropped\nlayers   8 before, 6 after\n" in done.out
    assert "wrote head.prototxt" in done.out and "wrote head.caffemodel" in done.out
    head = read_net(Path("head.prototxt"), Path("head.caffemodel"))
    dropped = forward(head, {"image": X})["dropped"]
    np.testing.assert_array_equal(dropped, old["dropped"])
    done = run("edit", *SMALL, "--from", "dropped", "-o", "tail", "--json")
    document = json.loads(done.out)
    assert done.code == 0 and document["verification"]["answer"] == "equal" and not document["unproven"]
    assert document["net"] == {"inputs": ["dropped"], "outputs": ["prob"]}
    assert document["layers"] == [8, 3] and document["shapes"] == []
    tail = read_net(Path("tail.prototxt"), Path("tail.caffemodel"))
    np.testing.assert_array_equal(forward(tail, {"dropped": dropped})["prob"], old["prob"])


def test_edits_are_done_in_the_order_given(folder: Path) -> None:
    net = edited("--rename-blob", "fc=a", "--rename-blob", "a=b", "--until", "b", "--rename-layer", "fc=last")
    assert net.outputs() == ["b"] and net.layers[-1].name == "last"
    assert "no blob 'b'" in refuses(folder, "edit", *SMALL, "--until", "b", "--rename-blob", "fc=b")


def test_several_cuts_are_one(folder: Path) -> None:
    net = edited("--until", "fc", "--batch", "2", "--until", "dropped")
    assert net.outputs() == ["fc"] and net_input_shapes(net) == {"data": (2, 3, 11, 13)}
    net = edited("--until", "dropped", "--until", "conv", stem="f")
    assert net.outputs() == ["dropped"] and net.layers[-1].name == "drop"


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (("--batch", "3"), "--batch"),
        (("--input-shape", "data=1,3,11,13"), "--input-shape"),
        (("--drop", "relu"), "--drop"),
        (("--set", "layer[name=bn].batch_norm_param.eps=0.5", "--until", "conv"), "--set"),
    ],
)
def test_what_changes_the_function_is_not_proven(folder: Path, arguments: Any, option: str) -> None:
    done = run("edit", *SMALL, *arguments, "-o", "e")
    assert done.code == 0
    assert f"NOT PROVEN: what {option} does may change what the net computes, as asked" in done.out
    document = json.loads(run("edit", *SMALL, *arguments, "-o", "e", "--json").out)
    assert document["verification"] is None and option in document["unproven"]
    assert document["outputs"] == ["e.caffemodel", "e.json", "e.prototxt"]


def test_the_shapes_that_changed(folder: Path) -> None:
    field = "layer[name=conv].convolution_param.stride=1"
    assert "layer 'fc' have shapes 5x180" in refuses(folder, "edit", *SMALL, "--set", field)
    arguments = ("--until", "dropped", "--set", field, "-o", "e")
    done = run("edit", *SMALL, *arguments)
    rows = [line.split() for line in done.out.splitlines()]
    assert ["conv", "1x6x5x6", "1x6x9x11"] in rows and ["dropped", "1x6x5x6", "1x6x9x11"] in rows
    assert not any(row[:1] == ["data"] for row in rows)
    document = json.loads(run("edit", *SMALL, *arguments, "--json").out)
    assert document["shapes"][0] == {"blob": "conv", "before": [1, 6, 5, 6], "after": [1, 6, 9, 11]}


@pytest.mark.parametrize("order", [1, -1])
def test_edits_that_only_fit_together(folder: Path, order: int) -> None:
    """The stride is halved and so is the input, whose inner product sees as many values as before."""
    stride, shape = (("--set", "layer[name=conv].convolution_param.stride=1"), ("--input-shape", "1,3,7,8"))
    for alone in (stride, shape):
        assert "layer 'fc' have shapes 5x180" in refuses(folder, "edit", *SMALL, *alone)
    both = (*stride, *shape) if order == 1 else (*shape, *stride)
    old, net = read_net(*map(Path, SMALL)), edited(*both)
    x = X[:, :, :7, :8]
    conv = old.layer("conv")
    assert conv is not None
    conv.proto.convolution_param.stride[0] = 1
    expected = forward(old, {"data": x}, ["prob"])["prob"]
    np.testing.assert_array_equal(forward(net, {"data": x}, ["prob"])["prob"], expected)
    assert net_input_shapes(net) == {"data": (1, 3, 7, 8)}


def test_the_edit_that_is_to_blame_is_named(folder: Path) -> None:
    """The one since which nothing fits, not one that another mends, nor the last."""
    eps, stride = "layer[name=bn].batch_norm_param.eps=0.5", "layer[name=conv].convolution_param.stride=1"
    arguments = (
        "--set",
        "layer[name=fc].bottom=data",
        "--set",
        eps,
        "--set",
        "layer[name=fc].bottom=dropped",
    )
    said = refuses(folder, "edit", *SMALL, *arguments, "--set", stride, "--rename-blob", "prob=p")
    assert f": after --set {stride}: the weights of layer 'fc' have shapes 5x180" in said
    assert "after" not in refuses(folder, "edit", *SMALL, "--set", stride)


def test_a_net_whose_inputs_have_no_shape_yet(folder: Path) -> None:
    Path("bare.prototxt").write_text(
        'input: "data" layer { name: "p" type: "Power" bottom: "data" top: "p" power_param { shift: 1 } }'
    )
    done = run("edit", "bare.prototxt", "--input-shape", "2,5", "-o", "e")
    assert done.code == 0 and ["p", "?", "2x5"] in [line.split() for line in done.out.splitlines()]
    assert net_input_shapes(read_net(Path("e.prototxt"))) == {"data": (2, 5)}


def test_without_weights(folder: Path) -> None:
    done = run("edit", SMALL[0], "--until", "dropped", "-o", "e")
    assert done.code == 0 and "NOT PROVEN: without a caffemodel there is nothing to run" in done.out
    assert sorted(path.name for path in folder.glob("e.*")) == ["e.json", "e.prototxt"]


def test_a_wrong_edit_is_caught(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = cuts.until

    def wrong(net: Net, blobs: list[str]) -> Any:
        notes = right(net, blobs)
        net.layers[1].blobs[0] = np.asarray(net.layers[1].blobs[0]) * np.float32(1.001)
        return notes

    monkeypatch.setattr(cuts, "until", wrong)
    before = listing(folder)
    done = run("edit", *SMALL, "--until", "dropped", "-o", "e")
    assert done.code == 1 and "DIFFERS" in done.out and "nothing was written" in done.out
    assert listing(folder) == before
    done = run("edit", *SMALL, "--until", "dropped", "-o", "e", "--no-verify")
    assert done.code == 0 and "NOT VERIFIED: --no-verify was given" in done.out


def test_a_tail_fed_with_the_wrong_blob_is_caught(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tail's own layers are at fault: its scale is off."""
    right = cuts.from_

    def wrong(net: Net, blobs: list[str]) -> Any:
        notes = right(net, blobs)
        net.layers[1].blobs[0] = np.asarray(net.layers[1].blobs[0])[::-1]
        return notes

    monkeypatch.setattr(cuts, "from_", wrong)
    done = run("edit", *SMALL, "--from", "dropped", "-o", "e")
    assert done.code == 1 and "blob fc is the first that differs" in done.out


def described(stem: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(Path(f"{stem}.json").read_text())
    return document


def test_the_description_stays_true(folder: Path) -> None:
    assert run("prepare", "net.cfg", "net.weights", "-o", "x", "-q").code == 0
    pair = ("x.prototxt", "x.caffemodel")
    head = described("x")["heads"][0]["blob"]
    arguments = ("--rename-blob", f"{head}=boxes", "--rename-blob", "data=image")
    assert run("edit", *pair, *arguments, "-o", "y", "-q").code == 0
    document = described("y")
    assert document["heads"][0]["blob"] == document["layers"][9]["blob"] == "boxes"
    assert document["input"]["blob"] == "image" and document["input"]["shape"] == [1, 3, 16, 24]
    assert document["made_by"]["options"] == [f"--rename-blob {head}=boxes", "--rename-blob data=image"]

    assert run("edit", "y.prototxt", "y.caffemodel", "--input-shape", "1,3,32,40", "-o", "z", "-q").code == 0
    document, net = described("z"), read_net(Path("z.prototxt"))
    assert document["input"]["shape"] == [1, 3, 32, 40]
    assert document["heads"][0]["shape"] == [21, 16, 20]
    assert list(forward(read_net(Path("z.prototxt"), Path("z.caffemodel")), {
        "image": np.zeros((1, 3, 32, 40), np.float32)
    })["boxes"].shape) == [1, 21, 16, 20]  # fmt: skip
    assert net.inputs() == ["image"]

    first = described("x")["layers"][2]["blob"]
    assert run("edit", *pair, "--until", first, "-o", "cut", "-q").code == 0
    document = described("cut")
    assert document["layers"][2]["blob"] == first
    assert document["heads"][0]["none"] == document["layers"][7]["none"] == f"cut: {first} does not need it"
    assert run("edit", *pair, "--from", first, "-o", "tail", "-q").code == 0
    document = described("tail")
    assert document["input"] == {"none": f"cut: the net begins at {first}"}
    assert document["layers"][0]["none"] == f"cut: the net begins at {first}"
    assert document["layers"][2]["blob"] == first and document["heads"][0]["blob"] == head


def test_each_file_is_named_after_its_own_input(folder: Path) -> None:
    Path(SMALL[1]).rename("weights.caffemodel")
    assert run("edit", SMALL[0], "weights.caffemodel", "--until", "fc", "-q").code == 0
    assert {path.name for path in folder.glob("*_edited.*")} == {
        "weights_edited.caffemodel", "small_edited.json", "small_edited.prototxt"
    }  # fmt: skip
    assert "..: is a folder" in refuses(folder, "edit", "..", "--until", "fc")


def test_files_are_replaced_as_everywhere(folder: Path) -> None:
    assert run("edit", *SMALL, "--until", "fc", "-q").code == 0
    assert sorted(path.name for path in folder.glob("*_edited.*")) == [
        "small_edited.caffemodel", "small_edited.json", "small_edited.prototxt"
    ]  # fmt: skip
    before = listing(folder)
    assert run("edit", *SMALL, "--until", "fc", "-q") == (0, "", "")
    assert listing(folder) == before
    assert "# option: --until fc\n" in Path("small_edited.prototxt").read_text()
    Path("small_edited.prototxt").write_text("mine")
    assert "nothing shows that nnie_prep made it" in refuses(folder, "edit", *SMALL, "--until", "fc")
    assert run("edit", *SMALL, "--until", "fc", "-q", "--force").code == 0
    assert "is the input" in refuses(folder, "edit", *SMALL, "--until", "fc", "-o", "small", "--force")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "no edit is given; give --until"),
        (("--until", "nothing"), "small.prototxt: the net has no blob 'nothing'"),
        (("--from", "data"), "blob 'data' is an input already"),
        (("--rename-layer", "fc"), "--rename-layer fc: names no two things; write --rename-layer OLD=NEW"),
        (("--batch", "two"), "--batch two: is no list of numbers; write --batch 2"),
        (("--batch", "2,3"), "--batch 2,3: takes one number"),
        (("--input-shape", "data=1,3,x"), "--input-shape 1,3,x: is no list of numbers"),
        (("--input-shape", "1,4,11,13"), "small.prototxt:7"),
        (("--drop", "pictures"), "layer 'pictures' is a source that others read"),
        (("--set", "layer[name=conv].convolution_param.pad"), "has no value; write --set 'layer["),
        (("--set", "layer[name=conv].convolution_param.num_output=12"),
         "have shapes 6x1x3x3, and it would need 12x1x3x3"),
        (("--set", "layer[name=a=b].type=X"), "the net has no layer 'a=b'"),
        (("--until", "fc", "-o", ""), "names no file"),
        (("--until", "fc", "-o", "no/where"), "the folder to write to does not exist"),
    ],
)  # fmt: skip
def test_mistakes(folder: Path, arguments: tuple[str, ...], says: str) -> None:
    assert says in refuses(folder, "edit", *SMALL, *arguments)


@pytest.mark.caffe
def test_in_caffe(folder: Path) -> None:
    for cut in ("--until", "--from"):
        done = run("edit", *SMALL, cut, "dropped", "-o", f"e{cut}", "--engine", "caffe")
        assert done.code == 0 and "on the caffe engine" in done.out, done
