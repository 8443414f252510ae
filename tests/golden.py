"""Golden cases of passes: tests/data/passes/PASS/CASE.prototxt holds a net before and after, and the notes.

    # What the case is about.
    layer { .. }                                    the net before
    # ---- after
    layer { .. }                                    the net after
    # ---- notes
    # + conv1: ..                                     changed
    #     bn1: folded into conv1                      and what became of its blobs
    #     head {"layer": ..}                          and what the CPU is to do instead
    # - bn2: not folded: ..                           declined

Weights that the net before does not spell out as `blobs` are random; blobs with a shape alone are
filled. `# no weights` leaves them out. `# wanted: fc, conv` names what the user asked for. The net after is
written without weights.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from contract import check, fed
from google.protobuf import text_format
from numpy.typing import NDArray
from strategies import Drawn

from nnie_prep.blob import Blob
from nnie_prep.blob_map import BlobMap, Note
from nnie_prep.net import Layer, Net, check_wiring
from nnie_prep.nnie_caffe_pb2 import LayerParameter, NetParameter
from nnie_prep.passes import Pass, run
from nnie_prep.shapes import blob_shapes, net_input_shapes, walk_shapes

FOLDER = Path(__file__).parent / "data" / "passes"


class Case(NamedTuple):
    drawn: Drawn
    expected: str  # the net after, and the notes


def cases(one: Pass) -> list[str]:
    """The names of a pass's cases."""
    return sorted(path.stem for path in (FOLDER / one.__name__).glob("*.prototxt"))


def compare(one: Pass, name: str) -> None:
    """Runs a case: the net and the notes are as the file says, and the promises of a pass are kept."""
    path = FOLDER / one.__name__ / f"{name}.prototxt"
    case = read(path)
    check_wiring(case.drawn.net)
    after = case.drawn.net.copy()
    notes = run(after, [one], BlobMap([]))[one.__name__]
    found = written(after, notes)
    assert found == case.expected, f"{path} says\n{case.expected}\nand it became\n{found}"
    check(case.drawn, [one])


def read(path: Path) -> Case:
    text = path.read_text()
    before, _, expected = text.partition("# ---- after\n")
    after = text_format.Parse(expected, NetParameter())
    random = np.random.default_rng(sum(map(ord, path.stem)))
    net = lifted(text_format.Parse(before, NetParameter()), random)
    if asked := re.search("^# wanted: (.*)", before, re.MULTILINE):
        net.wanted = tuple(asked[1].split(", "))
    if "# no weights" in before:
        return Case(Drawn(net, {}), expected)
    shapes = net_input_shapes(net) | net_input_shapes(lifted(after, random))
    for layer in net.layers:
        if not layer.bottoms and shapes.keys() & set(layer.tops):
            shapes = dict.fromkeys(layer.tops, (1, 2)) | shapes  # labels, of which nothing is left
    shared: dict[str, Blob] = {}
    for layer, bottoms, _ in walk_shapes(net, shapes):
        if not layer.blobs and bottoms is not None:
            needed = blob_shapes(layer, bottoms)
            layer.blobs = [filled(layer, place, shape, random) for place, shape in enumerate(needed)]
            for place, spec in enumerate(layer.proto.param[: len(needed)]):
                if spec.name:
                    layer.blobs[place] = shared.setdefault(spec.name, layer.blobs[place])
    feeds = {
        name: random.standard_normal(shapes[name]).astype(np.float32) for name in fed(net) if name in shapes
    }
    return Case(Drawn(net, feeds), expected)


def lifted(message: NetParameter, random: np.random.Generator) -> Net:
    """The net of a message that spells all of it out."""
    net = Net()
    for proto in message.layer:
        layer = Layer(LayerParameter(), list(proto.bottom), list(proto.top))
        for place, blob in enumerate(proto.blobs):
            shape = tuple(blob.shape.dim)
            values = (
                np.float32(blob.data).reshape(shape) if blob.data else filled(proto, place, shape, random)
            )
            layer.blobs.append(values)
        layer.proto.CopyFrom(proto)
        for field in ("bottom", "top", "blobs"):
            layer.proto.ClearField(field)
        net.layers.append(layer)
    net.header.CopyFrom(message)
    net.header.ClearField("layer")
    return net


def filled(
    layer: Layer | LayerParameter, place: int, shape: tuple[int, ...], random: np.random.Generator
) -> NDArray[np.float32]:
    """Random values for one blob; a BatchNorm's are sums over a factor of 0.5 (which NVCaffe's ignores)."""
    if layer.type == "BatchNorm" and place in (1, 2):
        return (
            np.full(shape, 0.5, np.float32)
            if place == 2
            else random.uniform(0.2, 2, shape).astype(np.float32)
        )
    return random.standard_normal(shape).astype(np.float32)


def written(net: Net, notes: Iterable[Note]) -> str:
    """What stands in the file behind "after"."""
    message = NetParameter()
    message.CopyFrom(net.header)
    for layer in net.layers:
        proto = message.layer.add()
        proto.CopyFrom(layer.proto)
        proto.bottom.extend(layer.bottoms)
        proto.top.extend(layer.tops)
    lines = ["# ---- notes"]
    for note in notes:
        lines.append(f"# {'+' if note.changed else '-'} {note.layer}: {note.text}")
        for name, fate in note.fates.items():
            lines.append(f"#     {name}: {', '.join(fate.blobs) or fate.reason}")
        lines += [f"#     head {json.dumps(head)}" for head in note.heads]
    return text_format.MessageToString(message) + "\n".join(lines) + "\n"
