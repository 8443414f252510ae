"""Networks drawn at random: every section of the Caffe net equals the NumPy Darknet's."""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from darknet_drafts import drawn
from hypothesis import given, settings
from hypothesis import strategies as st

from nnie_prep.blob import Array
from nnie_prep.caffe_io import format_prototxt, write_caffemodel
from nnie_prep.darknet import EMITTERS, Conversion, convert
from nnie_prep.darknet.builder import Target
from nnie_prep.darknet.reference import Reference, load
from nnie_prep.darknet.weights import Flavor
from nnie_prep.engines import caffe_engine
from nnie_prep.engines.numpy import forward
from nnie_prep.net import check_wiring
from nnie_prep.shapes import infer_shapes

FLAVORS: tuple[Flavor, ...] = ("alexeyab", "alexeyab", "pjreddie")
TARGETS: tuple[Target, ...] = ("nnie", "caffe")


def converted(seed: int, flavor: Flavor, target: Target, folder: Path) -> tuple[Conversion, Reference, Array]:
    draft = drawn(seed, flavor)
    cfg, weights = draft.write(folder)
    conversion = convert(cfg, weights, target=target, flavor=flavor)
    assert not conversion.warnings
    assert [layer.shape for layer in conversion.layers] == draft.shapes
    check_wiring(conversion.net)
    return conversion, load(cfg, weights, flavor), draft.image()


def forced(conversion: Conversion, expected: list[Array | None]) -> dict[str, Array]:
    """The reference's values for the blobs: each section is then computed from those, not from ours.

    Else a difference grows without limit where values cancel out.
    """
    shapes = infer_shapes(conversion.net)
    return {
        layer.blobs[0]: np.asarray(reference).reshape(shapes[layer.blobs[0]])
        for layer, reference in zip(conversion.layers, expected, strict=True)
        if layer.blobs
    }


def check(
    conversion: Conversion, expected: list[Array | None], blobs: dict[str, Array], limit: float, least: float
) -> None:
    """Each section whose output lies in blobs, in units of its scale, which is `least` at least."""
    for layer, reference in zip(conversion.layers, expected, strict=True):
        if not layer.blobs:
            assert layer.none
            continue
        want = np.asarray(reference).reshape(-1)
        have = np.concatenate([blobs[name].reshape(-1) for name in layer.blobs])
        assert np.isfinite(want).all()
        scale = max(float(want.std()), 1e-3 * float(np.abs(want).max()), least)
        error = float(np.abs(have - want).max()) / scale
        assert error <= limit, (layer, error)


@settings(max_examples=150)
@given(st.integers(0, 2**32), st.sampled_from(FLAVORS), st.sampled_from(TARGETS))
def test_equals_the_numpy_darknet(seed: int, flavor: Flavor, target: Target) -> None:
    """In float64, where only the float32 of slopes and factors in the prototxt differs, by some 1e-8.

    That is 1e-5 of the scale of a section of one value, which is 1e-3 of that value.
    """
    with TemporaryDirectory() as folder:
        conversion, reference, image = converted(seed, flavor, target, Path(folder))
        expected = reference.forward(image, np.float64)
        blobs = forward(
            conversion.net, {"data": image[None]}, forced=forced(conversion, expected), dtype=np.float64
        )
    check(conversion, expected, blobs, limit=1e-4, least=1e-12)


def test_everything_is_drawn() -> None:
    """Every section that is converted, in odd sizes, with some groups, reading from far back."""
    sections: Counter[str] = Counter()
    far, sizes, groups = 0, set(), set()
    for seed in range(600):
        draft = drawn(seed, FLAVORS[seed % 3])
        found = re.findall(r"^\[(.+)\]$|^(layers|from|groups)=(.+)$", draft.text, re.MULTILINE)
        index = -2  # that of [net] is -1
        for header, key, value in found:
            index += bool(header)
            sections[header] += 1
            if key in ("layers", "from"):
                written = [int(one) for one in value.split(",")]
                far = max(far, *(index - one if one >= 0 else -one for one in written))
            elif key:
                groups.add(int(value))
        sizes.update(draft.input_shape[1:])
    assert sections.keys() - {""} == {"net", *EMITTERS}
    assert min(sections.values()) >= 5, sections
    assert far > 12 and sizes == set(range(5, 18)) and {1, 2, 3, 4} < groups


@pytest.mark.caffe
@settings(max_examples=25)
@given(st.integers(0, 2**32), st.sampled_from(FLAVORS), st.sampled_from(TARGETS))
def test_equals_the_numpy_darknet_in_caffe(seed: int, flavor: Flavor, target: Target) -> None:
    """In float32: sums of hundreds of values of size 1 are off by some 1e-6, even where they are almost 0."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        conversion, reference, image = converted(seed, flavor, target, folder)
        expected = reference.forward(image)
        prototxt, caffemodel = folder / "drawn.prototxt", folder / "drawn.caffemodel"
        prototxt.write_text(format_prototxt(conversion.net))
        with caffemodel.open("wb") as file:
            write_caffemodel(conversion.net, file)
        blobs = caffe_engine.forward(
            sys.executable,
            prototxt,
            caffemodel,
            {"data": image[None]},
            None,
            forced(conversion, expected),
        )
    check(conversion, expected, blobs, limit=1e-3, least=1e-2)
