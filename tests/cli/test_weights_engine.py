"""--weights-engine and --save-with: Caffe reads and writes the weights, and nothing else is changed by it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from caffe_case import save_hdf5
from cli_cases import refuses, run

from nnie_prep.caffe_io import read_caffemodel
from nnie_prep.nnie_caffe_pb2 import NetParameter

PYCAFFE = ("--weights-engine", "pycaffe")


@pytest.fixture
def hdf5(folder: Path) -> Path:
    """small.caffemodel.h5 beside the pair."""
    return save_hdf5(
        folder / "small.prototxt", folder / "small.caffemodel", folder / "small.caffemodel.h5"
    ).relative_to(folder)


@pytest.mark.caffe
@pytest.mark.parametrize("name_of_input", ["small.caffemodel.h5", "small.h5"])
@pytest.mark.parametrize(
    ("command", "suffix"),
    [
        ("prepare", "_nnie"),
        ("merge-bn", "_inference"),
        ("add-bias", "_bias"),
        ("strip", "_stripped"),
        ("edit --until fc", "_edited"),
    ],
)
def test_the_same_files_from_hdf5(
    folder: Path, hdf5: Path, command: str, suffix: str, name_of_input: str
) -> None:
    """Named after the input, as ever; but what is written is no HDF5 file."""
    name, *arguments = command.split()
    assert run(name, "small.prototxt", "small.caffemodel", *arguments, "-q", "-o", "ours") == (0, "", "")
    done = run(name, "small.prototxt", hdf5.rename(name_of_input), *PYCAFFE, *arguments, "--json")
    assert (done.code, done.err) == (0, "")
    written = {Path(path) for path in json.loads(done.out)["outputs"]}
    stem = f"small{suffix}"
    ends = [".prototxt", ".caffemodel", ".json"] + [".report.txt"] * (name == "prepare")
    assert written == {Path(stem + end) for end in ends}
    assert Path(f"{stem}.caffemodel").read_bytes() == Path("ours.caffemodel").read_bytes()
    bodies = [Path(f"{one}.prototxt").read_text().partition("\n\n")[2] for one in (stem, "ours")]
    assert bodies[0] == bodies[1] != ""


@pytest.mark.caffe
@pytest.mark.parametrize(
    "command",
    [
        "verify small.prototxt WEIGHTS small_inference.prototxt small_inference.caffemodel -v",
        "show small.prototxt WEIGHTS",
        "diff small.prototxt WEIGHTS small_inference.prototxt small_inference.caffemodel",
        "diff small.prototxt WEIGHTS small_inference.prototxt",
        "check small.prototxt WEIGHTS",
        "quantize-sim small.prototxt WEIGHTS --input x.npy",
        "run small.prototxt WEIGHTS --input x.npy -o y.npz --blobs all --force",
    ],
)
def test_the_same_answer_from_hdf5(folder: Path, hdf5: Path, command: str) -> None:
    assert run("merge-bn", "small.prototxt", "small.caffemodel", "-q").code == 0
    np.save("x.npy", np.random.default_rng(0).normal(size=(1, 3, 11, 13)).astype(np.float32))
    answers = []
    for weights, options in (("small.caffemodel", ()), (str(hdf5), PYCAFFE)):
        done = run(*command.replace("WEIGHTS", weights).split(), *options)
        assert done.err == "" and done.out
        said = done.out.replace(weights, "WEIGHTS")  # in commands that are proposed
        answers.append(((done.code, said), dict(np.load("y.npz")) if "y.npz" in command else {}))
    assert answers[0][0] == answers[1][0]
    for name, values in answers[0][1].items():
        np.testing.assert_array_equal(answers[1][1][name], values)


@pytest.mark.caffe
def test_detect_from_hdf5(folder: Path) -> None:
    shutil.copy(Path(__file__).parent.parent / "data" / "photo.jpg", "photo.jpg")
    assert run("prepare", "net.cfg", "net.weights", "-q").code == 0
    weights = save_hdf5(Path("net.prototxt"), Path("net.caffemodel"), Path("elsewhere.h5"))
    shown = [
        run("detect", "net.prototxt", *given, "photo.jpg", "--threshold", "0.4", "--force", "--json")
        for given in (["net.caffemodel"], [weights, *PYCAFFE])
    ]
    # The prototxt says with which caffemodel it was written, and an HDF5 file is another.
    assert "is not the file that net.prototxt was written with" in shown[1].err
    text = Path("net.prototxt").read_text()
    Path("net.prototxt").write_text(text.partition("\n\n")[2])
    again = run(
        *("detect", "net.prototxt", weights, *PYCAFFE, "photo.jpg", "--threshold", "0.4", "--force"), "--json"
    )
    assert json.loads(shown[0].out)["detections"]
    assert (again.out, again.code) == (shown[0].out, 0)


@pytest.mark.caffe
@pytest.mark.parametrize(
    "command",
    [
        "prepare net.cfg net.weights",
        "darknet2caffe net.cfg net.weights",
        "merge-bn small.prototxt small.caffemodel",
        "edit small.prototxt small.caffemodel --rename-blob data=image",
    ],
)
def test_saved_by_caffe(folder: Path, command: str) -> None:
    """The same blobs in a file that is Caffe's own, which the prototxt vouches for; twice the same."""
    assert run(*command.split(), "-o", "ours").code == 0
    for _ in range(2):  # replaced without --force, since it is known
        assert run(*command.split(), "-o", "theirs", "--save-with", "pycaffe", "-q") == (0, "", "")
    assert "# option: --save-with pycaffe" in Path("theirs.prototxt").read_text()
    ours, theirs = (
        {layer.name: layer.blobs for layer in read_caffemodel(Path(name)) if layer.blobs}
        for name in ("ours.caffemodel", "theirs.caffemodel")
    )
    assert list(ours) == list(theirs)
    for name, blobs in ours.items():
        for mine, his in zip(blobs, theirs[name], strict=True):
            assert mine.shape == his.shape
            np.testing.assert_array_equal(np.asarray(mine.values), np.asarray(his.values))
    message = NetParameter.FromString(Path("theirs.caffemodel").read_bytes())
    assert all(layer.HasField("phase") for layer in message.layer)  # as Caffe's net writes it
    assert run("show", "theirs.prototxt", "theirs.caffemodel").code == 0


@pytest.mark.parametrize("command", re.findall(r"^    ([a-z][\w-]+)", run("--help").out, re.M))
def test_every_command_that_reads_a_caffemodel_has_the_engine(command: str) -> None:
    """Else the advice that an HDF5 file is answered with could not be followed."""
    usage, _, explained = run(command, "--help").out.partition("\n\n")
    reads = re.search(r"CAFFEMODEL|\.caffemodel", usage + explained.partition("Example:")[0])
    assert ("--weights-engine" in usage) == bool(reads)
    assert "--caffe-python" in usage or not reads


@pytest.mark.caffe
def test_nothing_appears_where_caffe_stops(folder: Path) -> None:
    """What only other Caffes know is written by our own writer; here Net.save does not come to it."""
    text = Path("small.prototxt").read_text().replace('type: "Softmax"', 'type: "Unheard"')
    Path("small.prototxt").write_text(text)
    said = refuses(
        folder,
        *("merge-bn", "small.prototxt", "small.caffemodel", "--no-verify", "--save-with", "pycaffe"),
    )
    assert "small.prototxt: Caffe stopped: " in said and "Unknown layer type: Unheard" in said
    assert run("merge-bn", "small.prototxt", "small.caffemodel", "--no-verify", "-q").code == 0


@pytest.mark.caffe
def test_hdf5_without_the_engine(folder: Path, hdf5: Path) -> None:
    said = refuses(folder, "merge-bn", "small.prototxt", hdf5)
    assert said.startswith("small.caffemodel.h5: is an HDF5 file") and "--weights-engine pycaffe" in said


def test_a_darknet_network_is_none_of_caffes(folder: Path) -> None:
    said = refuses(folder, "prepare", "net.cfg", "net.weights", *PYCAFFE)
    assert said.startswith("net.weights: --weights-engine pycaffe reads Caffe models")


@pytest.mark.parametrize("option", [PYCAFFE, ("--save-with", "pycaffe")])
def test_a_python_that_is_not_there(folder: Path, option: tuple[str, str]) -> None:
    said = refuses(folder, "strip", "small.prototxt", "small.caffemodel", *option, "--caffe-python", "./none")
    assert said.startswith("--caffe-python: ./none cannot be run")
