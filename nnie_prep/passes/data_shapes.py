"""The shape of the picture that a data layer of Caffe's gives, as far as the file makes it certain."""

from __future__ import annotations

from collections.abc import Sequence

from nnie_prep.net import Layer
from nnie_prep.shapes import Shape


def data_shape(layer: Layer, top: str, readers: Sequence[Layer]) -> tuple[Shape, str]:
    """The shape of a top of a DATA layer, for a batch of 1: (shape, "") or ((), why it is not certain).

    `readers` are the layers that read it; their weights tell the number of channels.
    """
    if layer.type == "DummyData":
        return _dummy_shape(layer, layer.tops.index(top))
    if layer.type == "MemoryData":
        param = layer.proto.memory_data_param
        return (1, param.channels, param.height, param.width), ""
    height, width = _size(layer)
    if not height or not width:
        return (), f"{layer.type} does not say the height and width of {top}; {_repair(layer)}"
    channels = _channels(layer, readers, height * width)
    certain = [int(one) for one in channels if one == int(one)]
    if len(channels) != 1 or not certain:
        found = " or ".join(f"{one:g}" for one in sorted(channels))
        return (), f"{top} has {found or 'an unknown number of'} channels; {_repair(layer)}"
    return (1, *certain, height, width), ""


def _repair(layer: Layer) -> str:
    shape = "shape { dim: 1 dim: C dim: H dim: W }"
    return f"replace {layer.name} by an Input layer with input_param {{ {shape} }}"


def _dummy_shape(layer: Layer, index: int) -> tuple[Shape, str]:
    """One value holds for all tops, or each has its own (dummy_data_layer.cpp, LayerSetUp)."""
    param = layer.proto.dummy_data_param
    extents = (param.channels, param.height, param.width)
    counts = {len(param.shape)} if param.shape else set(map(len, extents))
    if not counts <= {1, len(layer.tops)}:
        return (), f"{layer.name} does not have one shape, or one for each top; {_repair(layer)}"
    if param.shape:
        return (1, *param.shape[index % len(param.shape)].dim[1:]), ""
    return (1, *(values[index % len(values)] for values in extents)), ""


def _size(layer: Layer) -> tuple[int, int]:
    """Height and width of what the layer gives; 0 where they depend on the pictures."""
    crop = layer.proto.transform_param.crop_size or layer.proto.window_data_param.crop_size
    if crop:
        return crop, crop
    if layer.type == "ImageData":
        return layer.proto.image_data_param.new_height, layer.proto.image_data_param.new_width
    return 0, 0


def _channels(layer: Layer, readers: Sequence[Layer], area: int) -> set[float]:
    """The numbers of channels that the file speaks of; there is one if it is certain.

    The weights of an InnerProduct for a picture of another size speak of a fraction.
    """
    found: set[float] = set()
    for reader in readers:
        if not reader.blobs:
            continue
        shape = reader.blobs[0].shape
        if reader.type == "Convolution" and len(shape) == 4:
            found.add(shape[1] * reader.proto.convolution_param.group)
        elif reader.type == "Deconvolution":
            found.add(shape[0])
        elif reader.type == "BatchNorm":
            found.add(reader.blobs[0].size)
        elif reader.type == "InnerProduct" and not reader.proto.inner_product_param.transpose:
            found.add(shape[-1] / area)
    transform = layer.proto.transform_param
    if transform.force_color or transform.force_gray:
        found.add(3 if transform.force_color else 1)
    elif len(transform.mean_value) > 1:
        found.add(len(transform.mean_value))
    elif layer.type == "ImageData":
        found.add(3 if layer.proto.image_data_param.is_color else 1)
    return found
