"""What is found in a photograph, against OpenCV's reader of Darknet networks; and what holds of any blobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import ModelFiles
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nnie_prep.caffe_io import read_net
from nnie_prep.cli import main
from nnie_prep.detection import Detection, detect
from nnie_prep.detection.heads import Description, Head, read_description
from nnie_prep.detection.picture import as_planes, read_picture
from nnie_prep.detection.preparation import Placement, prepare
from nnie_prep.engines import numpy as numpy_engine

Array = NDArray[Any]
PHOTO = Path(__file__).parents[1] / "data" / "photo.jpg"


def test_the_photo_is_opencvs(photo: Array) -> None:
    """Decoders of JPEG round differently, by a step or two of 255."""
    planes = as_planes(read_picture(PHOTO), 3)
    assert planes.shape == photo.shape and planes.dtype == np.float32
    error = np.abs(planes - photo) * 255
    assert error.max() <= 4 and error.mean() < 0.1


# ---- official yolov3-tiny ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def stem(yolov3_tiny: ModelFiles, tmp_path_factory: pytest.TempPathFactory) -> Path:
    stem = tmp_path_factory.mktemp("pair") / "yolov3-tiny"
    assert main(["prepare", *map(str, yolov3_tiny), "-o", str(stem), "--no-verify", "-q"]) == 0
    return stem


@pytest.fixture(scope="module")
def description(stem: Path) -> Description:
    return read_description(stem.with_suffix(".json"))


def boxes_of_opencv(files: ModelFiles, x: Array, threshold: float, overlap: float) -> list[tuple[Any, ...]]:
    """(class, score, left, top, right, bottom), edges in pixels of the network's input."""
    cfg = files.description.read_text().replace("[yolo]", f"[yolo]\nthresh={threshold}")
    net = cv2.dnn.readNetFromDarknet(
        np.frombuffer(cfg.encode(), np.uint8), np.fromfile(files.weights, np.uint8)
    )
    net.setInput(x[np.newaxis])
    rows = np.concatenate(net.forward(net.getUnconnectedOutLayersNames())).astype(np.float64)
    height, width = x.shape[1:]
    found: list[tuple[Any, ...]] = []
    for kind in range(rows.shape[1] - 5):
        corners = np.concatenate([rows[:, :2] - rows[:, 2:4] / 2, rows[:, 2:4]], axis=1)
        corners *= (width, height, width, height)
        chosen = cv2.dnn.NMSBoxes(corners.tolist(), rows[:, 5 + kind].tolist(), threshold, overlap)
        for index in chosen:
            left, top, wide, high = corners[index]
            found.append((kind, rows[index, 5 + kind], left, top, left + wide, top + high))
    return found


def overlap_of(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    return both / (sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)) - both)


@pytest.mark.parametrize("letterbox", [True, False])
def test_boxes_are_opencvs(
    stem: Path, description: Description, yolov3_tiny: ModelFiles, letterbox: bool
) -> None:
    """The photo is 653x373: letterboxed to 416x416 it is 416x237, 89.5 from the top."""
    x, placement = prepare(as_planes(read_picture(PHOTO), 3), 416, 416, letterbox)
    net = read_net(stem.with_suffix(".prototxt"), stem.with_suffix(".caffemodel"))
    blobs = numpy_engine.forward(net, {"data": x[None]})
    threshold = 0.05 if not letterbox else 0.03
    found = detect(description.heads, blobs, placement, threshold, 0.45)

    scale_x, scale_y, margin = 653 / 416, 373 / (237 if letterbox else 416), 89.5 if letterbox else 0
    expected = []
    for kind, score, left, top, right, bottom in boxes_of_opencv(yolov3_tiny, x, threshold, 0.45):
        across = [min(max(edge * scale_x, 0), 653) for edge in (left, right)]
        down = [min(max((edge - margin) * scale_y, 0), 373) for edge in (top, bottom)]
        expected.append((kind, score, across[0], down[0], across[1], down[1]))
    assert len(found) == len(expected) > 6
    for kind, score, *box in expected:
        best = max(found, key=lambda one: (one.kind == kind, overlap_of(one[2:], tuple(box))))
        assert best.kind == kind and best.confidence == pytest.approx(score, abs=1e-4)
        assert overlap_of(best[2:], tuple(box)) > 0.999
    if letterbox:
        assert [one.kind for one in found[:4]] == [15, 41, 0, 41]  # a cat, a cup, a person, the coffee in it
        assert found[3].confidence > 0.6 > 0.1 > found[4].confidence
    else:
        assert {0, 15, 41} <= {one.kind for one in found}


# ---- any blobs --------------------------------------------------------------------------------


def drawn(heads: tuple[Head, ...], seed: int) -> dict[str, Array]:
    """Blobs of 5 and 10 places a side; many boxes hang over the edges."""
    random = np.random.default_rng(seed)
    blobs = {}
    for head, side in zip(heads, (5, 10), strict=True):
        values = random.normal(0, 1, (1, head.channels, side, side))
        values.reshape(3, -1, side, side)[:, 4:] -= 2.5
        blobs[head.blobs[0]] = values.astype(np.float32)
    return blobs


PLACEMENTS = [Placement((320, 200), (160, 160), (160, 160)), Placement((320, 200), (160, 160), (160, 100))]


@settings(max_examples=15)
@given(
    seed=st.integers(0, 10**6),
    placement=st.sampled_from(PLACEMENTS),
    thresholds=st.tuples(st.floats(0.05, 0.9), st.floats(0.05, 0.9)),
    overlap=st.floats(0.1, 0.9),
)
def test_properties(
    description: Description,
    seed: int,
    placement: Placement,
    thresholds: tuple[float, float],
    overlap: float,
) -> None:
    blobs = drawn(description.heads, seed)
    low, high = sorted(thresholds)
    found = detect(description.heads, blobs, placement, low, overlap)
    for one in found:
        assert 0 <= one.left < one.right <= 320 and 0 <= one.top < one.bottom <= 200
        assert low < one.confidence <= 1 and 0 <= one.kind < 80
    assert [one.confidence for one in found] == sorted((one.confidence for one in found), reverse=True)
    # a higher threshold takes away what is below it, and nothing else
    fewer = detect(description.heads, blobs, placement, high, overlap)
    assert fewer == [one for one in found if one.confidence > high]
    # so does the order of the heads, which agree in how boxes are suppressed
    assert detect(description.heads[::-1], blobs, placement, low, overlap) == found
    # boxes of a class that are left overlap no more than allowed, unless the edge has cut them
    inner = [one for one in found if one.left > 0 and one.right < 320 and one.top > 0 and one.bottom < 200]
    for at, one in enumerate(inner):
        for other in inner[at + 1 :]:
            assert one.kind != other.kind or overlap_of(one[2:], other[2:]) <= overlap + 1e-9


def test_a_box_in_the_grey_is_left_out(description: Description) -> None:
    """A box 10 pixels high in the first row of the network's input, which shows grey alone."""
    (coarse, fine) = description.heads
    blobs = {
        head.blobs[0]: np.full((1, 255, side, side), -20, np.float32)
        for head, side in ((coarse, 5), (fine, 10))
    }
    cell = blobs[fine.blobs[0]].reshape(3, 85, 10, 10)[0]
    for row in (0, 5):
        cell[:, row, 4] = [0, 0, 0, 0, 20, *[-20] * 80]
        cell[5 + 7, row, 4] = 20
    found = detect(description.heads, blobs, PLACEMENTS[1], 0.25, 0.45)
    # anchor 10x14, at x 4.5 of 10 cells, y 5.5 of 10, of which the picture has those of 30 to 130 pixels
    assert found == [
        Detection(
            7,
            pytest.approx(1),
            *(
                pytest.approx(edge)
                for edge in (2 * (72 - 5), 2 * (88 - 30 - 7), 2 * (72 + 5), 2 * (88 - 30 + 7))
            ),
        )
    ]
