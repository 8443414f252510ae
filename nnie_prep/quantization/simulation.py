"""A net whose weights and activations are rounded as the chip rounds them.

    simulation = Simulation(net)
    simulation.calibrate(feeds)                    # once for each typical input, or for a batch of them
    blobs = simulation.run(feeds)                  # as `engines.numpy.forward`, rounded
    losses = simulation.losses(feeds)              # what rounding costs in each layer
    simulation.run(feeds, high_precision={"conv9"})

What a layer reads is rounded, in one range for all its bottoms, and so are its weights; what it computes
is not, until it is read. What a layer overwrites in place has not been written to memory yet, and is not
rounded; its other bottoms, of an Eltwise or a Scale that has two, are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np

from nnie_prep.blob import Array
from nnie_prep.engines.numpy import forward, forward_layer
from nnie_prep.errors import UserError
from nnie_prep.names import HIGH_PRECISION
from nnie_prep.net import Layer, Net
from nnie_prep.quantization.code import Bits, round_to_code
from nnie_prep.shapes.weights import WEIGHTED

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class LayerLoss:
    """What rounding does to a layer's first top, in decibels of signal to noise (inf: nothing).

    `own` is due to the layer's own weights and bottoms alone; `end_to_end` to all layers up to this one.
    `cosine` is the similarity of both results, end to end. `largest` is the range of what the layer reads, 0
    where that is not rounded.
    """

    layer: str
    type: str
    bits: Bits
    largest: float
    own: float
    end_to_end: float
    cosine: float


class Simulation:
    """Rounded runs of one net. Layers whose name ends in _hp have 16 bits, as for the compiler.

    Args:
        net: with weights, all of them kept in memory, rounded.
        bits: of all layers (8, or 16 as with compile_mode 1).
    """

    def __init__(self, net: Net, bits: Bits = 8) -> None:
        self._net = net
        self._bits = bits
        self._largest: dict[Layer, float] = {}
        self._rounded: dict[tuple[Layer, Bits], Layer] = {}

    def calibrate(
        self,
        feeds: Mapping[str, Array],
        wanted: Collection[str] | None = None,
        progress: Progress | None = None,
    ) -> dict[str, Array]:
        """Runs the net in float32, widens the ranges to what is read, and returns the wanted blobs or all.

        Raises UserError at the first layer that computes an infinity or NaN, for which there is no range.
        """

        def record(layer: Layer, bottoms: list[Array]) -> list[Array]:
            read = [bottom for bottom, is_read in zip(bottoms, _is_read(layer), strict=True) if is_read]
            self._largest[layer] = max(self._largest.get(layer, 0.0), *map(_largest_of, read), 0.0)
            tops = forward_layer(layer, bottoms)
            if not all(np.isfinite(top).all() for top in tops):
                raise _not_finite(layer)
            return tops

        return forward(self._net, feeds, wanted, progress=progress, compute=record)

    def run(
        self,
        feeds: Mapping[str, Array],
        high_precision: Collection[str] = (),
        wanted: Collection[str] | None = None,
        progress: Progress | None = None,
    ) -> dict[str, Array]:
        """The blobs as the chip computes them; `high_precision` names layers that have 16 bits."""

        def compute(layer: Layer, bottoms: list[Array]) -> list[Array]:
            return self._compute(layer, bottoms, self._bits_of(layer, high_precision))

        return forward(self._net, feeds, wanted, progress=progress, compute=compute)

    def losses(
        self,
        feeds: Mapping[str, Array],
        high_precision: Collection[str] = (),
        progress: Progress | None = None,
    ) -> list[LayerLoss]:
        """What rounding costs in each layer that has a top, in execution order."""
        exact: dict[Layer, Array] = {}
        own: dict[Layer, float] = {}

        def compare(layer: Layer, bottoms: list[Array]) -> list[Array]:
            tops = forward_layer(layer, bottoms)
            if tops:
                bits = self._bits_of(layer, high_precision)
                own[layer] = snr(tops[0], self._compute(layer, bottoms, bits)[0])
                exact[layer] = tops[0]
            return tops

        forward(self._net, feeds, (), progress=progress, compute=compare)
        found: list[LayerLoss] = []

        def follow(layer: Layer, bottoms: list[Array]) -> list[Array]:
            bits = self._bits_of(layer, high_precision)
            tops = self._compute(layer, bottoms, bits)
            if tops:
                reference = exact.pop(layer)
                ends = snr(reference, tops[0]), cosine(reference, tops[0])
                largest = self._largest[layer]
                found.append(LayerLoss(layer.name, layer.type, bits, largest, own[layer], *ends))
            return tops

        forward(self._net, feeds, (), progress=progress, compute=follow)
        return found

    def _bits_of(self, layer: Layer, high_precision: Collection[str]) -> Bits:
        wants_16 = layer.name in high_precision or layer.name.endswith(HIGH_PRECISION)
        return 16 if wants_16 else self._bits

    def _compute(self, layer: Layer, bottoms: list[Array], bits: Bits) -> list[Array]:
        largest, is_read = self._largest[layer], _is_read(layer)
        if any(np.isnan(bottom).any() for bottom, read in zip(bottoms, is_read, strict=True) if read):
            raise UserError(
                f"layer {layer.name!r} reads what is no number any more with rounded values before it",
                layer.origin,
                "give the layers before it 16 bits (--high-precision), or other layers",
            )
        bottoms = [
            round_to_code(bottom, largest, bits) if read else bottom
            for bottom, read in zip(bottoms, is_read, strict=True)
        ]
        return forward_layer(self._with_rounded_weights(layer, bits), bottoms)

    def _with_rounded_weights(self, layer: Layer, bits: Bits) -> Layer:
        """The layer with weights that are rounded, once for all runs; its bias is kept."""
        if layer.type not in WEIGHTED or not layer.blobs:
            return layer
        if (layer, bits) not in self._rounded:
            twin = layer.copy()
            weights = np.asarray(layer.blobs[0])
            twin.blobs[0] = round_to_code(weights, _largest_of(weights), bits)
            self._rounded[layer, bits] = twin
        return self._rounded[layer, bits]


def _not_finite(layer: Layer) -> UserError:
    if not all(np.isfinite(np.asarray(blob)).all() for blob in layer.blobs):
        return UserError(f"weights of layer {layer.name!r} are not finite", layer.origin)
    hint = "`nnie-prep run` shows them; give typical pictures, as the net was trained with"
    return UserError(
        f"layer {layer.name!r} ({layer.type}) computes values that are not finite", layer.origin, hint
    )


def _is_read(layer: Layer) -> list[bool]:
    """For each bottom whether the layer finds it in memory."""
    return [name not in layer.tops for name in layer.bottoms]


def _largest_of(values: Array) -> float:
    return float(np.abs(values).max(initial=0.0))


def snr(exact: Array, rounded: Array) -> float:
    """Signal to noise in decibels: inf where nothing is lost, and where all are 0; -inf where all is lost."""
    if not np.isfinite(rounded).all():
        return float("-inf")
    signal = float(np.square(exact, dtype=np.float64).sum())
    noise = float(np.square(exact.astype(np.float64) - rounded).sum())
    if noise == 0:
        return float("inf")
    return 10 * float(np.log10(signal / noise)) if signal else float("-inf")


def cosine(exact: Array, rounded: Array) -> float:
    """Of the angle between the two: 1 where they differ in size alone, and where both are 0; 0 where the
    rounded are not finite."""
    if not np.isfinite(rounded).all():
        return 0.0
    a, b = exact.ravel().astype(np.float64), rounded.ravel().astype(np.float64)
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    if lengths == 0:
        return float(not a.any() and not b.any())
    return float(a @ b) / lengths
