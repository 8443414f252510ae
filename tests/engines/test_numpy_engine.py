"""The NumPy engine and the shapes against pycaffe, type by type, on random layers."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from layer_cases import DRAW
from layer_samples import Sample, draw

from nnie_prep.blob import Array
from nnie_prep.caffe_io import format_prototxt, write_caffemodel
from nnie_prep.engines import caffe_engine
from nnie_prep.engines.numpy import LAYERS, forward, unsupported
from nnie_prep.shapes import DATA_DEPENDENT, TOP_SHAPES, infer_shapes

CASES_PER_TYPE = 60
SEED = 20240607

# Names that forks of Caffe give to DepthwiseConv, which is in the Caffe that is built here.
ALIASES = {"ConvolutionDepthwise": "DepthwiseConv", "DepthwiseConvolution": "DepthwiseConv"}

# Computed in float64, 1 / x near 0 magnifies the rounding of x in Caffe's float32.
DOUBLE_TOLERANCES = {"Power": 1e-4}

# Largest |ours - Caffe's| in units of Caffe's largest value in the blob, at least of 1: values are
# drawn with a deviation of 2. Types that are not listed move, select, compare or multiply once, and
# agree to the bit.
TOLERANCES = {
    # sums of up to some thousand products, rounded in another order (measured over 67,000 layers: 2e-6)
    **dict.fromkeys(("Convolution", "Deconvolution", "DepthwiseConv", "InnerProduct", "Reduction"), 5e-6),
    # means in another order, then a root and a division (measured: 3e-7)
    **dict.fromkeys(("BatchNorm", "MVN"), 2e-6),
    # a few roundings, and powers, exponentials and tangents of another library (measured: 2e-7)
    **dict.fromkeys(("BNLL", "ELU", "Log", "Normalize", "Power", "Sigmoid", "Softmax", "Swish"), 2e-6),
    **dict.fromkeys(("Mish", "TanH"), 2e-6),
    # a few roundings of what is computed in float64 here, or with another exponential
    **dict.fromkeys(("DetectionOutput", "PriorBox"), 1e-6),
    # steps from pixel to pixel in float32, up to 13 of them, are steps in float64 here (measured: 1.1e-6)
    "Interp": 4e-6,
    # a product and a sum, in Caffe's build perhaps rounded as one; means in another order
    **dict.fromkeys(("Axpy", "PSROIPooling"), 1e-6),
    # exponents of up to 20 are rounded before the power is taken
    "Exp": 1e-5,
    # Caffe adds and subtracts squares in a running sum, which leaves the rounding of the largest
    "LRN": 2e-5,
    # sums in another order; a product and a sum that Caffe's BLAS rounds as one
    **dict.fromkeys(("Eltwise", "Pooling", "SPP", "Scale"), 1e-6),
}


def run_caffe(sample: Sample, folder: Path) -> dict[str, Array]:
    prototxt, caffemodel = folder / "sample.prototxt", folder / "sample.caffemodel"
    prototxt.write_text(format_prototxt(sample.net), encoding="utf-8")
    with caffemodel.open("wb") as file:
        write_caffemodel(sample.net, file)
    return caffe_engine.forward(sys.executable, prototxt, caffemodel, sample.feeds, None)


def relative_error(ours: Array, caffe: Array) -> float:
    """Largest difference in units of the largest value; infinite where others than finite values differ."""
    finite = np.isfinite(caffe)
    if ours.shape != caffe.shape or not np.array_equal(ours[~finite], caffe[~finite], equal_nan=True):
        return float("inf")
    if not finite.any():
        return 0.0
    if not np.isfinite(ours[finite]).all():
        return float("inf")
    difference = np.abs(ours[finite].astype(np.float64) - caffe[finite])
    return float(difference.max() / max(np.abs(caffe[finite]).max(), 1.0))


@dataclass
class Run:
    sample: Sample
    caffe: Mapping[str, Array]
    ours: Mapping[str, Array]
    exact: Mapping[str, Array]
    shapes: Mapping[str, tuple[int, ...]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One net of all types at once: Caffe takes longer to start than to run it."""
    sample = draw([name for name in DRAW if name not in ALIASES], CASES_PER_TYPE, SEED)
    before = {name: value.copy() for name, value in sample.feeds.items()}
    caffe = run_caffe(sample, tmp_path_factory.mktemp("caffe"))
    ours = forward(sample.net, sample.feeds)
    exact = forward(sample.net, sample.feeds, dtype=np.float64)
    for name, value in before.items():
        np.testing.assert_array_equal(sample.feeds[name], value, err_msg=f"{name} was written to")
    return Run(sample, caffe, ours, exact, infer_shapes(sample.net))


@pytest.mark.caffe
@pytest.mark.parametrize("layer_type", [name for name in DRAW if name not in ALIASES])
def test_layer_equals_caffe(run: Run, layer_type: str) -> None:
    """Shapes, values in float32, and values in float64 up to float32's rounding."""
    blobs = run.sample.blobs[layer_type]
    assert len(blobs) >= CASES_PER_TYPE or layer_type == "Silence"
    tolerance = TOLERANCES.get(layer_type, 0.0)
    for blob in blobs:
        caffe = run.caffe[blob]
        before = (1, 1, 1, 7) if layer_type in DATA_DEPENDENT else caffe.shape
        assert run.shapes[blob] == before, run.sample.text(blob)
        error = relative_error(run.ours[blob], caffe)
        assert error <= tolerance, f"off by {error:.2g} of its largest value: {run.sample.text(blob)}"
        assert run.ours[blob].dtype == np.float32 and run.exact[blob].dtype == np.float64
        error = relative_error(run.exact[blob].astype(np.float32), caffe)
        double_tolerance = DOUBLE_TOLERANCES.get(layer_type, max(tolerance, 2e-6))
        assert error <= double_tolerance, f"float64 off by {error:.2g}: {run.sample.text(blob)}"


def test_every_type_is_compared_with_caffe() -> None:
    assert set(DRAW) == set(LAYERS)
    assert set(TOP_SHAPES) == set(LAYERS) | {"Input"}


@pytest.mark.parametrize("alias", ALIASES)
def test_alias_is_the_type_it_stands_for(alias: str) -> None:
    sample = draw([alias], CASES_PER_TYPE, SEED)
    assert not unsupported(sample.net)
    ours = forward(sample.net, sample.feeds)
    for layer in sample.net.layers:
        layer.proto.type = ALIASES[alias]
    for name, value in forward(sample.net, sample.feeds).items():
        np.testing.assert_array_equal(ours[name], value)
