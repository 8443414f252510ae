"""What `mapper-cfg` is asked of the inputs: how they are normalised, and from which pictures or tensors."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite, nan
from pathlib import Path
from typing import Any

from nnie_prep.cli.report import count_text
from nnie_prep.description import description_of
from nnie_prep.errors import UserError
from nnie_prep.names import meant
from nnie_prep.net import Net
from nnie_prep.nnie import cfg_draft
from nnie_prep.nnie.calibration import (
    check_beginning,
    find_pictures,
    read_mean_values,
    resized_copy,
    sample,
    tensor_lines,
)
from nnie_prep.nnie.limits import Limits
from nnie_prep.nnie.mapper_cfg import FEATURE_MAP, path_text
from nnie_prep.nnie.preprocessing import Preprocessing, known_preprocessing, normalising_layer
from nnie_prep.normalization import folded_into
from nnie_prep.outputs.input_files import is_file
from nnie_prep.proof import read_feeds
from nnie_prep.shapes import Shape, net_input_shapes


def asked_preprocessing(
    options: Namespace, net: Net, name: str, shape: Shape, limits: Limits, prototxt: Path | None = None
) -> Preprocessing | None:
    """What is done to an input: what the user says, over what the files say. None for what is no picture.

    Raises UserError where nobody says anything.
    """
    if not cfg_draft.takes_pictures(shape, limits) or _given(options.tensors, name, "--tensors"):
        return None
    fed_otherwise = _fed_otherwise(options, net, name, limits)
    return preprocessing_of(options, net, name, prototxt or options.prototxt, fed_otherwise)


def preprocessing_of(
    options: Namespace, net: Net, name: str, prototxt: Path, fed_otherwise: bool = False
) -> Preprocessing:
    """What is done to the pictures of an input: what the user says, over what the files say.

    Raises UserError where nobody says anything. With `fed_otherwise` what is said without an input's name
    may be meant for another input.
    """
    known = known_preprocessing(net, name, prototxt, description_of(prototxt), options.transform)
    changes = _changes(options, name)
    if known is not None and known.who == "--fold-input" and {"scale", "mean"} & changes.keys():
        named = any(text.startswith(f"{name}=") for text in (*options.scale, *options.mean))
        if named or not fed_otherwise:
            if known.open_mean and "scale" not in changes:
                return replace(known, **changes, who="as asked", in_net=False)
            raise UserError(
                f"input {name} is normalised by the net itself ({known.who})",
                "--scale and --mean",
                "leave them out",
            )
        changes = {key: value for key, value in changes.items() if key == "order"}
    if not changes:
        if known is None:
            only = f"{name}=" if len(net.inputs()) > 1 else ""
            first = normalising_layer(net, name)
            before = f", before its layer {first.name}" if first else ""
            raise UserError(
                f"nobody says how input {name} was normalised in training{before}",
                str(prototxt),
                f"give --transform train_val.prototxt, or --scale, --mean and --order (raw: --scale {only}1)",
            )
        return known
    if known is not None and known.in_net and {"scale", "mean"} & changes.keys():
        known = None
    return replace(known or Preprocessing(), **changes, who="as asked", in_net=bool(known and known.in_net))


def is_asked(options: Namespace, name: str) -> bool:
    """Whether the user says how an input is normalised."""
    return bool(_changes(options, name))


def _fed_otherwise(options: Namespace, net: Net, name: str, limits: Limits) -> bool:
    """Whether pictures go into another input too, which the net does not normalise as asked."""
    folded = folded_into(net)
    shapes = net_input_shapes(net)
    return any(
        cfg_draft.takes_pictures(shape, limits) and not _given(options.tensors, other, "--tensors")
        for other, shape in shapes.items()
        if other not in (name, folded.blob if folded else "")
    )


def _changes(options: Namespace, name: str) -> dict[str, Any]:
    """What --scale, --mean and --order say of an input."""
    found: dict[str, Any] = {}
    if scale := _given(options.scale, name, "--scale"):
        try:
            found["scale"] = float(scale)
        except ValueError:
            found["scale"] = nan
        if not isfinite(found["scale"]) or found["scale"] == 0:
            raise UserError("is no factor", f"--scale {scale}", "write 0.017, say")
    if options.order is not None:
        found["order"] = options.order.upper()
    if mean := _given(options.mean, name, "--mean"):
        path = Path(mean)
        is_image = path.suffix == ".binaryproto"
        if is_image and not is_file(path):
            raise UserError("does not exist", str(path), "check the path")
        found["mean"] = () if is_image else _mean_values(mean)
        found["mean_file"] = path if is_image else None
    return found


def _mean_values(text: str) -> tuple[float, ...]:
    """104,117,123, or a file with a value a line."""
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if values and all(map(isfinite, values)):
        return values
    if not is_file(Path(text)):
        raise UserError(
            "is neither numbers nor a file",
            f"--mean {text}",
            "write 104,117,123, in the net's order",
        )
    return tuple(read_mean_values(Path(text)))


@dataclass
class Calibration:
    """The list of an input, what is written for it, and what that is made from."""

    image_list: Path
    image_type: int
    stem: str
    files: dict[Path, bytes] = field(default_factory=dict)
    read: list[Path] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def calibration(
    options: Namespace, target: Path, name: str, shapes: Mapping[str, Shape], limits: Limits
) -> Calibration:
    """The pictures or tensors that the user has for an input, as a list. `shapes`: of all inputs."""
    shape = shapes[name]
    folder, tensors = _given(options.images, name, "--images"), _given(options.tensors, name, "--tensors")
    if folder and tensors:
        raise UserError(f"input {name} has pictures and tensors", "--images, --tensors", "choose one")
    stem = target.stem.removesuffix("_mapper")
    stem += f"_{name}" if len(shapes) > 1 else ""
    if tensors:
        same = {one: shapes[one] for one in shapes if _given(options.tensors, one, "--tensors") == tensors}
        return _tensors(Path(tensors), target.with_name(f"{stem}_tensors.txt"), stem, name, same)
    if not cfg_draft.takes_pictures(shape, limits):
        found = Calibration(target.with_name(f"{stem}_tensors.txt"), FEATURE_MAP, stem)
        found.warnings.append(f"no list is written for input {name}: give --tensors {name}=FILE.npy")
        return found
    if options.image_type != 1 and shape[1] != 3:
        raise UserError(
            f"--image-type {options.image_type} is YUV of three channels, and input {name} has {shape[1]}",
            hint="leave --image-type out",
        )
    found = Calibration(target.with_name(f"{stem}_images.txt"), options.image_type, stem)
    if not folder:
        found.warnings.append(
            f"no list is written for input {name}: give --images FOLDER of 20 to 50 pictures"
        )
        return found
    _choose(options, found, Path(folder), target, shape, limits)
    return found


def _choose(
    options: Namespace, found: Calibration, folder: Path, target: Path, shape: Shape, limits: Limits
) -> None:
    """Chooses pictures, copies them if asked, and lists them."""
    suffixes = limits["picture_suffixes"].one_of or ()
    pictures = find_pictures(folder, suffixes)
    chosen = sample(pictures, options.count, options.seed)
    limit = limits["calibration_pictures"]
    if len(chosen) < (limit.at_least or 0):
        found.warnings.append(
            f"{folder}: {count_text(len(chosen), 'picture')}; {limit} typical ones make good ranges"
        )
    found.read += chosen
    if options.resize:
        copies = target.with_name(f"{found.stem}_images")
        digits = len(str(len(chosen)))
        for number, path in enumerate(chosen, 1):
            copy = copies / f"{number:0{digits}d}_{_plain(path.stem)}.bmp"
            found.files[copy] = resized_copy(path, shape)
        chosen = list(found.files)
    else:
        for path in chosen:
            check_beginning(path)
    names = [path_text(path, target, options.absolute) for path in chosen]
    text = "".join(f"{name}\n" for name in names)
    found.files[found.image_list] = text.encode("utf-8", "surrogateescape")


def _plain(name: str) -> str:
    """A file name that every program reads."""
    return "".join(one if one.isascii() and (one.isalnum() or one in "._-") else "_" for one in name)[:60]


def _tensors(path: Path, image_list: Path, stem: str, name: str, shapes: Mapping[str, Shape]) -> Calibration:
    """A list of tensors from an array of N x the input's shape; `shapes`: of all inputs that the file has."""
    values, shape = read_feeds(path, shapes)[name], shapes[name]
    if values.shape[1:] != tuple(shape[1:]):
        raise UserError(
            f"input {name!r} has shape {values.shape}, and the net wants {tuple(shape)}",
            str(path),
            "save tensors of the size that the prototxt declares",
        )
    return Calibration(image_list, FEATURE_MAP, stem, {image_list: tensor_lines(values)}, [path])


def check_names(options: Namespace, inputs: Sequence[str]) -> None:
    """UserError for INPUT=VALUE that names none of the net's inputs."""
    for option in ("images", "tensors", "mean", "scale"):
        for text in getattr(options, option):
            key, sign, _ = text.partition("=")
            if sign and key not in inputs:
                hint = meant(key, inputs) or f"choose from {', '.join(inputs)}"
                raise UserError(f"the net has no input {key!r}", f"--{option} {text}", hint)


def _given(texts: Sequence[str], name: str, option: str) -> str:
    """What INPUT=VALUE says for an input, or VALUE alone for all that are not named, or ""."""
    pairs = [text.partition("=") for text in texts]
    own = [value for key, sign, value in pairs if sign and key == name]
    found = own or [key for key, sign, _ in pairs if not sign]
    if len(found) > 1:
        raise UserError(f"{option} is given {len(found)} times for input {name}", hint="write INPUT=VALUE")
    if found and not found[0]:
        raise UserError(f"says nothing for input {name}", option, "write INPUT=VALUE, or leave it out")
    return found[0] if found else ""
