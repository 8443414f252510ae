"""Net: its questions, which are about versions of blobs, and its edits."""

from __future__ import annotations

import numpy as np
import pytest

from nnie_prep.blob import DeferredBlob
from nnie_prep.errors import UserError
from nnie_prep.net import INPUT_FOLDED, Layer, Net, check_wiring
from nnie_prep.nnie_caffe_pb2 import LayerParameter


def net(*lines: str, inputs: str = "data") -> Net:
    """A net of lines like "relu ReLU: a b -> c"; origins are the lines' numbers."""
    result = Net(source="drawn.prototxt")
    result.header.input.extend(inputs.split())
    for number, line in enumerate(lines, 1):
        head, wires = line.split(":")
        name, type_ = head.split()
        bottoms, tops = (side.split() for side in wires.split("->"))
        result.layers.append(
            Layer(LayerParameter(name=name, type=type_), bottoms, tops, origin=f"drawn.prototxt:{number}")
        )
    return result


def lines(found: Net) -> list[str]:
    return [f"{one.name}: {' '.join(one.bottoms)} -> {' '.join(one.tops)}" for one in found.layers]


def layer(found: Net, name: str) -> Layer:
    result = found.layer(name)
    assert result is not None
    return result


IN_PLACE = (
    "conv Convolution: data -> a",
    "bn BatchNorm: a -> a",
    "relu ReLU: a -> a",
    "pool Pooling: a -> b",
    "sum Eltwise: a b -> c",
)


# ---- questions -----------------------------------------------------------------------------------


def test_readers_are_those_before_the_blob_is_overwritten() -> None:
    found = net(*IN_PLACE)
    names = {one.name: [reader.name for reader in found.readers(one)] for one in found.layers}
    assert names == {"conv": ["bn"], "bn": ["relu"], "relu": ["pool", "sum"], "pool": ["sum"], "sum": []}


def test_readers_of_a_second_top() -> None:
    found = net("slice Slice: data -> a b", "conv Convolution: a -> c", "sum Eltwise: b c -> d")
    assert [one.name for one in found.readers(layer(found, "slice"), 1)] == ["sum"]


def test_the_writer_is_the_last_one_before() -> None:
    found = net(*IN_PLACE)
    writers = [found.writer(one) for one in found.layers]
    assert [one and one.name for one in writers] == [None, "conv", "bn", "relu", "relu"]
    sum_of_both = found.writer(layer(found, "sum"), 1)
    assert sum_of_both is layer(found, "pool")


def test_outputs_are_what_nobody_reads_in_the_order_of_writing() -> None:
    found = net(
        "slice Slice: data -> a b", "one Convolution: a -> c", "two ReLU: b -> b", "three Dropout: c -> c"
    )
    assert found.outputs() == ["b", "c"]
    assert net(inputs="x y").outputs() == ["x", "y"]
    assert net("conv Convolution: y -> z", inputs="x y").outputs() == ["x", "z"]


def test_inputs_are_those_of_the_header_and_of_input_layers() -> None:
    assert net("more Input: -> b c", "conv Convolution: b -> d", inputs="a").inputs() == ["a", "b", "c"]


def test_last_writers() -> None:
    found = net(*IN_PLACE)
    assert {name: one.name for name, one in found.last_writers().items()} == {
        "a": "relu",
        "b": "pool",
        "c": "sum",
    }


def test_only_reader_says_why_there_is_none() -> None:
    found = net(*IN_PLACE)
    reader, why = found.only_reader(layer(found, "conv"), "BatchNorm")
    assert (reader, why) == (layer(found, "bn"), "")
    assert found.only_reader(layer(found, "conv"), "Scale") == (None, "a is read by bn (BatchNorm)")
    assert found.only_reader(layer(found, "relu")) == (None, "a is read by 2 layers (pool, sum)")
    assert found.only_reader(layer(found, "sum")) == (None, "c is an output of the net")
    sliced = net("slice Slice: data -> a b")
    assert sliced.only_reader(sliced.layers[0]) == (None, "slice has 2 tops")


def test_a_layer_of_another_net_has_no_place() -> None:
    found = net(*IN_PLACE)
    with pytest.raises(ValueError):
        net(*IN_PLACE).index(found.layers[0])


# ---- edits ---------------------------------------------------------------------------------------


def test_insert_replace_remove() -> None:
    found = net("a X: data -> a", "b X: a -> b", "c X: b -> c")
    one, two, three, four = net("p X: data -> p", "q X: data -> q", "r X: data -> r", "s X: data -> s").layers
    found.insert_after(layer(found, "a"), one, two)
    found.insert_before(layer(found, "c"), three)
    found.replace(layer(found, "b"), four)
    found.remove(layer(found, "a"))
    assert [each.name for each in found.layers] == ["p", "q", "s", "r", "c"]


def test_absorb_takes_the_top_and_the_place() -> None:
    found = net("conv Convolution: data -> a", "other Convolution: data -> b", "bn BatchNorm: a -> c")
    found.absorb(layer(found, "conv"), layer(found, "bn"))
    assert lines(found) == ["other: data -> b", "conv: data -> c"]
    assert found.outputs() == ["b", "c"]


def test_rename_blob_renames_every_version() -> None:
    found = net(*IN_PLACE)
    found.rename_blob("a", "z")
    assert lines(found)[:4] == ["conv: data -> z", "bn: z -> z", "relu: z -> z", "pool: z -> b"]


def test_rename_blob_renames_what_is_said_of_that_input_alone() -> None:
    found = net(*IN_PLACE)
    found.comments = [f"{INPUT_FOLDED}scale=0.5 data", f"{INPUT_FOLDED}scale=0.5 other", "about data"]
    found.rename_blob("data", "x")
    assert found.inputs() == ["x"]
    assert found.comments == [f"{INPUT_FOLDED}scale=0.5 x", f"{INPUT_FOLDED}scale=0.5 other", "about data"]


BYPASSES = {
    "in place": (
        ["conv C: data -> a", "drop D: a -> a", "relu R: a -> a"],
        ["conv: data -> a", "relu: a -> a"],
    ),
    "a name of its own": (
        ["conv C: data -> a", "drop D: a -> b", "one C: b -> c", "two C: b -> d"],
        ["conv: data -> a", "one: a -> c", "two: a -> d"],
    ),
    "read by an in-place layer, which is in place no more": (
        ["conv C: data -> a", "drop D: a -> b", "relu R: b -> b", "one C: b -> c"],
        ["conv: data -> a", "relu: a -> b", "one: b -> c"],
    ),
    "the same beside another reader of the bottom": (
        ["conv C: data -> a", "drop D: a -> b", "relu R: b -> b", "sum E: a b -> c"],
        ["conv: data -> a", "relu: a -> b", "sum: a b -> c"],
    ),
    "both blobs read by one layer": (
        ["conv C: data -> a", "drop D: a -> b", "sum E: b a -> c"],
        ["conv: data -> a", "sum: a a -> c"],
    ),
    "several tops": (
        ["conv C: data -> a", "drop Split: a -> b c", "relu R: b -> b", "sum E: b c -> d"],
        ["conv: data -> a", "relu: a -> b", "sum: b a -> d"],
    ),
    "behind the input": (["drop D: data -> a", "conv C: a -> b"], ["conv: data -> b"]),
    "an output: the bottom takes its name": (
        ["conv C: data -> a", "relu R: a -> a", "drop D: a -> b"],
        ["conv: data -> b", "relu: b -> b"],
    ),
    "an output in place": (["conv C: data -> a", "drop D: a -> a"], ["conv: data -> a"]),
    "an output in place on an input that was overwritten before": (
        ["relu R: data -> data", "drop D: data -> data"],
        ["relu: data -> data"],
    ),
    "an output behind another one": (
        ["conv C: data -> a", "other C: data -> b", "drop D: a -> c"],
        ["other: data -> b", "conv: data -> c"],
    ),
    "an output in place behind another one": (
        ["conv C: data -> a", "other C: data -> b", "drop D: a -> a"],
        ["other: data -> b", "conv: data -> a"],
    ),
    "an output behind what is none": (
        ["conv C: data -> a", "other C: data -> b", "drop D: a -> c", "last C: b -> d"],
        ["conv: data -> c", "other: data -> b", "last: b -> d"],
    ),
    "the last of a Slice's tops": (
        ["slice Slice: data -> a b", "drop D: b -> c"],
        ["slice: data -> a c"],
    ),
}


@pytest.mark.parametrize("case", BYPASSES)
def test_bypass(case: str) -> None:
    before, after = BYPASSES[case]
    found = net(*before)
    check_wiring(found)
    outputs = found.outputs()
    assert found.bypass(layer(found, "drop")) == ""
    assert lines(found) == after
    assert found.outputs() == outputs
    check_wiring(found)


REFUSALS = {
    "a second bottom": (["drop D: data a -> b"], "data a", "it has 2 bottoms and 1 tops"),
    "no top": (["drop D: data ->"], "data", "it has 1 bottoms and 0 tops"),
    "an output straight from an input": (
        ["drop D: data -> b"],
        "data",
        "b is an output of the net, and data an input",
    ),
    "the same from an Input layer": (
        ["in Input: -> a", "drop D: a -> b"],
        "",
        "b is an output of the net, and a an input",
    ),
    "the same in place": (
        ["drop D: data -> data"],
        "data",
        "data would be an input and an output of the net at once",
    ),
    "an input's name is wanted for an output": (
        ["relu R: data -> data", "drop D: data -> b"],
        "data",
        "b is an output of the net, and data an input",
    ),
    "an output whose bottom is read elsewhere": (
        ["conv C: data -> a", "drop D: a -> b", "other C: a -> c"],
        "data",
        "b is an output of the net, and a is read elsewhere too",
    ),
    "an output beside a top that is read": (
        ["conv C: data -> a", "drop Split: a -> b c", "other C: b -> d"],
        "data",
        "c is an output of the net, and a is read elsewhere too",
    ),
    "an output that would go before another of its writer": (
        ["slice Slice: data -> a b", "drop D: a -> c"],
        "data",
        "c would change its place among the outputs of the net",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_bypass_refuses_and_changes_nothing(case: str) -> None:
    before, inputs, why = REFUSALS[case]
    found = net(*before, inputs=inputs)
    old = lines(found)
    assert found.bypass(layer(found, "drop")) == why
    assert lines(found) == old


# ---- check_wiring --------------------------------------------------------------------------------


def test_in_place_chains_are_wired_well() -> None:
    check_wiring(net(*IN_PLACE))
    check_wiring(net("relu R: data -> data", "conv C: data -> a"))


@pytest.mark.parametrize(
    ("wrong", "where", "what"),
    [
        (["conv C: x -> a"], 1, "layer 'conv' reads blob 'x', which no layer before it writes"),
        (
            ["one C: a -> b", "two C: data -> a"],
            1,
            "layer 'one' reads blob 'a', which no layer before it writes",
        ),
        (
            ["one C: data -> a", "two C: data -> a"],
            2,
            "layer 'two' writes blob 'a', which is written before it",
        ),
        (
            ["one C: data -> data2", "two C: data2 -> data"],
            2,
            "writes blob 'data', which is written before it",
        ),
        (["one C: data -> a a"], 1, "writes blob 'a', which is written before it"),
        # In place is by position: Caffe takes the second bottom's name for a blob of two writers.
        (["one C: data -> a", "sum E: data a -> a"], 2, "writes blob 'a', which is written before it"),
        (
            ["one C: data -> a", "two C: a -> b", "relu R: a -> a"],
            3,
            "layer 'relu' overwrites blob 'a' in place, which two read(s) too",
        ),
        (["sum E: data data -> data"], 1, "overwrites blob 'data' in place"),
    ],
)
def test_bad_wiring(wrong: list[str], where: int, what: str) -> None:
    with pytest.raises(UserError) as caught:
        check_wiring(net(*wrong))
    assert what in caught.value.message
    assert caught.value.where == f"drawn.prototxt:{where}"
    assert caught.value.hint


# ---- DeferredBlob --------------------------------------------------------------------------------


def test_a_deferred_blob_is_computed_at_each_reading() -> None:
    reads = []

    def compute() -> np.ndarray:
        reads.append(1)
        return np.arange(6.0).reshape(2, 3)

    blob = DeferredBlob([2, 3], compute)
    assert (blob.shape, blob.ndim, blob.size, blob.dtype) == ((2, 3), 2, 6, np.float32)
    assert not reads
    values = np.asarray(blob)
    assert values.dtype == np.float32
    assert values.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert np.asarray(blob, dtype=np.float64).dtype == np.float64
    assert len(reads) == 2


def test_a_deferred_blob_of_another_shape_is_our_own_fault() -> None:
    with pytest.raises(AssertionError):
        np.asarray(DeferredBlob([3], lambda: np.zeros(4)))
