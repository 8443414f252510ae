"""The converter as a whole: equal to real Darknet, complete, and plain about what it refuses."""

from __future__ import annotations

import json
import struct
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from darknet_cases import CASES, DarknetCase, darknet_case
from darknet_texts import line_of, refusal, structure, written
from numpy.typing import NDArray

from nnie_prep.blob_map import BlobMap, Fate, Note
from nnie_prep.caffe_io import format_prototxt, write_caffemodel
from nnie_prep.darknet import EMITTERS, Conversion, convert, describe
from nnie_prep.darknet import REFUSED as NOT_CONVERTED
from nnie_prep.darknet.builder import Target
from nnie_prep.darknet.cfg import ALIASES
from nnie_prep.darknet.weights import BatchNormForm
from nnie_prep.engines import caffe_engine
from nnie_prep.engines.numpy import forward
from nnie_prep.errors import UserError
from nnie_prep.net import check_wiring

# Line of the cfg, and what the message says of it. All other cases convert.
REFUSED = {
    "act_conv_all": (179, "activation=stair has no form in Caffe"),
    "act_unknown": (22, "activation=foo is not known; Darknet computes relu"),
    "local_s2_pad": (16, "[local] has weights of its own for every place"),
    "reorg_extra_pj": (16, "[reorg] with extra has no form"),
    "reorg_flatten_pj": (17, "[reorg] with flatten has no form"),
}
REFUSED_FOR_SEVERAL_REASONS = ("act_layer_broken", "local")
# AlexeyAB's CPU code has no case for relu6 and computes zeros.
FAULTS = ("act_conv_relu6_asis",)
CONVERTED = [name for name in CASES if name not in {*REFUSED, *REFUSED_FOR_SEVERAL_REASONS, *FAULTS}]
TARGETS: tuple[Target, ...] = ("nnie", "caffe")

# Layers of BVLC Caffe that the converter uses.
STOCK = {
    *("BatchNorm", "BNLL", "Concat", "Convolution", "Deconvolution", "ELU", "Eltwise", "Exp", "Flatten"),
    *("InnerProduct", "Parameter", "Pooling", "Power", "ReLU", "Reshape", "Scale", "Sigmoid", "Slice"),
    *("Softmax", "TanH", "Tile"),
}

# Darknet's own float32 noise, and ours, stay below this on nets of this size.
LIMIT = 1e-4


def converted(case: DarknetCase, folder: Path, target: Target = "nnie") -> Conversion:
    return convert(case.cfg, case.weights(folder), target=target, flavor=case.flavor, bn_form=case.bn_form)


def check(case: DarknetCase, conversion: Conversion, blobs: dict[str, NDArray[np.float32]]) -> None:
    """Every section that real Darknet's output is known of."""
    compared = 0
    for layer in conversion.layers:
        if layer.index not in case.expected or layer.section == "cost" or not layer.blobs:
            assert layer.blobs or layer.none
            continue
        known = case.layers[layer.index]
        assert layer.shape == (known["out_c"], known["out_h"], known["out_w"])
        have = np.concatenate([blobs[name].reshape(-1) for name in layer.blobs])
        want = case.expected[layer.index]
        assert have.shape == want.shape
        error = np.abs(have - want).max() / want.std()
        assert error < LIMIT, (layer, error)
        compared += 1
    assert compared


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", CONVERTED)
def test_equals_real_darknet(name: str, target: Target, tmp_path: Path) -> None:
    case = darknet_case(name)
    conversion = converted(case, tmp_path, target)
    check_wiring(conversion.net)
    assert not conversion.warnings
    check(case, conversion, forward(conversion.net, {"data": case.input[None]}))


@pytest.mark.caffe
@pytest.mark.parametrize("name", CONVERTED)
def test_equals_real_darknet_in_caffe(name: str, tmp_path: Path) -> None:
    """Both targets where they differ, which is where NNIE's Upsample stands for a Deconvolution."""
    case = darknet_case(name)
    targets = TARGETS if any(layer["type"] == "upsample" for layer in case.layers) else TARGETS[:1]
    for target in targets:
        conversion = converted(case, tmp_path, target)
        prototxt, caffemodel = tmp_path / f"{target}.prototxt", tmp_path / f"{target}.caffemodel"
        prototxt.write_text(format_prototxt(conversion.net))
        with caffemodel.open("wb") as file:
            write_caffemodel(conversion.net, file)
        feeds = {"data": case.input[None]}
        check(case, conversion, caffe_engine.forward(sys.executable, prototxt, caffemodel, feeds, None))


@pytest.mark.parametrize("name", REFUSED)
def test_cases_that_are_refused(name: str, tmp_path: Path) -> None:
    case = darknet_case(name)
    line, words = REFUSED[name]
    with pytest.raises(UserError) as caught:
        converted(case, tmp_path)
    assert caught.value.where == f"{case.cfg}:{line}"
    assert words in str(caught.value)


@pytest.mark.parametrize("name", REFUSED_FOR_SEVERAL_REASONS)
def test_cases_that_are_refused_for_several_reasons(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="for 2 reasons:") as caught:
        converted(darknet_case(name), tmp_path)
    assert len(str(caught.value).split("\n")) == 3


def test_relu6_is_computed_by_its_formula(tmp_path: Path) -> None:
    """Where AlexeyAB's CPU code computes zeros."""
    case = darknet_case("act_conv_relu6_asis")
    blobs = forward(converted(case, tmp_path).net, {"data": case.input[None]})
    assert not case.expected[1].any()
    assert blobs["layer2-act"].std() > 0.1 and blobs["layer2-act"].min() >= 0


def test_bn_form_makes_the_difference(tmp_path: Path) -> None:
    """The case has small variances: with the other form it is off by far more than the limit."""
    case = darknet_case("bn_eps_pjcpu")
    conversion = convert(case.cfg, case.weights(tmp_path), flavor="pjreddie", bn_form="standard")
    blobs = forward(conversion.net, {"data": case.input[None]})
    error = np.abs(blobs["layer1-conv"].reshape(-1) - case.expected[0]).max() / case.expected[0].std()
    assert error > 10 * LIMIT


# Cases whose sections lead nowhere on purpose, and how many notes say so.
NOTES = {"act_conv_all_but_stair": 21, "route_groups": 1, "upsample": 5}


@pytest.mark.parametrize("name", CONVERTED)
def test_only_heads_and_the_end_are_outputs(name: str, tmp_path: Path) -> None:
    """What the net puts out: what heads read, what the last section computes, and what notes name."""
    conversion = converted(darknet_case(name), tmp_path)
    expected = {head["blob"] for head in conversion.heads}
    expected.update(next(layer.blobs for layer in reversed(conversion.layers) if layer.blobs))
    assert len(conversion.notes) == NOTES.get(name, 0)
    dangling = {note.split()[-4] for note in conversion.notes if "nobody reads" in note}
    hidden = {note.split(" is ")[1].split(",")[0] for note in conversion.notes if "asked for" in note}
    assert set(conversion.net.outputs()) == (expected | dangling) - hidden


@pytest.mark.parametrize("name", CONVERTED)
def test_target_caffe_keeps_to_stock_layers(name: str, tmp_path: Path) -> None:
    for target in TARGETS:
        types = {layer.type for layer in converted(darknet_case(name), tmp_path, target).net.layers}
        assert types <= (STOCK if target == "caffe" else STOCK | {"Upsample"})


GOLDEN = """\
# made from tiny.cfg
# flavor alexeyab, target nnie; BatchNorm divides by sqrt(variance + 1e-5)
# input: RGB values in 0..1
name: "tiny"
input: "data"
input_shape {
  dim: 1
  dim: 3
  dim: 8
  dim: 6
}
layer {
  name: "layer1-conv"
  type: "Convolution"
  bottom: "data"
  top: "layer1-conv"
  convolution_param {
    num_output: 4
    bias_term: false
    pad: 1
    kernel_size: 3
    stride: 2
  }
}
layer {
  name: "layer1-bn"
  type: "BatchNorm"
  bottom: "layer1-conv"
  top: "layer1-conv"
  batch_norm_param {
    use_global_stats: true
    eps: 1e-05
  }
}
layer {
  name: "layer1-scale"
  type: "Scale"
  bottom: "layer1-conv"
  top: "layer1-conv"
  scale_param {
    bias_term: true
  }
}
layer {
  name: "layer1-act"
  type: "ReLU"
  bottom: "layer1-conv"
  top: "layer1-conv"
  relu_param {
    negative_slope: 0.1
  }
}
layer {
  name: "layer2-maxpool"
  type: "Pooling"
  bottom: "layer1-conv"
  top: "layer2-maxpool"
  pooling_param {
    pool: MAX
    kernel_size: 2
    pad: 1
  }
}
layer {
  name: "layer2-crop"
  type: "Convolution"
  bottom: "layer2-maxpool"
  top: "layer2-crop"
  convolution_param {
    num_output: 4
    bias_term: false
    kernel_size: 2
    group: 4
  }
}
layer {
  name: "layer3-conv"
  type: "Convolution"
  bottom: "layer2-crop"
  top: "layer3-conv"
  convolution_param {
    num_output: 16
    kernel_size: 1
  }
}
layer {
  name: "layer6-upsample"
  type: "Upsample"
  bottom: "layer1-conv"
  top: "layer6-upsample"
  upsample_param {
    scale: 2
  }
}
layer {
  name: "layer7-shortcut"
  type: "Eltwise"
  bottom: "layer6-upsample"
  bottom: "layer6-upsample"
  top: "layer7-shortcut"
  eltwise_param {
    operation: SUM
  }
}
layer {
  name: "layer8-concat"
  type: "Concat"
  bottom: "layer7-shortcut"
  bottom: "layer6-upsample"
  top: "layer8-concat"
  concat_param {
    axis: 1
  }
}
"""
TINY = """
[convolutional]
filters=4
size=3
stride=2
pad=1
batch_normalize=1
activation=leaky
[maxpool]
size=2
stride=1
[conv]
filters=16
activation=linear
[yolo]
mask=1,2
anchors=1,2,3.5,4,5,6
num=3
classes=3
[route]
layers=0
[upsample]
[shortcut]
from=-1
[route]
layers=-1,-2
"""


def test_the_prototxt_people_read(tmp_path: Path) -> None:
    conversion = structure(tmp_path, TINY)
    assert format_prototxt(conversion.net) == GOLDEN
    assert conversion.net.layers[5].origin == "tiny.cfg:13"
    assert not conversion.notes and not conversion.warnings


def test_description(tmp_path: Path) -> None:
    description = describe(structure(tmp_path, TINY))
    assert json.loads(json.dumps(description)) == description
    assert description["layers"] == [
        {"index": 0, "section": "convolutional", "line": 6, "blob": "layer1-conv"},
        {"index": 1, "section": "maxpool", "line": 13, "blob": "layer2-crop"},
        {"index": 2, "section": "convolutional", "line": 16, "blob": "layer3-conv"},
        {"index": 3, "section": "yolo", "line": 19, "none": "a yolo head: decoded on the CPU"},
        {"index": 4, "section": "route", "line": 24, "blob": "layer1-conv"},
        {"index": 5, "section": "upsample", "line": 26, "blob": "layer6-upsample"},
        {"index": 6, "section": "shortcut", "line": 27, "blob": "layer7-shortcut"},
        {"index": 7, "section": "route", "line": 29, "blob": "layer8-concat"},
    ]
    assert description["input"] == {
        "blob": "data",
        "shape": [1, 3, 8, 6],
        "range": [0, 1],
        "scale": 1 / 255,
        "order": "RGB",
        "letter_box": False,
    }
    (head,) = description["heads"]
    assert (head["index"], head["line"], head["blob"], head["type"]) == (3, 19, "layer3-conv", "yolo")
    assert head["anchors"] == [[3.5, 4.0], [5.0, 6.0]]


def test_description_follows_the_passes(tmp_path: Path) -> None:
    """Blobs that were renamed, split or dropped."""
    conversion = structure(tmp_path, TINY)
    blob_map = BlobMap(["data", *conversion.net.last_writers()])
    fates = {
        "layer1-conv": Fate(("a", "b")),
        "layer2-crop": Fate((), "folded into layer3-conv"),
        "layer3-conv": Fate(("c",)),
    }
    blob_map.follow([Note("layer1-conv", "split", fates=fates)])
    description = describe(conversion, blob_map)
    assert description["layers"][0]["blobs"] == description["layers"][4]["blobs"] == ["a", "b"]
    assert description["layers"][1]["none"] == "folded into layer3-conv"
    assert "blob" not in description["layers"][1] and "blob" not in description["layers"][0]
    assert description["heads"][0]["blob"] == "c"


def test_weights_are_not_read_before_they_are_asked_for(tmp_path: Path) -> None:
    text = "[convolutional]\nfilters=1024\nsize=3\npad=1\nactivation=linear\n" * 2
    cfg = written(tmp_path, text, (1024, 4, 4))
    floats = 2 * (1024 + 1024 * 1024 * 9)
    weights = tmp_path / "big.weights"
    with weights.open("wb") as file:
        file.write(struct.pack("<3iQ", 0, 2, 5, 0))
        file.truncate(20 + 4 * floats)
    tracemalloc.start()
    conversion = convert(cfg, weights)
    converting = tracemalloc.get_traced_memory()[1]
    total = 0
    for layer in conversion.net.layers:
        for blob in layer.blobs:
            total += np.asarray(blob).size
    reading = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == floats
    assert converting < 4e6 and reading < 1.2 * 4 * floats / 2


def test_without_weights_only_constants_are_known(tmp_path: Path) -> None:
    known = {layer.name: len(layer.blobs) for layer in structure(tmp_path, TINY).net.layers}
    assert known["layer2-crop"] == 1 and known["layer1-conv"] == known["layer1-bn"] == 0


def test_every_alias_names_a_section_that_is_converted_or_refused() -> None:
    assert set(ALIASES.values()) <= {*EMITTERS, *NOT_CONVERTED, "net"}
    assert not {*EMITTERS} & {*NOT_CONVERTED}


def test_keys_nobody_asked_for_are_warnings(tmp_path: Path) -> None:
    text = "[convolutional]\nfilter=8\nactivation=relu\n"
    conversion = structure(tmp_path, text)
    assert conversion.warnings == [f"{tmp_path}/tiny.cfg:6: filter=8 is not used; did you mean filters?"]


def test_outputs_that_nobody_reads_are_noted(tmp_path: Path) -> None:
    conversion = structure(
        tmp_path, "[maxpool]\nsize=3\n[route]\nlayers=0\n[avgpool]\n[route]\nlayers=0\n[max]\nsize=3"
    )
    assert len(conversion.notes) == 1
    assert conversion.notes[0].startswith(f"{tmp_path}/tiny.cfg:9: nobody reads section 2 [avgpool]")
    assert "layer3-avgpool as an output" in conversion.notes[0]


def test_a_result_that_others_read_is_noted(tmp_path: Path) -> None:
    """Of the last section, whatever it is called there."""
    _, note = structure(tmp_path, "[max]\nsize=3\n[max]\nsize=2\n[route]\nlayers=0").notes
    assert note.startswith(f"{tmp_path}/tiny.cfg:9: the result of section 2 [route] is layer1-maxpool")


@pytest.mark.parametrize("bn_form", ["standard", "pjreddie-cpu"])
def test_without_weights_a_batchnorm_has_none(tmp_path: Path, bn_form: BatchNormForm) -> None:
    cfg = written(tmp_path, "[convolutional]\nfilters=2\nbatch_normalize=1\nactivation=linear")
    layers = convert(cfg, None, bn_form=bn_form).net.layers
    assert [(layer.type, layer.blobs) for layer in layers] == [
        *(("Convolution", []), ("BatchNorm", []), ("Scale", [])),
    ]


@pytest.mark.parametrize(("head", "letterboxed"), [("[yolo]\nclasses=3\nnum=3", True), ("[softmax]", False)])
def test_pjreddies_detector_letterboxes(tmp_path: Path, head: str, letterboxed: bool) -> None:
    text = f"[max]\nsize=3\n{head}"
    for flavor, expected in (("pjreddie", letterboxed), ("alexeyab", False)):
        found = structure(tmp_path, text, (24, 8, 6), flavor).input["letter_box"]  # type: ignore[arg-type]
        assert found is expected


def test_an_input_that_no_section_reads(tmp_path: Path) -> None:
    conversion = structure(tmp_path, "[implicit]\nfilters=4")
    assert conversion.net.outputs() == ["data", "layer1-implicit"]
    assert conversion.notes == [f"{tmp_path}/tiny.cfg:1: no section reads the input"]


def test_the_header_that_was_assumed_is_noted(tmp_path: Path) -> None:
    cfg = written(tmp_path, "[convolutional]\nfilters=2\nactivation=linear")
    weights = tmp_path / "odd.weights"
    numbers = np.array([1, 2, 3, 4, 5, 6, 7, 8], "<f4").tobytes()
    weights.write_bytes(struct.pack("<3iI", 0, 2, 0, 100) + numbers)
    conversion = convert(cfg, weights)
    assert (
        len(conversion.notes) == 1
        and str(weights) in conversion.notes[0]
        and "16 bytes" in conversion.notes[0]
    )
    np.testing.assert_array_equal(np.asarray(conversion.net.layers[0].blobs[1]), [1, 2])


# ---- refusals --------------------------------------------------------------------------------------


def test_all_that_is_wrong_is_listed_at_once(tmp_path: Path) -> None:
    text = """[convolutional]
activation=stair
[lstm]
output=4
[convolutional]
activation=foo
[cnov]
[route]
layers=7
[convolutional]
xnor=1
filters=two
activation=lekay
"""
    with pytest.raises(UserError) as caught:
        structure(tmp_path, text)
    lines = str(caught.value).split("\n")
    assert lines[0] == f"{tmp_path}/tiny.cfg: cannot be converted, for 8 reasons:"
    found = [line.strip().removeprefix(f"{tmp_path}/tiny.cfg:") for line in lines[1:]]
    assert [line.split(":")[0] for line in found] == ["6", "7", "10", "11", "13", "17", "15", "16"]
    for line, words in zip(
        found,
        ("stair", "[lstm] is rec", "foo", "[cnov] is no", "section 7", "did you mean leaky", "xnor", "'two'"),
        strict=True,
    ):
        assert words in line


def test_refusals_come_before_weights_are_compared(tmp_path: Path) -> None:
    cfg = written(tmp_path, "[lstm]\noutput=4")
    weights = tmp_path / "x.weights"
    weights.write_bytes(bytes(400))
    with pytest.raises(UserError, match="recurrent"):
        convert(cfg, weights)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("rnn", "recurrent"),
        ("gru", "recurrent"),
        ("lstm", "recurrent"),
        ("crnn", "recurrent"),
        ("conv_lstm", "recurrent"),
        ("history", "earlier pictures"),
        ("local", "every place"),
        ("deconvolutional", "cannot be loaded by Darknet itself"),
        ("deconv", "[deconv] cannot be loaded by Darknet itself"),
        ("iseg", "segmentation"),
        ("yollo", "no section that Darknet knows"),
        ("l2norm", "known to pjreddie's Darknet only"),
    ],
)
def test_sections_that_are_refused(header: str, words: str, tmp_path: Path) -> None:
    error = refusal(tmp_path, f"[maxpool]\nsize=3\n[{header}]\n[maxpool]\nsize=3")
    assert words in error.message and line_of(error) == 7


def test_sections_of_the_other_flavor(tmp_path: Path) -> None:
    error = refusal(tmp_path, "[implicit]", flavor="pjreddie")
    assert "known to alexeyab's Darknet only" in error.message and "alexeyab" in error.hint


@pytest.mark.parametrize(
    ("net", "line", "words"),
    [
        ("width=4\nheight=4", 1, "gives no channels"),
        ("inputs=256", 1, "no height and no width and no channels"),
        ("width=4\nheight=4\nchannels=3\ninputs=49", 5, "inputs=49"),
        ("width=4\nheight=0\nchannels=3", 3, "at least 1"),
        ("width=4\nheight=4\nchannels=70000", 4, "at most 65535"),
        ("width=60000\nheight=60000\nchannels=3", 2, "10800000000 is more than Caffe can hold"),
    ],
)
def test_nets_without_a_picture(net: str, line: int, words: str, tmp_path: Path) -> None:
    path = tmp_path / "net.cfg"
    path.write_text(f"[net]\n{net}\n[maxpool]\nsize=3\n")
    with pytest.raises(UserError) as caught:
        convert(path, None)
    assert line_of(caught.value) == line and words in caught.value.message


def test_a_net_that_computes_nothing(tmp_path: Path) -> None:
    path = written(tmp_path, "[dropout]\n[cost]")
    with pytest.raises(UserError, match="no section that computes anything") as caught:
        convert(path, None)
    assert caught.value.where == str(path)


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    """Messages and places are those of WeightsFile."""
    cfg = written(tmp_path, "[convolutional]\nfilters=2\nsize=3\nactivation=linear\n[maxpool]\nsize=3")
    weights = tmp_path / "x.weights"
    for floats, words in ((2 + 54 - 1, "1 of 56 floats are missing"), (2 + 54 + 3, "3 floats are left over")):
        weights.write_bytes(struct.pack("<3iQ", 0, 2, 5, 2**40) + np.ones(floats, "<f4").tobytes())
        with pytest.raises(UserError, match=words):
            convert(cfg, weights)
