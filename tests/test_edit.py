"""Edits of random nets: what must be kept is kept, to the bit; what is refused leaves the net as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contract import content, fed
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from strategies import Drawn, nets

from nnie_prep import edit
from nnie_prep.blob_map import BlobMap, Fate, Note
from nnie_prep.caffe_io import read_net
from nnie_prep.engines.numpy import forward
from nnie_prep.errors import UserError
from nnie_prep.net import Layer, Net, check_wiring
from nnie_prep.nnie_caffe_pb2 import LayerParameter
from nnie_prep.shapes import infer_shapes, net_input_shapes

Values = dict[str, NDArray[np.float32]]
SEEDS = st.integers(0, 2**32 - 1)
many = settings(max_examples=60)


def run(net: Net, values: Values) -> Values:
    return forward(net, {name: values[name] for name in fed(net)})


def mapped(before: Net, notes: list[Note]) -> BlobMap:
    blob_map = BlobMap(before.blob_names())
    blob_map.follow(notes)
    return blob_map


def check_map(before: Net, after: Net, notes: list[Note]) -> BlobMap:
    """Every blob is where the notes say; none that is there is said to be gone, but what was overwritten in
    place by a layer that is cut off."""
    blob_map = mapped(before, notes)
    found = [name for old in blob_map.names() for name in blob_map[old].blobs]
    assert len(found) == len(set(found)) and set(found) <= set(after.blob_names())
    writers = {name: layer.name for name, layer in before.last_writers().items()}
    for name in set(after.blob_names()).difference(found):
        assert not blob_map[name].blobs and after.last_writers()[name].name != writers[name]
    assert all(blob_map[old].blobs or blob_map[old].reason for old in blob_map.names())
    return blob_map


def leads_to(net: Net, layer: Layer, blobs: list[str]) -> bool:
    """Whether a value of the layer comes to one of these blobs, walked from reader to reader."""
    last = net.last_writers()
    todo, seen = [layer], set()
    while todo:
        one = todo.pop()
        if any(last[top] is one and top in blobs for top in one.tops):
            return True
        for place in range(len(one.tops)):
            todo += [reader for reader in net.readers(one, place) if id(reader) not in seen]
        seen.update(map(id, todo))
    return False


@many
@given(nets(), SEEDS)
def test_until(drawn: Drawn, seed: int) -> None:
    random = np.random.default_rng(seed)
    blobs = list(drawn.net.last_writers())
    chosen = list(random.choice(blobs, size=min(len(blobs), int(random.integers(1, 3))), replace=False))
    after = drawn.net.copy()
    try:
        notes = edit.until(after, chosen)
    except UserError as error:
        assert "overwrites memory that is needed" in error.message
        assert content(after) == content(drawn.net)
        return
    check_wiring(after)
    blob_map = check_map(drawn.net, after, notes)
    kept = {layer.name for layer in after.layers}
    assert {note.layer for note in notes if note.layer} == {one.name for one in drawn.net.layers} - kept
    assert kept == {layer.name for layer in drawn.net.layers if leads_to(drawn.net, layer, chosen)}
    assert set(after.inputs()) <= set(drawn.net.inputs())
    assert all(any(name in layer.bottoms for layer in after.layers) for name in after.header.input)
    shapes = infer_shapes(drawn.net)
    old = forward(drawn.net, drawn.feeds)
    for name, value in run(after, drawn.feeds).items():
        if blob_map[name].blobs:
            np.testing.assert_array_equal(value, old[name])
    assert all(blob_map[name].blobs == (name,) for name in chosen)
    assert infer_shapes(after).items() <= shapes.items()


@many
@given(nets(), SEEDS)
def test_from(drawn: Drawn, seed: int) -> None:
    """Fed with what the whole net computes there, the rest computes what the whole net does."""
    assume(not any(layer.type.endswith("Data") or "Loss" in layer.type for layer in drawn.net.layers))
    random = np.random.default_rng(seed)
    blobs = [name for name in drawn.net.last_writers() if name not in drawn.net.inputs()]
    assume(blobs)
    chosen = str(random.choice(blobs))
    after = drawn.net.copy()
    try:
        notes = edit.from_(after, [chosen])
    except UserError as error:
        assert content(after) == content(drawn.net)
        assert "nothing reads" in error.message or "cut" in error.message
        if "nothing reads" in error.message:
            assert chosen in drawn.net.outputs()
        return
    check_wiring(after)
    blob_map = check_map(drawn.net, after, notes)
    assert blob_map[chosen].blobs == (chosen,)
    assert chosen in after.inputs() and len(after.inputs()) == len(set(after.inputs()))
    before = drawn.net.layers
    assert not any(leads_to(drawn.net, one, [chosen]) for one in before if one.name in {
        layer.name for layer in after.layers if layer.type != "Input"
    })  # fmt: skip
    old = forward(drawn.net, drawn.feeds)
    new = run(after, {**old, **drawn.feeds})
    assert [name for name in drawn.net.outputs() if name in after.outputs()]
    for name, value in new.items():
        if blob_map[name].blobs:
            np.testing.assert_array_equal(value, old[name])
    assert net_input_shapes(after)[chosen] == old[chosen].shape


@many
@given(nets(), SEEDS)
def test_renames(drawn: Drawn, seed: int) -> None:
    random = np.random.default_rng(seed)
    after = drawn.net.copy()
    old = str(random.choice(after.blob_names()))
    layer = after.layers[random.integers(len(after.layers))].name
    notes = edit.rename_blob(after, old, "new") + edit.rename_layer(after, layer, "new layer")
    blob_map = check_map(drawn.net, after, notes)
    assert blob_map[old].blobs == ("new",) and old not in after.blob_names()
    assert [one.name for one in after.layers] == [
        "new layer" if one.name == layer else one.name for one in drawn.net.layers
    ]
    names = {name: blob_map[name].blobs[0] for name in drawn.net.blob_names()}
    assert after.inputs() == [names[name] for name in drawn.net.inputs()]
    assert after.outputs() == [names[name] for name in drawn.net.outputs()]
    feeds = {names[name]: value for name, value in drawn.feeds.items() if names[name] in fed(after)}
    before = forward(drawn.net, drawn.feeds)
    for name, value in forward(after, feeds).items():
        (source,) = [one for one in before if names[one] == name]
        np.testing.assert_array_equal(value, before[source])
    # and back again, it is the net that it was
    edit.rename_blob(after, "new", old)
    edit.rename_layer(after, "new layer", layer)
    assert content(after) == content(drawn.net)


@many
@given(nets(), SEEDS)
def test_drop(drawn: Drawn, seed: int) -> None:
    """What reads the layer's top computes on its bottom instead."""
    random = np.random.default_rng(seed)
    layer = drawn.net.layers[random.integers(len(drawn.net.layers))]
    after = drawn.net.copy()
    shapes = infer_shapes(drawn.net)
    try:
        notes = edit.drop(after, layer.name)
    except UserError as error:
        assert content(after) == content(drawn.net)
        same = {shapes.get(name) for name in (*layer.bottoms, *layer.tops)}
        if layer.bottoms and len(drawn.net.layers) > 1 and len(same) == 1 and None not in same:
            assert "cannot be dropped: " in error.message
        return
    check_wiring(after)
    assert [one.name for one in after.layers] == [
        one.name for one in drawn.net.layers if one.name != layer.name
    ]
    check_map(drawn.net, after, notes)
    if len(layer.tops) != 1 or len(layer.bottoms) != 1 or layer.bottoms[0] not in shapes:
        return  # behind a data layer shapes are not known, and what does not fit is not seen
    prefix = drawn.net.copy()
    prefix.layers = prefix.layers[: drawn.net.index(layer)]
    bottom = run(prefix, drawn.feeds)
    if drawn.net.last_writers()[layer.tops[0]] is not layer or layer.bottoms[0] not in bottom:
        return
    forced = {layer.tops[0]: bottom[layer.bottoms[0]]}
    old = forward(drawn.net, drawn.feeds, forced=forced)
    own = drawn.net.last_writers()
    new = run(after, drawn.feeds)
    for name, value in new.items():
        if name in own and own[name] is not layer and own[name].name in {one.name for one in after.layers}:
            np.testing.assert_array_equal(value, old[name])


@many
@given(nets(), SEEDS)
def test_input_shape_and_batch(drawn: Drawn, seed: int) -> None:
    random = np.random.default_rng(seed)
    inputs = drawn.net.inputs()
    assume(inputs)
    name = str(random.choice(inputs))
    shape = tuple(int(extent + random.integers(0, 3)) for extent in net_input_shapes(drawn.net)[name])
    after = drawn.net.copy()
    try:
        edit.input_shape(after, shape, name)
    except UserError:
        assert content(after) == content(drawn.net)
    else:
        assert infer_shapes(after) == infer_shapes(drawn.net, {name: shape})
        assert after.inputs() == inputs
    after = drawn.net.copy()
    count = int(random.integers(1, 5))
    wanted = {one: (count, *shape[1:]) for one, shape in net_input_shapes(drawn.net).items()}
    try:
        edit.batch(after, count)
    except UserError:
        assert content(after) == content(drawn.net)
    else:
        assert net_input_shapes(after) == wanted
        assert infer_shapes(after) == infer_shapes(drawn.net, wanted)


# ---- by hand ------------------------------------------------------------------------------------

NET = """
name: "net"
input: "data" input_dim: 1 input_dim: 4 input_dim: 9 input_dim: 7
layer { name: "c/1" type: "Convolution" bottom: "data" top: "c" param { lr_mult: 1 } param { lr_mult: 2 }
        convolution_param { num_output: 6 kernel_size: 3 pad: 0 weight_filler { type: "xavier" } } }
layer { name: "r" type: "ReLU" bottom: "c" top: "c" }
layer { name: "p" type: "Pooling" bottom: "c" top: "p" pooling_param { kernel_size: 2 } }
layer { name: "s" type: "Slice" bottom: "p" top: "left" top: "right" }
layer { name: "k" type: "Concat" bottom: "left" bottom: "p" top: "k" }
layer { name: "e" type: "Sigmoid" bottom: "k" top: "e" }
"""


@pytest.fixture
def net(tmp_path: Path) -> Net:
    path = tmp_path / "net.prototxt"
    path.write_text(NET)
    net = read_net(path)
    random = np.random.default_rng(0)
    net.layers[0].blobs = [random.standard_normal(shape).astype(np.float32) for shape in ((6, 4, 3, 3), (6,))]
    return net


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("layer[name=c/1].convolution_param.pad", "1", [1]),
        ("layer[name=c/1].convolution_param.stride", "2,1", [2, 1]),
        ("layer[0].convolution_param.stride", "[1, 2]", [1, 2]),
        ("layer[name=c/1].convolution_param.pad[0]", "2", [2]),
        ("layer[name=c/1].convolution_param.weight_filler.type", "msra", "msra"),
        ("layer[name=c/1].convolution_param.weight_filler.type", '"a b"', "a b"),
        ("layer[name=c/1].convolution_param.engine", "CAFFE", 1),
        ("layer[name=c/1].param[1].lr_mult", "0.25", 0.25),
        ("layer[name=c/1].param[1].lr_mult", "", 1.0),  # unset, the default
        ("layer[name=r].relu_param.negative_slope", "1e-1", pytest.approx(0.1)),
        ("layer[name=p].pooling_param.pool", "AVE", 1),
        ("layer[name=e].type", "TanH", "TanH"),
        ("name", "other name", "other name"),
        ("force_backward", "true", True),
    ],
)
def test_set_field(net: Net, path: str, value: str, expected: Any) -> None:
    before = content(net)
    edit.set_field(net, path, value)
    assert content(net) != before
    owner, _, rest = path.rpartition("].")
    at: Any = net.header
    if owner:
        selector = owner.partition("[")[2]
        number = selector.partition("]")[0]
        layer = net.layers[int(number)] if number.isdigit() else net.layer(number.removeprefix("name="))
        assert layer is not None
        at, rest = layer.proto, path.split("].", 1)[1]
    for step in rest.split("."):
        name, _, place = step.partition("[")
        last = at
        at = getattr(at, name)[int(place[:-1])] if place and name == "param" else getattr(at, name)
    assert (list(at) if hasattr(at, "append") else at) == expected
    assert value or not last.HasField(rest.split(".")[-1])


def test_set_wiring(net: Net) -> None:
    edit.set_field(net, "layer[name=e].bottom", "p")
    assert net.layers[-1].bottoms == ["p"] and net.outputs() == ["right", "k", "e"]
    edit.set_field(net, "layer[name=k].bottom[1]", "right")
    assert net.layers[-2].bottoms == ["left", "right"]
    (note,) = edit.set_field(net, "layer[name=k].top", "joined")
    assert net.layers[-2].tops == ["joined"]
    assert note.fates == {"k": Fate((), "gone: layer[name=k].top was set")}


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("layer[name=c/1].convolution_param.num_output", "8",
         "have shapes 6x4x3x3, 6, and it would need 8x4x3x3, 8"),
        ("layer[name=c/1].convolution_param.group", "2", "6x4x3x3, 6, and it would need 6x2x3x3, 6"),
        ("layer[name=c/1].convolution_param.bias_term", "false", "6x4x3x3, 6, and it would need 6x4x3x3;"),
        ("layer[name=c/1].convolution_param.kernel_size", "30", "net.prototxt:4: "),
        ("layer[name=c/1].convolution_param.pads", "1", "has no field 'pads'; did you mean pad?;"),
        ("layer[name=c/1].convolution_param", "1", "convolution_param holds fields of its own"),
        ("layer[name=c/1].convolution_param.pad.x", "1", "pad holds no fields"),
        ("layer[name=c/1].convolution_param.pad", "one", "'one' is no value of pad"),
        ("layer[name=c/1].convolution_param.pad", "-1", "'-1' is no value of pad"),
        ("layer[name=c/1].convolution_param.dilation[0]", "1", "dilation has 0 element(s)"),
        ("layer[name=c/1].convolution_param.group[0]", "1", "group is no list"),
        ("layer[name=c/1].convolution_param.group", "1 pad: 3", "is no value of group"),
        ("layer[name=c/1].param.lr_mult", "1", "is a list of 2; give a place"),
        ("layer[name=c/1].param[2].lr_mult", "1", "is a list of 2"),
        ("layer[name=p].pooling_param.pool", "MEDIAN", "is no value of pool"),
        ("layer[name=c].type", "X", "the net has no layer 'c'; blob c is written by c/1, r"),
        ("layer[name=q].type", "X", "the net has no layer 'q'; see `show`"),
        ("layer[17].type", "X", "the net has 6 layers; count them from 0"),
        ("layer[name=r]", "X", "names no field"),
        ("layer.type", "X", "names no field"),
        ("layer[name=r].name", "X", "rename it with --rename-layer"),
        ("layer[name=r].blobs[0].num", "1", "weights are not set by hand"),
        ("input_shape[0].dim[0]", "1", "set it with --input-shape"),
        ("colour", "red", "NetParameter has no field 'colour'"),
        ("layer[name=r].bottom", "p", "reads blob 'p', which no layer before it writes"),
        ("layer[name=e].bottom[1]", "p", "the layer has 1 of these"),
        ("layer[name=e].top", "p", "writes blob 'p', which is written before it"),
    ],
)  # fmt: skip
def test_fields_that_cannot_be_set(net: Net, path: str, value: str, says: str) -> None:
    before = content(net)
    with pytest.raises(UserError) as caught:
        edit.set_field(net, path, value)
    assert says in f"{caught.value};"
    assert content(net) == before


def test_without_weights_a_field_may_change_their_shapes(net: Net) -> None:
    net.layers[0].blobs = []
    edit.set_field(net, "layer[name=c/1].convolution_param.num_output", "8")
    assert infer_shapes(net)["k"] == (1, 12, 6, 4)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda net: edit.until(net, ["q"]), "the net has no blob 'q'; see `show -v`"),
        (lambda net: edit.until(net, ["c/1"]), "the net has no blob 'c/1'; layer c/1 writes c"),
        (lambda net: edit.until(net, ["data"]), "no layer would be left"),
        (lambda net: edit.from_(net, ["data"]), "is an input already"),
        (lambda net: edit.from_(net, ["e"]), "nothing reads e"),
        (lambda net: edit.from_(net, ["left"]), "layer 'k' needs blob 'p' too, which comes before the cut; "
         "begin there as well: --from p"),
        (lambda net: edit.rename_layer(net, "r", "p"), "layer 'r' cannot be called 'p': that name is taken"),
        (lambda net: edit.rename_layer(net, "r", ""), "that name is empty"),
        (lambda net: edit.rename_layer(net, "q", "t"), "the net has no layer 'q'"),
        (lambda net: edit.rename_blob(net, "c", "p"), "blob 'c' cannot be called 'p': that name is taken"),
        (lambda net: edit.rename_blob(net, "r", "x"), "the net has no blob 'r'; layer r writes c"),
        (lambda net: edit.input_shape(net, [1, 5, 9, 7]), "6x4x3x3, 6, and it would need 6x5x3x3, 6"),
        (lambda net: edit.input_shape(net, [1, 4, 2, 7]), "net.prototxt:4: "),
        (lambda net: edit.input_shape(net, [1, 4, 0, 7]), "cannot have shape 1x4x0x7"),
        (lambda net: edit.input_shape(net, [1, 4, 9, 9], "p"), "the net has no input 'p'; its inputs: data"),
        (lambda net: edit.batch(net, 0), "cannot have shape 0x4x9x7"),
        (lambda net: edit.batch(net, 10**20), "cannot have shape 100000000000000000000x4x9x7"),
        (lambda net: edit.custom(net, "e", [(1, 0)]), "a top of layer 'e' cannot have shape 1x0"),
        (lambda net: edit.custom(net, "e", [(1, 10**20)]), "cannot have shape 1x100000000000000000000"),
        (lambda net: edit.drop(net, "k"), "layer 'k' cannot be dropped: it has 2 bottoms and 1 tops"),
    ],
)  # fmt: skip
def test_refused(net: Net, change: Any, says: str) -> None:
    before = content(net)
    with pytest.raises(UserError) as caught:
        change(net)
    assert says in str(caught.value)
    assert content(net) == before


def test_a_net_that_nothing_is_fed_to() -> None:
    net = Net([Layer(LayerParameter(name="d", type="Data"), [], ["x"])])
    with pytest.raises(UserError, match="the net has no input; `strip` makes inputs of data layers"):
        edit.input_shape(net, [1, 4])


def test_several_cuts(net: Net) -> None:
    with pytest.raises(UserError, match="layer 's' is before the cut, and an output comes of it"):
        edit.from_(net, ["left", "p"])
    edit.set_field(net, "layer[name=k].bottom[1]", "right")
    edit.from_(net, ["left", "right"])
    assert net.inputs() == ["left", "right"] and [layer.name for layer in net.layers] == ["k", "e"]
    assert net_input_shapes(net) == {"left": (1, 3, 6, 4), "right": (1, 3, 6, 4)}
    assert not net.header.input_dim and net.outputs() == ["e"]


def test_a_cut_keeps_the_form_of_inputs(net: Net) -> None:
    net.header.ClearField("input")
    net.header.ClearField("input_dim")
    param = {"shape": [{"dim": [1, 4, 9, 7]}]}
    net.layers.insert(0, Layer(LayerParameter(name="i", type="Input", input_param=param), [], ["data"]))
    edit.rename_layer(net, "p", "x")
    edit.rename_layer(net, "k", "p")
    edit.from_(net, ["p"])
    assert not net.header.input and net.layers[0].type == "Input" and net.layers[0].name == "p_input"
    assert net.inputs() == ["p"] and net_input_shapes(net) == {"p": (1, 6, 6, 4)}


def test_inputs_of_one_layer(net: Net) -> None:
    """Two tops share a shape until one gets its own; the one that nobody needs goes with it."""
    net.header.ClearField("input")
    net.header.ClearField("input_dim")
    param = {"shape": [{"dim": [1, 4, 9, 7]}]}
    net.layers.insert(0, Layer(LayerParameter(name="i", type="Input", input_param=param), [], ["data", "b"]))
    net.layers.append(Layer(LayerParameter(name="b2", type="Power"), ["b"], ["b2"]))
    with pytest.raises(UserError, match="the net has 2 inputs; say which: data="):
        edit.input_shape(net, [1, 2])
    edit.input_shape(net, [3, 2], "b")
    assert net_input_shapes(net) == {"data": (1, 4, 9, 7), "b": (3, 2)}
    edit.batch(net, 5)
    assert net_input_shapes(net) == {"data": (5, 4, 9, 7), "b": (5, 2)}
    edit.until(net, ["b2"])
    assert net_input_shapes(net) == {"b": (5, 2)} and len(net.layers) == 2


@pytest.mark.parametrize(("bottoms", "tops"), [(["e"], []), ([], ["x"])])
def test_what_computes_nothing_is_no_layer_of_ones_own(net: Net, bottoms: list[str], tops: list[str]) -> None:
    net.layers.append(Layer(LayerParameter(name="odd", type="Odd"), bottoms, tops))
    with pytest.raises(UserError, match=f"layer 'odd' has no {'top' if bottoms else 'bottom'}"):
        edit.custom(net, "odd")


def test_drop_the_last_layer(net: Net) -> None:
    (note,) = edit.drop(net, "e")
    assert net.outputs() == ["right", "k"] and not note.fates["e"].blobs
    (note,) = edit.drop(net, "r")
    assert [layer.tops[0] for layer in net.layers] == ["c", "p", "left", "k"] and not note.fates


def relu(name: str, blob: str) -> Layer:
    """In place."""
    return Layer(LayerParameter(name=name, type="ReLU"), [blob], [blob])


def test_a_blob_that_only_its_in_place_writer_reads(net: Net) -> None:
    net.layers.append(relu("last", "e"))
    with pytest.raises(UserError, match="nothing reads e"):
        edit.from_(net, ["e"])


def test_a_top_that_is_left_without_its_in_place_writer(net: Net) -> None:
    """Slice goes on writing it, and that is not the value it had."""
    slice_ = net.layer("s")
    assert slice_ is not None
    net.insert_after(slice_, relu("later", "right"))
    before = net.copy()
    notes = edit.until(net, ["left"])
    assert net.outputs() == ["left", "right"]
    blob_map = mapped(before, notes)
    assert blob_map["left"].blobs == ("left",) and not blob_map["right"].blobs


def test_drop_a_layer_whose_first_top_alone_is_read(net: Net) -> None:
    before = content(net)
    with pytest.raises(UserError, match="layer 's' cannot be dropped: "):
        edit.drop(net, "s")
    assert content(net) == before


def test_memory_that_the_tops_of_a_split_share() -> None:
    """A ReLU in place on one of them is seen in the other, unless that was copied before."""
    net = Net([Layer(LayerParameter(name="split", type="Split"), ["x"], ["a", "b"])])
    net.header.input.append("x")
    net.layers += [relu("copy", "a"), relu("in_place", "b")]
    net.layers[1].tops = ["copied"]
    net.layers.append(Layer(LayerParameter(name="sum", type="Eltwise"), ["copied", "b"], ["sum"]))
    net.layers.append(Layer(LayerParameter(name="late", type="AbsVal"), ["a"], ["late"]))
    before = content(net)
    with pytest.raises(UserError, match="'copy' cannot be dropped: in Caffe in_place overwrites memory"):
        edit.drop(net, "copy")
    with pytest.raises(UserError, match="'in_place' overwrites memory that is needed") as caught:
        edit.until(net, ["late"])
    assert caught.value.hint == "end the net there as well: --until b"
    assert content(net) == before


def test_set_one_element(net: Net) -> None:
    edit.set_field(net, "layer[0].convolution_param.stride", "2,1")
    edit.set_field(net, "layer[0].convolution_param.stride[1]", "3")
    assert list(net.layers[0].proto.convolution_param.stride) == [2, 3]
    assert infer_shapes(net)["c"] == (1, 6, 4, 2)
