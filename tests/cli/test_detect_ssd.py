"""`detect` on a net that ends in DetectionOutput, a thin MobileNet-SSD: its boxes are those that OpenCV's own
reader and layers find."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from cli_cases import refuses, run
from drawn_nets import drawn
from numpy.typing import NDArray

from nnie_prep.nnie_caffe_pb2 import BlobProto

pytestmark = pytest.mark.slow

DETECT = ("detect", "ssd.prototxt", "ssd.caffemodel", "room.png")
SIZE = (160, 128)
CLASSES = 21


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `ssd` copies, and the pair as `prepare` leaves it."""
    place = tmp_path_factory.mktemp("made")
    prototxt, caffemodel = drawn("mobilenet_ssd_v1", "--depth", "0.25", "--size", "128", "160")
    text = prototxt.read_text().replace("confidence_threshold: 0.25", "confidence_threshold: 0.2")
    # OpenCV reads the sizes of priors as whole numbers.
    (place / "ssd.prototxt").write_text(re.sub(r"(m\w\w_size: )(\d+\.\d+)", _rounded, text))
    shutil.copy(caffemodel, place / "ssd.caffemodel")
    pair = [place / name for name in DETECT[1:3]]
    assert run("prepare", *pair, "-q", "-o", place / "cut").code == 0
    y, x = np.mgrid[:70, :150]
    waves = np.stack([np.sin(x / 9), np.cos(y / 7), np.sin((x + y) / 23)], axis=2) * 90 + 120
    noise = np.random.default_rng(8).normal(0, 15, waves.shape)
    cv2.imwrite(str(place / "room.png"), np.clip(waves + noise, 0, 255).astype(np.uint8))
    return place


@pytest.fixture
def ssd(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """ssd.prototxt and .caffemodel of 128x160, and room.png of 150x70, waves of colours under noise."""
    for name in DETECT[1:]:
        shutil.copy(made / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _rounded(match: re.Match[str]) -> str:
    return f"{match[1]}{round(float(match[2]))}"


def opencvs(
    mean: Sequence[float] = (0,), scale: float = 1.0, rgb: bool = False, least: float = 0.25
) -> NDArray[np.float64]:
    """Rows of label, confidence, left, top, right, bottom in pixels, the most confident first."""
    net = cv2.dnn.readNetFromCaffe("ssd.prototxt", "ssd.caffemodel")
    picture = cv2.imread("room.png")
    assert picture is not None
    values = cv2.resize(picture, SIZE).astype(np.float32)[:, :, :: -1 if rgb else 1]
    fed = (values - np.asarray(mean, np.float32)) * np.float32(scale)
    net.setInput(np.ascontiguousarray(fed.transpose(2, 0, 1)[np.newaxis]))
    rows = np.asarray(net.forward(), np.float64)[0, 0]
    corners = np.clip(rows[:, 3:], 0, 1) * (150, 70, 150, 70)
    seen = (rows[:, 2] > least) & (corners[:, 0] < corners[:, 2]) & (corners[:, 1] < corners[:, 3])
    found = np.concatenate([rows[:, 1:3], corners], axis=1)[seen]
    return found[np.argsort(-found[:, 1], kind="stable")]


def ours(*options: object, pair: Sequence[str] = DETECT[1:3]) -> NDArray[np.float64]:
    done = run("detect", *pair, DETECT[3], "--json", *options)
    assert (done.code, done.err) == (0, ""), done
    keys = ("kind", "confidence", "left", "top", "right", "bottom")
    found = [[one[key] for key in keys] for one in json.loads(done.out)["detections"]]
    return np.array(found, np.float64).reshape(-1, 6)


def assert_equal(found: NDArray[np.float64], expected: NDArray[np.float64]) -> None:
    """The same from another engine or other weights: float32 rounds otherwise, and exp carries it on. Seen
    were 8e-6 of a confidence and 2e-4 of a pixel."""
    assert found.shape == expected.shape
    difference = np.abs(found - expected).max(axis=0)
    assert (difference < (0.5, 2e-5, *4 * (1e-3,))).all(), difference


def assert_same(found: NDArray[np.float64], expected: NDArray[np.float64]) -> None:
    """Resizing differs by a level in a few pixels, which a random net carries to 1e-3 of a confidence."""
    assert len(expected) > 5 and len(set(expected[:, 0])) > 2
    assert len(found) == len(expected)
    unmatched = list(expected)
    for row in found:  # those that hardly differ in confidence may change places
        distances = [np.abs(row - other) / (0.1, 2e-3, 0.5, 0.5, 0.5, 0.5) for other in unmatched]
        best = min(range(len(unmatched)), key=lambda place: float(distances[place].max()))
        assert distances[best].max() < 1, (row, unmatched[best])
        del unmatched[best]


NORMAL = {"mean": (127.5,), "scale": 0.007843}
HOW: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "mean and scale": (("--mean", "127.5", "--scale", "0.007843"), NORMAL),
    "means": (
        ("--mean", "104,117,123", "--scale", "0.017"),
        {"mean": (104, 117, 123), "scale": 0.017},
    ),
    "rgb": (
        ("--mean", "124,117,104", "--scale", "0.017", "--order", "rgb"),
        {"mean": (124, 117, 104), "scale": 0.017, "rgb": True},
    ),
    "scale": (("--scale", "0.011"), {"scale": 0.011}),
    "threshold": (
        ("--mean", "127.5", "--scale", "0.007843", "--threshold", "0.26"),
        NORMAL | {"least": 0.26},
    ),
}


@pytest.mark.parametrize("how", HOW)
def test_boxes_are_opencvs(ssd: Path, how: str) -> None:
    options, same = HOW[how]
    assert_same(ours(*options), opencvs(**same))
    report = run(*DETECT, *options).out.splitlines()
    assert report[0].startswith("room.png (150x70), resized to 160x128")
    drawn_one, room = cv2.imread("room_detected.png"), cv2.imread("room.png")
    assert drawn_one is not None and room is not None
    assert drawn_one.shape == room.shape and not np.array_equal(drawn_one, room)


def test_what_it_is_fed_with_matters_and_is_told(ssd: Path) -> None:
    rows = [opencvs(**same) for _, same in HOW.values()]
    assert len({row[0].tobytes() for row in rows[:4]}) == 4
    for options, told in (
        (HOW["rgb"][0], "RGB, minus 124/117/104, times 0.017"),
        (HOW["scale"][0], "BGR, times 0.011"),
    ):
        assert run(*DETECT, *options).out.splitlines()[0] == f"room.png (150x70), resized to 160x128, {told}"


def test_the_files_may_say_how(ssd: Path) -> None:
    """A transform_param, or a mean file of Caffe's."""
    Path("train.prototxt").write_text(
        'layer { name: "d" type: "Data" top: "data" transform_param { scale: 0.007843 mean_value: 127.5 } }'
    )
    expected = opencvs(**NORMAL)
    assert_same(ours("--transform", "train.prototxt"), expected)
    values = np.tile(np.float32([[[104]], [[117]], [[123]]]), (1, 128, 160))
    message = BlobProto(num=1, channels=3, height=128, width=160, data=values.ravel())
    Path("mean.binaryproto").write_bytes(message.SerializeToString())
    assert_same(ours("--mean", "mean.binaryproto", "--scale", "0.017"), opencvs(**HOW["means"][1]))


def test_the_layers_own_thresholds_hold(ssd: Path) -> None:
    done = json.loads(run(*DETECT, *HOW["scale"][0], "--threshold", "0.1", "--json").out)
    assert (done["threshold"], done["nms"], done["nms_kind"]) == (0.2, 0.45, "DetectionOutput")
    assert min(one["confidence"] for one in done["detections"]) > 0.2
    done = run(*DETECT, *HOW["scale"][0], "--threshold", "1")
    assert done.code == 0 and "nothing found with a confidence above 1\ntry a lower --threshold\n" in done.out


@pytest.mark.parametrize("background", [True, False])
def test_names(ssd: Path, background: bool) -> None:
    """With the background or without it."""
    names = [f"thing {number}" for number in range(CLASSES)]
    Path("names").write_text("\n".join(names if background else names[1:]))
    found = json.loads(run(*DETECT, *HOW["scale"][0], "--json", "--names", "names").out)["detections"]
    assert found and all(one["name"] == f"thing {one['kind']}" for one in found)


@pytest.mark.caffe
def test_in_caffe(ssd: Path) -> None:
    options = HOW["mean and scale"][0]
    assert_equal(ours(*options, "--engine", "caffe"), ours(*options))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "nobody says how input data was normalised in training; give --transform"),
        (("--mean", "1,2"), "2 means for 3 channels; give one for each channel"),
        (("--mean", "no"), "--mean no: is neither numbers nor a file"),
        (("--scale", "0"), "--scale 0: is no factor"),
        (
            ("--scale", "1", "--nms", "0.3"),
            "suppresses by itself; leave out --nms, or change the net: nnie-prep edit --set 'layer[",
        ),
        (("--scale", "1", "--letterbox"), "--letterbox: an SSD's pictures are stretched; leave it out"),
        (
            ("--scale", "1", "--names", "names"),
            "names: holds 3 names, and layer detection_out has 21 classes",
        ),
        (("--mean", "small.binaryproto"), "its shape is (3, 2, 2), and the input's (3, 128, 160)"),
        (("--transform", "no"), "no: does not exist"),
        (("--tree", "names"), "--tree: is for a network of Darknet's, and this one is an SSD"),
        (("--scale", "1e30"), "ssd.prototxt:1732: blob detection_out holds values that are not finite"),
        (("--scale", "1", "--heads", "ssd.prototxt"), "ssd.prototxt: is not JSON"),
    ],
)
def test_mistakes(ssd: Path, options: tuple[str, ...], says: str) -> None:
    Path("names").write_text("a\nb\nc\n")
    message = BlobProto(num=1, channels=3, height=2, width=2, data=[0.0] * 12)
    Path("small.binaryproto").write_bytes(message.SerializeToString())
    assert says in refuses(ssd, *DETECT, *options)


@pytest.fixture
def cut(made: Path, ssd: Path) -> tuple[str, str]:
    """The pair as `prepare` leaves it: without the DetectionOutput and what leads to it."""
    for path in made.glob("cut.*"):
        shutil.copy(path, ssd)
    assert "DetectionOutput" not in Path("cut.prototxt").read_text()
    return "cut.prototxt", "cut.caffemodel"


@pytest.mark.parametrize("how", ["rgb", "threshold"])
def test_a_head_that_was_cut_off_is_done_by_its_description(cut: tuple[str, str], how: str) -> None:
    options, same = HOW[how]
    expected = ours(*options, "-o", "uncut.png")
    assert_same(ours(*options, pair=cut), opencvs(**same))
    assert_equal(ours(*options, pair=cut), expected)


@pytest.mark.caffe
def test_a_head_that_was_cut_off_in_caffe(cut: tuple[str, str]) -> None:
    options = HOW["mean and scale"][0]
    found = ours(*options, "--engine", "caffe", pair=cut)
    assert_equal(found, ours(*options, "-o", "uncut.png"))


@pytest.mark.parametrize(
    ("place", "value", "says"),
    [
        (("type",), "Yolov3DetectionOutput", "is a Yolov3DetectionOutput that was cut off"),
        (("sources",), [], "sources is [], expected a list of objects"),
        (("sources",), [1], "sources is [1], expected a list of objects"),
        (("confidence",), "none", 'confidence is "none", expected softmax, sigmoid, as is'),
        (("code_type",), "ANY", 'code_type is "ANY", expected CORNER, CENTER_SIZE, CORNER_SIZE'),
        (("share_location",), 1, "share_location is 1, expected true or false"),
        (("sources", 0, "location"), 1, "location is 1, expected an object"),
        (("sources", 0, "location", "blob"), "no", "reads blob no, which cut.prototxt has not"),
        (("sources", 0, "location", "order"), [0, 1, 2], "order is [0, 1, 2], expected the axes of"),
        (("sources", 0, "location", "order"), [0, 2.5, 3, 1], "expected a list of integers of 0 to 65536"),
        (("sources", 0, "priors", "image"), [10**12, 9], "expected a list of 2 integers of 1 to 65536"),
        (("sources", 0, "priors", "min_size"), [1e300], "min_size is [inf]"),
        (("output",), "\ud800", 'output is "\\ud800", expected a text'),
        (("sources", 0, "map"), [3, 3], "source 0: its priors are for a map of 3x3, and blob"),
        (("sources", 0, "priors", "variance"), [1], "variance is [1], expected a list of 4 numbers"),
        (("sources", 0, "priors", "step"), [0, 1], "step is [0, 1], expected two numbers above 0"),
        (("sources", 1, "priors", "sizes"), [[1, 1]], "source 1: priors: sizes is [[1, 1]], expected those"),
        (("output",), "data", "writes blob 'data', which is written before it"),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_descriptions_that_are_not_the_nets(
    ssd: Path, cut: tuple[str, str], place: tuple[str | int, ...], value: object, says: str
) -> None:
    document = json.loads(Path("cut.json").read_text())
    inner = document["heads"][0]
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    Path("other.json").write_text(json.dumps(document))
    said = refuses(ssd, "detect", *cut, "room.png", "--scale", "1", "--heads", "other.json")
    assert said.startswith("other.json: head 0") and says in said


def test_a_net_without_its_head_is_not_told_to_be_edited(ssd: Path, cut: tuple[str, str]) -> None:
    said = refuses(ssd, "detect", *cut, "room.png", "--scale", "1", "--nms", "0.3")
    assert "suppresses by itself; leave out --nms" in said and "edit" not in said


def test_priors_of_another_size_are_not_told_of(ssd: Path, cut: tuple[str, str]) -> None:
    """An edit of the input's size leaves STEM.json no priors that would be wrong; another batch does."""
    done = run("edit", *cut, "--input-shape", "1,3,128,192", "-o", "wide")
    assert done.code == 0
    assert (
        "the .json describes detection_out (DetectionOutput) no more: what it reads has another" in done.err
    )
    said = refuses(ssd, "detect", "wide.prototxt", "wide.caffemodel", "room.png", "--scale", "1")
    assert "wide.json: head 0: is a DetectionOutput that is not told of: what it reads has another" in said
    done = run("edit", *cut, "--batch", "2", "-o", "twice")
    assert done.code == 0 and not done.err
    heads = [json.loads(Path(f"{stem}.json").read_text())["heads"] for stem in ("cut", "twice")]
    assert heads[0] == heads[1]


def test_several_heads_that_were_cut_off(ssd: Path, cut: tuple[str, str]) -> None:
    document = json.loads(Path("cut.json").read_text())
    document["heads"] *= 2
    Path("other.json").write_text(json.dumps(document))
    said = refuses(ssd, "detect", *cut, "room.png", "--scale", "1", "--heads", "other.json")
    assert "tells of 2 DetectionOutput layers that were cut off; give the pair that it was cut from" in said


def test_priors_do_not_hinder_the_fold_of_the_input(ssd: Path) -> None:
    """They read the picture for its size alone: raw pictures are seen as normalized ones were."""
    scale = HOW["scale"][0]
    done = run("merge-bn", *DETECT[1:3], "--fold-input", "scale=0.011,order=bgr,feed=rgb", "-o", "raw")
    assert (done.code, done.err) == (0, "") and "EQUAL: " in done.out
    expected = ours(*scale)
    raw = ours("--force", pair=("raw.prototxt", "raw.caffemodel"))
    assert_equal(raw, expected)
