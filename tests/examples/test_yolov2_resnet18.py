"""The vendor's walk-through: examples/nets/yolov2_resnet18.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from drawn_nets import command, conditioned, drawn, figures, layer_counts, parameters_of, prove

from nnie_prep.caffe_io import read_net
from nnie_prep.shapes import infer_shapes

pytestmark = pytest.mark.slow

SIZE = ("--size", "192", "320")


def test_the_backbone_is_resnet_18() -> None:
    """torchvision's ResNet-18 has 11,689,512 parameters, 513,000 of them in the classifier; Caffe's BatchNorm
    adds a mean, a variance and a factor."""
    document = figures(*drawn("yolov2_resnet18", *SIZE))
    head = ("head", "passage", "region")
    backbone = [one for one in document["layers"] if not one["name"].startswith(head)]
    trained = sum(one["parameters"] for one in backbone if one["type"] != "BatchNorm")
    assert trained == 11_689_512 - 513_000
    assert layer_counts(document)["BatchNorm"] == 24 and parameters_of(document, "PassThrough") == 0


def test_it_is_as_the_vendor_has_it() -> None:
    net = read_net(*drawn("yolov2_resnet18", *SIZE))
    for layer in net.layers:
        if layer.type in ("BatchNorm", "Scale", "ReLU"):
            assert layer.bottoms == layer.tops
        if layer.type == "BatchNorm":
            assert layer.proto.batch_norm_param.use_global_stats
        if layer.type == "ReLU":
            assert layer.proto.relu_param.negative_slope == pytest.approx(0.1)
    assert infer_shapes(net)["region"] == (1, 125, 6, 10)
    assert net.outputs() == ["region"]


def test_conditioning() -> None:
    conditioned(drawn("yolov2_resnet18", *SIZE))


def test_prepared(tmp_path: Path) -> None:
    report = command(tmp_path, "prepare", drawn("yolov2_resnet18", *SIZE))
    net = read_net(tmp_path / "prepare.prototxt")
    assert report["verification"]["answer"] == "equal"
    assert not {layer.type for layer in net.layers} & {"BatchNorm", "Scale"}
    assert net.outputs() == ["region"]


@pytest.mark.caffe
def test_prepared_in_caffe(tmp_path: Path) -> None:
    prove(tmp_path, "prepare", drawn("yolov2_resnet18", *SIZE))
