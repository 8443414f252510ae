"""What every pass promises: `check` runs passes over a net and looks whether they kept it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from strategies import Drawn

from nnie_prep.blob import Blob, pieces_of
from nnie_prep.blob_map import BlobMap, Note
from nnie_prep.engines.numpy import forward
from nnie_prep.net import Net, check_wiring
from nnie_prep.passes import Pass, run
from nnie_prep.shapes import blob_shapes, net_input_shapes, walk_shapes

# Weights are rounded to float32 once, which is 6e-8 of each; all else is float64 on both sides.
# Measured on 12,000 random nets, worst blob of each: 2e-7 in half of them, 2e-6 at the 99.9th percentile.
TOLERANCE = 1e-5
# A net that divides by what is nearly constant may magnify that rounding to any size. There the limit is
# this many times what changing each weight of the net by up to 6e-8 of it does. On 18,000 random nets
# no pass did more than 2 times as much, whatever its size.
TIMES_ROUNDING = 8


def content(net: Net) -> object:
    """All that makes up a net, to be compared."""
    layers = [
        (
            layer.proto.SerializeToString(deterministic=True),
            list(layer.bottoms),
            list(layer.tops),
            [(blob.shape, np.asarray(blob).tobytes()) for blob in layer.blobs],
        )
        for layer in net.layers
    ]
    return net.header.SerializeToString(deterministic=True), list(net.comments), layers


def fed(net: Net) -> list[str]:
    """The blobs that the net's sources give."""
    return net.inputs() + [name for layer in net.layers if layer.type.endswith("Data") for name in layer.tops]


def error(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """The largest difference, in units of a's standard deviation, or of its size where it is constant."""
    assert a.shape == b.shape
    if np.array_equal(a, b, equal_nan=True):
        return 0.0
    return float(np.abs(a - b).max()) / max(float(a.std()), 0.1 * float(np.abs(a).max()), 1e-12)


def check(drawn: Drawn, passes: Sequence[Pass]) -> dict[str, list[Note]]:
    """Runs passes one after the other, and checks what is promised of each; returns the notes.

    Outputs keep name, order and value unless a fate says otherwise; inputs keep name and shape.
    A blob name that survives as last writer keeps its value. A fate that names blobs is true of
    their values. There is a `changed` note exactly when the net changed, no weights are written
    to, and when the driver is done another sweep changes nothing.
    """
    before, after = drawn.net, drawn.net.copy()
    untouched = content(before)
    blob_map = BlobMap([*dict.fromkeys(before.header.input), *before.last_writers()])
    notes = {}
    for one in passes:
        old = content(after)
        notes |= run(after, [one], blob_map)
        assert (content(after) != old) == any(note.changed for note in notes[one.__name__])
        old = content(after)
        assert not any(note.changed for note in one(after))
        assert content(after) == old
    check_wiring(after)
    assert content(before) == untouched
    check_names(before, after, blob_map)
    check_shared(after)
    check_weights(after)
    if drawn.feeds:
        check_values(drawn, after, blob_map)
    return notes


def check_names(before: Net, after: Net, blob_map: BlobMap) -> None:
    left = set(fed(after)).union(after.last_writers())
    for name in blob_map.names():
        fate = blob_map[name]
        assert left.issuperset(fate.blobs), (name, fate)
        assert fate.blobs or fate.reason, (name, fate)
        assert name not in left or name in fate.blobs, (name, fate)

    assert all(blob_map[name].blobs == (name,) for name in before.wanted)
    kept = [name for old in before.outputs() for name in blob_map[old].blobs]
    reasons = [blob_map[name].reason for name in before.outputs()]
    new = set(after.outputs()).difference(kept)
    # Only what a loss was computed from may become an output, or what was cut off, and the tops beside it.
    assert not new or before.wanted or any(reason.startswith(("dropped", "cut")) for reason in reasons)
    known = {one for name in blob_map.names() for one in blob_map[name].blobs}
    assert all(name in known or (before.wanted and "_unread" in name) for name in new)
    assert [name for name in after.outputs() if name not in new] == kept

    assert fed(after) == [new for name in fed(before) for new in blob_map[name].blobs]
    shapes = {new: shape for name, shape in net_input_shapes(before).items() for new in blob_map[name].blobs}
    for name, shape in net_input_shapes(after).items():
        # Pictures become a batch of one, if anything.
        assert shape == shapes.get(name, shape) or (len(shape) == 4 and shape == (1, *shapes[name][1:]))


def check_shared(after: Net) -> None:
    """Weights that have one name are one, in Caffe."""
    shared: dict[str, bytes] = {}
    for layer in after.layers:
        for spec, blob in zip(layer.proto.param, layer.blobs, strict=False):
            if spec.name:
                values = np.asarray(blob).tobytes()
                assert shared.setdefault(spec.name, values) == values, (layer, spec.name)


def check_weights(after: Net) -> None:
    """New weights have the shapes that Caffe wants, or the pair could not be read again."""
    declared = net_input_shapes(after)
    if all(name in declared for name in after.inputs()):
        for layer, bottoms, _ in walk_shapes(after):
            if layer.blobs and bottoms is not None:
                found = [blob.shape for blob in layer.blobs]
                assert found == blob_shapes(layer, bottoms), (layer, found)
    for layer in after.layers:
        for blob in layer.blobs:
            _check_pieces(blob)


def _check_pieces(blob: Blob) -> None:
    """What is written is what is read, in parts of whole rows too."""
    whole = np.asarray(blob).tobytes()
    row = math.prod(blob.shape[1:])
    for unit in (1, row) if blob.size else ():
        pieces = [bytes(piece) for piece in pieces_of(blob, unit)]
        assert b"".join(pieces) == whole
        assert all(len(piece) % (4 * unit) == 0 for piece in pieces)


def check_values(drawn: Drawn, after: Net, blob_map: BlobMap) -> None:
    feeds = {new: drawn.feeds[name] for name in drawn.feeds for new in blob_map[name].blobs}
    for name, shape in net_input_shapes(after).items():
        feeds[name] = feeds[name][: shape[0]]
        assert feeds[name].shape == shape
    old: Mapping[str, NDArray[np.float64]] = forward(drawn.net, drawn.feeds, dtype=np.float64)
    new: Mapping[str, NDArray[np.float64]] = forward(after, feeds, dtype=np.float64)
    compared = 0
    for name, value in old.items():
        if blob_map[name].blobs:
            parts = [new[part] for part in blob_map[name].blobs]
            found = np.concatenate(parts, axis=1 if value.ndim > 1 else 0) if value.ndim else parts[0]
            if value.shape != found.shape:  # a batch of which the first is left
                value = value[: len(found)]
            off = error(value, found)
            if off >= TOLERANCE:
                limit = rounding(drawn.net, drawn.feeds, [name])
                limit = TIMES_ROUNDING * max(limit, rounding(after, feeds, blob_map[name].blobs))
                assert off < limit, (name, off, limit)
            compared += 1
    assert compared


def rounding(net: Net, feeds: Mapping[str, NDArray[np.float32]], names: Sequence[str]) -> float:
    """How far off the blobs are when every weight is off by up to 2^-24 of it; the worst of four draws."""
    exact = forward(net, feeds, names, dtype=np.float64)
    random = np.random.default_rng(0)
    worst = 0.0
    for _ in range(4):
        changed = net.copy()
        for layer in changed.layers:
            layer.blobs = [
                np.asarray(blob) * (1 + random.uniform(-1, 1, blob.shape) * 2.0**-24) for blob in layer.blobs
            ]
        found = forward(changed, feeds, names, dtype=np.float64)
        worst = max(worst, *(error(exact[name], found[name]) for name in names))
    return worst
