"""The wheel: what is in it, what it asks for, and that it works away from the checkout."""

from __future__ import annotations

import email
import os
import re
import shutil
import subprocess
import sys
import zipfile
from email.message import Message
from pathlib import Path

import pytest
from cli_cases import assert_same_files, spawn, write_caffe, write_darknet
from packaging.requirements import Requirement

from nnie_prep import __version__

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
# The first releases of numpy that have wheels for a Python, from the one that we ask for.
FIRST_NUMPY = {"3.10": "1.23.0", "3.11": "1.23.2", "3.12": "1.26.0", "3.13": "2.1.0"}
COMMANDS = (
    ("prepare", "net.cfg", "net.weights"),
    ("prepare", "small.prototxt", "small.caffemodel", "-o", "out"),
    ("prepare", "yolov3-tiny.cfg", "yolov3-tiny.weights"),
)


def pip(python: str | Path, *arguments: str) -> None:
    command = [str(python), "-m", "pip", "-qq", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built of a copy, since building leaves files in the folder."""
    copy = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    shutil.copytree(ROOT / "nnie_prep", copy / "nnie_prep", ignore=shutil.ignore_patterns("__pycache__"))
    pip(sys.executable, "wheel", "--no-deps", "--wheel-dir", str(copy / "wheels"), str(copy))
    (built,) = (copy / "wheels").iterdir()
    return built


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [one for one in archive.namelist() if one.endswith(".dist-info/METADATA")]
        return email.message_from_bytes(archive.read(name))


def test_the_wheel_holds_the_package_and_its_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    package = {str(path.relative_to(ROOT)) for path in (ROOT / "nnie_prep").rglob("*") if path.is_file()}
    package = {name for name in package if "__pycache__" not in name}
    assert {name for name in names if ".dist-info/" not in name} == package
    for name in ("nnie_prep/nnie_caffe_pb2.py", "nnie_prep/engines/caffe_worker.py", "nnie_prep/py.typed"):
        assert name in package
    assert [name for name in names if name.endswith("/licenses/LICENSE")]


def test_it_asks_for_what_it_imports(metadata: Message) -> None:
    asked = [Requirement(one) for one in metadata.get_all("Requires-Dist", [])]
    needed = {one.name for one in asked if one.marker is None}
    imported = set()
    for path in (ROOT / "nnie_prep").rglob("*.py"):
        imported |= set(re.findall(r"^(?:import|from) (numpy|google|xxhash)\b", path.read_text(), re.M))
    assert needed == {{"google": "protobuf"}.get(name, name) for name in imported}
    assert len(needed) == 3


def test_what_it_says_of_itself(metadata: Message) -> None:
    assert metadata["Version"] == __version__
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.10"
    for minor in range(10, 14):
        assert f"Programming Language :: Python :: 3.{minor}" in metadata.get_all("Classifier", [])


def test_the_changes_name_this_version() -> None:
    headings = re.findall(r"^## \[(\S+)\] ", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert headings[0] == __version__


def pythons() -> dict[str, Path]:
    """The Pythons from 3.10 to 3.13 that are here, by version: on the path, and beside the one that runs."""
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    found = {here: Path(sys.executable)}
    for version in FIRST_NUMPY:
        beside = sorted(Path(sys.base_prefix).parent.glob(f"{version}.*/bin/python{version}"))
        on_path = shutil.which(f"python{version}")
        for python in [*([Path(on_path)] if on_path else []), *beside]:
            runs = subprocess.run([python, "-c", "import ensurepip, venv"], capture_output=True)
            if runs.returncode == 0:
                found.setdefault(version, python)
    return dict(sorted(found.items(), key=lambda one: int(one[0].partition(".")[2])))


@pytest.mark.parametrize("which", ["the oldest", "the newest"])
def test_it_works_away_from_the_checkout(
    tmp_path: Path, wheel: Path, metadata, yolov3_tiny, which: str
) -> None:
    """The oldest Python here with the oldest libraries that we ask for, the newest with the newest: in an
    empty environment, with the same bytes as in the checkout."""
    there = pythons()
    version = list(there)[0 if which == "the oldest" else -1]
    subprocess.run([there[version], "-m", "venv", tmp_path / "venv"], check=True)
    asked = [Requirement(one) for one in metadata.get_all("Requires-Dist", [])]
    lowest = {one.name: str(one.specifier).removeprefix(">=") for one in asked if one.marker is None}
    assert FIRST_NUMPY["3.10"].startswith(lowest["numpy"])
    lowest["numpy"] = FIRST_NUMPY[version]
    pins = [f"{name}=={number}" for name, number in lowest.items()] if which == "the oldest" else []
    install = ("install", "--only-binary=:all:", "--no-compile", str(wheel), *pins)
    pip(tmp_path / "venv/bin/python", *install)

    there, here = tmp_path / "there", tmp_path / "here"
    for folder in (there, here):
        folder.mkdir()
        write_darknet(folder)
        write_caffe(folder)
        shutil.copy(yolov3_tiny.description, folder / "yolov3-tiny.cfg")
        shutil.copy(yolov3_tiny.weights, folder / "yolov3-tiny.weights")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    for arguments in COMMANDS:
        command = [tmp_path / "venv/bin/nnie-prep", *arguments]
        done = subprocess.run(command, cwd=there, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        assert spawn(*arguments, "--no-verify", cwd=here).code == 0
    assert_same_files(there, here)
