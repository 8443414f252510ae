"""What the section builders share: the shapes so far, the weights stream, and the step they return."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nnie_prep.blob import Array, Blob
from nnie_prep.darknet.cfg import Section
from nnie_prep.darknet.weights import BatchNormForm, Flavor, Stored, Stream
from nnie_prep.errors import UserError

# (C, H, W), or (n,) where Darknet leaves the output without width, height and channels.
Shape = tuple[int, ...]

# 1 GiB of float32: above the largest layer of any stock cfg, below what a typing error can ask for.
LARGEST_OUTPUT = 1 << 28


@dataclass(frozen=True, eq=False)
class Step:
    """One section, ready to be computed.

    `reads` are section indices, -1 for the input of the network, in the order in which `compute` gets
    their outputs. `compute(inputs, dtype)` never writes into its inputs and returns None where Darknet
    has no output that means anything.
    """

    section: Section
    shape: Shape
    reads: Sequence[int]
    compute: Callable[[list[Array], Any], Array | None]


@dataclass(eq=False)
class Plan:
    """What is known before the section that is being built.

    `input_shape` is the network's (C, H, W), `steps` the sections before.
    """

    weights: Stream
    flavor: Flavor
    bn_form: BatchNormForm
    input_shape: Shape
    steps: list[Step] = field(default_factory=list)
    # Conv sections by index, for share_index: (weights, biases, BatchNorm parameters).
    convolutions: dict[int, tuple[Blob, Blob, list[Blob]]] = field(default_factory=dict)
    # Sections whose size Darknet keeps as it is before their blur (parser.c: params.h = l.input_layer).
    blurred: set[int] = field(default_factory=set)

    @property
    def previous(self) -> int:
        """The index of the section before, -1 for the network's input."""
        return len(self.steps) - 1

    def shape(self, index: int, section: Section) -> Shape:
        """The output shape of a section. UserError: it has no output to be read."""
        if index < 0:
            return self.input_shape
        step = self.steps[index]
        if not step.shape:
            raise UserError(
                f"{section} reads {step.section}, which has no output",
                section.where(),
                "let it read a layer before that",
            )
        return step.shape

    def image(self, index: int, section: Section) -> tuple[int, int, int]:
        """As `shape`, for sections that need (C, H, W). UserError: Darknet gives the output no image."""
        shape = self.shape(index, section)
        if len(shape) != 3:
            raise UserError(
                f"{section} needs channels, height and width; {self.steps[index].section} before it outputs "
                f"{shape[0]} numbers",
                section.where(),
                "correct the order of the sections",
            )
        return shape[0], shape[1], shape[2]

    def sources(self, section: Section, key: str) -> list[int]:
        """The absolute indices that a `layers=` or `from=` names. UserError: none, or out of range."""
        if not section.has(key):
            raise UserError(f"{section} names no layer", section.where(), f"write {key}=")
        found = []
        for written in section.ints(key):
            index = section.index + written if written < 0 else written
            if not 0 <= index < section.index:
                raise UserError(
                    f"{section} has {key}={written}, which is layer {index}; expected one of "
                    f"0 to {section.index - 1}",
                    section.where(key),
                    "name a layer before this one",
                )
            if index in self.blurred:
                raise UserError(
                    f"{section} names layer {index}, which has antialiasing; Darknet takes its size before "
                    "the blur and reads beyond its output",
                    section.where(key),
                    "let it name a layer without antialiasing",
                )
            found.append(index)
        return found

    def take(self, shape: Sequence[int], what: str, section: Section, stored: Stored = "plain") -> Blob:
        """The next weights of the stream."""
        return self.weights.take(shape, what, section, stored=stored)

    def step(
        self, section: Section, shape: Shape, reads: Sequence[int], compute: Callable[..., Array | None]
    ) -> Step:
        """A step whose output is of a size that can be computed."""
        check_size(section, shape)
        return Step(section, shape, reads, compute)


def check_size(section: Section, shape: Shape) -> None:
    """UserError where a section asks for more numbers than any network has."""
    if math.prod(shape) > LARGEST_OUTPUT:
        raise UserError(
            f"{section} has {' x '.join(map(str, shape))} numbers, more than {LARGEST_OUTPUT}",
            section.where(),
            "correct the sizes",
        )


def quotient(dividend: int, divisor: int) -> int:
    """C's integer division, which rounds towards zero."""
    return dividend // divisor if dividend >= 0 else -(-dividend // divisor)


def values(blob: Blob, dtype: Any) -> Array:
    """The weights as an array of the dtype that the network is computed in."""
    return np.asarray(blob, dtype=dtype)


def inconsistent(section: Section, what: str) -> UserError:
    """For geometries in which Darknet reads or writes beyond its own buffers."""
    return UserError(
        f"{section}: {what}", section.where(), "correct the sizes; Darknet itself has no defined result here"
    )
