"""Paths that lead to no file: every command refuses each of them in its own words, and none waits for it."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cli_cases import refuses, run

pytestmark = pytest.mark.slow

DATA = Path(__file__).parent.parent / "data"
DARKNET = ("net.cfg", "net.weights")
SMALL = ("small.prototxt", "small.caffemodel")
NET = ("net.prototxt", "net.caffemodel")
# What a command reads of a user's, each with a place for an odd path: {file}.
READS = (
    ("prepare", "{net.cfg}", "{net.weights}", "--input", "{d.npy}", "--limits", "{no.json}", "-o", "x")
    + ("--images", "{pictures}"),
    ("prepare", "{small.prototxt}", "{small.caffemodel}", "-o", "x"),
    ("darknet2caffe", "{net.cfg}", "{net.weights}", "-o", "x"),
    ("darknet2caffe", *DARKNET, "--against", "darknet", "--darknet-lib", "{names}", "-o", "x"),
    ("merge-bn", "{small.prototxt}", "{small.caffemodel}"),
    ("merge-bn", "--model", "{small.prototxt}", "--weights", "{small.caffemodel}", "--input", "{x.npy}"),
    ("add-bias", "{small.prototxt}", "{small.caffemodel}"),
    ("strip", "{small.prototxt}", "{small.caffemodel}"),
    ("edit", "{small.prototxt}", "{small.caffemodel}", "--rename-layer", "fc=f", "--input", "{x.npy}"),
    ("fold-darknet", "{net.cfg}", "{net.weights}", "-o", "x", "--input", "{d.npy}"),
    ("verify", "{small.prototxt}", "{small.caffemodel}", "{small.prototxt}", "{small.caffemodel}")
    + ("--input", "{x.npy}"),
    ("run", "{small.prototxt}", "{small.caffemodel}", "--input", "{x.npy}", "-o", "x.npz"),
    ("detect", "{net.prototxt}", "{net.caffemodel}", "{photo.jpg}", "-o", "x.png", "--names", "{names}")
    + ("--heads", "{net.json}", "--font", "{names}"),
    ("inspect", "{net.cfg}", "{net.weights}"),
    ("show", "{small.prototxt}", "{small.caffemodel}"),
    ("diff", "{small.prototxt}", "{small.caffemodel}", "{net.prototxt}", "{net.caffemodel}"),
    ("check", "{small.prototxt}", "{small.caffemodel}", "--limits", "{no.json}"),
    ("mapper-cfg", "{net.prototxt}", "{net.caffemodel}", "--images", "{pictures}", "--limits", "{no.json}"),
    ("mapper-cfg", *NET, "--images", "data={pictures}", "--mean", "{names}", "--scale", "1"),
    ("mapper-cfg", *NET, "--tensors", "{d.npy}", "-o", "x.cfg"),
    ("mapper-cfg", *NET, "--transform", "{small.prototxt}", "-o", "x.cfg"),
    ("mapper-cfg", "--check", "{net_mapper.cfg}"),
    ("quantize-sim", "{net.prototxt}", "{net.caffemodel}", "--input", "{d.npy}"),
    ("quantize-sim", *NET, "--cfg", "{net_mapper.cfg}"),
    ("compare-dump", "{net.prototxt}", "{net.caffemodel}", "{dumps}", "--input", "{d.npy}"),
    ("batch", "{models.yaml}"),
)
# What it writes besides STEM, of which a / at the end makes a folder.
WRITES = (
    ("merge-bn", *SMALL, "--output_model", "{x.prototxt}", "--output_weights", "{x.caffemodel}"),
    ("run", *SMALL, "--input", "x.npy", "-o", "{x.npz}"),
    ("detect", *NET, "photo.jpg", "-o", "{x.png}"),
    ("check", *SMALL, "--sarif", "{x.sarif}"),
    ("batch", "models.yaml", "--junit", "{x.xml}"),
)
FOLDERS = (".", "/", "", "..", "folder{}/", "folder{}")
NO_FILES = (*FOLDERS, "pipe{}", "../unreadable{}", "dangling{}", "x" * 300 + "{}", "names/x{}")


class Waited(BaseException):
    """It is none of those that a command catches."""


@pytest.fixture
def patience() -> Iterator[None]:
    """Ends what takes longer than a command for a small network ever does."""

    def end(*_: object) -> None:
        raise Waited

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def place(folder: Path) -> Path:
    """The folder with one file of each kind, and a path of each odd kind for each suffix."""
    for name in ("pictures", "dumps"):
        Path(name).mkdir()
    Path("dumps/layer0-conv_output0_6_16_24_quant.linear.hex").write_text("0")
    shutil.copy(DATA / "photo.jpg", "photo.jpg")
    shutil.copy("photo.jpg", "pictures/a.jpg")
    np.save("x.npy", np.zeros((1, 3, 11, 13), np.float32))
    np.save("d.npy", np.zeros((1, 3, 16, 24), np.float32))
    Path("names").write_text("1\n2\n")
    Path("no.json").write_text("{}")
    Path("models.yaml").write_text("models: [{cfg: net.cfg, output: x}]")
    assert run("prepare", "net.cfg", "net.weights", "--images", "pictures", "-q").code == 0
    kinds = {Path(part.partition("{")[2][:-1]).suffix for one in READS + WRITES for part in one}
    for suffix in kinds:
        os.mkfifo(f"pipe{suffix}")
        Path(f"folder{suffix}").mkdir()
        Path(f"dangling{suffix}").symlink_to("nowhere")
        Path(f"../unreadable{suffix}").symlink_to("/proc/self/mem")  # root may read what has no permission
    return folder


def spoiled(arguments: tuple[str, ...], paths: tuple[str, ...]) -> Iterator[tuple[list[str], str]]:
    """The command line, once with each odd path in each of its places, and what a message must name."""
    whole = [one.replace("{", "").replace("}", "") for one in arguments]
    for place, text in enumerate(arguments):
        before, opened, rest = text.partition("{")
        for path in paths if opened else ():
            odd = path.format(Path(rest[:-1]).suffix)
            if rest == "pictures}" and odd in (".", "", "..", "folder", "folder/"):
                continue  # a folder, as it should be
            named = Path(odd).stem or ("/" if odd == "/" else "")
            yield [*whole[:place], before + odd, *whole[place + 1 :]], named


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("arguments", READS, ids=lambda one: one[0])
def test_what_is_read(place: Path, arguments: tuple[str, ...]) -> None:
    for line, named in spoiled(arguments, NO_FILES):
        message = refuses(place, *line)
        assert named in message, (line, message)


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("arguments", WRITES, ids=lambda one: one[0])
def test_what_is_written(place: Path, arguments: tuple[str, ...]) -> None:
    for line, named in spoiled(arguments, (*FOLDERS, "pipe{}", "dangling{}", "x" * 300 + "{}", "names/x{}")):
        message = refuses(place, *line)
        assert named in message, (line, message)
