"""What is done to raw pictures before a net sees them, and who says so.

    y = (x - mean) * scale        x: 0..255, in the order of the net's channels

It is said, in this order: by the user; by a net that does it itself, since `--fold-input` took it into the
weights; by the STEM.json of a Darknet network (RGB, 1/255); by Caffe's transform_param of the layer that
fed the net in training; by a first layer that normalises what it reads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import text_format

from nnie_prep.caffe_io import read_prototxt, read_text
from nnie_prep.errors import UserError
from nnie_prep.net import Layer, Net
from nnie_prep.nnie_caffe_pb2 import TEST, NetParameter, TransformationParameter
from nnie_prep.normalization import ORDERS, folded_into

NORMALISING = ("BatchNorm", "Bias", "MVN", "Power", "Scale")


@dataclass(frozen=True)
class Preprocessing:
    """`mean` has a value for each channel of the net in its order, one for all, or none.

    Either `mean` or `mean_file`, a .binaryproto, is given, or neither. `order` is "" where nobody said.
    `who` says where this comes from. `in_net`: the net does it, and is to be fed with raw values.
    """

    scale: float = 1.0
    mean: tuple[float, ...] = ()
    mean_file: Path | None = None
    order: str = ""
    who: str = ""
    in_net: bool = False


def known_preprocessing(
    net: Net, blob: str, description: Mapping[str, Any], transform: Path | None = None
) -> Preprocessing | None:
    """What the files say of an input, None if they say nothing.

    Args:
        description: the STEM.json beside the prototxt, {} without one.
        transform: a prototxt whose data layer has the transform_param.
    """
    folded = folded_into(net)
    if folded is not None and folded.blob == blob:
        return Preprocessing(order=folded.feed or folded.order, who="--fold-input", in_net=True)
    described = described_input(description)
    if described.get("blob", blob) == blob:
        order = described.get("order", "")
        if described.get("folded"):
            return Preprocessing(order=order, who="--fold-input", in_net=True)
        if described.get("scale"):
            return Preprocessing(described["scale"], order=order, who="its STEM.json")
    if transform is not None:
        return transform_of(transform)
    if first := normalising_layer(net, blob):
        return Preprocessing(who=f"layer {first.name}, which normalises it", in_net=True)
    return None


def described_input(description: Mapping[str, Any]) -> dict[str, Any]:
    """What a STEM.json says of the input: blob, scale, order, folded, each only if it is one.

    The file is anybody's to edit, and what it says cannot be told from what we wrote.
    """
    found = description.get("input")
    found = dict(found) if isinstance(found, Mapping) else {}
    scale, order = found.pop("scale", None), found.pop("order", None)
    if isinstance(scale, int | float) and math.isfinite(scale):
        found["scale"] = float(scale)
    return found | ({"order": order} if order in ORDERS else {})


def normalising_layer(net: Net, blob: str) -> Layer | None:
    """The layer that reads an input alone and normalises it."""
    written: set[str] = set()
    for layer in net.layers:
        is_first = layer.bottoms == [blob] and blob not in written
        if is_first and layer.type in NORMALISING:
            return layer
        if layer.bottoms:
            written.update(layer.tops)
    return None


def has_transform(path: Path) -> bool:
    """Whether a prototxt says how pictures are transformed."""
    return bool(_transforms(path))


def transform_of(path: Path) -> Preprocessing:
    """What the data layers of a prototxt do to pictures; that for TEST counts where there are two.

    Caffe's own layers decode pictures with OpenCV, so that the order of channels is BGR. Raises UserError
    where no layer has a transform_param, or several have different ones.
    """
    found = _transforms(path)
    chosen = [one for one, is_test in found if is_test] or [one for one, _ in found]
    if not chosen:
        raise UserError(
            "has no layer with a transform_param", str(path), "give --mean, --scale and --order yourself"
        )
    first = chosen[0]
    for other in chosen[1:]:
        if (other.scale, other.mean_file, list(other.mean_value)) != (
            first.scale,
            first.mean_file,
            list(first.mean_value),
        ):
            raise UserError(
                "has layers with different transform_param", str(path), "give --mean and --scale yourself"
            )
    mean_file = _existing(first.mean_file, path) if first.mean_file else None
    mean = tuple(_plain(value) for value in first.mean_value)
    return Preprocessing(_plain(first.scale), mean, mean_file, "BGR", f"the transform_param of {path.name}")


def _transforms(path: Path) -> list[tuple[TransformationParameter, bool]]:
    """Each transform_param of the file, with whether its layer runs in the TEST phase."""
    message = NetParameter()
    read_prototxt(path)  # says what is wrong with it
    text_format.Parse(read_text(path), message)
    found = []
    layers: list[Any] = [*message.layer, *message.layers]
    for layer in layers:
        if layer.HasField("transform_param"):
            phases = [rule.phase for rule in layer.include if rule.HasField("phase")]
            found.append((layer.transform_param, not phases or TEST in phases))
    return found


def _existing(name: str, prototxt: Path) -> Path:
    """The mean file that a prototxt names: from its own folder, or from where Caffe was started."""
    for path in (prototxt.parent / name, Path(name)):
        if path.is_file():
            return path
    raise UserError(
        f"its mean_file {name} does not exist", str(prototxt), "give it with --mean FILE.binaryproto"
    )


def _plain(value: float) -> float:
    """A float32 as the shortest decimal that means it: 0.017, not 0.017000000923871994."""
    return float(str(np.float32(value)))
