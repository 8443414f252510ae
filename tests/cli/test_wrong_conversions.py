"""Faults planted in what the commands do. The proof must see each, and then nothing may be written."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from cli_cases import listing, run

from nnie_prep import darknet, passes, weights
from nnie_prep.blob_map import Fate, Note
from nnie_prep.caffe_io import format_prototxt, read_net, write_caffemodel
from nnie_prep.cli import job_work
from nnie_prep.darknet import Conversion, convert
from nnie_prep.net import Layer, Net
from nnie_prep.weights import Factors

PREPARE = ("prepare", "net.cfg", "net.weights", "-o", "x")
CONVERT = ("darknet2caffe", "net.cfg", "net.weights", "-o", "x")
MERGE = ("merge-bn", "small.prototxt", "small.caffemodel", "-o", "x")


def differs(folder: Path, *arguments: str) -> dict[str, Any]:
    """Runs a command whose proof must fail; returns the verdict."""
    before = listing(folder)
    done = run(*arguments, "--json")
    assert done.code == 1 and done.err == ""
    report = json.loads(done.out)
    assert report["outputs"] == []
    assert listing(folder) == before
    verdict: dict[str, Any] = report["verification"]
    assert verdict["answer"] != "equal" and verdict["reasons"]
    return verdict


# ---- a wrong conversion from Darknet -----------------------------------------------------------


def layers(net: Net, type_: str) -> list[Layer]:
    found = [layer for layer in net.layers if layer.type == type_]
    assert found, type_
    return found


def named(net: Net, name: str) -> Layer:
    layer = net.layer(name)
    assert layer is not None
    return layer


def leaky_slope(net: Net) -> None:
    for layer in layers(net, "ReLU"):
        layer.proto.relu_param.negative_slope = 0.2


def one_leaky_slope(net: Net) -> None:
    layers(net, "ReLU")[1].proto.relu_param.negative_slope = 0.1002


def route_order(net: Net) -> None:
    for layer in layers(net, "Concat"):
        layer.bottoms.reverse()


def forgotten_batchnorm(net: Net) -> None:
    assert net.bypass(layers(net, "BatchNorm")[2]) == ""


def batchnorm_eps(net: Net) -> None:
    for layer in layers(net, "BatchNorm"):
        layer.proto.batch_norm_param.eps = 1e-3


def swapped_statistics(net: Net) -> None:
    for layer in layers(net, "BatchNorm"):
        mean, variance, factor = layer.blobs
        layer.blobs = [np.asarray(variance), np.abs(np.asarray(mean)), factor]


def lost_signs(net: Net) -> None:
    for layer in layers(net, "Scale"):
        layer.blobs[0] = np.abs(np.asarray(layer.blobs[0]))


def swapped_groups(net: Net) -> None:
    layer = named(net, "layer3-conv")
    layer.blobs[0] = np.roll(np.asarray(layer.blobs[0]), 4, axis=0)


def flipped_kernels(net: Net) -> None:
    layer = named(net, "layer7-conv")
    layer.blobs[0] = np.ascontiguousarray(np.asarray(layer.blobs[0]).transpose(0, 1, 3, 2))


def forgotten_bias(net: Net) -> None:
    layer = named(net, "layer10-conv")
    layer.blobs[1] = np.zeros(21, np.float32)


def pooling_that_looks_to_the_wrong_side(net: Net) -> None:
    """The maxpool that keeps its size pads on the right and at the bottom."""
    layer = named(net, "layer4-crop")
    layer.blobs[0] = np.asarray(layer.blobs[0])[:, :, ::-1, ::-1].copy()


def average_for_maximum(net: Net) -> None:
    layer = layers(net, "Pooling")[0]
    layer.proto.pooling_param.pool = layer.proto.pooling_param.AVE


def subtraction_for_addition(net: Net) -> None:
    layers(net, "Eltwise")[0].proto.eltwise_param.coeff.extend([1, -1])


def another_shortcut(net: Net) -> None:
    layer = layers(net, "Eltwise")[0]
    layer.bottoms[layer.bottoms.index("layer3-conv")] = "layer4-crop"


def one_weight(net: Net) -> None:
    layer = named(net, "layer1-conv")
    layer.blobs[0] = np.array(layer.blobs[0])
    layer.blobs[0][3, 1, 2, 0] *= 1.02


def more_input_channels_first(net: Net) -> None:
    layer = named(net, "layer1-conv")
    layer.blobs[0] = np.ascontiguousarray(np.asarray(layer.blobs[0])[:, ::-1])  # BGR for RGB


@pytest.mark.parametrize(
    "fault",
    [
        leaky_slope,
        one_leaky_slope,
        route_order,
        forgotten_batchnorm,
        batchnorm_eps,
        swapped_statistics,
        lost_signs,
        swapped_groups,
        flipped_kernels,
        forgotten_bias,
        pooling_that_looks_to_the_wrong_side,
        average_for_maximum,
        subtraction_for_addition,
        another_shortcut,
        one_weight,
        more_input_channels_first,
    ],
)
@pytest.mark.parametrize("arguments", [PREPARE, CONVERT], ids=["prepare", "darknet2caffe"])
def test_conversion(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], fault: Callable[[Net], None]
) -> None:
    def wrong(*files: Path, **options: Any) -> Conversion:
        conversion = convert(*files, **options)
        fault(conversion.net)
        return conversion

    monkeypatch.setattr(darknet, "convert", wrong)
    verdict = differs(folder, *arguments)
    assert verdict["answer"] == "differs" and verdict["smallest_tolerance"] > 1e-4


def test_the_first_divergence_is_where_the_fault_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*files: Path, **options: Any) -> Conversion:
        conversion = convert(*files, **options)
        flipped_kernels(conversion.net)
        return conversion

    monkeypatch.setattr(darknet, "convert", wrong)
    assert differs(folder, *PREPARE)["first_divergence"] == "6 convolutional"


def test_a_layer_without_a_blob_and_without_a_reason(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*files: Path, **options: Any) -> Conversion:
        conversion = convert(*files, **options)
        conversion.layers[5] = dataclasses.replace(conversion.layers[5], blobs=(), none="")
        return conversion

    monkeypatch.setattr(darknet, "convert", wrong)
    assert "blob 5 shortcut is gone, and no pass said why" in differs(folder, *PREPARE)["reasons"]


def test_a_layer_that_is_said_to_be_another(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*files: Path, **options: Any) -> Conversion:
        conversion = convert(*files, **options)
        conversion.layers[4] = dataclasses.replace(conversion.layers[4], blobs=("layer6-shortcut",))
        return conversion

    monkeypatch.setattr(darknet, "convert", wrong)
    assert differs(folder, *PREPARE)["first_divergence"] == "4 convolutional"


# ---- a wrong fold ------------------------------------------------------------------------------

right = weights.batchnorm_factors
right_scale = weights.scale_factors
right_pieces = weights.scale_in_pieces
right_channels = weights.scale_output_channels


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("batchnorm_factors", lambda mean, variance, factor, eps: right(mean, variance, factor, 1e-3 + eps)),
        ("batchnorm_factors", lambda mean, variance, factor, eps: right(variance, abs(mean), factor, eps)),
        ("batchnorm_factors", lambda mean, variance, factor, eps: right(0 * mean, variance, factor, eps)),
        ("scale_factors", lambda scale, bias: right_scale(abs(scale), bias)),
        ("scale_factors", lambda scale, bias: right_scale(scale, None)),
        ("scale_factors", lambda scale, bias: right_scale(scale[::-1], bias)),
        ("scale_bias", lambda bias, factors: bias),
        ("scale_bias", lambda bias, factors: (bias * factors.scale).astype(np.float32)),
        ("scale_in_pieces", lambda pieces, scale, row: pieces),
        ("scale_in_pieces", lambda pieces, scale, row: right_pieces(pieces, scale[::-1], row)),
        ("scale_in_pieces", lambda pieces, scale, row: right_pieces(pieces, scale * 1.001, row)),
    ],
)
def test_fold(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, fault: Callable[..., Factors]
) -> None:
    monkeypatch.setattr(weights, name, fault)
    assert differs(folder, *MERGE)["answer"] == "differs"
    assert differs(folder, *PREPARE)["answer"] == "differs"


def test_a_fold_that_forgets_the_factor(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """BatchNorm's third blob, by which Caffe divides the other two; Darknet has none."""
    monkeypatch.setattr(
        weights, "batchnorm_factors", lambda mean, variance, factor, eps: right(mean, variance, 1.0, eps)
    )
    assert differs(folder, *MERGE)["first_divergence"] == "conv"


@pytest.mark.parametrize("group", [1, 2, 3])
def test_fold_into_a_grouped_deconvolution(folder: Path, monkeypatch: pytest.MonkeyPatch, group: int) -> None:
    """Its weights are (in, out/group, kh, kw), which famous tools fold wrongly and without a word."""
    random = np.random.default_rng(0)
    text = """
    layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 6 dim: 3 dim: 5 } } }
    layer { name: "up" type: "Deconvolution" bottom: "data" top: "up"
            convolution_param { num_output: 6 kernel_size: 3 stride: 2 group: %d } }
    layer { name: "bn" type: "BatchNorm" bottom: "up" top: "up" }
    """
    Path("up.prototxt").write_text(text % group)
    net = read_net(Path("up.prototxt"))
    shapes = ((6, 6 // group, 3, 3), (6,)), ((6,), (6,), (1,))
    for layer, blobs in zip(net.layers[1:], shapes, strict=True):
        layer.blobs = [random.uniform(0.5, 2, shape).astype(np.float32) for shape in blobs]
    with Path("up.caffemodel").open("wb") as file:
        write_caffemodel(net, file)
    arguments = ("merge-bn", "up.prototxt", "up.caffemodel", "-o", "x")
    assert run(*arguments).code == 0
    for path in Path().glob("x.*"):
        path.unlink()
    monkeypatch.setattr(
        weights,
        "scale_output_channels",
        lambda blob, scale, layout, group: right_channels(blob, scale, "out, in", 1),
    )
    assert differs(folder, *arguments)["first_divergence"] == "up"


# ---- wrong files -------------------------------------------------------------------------------


def test_the_files_are_what_is_proven(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the net in memory."""

    def wrong_weights(net: Net, file: BinaryIO, progress: object = None) -> None:
        other = net.copy()
        layer = next(layer for layer in other.layers if layer.blobs)
        layer.blobs[0] = np.array(layer.blobs[0])
        layer.blobs[0].flat[7] += 0.1
        write_caffemodel(other, file)

    monkeypatch.setattr(job_work, "write_caffemodel", wrong_weights)
    differs(folder, *PREPARE)
    differs(folder, *MERGE)


def test_the_prototxt_is_what_is_proven(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong_text(net: Net, comments: list[str]) -> str:
        text = format_prototxt(net, comments)
        assert "negative_slope: 0.1\n" in text
        return text.replace("negative_slope: 0.1\n", "negative_slope: 0.11\n")

    monkeypatch.setattr(job_work, "format_prototxt", wrong_text)
    assert differs(folder, *PREPARE)["first_divergence"] == "0 convolutional"


# ---- a wrong account of what became of the blobs -----------------------------------------------


def test_a_blob_that_vanishes_without_a_word(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def drop_relu(net: Net) -> list[Note]:
        layer = next((layer for layer in net.layers if layer.type == "Softmax"), None)
        if layer is None:
            return []
        net.remove(layer)
        return [Note(layer.name, "dropped")]

    monkeypatch.setattr(passes, "PASSES", (drop_relu,))
    verdict = differs(folder, *MERGE)
    assert any("prob" in reason for reason in verdict["reasons"])


def test_an_output_that_is_renamed_without_a_word(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rename_output(net: Net) -> list[Note]:
        if "prob" not in net.outputs():
            return []
        net.rename_blob("prob", "probability")
        return [Note("prob", "renamed")]

    monkeypatch.setattr(passes, "PASSES", (rename_output,))
    differs(folder, *MERGE)


def test_an_output_that_is_said_to_be_folded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An account is not enough for an output: something must be proven of at least one."""

    def cut(net: Net) -> list[Note]:
        layer = next((layer for layer in net.layers if layer.type == "Softmax"), None)
        if layer is None:
            return []
        net.remove(layer)
        return [Note(layer.name, "cut", fates={"prob": Fate((), "cut: belongs to the head")})]

    monkeypatch.setattr(passes, "PASSES", (cut,))
    assert differs(folder, *MERGE)["answer"] == "not proven"


def test_an_input_that_changes_its_shape(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = Path("small.prototxt").read_text()
    Path("small.prototxt").write_text(text[: text.index('layer { name: "drop"')])

    def widen(net: Net) -> list[Note]:
        shape = net.layers[0].proto.input_param.shape[0]
        if shape.dim[3] == 14:
            return []
        shape.dim[3] = 14
        return [Note("pictures", "widened")]

    monkeypatch.setattr(passes, "PASSES", (widen,))
    reasons = differs(folder, *MERGE)["reasons"]
    assert reasons == ["input data is 1x3x11x13 in A and 1x3x11x14 in B"]
