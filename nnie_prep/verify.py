"""Proof that a net computes what another computes, blob by blob.

Reference A (a Caffe net before surgery, or a Darknet network) and result B see the same input.

    by segment   B's layers from one matched blob to the next run on A's values of what they read:
                 isolates each change
    end to end   B runs from the input alone; judged against A's own rounding noise, which is A in
                 float32 against A in float64

An error is max|a - b| / s with the scale s = max(std, 1e-3 max|x|, 1e-12) of A's blob, or |x| where
the blob is one value. A blob that is not finite or is constant has no scale and proves nothing.
Every blob of A must be matched, or its absence accounted for by the pass that caused it; one that
is neither makes the proof fail.

Where B is inexact in some blobs because the user asked for it, these are measured but not judged, and
neither is what comes of it end to end; every other blob is judged by segment.

A layer that keeps the best of many (DetectionOutput) may keep others, or other numbers of them, for a
difference in the last bit of its bottom: its top is judged by segment alone, where both see A's values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from nnie_prep.blob import Array
from nnie_prep.blob_map import Fate

EQUAL, INEXACT = "equal", "inexact, as asked"
CONSTANT = "is constant, which proves nothing"
_NOT_RUN = "cannot be run on this engine"

TOLERANCE = 1e-4  # correct folds measured 8e-6 to 2.5e-5 by segment on 80 to 200 layers
NOISE_FACTOR = 20.0  # deep nets amplify rounding; two correct float32 runs differ by a few times A's noise

Forward = Callable[[Mapping[str, Array]], Mapping[str, Array]]


@dataclass
class BlobResult:
    """One blob of A: where its value is in B, and how far off it is there.

    Errors are in units of the blob's scale; None where they were not measured. `worst` is the
    index of the element that is most off end to end, in the shape of A's blob. `inexact` says what B
    computes in the place of this blob, where the user asked for something else than A's value.
    """

    name: str
    blobs: tuple[str, ...]
    shape: tuple[int, ...] = ()
    segment: float | None = None
    end_to_end: float | None = None
    noise: float = 0.0
    limit: float = TOLERANCE
    worst: tuple[int, ...] = ()
    problem: str = ""  # why the blob proves nothing, or could not be compared
    is_output: bool = False
    is_choice: bool = False
    inexact: str = ""

    def fails(self, tolerance: float) -> bool:
        """Whether an error is over its limit; one that is not finite always is."""
        if math.inf in (self.segment, self.end_to_end):
            return True
        differs = (self.segment or 0.0) > tolerance and not self.inexact
        return differs or (self.end_to_end or 0.0) > self.limit

    def smallest_tolerance(self) -> float:
        """The smallest at which it does not fail."""
        segment, end_to_end = self.segment or 0.0, self.end_to_end or 0.0
        if math.inf in (segment, end_to_end):
            return math.inf
        is_judged = end_to_end > NOISE_FACTOR * self.noise and self.limit != math.inf
        return max(0.0 if self.inexact else segment, end_to_end if is_judged else 0.0)


@dataclass
class Verdict:
    """What the comparison found. `answer` is EQUAL, INEXACT, "differs" or "not proven"."""

    results: list[BlobResult] = field(default_factory=list)
    accounted: dict[str, str] = field(default_factory=dict)  # blobs that B has no value for, and why
    reasons: list[str] = field(default_factory=list)  # why the answer is not "equal", and what it rests on
    answer: str = EQUAL
    tolerance: float = TOLERANCE
    engine: str = "numpy"
    judge: str = ""  # who computed A where that is not the engine

    @property
    def passed(self) -> bool:
        return self.answer in (EQUAL, INEXACT)

    def compared(self) -> list[BlobResult]:
        """The blobs that were compared and can prove something."""
        return [result for result in self.results if not result.problem]

    def not_run(self) -> list[BlobResult]:
        """The blobs of A that the engine has no value for."""
        return [result for result in self.results if result.problem == _NOT_RUN]

    def first_divergence(self) -> BlobResult | None:
        """The first blob in execution order whose error is over its limit, or that has another shape."""
        return next((one for one in self.results if one.fails(self.tolerance)), None)

    def worst(self, kind: str) -> BlobResult | None:
        """The compared blob with the largest "segment" or "end_to_end" error."""
        found = [one for one in self.compared() if getattr(one, kind) is not None]
        return max(found, key=lambda one: float(getattr(one, kind)), default=None)

    def smallest_tolerance(self) -> float:
        """The smallest `--tolerance` that passes; infinite where shapes differ."""
        return max((one.smallest_tolerance() for one in self.results), default=0.0)


def scale_of(values: Array) -> float:
    """The unit in which a blob's errors are measured; 0 where the blob proves nothing."""
    if values.size == 0 or not np.isfinite(values).all():
        return 0.0
    largest = float(np.abs(values).max())
    # One value has no deviation; it proves something all the same.
    deviation = float(values.std(dtype=np.float64)) if values.size > 1 else largest
    return max(deviation, 1e-3 * largest, 1e-12) if deviation else 0.0


def rounding_noise(single: Array, double: Array) -> float:
    """How far a blob in float32 is from itself in float64, in units of its scale.

    Infinite where one of both is not finite, or they have not as many values.
    """
    if single.size != double.size or not np.isfinite(single).all():
        return math.inf
    return _error(single, double.reshape(single.shape))[0]


def compare(
    reference: Mapping[str, Array],
    noise: Mapping[str, float],
    fates: Mapping[str, Fate],
    forward: Forward,
    *,
    outputs: Sequence[str],
    tolerance: float = TOLERANCE,
    engine: str = "numpy",
    inexact: Mapping[str, str] | None = None,
    same_shapes: bool = False,
    choices: Collection[str] = (),
) -> Verdict:
    """Compares B with A.

    Args:
        reference: A's value of each of its blobs that could be computed, in execution order.
        noise: the `rounding_noise` of each, as far as it is known.
        fates: for each blob of A where its value is in B, or why it is nowhere.
        forward: runs B; takes values that replace B's own as soon as they are computed (for the
            layers that read them), returns B's own values of all its blobs.
        outputs: A's outputs, by name.
        tolerance: the limit by segment, and end to end where the noise is below it.
        inexact: the blobs of A that B does not compute because the user said so, and what it computes
            instead; if there are any, nothing is judged end to end.
        same_shapes: a blob of as many values in another shape differs. Darknet's outputs have no batch
            axis, and a vector is one of its pictures, so there only the order of the values counts.
        choices: the blobs of A that hold what a layer chose of many, and are judged by segment alone.
    """
    inexact = inexact or {}
    verdict = Verdict(tolerance=tolerance, engine=engine)
    ours = forward({})
    forced: dict[str, Array] = {}
    for name, fate in fates.items():
        if not fate.blobs:
            _account(verdict, name, fate.reason)
            continue
        result = BlobResult(name, fate.blobs, is_output=name in outputs, inexact=inexact.get(name, ""))
        verdict.results.append(result)
        if name not in reference:
            result.problem = _NOT_RUN
        elif missing := [blob for blob in fate.blobs if blob not in ours]:
            result.problem = f"{', '.join(missing)} could not be run"
        elif name in choices and len(fate.blobs) == 1:
            result.shape, result.is_choice = reference[name].shape, True
        else:
            least = math.inf if inexact else tolerance
            _measure(result, reference[name], noise.get(name, 0.0), ours, least, same_shapes)
            if not result.problem or result.problem == CONSTANT:
                forced.update(_parts(reference[name], [ours[blob] for blob in fate.blobs], fate.blobs))
    del ours  # half of what a proof needs of memory
    by_segment = forward(forced)
    for result in verdict.compared():
        expected = reference[result.name]
        if result.is_choice:
            _measure_choice(result, expected, by_segment)
            continue
        result.segment, _ = _error(expected, _joined(by_segment, result.blobs, expected.shape))
    _judge(verdict)
    return verdict


def _account(verdict: Verdict, name: str, reason: str) -> None:
    """Enters a blob that B has no value for, which needs a reason."""
    if reason:
        verdict.accounted[name] = reason
    else:
        verdict.reasons.append(f"blob {name} is gone, and no pass said why")


def _measure(
    result: BlobResult,
    expected: Array,
    noise: float,
    ours: Mapping[str, Array],
    least: float,
    same_shapes: bool,
) -> None:
    """Fills in shape, end-to-end error, noise and limit, which is `least` at least."""
    result.shape = expected.shape
    size = sum(ours[blob].size for blob in result.blobs)
    reshaped = same_shapes and len(result.blobs) == 1 and ours[result.blobs[0]].shape != expected.shape
    if size != expected.size or reshaped:
        shapes = " + ".join("x".join(map(str, ours[blob].shape)) for blob in result.blobs)
        result.problem = f"has shape {'x'.join(map(str, expected.shape))} in A and {shapes} in B"
        result.end_to_end = float("inf")
        return
    if not np.isfinite(expected).all():
        result.problem = "is not finite, which proves nothing"
        return
    result.noise = noise
    if not np.isfinite(noise):
        result.problem = "is not finite in float64, which proves nothing"
        return
    result.limit = max(least, NOISE_FACTOR * result.noise)
    error, worst = _error(expected, _joined(ours, result.blobs, expected.shape))
    if not scale_of(expected) and error <= result.limit:
        result.problem = CONSTANT
    else:
        result.end_to_end, result.worst = error, worst


def _measure_choice(result: BlobResult, expected: Array, by_segment: Mapping[str, Array]) -> None:
    """Fills in the error by segment: infinite where another number was chosen."""
    found = by_segment[result.blobs[0]]
    if not np.isfinite(expected).all():
        result.problem = "is not finite, which proves nothing"
    elif found.shape != expected.shape:
        shapes = ["x".join(map(str, shape)) for shape in (expected.shape, found.shape)]
        result.problem, result.segment = f"has shape {shapes[0]} in A and {shapes[1]} in B", math.inf
    else:
        result.segment, result.worst = _error(expected, found)


def _error(expected: Array, found: Array) -> tuple[float, tuple[int, ...]]:
    """max|a - b| / s and the index of the element it is at."""
    difference = np.abs(np.subtract(expected, found, dtype=np.float64))
    if difference.size == 0:
        return 0.0, ()
    flat = int(np.argmax(difference))  # the first NaN, if there is one
    largest = float(difference.reshape(-1)[flat])
    scale = scale_of(expected) or max(float(np.abs(expected).max()), 1e-12)
    index = tuple(int(extent) for extent in np.unravel_index(flat, difference.shape))
    return (float("inf") if np.isnan(largest) else largest / scale), index


def _joined(values: Mapping[str, Array], blobs: Sequence[str], shape: tuple[int, ...]) -> Array:
    """The value that lies in several blobs, concatenated along the channels, in A's shape."""
    if len(blobs) == 1:
        return values[blobs[0]].reshape(shape)
    return np.concatenate([values[blob] for blob in blobs], axis=1).reshape(shape)


def _parts(value: Array, likes: Sequence[Array], blobs: Sequence[str]) -> dict[str, Array]:
    """A's value cut along the channels into the blobs that hold it in B."""
    if len(blobs) == 1:
        return {blobs[0]: value.reshape(likes[0].shape)}
    whole = value.reshape(likes[0].shape[0], -1, *likes[0].shape[2:])
    ends = np.cumsum([like.shape[1] for like in likes])[:-1]
    return dict(zip(blobs, np.split(whole, ends, axis=1), strict=True))


def _judge(verdict: Verdict) -> None:
    """Draws the conclusion from the results."""
    compared = verdict.compared()
    first = verdict.first_divergence()
    if first is not None:
        verdict.reasons.append(f"blob {first.name} {first.problem or 'is the first that differs'}")
    if not verdict.results:
        verdict.reasons.append("the two nets have no blob in common")
    if verdict.reasons:
        verdict.answer = "differs"
        return
    unproven = [result for result in verdict.results if result.problem not in ("", CONSTANT)]
    if unproven:
        verdict.reasons.append(
            f"{len(unproven)} blob(s) were not compared: {unproven[0].name} {unproven[0].problem}"
        )
    if not any(result.is_output for result in compared):
        verdict.reasons.append("no output was compared, or none proves anything")
    if not compared:
        verdict.reasons.append("no blob proves anything")
    if verdict.reasons:
        verdict.answer = "not proven"
    elif any(result.inexact for result in verdict.results):
        verdict.answer = INEXACT
