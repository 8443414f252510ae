"""Every rule on a .cfg: one that breaks it, and one that just does not; and a right one that breaks none."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from nnie_prep.caffe_io import read_prototxt
from nnie_prep.nnie import Finding, check, read_limits
from nnie_prep.nnie.cfg_rules import CFG_RULES, check_cfg
from nnie_prep.nnie.cfg_subject import CfgSubject
from nnie_prep.nnie.mapper_cfg import ImageGroup, MapperCfg, format_cfg, read_cfg
from nnie_prep.nnie.preprocessing import Preprocessing

INPUT = 'input: "data"\ninput_shape {{ dim: 1 dim: {0} dim: 16 dim: 16 }}\n'
CONV = """layer {{ name: "{0}" type: "Convolution" bottom: "{1}" top: "conv"
        convolution_param {{ num_output: 16 kernel_size: 3 }} }}
"""
NET = INPUT.format(3) + CONV.format("conv", "data")
GREY, FOUR = (INPUT.format(count) + CONV.format("conv", "data") for count in (1, 4))
HP = NET.replace('"conv" type', '"conv_hp" type')
NORMALISED = (
    INPUT.format(3)
    + 'layer { name: "norm" type: "Power" bottom: "data" top: "x" power_param { scale: 0.1 } }\n'
    + CONV.format("conv", "x")
)
TWO_INPUTS = (
    'input: "data"\ninput: "size"\ninput_shape { dim: 1 dim: 3 dim: 16 dim: 16 }\n'
    "input_shape { dim: 1 dim: 4 dim: 1 dim: 1 }\n" + CONV.format("conv", "data")
    + 'layer { name: "fc" type: "InnerProduct" bottom: "size" top: "fc"\n'
    "  inner_product_param { num_output: 2 } }\n"
)  # fmt: skip
ROIS = (
    'input: "data"\ninput: "rois"\ninput_shape { dim: 1 dim: 3 dim: 16 dim: 16 }\n'
    "input_shape { dim: 4 dim: 5 dim: 1 dim: 1 }\n" + CONV.format("conv", "data")
    + 'layer { name: "roi" type: "ROIPooling" bottom: "conv" bottom: "rois" top: "roi"\n'
    "  roi_pooling_param { pooled_h: 2 pooled_w: 2 spatial_scale: 1 } }\n"
)  # fmt: skip
ABS = NET + 'layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool"\n' + (
    "  pooling_param { pool: AVE kernel_size: 3 stride: 2 round_mode: FLOOR } }\n"
)  # fmt: skip
DARKNET = Preprocessing(1 / 255, order="RGB", who="its STEM.json")
CAFFE = Preprocessing(0.017, (104.0, 117.0, 123.0), order="BGR", who="the transform_param of t.prototxt")
FOLDED = Preprocessing(order="RGB", who="--fold-input", in_net=True)
BY_LAYER = Preprocessing(who="layer norm, which normalises it", in_net=True)
GROUP = ImageGroup("./list.txt", 1, "null", 3, 1 / 255)
CAFFE_GROUP = ImageGroup("list.txt", 1, "mean.txt", 5, 0.017)
CFG = MapperCfg(
    "./n.prototxt", "./n.caffemodel", batch_num=1, instruction_name="n", RGB_order="RGB", groups=(GROUP,)
)
CAFFE_CFG = replace(CFG, RGB_order="BGR", groups=(CAFFE_GROUP,))


@dataclass(frozen=True)
class Case:
    """What differs from a right .cfg for a Darknet network, and the findings (severity, line key, value)."""

    rule: str
    found: list[tuple[str, str, Any]]
    cfg: dict[str, Any] = field(default_factory=dict)
    group: dict[str, Any] = field(default_factory=dict)
    net: str = NET
    wanted: Preprocessing | None = DARKNET
    files: dict[str, str | bytes] = field(default_factory=dict)
    base: MapperCfg = CFG
    chip: str | None = None
    pair: tuple[str, str] | None = ("n.prototxt", "n.caffemodel")


def case(rule: str, *found: tuple[str, str, Any], **rest: Any) -> Case:
    return Case(rule, list(found), **rest)


LIST = "".join(f"./p{place}.png\n" for place in range(20))
FEATURES = {"image_type": 0, "norm_type": 0}
TENSORS = {"list.txt": "0.5 " * 768 + "\n"}
MEAN = {"mean.txt": "104\n117\n123.3\n"}
ROI_CFG = replace(CFG, net_type=1, groups=(GROUP, ImageGroup("tensors.txt", 0, "null", 0)))
ROI_FILES: dict[str, str | bytes] = {"tensors.txt": "0 1 1 2 2\n", "r.txt": "0 1 1 2 2\n"}
CASES = [
    case("cfg_value", ("error", "batch_num", 257), cfg={"batch_num": 257}),
    case("cfg_value", cfg={"batch_num": 256}),
    case("cfg_value", ("error", "log_level", 4), cfg={"log_level": 4}),
    case("cfg_value", ("error", "instruction_name", 120), cfg={"instruction_name": "n" * 120}),
    case("cfg_value", cfg={"instruction_name": "n" * 119}),
    case("cfg_value", ("error", "image_type", 2), group={"image_type": 2}),
    case("cfg_value", ("warning", "data_scale", 1 / 4096), group={"data_scale": 1 / 4096}),
    case("cfg_value", ("error", "RGB_order", "GBR"), cfg={"RGB_order": "GBR"}),
    case("cfg_file", ("error", "prototxt_file", "./m.prototxt"), cfg={"prototxt_file": "./m.prototxt"}),
    case("cfg_file", ("error", "image_list", "m.txt"), group={"image_list": "m.txt"}),
    case("cfg_file", ("error", "roi_coordinate_file", "m.txt"), cfg={"roi_coordinate_file": ("m.txt",)}),
    case("cfg_file", ("error", "gfpq_param_file", "m.txt"), cfg={"gfpq_param_file": "m.txt"}),
    case("cfg_path", ("warning", "image_list", "my list.txt"), group={"image_list": "my list.txt"}),
    case("cfg_path", ("warning", "instruction_name", "模型"), cfg={"instruction_name": "模型"}),
    case("cfg_path", cfg={"instruction_name": "../out/my-net_1.0"}),
    case("cfg_pair", ("warning", "prototxt_file", "./n.prototxt"), pair=("m.prototxt", "m.caffemodel")),
    case("cfg_pair", pair=("m.prototxt", "elsewhere/n.caffemodel")),
    case("cfg_pair", pair=None),
    case("cfg_prototxt", ("error", "prototxt_file", 2), net=ABS),
    case(
        "cfg_net_type", ("error", "net_type", 0), base=replace(ROI_CFG, net_type=0), net=ROIS, files=ROI_FILES
    ),
    case("cfg_net_type", base=ROI_CFG, net=ROIS, files=ROI_FILES),
    case("cfg_high_precision", ("error", "compile_mode", 2), cfg={"compile_mode": 2}),
    case("cfg_high_precision", cfg={"compile_mode": 2}, net=HP),
    case("cfg_high_precision", ("warning", "compile_mode", 0), net=HP),
    case("cfg_high_precision", cfg={"compile_mode": 1}, net=HP),
    case("cfg_roi", ("warning", "roi_coordinate_file", 0), base=ROI_CFG, net=ROIS, files=ROI_FILES),
    case("cfg_roi", base=replace(ROI_CFG, roi_coordinate_file=("r.txt",)), net=ROIS, files=ROI_FILES),
    case("cfg_stride", ("warning", "internal_stride", 16), chip="hi3559av100"),
    case("cfg_stride", cfg={"internal_stride": 32}, chip="hi3559av100"),
    case("cfg_no_wk", ("info", "is_simulation", 1), cfg={"is_simulation": 1}),
    case("cfg_no_wk", ("info", "is_check_prototxt", 1), cfg={"is_check_prototxt": 1}),
    case("cfg_group_count", ("error", "image_list", 1), net=TWO_INPUTS),
    case(
        "cfg_group_count",
        base=replace(ROI_CFG, net_type=0),
        net=TWO_INPUTS,
        files={"tensors.txt": "1 2 3 4\n"},
    ),
    case("cfg_image_type", ("error", "image_type", 1), net=FOUR),
    case("cfg_image_type", ("error", "image_type", 3), group={"image_type": 3}, net=GREY),
    case("cfg_image_type", group={"image_type": 5}),
    case("cfg_image_type", net=GREY),
    case("cfg_feature_norm", ("error", "norm_type", 3), group={"image_type": 0}),
    case("cfg_feature_norm", group=FEATURES, files=TENSORS),
    case("cfg_twice", ("error", "norm_type", 3), wanted=FOLDED),
    case("cfg_twice", ("warning", "norm_type", 3), net=NORMALISED, wanted=BY_LAYER),
    case("cfg_twice", group={"norm_type": 0}, wanted=FOLDED),
    case("cfg_twice", net=NORMALISED, wanted=DARKNET),
    case("cfg_order", ("error", "RGB_order", "BGR"), cfg={"RGB_order": "BGR"}),
    case(
        "cfg_order",
        ("error", "RGB_order", "BGR"),
        cfg={"RGB_order": "BGR"},
        group={"norm_type": 0},
        wanted=FOLDED,
    ),
    case("cfg_order", cfg={"RGB_order": "BGR"}, net=GREY),
    case("cfg_order", cfg={"RGB_order": "BGR"}, group=FEATURES, files=TENSORS),
    case("cfg_scale", ("error", "data_scale", 1 / 256), group={"data_scale": 1 / 256}),
    case("cfg_scale", ("error", "data_scale", 1.0), group={"norm_type": 0}),
    case("cfg_scale", group={"data_scale": 0.0039216}),
    case(
        "cfg_scale",
        ("error", "data_scale", 1.0),
        base=CAFFE_CFG,
        wanted=CAFFE,
        group={"norm_type": 2},
        files=MEAN,
    ),
    case("cfg_mean", base=CAFFE_CFG, wanted=CAFFE, files=MEAN),
    case(
        "cfg_mean",
        ("error", "mean_file", "123,117,104"),
        base=CAFFE_CFG,
        wanted=CAFFE,
        files={"mean.txt": "123\n117\n104\n"},
    ),
    case("cfg_mean", ("error", "mean_file", "0,0,0"), base=CAFFE_CFG, wanted=CAFFE, group={"norm_type": 3}),
    case("cfg_mean", ("error", "mean_file", "mean.txt"), base=CAFFE_CFG, wanted=CAFFE),
    case(
        "cfg_mean", ("error", "mean_file", "null"), base=CAFFE_CFG, wanted=CAFFE, group={"mean_file": "null"}
    ),
    case(
        "cfg_mean",
        ("error", "mean_file", "mean.txt"),
        base=CAFFE_CFG,
        wanted=CAFFE,
        files={"mean.txt": "104\n117\n"},
    ),
    case(
        "cfg_mean",
        ("error", "mean_file", "mean.txt"),
        base=CAFFE_CFG,
        wanted=CAFFE,
        group={"norm_type": 4},
        files=MEAN,
    ),
    case(
        "cfg_mean",
        ("error", "mean_file", "m.binaryproto"),
        base=CAFFE_CFG,
        wanted=CAFFE,
        group={"mean_file": "m.binaryproto"},
    ),
    case("cfg_untold", ("info", "norm_type", None), wanted=None),
    case("cfg_picture", ("error", "image_list", "./p77.png"), files={"list.txt": LIST + "./p77.png\n"}),
    case(
        "cfg_picture",
        ("warning", "image_list", ".gif"),
        files={"list.txt": LIST + "./p.gif\n", "p.gif": b"GIF"},
    ),
    case(
        "cfg_picture", ("warning", "image_list", ".Png"), files={"list.txt": LIST + "p.Png\n", "p.Png": b""}
    ),
    case(
        "cfg_picture",
        ("error", "image_list", "no.png"),
        files={"list.txt": LIST + "no.png\n", "no.png": b"no"},
    ),
    case("cfg_picture", files={"list.txt": LIST + "x.tif\n", "x.tif": b"which nobody here reads"}),
    case("cfg_picture_count", ("warning", "image_list", 19), files={"list.txt": LIST[9:]}),
    case("cfg_picture_count", ("error", "image_list", 0), files={"list.txt": "\n"}),
    case("cfg_picture_count", ("info", "image_list", 60), files={"list.txt": LIST * 3}),
    case(
        "cfg_tensor",
        ("error", "image_list", "3 numbers"),
        group=FEATURES,
        files={"list.txt": "1 2 3\n" + "0 " * 767 + "1\n"},
    ),
    case("cfg_tensor", ("error", "image_list", 0), group=FEATURES, files={"list.txt": ""}),
    case("cfg_tensor", group=FEATURES, files={"list.txt": "0.5," * 767 + "1\n"}),
]


@pytest.fixture(scope="module")
def pictures() -> dict[str, bytes]:
    random = np.random.default_rng(0)
    made = {}
    for place in range(20):
        ok, data = cv2.imencode(".png", random.integers(0, 256, (9, 7, 3), dtype=np.uint8))
        assert ok
        made[f"p{place}.png"] = data.tobytes()
    return made


def findings(one: Case, folder: Path, pictures: dict[str, bytes]) -> tuple[CfgSubject, list[Finding]]:
    """Writes the case and checks what is read back."""
    files: dict[str, str | bytes] = {"n.prototxt": one.net, "n.caffemodel": b"", "list.txt": LIST}
    for name, content in {**pictures, **files, **one.files}.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    groups = (replace(one.base.groups[0], **one.group), *one.base.groups[1:])
    (folder / "n.cfg").write_text(format_cfg(replace(one.base, groups=groups, **one.cfg)))
    limits = read_limits(one.chip)
    net = read_prototxt(folder / "n.prototxt")
    wanted = dict.fromkeys(net.inputs(), one.wanted)
    pair = (Path(one.pair[0]), Path(one.pair[1])) if one.pair else None
    subject = CfgSubject(read_cfg(folder / "n.cfg"), limits, net, wanted, check(net, limits=limits), pair)
    return subject, check_cfg(subject)


@pytest.mark.parametrize("one", CASES, ids=lambda one: f"{one.rule}-{'breaks' if one.found else 'passes'}")
def test_a_rule(one: Case, tmp_path: Path, pictures: dict[str, bytes]) -> None:
    subject, found = findings(one, tmp_path, pictures)
    mine = [finding for finding in found if finding.rule == one.rule]
    lines = subject.cfg.lines
    assert [(f.severity, f.line, f.value) for f in mine] == [
        (severity, lines.get(key, 0), value if not isinstance(value, float) else pytest.approx(value))
        for severity, key, value in one.found
    ]
    for finding in mine:
        assert finding.where == f"{tmp_path}/n.cfg" + (f":{finding.line}" if finding.line else "")
        assert finding.message and finding.limit and not finding.message.endswith(".")
    others = {finding.rule for finding in found if finding.severity == "error"} - {one.rule}
    if not one.found:  # what passes a rule by breaking another shows little
        assert others <= {"cfg_roi"}


def test_errors_of_the_prototxt_are_counted(tmp_path: Path, pictures: dict[str, bytes]) -> None:
    one = NET + 'layer { name: "m" type: "Mystery" bottom: "conv" top: "m" }'
    for net, more in ((ABS, ", and 1 more"), (one, "")):
        subject, found = findings(case("cfg_prototxt", net=net), tmp_path, pictures)
        (mine,) = [finding for finding in found if finding.rule == "cfg_prototxt"]
        first, *_ = [finding for finding in subject.net_findings if finding.severity == "error"]
        assert mine.message == f"check finds {first.where}: {first.message}{more}"


def test_a_right_one(tmp_path: Path, pictures: dict[str, bytes]) -> None:
    assert findings(case(""), tmp_path, pictures)[1] == []
    caffe = case("", base=CAFFE_CFG, wanted=CAFFE, files=MEAN)
    assert findings(caffe, tmp_path, pictures)[1] == []


def test_every_rule_has_a_case_that_breaks_it() -> None:
    assert {one.rule for one in CASES if one.found} == {rule.name for rule in CFG_RULES}


@pytest.mark.parametrize("rule", CFG_RULES, ids=lambda rule: rule.name)
def test_the_documentation_of_a_rule(rule: Any) -> None:
    what, why, instead = rule.text.split("\n\n")
    assert "\n" not in what and what.endswith(".")
    assert why.endswith(".") and instead.startswith("Instead: ") and instead.endswith((".", ".)"))
    assert rule.source


@pytest.mark.parametrize(
    ("rule", "difference", "message", "repair"),
    [
        (
            "cfg_mean",
            {"group": {"norm_type": 4}},
            "mean_file is mean.txt, with norm_type 4",
            "another norm_type",
        ),
        ("cfg_mean", {"group": {"mean_file": "null"}}, "mean_file null does not exist", "another norm_type"),
        (
            "cfg_picture_count",
            {"files": MEAN | {"list.txt": LIST[9:]}},
            "list.txt lists 19 pictures",
            "list more",
        ),
        ("cfg_picture_count", {"files": MEAN | {"list.txt": LIST[:9]}}, "lists 1 picture", "list more"),
        ("cfg_picture_count", {"files": MEAN | {"list.txt": LIST * 3}}, "lists 60 pictures", "list fewer"),
    ],
)
def test_what_a_finding_says(
    tmp_path: Path, pictures: dict[str, bytes], rule: str, difference: Any, message: str, repair: str
) -> None:
    one = case(rule, **{"base": CAFFE_CFG, "wanted": CAFFE, "files": MEAN} | difference)
    (found,) = [finding for finding in findings(one, tmp_path, pictures)[1] if finding.rule == rule]
    assert found.message.endswith(message)
    assert found.repair.endswith(repair)


@pytest.mark.parametrize(
    ("rule", "difference", "key"),
    [
        ("cfg_file", {"image_list": "m.txt"}, "image_list"),
        ("cfg_path", {"image_list": "m m.txt"}, "image_list"),
        ("cfg_image_type", {"image_type": 1}, "image_type"),
        ("cfg_feature_norm", {"norm_type": 3}, "norm_type"),
        ("cfg_tensor", {"image_list": "list.txt"}, "image_list"),
    ],
)
def test_a_finding_of_the_second_input(
    tmp_path: Path, pictures: dict[str, bytes], rule: str, difference: Any, key: str
) -> None:
    groups = (GROUP, replace(ROI_CFG.groups[1], **difference))
    one = case(rule, base=replace(CFG, groups=groups), net=TWO_INPUTS, files={"tensors.txt": "1 2 3 4\n"})
    subject, found = findings(one, tmp_path, pictures)
    second = subject.cfg.groups[1].lines[key]
    assert second > subject.cfg.groups[0].lines[key]
    assert {finding.line for finding in found if finding.rule == rule} == {second}


def test_a_missing_mean_file_key(tmp_path: Path, pictures: dict[str, bytes]) -> None:
    findings(case(""), tmp_path, pictures)
    text = (tmp_path / "n.cfg").read_text().replace("[mean_file] null\n", "")
    (tmp_path / "n.cfg").write_text(text)
    net = read_prototxt(tmp_path / "n.prototxt")
    (found,) = check_cfg(CfgSubject(read_cfg(tmp_path / "n.cfg"), read_limits(), net, {"data": DARKNET}))
    assert (found.rule, found.severity, found.message) == ("cfg_mean", "error", "mean_file is missing")


def test_an_input_without_a_shape_leaves_its_group_to_itself(tmp_path: Path) -> None:
    (tmp_path / "n.prototxt").write_text(
        'layer { name: "size" type: "Input" top: "size" }\nlayer { name: "data" type: "Input" top: "data"'
        "  input_param { shape { dim: 1 dim: 3 dim: 16 dim: 16 } } }\n" + CONV.format("conv", "data")
    )
    groups = (ImageGroup("sizes.txt", 0, "null", 0), GROUP)
    subject = CfgSubject(replace(CFG, groups=groups), read_limits(), read_prototxt(tmp_path / "n.prototxt"))
    assert subject.inputs() == [("data", (1, 3, 16, 16), GROUP)]


def test_without_its_net_the_file_is_checked(tmp_path: Path) -> None:
    (tmp_path / "n.cfg").write_text(format_cfg(CFG))
    found = check_cfg(CfgSubject(read_cfg(tmp_path / "n.cfg"), read_limits()))
    assert [finding.rule for finding in found] == ["cfg_file"] * 3
