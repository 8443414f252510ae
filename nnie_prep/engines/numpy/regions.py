"""Layers that make boxes, pool what lies in them, or keep the best: SSD's, Fast R-CNN's and R-FCN's."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nnie_prep.blob import Array
from nnie_prep.engines.numpy.arithmetic import indices
from nnie_prep.engines.numpy.pooling import LOWEST
from nnie_prep.net import Layer
from nnie_prep.nnie_caffe_pb2 import (
    DetectionOutputParameter,
    NonMaximumSuppressionParameter,
    PriorBoxParameter,
)
from nnie_prep.params import layer_error
from nnie_prep.shapes import regions

# ---- SSD ---------------------------------------------------------------------------------------


def prior_box(layer: Layer, bottoms: list[Array]) -> list[Array]:
    """Boxes (xmin, ymin, xmax, ymax) in units of the image's size, then their variances: (1, 2, values)."""
    prior = regions.prior_box(layer)
    size = bottoms[0].shape[2:]
    image = prior.image or bottoms[1].shape[2:]
    step = prior.step or (image[0] / size[0], image[1] / size[1])
    vertical, horizontal = ((np.arange(size[axis]) + prior.offset) * step[axis] for axis in (0, 1))
    centres = np.stack(np.meshgrid(horizontal, vertical), axis=-1)[:, :, np.newaxis]  # (H, W, 1, 2): x, y
    half = np.asarray(prior.sizes) / 2  # (boxes, 2)
    corners = np.concatenate([centres - half, centres + half], axis=-1)  # (H, W, boxes, 4)
    corners /= np.tile(image[::-1], 2)
    if prior.clip:
        corners = corners.clip(0, 1)
    values = corners.reshape(-1)
    return [np.stack([values, np.resize(prior.variance, values.size)])[np.newaxis]]


def detection_output(layer: Layer, bottoms: list[Array]) -> list[Array]:
    """Rows of image, label, confidence, xmin, ymin, xmax, ymax: (1, 1, rows, 7).

    They are in order of image, label and falling confidence. Of equal confidences the lower prior
    comes first, and where keep_top_k cuts, the lower label. Without any, each image has a row of -1.
    What save_output_param and visualize ask for is not done; it has no effect on the top.
    """
    parameter = layer.proto.detection_output_param
    images = len(bottoms[0])
    priors, variances = bottoms[2].reshape(2, -1, 4)
    offsets = bottoms[0].reshape(images, len(priors), -1, 4)
    if not parameter.variance_encoded_in_target:
        offsets = offsets * variances[:, np.newaxis]
    boxes = _decode(layer, priors[:, np.newaxis], offsets)  # (images, priors, 1 or classes, 4)
    boxes = np.broadcast_to(boxes, (images, len(priors), parameter.num_classes, 4))
    confidences = bottoms[1].reshape(images, len(priors), parameter.num_classes)
    rows = [
        (image, label, confidences[image, prior, label], *boxes[image, prior, label])
        for image in range(images)
        for label, prior in _detections(parameter, boxes[image], confidences[image])
    ]
    rows = rows or [(image, *[-1] * 6) for image in range(images)]
    return [np.array(rows, dtype=bottoms[0].dtype)[np.newaxis, np.newaxis]]


def _decode(layer: Layer, priors: Array, offsets: Array) -> Array:
    """Boxes as corners, from the priors' corners and what was predicted (bbox_util.cpp, DecodeBBox)."""
    corners: Array
    code = layer.proto.detection_output_param.code_type
    if code == PriorBoxParameter.CORNER:
        return priors + offsets
    sizes = priors[..., 2:] - priors[..., :2]
    if not (sizes > 0).all():
        raise layer_error(layer, "a prior has no width or no height", "look at the PriorBox layers' clip")
    if code == PriorBoxParameter.CORNER_SIZE:
        corners = priors + offsets * np.concatenate([sizes, sizes], axis=-1)
        return corners
    centres = (priors[..., :2] + priors[..., 2:]) / 2 + offsets[..., :2] * sizes
    half = np.exp(offsets[..., 2:]) * sizes / 2
    corners = np.concatenate([centres - half, centres + half], axis=-1)
    return corners


def _detections(
    parameter: DetectionOutputParameter, boxes: Array, confidences: Array
) -> list[tuple[int, int]]:
    """One image's labels and priors, by label and falling confidence.

    boxes (priors, classes, 4), confidences (priors, classes)
    """
    least = parameter.confidence_threshold if parameter.HasField("confidence_threshold") else LOWEST
    found: list[tuple[int, int]] = []
    for label in range(parameter.num_classes):
        if label == parameter.background_label_id:
            continue
        (candidates,) = np.nonzero(confidences[:, label] > least)
        candidates = candidates[np.argsort(-confidences[candidates, label], kind="stable")]
        if parameter.nms_param.HasField("top_k") and parameter.nms_param.top_k >= 0:
            candidates = candidates[: parameter.nms_param.top_k]
        kept = _suppress(boxes[candidates, label], parameter.nms_param)
        found += [(label, int(candidates[place])) for place in kept]
    if 0 <= parameter.keep_top_k < len(found):
        scores = np.array([confidences[prior, label] for label, prior in found])
        best = np.argsort(-scores, kind="stable")[: parameter.keep_top_k]
        found = sorted((found[place] for place in best), key=lambda one: one[0])
    return found


def _suppress(boxes: Array, nms: NonMaximumSuppressionParameter) -> list[int]:
    """Which of the boxes, best first, overlap none that was kept before by more than the threshold.

    The threshold shrinks by eta with each box that is kept, as long as it is above 0.5. It is a
    float32 in Caffe, and so it is here.
    """
    sizes = boxes[:, 2:] - boxes[:, :2]
    areas = np.where((sizes < 0).any(axis=1), 0, sizes.prod(axis=1))
    threshold, eta = np.float32(nms.nms_threshold), np.float32(nms.eta)
    kept: list[int] = []
    for place, box in enumerate(boxes):
        before = boxes[kept]
        sides = np.minimum(box[2:], before[:, 2:]) - np.maximum(box[:2], before[:, :2])
        both = np.where((sides > 0).all(axis=1), sides.prod(axis=1), 0)
        if not (both > 0).any() or not (both / (areas[place] + areas[kept] - both) > threshold).any():
            kept.append(place)
            if eta < 1 and threshold > 0.5:
                threshold *= eta
    return kept


# ---- pooling of regions ------------------------------------------------------------------------


def roi_pooling(layer: Layer, bottoms: list[Array]) -> list[Array]:
    """Fast R-CNN's maxima over pooled_h x pooled_w windows of each region, which may share pixels.

    Corners are rounded on the map, both are part of the region, and it is one pixel at least. A
    window outside of the map gives 0.
    """
    parameter = layer.proto.roi_pooling_param
    images, corners = _regions(layer, bottoms)
    corners = _round(corners * np.float32(parameter.spatial_scale))
    extents = np.maximum(corners[:, 2:] - corners[:, :2] + 1, 1)
    pooled = parameter.pooled_w, parameter.pooled_h
    top = np.zeros((len(images), bottoms[0].shape[1], pooled[1], pooled[0]), dtype=bottoms[0].dtype)
    for region, image in enumerate(images):
        picture = bottoms[0][image]
        columns, rows = (
            _windows(extents[region, axis] / np.float32(pooled[axis]), pooled[axis], np.float32(0),
                     corners[region, axis], picture.shape[2 - axis])
            for axis in (0, 1)
        )  # fmt: skip
        for i, j in np.ndindex(pooled[1], pooled[0]):
            window = picture[:, rows[i], columns[j]]
            if window.size:
                top[region, :, i, j] = np.fmax.reduce(window, axis=(1, 2), initial=LOWEST)
    return [top]


def psroi_pooling(layer: Layer, bottoms: list[Array]) -> list[Array]:
    """R-FCN's means over group_size x group_size windows of each region; 0 for one outside of the map.

    Window (i, j) of channel c reads channel (c * group_size + i) * group_size + j. Corners are rounded
    in the image, the second is part of the region, and a side is a tenth of a pixel of the map at least.
    """
    parameter = layer.proto.psroi_pooling_param
    group, scale = parameter.group_size, np.float32(parameter.spatial_scale)
    images, corners = _regions(layer, bottoms)
    corners = _round(corners)
    starts, ends = corners[:, :2] * scale, (corners[:, 2:] + 1) * scale
    bins = np.maximum(ends - starts, np.float32(0.1)) / np.float32(group)
    batch, _, height, width = bottoms[0].shape
    maps = bottoms[0].reshape(batch, parameter.output_dim, group, group, height, width)
    top = np.zeros((len(images), *maps.shape[1:4]), dtype=maps.dtype)
    for region, image in enumerate(images):
        columns, rows = (
            _windows(bins[region, axis], group, starts[region, axis], np.float32(0), (width, height)[axis])
            for axis in (0, 1)
        )
        for i, j in np.ndindex(group, group):
            window = maps[image, :, i, j, rows[i], columns[j]]
            if window.size:
                top[region, :, i, j] = window.mean(axis=(1, 2))
    return [top]


def _regions(layer: Layer, bottoms: list[Array]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The image of each region, and its corners x1, y1, x2, y2.

    Corners are float32 whatever the dtype of the computation: a bit decides where a window ends, and
    that shall be where Caffe has it.
    """
    values = bottoms[1].reshape(-1, 5)
    if not np.isfinite(values).all():
        raise layer_error(layer, "a region's values are not finite")
    return indices(layer, values[:, 0], len(bottoms[0])), values[:, 1:].astype(np.float32)


def _round(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """To whole numbers, halves away from 0 as C does."""
    return np.trunc(values.astype(np.float64) + np.copysign(0.5, values)).astype(np.float32)


def _windows(extent: np.float32, count: int, start: np.float32, shift: np.float32, size: int) -> list[slice]:
    """The pixels 0..size-1 on which `count` windows of that extent fall, side by side from start + shift.

    `start` is added before the edges are rounded outwards to whole pixels, `shift` after.
    """
    places = np.arange(count + 1, dtype=np.float32) * extent + start
    first = np.clip(np.floor(places[:-1]) + shift, 0, size).astype(int)
    end = np.clip(np.ceil(places[1:]) + shift, 0, size).astype(int)
    return [slice(a, b) for a, b in zip(first, end, strict=True)]
