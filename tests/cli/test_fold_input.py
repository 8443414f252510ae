"""`--fold-input`: the result takes raw pictures, says so, and is proven with them."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from cli_cases import listing, refuses, run

from nnie_prep import weights
from nnie_prep.caffe_io import read_net, write_caffemodel
from nnie_prep.engines.numpy import forward
from nnie_prep.net import Net
from nnie_prep.normalization import folded_into
from nnie_prep.proof import Options, darknet, draw_feeds
from nnie_prep.shapes import blob_shapes, walk_shapes

MERGE = ("merge-bn", "small.prototxt", "small.caffemodel")
MEAN = "scale=0.017,mean=103.94/116.78/123.68,order=bgr"


def fold(*arguments: str) -> str:
    done = run(*arguments)
    assert (done.code, done.err) == (0, ""), done
    return done.out


PLAIN = ("merge-bn", "plain.prototxt", "plain.caffemodel")


def write_plain(folder: Path, pads: str = "", outputs: int = 5) -> None:
    """A convolution in one group, a ReLU and an inner product, with random weights."""
    (folder / "plain.prototxt").write_text(
        'input: "data" input_shape { dim: 1 dim: 3 dim: 9 dim: 8 }'
        'layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"'
        f"        convolution_param {{ num_output: {outputs} kernel_size: 3 {pads} }} }}"
        'layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }'
        'layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc"'
        "        inner_product_param { num_output: 4 } }"
    )
    draw_weights(folder)


def draw_weights(folder: Path) -> None:
    net, random = read_net(folder / "plain.prototxt"), np.random.default_rng(5)
    for layer, bottoms, _ in walk_shapes(net):
        assert bottoms is not None
        layer.blobs = [random.normal(0, 0.2, one).astype(np.float32) for one in blob_shapes(layer, bottoms)]
    with (folder / "plain.caffemodel").open("wb") as file:
        write_caffemodel(net, file)


def outputs(stem: str, picture: np.ndarray) -> np.ndarray:
    net = read_net(Path(f"{stem}.prototxt"), Path(f"{stem}.caffemodel"))
    return forward(net, {net.inputs()[0]: picture})[net.outputs()[0]]


@pytest.mark.parametrize("command", ["merge-bn", "prepare"])
def test_raw_pictures_make_what_normalized_ones_made(folder: Path, command: str) -> None:
    write_plain(folder)
    out = fold(command, *PLAIN[1:], "--fold-input", MEAN + ",feed=rgb", "-o", "raw")
    assert "EQUAL: " in out and "fold_input" in out
    rgb = np.random.default_rng(0).integers(0, 256, (1, 3, 9, 8)).astype(np.float32)
    bgr = (rgb[:, ::-1] - np.float32([103.94, 116.78, 123.68]).reshape(3, 1, 1)) * np.float32(0.017)
    np.testing.assert_allclose(outputs("raw", rgb), outputs("plain", bgr), rtol=2e-5)  # folded in float32
    about = json.loads((folder / "raw.json").read_text())
    assert about["input"] == {
        "blob": "data",
        "scale": 0.017,
        "mean": [103.94, 116.78, 123.68],
        "order": "RGB",
        "range": [0, 255],
        "folded": True,
    }
    assert about["blobs"]["data"] == {"blob": "data"}
    text = (folder / "raw.prototxt").read_text()
    assert f"# option: --fold-input {MEAN},feed=rgb\n" in text
    assert "# input folded: scale=0.017,mean=103.94/116.78/123.68,order=BGR,feed=RGB data\n" in text


def test_an_input_that_is_renamed(folder: Path) -> None:
    """Names of more than 31 letters are shortened: the proof feeds both with the same all the same."""
    write_plain(folder)
    path = folder / "plain.prototxt"
    path.write_text(path.read_text().replace('"data"', f'"{"picture_" * 5}"'))
    out = fold("prepare", *PLAIN[1:], "--fold-input", MEAN + ",feed=rgb", "-o", "raw")
    assert "EQUAL: " in out and "fold_input" in out
    (name,) = read_net(folder / "raw.prototxt").inputs()
    assert len(name) < 32 and json.loads((folder / "raw.json").read_text())["input"]["blob"] == name


def test_nobody_folds_twice(folder: Path) -> None:
    """Not even when other commands were there in between."""
    fold(*MERGE, "--fold-input", MEAN, "-o", "a")
    for stem, command in (("b", "strip"), ("c", "add-bias"), ("d", "merge-bn")):
        fold(command, f"{chr(ord(stem) - 1)}.prototxt", f"{chr(ord(stem) - 1)}.caffemodel", "-o", stem)
    fold("edit", "d.prototxt", "d.caffemodel", "--rename-blob", "data=picture", "-o", "e")
    for stem, name in zip("abcde", ["data"] * 4 + ["picture"], strict=True):
        assert json.loads((folder / f"{stem}.json").read_text())["input"]["folded"] is True
        assert json.loads((folder / f"{stem}.json").read_text())["input"]["blob"] == name
        mark = folded_into(read_net(folder / f"{stem}.prototxt"))
        assert mark is not None and mark.mean == (103.94, 116.78, 123.68)
        says = refuses(folder, "prepare", f"{stem}.prototxt", f"{stem}.caffemodel", "--fold-input", "darknet")
        assert f"input {name} is folded already: scale=0.017,mean=103.94/116.78/123.68,order=BGR" in says


def test_what_transform_param_says(folder: Path) -> None:
    path = folder / "small.prototxt"
    text = path.read_text()
    told = 'type: "Input" top: "data" transform_param { scale: 0.5 mean_value: 100 } include'
    path.write_text(text.replace('type: "Input" top: "data" include', told))
    fold(*MERGE, "--fold-input", "transform", "-o", "raw")
    mark = folded_into(read_net(folder / "raw.prototxt"))
    assert mark is not None and (mark.scale, mark.mean, mark.order) == ((0.5,), (100.0,), "")
    for words, says in (
        ('transform_param { mean_file: "m.binaryproto" }', "has its mean in m.binaryproto"),
        ("", "0 layers have a transform_param"),
    ):
        plain = told.replace("transform_param { scale: 0.5 mean_value: 100 }", words)
        path.write_text(text.replace('type: "Input" top: "data" include', plain))
        assert says in refuses(folder, *MERGE, "--fold-input", "transform")


def test_verify_feeds_both_with_the_same_picture(folder: Path) -> None:
    fold(*MERGE, "--fold-input", MEAN, "-o", "raw")
    files = ("small.prototxt", "small.caffemodel", "raw.prototxt", "raw.caffemodel")
    assert "EQUAL: " in fold("verify", *files)
    net = (folder / "raw.prototxt").read_text()
    (folder / "raw.prototxt").write_text(net.replace("scale=0.017", "scale=0.018"))
    assert run("verify", *files).code == 1
    assert "EQUAL: " in fold("verify", *files[2:], *files[2:])


def test_the_users_picture_is_raw(folder: Path) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (3, 11, 13)).astype(np.uint8)
    np.save(folder / "raw.npy", picture)
    assert "EQUAL: " in fold(*MERGE, "--fold-input", MEAN, "--input", "raw.npy", "-o", "raw")


@pytest.mark.caffe
def test_in_caffe(folder: Path) -> None:
    assert "on the caffe engine" in fold(*MERGE, "--fold-input", MEAN, "--engine", "caffe", "-o", "raw")


# ---- zeros at the border -----------------------------------------------------------------------


def test_a_mean_before_padding(folder: Path) -> None:
    """Declined; with border=inexact its difference is measured, and all else is proven."""
    write_plain(folder, "pad_h: 0 pad_w: 1")
    says = refuses(folder, *PLAIN, "--fold-input", MEAN)
    assert "conv pads with zeros, which the shift of the input does not reach" in says
    assert "add border=inexact" in says
    out = fold(*PLAIN, "--fold-input", MEAN + ",border=inexact,feed=rgb", "-o", "raw")
    assert "INEXACT, AS ASKED" in out.upper() and "1 layer inexact, as asked" in out
    assert "equal to the source that pads with the mean: " in out
    about = json.loads((folder / "raw.json").read_text())
    assert about["input"]["border"] == "inexact"
    net = (folder / "raw.prototxt").read_text()
    assert ",border=inexact data\n" in net


@pytest.mark.parametrize(
    ("before", "after", "options"),
    [
        ("pad: 1", "pad: 1", ["--high-precision", "conv"]),
        ("pad: 1", "pad: 1 group: 3", []),
        ("Convolution", "ConvolutionDepthwise", []),
        (
            'layer { name: "conv" type: "Convolution" bottom: "data"',
            'layer { name: "twice" type: "Power" bottom: "data" top: "twice" power_param { scale: 2 } }'
            'layer { name: "conv" type: "Convolution" bottom: "twice"',
            [],
        ),
    ],
    ids=["renamed", "made-depthwise", "was-depthwise", "factor-before"],
)
def test_a_mean_before_padding_of_a_layer_that_became_another(
    folder: Path, before: str, after: str, options: list[str]
) -> None:
    """The source pads with the mean in the layer that it was, wherever that stands."""
    write_plain(folder, "pad: 1", outputs=3)
    text = (folder / "plain.prototxt").read_text()
    assert before in text
    (folder / "plain.prototxt").write_text(text.replace(before, after))
    draw_weights(folder)
    out = fold("prepare", *PLAIN[1:], *options, "--fold-input", MEAN + ",border=inexact", "-o", "raw")
    assert "equal to the source that pads with the mean: " in out


def test_what_is_exact_is_not_called_inexact(folder: Path) -> None:
    """border=inexact where no layer pads: there is no border, and the fold is exact."""
    write_plain(folder)
    out = fold(*PLAIN, "--fold-input", MEAN + ",border=inexact", "-o", "raw")
    assert "\nEQUAL: " in out and "inexact, as asked" not in out


def test_the_hint_is_about_what_declined_it(folder: Path) -> None:
    write_plain(folder, "pad: 1")
    padded = refuses(folder, *PLAIN, "--fold-input", MEAN)
    assert "add border=inexact" in padded
    write_plain(folder)
    with Path("plain.prototxt").open("a") as file:
        file.write('layer { name: "first" type: "ReLU" bottom: "data" top: "first" }\n')
    other = refuses(folder, *PLAIN, "--fold-input", MEAN)
    assert "first (ReLU) reads it" in other and "border" not in other


def test_what_a_border_hides_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that are wrong inside are no matter of the border."""
    write_plain(folder, "pad: 1")
    monkeypatch.setattr(weights, "reverse_input_channels", lambda values, *rest: values)
    done = run(*PLAIN, "--fold-input", MEAN + ",border=inexact,feed=rgb", "-o", "raw")
    assert done.code == 1 and "DIFFERS" in done.out.upper()
    assert not (folder / "raw.prototxt").exists()


# ---- Darknet -----------------------------------------------------------------------------------


def test_a_darknet_network(folder: Path) -> None:
    for name, spec in (("rgb", "darknet"), ("bgr", "darknet,feed=bgr")):
        assert "EQUAL: " in fold("prepare", "net.cfg", "net.weights", "--fold-input", spec, "-o", name)
    fold("prepare", "net.cfg", "net.weights", "-o", "plain")
    about = json.loads((folder / "bgr.json").read_text())["input"]
    assert about["order"] == "BGR" and about["folded"] is True and about["range"] == [0, 255]
    assert about["shape"] == json.loads((folder / "plain.json").read_text())["input"]["shape"]
    net = read_net(folder / "plain.prototxt")
    (shape,) = [tuple(one.dim) for one in net.header.input_shape]
    raw = np.random.default_rng(2).integers(0, 256, shape).astype(np.float32)
    expected = outputs("plain", raw / 255)
    near = 3e-6 * expected.std()  # the first weights are divided by 255 in float32
    np.testing.assert_allclose(outputs("rgb", raw), expected, rtol=0, atol=near)
    np.testing.assert_allclose(outputs("bgr", raw[:, ::-1]), expected, rtol=0, atol=near)
    says = refuses(folder, "prepare", "net.cfg", "net.weights", "--fold-input", "scale=0.017", "-o", "x")
    assert "Darknet takes x / 255 and nothing else" in says


@pytest.mark.parametrize(("more", "high"), [((), 1.0), (("--fold-input", "darknet"), 255.0)])
def test_a_darknet_network_is_proven_in_the_range_that_it_is_fed_with(
    folder: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...], high: float
) -> None:
    ranges = []

    def recorded(net: Net, options: Options, low: float, high: float) -> dict[str, np.ndarray]:
        ranges.append((low, high))
        return draw_feeds(net, options, low, high)

    monkeypatch.setattr(darknet, "draw_feeds", recorded)
    assert run("prepare", "net.cfg", "net.weights", *more, "-o", "x", "-q").code == 0
    assert ranges == [(0.0, high)]


def test_detect_feeds_what_the_net_takes(folder: Path) -> None:
    """The same boxes from the same picture, whether the net divides by 255 or who feeds it."""
    cv2.imwrite("room.png", np.random.default_rng(0).integers(0, 256, (30, 60, 3), np.uint8))
    found = []
    for stem, options in (("plain", ()), ("raw", ("--fold-input", "darknet,feed=bgr"))):
        fold("prepare", "net.cfg", "net.weights", *options, "-o", stem)
        fold("detect", f"{stem}.prototxt", f"{stem}.caffemodel", "room.png", "-o", f"{stem}.png")
        found.append(cv2.imread(f"{stem}.png"))
    assert np.array_equal(*found)
    assert not np.array_equal(found[0], cv2.imread("room.png"))


# ---- mistakes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("", "'' is not understood"),
        ("scale", "'scale' is not understood"),
        ("scale=", "'scale=' is not understood"),
        ("scale=1,scale=2", "'scale=2' is given twice"),
        ("scale=0", "scale=0 is no list of numbers but 0"),
        ("mean=1/x", "mean=1/x is no list of numbers"),
        ("mean=nan", "mean=nan is no list of numbers"),
        ("mean=1/2,scale=1/2/3", "3 scales and 2 means"),
        ("order=grb", "order=grb is no order of channels"),
        ("feed=rgb", "says what is fed, and not what the net takes"),
        ("border=exact", "border=exact is not known"),
        ("transform,darknet", "transform and darknet are two answers"),
        ("mean=1/2,input=data", "data has 3 channels, and there are values for 2"),
        ("darknet,feed=bgr", "conv works on the channels in groups"),
        ("darknet,input=prob", "the net has no input prob"),
    ],
)
def test_mistakes(folder: Path, spec: str, says: str) -> None:
    assert says in refuses(folder, *MERGE, "--fold-input", spec)
    assert not any(name.startswith("small_inference") for name in listing(folder))
