"""Layers of Caffe's two older formats, rewritten as `LayerParameter`.

    layers { name: "c" type: CONVOLUTION blobs_lr: 1 convolution_param { .. } }       V1 (2014)
    layers { layer { name: "c" type: "conv" kernelsize: 3 .. } bottom: .. top: .. }   V0 (2013)

The rules are those of BVLC Caffe, src/caffe/util/upgrade_proto.cpp; where Caffe logs an error and
goes on, this raises UserError.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf.message import Message

from nnie_prep.errors import UserError
from nnie_prep.nnie_caffe_pb2 import (
    LayerParameter,
    ParamSpec,
    PoolingParameter,
    V0LayerParameter,
    V1LayerParameter,
)

# Where V1's enumerator and today's type differ by more than case and underscores.
_V2_TYPES = {
    "NONE": "",
    "ABSVAL": "AbsVal",
    "ARGMAX": "ArgMax",
    "BNLL": "BNLL",
    "HDF5_DATA": "HDF5Data",
    "HDF5_OUTPUT": "HDF5Output",
    "LRN": "LRN",
    "MVN": "MVN",
    "RELU": "ReLU",
    "SOFTMAX_LOSS": "SoftmaxWithLoss",
    "TANH": "TanH",
}

_V0_TYPES = {
    "conv": "CONVOLUTION",
    "hdf5_data": "HDF5_DATA",
    "hdf5_output": "HDF5_OUTPUT",
    "images": "IMAGE_DATA",
    "innerproduct": "INNER_PRODUCT",
    "pool": "POOLING",
    "window_data": "WINDOW_DATA",
} | {
    name: name.upper()
    for name in (
        *("accuracy", "bnll", "concat", "data", "dropout", "euclidean_loss", "flatten", "im2col"),
        *("infogain_loss", "lrn", "multinomial_logistic_loss", "relu", "sigmoid", "softmax"),
        *("softmax_loss", "split", "tanh"),
    )
}

# Per V0 type the message that now holds its fields, and the fields that changed their names.
_V0_PARAMETERS: dict[str, tuple[str, dict[str, str]]] = {
    "conv": (
        "convolution_param",
        {"biasterm": "bias_term", "kernelsize": "kernel_size"}
        | {name: name for name in ("num_output", "weight_filler", "bias_filler", "pad", "group", "stride")},
    ),
    "innerproduct": (
        "inner_product_param",
        {"biasterm": "bias_term"} | {name: name for name in ("num_output", "weight_filler", "bias_filler")},
    ),
    "pool": (
        "pooling_param",
        {"kernelsize": "kernel_size"} | {name: name for name in ("pool", "pad", "stride")},
    ),
    "dropout": ("dropout_param", {"dropout_ratio": "dropout_ratio"}),
    "lrn": ("lrn_param", {name: name for name in ("local_size", "alpha", "beta", "k")}),
    "concat": ("concat_param", {"concat_dim": "concat_dim"}),
    "infogain_loss": ("infogain_loss_param", {"source": "source"}),
    "data": ("data_param", {"source": "source", "batchsize": "batch_size", "rand_skip": "rand_skip"}),
    "hdf5_data": ("hdf5_data_param", {"source": "source", "batchsize": "batch_size"}),
    "images": (
        "image_data_param",
        {"batchsize": "batch_size", "shuffle_images": "shuffle"}
        | {name: name for name in ("source", "rand_skip", "new_height", "new_width")},
    ),
    "window_data": (
        "window_data_param",
        {"source": "source", "batchsize": "batch_size"}
        | {
            f"det_{name}": name
            for name in ("fg_threshold", "bg_threshold", "fg_fraction", "context_pad", "crop_mode")
        },
    ),
}

_TRANSFORM = {"scale": "scale", "meanfile": "mean_file", "cropsize": "crop_size", "mirror": "mirror"}
_TRANSFORMED = ("data_param", "image_data_param", "window_data_param")


def upgrade_layers(
    layers: Sequence[V1LayerParameter], wheres: Sequence[str]
) -> list[tuple[LayerParameter, str]]:
    """Layers of V1 or V0 as today's, each with its place in the file (V0's padding layers vanish)."""
    upgraded: list[tuple[LayerParameter, str]] = []
    padding: dict[str, V1LayerParameter] = {}  # by top
    for v1, where in zip(layers, wheres, strict=True):
        if v1.HasField("layer") and v1.layer.type == "padding":
            if len(v1.bottom) != 1 or len(v1.top) != 1:
                raise UserError("a padding layer must have one bottom and one top", where)
            padding[v1.top[0]] = v1
            continue
        layer = _upgrade_v0(v1, where) if v1.HasField("layer") else _upgrade_v1(v1)
        if any(bottom in padding for bottom in layer.bottom):
            _merge_padding(layer, padding, where)
        for top in layer.top:
            padding.pop(top, None)
        upgraded.append((layer, where))
    return upgraded


def _merge_padding(layer: LayerParameter, padding: dict[str, V1LayerParameter], where: str) -> None:
    """V0 padded by a layer of its own; since then the convolution or pooling behind it pads."""
    if layer.type not in ("Convolution", "Pooling") or len(layer.bottom) != 1:
        raise UserError(
            f"layer {layer.name!r} ({layer.type}) reads a padding layer; only convolution and pooling may",
            where,
        )
    source = padding[layer.bottom[0]]
    layer.bottom[0] = source.bottom[0]
    if layer.type == "Convolution":
        layer.convolution_param.pad[:] = [source.layer.pad]
    else:
        layer.pooling_param.pad = source.layer.pad


def _upgrade_v1(v1: V1LayerParameter) -> LayerParameter:
    layer = LayerParameter(name=v1.name, type=_v2_type(V1LayerParameter.LayerType.Name(v1.type)))
    if not v1.HasField("name"):
        layer.ClearField("name")
    special = {"type", "name", "param", "blob_share_mode", "blobs_lr", "weight_decay", "layer"}
    for descriptor, value in v1.ListFields():
        if descriptor.name not in special:
            _copy(layer, descriptor.name, value)
    _upgrade_param_specs(v1, layer)
    for name in _TRANSFORMED:
        if layer.HasField(name):
            _move_transform(getattr(layer, name), layer)
    return layer


def _v2_type(enumerator: str) -> str:
    if enumerator in _V2_TYPES:
        return _V2_TYPES[enumerator]
    return "".join(word.capitalize() for word in enumerator.split("_"))


def _upgrade_param_specs(v1: V1LayerParameter, layer: LayerParameter) -> None:
    """Names, share modes and learning rates of the blobs, once four lists, are one list of specs."""

    def spec(index: int) -> ParamSpec:
        while len(layer.param) <= index:
            layer.param.add()
        return layer.param[index]

    for index, name in enumerate(v1.param):
        spec(index).name = name
    for index, mode in enumerate(v1.blob_share_mode):
        spec(index).share_mode = (
            ParamSpec.PERMISSIVE if mode == V1LayerParameter.PERMISSIVE else ParamSpec.STRICT
        )
    for index, rate in enumerate(v1.blobs_lr):
        spec(index).lr_mult = rate
    for index, decay in enumerate(v1.weight_decay):
        spec(index).decay_mult = decay


def _move_transform(parameters: Message, layer: LayerParameter) -> None:
    """scale, mean_file, crop_size and mirror moved from the data layers into transform_param."""
    for name in ("scale", "mean_file", "crop_size", "mirror"):
        if parameters.HasField(name):
            setattr(layer.transform_param, name, getattr(parameters, name))
            parameters.ClearField(name)


def _upgrade_v0(v1: V1LayerParameter, where: str) -> LayerParameter:
    v0 = v1.layer
    if v0.type not in _V0_TYPES:
        raise UserError(
            f"layer type {v0.type!r} is not one of Caffe's first format",
            where,
            "rewrite the layer as layer { .. }",
        )
    outer = V1LayerParameter(type=_V0_TYPES[v0.type])
    outer.bottom.extend(v1.bottom)
    outer.top.extend(v1.top)
    outer.blobs_lr.extend(v0.blobs_lr)
    outer.weight_decay.extend(v0.weight_decay)
    if v0.HasField("name"):
        outer.name = v0.name
    layer = _upgrade_v1(outer)
    target, names = _V0_PARAMETERS.get(v0.type, ("", {}))
    for descriptor, value in v0.ListFields():
        name = descriptor.name
        if name in _TRANSFORM:
            setattr(layer.transform_param, _TRANSFORM[name], value)
        elif name == "hdf5_output_param" and v0.type == "hdf5_output":
            layer.hdf5_output_param.CopyFrom(value)
        elif name == "blobs":
            layer.blobs.extend(value)
        elif name == "pool" and "pool" in names:
            layer.pooling_param.MergeFrom(PoolingParameter(pool=V0LayerParameter.PoolMethod.Name(value)))
        elif name in names:
            _copy(getattr(layer, target), names[name], value)
        elif name not in ("name", "type", "blobs_lr", "weight_decay"):
            raise UserError(f"{name} is no parameter of a layer of type {v0.type!r}", where, "remove it")
    return layer


def _copy(message: Message, name: str, value: Any) -> None:
    """Sets a field from a value of the same kind; a scalar becomes the first entry of a list."""
    target = getattr(message, name)
    if isinstance(target, Message):
        target.CopyFrom(value)
    elif hasattr(target, "extend"):
        target.extend([value] if isinstance(value, (int, float)) else list(value))
    else:
        setattr(message, name, value)
