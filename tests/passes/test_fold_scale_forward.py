"""fold_scale_forward."""

from __future__ import annotations

import numpy as np
import pytest
from contract import error
from golden import FOLDER, cases, compare, read
from opencv_forward import opencv_forward

from nnie_prep.net import Net
from nnie_prep.passes.fold_scale_forward import fold_scale_forward


def case(name: str) -> Net:
    return read(FOLDER / "fold_scale_forward" / f"{name}.prototxt").drawn.net


@pytest.mark.parametrize("name", cases(fold_scale_forward))
def test_golden(name: str) -> None:
    compare(fold_scale_forward, name)


def test_a_row_is_rounded_once() -> None:
    """Stated with loops over single weights, for two groups."""
    net = case("grouped_convolution")
    relu, bn, scale, conv = net.layers
    weights, bias = (np.asarray(blob, dtype=np.float64) for blob in conv.blobs)
    mean, variance, factor = (np.asarray(blob, dtype=np.float64) for blob in bn.blobs)
    gamma, beta = (np.asarray(blob, dtype=np.float64) for blob in scale.blobs)
    slope = gamma / np.sqrt(variance / factor + np.float32(1e-5))
    shift = beta - slope * mean / factor
    weights, bias = weights.copy(), bias.copy()
    for output in range(6):
        for place in range(2):
            channel = 2 * (output // 3) + place
            bias[output] += weights[output, place].sum() * shift[channel]
            weights[output, place] *= slope[channel]
    fold_scale_forward(net)
    assert net.layers == [relu, conv]
    for found, exact in zip(conv.blobs, (weights, bias), strict=True):
        values = np.asarray(found)
        # Half a unit in the last place of float32; a second rounding would exceed it in most arrays.
        assert (np.abs(values - exact) <= 0.5001 * np.spacing(np.abs(values))).all()


def test_a_bias_without_shift_is_left_alone() -> None:
    net = case("padded_scale")
    conv = net.layers[-1]
    bias = conv.blobs[1]
    fold_scale_forward(net)
    assert conv.blobs[1] is bias


@pytest.mark.parametrize(
    ("blob", "says"),
    [
        ("scale", "does not have the 5 input channels"),
        ("conv", "are not loaded"),
    ],
)
def test_weights_that_do_not_fit(blob: str, says: str) -> None:
    net = case("grouped_convolution")
    layer = net.layer(blob)
    assert layer is not None
    layer.blobs = [np.ones(5, np.float32)] * 2 if blob == "scale" else []
    notes = fold_scale_forward(net)
    assert [note.changed for note in notes] == [False, False]
    assert says in notes[1].text


def test_a_row_of_different_numbers_of_channels() -> None:
    """Of an InnerProduct the weights do not tell how many channels there are."""
    net = case("inner_product")
    first = net.layers[1]
    twin = first.copy()
    twin.proto.name, twin.bottoms, twin.tops = "bn_of_5", ["bn"], ["bn_of_5"]
    twin.blobs = [np.ones(5, np.float32), np.ones(5, np.float32), np.ones(1, np.float32)]
    net.insert_after(first, twin)
    net.layers[3].bottoms = ["bn_of_5"]
    notes = {note.layer: note.text for note in fold_scale_forward(net)}
    assert "folded bn_of_5 (BatchNorm) forward into ip1" in notes["ip1"]
    assert "what is behind bn has another number of channels" in notes["bn"]


@pytest.mark.parametrize("name", ["grouped_convolution", "in_place", "input", "inner_product"])
def test_opencv_computes_the_same_before_and_after(name: str) -> None:
    """An independent reader of Caffe's files. (It ignores InnerProduct's transpose.)"""
    drawn = read(FOLDER / "fold_scale_forward" / f"{name}.prototxt").drawn
    if name == "inner_product":
        drawn.net.layers = drawn.net.layers[:4]
    after = drawn.net.copy()
    assert any(note.changed for note in fold_scale_forward(after))
    old, new = (opencv_forward(net, drawn.feeds["data"]) for net in (drawn.net, after))
    assert error(old, new) < 1e-5  # OpenCV computes in float32
