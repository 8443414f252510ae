"""`detect`: what a net's detection heads see in a picture, as a table and as a picture with boxes."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnie_prep import __version__
from nnie_prep.caffe_io import read_net
from nnie_prep.cli.judges import engine_of
from nnie_prep.cli.report import Progress, count_text, size_text, table
from nnie_prep.cli.weights import reader_of
from nnie_prep.detection import Detection, detect
from nnie_prep.detection.drawing import draw
from nnie_prep.detection.heads import Description, read_description
from nnie_prep.detection.picture import as_planes, encode, format_of, read_picture
from nnie_prep.detection.preparation import Placement, prepare
from nnie_prep.errors import UserError
from nnie_prep.net import Net
from nnie_prep.normalization import folded_into
from nnie_prep.outputs import Outputs
from nnie_prep.outputs.made_inside import picture_made
from nnie_prep.proof import without_training
from nnie_prep.shapes import infer_shapes


@dataclass(frozen=True)
class Seen:
    """All that is reported."""

    found: list[Detection]
    names: Sequence[str]
    placement: Placement
    letterbox: bool
    description: Description
    output: Path


def detect_on_picture(options: Namespace) -> int:
    """Prints the table and writes the picture; finding nothing is an answer, too."""
    given = [options.prototxt, options.caffemodel, options.picture]
    also_read = [path for path in (options.names, options.tree, options.font) if path]
    _check_files([*given, *also_read], "check the path")
    description_file = options.heads or options.prototxt.with_suffix(".json")
    _check_files([description_file], "--heads names the .json that was written with the pair")
    inputs = [*given, description_file]
    output = options.output or options.picture.with_name(options.picture.stem + "_detected.png")
    kind = format_of(output)
    with (
        Outputs([output], inputs, also_read, force=options.force) as out,
        Progress(not options.quiet and not options.json) as progress,
    ):
        description = read_description(description_file, options.tree)
        names = _names(options.names, description)
        picture = read_picture(options.picture)
        progress("reading")
        net = read_net(options.prototxt, options.caffemodel, read_weights=reader_of(options))
        net = without_training(net)
        _check_blobs(net, description)
        source, (channels, height, width) = _input(net)
        letterbox = description.letterbox if options.letterbox is None else options.letterbox
        x, placement = prepare(as_planes(picture, channels), width, height, letterbox)
        folded = folded_into(net)
        fed = folded.undo(x[None]) if folded else x[None]
        progress("running the net")
        wanted = {name for head in description.heads for name in head.blobs}
        blobs = engine_of(options).run(net, {source: fed}, wanted=wanted)
        missing = sorted(wanted - blobs.keys())
        if missing:
            raise UserError(
                f"the {options.engine} engine cannot compute {', '.join(missing)}: unknown layer type",
                str(options.prototxt),
                "use --engine caffe with a Caffe that has the layer",
            )
        found = detect(description.heads, blobs, placement, options.threshold, options.nms)
        progress("drawing")
        drawn, lacking = draw(picture, found, names, options.font)
        with out.open(output) as file:
            made = out.made(f"nnie_prep {__version__} detect")
            file.write(picture_made(encode(drawn, kind), kind, made))
        out.commit()
    if lacking and not options.quiet:
        what = f"no font has the letters of {lacking[0]!r}; --font names one"
        print(f"nnie_prep: warning: {what}", file=sys.stderr)
    seen = Seen(found, names, placement, letterbox, description, output)
    if options.json:
        print(json.dumps(_json(options, seen), indent=2))
    elif not options.quiet:
        print("\n".join(_text(options, seen)))
    return 0


def _check_files(paths: Sequence[Path], hint: str) -> None:
    for path in paths:
        if not path.is_file():
            raise UserError("is no file" if path.exists() else "does not exist", str(path), hint)


def _names(path: Path | None, description: Description) -> Sequence[str]:
    """The classes' names: the file's, the tree's, or numbers."""
    count = description.classes
    if path is None:
        return description.heads[0].names or [str(number) for number in range(count)]
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", str(path), "check the path") from None
    except UnicodeDecodeError:
        raise UserError("is not a text in UTF-8", str(path), "give a file with a name on each line") from None
    while lines and not lines[-1].strip():
        lines.pop()
    if len(lines) != count:
        raise UserError(
            f"holds {count_text(len(lines), 'name')}, and the heads have {count} classes",
            str(path),
            "give the names that the network was trained with, one on each line",
        )
    return ["".join(one if one.isprintable() else "?" for one in line.strip()) for line in lines]


def _check_blobs(net: Net, description: Description) -> None:
    known = set(net.blob_names())
    for head in description.heads:
        for name in head.blobs:
            if name not in known:
                raise UserError(
                    f"reads blob {name}, which {net.source} has not",
                    head.where,
                    "--heads names the .json that was written with the pair",
                )


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


def _text(options: Namespace, seen: Seen) -> list[str]:
    width, height = seen.placement.picture
    how = "letterboxed" if seen.letterbox else "resized"
    to = "x".join(map(str, seen.placement.network))
    lines = [f"{options.picture.name} ({width}x{height}), {how} to {to}", ""]
    if seen.found:
        rows = [
            (seen.names[one.kind], f"{one.confidence:.3f}", *(f"{edge:.0f}" for edge in one[2:]))
            for one in seen.found
        ]
        lines.append(table(("class", "confidence", "left", "top", "right", "bottom"), rows))
    else:
        lines.append(f"nothing found with a confidence above {options.threshold:g}")
    if seen.description.ignored:
        lines += ["", f"not decoded: {', '.join(seen.description.ignored)}"]
    return [*lines, "", f"wrote {seen.output} ({size_text(seen.output.stat().st_size)})"]


def _json(options: Namespace, seen: Seen) -> dict[str, Any]:
    """Sizes as [width, height]; edges in pixels of the picture."""
    return {
        "command": "detect",
        "picture": str(options.picture),
        "picture_size": list(seen.placement.picture),
        "network_size": list(seen.placement.network),
        "letterbox": seen.letterbox,
        "threshold": options.threshold,
        "nms": options.nms,
        "nms_kind": seen.description.heads[-1].nms_kind,
        "ignored_heads": list(seen.description.ignored),
        "outputs": [str(seen.output)],
        "detections": [{"name": seen.names[one.kind], **one._asdict()} for one in seen.found],
    }
