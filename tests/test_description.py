"""STEM.json: what it says is true of the values in the pair beside it, through any number of commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_cases import CFG, run, write_caffe, write_darknet
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from nnie_prep.blob_map import BlobMap, Fate, Note, place
from nnie_prep.caffe_io import read_net
from nnie_prep.darknet import reference
from nnie_prep.description import as_text, describe_surgery
from nnie_prep.engines import numpy as numpy_engine
from nnie_prep.errors import UserError

SMALL = st.dictionaries(st.text(max_size=3), st.integers(), max_size=3)
X = np.random.default_rng(3).uniform(0, 1, (1, 3, 16, 24)).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_darknet(tmp_path)
    write_caffe(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def described(stem: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(Path(f"{stem}.json").read_text())
    return document


def values(stem: str, x: NDArray[np.float32] = X) -> dict[str, NDArray[np.float32]]:
    net = read_net(Path(f"{stem}.prototxt"), Path(f"{stem}.caffemodel"))
    return numpy_engine.forward(net, {"data": x})


@pytest.mark.parametrize("command", ["prepare", "darknet2caffe"])
@pytest.mark.parametrize("target", ["nnie", "caffe"])
def test_every_darknet_layer_is_where_it_is_said_to_be(folder: Path, command: str, target: str) -> None:
    assert run(command, "net.cfg", "net.weights", "-o", "x", "--target", target).code == 0
    document = described("x")
    headers = [(number, line[1:-1]) for number, line in enumerate(CFG.splitlines(), 1) if line[:1] == "["]
    assert [(layer["index"], layer["line"], layer["section"]) for layer in document["layers"]] == [
        (index, line, section) for index, (line, section) in enumerate(headers[1:])
    ]
    found = values("x")
    judge = reference.load(Path("net.cfg"), Path("net.weights"))
    for layer, (_, expected) in zip(document["layers"], judge.iterate(X[0]), strict=True):
        if layer["section"] != "yolo":
            assert expected is not None
            blob = found[layer["blob"]].reshape(expected.shape)
            assert float(np.abs(blob - expected).max()) < 1e-5 * float(expected.std())
    assert document["layers"][-1]["none"] == "a yolo head: decoded on the CPU"


def test_the_head_is_described(folder: Path) -> None:
    assert run("prepare", "net.cfg", "net.weights", "-o", "x").code == 0
    document = described("x")
    (head,) = document["heads"]
    assert head["type"] == "yolo" and head["index"] == 10
    assert head["blob"] == document["layers"][9]["blob"]
    assert head["classes"] == 2 and np.ravel(head["anchors"]).tolist() == [10, 14, 23, 27, 37, 58]
    assert head["stride"] == 2
    assert document["input"]["shape"] == [1, 3, 16, 24]
    assert document["made_by"]["command"] == "nnie_prep 0.1.0 prepare"
    assert [entry["name"] for entry in document["made_by"]["inputs"]] == ["net.cfg", "net.weights"]
    assert [entry["name"] for entry in document["made_by"]["outputs"]] == ["x.caffemodel"]


def test_two_steps_say_what_one_step_says(folder: Path) -> None:
    """The description goes with the pair through every later command."""
    assert run("prepare", "net.cfg", "net.weights", "-o", "one").code == 0
    assert run("darknet2caffe", "net.cfg", "net.weights", "-o", "first").code == 0
    assert run("add-bias", "first.prototxt", "first.caffemodel", "-o", "second").code == 0
    assert run("merge-bn", "second.prototxt", "second.caffemodel", "-o", "third").code == 0
    one, third = described("one"), described("third")
    assert one["made_by"] != third["made_by"]
    del one["made_by"], third["made_by"]
    assert one == third
    judge = reference.load(Path("net.cfg"), Path("net.weights"))
    found = values("third")
    for layer, (_, expected) in zip(third["layers"], judge.iterate(X[0]), strict=True):
        if layer["section"] != "yolo":
            assert expected is not None
            assert np.abs(found[layer["blob"]].ravel() - expected.ravel()).max() < 1e-5 * expected.std()


def test_what_became_of_a_caffe_nets_blobs(folder: Path) -> None:
    text = Path("small.prototxt").read_text()
    # not in place, so that names are lost
    text = text.replace('bottom: "conv" top: "conv" batch', 'bottom: "conv" top: "bn" batch')
    text = text.replace('bottom: "conv" top: "conv" scale', 'bottom: "bn" top: "scaled" scale')
    text = text.replace('type: "ReLU" bottom: "conv"', 'type: "ReLU" bottom: "scaled"')
    text = text.replace('top: "conv" }\nlayer { name: "drop"', 'top: "act" }\nlayer { name: "drop"')
    text = text.replace('bottom: "conv" top: "dropped"', 'bottom: "act" top: "dropped"')
    Path("small.prototxt").write_text(text)
    assert run("merge-bn", "small.prototxt", "small.caffemodel", "-o", "x").code == 0
    document = described("x")
    blobs = document["blobs"]
    assert list(blobs) == ["data", "conv", "bn", "scaled", "act", "dropped", "fc", "prob"]
    gone = {name for name, entry in blobs.items() if "none" in entry}
    assert gone == {"conv", "bn"} and all("folded into conv" in blobs[name]["none"] for name in gone)
    x = np.random.default_rng(0).normal(0, 50, (1, 3, 11, 13)).astype(np.float32)
    before, after = values("small", x), values("x", x)
    for name, entry in blobs.items():
        if "blob" in entry:
            np.testing.assert_allclose(
                after[entry["blob"]], before[name], rtol=0, atol=1e-5 * float(before[name].std())
            )
    # the next command follows what the file says, from the first net on
    assert run("strip", "x.prototxt", "x.caffemodel", "-o", "y").code == 0
    assert described("y")["blobs"] == blobs


@pytest.mark.parametrize(
    "change",
    [
        lambda: Path("x.json").unlink(),
        lambda: Path("x.json").write_text(Path("x.json").read_text() + "\n"),
        lambda: Path("x.json").write_text("{}"),
        lambda: Path("x.prototxt").write_text(Path("x.prototxt").read_text().partition("\n\n")[2]),
    ],
)
def test_a_description_that_is_not_this_pairs_is_not_believed(folder: Path, change: Any) -> None:
    assert run("darknet2caffe", "net.cfg", "net.weights", "-o", "x").code == 0
    change()
    assert run("merge-bn", "x.prototxt", "x.caffemodel", "-o", "y").code == 0
    assert described("y").keys() == {"made_by", "blobs"}


def test_splits_and_losses() -> None:
    assert place(Fate(("a",))) == {"blob": "a"}
    assert place(Fate(("a", "b"))) == {"blobs": ["a", "b"]}
    assert place(Fate((), "folded into c")) == {"none": "folded into c"}


def test_entries_follow_the_map(folder: Path) -> None:
    """A later pass splits one blob, renames another and folds a third."""
    assert run("darknet2caffe", "net.cfg", "net.weights", "-o", "x").code == 0
    net = read_net(Path("x.prototxt"))
    blob_map = BlobMap(net.blob_names())
    fates = {
        "layer9-concat": Fate(("left", "right")),
        "layer10-conv": Fate(("head",)),
        "layer8-upsample": Fate((), "folded into layer9"),
    }
    blob_map.follow([Note("layer9", "split", fates=fates)])
    blob_map.follow([Note("left", "split again", fates={"left": Fate(("l1", "l2"))})])
    document = describe_surgery(Path("x.prototxt"), blob_map)
    layers = {layer["index"]: layer for layer in document["layers"]}
    assert layers[8]["blobs"] == ["l1", "l2", "right"] and "blob" not in layers[8]
    assert layers[9]["blob"] == document["heads"][0]["blob"] == "head"
    assert layers[7]["none"] == "folded into layer9" and "blob" not in layers[7]
    assert layers[0]["blob"] == "layer1-conv"


def test_a_description_that_is_no_json(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The head of the prototxt vouches for it, and yet it cannot be read."""
    from nnie_prep import description

    assert run("darknet2caffe", "net.cfg", "net.weights", "-o", "x").code == 0
    Path("x.json").write_text("{")
    made = description.made_from(Path("x.prototxt"))
    assert made is not None
    monkeypatch.setattr(description, "hash_of", lambda path: made.output_hashes()[-1])
    with pytest.raises(UserError, match="is not JSON") as caught:
        describe_surgery(Path("x.prototxt"), BlobMap([]))
    assert caught.value.where == "x.json"


@given(
    st.dictionaries(
        st.text(max_size=5),
        st.integers()
        | st.text(max_size=5)
        | st.lists(
            st.integers() | st.dictionaries(st.text(max_size=3), st.integers(), max_size=3), max_size=3
        )
        | st.dictionaries(st.text(max_size=3), st.lists(st.integers(), max_size=2), max_size=3),
        max_size=5,
    )
)
def test_text_is_the_same_json(document) -> None:
    text = as_text(document)
    assert json.loads(text) == document
