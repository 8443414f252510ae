"""Random weights for a Darknet cfg that behave as trained ones do.

    draw_weights(cfg, weights, picture, seed=3)       # writes the weights file

Kernels are He-normal; the BatchNorm statistics are those of the picture, measured layer by layer in the
NumPy Darknet; some scales are negative; a layer without BatchNorm is scaled to a deviation near 1. So
values neither vanish nor explode however deep the network is, and a test on them can tell right from wrong.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from nnie_prep.blob import Blob, DeferredBlob
from nnie_prep.darknet.cfg import Section, read_cfg
from nnie_prep.darknet.reference import Reference, convolution
from nnie_prep.darknet.weights import Flavor, Stored, Taken, WeightsFile

# Fewer values a channel have no statistics of their own: next to no variance would blow up what comes
# later. Those of all channels serve.
_FEWEST = 8

_HEADER = struct.pack("<3iQ", 0, 2, 5, 64)


class _Drawn(WeightsFile):
    """A weights file in memory, whose numbers are drawn as soon as it is known how many there are."""

    def __init__(self, path: Path, seed: int, flavor: Flavor) -> None:
        super().__init__(path, flavor)
        self._random = np.random.default_rng(seed)
        self._owners: dict[int, Taken] = {}
        self.stream: NDArray[np.float32] = np.empty(0, np.float32)

    def take(
        self, shape: Sequence[int], what: str, section: Section, *, stored: Stored = "plain"
    ) -> DeferredBlob:
        taken = Taken(section, what, tuple(shape), self.floats)
        self.taken.append(taken)
        blob = DeferredBlob(taken.shape, lambda: self.part(taken))
        self._owners[id(blob)] = taken
        return blob

    def finish(self) -> None:
        self.stream = np.empty(self.floats, np.float32)
        for taken in self.taken:
            self.part(taken)[...] = self._draw(taken)

    def part(self, taken: Taken) -> NDArray[np.float32]:
        """The numbers of one tensor, to be written into."""
        return self.stream[taken.start : taken.start + taken.size].reshape(taken.shape)

    def of(self, blob: Blob) -> NDArray[np.float32]:
        """The numbers of a blob that was taken."""
        return self.part(self._owners[id(blob)])

    def kernel_beside(self, biases: Blob) -> NDArray[np.float32]:
        """The weights of the section that the biases belong to."""
        section = self._owners[id(biases)].section
        return next(
            self.part(taken) for taken in self.taken if taken.section is section and taken.what == "weights"
        )

    def _draw(self, taken: Taken) -> Any:
        if taken.what == "weights":
            fan_in = taken.size // taken.shape[0]
            values = self._random.standard_normal(taken.shape, np.float32)
            values *= np.float32((2 / fan_in) ** 0.5)
            return values
        if taken.what == "scales":
            signs = np.where(self._random.random(taken.shape) < 0.15, -1, 1)
            return signs * self._random.uniform(0.5, 1.5, taken.shape)
        return 0.3 * self._random.standard_normal(taken.shape)


def draw_weights(
    cfg: Path, weights: Path, picture: NDArray[np.float32], *, seed: int, flavor: Flavor = "alexeyab"
) -> None:
    """Writes the weights file; the picture is (C, H, W), as the cfg asks for."""
    weights.write_bytes(_HEADER)
    drawn = _Drawn(weights, seed, flavor)
    reference = Reference(read_cfg(cfg), drawn, flavor)
    normalize, add_biases = convolution.normalize, convolution.add_biases

    def measure(x: Any, parameters: list[Blob], biases: Any, bn_form: Any, dtype: Any) -> Any:
        _, mean, variance = (drawn.of(blob) for blob in parameters)
        if x[0].size >= _FEWEST:
            axes = tuple(range(1, x.ndim))
            mean[...], variance[...] = x.mean(axes), x.var(axes)
        else:
            mean[...], variance[...] = x.mean(), x.var()
        return normalize(x, parameters, biases, bn_form, dtype)

    def rescale(x: Any, biases: Blob, dtype: Any) -> Any:
        factor = np.float32(1 / x.std())
        drawn.kernel_beside(biases)[...] *= factor
        x *= factor
        return add_biases(x, biases, dtype)

    with (
        mock.patch.object(convolution, "normalize", measure),
        mock.patch.object(convolution, "add_biases", rescale),
    ):
        for _ in reference.iterate(picture):
            pass
    with weights.open("wb") as file:
        file.write(_HEADER)
        file.write(drawn.stream.data)
