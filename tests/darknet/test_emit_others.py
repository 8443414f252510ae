"""The emitters of the other sections: what they refuse, and layers that they leave out."""

from __future__ import annotations

from pathlib import Path

import pytest
from darknet_texts import line_of, refusal, structure

from nnie_prep.nnie import check
from nnie_prep.shapes import infer_shapes

WRONG = [
    ("[connected]\nactivation=mish", 6, "computes zeros for activation=mish in [connected]"),
    ("[connected]\noutput=0", 6, "at least 1"),
    ("[connected]\ndontload=1", 6, "with dontload"),
    ("[softmax]\ngroups=5", 6, "groups=5 does not divide the 144 values"),
    ("[softmax]\ntemperature=0", 6, "at least 1e-06"),
    ("[softmax]\nspatial=1", 6, "one thing on the CPU and another on the GPU"),
    (
        "[softmax]\n[maxpool]\nsize=3",
        6,
        "[maxpool] needs height and width, but reads the vector of a [softmax]",
    ),
    ("[softmax]\n[upsample]\nstride=1", 6, "needs height and width"),
    ("[implicit]\nfilters=0", 6, "at least 1"),
    ("[implicit]\ndontload=1", 6, "with dontload"),
    ("[activation]\nactivation=swish", 6, "computes zeros for activation=swish in [activation]"),
    ("[activation]\nactivation=hard_mish", 6, "it knows it only in [convolutional]"),
    ("[upsample]\nstride=0", 6, "stride=0, expected another number"),
    ("[upsample]\nstride=-4", 6, "stride=-4 does not divide its input, 8 x 6"),
    ("[upsample]\nstride=4000", 5, "more than 2^31 - 1 elements"),
    ("[reorg]\nstride=2", 6, "needs channels divisible by 4, found 3"),
    ("[reorg3d]\nstride=4", 6, "stride=4 does not divide its input, 8 x 6"),
    ("[reorg3d]\nstride=2\nreverse=1", 6, "needs channels divisible by 16, found 3"),
    ("[crop]\ncrop_height=9\ncrop_width=6", 6, "crops to 9 x 6 an input of 8 x 6"),
    ("[crop]\ncrop_height=8\ncrop_width=7", 7, "crops to 8 x 7 an input of 8 x 6"),
    ("[normalization]\nsize=8", 6, "size=8 makes Darknet read beyond the 3 channels"),
]


@pytest.mark.parametrize(("text", "line", "words"), WRONG)
def test_refusals(text: str, line: int, words: str, tmp_path: Path) -> None:
    error = refusal(tmp_path, text)
    assert words in error.message and line_of(error) == line


@pytest.mark.parametrize("key", ["flatten", "extra"])
def test_reorg_of_pjreddie(key: str, tmp_path: Path) -> None:
    text = f"[reorg]\n{key}=1"
    assert f"[reorg] with {key} has no form" in refusal(tmp_path, text, flavor="pjreddie").message
    assert len(structure(tmp_path, text + "\n[maxpool]\nsize=3").warnings) == 1


def test_reorg_needs_sizes_that_the_stride_divides(tmp_path: Path) -> None:
    assert "does not divide its input, 8 x 6" in refusal(tmp_path, "[reorg]\nstride=4", (16, 8, 6)).message


def test_what_computes_nothing_needs_no_layer(tmp_path: Path) -> None:
    text = "[maxpool]\nsize=3\n[dropout]\n[empty]\n[upsample]\nstride=1\n[reorg]\n[crop]\nnoadjust=1\n"
    conversion = structure(tmp_path, text + "crop_height=8\ncrop_width=6\n[activation]\n[cost]")
    assert [layer.type for layer in conversion.net.layers] == ["Pooling"]
    assert {layer.blobs for layer in conversion.layers[:-1]} == {("layer1-maxpool",)}
    assert conversion.layers[-1].none == "a cost: only training computes it"


def test_a_vector_is_softmaxed_as_it_is(tmp_path: Path) -> None:
    types = [layer.type for layer in structure(tmp_path, "[avgpool]\n[softmax]").net.layers]
    assert types == ["Pooling", "Softmax"]


def test_a_picture_is_softmaxed_in_a_form_that_the_chip_takes(tmp_path: Path) -> None:
    """A Flatten, which NNIE has, where a Reshape to two axes is known before an InnerProduct alone."""
    net = structure(tmp_path, "[softmax]\ntemperature=2\n[softmax]\ngroups=2", shape=(3, 8, 12)).net
    assert infer_shapes(net)[net.layers[1].tops[0]] == (1, 288)
    assert [finding for finding in check(net) if finding.severity == "error"] == []


def test_a_tree_of_classes_is_left_to_the_cpu(tmp_path: Path) -> None:
    text = "[avgpool]\n[softmax]\ntree=data/9k.tree\ntemperature=2\n[cost]"
    conversion = structure(tmp_path, text)
    (head,) = conversion.heads
    assert head == {
        "index": 1,
        "section": "softmax",
        "line": 6,
        "blob": "layer1-avgpool",
        "shape": [3, 1, 1],
        "type": "softmax",
        "tree": "data/9k.tree",
        "temperature": 2.0,
    }
    assert "tree of classes" in conversion.layers[1].none and conversion.net.outputs() == ["layer1-avgpool"]


def test_upsample_is_nnies_own_where_that_is_the_same(tmp_path: Path) -> None:
    def kind(text: str, target: str) -> str:
        return structure(tmp_path, text, target=target).net.layers[0].type  # type: ignore[arg-type]

    assert kind("[upsample]", "nnie") == "Upsample"
    assert kind("[upsample]", "caffe") == kind("[upsample]\nscale=2", "nnie") == "Deconvolution"
    assert kind("[upsample]\nstride=3", "nnie") == "Deconvolution"
    assert kind("[upsample]\nstride=-2", "nnie") == "Convolution"
