"""prototxt text: phases, older formats, line numbers, mistakes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import text_format

from nnie_prep.caffe_io import format_prototxt, read_prototxt
from nnie_prep.errors import UserError
from nnie_prep.nnie_caffe_pb2 import NetParameter


def _read(tmp_path: Path, text: str | bytes):
    path = tmp_path / "net.prototxt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_prototxt(path)


HEAD = 'input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 9 }\n'
RELU = 'layer { name: "r" type: "ReLU" bottom: "data" top: "r" }\n'


def test_origins_are_lines(tmp_path) -> None:
    text = (
        '# layer { in a comment\nname: "a layer { in a string"\n'
        + HEAD
        + RELU
        + 'layer\n{\n name: \'s\' type: "Sigmoid" # }\n bottom: "r" top: "s"\n relu_param { } }\n'
        + 'layer: < name: "t" type: "TanH" bottom: "s" top: "t" >\n'
    )
    net = _read(tmp_path, text)
    assert [layer.origin for layer in net.layers] == ["net.prototxt:4", "net.prototxt:5", "net.prototxt:10"]


def test_written_and_read_again_is_the_same(tmp_path) -> None:
    net = _read(tmp_path, "# made by hand\n#  twice\n" + HEAD + RELU)
    text = format_prototxt(net)
    assert text.startswith("# made by hand\n#  twice\n")
    again = _read(tmp_path, text)
    assert format_prototxt(again) == text
    assert again.comments == net.comments


RULES = """
layer { name: "d" type: "Data" top: "data" top: "label" include { phase: TRAIN } }
layer { name: "d" type: "Data" top: "data" top: "label" include { phase: TEST }
  transform_param { mirror: false } }
layer { name: "a" type: "ReLU" bottom: "data" top: "a" exclude { phase: TRAIN } }
layer { name: "b" type: "ReLU" bottom: "data" top: "b" exclude { phase: TEST } }
layer { name: "c" type: "ReLU" bottom: "a" top: "c" include { phase: TEST stage: "deploy" } }
layer { name: "e" type: "ReLU" bottom: "a" top: "e" include { phase: TEST not_stage: "deploy" } }
layer { name: "f" type: "ReLU" bottom: "a" top: "f" include { min_level: 1 } }
layer { name: "g" type: "ReLU" bottom: "a" top: "g" include { max_level: 1 } include { phase: TRAIN } }
"""


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("", "daeg"),
        ('state { stage: "deploy" }', "dacg"),
        ("state { level: 1 }", "daeg"),
        ('state { level: 2 phase: TRAIN stage: "deploy" stage: "x" }', "dacg"),
    ],
)
def test_phase_rules(tmp_path, state, expected) -> None:
    """The TEST net, whatever phase the file's own state names."""
    net = _read(tmp_path, state + RULES)
    assert "".join(layer.name for layer in net.layers) == expected
    assert not any(layer.proto.include or layer.proto.exclude for layer in net.layers)


V1 = """
name: "old"
input: "data" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 9
layers { bottom: "data" top: "c" name: "c" type: CONVOLUTION blobs_lr: 1 blobs_lr: 2 weight_decay: 1
  weight_decay: 0 param: "w" convolution_param { num_output: 4 kernel_size: 3 pad: 1 group: 1 } }
layers { bottom: "c" top: "c" name: "r" type: RELU relu_param { negative_slope: 0.1 } }
layers { bottom: "c" top: "l" name: "l" type: LRN lrn_param { local_size: 3 } exclude { phase: TRAIN } }
layers { bottom: "l" top: "p" name: "p" type: POOLING pooling_param { pool: AVE kernel_size: 2 stride: 2 } }
layers { bottom: "p" top: "s" name: "s" type: SOFTMAX }
"""

V0 = """
name: "older"
input: "data" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 9
layers { layer { name: "pad" type: "padding" pad: 1 } bottom: "data" top: "pad" }
layers { bottom: "pad" top: "c"
  layer { name: "c" type: "conv" num_output: 4 kernelsize: 3 biasterm: false blobs_lr: 1 } }
layers { layer { name: "r" type: "relu" } bottom: "c" top: "c" }
layers { layer { name: "p" type: "pool" pool: AVE kernelsize: 2 stride: 2 } bottom: "c" top: "p" }
layers { layer { name: "d" type: "dropout" dropout_ratio: 0.3 } bottom: "p" top: "d" }
layers { layer { name: "i" type: "innerproduct" num_output: 5 } bottom: "d" top: "i" }
"""


def test_v1(tmp_path) -> None:
    net = _read(tmp_path, V1)
    assert [layer.type for layer in net.layers] == ["Convolution", "ReLU", "LRN", "Pooling", "Softmax"]
    conv = net.layers[0].proto
    assert [(spec.name, spec.lr_mult, spec.decay_mult) for spec in conv.param] == [("w", 1, 1), ("", 2, 0)]
    assert list(conv.convolution_param.kernel_size) == [3]
    assert net.layers[1].proto.relu_param.negative_slope == pytest.approx(0.1)
    assert net.layers[3].proto.pooling_param.pool == 1
    assert net.layers[4].origin == "net.prototxt:9"


def test_v0(tmp_path) -> None:
    net = _read(tmp_path, V0)
    assert [layer.type for layer in net.layers] == [
        "Convolution",
        "ReLU",
        "Pooling",
        "Dropout",
        "InnerProduct",
    ]
    conv = net.layers[0]
    assert conv.bottoms == ["data"] and list(conv.proto.convolution_param.pad) == [1]
    assert not conv.proto.convolution_param.bias_term
    assert net.layers[2].proto.pooling_param.pool == 1
    assert net.layers[3].proto.dropout_param.dropout_ratio == pytest.approx(0.3)
    assert conv.origin == "net.prototxt:5"


_SAVE = """
import sys
import caffe
caffe.Net(sys.argv[1], caffe.TEST).save(sys.argv[2])
"""


@pytest.mark.caffe
@pytest.mark.parametrize("text", [V1, V0], ids=["v1", "v0"])
def test_caffe_upgrades_alike(tmp_path, text) -> None:
    """Caffe's own upgrade of the same text, as it saves the net, gives the same layers."""
    ours = NetParameter()
    text_format.Parse(format_prototxt(_read(tmp_path, text)), ours)
    saved = tmp_path / "saved.caffemodel"
    subprocess.run(
        [sys.executable, "-c", _SAVE, tmp_path / "net.prototxt", saved],
        env=os.environ | {"GLOG_minloglevel": "2"},
        check=True,
    )
    theirs = NetParameter.FromString(saved.read_bytes())
    for layer in theirs.layer:
        del layer.blobs[:]
        layer.ClearField("phase")
        # Caffe fills in what it defaults to.
        layer.ClearField("propagate_down")
        layer.ClearField("exclude")  # applied, in ours
    assert [layer for layer in theirs.layer if layer.type != "Input"] == list(ours.layer)


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        (
            HEAD + 'layer { name: "c" type: "Convolution" convolution_param { kernal_size: 3 } }',
            ":2:59",
            "did you mean kernel_size",
        ),
        (HEAD + "layer { shuffle_x_param { group: 2 } }", ":2:9", "add it to message LayerParameter"),
        (HEAD + "layer { name: }", ":2:", "correct the text"),
        (HEAD + 'layer { name: "a"', ":2", "correct the text"),
        (HEAD + "layer { pooling_param { pool: MEDIAN } }", ":2:", "MEDIAN"),
        (HEAD + 'layer { name: "a" name: "b" }', ":2:", "name"),
        ("", "net.prototxt", "describes no layers"),
        (RELU, ":1", "no layer before it writes"),
        (HEAD + RELU + RELU.replace('"r" type', '"q" type'), ":3", "written before it"),
        (HEAD.replace("input_shape", 'input: "x" input_shape') + RELU, "", "2 input(s) and 1 input_shape(s)"),
        (HEAD + RELU + V1[V1.index("layers") :], ":", "mixes `layer` with the older `layers`"),
        (HEAD + 'layer { name: "r" include { } exclude { } }', ":2", "include and exclude"),
        ('layers { layer { type: "unheard" } }', ":1", "unheard"),
        ('layers { layer { type: "relu" kernelsize: 2 } }', ":1", "kernelsize"),
        ("\x00\x01\x02layer", ":1", "binary"),
        (
            HEAD + RELU.replace("bottom", "blobs { data: 1 data: 2 shape { dim: 3 } } bottom"),
            ":2",
            "2 values for",
        ),
        (
            HEAD + RELU.replace("bottom", "blobs { data: 1 data: 2 shape { dim: -1 dim: -2 } } bottom"),
            ":2",
            "-2",
        ),
        (
            HEAD + RELU.replace("bottom", "blobs { data: 1 num: 1 channels: 1 height: 1 } bottom"),
            ":2",
            "1 values for the shape (1, 1, 1, 0)",
        ),
        (
            'layers { layer { type: "relu" hdf5_output_param { file_name: "x" } } }',
            ":1",
            "hdf5_output_param is no parameter of a layer of type 'relu'",
        ),
        (HEAD + RELU.replace('top: "r"', f'top: "{"r" * 9000}"'), ":2", "a name of 9000 characters, 'rrr"),
        (HEAD + RELU.replace('top: "r"', 'top: "\\033[2J"'), ":2", r"in the name '\x1b[2J'"),
        (HEAD + "\ufeff" + RELU, ":2:1", "got ?"),
        (HEAD.encode() + b'layer { name: "\xb0\xa1" type: "ReLU" }', ":2", "not UTF-8"),
    ],
)
def test_mistakes(tmp_path, text, place, says) -> None:
    with pytest.raises(UserError) as caught:
        _read(tmp_path, text)
    message = str(caught.value)
    assert "net.prototxt" + place in message if place.startswith(":") else place in message
    assert says in message
    assert "\n" not in message and not re.search(r"\d+:\d+ : ", message)  # the place is said once


def test_the_first_format_may_end_in_a_file(tmp_path: Path) -> None:
    text = 'input: "data" input_dim: 1 input_dim: 1 input_dim: 1 input_dim: 1 layers { bottom: "data" layer {'
    text += ' name: "out" type: "hdf5_output" hdf5_output_param { file_name: "x.h5" } } }'
    (layer,) = _read(tmp_path, text).layers
    assert (layer.type, layer.proto.hdf5_output_param.file_name) == ("HDF5Output", "x.h5")


def test_gbk_comments_and_a_byte_order_mark_are_tolerated(tmp_path) -> None:
    text = b"\xef\xbb\xbf# \xc4\xa3\xd0\xcd\r\n" + (HEAD + RELU).replace("\n", "\r\n").encode()
    assert len(_read(tmp_path, text).layers) == 1


def test_a_missing_file_and_a_folder(tmp_path) -> None:
    for path, says in ((tmp_path / "absent.prototxt", "cannot be read"), (tmp_path, "not a regular file")):
        with pytest.raises(UserError, match=says):
            read_prototxt(path)


@pytest.mark.parametrize(("field", "kind"), [("layer", '"ReLU"'), ("layers", "RELU")])
def test_a_list_of_layers_loses_none(tmp_path, field, kind) -> None:
    first, second = (f'{{ name: "{name}" type: {kind} bottom: "data" top: "{name}" }}' for name in "ab")
    net = _read(tmp_path, f"{HEAD}{field}: [ {first},\n{second} ]")
    assert [(layer.name, layer.origin) for layer in net.layers] == [
        ("a", "net.prototxt:2"),
        ("b", "net.prototxt:2"),
    ]
