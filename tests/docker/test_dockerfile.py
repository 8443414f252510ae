"""The image's recipe agrees with the files that it takes. What is in the image: image_checks.py."""

from __future__ import annotations

import fnmatch
import os
import re
import subprocess
from pathlib import Path

import pytest

from nnie_prep import __version__

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
RECIPE = (DOCKER / "Dockerfile").read_text()


def test_the_version_is_the_packages() -> None:
    assert re.findall(r"^ARG VERSION=(.+)$", RECIPE, re.M) == [__version__]


def test_debian_packages_of_the_build_stand_in_one_place(load) -> None:
    """build.py installs them; neither the recipe nor the Makefiles repeat the list."""
    build = load("build")
    texts = [
        RECIPE,
        *((ROOT / name).read_text() for name in ("Makefile", "docker/image.mk", "docker/network.sh")),
    ]
    for package in build.DEBIAN_PACKAGES + build.HDF5_PACKAGES:
        assert not any(re.search(rf"(?<![\w-]){re.escape(package)}(?![\w-])", text) for text in texts), (
            package
        )
    assert "/docker/caffe/build.py" in RECIPE


def test_the_last_stage_installs_python_alone() -> None:
    last = RECIPE[RECIPE.rindex("\nFROM ") :]
    assert re.findall(r"install_debian ([^&]*)", last) == ["python3 "]
    assert re.findall(r"^COPY (.*)$", last, re.M) == ["--from=venv /opt/nnie_prep /opt/nnie_prep"]
    for line in ("USER nnie_prep", "WORKDIR /models", 'ENTRYPOINT ["nnie-prep"]'):
        assert f"\n{line}\n" in last
    assert re.findall(r"^FROM (\S+)", RECIPE, re.M) == ["${BASE}"] * 3


def in_context(path: str) -> bool:
    """Whether .dockerignore lets a path into the build: the last rule that fits it decides."""
    kept = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        rule = line.removeprefix("!")
        if line and not line.startswith("#"):
            parents = [path, *map(str, Path(path).parents)]
            patterns = (rule, rule.removeprefix("**/"))
            if any(fnmatch.fnmatchcase(one, pattern) for one in parents for pattern in patterns):
                kept = line.startswith("!")
    return kept


def test_what_the_recipe_takes_is_there() -> None:
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", RECIPE, re.M)
    taken = [word for words in copied for word in words.split()]
    taken += re.findall(r"--mount=type=bind,source=([^,]+)", RECIPE)
    assert len(taken) > 8
    for path in taken:
        assert (ROOT / path).exists() and in_context(path), path
    for path in (".git/config", ".venv/bin/python", "tests/conftest.py", "nnie_prep/__pycache__/net.pyc"):
        assert not in_context(path), path


def test_every_step_that_fetches_reads_the_network_settings() -> None:
    steps = re.findall(r"^RUN ((?:.*\\\n)*.*)$", RECIPE, re.M)
    assert len(steps) == 3
    for step in steps:
        assert "source=docker/network.sh,target=/network.sh" in step and ". /network.sh && " in step
        assert "source=docker/given,target=/given" in step
    stages = RECIPE.split("\nFROM ")[1:]
    assert all("\nARG APT_MIRROR\n" in stage for stage in stages)


def test_the_shell_is_plain() -> None:
    done = subprocess.run(["sh", "-n", "docker/network.sh"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("mirror", "expected"),
    [("", "http://deb.debian.org"), ("https://m/x/", "https://m/x")],
)
def test_the_mirror_stands_in_the_place_of_debians(tmp_path: Path, mirror: str, expected: str) -> None:
    """network.sh, with the folders that it knows of laid into one of ours."""
    etc = tmp_path / "etc/apt"
    for name in ("apt.conf.d", "sources.list.d"):
        (etc / name).mkdir(parents=True)
    (etc / "sources.list.d/debian.sources").write_text("URIs: http://deb.debian.org/debian-security\n")
    (etc / "sources.list").write_text("deb http://deb.debian.org/debian bookworm main\n")
    (tmp_path / "given").mkdir()
    (tmp_path / "given/ca.crt").touch()
    script = (DOCKER / "network.sh").read_text()
    for folder in ("/tmp/apt", "/etc/apt", "/given"):
        script = re.sub(rf"(?<![\w.]){folder}", f"{tmp_path}{folder}", script)
    (tmp_path / "tmp").mkdir()
    settings = tmp_path / "tmp/apt"
    shown = "given.conf apt.conf.d/99given sources.list sources.list.d/debian.sources"
    told = subprocess.run(
        ["sh", "-c", f"{script}\nenv; cd {settings}; cat {shown}"],
        env={"PATH": os.environ["PATH"], "APT_MIRROR": mirror, "PIP_INDEX_URL": ""},
        capture_output=True,
        text=True,
    )
    assert told.returncode == 0, told.stderr
    assert f"APT_CONFIG={settings}/given.conf\n" in told.stdout
    assert f'Dir::Etc "{settings}";' in told.stdout
    assert f"\ndeb {expected}/debian bookworm main\n" in told.stdout
    assert f"\nURIs: {expected}/debian-security\n" in told.stdout
    assert f"PIP_CERT={tmp_path}/given/ca.crt" in told.stdout
    assert f'CAInfo "{tmp_path}/given/ca.crt"' in told.stdout
    assert "PIP_INDEX_URL" not in told.stdout, "an empty one would leave pip without an index"
    assert (etc / "sources.list").read_text() == "deb http://deb.debian.org/debian bookworm main\n"
