"""drop_identity."""

from __future__ import annotations

import pytest
from golden import FOLDER, cases, compare, read

from nnie_prep.passes.drop_identity import drop_identity


@pytest.mark.parametrize("case", cases(drop_identity))
def test_golden(case: str) -> None:
    compare(drop_identity, case)


def test_without_the_inputs_shape_reshapes_stay() -> None:
    net = read(FOLDER / "drop_identity" / "same_shape.prototxt").drawn.net
    del net.header.input_shape[:]
    assert drop_identity(net) == []


def test_without_weights_nothing_is_empty() -> None:
    net = read(FOLDER / "drop_identity" / "empty_batchnorm_and_scale.prototxt").drawn.net
    for layer in net.layers:
        layer.blobs = []
    assert drop_identity(net) == []
