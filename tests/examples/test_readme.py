"""The commands of the README, run as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

README = Path(__file__).parents[2] / "README.md"
EXAMPLES = sorted(README.parent.glob("examples/*/README.md"))


def _commands(readme: Path) -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", readme.read_text(encoding="utf-8"), re.M | re.S)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def _run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        command, shell=True, cwd=folder, env=os.environ | {"PATH": path}, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with nothing in it but the examples, as the README's first commands want it."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "examples").symlink_to(README.parent / "examples")
    return folder


@pytest.mark.parametrize("command", _commands(README))
def test_command(folder, command) -> None:
    """In the README's order: later commands use what earlier ones wrote."""
    done = _run(command, folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    for said in _said_elsewhere(command):
        assert re.search(said, done.stdout, re.M), (said, done.stdout)


def _said_elsewhere(command: str) -> list[str]:
    """What the README says elsewhere that a command prints, but for rounding errors: a BLAS decides those."""
    text = README.read_text(encoding="utf-8")
    if command == "nnie-prep prepare yolov3-tiny.cfg yolov3-tiny.weights":
        shown = text[text.index(f"$ {command}") :].partition("```")[0].splitlines()
        # The report holds such errors, whose length is not always the same.
        steady = [line for line in shown if line.startswith(("EQUAL", "wrote")) and ".report." not in line]
        assert len(steady) == 4
        return [f"^{re.escape(line)}$" for line in steady]
    if command.startswith("nnie-prep quantize-sim yolov3-tiny.prototxt"):
        told = re.search(r"`--high-precision (\S+)` brings\s+yolov3-tiny from (\S+) to (\S+) dB", text)
        assert told
        return [f"^worst output {told[2]} dB", f"^{told[1]} +{told[3]}$"]
    return []


@pytest.mark.parametrize("readme", EXAMPLES, ids=[path.parent.name for path in EXAMPLES])
def test_example(tmp_path, readme) -> None:
    """An example's commands, one after the other, in a folder that has the examples beside it."""
    commands = _commands(readme)
    assert commands
    (tmp_path / "examples").symlink_to(README.parent / "examples")
    for command in commands:
        done = _run(command, tmp_path)
        assert done.returncode == 0, (command, done.stderr)


def test_the_table_lists_every_command() -> None:
    """In the order of --help."""
    text = README.read_text(encoding="utf-8")
    section = text[text.index("## Commands\n") :]
    table = section[: section.index("```sh")]
    listed = re.findall(r"^\| `([a-z0-9-]+)", table, re.M)
    shown = subprocess.run(
        [sys.executable, "-m", "nnie_prep", "--help"], capture_output=True, text=True
    ).stdout
    assert listed == re.findall(r"^    ([a-z][a-z0-9-]+)", shown, re.M)


def test_the_layout_names_what_exists() -> None:
    """One line per module: nothing missing, nothing that is gone."""
    text = README.read_text(encoding="utf-8")
    block = text[text.index("    nnie_prep/\n") : text.index("    proto/ ")]
    lines = [line.split()[0].rstrip("/") for line in block.splitlines()[1:]]
    listed = set(lines)
    assert len(lines) == len(listed)
    package = README.parent / "nnie_prep"
    there = {
        entry.name
        for entry in package.iterdir()
        if not entry.name.startswith("_") and entry.suffix in ("", ".py") and entry.name != "py.typed"
    }
    assert listed - {"darknet/reference"} == there
