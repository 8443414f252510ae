"""What the data layers of a prototxt do to pictures: their transform_param, in whatever phase they run.

A net for inference has lost these layers, and with them the word on mean and scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from google.protobuf import text_format

from nnie_prep.caffe_io import read_prototxt, read_text
from nnie_prep.caffe_io.upgrade import upgrade_layers
from nnie_prep.nnie_caffe_pb2 import TEST, LayerParameter, NetParameter, TransformationParameter
from nnie_prep.params import as_written


class Transform(NamedTuple):
    """A layer's transform_param; `blob` is its first top, the pictures."""

    layer: str
    blob: str
    param: TransformationParameter
    is_test: bool


def transforms(path: Path) -> list[Transform]:
    """Each transform_param of the file; a field of the same meaning in Caffe's older formats counts."""
    text = read_text(path)
    if "transform_param" not in text and "layers" not in text:
        return []
    read_prototxt(path)  # says what is wrong with it
    message = NetParameter()
    text_format.Parse(text, message)
    layers: list[LayerParameter] = list(message.layer)
    if message.layers:
        layers = [layer for layer, _ in upgrade_layers(message.layers, [path.name] * len(message.layers))]
    return [
        Transform(layer.name, layer.top[0], layer.transform_param, _in_test(layer))
        for layer in layers
        if layer.HasField("transform_param") and layer.top
    ]


def _in_test(layer: LayerParameter) -> bool:
    included = [rule.phase for rule in layer.include if rule.HasField("phase")]
    excluded = [rule.phase for rule in layer.exclude if rule.HasField("phase")]
    return (not included or TEST in included) and TEST not in excluded


def of_blob(found: Sequence[Transform], blob: str) -> list[Transform]:
    """Those of one input that differ in what they subtract and multiply by.

    Layers for TEST count where there are such, and those that feed this blob where there are such.
    """
    own = [one for one in found if one.blob == blob] or list(found)
    chosen = [one for one in own if one.is_test] or own
    different: dict[Any, Transform] = {}
    for one in chosen:
        different.setdefault((one.param.scale, one.param.mean_file, *one.param.mean_value), one)
    return list(different.values())


def described(found: Sequence[Transform], blob: str) -> dict[str, Any]:
    """What STEM.json says of an input that was fed like that; {} where nobody says, or two disagree.

    Caffe's own layers decode pictures with OpenCV, so that the order of channels is BGR.
    """
    if len(chosen := of_blob(found, blob)) != 1:
        return {}
    layer, _, param, _ = chosen[0]
    about: dict[str, Any] = {"scale": as_written(param.scale)}
    about |= {"mean": list(map(as_written, param.mean_value))} if param.mean_value else {}
    about |= {"mean_file": param.mean_file} if param.mean_file else {}
    text: str = text_format.MessageToString(param, as_one_line=True, as_utf8=True)
    return about | {"order": "BGR", "trained_with": {"layer": layer, "transform_param": text.strip()}}
