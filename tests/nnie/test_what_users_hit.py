"""What users of the chip report, message by message, and the finding that would have warned them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from checked import findings

from nnie_prep.nnie import Finding, read_limits

PICTURE = 'input: "data"\ninput_shape { dim: 1 dim: 3 dim: 26 dim: 26 }\n'
CONV = """layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 16 kernel_size: 3 pad: 1 } }
"""


def found_in(
    folder: Path, text: str, rule: str, chip: str = "hi3516cv500", description: dict[str, Any] | None = None
) -> Finding:
    """The one finding of a rule in a net, with the STEM.json that lies beside it."""
    path = folder / "net.prototxt"
    path.write_text(text)
    if description is not None:
        path.with_suffix(".json").write_text(json.dumps(description))
    (found,) = findings(path, rule, chip=chip)
    return found


def test_permute_can_only_support_0123_to_0231_order(tmp_path: Path) -> None:
    """The tail of an exported YOLOv5: five axes, turned."""
    tail = """layer { name: "anchors" type: "Reshape" bottom: "conv" top: "anchors"
            reshape_param { shape { dim: 1 dim: 2 dim: 8 dim: 26 dim: 26 } } }
    layer { name: "turn" type: "Permute" bottom: "anchors" top: "turn"
            permute_param { order: 0 order: 1 order: 3 order: 4 order: 2 } }
    """
    found = found_in(tmp_path, PICTURE + CONV + tail, "permute_order")
    assert (found.severity, found.layer, found.line) == ("error", "turn", 7)
    assert (found.limit, found.value) == ("0,2,3,1", [0, 1, 3, 4, 2])
    assert found.repair.endswith("--until anchors")
    reshape = found_in(tmp_path, PICTURE + CONV + tail, "reshape_form")
    assert (reshape.severity, reshape.line) == ("error", 5)
    assert reshape.repair.endswith("CAFFEMODEL --until conv")


def test_marked_prototxt_stays_empty(tmp_path: Path) -> None:
    text = 'input: "data"\ninput_dim: 1\ninput_dim: 3\ninput_dim: 26\ninput_dim: 26\n' + CONV
    found = found_in(tmp_path, text, "input_form")
    assert (found.severity, found.line, found.value) == ("error", 2, "input_dim")
    assert "nnie-prep prepare" in found.repair


@pytest.mark.parametrize(
    ("limit", "fitting"),
    [({}, "4096,8"), ({"at_least": 32, "at_most": 2048}, "2048,32"), ({"multiple_of": 3}, "")],
    ids=["the chip's", "the user's", "no shape that is near"],
)
def test_a_picture_of_a_size_that_the_limits_in_force_allow(
    tmp_path: Path, limit: dict[str, int], fitting: str
) -> None:
    prototxt, limits = tmp_path / "net.prototxt", tmp_path / "limits.json"
    prototxt.write_text(PICTURE.replace("dim: 26 dim: 26", "dim: 5000 dim: 3") + CONV)
    limits.write_text(json.dumps({"input_side": limit}))
    (found,) = findings(prototxt, "input_size", limits=read_limits(None, limits))
    assert found.value == 5000
    assert found.repair.rpartition(" ")[2] == (f"data=1,3,{fitting}" if fitting else "")


@pytest.mark.parametrize(
    "described", [3, {"scale": "1/255", "order": "RGB"}, {"scale": 0.5, "order": ["RGB"]}]
)
def test_a_description_that_somebody_edited(tmp_path: Path, described: Any) -> None:
    (tmp_path / "net.prototxt").write_text(PICTURE + CONV)
    (tmp_path / "net.json").write_text(json.dumps({"input": described}))
    assert findings(tmp_path / "net.prototxt", "input_values") == []


def test_a_layer_that_writes_nothing(tmp_path: Path) -> None:
    """Caffe refuses it, and no rule stumbles over it."""
    text = PICTURE + CONV + 'layer { name: "reshape" type: "Reshape" bottom: "conv" }\n'
    assert found_in(tmp_path, text, "caffe_refuses").layer == "reshape"


def test_arch_version_12_of_input_model_should_be_11(tmp_path: Path) -> None:
    found = found_in(tmp_path, PICTURE + CONV, "nnie_version", chip="hi3559av100")
    assert (found.limit, found.repair) == ("1.1", "compile with nnie_mapper_11 (arch_version 11)")


def test_top_shape_j_is_not_bottom_shape_24_vs_26(tmp_path: Path) -> None:
    """The 2/1 maxpool of a tiny YOLO without padding: 13 becomes 12, and the Upsample makes 24 of it."""
    text = (
        PICTURE
        + CONV
        + """layer { name: "half" type: "Pooling" bottom: "conv" top: "half"
        pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "same" type: "Pooling" bottom: "half" top: "same"
        pooling_param { pool: MAX kernel_size: 2 stride: 1 } }
layer { name: "up" type: "Upsample" bottom: "same" top: "up" upsample_param { scale: 2 } }
layer { name: "join" type: "Concat" bottom: "up" bottom: "conv" top: "join" }
"""
    )
    found = found_in(tmp_path, text, "caffe_refuses")
    assert (found.severity, found.layer, found.line) == ("error", "join", 10)
    assert "(1, 16, 24, 24)" in found.message and "(1, 16, 26, 26)" in found.message


HALVES = """layer { name: "halves" type: "Slice" bottom: "conv" top: "left" top: "right" }
layer { name: "head" type: "Convolution" bottom: "right" top: "head"
        convolution_param { num_output: 21 kernel_size: 1 } }
"""
HEADS = {"made_by": {}, "heads": [{"type": "yolo", "blob": "head", "stride": 32}]}


def test_ast_seg_0_u16_dst_num_should_be_3(tmp_path: Path) -> None:
    """The half that nobody reads is an output; and so is a blob besides the heads."""
    found = found_in(tmp_path, PICTURE + CONV + HALVES, "dangling_tops")
    assert (found.severity, found.layer, found.line, found.value) == ("error", "halves", 5, "left")
    found = found_in(tmp_path, PICTURE + CONV + HALVES, "yolo_outputs", description=HEADS)
    assert (found.severity, found.value) == ("warning", [0, 32])
    assert found.repair.endswith("--until head")


def test_output_size_one_larger_than_expected(tmp_path: Path) -> None:
    pool = """layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool"
            pooling_param { pool: MAX kernel_size: 3 stride: 2 ceil_mode: false } }
    """
    found = found_in(tmp_path, PICTURE + CONV + pool, "pooling_rounding")
    assert (found.severity, found.layer, found.line) == ("error", "pool", 5)
    assert (found.limit, found.value) == ("13x13", "12x12")


def test_no_detections_with_group_convolution(tmp_path: Path) -> None:
    for groups, rule, severity in (
        (16, "depthwise_convolution", "error"),
        (4, "group_convolution", "warning"),
    ):
        grouped = f"""layer {{ name: "g" type: "Convolution" bottom: "conv" top: "g"
            convolution_param {{ num_output: 16 kernel_size: 3 group: {groups} }} }}
        """
        found = found_in(tmp_path, PICTURE + CONV + grouped, rule)
        assert (found.severity, found.layer, found.line, found.value) == (severity, "g", 5, groups)


def test_colours_swapped_and_boxes_weak(tmp_path: Path) -> None:
    described: dict[str, Any] = {
        "made_by": {},
        "input": {"blob": "data", "scale": 1 / 255, "order": "RGB"},
    }
    found = found_in(tmp_path, PICTURE + CONV, "input_values", description=described)
    assert found.value == {"RGB_order": "RGB", "data_scale": 1 / 255}
    assert "RGB_order RGB" in found.repair and "0.0039215686" in found.repair
    for more, kind in (
        ({}, "3"),
        ({"scale": 1}, "0"),
        ({"mean": [1, 2, 3]}, "4 or 5"),
        ({"scale": 1, "mean_file": "m.binaryproto"}, "1 or 2"),
    ):
        told = {"made_by": {}, "input": described["input"] | more}
        found = found_in(tmp_path, PICTURE + CONV, "input_values", description=told)
        assert f" norm_type {kind} and data_scale" in found.repair
    twice = """layer { name: "scaled" type: "Scale" bottom: "data" top: "scaled" }
    layer { name: "conv" type: "Convolution" bottom: "scaled" top: "conv"
            convolution_param { num_output: 16 kernel_size: 3 } }
    """
    found = found_in(tmp_path, PICTURE + twice, "input_normalised")
    assert (found.layer, found.line) == ("scaled", 3)
    assert found.repair == "set norm_type 0, unless the net was trained with a mean or a scale before it"
