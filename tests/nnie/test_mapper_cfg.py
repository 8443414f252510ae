"""The compiler's .cfg: every key out and in, in the form of working files, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnie_prep.errors import UserError
from nnie_prep.nnie.mapper_cfg import (
    GROUP_KEYS,
    KEYS,
    ImageGroup,
    MapperCfg,
    format_cfg,
    parse_cfg,
    path_text,
    read_cfg,
)

# A file as RuyiStudio writes it, of a user's face recognition.
WORKING = """\
[prototxt_file] ./mark_prototxt/face_mark_nnie.prototxt
[caffemodel_file] ./data/face/face.caffemodel
[batch_num] 256
[net_type] 0
[sparse_rate] 0
[compile_mode] 0
[is_simulation] 0
[log_level] 3
[instruction_name] ./data/face/face_inst
[RGB_order] RGB
[data_scale] 0.0078125
[internal_stride] 16
[image_list] ./data/face/images/imageList.txt
[image_type] 1
[mean_file] ./data/face/pixel_mean.txt
[norm_type] 5
"""
FACE = MapperCfg(
    "./mark_prototxt/face_mark_nnie.prototxt",
    "./data/face/face.caffemodel",
    log_level=3,
    instruction_name="./data/face/face_inst",
    RGB_order="RGB",
    groups=(ImageGroup("./data/face/images/imageList.txt", 1, "./data/face/pixel_mean.txt", 5, 0.0078125),),
)
# What each key of the table says, other than its default.
VALUES: dict[str, tuple[str, Any]] = {
    "prototxt_file": ("a.prototxt", "a.prototxt"),
    "caffemodel_file": ("a b.caffemodel", "a b.caffemodel"),
    "net_type": ("2", 2),
    "batch_num": ("0", 0),
    "sparse_rate": ("0.5", 0.5),
    "compile_mode": ("2", 2),
    "compress_mode": ("1", 1),
    "is_simulation": ("1", 1),
    "log_level": ("3", 3),
    "instruction_name": ("net", "net"),
    "internal_stride": ("32", 32),
    "RGB_order": ("RGB", "RGB"),
    "is_check_prototxt": ("1", 1),
    "max_roi_frame_cnt": ("5000", 5000),
    "roi_coordinate_file": ("rois.txt", ("rois.txt",)),
    "recurrent_tmax": ("16", 16),
    "gfpq_param_file": ("g.txt", "g.txt"),
}
GROUP_VALUES: dict[str, tuple[str, Any]] = {
    "image_list": ("list.txt", "list.txt"),
    "image_type": ("5", 5),
    "norm_type": ("4", 4),
    "data_scale": ("0.017", 0.017),
    "mean_file": ("m.binaryproto", "m.binaryproto"),
}
MINIMAL = "[prototxt_file] n.prototxt\n[caffemodel_file] n.caffemodel\n[image_list] l.txt\n"


def parsed(text: str) -> MapperCfg:
    return parse_cfg(text, Path("n.cfg"))


def test_a_working_file() -> None:
    assert parsed(WORKING) == FACE
    assert format_cfg(FACE) == WORKING
    assert parsed(WORKING.replace("\n", "\r\n")) == FACE
    assert parsed(WORKING.replace("[net_type]", "# by hand\n\n  [ net_type ]")) == FACE


def test_the_table_is_whole() -> None:
    assert VALUES.keys() == KEYS.keys() and GROUP_VALUES.keys() == GROUP_KEYS.keys()


@pytest.mark.parametrize("key", [*VALUES, *GROUP_VALUES])
def test_every_key(key: str) -> None:
    text, value = (VALUES | GROUP_VALUES)[key]
    line = f"[{key}] {text}\n"
    kept = "".join(one for one in MINIMAL.splitlines(True) if not one.startswith(f"[{key}]"))
    cfg = parsed(kept + line)
    owner = cfg.groups[0] if key in GROUP_VALUES else cfg
    assert getattr(owner, key) == value
    assert owner.lines[key] == kept.count("\n") + 1
    assert line in format_cfg(cfg)
    default = parsed(MINIMAL)
    assert getattr(default.groups[0] if key in GROUP_VALUES else default, key) != value


def test_what_the_compiler_takes_without_the_key() -> None:
    assert parsed(MINIMAL) == MapperCfg("n.prototxt", "n.caffemodel", groups=(ImageGroup("l.txt"),))
    assert parsed(MINIMAL).groups[0].data_scale == 1 / 256


def test_both_spellings_of_the_name() -> None:
    for name in ("instruction_name", "instructions_name"):
        assert parsed(f"{MINIMAL}[{name}] wk\n").instruction_name == "wk"


def test_a_group_for_each_input() -> None:
    groups = (ImageGroup("a.txt", 1, "a_mean.txt", 2), ImageGroup("b.txt", 0, "null", 0))
    cfg = MapperCfg("n.prototxt", "n.caffemodel", groups=groups)
    text = format_cfg(cfg)
    assert parsed(text) == cfg
    order = [line[1:].split("]")[0] for line in text.splitlines()[-8:]]
    assert order == ["image_list", "image_type", "mean_file", "norm_type"] * 2
    assert text.count("[data_scale]") == 1, "one for all, as in working files"
    other = replace(cfg, groups=(groups[0], replace(groups[1], data_scale=0.5)))
    assert format_cfg(other).count("[data_scale]") == 2 and parsed(format_cfg(other)) == other


NAMES = st.text("abcXYZ019_./-", min_size=1, max_size=30)
GROUPS = st.builds(
    ImageGroup, NAMES, st.sampled_from([0, 1, 3, 5]), NAMES, st.integers(0, 5),
    st.floats(0.001, 100).map(lambda value: float(f"{value:.10g}")),
)  # fmt: skip
CFGS = st.builds(
    MapperCfg,
    prototxt_file=NAMES,
    caffemodel_file=NAMES,
    batch_num=st.integers(0, 256),
    net_type=st.integers(0, 2),
    sparse_rate=st.floats(0, 1).map(lambda value: round(value, 4)),
    instruction_name=NAMES,
    compress_mode=st.integers(0, 1),
    roi_coordinate_file=st.lists(NAMES, max_size=3).map(tuple),
    recurrent_tmax=st.integers(1, 1024),
    groups=st.lists(GROUPS, min_size=1, max_size=3).map(tuple),
)


@given(CFGS)
def test_round_trip(cfg: MapperCfg) -> None:
    assert parsed(format_cfg(cfg)) == cfg


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MINIMAL + "[net_tipe] 0\n", "n.cfg:4: 'net_tipe' is no key of the compiler's; did you mean net_t"),
        (MINIMAL + "net_type 0\n", "n.cfg:4: found 'net_type 0', expected [key] value; write [net"),
        (MINIMAL + "[net_type] x\n", "n.cfg:4: net_type is 'x'; it must be a whole number; write [ne"),
        (MINIMAL + "[net_type] 0 # CNN\n", "n.cfg:4: net_type is '0 # CNN'; it must be a whole number"),
        (MINIMAL + "[data_scale] nan\n", "n.cfg:4: data_scale is 'nan'; it must be a number"),
        (MINIMAL + "[mean_file]\n", "n.cfg:4: mean_file is ''; it must be a value"),
        (MINIMAL + "[net_type] 0\n[net_type] 1\n", "n.cfg:5: net_type stands on line 4 already; remove one"),
        (MINIMAL + "[image_list] m.txt\n" + "[norm_type] 0\n" * 3, "n.cfg:7: norm_type is given 3 times, an"),
        (MINIMAL[MINIMAL.index("[caffe") :], "n.cfg: prototxt_file is missing; add [prototxt_file] PATH"),
        ("[prototxt_file] n\n[caffemodel_file] n\n", "n.cfg: image_list is missing"),
        ("", "n.cfg: holds no [key] value"),
    ],
)  # fmt: skip
def test_refusals(text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        parsed(text)
    assert message in str(error.value)


def test_paths(tmp_path: Path) -> None:
    cfg = tmp_path / "job" / "n.cfg"
    assert path_text(tmp_path / "job" / "n.prototxt", cfg) == "./n.prototxt"
    assert path_text(tmp_path / "pictures" / "1.jpg", cfg) == "../pictures/1.jpg"
    assert path_text(tmp_path / "job" / ".n" / "n.prototxt", cfg) == "./.n/n.prototxt"
    assert path_text(tmp_path / "job" / "n.prototxt", cfg, absolute=True) == f"{tmp_path}/job/n.prototxt"
    cfg.parent.mkdir()
    cfg.write_text(MINIMAL)
    assert read_cfg(cfg).path(r"..\pictures\1.jpg").resolve() == tmp_path / "pictures" / "1.jpg"
    with pytest.raises(UserError, match="missing.cfg: cannot be read"):
        read_cfg(tmp_path / "missing.cfg")
    with pytest.raises(UserError, match="has a line break"):
        format_cfg(replace(FACE, prototxt_file="a\nb"))
