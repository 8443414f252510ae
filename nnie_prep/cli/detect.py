"""`detect`: what a detector sees in a picture, as a table and as a picture with boxes.

Its boxes are decoded from heads that STEM.json describes, or are the rows of the DetectionOutput that the
net ends in, or ended in before it was cut off.
"""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnie_prep import __version__
from nnie_prep.caffe_io import read_prototxt
from nnie_prep.cli.detect_kinds import Detector, darknet_detector, ssd_detector
from nnie_prep.cli.judges import computed
from nnie_prep.cli.placing import writing
from nnie_prep.cli.report import Progress, size_text, table
from nnie_prep.cli.weights import read_pair
from nnie_prep.detection import Detection
from nnie_prep.detection.cut_ssd import ssd_head, with_head
from nnie_prep.detection.detection_output import detection_output
from nnie_prep.detection.drawing import draw
from nnie_prep.detection.heads import read_description
from nnie_prep.detection.picture import encode, format_of, read_picture
from nnie_prep.errors import UserError
from nnie_prep.outputs import Outputs
from nnie_prep.outputs.input_files import is_file
from nnie_prep.outputs.made_inside import picture_made
from nnie_prep.proof import without_training

_MOST = 300  # boxes that are told and drawn: more hide the picture, and each other


@dataclass(frozen=True)
class Seen:
    """All that is reported."""

    found: list[Detection]
    detector: Detector
    output: Path


def detect_on_picture(options: Namespace) -> int:
    """Prints the table and writes the picture; finding nothing is an answer, too."""
    inputs = [options.prototxt, options.caffemodel, options.picture]
    also_read = [path for path in (options.names, options.tree, options.font, options.transform) if path]
    _check_files([*inputs, *also_read], "check the path")
    is_ssd = options.heads is None and detection_output(read_prototxt(options.prototxt)) is not None
    description_file = options.heads or options.prototxt.with_suffix(".json")
    if not is_ssd:
        hint = "--heads names the .json that was written with the pair"
        _check_files(
            [description_file], hint if options.heads else f"{hint}, or end the net in DetectionOutput"
        )
        inputs.append(description_file)
    output = options.output or options.picture.with_name(options.picture.stem + "_detected.png")
    kind = format_of(output)
    outputs = Outputs([output], inputs, also_read, force=options.force)
    with (
        writing(outputs, lambda: read_pair(options)) as out,
        Progress(not options.quiet and not options.json) as progress,
    ):
        head = None if is_ssd else ssd_head(description_file)
        is_ssd = is_ssd or head is not None
        description = None if is_ssd else read_description(description_file, options.tree)
        picture = read_picture(options.picture)
        progress("reading")
        net = without_training(read_pair(options))
        net = with_head(net, head) if head is not None else net
        detector = (
            ssd_detector(options, net, picture.size, is_cut=head is not None)
            if description is None
            else darknet_detector(options, net, picture, description)
        )
        progress("running the net")
        blobs, _ = computed(options, net, {detector.source: detector.fed}, sorted(detector.wanted))
        found = detector.decode(blobs)
        progress("drawing")
        drawn, lacking = draw(picture, found[:_MOST], detector.names, options.font)
        with out.open(output) as file:
            made = out.made(f"nnie_prep {__version__} detect")
            file.write(picture_made(encode(drawn, kind), kind, made))
        out.commit()
    if lacking and not options.quiet:
        what = f"no font has the letters of {lacking[0]!r}; --font names one"
        print(f"nnie_prep: warning: {what}", file=sys.stderr)
    seen = Seen(found, detector, output)
    if options.json:
        print(json.dumps(_json(options, seen), indent=2))
    elif not options.quiet:
        print("\n".join(_text(options, seen)))
    return 0


def _check_files(paths: Sequence[Path], hint: str) -> None:
    for path in paths:
        if not is_file(path):
            raise UserError("is no file" if os.path.lexists(path) else "does not exist", str(path), hint)


def _text(options: Namespace, seen: Seen) -> list[str]:
    detector = seen.detector
    width, height = detector.placement.picture
    how = "letterboxed" if detector.letterbox else "resized"
    to = "x".join(map(str, detector.placement.network))
    lines = [
        f"{options.picture.name} ({width}x{height}), {', '.join([f'{how} to {to}', *detector.told])}",
        "",
    ]
    if seen.found:
        rows = [
            (detector.names[one.kind], f"{one.confidence:.3f}", *(f"{edge:.0f}" for edge in one[2:]))
            for one in seen.found[:_MOST]
        ]
        lines.append(table(("class", "confidence", "left", "top", "right", "bottom"), rows))
        if len(seen.found) > _MOST:
            lines += [
                f"and {len(seen.found) - _MOST:,} more, which are not drawn either; --json has them all"
            ]
            lines += [
                "try a higher --threshold; if that leaves as many, the weights or what is fed are wrong"
            ]
    else:
        lines.append(f"nothing found with a confidence above {max(options.threshold, detector.least):g}")
        lines += _what_else(options, detector)
    if detector.ignored:
        lines += ["", f"not decoded: {', '.join(detector.ignored)}"]
    return [*lines, "", f"wrote {seen.output} ({size_text(seen.output.stat().st_size)})"]


def _what_else(options: Namespace, detector: Detector) -> list[str]:
    """What may find more, where there is such."""
    tries = ["a lower --threshold"] if options.threshold > detector.least else []
    if not detector.letterbox and detector.nms_kind != "DetectionOutput":
        tries.append("--letterbox, if your Darknet does so (pjreddie's does)")
    return [f"try {' or '.join(tries)}"] if tries else []


def _json(options: Namespace, seen: Seen) -> dict[str, Any]:
    """Sizes as [width, height]; edges in pixels of the picture."""
    detector = seen.detector
    return {
        "command": "detect",
        "picture": str(options.picture),
        "picture_size": list(detector.placement.picture),
        "network_size": list(detector.placement.network),
        "letterbox": detector.letterbox,
        "fed": detector.told,
        "threshold": max(options.threshold, detector.least),
        "nms": detector.nms,
        "nms_kind": detector.nms_kind,
        "ignored_heads": list(detector.ignored),
        "outputs": [str(seen.output)],
        "detections": [{"name": detector.names[one.kind], **one._asdict()} for one in seen.found],
    }
