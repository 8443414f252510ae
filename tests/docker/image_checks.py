"""What the image does, seen from outside. `make test-image` runs this; `make image` must have built it.

The same checks hold under docker, podman and buildah. Every container runs without a network and can
write to its mounted folder only, and unless it says otherwise as a user that nobody has heard of.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from cli_cases import assert_same_files, command, listing, write_caffe, write_darknet

from nnie_prep import __version__

ROOT = Path(__file__).resolve().parents[2]
STRANGER = 12345, 23456  # uid and gid that are in nobody's passwd
WRITTEN = ("prototxt", "caffemodel", "json")


class Image(NamedTuple):
    tool: object
    name: str

    def run(self, folder: Path | None, *arguments: object, **options: object) -> subprocess.CompletedProcess:
        """Runs the image's entry point on a folder, as the folder's owner."""
        if folder is not None:
            owner = folder.stat()
            options = {"user": f"{owner.st_uid}:{owner.st_gid}", **options}
        return self.tool.run(self.name, [str(one) for one in arguments], folder=folder, **options)

    def python(self, program: str) -> str:
        """What a program prints that the image's Python runs."""
        done = self.tool.run(self.name, ["-c", program], entrypoint="python3")
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    sys.path.insert(0, str(ROOT / "docker"))
    try:
        found = importlib.import_module("image")
        tool = found.tool_with_image()
        if tool is None:
            pytest.fail(f"no tool here runs an image {found.image_name()}; run `make image`", pytrace=False)
        yield Image(tool, found.image_name())
    finally:
        sys.path.remove(str(ROOT / "docker"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A stranger's folder with the small networks in it, or one's own where one cannot give it away."""
    place = tmp_path / "models"
    place.mkdir()
    write_darknet(place)
    write_caffe(place)
    return given_away(place)


def given_away(place: Path, owner: tuple[int, int] = STRANGER) -> Path:
    if os.geteuid() == 0:
        for path in (place, *place.iterdir()):
            os.chown(path, *owner)
    return place


def outside(folder: Path, *arguments: object) -> subprocess.CompletedProcess:
    """Runs the same command here, without the image."""
    return subprocess.run(command(*arguments), cwd=folder, capture_output=True, text=True)


def same_bytes(image: Image, folder: Path, *arguments: str, engine: str = "numpy") -> None:
    """What the image proves and writes, owned by whoever owns the folder, is what is written outside."""
    inputs = set(folder.iterdir())
    apart = folder.with_name("apart")
    shutil.copytree(folder, apart)
    done = image.run(folder, *arguments, "--engine", engine)
    assert done.returncode == 0, done.stderr
    assert f"on the {engine} engine" in done.stdout
    written = set(folder.iterdir()) - inputs
    report = ["txt"] if "prepare" in arguments else []
    assert sorted(path.suffix[1:] for path in written) == sorted([*WRITTEN, *report])
    for path in written:
        assert path.stat().st_uid == folder.stat().st_uid and path.stat().st_gid == folder.stat().st_gid
    assert outside(apart, *arguments, "--no-verify").returncode == 0
    assert_same_files(apart, folder)


# ---- what it is ------------------------------------------------------------------------------


def test_it_says_what_it_is(image: Image) -> None:
    said = image.run(None, "--version")
    assert (said.returncode, said.stdout) == (0, f"nnie_prep {__version__}\n")
    configuration = image.tool.configuration(image.name)
    assert configuration["Entrypoint"] == ["nnie-prep"]
    assert configuration["WorkingDir"] == "/models"
    assert configuration["User"] not in ("", "root", "0")
    labels = {key.rpartition(".")[2]: value for key, value in configuration["Labels"].items()}
    assert (labels["title"], labels["version"], labels["licenses"]) == ("nnie_prep", __version__, "MIT")
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?|unknown", labels["revision"])
    health = configuration["Healthcheck"]["Test"]
    assert health[0] == "CMD"
    assert image.run(None, *health[2:], entrypoint=health[1]).returncode == 0


def test_it_is_small(image: Image) -> None:
    assert image.tool.size(image.name) < 300e6


def test_it_holds_what_running_needs_and_no_more(image: Image) -> None:
    listed = image.python(
        "from importlib import metadata\n"
        "for one in metadata.distributions(): print(one.name.lower().replace('_', '-'), one.version)"
    )
    found = dict(line.split() for line in listed.splitlines())
    pinned = re.findall(r"^(\S+)==(\S+)", (ROOT / "docker/requirements.txt").read_text(), re.M)
    assert re.fullmatch(r"1\.0\.0\+k[0-9a-f]{16}", found.pop("nnie-prep-caffe"))
    assert found == {"nnie-prep": __version__, **dict(pinned)}
    tools = ("pip", "pip3", "cc", "gcc", "g++", "ld", "make", "cmake", "git", "curl", "wget")
    assert image.python(f"import shutil; print([one for one in {tools} if shutil.which(one)])") == "[]"
    left = (
        "print([*map(str, Path('/opt').rglob('tests')), *map(str, Path('/var/lib/apt/lists').glob('*_*'))])"
    )
    assert image.python("from pathlib import Path; " + left) == "[]"


def test_it_has_its_bytecode(image: Image) -> None:
    """A container is new each time: without, each would compile numpy and the rest again."""
    program = (
        "import os, sys, numpy, xxhash, nnie_prep.cli, nnie_prep.nnie_caffe_pb2\n"
        "cached = [getattr(module, '__cached__', None) for module in sys.modules.values()]\n"
        "print([file for file in cached if file and not os.path.exists(file)])"
    )
    assert image.python(program) == "[]"


def test_nothing_can_be_reached_or_written(image: Image) -> None:
    """Says of the checks below that they need no network and no writable root."""
    if image.tool.is_buildah and os.geteuid() != 0:
        pytest.fail("buildah takes the network away for root only; run this as root", pytrace=False)
    assert image.python("import socket; print([n for _, n in socket.if_nameindex() if n != 'lo'])") == "[]"
    writable = image.python(
        "import os, stat\n"
        "for top, folders, _ in os.walk('/'):\n"
        "    if top == '/': folders[:] = set(folders) - {'proc', 'sys', 'dev'}\n"
        "    if os.access(top, os.W_OK): print(top)"
    )
    # /models is its user's own, for those who mount nothing; no container here is told to write there.
    assert set(writable.split()) <= {"/models", "/run/lock", "/var/lock"}


# ---- what it does ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("prepare", "net.cfg", "net.weights", "-o", "out"),
        ("darknet2caffe", "net.cfg", "net.weights", "-o", "out", "--approximate", "pool-2-1"),
        ("prepare", "small.prototxt", "small.caffemodel", "-o", "out"),
        ("merge-bn", "small.prototxt", "small.caffemodel", "-o", "out"),
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
@pytest.mark.parametrize("engine", ["numpy", "caffe"])
def test_the_same_bytes_as_outside(
    image: Image, folder: Path, arguments: tuple[str, ...], engine: str
) -> None:
    same_bytes(image, folder, *arguments, engine=engine)


def test_a_real_network(image: Image, tmp_path: Path, yolov3_tiny) -> None:
    place = tmp_path / "models"
    place.mkdir()
    shutil.copy(yolov3_tiny.description, place / "yolov3-tiny.cfg")
    shutil.copy(yolov3_tiny.weights, place / "yolov3-tiny.weights")
    same_bytes(image, given_away(place), "prepare", "yolov3-tiny.cfg", "yolov3-tiny.weights", "-o", "out")


def test_a_manifest(image: Image, folder: Path) -> None:
    """Its processes find what they need in the image, and the second run nothing to do."""
    (folder / "models.yaml").write_text("models: [{cfg: net.cfg}, {prototxt: small.prototxt}]")
    for state in ("prepared", "up to date"):
        done = image.run(given_away(folder), "batch", "models.yaml", "-j", 2, "--json")
        assert done.returncode == 0, done.stderr
        assert [model["state"] for model in json.loads(done.stdout)["models"]] == [state] * 2


def test_names_in_chinese(image: Image, folder: Path) -> None:
    for suffix in (".cfg", ".weights"):
        (folder / f"net{suffix}").rename(folder / f"网络 一{suffix}")
    same_bytes(image, folder, "prepare", "网络 一.cfg", "网络 一.weights")


def test_verify_with_caffe(image: Image, folder: Path) -> None:
    """0 where both compute the same, 1 where they do not."""
    source = ("small.prototxt", "small.caffemodel")
    assert image.run(folder, "merge-bn", *source, "-o", "out", "--no-verify", "-q").returncode == 0
    result = ("out.prototxt", "out.caffemodel")
    same = image.run(folder, "verify", *source, *result, "--engine", "caffe")
    assert same.returncode == 0, same.stderr
    assert re.match("EQUAL: .* on the caffe engine", same.stdout)

    write_caffe(folder, "other", seed=1)
    given_away(folder)
    other = ("other.prototxt", "other.caffemodel")
    differs = image.run(folder, "verify", *source, *other, "--engine", "caffe")
    assert differs.returncode == 1, differs.stderr
    assert differs.stdout.startswith("DIFFERS: ")


def test_a_conversion_that_fails(image: Image, folder: Path) -> None:
    cfg = folder / "net.cfg"
    cfg.write_text(cfg.read_text().replace("activation=leaky", "activation=lekay", 1))
    before = listing(folder)
    done = image.run(folder, "prepare", "net.cfg", "net.weights", "--strict")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"nnie_prep: error: net\.cfg:\d+: .*lekay.*leaky\?.*\n", done.stderr)
    assert listing(folder) == before


def test_a_folder_that_one_may_not_write_to(image: Image, folder: Path) -> None:
    before = listing(folder)
    done = image.run(folder, "prepare", "net.cfg", "net.weights", user="34567:34567")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("nnie_prep: error: ") and done.stderr.count("\n") == 1, done.stderr
    assert listing(folder) == before


def test_its_own_user(image: Image, folder: Path) -> None:
    """Without --user: uid 1000, the first user of most machines."""
    if os.geteuid() != 0 and os.getuid() != 1000:
        folder.chmod(0o777)
    given_away(folder, (1000, 1000))
    done = image.run(folder, "prepare", "net.cfg", "net.weights", user=None)
    assert done.returncode == 0, done.stderr
    assert {(folder / f"net.{suffix}").stat().st_uid for suffix in WRITTEN} == {1000}


def test_what_the_readme_says(image: Image, folder: Path) -> None:
    """Its command lines, with the small network under the name that they use."""
    said = re.findall(r"^ +docker run (.*)$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)
    assert said
    for suffix in (".cfg", ".weights"):
        shutil.copy(folder / f"net{suffix}", folder / f"yolov3-tiny{suffix}")
    given_away(folder)
    for line in said:
        words = shlex.split(line)
        at = words.index("nnie_prep")
        assert words[:at] == ["--rm", "--user", "$(id -u):$(id -g)", "-v", "$PWD:/models"], line
        done = image.run(folder, *words[at + 1 :])
        assert done.returncode == 0, (line, done.stderr)
