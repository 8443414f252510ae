"""STEM.json: where the output of every source layer is in the written pair, and how heads are decoded.

    {"made_by": {command, inputs, options, passes, outputs},
     "layers": [{index, section, line, blob} | {.., blobs: [..]} | {.., none: reason}],      Darknet
     "heads": [{index, section, line, type, blob, anchors, mask, classes, stride, ..}],      Darknet
     "blobs": {name: {blob} | {blobs} | {none}},                                             Caffe
     "heads": [{layer, line, type, output, ..}],                     Caffe, see passes/head_descriptions.py
     "input": {blob, scale, mean, mean_file, order, range, ..}}      of one input; "inputs": [..] of several

A command that changes a pair which has such a file beside it writes one that is true of its result.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from nnie_prep.blob_map import BlobMap, Fate, fate_at, place, relocated
from nnie_prep.errors import UserError
from nnie_prep.outputs.input_files import is_file, read_input
from nnie_prep.outputs.made_by import Made, hash_of, made_from


def describe_surgery(prototxt: Path, blob_map: BlobMap) -> dict[str, Any]:
    """What became of a Caffe net's blobs, and of the description beside it if it has one of ours."""
    document = _beside(prototxt)
    if document is None:
        blobs = {name: place(blob_map[name]) for name in blob_map.names()}
        return {"blobs": blobs} | ({"heads": blob_map.heads} if blob_map.heads else {})
    document = relocated(document, blob_map.joined)
    if blob_map.heads:
        document["heads"] = document.get("heads", []) + blob_map.heads
    return {key: value for key, value in document.items() if key != "made_by"}


def description_of(prototxt: Path) -> dict[str, Any]:
    """The STEM.json beside a prototxt; {} where there is none, or something else of that name."""
    try:
        document = json.loads(read_input(prototxt.with_suffix(".json")))
    except (UserError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) and "made_by" in document else {}


def described_fates(prototxt: Path, names: Collection[str]) -> dict[str, Fate]:
    """What became of the blobs of the Caffe net that a pair was made of, as the description says that was
    written with it; {} where there is none, or where it is about a net with other blobs than these."""
    blobs = (_beside(prototxt) or {}).get("blobs", {})
    if blobs.keys() != set(names):
        return {}
    return {name: fate_at(blobs[name]) for name in names}


def described_inputs(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a description says of the net's inputs: `input`, or where there are several entries `inputs`."""
    entries = document.get("inputs", [document.get("input")])
    return [one for one in entries if isinstance(one, dict)] if isinstance(entries, list) else []


def describe_inputs(document: dict[str, Any], entries: Sequence[dict[str, Any]]) -> None:
    """Writes the entries about the inputs into a description, in the place of those that it has."""
    for key in ("input", "inputs"):
        document.pop(key, None)
    if len(entries) == 1:
        document["input"] = entries[0]
    elif entries:
        document["inputs"] = list(entries)


def is_number(value: Any) -> bool:
    """Whether a JSON value is a number that float64 holds; JSON has integers of any length."""
    return type(value) in (int, float) and -sys.float_info.max <= value <= sys.float_info.max


def as_text(document: dict[str, Any]) -> str:
    """The document as JSON that is pleasant to read: one line for each entry of its lists and maps."""
    parts = []
    for key, value in document.items():
        if isinstance(value, dict):
            inner = [f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in value.items()]
        elif isinstance(value, list):
            inner = [_entry_text(entry) for entry in value]
        else:
            parts.append(f"  {json.dumps(key)}: {json.dumps(value)}")
            continue
        opening, closing = ("{", "}") if isinstance(value, dict) else ("[", "]")
        body = "".join(f"\n    {line}," for line in inner).rstrip(",")
        parts.append(f"  {json.dumps(key)}: {opening}{body}\n  {closing}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _entry_text(entry: Any) -> str:
    """An entry in a line, with a line for each of the objects that a list in it holds."""
    if not isinstance(entry, dict):
        return json.dumps(entry)
    parts = []
    for key, value in entry.items():
        text = json.dumps(value)
        if isinstance(value, list) and any(isinstance(one, dict) for one in value):
            text = "[" + ",".join(f"\n      {json.dumps(one)}" for one in value) + "]"
        parts.append(f"{json.dumps(key)}: {text}")
    return "{" + ", ".join(parts) + "}"


def _beside(prototxt: Path) -> dict[str, Any] | None:
    """The description that was written together with a prototxt of ours."""
    path = prototxt.with_suffix(".json")
    made = made_from(prototxt)
    if made is None or not is_file(path) or hash_of(path) not in made.output_hashes():
        return None
    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f"is not JSON: {error}", str(path), "remove it, or write the pair anew") from None
    return document


def made_by(made: Made, passes: Mapping[str, int] | None = None) -> dict[str, Any]:
    """The part that says what made the files: enough to make them again, byte for byte.

    No version of Python or of a library is in it: the bytes do not depend on them, and would by that.

    Args:
        passes: how much each pass changed, in the order in which they ran.
    """
    return {
        "made_by": {
            "command": made.command,
            "inputs": [{"name": name, "xxh128": digest} for name, digest in made.inputs],
            "options": list(made.options),
            **({} if passes is None else {"passes": dict(passes)}),
            "outputs": [{"name": name, "xxh128": digest} for name, digest in made.outputs],
        }
    }
