"""What is done to raw pictures before a net sees them, and who says so.

    y = (x - mean) * scale        x: 0..255, in the order of the net's channels

It is said, in this order: by the user; by a net that does it itself, since `--fold-input` took it into the
weights; by the prototxt that the user names; by STEM.json (RGB and 1/255 for a Darknet network, for a Caffe
net the transform_param of the layer that fed it in training); by such a layer of the net's own prototxt; by a
first layer that normalises what it reads, if that can have been raw.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnie_prep.description import described_inputs, is_number
from nnie_prep.errors import UserError
from nnie_prep.net import Layer, Net
from nnie_prep.normalization import ORDERS, folded_into
from nnie_prep.outputs.input_files import is_file
from nnie_prep.params import as_written
from nnie_prep.transforms import of_blob, transforms

NORMALISING = ("BatchNorm", "Bias", "MVN", "Power", "Scale")


@dataclass(frozen=True)
class Preprocessing:
    """`mean` has a value for each channel of the net in its order, one for all, or none.

    Either `mean` or `mean_file`, a .binaryproto, is given, or neither. `order` is "" where nobody said.
    `who` says where this comes from. `in_net`: the net does it, and is to be fed with raw values; with
    `open_mean` it scales them and subtracts nothing, so that a mean may be taken off before.
    """

    scale: float = 1.0
    mean: tuple[float, ...] = ()
    mean_file: Path | None = None
    order: str = ""
    who: str = ""
    in_net: bool = False
    open_mean: bool = False


def known_preprocessing(
    net: Net, blob: str, prototxt: Path, description: Mapping[str, Any], transform: Path | None = None
) -> Preprocessing | None:
    """What the files say of an input, None if they say nothing.

    Args:
        prototxt: the net's own.
        description: the STEM.json beside it, {} without one.
        transform: another prototxt that the user names, whose data layer has the transform_param.
    """
    folded = folded_into(net)
    if folded is not None and folded.blob == blob:
        fed, is_open = folded.feed or folded.order, not any(folded.mean)
        return Preprocessing(order=fed, who="--fold-input", in_net=True, open_mean=is_open)
    about = believable(
        next((one for one in described_inputs(description) if one.get("blob", blob) == blob), {})
    )
    if about.get("folded"):
        return Preprocessing(order=about.get("order", ""), who="--fold-input", in_net=True)
    if transform is not None:
        return transform_of(transform, blob)
    if about.get("scale"):
        return described_preprocessing(about, prototxt)
    if has_transform(prototxt):
        return transform_of(prototxt, blob)
    if (first := normalising_layer(net, blob)) and _can_have_read_bytes(first):
        return Preprocessing(who=f"layer {first.name}, which normalises it", in_net=True)
    return None


def believable(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What STEM.json says of an input: scale (one number), mean (numbers), mean_file and order only if they
    are such.

    The file is anybody's to edit, and what it says cannot be told from what we wrote.
    """
    found = dict(entry)
    names = ("scale", "mean", "mean_file", "order")
    scale, mean, mean_file, order = (found.pop(name, None) for name in names)
    if is_number(scale):
        found["scale"] = float(scale)
    if isinstance(mean, list | tuple) and all(map(is_number, mean)):
        found["mean"] = tuple(map(float, mean))
    found |= {"mean_file": mean_file} if isinstance(mean_file, str) else {}
    return found | ({"order": order} if order in ORDERS else {})


def described_preprocessing(about: Mapping[str, Any], prototxt: Path) -> Preprocessing:
    """What an entry of STEM.json that gives a scale says that is done to pictures."""
    about = believable(about)
    mean_file = _place_of(about["mean_file"], prototxt) if about.get("mean_file") else None
    mean, order = about.get("mean", ()), about.get("order", "")
    return Preprocessing(about["scale"], mean, mean_file, order, prototxt.with_suffix(".json").name)


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


def _can_have_read_bytes(layer: Layer) -> bool:
    """Whether a layer that normalises may have been trained on raw values.

    A BatchNorm keeps what it saw: values of 0..255 whose mean is m have a variance of at most m (255 - m)
    (Bhatia and Davis, A better bound on the variance, 2000). A mean was subtracted before where that does not
    hold, and a scale applied where m is below 1. A Scale is what is left of a BatchNorm, and keeps nothing.
    """
    if layer.type == "Scale":
        return False
    if layer.type != "BatchNorm" or len(layer.blobs) != 3:
        return True
    mean, variance, factor = (np.asarray(blob, np.float64).ravel() for blob in layer.blobs)
    if factor[0] == 0:
        return False
    mean, variance = mean / factor[0], variance / factor[0]
    return bool(np.all((mean >= 1) & (variance <= mean * (255 - mean))))


def has_transform(path: Path) -> bool:
    """Whether a prototxt says how pictures are transformed."""
    return bool(transforms(path))


def transform_of(path: Path, blob: str = "") -> Preprocessing:
    """What the data layers of a prototxt do to the pictures of an input; see transforms.py which of them.

    Raises UserError where no layer has a transform_param, or several have different ones. The mean file
    need not exist.
    """
    found = of_blob(transforms(path), blob)
    if not found:
        raise UserError(
            "has no layer with a transform_param", str(path), "give --mean, --scale and --order yourself"
        )
    if len(found) > 1:
        raise UserError(
            "has layers with different transform_param", str(path), "give --mean and --scale yourself"
        )
    param = found[0].param
    mean_file = _place_of(param.mean_file, path) if param.mean_file else None
    scale, mean = as_written(param.scale), tuple(map(as_written, param.mean_value))
    return Preprocessing(scale, mean, mean_file, "BGR", f"the transform_param of {path.name}")


def _place_of(name: str, prototxt: Path) -> Path:
    """The mean file that a prototxt names: from its own folder, or from where Caffe was started."""
    places = (prototxt.parent / name, Path(name))
    return next((path for path in places if is_file(path)), places[0])
