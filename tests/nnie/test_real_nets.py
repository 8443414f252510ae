"""What `check` finds in whole networks before they are prepared: see FOUND. Hints are left out."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from conftest import ModelFiles

from nnie_prep.caffe_io import read_net
from nnie_prep.darknet import convert, describe
from nnie_prep.nnie import Finding, check

CFG = Path(__file__).parents[1] / "data" / "cfg"

# Converted to stock Caffe: errors and warnings by rule.
FOUND = {
    "yolov3": {},
    "yolov4": {"unnamed_types": 72, "pooling_padding": 3, "yolo_outputs": 1},  # Mish: BNLL, TanH, Eltwise
    "yolov4-tiny": {},
    "yolov2_reorg": {"reshape_inside": 2},
    "efficientnet_se": {"depthwise_convolution": 3},
    "trident_shared": {
        "pooling_padding": 2, "depthwise_convolution": 5, "group_convolution": 2, "unnamed_types": 2,
    },
    "yolov3_spp": {"pooling_padding": 3, "yolo_outputs": 1},
}  # fmt: skip


def counts(findings: list[Finding]) -> dict[str, int]:
    return dict(Counter(one.rule for one in findings if one.severity != "info"))


@pytest.mark.parametrize("name", FOUND)
def test_darknet_networks(name: str) -> None:
    conversion = convert(CFG / f"{name}.cfg", None, target="caffe")
    found = check(conversion.net, "hi3516cv500", description=describe(conversion))
    assert counts(found) == FOUND[name]
    sections = {section.line for section in conversion.sections}
    assert all(one.line in sections for one in found if one.layer), "lines are those of the cfg"


def test_heads_of_yolov3_are_those_of_the_stock_sample() -> None:
    """Three outputs in the order of stride 32, 16, 8; and a finding where they are turned round."""
    conversion = convert(CFG / "yolov3.cfg", None)
    description = describe(conversion)
    assert [head["stride"] for head in description["heads"]] == [32, 16, 8]
    for head, stride in zip(description["heads"], [8, 16, 32], strict=True):
        head["stride"] = stride
    (found,) = (one for one in check(conversion.net, description=description) if one.rule == "yolo_outputs")
    assert (found.severity, found.value) == ("warning", [8, 16, 32])


def test_the_official_yolov3_tiny(yolov3_tiny: ModelFiles) -> None:
    """The 2/1 maxpool, of which Caffe has to cut off a row and a column, and eleven BatchNorms."""
    conversion = convert(*yolov3_tiny, target="caffe")
    found = check(conversion.net, "hi3519av100", description=describe(conversion))
    assert counts(found) == {"pooling_padding": 1, "depthwise_convolution": 1}
    by_rule = Counter(one.rule for one in found)
    assert by_rule["unmerged_batchnorm"] == 11 and by_rule["yolo_outputs"] == 1
    assert {one.line for one in found if one.severity != "info"} == {93}


def test_open_nsfw(open_nsfw: ModelFiles) -> None:
    """A real ResNet-50: nothing the chip would refuse, 53 BatchNorms, and filters that died in training."""
    found = check(read_net(*open_nsfw), "hi3559av100")
    assert counts(found) == {}
    by_rule = Counter(one.rule for one in found)
    assert by_rule["unmerged_batchnorm"] == 53
    assert [one.layer for one in found if one.rule == "lost_filters"][0] == "conv_1"
