"""The promises of contract.py, on random nets with layers that NNIE or stock Caffe has not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from contract import check
from foreign import FOREIGN, foreign_nets
from hypothesis import given, settings
from strategies import Drawn, random_net

from nnie_prep.blob_map import BlobMap
from nnie_prep.passes import PASSES, Pass, run
from nnie_prep.passes.pipelines import ALL_PASSES, NNIE_PASSES, STOCK_PASSES

pytestmark = pytest.mark.slow

BEYOND = [one for one in ALL_PASSES if one not in PASSES]
OTHERS = {"replace_inputs", "drop_heads", "rename_long_names"}  # which change inputs and outputs
REPLACING = [one for one in BEYOND if one.__name__ not in OTHERS]
PIPELINES = {"nnie": NNIE_PASSES, "caffe": STOCK_PASSES}
each_pipeline = pytest.mark.parametrize("passes", PIPELINES.values(), ids=list(PIPELINES))


@pytest.mark.parametrize("one", BEYOND, ids=lambda one: one.__name__)
@settings(max_examples=60)
@given(drawn=foreign_nets())
def test_each_pass(one: Pass, drawn: Drawn) -> None:
    check(drawn, [one])


@each_pipeline
@settings(max_examples=100)
@given(drawn=foreign_nets())
def test_all_passes_in_their_order(passes: Sequence[Pass], drawn: Drawn) -> None:
    check(drawn, passes)


@each_pipeline
@settings(max_examples=60)
@given(drawn=foreign_nets())
def test_all_passes_a_second_time_change_nothing(passes: Sequence[Pass], drawn: Drawn) -> None:
    run(drawn.net, passes, BlobMap([]))
    again = run(drawn.net, passes, BlobMap([]))
    assert not [note for notes in again.values() for note in notes if note.changed]


# These never decline on random nets, whose shapes and weights are all known.
NEVER_DECLINE = (
    *("replace_depthwise_convolution", "replace_pass_through", "replace_shuffle_channel", "replace_upsample"),
)


def test_the_random_nets_make_every_pass_fire_and_decline(capsys: pytest.CaptureFixture[str]) -> None:
    """Without this the properties above would hold for passes that do nothing."""
    count = 300
    fired, declined = Counter[Pass](), Counter[Pass]()
    random = np.random.default_rng(7)
    for seed in range(count):
        motifs = [FOREIGN[place] for place in random.integers(len(FOREIGN), size=random.integers(2, 6))]
        drawn = random_net(motifs, seed)
        for one in REPLACING:
            notes = one(drawn.net.copy())
            fired[one] += any(note.changed for note in notes)
            declined[one] += any(not note.changed for note in notes)
    with capsys.disabled():
        print(f"\nof {count} random nets")
        for one in REPLACING:
            print(f"  {one.__name__:30} fires in {fired[one]:3}, declines in {declined[one]:3}")
    for one in REPLACING:
        assert fired[one] >= 8, one.__name__
        assert declined[one] or one.__name__ in NEVER_DECLINE, one.__name__
