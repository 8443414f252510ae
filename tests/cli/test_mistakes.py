"""What a user can get wrong: one line says where, what and what to do; exit code 2; nothing is left."""

from __future__ import annotations

import os
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_cases import CFG, listing, refuses, run, spawn, write_caffe, write_darknet

from nnie_prep.darknet.cfg import read_cfg
from nnie_prep.errors import UserError
from nnie_prep.net import Net

DATA = Path(__file__).parent.parent / "data"
CONVERT = ("prepare", "net.cfg", "net.weights", "-o", "x")
MERGE = ("merge-bn", "small.prototxt", "small.caffemodel", "-o", "x")


def edit(name: str, old: str, new: str, count: int = 1) -> None:
    """Replaces text that must be there."""
    text = Path(name).read_text()
    assert old in text
    Path(name).write_text(text.replace(old, new, count))


# ---- Darknet's files ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda data: data[:-4], "net.cfg:57: the weights file net.weights ends"),
        (lambda data: data[: len(data) // 2 // 4 * 4], "ends in section"),
        (lambda data: data[:20], "0 are there"),
        (lambda data: data[:7], "7 bytes"),
        (lambda data: b"", "0 bytes"),
        (lambda data: data + b"\0\0\0\0", "1 floats are left over"),
        (lambda data: data + b"\0", "whole number of 4-byte floats"),
        (lambda data: data[:12] + bytes(4 * 5000), "left over"),
        (lambda data: b"<!DOCTYPE html>\n" * 4, "give"),
    ],
)
@pytest.mark.parametrize("command", ["prepare", "darknet2caffe"])
def test_weights_that_do_not_fit(
    folder: Path, command: str, change: Callable[[bytes], bytes], says: str
) -> None:
    Path("net.weights").write_bytes(change(Path("net.weights").read_bytes()))
    message = refuses(folder, command, "net.cfg", "net.weights", "-o", "x")
    assert says in message and "; " in message


@pytest.mark.parametrize(
    ("command", "right", "wrong", "says"),
    [
        ("merge-bn", "small.prototxt small.caffemodel -o out",
         "small.prototxt net.caffemodel -o out", "lacks"),
        ("prepare", "net.cfg net.weights -o out", "small.prototxt net.caffemodel -o out", "lacks"),
        ("edit", "small.prototxt small.caffemodel --batch 2 -o out",
         "small.prototxt net.caffemodel --batch 2 -o out", "lacks"),
        ("run", "small.prototxt small.caffemodel --input x.npy -o y.npz",
         "small.prototxt net.caffemodel --input x.npy -o y.npz", "lacks"),
        ("detect", "d.prototxt d.caffemodel photo.png", "d.prototxt small.caffemodel photo.png",
         "small.caffemodel is not the file that d.prototxt was written with (d.caffemodel, d.json)"),
        ("fold-darknet", "net.cfg net.weights", "net.cfg other.weights", "net.cfg:57: the weights file"),
        ("darknet2caffe", "net.cfg net.weights -o out", "net.cfg other.weights -o out",
         "net.cfg:57: the weights file other.weights ends"),
    ],
)  # fmt: skip
def test_the_wrong_file_is_told_before_what_lies_there(
    folder: Path, command: str, right: str, wrong: str, says: str
) -> None:
    """Nobody is to force, or to spare, a right result for the sake of a wrong input."""
    assert run("prepare", "net.cfg", "net.weights", "-o", "d", "-q").code == 0
    shutil.copy("d.caffemodel", "net.caffemodel")
    shutil.copy(DATA / "photo.jpg", "photo.png")
    np.save("x.npy", np.ones((1, 3, 11, 13), np.float32))
    Path("other.weights").write_bytes(Path("net.weights").read_bytes()[:-4])
    assert run(command, *right.split(), "-q").code == 0
    lacks = "net.caffemodel: has no weights for 4 layer(s) of small.prototxt"
    assert (lacks if says == "lacks" else says) in refuses(folder, command, *wrong.split())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("small.prototxt", "small.caffemodel"), "small.prototxt:2: expected [net] before the first option"),
        (("small.caffemodel", "small.prototxt"), "small.caffemodel:2: found byte 0x05, which no text has"),
        (("net.weights", "net.cfg"), "net.weights:1: found byte 0x00, which no text has; give a Darknet cfg"),
    ],
)
def test_what_is_no_darknet_network_is_told_before_where_it_would_go(
    folder: Path, arguments: tuple[str, ...], says: str
) -> None:
    assert run("darknet2caffe", "net.cfg", "net.weights", "-q").code == 0
    assert says in refuses(folder, "darknet2caffe", *arguments)


@pytest.mark.parametrize(
    ("place", "arguments"),
    [
        ("nnie_prep.cli.job_proof.prove_surgery", "merge-bn small.prototxt small.caffemodel"),
        ("nnie_prep.cli.job_proof.prove_conversion", "prepare net.cfg net.weights"),
        ("nnie_prep.proof.prove_surgery", "edit small.prototxt small.caffemodel --until conv"),
    ],
)
def test_what_is_wrong_with_the_result_is_told_by_its_own_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch, place: str, arguments: str
) -> None:
    """While it is proven it lies in temporary files, which are gone when anybody could look at them."""

    def no_engine(*given: Any, **options: Any) -> None:
        (written,) = [one for one in given if isinstance(one, Net) and ".nnie_prep-" in one.source]
        layer = written.layers[-1]
        raise UserError(f"{Path('out', written.source)} has one", layer.origin, f"see {written.source}")

    Path("out").mkdir()
    monkeypatch.setattr(place, no_engine)
    said = refuses(folder, *arguments.split(), "-o", "out/x")
    assert re.fullmatch(r"x.prototxt:\d+: out/x.prototxt has one; see x.prototxt", said)


def test_nor_does_fold_darknet_name_a_temporary_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = read_cfg

    def broken(path: Path) -> Any:
        if ".nnie_prep-" in path.name:
            raise UserError("is no cfg", f"{path}:7")
        return read(path)

    monkeypatch.setattr("nnie_prep.darknet.reference.read_cfg", broken)
    assert refuses(folder, "fold-darknet", "net.cfg", "net.weights", "-o", "out") == "out.cfg:7: is no cfg"


def test_weights_of_another_network(folder: Path) -> None:
    edit("net.cfg", "filters=8", "filters=12")
    assert "ends in section" in refuses(folder, *CONVERT)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("[maxpool]", "[maxpol]", "net.cfg:14: [maxpol] is no section that Darknet knows"),
        ("[maxpool]", "[gru]", "net.cfg:14: [gru] is recurrent"),
        ("activation=leaky", "activation=leeky", "net.cfg:12: activation=leeky is not known"),
        ("filters=6", "filters=six", "net.cfg:8: [convolutional] needs an integer for filters"),
        ("filters=6", "filters=2000000000", "weights, more than"),
        ("filters=6", "filters=0", "net.cfg:8: "),
        ("groups=2", "groups=0", "net.cfg:21: "),
        ("groups=2", "groups=5", "net.cfg:21: groups=5 must divide"),
        ("size=3", "size=-3", "net.cfg:9: "),
        ("stride=1", "stride=0", "net.cfg:10: "),
        ("width=24", "width=1000000000", "net.cfg:2: "),
        ("width=24", "width=0", "net.cfg:2: "),
        ("width=24", "width=" + "9" * 5000, "net.cfg:2: "),
        ("width=24\nheight=16", "width=65535\nheight=65535", "more than Caffe can hold"),
        ("layers=-1,5", "layers=8", "net.cfg:55: "),
        ("layers=-1,5", "layers=99", "net.cfg:55: "),
        ("layers=-1,5", "layers=-99", "net.cfg:55: "),
        ("layers=-1,5", "layers=a", "net.cfg:55: "),
        ("layers=-1,5", "", "net.cfg:54: "),
        ("layers=-1,5", "layers=0,5", "net.cfg:5"),
        ("from=-3", "from=0", "net.cfg:4"),
        ("stride=2\n\n[route]", "stride=1000000\n\n[route]", "net.cfg:52: "),
        ("classes=2", "classes=3", "net.cfg:6"),
        ("classes=2", "classes=2000000000", "net.cfg:6"),
        ("mask=0,1,2", "mask=0,1,7", "net.cfg:6"),
        ("[net]", "[convolutional]", "net.cfg:1"),
        (CFG, "", "net.cfg"),
        (CFG, "[net]\nwidth=24\nheight=16\nchannels=3\n", "no layers after [net]"),
        ("[maxpool]", "[maxpool", "net.cfg:14: "),
        ("filters=6", "filters", "net.cfg:8: "),
    ],
)
def test_cfg(folder: Path, old: str, new: str, says: str) -> None:
    edit("net.cfg", old, new)
    message = refuses(folder, *CONVERT)
    assert message.startswith("net.cfg") and says in message
    assert len(message) < 400


def test_all_that_cannot_be_converted_is_named_at_once(folder: Path) -> None:
    edit("net.cfg", "[maxpool]", "[gru]")
    edit("net.cfg", "[shortcut]", "[foo]")
    edit("net.cfg", "activation=leaky", "activation=leeky")
    before = listing(folder)
    done = run(*CONVERT)
    assert done.code == 2 and listing(folder) == before
    for text in ("net.cfg:12: activation=leeky", "net.cfg:14: [gru]", "net.cfg:39: [foo]"):
        assert text in done.err


def test_absurd_sizes_cost_neither_memory_nor_time(folder: Path) -> None:
    """In a process that may not have more than 1 GiB, which a network of that size would need many times."""
    import resource

    edit("net.cfg", "width=24\nheight=16", "width=8192\nheight=5000")
    before = listing(folder)
    done = spawn(
        *CONVERT,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30)),
    )
    assert done.code == 2 and done.err.count("\n") == 1, done
    assert "memory" in done.err and "--no-verify" in done.err
    assert listing(folder) == before


# ---- Caffe's files -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("kernel_size: 3", "kernal_size: 3", "small.prototxt:8:43: ConvolutionParameter has no field"),
        ("type: \"Softmax\"", "type: \"Softmax", "small.prototxt:17:"),
        ("layer {", "layer {{", "small.prototxt:3:8: "),
        ("phase: TEST", "phase: TESTING", "small.prototxt:5:"),
        ('bottom: "data" top: "conv"', 'bottom: "dada" top: "conv"', "small.prototxt:7: layer 'conv' reads"),
        ('bottom: "data" top: "conv"', 'top: "conv"', "small.prototxt:7: "),
        ('top: "fc"\n', 'top: "conv"\n', "small.prototxt:13: layer 'fc' writes blob 'conv'"),
        ('type: "InnerProduct"', "", "small.prototxt:13: layer 'fc' has no type"),
        ("num_output: 6", "num_output: 9", "blob 0 has shape 6x1x3x3, and the prototxt needs 9x1x3x3"),
        ("num_output: 6", "num_output: 2000000001", "small.prototxt:7: "),
        ("num_output: 6", "num_output: " + "9" * 5000, "small.prototxt:8:"),
        ("num_output: 6", "", "small.prototxt:7: "),
        ("kernel_size: 3", "kernel_size: 0", "small.prototxt:7: "),
        ("stride: 2", "stride: 0", "small.prototxt:7: "),
        ("group: 3", "group: 0", "small.prototxt:7: "),
        ("group: 3", "group: 2", "small.prototxt:7: "),
        ("dim: 13", "dim: -13", "small.prototxt:5: "),
        ("dim: 13", "dim: 9000000000000", "small.prototxt:5: "),
        ("num_output: 5", "num_output: 4", "blob 0 has shape 5x180, and the prototxt needs 4x180"),
        ("bias_term: true", "bias_term: false", "2 blob(s) stored, 1 needed by Scale"),
        ('name: "fc"', 'name: "other"', "has no weights for 1 layer(s) of small.prototxt: other"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["merge-bn", "prepare"])
def test_prototxt(folder: Path, command: str, old: str, new: str, says: str) -> None:
    edit("small.prototxt", old, new)
    message = refuses(folder, command, "small.prototxt", "small.caffemodel", "-o", "x")
    assert says in message
    assert "small.prototxt" in message and len(message) < 500


@pytest.mark.parametrize(
    "text", ["", "\n\n# nothing\n", 'name: "x"\n', 'net: "x"\nbase_lr: 0.1\n', "a {" * 3000]
)
def test_a_prototxt_that_is_none(folder: Path, text: str) -> None:
    Path("small.prototxt").write_text(text)
    assert refuses(folder, *MERGE).startswith("small.prototxt")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda data: data[:-1], "is not a whole caffemodel"),
        (lambda data: data[:100], "is not a whole caffemodel"),
        (lambda data: data + b"\0\0\0", "is not a whole caffemodel"),
        (lambda data: data + b"garbage", "is not a whole caffemodel"),
        (lambda data: b"", "is empty"),
        (lambda data: bytes(1000), "is not a whole caffemodel"),
        (lambda data: b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (lambda data: b"\x89HDF\r\n\x1a\n" + data, "HDF5"),
    ],
)
def test_caffemodel(folder: Path, change: Callable[[bytes], bytes], says: str) -> None:
    Path("small.caffemodel").write_bytes(change(Path("small.caffemodel").read_bytes()))
    message = refuses(folder, *MERGE)
    assert message.startswith("small.caffemodel: ") and says in message


def test_a_caffemodel_of_another_net(folder: Path) -> None:
    assert run("darknet2caffe", "net.cfg", "net.weights", "-q").code == 0
    assert "has no weights for" in refuses(folder, "merge-bn", "small.prototxt", "net.caffemodel")


def test_a_mixed_pair(folder: Path) -> None:
    """The prototxt knows the caffemodel that it was written with, though the other one would fit."""
    write_darknet(folder, "other", seed=1)
    for stem in ("net", "other"):
        assert run("prepare", f"{stem}.cfg", f"{stem}.weights", "-q").code == 0
    mixed = ("net.prototxt", "other.caffemodel")
    np.save("x.npy", np.zeros((1, 3, 16, 24), np.float32))
    for arguments in (
        ("merge-bn", *mixed),
        ("prepare", *mixed),
        ("show", *mixed),
        ("verify", *mixed, "net.prototxt", "net.caffemodel"),
        ("verify", "net.prototxt", "net.caffemodel", *mixed),
        ("run", *mixed, "--input", "x.npy", "-o", "y.npz"),
    ):
        assert "other.caffemodel is not the file that net.prototxt was written with" in refuses(
            folder, *arguments
        )


# ---- paths -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("prepare", "absent.cfg", "net.weights"), "absent.cfg: cannot be read: No such file"),
        (("prepare", "net.cfg", "absent.weights"), "absent.weights: cannot be read: No such file"),
        (("darknet2caffe", ".", "net.weights"), ".: is a folder"),
        (("darknet2caffe", "net.cfg", "."), ".: is not a regular file"),
        (("darknet2caffe", "net.cfg", "/dev/zero"), "/dev/zero: is not a regular file"),
        (("darknet2caffe", "net.weights", "net.cfg"), "net.weights:1: "),
        (("merge-bn", "small.caffemodel", "small.prototxt"), "give the prototxt first"),
        (("merge-bn", "small.prototxt", "small.prototxt", "-o", "x"), "give the caffemodel second"),
        (("merge-bn", ".", "small.caffemodel"), ".: is a folder"),
        (("merge-bn", "small.prototxt", ".."), "..: is a folder"),
        (("merge-bn", "small.prototxt"), "CAFFEMODEL"),
        (("merge-bn",), "PROTOTXT"),
        (("merge-bn", "small.prototxt", "small.caffemodel", "--weights", "y"), "CAFFEMODEL is given twice"),
        (("merge-bn", "small.prototxt", "small.caffemodel", "-o", "x", "--output_model", "y"), "give one"),
        (("merge-bn", "net.cfg", "net.weights"), "net.cfg:1"),
        (("prepare", "net.cfg"), "1 file"),
        (("prepare", "net.cfg", "net.weights", "x"), "3 files"),
        (("prepare", "net.cfg", "small.caffemodel"), "net.cfg and small.caffemodel are no pair; give x.cfg"),
        (("prepare", "net.cfg", "net.cfg"), "net.cfg and net.cfg are no pair"),
        (("prepare", "net.cfg", "net.weight"), "cannot tell what net.weight is by its name; give x.cfg and"),
        (("prepare", "net.onnx", "net.weights"), "cannot tell what net.onnx is by its name"),
        (("prepare", "small.prototxt", "small.caffemodel", "--against", "opencv"), "leave it out"),
        (("show", "absent.prototxt"), "absent.prototxt: cannot be read"),
        (("show", "."), ".: is not a regular file"),
        (("show", "/dev/zero"), "/dev/zero: is not a regular file"),
        (("show", "small.prototxt", "/dev/null"), "/dev/null: is not a regular file"),
        ((*MERGE, "--skip", "fold"), "no pass is called fold; choose from drop_unreachable, "),
        ((*MERGE, "--caffe-python", "/absent", "--engine", "caffe"), "/absent"),
        ((*CONVERT, "--input", "absent.npy"), "absent.npy: cannot be read"),
        ((*CONVERT, "--input", "."), ".: is not a regular file"),
        (("prepare", "net.cfg", "net.weights", "-o", ""), "names no file"),
        (("prepare", "net.cfg", "net.weights", "-o", "."), "names no file"),
        (("prepare", "net.cfg", "net.weights", "-o", ".."), "names no file"),
        (("prepare", "net.cfg", "net.weights", "-o", "/"), "names no file"),
        (("darknet2caffe", "net.cfg", "net.weights", "-o", "a/b/"), "a/b: cannot be made"),
        (("fold-darknet", ".", "net.weights"), ".: is a folder"),
        (("edit", "small.prototxt", "--batch", "1", "-o", "/"), "names no file"),
        (("prepare", "net.cfg", "net.weights", "-o", "a/b/"), "a/b: cannot be made"),
        (("prepare", "net.cfg", "net.weights", "-o", ".json"), "names no file"),
        (("prepare", "net.cfg", "net.weights", "-o", "absent/x"), "mkdir -p absent"),
        (("prepare", "net.cfg", "net.weights", "-o", "net.cfg/x"), "net.cfg is not a folder"),
        (("prepare", "net.cfg", "net.weights", "-o", "/proc/x"), "/proc/x.caffemodel: cannot be written"),
        (("prepare", "net.cfg", "net.weights", "-o", "x" * 300), "File name too long"),
        (("merge-bn", "small.prototxt", "small.caffemodel", "-o", "small"), "is the input"),
        (("merge-bn", "small.prototxt", "small.caffemodel", "-o", "small", "--force"), "is the input"),
        ((*MERGE[:3], "--output_model", "a", "--output_weights", "a"), "two outputs"),
        ((*MERGE[:3], "--output_model", "a", "--output_weights", "./a"), "two outputs"),
        ((*MERGE[:3], "--output_model", "a.json"), "two outputs"),
    ],
)
def test_paths_and_options(folder: Path, arguments: tuple[str, ...], says: str) -> None:
    assert says in refuses(folder, *arguments)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "COMMAND"),
        (("fold",), "invalid choice: 'fold'"),
        (("merge_bn", "a", "b"), "; did you mean merge-bn? see nnie-prep --help"),
        (("check", "a", "--chip", "Hi3559"), "; did you mean hi3559v200 or hi3559av100? see"),
        (("prepare", "a", "b", "--mean", "104,117,123"), "--mean 104,117,123; see nnie-prep prepare --help"),
        (("merge-bn", "--model", "a", "--weights", "b", "--output-model", "c", "--output-weights", "d"),
         "; did you mean --output_model? see nnie-prep merge-bn --help"),
        (("prepare",), "INPUT"),
        (("verify", "a", "b", "c"), "B.caffemodel"),
        (("run", "a", "b"), "--input"),
        ((*CONVERT, "--tolerance", "nan"), "nan is not between 0 and 1"),
        ((*CONVERT, "--tolerance", "-1"), "not between"),
        ((*CONVERT, "--tolerance", "small"), "small"),
        ((*CONVERT, "--seed", "-1"), "not between"),
        ((*CONVERT, "--target", "rk3588"), "rk3588"),
        ((*CONVERT, "--engine", "torch"), "torch"),
        ((*CONVERT, "--see=1"), "--see"),  # no abbreviations
        ((*CONVERT, "--no-such-option"), "--no-such-option"),
    ],
)  # fmt: skip
def test_usage(folder: Path, arguments: tuple[str, ...], says: str) -> None:
    message = refuses(folder, *arguments)
    assert says in message and message.endswith("--help")


def test_inputs_and_outputs_that_are_no_plain_files(folder: Path) -> None:
    os.mkfifo("pipe.prototxt")
    os.mkfifo("pipe.cfg")
    Path("loop.cfg").symlink_to("loop.cfg")
    Path("link.prototxt").symlink_to("small.prototxt")
    Path("x.json").mkdir()
    for arguments, says in (
        (("show", "pipe.prototxt"), "pipe.prototxt: is not a regular file"),
        (("merge-bn", "pipe.prototxt", "small.caffemodel"), "pipe.prototxt: is not a regular file"),
        (("verify", "pipe.prototxt", "a", "b", "c"), "pipe.prototxt: is not a regular file"),
        (("prepare", "pipe.cfg", "net.weights"), "pipe.cfg: is not a regular file"),
        (("prepare", "loop.cfg", "net.weights"), "loop.cfg: cannot be read"),
        (("merge-bn", "small.prototxt", "small.caffemodel", "-o", "link", "--force"), "link.prototxt: is "),
        ((*CONVERT, "--force"), "x.json: is a folder"),
    ):
        assert says in refuses(folder, *arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        (*CONVERT, "-o", "-"),
        ("prepare", "net.cfg", "net.weights", "-o", "-"),
        (*MERGE, "-o", "-"),
        ("fold-darknet", "net.cfg", "net.weights", "-o", "-"),
        ("edit", "small.prototxt", "small.caffemodel", "--drop", "drop", "-o", "-"),
        ("mapper-cfg", "small.prototxt", "small.caffemodel", "--scale", "1", "-o", "-"),
    ],
)
def test_a_file_is_not_called_dash(folder: Path, arguments: tuple[str, ...]) -> None:
    """Elsewhere `-` means what is printed; here it would make files that few commands can name again."""
    said = refuses(folder, *arguments)
    assert "- is no file's name, and nothing but text is printed; name another place for it" in said


@pytest.mark.parametrize(
    "stem", ["a b", "ünï 模型", ".hidden", "x.y.z", "q'uo\"te", "$HOME", "a;b", "tab\t", "new\nline", "%s{}"]
)
def test_odd_names_of_files(folder: Path, stem: str) -> None:
    write_darknet(folder, stem)
    write_caffe(folder, f"{stem}-c")
    for arguments in (
        ("prepare", f"{stem}.cfg", f"{stem}.weights"),
        ("merge-bn", f"{stem}.prototxt", f"{stem}.caffemodel"),
        ("prepare", f"{stem}-c.prototxt", f"{stem}-c.caffemodel"),
        ("show", f"{stem}.prototxt", f"{stem}.caffemodel"),
        ("verify", f"{stem}.prototxt", f"{stem}.caffemodel", f"{stem}_inference.prototxt")
        + (f"{stem}_inference.caffemodel",),
    ):
        done = run(*arguments)
        assert (done.code, done.err) == (0, ""), arguments


def test_a_name_that_looks_like_an_option(folder: Path) -> None:
    write_darknet(folder, "-net")
    assert run("prepare", "--", "-net.cfg", "-net.weights").code == 0
    assert run("merge-bn", "./-net.prototxt", "./-net.caffemodel", "-o=-x").code == 0
    assert Path("-x.prototxt").exists()


# ---- what the nets are fed with ----------------------------------------------------------------


def arrays() -> dict[str, object]:
    random = np.random.default_rng(0)
    picture = random.uniform(0, 1, (1, 3, 11, 13)).astype(np.float32)
    return {
        "shape (3, 11)": picture[0, :, :, 0],
        "shape (1, 1, 3, 11, 13)": picture[np.newaxis],
        "shape (1, 2, 11, 13)": picture[:, :2],
        "shape (0, 3, 11, 13)": picture[:0],
        "shape ()": np.float32(1),
        "complex64": picture.astype(np.complex64),
        "<U1": np.array(["a"]),
        "datetime64": picture.astype("M8[s]"),
        "[('a', '<f4')]": np.zeros((1, 3, 11, 13), [("a", "f4")]),
        "not finite": np.where(picture > 0.9, np.nan, picture),
        "not finite in float32": picture.astype(np.float64) * 1e300,
        "damaged, or holds no numbers": np.array([{}], dtype=object),
    }


@pytest.mark.parametrize("says", list(arrays()))
def test_input_arrays(folder: Path, says: str) -> None:
    np.save("x.npy", arrays()[says], allow_pickle=True)
    pair = ("small.prototxt", "small.caffemodel")
    for arguments in ((*MERGE,), ("verify", *pair, *pair), ("run", *pair, "-o", "y.npz")):
        message = refuses(folder, *arguments, "--input", "x.npy")
        assert message.startswith("x.npy: ") and says in message and "; " in message


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (lambda data: data[:200], "damaged"),
        (lambda data: data[:-300] + bytes(8) + data[-292:], "damaged"),
        (lambda data: b"1 2 3", "is not a .npy or .npz file"),
        (lambda data: b"", "is not a .npy or .npz file"),
        (lambda data: b"PK\3\4" + bytes(100), "damaged"),
        (
            lambda data: b"\x93NUMPY\x01\0\x76\0{'descr': '<f4', 'fortran_order': False, 'shape': "
            + b"(9999999, 9999999), }".ljust(72)
            + b"\n",
            "damaged",
        ),
    ],
)  # fmt: skip
def test_input_files(folder: Path, content: Callable[[bytes], bytes], says: str) -> None:
    np.savez("x.npz", data=np.ones((1, 3, 11, 13), np.float32))
    Path("x.npz").write_bytes(content(Path("x.npz").read_bytes()))
    message = refuses(folder, *MERGE, "--input", "x.npz")
    assert message.startswith("x.npz: ") and says in message


def test_input_names(folder: Path) -> None:
    picture = np.ones((1, 3, 11, 13), np.float32)
    for names in (["other"], ["data", "other"], []):
        np.savez("x.npz", **dict.fromkeys(names, picture))
        message = refuses(folder, *MERGE, "--input", "x.npz")
        assert f"holds {', '.join(names) or 'nothing'}, and the net's inputs are data" in message
        Path("x.npz").unlink()


def test_darknet_takes_one_picture_of_its_size(folder: Path) -> None:
    for shape, says in (((2, 3, 16, 24), "holds 2 pictures"), ((1, 3, 24, 16), "(3, 24, 16)")):
        np.save("x.npy", np.ones(shape, np.float32))
        assert says in refuses(folder, *CONVERT, "--input", "x.npy")


def test_a_header_without_a_version_that_is_known(folder: Path) -> None:
    """Where it is doubtful what the header says, the user is told what was taken."""
    data = Path("net.weights").read_bytes()
    Path("net.weights").write_bytes(struct.pack("<iii", -1, -2, -3) + data[12:])
    done = run(*CONVERT)
    assert done.code == 0 and "nnie_prep: warning: net.weights: version -1.-2.-3" in done.err


@pytest.mark.parametrize("command", ["prepare", "merge-bn", "strip"])
def test_a_net_that_only_a_database_feeds(folder: Path, command: str) -> None:
    """LMDB says how large its pictures are, and no prototxt."""
    text = Path("small.prototxt").read_text()
    data = 'layer { name: "d" type: "Data" top: "data" data_param { source: "lmdb" batch_size: 64 } }\n'
    Path("train.prototxt").write_text(data + text[text.index('layer { name: "conv"') :])
    said = refuses(folder, command, "train.prototxt", "small.caffemodel", "-o", "never")
    assert "nobody says how large the pictures are that d (Data) feeds; write input: " in said
