"""The Caffe net while it grows, and what the emitters may ask of it.

An emitter is called for one section. It reads the options, asks for its input, takes its weights, adds
its layers and returns the `Output` that other sections may read:

    def emit_avgpool(build: Builder, section: Section) -> Output:
        source = build.input()
        blob = build.add("Pooling", "avgpool", build.picture(source), pooling_param={...})
        return Output((source.channels, 1, 1), blob)

What cannot be converted is raised as a UserError, or recorded with `build.refuse` where a substitute
lets the emitter go on, so that all that is wrong with a cfg is found in one run. Options come before
`build.input()`, which gives up where an earlier section was refused and its shape is not known.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from nnie_prep.blob import Blob, DeferredBlob
from nnie_prep.composites import Add
from nnie_prep.darknet.approximation import Approximated, Approximation
from nnie_prep.darknet.cfg import Section
from nnie_prep.darknet.weights import BatchNormForm, Flavor, Stored, Stream
from nnie_prep.errors import UserError
from nnie_prep.net import Layer, Net
from nnie_prep.nnie_caffe_pb2 import LayerParameter
from nnie_prep.shapes import Shape, top_shapes

Target = Literal["nnie", "caffe"]

INPUT = "data"

# Sizes, strides, paddings and dilations beyond this are no network; their products fit 32 bits.
LARGEST_STEP = 4096

# Caffe cannot read a caffemodel of 2 GiB, so no blob of weights may hold as many bytes.
_LARGEST_BLOB = 2**29 - 1


class NotKnown(Exception):
    """A section before the present one was refused, and its output's shape is needed here."""


@dataclass(frozen=True)
class Output:
    """What a section hands on to others.

    `shape` is Darknet's (channels, height, width). `blob` holds the values in that order; its own shape
    may differ (an InnerProduct's is (1, channels)). Without a blob, `none` says why.
    `blurred` marks the output of an antialiased layer, which Darknet hands on to the next section only;
    `flat` one without height and width, which only sections that see a vector can read.
    """

    shape: tuple[int, int, int]
    blob: str = ""
    none: str = ""
    blurred: bool = False
    flat: bool = False

    @property
    def channels(self) -> int:
        return self.shape[0]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.shape[1:]

    @property
    def count(self) -> int:
        """How many values it has."""
        return self.shape[0] * self.shape[1] * self.shape[2]


class ConvolutionWeights(NamedTuple):
    """What [convolutional] takes from the stream, for a later one that shares it by share_index.

    `weights` are (filters, channels / groups, size, size); the others (filters,), and those of
    BatchNorm None without it. All are None where no weights file was given.
    """

    filters: int
    channels: int
    groups: int
    size: int
    batch_normalize: bool
    biases: Blob | None = None
    scales: Blob | None = None
    mean: Blob | None = None
    variance: Blob | None = None
    weights: Blob | None = None


@dataclass(eq=False)
class Builder:
    """The state of one conversion."""

    sections: list[Section]
    weights: Stream | None
    target: Target = "nnie"
    flavor: Flavor = "alexeyab"
    bn_form: BatchNormForm = "standard"
    approximate: frozenset[Approximation] = frozenset()
    approximated: dict[int, Approximated] = field(default_factory=dict)
    net: Net = field(default_factory=Net)
    shapes: dict[str, Shape] = field(default_factory=dict)
    outputs: list[Output | None] = field(default_factory=list)
    heads: list[dict[str, Any]] = field(default_factory=list)
    convolutions: dict[int, ConvolutionWeights] = field(default_factory=dict)
    problems: list[UserError] = field(default_factory=list)
    read: set[int] = field(default_factory=set)
    network_shape: tuple[int, int, int] | None = None
    notes: list[str] = field(default_factory=list)
    composed: Counter[str] = field(default_factory=Counter)  # activations of several layers, how often
    _pictures: dict[tuple[str, Shape], str] = field(default_factory=dict)

    # ---- the section at hand ---------------------------------------------------------------

    @property
    def index(self) -> int:
        """Darknet's index of the section that is being emitted."""
        return len(self.outputs)

    @property
    def section(self) -> Section:
        return self.sections[self.index + 1]

    def refuse(self, key: str, message: str, hint: str = "") -> None:
        """Records what cannot be converted about the section; the emitter goes on."""
        self.problems.append(refusal(self.section, key, message, hint))

    def approximates(self, name: Approximation, form: str, **options: object) -> bool:
        """Whether the user asked for that inexact form of the section, which is put on record if so.

        `form` and `options` are those of Approximated.
        """
        if name in self.approximate:
            self.approximated[self.index] = Approximated(name, form, options)
        return name in self.approximate

    # ---- what earlier sections computed ----------------------------------------------------

    def input(self) -> Output:
        """The output of the section before this one, or the input of the network."""
        if self.index == 0:
            return Output(self.shape_before(), INPUT)
        return self._readable(self.index - 1, "the section before it", "")

    def shape_before(self) -> tuple[int, int, int]:
        """The shape of the section before this one, which may have no output to read."""
        if self.index == 0:
            if self.network_shape is None:
                raise NotKnown
            return self.network_shape
        before = self.outputs[-1]
        if before is None:
            raise NotKnown
        return before.shape

    def output(self, key: str, written: int) -> Output:
        """The output of the section that an option names: negative counts back from this section.

        UserError: no such section before this one, or it has no output that can be read.
        """
        index = written if written >= 0 else self.index + written
        if not 0 <= index < self.index:
            last = f"0 to {self.index - 1}" if self.index else "none"
            raise refusal(
                self.section,
                key,
                f"{key} names section {index}, expected one of those before section {self.index}: {last}",
                "correct the number; negative ones count back from this section, and [net] has none",
            )
        found = self._readable(index, f"section {index}", key)
        if found.blurred:
            raise refusal(
                self.section,
                key,
                f"{key} names section {index}, which is antialiased: Darknet reads its output as it is "
                "before the blur, with the wrong size",
                "name a section behind it",
            )
        return found

    def _readable(self, index: int, what: str, key: str) -> Output:
        found = self.outputs[index]
        if found is None:
            raise NotKnown
        self.read.add(index)
        if found.none:
            other = self.sections[index + 1]
            raise refusal(
                self.section,
                key,
                f"[{self.section.header}] reads {what}, the [{other.header}] of line {other.line}, which has "
                f"no output to read: {found.none}",
                "read the section before that, with [route]",
            )
        return found

    # ---- what is left to the CPU -----------------------------------------------------------

    def add_head(self, source: Output, kind: str, **described: Any) -> None:
        """Describes what the CPU does with the output that the section reads (heads.py), as JSON values."""
        section = self.section
        first = {"index": self.index, "section": section.type, "line": section.line}
        self.heads.append(
            {**first, "blob": source.blob, "shape": list(source.shape), "type": kind, **described}
        )

    # ---- weights ---------------------------------------------------------------------------

    def take(self, shape: Sequence[int], what: str, stored: Stored = "plain") -> DeferredBlob | None:
        """The next floats of the weights file; None where there is no file."""
        self.check_loadable(shape)
        if self.weights is None:
            return None
        return self.weights.take(shape, what, self.section, stored=stored)

    # ---- layers ----------------------------------------------------------------------------

    def add(
        self,
        kind: str,
        suffix: str,
        bottoms: str | Sequence[str],
        *,
        in_place: bool = False,
        blobs: Sequence[Blob | None] = (),
        **parameters: Any,
    ) -> str:
        """Adds a layer named `layerN-suffix` (N counts from 1) and returns its top, which has its name.

        Args:
            in_place: the top is the bottom instead.
            blobs: its weights; where one is None, none are known.
            parameters: fields of LayerParameter, such as `relu_param={"negative_slope": 0.1}`.
        """
        bottoms = [bottoms] if isinstance(bottoms, str) else list(bottoms)
        name = f"layer{self.index + 1}-{suffix}"
        assert in_place or name not in self.shapes, name
        tops = [bottoms[0] if in_place else name]
        return self.add_layer(kind, name, bottoms, tops, blobs, **parameters)[0]

    def adder(self, name: str) -> Add:
        """What adds layers named `layerN-name-suffix`, and without a suffix `layerN-name`."""

        def add(kind: str, suffix: str, bottoms: str | Sequence[str], **parameters: Any) -> str:
            return self.add(kind, f"{name}-{suffix}" if suffix else name, bottoms, **parameters)

        return add

    def add_layer(
        self,
        kind: str,
        name: str,
        bottoms: list[str],
        tops: list[str],
        blobs: Sequence[Blob | None] = (),
        **parameters: Any,
    ) -> list[str]:
        """Adds a layer with any names of its own; returns the tops."""
        layer = Layer(
            LayerParameter(name=name, type=kind, **parameters),
            bottoms,
            tops,
            [] if any(blob is None for blob in blobs) else [blob for blob in blobs if blob is not None],
            self.section.origin,
        )
        for blob in layer.blobs:
            self.check_loadable(blob.shape)
        shapes = top_shapes(layer, [self.shapes[bottom] for bottom in bottoms])
        self.shapes.update(zip(tops, shapes, strict=True))
        self.net.layers.append(layer)
        return tops

    def check_loadable(self, shape: Sequence[int]) -> None:
        """UserError: a blob of weights of that shape would be too large for a caffemodel."""
        if math.prod(shape) > _LARGEST_BLOB:
            listed = " x ".join(str(extent) for extent in shape)
            message = f"[{self.section.header}] would have {listed} weights, more than Caffe can load"
            raise refusal(self.section, "", message, "use fewer filters or channels")

    def picture(self, source: Output) -> str:
        """The source's blob in the form (1, channels, height, width); reshaped where it has another.

        UserError: the source is flat.
        """
        if source.flat:
            raise refusal(
                self.section,
                "",
                f"[{self.section.header}] needs height and width, but reads the vector of a [softmax]",
                "correct the order of the sections",
            )
        return self.shaped(source.blob, (1, *source.shape))

    def shaped(self, blob: str, shape: Shape) -> str:
        """The blob's values in their order in another shape; one Reshape serves all readers."""
        if self.shapes[blob] == shape:
            return blob
        if (blob, shape) not in self._pictures:
            suffix, number = "reshape", 1
            while f"layer{self.index + 1}-{suffix}" in self.shapes:
                number += 1
                suffix = f"reshape{number}"
            dims = [0, *shape[1:]]
            self._pictures[blob, shape] = self.add(
                "Reshape", suffix, blob, reshape_param={"shape": {"dim": dims}}
            )
        return self._pictures[blob, shape]


def refusal(section: Section, key: str, message: str, hint: str = "") -> UserError:
    """The error for what cannot be converted about a section, at the line of its option."""
    return UserError(message, section.where(key), hint)
