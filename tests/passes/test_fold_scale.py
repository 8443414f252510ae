"""fold_scale."""

from __future__ import annotations

import numpy as np
import pytest
from golden import FOLDER, cases, compare, read

from nnie_prep.passes.fold_scale import fold_scale


@pytest.mark.parametrize("case", cases(fold_scale))
def test_golden(case: str) -> None:
    compare(fold_scale, case)


def test_a_row_of_scales_is_rounded_once() -> None:
    net = read(FOLDER / "fold_scale" / "several_in_a_row.prototxt").drawn.net
    conv, *scales = net.layers
    weights, bias = (np.asarray(blob, dtype=np.float64) for blob in conv.blobs)
    for layer in scales:
        factor, *shift = (np.asarray(blob, dtype=np.float64) for blob in layer.blobs)
        weights = weights * factor[:, None, None, None]
        bias = bias * factor + (shift[0] if shift else 0)
    fold_scale(net)
    assert np.array_equal(np.asarray(conv.blobs[0]), weights.astype(np.float32))
    assert np.array_equal(np.asarray(conv.blobs[1]), bias.astype(np.float32))
