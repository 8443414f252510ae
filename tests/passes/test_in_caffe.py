"""The passes on nets that real Caffe runs, before and after."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from contract import error
from golden import FOLDER, read
from numpy.typing import NDArray
from strategies import MOTIFS, Drawn, conv_five_blobs, random_net

from nnie_prep.blob_map import BlobMap, Note
from nnie_prep.engines import caffe_engine
from nnie_prep.net import Net
from nnie_prep.passes import PASSES, Pass, run
from nnie_prep.passes.fold_scale_forward import fold_scale_forward


def compare_in_caffe(
    drawn: Drawn, folder: Path, tolerance: float, passes: Sequence[Pass] = PASSES
) -> list[Note]:
    """Runs passes and compares each blob that is left; returns the notes."""
    after = drawn.net.copy()
    blob_map = BlobMap([*drawn.net.header.input, *drawn.net.last_writers()])
    notes = run(after, passes, blob_map)
    old, new = (in_caffe(net, drawn.feeds, folder) for net in (drawn.net, after))
    found = [(name, blob_map[name].blobs) for name in old if blob_map[name].blobs]
    assert found
    for name, (kept,) in found:
        assert error(old[name].astype(np.float64), new[kept].astype(np.float64)) < tolerance, name
    return [note for one in notes.values() for note in one]


def in_caffe(net: Net, feeds: dict[str, NDArray[np.float32]], folder: Path) -> dict[str, NDArray[np.float32]]:
    return caffe_engine.forward(python(), *caffe_engine.write_pair(net, folder), feeds, None)


@functools.cache
def python() -> str:
    return caffe_engine.find_caffe_python(None)


@pytest.mark.caffe
@pytest.mark.parametrize("seed", range(3))
def test_every_motif(seed: int, tmp_path: Path) -> None:
    """One net of all motifs in random order. Float32 on both sides, so that depth adds noise."""
    known = [motif for motif in MOTIFS if motif is not conv_five_blobs]  # which is NVCaffe's
    random = np.random.default_rng(seed)
    motifs = [known[place] for place in random.permutation(len(known))]
    drawn = next(
        one for one in (random_net(motifs, 100 * seed + n) for n in range(99)) if "label" not in one.feeds
    )
    assert any(note.changed for note in compare_in_caffe(drawn, tmp_path, 5e-4))


@pytest.mark.caffe
@pytest.mark.parametrize(
    "case",
    [
        *("factor_zero", "grouped_deconvolution", "inner_product", "scale_on_either_side"),
        *("power_and_bias", "shared_by_twins"),
    ],
)
def test_golden_cases(case: str, tmp_path: Path) -> None:
    notes = compare_in_caffe(read(FOLDER / "fold_batchnorm" / f"{case}.prototxt").drawn, tmp_path, 1e-5)
    assert all(note.changed for note in notes)


@pytest.mark.caffe
@pytest.mark.parametrize(
    "case",
    [
        *("depthwise", "deconvolution", "grouped_convolution", "in_place", "input"),
        *("inner_product", "padded_scale", "transposed_inner_product"),
    ],
)
def test_golden_cases_forward(case: str, tmp_path: Path) -> None:
    notes = compare_in_caffe(read(FOLDER / "fold_scale_forward" / f"{case}.prototxt").drawn, tmp_path, 1e-5)
    assert any("forward into" in note.text for note in notes)


@pytest.mark.caffe
@pytest.mark.parametrize("case", ["behind_concat", "in_place_ends_row", "two_rows", "whole_row"])
def test_golden_cases_merged(case: str, tmp_path: Path) -> None:
    notes = compare_in_caffe(read(FOLDER / "merge_batchnorm" / f"{case}.prototxt").drawn, tmp_path, 1e-5)
    assert any("into one Scale" in note.text for note in notes)


@pytest.mark.caffe
@pytest.mark.parametrize(
    "case",
    ["copy_needs_not_protect", "copy_protects", "shared_memory_far_away", "split", "split_overwritten"],
)
def test_memory_that_caffe_shares(case: str, tmp_path: Path) -> None:
    """Where drop_identity says that memory is overwritten, Caffe's numbers depend on it."""
    compare_in_caffe(read(FOLDER / "drop_identity" / f"{case}.prototxt").drawn, tmp_path, 1e-5)


@pytest.mark.caffe
@pytest.mark.parametrize("case", ["memory_copied", "memory_in_place"])
def test_memory_that_a_fold_must_not_expose(case: str, tmp_path: Path) -> None:
    drawn = read(FOLDER / "fold_scale_forward" / f"{case}.prototxt").drawn
    compare_in_caffe(drawn, tmp_path, 1e-5, [fold_scale_forward])
