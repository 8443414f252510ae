"""Random Caffe nets with layers that NNIE, or stock Caffe, has not: the motifs of the replacing passes.

Groups are one, all, and neither; sizes odd; what may be in place is so by coin, and some have second
readers. Among them stand the motifs of strategies.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from draft import Draft
from hypothesis import strategies as st
from numpy.typing import NDArray
from strategies import MOTIFS, Drawn, Motif, plain_conv, random_net

from nnie_prep.net import Layer
from nnie_prep.nnie_caffe_pb2 import LayerParameter
from nnie_prep.shapes import top_shapes


def grown(
    draft: Draft,
    type_: str,
    bottoms: Sequence[str],
    tops: Sequence[str] | None = None,
    blobs: Sequence[NDArray[np.float32]] = (),
    in_place: bool = False,
    **params: Any,
) -> str:
    """A layer whose tops have the shapes that Caffe says."""
    shape_of = Layer(LayerParameter(type=type_, **params), list(bottoms), list(tops or ["top"]))
    shapes = top_shapes(shape_of, [draft.shapes[name] for name in bottoms])
    return draft.layer(type_, bottoms, tops, shapes, blobs, in_place, **params)


def floor_pooling(draft: Draft, x: str) -> str:
    if min(draft.shapes[x][2:]) < 3:
        return x
    kernel, stride = draft.pick(1, 2, 3), draft.pick(1, 2, 3)
    says = draft.pick(
        {"round_mode": 1}, {"round_mode": 1}, {"ceil_mode": False}, {"ceil_mode": True}, {"round_mode": 0}
    )
    if stride > kernel:  # rounded up, windows may hold nothing
        says = {"round_mode": 1}
    size: dict[str, Any] = {"kernel_size": kernel}
    if draft.coin(0.3):
        size = {"kernel_h": kernel, "kernel_w": draft.pick(2, 3), "stride_h": stride, "stride_w": 2}
    else:
        size["stride"] = stride
        if kernel > 1 and draft.coin(0.4):
            size["pad"] = 1
    x = draft.relu(x)
    y = grown(draft, "Pooling", [x], pooling_param={"pool": draft.pick(0, 1), **size, **says})
    if draft.coin(0.4) and draft.net.layers[-1].proto.pooling_param.pool == 0:
        draft.net.layers[-1].tops.append(f"{y}_mask")
        draft.shapes[f"{y}_mask"] = draft.shapes[y]
    return y


def foreign_activation(draft: Draft, x: str) -> str:
    kind: str = draft.pick("ReLU6", "Clip", "Mish", "Swish")
    params: dict[str, Any] = {}
    if kind == "Clip":
        low, high = draft.pick((0, 6), (-0.75, 0.5), (-3.4028234e38, 1), (0.25, 3.4028234e38), (1, -1))
        params = {"clip_param": {"min": low, "max": high}}
    elif kind == "Swish":
        params = {"swish_param": {"beta": draft.pick(1, 0.7, -2)}}
    elif kind == "ReLU6":
        params = {"relu6_param": draft.pick({}, {"threshold": 1}, {"negative_slope": 0.1})}
    if draft.coin(0.7):
        x = draft.convolution(x)
    if draft.coin(0.2):
        draft.layer("Power", [x], power_param={"shift": 2})  # a second reader, before
    elif draft.coin(0.4):
        x = draft.layer("Reshape", [x], reshape_param={"shape": {"dim": [0, 0, 0, 0]}})
    y = grown(draft, kind, [x], in_place=draft.coin(0.8), **params)
    if y == x or draft.coin(0.7):
        return y
    return draft.layer("Eltwise", [y, x])


def convolution_in_groups(draft: Draft, x: str) -> str:
    """One group for each channel, some, or a type of its own for it."""
    channels = draft.shapes[x][1]
    kind: str = draft.pick("Convolution", "Convolution", "DepthwiseConv", "ConvolutionDepthwise")
    group = draft.pick(*(one for one in range(1, channels + 1) if channels % one == 0), channels)
    if kind != "Convolution":
        group = channels
    outputs = group * draft.pick(1, 1, 1, 2) if kind == "Convolution" else channels
    kernel, bias = draft.pick(1, 3), draft.coin()
    param = {"num_output": outputs, "kernel_size": [kernel], "pad": [kernel // 2], "bias_term": bias}
    if kind == "Convolution" or (kind != "DepthwiseConv" and draft.coin()):
        param["group"] = group
    inputs = channels // group
    blobs = [draft.weights_of(inputs * kernel**2, outputs, inputs, kernel, kernel)]
    blobs += [draft.normal(outputs)] * bias
    return grown(draft, kind, [x], blobs=blobs, convolution_param=param)


def nearest(draft: Draft, x: str) -> str:
    """Upsample, and deconvolutions that are nearest neighbour or nearly so."""
    channels = draft.shapes[x][1]
    if draft.coin(0.3):
        return grown(draft, "Upsample", [x], upsample_param={"scale": draft.pick(2, 2, 3)})
    group = draft.pick(*(one for one in (1, 2, 3) if channels % one == 0), channels)
    pad, each = draft.pick(0, 1), channels // group
    weights = np.zeros((channels, each, 2 * pad + 2, 2 * pad + 2), np.float32)
    for channel in range(channels):
        weights[channel, channel % each, pad : pad + 2, pad : pad + 2] = 1
    bias = [np.zeros(channels, np.float32)] * draft.coin()
    spoilt = draft.pick("", "", "", "weights", "other channel", "bias")
    if spoilt == "weights":
        weights[-1, -1, -1, 0] = 0.5
    elif spoilt == "other channel" and each > 1:
        weights[:] = np.roll(weights, 1, axis=1)
    elif spoilt == "bias":
        bias = [draft.normal(channels)]
    param = {
        "num_output": channels,
        "kernel_size": [2 * pad + 2],
        "stride": [2],
        "pad": [pad],
        "group": group,
        "bias_term": bool(bias),
    }
    return grown(draft, "Deconvolution", [x], blobs=[weights, *bias], convolution_param=param)


def pass_through(draft: Draft, x: str) -> str:
    channels, height, width = draft.shapes[x][1:]
    rows, columns = (
        draft.pick(*(one for one in (1, 2, 3, 5) if extent % one == 0)) for extent in (height, width)
    )
    param = {"num_output": channels * rows * columns, "block_height": rows, "block_width": columns}
    return grown(draft, "PassThrough", [x], pass_through_param=param)


def dangling_slice(draft: Draft, x: str) -> str:
    """Of two or three tops at least one is read, and one mostly not."""
    outputs = draft.pick(4, 6)
    if draft.coin(0.8):
        x = draft.convolution(x, type_="Convolution", outputs=outputs)
        for _ in range(draft.pick(0, 1, 2)):
            x = draft.relu(x)
    channels = draft.shapes[x][1]
    if channels < 3:
        return x
    points = draft.pick([1], [channels - 1], [1, 2])
    tops = [f"{x}_part{draft.count}_{place}" for place in range(len(points) + 1)]
    grown(draft, "Slice", [x], tops, slice_param={"slice_point": points})
    read = draft.pick(tops[:1], tops[-1:], tops[:2], tops)
    if draft.coin(0.25):
        return draft.layer("Power", read[:1], power_param={"scale": 2})
    ends = [draft.convolution(top) for top in read]
    if draft.coin(0.2):
        ends.append(x)  # a second reader
    return grown(draft, "Concat", ends) if len(ends) > 1 else ends[0]


def resized(draft: Draft, x: str) -> str:
    """Bilinear: by factors, from one pixel, and to sizes that are no whole factor."""
    height, width = draft.shapes[x][2:]
    if draft.coin(0.2):
        x = grown(draft, "Pooling", [x], pooling_param={"pool": 1, "global_pooling": True})
        height = width = 1
    kind = draft.pick("zoom", "shrink", "size", "mixed", "odd", "crop")
    param: dict[str, Any] = {
        "zoom": {"zoom_factor": draft.pick(2, 3)},
        "shrink": {"shrink_factor": 2},
        "size": {"height": 2 * (height - 1) + 1 if height > 1 else 3, "width": max(width, 2)},
        "mixed": {"height": 3 * height - 2, "width": 1},
        "odd": {"height": height + 1, "width": width + 2},
        "crop": {"zoom_factor": 2, "pad_beg": -1 if min(height, width) > 1 else 0},
    }[kind]
    return grown(draft, "Interp", [x], interp_param=param)


def cropped(draft: Draft, x: str) -> str:
    """To the size that an unpadded convolution leaves, which others read or nobody."""
    if min(draft.shapes[x][2:]) < 4:
        return x
    small = draft.convolution(x, padded=False)
    wide = draft.convolution(x, type_="Convolution")
    axis = draft.pick(2, 2, 3)
    offset = draft.pick([0], [1]) if draft.shapes[small][2:] != draft.shapes[wide][2:] else [0]
    y = grown(draft, "Crop", [wide, small], crop_param={"axis": axis, "offset": offset})
    if axis == 3 or draft.coin(0.1):
        return y
    return grown(draft, "Concat", [y, small])


def shuffle(draft: Draft, x: str) -> str:
    if draft.coin():
        x = draft.convolution(x, type_=draft.pick("", "Convolution"), outputs=6)
        x = draft.relu(x) if draft.coin() else x
    channels = draft.shapes[x][1]
    group = draft.pick(*(one for one in (1, 2, 3) if channels % one == 0), channels)
    y = grown(draft, "ShuffleChannel", [x], shuffle_channel_param={"group": group})
    if draft.coin(0.2):
        return draft.layer("Eltwise", [y, x])
    return draft.convolution(y, type_=draft.pick("", "Convolution"))


def normalized(draft: Draft, x: str) -> str:
    channels, shared = draft.shapes[x][1], draft.coin(0.3)
    param = {"across_spatial": draft.coin(0.2), "channel_shared": shared, "eps": draft.pick(1e-10, 0.1)}
    blobs = [draft.signed(*(() if shared else (channels,)))]
    return grown(draft, "Normalize", [x], blobs=blobs, norm_param=param)


def permuted(draft: Draft, x: str) -> str:
    """A head: an output beside the trunk, of one pixel or of many."""
    y = draft.convolution(x, type_="Convolution", outputs=4)
    if draft.coin(0.7):
        y = grown(draft, "Pooling", [y], pooling_param={"pool": 1, "global_pooling": True})
    read = draft.layer("Power", [y], power_param={"scale": 0.5}) if draft.coin(0.3) else ""
    order = draft.pick([0, 2, 3, 1], [0, 2, 3, 1], [0, 3, 2, 1], [1, 0])
    z = grown(draft, "Permute", [y], permute_param={"order": order})
    if draft.coin():
        z = draft.layer("ReLU", [z], in_place=True, relu_param={"negative_slope": 0.1})
    if read and draft.coin():
        draft.layer("Eltwise", [read, y])
    return x


def powered(draft: Draft, x: str) -> str:
    x = draft.layer("Sigmoid", [x], in_place=draft.coin())
    param = {"power": draft.pick(4, 0.25, -1.5, 6, 2, 0.3, 5), "scale": draft.pick(1, 2), "shift": 0.5}
    return draft.layer("Power", [x], in_place=draft.coin(), power_param=param)


def tops_of_their_own(draft: Draft, x: str) -> str:
    """Layers that could be in place, some of whose bottoms are read twice or shared in memory."""
    x = draft.any_weighted(x)
    if draft.coin(0.2):
        x = draft.layer("Reshape", [x], reshape_param={"shape": {"dim": [0, 0, 0, 0]}})
    y = draft.layer("ReLU", [draft.scale(x, in_place=False)], relu_param={"negative_slope": 0.1})
    return draft.layer("Eltwise", [x, y]) if draft.coin(0.3) else y


FOREIGN: tuple[Motif, ...] = (
    floor_pooling,
    foreign_activation,
    convolution_in_groups,
    nearest,
    pass_through,
    resized,
    dangling_slice,
    cropped,
    shuffle,
    normalized,
    permuted,
    powered,
    tops_of_their_own,
)


def foreign_nets() -> st.SearchStrategy[Drawn]:
    """Each begins with weights: what only training needs is told by them, and a pass may bring some."""
    motifs = st.lists(st.sampled_from(FOREIGN + MOTIFS[:2]), min_size=1, max_size=4)
    return st.builds(random_net, motifs.map(lambda found: [plain_conv, *found]), st.integers(0, 2**32 - 1))
