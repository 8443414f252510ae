"""The one representation of a network: Caffe's layers in execution order.

A deploy prototxt and a caffemodel are one `Net`, saved without and with its blobs.

In-place layers keep the file's blob names, so a name may be written several times. Each writing
is a *version* of the blob, and a layer reads the version written last before it: Caffe's own rule.
All questions below are asked about versions; `readers(layer)` is "who reads this blob before it
is overwritten".
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from nnie_prep.blob import Blob
from nnie_prep.errors import UserError
from nnie_prep.names import REPORT
from nnie_prep.nnie_caffe_pb2 import LayerParameter, NetParameter

INPUT_FOLDED = "input folded: "  # begins a comment that must not be forgotten, see normalization.py


@dataclass(eq=False)
class Layer:
    """One Caffe layer. Two layers are the same only if they are one object.

    `proto` holds the parameters alone (name, type, convolution_param, param, include ...);
    `bottom`, `top` and `blobs` are lifted out of it and its own fields stay empty.
    `blobs` are float32 in Caffe's layout, [] where the weights are not known or there are none.
    `origin` says where the layer came from, "deploy.prototxt:310" or "yolov3.cfg:25".
    """

    proto: LayerParameter
    bottoms: list[str] = field(default_factory=list)
    tops: list[str] = field(default_factory=list)
    blobs: list[Blob] = field(default_factory=list)
    origin: str = ""

    @property
    def name(self) -> str:
        return self.proto.name

    @property
    def type(self) -> str:
        return self.proto.type

    def copy(self) -> Layer:
        """A layer of its own that shares the blobs, which nobody writes into."""
        proto = LayerParameter()
        proto.CopyFrom(self.proto)
        return Layer(proto, list(self.bottoms), list(self.tops), list(self.blobs), self.origin)

    def __repr__(self) -> str:
        return f"<{self.type} {self.name!r} {self.bottoms} -> {self.tops}>"


@dataclass(eq=False)
class Net:
    """Layers in execution order, and in `header` everything of the file that is not a layer.

    `comments` stand at the head of the written prototxt, one line each, without '#'.
    `source` names the file that the net was read from, for messages. `wanted` are the blobs, as they are
    written last, that the user asked for: outputs even where a layer reads them. Empty: all that are unread.
    """

    layers: list[Layer] = field(default_factory=list)
    header: NetParameter = field(default_factory=NetParameter)
    comments: list[str] = field(default_factory=list)
    source: str = ""
    wanted: tuple[str, ...] = ()

    def copy(self) -> Net:
        """A net of its own whose layers share their (immutable) blobs with this one."""
        layers = [layer.copy() for layer in self.layers]
        twin = Net(layers, comments=list(self.comments), source=self.source, wanted=self.wanted)
        twin.header.CopyFrom(self.header)
        return twin

    # ---- questions -------------------------------------------------------------------------

    def index(self, layer: Layer) -> int:
        """The layer's place in execution order."""
        return self.layers.index(layer)

    def layer(self, name: str) -> Layer | None:
        """The first layer of that name."""
        return next((layer for layer in self.layers if layer.name == name), None)

    def inputs(self) -> list[str]:
        """The blobs that the net is fed with: `input` fields, then tops of Input layers."""
        names = list(self.header.input)
        for layer in self.layers:
            if layer.type == "Input":
                names += layer.tops
        return names

    def blob_names(self) -> list[str]:
        """All blobs, inputs first, each once, in the order of their first writing."""
        names = dict.fromkeys(self.header.input)
        for layer in self.layers:
            names.update(dict.fromkeys(layer.tops))
        return list(names)

    def outputs(self) -> list[str]:
        """The blobs that nobody reads, in the order of their writing. Linear in the net."""
        unread: dict[str, None] = dict.fromkeys(self.header.input)
        for layer in self.layers:
            for name in layer.bottoms:
                unread.pop(name, None)
            for name in layer.tops:
                unread.pop(name, None)
                unread[name] = None
        return list(unread)

    def last_writers(self) -> dict[str, Layer]:
        """For each blob name the layer that writes it last."""
        return {name: layer for layer in self.layers for name in layer.tops}

    def makers(self, blobs: Collection[str], given: Collection[str] = ()) -> list[Layer]:
        """The layers that these blobs are computed by, from the net's inputs or from blobs that are given.

        By name alone: only a layer that reads a blob may write it again, so that who makes its last value
        makes all that came before it.
        """
        needed, makers = set(blobs), []
        for layer in reversed(self.layers):
            if not needed.isdisjoint(layer.tops):
                makers.append(layer)
                needed.update(name for name in layer.bottoms if name not in given)
        return makers[::-1]

    def is_wanted(self, layer: Layer, name: str) -> bool:
        """Whether this top of the layer is what the user asked for by its name, or is reported."""
        asked = name in self.wanted or name.endswith(REPORT)
        return asked and self.last_writers().get(name) is layer

    def writer(self, layer: Layer, bottom: int = 0) -> Layer | None:
        """Who writes what the layer reads as its bottom; None for an input of the net."""
        name = layer.bottoms[bottom]
        for candidate in reversed(self.layers[: self.index(layer)]):
            if name in candidate.tops:
                return candidate
        return None

    def readers(self, layer: Layer, top: int = 0) -> list[Layer]:
        """Who reads this top before it is overwritten; an in-place layer is a reader, and the last."""
        name = layer.tops[top]
        found = []
        for candidate in self.layers[self.index(layer) + 1 :]:
            if name in candidate.bottoms:
                found.append(candidate)
            if name in candidate.tops:
                break
        return found

    def only_reader(self, layer: Layer, *types: str) -> tuple[Layer | None, str]:
        """The one layer that reads the layer's only top, if it is of one of these types.

        Returns (reader, "") or (None, why not).
        """
        if len(layer.tops) != 1:
            return None, f"{layer.name} has {len(layer.tops)} tops"
        found = self.readers(layer)
        if not found or self.is_wanted(layer, layer.tops[0]):
            return None, f"{layer.tops[0]} is an output of the net"
        if len(found) > 1:
            names = ", ".join(reader.name for reader in found)
            return None, f"{layer.tops[0]} is read by {len(found)} layers ({names})"
        if types and found[0].type not in types:
            return None, f"{layer.tops[0]} is read by {found[0].name} ({found[0].type})"
        return found[0], ""

    def shared_params(self) -> dict[str, list[tuple[Layer, int]]]:
        """By the name of a param (`param { name: "w" }`) the layers that have it, and which of their blobs it
        is of; of those that several have."""
        users: dict[str, list[tuple[Layer, int]]] = {}
        for layer in self.layers:
            for place, spec in enumerate(layer.proto.param):
                if spec.name:
                    users.setdefault(spec.name, []).append((layer, place))
        return {name: found for name, found in users.items() if len(found) > 1}

    # ---- edits -----------------------------------------------------------------------------

    def remove(self, layer: Layer) -> None:
        """Takes the layer out; its readers keep their bottoms' names."""
        del self.layers[self.index(layer)]

    def drop_input(self, name: str) -> None:
        """Takes out one input with its shape; the Input layer too where that was its only top."""
        header = self.header
        if name in header.input:
            place = list(header.input).index(name)
            del header.input[place], header.input_shape[place : place + 1]
            del header.input_dim[4 * place : 4 * place + 4]
        for layer in [one for one in self.layers if one.type == "Input" and name in one.tops]:
            place = layer.tops.index(name)
            del layer.tops[place]
            if len(layer.proto.input_param.shape) > 1:
                del layer.proto.input_param.shape[place]
            if not layer.tops:
                self.remove(layer)

    def insert_after(self, layer: Layer, *new: Layer) -> None:
        """Puts layers right behind one."""
        position = self.index(layer) + 1
        self.layers[position:position] = new

    def insert_before(self, layer: Layer, *new: Layer) -> None:
        """Puts layers right before one."""
        position = self.index(layer)
        self.layers[position:position] = new

    def replace(self, layer: Layer, *new: Layer) -> None:
        """Puts layers in the place of one."""
        position = self.index(layer)
        self.layers[position : position + 1] = new

    def absorb(self, layer: Layer, follower: Layer) -> None:
        """Removes the only reader of the layer's top; the layer writes the follower's top instead.

        Where the order of the net's outputs would change, the layer moves to the follower's place;
        `memory.why_not_joined` says where it must not.
        """
        assert len(follower.bottoms) == len(follower.tops) == len(layer.tops) == 1
        moves = self.overtakes_output(layer, follower)
        layer.tops = [follower.tops[0]]
        if moves:
            self.remove(layer)
            self.replace(follower, layer)
        else:
            self.remove(follower)

    def rename_blob(self, old: str, new: str) -> None:
        """Renames all versions of a blob wherever the net names it; `new` must be free."""
        self.header.input[:] = [new if name == old else name for name in self.header.input]
        for place, comment in enumerate(self.comments):
            if comment.startswith(INPUT_FOLDED) and comment.endswith(f" {old}"):
                self.comments[place] = comment.removesuffix(old) + new
        for layer in self.layers:
            layer.bottoms = [new if name == old else name for name in layer.bottoms]
            layer.tops = [new if name == old else name for name in layer.tops]

    def rename_before(self, layer: Layer, old: str, new: str) -> None:
        """Renames what a layer in place overwrites, up to the layer, which is not in place then."""
        for one in self.layers[: self.index(layer)]:
            one.bottoms = [new if name == old else name for name in one.bottoms]
            one.tops = [new if name == old else name for name in one.tops]
        layer.bottoms = [new if name == old else name for name in layer.bottoms]

    def bypass(self, layer: Layer) -> str:
        """Removes a layer whose tops all equal its one bottom; "" or the reason why it cannot be.

        Readers of the tops read the bottom instead. A top that is an output of the net keeps its
        name and its place among the outputs, and the bottom is renamed upstream.
        """
        tops = layer.tops
        if len(layer.bottoms) != 1 or not tops or (len(tops) > 1 and layer.bottoms[0] in tops):
            return f"it has {len(layer.bottoms)} bottoms and {len(tops)} tops"
        bottom = layer.bottoms[0]
        readers = [self.readers(layer, index) for index in range(len(tops))]
        for top, found in zip(tops, readers, strict=True):
            if found and bottom != top and self.is_wanted(layer, top):
                return f"{top} is an output of the net, and read too"
            if not found and (reason := self._keep_output(layer, top)):
                return reason
        for top, found in zip(tops, readers, strict=True):
            for reader in found:
                # An in-place reader stops being in place and becomes the first writer of `top`.
                reader.bottoms = [bottom if name == top else name for name in reader.bottoms]
        self.remove(layer)
        return ""

    def _keep_output(self, layer: Layer, top: str) -> str:
        """Lets the writer of the layer's bottom write an output of the net; "" or why it cannot."""
        bottom = layer.bottoms[0]
        writer = self.writer(layer)
        if writer is None or writer.type == "Input" or (bottom != top and bottom in self.inputs()):
            if bottom == top:
                return f"{top} would be an input and an output of the net at once"
            return f"{top} is an output of the net, and {bottom} an input"
        others = [
            reader.name for reader in self.readers(writer, writer.tops.index(bottom)) if reader is not layer
        ]
        if others or len(layer.tops) > 1 or (bottom != top and self.is_wanted(writer, bottom)):
            return f"{top} is an output of the net, and {bottom} is read elsewhere too"
        if self.overtakes_output(writer, layer):
            if len(writer.tops) > 1:
                return f"{top} would change its place among the outputs of the net"
            self.remove(writer)
            self.insert_before(layer, writer)
        if bottom != top:
            self.rename_blob(bottom, top)
        return ""

    def overtakes_output(self, writer: Layer, layer: Layer) -> bool:
        """Whether one of the layer's tops is an output, and another output comes between it and the blob of
        the writer's that it is made of. Where the layer does not read that itself, the writer has one top."""
        read = layer.bottoms[0]
        between = writer.tops[writer.tops.index(read) + 1 :] if read in writer.tops else []
        for later in self.layers[self.index(writer) + 1 : self.index(layer)]:
            between += later.tops
        if not between:
            return False
        outputs = set(self.outputs())
        own = outputs.intersection(layer.tops)
        return bool(own) and not outputs.difference(own).isdisjoint(between)


def check_wiring(net: Net) -> None:
    """Raises UserError where a layer reads a blob that nobody wrote, or a blob is written twice.

    Caffe's rule: a name may be written again only by a layer that reads it as the bottom of the same
    place (in place), and then that layer is the only reader of what it overwrites (caffe
    src/caffe/net.cpp:365-378, and the Split layers that it inserts for several readers).
    """
    written: set[str] = set(net.header.input)
    readers: dict[str, list[str]] = {name: [] for name in written}
    for layer in net.layers:
        where = layer.origin or net.source
        for name in layer.bottoms:
            if name not in written:
                raise UserError(
                    f"layer {layer.name!r} reads blob {name!r}, which no layer before it writes",
                    where,
                    "correct the bottom, or move the layer behind the one that writes it",
                )
            readers[name].append(layer.name)
        for place, name in enumerate(layer.tops):
            if name in written:
                if layer.bottoms[place : place + 1] != [name]:
                    raise UserError(
                        f"layer {layer.name!r} writes blob {name!r}, which is written before it",
                        where,
                        "give the top a name of its own",
                    )
                if len(readers[name]) > 1:
                    raise UserError(
                        f"layer {layer.name!r} overwrites blob {name!r} in place, which "
                        f"{', '.join(readers[name][:-1])} read(s) too",
                        where,
                        "give its top a name of its own",
                    )
            written.add(name)
            readers[name] = []
