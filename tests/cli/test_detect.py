"""`detect`, as its user types it: the small network of cli_cases.py on a picture of noise."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from cli_cases import listing, refuses, run, spawn

from nnie_prep.caffe_io import read_net
from nnie_prep.cli import detect as command
from nnie_prep.detection import detect
from nnie_prep.detection.heads import read_description
from nnie_prep.detection.picture import as_planes, read_picture
from nnie_prep.detection.preparation import prepare
from nnie_prep.engines import numpy as numpy_engine

DETECT = ("detect", "net.prototxt", "net.caffemodel", "room.png")


@pytest.fixture
def pair(folder: Path) -> Path:
    """net.prototxt, .caffemodel and .json of a [yolo] with 2 classes on 24x16, and room.png of 60x30."""
    assert run("prepare", "net.cfg", "net.weights", "-q", "--no-verify").code == 0
    pixels = np.random.default_rng(0).integers(0, 256, (30, 60, 3), np.uint8)
    cv2.imwrite("room.png", pixels)
    return folder


def expected(letterbox: bool = False, threshold: float = 0.25, overlap: float = 0.45) -> list[Any]:
    x, placement = prepare(as_planes(read_picture(Path("room.png")), 3), 24, 16, letterbox)
    blobs = numpy_engine.forward(read_net(Path("net.prototxt"), Path("net.caffemodel")), {"data": x[None]})
    return detect(read_description(Path("net.json")).heads, blobs, placement, threshold, overlap)


def edit(change: Callable[[dict[str, Any]], None]) -> None:
    """Changes net.json."""
    document = json.loads(Path("net.json").read_text())
    change(document)
    Path("net.json").write_text(json.dumps(document))


def test_the_table_and_the_picture(pair: Path) -> None:
    before = listing(pair)
    done = run(*DETECT)
    assert (done.code, done.err) == (0, "")
    title, _, head, *rows, _, wrote = done.out.splitlines()
    assert title == "room.png (60x30), resized to 24x16"
    assert head.split() == ["class", "confidence", "left", "top", "right", "bottom"]
    found = expected()
    assert len(found) > 2
    assert [row.split() for row in rows] == [
        [str(one.kind), f"{one.confidence:.3f}", *(f"{edge:.0f}" for edge in one[2:])] for one in found
    ]
    assert wrote.startswith("wrote room_detected.png (")
    after = listing(pair)
    assert after.keys() - before.keys() == {"room_detected.png"}
    assert {name: after[name] for name in before} == before
    drawn, room = cv2.imread("room_detected.png"), cv2.imread("room.png")
    assert drawn is not None and room is not None
    assert drawn.shape == room.shape and not np.array_equal(drawn, room)


@pytest.mark.parametrize(
    ("options", "how"),
    [
        (("--letterbox",), {"letterbox": True}),
        (("--no-letterbox",), {}),
        (("--threshold", "0.5"), {"threshold": 0.5}),
        (("--nms", "0.1"), {"overlap": 0.1}),
        (
            ("--letterbox", "--threshold", "0.1", "--nms", "0.9"),
            {"letterbox": True, "threshold": 0.1, "overlap": 0.9},
        ),
    ],
)
def test_options(pair: Path, options: tuple[str, ...], how: dict[str, Any]) -> None:
    done = run(*DETECT, "--json", *options)
    document = json.loads(done.out)
    found = expected(**how)
    assert found and [one["confidence"] for one in document["detections"]] == [
        one.confidence for one in found
    ]
    for one, wanted in zip(document["detections"], found, strict=True):
        assert one == {"name": str(wanted.kind), **wanted._asdict()}
    assert document["letterbox"] == how.get("letterbox", False)
    assert (document["picture_size"], document["network_size"]) == ([60, 30], [24, 16])
    assert document["outputs"] == ["room_detected.png"]


def test_the_options_matter(pair: Path) -> None:
    assert len({str(expected(*how)) for how in ((), (True,), (False, 0.5), (False, 0.25, 0.1))}) == 4


def test_the_description_decides_about_the_letterbox(pair: Path) -> None:
    edit(lambda document: document["input"].update(letter_box=True))
    assert "letterboxed to 24x16" in run(*DETECT).out
    assert "resized to 24x16" in run(*DETECT, "--no-letterbox", "-o", "b.png").out


def test_names(pair: Path) -> None:
    Path("names").write_bytes("\ufeffКот\r\n犬 one\r\n\r\n".encode())
    done = run(*DETECT, "--names", "names")
    assert done.code == 0 and "Кот " in done.out and "犬 one " in done.out
    kinds = [one["name"] for one in json.loads(run(*DETECT, "--names", "names", "--json").out)["detections"]]
    assert kinds == [("Кот", "犬 one")[one.kind] for one in expected()]


@pytest.mark.parametrize("name", ["b.jpg", "b.bmp", "sub/b.png"])
def test_where_the_picture_goes(pair: Path, name: str) -> None:
    (pair / "sub").mkdir()
    assert run(*DETECT, "-o", name, "-q") == (0, "", "")
    drawn = cv2.imread(name)
    assert drawn is not None and drawn.shape == (30, 60, 3)
    assert not Path("room_detected.png").exists()


@pytest.mark.parametrize("name", ["b.png", "b.jpg", "b.bmp"])
def test_what_was_drawn_of_the_same_inputs_is_drawn_anew(pair: Path, name: str) -> None:
    """With other options too. Not what was edited, nor what was drawn of another picture."""
    arguments = (*DETECT, "-o", name)
    assert run(*arguments, "-q").code == 0
    first = Path(name).read_bytes()
    assert run(*arguments, "-q").code == 0 and Path(name).read_bytes() == first
    assert run(*arguments, "-q", "--threshold", "0.9").code == 0 and Path(name).read_bytes() != first
    Path(name).write_bytes(first[:40] + bytes([first[40] ^ 1]) + first[41:])
    assert "was edited after nnie_prep wrote it" in refuses(pair, *arguments)
    Path(name).write_bytes(first[:-100])
    assert "nothing shows that nnie_prep made it" in refuses(pair, *arguments)
    Path(name).write_bytes(first)
    cv2.imwrite("room.png", np.zeros((30, 60, 3), np.uint8))
    assert "other versions of them (net.prototxt, net.caffemodel, room.png" in refuses(pair, *arguments)


def test_a_name_that_cannot_be_drawn_is_a_warning(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nnie_prep.detection.drawing._FONTS", ())
    Path("names").write_text("犬\n猫\n", encoding="utf-8")
    done = run(*DETECT, "--names", "names")
    assert done.code == 0 and done.err.count("\n") == 1
    assert "warning: no font has the letters of" in done.err and "--font" in done.err


def test_no_more_boxes_than_one_can_look_at(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of a network whose weights are noise; the picture has the best, and --json has all."""
    found = json.loads(run(*DETECT, "--json").out)["detections"]
    rows = run(*DETECT).out.splitlines()[3:]
    monkeypatch.setattr(command, "_MOST", 2)
    said = run(*DETECT).out.splitlines()
    assert said[3:5] == rows[:2] and len(found) > 2
    assert said[5] == f"and {len(found) - 2:,} more, which are not drawn either; --json has them all"
    assert said[6].startswith("try a higher --threshold;")
    two = cv2.imread("room_detected.png")
    assert json.loads(run(*DETECT, "--json").out)["detections"] == found
    at = found[1]["confidence"]
    monkeypatch.setattr(command, "_MOST", 300)
    assert (
        len(json.loads(run(*DETECT, "--json", "--threshold", f"{at * 0.999999:.9f}").out)["detections"]) == 2
    )
    drawn = cv2.imread("room_detected.png")
    assert two is not None and drawn is not None and np.array_equal(two, drawn)


def test_nothing_found_is_an_answer(pair: Path) -> None:
    done = run(*DETECT, "--threshold", "1")
    assert (done.code, done.err) == (0, "")
    said = done.out.splitlines()
    told = said.index("nothing found with a confidence above 1")
    letterbox = "--letterbox, if your Darknet does so (pjreddie's does)"
    assert said[told + 1] == f"try a lower --threshold or {letterbox}"
    assert "try a lower --threshold\n" in run(*DETECT, "--threshold", "1", "--letterbox").out
    drawn, room = cv2.imread("room_detected.png"), cv2.imread("room.png")
    assert drawn is not None and room is not None and np.array_equal(drawn, room)
    assert json.loads(run(*DETECT, "--threshold", "1", "--json").out)["detections"] == []


def test_a_converted_pair_finds_what_the_prepared_one_does(pair: Path) -> None:
    """Names of blobs differ between them; each has its own description.

    Folded weights are rounded: seen were 7e-7 of a confidence and 1e-4 of a pixel.
    """
    assert run("darknet2caffe", "net.cfg", "net.weights", "-o", "plain", "-q", "--no-verify").code == 0
    ours, theirs = (
        json.loads(
            run(
                "detect", f"{stem}.prototxt", f"{stem}.caffemodel", "room.png", "--json", "-o", f"{stem}.png"
            ).out
        )
        for stem in ("net", "plain")
    )
    assert len(ours["detections"]) == len(theirs["detections"]) > 2
    for one, other in zip(ours["detections"], theirs["detections"], strict=True):
        assert one.keys() == other.keys() and one["kind"] == other["kind"] and one["name"] == other["name"]
        assert one["confidence"] == pytest.approx(other["confidence"], abs=5e-6)
        for edge in ("left", "top", "right", "bottom"):
            assert one[edge] == pytest.approx(other[edge], abs=1e-3)


@pytest.mark.caffe
def test_in_caffe(pair: Path) -> None:
    done = run(*DETECT, "--json", "--engine", "caffe")
    found = [one["confidence"] for one in json.loads(done.out)["detections"]]
    assert found == pytest.approx([one.confidence for one in expected()], abs=1e-5)


def test_pillow_is_asked_for_in_a_line(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    assert "pip install 'pillow>=10.1'" in refuses(pair, *DETECT)
    assert spawn("detect", "--help").code == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("detect", "net.prototxt", "net.caffemodel", "no.png"), "no.png: does not exist"),
        (("detect", "no.prototxt", "net.caffemodel", "room.png"), "no.prototxt: does not exist"),
        (("detect", "net.prototxt", "no.caffemodel", "room.png"), "no.caffemodel: does not exist"),
        (("detect", "net.prototxt", "net.caffemodel", "."), ".: is no file"),
        (("detect", "net.prototxt", "net.caffemodel", "net.cfg"), "net.cfg: is no picture; JPEG, PNG"),
        (("detect", "net.caffemodel", "net.prototxt", "room.png"), "net"),
        ((*DETECT, "--heads", "no.json"), "no.json: does not exist; --heads names the .json"),
        ((*DETECT, "--heads", "net.cfg"), "net.cfg: is not JSON"),
        ((*DETECT, "--heads", "small_inference.json"), "describes no heads of a detector"),
        ((*DETECT, "-o", "a.gif"), "a.gif: ends in '.gif'"),
        ((*DETECT, "-o", "a"), "a: ends in ''"),
        ((*DETECT, "-o", "room.png"), "room.png: "),
        ((*DETECT, "-o", "room.png", "--force"), "room.png: "),
        ((*DETECT, "-o", "no/a.png"), "no"),
        ((*DETECT, "--names", "no"), "no: does not exist"),
        ((*DETECT, "--names", "names"), "names: holds 3 names, and the heads have 2 classes"),
        ((*DETECT, "--names", "room.png"), "room.png: is not a text in UTF-8"),
        ((*DETECT, "--font", "names"), "names: is no font"),
        ((*DETECT, "--font", "no"), "no: does not exist"),
        ((*DETECT, "--tree", "no"), "no: does not exist"),
        ((*DETECT, "--mean", "127"), "--mean: is for a net that ends in DetectionOutput; one of Darknet's"),
        ((*DETECT, "--order", "bgr"), "--order: is for a net that ends in DetectionOutput; one of Darknet's"),
        ((*DETECT, "--threshold", "nan"), "nan is not between 0 and 1"),
        ((*DETECT, "--nms", "-1"), "-1 is not between 0 and 1"),
        (
            ("detect", "small.prototxt", "small.caffemodel", "room.png", "--heads", "net.json"),
            "net.json: head 0: reads blob",
        ),
        (
            DETECT,
            "room_detected.png: exists and nothing shows that nnie_prep made it from these inputs; --force",
        ),
    ],
)
def test_mistakes(pair: Path, arguments: tuple[str, ...], says: str) -> None:
    assert run("merge-bn", "small.prototxt", "small.caffemodel", "-q").code == 0
    Path("names").write_text("a\nb\nc\n")
    if arguments == DETECT:
        Path("room_detected.png").write_text("a stranger's")
    assert says in refuses(pair, *arguments)


def test_a_picture_cut_short(pair: Path) -> None:
    content = Path("room.png").read_bytes()
    Path("room.png").write_bytes(content[: len(content) // 2])
    assert refuses(pair, *DETECT).startswith("room.png: cannot be read: damaged, or cut short")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda head: head.update(blob="nowhere"), "reads blob nowhere, which net.prototxt has not"),
        (lambda head: head.update(classes=3), "expected 24 channels"),
        (lambda head: head.update(anchors=[[1, 2]]), "expected 7 channels"),
        (lambda head: head.update(type="ssd"), "is of type 'ssd'"),
        (lambda head: head.clear(), "is of type None"),
    ],
)
def test_descriptions_that_do_not_fit(
    pair: Path, change: Callable[[dict[str, Any]], None], says: str
) -> None:
    edit(lambda document: change(document["heads"][0]))
    message = refuses(pair, *DETECT)
    assert message.startswith("net.json: head 0: ") and says in message
