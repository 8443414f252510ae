"""The passes on nets that real Caffe runs, before and after."""

from __future__ import annotations

import numpy as np
import pytest
from golden import FOLDER, read
from in_caffe import compare_in_caffe
from strategies import MOTIFS, conv_five_blobs, random_net

from nnie_prep.passes.fold_scale_forward import fold_scale_forward


@pytest.mark.caffe
@pytest.mark.parametrize("seed", range(3))
def test_every_motif(seed: int) -> None:
    """One net of all motifs in random order. Float32 on both sides, so that depth adds noise."""
    known = [motif for motif in MOTIFS if motif is not conv_five_blobs]  # which is NVCaffe's
    random = np.random.default_rng(seed)
    motifs = [known[place] for place in random.permutation(len(known))]
    drawn = next(
        one for one in (random_net(motifs, 100 * seed + n) for n in range(99)) if "label" not in one.feeds
    )
    assert any(note.changed for note in compare_in_caffe(drawn, 5e-4))


@pytest.mark.caffe
@pytest.mark.parametrize(
    "case",
    [
        *("factor_zero", "grouped_deconvolution", "inner_product", "scale_on_either_side"),
        *("power_and_bias", "shared_by_twins"),
    ],
)
def test_golden_cases(case: str) -> None:
    notes = compare_in_caffe(read(FOLDER / "fold_batchnorm" / f"{case}.prototxt").drawn, 1e-5)
    assert all(note.changed for note in notes)


@pytest.mark.caffe
@pytest.mark.parametrize(
    "case",
    [
        *("depthwise", "deconvolution", "grouped_convolution", "in_place", "input"),
        *("inner_product", "padded_scale", "transposed_inner_product"),
    ],
)
def test_golden_cases_forward(case: str) -> None:
    notes = compare_in_caffe(read(FOLDER / "fold_scale_forward" / f"{case}.prototxt").drawn, 1e-5)
    assert any("forward into" in note.text for note in notes)


@pytest.mark.caffe
@pytest.mark.parametrize("case", ["behind_concat", "in_place_ends_row", "two_rows", "whole_row"])
def test_golden_cases_merged(case: str) -> None:
    notes = compare_in_caffe(read(FOLDER / "merge_batchnorm" / f"{case}.prototxt").drawn, 1e-5)
    assert any("into one Scale" in note.text for note in notes)


@pytest.mark.caffe
@pytest.mark.parametrize(
    "case",
    ["copy_needs_not_protect", "copy_protects", "shared_memory_far_away", "split", "split_overwritten"],
)
def test_memory_that_caffe_shares(case: str) -> None:
    """Where drop_identity says that memory is overwritten, Caffe's numbers depend on it."""
    compare_in_caffe(read(FOLDER / "drop_identity" / f"{case}.prototxt").drawn, 1e-5)


@pytest.mark.caffe
@pytest.mark.parametrize("case", ["memory_copied", "memory_in_place"])
def test_memory_that_a_fold_must_not_expose(case: str) -> None:
    drawn = read(FOLDER / "fold_scale_forward" / f"{case}.prototxt").drawn
    compare_in_caffe(drawn, 1e-5, [fold_scale_forward])


@pytest.mark.caffe
@pytest.mark.parametrize("folder", ["drop_identity", "fold_batchnorm", "fold_scale"])
def test_memory_that_a_convolution_must_not_move_past(folder: str) -> None:
    compare_in_caffe(read(FOLDER / folder / "moves_past_shared_memory.prototxt").drawn, 1e-5)


@pytest.mark.caffe
def test_memory_that_is_read_between_what_could_be_merged() -> None:
    compare_in_caffe(read(FOLDER / "merge_batchnorm" / "shared_memory_read_between.prototxt").drawn, 1e-5)
