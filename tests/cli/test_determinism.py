"""The same inputs give the same bytes: in another folder, in another process, proven or not."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from cli_cases import environment, listing, run, spawn, write_caffe, write_darknet

from nnie_prep import __version__, passes
from nnie_prep.nnie_caffe_pb2 import BlobProto, BlobShape, LayerParameter, NetParameter

pytestmark = pytest.mark.slow

COMMANDS = (
    ("prepare", "net.cfg", "net.weights", "-o", "out"),
    ("prepare", "net.cfg", "net.weights", "-o", "out", "--target", "caffe"),
    ("darknet2caffe", "net.cfg", "net.weights", "-o", "out"),
    ("merge-bn", "small.prototxt", "small.caffemodel", "-o", "out"),
    ("strip", "small.prototxt", "small.caffemodel", "-o", "out"),
)


def outputs(folder: Path) -> list[bytes]:
    """The bytes of the three files, which are then removed; the inputs must be as they were."""
    found = [(folder / f"out.{suffix}") for suffix in ("prototxt", "caffemodel", "json")]
    content = [path.read_bytes() for path in found]
    for path in [*found, *folder.glob("out.report.txt")]:
        path.unlink()
    return content


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: " ".join(arguments[:3]))
def test_the_same_bytes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: Sequence[str]
) -> None:
    inputs = listing(folder)
    assert run(*arguments).code == 0
    first = outputs(folder)
    assert listing(folder) == inputs

    assert run(*arguments, "--no-verify", "-q").code == 0
    assert outputs(folder) == first
    assert run(*arguments, "--seed", "7", "--tolerance", "1e-3", "--json").code == 0
    assert outputs(folder) == first
    assert run(*arguments).code == run(*arguments).code == 0  # over its own
    assert outputs(folder) == first
    if arguments[0] == "prepare":
        assert run(*arguments, "--chip", "hi3516dv300").code == 0
        assert outputs(folder) == first
    for seed in ("0", "4242"):
        assert spawn(*arguments, env=environment(PYTHONHASHSEED=seed, TZ="Asia/Shanghai")).code == 0
        assert outputs(folder) == first

    other = tmp_path / "quite another folder"
    other.mkdir()
    write_darknet(other)
    write_caffe(other)
    monkeypatch.chdir(tmp_path)
    elsewhere = [f"{other}/{name}" if "." in name or name == "out" else name for name in arguments]
    assert run(*elsewhere).code == 0
    assert outputs(other) == first


def processors() -> list[dict[str, str]]:
    """Settings under which NumPy and OpenBLAS compute as they do on older processors."""
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    extensions = [name for name in __cpu_dispatch__ if __cpu_features__.get(name)]
    return [
        {"OPENBLAS_CORETYPE": "Prescott", "OPENBLAS_NUM_THREADS": "1"},
        {"OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_NUM_THREADS": "2"},
        {"OPENBLAS_CORETYPE": "Prescott", "NPY_DISABLE_CPU_FEATURES": " ".join(extensions)},
    ]


@pytest.mark.parametrize("inputs", [("net.cfg", "net.weights"), ("forward.prototxt", "forward.caffemodel")])
def test_the_same_bytes_on_another_processor(folder: Path, inputs: tuple[str, str]) -> None:
    write_forward(folder)
    assert run("prepare", *inputs, "-o", "out").code == 0
    first = outputs(folder)
    for settings in processors():
        assert spawn("prepare", *inputs, "-o", "out", env=environment(**settings)).code == 0
        assert outputs(folder) == first


def write_forward(folder: Path) -> None:
    """A net whose Scales go into the layers behind them, for which sums are taken over weights."""
    random = np.random.default_rng(5)
    (folder / "forward.prototxt").write_text(
        """
        layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 9 dim: 7 dim: 5 } } }
        layer { name: "before" type: "Scale" bottom: "data" top: "before" scale_param { bias_term: true } }
        layer { name: "conv" type: "Convolution" bottom: "before" top: "conv"
                convolution_param { num_output: 21 kernel_size: 3 group: 3 } }
        layer { name: "relu" type: "ReLU" bottom: "conv" top: "relu" }
        layer { name: "between" type: "Scale" bottom: "relu" top: "between" scale_param { bias_term: true } }
        layer { name: "fc" type: "InnerProduct" bottom: "between" top: "fc"
                inner_product_param { num_output: 33 } }
        """
    )
    net = NetParameter()
    for name, *shapes in (
        ("before", (9,), (9,)),
        ("conv", (21, 3, 3, 3), (21,)),
        ("between", (21,), (21,)),
        ("fc", (33, 21 * 5 * 3), (33,)),
    ):
        values = [random.standard_normal(shape) for shape in shapes]
        stored = [BlobProto(shape=BlobShape(dim=one.shape), data=one.ravel()) for one in values]
        net.layer.append(LayerParameter(name=name, blobs=stored))
    (folder / "forward.caffemodel").write_bytes(net.SerializeToString())


DARKNET = ("net.cfg", "net.weights", "-o", "out")
CAFFE = ("small.prototxt", "small.caffemodel", "-o", "out")
REPEATED = (
    *COMMANDS,
    ("prepare", *DARKNET, "--skip", "insert_bias", "--skip", "fold_scale", "--approximate", "pool-2-1"),
    ("darknet2caffe", *DARKNET, "--merge-bn", "--bn-form", "pjreddie-cpu"),
    ("darknet2caffe", *DARKNET, "--flavor", "pjreddie"),
    ("prepare", *DARKNET, "--fold-input", "darknet"),
    ("prepare", *DARKNET, "--upsample", "deconvolution"),
    ("prepare", *CAFFE, "--report", "conv", "--high-precision", "conv", "--cpu", "fc", "--custom", "prob"),
    ("prepare", *CAFFE, "--proposal", "prob"),
    ("merge-bn", *CAFFE, "--until", "conv"),
    ("add-bias", *CAFFE, "--engine-caffe"),
    ("strip", *CAFFE, "--save-with", "pycaffe"),
)
# Where files are, how the result is proven and reported, what is written beside it for the compiler: the
# bytes of the three files are the same with and without.
NO_MATTER = {
    *(
        "--output",
        "--force",
        "--model",
        "--weights",
        "--output_model",
        "--output_weights",
        "--weights-engine",
    ),
    *("--no-verify", "--input", "--seed", "--tolerance", "--engine", "--against", "--darknet-lib"),
    *("--caffe-python", "--strict", "--json", "--quiet", "--verbose", "--help"),
    *("--images", "--chip", "--limits"),
}


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(one, marks=[pytest.mark.caffe] if "pycaffe" in one else [], id=" ".join(one))
        for one in REPEATED
    ],
)
def test_the_record_is_enough_to_repeat_it(folder: Path, arguments: Sequence[str]) -> None:
    """From what STEM.json says: the command, the names of the inputs, and the options."""
    assert run(*arguments, "--no-verify").code == 0
    made = json.loads(Path("out.json").read_text())["made_by"]
    first = outputs(folder)
    name, version, command = made["command"].split()
    assert (name, version) == ("nnie_prep", __version__)
    options = [word for option in made["options"] for word in option.split()]
    inputs = [entry["name"] for entry in made["inputs"]]
    assert run(command, *inputs, *options, "-o", "out", "--no-verify").code == 0
    assert outputs(folder) == first


@pytest.mark.parametrize("command", sorted({one[0] for one in REPEATED}))
def test_no_option_is_left_out_of_the_record(command: str) -> None:
    """Each is repeated above, or is one of those that do not matter to the bytes."""
    offered = set(re.findall(r"(?<![\w-])--[a-z][\w-]+", run(command, "--help").out))
    assert "--skip" in offered
    assert offered - NO_MATTER <= {word for one in REPEATED for word in one}


def test_the_record_names_the_passes(folder: Path) -> None:
    """In the order in which they ran, with what each changed; one that was left out is not among them."""
    inputs = ("small.prototxt", "small.caffemodel")
    done = run("merge-bn", *inputs, "-o", "out", "--skip", "drop_identity", "--json")
    recorded = json.loads(Path("out.json").read_text())["made_by"]["passes"]
    assert list(recorded) == [one for one in passes.names_of(passes.PASSES) if one != "drop_identity"]
    reported = json.loads(done.out)["passes"].items()
    assert recorded == {name: sum(note["changed"] for note in notes) for name, notes in reported}
    assert any(recorded.values()) and not all(recorded.values())
    head = Path("out.prototxt").read_text()
    for name, count in recorded.items():
        assert (f"# {name}: {count} changes" in head) == (count > 0)


def test_inputs_are_never_written_to(folder: Path) -> None:
    np.save("x.npy", np.ones((1, 3, 11, 13), np.float32))
    before = listing(folder)
    times = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    pair = ("small.prototxt", "small.caffemodel")
    for arguments in (
        ("prepare", *pair),
        ("merge-bn", *pair),
        ("add-bias", *pair),
        ("strip", *pair),
        ("verify", *pair, *pair),
        ("run", *pair, "--input", "x.npy", "-o", "y.npz"),
        ("show", *pair),
        ("prepare", "net.cfg", "net.weights"),
        ("prepare", "net.cfg", "net.weights", "--force"),
    ):
        assert run(*arguments).code == 0
        after = listing(folder)
        assert {name: after[name] for name in before} == before
        assert {name: (folder / name).stat().st_mtime_ns for name in times} == times


def test_what_the_files_say_of_themselves(folder: Path) -> None:
    """No folder, no time, no user: they would make the bytes differ."""
    assert run("prepare", "net.cfg", "net.weights", "-o", "out").code == 0
    for name in ("out.prototxt", "out.json"):
        text = Path(name).read_text()
        assert str(folder) not in text and "net.cfg" in text and "xxh128" in text
