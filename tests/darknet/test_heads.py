"""What is said of heads: every number that CPU code decodes with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from darknet_texts import Shape, line_of, refusal, structure

from nnie_prep.darknet.weights import Flavor

YOLO = """[yolo]
mask=3,4,5
anchors=10,14, 23,27, 37,58, 81,82, 135,169, 344,319
classes=3
num=6
"""


def head(folder: Path, text: str, shape: Shape = (24, 8, 6), flavor: Flavor = "alexeyab") -> dict[str, Any]:
    """The only head of a cfg whose first section halves the input's size."""
    conversion = structure(folder, f"[max]\nsize=2\nstride=2\n{text}", shape, flavor)
    assert not conversion.warnings
    found = [one for one in conversion.heads if one["type"] in text]
    assert len(found) == 1 and found[0]["blob"] == "layer1-maxpool"
    return found[0]


def test_yolo(tmp_path: Path) -> None:
    options = """scale_x_y=1.05
new_coords=1
ignore_thresh=.7
truth_thresh=.9
nms_kind=diounms
beta_nms=0.5
objectness_smooth=1
map=data/coco.map
jitter=.3
random=1
"""
    found = head(tmp_path, YOLO + options)
    assert {key: found[key] for key in found if key not in ("index", "section", "line", "blob")} == {
        "shape": [24, 4, 3],
        "type": "yolo",
        "classes": 3,
        "coords": 4,
        "num": 6,
        "mask": [3, 4, 5],
        "anchors": [[81, 82], [135, 169], [344, 319]],
        "anchor_unit": "pixels of the network's input",
        "entries": ["x", "y", "w", "h", "objectness", "classes"],
        "stride": 2,
        "scale_x_y": 1.05,
        "ignore_thresh": 0.7,
        "truth_thresh": 0.9,
        "map": "data/coco.map",
        "nms_kind": "diounms",
        "beta_nms": 0.5,
        "new_coords": 1,
        "objectness_smooth": 1,
    }


def test_yolo_of_pjreddie_knows_less(tmp_path: Path) -> None:
    conversion = structure(
        tmp_path, f"[max]\nsize=2\n{YOLO}scale_x_y=1.2\nnew_coords=1", (24, 8, 6), "pjreddie"
    )
    (found,) = conversion.heads
    assert (found["scale_x_y"], found["new_coords"]) == (1.0, 0) and "nms_kind" not in found
    assert len(conversion.warnings) == 2


def test_defaults_are_darknets(tmp_path: Path) -> None:
    """All anchors without a mask; those that are not listed are 0.5."""
    found = head(tmp_path, "[yolo]\nnum=3\nclasses=3\nanchors=1,2,3")
    assert found["mask"] == [0, 1, 2]
    assert found["anchors"] == [[1, 2], [3, 0.5], [0.5, 0.5]]
    assert (found["scale_x_y"], found["ignore_thresh"], found["nms_kind"], found["beta_nms"]) == (
        1,
        0.5,
        "default",
        0.6,
    )


def test_strides_of_a_map_that_is_not_a_fraction(tmp_path: Path) -> None:
    conversion = structure(tmp_path, "[max]\nsize=3\nstride=4\n[yolo]\nnum=3\nclasses=3", (24, 9, 6))
    assert conversion.heads[0]["stride"] == 3
    conversion = structure(tmp_path, "[max]\nsize=2\nstride=2\n[yolo]\nnum=3\nclasses=3", (24, 8, 5))
    assert conversion.heads[0]["stride"] == [2, 5 / 3]


def test_a_mask_beyond_num(tmp_path: Path) -> None:
    """A stock cfg, cspx-p7-mish, has it: the anchors that are listed are meant."""
    text = "[max]\nsize=3\n" + YOLO.replace("num=6", "num=4")
    conversion = structure(tmp_path, text, (24, 8, 6))
    assert conversion.heads[0]["anchors"] == [[81, 82], [135, 169], [344, 319]]
    assert len(conversion.notes) == 1 and "mask names anchor 5, but num=4" in conversion.notes[0]


def test_embedding_layer(tmp_path: Path) -> None:
    assert head(tmp_path, YOLO + "embedding_layer=-1")["embedding_layer"] == 0


def test_gaussian_yolo(tmp_path: Path) -> None:
    text = YOLO.replace("yolo", "Gaussian_yolo") + "yolo_point=left_top\nscale_x_y=1.1"
    found = head(tmp_path, text, (36, 8, 6))
    assert len(found["entries"]) == 10 and found["entries"][:2] == ["x", "x_sigma"]
    assert (found["yolo_point"], found["scale_x_y"], found["stride"]) == ("left_top", 1.1, 2)


def test_region(tmp_path: Path) -> None:
    text = "[region]\nanchors=1.5,2,3,4\nclasses=7\nnum=2\nsoftmax=1\nthresh=.6\n"
    found = head(tmp_path, text + "tree=a.tree\nmap=a.map\nclassfix=-1")
    expected = {
        "anchors": [[1.5, 2], [3, 4]],
        "anchor_unit": "cells of the head's map",
        "classes": 7,
        "num": 2,
        "coords": 4,
        "entries": ["x", "y", "w", "h", "objectness", "classes"],
        "softmax": 1,
        "thresh": 0.6,
        "tree": "a.tree",
        "map": "a.map",
        "background": 0,
        "stride": 2,
        "classfix": -1,
    }
    assert {key: found[key] for key in expected} == expected


def test_background_is_pjreddies(tmp_path: Path) -> None:
    text = "[region]\nclasses=7\nnum=2\nbackground=1"
    assert head(tmp_path, text, flavor="pjreddie")["background"] == 1
    assert len(structure(tmp_path, f"[max]\nsize=3\n{text}", (24, 8, 6)).warnings) == 1


def test_detection(tmp_path: Path) -> None:
    text = (
        "[connected]\noutput=637\nactivation=linear\n[detection]\nclasses=3\ncoords=4\nside=7\nnum=2\nsqrt=1"
    )
    (found,) = structure(tmp_path, text).heads
    assert found["blob"] == "layer1-fc"
    expected = {"classes": 3, "coords": 4, "num": 2, "side": 7, "softmax": 0, "sqrt": 1}
    assert {key: found[key] for key in expected} == expected


def test_contrastive(tmp_path: Path) -> None:
    text = YOLO + "[route]\nlayers=0\n[contrastive]\nclasses=9\nyolo_layer=-2"
    conversion = structure(tmp_path, f"[max]\nsize=3\n{text}", (24, 8, 6))
    found = conversion.heads[1]
    assert (found["type"], found["classes"], found["yolo_layer"], found["blob"]) == (
        "contrastive", 9, 1, "layer1-maxpool",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("[yolo]\nclasses=4\nnum=3", 7 + 1, "reads 24 channels, expected 3 anchors of 9 entries = 27"),
        ("[yolo]\nmask=0,1,9\nclasses=3\nnum=3", 8, "mask names anchor 9, expected 0 to 2"),
        ("[yolo]\nmask=-1\nclasses=3\nnum=3", 8, "mask names anchor -1"),
        ("[yolo]\nnum=2000000000\nclasses=3", 8, "at most 4096"),
        ("[region]\ncoords=3\nclasses=4\nnum=3", 8, "at least 4"),
        ("[region]\nclasses=9\nnum=3", 8, "expected 3 anchors of 14 entries = 42"),
        ("[Gaussian_yolo]\nclasses=3\nnum=3", 8, "expected 3 anchors of 12 entries = 36"),
        ("[detection]\nside=7\nclasses=3\nnum=2", 7, "reads 1152 values, expected side^2"),
        ("[region]\nclasses=9\nnum=9999", 9, "at most 4096"),
        ("[region]\ncoords=4097", 8, "at most 4096"),
        ("[contrastive]\nyolo_layer=-1", 8, "yolo_layer names section 0, expected a [yolo] before it"),
        ("[contrastive]\nyolo_layer=7", 8, "yolo_layer names section 7"),
    ],
)
def test_refusals(text: str, line: int, words: str, tmp_path: Path) -> None:
    error = refusal(tmp_path, f"[max]\nsize=3\n{text}", (24, 8, 6))
    assert words in error.message and line_of(error) == line and error.hint


def test_a_head_where_net_is_wrong(tmp_path: Path) -> None:
    """Its input is known, the picture that its stride is measured against is not: [net] alone is to blame."""
    text = "[implicit]\nfilters=24\n[region]\nclasses=3\nnum=3"
    assert "channels=0" in refusal(tmp_path, text, (0, 8, 6)).message
