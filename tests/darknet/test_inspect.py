"""Darknet's own table, against real Darknet's shapes, published logs, and files of known length."""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from conftest import ModelFiles
from darknet_cases import CASES, darknet_case
from darknet_drafts import drawn
from darknet_nets import random_net
from darknet_texts import written
from hypothesis import given, settings
from hypothesis import strategies as st

from nnie_prep.darknet import convert
from nnie_prep.darknet.inspect import Inspection, inspect
from nnie_prep.darknet.weights import Flavor
from nnie_prep.errors import UserError

YOLOV3 = Path(__file__).parents[1] / "data" / "cfg" / "yolov3.cfg"

# What AlexeyAB's Darknet printed for the official yolov3-tiny.cfg, with "Total BFLOPS 5.571":
# https://blog.csdn.net/juluwangriyue/article/details/109543317. Index: filters, size, stride, input and
# output (width, height, channels), BF.
YOLOV3_TINY = {
    0: (16, 3, 1, (416, 416, 3), (416, 416, 16), "0.150"),
    1: (None, 2, 2, (416, 416, 16), (208, 208, 16), "0.003"),
    2: (32, 3, 1, (208, 208, 16), (208, 208, 32), "0.399"),
    3: (None, 2, 2, (208, 208, 32), (104, 104, 32), "0.001"),
    4: (64, 3, 1, (104, 104, 32), (104, 104, 64), "0.399"),
    5: (None, 2, 2, (104, 104, 64), (52, 52, 64), "0.001"),
    6: (128, 3, 1, (52, 52, 64), (52, 52, 128), "0.399"),
    7: (None, 2, 2, (52, 52, 128), (26, 26, 128), "0.000"),
    8: (256, 3, 1, (26, 26, 128), (26, 26, 256), "0.399"),
    9: (None, 2, 2, (26, 26, 256), (13, 13, 256), "0.000"),
    10: (512, 3, 1, (13, 13, 256), (13, 13, 512), "0.399"),
    11: (None, 2, 1, (13, 13, 512), (13, 13, 512), "0.000"),
    12: (1024, 3, 1, (13, 13, 512), (13, 13, 1024), "1.595"),
    13: (256, 1, 1, (13, 13, 1024), (13, 13, 256), "0.089"),
    14: (512, 3, 1, (13, 13, 256), (13, 13, 512), "0.399"),
    15: (255, 1, 1, (13, 13, 512), (13, 13, 255), "0.044"),
}


def convolutional_bflops(found: Inspection) -> float:
    return sum(row.bflops or 0 for row in found.rows if row.type == "convolutional")


def test_the_table_that_darknet_prints(yolov3_tiny: ModelFiles) -> None:
    found = inspect(yolov3_tiny.description, yolov3_tiny.weights)
    for index, (filters, size, stride, before, after, bflops) in YOLOV3_TINY.items():
        row = found.rows[index]
        assert row.filters == filters and row.window == f"{size} x {size}/{stride}"
        assert row.input == before[::-1] and row.output == after[::-1]
        assert f"{row.bflops:.3f}" == bflops
    assert f"{found.bflops:.3f}" == "5.571"
    # pjreddie.com/darknet/yolo gives 5.56 Bn, which are the convolutions alone.
    assert f"{convolutional_bflops(found):.2f}" == "5.56"
    assert found.fit and found.fit.matches and found.fit.seen == 32013312


def test_yolov3_at_two_sizes(tmp_path: Path) -> None:
    """65.86 Bn at 416 and 140.69 Bn at 608 (pjreddie.com/darknet/yolo, convolutions alone; for 416 also
    github.com/pjreddie/darknet/issues/1039), and a weights file of 248007048 bytes."""
    text = YOLOV3.read_text()
    for size, bflops in ((416, "65.86"), (608, "140.69")):
        cfg = tmp_path / "yolov3.cfg"
        cfg.write_text(re.sub(r"^(width|height)=\d+", rf"\g<1>={size}", text, flags=re.M))
        found = inspect(cfg)
        assert f"{convolutional_bflops(found):.2f}" == bflops
        assert found.floats == (248007048 - 20) // 4
        assert [row.output for row in found.rows if row.type == "yolo"] == [
            (255, size // step, size // step) for step in (32, 16, 8)
        ]
        pjreddie = inspect(cfg, flavor="pjreddie")
        assert pjreddie.bflops == convolutional_bflops(found) < found.bflops


def test_tiny_yolo_voc(tmp_path: Path) -> None:
    """6.97 Bn (pjreddie.com/darknet/yolov2), and a file of 63471556 bytes with the old header of 16."""
    text, filters = "", 16
    for number in range(8):
        text += f"[conv]\nbatch_normalize=1\nfilters={filters}\nsize=3\npad=1\nactivation=leaky\n"
        if number < 6:
            text += f"[max]\nsize=2\nstride={2 if number < 5 else 1}\n"
        filters = min(2 * filters, 1024)
    found = inspect(written(tmp_path, text + "[conv]\nfilters=125\nactivation=linear\n", (3, 416, 416)))
    assert found.rows[-1].output == (125, 13, 13)
    assert convolutional_bflops(found) == pytest.approx(6.97, abs=0.005)
    assert found.floats == (63471556 - 16) // 4


@pytest.mark.parametrize("name", CASES)
def test_shapes_and_floats_of_real_darknet(name: str, tmp_path: Path) -> None:
    """Of every network that it loaded, those included that cannot be converted."""
    case = darknet_case(name)
    found = inspect(case.cfg, case.weights(tmp_path), flavor=case.flavor)
    assert [row.output for row in found.rows] == [
        (layer["out_c"], layer["out_h"], layer["out_w"]) for layer in case.layers
    ]
    assert [row.type for row in found.rows] == [layer["type"] for layer in case.layers]
    assert found.fit and found.fit.matches and not found.fit.note
    assert found.fit.header_bytes + 4 * found.fit.floats == case.weights(tmp_path).stat().st_size


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.sampled_from(("alexeyab", "pjreddie")), st.integers(-400, 12))
def test_drawn_networks(seed: int, flavor: Flavor, more: int) -> None:
    """Where each tensor lies, found again in the stream; and a file that is some bytes off."""
    draft = drawn(seed, flavor)
    with TemporaryDirectory() as folder:
        cfg, weights = draft.write(Path(folder))
        found = inspect(cfg, weights, flavor=flavor)
        assert [row.output for row in found.rows] == draft.shapes
        assert found.fit and found.fit.matches and not found.warnings
        ends = [(row.start or 0) + (row.floats or 0) for row in found.rows]
        assert [row.start for row in found.rows] == [0, *ends[:-1]]
        assert ends[-1] == found.floats == sum(values.size for values in draft.stream)
        sizes = [taken.size for row in found.rows for taken in row.tensors or ()]
        assert sizes == [values.size for values in draft.stream]
        data = weights.read_bytes()
        off = max(more, 20 - len(data))
        weights.write_bytes(data + bytes(off) if off > 0 else data[: len(data) + off])
        changed = inspect(cfg, weights, flavor=flavor)
    assert [row.start for row in changed.rows] == [row.start for row in found.rows]
    assert changed.fit
    if changed.fit.matches:  # a shorter header can account for it
        assert off == 0 or (off in (-4, -8, -20) and changed.fit.note)
        return
    assert changed.fit.surplus == off // 4 and changed.fit.stray_bytes == off % 4
    assert not changed.fit.matches
    have = (len(data) - 20 + off) // 4
    behind = [index for index, end in enumerate(ends) if end > have]
    assert changed.fit.ends_in == (behind[0] if behind else None)


# ---- what does not fit ---------------------------------------------------------------------------


def test_a_file_that_ends_within_a_section(tmp_path: Path) -> None:
    net = random_net(tmp_path, "[conv]\nfilters=5\n[conn]\noutput=4\nactivation=leaky\n", (3, 4, 6))
    data = net.weights.read_bytes()
    net.weights.write_bytes(data[: 20 + 4 * (20 + 7) + 3])
    found = inspect(net.cfg, net.weights)
    assert [(row.start, row.floats) for row in found.rows] == [(0, 20), (20, 4 + 4 * 120)]
    assert found.fit and not found.fit.matches
    assert (found.fit.ends_in, found.fit.floats, found.fit.stray_bytes) == (1, 27, 3)
    assert found.fit.surplus == 27 - 504


@pytest.mark.parametrize(("length", "seen"), [(16, 77), (12, 0), (0, 0)])
def test_headers_that_are_not_the_versions(tmp_path: Path, length: int, seen: int) -> None:
    net = random_net(tmp_path, "[conv]\nfilters=5\n", (3, 4, 6))
    data = net.weights.read_bytes()
    net.weights.write_bytes((data[:12] + seen.to_bytes(4, "little"))[:length] + data[20:])
    found = inspect(net.cfg, net.weights)
    assert found.fit and found.fit.matches
    assert (found.fit.header_bytes, found.fit.seen) == (length, seen)
    assert f"{length} bytes" in found.fit.note


def test_a_file_without_a_header_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "net.weights"
    path.write_bytes(bytes(11))
    with pytest.raises(UserError, match="has 11 bytes"):
        inspect(written(tmp_path, "[conv]"), path)


# ---- what cannot be converted --------------------------------------------------------------------


def test_sections_behind_one_without_a_shape(tmp_path: Path) -> None:
    """Nothing is known behind the gru, but for what a section says of itself."""
    text = (
        "[conv]\nfilters=4\nsize=3\npad=1\n[gru]\noutput=9\n[max]\nstride=2\n[conv]\nfilters=2\n"
        "[conn]\noutput=7\n[route]\nlayers=0\n[conv]\nfilters=6\n"
    )
    found = inspect(written(tmp_path, text))
    outputs = [row.output for row in found.rows]
    assert outputs == [(4, 8, 6), None, None, None, None, (4, 8, 6), (6, 8, 6)]
    assert [row.floats for row in found.rows] == [112, None, 0, None, None, 0, 30]
    assert [row.window for row in found.rows] == ["3 x 3/1", *[""] * 5, "1 x 1/1"]
    assert [row.start for row in found.rows] == [0, *[None] * 6]
    assert [bool(row.problems) for row in found.rows] == [False, True, *[False] * 5]
    assert "recurrent" in found.rows[1].problems[0] and found.floats is None


def test_sections_that_read_one_without_a_shape(tmp_path: Path) -> None:
    """Neither [local], whose shape the NumPy Darknet knows; a plain [shortcut] has no floats all the same."""
    text = "[gru]\noutput=9\n[local]\nfilters=2\n{}"
    found = inspect(written(tmp_path, text.format("[shortcut]\nfrom=-2\n")))
    assert [(row.output, row.floats) for row in found.rows] == [(None, None), (None, None), (None, 0)]
    weighted = "[shortcut]\nfrom=-2\nweights_type=per_feature\nweights_normalization=relu\n"
    assert inspect(written(tmp_path, text.format(weighted))).rows[2].floats is None


def test_a_file_for_a_network_that_is_known_in_part(tmp_path: Path) -> None:
    cfg = written(tmp_path, "[conv]\nfilters=4\n[gru]\noutput=9\n")
    weights = tmp_path / "net.weights"
    for floats, ends_in in ((15, 0), (16, None), (900, None)):
        weights.write_bytes(b"\0\0\0\0\2\0\0\0\5\0\0\0" + bytes(8 + 4 * floats))
        found = inspect(cfg, weights)
        assert found.fit and found.fit.ends_in == ends_in
        assert found.fit.surplus is None and not found.fit.matches


def test_options_that_change_what_the_file_holds(tmp_path: Path) -> None:
    """A section with dontload has nothing there, pjreddie's numload fewer filters."""
    text = "[conv]\nfilters=6\nsize=3\nbatch_normalize=1\n{}\n[conv]\nfilters=2\n"
    floats = {
        ("alexeyab", "pad=1"): (192 - 6, 14),
        ("alexeyab", "dontload=1"): (0, 14),
        ("alexeyab", "dontloadscales=1"): (6 + 162, 14),
        ("pjreddie", "numload=4"): (4 * 4 + 4 * 27, 14),
        ("alexeyab", "xnor=1"): (186, 14),
    }
    for (flavor, option), wanted in floats.items():
        found = inspect(written(tmp_path, text.format(option)), flavor=flavor)  # type: ignore[arg-type]
        assert tuple(row.floats for row in found.rows) == wanted, option
        assert bool(found.rows[0].problems) == (option != "pad=1")


def test_xnor_is_a_32nd_and_weights_double_a_shortcut(tmp_path: Path) -> None:
    """AlexeyAB convolutional_layer.c and shortcut_layer.c."""
    text = "[conv]\nfilters=6\nsize=3\npad=1\n"
    plain, xnor = (inspect(written(tmp_path, text + more)).rows[0].bflops for more in ("", "xnor=1"))
    assert plain == 2 * 6 * 3 * 9 * 48 / 1e9 and xnor == plain / 32
    text = "[conv]\nfilters=6\n[conv]\nfilters=6\n[conv]\nfilters=6\n[shortcut]\nfrom=0,1\n"
    weighted = "weights_type=per_feature\nweights_normalization=relu"
    sums = [inspect(written(tmp_path, text + more)).rows[3].bflops for more in ("", weighted)]
    assert sums == [2 * 6 * 48 / 1e9, 4 * 6 * 48 / 1e9]


def test_an_antialiased_layer_is_counted_before_its_blur(tmp_path: Path) -> None:
    text = "[conv]\nfilters=6\nsize=3\npad=1\nstride=2\nantialiasing=1\n"
    text += "[max]\nsize=3\nstride=2\nantialiasing=2\n"
    conv, pool = inspect(written(tmp_path, text, (3, 16, 12))).rows
    assert conv.output == (6, 8, 6) and conv.bflops == 2 * 6 * 27 * 16 * 12 / 1e9
    assert pool.output == (6, 4, 3) and pool.bflops == 6 * 9 * 8 * 6 / 1e9


def test_says_what_the_conversion_says(tmp_path: Path) -> None:
    """All the reasons of a refusal, each at its section; and the warnings of a network that converts."""
    text = "[conv]\nactivation=stair\nxnor=1\n[max]\nsize=2\npadding=8\n[conv]\nactivation=foo\n"
    cfg = written(tmp_path, text)
    found = inspect(cfg)
    with pytest.raises(UserError) as caught:
        convert(cfg, None)
    said = str(caught.value)
    problems = [problem for row in found.rows for problem in row.problems]
    assert len(problems) == 4 and "for 4 reasons" in said
    assert all(problem in said for problem in problems)
    cfg = written(tmp_path, "widht=9\n[conv]\nfilter=8\nstride=1\nstride=2\n")
    assert inspect(cfg).warnings == convert(cfg, None).warnings != []
