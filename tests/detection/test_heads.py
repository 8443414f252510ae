"""STEM.json as it is written, read back; and what is said of one that is not like that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from darknet_texts import structure

from nnie_prep.darknet import describe
from nnie_prep.detection import detect
from nnie_prep.detection.decoding import decode_yolo
from nnie_prep.detection.heads import read_description
from nnie_prep.detection.preparation import Placement
from nnie_prep.errors import UserError

ANCHORS = "anchors=10,14, 23,27, 37,58, 81,82\nnum=4\nclasses=3\n"
YOLO = f"[yolo]\nmask=1,3\nscale_x_y=1.1\nnms_kind=greedynms\nbeta_nms=0.7\n{ANCHORS}"
GAUSSIAN = f"[Gaussian_yolo]\nmask=1,3\nyolo_point=left_top\n{ANCHORS}"
REGION = f"[region]\nsoftmax=1\n{ANCHORS}"
DETECTION = (
    "[connected]\noutput=117\nactivation=linear\n[detection]\nclasses=3\ncoords=4\nside=3\nnum=2\nsqrt=1\n"
)


def written(folder: Path, text: str, channels: int, flavor: Any = "alexeyab") -> Path:
    """The description that the converter gives of a head on an input of 8x6 or, behind a pool, 4x3."""
    conversion = structure(folder, f"[max]\nsize=2\nstride=2\n{text}", (channels, 8, 6), flavor)
    path = folder / "tiny.json"
    path.write_text(json.dumps(describe(conversion)))
    return path


@pytest.mark.parametrize(
    ("text", "channels", "kind"),
    [
        (YOLO, 16, "yolo"),
        (GAUSSIAN, 24, "Gaussian_yolo"),
        (REGION, 32, "region"),
        (DETECTION, 2, "detection"),
    ],
)
def test_what_is_written_can_be_read(tmp_path: Path, text: str, channels: int, kind: str) -> None:
    description = read_description(written(tmp_path, text, channels))
    (head,) = description.heads
    assert (head.type, head.classes, description.letterbox) == (kind, 3, False)
    shape = (1, 117) if kind == "detection" else (1, channels, 4, 3)
    values = np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)
    placement = Placement((60, 80), (6, 8), (6, 8))
    found = detect([head], {head.blobs[0]: values}, placement, 0.1, 0.9)
    assert found and {one.kind for one in found} <= {0, 1, 2}


def test_the_numbers_of_a_yolo(tmp_path: Path) -> None:
    description = read_description(written(tmp_path, YOLO, 16))
    (head,) = description.heads
    values = np.random.default_rng(1).normal(0, 1, (1, 16, 4, 3)).astype(np.float32)
    expected = decode_yolo(
        values, (6, 8), 0.2, anchors=np.array([[23, 27], [81, 82]]), scale_x_y=1.1, new_coords=False
    )
    found = head.decode(values, (6, 8), 0.2)
    assert len(found.boxes) > 3 and np.array_equal(found.boxes, expected.boxes)
    assert np.array_equal(found.scores, expected.scores)
    assert (head.nms_kind, head.beta_nms) == ("greedynms", 0.7)


def test_who_letterboxes(tmp_path: Path) -> None:
    """pjreddie's detector always does, AlexeyAB's where the cfg says so."""
    assert read_description(written(tmp_path, YOLO.split("scale")[0] + ANCHORS, 16, "pjreddie")).letterbox
    document = json.loads(written(tmp_path, YOLO, 16).read_text())
    assert document["input"]["letter_box"] is False
    document["input"]["letter_box"] = True
    (tmp_path / "tiny.json").write_text(json.dumps(document))
    assert read_description(tmp_path / "tiny.json").letterbox


@pytest.mark.parametrize(
    ("flavor", "softmax", "expected"),
    [("alexeyab", 1, "softmax"), ("alexeyab", 0, "linear"), ("pjreddie", 0, "logistic")],
)
def test_the_classes_of_a_region(tmp_path: Path, flavor: str, softmax: int, expected: str) -> None:
    path = written(tmp_path, REGION.replace("softmax=1", f"softmax={softmax}"), 32, flavor)
    assert read_description(path).heads[0].decode.keywords["classes"] == expected  # type: ignore[attr-defined]


def test_split_blobs_are_joined(tmp_path: Path) -> None:
    path = written(tmp_path, YOLO, 16)
    document = json.loads(path.read_text())
    head = document["heads"][0]
    whole = head.pop("blob")
    values = np.random.default_rng(2).normal(0, 1, (1, 16, 4, 3)).astype(np.float32)
    placement = Placement((60, 80), (6, 8), (6, 8))
    expected = detect(read_description(path).heads, {whole: values}, placement, 0.1, 0.45)
    head["blobs"] = ["one", "two"]
    path.write_text(json.dumps(document))
    found = detect(
        read_description(path).heads, {"one": values[:, :5], "two": values[:, 5:]}, placement, 0.1, 0.45
    )
    assert expected and found == expected


def test_a_tree_is_looked_for(tmp_path: Path) -> None:
    """Where the option says, where the head says, or beside the description; and it names the classes."""
    path = written(tmp_path, REGION + "tree=data/three.tree\n", 32)
    with pytest.raises(UserError, match="data/three.tree: cannot be read.*--tree names the file"):
        read_description(path)
    (tmp_path / "three.tree").write_text("a -1\nb -1\nc 0\n")
    assert read_description(path).heads[0].names == ("a", "b", "c")
    (tmp_path / "other.tree").write_text("x -1\ny 0\nz 0\n")
    assert read_description(path, tmp_path / "other.tree").heads[0].names == ("x", "y", "z")
    (tmp_path / "other.tree").write_text("x -1\ny 0\n")
    with pytest.raises(UserError, match="holds 2 classes, and the head has 3"):
        read_description(path, tmp_path / "other.tree")


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a -1\nb\n", 2, "expected a name and its parent's number"),
        ("a -1\nb x\n", 2, "expected a name and its parent's number"),
        ("a -1\nb 1\nc 0\n", 2, "names 1 as the parent of class 1"),
        ("a -2\n", 1, "names -2 as the parent"),
        ("a 99999999999999999999\n", 1, "expected a name"),
    ],
)
def test_no_tree(tmp_path: Path, text: str, line: int, message: str) -> None:
    path = written(tmp_path, REGION + "tree=a.tree\n", 32)
    (tmp_path / "a.tree").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read_description(path)
    assert caught.value.where == f"{tmp_path / 'a.tree'}:{line}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"anchors": None}, "anchors is null, expected a list of"),
        ({"anchors": []}, "anchors is "),
        ({"anchors": [[1, 2, 3]]}, "anchors is "),
        ({"anchors": [[1, "2"]]}, "anchors is "),
        ({"anchors": [[1, 1e999]]}, "anchors is "),
        ({"anchors": 7}, "anchors is 7"),
        ({"classes": 0}, "classes is 0, expected an integer of 1 to"),
        ({"classes": True}, "classes is true"),
        ({"classes": 10**30}, "classes is 1000"),
        ({"scale_x_y": "big"}, 'scale_x_y is "big", expected a number'),
        ({"scale_x_y": 10**400}, "scale_x_y is 1000"),
        ({"new_coords": 0.5}, "new_coords is 0.5"),
        ({"nms_kind": 3}, "nms_kind is 3, expected a text"),
        ({"anchor_unit": "metres"}, "anchor_unit is .*expected"),
        ({"blob": None}, "blob is null, expected the name of a blob"),
        ({"blobs": []}, "blob is .*expected the name"),
        ({"blobs": ["a", 1]}, "expected the name of a blob"),
        ({"none": "dropped"}, "its blob is gone: dropped"),
        ({"type": "ssd"}, "is of type 'ssd', expected yolo, Gaussian_yolo, region, detection"),
        ({"type": ["yolo"]}, "is of type"),
    ],
)
def test_no_head(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = written(tmp_path, YOLO, 16)
    document = json.loads(path.read_text())
    document["heads"][0].update(change)
    path.write_text(json.dumps(document))
    with pytest.raises(UserError, match=message) as caught:
        read_description(path)
    assert caught.value.where == f"{path}: head 0" and "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["classes", "anchors", "anchor_unit", "scale_x_y", "new_coords", "type"])
def test_what_a_head_must_say(tmp_path: Path, key: str) -> None:
    path = written(tmp_path, YOLO, 16)
    document = json.loads(path.read_text())
    del document["heads"][0][key]
    path.write_text(json.dumps(document))
    with pytest.raises(UserError, match=f"{key} is missing|type None"):
        read_description(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[1, 2]", "describes no heads"),
        ('{"blobs": {}}', "describes no heads"),
        ('{"heads": {}}', "describes no heads"),
        ('{"heads": []}', "describes no detection head"),
        ('{"heads": [1]}', "head 0: is not an object"),
        ('{"heads": [{"type": "contrastive"}]}', "describes no detection head"),
        ("[" * 100_000, "is not JSON"),
        ("\x00\x01", "is not JSON"),
    ],
)
def test_no_description(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read_description(path)
    assert "\n" not in str(caught.value)


def test_a_description_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file.*--heads names the .json"):
        read_description(tmp_path / "a.json")
    with pytest.raises(UserError, match="is not a regular file"):
        read_description(tmp_path)


def test_heads_of_different_classes(tmp_path: Path) -> None:
    path = written(tmp_path, YOLO, 16)
    document = json.loads(path.read_text())
    document["heads"].append(document["heads"][0] | {"classes": 4})
    path.write_text(json.dumps(document))
    with pytest.raises(UserError, match="head 1: has 4 classes, and the first head has 3"):
        read_description(path)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(1, 15, 4, 3)], "blob a is 1x15x4x3, expected 16 channels"),
        ([(1, 192)], "blob a is 1x192, expected 16 channels"),
        ([(1, 16)], "blob a is 1x16, expected 16 channels"),
        ([(1, 8, 4, 3), (1, 8, 4, 2)], "blobs a . b differ in height or width"),
        ([(1, 8, 4, 3), (1, 8, 5, 3)], "blobs a . b differ in height or width"),
        ([(1, 8, 4, 3), (1, 9, 4, 3)], "blob a . b is 1x17x4x3"),
    ],
)
def test_blobs_of_another_net(tmp_path: Path, shapes: list[tuple[int, ...]], message: str) -> None:
    path = written(tmp_path, YOLO, 16)
    document = json.loads(path.read_text())
    names = ["a", "b"][: len(shapes)]
    document["heads"][0]["blobs"] = names
    path.write_text(json.dumps(document))
    (head,) = read_description(path).heads
    with pytest.raises(UserError, match=message):
        head.joined({name: np.zeros(shape) for name, shape in zip(names, shapes, strict=True)})


def test_blobs_that_are_not_finite(tmp_path: Path) -> None:
    (head,) = read_description(written(tmp_path, YOLO, 16)).heads
    values = np.zeros((1, 16, 4, 3), np.float32)
    values[0, 3, 2, 1] = np.nan
    with pytest.raises(UserError, match="holds values that are not finite"):
        head.joined({head.blobs[0]: values})
