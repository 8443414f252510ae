"""--help of every command: quick, light, and with an example that works as it stands."""

from __future__ import annotations

import ast
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_cases import run, spawn, write_caffe, write_darknet

from nnie_prep.caffe_io import read_net
from nnie_prep.passes import PASSES, names_of
from nnie_prep.passes.pipelines import ALL_PASSES, NNIE_PASSES, STOCK_PASSES
from nnie_prep.shapes import net_input_shapes

DATA = Path(__file__).parent.parent / "data"
COMMANDS = re.findall(r"^    ([a-z][\w-]+)", run("--help").out, re.M)


def test_the_commands_are_those_of_the_readme() -> None:
    assert {
        "prepare",
        "darknet2caffe",
        "merge-bn",
        "add-bias",
        "strip",
        "verify",
        "run",
        "show",
        "passes",
    } <= set(COMMANDS)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_the_example_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    shown = run(*command.split(), "--help")
    assert shown.code == 0 and shown.err == ""
    (example,) = re.findall(r"^Example: (.*)$", shown.out, re.M)
    program, *arguments = shlex.split(example)
    assert program == "nnie-prep"
    assert arguments[0] == command or not command

    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    write_darknet(tmp_path, "yolov3-tiny")
    write_caffe(tmp_path, "deploy")
    Path("deploy.caffemodel").rename("model.caffemodel")
    assert run("merge-bn", "deploy.prototxt", "model.caffemodel", "-q").code == 0
    Path("train_val.prototxt").write_text(Path("deploy.prototxt").read_text())
    np.save("x.npy", np.zeros((1, 3, 11, 13), np.float32))
    assert run("prepare", "yolov3-tiny.cfg", "yolov3-tiny.weights", "-q").code == 0
    shutil.copy(DATA / "photo.jpg", "photo.jpg")
    write_dump(Path("yolov3-tiny.prototxt"), Path("yolov3-tiny.caffemodel"))
    Path("coco.names").write_text("cup\ncat\n")
    Path("pictures").mkdir()
    for place in range(20):
        shutil.copy(DATA / "photo.jpg", f"pictures/{place:02}.jpg")
    Path("models.yaml").write_text("models: [{cfg: yolov3-tiny.cfg, output: out/yolov3-tiny}]")
    if command == "merge-bn":
        for path in Path().glob("*_inference.*"):
            path.unlink()
    done = run(*arguments)
    said_no = command == "diff"  # the nets of the example do differ
    assert (done.code, done.err) == (said_no, "")


@pytest.mark.parametrize("columns", [60, 100])
@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_the_help_fits_the_terminal(command: str, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the example, which is to be copied, and a usage that has no room for one option more."""
    monkeypatch.setenv("COLUMNS", str(columns))
    usage, *rest = run(*command.split(), "--help").out.split("\n\n")
    too_long = [line for line in "\n".join(rest).split("\n") if len(line) > columns]
    assert [line for line in too_long if not line.startswith("Example: nnie-prep ")] == []
    for line in usage.split("\n"):
        assert len(line) <= columns or re.fullmatch(r" +(\[[^\]]*\]|\(.*\))", line), line


def write_dump(prototxt: Path, caffemodel: Path) -> None:
    """Pictures, and a dump as the compiler writes it of the first layer, with the last of them."""
    net = read_net(prototxt, caffemodel)
    ((_, shape),) = net_input_shapes(net).items()
    pictures = np.random.default_rng(0).random((2, *shape[1:]), np.float32)
    np.save("pictures.npy", pictures)
    layer = next(layer for layer in net.layers if layer.bottoms)
    Path("mapper_quant").mkdir()
    file = Path("mapper_quant", f"{layer.name}_input0_{'_'.join(map(str, shape[1:]))}_quant.linear.float")
    file.write_text("\n".join(map(str, pictures[1].reshape(-1).tolist())))


@pytest.mark.parametrize("arguments", [["--help"], ["prepare", "--help"], ["--version"], ["prepare"]])
def test_nothing_heavy_is_imported(arguments: list[str]) -> None:
    script = (
        "import sys; from nnie_prep.cli import main\n"
        f"try: main({arguments!r})\n"
        "except SystemExit: pass\n"
        "print([name for name in ('numpy', 'google.protobuf', 'cv2', 'caffe') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done


@pytest.mark.parametrize(
    ("arguments", "without"),
    [
        (("darknet2caffe", "net.cfg", "net.weights"), ("numpy", "nnie_prep.passes", "nnie_prep.proof")),
        (
            ("merge-bn", "small.prototxt", "small.caffemodel"),
            ("nnie_prep.passes.pipelines", "nnie_prep.proof", "nnie_prep.engines"),
        ),
    ],
    ids=lambda one: one[0],
)
def test_what_is_not_proven_starts_without_the_proof(
    folder: Path, arguments: tuple[str, ...], without: tuple[str, ...]
) -> None:
    """A command's start is most of its time, and imports are most of that. With the proof they are there.

    The pooling of stride 1 is given another size: its crop is a kernel, which is made with numpy.
    """
    cfg = Path("net.cfg").read_text()
    Path("net.cfg").write_text(cfg.replace("size=2\nstride=1\n", "size=3\nstride=1\n"))
    script = (
        "import sys; from nnie_prep.__main__ import main\n"
        "assert main() == 0\n"
        f"print([name for name in {without!r} if name in sys.modules])"
    )
    for option, expected in (("--no-verify", False), ("-v", True)):
        command = [sys.executable, "-c", script, *arguments, "-o", "x", "--force", option]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done
        found = ast.literal_eval(done.stdout.splitlines()[-1])
        assert bool(found) is expected, found


def test_the_module_is_a_program_too() -> None:
    assert spawn("--version").out == run("--version").out == "nnie_prep 0.1.0\n"


def test_the_installed_script_is_the_same_program(folder: Path) -> None:
    """`nnie-prep` of this environment, and the module, from a folder that is not the checkout."""
    script = Path(sys.executable).with_name("nnie-prep")
    assert script.is_file(), "pip install -e . makes it"
    for program, stem in (([script], "a"), ([sys.executable, "-m", "nnie_prep"], "b")):
        done = subprocess.run(
            [*program, "prepare", "net.cfg", "net.weights", "-o", stem], capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, "") and "EQUAL: " in done.stdout
        wrong = subprocess.run([*program, "prepare"], capture_output=True, text=True)
        assert wrong.returncode == 2 and wrong.stderr.startswith("nnie_prep: error: ")
    assert Path("a.caffemodel").read_bytes() == Path("b.caffemodel").read_bytes()


def test_passes_are_listed_with_what_they_do() -> None:
    lines = run("passes").out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == names_of(ALL_PASSES)
    assert all(line.rstrip().endswith(".") for line in lines[1:])


def test_passes_are_listed_with_the_commands_that_run_them() -> None:
    found = json.loads(run("passes", "--json").out)
    for command, passes in (
        ("merge-bn", PASSES),
        ("prepare", NNIE_PASSES),
        ("--target caffe", STOCK_PASSES),
    ):
        assert [name for name, one in found.items() if command in one["commands"]] == names_of(passes)
