"""What the compiler wrote of every layer, compared with what the net computes.

nnie_mapper leaves a folder mapper_quant with a file for each bottom and top of each layer, of the last
calibration picture, one number a line, in the order of (C, H, W):

    <layer>_output<i>_<C>_<H>_<W>_quant.linear.hex        int32 with 12 binary places, in hexadecimal
    <layer>_input<i>_<C>_<H>_<W>_anti_quant.linear.float  what the layer read, back in floats
    <layer>_input<i>_<C>_<H>_<W>_quant.nonlinear.hex      the same as codes; not read here

and RuyiStudio's simulation writes seg<s>_layer<n>_output<i>_inst.linear.hex, which says a number in place
of a name. (Notes on the compiler's files, one source; a blog on RuyiStudio's for the last.)
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnie_prep.blob import Array
from nnie_prep.engines.numpy import forward, forward_layer
from nnie_prep.errors import UserError
from nnie_prep.net import Layer, Net
from nnie_prep.quantization.simulation import cosine, snr

FRACTION_BITS = 12

_FILE = re.compile(
    r"(?P<layer>.+)_(?P<side>input|output)(?P<index>\d+)_(?P<extents>\d+(?:_\d+)*)"
    r"_(?:anti_quant|quant|func|inst)\.linear\.(?P<form>hex|float)"
)


@dataclass(frozen=True)
class Dump:
    """A file of numbers, and which bottom or top of which layer it holds. `extents`: (C, H, W) or fewer."""

    path: Path
    layer: str
    side: str  # "input" or "output"
    index: int
    extents: tuple[int, ...]


@dataclass(frozen=True)
class Comparison:
    """A dump beside our blob. `after` names the in-place layer up to which ours was computed, or is "";
    `snr` is in decibels of the net's signal to the difference."""

    layer: str
    side: str
    index: int
    extents: tuple[int, ...]
    after: str
    cosine: float
    snr: float


def find_dumps(folder: Path) -> tuple[list[Dump], list[str]]:
    """The dumps of a folder by file name, and the names of files that look like dumps and say no layer."""
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise UserError(
            f"cannot be read: {error.strerror}", str(folder), "give the compiler's folder mapper_quant"
        ) from None
    found, others = [], []
    for path in files:
        if match := _FILE.fullmatch(path.name):
            extents = tuple(map(int, match["extents"].split("_")))
            found.append(Dump(path, match["layer"], match["side"], int(match["index"]), extents))
        elif ".linear." in path.name:
            others.append(path.name)
    if not found:
        raise UserError(
            "holds no dump of a layer",
            str(folder),
            "with log_level 3 it has files like conv1_output0_32_208_208_quant.linear.hex",
        )
    return found, others


def read_dump(path: Path) -> Array:
    """The numbers of a dump, flat, in float64. Raises UserError with file:line where one cannot be read."""
    try:
        lines = path.read_text(encoding="ascii", errors="replace").split("\n")
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", str(path)) from None
    convert = _from_hexadecimal if path.name.endswith(".hex") else float
    numbers: list[float] = []
    for place, line in enumerate(lines):
        for word in line.replace(",", " ").split():
            try:
                numbers.append(convert(word))
            except ValueError:
                raise UserError(
                    f"{word!r} is no {'hexadecimal of 32 bits' if convert is not float else 'number'}",
                    f"{path}:{place + 1}",
                    "let the compiler write the file again",
                ) from None
    return np.array(numbers, np.float64)


def _from_hexadecimal(word: str) -> float:
    """Two's complement of 32 bits with 12 binary places."""
    value = int(word, 16)
    if not 0 <= value < 1 << 32:
        raise ValueError(word)
    signed = value - (1 << 32) if value >> 31 else value
    return signed / (1 << FRACTION_BITS)


def compare_dumps(
    net: Net, feeds: Mapping[str, Array], dumps: Sequence[Dump]
) -> tuple[list[Comparison], list[str]]:
    """The dumps in the net's order beside our blobs, and why the others could not be compared.

    The compiler may take an in-place layer together with the layer before it; a top is compared with ours
    as it is and as each in-place layer behind leaves it, and the closest counts.
    """
    by_layer, problems = _match_layers(net, dumps)
    bottoms_of: dict[Layer, list[Array]] = {}
    tops_of: dict[Layer, list[Array]] = {}

    def record(layer: Layer, bottoms: list[Array]) -> list[Array]:
        bottoms_of[layer], tops_of[layer] = bottoms, forward_layer(layer, bottoms)
        return tops_of[layer]

    forward(net, feeds, compute=record)
    found = []
    for layer in net.layers:
        for dump in by_layer.get(layer, []):
            ours = bottoms_of if dump.side == "input" else tops_of
            if dump.index >= len(ours.get(layer, [])):
                problems.append(f"{dump.path.name}: layer {layer.name} computes no {dump.side} {dump.index}")
                continue
            candidates = [("", ours[layer][dump.index])]
            if dump.side == "output":
                candidates += _in_place_behind(net, layer, dump.index, tops_of)
            numbers = read_dump(dump.path)
            if numbers.size != candidates[0][1].size:
                problems.append(
                    f"{dump.path.name}: {numbers.size} numbers, and the blob has {candidates[0][1].size}"
                )
                continue
            found.append(_closest(dump, layer.name, numbers, candidates))
    return found, problems


def _in_place_behind(
    net: Net, layer: Layer, index: int, tops_of: Mapping[Layer, list[Array]]
) -> list[tuple[str, Array]]:
    """The in-place layers that change this top, one behind the other, and what each makes of it."""
    name = layer.tops[index]
    found = []
    while (readers := net.readers(layer, layer.tops.index(name))) and name in readers[-1].tops:
        layer = readers[-1]
        if layer not in tops_of:
            break
        found.append((layer.name, tops_of[layer][layer.tops.index(name)]))
    return found


def _closest(dump: Dump, layer: str, numbers: Array, candidates: Sequence[tuple[str, Array]]) -> Comparison:
    results = [
        Comparison(
            layer,
            dump.side,
            dump.index,
            dump.extents,
            after,
            cosine(value.reshape(-1), numbers),
            snr(value.reshape(-1), numbers),
        )
        for after, value in candidates
    ]
    return max(results, key=lambda result: result.snr)


def _match_layers(net: Net, dumps: Sequence[Dump]) -> tuple[dict[Layer, list[Dump]], list[str]]:
    """Dumps by layer. A name that a file cannot have (conv1/dw) is found with _ in place of its marks."""
    exact = {layer.name: layer for layer in net.layers}
    similar: dict[str, list[Layer]] = {}
    for layer in net.layers:
        similar.setdefault(_as_file_name(layer.name), []).append(layer)
    found: dict[Layer, list[Dump]] = {}
    problems = []
    for dump in dumps:
        candidates = (
            [exact[dump.layer]] if dump.layer in exact else similar.get(_as_file_name(dump.layer), [])
        )
        if len(candidates) == 1:
            found.setdefault(candidates[0], []).append(dump)
        else:
            names = " or ".join(layer.name for layer in candidates)
            problems.append(
                f"{dump.path.name}: layer {dump.layer!r} "
                + (f"may be {names}" if names else "is not in the net")
            )
    return found, problems


def _as_file_name(name: str) -> str:
    return re.sub(r"[^0-9A-Za-z]", "_", name)
