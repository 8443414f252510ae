"""Shapes, parameters and multiply-adds of a net, against counts that are made here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli_cases import run, write_caffe

from nnie_prep.caffe_io import read_net
from nnie_prep.net import Net
from nnie_prep.show import layer_figures, totals

HEAD = """
name: "x"
layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 2 dim: 6 dim: 9 dim: 7 } } }
"""


def net_of(tmp_path: Path, text: str) -> Net:
    path = tmp_path / "net.prototxt"
    path.write_text(HEAD + text)
    return read_net(path)


@pytest.mark.parametrize("kernel", [(1, 1), (3, 2)])
@pytest.mark.parametrize("group", [1, 2, 6])
@pytest.mark.parametrize("bias", ["true", "false"])
@pytest.mark.parametrize("type_", ["Convolution", "Deconvolution"])
def test_convolutions(tmp_path: Path, type_: str, bias: str, group: int, kernel: tuple[int, int]) -> None:
    """A multiply-add for each weight and place that it is laid upon, counted by laying it there."""
    height, width = kernel
    net = net_of(
        tmp_path,
        f"""layer {{ name: "c" type: "{type_}" bottom: "data" top: "c" convolution_param {{
        num_output: 12 kernel_h: {height} kernel_w: {width} stride: 2 pad: 1 group: {group}
        bias_term: {bias} }} }}""",
    )
    row = layer_figures(net)[1]
    weights = 12 * 6 // group * height * width
    assert row.parameters == weights + (12 if bias == "true" else 0)
    over = {  # the size that the window moves over, in the larger of the two blobs
        "Convolution": [(size + 2 - extent) // 2 + 1 for size, extent in ((9, height), (7, width))],
        "Deconvolution": [9, 7],
    }[type_]
    assert row.multiply_adds == 2 * weights * int(np.prod(over))
    out = over if type_ == "Convolution" else [2 * 8 + height - 2, 2 * 6 + width - 2]
    assert row.shape == (2, 12, *out)


def test_inner_products(tmp_path: Path) -> None:
    net = net_of(
        tmp_path,
        """layer { name: "f" type: "InnerProduct" bottom: "data" top: "f"
                   inner_product_param { num_output: 5 } }""",
    )
    row = layer_figures(net)[1]
    assert (row.shape, row.parameters, row.multiply_adds) == (
        (2, 5), 6 * 9 * 7 * 5 + 5, 2 * 6 * 9 * 7 * 5
    )  # fmt: skip


def test_an_unknown_layer_and_what_depends_on_it(tmp_path: Path) -> None:
    net = net_of(
        tmp_path,
        """layer { name: "m" type: "Mystery" bottom: "data" top: "m" }
        layer { name: "r" type: "ReLU" bottom: "m" top: "r" }
        layer { name: "c" type: "Convolution" bottom: "data" top: "c"
                convolution_param { num_output: 4 kernel_size: 1 } }""",
    )
    rows = layer_figures(net)
    for row in rows[1:3]:
        assert (row.shape, row.parameters, row.multiply_adds) == (None, None, None)
    assert totals(rows) == (28, 2 * 24 * 63)
    done = run("show", tmp_path / "net.prototxt")
    assert done.code == 0
    assert "not counted    layers of type Mystery, ReLU" in done.out
    assert [line.split()[1:] for line in done.out.splitlines() if line.startswith("m ")] == [
        ["Mystery", "?", "?", "?"]
    ]


TRAINING = """
layer { name: "d" type: "Data" top: "data" top: "label" data_param { source: "x" batch_size: 4 } }
layer { name: "c" type: "Convolution" bottom: "data" top: "c"
        convolution_param { num_output: 4 kernel_size: 3 } }
"""


def test_what_is_not_known_is_not_none(tmp_path: Path) -> None:
    """Nothing says what a database holds: there are parameters, and nobody can count them."""
    path = tmp_path / "train.prototxt"
    path.write_text(TRAINING)
    out = run("show", path).out
    assert [line.split()[1:] for line in out.splitlines() if line.startswith("Convolution ")] == [
        ["1", "?", "?", "?"]
    ]
    assert "parameters     ?\nmultiply-adds  ?\n" in out
    assert "convolutions   1 layer, ? weights without biases, ? multiply-adds\n" in out
    said = json.loads(run("show", path, "--json").out)
    assert (said["parameters"], said["weight_bytes"], said["multiply_adds"]) == (None, None, None)
    assert [one["parameters"] for one in said["types"]] == [None, None]
    relu = 'layer { name: "r" type: "ReLU" bottom: "x" top: "r" }'
    path.write_text('input: "x"\ninput_shape { dim: 1 dim: 2 }\n' + relu)
    assert "parameters     0 (0 bytes of float32)\nmultiply-adds  0\n" in run("show", path).out
    none = {"layers": 0, "parameters": 0, "weights": 0, "multiply_adds": 0}
    assert json.loads(run("show", path, "--json").out)["convolutions"] == none


def test_counted_with_and_without_the_weights(tmp_path: Path) -> None:
    prototxt, caffemodel = write_caffe(tmp_path)
    for files in ((prototxt,), (prototxt, caffemodel)):
        rows = layer_figures(read_net(*files))
        assert {row.name: row.parameters for row in rows if row.parameters} == {
            "conv": 54, "bn": 6 + 6 + 1, "scale": 12, "fc": 900
        }  # fmt: skip
        assert totals(rows) == (979, 54 * 30 + 900)
        assert [row.origin for row in rows][1] == "small.prototxt:7"
        out = run("show", *files).out
        for line in ("layers         8", "parameters     979 (3.9 kB of float32)", "multiply-adds  2,520"):
            assert line in out.splitlines()
        said = json.loads(run("show", *files, "--json").out)
        assert (said["parameters"], said["weight_bytes"], said["multiply_adds"]) == (979, 3916, 2520)


def test_a_net_without_known_shapes(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text('input: "data"\nlayer { name: "r" type: "ReLU" bottom: "data" top: "r" }')
    done = run("show", path)
    assert done.code == 2 and "the shape of input 'data' is not declared" in done.err
