"""Reading a Darknet weights file: a header, then float32 numbers in the order of the cfg.

    weights = WeightsFile(Path("yolov3-tiny.weights"), flavor="alexeyab")
    biases = weights.take((16,), "biases", section)              # in the order of the stream
    kernel = weights.take((16, 3, 3, 3), "weights", section)
    matrix = weights.take((10, 1024), "weights", section, stored="by_version")
    weights.finish()                                             # where the header ends is known only now
    np.asarray(kernel)                                           # reads 432 floats, each time anew
    weights.note                                                 # "", or which header was assumed and why

`take` only records; `finish` finds out where the numbers begin, checks that the file holds exactly what
was taken, and raises UserError otherwise. Blobs may be read after `finish`, in any order.

Blobs read with one seek and one read into a fresh array. A memory map would copy less, but its pages
count towards this process until they are given back, which is 248 MB for a yolov3.

The header (AlexeyAB parser.c load_weights_upto, pjreddie parser.c:1229): int32 major, minor, revision, then
`seen`, which is 8 bytes from version 0.2 on and 4 before. In files of a version above 1000, whose matrices
are transposed, pjreddie has 4 bytes and AlexeyAB 8. Some tools write one length with the version of
another or no header at all; therefore the length that makes the file come out exactly is taken, and
`note` says so where it is not what the version asks for. A file that lacks its last float comes out
exactly with a header 4 bytes shorter, too; hence another length than the version's counts only where the
bytes in question look the part: zero for the upper half of `seen`, a number of usual size for a weight.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from nnie_prep.darknet.cfg import Section
from nnie_prep.errors import UserError
from nnie_prep.net import Array, DeferredBlob

Flavor = Literal["alexeyab", "pjreddie"]
Stored = Literal["plain", "transposed", "by_version"]

# version + 8 bytes of `seen`, version + 4 bytes, version alone, nothing
_HEADER_LENGTHS = (20, 16, 12, 0)

_AGAIN = "run the command again"


@dataclass(frozen=True)
class Taken:
    """One tensor of the stream: `start` counts floats from the end of the header."""

    section: Section
    what: str
    shape: tuple[int, ...]
    start: int

    @property
    def size(self) -> int:
        return math.prod(self.shape)


class WeightsFile:
    """A weights file, and what was taken from it so far.

    `version` is (major, minor, revision), `seen` the number of images the network was trained with,
    `taken` every tensor in the order of the stream, `note` what the user should know of the header.
    `header_bytes` is final after `finish`, as `transposed` is.
    """

    def __init__(self, path: Path, flavor: Flavor = "alexeyab") -> None:
        """Reads the header. UserError: no file, too short, or not a whole number of floats."""
        self.path = path
        self.taken: list[Taken] = []
        self.note = ""
        self._finished = False
        try:
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                start = self._start = file.read(_HEADER_LENGTHS[0])
        except OSError as error:
            raise UserError(
                f"cannot read the weights file: {error.strerror}",
                str(path),
                "give the path of a Darknet weights file",
            ) from None
        self._state = _state(status)
        self.bytes = status.st_size
        if self.bytes % 4 or self.bytes < 12:
            raise UserError(
                f"has {self.bytes} bytes, expected a header and a whole number of 4-byte floats",
                str(path),
                "get the file again; it is cut off or no Darknet weights file",
            )
        self.version: tuple[int, int, int] = struct.unpack("<3i", start[:12])
        major, minor, _ = self.version
        self.transposed = major > 1000 or minor > 1000
        modern = major * 10 + minor >= 2
        if flavor == "pjreddie":
            modern = modern and major < 1000 and minor < 1000
        self.header_bytes = 20 if modern else 16
        if self.bytes < self.header_bytes:
            raise UserError(
                f"has {self.bytes} bytes, expected at least the {self.header_bytes} of a header of "
                f"version {self._version_text()}",
                str(path),
                "get the file again; it is cut off",
            )
        self.seen: int = struct.unpack("<Q" if modern else "<I", start[12 : self.header_bytes])[0]

    @property
    def floats(self) -> int:
        """How many floats were taken so far."""
        return self.taken[-1].start + self.taken[-1].size if self.taken else 0

    def take(
        self, shape: Sequence[int], what: str, section: Section, *, stored: Stored = "plain"
    ) -> DeferredBlob:
        """The next floats of the stream, as a blob of this shape.

        Args:
            shape: of the blob, as Darknet uses it: (out, in/group, kh, kw), (outputs, inputs), (n,).
            what: for messages: "biases", "scales", "weights" ...
            section: whose they are.
            stored: "plain" in the order of `shape`. "transposed": the file holds the matrix
                (shape[0], the rest) transposed, as for `flipped=1`. "by_version": transposed if the
                file's version says so; Darknet has that for fully connected weights alone.
        """
        assert not self._finished, "take after finish"
        taken = Taken(section, what, tuple(int(extent) for extent in shape), self.floats)
        assert all(extent > 0 for extent in taken.shape), taken
        self.taken.append(taken)
        return DeferredBlob(taken.shape, lambda: self._read(taken, stored))

    def finish(self) -> None:
        """Settles where the numbers begin. UserError: fewer or more floats than were taken."""
        assert not self._finished, "finish twice"
        rest = self.bytes - 4 * self.floats
        if not self._may_be_header(rest):
            raise self._too_short() if rest < self.header_bytes else self._left_over()
        if rest != self.header_bytes:
            self.note = (
                f"version {self._version_text()} asks for a header of {self.header_bytes} bytes; the file "
                f"comes out exactly with {rest} bytes, so these are taken for its header"
            )
            if not rest:
                self.note += ", none that is, and nothing is known of its version"
                self.version = (0, 0, 0)
                self.transposed = False
                self.seen = 0
            self.header_bytes = rest
        self._finished = True

    def _may_be_header(self, length: int) -> bool:
        if length == self.header_bytes:
            return True
        if length not in _HEADER_LENGTHS:
            return False
        if length == _HEADER_LENGTHS[0]:
            return self._start[16:20] == bytes(4)
        first: float = struct.unpack_from("<f", self._start, length)[0]
        return 1e-12 < abs(first) < 1e6

    def _version_text(self) -> str:
        return ".".join(str(number) for number in self.version)

    def _too_short(self) -> UserError:
        have = (self.bytes - self.header_bytes) // 4
        taken = next(taken for taken in self.taken if taken.start + taken.size > have)
        section = taken.section
        lies_in = next(other.start for other in self.taken if other.section is section)
        hint = "give the weights that were trained with this cfg, or get the file again if it was cut off"
        if not all(0 <= number < 1 << 16 for number in self.version):
            hint = "give a Darknet weights file; this one does not begin as they do"
        elif lies_in == have and have:
            hint = (
                f"give the complete weights; these end exactly before section {section.index}, as those "
                "of a pretrained backbone do"
            )
        return UserError(
            f"the weights file {self.path} ends in {section}: its {taken.what} {taken.shape} "
            f"are {taken.size} floats, of which {max(have - taken.start, 0)} are there; "
            f"{self.floats - have} of {self.floats} floats are missing in all",
            section.where(),
            hint,
        )

    def _left_over(self) -> UserError:
        over = (self.bytes - self.header_bytes) // 4 - self.floats
        last = ""
        if self.taken:
            section = self.taken[-1].section
            last = f" after {section} ({section.origin}), the last section that takes weights"
        return UserError(
            f"{over} floats are left over{last}; the cfg asks for {self.floats}",
            str(self.path),
            "give the weights that were trained with this cfg",
        )

    def _read(self, taken: Taken, stored: Stored) -> Array:
        assert self._finished, "weights are read before finish"
        try:
            with self.path.open("rb") as file:
                changed = _state(os.fstat(file.fileno())) != self._state
                file.seek(self.header_bytes + 4 * taken.start)
                values = np.fromfile(file, "<f4", taken.size)
        except OSError as error:
            raise UserError(
                f"cannot read the weights file any more: {error.strerror}", str(self.path), _AGAIN
            ) from None
        if changed or values.size != taken.size:
            raise UserError("was changed while it was read", str(self.path), _AGAIN)
        if stored == "transposed" or (stored == "by_version" and self.transposed):
            values = values.reshape(-1, taken.shape[0]).T
        return values.reshape(taken.shape)


def _state(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns
