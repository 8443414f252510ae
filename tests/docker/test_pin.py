"""What the image's Python packages are pinned to is complete, and is what the packages ask for."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
REQUIREMENTS = [
    DOCKER / name for name in ("requirements.txt", "requirements-build.txt", "caffe/requirements.txt")
]


def project(file: Path) -> dict:
    return tomllib.loads(file.read_text())


@pytest.mark.parametrize("file", REQUIREMENTS, ids=lambda file: str(file.relative_to(DOCKER)))
def test_every_requirement_has_hashes(load, file: Path) -> None:
    requirements = load("pin").read_requirements(file.read_text())
    names = [canonicalize_name(Requirement(one.pin).name) for one in requirements]
    assert len(names) == len(set(names)) > 0
    for one in requirements:
        assert re.fullmatch(r"[a-z0-9-]+==[0-9.]+", one.pin)
        assert one.hashes and len(one.hashes) == len(set(one.hashes))
        assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in one.hashes)


@pytest.mark.parametrize("file", REQUIREMENTS, ids=lambda file: str(file.relative_to(DOCKER)))
def test_pins_are_written_as_they_were_read(load, monkeypatch, tmp_path, file: Path) -> None:
    pin = load("pin")
    known = {one.pin: one.hashes for one in pin.read_requirements(file.read_text())}
    monkeypatch.setattr(pin, "hash_wheels", known.__getitem__)
    copy = tmp_path / "requirements.txt"
    copy.write_text(re.sub(r" \\\n    --hash=sha256:[0-9a-f]{64}", "", file.read_text()))
    assert "sha256" not in copy.read_text()
    pin.main([str(copy)])
    assert copy.read_text() == file.read_text()


@pytest.mark.parametrize(
    ("needing", "file"),
    [
        (project(ROOT / "pyproject.toml")["project"]["dependencies"], "requirements.txt"),
        (project(ROOT / "pyproject.toml")["project"]["optional-dependencies"]["batch"], "requirements.txt"),
        (project(DOCKER / "caffe/pyproject.toml")["project"]["dependencies"], "requirements.txt"),
        (project(ROOT / "pyproject.toml")["build-system"]["requires"], "requirements-build.txt"),
        (project(DOCKER / "caffe/pyproject.toml")["build-system"]["requires"], "caffe/requirements.txt"),
    ],
    ids=["nnie_prep", "batch", "Caffe", "building nnie_prep", "building Caffe"],
)
def test_pins_satisfy_what_is_needed(load, needing: list[str], file: str) -> None:
    read = load("pin").read_requirements((DOCKER / file).read_text())
    pinned = {
        canonicalize_name(name): version for name, _, version in (one.pin.partition("==") for one in read)
    }
    for needed in map(Requirement, needing):
        version = pinned.get(canonicalize_name(needed.name))
        assert version is not None and needed.specifier.contains(version), (str(needed), version)


def test_all_that_is_pinned_is_needed() -> None:
    """By nnie_prep, its `batch` or Caffe: nothing was left from an earlier version."""
    needing = [
        project(file)["project"]["dependencies"]
        for file in (ROOT / "pyproject.toml", DOCKER / "caffe/pyproject.toml")
    ]
    needing.append(project(ROOT / "pyproject.toml")["project"]["optional-dependencies"]["batch"])
    names = {Requirement(one).name for one in sum(needing, [])}
    assert set(re.findall(r"^(\S+)==", (DOCKER / "requirements.txt").read_text(), re.M)) == names
