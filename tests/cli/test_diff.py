"""`diff`: the files it takes, its answer, what people and machines read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli_cases import listing, refuses, run

from nnie_prep.caffe_io import format_prototxt, read_net, write_caffemodel

SMALL = ("small.prototxt", "small.caffemodel")


@pytest.fixture
def other(folder: Path) -> tuple[str, str]:
    """The classifier with another stride, one weight off by 3, a layer less and one more."""
    net = read_net(*map(Path, SMALL))
    net.layers[1].proto.convolution_param.ClearField("bias_term")
    net.layers[1].blobs.append(np.zeros(6, np.float32))
    scale = np.asarray(net.layers[3].blobs[0]).copy()
    scale[0] += 3
    net.layers[3].blobs[0] = scale
    assert net.bypass(net.layers[5]) == ""
    net.layers[-1].tops = ["answer"]
    Path("other.prototxt").write_text(format_prototxt(net))
    with Path("other.caffemodel").open("wb") as file:
        write_caffemodel(net, file)
    return "other.prototxt", "other.caffemodel"


def test_a_net_and_itself(folder: Path) -> None:
    before = listing(folder)
    for files in (SMALL * 2, (SMALL[0],) * 2, (*SMALL, SMALL[0]), (SMALL[0], *SMALL)):
        done = run("diff", *files)
        assert done.code == 0 and done.err == "" and done.out.startswith("EQUAL: 0 removed, "), done
        assert "8 common layers" in done.out
        assert run("diff", *files, "-q") == (0, "", "")
    assert listing(folder) == before


def test_what_people_read(other: tuple[str, str]) -> None:
    done = run("diff", *SMALL, *other)
    assert done.code == 1 and done.err == ""
    rows = [line.split() for line in done.out.splitlines()]
    assert done.out.startswith("DIFFERS: 1 removed, 0 added, 0 moved, 4 changed of 7 common layers\n")
    for row in (
        ["outputs", "prob", "answer"],
        ["drop", "Dropout", "small.prototxt:12"],
        ["conv", "convolution_param.bias_term", "False", "unset"],
        ["fc", "bottom", "dropped", "conv"],
        ["prob", "top", "prob", "answer"],
        ["conv", "1", "none", "6"],
        ["scale", "0", "6", "6", "1", "3.0e+00", "1.5e+00"],  # the largest of its values is 2
    ):
        assert row in rows, (row, done.out)
    assert run("diff", *other, *SMALL).code == 1
    assert run("diff", *SMALL, *other, "-q") == (1, "", "")


def test_shapes_that_differ(folder: Path) -> None:
    text = Path(SMALL[0]).read_text()
    Path("other.prototxt").write_text(text.replace("dim: 11 dim: 13", "dim: 12 dim: 15"))
    done = run("diff", SMALL[0], "other.prototxt")
    rows = [line.split() for line in done.out.splitlines()]
    assert done.code == 1 and ["layer", "top", "A", "B"] in rows
    assert ["conv", "conv", "1x6x5x6", "1x6x5x7"] in rows


def test_weights_are_compared_where_both_have_them(other: tuple[str, str]) -> None:
    for files, missing in (
        ((SMALL[0], *other), "A"),
        ((*SMALL, other[0]), "B"),
        ((SMALL[0], other[0]), "A and B"),
    ):
        done = run("diff", *files)
        assert done.code == 1
        assert f"weights not compared: no caffemodel is given for {missing}\n" in done.out
        assert "relative" not in done.out
        document = json.loads(run("diff", *files, "--json").out)
        assert not document["weights_compared"]
        (conv,) = [change for change in document["changed"] if change["name"] == "conv"]
        # what the parameters imply
        assert conv["weights"] == [
            {"index": 1, "a": None, "b": [6], "differing": None, "max_abs": None, "relative": None}
        ]


def test_what_machines_read(other: tuple[str, str]) -> None:
    done = run("diff", *SMALL, *other, "--json")
    assert done.code == 1
    document = json.loads(done.out)
    assert not document["equal"] and document["weights_compared"]
    assert document["a"] == {"files": list(SMALL), "layers": 8}
    assert document["b"] == {"files": list(other), "layers": 7}
    assert document["header"] == [{"what": "outputs", "a": ["prob"], "b": ["answer"]}]
    assert document["added"] == [] and document["moved"] == []
    assert document["removed"] == [
        {"name": "drop", "type": "Dropout", "bottoms": ["conv"], "tops": ["dropped"],
         "origin": "small.prototxt:12"}
    ]  # fmt: skip
    by_name = {change["name"]: change for change in document["changed"]}
    assert list(by_name) == ["conv", "scale", "fc", "prob"]
    assert by_name["conv"]["parameters"] == [{"what": "convolution_param.bias_term", "a": False, "b": None}]
    (blob,) = by_name["scale"]["weights"]
    assert blob == {
        "index": 0, "a": [6], "b": [6], "differing": 1, "max_abs": 3.0, "relative": 1.5
    }  # fmt: skip
    assert by_name["prob"]["parameters"] == [{"what": "top", "a": ["prob"], "b": ["answer"]}]
    assert by_name["prob"]["origins"][0] == "small.prototxt:17"
    assert json.loads(run("diff", *SMALL, *SMALL, "--json").out)["equal"] is True


def test_infinities_in_json(folder: Path) -> None:
    net = read_net(*map(Path, SMALL))
    net.layers[3].blobs[1] = np.full(6, np.nan, np.float32)
    with Path("nan.caffemodel").open("wb") as file:
        write_caffemodel(net, file)
    done = run("diff", *SMALL, SMALL[0], "nan.caffemodel", "--json")
    (change,) = json.loads(done.out, parse_constant=lambda text: pytest.fail(text))["changed"]
    assert change["weights"][0]["max_abs"] == change["weights"][0]["relative"] == "inf"
    assert "inf" in run("diff", *SMALL, SMALL[0], "nan.caffemodel").out


def test_a_long_table_is_cut_unless_all_is_asked_for(folder: Path) -> None:
    layers = [f'layer {{ name: "p{i}" type: "Power" bottom: "data" top: "p{i}" }}\n' for i in range(26)]
    Path("many.prototxt").write_text('input: "data" input_shape { dim: 1 dim: 2 }\n' + "".join(layers))
    Path("few.prototxt").write_text('input: "data" input_shape { dim: 1 dim: 2 }\n' + "".join(layers[:5]))
    done = run("diff", "many.prototxt", "few.prototxt")
    assert "and 2 more in removed (-v lists them)" in done.out
    assert "\np23 " in done.out and "\np24 " not in done.out
    done = run("diff", "many.prototxt", "few.prototxt", "-v")
    assert "(-v" not in done.out and all(f"\np{i} " in done.out for i in range(5, 26))


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (SMALL, "1 prototxt given, and two nets are compared; give A.prototxt"),
        ((SMALL[0],) * 3, "3 prototxts given"),
        ((SMALL[1], SMALL[0]), "small.caffemodel: is weights without a prototxt before it"),
        ((SMALL[0], SMALL[1], SMALL[1]), "small.caffemodel: is weights without"),
        ((SMALL[0], "none.prototxt"), "none.prototxt: cannot be read"),
        ((*SMALL, SMALL[0], "net.weights"), "net.weights: is not a whole caffemodel"),
        ((SMALL[0], "net.cfg"), "net.cfg:1:2"),
    ],
)
def test_mistakes(folder: Path, files: tuple[str, ...], says: str) -> None:
    assert says in refuses(folder, "diff", *files)


def test_weights_that_the_prototxt_does_not_have(folder: Path) -> None:
    text = Path(SMALL[0]).read_text()
    text = text[: text.index('layer { name: "fc"')]
    Path("cut.prototxt").write_text(text)
    done = run("diff", *SMALL, "cut.prototxt", SMALL[1])
    assert done.code == 1 and done.err.startswith("nnie_prep: warning: small.caffemodel: weights of 1 layer")
