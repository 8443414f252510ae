"""fold_batchnorm."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from contract import error
from golden import FOLDER, cases, compare, read
from numpy.typing import NDArray
from opencv_forward import opencv_forward

from nnie_prep.blob import DeferredBlob
from nnie_prep.net import Net
from nnie_prep.passes.fold_batchnorm import fold_batchnorm


def case(name: str) -> Net:
    return read(FOLDER / "fold_batchnorm" / f"{name}.prototxt").drawn.net


@pytest.mark.parametrize("name", cases(fold_batchnorm))
def test_golden(name: str) -> None:
    compare(fold_batchnorm, name)


@pytest.mark.parametrize("name", ["conv2", "bn2"])
def test_copies_of_shared_weights_that_differ(name: str) -> None:
    """Nobody can tell which of them Caffe takes."""
    net = case("shared_by_twins")
    layer = net.layer(name)
    assert layer is not None
    layer.blobs[1] = np.asarray(layer.blobs[1]) + np.float32(1)
    notes = fold_batchnorm(net)
    assert [note.changed for note in notes] == [False, False]
    assert all("has other values of them" in note.text for note in notes[name == "bn2" :])


def test_weights_are_computed_when_they_are_read() -> None:
    """A whole net of folded weights must never lie in memory."""
    net = case("scale_on_either_side")
    conv, reads = net.layers[0], []

    def counted(values: NDArray[np.float32], place: int) -> Callable[[], NDArray[np.float32]]:
        def compute() -> NDArray[np.float32]:
            reads.append(place)
            return values

        return compute

    values = [np.asarray(blob) for blob in conv.blobs]
    conv.blobs = [DeferredBlob(one.shape, counted(one, place)) for place, one in enumerate(values)]
    fold_batchnorm(net)
    assert not reads
    np.asarray(conv.blobs[0])
    np.asarray(conv.blobs[1])
    assert reads == [0, 1]


def test_a_run_of_layers_is_rounded_once() -> None:
    net = case("scale_on_either_side")
    conv, before, bn, *behind = net.layers
    weights, bias = (np.asarray(blob, dtype=np.float64) for blob in conv.blobs)
    (first,) = (np.asarray(blob, dtype=np.float64) for blob in before.blobs)
    mean, variance, factor = (np.asarray(blob, dtype=np.float64) for blob in bn.blobs)
    size, shift = first, np.zeros_like(first)
    root = np.sqrt(variance / factor + np.float32(1e-5))
    size, shift = size / root, (shift - mean / factor) / root
    for layer in behind:
        gamma, *beta = (np.asarray(blob, dtype=np.float64) for blob in layer.blobs)
        size, shift = size * gamma, shift * gamma + (beta[0] if beta else 0)
    fold_batchnorm(net)
    assert_within_one_rounding(conv.blobs[0], weights * size[:, None, None, None])
    assert_within_one_rounding(conv.blobs[1], bias * size + shift)


def assert_within_one_rounding(found: object, exact: NDArray[np.float64]) -> None:
    """Half a unit in the last place of float32; a second rounding would exceed it in most arrays."""
    values = np.asarray(found)
    assert values.dtype == np.float32
    assert (np.abs(values - exact) <= 0.5001 * np.spacing(np.abs(values))).all()


@pytest.mark.parametrize(
    "name",
    [
        "in_place",
        "own_names",
        "grouped_convolution",
        "grouped_deconvolution",
        "without_scale",
        "factor_zero",
        "shared_by_twins",
    ],
)
def test_opencv_computes_the_same_before_and_after(name: str) -> None:
    """An independent reader of Caffe's files. (It ignores InnerProduct's transpose.)"""
    drawn = read(FOLDER / "fold_batchnorm" / f"{name}.prototxt").drawn
    after = drawn.net.copy()
    assert any(note.changed for note in fold_batchnorm(after))
    old, new = (opencv_forward(net, drawn.feeds["data"]) for net in (drawn.net, after))
    assert error(old, new) < 1e-5  # OpenCV computes in float32: 1e-6 measured
