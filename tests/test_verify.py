"""The comparison itself, on nets that are plain functions: what passes, fails, and proves nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from nnie_prep.blob_map import Fate
from nnie_prep.verify import NOISE_FACTOR, TOLERANCE, Forward, Verdict, compare, rounding_noise, scale_of

Array = NDArray[Any]
Step = tuple[str, Sequence[str], Callable[..., Array]]

X = np.random.default_rng(0).normal(0, 1, (1, 6, 5, 7)).astype(np.float32)


def chain(steps: Sequence[Step], x: Array = X) -> Forward:
    """A net as compare() runs it: forced values are read by later steps, the result is what was computed."""

    def forward(forced: Mapping[str, Array]) -> dict[str, Array]:
        result = {"x": x}
        read = {"x": forced.get("x", x)}
        for name, bottoms, function in steps:
            result[name] = function(*(read[bottom] for bottom in bottoms)).astype(np.float32)
            read[name] = forced.get(name, result[name])
        return result

    return forward


def double(x: Array) -> Array:
    return 2 * x


def shift(x: Array) -> Array:
    return x + 1


def negate(x: Array) -> Array:
    return -x


NET: list[Step] = [("a", ["x"], double), ("b", ["a"], shift), ("c", ["b"], negate)]
KEPT = {name: Fate((name,)) for name in "xabc"}


def noise(single: Mapping[str, Array], double: Mapping[str, Array]) -> dict[str, float]:
    return {name: rounding_noise(single[name], value) for name, value in double.items()}


def judged(
    other: Sequence[Step] = NET,
    fates: Mapping[str, Fate] = KEPT,
    reference: Mapping[str, Array] | None = None,
    precise: Mapping[str, Array] | None = None,
    outputs: Sequence[str] = ("c",),
    tolerance: float = TOLERANCE,
) -> Verdict:
    """Compares another net with NET."""
    values = chain(NET)({}) if reference is None else reference
    return compare(
        values,
        {} if precise is None else noise(values, precise),
        fates,
        chain(other),
        outputs=outputs,
        tolerance=tolerance,
    )


def changed(name: str, function: Callable[..., Array]) -> list[Step]:
    """NET with one step's result passed through a function."""
    return [
        (step, bottoms, (lambda *xs, f=old: function(f(*xs))) if step == name else old)
        for step, bottoms, old in NET
    ]


def off(amount: float, at: tuple[int, ...] = (0, 2, 3, 1)) -> Callable[[Array], Array]:
    """Puts one element off by an amount."""

    def function(values: Array) -> Array:
        values = values.astype(np.float64)
        values[at] += amount
        return values

    return function


# ---- the unit ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([1, -1, 1, -1], 1.0),  # the standard deviation
        ([5, 5, 5, 9], np.std([5, 5, 5, 9])),
        ([1000, 1000.1, 1000, 1000.1], 1.0001),  # a thousandth of the largest, where all are alike
        ([-1000, -1000.1], 1.0001),
        ([1e-20, 0], 1e-12),  # never less
        ([3.5], 3.5),  # one value is its own unit
        ([-3.5], 3.5),
        ([0], 0),  # and these prove nothing
        ([0, 0, 0], 0),
        ([7, 7, 7], 0),
        ([1, np.nan], 0),
        ([1, np.inf], 0),
        ([], 0),
    ],
)
def test_scale(values: list[float], scale: float) -> None:
    assert scale_of(np.array(values, np.float32)) == pytest.approx(scale, rel=1e-4)


def test_scale_of_large_values_does_not_overflow() -> None:
    assert scale_of(np.array([3e38, -3e38], np.float32)) == pytest.approx(3e38)


# ---- equal and different -----------------------------------------------------------------------


def test_a_net_equals_itself() -> None:
    verdict = judged()
    assert verdict.passed and verdict.answer == "equal" and verdict.reasons == []
    assert [result.name for result in verdict.compared()] == ["x", "a", "b", "c"]
    assert [result.name for result in verdict.results if result.is_output] == ["c"]
    assert {(result.segment, result.end_to_end) for result in verdict.results} == {(0.0, 0.0)}
    assert verdict.first_divergence() is None and verdict.smallest_tolerance() == 0
    assert [result.shape for result in verdict.results] == [X.shape] * 4


@given(
    name=st.sampled_from("abc"),
    amount=st.floats(1e-6, 10),
    at=st.tuples(st.just(0), st.integers(0, 5), st.integers(0, 4), st.integers(0, 6)),
    sign=st.sampled_from([-1, 1]),
)
def test_one_element_that_is_off(name: str, amount: float, at: tuple[int, ...], sign: int) -> None:
    """Passes up to the tolerance and not beyond; where and how much is what was planted."""
    expected = chain(NET)({})[name]
    planted = sign * amount * float(expected.std(dtype=np.float64))
    verdict = judged(changed(name, off(planted, at)))
    result = next(result for result in verdict.results if result.name == name)
    assume(abs(amount - TOLERANCE) > 1e-5)  # float32 rounds what is planted
    rounding = 4e-7 * float(np.abs(expected).max() / expected.std())
    assert result.segment == pytest.approx(amount, abs=rounding + 1e-6 * amount)
    assert result.end_to_end == result.segment
    assert (verdict.answer == "differs") == (amount > TOLERANCE)
    if amount > TOLERANCE:
        assert result.worst == at
        assert verdict.first_divergence() is result
        assert verdict.reasons == [f"blob {name} is the first that differs"]
        # Behind it all is right, if fed with what is right.
        assert all(one.segment == 0 for one in verdict.results if one.name > name and one.name != "x")


@given(name=st.sampled_from("abc"), amount=st.floats(1e-5, 0.9))
def test_the_smallest_tolerance_is_that(name: str, amount: float) -> None:
    other = changed(name, off(amount))
    smallest = judged(other, tolerance=0).smallest_tolerance()
    assert smallest > 0
    assert judged(other, tolerance=smallest).passed
    assert not judged(other, tolerance=smallest * (1 - 1e-9)).passed
    assert judged(other, tolerance=smallest * 2).smallest_tolerance() == smallest


def test_two_faults_that_cancel_out_are_seen() -> None:
    """End to end all is well behind the second; by segment each shows."""
    other: list[Step] = [
        ("a", ["x"], lambda x: 3 * x), ("b", ["a"], lambda x: x * 2 / 3 + 1), ("c", ["b"], negate)
    ]  # fmt: skip
    verdict = judged(other)
    by_name = {result.name: result for result in verdict.results}
    assert by_name["c"].end_to_end is not None and by_name["c"].end_to_end < 1e-6
    assert by_name["a"].segment is not None and by_name["a"].segment > 0.1
    assert by_name["b"].segment is not None and by_name["b"].segment > 0.1
    assert verdict.answer == "differs"


# ---- what proves nothing -----------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(value: float) -> None:
    def spoil(values: Array) -> Array:
        values = values.copy()
        values[0, 1, 1, 1] = value
        return values

    # in B alone: a difference of infinite size
    verdict = judged(changed("b", spoil))
    assert verdict.answer == "differs" and verdict.smallest_tolerance() == np.inf
    first = verdict.first_divergence()
    assert first is not None and first.name == "b" and first.worst == (0, 1, 1, 1)
    # in both: not comparable
    spoiled = changed("b", spoil)
    verdict = judged(spoiled, reference=chain(spoiled)({}))
    assert verdict.answer == "not proven"
    assert [result.name for result in verdict.compared()] == ["x", "a"]
    assert verdict.results[2].problem == "is not finite, which proves nothing"
    # in A alone: no proof either
    verdict = judged(NET, reference=chain(spoiled)({}))
    assert not verdict.passed


def test_noise_that_is_not_finite_is_no_excuse() -> None:
    """Else the limit would be infinite."""
    values = chain(NET)({})
    verdict = judged(changed("c", off(1.0)), precise=values | {"c": np.full_like(X, np.nan)})
    assert verdict.answer == "not proven"
    assert "c is not finite in float64" in verdict.reasons[0]


@pytest.mark.parametrize("constant", [0.0, 5.0])
def test_constant_blobs(constant: float) -> None:
    def flat(values: Array) -> Array:
        return np.full_like(values, constant)

    steps = changed("b", flat)
    values = chain(steps)({})
    verdict = judged(steps, reference=values)
    # c is a function of b, and so constant too: no output proves anything
    assert verdict.answer == "not proven"
    assert [result.problem for result in verdict.results] == [""] * 2 + [
        "is constant, which proves nothing"
    ] * 2
    # nearly the same constant proves no more
    nearly = changed("b", lambda values: np.full_like(values, constant + 1e-18 + constant * 2e-7))
    assert judged(nearly, reference=values).answer == "not proven"
    # another one differs
    other = changed("b", lambda values: np.full_like(values, constant + 1))
    verdict = judged(other, reference=values)
    assert verdict.answer == "differs"
    first = verdict.first_divergence()
    assert first is not None and first.name == "b"
    # one that is not constant differs
    assert judged(NET, reference=values).answer == "differs"


def test_a_constant_blob_does_not_spoil_the_rest() -> None:
    net: list[Step] = [*NET, ("d", ["a"], lambda a: np.ones_like(a))]
    fates = KEPT | {"d": Fate(("d",))}
    verdict = judged(net, fates, chain(net)({}), outputs=("c", "d"))
    assert verdict.passed and len(verdict.compared()) == 4
    assert not judged(net, fates, chain(net)({}), outputs=("d",)).passed


def test_one_value_proves_something() -> None:
    net: list[Step] = [*NET, ("d", ["c"], lambda c: c.sum(keepdims=True))]
    fates = KEPT | {"d": Fate(("d",))}
    values = chain(net)({})
    assert judged(net, fates, values, outputs=("d",)).passed
    other = [*NET, ("d", ["c"], lambda c: c.sum(keepdims=True) * np.float32(1.001))]
    assert judged(other, fates, values, outputs=("d",)).answer == "differs"
    rounded = [*NET, ("d", ["c"], lambda c: c.sum(keepdims=True) * np.float32(1 + 2e-6))]
    assert judged(rounded, fates, values, outputs=("d",)).passed


def test_an_empty_blob() -> None:
    net: list[Step] = [*NET, ("d", ["c"], lambda c: c[:0])]
    verdict = judged(net, KEPT | {"d": Fate(("d",))}, chain(net)({}))
    assert verdict.passed and verdict.results[-1].problem


# ---- coverage ----------------------------------------------------------------------------------


def test_a_blob_that_is_unaccounted_for() -> None:
    verdict = judged(NET, KEPT | {"b": Fate()})
    assert verdict.answer == "differs"
    assert verdict.reasons == ["blob b is gone, and no pass said why"]


def test_a_blob_that_is_accounted_for() -> None:
    folded: list[Step] = [("b", ["x"], lambda x: 2 * x + 1), ("c", ["b"], negate)]
    verdict = judged(folded, KEPT | {"a": Fate((), "folded into b")})
    assert verdict.passed and verdict.accounted == {"a": "folded into b"}
    wrong: list[Step] = [("b", ["x"], lambda x: 2 * x + 1.001), ("c", ["b"], negate)]
    assert judged(wrong, KEPT | {"a": Fate((), "folded into b")}).answer == "differs"


def test_a_blob_that_is_renamed() -> None:
    renamed: list[Step] = [("a", ["x"], double), ("B", ["a"], shift), ("c", ["B"], negate)]
    fates = KEPT | {"b": Fate(("B",))}
    assert judged(renamed, fates).passed
    renamed[1] = ("B", ["a"], lambda x: x + 1.01)
    verdict = judged(renamed, fates)
    first = verdict.first_divergence()
    assert first is not None and (first.name, first.blobs) == ("b", ("B",))
    assert verdict.results[3].segment == 0  # A's value was put in the place of B's


def test_a_blob_that_b_does_not_have() -> None:
    for fates in (KEPT, KEPT | {"c": Fate(("d",))}):
        verdict = judged(NET[:2], fates)
        assert verdict.answer == "not proven"
        assert "could not be run" in verdict.reasons[0]


def test_a_blob_that_a_could_not_run() -> None:
    values = chain(NET)({})
    del values["b"]
    verdict = judged(NET, reference=values)
    assert verdict.answer == "not proven"
    assert verdict.reasons == ["1 blob(s) were not compared: b cannot be run on this engine"]


def test_no_blob_in_common() -> None:
    assert not judged(NET, {}).passed
    verdict = judged(NET, {name: Fate((), "has another name") for name in KEPT})
    assert verdict.answer == "differs" and "the two nets have no blob in common" in verdict.reasons


def test_the_input_alone_proves_nothing() -> None:
    fates = {name: Fate((), "cut") for name in KEPT} | {"x": Fate(("x",))}
    for outputs in (["c"], []):
        verdict = judged(NET, fates, outputs=outputs)
        assert verdict.answer == "not proven"
        assert verdict.reasons == ["no output was compared, or none proves anything"]


# ---- shapes and splits -------------------------------------------------------------------------


def test_another_shape() -> None:
    cut = changed("c", lambda c: c[:, :5])
    verdict = judged(cut)
    assert verdict.answer == "differs"
    assert verdict.reasons == ["blob c has shape 1x6x5x7 in A and 1x5x5x7 in B"]
    first = verdict.first_divergence()
    assert first is not None and first.name == "c" and verdict.smallest_tolerance() == np.inf


def test_the_first_of_two_is_named_even_if_it_is_the_shape() -> None:
    steps = [*changed("a", lambda a: a[:, :5])[:1], ("b", ["x"], lambda x: 3 * x), NET[2]]
    verdict = judged(steps)
    first = verdict.first_divergence()
    assert first is not None and first.name == "a"


def test_as_many_values_in_another_shape() -> None:
    flat: list[Step] = [*NET[:2], ("c", ["b"], lambda b: negate(b).reshape(1, -1))]
    assert judged(flat).passed
    transposed: list[Step] = [*NET[:2], ("c", ["b"], lambda b: negate(b).transpose(0, 1, 3, 2))]
    assert judged(transposed).answer == "differs"


SPLIT: list[Step] = [
    ("a1", ["x"], lambda x: 2 * x[:, :2]),
    ("a2", ["x"], lambda x: 2 * x[:, 2:3]),
    ("a3", ["x"], lambda x: 2 * x[:, 3:]),
    ("b", ["a1", "a2", "a3"], lambda *parts: np.concatenate(parts, axis=1) + 1),
    ("c", ["b"], negate),
]
PARTS = KEPT | {"a": Fate(("a1", "a2", "a3"))}


def test_a_blob_in_several() -> None:
    assert judged(SPLIT, PARTS).passed
    # the order is that of the channels
    assert judged(SPLIT, KEPT | {"a": Fate(("a2", "a1", "a3"))}).answer == "differs"
    # some are missing
    assert judged(SPLIT, KEPT | {"a": Fate(("a1", "a3"))}).answer == "differs"


@pytest.mark.parametrize(("place", "channel"), [(0, 1), (1, 2), (2, 4)])
def test_one_of_several_is_off(place: int, channel: int) -> None:
    name, bottoms, function = SPLIT[place]
    begin = (0, 2, 3)[place]
    steps = list(SPLIT)
    steps[place] = (name, bottoms, lambda x: off(0.5, (0, channel - begin, 3, 1))(function(x)))
    verdict = judged(steps, PARTS)
    first = verdict.first_divergence()
    assert first is not None and first.name == "a" and first.worst == (0, channel, 3, 1)
    # A's value was cut into the three, so that what reads them is right by segment.
    assert [result.segment for result in verdict.results[2:]] == [0, 0]


def test_several_pictures_in_several_blobs() -> None:
    x = np.random.default_rng(1).normal(0, 1, (3, 6, 2, 4)).astype(np.float32)
    values = chain(NET, x)({})
    verdict = compare(values, {}, PARTS, chain(SPLIT, x), outputs=["c"])
    assert verdict.passed and all(result.segment == 0 for result in verdict.results)


def test_each_part_is_read_in_its_own_shape() -> None:
    x = np.random.default_rng(1).normal(0, 1, (3, 6, 2, 4)).astype(np.float32)
    values, own, forced_shapes = chain(NET, x)({}), chain(SPLIT, x)({}), {}

    def recorded(forced: Mapping[str, Array]) -> dict[str, Array]:
        forced_shapes.update({name: value.shape for name, value in forced.items()})
        return chain(SPLIT, x)(forced)

    assert compare(values, {}, PARTS, recorded, outputs=["c"]).passed
    assert {"a1", "a2", "a3"} <= forced_shapes.keys()
    assert forced_shapes == {name: own[name].shape for name in forced_shapes}


# ---- noise -------------------------------------------------------------------------------------


def test_the_limit_end_to_end_follows_the_noise() -> None:
    """A's own noise times NOISE_FACTOR, and never less than the tolerance."""
    values = chain(NET)({})
    unit = float(values["c"].std(dtype=np.float64))
    for noise, limit in ((1e-4, 1e-4 * NOISE_FACTOR), (1e-7, TOLERANCE)):
        precise = values | {"c": values["c"].astype(np.float64) + noise * unit}
        verdict = judged(precise=precise)
        result = verdict.results[3]
        assert result.noise == pytest.approx(noise, rel=1e-2)
        assert result.limit == pytest.approx(limit, rel=1e-2)
        # What comes in from before is allowed as far as that, what the segment adds is not.
        inside, outside = 0.9 * limit * unit, 1.1 * limit * unit
        assert judged(drifting(inside), precise=precise).passed
        assert judged(drifting(outside), precise=precise).answer == "differs"
        if limit > 2 * TOLERANCE:
            assert judged(changed("c", off(inside)), precise=precise).answer == "differs"


def drifting(amount: float) -> list[Step]:
    """NET whose last blob is off unless it is computed from A's very values."""
    right = chain(NET)({})["b"]
    first = {"seen": False}

    def last(b: Array) -> Array:
        # The second run, by segment, is fed with A's values.
        by_segment, first["seen"] = first["seen"], True
        return negate(b) if by_segment else off(amount)(negate(b))

    assert right.shape == X.shape
    return [*NET[:2], ("c", ["b"], last)]


@pytest.mark.parametrize("same_shapes", [True, False])
def test_another_shape_of_as_many_values(same_shapes: bool) -> None:
    values = np.random.default_rng(0).normal(size=(1, 12)).astype(np.float32)
    verdict = compare(
        {"a": values},
        {},
        {"a": Fate(("a",))},
        lambda forced: {"a": values.reshape(1, 3, 4)},
        outputs=["a"],
        same_shapes=same_shapes,
    )
    assert verdict.answer == ("differs" if same_shapes else "equal")


# ---- choices -----------------------------------------------------------------------------------


def best(x: Array) -> Array:
    """The two largest means of channels."""
    return np.sort(x.mean(axis=(2, 3)), axis=1)[:, -2:]


@pytest.mark.parametrize(
    ("function", "answer", "words"),
    [
        (best, "equal", ""),
        (lambda x: best(x)[:, ::-1], "differs", "blob best is the first that differs"),
        (lambda x: best(x)[:, :1], "differs", "blob best has shape 1x2 in A and 1x1 in B"),
    ],
)
def test_choices_are_judged_by_segment(function: Callable[..., Array], answer: str, words: str) -> None:
    """A's own two runs, in float32 and float64, chose other numbers of values here, and B end to end too."""
    net: list[Step] = [*NET, ("best", ["c"], best)]
    values = chain(net)({})
    precise = {**values, "best": values["best"][:, :1]}
    other: list[Step] = [*NET[:2], ("c", ["b"], lambda x: -x + 1e-5), ("best", ["c"], function)]
    verdict = compare(
        values,
        noise(values, precise),
        {name: Fate((name,)) for name in values},
        chain(other),
        outputs=["best"],
        choices=["best"],
    )
    assert (verdict.answer, verdict.reasons) == (answer, [words] if words else [])
    result = verdict.results[-1]
    assert result.end_to_end is None and result.is_output
    assert result.segment == 0 if answer == "equal" else result.segment is not None and result.segment > 0.1
