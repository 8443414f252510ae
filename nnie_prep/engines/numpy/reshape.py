"""Layers that only move, copy or leave out values. Tops may be views of bottoms."""

from __future__ import annotations

import numpy as np

from nnie_prep import params
from nnie_prep.blob import Array
from nnie_prep.engines.numpy.weights import weights
from nnie_prep.net import Layer
from nnie_prep.shapes import top_shapes
from nnie_prep.shapes.tops import crop_offsets


def reshape(layer: Layer, bottoms: list[Array]) -> list[Array]:
    """Reshape and Flatten."""
    return [bottoms[0].reshape(top_shapes(layer, [bottoms[0].shape])[0])]


def concat(layer: Layer, bottoms: list[Array]) -> list[Array]:
    return [np.concatenate(bottoms, axis=params.concat_axis(layer, bottoms[0].shape))]


def slice_(layer: Layer, bottoms: list[Array]) -> list[Array]:
    axis = params.slice_axis(layer, bottoms[0].shape)
    extents = [shape[axis] for shape in top_shapes(layer, [bottoms[0].shape])]
    return np.split(bottoms[0], np.cumsum(extents)[:-1], axis=axis)


def split(layer: Layer, bottoms: list[Array]) -> list[Array]:
    return [bottoms[0]] * len(layer.tops)


def silence(layer: Layer, bottoms: list[Array]) -> list[Array]:
    return []


def parameter(layer: Layer, bottoms: list[Array]) -> list[Array]:
    return weights(layer, bottoms)


def crop(layer: Layer, bottoms: list[Array]) -> list[Array]:
    shapes = [bottom.shape for bottom in bottoms]
    axis, offsets = crop_offsets(layer, shapes)
    kept = [slice(None)] * axis
    kept += [slice(at, at + extent) for at, extent in zip(offsets, shapes[1][axis:], strict=False)]
    return [bottoms[0][tuple(kept)]]


def tile(layer: Layer, bottoms: list[Array]) -> list[Array]:
    axis = params.canonical_axis(layer, layer.proto.tile_param.axis, bottoms[0].shape)
    return [np.concatenate([bottoms[0]] * layer.proto.tile_param.tiles, axis=axis)]


def permute(layer: Layer, bottoms: list[Array]) -> list[Array]:
    return [np.ascontiguousarray(bottoms[0].transpose(params.permutation(layer, bottoms[0].ndim)))]


def shuffle_channel(layer: Layer, bottoms: list[Array]) -> list[Array]:
    """ShuffleNet's: channel g * (C / group) + c becomes channel c * group + g."""
    batch, channels, *rest = bottoms[0].shape
    group = layer.proto.shuffle_channel_param.group
    groups = bottoms[0].reshape(batch, group, channels // group, *rest)
    return [groups.swapaxes(1, 2).reshape(bottoms[0].shape)]


def upsample(layer: Layer, bottoms: list[Array]) -> list[Array]:
    """Each pixel becomes a block of itself."""
    vertical, horizontal = params.upsample(layer)
    return [bottoms[0].repeat(vertical, axis=2).repeat(horizontal, axis=3)]


def pass_through(layer: Layer, bottoms: list[Array]) -> list[Array]:
    """Space to depth: channel (dy * block_width + dx) * C + c is pixel (dy, dx) of each block of c."""
    batch, channels, height, width = bottoms[0].shape
    vertical, horizontal = params.pass_through(layer)
    blocks = bottoms[0].reshape(
        batch, channels, height // vertical, vertical, width // horizontal, horizontal
    )
    y = blocks.transpose(0, 3, 5, 1, 2, 4)  # (N, dy, dx, C, H/block, W/block)
    return [y.reshape(batch, -1, height // vertical, width // horizontal)]
