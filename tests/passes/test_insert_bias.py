"""insert_bias."""

from __future__ import annotations

import numpy as np
import pytest
from golden import FOLDER, cases, compare, read

from nnie_prep.passes.insert_bias import insert_bias


@pytest.mark.parametrize("case", cases(insert_bias))
def test_golden(case: str) -> None:
    compare(insert_bias, case)


def test_the_bias_is_the_last_blob_and_zero() -> None:
    net = read(FOLDER / "insert_bias" / "every_weighted_type.prototxt").drawn.net
    before = [list(layer.blobs) for layer in net.layers]
    insert_bias(net)
    for layer, old in zip(net.layers, before, strict=True):
        assert all(new is blob for new, blob in zip(layer.blobs, old, strict=False))
        assert len(layer.blobs) == 2
        if len(old) == 1:
            bias = np.asarray(layer.blobs[1])
            assert bias.dtype == np.float32
            assert bias.ndim == 1
            assert not bias.any()
