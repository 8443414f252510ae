"""Which tool builds and runs the image, and how. What is in it: image_checks.py."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from nnie_prep import __version__

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
RECIPE = (DOCKER / "Dockerfile").read_text()


# ---- which tool, and how ---------------------------------------------------------------------

FAKE = """#!/bin/sh
echo "$(basename "$0") $*" >>"{log}"
case "$*" in
    *info) exit {info} ;;
    *"image inspect"*|*"inspect --type image"*)
        echo '[{{"Id": "sha256:1", "FromImageID": "1", "Size": 5}}]'; exit {there} ;;
    *from*) echo container-1 ;;
    *run*) echo "cannot set up the network" >&2; exit {run} ;;
esac
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Puts a tool on the path, and no other; `info`, `there` and `run` are what it exits with."""
    folder, log = tmp_path / "bin", tmp_path / "log"
    folder.mkdir()
    for name in ("sh", "basename", "unshare", "git", "env"):
        (folder / name).symlink_to(shutil.which(name) or "/bin/true")
    log.touch()
    monkeypatch.setenv("PATH", str(folder))
    for name in ("TOOL", "BASE", "IMAGE"):
        monkeypatch.delenv(name, raising=False)

    def put(name: str, info: int = 0, there: int = 0, run: int = 0) -> Path:
        (folder / name).write_text(FAKE.format(log=log, info=info, there=there, run=run))
        (folder / name).chmod(0o755)
        return log

    return put


def test_a_client_without_an_engine_does_not_count(load, fake) -> None:
    fake("docker", info=1)
    fake("podman")
    tool, base = load("image").choose(load("image").find_base)
    assert str(tool) == "podman" and base == "docker.io/library/debian:bookworm-slim"


def test_a_tool_that_runs_no_container_does_not_count(load, fake, capsys) -> None:
    fake("docker", run=125)
    fake("podman")
    tool, _ = load("image").choose(load("image").find_base)
    assert str(tool) == "podman"
    assert (
        "docker is here, but it cannot run a container: cannot set up the network" in capsys.readouterr().err
    )


def test_buildah_comes_last_and_with_vfs_where_its_own_storage_fails(load, fake, monkeypatch) -> None:
    log = fake("buildah")
    text = Path(os.environ["PATH"], "buildah").read_text()
    only_vfs = text.replace("*info) exit 0", '"--storage-driver vfs info") exit 0 ;; info) exit 1')
    Path(os.environ["PATH"], "buildah").write_text(only_vfs)
    monkeypatch.setattr(load("container").Tool, "configuration", lambda *_: {"Entrypoint": None})
    tool, _ = load("image").choose(load("image").find_base)
    assert str(tool) == "buildah --storage-driver vfs"
    (ran,) = [line for line in log.read_text().splitlines() if " run " in line]
    assert ran.startswith("buildah --storage-driver vfs run --isolation chroot ")
    assert " container-1 -- sh -c " in ran and ran.endswith(" sh true")
    fake("docker")
    assert str(load("image").choose(load("image").find_base)[0]) == "docker"


def test_a_tool_that_was_named_and_does_not_work(load, fake, monkeypatch, capsys) -> None:
    fake("podman")
    fake("docker", info=1)
    monkeypatch.setenv("TOOL", "docker")
    with pytest.raises(SystemExit) as end:
        load("image").choose(load("image").find_base)
    assert end.value.code == 2
    assert capsys.readouterr().err == (
        "image.py: TOOL=docker does not work here; leave it out, or name another\n"
    )


def test_the_base_is_what_was_given_or_what_is_there(load, fake, monkeypatch) -> None:
    fake("docker")
    image, tool = load("image"), load("container").Tool(("docker",))
    assert image.find_base(tool) == image.OFFICIAL_BASE
    monkeypatch.setenv("BASE", "registry/debian@sha256:0")
    assert image.find_base(tool) == "registry/debian@sha256:0"


@pytest.mark.parametrize("command", ["docker", "podman"])
def test_a_container_is_shut_in(load, fake, tmp_path, command: str) -> None:
    log = fake(command)
    load("container").Tool((command,)).run("nnie_prep", ["show", "x"], folder=tmp_path, user="7:8")
    words = log.read_text().split()
    at = words.index("nnie_prep")
    assert words[at + 1 :] == ["show", "x"]
    for options in (
        ["--rm"],
        ["--network", "none"],
        ["--read-only"],
        ["--user", "7:8"],
        ["--volume", f"{tmp_path}:/models"],
    ):
        assert " ".join(options) in " ".join(words[:at])


def test_a_build_is_told_everything(load, fake, monkeypatch, tmp_path) -> None:
    """The arguments that were given, and none that were not."""
    log = fake("docker")
    image = load("image")
    monkeypatch.setattr(image, "given_files", contextlib.nullcontext)
    monkeypatch.setenv("APT_MIRROR", "http://mirror")
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    for name in ("PIP_INDEX_URL", "http_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    image.build()
    (built,) = [line for line in log.read_text().splitlines() if line.startswith("docker build")]
    found = dict(re.findall(r"--build-arg (\w+)=(\S+)", built))
    assert found.pop("REVISION") != ""
    assert found == {
        "BASE": image.OFFICIAL_BASE,
        "VERSION": __version__,
        "APT_MIRROR": "http://mirror",
        "https_proxy": "http://proxy:3128",
    }
    assert built.endswith(f"-f {DOCKER}/Dockerfile -t nnie_prep {ROOT}")
    declared = set(re.findall(r"^ARG (\w+)", RECIPE, re.M))
    assert {"BASE", "VERSION", "REVISION", "APT_MIRROR", "PIP_INDEX_URL"} <= declared


# ---- what is given --------------------------------------------------------------------------------


@pytest.fixture
def given(load, monkeypatch, tmp_path) -> ModuleType:
    """image.py with a folder `given` of the test's own, and two files that may be given."""
    image = load("image")
    monkeypatch.setattr(image, "HERE", tmp_path)
    (tmp_path / "given").mkdir()
    (tmp_path / "company.pem").write_text("certificates")
    (tmp_path / "caffe-1.0.tar.gz").write_text("source")
    monkeypatch.setenv("CA_BUNDLE", str(tmp_path / "company.pem"))
    monkeypatch.setenv("CAFFE_SOURCE", str(tmp_path / "caffe-1.0.tar.gz"))
    return image


def test_given_files_lie_there_for_the_time_of_the_build(given, tmp_path) -> None:
    with pytest.raises(KeyboardInterrupt), given.given_files():
        assert (tmp_path / "given/ca.crt").read_text() == "certificates"
        assert (tmp_path / "given/caffe.tar").read_text() == "source"
        raise KeyboardInterrupt
    assert list((tmp_path / "given").iterdir()) == []


def test_what_the_user_put_there_stays(given, tmp_path) -> None:
    (tmp_path / "given/ca.crt").write_text("mine")
    with given.given_files():
        assert (tmp_path / "given/ca.crt").read_text() == "mine"
    assert (tmp_path / "given/ca.crt").read_text() == "mine"


@pytest.mark.parametrize("name", ["CA_BUNDLE", "CAFFE_SOURCE"])
def test_what_is_given_must_be_a_file(given, monkeypatch, tmp_path, capsys, name: str) -> None:
    monkeypatch.setenv(name, str(tmp_path / "missing"))
    with pytest.raises(SystemExit) as end, given.given_files():
        pass
    assert end.value.code == 2
    assert f"{tmp_path}/missing is no file" in capsys.readouterr().err
    assert list((tmp_path / "given").iterdir()) == []


def test_git_keeps_what_is_given_out() -> None:
    for name, ignored in (("ca.crt", 0), ("caffe.tar", 0), ("README", 1)):
        command = ["git", "check-ignore", "--no-index", "-q", f"docker/given/{name}"]
        assert subprocess.run(command, cwd=ROOT).returncode == ignored


# ---- the base -------------------------------------------------------------------------------------


def test_a_slim_base_keeps_the_licences(load, tmp_path) -> None:
    for name in ("share/doc/bash/copyright", "share/doc/bash/NEWS", "share/man/man1/ls.1", "share/x/y"):
        (tmp_path / "usr" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "usr" / name).touch()
    (tmp_path / "usr/share/doc/dash").symlink_to("bash")
    for name in ("etc/apt", "etc/dpkg/dpkg.cfg.d", "var/lib/apt/lists/partial"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "var/lib/apt/lists/Packages").touch()
    load("image").make_slim(tmp_path)
    left = {str(path.relative_to(tmp_path / "usr/share")) for path in (tmp_path / "usr/share").rglob("*")}
    assert left == {"doc", "doc/bash", "doc/bash/copyright", "man", "x", "x/y"}
    assert (
        not list((tmp_path / "var").rglob("Packages")) and (tmp_path / "var/lib/apt/lists/partial").is_dir()
    )
    assert "bookworm-security main" in (tmp_path / "etc/apt/sources.list").read_text()
