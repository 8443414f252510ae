"""Which layers are worth 16 bits: measured, not guessed.

The layers that lose most by themselves are given 16 bits one at a time, and what the outputs gain is
measured. They are then given 16 bits together, the most useful first, until the outputs are good enough
or nothing more is gained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from nnie_prep.blob import Array
from nnie_prep.net import Net
from nnie_prep.quantization.simulation import LayerLoss, Simulation, snr

_LEAST_GAIN = 0.2  # decibels that make 16 bits worth their bandwidth


@dataclass(frozen=True)
class Step:
    """A layer that was given 16 bits besides those before it, and the worst output's decibels then."""

    layer: str
    snr: float


@dataclass(frozen=True)
class Proposal:
    """`before`: the worst output's decibels with no layer at 16 bits; then the layers, one by one."""

    before: float
    steps: tuple[Step, ...]


def propose(
    net: Net,
    simulation: Simulation,
    feeds: Mapping[str, Array],
    exact: Mapping[str, Array],
    losses: Sequence[LayerLoss],
    target: float,
    candidates: int,
    progress: Callable[[int, int], None] | None = None,
) -> Proposal:
    """The layers to be named `_hp`, the most useful first.

    Args:
        exact: the net's outputs in float32.
        target: decibels of the worst output at which no more layers are proposed.
        candidates: how many layers are tried; a trial is a run of the net, and there are up to twice as many.
    """
    outputs = net.outputs()
    trials = 0

    def worst(layers: Sequence[str]) -> float:
        nonlocal trials
        rounded = simulation.run(feeds, layers, outputs)
        trials += 1
        if progress:
            progress(trials, 2 * candidates + 1)
        return min((snr(exact[name], rounded[name]) for name in outputs if name in rounded), default=0.0)

    before = worst(())
    rounded = [loss for loss in losses if loss.bits == 8 and loss.own < float("inf")]
    tried = [loss.layer for loss in sorted(rounded, key=lambda loss: loss.own)[:candidates]]
    if before >= target:
        return Proposal(before, ())
    gains = sorted(((worst([name]), name) for name in tried), reverse=True)
    chosen: list[str] = []
    steps: list[Step] = []
    reached = before
    for _, name in gains:
        if reached >= target:
            break
        now = worst([*chosen, name])
        if now < reached + _LEAST_GAIN:
            continue
        chosen.append(name)
        steps.append(Step(name, now))
        reached = now
    return Proposal(before, tuple(steps))
