"""Random Caffe nets, made of motifs: the rows of layers that passes look for, and their near misses.

A motif is a function of (draft, blob) that adds layers behind a blob and returns the blob to go on
with. Sizes are odd and not square, weights He-normal, BatchNorm statistics of the order of what they
are applied to, scales of either sign, and everything that may be in place is so by coin.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from draft import Draft
from hypothesis import strategies as st
from numpy.typing import NDArray

from nnie_prep.net import Layer, Net
from nnie_prep.nnie_caffe_pb2 import LayerParameter

Motif = Callable[[Draft, str], str]


# ---- motifs --------------------------------------------------------------------------------------


def conv_bn_scale(draft: Draft, x: str) -> str:
    x = draft.scale(draft.batchnorm(draft.any_weighted(x)))
    return draft.relu(x) if draft.coin() else x


def conv_bn(draft: Draft, x: str) -> str:
    return draft.relu(draft.batchnorm(draft.any_weighted(x)))


def conv_scales(draft: Draft, x: str) -> str:
    x = draft.any_weighted(x)
    for _ in range(draft.pick(1, 2, 3)):
        x = draft.any_scale(x)
    return x


def conv_scale_bn(draft: Draft, x: str) -> str:
    return draft.any_scale(draft.batchnorm(draft.any_scale(draft.any_weighted(x))))


def conv_five_blobs(draft: Draft, x: str) -> str:
    """NVCaffe's BatchNorm, which scales and shifts too, behind a layer with weights or before one."""
    x = draft.any_weighted(x) if draft.coin(0.7) else draft.relu(x)
    x = draft.five_blobs(x)
    return draft.any_scale(x) if draft.coin() else draft.convolution(x, padded=False)


def grouped_deconv(draft: Draft, x: str) -> str:
    return draft.scale(draft.batchnorm(draft.deconvolution(x)))


def before_weights(draft: Draft, x: str) -> str:
    """What scales channels right before a layer with weights that may be able to take it."""
    x = draft.relu(x)
    if draft.coin(0.3):
        x = draft.layer("Reshape", [x], reshape_param={"shape": {"dim": [0, 0, 0, 0]}})
    for _ in range(draft.pick(1, 2, 3)):
        x = draft.pick(draft.batchnorm, draft.any_scale)(x)
    kind = draft.pick("unpadded", "unpadded", "padded", "deconvolution", "one by one")
    if kind in ("deconvolution", "one by one"):
        return draft.deconvolution(x, 1 if kind == "one by one" else 0)
    return draft.convolution(x, padded=kind == "padded")


def plain_conv(draft: Draft, x: str) -> str:
    return draft.relu(draft.any_weighted(x))


def across_relu(draft: Draft, x: str) -> str:
    """What looks like conv, BatchNorm in the names of an in-place ReLU's blob."""
    x = draft.convolution(x)
    x = draft.layer("ReLU", [x], in_place=True, relu_param={"negative_slope": 0.2})
    return draft.scale(draft.batchnorm(x))


def batch_statistics(draft: Draft, x: str) -> str:
    x = draft.batchnorm(draft.convolution(x), batch_norm_param={"use_global_stats": False, "eps": 0.01})
    return draft.scale(x)


def odd_scale(draft: Draft, x: str) -> str:
    """Scales that are not one factor for each channel."""
    x = draft.convolution(x)
    kind = draft.pick("elements", "columns", "scalar", "two bottoms")
    if kind == "two bottoms":
        gate = draft.layer("Power", [x], power_param={"scale": 0.5, "shift": 1})
        return draft.layer("Scale", [x, gate], scale_param={"axis": 0})
    shape = draft.shapes[x]
    axis, num_axes, blob = {
        "elements": (1, 3, shape[1:]),
        "columns": (3, 1, shape[3:]),
        "scalar": (1, 0, ()),
    }[kind]
    param = {"axis": axis, "num_axes": num_axes}
    return draft.layer("Scale", [x], blobs=[draft.signed(*blob)], in_place=draft.coin(), scale_param=param)


def two_readers(draft: Draft, x: str) -> str:
    x = draft.convolution(x)
    y = draft.scale(draft.batchnorm(x, in_place=False))
    return draft.layer("Eltwise", draft.pick([x, y], [y, x]))


def residual(draft: Draft, x: str) -> str:
    y = draft.batchnorm(draft.convolution(x, type_="Convolution", outputs=draft.shapes[x][1]))
    y = draft.layer("Dropout", [y], in_place=draft.coin())
    y = draft.layer("ReLU", [y], in_place=True, relu_param={"negative_slope": 0.2})
    x = draft.layer("Eltwise", [x, y], eltwise_param={"coeff": [1, -0.5]})
    return draft.relu(x)


def shared_weights(draft: Draft, x: str) -> str:
    """Two branches of one convolution, by the names of params; what follows may be the same, or share too."""
    start = len(draft.net.layers)
    first = draft.convolution(
        x, param=[{"name": f"shared{draft.count}_0"}, {"name": f"shared{draft.count}_1"}]
    )
    del draft.net.layers[-1].proto.param[len(draft.net.layers[-1].blobs) :]
    follow = draft.pick("alike", "shared", "differently")
    if follow != "differently":
        first = draft.scale(draft.batchnorm(first))
    y = draft.layer("Power", [x], power_param={"scale": -1})
    second = y
    for layer in draft.net.layers[start:-1]:
        if follow == "shared" and not layer.proto.param:
            for place in range(len(layer.blobs)):
                layer.proto.param.add(name=f"{layer.name}_{place}")
        second = _twin(draft, layer, second)
    if follow == "differently":
        first, second = (draft.scale(draft.batchnorm(one)) for one in (first, second))
    return draft.layer("Eltwise", [first, second], eltwise_param={"coeff": [1, -0.5]})


def _twin(draft: Draft, layer: Layer, x: str) -> str:
    """A layer of the same parameters and weights behind another blob."""
    proto = LayerParameter()
    proto.CopyFrom(layer.proto)
    draft.count += 1
    proto.name = f"twin{draft.count}"
    draft.net.layers.append(Layer(proto, [x], [proto.name], list(layer.blobs), f"drawn:{draft.count}"))
    draft.shapes[proto.name] = draft.shapes[layer.tops[0]]
    draft.read.add(x)
    return proto.name


def split_and_join(draft: Draft, x: str) -> str:
    count = draft.count
    tops = draft.pick([x + "_split"], [f"{x}_split{count}_0", f"{x}_split{count}_1"])
    draft.layer("Split", [x], tops=tops)
    ends = [draft.relu(top) if draft.coin() else draft.batchnorm(draft.convolution(top)) for top in tops]
    return _concat(draft, ends)


def slice_and_join(draft: Draft, x: str) -> str:
    batch, channels, height, width = draft.shapes[x]
    if channels < 2 or draft.coin(0.3):
        return draft.layer("Slice", [x])
    cut = draft.pick(*range(1, channels))
    shapes = [(batch, cut, height, width), (batch, channels - cut, height, width)]
    tops = [f"{x}_slice_{draft.count}_{place}" for place in range(2)]
    draft.layer("Slice", [x], tops=tops, shapes=shapes, slice_param={"slice_point": [cut]})
    left = draft.batchnorm(draft.convolution(tops[0]))
    return _concat(draft, draft.pick([left, tops[1]], [tops[1], left]))


def _concat(draft: Draft, ends: list[str]) -> str:
    batch, _, *size = draft.shapes[ends[0]]
    channels = sum(draft.shapes[end][1] for end in ends)
    x = draft.layer("Concat", ends, shapes=[(batch, channels, *size)])
    return draft.scale(draft.batchnorm(x)) if draft.coin() else x


def identities(draft: Draft, x: str) -> str:
    """What changes nothing, and what nearly changes nothing."""
    first = x
    for _ in range(draft.pick(1, 2, 3)):
        shape = draft.shapes[x]
        channels, place = shape[1], draft.coin()
        kind = draft.pick(
            "Dropout",
            "Concat",
            "Power",
            "half",
            "Scale",
            "BatchNorm",
            "Bias",
            "Reshape",
            "eps",
            "ReLU",
            "Crop",
        )
        if kind == "Dropout":
            x = draft.layer("Dropout", [x], in_place=place)
        elif kind == "Concat":
            x = draft.layer("Concat", [x])
        elif kind in ("Power", "half"):
            x = draft.layer("Power", [x], in_place=place, power_param={"scale": 0.5 if kind == "half" else 1})
        elif kind == "Scale":
            blobs = [np.ones(channels, np.float32), np.zeros(channels, np.float32)]
            x = draft.layer("Scale", [x], blobs=blobs, in_place=place, scale_param={"bias_term": True})
        elif kind in ("BatchNorm", "eps"):
            # Statistics that a merging script leaves behind; with another eps they are none.
            variance = np.full(channels, 1 - 1e-5, dtype=np.float32)
            blobs = [np.zeros(channels, np.float32), variance, np.float32([1])]
            param = {"eps": 1e-5 if kind == "BatchNorm" else 1e-3}
            x = draft.layer("BatchNorm", [x], blobs=blobs, in_place=place, batch_norm_param=param)
        elif kind == "Bias":
            x = draft.layer("Bias", [x], blobs=[np.zeros(channels, np.float32)], in_place=place)
        elif kind == "ReLU":
            # Whether the second does anything depends on the first.
            for slope in draft.pick((0, 0.3), (0.3, 0), (0, 0)):
                x = draft.layer("ReLU", [x], in_place=place, relu_param={"negative_slope": slope})
        elif kind == "Crop":
            x = draft.layer("Crop", [x, first])
        elif kind == "Reshape":
            dims = draft.pick([0, 0, 0, 0], [0, -1, *shape[2:]])
            x = draft.layer("Reshape", [x], reshape_param={"shape": {"dim": dims}})
    return x


def side_output(draft: Draft, x: str) -> str:
    """A head: an output of the net beside the trunk, with what may stand at its end."""
    y = conv_bn_scale(draft, x)
    draft.pick(identities, conv_scales, plain_conv)(draft, y)
    return x


def interleaved_outputs(draft: Draft, x: str) -> str:
    """Two heads whose layers alternate, so that their order is easily confused."""
    heads = [draft.convolution(x), draft.convolution(x)]
    for step in draft.pick([draft.batchnorm], [draft.scale], [draft.batchnorm, draft.scale, draft.relu]):
        order = draft.pick([0, 1], [1, 0])
        for place in order:
            heads[place] = step(heads[place])
    if draft.coin():
        heads[0] = draft.layer("Dropout", [heads[0]], in_place=draft.coin())
    return x


def read_output(draft: Draft, x: str) -> str:
    """An identity at the net's end whose bottom others read."""
    x = draft.convolution(x)
    draft.layer("Dropout", [x])
    return x


def tail(draft: Draft, x: str) -> str:
    """InnerProduct, behind which there are no pictures any more."""
    if draft.coin():
        x = draft.batchnorm(draft.relu(x))
    if draft.coin():
        batch, *extents = draft.shapes[x]
        x = draft.layer("Flatten", [x], shapes=[(batch, int(np.prod(extents)))])
    x = draft.scale(draft.batchnorm(draft.inner_product(x)))
    if draft.coin():
        x = draft.layer("Flatten", [x])
    return draft.scale(draft.inner_product(draft.any_scale(draft.relu(x))))


MOTIFS: tuple[Motif, ...] = (
    conv_bn_scale,
    conv_bn,
    conv_scales,
    conv_scale_bn,
    conv_five_blobs,
    grouped_deconv,
    before_weights,
    plain_conv,
    across_relu,
    batch_statistics,
    odd_scale,
    two_readers,
    residual,
    shared_weights,
    split_and_join,
    slice_and_join,
    identities,
    side_output,
    interleaved_outputs,
    read_output,
)


# ---- whole nets ----------------------------------------------------------------------------------


class Drawn(NamedTuple):
    """A net, and a value for each of its inputs and each top of its data layers."""

    net: Net
    feeds: dict[str, NDArray[np.float32]]


def random_net(motifs: Sequence[Motif], seed: int) -> Drawn:
    """The motifs one behind the other, fed by any kind of source, with or without what training adds."""
    draft = Draft(seed)
    trains, ends = draft.coin(0.4), draft.coin(0.4)
    x = _source(draft, trains)
    feeds = {name: draft.normal(*shape) for name, shape in draft.shapes.items()}
    for motif in motifs:
        x = motif(draft, x)
    if ends:
        x = tail(draft, x)
    if draft.coin(0.4) and (names := list(draft.net.last_writers())):
        draft.net.wanted = tuple({draft.pick(*names) for _ in range(draft.pick(1, 2))}.difference(feeds))
    if trains:
        _training(draft, x)
    return Drawn(draft.net, feeds)


def nets() -> st.SearchStrategy[Drawn]:
    motifs = st.lists(st.sampled_from(MOTIFS), min_size=1, max_size=5)
    return st.builds(random_net, motifs, st.integers(0, 2**32 - 1))


def _source(draft: Draft, trains: bool) -> str:
    channels, height, width = draft.pick(2, 3, 4), draft.pick(5, 7), draft.pick(4, 6, 9)
    kind = (
        draft.pick("header", "Input", "ImageData", "MemoryData") if trains else draft.pick("header", "Input")
    )
    if kind == "ImageData":
        channels = 3
    picture = (1 if kind.endswith("Data") else draft.pick(1, 2), channels, height, width)
    shapes = [picture, picture[:1]] if trains else [picture]
    tops = ["data", "label"][: len(shapes)]
    if kind == "header":
        for name, shape in zip(tops, shapes, strict=True):
            draft.net.header.input.append(name)
            draft.net.header.input_shape.add().dim.extend(shape)
            draft.shapes[name] = shape
    elif kind == "Input":
        draft.layer("Input", [], tops, shapes, input_param={"shape": [{"dim": shape} for shape in shapes]})
    elif kind == "ImageData":
        param = {"new_height": height, "new_width": width}
        draft.layer("ImageData", [], tops, shapes, image_data_param=param, transform_param={"scale": 0.5})
    else:
        param = {"batch_size": 8, "channels": channels, "height": height, "width": width}
        draft.layer("MemoryData", [], tops, shapes, memory_data_param=param)
    return "data"


def _training(draft: Draft, x: str) -> None:
    label = draft.layer("Power", ["label"], power_param={"shift": 0.25}) if draft.coin() else "label"
    draft.layer("SoftmaxWithLoss", [x, label], shapes=[()])
    if draft.coin():
        draft.layer("Accuracy", [x, label], shapes=[()])
    if draft.coin():
        draft.layer("Silence", [label], tops=[], shapes=[])
