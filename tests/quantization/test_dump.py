"""Dumps written as the compiler writes them, from values of pycaffe, OpenCV or by hand, and read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nnie_prep.blob import Array
from nnie_prep.errors import UserError
from nnie_prep.net import Layer, Net
from nnie_prep.nnie_caffe_pb2 import LayerParameter, NetParameter
from nnie_prep.quantization.dump import Dump, compare_dumps, find_dumps, read_dump


def write_fixed_point(path: Path, values: Array) -> None:
    """One number a line: 32 bits with 12 binary places, the way C prints them with %08X."""
    numbers = np.rint(values.reshape(-1).astype(np.float64) * 4096).astype(np.int32)
    path.write_text("".join(f"{number & 0xFFFFFFFF:08X}\n" for number in numbers.tolist()))


def net() -> Net:
    header = NetParameter(input=["data"])
    header.input_shape.add().dim.extend((1, 2, 3, 4))
    weights = np.random.default_rng(0).normal(size=(5, 2, 1, 1)).astype(np.float32)
    conv = LayerParameter(name="block/conv1", type="Convolution")
    conv.convolution_param.num_output = 5
    conv.convolution_param.kernel_size.append(1)
    conv.convolution_param.bias_term = False
    return Net(
        [
            Layer(conv, ["data"], ["conv"], [weights]),
            Layer(LayerParameter(name="relu", type="ReLU"), ["conv"], ["conv"]),
            Layer(LayerParameter(name="tanh", type="TanH"), ["conv"], ["tanh"]),
        ],
        header,
    )


X = {"data": np.random.default_rng(1).normal(size=(1, 2, 3, 4)).astype(np.float32)}


def convolved() -> Array:
    weights = np.asarray(net().layers[0].blobs[0])[:, :, 0, 0]
    return np.asarray(np.einsum("oi,nihw->nohw", weights, X["data"]))


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("00001000\nFFFFF000\n", [1.0, -1.0]),
        ("00000001\nFFFFA69E\n80000000\n", [2**-12, -22882 / 4096, -(2.0**19)]),
        ("0x1000", [1.0]),
    ],
)
def test_fixed_point(tmp_path: Path, text: str, numbers: list[float]) -> None:
    path = tmp_path / "a_output0_1_quant.linear.hex"
    path.write_text(text)
    assert read_dump(path).tolist() == numbers


def test_floats(tmp_path: Path) -> None:
    path = tmp_path / "a_input0_3_anti_quant.linear.float"
    path.write_text("1.5\n-2e-3, 7 \r\n")
    assert read_dump(path).tolist() == [1.5, -2e-3, 7.0]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.hex", "00\nxyz\n", r"a\.hex:2: 'xyz' is no hexadecimal of 32 bits"),
        ("a.hex", "100000000\n", r"a\.hex:1: '100000000' is no hexadecimal"),
        ("a.hex", "00\né\n", r"a\.hex:2: '..' is no hexadecimal"),
        ("a.hex", "-1000\n", r"a\.hex:1: '-1000' is no hexadecimal"),
        ("a.float", "1.0\n1.0x\n", r"a\.float:2: '1\.0x' is no number"),
    ],
)
def test_what_is_no_number(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        read_dump(tmp_path / name)


def test_files_are_known_by_their_names(tmp_path: Path) -> None:
    for name in (
        "conv_1_output0_5_3_4_quant.linear.hex",
        "conv_1_input1_2_3_4_anti_quant.linear.float",
        "fc_output0_10_func.linear.hex",
        "conv_1_input0_2_3_4_quant.nonlinear.hex",
        "seg0_layer3_output0_inst.linear.hex",
        "conv_1_weight.hex",
    ):
        (tmp_path / name).touch()
    (tmp_path / "sub").mkdir()
    found, others = find_dumps(tmp_path)
    assert [(one.layer, one.side, one.index, one.extents) for one in found] == [
        ("conv_1", "input", 1, (2, 3, 4)),
        ("conv_1", "output", 0, (5, 3, 4)),
        ("fc", "output", 0, (10,)),
    ]
    assert others == ["seg0_layer3_output0_inst.linear.hex"]


def test_a_folder_without_dumps(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match="holds no dump of a layer"):
        find_dumps(tmp_path)
    with pytest.raises(UserError, match="cannot be read: No such file"):
        find_dumps(tmp_path / "nowhere")


def test_dumps_are_found_beside_our_blobs(tmp_path: Path) -> None:
    """A name with a slash, the net's input, and a top as it is before and behind the ReLU in place."""
    before, behind = convolved(), np.maximum(convolved(), 0)
    for name, values in (
        ("block_conv1_output0_5_3_4_quant", before),
        ("block_conv1_input0_2_3_4_quant", X["data"]),
        ("relu_output0_5_3_4_quant", behind),
        ("tanh_output0_5_3_4_quant", np.tanh(behind)),
    ):
        write_fixed_point(tmp_path / f"{name}.linear.hex", values)
    found, problems = compare_dumps(net(), X, find_dumps(tmp_path)[0])
    assert problems == []
    assert [(one.layer, one.side, one.after) for one in found] == [
        ("block/conv1", "input", ""),
        ("block/conv1", "output", ""),
        ("relu", "output", ""),
        ("tanh", "output", ""),
    ]
    # 12 binary places of values near 1: an error of 2^-13 at most, 70 dB and more
    assert all(one.snr > 70 and one.cosine > 0.99999 for one in found)


def test_a_layer_dumped_with_the_relu_behind_it(tmp_path: Path) -> None:
    write_fixed_point(tmp_path / "block_conv1_output0_5_3_4_quant.linear.hex", np.maximum(convolved(), 0))
    ((one,), _) = compare_dumps(net(), X, find_dumps(tmp_path)[0])
    assert one.after == "relu" and one.snr > 70


def test_a_wrong_blob_is_seen(tmp_path: Path) -> None:
    """Channels in another order: the same values, and nothing alike."""
    write_fixed_point(tmp_path / "tanh_output0_5_3_4_quant.linear.hex", np.tanh(convolved())[:, ::-1])
    ((one,), _) = compare_dumps(net(), X, find_dumps(tmp_path)[0])
    assert one.cosine < 0.9


def test_what_cannot_be_compared_says_why(tmp_path: Path) -> None:
    dumps = []
    for layer, side, index, count in (
        ("tanh", "output", 0, 59),
        ("tanh", "output", 1, 60),
        ("tanh", "input", 1, 60),
        ("nobody", "output", 0, 60),
    ):
        path = tmp_path / f"{layer}_{side}{index}.hex"
        write_fixed_point(path, np.zeros(count))
        dumps.append(Dump(path, layer, side, index, (count,)))
    found, problems = compare_dumps(net(), X, dumps)
    assert found == []
    assert problems == [
        "nobody_output0.hex: layer 'nobody' is not in the net",
        "tanh_output0.hex: 59 numbers, and the blob has 60",
        "tanh_output1.hex: layer tanh computes no output 1",
        "tanh_input1.hex: layer tanh computes no input 1",
    ]


def test_a_layer_that_is_not_run_has_no_outputs(tmp_path: Path) -> None:
    fed = net()
    fed.header.Clear()
    fed.layers.insert(0, Layer(LayerParameter(name="in", type="Input"), [], ["data"]))
    (tmp_path / "in_output0.hex").write_text("0\n")
    _, problems = compare_dumps(fed, X, [Dump(tmp_path / "in_output0.hex", "in", "output", 0, (1,))])
    assert problems == ["in_output0.hex: layer in computes no output 0"]


def test_a_name_that_two_layers_may_have(tmp_path: Path) -> None:
    twins = net()
    twins.layers[1].proto.name, twins.layers[2].proto.name = "a/b", "a-b"
    path = tmp_path / "a_b_output0.hex"
    path.write_text("0\n")
    _, problems = compare_dumps(twins, X, [Dump(path, "a_b", "output", 0, (1,))])
    assert problems == ["a_b_output0.hex: layer 'a_b' may be a/b or a-b"]
