"""The U-Net of examples/nets: published figures, grouped deconvolutions, and surgery in Caffe."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from cli_cases import run
from drawn_nets import SCRIPT, conditioned, drawn, figures, layer_counts, operate, parameters_of, prove, table

from nnie_prep.net import Net
from nnie_prep.show import layer_figures

pytestmark = pytest.mark.slow

OPTIONS = ("--size", "188", "220")


def shapes_at(pair: tuple[Path, Path], folder: Path, size: int) -> dict[str, list[int]]:
    """The shape of each layer's top on another picture."""
    done = run("edit", pair[0], "--input-shape", f"1,1,{size},{size}", "-o", folder / "sized", "-q")
    assert done.code == 0, done
    return {row["name"]: row["shape"] for row in figures(folder / "sized.prototxt")["layers"]}


def test_published_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """31,030,658 parameters with ungrouped deconvolutions, and the maps of arXiv 1505.04597, figure 1.

    The number is what implementations without BatchNorm, of that figure and for one grey channel, report.
    """
    monkeypatch.syspath_prepend(SCRIPT.parent)
    from unet import unet

    net: Net = unet((188, 188), 2, 0, 1.0, group=1)
    weighted = [row for row in layer_figures(net) if row.type in ("Convolution", "Deconvolution")]
    assert len(weighted) == 23
    assert sum(row.parameters or 0 for row in weighted) == 31_030_658

    shapes = shapes_at(drawn("unet", *OPTIONS), tmp_path, 572)
    expected = {
        "d1b": (64, 568), "d2b": (128, 280), "d3b": (256, 136), "d4b": (512, 64), "d5b": (1024, 28),
        "u4_up": (512, 56), "u4_concat": (1024, 56), "u3_up": (256, 104), "u2_up": (128, 200),
        "u1_up": (64, 392), "u1_concat": (128, 392), "u1b": (64, 388), "score": (2, 388),
    }  # fmt: skip
    assert {name: tuple(shapes[name][1:3]) for name in expected} == expected
    for module in ("unet", "caffe_layers"):
        sys.modules.pop(module)


def test_grouping_saves_weights() -> None:
    """Three quarters of those of the deconvolutions, with four groups; nothing else changes."""
    document = figures(*drawn("unet", *OPTIONS))
    saved = 3 * sum(2 * wide * wide * 4 for wide in (64, 128, 256, 512)) // 4
    assert parameters_of(document, "Convolution", "Deconvolution") == 31_030_658 - saved


def test_well_conditioned() -> None:
    conditioned(drawn("unet", "--depth=0.125", "--size", "204", "188"))


@pytest.mark.caffe
def test_surgery_in_caffe(tmp_path: Path) -> None:
    """Of all channels; the row of the README is what is measured."""
    found = operate(tmp_path, drawn("unet", *OPTIONS))
    assert table("segmentation") == {"unet": found.row()}
    counts = layer_counts(found.merged)
    assert set(counts) == {"Convolution", "Deconvolution", "ReLU", "Pooling", "Crop", "Concat", "Softmax"}
    folded = found.names("fold_batchnorm", changed=True)
    assert {"u1_up", "u2_up", "u3_up", "u4_up"} < set(folded)
    assert found.names("drop_identity", changed=True) == ["d4_drop", "d5_drop"]


@pytest.mark.caffe
def test_surgery_at_full_size_in_caffe(tmp_path: Path) -> None:
    """On a picture as large as the paper's, a quarter as wide."""
    report = prove(tmp_path, "merge-bn", drawn("unet", "--depth=0.25"))
    assert report["layers"] == [104, 58]
