"""What STEM.json says: where each Darknet layer's output lies, and how each head is decoded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nnie_prep.blob_map import BlobMap, Fate, place
from nnie_prep.darknet.conversion import Conversion


def describe(conversion: Conversion, blob_map: BlobMap | None = None) -> dict[str, Any]:
    """The description as JSON values, kept true through the passes by their map of the blobs.

        layers: [{index, section, line, blob | blobs | none, inexact?}]
        heads:  [{index, section, line, blob | blobs | none, type, shape, ...}]    see heads.py
        input:  {blob, shape, range, scale, order, letter_box}

    `blobs` are to be concatenated along the channels; `none` is the reason why there is no blob; `inexact`
    is what the user had computed in the place of the section.
    """
    layers = []
    for layer in conversion.layers:
        fate = _fate(layer.blobs, blob_map) if layer.blobs else Fate((), layer.none)
        entry = {"index": layer.index, "section": layer.section, "line": layer.line, **place(fate)}
        layers.append(entry | ({"inexact": layer.inexact} if layer.inexact else {}))
    heads = []
    for head in conversion.heads:
        rest = {key: value for key, value in head.items() if key != "blob"}
        first = {key: rest.pop(key) for key in ("index", "section", "line")}
        heads.append({**first, **place(_fate([head["blob"]], blob_map)), **rest})
    heads += blob_map.heads if blob_map else []
    source = dict(conversion.input)
    if "blob" in source:
        source |= place(_fate([source["blob"]], blob_map))
    return {"layers": layers, "heads": heads, "input": source}


def _fate(blobs: Iterable[str], blob_map: BlobMap | None) -> Fate:
    return blob_map.joined(blobs) if blob_map else Fate(tuple(blobs))
