"""The promises of contract.py, on random nets."""

from __future__ import annotations

import numpy as np
import pytest
from contract import check
from hypothesis import given, settings
from strategies import MOTIFS, Drawn, nets, random_net

from nnie_prep.blob_map import BlobMap
from nnie_prep.passes import PASSES, Pass, run


@pytest.mark.parametrize("one", PASSES, ids=lambda one: one.__name__)
@settings(max_examples=60)
@given(drawn=nets())
def test_each_pass(one: Pass, drawn: Drawn) -> None:
    check(drawn, [one])


@settings(max_examples=150)
@given(drawn=nets())
def test_all_passes_in_their_order(drawn: Drawn) -> None:
    check(drawn, PASSES)


@settings(max_examples=100)
@given(drawn=nets())
def test_all_passes_a_second_time_change_nothing(drawn: Drawn) -> None:
    run(drawn.net, PASSES, BlobMap([]))
    again = run(drawn.net, PASSES, BlobMap([]))
    assert not [note for notes in again.values() for note in notes if note.changed]


def test_the_random_nets_make_every_pass_fire_and_decline(capsys: pytest.CaptureFixture[str]) -> None:
    """Without this the properties above would hold for passes that do nothing."""
    count = 200
    fired, declined = dict.fromkeys(PASSES, 0), dict.fromkeys(PASSES, 0)
    random = np.random.default_rng(7)
    for seed in range(count):
        motifs = [MOTIFS[place] for place in random.integers(len(MOTIFS), size=random.integers(1, 6))]
        notes = check(random_net(motifs, seed), PASSES)
        for one in PASSES:
            fired[one] += any(note.changed for note in notes[one.__name__])
            declined[one] += any(not note.changed for note in notes[one.__name__])
    with capsys.disabled():
        print(f"\nof {count} random nets")
        for one in PASSES:
            print(f"  {one.__name__:18} fires in {fired[one]:3}, declines in {declined[one]:3}")
    for one in PASSES:
        assert fired[one] >= count // 4, one.__name__
    for name in ("drop_identity", "fold_batchnorm", "fold_scale", "fold_scale_forward"):
        assert declined[next(one for one in PASSES if one.__name__ == name)] >= count // 20, name
