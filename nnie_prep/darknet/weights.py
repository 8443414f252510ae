"""Reading a Darknet weights file: a header, then float32 numbers in the order of the cfg.

    weights = WeightsFile(Path("yolov3-tiny.weights"), flavor="alexeyab")
    biases = weights.take((16,), "biases", section)              # in the order of the stream
    kernel = weights.take((16, 3, 3, 3), "weights", section)
    matrix = weights.take((10, 1024), "weights", section, stored="by_version")
    weights.finish()                                             # where the header ends is known only now
    np.asarray(kernel)                                           # reads 432 floats, each time anew
    weights.note                                                 # "", or which header was assumed and why

A `Ledger` takes as well, and notes what a network wants where no file is at hand.

`take` only records; `finish` finds out where the numbers begin, checks that the file holds exactly what
was taken, and raises UserError otherwise. Blobs may be read after `finish`, in any order.

Blobs are read into a fresh array, or piecemeal. A memory map would copy less, but its pages count towards
this process until they are given back, which is 248 MB for a yolov3.

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
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from nnie_prep.blob import Array, DeferredBlob
from nnie_prep.darknet.cfg import Section
from nnie_prep.errors import UserError
from nnie_prep.outputs.target_checks import stat_of_input
from nnie_prep.stored import read_floats, read_in_pieces

Flavor = Literal["alexeyab", "pjreddie"]
BatchNormForm = Literal["standard", "pjreddie-cpu"]  # what it divides by; see emit_convolution.py
Stored = Literal["plain", "transposed", "by_version"]

# version + 8 bytes of `seen`, version + 4 bytes, version alone, nothing
_HEADER_LENGTHS = (20, 16, 12, 0)
_INSPECT = "`nnie-prep inspect` lists what each section takes"


class Taken(NamedTuple):
    """One tensor of the stream: `start` counts floats from the end of the header."""

    section: Section
    what: str
    shape: tuple[int, ...]
    start: int

    @property
    def size(self) -> int:
        return math.prod(self.shape)


class Stream(Protocol):
    """Where a network takes its weights from, in order: a `WeightsFile` or a `Ledger`."""

    def take(
        self, shape: Sequence[int], what: str, section: Section, *, stored: Stored = "plain"
    ) -> DeferredBlob:
        """See `WeightsFile.take`."""


class Ledger:
    """What a network takes, without a file to take it from: its blobs have shapes and cannot be read."""

    def __init__(self) -> None:
        self.taken: list[Taken] = []

    def take(
        self, shape: Sequence[int], what: str, section: Section, *, stored: Stored = "plain"
    ) -> DeferredBlob:
        """Notes the tensor."""
        start = self.taken[-1].start + self.taken[-1].size if self.taken else 0
        self.taken.append(Taken(section, what, tuple(int(extent) for extent in shape), start))
        return DeferredBlob(shape, _no_file)


def _no_file() -> Array:
    raise AssertionError("weights are read from a ledger")


class Header(NamedTuple):
    """The first bytes of a weights file, read as its version asks for.

    `size` is that of the file, `length` that of the header: version and `seen`. `start` are the bytes in
    question, `state` tells whether the file was changed since.
    """

    size: int
    length: int
    version: tuple[int, int, int]
    start: bytes
    state: tuple[int, int]

    @property
    def transposed(self) -> bool:
        """Whether fully connected weights are stored (inputs, outputs)."""
        return self.version[0] > 1000 or self.version[1] > 1000

    @property
    def version_text(self) -> str:
        return ".".join(str(number) for number in self.version)

    def seen(self, length: int) -> int:
        """The number of images that the network was trained with, if the header has this length."""
        return int.from_bytes(self.start[12:length], "little")

    def as_darknet_reads_it(self, length: int) -> bytes:
        """The header anew, of the length that its version asks for, where it had another (0: none)."""
        if not length:
            return struct.pack("<3iQ", 0, 2, 5, 0)
        return struct.pack("<3i", *self.version) + self.seen(length).to_bytes(self.length - 12, "little")


def read_header(path: Path, flavor: Flavor = "alexeyab") -> Header:
    """UserError: no file, or shorter than the header of its version."""
    stat_of_input(path, "give the path of a Darknet weights file")
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            start = file.read(_HEADER_LENGTHS[0])
    except OSError as error:
        raise UserError(
            f"cannot be read: {error.strerror}",
            str(path),
            "give the path of a Darknet weights file",
        ) from None
    size = status.st_size
    if start.startswith(b"version https://git"):
        raise UserError("is a pointer of Git LFS, not the file itself", str(path), "run git lfs pull")
    if size < 12:
        raise _not_whole(size, path)
    version: tuple[int, int, int] = struct.unpack("<3i", start[:12])
    major, minor, _ = version
    modern = major * 10 + minor >= 2
    if flavor == "pjreddie":
        modern = modern and major < 1000 and minor < 1000
    header = Header(size, 20 if modern else 16, version, start, _state(status))
    if size < header.length:
        raise UserError(
            f"has {size} bytes, expected at least the {header.length} of a header of "
            f"version {header.version_text}",
            str(path),
            "get the file again; it is cut off",
        )
    return header


def _not_whole(size: int, path: Path) -> UserError:
    return UserError(
        f"has {size} bytes, expected a header and a whole number of 4-byte floats",
        str(path),
        "get the file again; it is cut off or no Darknet weights file",
    )


class WeightsFile:
    """A weights file, and what was taken from it so far.

    `version` is (major, minor, revision), `seen` the number of images the network was trained with,
    `taken` every tensor in the order of the stream, `note` what the user should know of the header.
    `header_bytes` is final after `finish`, as `version`, `seen` and `transposed` are; `header` is what
    the version alone says.
    """

    def __init__(self, path: Path, flavor: Flavor = "alexeyab") -> None:
        """Reads the header. UserError: no file, too short, or not a whole number of floats."""
        self.path = path
        self.taken: list[Taken] = []
        self.note = ""
        self._finished = False
        self.header = header = read_header(path, flavor)
        self._file = path.open("rb")
        self.bytes = header.size
        if self.bytes % 4:
            raise _not_whole(self.bytes, path)
        self.version = header.version
        self.transposed = header.transposed
        self.header_bytes = header.length
        self.seen = header.seen(header.length)

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
        in_order = (lambda unit: self._pieces(taken, unit)) if stored == "plain" else None
        return DeferredBlob(taken.shape, lambda: self._read(taken, stored), in_order)

    def finish(self) -> None:
        """Settles where the numbers begin. UserError: fewer or more floats than were taken."""
        assert not self._finished, "finish twice"
        rest = self.bytes - 4 * self.floats
        if not self._may_be_header(rest):
            raise self._too_short() if rest < self.header_bytes else self._left_over()
        if rest != self.header_bytes:
            self.note = (
                f"version {self.header.version_text} asks for a header of {self.header_bytes} bytes; the "
                f"file comes out exactly with {rest} bytes, so these are taken for its header"
            )
            if not rest:
                self.note += ", none that is, and nothing is known of its version"
                self.version = (0, 0, 0)
                self.transposed = False
            self.header_bytes = rest
            self.seen = self.header.seen(rest)
        self._finished = True

    def _may_be_header(self, length: int) -> bool:
        if length == self.header_bytes:
            return True
        if length not in _HEADER_LENGTHS:
            return False
        if length == _HEADER_LENGTHS[0]:
            return self.header.start[16:20] == bytes(4)
        first: float = struct.unpack_from("<f", self.header.start, length)[0]
        return 1e-12 < abs(first) < 1e6

    def _too_short(self) -> UserError:
        have = (self.bytes - self.header_bytes) // 4
        taken = next(taken for taken in self.taken if taken.start + taken.size > have)
        section = taken.section
        lies_in = next(other.start for other in self.taken if other.section is section)
        hint = "give the weights that were trained with this cfg, or get the file again if it was cut off; "
        hint += _INSPECT
        if not all(0 <= number < 1 << 16 for number in self.version):
            hint = "give a Darknet weights file; this one does not begin as they do"
        elif lies_in == have and have:
            hint = (
                f"give the complete weights; these end exactly before section {section.index}, as those "
                "of a pretrained backbone do"
            )
        return UserError(
            f"the weights file {self.path} ends in {section}: its {taken.what} {taken.shape} "
            f"are {taken.size:,} floats, of which {max(have - taken.start, 0):,} are there; "
            f"{self.floats - have:,} of {self.floats:,} floats are missing in all",
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
            f"{over:,} floats are left over{last}; the cfg asks for {self.floats:,}",
            str(self.path),
            f"give the weights that were trained with this cfg; {_INSPECT}",
        )

    def stored(self, taken: Taken, first: int = 0, count: int | None = None) -> Array:
        """`count` floats of a tensor, or all behind its first ones, in the order of the file: (count,)."""
        assert self._finished, "weights are read before finish"
        count = taken.size - first if count is None else count
        values = read_floats(self._file, self._begin(taken, first), count)
        self._check_unchanged()
        return values

    def _pieces(self, taken: Taken, unit: int) -> Iterator[memoryview]:
        assert self._finished, "weights are read before finish"
        yield from read_in_pieces(self._file, self._begin(taken), taken.size, unit)
        self._check_unchanged()

    def _begin(self, taken: Taken, first: int = 0) -> int:
        return self.header_bytes + 4 * (taken.start + first)

    def _check_unchanged(self) -> None:
        if _state(os.fstat(self._file.fileno())) != self.header.state:
            raise UserError("was changed while it was read", str(self.path), "run the command again")

    def _read(self, taken: Taken, stored: Stored) -> Array:
        values = self.stored(taken)
        if stored == "transposed" or (stored == "by_version" and self.transposed):
            values = values.reshape(-1, taken.shape[0]).T
        return values.reshape(taken.shape)


def _state(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns
