"""`diff`: what is not the same in two Caffe nets."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nnie_prep import diff as nets
from nnie_prep.caffe_io import read_net
from nnie_prep.cli.report import Progress, count_text, json_value, shape_text, table
from nnie_prep.cli.weights import has_weights, reader_of
from nnie_prep.diff import BlobChange, Difference, ValueChange
from nnie_prep.errors import UserError
from nnie_prep.net import Layer, Net

_FEW = 20  # rows of a table without -v


def diff(options: Namespace) -> int:
    """Compares two nets; 0 if nothing differs, 1 otherwise."""
    pairs = _pairs(options.files)
    warnings: list[str] = []
    with_weights = [len(pair) == 2 for pair in pairs]
    read_weights = reader_of(options)
    a, b = (read_net(pair[0], pair[1] if len(pair) == 2 else None, warnings, read_weights) for pair in pairs)
    with Progress(not options.quiet and not options.json) as progress:
        found = nets.diff(a, b, weights=all(with_weights), progress=progress)
    if options.json:
        print(json.dumps(_json(found, pairs, a, b, all(with_weights)), indent=2))
    elif not options.quiet:
        for warning in warnings:
            print(f"nnie_prep: warning: {warning}", file=sys.stderr)
        print("\n".join(_text(found, with_weights, options.verbose)))
    return 0 if found.is_empty else 1


def _pairs(files: Sequence[Path]) -> list[tuple[Path, ...]]:
    """The two nets' files: a prototxt begins a net, and a caffemodel belongs to the one before it."""
    if len(files) == 4:
        return [(files[0], files[1]), (files[2], files[3])]
    pairs: list[tuple[Path, ...]] = []
    for path in files:
        if not has_weights(path):
            pairs.append((path,))
        elif pairs and len(pairs[-1]) == 1:
            pairs[-1] += (path,)
        else:
            raise UserError("is weights without a prototxt before it", str(path), _USAGE)
    if len(pairs) != 2:
        raise UserError(f"{count_text(len(pairs), 'prototxt')} given, and two nets are compared", hint=_USAGE)
    return pairs


_USAGE = "give A.prototxt [A.caffemodel] B.prototxt [B.caffemodel]"


# ---- for people --------------------------------------------------------------------------------


def _text(found: Difference, with_weights: Sequence[bool], verbose: bool) -> list[str]:
    counts = (
        f"{len(found.removed)} removed, {len(found.added)} added, {len(found.moved)} moved, "
        f"{len(found.changed)} changed of {count_text(found.common, 'common layer')}"
    )
    lines = [f"{'EQUAL' if found.is_empty else 'DIFFERS'}: {counts}", _weights_text(with_weights)]
    header = [(change.what, _value(change.a), _value(change.b)) for change in found.header]
    lines += _section("header", ("header", "A", "B"), header, verbose)
    for title, layers in (("removed", found.removed), ("added", found.added)):
        lines += _section(title, (title, "type", "from"), [_layer_row(layer) for layer in layers], verbose)
    lines += _section("moved", ("moved",), [(name,) for name in found.moved], verbose)
    parameters = [
        (change.a.name, value.what, _value(value.a), _value(value.b))
        for change in found.changed
        for value in change.values
    ]
    lines += _section("parameters", ("layer", "parameter", "A", "B"), parameters, verbose)
    shapes = [
        (change.a.name, value.what, _shape(value.a), _shape(value.b))
        for change in found.changed
        for value in change.shapes
    ]
    lines += _section("shapes", ("layer", "top", "A", "B"), shapes, verbose)
    blobs = [(change.a.name, blob) for change in found.changed for blob in change.blobs]
    head = ("layer", "weights", "A", "B", "differing", "max abs", "relative")
    return lines + _section("weights", head, [_blob_row(*blob) for blob in blobs], verbose)


def _weights_text(with_weights: Sequence[bool]) -> str:
    if all(with_weights):
        return "  weights compared, value by value"
    missing = [name for name, given in zip("AB", with_weights, strict=True) if not given]
    return f"  weights not compared: no caffemodel is given for {' and '.join(missing)}"


def _section(title: str, head: Sequence[str], rows: Sequence[Sequence[object]], verbose: bool) -> list[str]:
    """A table, without -v only its first rows."""
    if not rows:
        return []
    shown = rows if verbose or len(rows) <= _FEW else rows[: _FEW - 1]
    lines = ["", table(head, shown)]
    if len(shown) < len(rows):
        lines.append(f"and {len(rows) - len(shown)} more in {title} (-v lists them)")
    return lines


def _layer_row(layer: Layer) -> tuple[str, ...]:
    return layer.name, layer.type, layer.origin


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "unset" if value is None else str(value)


def _shape(shape: Sequence[int] | None) -> str:
    return "?" if shape is None else shape_text(shape)


def _blob_row(layer: str, blob: BlobChange) -> tuple[str, ...]:
    shapes = ["none" if shape is None else shape_text(shape) for shape in (blob.a, blob.b)]
    if blob.differing is None or blob.max_abs is None or blob.relative is None:
        return layer, str(blob.index), *shapes, "", "", ""
    return (
        layer,
        str(blob.index),
        *shapes,
        f"{blob.differing:,}",
        f"{blob.max_abs:.1e}",
        f"{blob.relative:.1e}",
    )


# ---- for machines ------------------------------------------------------------------------------


def _json(
    found: Difference, pairs: Sequence[Sequence[Path]], a: Net, b: Net, weights_compared: bool
) -> dict[str, Any]:
    sides = [
        {"files": [str(path) for path in pair], "layers": len(net.layers)}
        for pair, net in zip(pairs, (a, b), strict=True)
    ]
    return {
        "equal": found.is_empty,
        "a": sides[0],
        "b": sides[1],
        "weights_compared": weights_compared,
        "header": [_change_json(change) for change in found.header],
        "removed": [_layer_json(layer) for layer in found.removed],
        "added": [_layer_json(layer) for layer in found.added],
        "moved": found.moved,
        "changed": [
            {
                "name": change.a.name,
                "origins": [change.a.origin, change.b.origin],
                "parameters": [_change_json(value) for value in change.values],
                "shapes": [_change_json(value) for value in change.shapes],
                "weights": [_blob_json(blob) for blob in change.blobs],
            }
            for change in found.changed
        ],
    }


def _layer_json(layer: Layer) -> dict[str, Any]:
    return {
        "name": layer.name,
        "type": layer.type,
        "bottoms": layer.bottoms,
        "tops": layer.tops,
        "origin": layer.origin,
    }


def _change_json(change: ValueChange) -> dict[str, Any]:
    return {"what": change.what, "a": json_value(change.a), "b": json_value(change.b)}


def _blob_json(blob: BlobChange) -> dict[str, Any]:
    return {
        "index": blob.index,
        "a": blob.a,
        "b": blob.b,
        "differing": blob.differing,
        "max_abs": json_value(blob.max_abs),
        "relative": json_value(blob.relative),
    }
