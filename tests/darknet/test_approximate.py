"""Inexact forms: built where they are asked for and nowhere else, equal to what they say they compute."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from calibrated import draw_weights
from darknet_texts import structure, written
from numpy.typing import NDArray

from nnie_prep.caffe_io import format_prototxt, write_caffemodel
from nnie_prep.cli.parser import parse
from nnie_prep.darknet import Conversion, convert, describe
from nnie_prep.darknet.approximation import APPROXIMATIONS, Approximation, approximated_cfg
from nnie_prep.darknet.cfg import read_cfg
from nnie_prep.darknet.weights import Flavor
from nnie_prep.engines import caffe_engine
from nnie_prep.engines.numpy import forward

Array = NDArray[np.float32]

ALL: tuple[Approximation, ...] = ("pool-2-1", "mish-as-leaky")
NET = """
[convolutional]
batch_normalize=1
filters=6
size=3
pad=1
activation=mish
[maxpool]
size=2
stride=1
[route]
layers=-1
[convolutional]
filters=6
size=1
activation=linear
[shortcut]
from=-2
activation=mish
[maxpool]
size=2
stride=2
[conv]
filters=5
activation=linear
"""


def converted(folder: Path, *approximate: Approximation, text: str = NET) -> tuple[Conversion, Array]:
    """The conversion with calibrated weights, and a picture for it."""
    cfg, weights = written(folder, text, (3, 9, 7)), folder / "tiny.weights"
    picture = np.random.default_rng(3).random((3, 9, 7), np.float32)
    if not weights.exists():
        draw_weights(cfg, weights, picture, seed=4)
    return convert(cfg, weights, approximate=approximate), picture


def inexact(conversion: Conversion) -> dict[int, str]:
    return {layer.index: layer.inexact for layer in conversion.layers if layer.inexact}


def of_type(conversion: Conversion, kind: str) -> list[str]:
    return [layer.name for layer in conversion.net.layers if layer.type == kind]


POOL, LEAKY = "kernel 3, pad 1 for the 2/1 pool", "leaky for mish"


def test_what_becomes_inexact(tmp_path: Path) -> None:
    for asked, expected in (
        ((), {}),
        (ALL[:1], {1: POOL}),
        (ALL[1:], {0: LEAKY, 4: LEAKY}),
        (ALL, {0: LEAKY, 1: POOL, 4: LEAKY}),
    ):
        conversion, _ = converted(tmp_path, *asked)
        assert inexact(conversion) == expected and not conversion.warnings
        assert bool(of_type(conversion, "BNLL")) == ("mish-as-leaky" not in asked)
        assert ("layer2-crop" in of_type(conversion, "Convolution")) == ("pool-2-1" not in asked)
        said = [line for line in conversion.net.comments if "INEXACT" in line]
        assert said == [
            f"INEXACT, as asked: {form}, in Darknet's layer {', '.join(map(str, where))}"
            for form in dict.fromkeys(expected.values())
            if (where := [index for index in expected if expected[index] == form])
        ]
        told = {entry["index"]: entry.get("inexact", "") for entry in describe(conversion)["layers"]}
        assert {index: form for index, form in told.items() if form} == expected


def largest_of_3x3(x: Array) -> Array:
    """Over each pixel and its eight neighbours."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    _, height, width = x.shape
    shifted = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return np.asarray(np.max(shifted, axis=0))


def check_values(blobs: dict[str, Array], exact: dict[str, Array]) -> None:
    """By formulas of this test, from what the same net computes before."""
    x = exact["layer1-conv"][0]  # without its activation, which has a blob of its own
    first = np.where(x > 0, x, np.float32(0.1) * x)
    np.testing.assert_allclose(blobs["layer1-conv"][0], first, rtol=1e-5, atol=1e-5)
    pooled = largest_of_3x3(first)
    np.testing.assert_allclose(blobs["layer2-maxpool"][0], pooled, rtol=1e-5, atol=1e-5)
    total = blobs["layer4-conv"][0] + pooled
    sum_blob = blobs["layer5-shortcut"][0]
    np.testing.assert_allclose(sum_blob, np.where(total > 0, total, 0.1 * total), rtol=1e-5, atol=1e-5)
    assert (total < -0.05).any() and (x < -0.05).any()


def test_what_is_computed(tmp_path: Path) -> None:
    exact, picture = converted(tmp_path)
    conversion, _ = converted(tmp_path, *ALL)
    feeds = {"data": picture[None]}
    check_values(forward(conversion.net, feeds), forward(exact.net, feeds))


@pytest.mark.caffe
def test_what_is_computed_in_caffe(tmp_path: Path) -> None:
    found = []
    for asked in (ALL, ()):
        conversion, picture = converted(tmp_path, *asked)
        prototxt, caffemodel = tmp_path / "net.prototxt", tmp_path / "net.caffemodel"
        prototxt.write_text(format_prototxt(conversion.net))
        with caffemodel.open("wb") as file:
            write_caffemodel(conversion.net, file)
        feeds = {"data": picture[None]}
        found.append(caffe_engine.forward(sys.executable, prototxt, caffemodel, feeds, None))
    check_values(dict(found[0]), dict(found[1]))


@pytest.mark.parametrize(
    ("options", "flavor", "is_2_1"),
    [
        ("size=2\nstride=1", "alexeyab", True),
        ("size=2", "alexeyab", True),
        ("size=2\nstride=1\npadding=1", "pjreddie", True),
        ("size=2\nstride=2\nstride_x=1\nstride_y=1", "alexeyab", True),
        ("size=2\nstride=1\nstride_x=2", "alexeyab", False),
        ("size=2\nstride=1\nstride_x=2", "pjreddie", True),
        ("size=2\nstride=1\npadding=0", "alexeyab", False),
        ("size=2\nstride=1\npadding=2", "alexeyab", False),
        ("size=2\nstride=2", "alexeyab", False),
        ("size=3\nstride=1", "alexeyab", False),
        ("size=2\nstride=1\nantialiasing=1", "alexeyab", False),
        ("size=2\nstride=1\nmaxpool_depth=1", "alexeyab", False),
    ],
)
def test_which_pools_are_2_1(options: str, flavor: Flavor, is_2_1: bool, tmp_path: Path) -> None:
    text = f"[maxpool]\n{options}\n[maxpool]\nsize=3"
    exact = structure(tmp_path, text, flavor=flavor)
    conversion = convert(written(tmp_path, text), None, flavor=flavor, approximate=ALL[:1])
    assert inexact(conversion) == ({0: POOL} if is_2_1 else {})
    same = format_prototxt(exact.net) == format_prototxt(conversion.net)
    assert same != is_2_1
    assert [layer.shape for layer in conversion.layers] == [layer.shape for layer in exact.layers]


def test_what_is_asked_for_in_vain(tmp_path: Path) -> None:
    conversion = convert(written(tmp_path, "[maxpool]\nsize=3"), None, approximate=ALL)
    assert conversion.warnings == [
        f"{tmp_path}/tiny.cfg: --approximate {name} changes nothing: the network does not have {what}"
        for name, what in (("mish-as-leaky", "mish"), ("pool-2-1", "a 2x2 maxpool of stride 1"))
    ]


def test_the_cfg_of_what_is_computed(tmp_path: Path) -> None:
    """The same network but for the options that say otherwise; remarks and odd spellings stay."""
    text = NET.replace("filters=5", "filters = 5#7").replace("stride=1", "stride=1\npadding=1\nstride=9")
    conversion, _ = converted(tmp_path, *ALL, text=text)
    before = read_cfg(tmp_path / "tiny.cfg")
    (tmp_path / "other.cfg").write_text(approximated_cfg(conversion.sections, conversion.approximated))
    changed = {}
    for old, new in zip(before, read_cfg(tmp_path / "other.cfg"), strict=True):
        values, others = ({key: value for key, (value, _) in one.options.items()} for one in (old, new))
        assert (old.index, old.header, list(values)) == (new.index, new.header, list(others))
        if values != others:
            changed[old.index] = {key: others[key] for key in values if values[key] != others[key]}
    leaky = {"activation": "leaky"}
    assert changed == {0: leaky, 1: {"size": "3", "padding": "2"}, 4: leaky}


def test_the_command_line_knows_all_of_them() -> None:
    assert set(APPROXIMATIONS) == set(get_args(Approximation)) == set(ALL)
    arguments = [argument for name in ALL for argument in ("--approximate", name)]
    for command in ("prepare", "darknet2caffe"):
        assert parse([command, "a.cfg", "a.weights"]).approximate == []
        assert parse([command, "a.cfg", "a.weights", *arguments]).approximate == list(ALL)
