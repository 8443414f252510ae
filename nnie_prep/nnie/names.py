"""Names: their length, and the suffixes that the compiler gives a meaning."""

from __future__ import annotations

from collections.abc import Iterator

from nnie_prep.names import CPU, HIGH_PRECISION, REPORT, shortened
from nnie_prep.net import Layer
from nnie_prep.nnie.finding import Found, Rule
from nnie_prep.nnie.subject import Subject


def name_length(subject: Subject) -> Iterator[Found]:
    """The name of an input or an output does not fit the buffer in which the chip's software keeps it.

    The compiler stores the names of what enters and leaves a segment in 32 bytes, and your code on the
    board finds blobs by them. What is longer is cut or refused, and two names may become one. That the last
    byte is a zero, so that 31 are left, is a guess; more than 32 cannot fit.

    Instead: `edit --rename-blob OLD=NEW`.
    """
    length, buffer = subject.limits["name_length"], subject.limits["name_buffer"]
    taken = set(subject.net.blob_names())
    for name, layer in _of_segments(subject).items():
        size = len(name.encode())
        limit = buffer if not buffer.allows(size) else length
        if not limit.allows(size):
            short = shortened(name, taken)
            taken.add(short)
            kind = "input" if name in subject.net.inputs() else "output"
            message = f"the name of {kind} {name} has {size} bytes"
            repair = subject.command("edit", "--rename-blob", f"{name}={short}")
            yield Found(layer, message, size, limit, repair)


def _of_segments(subject: Subject) -> dict[str, Layer | None]:
    """The blobs that enter or leave a segment, with who writes them first."""
    names: dict[str, Layer | None] = dict.fromkeys(subject.net.inputs())
    for segment in subject.segments:
        names |= dict.fromkeys([*segment.inputs, *segment.outputs])
    for layer in reversed(subject.net.layers):
        names |= {name: layer for name in layer.tops if name in names}
    return names


def report_suffix(subject: Subject) -> Iterator[Found]:
    """A top of a Custom layer ends in _report.

    On a top of a layer that runs on the chip the suffix asks the compiler to give that blob out too. What a
    Custom layer computes never was on the chip, and the compiler stops there with an error.

    Instead: rename the blob; your own code has its values anyway.
    """
    taken = set(subject.net.blob_names())
    for layer in subject.net.layers:
        for name in layer.tops:
            if layer.type == "Custom" and name.endswith(REPORT):
                free = shortened(name.removesuffix(REPORT) or "blob", taken)
                repair = subject.command("edit", "--rename-blob", f"{name}={free}")
                message = f"its top {name} asks for a report"
                yield Found(layer, message, name, "no _report on tops of Custom", repair)


def precision_suffix(subject: Subject) -> Iterator[Found]:
    """A layer's name ends in _hp, which asks for 16 bits.

    The compiler heeds it in compile_mode 2 alone. In mode 0 the layer is computed with 8 bits like all
    others, and in mode 1 everything has 16.

    Instead: set compile_mode 2 in the compiler's .cfg, or rename the layer if no such thing is meant.
    """
    for layer in subject.net.layers:
        if layer.name.endswith(HIGH_PRECISION):
            message = "its name asks for 16 bits"
            yield Found(layer, message, layer.name, "compile_mode 2", "set compile_mode 2 in the .cfg")


def cpu_suffix(subject: Subject) -> Iterator[Found]:
    """A layer's name ends in _cpu, which takes it off the chip.

    The compiler then ends a segment before the layer and begins another behind it, and your code has to
    compute it in between.

    Instead: rename the layer if that is not meant.
    """
    for layer in subject.net.layers:
        if layer.name.endswith(CPU):
            new = f"{layer.name}={layer.name.removesuffix(CPU) or 'layer'}"
            repair = subject.command("edit", "--rename-layer", new)
            yield Found(layer, "its name takes it off the chip", layer.name, "a layer of the CPU", repair)


_SUFFIXES = "vendor's guide to the suffixes, as two readers quote it"
RULES = (
    Rule(name_length, "A", "vendor header hi_nnie.h", limits=("name_buffer", "name_length")),
    Rule(report_suffix, "B", _SUFFIXES),
    Rule(precision_suffix, "B", _SUFFIXES, "info"),
    Rule(cpu_suffix, "B", _SUFFIXES, "info"),
)
