"""The order of the passes: what it must not matter for, and what it is for.

Whatever the order, the promises of contract.py hold. Some pairs give the same net either way. The others
stand as they do because a pass would find less, or call it otherwise, the other way round.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from contract import check, content
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import MOTIFS, Drawn, nets, random_net

from nnie_prep.blob_map import BlobMap
from nnie_prep.net import Net
from nnie_prep.passes import PASSES, Pass, names_of, run

BY_NAME = dict(zip(names_of(PASSES), PASSES, strict=True))

# Either looks at something that the other leaves as it is.
COMMUTE = [
    ("drop_unreachable", "insert_bias"),
    ("drop_training", "insert_bias"),
    ("drop_identity", "insert_bias"),
    ("insert_bias", "merge_batchnorm"),
    ("fold_batchnorm", "fold_scale"),
]
# A row of Scales around a BatchNorm is rounded once or twice: 6e-8 of each weight, and of what is subtracted.
ROUNDED = {("fold_batchnorm", "fold_scale"): 1e-6}

# What is different the other way round, in each of these pairs.
REASONS = {
    (
        "drop_training",
        "drop_identity",
    ): "what a loss reads is an output once it is gone, and keeps its name",
    ("drop_identity", "fold_scale_forward"): "an identity between would prevent the fold",
    ("insert_bias", "fold_batchnorm"): "without a bias there is nothing that a shift could go into",
    ("insert_bias", "fold_scale"): "without a bias there is nothing that a shift could go into",
    ("insert_bias", "fold_scale_forward"): "without a bias there is nothing that a shift could go into",
    (
        "fold_batchnorm",
        "fold_scale_forward",
    ): "it would go into the layer behind, which padding may spoil",
    ("fold_scale", "fold_scale_forward"): "it would go into the layer behind, which padding may spoil",
    ("fold_batchnorm", "merge_batchnorm"): "a BatchNorm that could be folded would stay, as a Scale",
    ("fold_scale_forward", "merge_batchnorm"): "what padding lets through layer by layer would be one Scale",
}


def both_ways(net: Net, pair: tuple[str, str]) -> tuple[Net, Net]:
    """The net after the two passes in either order, and after what comes before them in any case."""
    first, second = (BY_NAME[name] for name in pair)
    one = net.copy()
    run(one, PASSES[: PASSES.index(first)], BlobMap([]))
    other = one.copy()
    run(one, [first, second], BlobMap([]))
    run(other, [second, first], BlobMap([]))
    return one, other


def without_weights(net: Net) -> Net:
    twin = net.copy()
    for layer in twin.layers:
        layer.blobs = []
    return twin


@pytest.mark.parametrize("pair", COMMUTE, ids="-".join)
@settings(max_examples=60)
@given(drawn=nets())
def test_either_way(pair: tuple[str, str], drawn: Drawn) -> None:
    one, other = both_ways(drawn.net, pair)
    if pair not in ROUNDED:
        assert content(one) == content(other)
        return
    assert content(without_weights(one)) == content(without_weights(other))
    for a, b in zip(one.layers, other.layers, strict=True):
        for found, expected in zip(a.blobs, b.blobs, strict=True):
            x, y = (np.asarray(blob, dtype=np.float64) for blob in (found, expected))
            assert x.shape == y.shape
            assert (np.abs(x - y) <= ROUNDED[pair] * (np.abs(y) + np.abs(y).max(initial=0))).all()


@settings(max_examples=100)
@given(drawn=nets(), order=st.permutations(PASSES))
def test_in_any_order_the_promises_are_kept(drawn: Drawn, order: Sequence[Pass]) -> None:
    check(drawn, order)


def test_the_others_are_not_the_same_either_way() -> None:
    """Else what is said of the order would be wrong."""
    random = np.random.default_rng(1)
    drawn = []
    for seed in range(120):
        motifs = [MOTIFS[place] for place in random.integers(len(MOTIFS), size=random.integers(1, 6))]
        drawn.append(random_net(motifs, seed).net)
    for pair in REASONS:
        ways = (both_ways(net, pair) for net in drawn)
        assert any(content(one) != content(other) for one, other in ways), pair
