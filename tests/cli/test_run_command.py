"""`run`: what it saves is what the engine computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cli_cases import refuses, run

from nnie_prep.caffe_io import read_net
from nnie_prep.engines import numpy as numpy_engine

PAIR = ("small.prototxt", "small.caffemodel")


@pytest.fixture
def picture(folder: Path) -> np.ndarray:
    values = np.random.default_rng(5).normal(0, 50, (1, 3, 11, 13)).astype(np.float32)
    np.save("x.npy", values)
    return values


@pytest.mark.parametrize(("blobs", "names"), [("outputs", ["prob"]), ("all", None)])
def test_blobs_are_the_engines(picture: np.ndarray, blobs: str, names: list[str] | None) -> None:
    done = run("run", *PAIR, "--input", "x.npy", "--output", "y.npz", "--blobs", blobs)
    assert (done.code, done.err) == (0, "") and done.out.splitlines()[-1] == "wrote y.npz"
    net = read_net(*map(Path, PAIR))
    expected = numpy_engine.forward(net, {"data": picture}, names)
    with np.load("y.npz") as found:
        assert sorted(found.files) == sorted(names or ["data", "conv", "dropped", "fc", "prob"])
        for name in found.files:
            assert found[name].dtype == np.float32
            np.testing.assert_array_equal(found[name], expected[name])
    assert abs(float(expected["prob"].sum()) - 1) < 1e-6


@pytest.mark.caffe
def test_caffe_computes_the_same(picture: np.ndarray) -> None:
    for engine in ("numpy", "caffe"):
        done = run(
            "run", *PAIR, "--input", "x.npy", "-o", f"{engine}.npz", "--blobs", "all", "--engine", engine
        )
        assert (done.code, done.err) == (0, "")
    with np.load("numpy.npz") as ours, np.load("caffe.npz") as theirs:
        assert ours.files == theirs.files
        for name in ours.files:
            scale = max(float(theirs[name].std()), 1e-12)
            assert float(np.abs(ours[name] - theirs[name]).max()) < 1e-5 * scale, name


def test_the_same_run_gives_the_same_bytes(picture: np.ndarray) -> None:
    np.savez("x.npz", data=picture[0].astype(np.float64))  # no batch axis, another type
    for name, file in (("a", "x.npy"), ("b", "x.npy"), ("c", "x.npz")):
        assert run("run", *PAIR, "--input", file, "-o", f"{name}.npz", "-q").code == 0
    assert Path("a.npz").read_bytes() == Path("b.npz").read_bytes()
    with np.load("a.npz") as one, np.load("c.npz") as other:
        np.testing.assert_array_equal(one["prob"], other["prob"])


def test_pictures_of_another_number_and_size(folder: Path) -> None:
    text = Path("small.prototxt").read_text()
    Path("conv.prototxt").write_text(text[: text.index('layer { name: "drop"')])
    np.save("x.npy", np.random.default_rng(0).normal(0, 1, (2, 3, 9, 21)))
    assert run("run", "conv.prototxt", PAIR[1], "--input", "x.npy", "-o", "y.npz", "-q").code == 0
    with np.load("y.npz") as found:
        assert found["conv"].shape == (2, 6, 4, 10)
    # An inner product takes one size alone.
    message = refuses(folder, "run", *PAIR, "--input", "x.npy", "-o", "z.npz")
    assert "small.prototxt:13" in message


@pytest.mark.parametrize("name", ["file", "a/b", "args", "x.npy", "ünï"])
def test_any_blob_name_can_be_saved(picture: np.ndarray, name: str) -> None:
    text = Path("small.prototxt").read_text().replace('top: "prob"', f'top: "{name}"')
    Path("named.prototxt").write_text(text)
    assert run("run", "named.prototxt", PAIR[1], "--input", "x.npy", "-o", "y.npz", "-q").code == 0
    with np.load("y.npz") as found:
        assert [*found] == [name] and found[name].shape == (1, 5)


def test_what_may_be_overwritten(picture: np.ndarray) -> None:
    arguments = ("run", *PAIR, "--input", "x.npy", "-q")
    for output in (*PAIR, "x.npy"):
        assert "is the input" in refuses(Path(), *arguments, "-o", output, "--force")
    assert "y.npy: is to be an .npz" in refuses(Path(), *arguments, "-o", "y.npy")
    assert run(*arguments, "-o", "y.npz").code == 0
    first = Path("y.npz").read_bytes()
    assert run(*arguments, "-o", "y.npz").code == 0 and Path("y.npz").read_bytes() == first
    assert run(*arguments, "-o", "y.npz", "--blobs", "all").code == 0
    np.savez("y.npz", prob=np.zeros(5))
    assert "nothing shows that nnie_prep made it" in refuses(Path(), *arguments, "-o", "y.npz")
    Path("y.npz").write_bytes(b"\0" + first)
    assert "was edited after nnie_prep wrote it" in refuses(Path(), *arguments, "-o", "y.npz")
    assert run(*arguments, "-o", "y.npz", "--force").code == 0
    np.save("x.npy", picture + 1)
    assert "was made from other inputs or other versions" in refuses(Path(), *arguments, "-o", "y.npz")


def test_an_unknown_layer_before_an_output(picture: np.ndarray) -> None:
    text = Path("small.prototxt").read_text().replace('type: "Softmax"', 'type: "Sparsemax"')
    Path("odd.prototxt").write_text(text)
    message = refuses(Path(), "run", "odd.prototxt", PAIR[1], "--input", "x.npy", "-o", "y.npz")
    assert "prob" in message and "--engine caffe" in message
