"""Darknet networks made up by a test: a cfg's text, and random weights that fit it.

net = random_net(tmp_path, "[conv]\nfilters=4\nsize=3", (3, 8, 9), seed=1)
net.reference                        # the NumPy Darknet of both files
net.stream                           # the floats of the weights file in their order
net.input                            # random, of the input's shape
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nnie_prep.darknet.cfg import read_cfg
from nnie_prep.darknet.reference import Reference, load
from nnie_prep.darknet.weights import Flavor, WeightsFile


@dataclass(frozen=True)
class RandomNet:
    """Two files, what is in them, and an input whose numbers float32 can hold."""

    cfg: Path
    weights: Path
    reference: Reference
    stream: NDArray[np.float32]
    input: NDArray[np.float64]

    def outputs(self) -> list[NDArray[np.float64]]:
        """In float64, None left out as an empty array."""
        return [
            np.empty(0) if output is None else output
            for output in self.reference.forward(self.input, np.float64)
        ]


class _Counting(WeightsFile):
    def finish(self) -> None:
        """Whatever was taken is right."""


def random_net(
    folder: Path,
    text: str,
    shape: tuple[int, int, int],
    *,
    seed: int = 0,
    flavor: Flavor = "alexeyab",
    minor: int = 2,
) -> RandomNet:
    """Writes net.cfg and net.weights (version 0.`minor`) and loads them.

    Weights are normal, variances positive. UserError: as the reference gives it.
    """
    rng = np.random.default_rng(seed)
    cfg, weights = folder / "net.cfg", folder / "net.weights"
    cfg.write_text(f"[net]\nchannels={shape[0]}\nheight={shape[1]}\nwidth={shape[2]}\n{text}\n")
    seen_bytes = 8 if minor >= 2 and (flavor == "alexeyab" or minor < 1000) else 4
    header = struct.pack("<3i", 0, minor, 0) + bytes(seen_bytes)
    weights.write_bytes(header)
    counting = _Counting(weights, flavor)
    Reference(read_cfg(cfg), counting, flavor)
    stream = rng.standard_normal(counting.floats).astype("<f4")
    for taken in counting.taken:
        if "variance" in taken.what:
            part = stream[taken.start : taken.start + taken.size]
            part[...] = 0.5 + np.abs(part)
    weights.write_bytes(header + stream.tobytes())
    array = rng.standard_normal(shape).astype(np.float32).astype(np.float64)
    return RandomNet(cfg, weights, load(cfg, weights, flavor), stream, array)


def assert_near(actual: NDArray[np.float64], expected: NDArray[np.float64]) -> None:
    """Equal shapes, and equal numbers within the rounding of float64, of values that do differ."""
    assert actual.shape == expected.shape
    assert np.isfinite(expected).all() and (expected.size < 3 or expected.std() > 0)
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())
