"""The passes that every Caffe net may go through, in the order in which they run, and the driver.

A pass is one public function in a file of its name: a single sweep over the net that returns a
`Note` for each thing it did or declined to do. The driver repeats a pass until it changes nothing.

pipelines.py  all passes for NNIE, and for stock Caffe
lowering.py   which pass replaces a layer that some Caffe has not
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable

from nnie_prep.blob_map import BlobMap, Note
from nnie_prep.net import Net
from nnie_prep.passes.drop_identity import drop_identity
from nnie_prep.passes.drop_training import drop_training
from nnie_prep.passes.drop_unreachable import drop_unreachable
from nnie_prep.passes.fold_batchnorm import fold_batchnorm
from nnie_prep.passes.fold_scale import fold_scale
from nnie_prep.passes.fold_scale_forward import fold_scale_forward
from nnie_prep.passes.insert_bias import insert_bias
from nnie_prep.passes.merge_batchnorm import merge_batchnorm

Pass = Callable[[Net], list[Note]]

PASSES: tuple[Pass, ...] = (
    drop_unreachable,  # first: what leads to no output that is wanted must not hold up what follows
    drop_training,  # before the rest: what only training needs would be a second reader to all that follow
    drop_identity,  # a Dropout or Split between a convolution and its BatchNorm would prevent the fold
    insert_bias,  # folding needs a bias to fold into
    fold_batchnorm,  # with the Scale behind it, in one rounding
    fold_scale,  # what scales and shifts channels without a BatchNorm
    fold_scale_forward,  # only what has no layer with weights before it: forwards, padding may spoil it
    merge_batchnorm,  # last: a fold leaves nothing where this leaves a Scale
)


def names_of(passes: Iterable[Pass]) -> list[str]:
    """The passes' names, as `--skip` takes them."""
    return [one.__name__ for one in passes]


def summary_of(one: Callable[..., list[Note]]) -> str:
    """What a pass says of itself, in a line."""
    return (sys.modules[one.__module__].__doc__ or "").partition("\n")[0]


def run(
    net: Net, passes: Iterable[Pass], blob_map: BlobMap, skip: Collection[str] = ()
) -> dict[str, list[Note]]:
    """Runs the passes over the net in place, and returns the notes of each pass by its name.

    A note that a pass repeats in a later sweep (a layer that it declines each time) is kept once.
    """
    notes: dict[str, list[Note]] = {}
    for one in passes:
        if one.__name__ in skip:
            continue
        kept: list[Note] = []
        while True:
            sweep = one(net)
            changes = [note for note in sweep if note.changed]
            blob_map.follow(changes)
            kept += changes
            if not changes:
                break
        notes[one.__name__] = kept + sweep
    return notes
