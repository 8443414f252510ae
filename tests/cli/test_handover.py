"""What `prepare` leaves for RuyiStudio: files with a report, suffixes, the user's own layers."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cli_cases import listing, run

from nnie_prep.caffe_io import read_net, write_caffemodel
from nnie_prep.cli import job_work
from nnie_prep.engines.numpy import forward
from nnie_prep.net import Net

# An SSD's head behind the second convolution, and a layer that only its author knows before it.
NET = """\
name: "own"
input: "data"
input_dim: 4
input_dim: 3
input_dim: 9
input_dim: 13
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param { num_output: 4 kernel_size: 3 stride: 2 pad: 1 } }
layer { name: "bn1" type: "BatchNorm" bottom: "conv1" top: "conv1" batch_norm_param { eps: 0.01 } }
layer { name: "own1" type: "LeakySquare" bottom: "conv1" top: "conv1" }
layer { name: "conv2" type: "Convolution" bottom: "conv1" top: "conv2"
        convolution_param { num_output: 5 kernel_size: 3 pad: 1 } }
layer { name: "relu2" type: "ReLU" bottom: "conv2" top: "conv2" }
layer { name: "sigmoid2" type: "Sigmoid" bottom: "conv2" top: "sigmoid2" }
layer { name: "conv3" type: "Convolution" bottom: "sigmoid2" top: "the_location_of_all_that_is_found"
        convolution_param { num_output: 12 kernel_size: 1 } }
layer { name: "turn" type: "Permute" bottom: "the_location_of_all_that_is_found" top: "turned"
        permute_param { order: 0 order: 2 order: 3 order: 1 } }
"""
PREPARE = ("prepare", "own.prototxt", "own.caffemodel", "-o", "x")
OWN = ("--custom", "own1=1,4,5,7")


@pytest.fixture
def folder(folder: Path) -> Path:
    """The common inputs, and the net above."""
    random = np.random.default_rng(5)
    Path("own.prototxt").write_text(NET)
    net = read_net(Path("own.prototxt"))
    for name, shapes in {
        "conv1": [(4, 3, 3, 3), (4,)],
        "bn1": [(4,), (4,), (1,)],
        "conv2": [(5, 4, 3, 3), (5,)],
        "conv3": [(12, 5, 1, 1), (12,)],
    }.items():
        layer = net.layer(name)
        assert layer is not None
        layer.blobs = [random.uniform(0.2, 1, shape).astype(np.float32) for shape in shapes]
    with Path("own.caffemodel").open("wb") as file:
        write_caffemodel(net, file)
    return folder


def prepared(*options: str) -> Net:
    done = run(*PREPARE, *options)
    assert done.code == 0, done.out + done.err
    return read_net(Path("x.prototxt"), Path("x.caffemodel"))


def test_the_set_is_what_ruyistudio_wants(folder: Path) -> None:
    net = prepared(*OWN, "--report", "sigmoid2", "--high-precision", "conv2", "--cpu", "conv3")
    assert not net.header.input_dim
    assert [list(shape.dim) for shape in net.header.input_shape] == [[1, 3, 9, 13]]
    own = net.layer("own1")
    assert own is not None and own.type == "Custom" and not own.blobs
    assert [list(shape.dim) for shape in own.proto.custom_param.shape] == [[1, 4, 5, 7]]
    assert own.bottoms == ["conv1_before"] and own.tops == ["conv1"]
    assert [layer.name for layer in net.layers] == [
        "conv1",
        "own1",
        "conv2_hp",
        "relu2",
        "sigmoid2",
        "conv3_cpu",
    ]
    sigmoid = net.layer("sigmoid2")
    assert sigmoid is not None and sigmoid.tops == ["sigmoid2_report"]
    (output,) = net.outputs()
    assert len(output) <= 31 and output.startswith("the_location_of_all_tha")
    document = json.loads(Path("x.json").read_text())
    assert document["blobs"]["sigmoid2"] == {"blob": "sigmoid2_report"}
    assert document["blobs"]["the_location_of_all_that_is_found"] == {"blob": output}
    (head,) = document["heads"]
    assert head["type"] == "Permute" and head["reads"][0]["blob"] == output
    assert head["layers"][0]["permute_param"] == {"order": [0, 2, 3, 1]}


def test_the_report(folder: Path) -> None:
    done = run(*PREPARE, *OWN, "--report", "sigmoid2")
    text = Path("x.report.txt").read_text()
    for says in (
        "x: prepared for NNIE",
        "1x3x9x13",
        "replace_inputs: Replace the ways to declare an input that NNIE's compiler does not take",
        "data: batch of 4 set to 1",
        "drop_heads: Cut off what the CPU does behind a net",
        "own1: LeakySquare made a Custom layer, as asked: your own code on the CPU computes it",
        "sigmoid2: blob renamed to sigmoid2_report: reported, as asked",
        "conv1: not proven: your own code on the CPU computes it; what is before and behind is compared",
        "turned: Permute, of the_location_of_all_that",
        "no errors, ",
        "nnie-prep check x.prototxt x.caffemodel --chip CHIP says more",
        "[prototxt_file] x.prototxt",
        "[compile_mode] 0",
    ):
        assert says in text, says
    assert "EQUAL: " in done.out and "not proven: your own code" in done.out
    assert str(folder) not in text
    for name in ("x.prototxt", "x.caffemodel", "x.json"):
        assert re.search(rf"  {re.escape(name)} +\d", text)


def test_the_report_says_what_check_says_of_the_heads(folder: Path) -> None:
    """Darknet's heads, which no pass cuts off, in an order that the stock sample does not decode."""
    conv = "[convolutional]\nfilters={}\nsize=1\nstride={}\nactivation=linear\n"
    head = conv.format(6, 1) + "[yolo]\nmask={}\nanchors=8,9, 17,13, 30,40\nclasses=1\nnum=3\n"
    back = "[route]\nlayers=-3\n" + conv.format(2, 2)
    cfg = "[net]\nwidth=64\nheight=96\nchannels=3\n" + conv.format(2, 8)
    Path("three.cfg").write_text(cfg + back.join(head.format(mask) for mask in range(3)))
    floats = 2 + 2 * 3 + 2 * (2 + 2 * 2) + 3 * (6 + 6 * 2)
    values = np.random.default_rng(2).normal(size=floats).astype(np.float32)
    Path("three.weights").write_bytes(struct.pack("<iiiQ", 0, 2, 5, 0) + values.tobytes())
    assert run("prepare", "three.cfg", "three.weights").code == 0
    findings = json.loads(run("check", "three.prototxt", "three.caffemodel", "--json").out)["findings"]
    said = [f"{one['severity']} {one['rule']} {one['layer']}: {one['message']}" for one in findings]
    said = [text for text in said if not text.startswith("info")]
    assert [text for text in said if "yolo_outputs" in text]
    report = Path("three.report.txt").read_text()
    assert all(text in report for text in said) and "1 warning\n" in report


def test_a_pair_that_was_prepared_before_is_handed_over_alike(folder: Path) -> None:
    """Its names ask for 16 bits and its STEM.json has heads, whoever wrote both."""
    first = ("prepare", "net.cfg", "net.weights", "-o", "a", "--high-precision", "layer7-conv")
    assert run(*first).code == 0
    assert run("prepare", "a.prototxt", "a.caffemodel", "-o", "b").code == 0
    assert "layer7-conv_hp" in Path("b.prototxt").read_text()
    for name in ("a", "b"):
        report = Path(f"{name}.report.txt").read_text()
        assert "[compile_mode] 2\n" in report, name
        assert f"{name}.json says how, under heads" in report, name


def test_what_the_users_own_code_computes_is_not_counted_as_compared(folder: Path) -> None:
    proof = json.loads(run(*PREPARE, *OWN, "--json").out)["verification"]
    assert proof["accounted"]["conv1"] == "not proven: your own code on the CPU computes it"
    names = [blob["name"] for blob in proof["blobs"]]
    assert names == ["data", "conv1_before", "sigmoid2", "the_location_of_all_that_is_found"]


def test_what_is_wrong_behind_or_before_the_users_own_layer_is_seen(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = job_work.write_caffemodel
    for name in ("conv1", "conv2", "conv3"):

        def spoiled(net: Net, file: object, progress: object, name: str = name) -> None:
            layer = net.layer(name)
            assert layer is not None
            right = layer.blobs
            layer.blobs = [np.asarray(right[0]) * 1.01, *right[1:]]
            write(net, file, progress)  # type: ignore[arg-type]
            layer.blobs = right

        monkeypatch.setattr(job_work, "write_caffemodel", spoiled)
        done = run(*PREPARE, *OWN)
        assert done.code == 1 and "DIFFERS" in done.out, name
        assert not Path("x.prototxt").exists()


def test_a_known_layer_as_the_users_own_is_given_what_the_source_computes(folder: Path) -> None:
    """The Sigmoid in its own code: what is behind it is compared on the source's values, not on noise."""
    net = prepared(*OWN, "--custom", "sigmoid2")
    own = net.layer("sigmoid2")
    assert own is not None and [list(one.dim) for one in own.proto.custom_param.shape] == [[1, 5, 5, 7]]
    assert not [layer for layer in net.layers if layer.type == "Sigmoid"]


def test_own_layers_of_a_darknet_network(folder: Path) -> None:
    done = run("prepare", "net.cfg", "net.weights", "-o", "y", "--custom", "layer6-shortcut", "-v")
    assert done.code == 0, done.err + done.out
    assert "layer6-shortcut: not proven: your own code" in done.out
    assert "before the passes equal to Darknet in NumPy" in done.out


def test_batch_of_the_source_is_run_as_one_picture(folder: Path) -> None:
    net = prepared(*OWN, "--skip", "replace_inputs")
    assert list(net.header.input_dim) == [4, 3, 9, 13]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--report", "sigmiod2"), "no blob 'sigmiod2'; did you mean sigmoid2?"),
        (("--report", "relu2"), "no blob 'relu2'; layer relu2 writes sigmoid2"),
        (("--report", "conv1"), "written by own1 (Custom)"),
        (("--report", "data"), "an input of the net"),
        (("--report", "turned"), "blob 'turned' is gone: cut: the CPU does it"),
        (("--report", "the_location_of_all_that_is_found"), "an output of the net"),
        (("--high-precision", "conv22"), "no layer 'conv22'; did you mean conv2?"),
        (("--high-precision", "conv2", "--cpu", "conv2"), "not in the result any more"),
        (("--high-precision", "bn1"), "'bn1' is not in the result any more"),
        (("--cpu", "own1"), "is a Custom, which the CPU does anyway"),
        (("--custom", "cnov2"), "no layer 'cnov2'; did you mean conv2?"),
        (("--custom", "conv2=1,2/3,4"), "2 shapes are given for the 1 tops"),
        (("--proposal", "data"), "no layer 'data'"),
        (("--custom", "own1"), "is a Custom already"),
    ],
)
def test_requests_that_cannot_be_met(folder: Path, options: tuple[str, ...], says: str) -> None:
    before = listing(folder)
    done = run(*PREPARE, *OWN, *options)
    assert done.code == 2 and done.err.count("\n") == 1
    assert says in done.err, done.err
    assert listing(folder) == before


def test_an_own_layer_without_its_shape(folder: Path) -> None:
    done = run(*PREPARE, "--custom", "own1")
    assert done.code == 2 and "own.prototxt:10: the shape of conv1 is not known" in done.err
    assert "--custom own1=1,C,H,W" in done.err


def test_another_target_gets_no_nnie(folder: Path) -> None:
    assert run("prepare", "small.prototxt", "small.caffemodel", "-o", "s", "--target", "caffe").code == 0
    assert "replace_inputs" not in Path("s.prototxt").read_text()
    assert "In RuyiStudio" not in Path("s.report.txt").read_text()


@pytest.mark.parametrize(
    ("inputs", "fold", "says"),
    [
        (("net.cfg", "net.weights"), "darknet", ["[norm_type] 0", "[RGB_order] RGB"]),
        (("net.cfg", "net.weights"), "darknet,feed=bgr", ["[norm_type] 0", "[RGB_order] BGR"]),
        (("small.prototxt", "small.caffemodel"), "scale=0.5", ["[norm_type] 0", "RGB_order as the net was"]),
        (("small.prototxt", "small.caffemodel"), "scale=0.5,order=bgr", ["[norm_type] 0", "[RGB_order] BGR"]),
    ],
)
def test_a_net_that_normalises_itself_is_fed_raw(
    folder: Path, inputs: tuple[str, str], fold: str, says: list[str]
) -> None:
    assert run("prepare", *inputs, "--fold-input", fold, "-o", "raw").code == 0
    report = Path("raw.report.txt").read_text()
    compiler = report[report.index("In RuyiStudio") :]
    assert all(word in compiler for word in [*says, "the net normalises data itself: feed it raw"])
    assert "[data_scale]" not in compiler and "norm_type, data_scale" not in compiler


def test_of_two_inputs_one_is_fed_raw(folder: Path) -> None:
    inputs = "".join(f'input: "{one}" input_shape {{ dim: 1 dim: 3 dim: 8 dim: 8 }}' for one in ("a", "b"))
    layers = "".join(
        f'layer {{ name: "c{one}" type: "Convolution" bottom: "{one}" top: "c{one}"'
        "  convolution_param { num_output: 4 kernel_size: 1 bias_term: false } }"
        for one in ("a", "b")
    )
    Path("two.prototxt").write_text(inputs + layers)
    net = read_net(Path("two.prototxt"))
    for layer in net.layers[-2:]:
        layer.blobs = [np.random.default_rng(1).normal(size=(4, 3, 1, 1)).astype(np.float32)]
    with Path("two.caffemodel").open("wb") as file:
        write_caffemodel(net, file)
    done = run("prepare", "two.prototxt", "two.caffemodel", "--fold-input", "scale=0.5,input=b", "-o", "raw")
    assert done.code == 0, done
    report = Path("raw.report.txt").read_text()
    assert "[norm_type] 0, of b\n" in report and "mean_file of a as the net was trained" in report


def test_into_a_folder_of_its_own(folder: Path) -> None:
    assert run(*PREPARE[:3], "-o", "out/", *OWN).code == 0
    names = {"own_nnie.prototxt", "own_nnie.caffemodel", "own_nnie.json", "own_nnie.report.txt"}
    assert {path.name for path in Path("out").iterdir()} == names
    assert run(*PREPARE[:3], "-o", "out/", *OWN).code == 0
    assert run(*PREPARE[:3], "-o", "absent/out/", *OWN).code == 2
    assert run(*PREPARE[:3], "-o", "other/", "--report", "nothing").code == 2
    assert not Path("other").exists()


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (lambda path: None, 0),
        (lambda path: path.write_text(path.read_text() + "noted\n"), 2),
        (lambda path: path.write_text("mine\n"), 2),
        (lambda path: path.unlink(), 0),
    ],
)
def test_a_report_that_somebody_edited_is_not_replaced(
    folder: Path, edit: Callable[[Path], object], code: int
) -> None:
    prepared(*OWN)
    edit(Path("x.report.txt"))
    assert run(*PREPARE, *OWN).code == code


def test_the_same_bytes(folder: Path) -> None:
    prepared(*OWN, "--report", "sigmoid2")
    first = Path("x.report.txt").read_bytes()
    prepared(*OWN, "--report", "sigmoid2", "--force")
    assert Path("x.report.txt").read_bytes() == first


def test_the_result_computes_what_the_source_computes_but_for_the_own_layer(folder: Path) -> None:
    """Said of the proof by the tests above; here of the files, with the own layer's value put in by hand."""
    net = prepared(*OWN)
    random = np.random.default_rng(0)
    x = random.uniform(-1, 1, (1, 3, 9, 13)).astype(np.float32)
    own = random.standard_normal((1, 4, 5, 7)).astype(np.float32)
    source = read_net(Path("own.prototxt"), Path("own.caffemodel"))
    old = forward(source, {"data": x}, forced={"conv1": own})
    new = forward(net, {"data": x}, forced={"conv1": own})
    (output,) = net.outputs()
    np.testing.assert_allclose(new[output], old["the_location_of_all_that_is_found"], rtol=1e-5, atol=1e-5)


def test_the_report_says_what_each_pass_is_for(folder: Path) -> None:
    assert run("prepare", "net.cfg", "net.weights", "--fold-input", "darknet", "-o", "raw").code == 0
    report = Path("raw.report.txt").read_text()
    changed = report[report.index("\nChanged\n") : report.index("\nProof\n")]
    heads = re.findall(r"^  (\w+): ?(.*)$", changed, re.M)
    assert "fold_input" in dict(heads)
    assert all(why.endswith(".") for _, why in heads), heads
