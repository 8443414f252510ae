"""The net that is checked, and what rules ask about it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from nnie_prep.errors import UserError
from nnie_prep.names import CPU, REPORT
from nnie_prep.net import Layer, Net
from nnie_prep.nnie.limits import Limits
from nnie_prep.own_code import OWN_CODE
from nnie_prep.shapes import Shape, net_input_shapes, walk_shapes
from nnie_prep.shapes.weights import LEARNED

Parameters = TypeVar("Parameters")

# Layers that have no say in the values: after them come the same ones.
FORWARDING = ("Dropout", "Split", "Flatten", "Reshape", "Slice", "Permute", "Upsample", "Crop", "Tile")


@dataclass
class Segment:
    """A part of the net that runs on the chip in one go, between two parts that run on the CPU."""

    layers: list[Layer] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)


@dataclass(eq=False)
class Subject:
    """A net with its limits.

    `lines` are those of the fields of its prototxt as the user wrote it (caffe_io.field_lines), {} if there
    is none; `description` is the STEM.json beside it, and `files` are the prototxt and perhaps the
    caffemodel, for the commands that repair.
    """

    net: Net
    limits: Limits
    chip: str | None = None
    lines: Mapping[str, list[int]] = field(default_factory=dict)
    description: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[Path, ...] = ()

    # ---- shapes ----------------------------------------------------------------------------

    @cached_property
    def refused(self) -> dict[Layer, UserError]:
        """The layers that Caffe refuses, with its reason."""
        return self._walk[1]

    @cached_property
    def input_shapes(self) -> dict[str, Shape]:
        """The shapes of the net's inputs, as far as it declares them."""
        shapes = net_input_shapes(self.net)
        return {name: shapes[name] for name in self.net.inputs() if name in shapes}

    def bottom_shapes(self, layer: Layer) -> list[Shape]:
        """[] where one of them is not known."""
        return self._walk[0][layer][0]

    def top_shapes(self, layer: Layer) -> list[Shape]:
        """[] where they are not known."""
        return self._walk[0][layer][1]

    @cached_property
    def _walk(self) -> tuple[dict[Layer, tuple[list[Shape], list[Shape]]], dict[Layer, UserError]]:
        refused: dict[Layer, UserError] = {}
        shapes = {
            layer: (bottoms or [], tops or [])
            for layer, bottoms, tops in walk_shapes(self.net, refused=refused)
        }
        return shapes, refused

    def parameters(self, read: Callable[[Layer], Parameters], layer: Layer) -> Parameters | None:
        """A layer's parameters by a function of `params`; None where Caffe refuses the layer."""
        if layer in self.refused:
            return None
        try:
            return read(layer)
        except UserError:  # of a layer whose bottoms nobody knows, so that it is not among the refused
            return None

    # ---- wiring ----------------------------------------------------------------------------

    @cached_property
    def outputs(self) -> list[str]:
        """The blobs that nobody reads, but for inputs."""
        inputs = self.net.inputs()
        return [name for name in self.net.outputs() if name not in inputs]

    def source(self, layer: Layer, bottom: int = 0) -> Layer | None:
        """Who computed what the layer reads, past layers that only hand it on; None for an input."""
        writer = self.net.writer(layer, bottom)
        while writer is not None and writer.type in FORWARDING and writer.bottoms:
            writer = self.net.writer(writer)
        return writer

    @cached_property
    def segments(self) -> list[Segment]:
        """The parts between layers that run on the CPU: Custom, Proposal, and those named .._cpu."""
        place: dict[str, int] = dict.fromkeys(self.net.inputs(), 0)  # of who writes a blob; -1 - n: the CPU's
        found: list[Segment] = []
        for layer in self.net.layers:
            if layer.type == "Input":
                continue
            sources = [place.get(name, 0) for name in layer.bottoms]
            begins = max((one if one >= 0 else -one for one in sources), default=0)
            if runs_on_cpu(layer):
                place |= dict.fromkeys(layer.tops, -1 - begins)
                continue
            while len(found) <= begins:
                found.append(Segment())
            found[begins].layers.append(layer)
            place |= dict.fromkeys(layer.tops, begins)
        for segment in found:
            self._wire(segment)
        return [segment for segment in found if segment.layers]

    def _wire(self, segment: Segment) -> None:
        """Fills in what the segment reads from elsewhere, and what of it is read elsewhere, or by nobody."""
        own = set(segment.layers)
        inputs: dict[str, None] = {}
        outputs: dict[str, None] = {}
        for layer in segment.layers:
            for number, name in enumerate(layer.bottoms):
                if self.net.writer(layer, number) not in own:
                    inputs[name] = None
            for number, name in enumerate(layer.tops):
                readers = self.net.readers(layer, number)
                if not readers or not own.issuperset(readers) or name.endswith(REPORT):
                    outputs[name] = None
        segment.inputs, segment.outputs = list(inputs), list(outputs)

    # ---- repairs ---------------------------------------------------------------------------

    def command(self, name: str, *options: str) -> str:
        """A command of this program on the files that are checked."""
        files = [shlex.quote(str(path)) for path in self.files]
        files += ["PROTOTXT", "CAFFEMODEL"][len(files) :]
        if any(layer.type in OWN_CODE for layer in self.net.layers):
            options += ("--no-verify",)  # nobody here can run what is the user's own
        return " ".join(["nnie-prep", name, *files, *map(shlex.quote, options)])

    def set_fields(self, layer: Layer, **values: str) -> str:
        """`edit` that sets fields of a layer; __ in their names stands for a dot, "" unsets."""
        options = []
        for path, value in values.items():
            options += ["--set", f"layer[name={layer.name}].{path.replace('__', '.')}={value}"]
        return self.command("edit", *options)

    def cut(self, layer: Layer) -> str:
        """`edit` that ends the net before a layer; "" if weights follow, which make it no tail."""
        tail = {layer, *self._following(layer)}
        if any(one.blobs or one.type in LEARNED for one in tail):
            return ""
        gone = {name for one in tail for name in one.tops}
        kept = list(dict.fromkeys([*layer.bottoms, *(name for name in self.outputs if name not in gone)]))
        if any(name in self.net.inputs() for name in kept):
            return ""
        return self.command("edit", *(part for name in kept for part in ("--until", name)))

    def _following(self, layer: Layer) -> Iterator[Layer]:
        """All layers that depend on one."""
        fed = set(layer.tops)
        for later in self.net.layers[self.net.index(layer) + 1 :]:
            if fed.intersection(later.bottoms):
                fed.update(later.tops)
                yield later


def runs_on_cpu(layer: Layer) -> bool:
    """Whether the compiler leaves the layer to the user's own code, or to the CPU."""
    return layer.type in OWN_CODE or layer.name.endswith(CPU)


def line_of(origin: str) -> int:
    """The line in "deploy.prototxt:31"; 0 if there is none."""
    line = origin.rpartition(":")[2]
    return int(line) if line.isdecimal() else 0


def blocks(shape: Shape) -> str:
    """3x416x416."""
    return "x".join(map(str, shape))
