"""The classifiers of examples/nets: published figures, conditioning, and surgery in Caffe."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cli_cases import run
from drawn_nets import (
    SCRIPT,
    Surgery,
    conditioned,
    draw,
    drawn,
    figures,
    layer_counts,
    operate,
    parameters_of,
    table,
)

from nnie_prep import params
from nnie_prep.caffe_io import read_net
from nnie_prep.show import layer_figures, totals

pytestmark = pytest.mark.slow

# ---- figures -----------------------------------------------------------------------------------


def trained(document: Any) -> int:
    """Parameters as PyTorch counts them: those that training changes, not BatchNorm's statistics."""
    return int(document["parameters"]) - parameters_of(document, "BatchNorm")


def stored(document: Any) -> int:
    """Parameters as Keras counts them: statistics too, but not the factor that Caffe stores with them."""
    return int(document["parameters"]) - layer_counts(document)["BatchNorm"]


def multiplying(document: Any) -> int:
    """Without biases and all that belongs to BatchNorm."""
    return sum(one["weights"] for one in document["types"])


class Published(NamedTuple):
    """`parameters`, as `count` counts them, are in units of `parameter_unit`, multiply-adds in `unit`."""

    network: str
    options: tuple[str, ...]
    count: Callable[[Any], int]
    parameters: int
    parameter_unit: int
    multiply_adds: int
    unit: int


# torchvision: num_params and _ops of the weights of each network, which its pages of models show.
# slim: research/slim/nets/mobilenet/README.md of tensorflow/models, "MACs (M)" and "Parameters (M)".
# Keras: the table of keras.io/api/applications, with all digits in its older form.
# megvii: ShuffleNetV1 of megvii-model/ShuffleNet-Series, whose README rounds (138 M, 1.9 M; 38 M, 0.7 M);
# arXiv 1707.01083, table 1, has 137 M, and others who measured that code give the digits that stand here. Its
# classifier has no bias; OpenMMLab's has one as ours, and 1.87 M parameters (mmpretrain).
PUBLISHED = (
    Published("densenet121", (), trained, 7_978_856, 1, 2_834, 10**6),  # torchvision
    Published("inception_v3", (), stored, 23_851_784, 1, 5_713, 10**6),  # Keras; torchvision
    Published("mobilenet_v2", (), trained, 3_504_872, 1, 301, 10**6),  # torchvision
    Published("mobilenet_v2", ("--depth=1.4",), multiplying, 606, 10**4, 582, 10**6),  # slim
    Published("mobilenet_v2", ("--depth=0.75",), multiplying, 261, 10**4, 209, 10**6),  # slim
    Published("mobilenet_v2", ("--depth=0.5",), multiplying, 195, 10**4, 97, 10**6),  # slim
    Published("mobilenet_v2", ("--depth=0.35",), multiplying, 166, 10**4, 59, 10**6),  # slim
    # torchvision; its conv1 has no bias, and its multiply-adds are those of the test below
    Published("resnet50", (), lambda document: trained(document) - 64, 25_557_032, 1, 39, 10**8),
    Published("shufflenet_v1", (), trained, 187, 10**4, 13_746, 10**4),  # OpenMMLab; megvii
    Published("shufflenet_v1", ("--depth=0.5",), trained, 72, 10**4, 3_759, 10**4),  # megvii
    Published("shufflenet_v2", (), trained, 2_278_604, 1, 145, 10**6),  # torchvision
    Published("shufflenet_v2", ("--depth=0.5",), trained, 1_366_792, 1, 40, 10**6),  # torchvision
    Published("squeezenet", (), trained, 1_235_496, 1, 349, 10**6),  # torchvision
)


@pytest.mark.parametrize("case", PUBLISHED, ids=lambda case: "".join([case.network, *case.options]))
def test_published_figures(case: Published) -> None:
    document = figures(*drawn(case.network, *case.options))
    found = round(case.count(document) / case.parameter_unit)
    assert (found, round(document["multiply_adds"] / case.unit)) == (case.parameters, case.multiply_adds)


def test_resnet50_with_the_stride_in_the_3x3() -> None:
    """torchvision's form of it, of which it gives 4.089 G multiply-adds; the original has 3.8 G (arXiv
    1512.03385, table 1)."""
    net = read_net(drawn("resnet50")[0])
    assert totals(layer_figures(net))[1] // 10**8 == 38
    strides = {"2a": 1, "2b": 2}
    for layer in net.layers:
        stage, _, branch = layer.name.partition("_branch")
        if stage in ("res3a", "res4a", "res5a") and branch in strides:
            layer.proto.convolution_param.stride[:] = [strides[branch]]
    assert round(totals(layer_figures(net))[1] / 10**6) == 4_089


# arXiv 1704.04861, table 1: channels, stride and size of the picture that each pair is fed with at 224.
MOBILENET_V1 = (
    (32, 64, 1, 112), (64, 128, 2, 112), (128, 128, 1, 56), (128, 256, 2, 56), (256, 256, 1, 28),
    (256, 512, 2, 28), *[(512, 512, 1, 14)] * 5, (512, 1024, 2, 14), (1024, 1024, 1, 7),
)  # fmt: skip
# Convolutions of the base network: parameters and multiply-adds, as the page of TF-slim gives them.
MOBILENETS_V1 = {(1.0, 224): (3_185_088, 567_716_352), (0.75, 128): (1_800_144, 106_002_432)}


@pytest.mark.parametrize(("depth", "size"), MOBILENETS_V1)
def test_mobilenet_v1_layer_by_layer(depth: float, size: int) -> None:
    pair = drawn("mobilenet_v1", f"--depth={depth}", f"--size={size}")
    expected = {"conv1": (9 * 3 * 32 * depth, (size // 2) ** 2)}
    for number, (inputs, outputs, stride, fed) in enumerate(MOBILENET_V1):
        inputs, outputs, area = inputs * depth, outputs * depth, (fed * size // 224 // stride) ** 2
        expected[f"{number} dw"] = (9 * inputs, area)
        expected[f"{number} sep"] = (inputs * outputs, area)
    for files in (pair, pair[:1]):
        document = figures(*files)
        rows = [row for row in document["layers"] if row["type"] == "Convolution"]
        assert [(row["parameters"], row["weights"], row["multiply_adds"]) for row in rows] == [
            (weights, weights, weights * area) for weights, area in expected.values()
        ]
        weights, operations = MOBILENETS_V1[depth, size]
        assert document["convolutions"] == {
            "layers": 27, "parameters": weights, "weights": weights, "multiply_adds": operations
        }  # fmt: skip
        classifier = int(1024 * depth) * 1000
        assert document["types"][-2:] == [
            {"type": "InnerProduct", "layers": 1, "parameters": classifier + 1000, "weights": classifier,
             "multiply_adds": classifier},
            {"type": "Softmax", "layers": 1, "parameters": 0, "weights": 0, "multiply_adds": 0},
        ]  # fmt: skip
        for name in ("parameters", "multiply_adds"):
            assert document[name] == sum(one[name] for one in document["types"])
    last = run("show", *pair).out.splitlines()[-1].split()
    assert last[:2] == ["convolutions", "27"] and f"{weights:,}" in last and f"{operations:,}" in last


def test_figures_after_folding(tmp_path: Path) -> None:
    """Biases come, BatchNorm goes, and the figures stay."""
    pair = drawn("mobilenet_v1", "--depth=0.75", "--size=128")
    assert run("merge-bn", *pair, "-o", tmp_path / "merged", "-q").code == 0
    document = figures(tmp_path / "merged.prototxt")
    biases = sum(row["shape"][1] for row in document["layers"] if row["type"] == "Convolution")
    assert document["convolutions"] == {
        "layers": 27, "parameters": 1_800_144 + biases, "weights": 1_800_144, "multiply_adds": 106_002_432
    }  # fmt: skip
    assert set(layer_counts(document)) == {"Convolution", "ReLU", "Pooling", "InnerProduct", "Softmax"}


# TF-slim's scopes of Mixed_6b and Mixed_7c (research/slim/nets/inception_v3.py of tensorflow/models), without
# the number and letter by which they count.
INCEPTION = {
    "Mixed_6b": (
        ("1x1",),
        ("1x1", "1x7", "7x1"),
        ("1x1", "7x1", "1x7", "7x1", "1x7"),
        ("1x1",),
    ),
    "Mixed_7c": (("1x1",), ("1x1", "1x3", "3x1"), ("1x1", "3x3", "1x3", "3x1"), ("1x1",)),
}


@pytest.mark.parametrize("module", INCEPTION)
def test_inception_v3_branch_by_branch(module: str) -> None:
    """Kernels as they are named and as they are, each convolution reading the one before it."""
    net = read_net(drawn("inception_v3")[0])
    found: dict[str, list[str]] = {}
    for layer in net.layers:
        if layer.type == "Convolution" and layer.name.startswith(f"{module}/"):
            _, branch, name = layer.name.split("/")
            found.setdefault(branch, []).append(name.rpartition("_")[2])
            height, width = params.convolution(layer).kernel
            assert name.endswith(f"_{height}x{width}")
    assert tuple(map(tuple, found.values())) == INCEPTION[module]


# ---- weights -----------------------------------------------------------------------------------

WELL_CONDITIONED = {
    "densenet121": ("--size", "96", "128"),
    "inception_v3": ("--size", "139"),
    "mobilenet_v1": ("--depth=0.25", "--size=96"),
    "mobilenet_v2": ("--depth=0.35", "--size", "64", "96", "--seed=7"),
    "resnet50": ("--size", "96", "64"),
    "shufflenet_v1": ("--depth=0.5", "--size", "96", "128"),
    "shufflenet_v2": ("--depth=0.5", "--size", "128", "96"),
    "squeezenet": ("--size", "96"),
}


@pytest.mark.parametrize("network", WELL_CONDITIONED)
def test_well_conditioned(network: str) -> None:
    """Nor is the answer an even draw, or certain."""
    values = conditioned(drawn(network, *WELL_CONDITIONED[network]))
    output = values["Predictions" if network == "inception_v3" else "prob"]
    assert 2 / output.size < float(output.max()) < 0.5


def test_seeded(tmp_path: Path) -> None:
    def content(*more: str) -> bytes:
        return draw(tmp_path, "mobilenet_v1", "--depth=0.1", "--size=32", *more)[1].read_bytes()

    assert content() == content() == content("--seed", "0") != content("--seed", "1")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("mobilenet_v1", "--depth=0"), "--depth is over 0"),
        (("mobilenet_v1", "--depth=nan"), "--depth is over 0"),
        (("mobilenet_v1", "--size=31"), "32 at least"),
        (("mobilenet_v1", "--size", "32", "32", "32"), "a height and a width"),
        (("mobilenet_v1", "--classes=0"), "--classes"),
        (("resnet50", "--depth=0.5"), "resnet50 has no --depth"),
        (("shufflenet_v2", "--depth=0.7"), "one of 0.5, 1.0"),
        (("unet", "--size=200"), "12 more than a multiple of 16"),
        (("alexnet",), "invalid choice"),
    ],
)
def test_refused(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    command = [sys.executable, str(SCRIPT), *arguments, "-o", "x"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and said in done.stderr and not list(tmp_path.iterdir())


# ---- surgery -----------------------------------------------------------------------------------

SURGERY = {
    "densenet121": (),
    "inception_v3": (),
    "mobilenet_v1": (),
    "mobilenet_v2": ("--size", "192", "256"),
    "resnet50": (),
    "shufflenet_v1": (),
    "shufflenet_v2": ("--size", "224", "160"),
    "squeezenet": (),
}


def _check_densenet(found: Surgery) -> None:
    """What normalizes a convolution's output folds into it; what stands behind a Concat or a Pooling has a
    ReLU behind it, so that it folds nowhere and becomes one Scale."""
    sizes = {2: 6, 3: 12, 4: 24, 5: 16}
    layers = [f"{block}_{place}" for block in sizes for place in range(1, sizes[block] + 1)]
    folded = ["conv1", *(f"conv{layer}/x1" for layer in layers)]
    left = [*(f"conv{layer}/x1" for layer in layers), *(f"conv{block}_blk" for block in range(2, 6))]
    assert sorted(found.names("fold_batchnorm", changed=True)) == sorted(folded)
    assert sorted(found.names("fold_batchnorm", changed=False)) == sorted(f"{name}/bn" for name in left)
    assert sorted(found.names("merge_batchnorm", changed=True)) == sorted(f"{name}/scale" for name in left)
    texts = {note["layer"]: note["text"] for note in found.passes["fold_batchnorm"] if not note["changed"]}
    assert "is written by concat_2_1 (Concat)" in texts["conv2_2/x1/bn"]
    assert "is written by pool2 (Pooling)" in texts["conv3_1/x1/bn"]
    texts = {note["layer"]: note["text"] for note in found.passes["fold_scale_forward"]}
    assert "is read by relu2_2/x1 (ReLU)" in texts["conv2_2/x1/scale"]


@pytest.mark.caffe
@pytest.mark.parametrize("network", SURGERY)
def test_surgery_in_caffe(tmp_path: Path, network: str) -> None:
    """Every fold is proven, and the README's row is what is measured, save for its multiply-adds where the
    picture is another one."""
    options = SURGERY[network]
    found = operate(tmp_path, drawn(network, *options))
    row = found.row()
    row[1] = f"{figures(*drawn(network))['multiply_adds']:,}"
    assert table("classification")[network] == row
    counts = layer_counts(found.merged)
    assert not {"BatchNorm", "Bias", "Dropout"} & set(counts)
    if network == "densenet121":
        _check_densenet(found)
    else:
        declined = [note for notes in found.passes.values() for note in notes if not note["changed"]]
        assert not declined and "Scale" not in counts


@pytest.mark.caffe
@pytest.mark.parametrize("network", ["mobilenet_v1", "mobilenet_v2"])
def test_quarter_depth_in_caffe(tmp_path: Path, network: str) -> None:
    """The thinnest that people train, on a picture that is not square."""
    found = operate(tmp_path, drawn(network, "--depth=0.25", "--size", "160", "224"))
    counts = layer_counts(found.merged)
    assert len(found.names("fold_batchnorm", changed=True)) == layer_counts(found.before)["BatchNorm"]
    assert not {"BatchNorm", "Scale"} & set(counts)


def test_the_table_names_every_classifier() -> None:
    assert set(table("classification")) == set(SURGERY)
