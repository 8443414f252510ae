"""drop_heads: what is cut, and that what the notes say of it is all that the CPU needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contract import check
from draft import Draft
from golden import FOLDER, cases, compare, read
from google.protobuf import text_format
from google.protobuf.json_format import ParseDict
from hypothesis import given, settings
from hypothesis import strategies as st
from ssd_decoding import detections
from strategies import MOTIFS, Drawn, random_net

from nnie_prep.blob_map import Note
from nnie_prep.detection.cut_ssd import with_head
from nnie_prep.detection.fields import Fields
from nnie_prep.engines.numpy import forward
from nnie_prep.net import Layer, Net
from nnie_prep.nnie_caffe_pb2 import LayerParameter
from nnie_prep.passes.drop_heads import drop_heads
from nnie_prep.passes.drop_unreachable import drop_unreachable


@pytest.mark.parametrize("case", cases(drop_heads))
def test_golden(case: str) -> None:
    compare(drop_heads, case)


def heads_of(notes: list[Note]) -> list[Mapping[str, Any]]:
    return [head for note in notes for head in note.heads]


# What differs from the golden net, in its prototxt's words.
SSDS = {
    "as it is": "",
    "corners": "code_type: CORNER",
    "sizes of corners": "code_type: CORNER_SIZE",
    "variance in the target": "variance_encoded_in_target: true",
    "another background": "background_label_id: 2",
    "none but the best": "keep_top_k: 3",
    "a strict suppression": "nms_param { nms_threshold: 0.05 top_k: 100 }",
    "a loosening suppression": "nms_param { nms_threshold: 0.95 eta: 0.7 }",
    "few candidates": "nms_param { nms_threshold: 0.45 top_k: 7 }",
    "all that is found": "keep_top_k: -1",
    "hardly anything": "confidence_threshold: 0.9999",
}


@pytest.mark.parametrize("words", SSDS.values(), ids=SSDS)
@pytest.mark.parametrize("case", ["ssd", "ssd_one_map"])
def test_the_description_alone_gives_what_detection_output_gave(case: str, words: str) -> None:
    drawn = read(FOLDER / "drop_heads" / f"{case}.prototxt").drawn
    output = drawn.net.layers[-1].proto.detection_output_param
    if "nms_param" in words:
        output.ClearField("nms_param")
    text_format.Merge(words, output)
    feeds = {name: value / 20 for name, value in drawn.feeds.items()}  # else confidences are 1 and 1 and 1
    expected = forward(drawn.net.copy(), feeds, dtype=np.float64)["detection_out"]
    (head,) = heads_of(drop_heads(drawn.net))
    blobs = forward(drawn.net, feeds, dtype=np.float64)
    found = detections(head, {name: blobs[name] for name in drawn.net.outputs()})
    assert found.shape == expected[0, 0].shape
    # Numbers are written in 7 digits: 5e-8 of each.
    np.testing.assert_allclose(found, expected[0, 0], rtol=1e-5, atol=1e-6)
    assert len(found) > 2 or "9999" in words
    put_back = with_head(drawn.net, Fields(dict(head), "head", Path(), None))
    again = forward(put_back, feeds, dtype=np.float64)["detection_out"]
    np.testing.assert_allclose(again, expected, rtol=1e-5, atol=1e-6)


def test_the_sizes_of_priors_are_whole_pixels_and_ratios_are_flipped() -> None:
    """As SSD's own code has it; ours is held against it, and this against ours, by the test above."""
    (head,) = heads_of(drop_heads(read(FOLDER / "drop_heads" / "ssd.prototxt").drawn.net))
    first, second = (source["priors"] for source in head["sources"])
    assert [len(first["sizes"]), len(second["sizes"])] == [3, 6]
    assert first["step"] == [1.9, 25 / 13] and second["step"] == [3.75, 3.5]
    assert [source["map"] for source in head["sources"]] == [[10, 13], [5, 7]]
    assert second["clip"] and not first["clip"]


@pytest.mark.parametrize("value", [0.1, 0.12345679, 1.0000001])
def test_numbers_are_those_of_the_prototxt(value: float) -> None:
    net = read(FOLDER / "drop_heads" / "ssd.prototxt").drawn.net
    net.layers[-1].proto.detection_output_param.nms_param.nms_threshold = value
    (head,) = heads_of(drop_heads(net))
    assert head["nms_threshold"] == value


@pytest.mark.parametrize("axis", ["axis: -1", "concat_dim: 2"])
def test_priors_are_joined_along_their_last_axis_however_it_is_written(axis: str) -> None:
    found = []
    for words in ("axis: 2", axis):
        net = read(FOLDER / "drop_heads" / "ssd.prototxt").drawn.net
        joining = next(layer.proto for layer in net.layers if layer.name == "mbox_priorbox")
        joining.ClearField("concat_param")
        text_format.Merge(f"concat_param {{ {words} }}", joining)
        found.append(heads_of(drop_heads(net)))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("wanted", "stays"),
    [("mbox_conf", {"Permute", "Flatten", "Concat"}), ("mbox_priorbox", {"PriorBox", "Concat"})],
)
def test_what_is_wanted_by_name_stays_with_all_that_it_needs(wanted: str, stays: set[str]) -> None:
    drawn = read(FOLDER / "drop_heads" / "ssd.prototxt").drawn
    drawn.net.wanted = (wanted,)
    check(drawn, [drop_unreachable, drop_heads])
    drop_unreachable(drawn.net)
    drop_heads(drawn.net)
    types = {layer.type for layer in drawn.net.layers}
    assert types - {"Convolution", "ReLU"} == stays and wanted in drawn.net.outputs()


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda layer: layer.tops.clear(), "not cut: it has 2 bottoms and 0 tops"),
        (lambda layer: layer.bottoms.clear(), "not cut: it has 0 bottoms and 1 tops"),
        (
            lambda layer: layer.proto.yolov3_detection_output_param.biases.append(3),
            "not cut: 9 biases are no pairs of width and height",
        ),
    ],
)
def test_a_head_that_is_not_understood(spoil: Callable[[Layer], object], why: str) -> None:
    net = read(FOLDER / "drop_heads" / "yolov3.prototxt").drawn.net
    spoil(net.layers[-1])
    before = repr(net.layers)
    (note,) = drop_heads(net)
    assert not note.changed and note.text == why
    assert repr(net.layers) == before


def test_a_head_that_is_wanted_stays() -> None:
    net = read(FOLDER / "drop_heads" / "ssd.prototxt").drawn.net
    net.wanted = ("detection_out",)
    (note,) = drop_heads(net)
    assert note.text == "not cut: detection_out was asked for" and not note.changed


def tail(layer: Mapping[str, Any]) -> Layer:
    words = {key: value for key, value in layer.items() if key not in ("bottom", "top")}
    return Layer(ParseDict(words, LayerParameter()), list(layer["bottom"]), list(layer["top"]))


@pytest.mark.parametrize("case", ["permute_tail", "argmax", "ssd_without_output", "refinedet"])
def test_a_tail_can_be_put_together_from_its_description(case: str) -> None:
    drawn = read(FOLDER / "drop_heads" / f"{case}.prototxt").drawn
    source = drawn.net.copy()
    expected = forward(source, drawn.feeds, dtype=np.float64)
    notes = drop_heads(drawn.net)
    blobs = forward(drawn.net, drawn.feeds, dtype=np.float64)
    heads = heads_of(notes)
    assert sorted(head["output"] for head in heads) == sorted(source.outputs())
    for head in heads:
        cpu = Net(layers=[tail(layer) for layer in head["layers"]])
        feeds: dict[str, Any] = {}
        for read_ in head["reads"]:
            cpu.header.input.append(read_["name"])
            cpu.header.input_shape.add().dim.extend(read_["shape"])
            feeds[read_["name"]] = blobs[read_["blob"]] if "blob" in read_ else np.zeros(read_["shape"])
        assert {read_["blob"] for read_ in head["reads"] if "blob" in read_} <= set(drawn.net.outputs())
        found = forward(cpu, feeds, dtype=np.float64)
        # No engine computes a DetectionOutput of two stages: then what it reads is compared.
        ends = [head["output"]] if head["output"] in expected else head["layers"][-1]["bottom"]
        assert len(ends) == (5 if case == "refinedet" else 1)
        for name in ends:
            np.testing.assert_array_equal(found[name], expected[name])


def test_a_head_of_two_stages_reads_five_blobs() -> None:
    net = read(FOLDER / "drop_heads" / "refinedet.prototxt").drawn.net
    del net.layers[-1].bottoms[4]
    (note,) = [note for note in drop_heads(net) if note.layer == "detection_out"]
    assert note.text == "not cut: it has 4 bottoms, not location, confidence and priors"
    assert not note.changed and net.layers[-1].type == "DetectionOutput"


# ---- random nets ---------------------------------------------------------------------------------


TAILS = (["Permute"], ["Permute", "Softmax"], ["Softmax"], ["Flatten", "ArgMax"], ["Softmax", "ArgMax"])


def permute_tail(draft: Draft, x: str) -> str:
    """A head that ends in what an export put behind it, or in something that only looks so."""
    y = draft.convolution(x)
    for kind in draft.pick(
        ["Permute"], ["Permute", "Softmax"], ["Softmax"], ["Flatten", "ArgMax"], ["Softmax", "ArgMax"]
    ):
        batch, channels, *size = shape = draft.shapes[y]
        if kind == "Permute":
            order = draft.pick([0, 2, 3, 1], [0, 3, 1, 2])
            turned = tuple(shape[axis] for axis in order)
            y = draft.layer("Permute", [y], shapes=[turned], permute_param={"order": order})
        elif kind == "ArgMax":
            y = draft.layer("ArgMax", [y], shapes=[(batch, 1, *size)], argmax_param={"axis": 1})
        elif kind == "Flatten":
            y = draft.layer("Flatten", [y], shapes=[(batch, int(np.prod(shape[1:])))])
        else:
            y = draft.layer(kind, [y])
    if draft.coin(0.3) and len(draft.shapes[y]) == 4:
        draft.convolution(y, type_="Convolution")  # computes something behind it: no tail any more
    return x


def split_tail(draft: Draft, x: str) -> str:
    """Two tails that are joined, and one of them is read elsewhere too."""
    ends = []
    for _ in range(2):
        y = draft.convolution(x, type_="Convolution", outputs=4)
        batch, channels, height, width = draft.shapes[y]
        y = draft.layer(
            "Permute", [y], shapes=[(batch, height, width, channels)], permute_param={"order": [0, 2, 3, 1]}
        )
        ends.append(draft.layer("Flatten", [y], shapes=[(batch, channels * height * width)]))
    joined = (draft.shapes[ends[0]][0], 2 * draft.shapes[ends[0]][1])
    draft.layer("Concat", ends, shapes=[joined])
    if draft.coin():
        draft.inner_product(ends[0])
    return x


@settings(max_examples=80)
@given(
    st.lists(st.sampled_from((*MOTIFS, permute_tail, split_tail)), min_size=1, max_size=4),
    st.integers(0, 2**32 - 1),
)
def test_the_promises_on_random_nets(motifs: list[Any], seed: int) -> None:
    check(random_net(motifs, seed), [drop_heads])


def test_random_nets_are_cut_and_left() -> None:
    drawn: list[Drawn] = [random_net([permute_tail, split_tail], seed) for seed in range(60)]
    cut = [any(note.changed for note in drop_heads(one.net)) for one in drawn]
    assert 15 < sum(cut) <= 60 and any(layer.type == "Permute" for one in drawn for layer in one.net.layers)


def test_an_input_whose_shape_is_not_known() -> None:
    """Nothing can be said of the heads' maps, and nothing is refused for it."""
    drawn = read(FOLDER / "drop_heads" / "ssd.prototxt").drawn
    drawn.net.layers.insert(0, Layer(LayerParameter(name="shapeless", type="Input"), [], ["shapeless"]))
    notes = drop_heads(drawn.net)
    assert not any(note.changed for note in notes), notes
