"""What STEM.json says of a net's inputs: what a data layer did in training, and what --fold-input took in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nnie_prep.blob_map import BlobMap
from nnie_prep.description import described_inputs
from nnie_prep.net import Net
from nnie_prep.normalization import Normalization
from nnie_prep.transforms import described, transforms


def trained_with(about: dict[str, Any], prototxt: Path, net: Net, blob_map: BlobMap) -> list[dict[str, Any]]:
    """The entries that a description has, and one for each other input of which its data layer tells.

    A data layer goes when a net is made one for inference, and would take with it what nobody else says.

    Args:
        prototxt: that the net was made of.
        blob_map: from its blobs to those of the net.
    """
    entries = described_inputs(about)
    said = {entry.get("blob") for entry in entries}
    found = transforms(prototxt)
    for name in net.inputs():
        own = [one for one in found if one.blob == name or _became(one.blob, name, blob_map)]
        if not own and len(net.inputs()) == 1:
            own = found
        entry = described(own, own[0].blob) if own and name not in said else {}
        entries += [{"blob": name} | entry] if entry else []
    return entries


def _became(blob: str, name: str, blob_map: BlobMap) -> bool:
    return blob in blob_map.names() and blob_map[blob].blobs == (name,)


def folded_in(entries: list[dict[str, Any]], folded: Normalization) -> list[dict[str, Any]]:
    """The entries where that of one input says what the net itself does to its pictures."""
    new = folded.description()
    old = next((entry for entry in entries if entry.get("blob") == folded.blob), {})
    kept = {key: value for key, value in old.items() if key != "mean_file"}
    rest = [entry for entry in entries if entry is not old]
    return [kept | new, *rest]
