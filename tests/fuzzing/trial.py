"""What a trial asks of nnie_prep, whatever the files: its memory, its messages, its commands."""

from __future__ import annotations

import contextlib
import math
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cli_cases import run as run_command

from nnie_prep.caffe_io import format_prototxt, read_net, write_caffemodel
from nnie_prep.errors import UserError
from nnie_prep.net import Net
from nnie_prep.show import layer_figures

PACKAGE = Path(__file__).resolve().parents[2] / "nnie_prep"

# What reading, converting and planning may take beyond what there was before, whatever the net's size.
LEAN = 300 << 20

_WRITABLE = 1 << 22  # floats in all: beyond, weights are not computed
_RUNNABLE = 3 << 20  # floats in the largest blob: beyond, nets are not run
_MULTIPLICATIONS = 1 << 28
_LONGEST_LINE = 3000


class Trial(NamedTuple):
    """How it ended: "converted", "read" or "refused"; and the command that was run, or what refused it."""

    outcome: str
    detail: str


class Small(NamedTuple):
    """What may be done with a net: compute its weights, run it; whether all its shapes are known."""

    fits: bool
    runs: bool
    known: bool


class Fault(AssertionError):
    """nnie_prep did what it never should."""


def size_of(net: Net) -> Small:
    """From the shapes, without computing anything."""
    figures = layer_figures(net)
    floats = sum(blob.size for layer in net.layers for blob in layer.blobs)
    largest = max((math.prod(row.shape) for row in figures if row.shape is not None), default=0)
    work = sum(row.multiply_adds or 0 for row in figures)
    fits = floats <= _WRITABLE
    names = [row.name for row in figures]  # of layers with one name, weights go to the first
    known = len(set(names)) == len(names) and all(row.shape is not None or not row.tops for row in figures)
    runs = fits and largest <= _RUNNABLE and work <= _MULTIPLICATIONS and len(figures) <= 3000
    return Small(fits, runs, known)


@contextlib.contextmanager
def check_lean() -> Iterator[None]:
    """Fault: what is done inside took much more memory than there was in use before."""
    before = reset_peak()
    yield
    if (grown := peak() - before) > LEAN:
        raise Fault(f"took {grown >> 20} MiB")


def reset_peak() -> int:
    """Forgets the largest resident size so far; returns the present one in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak() -> int:
    """The largest resident size since then in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) << 10


def check_message(error: UserError) -> None:
    """Fault: not one line (or one to each of several reasons), or too long to read, or control characters."""
    check_text(str(error))


def check_text(text: str) -> None:
    first, *others = text.split("\n")
    for line in [first, *others]:
        is_list = " sections cannot be computed: " in line
        if not line.isprintable() or len(line) < 10 or (len(line) > _LONGEST_LINE and not is_list):
            raise Fault(f"a message that nobody can read: {line[:300]!r} ({len(line)} characters)")
    if any(not line.startswith("  ") for line in others) or bool(others) != first.endswith(" reasons:"):
        raise Fault(f"a message of several lines: {text[:500]!r}")


def refusal(error: UserError) -> Trial:
    """Where the error was raised is what it is about."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return Trial("refused", f"{Path(frame.filename).relative_to(PACKAGE)} {frame.name}")


def read_back(net: Net, known: bool) -> None:
    """Computes all weights, writes the net and reads it again. Fault: that does not work.

    Where not all shapes were known when it was read, or two layers have one name, the weights may not fit.
    """
    with tempfile.TemporaryDirectory() as folder:
        prototxt, caffemodel = Path(folder, "net.prototxt"), Path(folder, "net.caffemodel")
        prototxt.write_text(format_prototxt(net), encoding="utf-8")
        with caffemodel.open("wb") as file:
            write_caffemodel(net, file)
        if any(layer.blobs for layer in net.layers):
            try:
                found = read_net(prototxt, caffemodel)
            except UserError as error:
                if not known:
                    check_message(error)
                    return
                raise Fault(f"what was written cannot be read: {error}") from error
            shapes = [[blob.shape for blob in layer.blobs] for layer in net.layers]
            if known and [[blob.shape for blob in layer.blobs] for layer in found.layers] != shapes:
                raise Fault("what was written was read with weights of other shapes")


def command(wanted: int | None, name: str, *arguments: object) -> int:
    """Runs a command; returns its exit code. Fault: it leaves what its exit code does not allow."""
    with tempfile.TemporaryDirectory() as folder:
        writes = name not in ("inspect", "show")
        done = run_command(name, *arguments, *(["-o", f"{folder}/out"] if writes else ["-v"]))
        left = list(Path(folder).iterdir())
    if done.code not in ((0, 1, 2) if wanted is None else (wanted,)):
        raise Fault(f"{name} ended with {done.code}: {done.err[:500]}")
    if done.code == 2:
        head = "nnie_prep: error: "
        if not done.err.startswith(head) or done.out or "not enough memory" in done.err:
            raise Fault(f"{name} said {done.err[:500]!r}")
        check_text(done.err.removeprefix(head).rstrip("\n"))
    if bool(left) != (writes and done.code == 0):
        raise Fault(f"{name} ended with {done.code} and left {left}")
    return done.code
