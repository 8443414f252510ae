"""OpenCV as the judge of a conversion: right where it judges, and silent where it would be wrong."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import Letterbox, ModelFiles
from darknet_cases import CASES, DarknetCase, darknet_case
from darknet_nets import random_net
from numpy.typing import NDArray

from nnie_prep.blob_map import BlobMap
from nnie_prep.cli import main
from nnie_prep.darknet import convert, opencv, reference
from nnie_prep.errors import UserError
from nnie_prep.proof import Options, prove_conversion

# Case: what the refusal must say. They were computed by real Darknet; OpenCV gets them wrong or not at all.
REFUSED = {
    "act_conv_all": "activation=loggy",
    "act_conv_all_but_stair": "activation=loggy",
    "act_conv_relu6": "activation=relu6",
    "batchnorm_layer": "knows none of that name",
    "conv_defaults": "no size",
    "conv_dilation": "dilation=2",
    "conv_flipped": "flipped=1",
    "conv_stridexy": "stride_x=2",
    "crop": "noadjust=0",
    "detection": "knows none of that name",
    "empty": "knows none of that name",
    "local": "knows none of that name",
    "local_avgpool_2_1": "knows none of that name",
    "local_avgpool_2_2": "knows none of that name",
    "local_avgpool_2_2_padding0": "knows none of that name",
    "local_avgpool_3_1": "knows none of that name",
    "local_avgpool_3_2_padding0": "knows none of that name",
    "local_s2_pad": "knows none of that name",
    "lrn": "knows none of that name",
    "maxpool_antialias": "antialiasing=1",
    "maxpool_default_size": "no size",
    "maxpool_depth": "maxpool_depth=1",
    "reorg3d_reverse": "knows none of that name",
    "reorg3d_s2": "knows none of that name",
    "reorg_reverse": "reverse=1",
    "route_groups": "groups of several layers",
    "shortcut_w_per_channel_relu": "several layers",
    "shortcut_w_per_feature_relu": "several layers",
    "shortcut_w_per_feature_softmax": "several layers",
    "softmax_groups_conv": "groups=8",
    "softmax_spatial": "over more than channels",
    "upsample": "scale=0.5",
}
# A record of Darknet's fault, sections and options that the NumPy Darknet refuses before.
NOT_DEFINED = ("act_conv_relu6_asis", "act_layer_broken", "act_unknown")


def known() -> list[str]:
    """Cases of the flavor that the command line converts."""
    names = [name for name in CASES if name not in NOT_DEFINED]
    return [name for name in names if darknet_case(name).flavor == "alexeyab"]


def off(expected: NDArray[Any], found: NDArray[Any]) -> float:
    """The largest error in units of the expected deviation; infinite where a value is not finite."""
    assert expected.std() > 0
    if found.size != expected.size:
        return float("inf")
    error = float(np.abs(found.reshape(-1).astype(np.float64) - expected.reshape(-1)).max() / expected.std())
    return error if np.isfinite(error) else float("inf")


def errors(case: DarknetCase, judge: opencv.OpenCV) -> dict[int, float]:
    """Section: how far OpenCV is from what real Darknet computed."""
    outputs = [output for _, output in judge.iterate(case.input)]
    return {
        index: off(values, output)
        for index, values in case.expected.items()
        if (output := outputs[index]) is not None
    }


@pytest.mark.parametrize("name", [name for name in known() if name not in REFUSED])
def test_judges_as_real_darknet(name: str, tmp_path: Path) -> None:
    case = darknet_case(name)
    judge = opencv.load(case.cfg, case.weights(tmp_path))
    found = errors(case, judge)
    heads = {layer["index"] for layer in case.layers if layer["type"] in ("cost", "region", "yolo")}
    assert found.keys() == case.expected.keys() - heads and found
    # Real Darknet's own float32 noise is below 2.2e-4; these nets are ordinary.
    assert max(found.values()) < 1e-4, found


@pytest.mark.parametrize("name", [name for name in known() if name in REFUSED])
def test_refuses_what_it_would_get_wrong(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = darknet_case(name)
    weights = case.weights(tmp_path)
    with pytest.raises(UserError, match=REFUSED[name]) as caught:
        opencv.load(case.cfg, weights)
    assert "\n" not in str(caught.value) and "--against opencv" in caught.value.hint
    monkeypatch.setattr(opencv, "_check", lambda *_: None)
    assert is_wrong(lambda: errors(case, opencv.load(case.cfg, weights)))


def is_wrong(judged: Any) -> bool:
    """Whether OpenCV, unchecked, fails or is off by more than any rounding."""
    try:
        return max(judged().values()) > 1e-2
    except (UserError, ValueError):  # ValueError: weights that OpenCV has no place for
        return True


CONV = "[convolutional]\nfilters=8\nsize=3\nstride=1\npad=1\nbatch_normalize=1\nactivation=leaky\n"
BARE = "[convolutional]\nfilters=4\nsize=3\nstride=1\npad=1\n"
OPTIONS = {
    "activation of a convolution": (BARE, "no activation"),
    "activation of a connected": (f"{CONV}[connected]\noutput=5\n", "no activation"),
    "elu": (f"{BARE}activation=elu\n", "activation=elu"),
    "activation where there is none": (
        f"{CONV}[maxpool]\nsize=2\nstride=2\nactivation=logistic\n",
        "activation=logistic",
    ),
    "alias": ("[conv]\nfilters=4\nsize=3\nactivation=leaky\n", "knows none of that name"),
    "alpha": (f"{CONV}{CONV}[shortcut]\nfrom=-2\nalpha=0.5\nactivation=linear\n", "alpha=0.5"),
    "antialiasing": (CONV.replace("stride=1", "stride=2\nantialiasing=1"), "antialiasing=1"),
    "batch_normalize": (CONV.replace("normalize=1", "normalize=2"), "batch_normalize=2"),
    "filters": ("[convolutional]\nsize=3\npad=1\nactivation=leaky\n", "no filters"),
    "maxpool stride": (f"{CONV}[maxpool]\nsize=3\n", "no stride"),
    "reorg stride": (f"{CONV}[reorg]\n", "no stride"),
    "scale_wh": (
        f"{CONV}[convolutional]\nfilters=1\nsize=1\nactivation=logistic\n"
        "[scale_channels]\nfrom=-2\nscale_wh=1\n",
        "scale_wh=1",
    ),
    "share_index": (f"{CONV}{CONV}{CONV}share_index=1\n", "share_index"),
    "stride_y": (CONV.replace("stride=1", "stride=1\nstride_y=2"), "stride_y=2"),
    "temperature": (f"{CONV}[avgpool]\n[softmax]\ntemperature=3\n", "temperature=3"),
    "twice": (f"{CONV}[maxpool]\nsize=2\nstride=2\nsize=3\n", "size is written twice"),
    "upsample stride": (f"{CONV}[upsample]\n", "no stride"),
    "weights_type": (
        f"{CONV}{CONV}[shortcut]\nfrom=-2\nweights_type=per_feature\n"
        f"weights_normalization=softmax\nactivation=linear\n{CONV}",
        "weights_type",
    ),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_refuses_options_that_it_would_get_wrong(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, reason = OPTIONS[name]
    net = random_net(tmp_path, text, (3, 10, 12), seed=5)
    with pytest.raises(UserError, match=rf"section \d+ .*{reason}"):
        opencv.load(net.cfg, net.weights)
    monkeypatch.setattr(opencv, "_check", lambda *_: None)

    def judged() -> dict[int, float]:
        judge = opencv.load(net.cfg, net.weights)
        pairs = zip(net.outputs(), judge.iterate(net.input), strict=True)
        return {index: off(a, b) for index, (a, (_, b)) in enumerate(pairs) if b is not None}

    assert is_wrong(judged)


RIGHT = {
    "groups": CONV + CONV.replace("size=3", "size=3\ngroups=4"),
    "padding": CONV.replace("pad=1", "padding=2").replace("size=3", "size=5"),
    "crop": f"{CONV}[crop]\ncrop_height=7\ncrop_width=6\nnoadjust=1\n{CONV}",
    "sam": f"{CONV}{CONV}[sam]\nfrom=-2\n",
    "route of a group": f"{CONV}[route]\nlayers=-1\ngroups=2\ngroup_id=1\n{CONV}"
    f"[route]\nlayers=-1,-3\n{CONV}",
    "shortcut to fewer": CONV
    + CONV.replace("filters=8", "filters=5")
    + "[shortcut]\nfrom=0\nactivation=leaky\n",
    "tanh": CONV.replace("leaky", "tanh"),
    "transposed": f"{CONV}[connected]\noutput=9\nbatch_normalize=1\nactivation=relu\n",
    "strides that agree": CONV.replace("stride=1", "stride=2\nstride_x=2\nstride_y=2"),
    "training keys twice": f"{CONV}learning_rate=1\nlearning_rate=2\n",
}


@pytest.mark.parametrize("name", RIGHT)
def test_agrees_with_numpy_darknet_on_random_weights(name: str, tmp_path: Path) -> None:
    minor = 2000 if name == "transposed" else 2
    net = random_net(tmp_path, RIGHT[name], (3, 10, 12), seed=6, minor=minor)
    judge = opencv.load(net.cfg, net.weights)
    for expected, (section, found) in zip(net.outputs(), judge.iterate(net.input), strict=True):
        assert found is not None and expected.std() > 0
        assert off(expected, found) < 2e-5, section  # float32 against float64, unit variances


def test_failure_in_opencv_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """OpenCV loses track of the size that a [route] goes back to; it says so in C++."""
    text = f"{CONV}[maxpool]\nsize=2\nstride=2\n[route]\nlayers=0\n[connected]\noutput=5\nactivation=leaky\n"
    net = random_net(tmp_path, text, (3, 10, 12))
    judge = opencv.load(net.cfg, net.weights)
    with pytest.raises(UserError, match="OpenCV cannot run this network: .+; leave out") as caught:
        list(judge.iterate(net.input))
    assert "\n" not in str(caught.value) and caught.value.where == str(net.cfg)
    assert capfd.readouterr() == ("", "")


def test_every_layer_of_yolov3_tiny_on_a_photo(
    yolov3_tiny: ModelFiles, letterboxed: Letterbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two independent statements of Darknet agree; without the larger variances OpenCV is off."""
    picture = letterboxed(416, 416)
    ours = [output for _, output in reference.load(*yolov3_tiny).iterate(picture)]

    def worst() -> float:
        judged = opencv.load(*yolov3_tiny).iterate(picture)
        pairs = [(a, b) for a, (_, b) in zip(ours, judged, strict=True) if b is not None]
        assert len(pairs) == 22
        return max(off(a, b) for a, b in pairs)

    assert worst() < 1e-4
    monkeypatch.setattr(opencv, "_MISSING_EPS", 0.0)
    assert worst() > 1e-4


def test_noise_is_that_of_the_network_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A judge that is wrong has no more noise than one that is right, so that noise excuses nothing."""
    net = random_net(tmp_path, CONV + CONV, (3, 10, 12), seed=7)
    noise = []
    for missing in (opencv._MISSING_EPS, 0.1):
        monkeypatch.setattr(opencv, "_MISSING_EPS", missing)
        judge = opencv.load(net.cfg, net.weights)
        single = [output for _, output in judge.iterate(net.input)]
        double = [output for _, output in judge.iterate(net.input, np.float64)]
        assert single[1] is not None and double[1] is not None and double[1].dtype == np.float64
        noise.append(float(np.abs(double[1] - single[1]).max() / single[1].std()))
    exact = net.reference.forward(net.input, np.float64)[1]
    rounded = net.reference.forward(net.input, np.float32)[1]
    assert exact is not None and rounded is not None
    assert off(exact, single[1]) > 1e-2  # wrong it was
    expected = float(np.abs(exact - rounded).max() / exact.std())
    assert noise == pytest.approx([expected, expected], rel=0.2) and 0 < expected < 1e-5


@pytest.mark.parametrize("spoilt", [False, True])
def test_verdict(tmp_path: Path, spoilt: bool) -> None:
    """One weight that is off by 1 % of the largest makes the answer "differs"."""
    net = random_net(
        tmp_path,
        f"{CONV}[maxpool]\nsize=2\nstride=2\n{CONV}[yolo]\nmask=0\nanchors=1,2\nclasses=3\nnum=1\n",
        (3, 10, 12),
    )
    conversion = convert(net.cfg, net.weights)
    b = conversion.net.copy()
    if spoilt:
        layer = b.layers[-4]
        assert layer.type == "Convolution"
        kernel = np.array(layer.blobs[0])
        kernel[3, 2, 1, 0] += 0.01 * np.abs(kernel).max()
        layer.blobs[0] = kernel
    judge = opencv.load(net.cfg, net.weights)
    verdict = prove_conversion(conversion.layers, judge, b, BlobMap(b.blob_names()), Options())
    assert verdict.judge == f"OpenCV {cv2.__version__}"
    assert [result.name for result in verdict.compared()] == [
        "0 convolutional",
        "1 maxpool",
        "2 convolutional",
    ]
    assert list(verdict.accounted) == ["3 yolo"]
    first = verdict.first_divergence()
    assert (verdict.answer, first and first.name) == (
        ("differs", "2 convolutional") if spoilt else ("equal", None)
    )


# ---- the command line ----------------------------------------------------------------------------


def test_commands_say_who_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = darknet_case("yolo_heads")
    pair = [str(case.cfg), str(case.weights(tmp_path))]
    judge = f"OpenCV {cv2.__version__}"
    assert main(["darknet2caffe", *pair, "-o", str(tmp_path / "a"), "--against", "opencv"]) == 0
    said = capsys.readouterr().out
    assert "EQUAL" in said and f"8 blobs compared with {judge}" in said
    command = ["prepare", *pair, "-o", str(tmp_path / "b"), "--json"]
    assert main([*command, "--against", "opencv"]) == 0
    assert json.loads(capsys.readouterr().out)["verification"]["judge"] == judge
    assert main([*command, "--force"]) == 0
    assert json.loads(capsys.readouterr().out)["verification"]["judge"] == "Darknet in NumPy"


def refusal(folder: Path, command: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a command without a result prints."""
    before = sorted(folder.iterdir())
    assert main([*command, "-o", str(folder / "out"), "--against", "opencv"]) == 2
    printed = capsys.readouterr()
    assert sorted(folder.iterdir()) == before and not printed.out and printed.err.count("\n") == 1
    return printed.err


def test_command_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = darknet_case("conv_dilation")
    said = refusal(tmp_path, ["prepare", str(case.cfg), str(case.weights(tmp_path))], capsys)
    assert "4 section(s)" in said and "section 3 [convolutional] in line 34 (dilation=2)" in said
    for name in ("a.prototxt", "a.caffemodel"):
        (tmp_path / name).touch()
    pair = [str(tmp_path / "a.prototxt"), str(tmp_path / "a.caffemodel")]
    assert "this is a Caffe net; leave it out" in refusal(tmp_path, ["prepare", *pair], capsys)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (None, "pip install 'opencv-python-headless>=4.8,<5'"),
        (SimpleNamespace(__version__="5.0.0", dnn=SimpleNamespace()), "found OpenCV 5.0.0, expected 4.8"),
    ],
)
def test_command_without_a_fitting_opencv(
    module: Any,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", module)
    case = darknet_case("conv_geom")
    assert said in refusal(tmp_path, ["darknet2caffe", str(case.cfg), str(case.weights(tmp_path))], capsys)
