"""SSD's, Fast R-CNN's and R-FCN's layers against OpenCV's, as far as both compute the same.

OpenCV's are of other hands than ours in NumPy and in C++, which test_numpy_engine.py compares with
each other, option by option.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from layer_samples import Sample, draw
from opencv_forward import opencv_forward

from nnie_prep.blob import Array
from nnie_prep.engines.numpy import forward
from nnie_prep.nnie_caffe_pb2 import LayerParameter, PriorBoxParameter

CASES = 40


def prior_box(proto: LayerParameter, feeds: list[Array]) -> None:
    """OpenCV has one min_size, keeps its fractions, knows no img_size and clips unless told not to."""
    parameter = proto.prior_box_param
    low = int(parameter.min_size[0]) + 1
    parameter.min_size[:] = [low]
    if parameter.max_size:
        parameter.max_size[:] = [low + 17]
    for field in ("img_size", "img_h", "img_w"):
        parameter.ClearField(field)
    parameter.clip = parameter.clip
    parameter.variance[:] = parameter.variance or [0.1]


def detection_output(proto: LayerParameter, feeds: list[Array]) -> None:
    """OpenCV wants most parameters written, takes variances from the priors alone, knows no
    CORNER_SIZE and no eta, and may order equal confidences as it likes."""
    parameter = proto.detection_output_param
    parameter.share_location = parameter.share_location
    parameter.background_label_id = abs(parameter.background_label_id) % parameter.num_classes
    parameter.confidence_threshold = 0.3
    parameter.variance_encoded_in_target = False
    if parameter.code_type != PriorBoxParameter.CORNER:
        parameter.code_type = PriorBoxParameter.CENTER_SIZE
    parameter.code_type = parameter.code_type
    parameter.keep_top_k = parameter.keep_top_k if parameter.keep_top_k > 1 else 200
    parameter.nms_param.nms_threshold = parameter.nms_param.nms_threshold or 0.3
    if parameter.nms_param.top_k < 1:
        parameter.nms_param.ClearField("top_k")
    parameter.nms_param.ClearField("eta")
    places = np.random.default_rng(feeds[1].size).permutation(feeds[1].size)
    feeds[1][...] = ((places + 0.5) / places.size).reshape(feeds[1].shape)


def regions(proto: LayerParameter, feeds: list[Array]) -> None:
    """Of -0.5 OpenCV makes 0, and C -1."""
    feeds[1][...] = np.maximum(feeds[1], 0)


Adapt = Callable[[LayerParameter, list[Array]], None]
ADAPT: dict[str, Adapt] = {
    "PriorBox": prior_box,
    "DetectionOutput": detection_output,
    "PSROIPooling": regions,
    "ROIPooling": regions,
}


def adapted(layer_type: str, number: int) -> Sample:
    sample = draw([layer_type], 1, number)
    (layer,) = sample.net.layers
    if layer_type == "PriorBox" and len(layer.bottoms) == 1:
        layer.bottoms *= 2
    ADAPT[layer_type](layer.proto, [sample.feeds[name] for name in layer.bottoms])
    return sample


def by_image_and_label(rows: Array) -> Array:
    """SSD's order of detections; OpenCV's is by confidence in each image."""
    image, label, confidence = np.moveaxis(rows[0, 0, :, :3], 1, 0)
    return rows[:, :, np.lexsort((-confidence, label, image))]


@pytest.mark.parametrize("layer_type", ADAPT)
def test_layer_equals_opencv(layer_type: str) -> None:
    compared = 0
    for number in range(CASES):
        sample = adapted(layer_type, number)
        (name,) = sample.blobs[layer_type]
        ours, theirs = forward(sample.net, sample.feeds)[name], opencv_forward(sample.net, sample.feeds)
        if layer_type == "DetectionOutput":
            if (ours[..., 1] == -1).all():
                assert not theirs.any()  # what it says where nothing was found
                continue
            assert not theirs[:, :, ours.shape[2] :].any()
            theirs = by_image_and_label(theirs[:, :, : ours.shape[2]])
        compared += 1
        assert ours.shape == theirs.shape, sample.text(name)
        # A few roundings, of other formulas for the same.
        np.testing.assert_allclose(ours, theirs, rtol=2e-6, atol=2e-6, err_msg=sample.text(name))
    assert compared > CASES / 2
