"""Merge a BatchNorm, and the Scale, Bias and Power layers in a row with it, into one Scale.

    before:  x -> BatchNorm -> Scale -> y        after:  x -> Scale -> y

The Scale has the name of the last Scale of the row, or of the BatchNorm if there is none.

Declined for use_global_stats: false, for a variance that leaves no finite result, for weights that are
not loaded, and where layers that share them have different values. The row ends where anything else
reads what is between, or that is an output of the net, and where a blob that a layer in place of the
row wrote would have another value.
"""

from __future__ import annotations

import numpy as np

from nnie_prep.blob_map import Fate, Note
from nnie_prep.memory import why_not_joined
from nnie_prep.net import Layer, Net
from nnie_prep.nnie_caffe_pb2 import LayerParameter
from nnie_prep.passes.followers import FOLLOWERS, follower_factors, is_follower
from nnie_prep.passes.sharing import Sharing
from nnie_prep.weights import Factors


def merge_batchnorm(net: Net) -> list[Note]:
    """Merges each row that has a BatchNorm in it."""
    if not any(layer.type == "BatchNorm" for layer in net.layers):
        return []
    notes = []
    sharing = Sharing(net)
    merged: set[Layer] = set()
    for layer in list(net.layers):
        if layer in merged or not is_follower(layer):
            continue
        run, factors = _row(net, layer, sharing)
        if any(one.type == "BatchNorm" for one in run):
            merged.update(run)
            notes.append(_merge(net, run, factors))
    for layer in net.layers:
        if layer.type == "BatchNorm":
            reason = follower_factors(layer)[1] or sharing.dispute(layer)
            notes.append(Note(layer.name, f"not merged: {reason}", changed=False))
    return notes


def _row(net: Net, first: Layer, sharing: Sharing) -> tuple[list[Layer], Factors]:
    """The layers that can become one, and what they do together; none if the first cannot."""
    rows: list[tuple[list[Layer], Factors]] = [([], Factors(np.array(1.0), np.array(0.0)))]
    one: Layer | None = first
    while one is not None:
        run, total = rows[-1]
        factors, _ = follower_factors(one)
        if factors is None or sharing.dispute(one):
            break
        if total.scale.ndim and not factors.fit(total.scale.size):
            break
        total = total.then(factors)
        if not total.are_finite() or (run and why_not_joined(net, (*run, one))):
            break
        rows.append(([*run, one], total))
        one, _ = net.only_reader(one, *FOLLOWERS)
    # What is first in place overwrites a blob that nothing of a shorter row would write.
    while first.bottoms == first.tops and rows[-1][0] and rows[-1][0][-1].tops != first.tops:
        rows.pop()
    return rows[-1]


def _merge(net: Net, run: list[Layer], factors: Factors) -> Note:
    """Makes one Scale of the run's layers."""
    texts = ", ".join(f"{one.name} ({one.type})" for one in run)
    scale, *others = run
    between = dict.fromkeys(one.tops[0] for one in run)
    del between[run[-1].tops[0]]
    for other in others:
        net.absorb(scale, other)
    names = {one.type: one.name for one in run}
    scale.proto = LayerParameter(name=names.get("Scale", names["BatchNorm"]), type="Scale")
    scale.proto.scale_param.bias_term = True
    scale.blobs = [np.asarray(values, dtype=np.float32) for values in factors]
    fate = Fate((), f"merged into {scale.name}")
    return Note(scale.name, f"merged {texts} into one Scale", fates=dict.fromkeys(between, fate))
