"""What data layers say of the pictures, and what STEM.json takes from that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nnie_prep.transforms import described, of_blob, transforms

DATA = """layer {{ name: "{0}" type: "Data" top: "{1}" top: "label" {2}
  transform_param {{ {3} }} data_param {{ source: "x" batch_size: 4 }} }}
"""
CONV = """layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 2 kernel_size: 3 } }
"""
INPUT = """input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }
"""
TRAIN, TEST = "include { phase: TRAIN }", "include { phase: TEST }"
V1 = """layers { name: "d" type: DATA top: "data" top: "label"
  data_param { source: "x" scale: 0.5 mean_file: "m.binaryproto" crop_size: 8 mirror: true } }
layers { name: "c" type: CONVOLUTION bottom: "data" top: "c"
  convolution_param { num_output: 2 kernel_size: 3 } }
"""
V0 = """layers { layer { name: "d" type: "data" source: "x" scale: 0.25 meanfile: "m" cropsize: 9 }
  top: "data" }
layers { layer { name: "c" type: "conv" num_output: 2 kernelsize: 3 } bottom: "data" top: "c" }
"""


def said(folder: Path, text: str, blob: str = "data") -> dict[str, Any]:
    path = folder / "n.prototxt"
    path.write_text(text)
    return described(transforms(path), blob)


@pytest.mark.parametrize(
    ("text", "about", "layer", "param"),
    [
        (DATA.format("d", "data", TRAIN, "scale: 0.017 mean_value: 103.94 mirror: true crop_size: 8") + INPUT,
         {"scale": 0.017, "mean": [103.94]}, "d",
         "scale: 0.017 mirror: true crop_size: 8 mean_value: 103.94"),
        (DATA.format("a", "data", TRAIN, "mirror: true") + DATA.format("b", "data", TEST, "scale: 2"),
         {"scale": 2}, "b", "scale: 2.0"),
        (DATA.format("a", "data", "exclude { phase: TEST }", "scale: 0.5") + DATA.format("b", "data", "", ""),
         {"scale": 1}, "b", ""),
        (DATA.format("a", "left", TRAIN, "scale: 0.5") + DATA.format("b", "data", TRAIN, "scale: 2") + INPUT,
         {"scale": 2}, "b", "scale: 2.0"),
        (DATA.format("a", "pair", "", "mean_file: \"m\"") + INPUT,
         {"scale": 1, "mean_file": "m"}, "a", 'mean_file: "m"'),
        (V1, {"scale": 0.5, "mean_file": "m.binaryproto"}, "d",
         'scale: 0.5 mirror: true crop_size: 8 mean_file: "m.binaryproto"'),
        (V0, {"scale": 0.25, "mean_file": "m"}, "d", 'scale: 0.25 crop_size: 9 mean_file: "m"'),
    ],
)  # fmt: skip
def test_what_is_said(tmp_path: Path, text: str, about: dict[str, Any], layer: str, param: str) -> None:
    found = said(tmp_path, text if text.startswith("layers") else text + CONV)
    trained = found.pop("trained_with")
    assert found == about | {"order": "BGR"}
    assert (trained["layer"], trained["transform_param"]) == (layer, param)


@pytest.mark.parametrize(
    "text",
    [
        INPUT,
        DATA.format("a", "data", TRAIN, "scale: 0.5")
        + DATA.format("b", "data", TRAIN, "mean_value: 5")
        + INPUT,
        DATA.format("a", "x", TRAIN, "scale: 0.5") + DATA.format("b", "y", TRAIN, "scale: 0.25") + INPUT,
    ],
)
def test_nothing_is_guessed(tmp_path: Path, text: str) -> None:
    assert said(tmp_path, text + CONV) == {}


def test_layers_that_say_the_same_are_one(tmp_path: Path) -> None:
    path = tmp_path / "n.prototxt"
    both = [DATA.format(one, "data", TRAIN, f"mean_value: 5 crop_size: {size}") for one, size in ("a8", "b9")]
    path.write_text("".join(both) + INPUT + CONV)
    assert [one.layer for one in of_blob(transforms(path), "data")] == ["a"]
