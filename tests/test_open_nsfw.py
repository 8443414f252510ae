"""Yahoo's open_nsfw, a real ResNet in Caffe with its own weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from cli_cases import run

from nnie_prep.caffe_io import read_net
from nnie_prep.cli import main
from nnie_prep.engines import numpy as numpy_engine
from nnie_prep.proof import Engine


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory, open_nsfw) -> Path:
    """A folder with the pair, and what merge-bn made of it."""
    folder = tmp_path_factory.mktemp("open_nsfw")
    shutil.copy(open_nsfw.description, folder / "net.prototxt")
    shutil.copy(open_nsfw.weights, folder / "net.caffemodel")
    assert main(["merge-bn", str(folder / "net.prototxt"), str(folder / "net.caffemodel"), "-q"]) == 0
    return folder


def test_every_pair_folds(merged: Path) -> None:
    before = read_net(merged / "net.prototxt")
    after = read_net(merged / "net_inference.prototxt")
    types = [layer.type for layer in before.layers]
    assert types.count("BatchNorm") == types.count("Scale") == 53
    left = [layer.type for layer in after.layers]
    assert not {"BatchNorm", "Scale", "Dropout"}.intersection(left)
    assert len(left) == len(types) - 106
    fates = json.loads((merged / "net_inference.json").read_bytes())["blobs"]
    assert {name for name, fate in fates.items() if "none" in fate} == set(before.blob_names()) - set(
        after.blob_names()
    )


def test_what_the_file_has_beside_weights_is_named_and_stops_nobody(merged: Path, tmp_path: Path) -> None:
    """Its data layer has a parameter that Yahoo's Caffe numbered 10001."""
    pair = [str(merged / name) for name in ("net.prototxt", "net.caffemodel")]
    done = run("merge-bn", *pair, "-o", str(tmp_path / "out"), "--no-verify", "--strict", "--json")
    assert (done.code, done.err) == (0, "")
    document = json.loads(done.out)
    assert document["warnings"] == []
    (note,) = document["left_out"]
    assert note.startswith(f"{pair[1]}: fields that are not known here") and note.endswith(
        ": 10001 in 1 layer(s)"
    )


def _outputs(merged: Path, engine: Engine, photo: np.ndarray) -> list[np.ndarray]:
    """prob, and the logits before it, of the net and of the merged net."""
    picture = photo[::-1, :224, 140:364] * 255 - np.array([104, 117, 123]).reshape(3, 1, 1)
    feeds = {"data": picture[np.newaxis].astype(np.float32)}
    pairs = [("net.prototxt", "net.caffemodel"), ("net_inference.prototxt", "net_inference.caffemodel")]
    values = [engine.run(read_net(*(merged / name for name in pair)), feeds) for pair in pairs]
    return [value[blob] for blob in ("prob", "fc_nsfw") for value in values]


@pytest.mark.parametrize("engine", ["numpy", pytest.param("caffe", marks=pytest.mark.caffe)])
def test_the_output_on_a_photo_is_unchanged(merged: Path, photo: np.ndarray, engine: str) -> None:
    """Within 1e-6 for the probabilities; 1e-5 for the logits, which are of the order of 1."""
    before, after, logits, logits_after = _outputs(merged, Engine(engine), photo)
    assert before.std() > 0.1  # an answer, not an even draw
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-6)
    np.testing.assert_allclose(logits_after, logits, rtol=0, atol=1e-5)


@pytest.mark.caffe
def test_both_engines_agree(merged: Path, photo: np.ndarray) -> None:
    ours, theirs = (_outputs(merged, Engine(name), photo)[1] for name in ("numpy", "caffe"))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
    assert numpy_engine.unsupported(read_net(merged / "net.prototxt")) == []
