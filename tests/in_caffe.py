"""Nets before and after passes, as real Caffe computes them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from contract import error
from numpy.typing import NDArray
from strategies import Drawn

from nnie_prep.blob_map import BlobMap, Note
from nnie_prep.net import Net
from nnie_prep.passes import PASSES, Pass, run
from nnie_prep.proof import Engine


def compare_in_caffe(drawn: Drawn, tolerance: float, passes: Sequence[Pass] = PASSES) -> list[Note]:
    """Runs passes and compares each blob that is left; returns the notes."""
    after = drawn.net.copy()
    blob_map = BlobMap([*drawn.net.header.input, *drawn.net.last_writers()])
    notes = run(after, passes, blob_map)
    old, new = (in_caffe(net, drawn.feeds) for net in (drawn.net, after))
    found = [(name, blob_map[name].blobs) for name in old if blob_map[name].blobs]
    assert found
    for name, (kept,) in found:
        assert error(old[name].astype(np.float64), new[kept].astype(np.float64)) < tolerance, name
    return [note for one in notes.values() for note in one]


def in_caffe(net: Net, feeds: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    return Engine("caffe").run(net, feeds)
