"""merge_batchnorm."""

from __future__ import annotations

import numpy as np
import pytest
from contract import error
from golden import FOLDER, cases, compare, read
from opencv_forward import opencv_forward

from nnie_prep.net import Net
from nnie_prep.passes.merge_batchnorm import merge_batchnorm


def case(name: str) -> Net:
    return read(FOLDER / "merge_batchnorm" / f"{name}.prototxt").drawn.net


@pytest.mark.parametrize("name", cases(merge_batchnorm))
def test_golden(name: str) -> None:
    compare(merge_batchnorm, name)


def test_a_row_is_rounded_once() -> None:
    net = case("whole_row")
    _, _, first, bn, second, add = net.layers
    size, shift = np.full(3, 2.0), np.full(3, -1.0)
    (factor,) = (np.asarray(blob, dtype=np.float64) for blob in first.blobs)
    size, shift = size * factor, shift * factor
    mean, variance, count = (np.asarray(blob, dtype=np.float64) for blob in bn.blobs)
    root = np.sqrt(variance / count + np.float32(1e-5))
    size, shift = size / root, (shift - mean / count) / root
    gamma, beta = (np.asarray(blob, dtype=np.float64) for blob in second.blobs)
    size, shift = size * gamma, shift * gamma + beta + np.asarray(add.blobs[0], dtype=np.float64)
    merge_batchnorm(net)
    (scale,) = net.layers[1:]
    for found, exact in zip(scale.blobs, (size, shift), strict=True):
        values = np.asarray(found)
        assert values.dtype == np.float32
        assert (np.abs(values - exact) <= 0.5001 * np.spacing(np.abs(values))).all()


def test_copies_of_shared_statistics_that_differ() -> None:
    net = case("two_rows")
    for name in ("bn1", "bn2"):
        layer = net.layer(name)
        assert layer is not None
        layer.proto.param.add(name="mean")
    notes = merge_batchnorm(net)
    assert [note.changed for note in notes] == [False, False]
    assert all("has other values of them" in note.text for note in notes)


def test_a_row_of_different_numbers_of_channels() -> None:
    net = case("own_names")
    scale = net.layers[2]
    scale.blobs = [np.ones(5, np.float32)]
    (note,) = merge_batchnorm(net)
    assert note.text == "merged bn (BatchNorm) into one Scale"
    assert net.layers[2] is scale


@pytest.mark.parametrize("name", ["alone", "behind_concat", "in_place_ends_row", "own_names"])
def test_opencv_computes_the_same_before_and_after(name: str) -> None:
    drawn = read(FOLDER / "merge_batchnorm" / f"{name}.prototxt").drawn
    after = drawn.net.copy()
    assert any(note.changed for note in merge_batchnorm(after))
    old, new = (opencv_forward(net, drawn.feeds["data"]) for net in (drawn.net, after))
    assert error(old, new) < 1e-5  # OpenCV computes in float32
