"""What a judge of float32 alone would give in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from darknet_nets import random_net

from nnie_prep.darknet.reference.precision import in_float64


def test_the_networks_own_rounding_is_taken_off(tmp_path: Path) -> None:
    """So a judge that equals the NumPy Darknet in float32 equals it in float64; what it is off by stays."""
    net = random_net(tmp_path, "[conv]\nfilters=5\nsize=3\n" * 2, (3, 9, 8), seed=4)
    single, double = (net.reference.forward(net.input, dtype) for dtype in (np.float32, np.float64))
    assert all(a is not None and not np.array_equal(a, b) for a, b in zip(single, double, strict=True))
    judged = [output if output is None else output.ravel() + 0.25 for output in single]
    found = list(in_float64(net.reference, net.input, judged))
    assert [section.index for section, _ in found] == [0, 1]
    for (_, output), exact in zip(found, double, strict=True):
        assert output is not None and exact is not None
        # the judge's own 0.25 was added in float32
        np.testing.assert_allclose(output, exact.ravel() + 0.25, rtol=0, atol=1e-6)


def test_outputs_of_another_size_are_none(tmp_path: Path) -> None:
    net = random_net(tmp_path, "[conv]\nfilters=5\n" * 2, (3, 4, 4))
    found = in_float64(net.reference, net.input, [np.zeros(7, np.float32), None])
    assert [output for _, output in found] == [None, None]
