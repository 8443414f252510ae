"""The two kinds of detectors that `detect` runs: what each is fed with, and how its boxes are found.

A network of Darknet's is fed as Darknet does it, and its heads are decoded by STEM.json. An SSD is fed with
what the user or the files say of its training, and its DetectionOutput decodes.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnie_prep.blob import Array
from nnie_prep.cli.mapper_inputs import preprocessing_of
from nnie_prep.cli.report import count_text
from nnie_prep.detection import Detection, detect
from nnie_prep.detection.detection_output import boxes_of, detection_output
from nnie_prep.detection.heads import Description
from nnie_prep.detection.picture import as_planes
from nnie_prep.detection.preparation import Placement, Size, prepare
from nnie_prep.errors import UserError
from nnie_prep.net import Layer, Net
from nnie_prep.nnie.calibration import picture_tensor, read_mean_image
from nnie_prep.nnie.preprocessing import Preprocessing
from nnie_prep.normalization import folded_into
from nnie_prep.outputs.input_files import read_input
from nnie_prep.params import as_written
from nnie_prep.shapes import infer_shapes

_NMS = 0.45


@dataclass(frozen=True)
class Detector:
    """A net with a picture before it.

    Args:
        source, fed: the input, and what it is fed with, (1, C, H, W).
        wanted: the blobs that `decode` makes detections of.
        told: what was done to the picture's values, for who reads the report.
        least: what the net itself wants of a confidence.
        ignored: heads that see no boxes.
    """

    source: str
    fed: Array
    wanted: set[str]
    decode: Callable[[Mapping[str, Array]], list[Detection]]
    names: Sequence[str]
    placement: Placement
    letterbox: bool
    nms: float
    nms_kind: str
    told: Sequence[str] = ()
    least: float = 0.0
    ignored: Sequence[str] = ()


def darknet_detector(options: Namespace, net: Net, picture: Any, description: Description) -> Detector:
    given = [name for name in ("transform", "mean", "scale", "order") if getattr(options, name)]
    if given:
        raise UserError(
            "is for a net that ends in DetectionOutput; one of Darknet's is fed as Darknet does it",
            f"--{given[0]}",
            "leave it out",
        )
    known = set(net.blob_names())
    for head in description.heads:
        for name in head.blobs:
            if name not in known:
                hint = "--heads names the .json that was written with the pair"
                raise UserError(f"reads blob {name}, which {net.source} has not", head.where, hint)
    count, first = description.classes, description.heads[0]
    names = first.names if options.names is None else _read_names(options.names)
    if options.names is not None and len(names) != count:
        raise _wrong_count(options.names, names, f"the heads have {count} classes")
    source, (channels, height, width) = _input(net)
    letterbox = description.letterbox if options.letterbox is None else options.letterbox
    x, placement = prepare(as_planes(picture, channels), width, height, letterbox)
    folded = folded_into(net)
    nms = _NMS if options.nms is None else options.nms
    return Detector(
        source=source,
        fed=folded.undo(x[None]) if folded else x[None],
        wanted={name for head in description.heads for name in head.blobs},
        decode=lambda blobs: detect(description.heads, blobs, placement, options.threshold, nms),
        names=names or [str(number) for number in range(count)],
        placement=placement,
        letterbox=letterbox,
        nms=nms,
        nms_kind=description.heads[-1].nms_kind,
        ignored=description.ignored,
    )


def ssd_detector(options: Namespace, net: Net, size: Size, is_cut: bool = False) -> Detector:
    layer = detection_output(net)
    assert layer is not None, "the prototxt has one"
    where = layer.origin or net.source
    nms = layer.proto.detection_output_param.nms_param
    if options.nms is not None:
        change = f"layer[name={layer.name}].detection_output_param.nms_param.nms_threshold={options.nms:g}"
        hint = "leave out --nms" + (
            f", or change the net: nnie-prep edit --set '{change}'" if not is_cut else ""
        )
        raise UserError("the net's DetectionOutput suppresses by itself", where, hint)
    if options.letterbox:
        raise UserError("an SSD's pictures are stretched", "--letterbox", "leave it out")
    if options.tree:
        raise UserError("is for a network of Darknet's, and this one is an SSD", "--tree", "leave it out")
    source, (channels, height, width) = _input(net)
    if channels not in (1, 3):
        hint = "`nnie-prep run` takes any as .npy"
        raise UserError(f"the network reads pictures of {channels} channels", net.source, hint)
    fed_as = preprocessing_of(options, net, source, options.prototxt)
    order = (fed_as.order or "BGR") if channels == 3 else ""
    shape = (1, channels, height, width)
    mean = np.zeros((1, 1, 1), np.float32) if fed_as.in_net else _mean(fed_as, shape, str(options.prototxt))
    scale = 1.0 if fed_as.in_net else fed_as.scale
    fed = picture_tensor(options.picture, shape, order, mean, scale)
    return Detector(
        source=source,
        fed=fed,
        wanted={layer.tops[0]},
        decode=lambda blobs: boxes_of(layer, blobs[layer.tops[0]], size, options.threshold),
        names=_ssd_names(options.names, layer),
        placement=Placement(size, (width, height), (width, height)),
        letterbox=False,
        nms=as_written(nms.nms_threshold),
        nms_kind="DetectionOutput",
        told=_told(fed_as, order),
        least=as_written(layer.proto.detection_output_param.confidence_threshold),
    )


def _told(fed_as: Preprocessing, order: str) -> list[str]:
    steps = [order] * bool(order)
    if fed_as.in_net:
        steps.append(f"else as it is, by {fed_as.who}")
    else:
        steps += [f"minus {fed_as.mean_file}"] if fed_as.mean_file else []
        steps += ["minus " + "/".join(f"{value:g}" for value in fed_as.mean)] if any(fed_as.mean) else []
        steps += [f"times {fed_as.scale:g}"] if fed_as.scale != 1 else []
    return steps


def _mean(fed_as: Preprocessing, shape: tuple[int, ...], where: str) -> Array:
    """What is subtracted, to be broadcast over (C, H, W)."""
    if fed_as.mean_file is not None:
        mean = read_mean_image(fed_as.mean_file)
        if mean.shape != shape[1:]:
            what = f"its shape is {mean.shape}, and the input's {shape[1:]}"
            raise UserError(what, str(fed_as.mean_file), "give a value for each channel")
        return mean
    if len(fed_as.mean) not in (0, 1, shape[1]):
        hint = "give one for each channel, in the order of the net's, or one for all"
        raise UserError(f"{len(fed_as.mean)} means for {shape[1]} channels", where, hint)
    return np.array(fed_as.mean or (0.0,), np.float32).reshape(-1, 1, 1)


def _ssd_names(path: Path | None, layer: Layer) -> Sequence[str]:
    """The names by label; a file may leave out the background, which is never found."""
    parameter = layer.proto.detection_output_param
    count, background = parameter.num_classes, parameter.background_label_id
    if path is None:
        return [str(number) for number in range(count)]
    names = _read_names(path)
    if len(names) == count - 1 and 0 <= background < count:
        names.insert(background, "background")
    if len(names) != count:
        raise _wrong_count(path, names, f"layer {layer.name} has {count} classes with the background")
    return names


def _read_names(path: Path) -> list[str]:
    data = read_input(path)
    try:
        lines = data.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise UserError("is not a text in UTF-8", str(path), "give a file with a name on each line") from None
    while lines and not lines[-1].strip():
        lines.pop()
    return ["".join(one if one.isprintable() else "?" for one in line.strip()) for line in lines]


def _wrong_count(path: Path, names: Sequence[str], expected: str) -> UserError:
    what = f"holds {count_text(len(names), 'name')}, and {expected}"
    return UserError(what, str(path), "give the names that the network was trained with, one on each line")


def _input(net: Net) -> tuple[str, tuple[int, int, int]]:
    """The only input, and its shape without the batch."""
    inputs = net.inputs()
    shape = infer_shapes(net)[inputs[0]] if len(inputs) == 1 else ()
    if len(shape) != 4 or shape[0] != 1:
        raise UserError(
            f"has the inputs {', '.join(inputs) or 'none'}, expected one of 1xCxHxW",
            net.source,
            "give a net that takes one picture",
        )
    return inputs[0], (shape[1], shape[2], shape[3])
