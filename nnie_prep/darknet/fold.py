"""Folding BatchNorm inside Darknet's own files: a cfg with batch_normalize=0 and a shorter weights file.

    fold = read_fold(Path("yolov3.cfg"), Path("yolov3.weights"))
    fold.write_weights(file)                  # a block of 4 MB at a time
    file.write(fold.cfg_text)                 # the cfg byte for byte, but for the values that changed
    fold.folded, fold.notes                   # indices of the sections; what was left, and why

    y = scale * (W x - mean) / D + bias  becomes  (scale / D * W) x + (bias - scale / D * mean)

with D = sqrt(variance + 1e-5), or sqrt(variance) + 1e-6 (AlexeyAB blas.c:292, pjreddie blas.c:154), in
float64, rounded once. The weights file keeps its version and with it the layout of its matrices: those of
`flipped` convolutions and, above version 1000, of [connected] stay transposed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from nnie_prep.blob import Array
from nnie_prep.darknet.cfg import Section, read_cfg
from nnie_prep.darknet.reference import Reference
from nnie_prep.darknet.reference.convolution import STATISTICS
from nnie_prep.darknet.weights import BatchNormForm, Flavor, Taken, WeightsFile
from nnie_prep.errors import UserError
from nnie_prep.weights import (
    Factors,
    Layout,
    batchnorm_factors,
    scale_factors,
    scale_output_channels,
    vector,
)

# Floats that lie in memory at a time.
_BLOCK = 1 << 20

_BOM = b"\xef\xbb\xbf"
# A key, blanks, an integer whose digits may have blanks between them as everything in a cfg, a remark.
_OPTION = re.compile(rb"([^=]*=[ \t\r]*)([+-]?[ \t\r]*[0-9](?:[ \t\r]*[0-9])*)(.*)", re.DOTALL)

# cbn=1 is batch_normalize=2 (AlexeyAB parser.c parse_convolutional).
_SWITCHES = {"convolutional": ("batch_normalize", "cbn"), "connected": ("batch_normalize",)}


@dataclass(eq=False)
class Fold:
    """A pair of files and what becomes of it.

    `folded` are the indices of the sections whose BatchNorm is gone, those included that share another's
    weights. `cfg_text` is the new cfg without a head comment. `floats` are those of the file before and
    after.
    """

    reference: Reference
    folded: list[int]
    notes: list[str]
    cfg_text: bytes
    floats: tuple[int, int]
    _file: WeightsFile
    _factors: Mapping[int, Factors]

    def write_weights(self, file: BinaryIO, progress: Callable[[str], None] = lambda text: None) -> None:
        """Writes the new weights file. UserError: the old one was changed meanwhile."""
        old = self._file
        if old.header_bytes == old.header.length:
            file.write(old.header.start[: old.header_bytes])
        else:
            file.write(old.header.as_darknet_reads_it(old.header_bytes))
        for number, taken in enumerate(old.taken, 1):
            progress(f"writing tensor {number} of {len(old.taken)}")
            for values in _tensor(old, taken, self._factors.get(taken.section.index)):
                file.write(np.ascontiguousarray(values, "<f4").data)


def read_fold(
    cfg: Path, weights: Path, *, flavor: Flavor = "alexeyab", bn_form: BatchNormForm = "standard"
) -> Fold:
    """Reads both files and computes what every BatchNorm does.

    UserError: as darknet.reference.load; among others weights that are not all in the file.
    """
    sections = read_cfg(cfg)
    file = WeightsFile(weights, flavor)
    reference = Reference(sections, file, flavor, bn_form)
    factors, notes = _all_factors(file, bn_form)
    owners = _owners(reference.sections, flavor)
    folded = [index for index, owner in owners.items() if owner in factors]
    for section in reference.sections:
        if section.type == "batchnorm":
            notes.append(
                f"{section} in line {section.line} stays: it stands alone, and Darknet cannot fold it"
            )
    if file.note:
        notes.append(f"{weights}: {file.note}; the new file has the header that Darknet reads")
    gone = sum(
        taken.size for taken in file.taken if taken.section.index in factors and taken.what in STATISTICS
    )
    return Fold(
        reference=reference,
        folded=folded,
        notes=notes,
        cfg_text=_edited(cfg, [section for section in reference.sections if section.index in folded]),
        floats=(file.floats, file.floats - gone),
        _file=file,
        _factors=factors,
    )


def _all_factors(file: WeightsFile, bn_form: BatchNormForm) -> tuple[dict[int, Factors], list[str]]:
    """What the BatchNorm of each section does that has its own; and why some must stay."""
    found: dict[int, Factors] = {}
    notes: list[str] = []
    by_section: dict[int, dict[str, Taken]] = {}
    for taken in file.taken:
        by_section.setdefault(taken.section.index, {})[taken.what] = taken
    for index, tensors in by_section.items():
        section = next(iter(tensors.values())).section
        if section.type not in _SWITCHES or "scales" not in tensors:
            continue
        biases, scales, mean, variance = (file.stored(tensors[what]) for what in ("biases", *STATISTICS))
        factors = _batch_norm(mean, variance, bn_form).then(scale_factors(scales, biases))
        if factors.are_finite():
            found[index] = factors
        else:
            notes.append(
                f"{section} in line {section.line} stays: its BatchNorm gives numbers that are not finite"
            )
    return found, notes


def _batch_norm(mean: Array, variance: Array, bn_form: BatchNormForm) -> Factors:
    if bn_form == "standard":
        return batchnorm_factors(mean, variance, 1.0, 1e-5)
    # sqrt(D^2 + 0) with D = sqrt(variance) + 1e-6
    with np.errstate(invalid="ignore"):
        return batchnorm_factors(mean, np.square(np.sqrt(vector(variance)) + 1e-6), 1.0, 0.0)


def _owners(sections: list[Section], flavor: Flavor) -> dict[int, int]:
    """Section with BatchNorm -> the one whose weights it has: itself, or by share_index another's."""
    owners: dict[int, int] = {}
    for section in (section.unasked() for section in sections):
        if any(section.int(key, 0) for key in _SWITCHES.get(section.type, ())):
            owner = section.index
            if section.type == "convolutional" and flavor == "alexeyab" and section.has("share_index"):
                written = section.int("share_index", 0)
                owner = owners[written if written >= 0 else section.index + written]
            owners[section.index] = owner
    return owners


# ---- the weights file ------------------------------------------------------------------------


def _tensor(file: WeightsFile, taken: Taken, factors: Factors | None) -> Iterator[Array]:
    """The floats of one tensor, in the order of the file, as they are to be written."""
    if factors is None or taken.what not in ("biases", "weights", *STATISTICS):
        yield from (file.stored(taken, first, count) for first, count in _blocks(taken.size, 1))
    elif taken.what == "biases":
        yield factors.shift.astype(np.float32)
    elif taken.what == "weights":
        yield from _weights(file, taken, factors)


def _weights(file: WeightsFile, taken: Taken, factors: Factors) -> Iterator[Array]:
    """Whole rows of the stored matrix at a time: (filters, the rest), or transposed."""
    filters = taken.shape[0]
    transposed = _is_transposed(file, taken.section)
    row = filters if transposed else taken.size // filters
    layout: Layout = "in, out" if transposed else "out, in"
    for first, count in _blocks(taken.size, row):
        values = file.stored(taken, first, count).reshape(-1, row)
        rows = slice(first // row, first // row + len(values))
        scale = factors.scale if transposed else factors.scale[rows]
        yield scale_output_channels(values, scale, layout)


def _is_transposed(file: WeightsFile, section: Section) -> bool:
    """Whether the output channel is the index that runs fastest in the file."""
    if section.type == "connected":
        return file.transposed
    return bool(section.unasked().int("flipped", 0))


def _blocks(size: int, row: int) -> Iterator[tuple[int, int]]:
    """(first, count) of parts that are whole rows and, if rows are no longer than that, fit a block."""
    step = max(_BLOCK // row, 1) * row
    for first in range(0, size, step):
        yield first, min(step, size - first)


# ---- the cfg ---------------------------------------------------------------------------------


def _edited(cfg: Path, sections: list[Section]) -> bytes:
    """The file with batch_normalize=0 (and cbn=0) in the sections, and nothing else changed.

    A byte order mark is taken off, as Darknet stumbles over it.
    """
    try:
        lines = cfg.read_bytes().removeprefix(_BOM).split(b"\n")
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", str(cfg), "check the path") from None
    for section in sections:
        for key in _SWITCHES[section.type]:
            if section.unasked().int(key, 0):
                number = section.line_of(key)
                lines[number - 1] = _switched_off(lines[number - 1], section.where(key))
    return b"\n".join(lines)


def _switched_off(line: bytes, where: str) -> bytes:
    """The line of an option with the value 0; what stands before and behind the number is kept."""
    match = _OPTION.fullmatch(line)
    if match is None:  # it was one when the cfg was read
        raise UserError("was changed while it was read", where, "run the command again")
    return match[1] + b"0" + match[3]
