"""A library of Darknet, the user's own build of it, as the judge of a conversion.

    judge = load(Path("libdarknet.so"), Path("yolov3-tiny.cfg"), Path("yolov3-tiny.weights"))
    for section, output in judge.iterate(picture):          # as reference.Reference does
        ...

Of what a library exports, only the output of a network's last layer can be had without knowing the layout of
its structs, which differ from version to version. So the output of a section is that of a network which
ends there: the cfg up to the section (`truncated`) and the weights up to it, since hank-ai's Darknet
refuses a file that is longer. Each runs in a child process of its own (library_worker.py), because
Darknet ends its process where it does not like a network, and gives back little of its memory.

That takes a run of the network for each section. Up to 24 sections all are asked for; in larger networks
the outputs are (what no section reads, and what a head or a loss reads) and others evenly between them.
`left_out` names the rest. A fault in one of those shows in the next section that reads it and is asked for.

Heads are not compared: a conversion ends before them.
"""

from __future__ import annotations

import codecs
import json
import math
import signal
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from nnie_prep.blob import Array
from nnie_prep.darknet.cfg import Section, read_cfg
from nnie_prep.darknet.reference import Reference
from nnie_prep.darknet.reference.precision import in_float64
from nnie_prep.darknet.weights import BatchNormForm, Flavor, WeightsFile
from nnie_prep.errors import UserError

WORKER = Path(__file__).with_name("library_worker.py")

_MOST = 24  # sections that are asked for, if the outputs alone are not more
_HEADS = frozenset(("yolo", "Gaussian_yolo", "region", "detection"))
_OWNERS = {"alexeyab": "AlexeyAB", "pjreddie": "pjreddie"}
_LEFT_OUT = "not compared: each section takes a run of Darknet, and this one was left out"
# Of one picture, for inference. The first of equal keys counts in both trees; `contrastive` refuses a batch
# of one, `optimized_memory` wants 8 GB of pinned memory. None of them has a say in what is computed.
_FOR_ONE = (b"batch=1", b"subdivisions=1", b"time_steps=1", b"contrastive=0", b"optimized_memory=0")
_PIECE = 1 << 22
_HINT = "leave out --against darknet"


class Library:
    """A network as a library of Darknet computes it. `name` is for verdicts.

    `left_out` are the indices of sections that have an output and are not asked for, and why; `doubts` those
    that builds of this tree are known to compute wrongly, and how.
    """

    def __init__(
        self,
        library: Path,
        cfg: bytes,
        sections: Sequence[Section],
        weights: WeightsFile,
        reference: Reference,
        asked: Sequence[int],
        doubts: Mapping[int, str],
        tree: Flavor,
    ) -> None:
        having = _having_output(reference)
        some = f", asked for {len(asked)} of {len(having)} sections" if len(asked) < len(having) else ""
        self.name = f"{_OWNERS[tree]}'s Darknet ({library.name}{some})"
        self.left_out: Mapping[int, str] = {index: _LEFT_OUT for index in having if index not in asked}
        self.doubts = doubts
        self._library = library
        self._cfg = cfg
        self._sections = sections
        self._weights = weights
        self._reference = reference
        self._asked = asked
        self._tree = tree
        self._last: tuple[bytes, dict[int, Array]] = (b"", {})

    def iterate(self, x: Array, dtype: Any = np.float32) -> Iterator[tuple[Section, Array | None]]:
        """Each section with its output for an input (C, H, W); None for what is not asked for.

        Darknet computes in float32 alone; as for float64, see `in_float64`.
        """
        self._reference.check_input(x)
        fed = np.ascontiguousarray(x, "<f4").tobytes()
        if self._last[0] != fed:
            self._last = (fed, self._run(fed))
        found = [self._last[1].get(index) for index in range(len(self._reference.sections))]
        if dtype == np.float32:
            yield from zip(self._reference.sections, found, strict=True)
        else:
            yield from in_float64(self._reference, x, found)

    def _run(self, fed: bytes) -> dict[int, Array]:
        """The outputs of the sections that are asked for, by index."""
        with _temporary_folder() as folder:
            (folder / "input").write_bytes(fed)
            return {index: self._output(index, folder) for index in self._asked}

    def _output(self, index: int, folder: Path) -> Array:
        """What Darknet computes for a network that ends with this section."""
        cfg, weights, output = folder / "net.cfg", folder / "net.weights", folder / "output"
        cfg.write_bytes(truncated(self._cfg, self._sections, index))
        self._write_weights(index, weights)
        shape = self._reference.shapes[index]
        types = {section.type for section in self._reference.sections[: index + 1]}
        crashes = self._tree == "pjreddie" and "batchnorm" in types
        _ask(
            self._library,
            folder,
            (str(cfg), str(weights), str(folder / "input"), str(math.prod(shape)), str(output)),
            f" at {self._reference.sections[index]}",
            f"pjreddie's has no [batchnorm] on a CPU; {_HINT}" if crashes else _HINT,
        )
        return np.fromfile(output, "<f4").reshape(shape)

    def _write_weights(self, index: int, path: Path) -> None:
        """The weights file up to this section, with the header that Darknet looks for."""
        weights = self._weights
        own = weights.header_bytes == weights.header.length
        ends = [taken.start + taken.size for taken in weights.taken if taken.section.index <= index]
        left = 4 * max(ends, default=0)
        with weights.path.open("rb") as source, path.open("wb") as file:
            header = source.read(weights.header_bytes)
            file.write(header if own else weights.header.as_darknet_reads_it(weights.header_bytes))
            while left and (piece := source.read(min(left, _PIECE))):
                file.write(piece)
                left -= len(piece)


def load(
    library: Path,
    cfg: Path,
    weights: Path,
    flavor: Flavor = "alexeyab",
    bn_form: BatchNormForm = "standard",
    always: Collection[int] = (),
) -> Library:
    """A network from its two files, which must be right for the NumPy Darknet as well.

    `always` are indices of sections that are asked for in any case. UserError: what is no library of
    Darknet, or one of the other tree.
    """
    library = library.absolute()  # a bare name would be looked for in the system's folders
    with _temporary_folder() as folder:
        tree = _ask(library, folder, (), " as it was loaded", _HINT)
    if tree != flavor:
        raise UserError(
            f"is {_OWNERS[tree]}'s Darknet, and the network is taken for {_OWNERS[flavor]}'s",
            str(library),
            f"add --flavor {tree}, or give a library of the other",
        )
    sections = read_cfg(cfg)
    file = WeightsFile(weights, flavor)
    reference = Reference(sections, file, flavor, bn_form)
    asked = _choose(reference, always)
    doubts = {
        section.index: doubt
        for section in reference.sections
        if (doubt := _doubt(section.unasked(), reference, flavor, bn_form))
    }
    return Library(library, cfg.read_bytes(), sections, file, reference, asked, doubts, flavor)


def truncated(cfg: bytes, sections: Sequence[Section], index: int) -> bytes:
    """The cfg up to the section of that index, for a batch of one picture.

    `sections` are those of the whole cfg, [net] first. Every byte of what is kept stays.
    """
    lines = cfg.removeprefix(codecs.BOM_UTF8).split(b"\n")
    end = sections[index + 2].line - 1 if index + 2 < len(sections) else len(lines)
    begin = sections[0].line
    return b"\n".join([*lines[:begin], *_FOR_ONE, *lines[begin:end]]) + b"\n"


def _having_output(reference: Reference) -> list[int]:
    """The sections whose output a conversion may have."""
    return [
        index
        for index, section in enumerate(reference.sections)
        if reference.shapes[index] and section.type not in _HEADS
    ]


def _choose(reference: Reference, always: Collection[int]) -> list[int]:
    """The sections that are asked for: every one that no other shows, and others evenly between them."""
    having = _having_output(reference)
    ends = {index - 1 for index in range(1, len(reference.sections)) if index not in having}
    wanted = {index for index in having if index in reference.unread or index in ends or index in always}
    others = [index for index in having if index not in wanted]
    places = min(len(others), max(_MOST - len(wanted), 0))
    return sorted(wanted | {others[place * len(others) // places] for place in range(places)})


def _doubt(section: Section, reference: Reference, tree: Flavor, bn_form: BatchNormForm) -> str:
    """ "" or how a build of Darknet may compute this section wrongly, in which case it is no judge of it."""
    kind = section.type
    size, stride = section.int("size", 1), section.int("stride", 1)
    if tree == "pjreddie":
        if kind == "convolutional" and size == 1 and stride > 1:
            return "pjreddie's Darknet computes 1x1 convolutions with a stride wrongly on a CPU"
        if section.int("batch_normalize", 0) and bn_form == "standard":
            return "on a CPU, pjreddie's Darknet has another BatchNorm: try --bn-form pjreddie-cpu"
        return ""
    if kind == "maxpool" and stride == 1 and reference.shapes[section.index][-1] > 8 + size - 1:
        return "AlexeyAB's Darknet computes maxpools of stride 1 wrongly where it was built with AVX=1"
    if section.string("activation") == "relu6":
        return "AlexeyAB's Darknet computes 0 for relu6 on a CPU"
    if kind == "convolutional":
        return "AlexeyAB's Darknet computes in 16 bits on a GPU where it was built with CUDNN_HALF=1"
    return ""


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    """A folder for the worker's files. UserError: there is no room for them."""
    try:
        with tempfile.TemporaryDirectory(prefix="nnie_prep_darknet_") as name:
            yield Path(name)
    except OSError as error:
        where = error.filename or tempfile.gettempdir()
        raise UserError(
            f"cannot be written: {error.strerror}", str(where), "set TMPDIR to a folder with room"
        ) from None


def _ask(library: Path, folder: Path, network: Sequence[str], when: str, hint: str) -> Flavor:
    """Runs the worker, with its answer in the folder, and returns the library's tree."""
    answer = folder / "answer.json"
    answer.unlink(missing_ok=True)
    child = subprocess.run(
        [sys.executable, "-I", str(WORKER), str(library), str(answer), *network],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    # Drivers may fail as the process ends, with all done; old Darknets end with 0 in the midst of it.
    if not answer.exists():
        if "Traceback (most recent call last)" in child.stderr:
            raise RuntimeError(f"{WORKER.name} ended with {child.returncode}:\n{child.stderr}")
        raise UserError(f"Darknet ended{when}: {_last_words(child, folder)}", str(library), hint)
    result: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    if "error" in result:
        raise UserError(result["error"], str(library), hint)
    tree: Flavor = result["tree"]
    return tree


def _last_words(child: subprocess.CompletedProcess[str], folder: Path) -> str:
    """How the process ended, and the last lines that it wrote, as one."""
    code = child.returncode
    words = [f"exit code {code}" if code >= 0 else signal.Signals(-code).name]
    for text in (child.stderr, child.stdout):
        lines = text.replace(f"{folder}/", "").splitlines()
        lines = [" ".join(line.split()) for line in lines if line.strip()]
        words += [line[:150] for line in lines[-2:]]
    said = " | ".join(words)
    return "".join(char if char.isprintable() else "?" for char in said)
