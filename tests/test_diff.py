"""Random nets with known changes: each is listed as what it is, and nothing else is."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from unittest.mock import ANY

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from strategies import Drawn, nets

from nnie_prep.blob import DeferredBlob
from nnie_prep.caffe_io import format_prototxt, read_net, write_caffemodel
from nnie_prep.diff import Difference, LayerChange, ValueChange, diff, field_values
from nnie_prep.net import Layer, Net
from nnie_prep.nnie_caffe_pb2 import LayerParameter, NetParameter
from nnie_prep.shapes import infer_shapes


def changed(found: Difference) -> dict[str, LayerChange]:
    return {change.b.name: change for change in found.changed}


@settings(max_examples=40)
@given(nets())
def test_a_net_equals_its_copy(drawn: Drawn) -> None:
    for weights in (True, False):
        found = diff(drawn.net, drawn.net.copy(), weights=weights)
        assert found.is_empty and found.common == len(drawn.net.layers)


def test_any_one_difference_is_a_difference() -> None:
    """`nnie-prep diff` answers by it."""
    kinds = [field.name for field in fields(Difference) if field.name != "common"]
    assert len(kinds) == 5 and Difference(common=3).is_empty
    for kind in kinds:
        assert not Difference(**{kind: [ANY]}).is_empty, kind


@settings(max_examples=60)
@given(nets(), st.integers(0, 2**32 - 1))
def test_a_changed_weight(drawn: Drawn, seed: int) -> None:
    """One value of one blob, by an amount that is known."""
    random = np.random.default_rng(seed)
    other = drawn.net.copy()
    layers = [layer for layer in other.layers if any(blob.size for blob in layer.blobs)]
    if not layers:
        return
    layer = layers[random.integers(len(layers))]
    index = int(random.integers(len(layer.blobs)))
    old = np.asarray(layer.blobs[index])
    new = old.copy()
    place = int(random.integers(old.size))
    new.reshape(-1)[place] += np.float32(random.uniform(0.5, 2)) * random.choice([-1, 1])
    layer.blobs[index] = new
    found = diff(drawn.net, other)
    assert not (found.header or found.removed or found.added or found.moved)
    (change,) = found.changed
    assert change.b is layer and not change.values and not change.shapes
    (blob,) = change.blobs
    step = abs(float(new.reshape(-1)[place]) - float(old.reshape(-1)[place]))
    assert (blob.index, blob.a, blob.b, blob.differing) == (index, old.shape, old.shape, 1)
    assert blob.max_abs == step
    largest = max(abs(float(value)) for value in old.reshape(-1))
    assert blob.relative == (pytest.approx(step / largest, rel=1e-12) if largest else math.inf)
    assert diff(drawn.net, other, weights=False).is_empty


@settings(max_examples=60)
@given(nets(), st.integers(0, 2**32 - 1))
def test_removed_added_and_rewired(drawn: Drawn, seed: int) -> None:
    """An identity is taken out, or put in: layer, wiring and outputs are as the edit made them."""
    random = np.random.default_rng(seed)
    other = drawn.net.copy()
    layer = other.layers[random.integers(len(other.layers))]
    if not layer.tops:
        return
    top = layer.tops[0]
    readers = other.readers(layer)
    twin = Layer(LayerParameter(name="new", type="Power"), [top], ["new blob"])
    other.insert_after(layer, twin)
    for reader in readers:
        if reader.tops != reader.bottoms:
            reader.bottoms = ["new blob" if name == top else name for name in reader.bottoms]
    shape = infer_shapes(drawn.net).get(top)
    expected = {
        reader.name: [ValueChange("bottom", before.bottoms, reader.bottoms)]
        for reader in readers
        for before in drawn.net.layers
        if before.name == reader.name and before.bottoms != reader.bottoms
    }
    found = diff(drawn.net, other)
    assert found.added == [twin] and not found.removed and not found.moved
    assert {name: list(change.values) for name, change in changed(found).items()} == expected
    assert not any(change.blobs for change in found.changed)
    assert shape is None or not any(change.shapes for change in found.changed)
    outputs = [change for change in found.header if change.what == "outputs"]
    assert [(change.a, change.b) for change in outputs] == [(drawn.net.outputs(), other.outputs())] * (
        drawn.net.outputs() != other.outputs()
    )

    back = diff(other, drawn.net)
    assert back.removed == [twin] and not back.added
    assert {
        name: [(value.b, value.a) for value in change.values] for name, change in changed(back).items()
    } == {name: [(value.a, value.b) for value in values] for name, values in expected.items()}


@settings(max_examples=60)
@given(nets(), st.integers(0, 2**32 - 1))
def test_moved(drawn: Drawn, seed: int) -> None:
    """The fewest layers that explain the order: checked against all subsets where the net is small."""
    random = np.random.default_rng(seed)
    a = Net([Layer(LayerParameter(name=f"{i}", type="Power"), ["x"], [f"{i}"]) for i in range(7)])
    a.header.CopyFrom(NetParameter(input=["x"], input_shape=[{"dim": [1, 2]}]))
    b = a.copy()
    b.layers = [b.layers[place] for place in random.permutation(7)]
    found = diff(a, b)
    order = [int(layer.name) for layer in b.layers]
    longest = max(
        size
        for size in range(8)
        for kept in itertools.combinations(order, size)
        if list(kept) == sorted(kept)
    )
    assert len(found.moved) == 7 - longest
    rest = [name for name in order if str(name) not in found.moved]
    assert rest == sorted(rest)
    assert not found.changed and not found.added and not found.removed


NET = """
name: "net"
input: "data" input_shape { dim: 1 dim: 4 dim: 9 dim: 7 }
layer { name: "c" type: "Convolution" bottom: "data" top: "c" param { lr_mult: 0.1 } param { lr_mult: 2 }
        convolution_param { num_output: 6 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "r" type: "ReLU" bottom: "c" top: "c" }
layer { name: "p" type: "Pooling" bottom: "c" top: "p" pooling_param { kernel_size: 2 } }
layer { name: "m" type: "Mystery" bottom: "p" top: "m" }
"""


def parsed(folder: Path, text: str) -> Net:
    path = folder / "net.prototxt"
    path.write_text(text)
    return read_net(path)


@pytest.mark.parametrize(
    ("old", "new", "layer", "expected"),
    [
        ("kernel_size: 3", "kernel_size: 3 pad: 1", "c", ("convolution_param.pad", None, [1])),
        ("lr_mult: 2", "lr_mult: 0.3", "c", ("param[1].lr_mult", 2.0, 0.3)),
        ("lr_mult: 0.1", "", "c", ("param[0].lr_mult", 0.1, None)),
        ("{ lr_mult: 2 }", "{}", "c", ("param[1].lr_mult", 2.0, None)),
        ('"xavier"', '"msra"', "c", ("convolution_param.weight_filler.type", "xavier", "msra")),
        ("kernel_size: 2", "kernel_size: 2 pool: AVE", "p", ("pooling_param.pool", None, "AVE")),
        ("kernel_size: 2", "kernel_size: 2 pool: MAX", "p", ("pooling_param.pool", None, "MAX")),
        ('type: "ReLU"', 'type: "TanH"', "r", ("type", "ReLU", "TanH")),
        ('bottom: "p" top: "m"', 'bottom: "c" top: "m"', "m", ("bottom", ["p"], ["c"])),
        ('top: "m"', 'top: "n"', "m", ("top", ["m"], ["n"])),
    ],
)
def test_a_field(
    tmp_path: Path, old: str, new: str, layer: str, expected: tuple[str, object, object]
) -> None:
    assert NET.count(old) == 1
    a, b = parsed(tmp_path, NET), parsed(tmp_path, NET.replace(old, new))
    change = changed(diff(a, b, weights=False))[layer]
    assert ValueChange(*expected) in change.values
    assert len(change.values) == 1
    change = changed(diff(b, a, weights=False))[layer]
    assert ValueChange(expected[0], expected[2], expected[1]) in change.values


def test_shapes_follow_a_field(tmp_path: Path) -> None:
    """9x7 less a kernel of 3, halved; then of 5 outputs, and with a group of 2 half the weights."""
    a = parsed(tmp_path, NET)
    b = parsed(tmp_path, NET.replace("num_output: 6", "num_output: 8 group: 2"))
    found = diff(a, b, weights=False)
    assert [
        (name, [(value.what, value.a, value.b) for value in change.shapes])
        for name, change in changed(found).items()
    ] == [
        ("c", [("c", [1, 6, 7, 5], [1, 8, 7, 5])]),
        ("r", [("c", [1, 6, 7, 5], [1, 8, 7, 5])]),
        ("p", [("p", [1, 6, 6, 4], [1, 8, 6, 4])]),
    ]
    assert [(blob.index, blob.a, blob.b) for blob in changed(found)["c"].blobs] == [
        (0, (6, 4, 3, 3), (8, 2, 3, 3)), (1, (6,), (8,))
    ]  # fmt: skip


def test_a_shape_that_becomes_known(tmp_path: Path) -> None:
    a, b = parsed(tmp_path, NET), parsed(tmp_path, NET.replace("Mystery", "Sigmoid"))
    change = changed(diff(a, b, weights=False))["m"]
    assert change.shapes == (ValueChange("m", None, [1, 6, 6, 4]),)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('name: "net"', "", ("name", "net", None)),
        ("dim: 9", "dim: 10", ("input data", [1, 4, 9, 7], [1, 4, 10, 7])),
        ('name: "net"', 'name: "net" force_backward: true', ("force_backward", None, True)),
    ],
)
def test_the_header(tmp_path: Path, old: str, new: str, expected: tuple[str, object, object]) -> None:
    found = diff(parsed(tmp_path, NET), parsed(tmp_path, NET.replace(old, new)), weights=False)
    assert found.header == [ValueChange(*expected)]


def test_inputs_are_compared_however_they_are_declared(tmp_path: Path) -> None:
    shape = "input_shape { dim: 1 dim: 4 dim: 9 dim: 7 }"
    a = parsed(tmp_path, NET)
    b = parsed(tmp_path, NET.replace(shape, "input_dim: 1 input_dim: 4 input_dim: 9 input_dim: 7"))
    assert diff(a, b, weights=False).is_empty
    layer = 'layer { name: "data" type: "Input" top: "data" input_param { shape { '
    layer += "dim: 1 dim: 4 dim: 9 dim: 7 } } }"
    b = parsed(tmp_path, NET.replace(f'input: "data" {shape}', layer))
    found = diff(a, b, weights=False)
    assert not found.header and [one.name for one in found.added] == ["data"] and not found.changed


def test_layers_of_one_name(tmp_path: Path) -> None:
    twins = NET + "".join(
        f'layer {{ name: "m" type: "Power" bottom: "p" top: "{i}" power_param {{ shift: {i} }} }}'
        for i in (1, 2)
    )
    a, b = parsed(tmp_path, twins), parsed(tmp_path, twins.replace("shift: 2", "shift: 3"))
    (change,) = diff(a, b, weights=False).changed
    assert change.a.tops == ["2"] and change.values == (ValueChange("power_param.shift", 2.0, 3.0),)
    found = diff(a, parsed(tmp_path, NET), weights=False)
    assert [layer.tops for layer in found.removed] == [["1"], ["2"]]


def blob_change(a: NDArray[np.float32], b: NDArray[np.float32]) -> tuple[object, ...]:
    def net(values: NDArray[np.float32]) -> Net:
        layer = Layer(LayerParameter(name="m", type="Mystery"), [], ["m"], [values])
        return Net([layer])

    found = diff(net(a), net(b))
    if found.is_empty:
        return ()
    ((blob,),) = (change.blobs for change in found.changed)
    return blob.differing, blob.max_abs, blob.relative


def test_values_that_are_no_numbers() -> None:
    values = np.float32([1, -4, 0, 2])
    assert blob_change(values, np.float32([1, -4, -0.0, 2])) == ()
    assert blob_change(np.float32([np.nan, np.inf]), np.float32([np.nan, np.inf])) == ()
    assert blob_change(values, np.float32([1, -4, np.nan, 2])) == (1, math.inf, math.inf)
    assert blob_change(values, np.float32([1, -4, np.inf, 3])) == (2, math.inf, math.inf)
    assert blob_change(np.float32([np.inf, 4]), np.float32([np.inf, 5])) == (1, 1.0, 0.25)
    assert blob_change(np.float32([0, 0]), np.float32([0, 0.5])) == (1, 0.5, math.inf)
    assert blob_change(np.float32([3e38, 1]), np.float32([-3e38, 1]))[1] == pytest.approx(6e38)


def test_blobs_of_other_shapes_and_numbers(tmp_path: Path) -> None:
    def net(*shapes: tuple[int, ...]) -> Net:
        blobs = [np.ones(shape, np.float32) for shape in shapes]
        return Net([Layer(LayerParameter(name="m", type="Mystery"), [], ["m"], list(blobs))])

    (change,) = diff(net((2, 3), (4,)), net((3, 2))).changed
    assert [(blob.index, blob.a, blob.b, blob.max_abs) for blob in change.blobs] == [
        (0, (2, 3), (3, 2), None), (1, (4,), None, None)
    ]  # fmt: skip
    assert diff(net((2, 3)), net((3, 2)), weights=False).is_empty  # nobody knows what Mystery needs


@pytest.mark.parametrize("cut", [1, 1000, 2**18 - 1, 2**18, 300_001])
def test_pieces_need_not_match(cut: int) -> None:
    """One difference, wherever it lies, in blobs that come in pieces of other lengths."""
    values = np.random.default_rng(cut).standard_normal(600_000).astype(np.float32)
    place = {1: 0, 1000: 1000}.get(cut, cut - 1)
    other = values.copy()
    other[place] += 1

    def net(blob: object) -> Net:
        return Net([Layer(LayerParameter(name="m", type="Mystery"), [], ["m"], [blob])])  # type: ignore[list-item]

    pieces = [other[:cut], other[cut : cut + 7], other[cut + 7 :]]
    deferred = DeferredBlob(other.shape, lambda: pytest.fail("read whole"), lambda unit: iter(pieces))
    (change,) = diff(net(values), net(deferred)).changed
    assert change.blobs[0].differing == 1
    assert change.blobs[0].max_abs == float(np.float64(other[place]) - np.float64(values[place]))
    pieces[:] = [values[:cut], values[cut:]]
    assert diff(net(values), net(deferred)).is_empty


def test_from_files(tmp_path: Path) -> None:
    """Read from the disk, in which weights stay until they are compared."""
    net = parsed(tmp_path, NET)
    random = np.random.default_rng(0)
    net.layers[0].blobs = [random.standard_normal(shape).astype(np.float32) for shape in ((6, 4, 3, 3), (6,))]

    def stored(net: Net, stem: str, write: Callable[[Net], None] = lambda net: None) -> Net:
        twin = net.copy()
        write(twin)
        prototxt, caffemodel = tmp_path / f"{stem}.prototxt", tmp_path / f"{stem}.caffemodel"
        prototxt.write_text(format_prototxt(twin))
        with caffemodel.open("wb") as file:
            write_caffemodel(twin, file)
        return read_net(prototxt, caffemodel)

    def halve(net: Net) -> None:
        net.layers[0].blobs[0] = np.asarray(net.layers[0].blobs[0]) / 2

    assert diff(stored(net, "a"), stored(net, "b")).is_empty
    (change,) = diff(stored(net, "a"), stored(net, "b", halve)).changed
    (blob,) = change.blobs
    assert (blob.index, blob.differing, blob.relative) == (0, 216, 0.5)


def test_a_float_is_given_as_it_is_written() -> None:
    layer = LayerParameter(name="p", type="Power", power_param={"scale": 0.1, "shift": float("inf")})
    assert field_values(layer) == {
        "name": "p", "type": "Power", "power_param.scale": 0.1, "power_param.shift": math.inf
    }  # fmt: skip
