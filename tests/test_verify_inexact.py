"""The comparison where some blobs are inexact as asked: what is judged of them, and of the others."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnie_prep.blob_map import Fate
from nnie_prep.cli.report import verdict_json, verdict_text
from nnie_prep.verify import Verdict, compare

Array = NDArray[Any]

X = np.random.default_rng(5).standard_normal((1, 4, 3, 5)).astype(np.float32)


def judged(off_a: float = 0.0, off_b: float = 0.0, off_c: float = 0.0, inexact: str = "b") -> Verdict:
    """a = 2x, b = a + 1, c = -b; in the second net each is off by so much of its deviation."""

    def forward(forced: Mapping[str, Array]) -> dict[str, Array]:
        a = 2 * X + off_a * 2 * X.std() * np.sign(X)
        b = forced.get("a", a) + 1 + off_b * 2 * X.std()
        c = -forced.get("b", b) + off_c * 2 * X.std()
        return {"a": a, "b": b, "c": c}

    return compare(
        {"a": 2 * X, "b": 2 * X + 1, "c": -(2 * X + 1)},
        {},
        {name: Fate((name,)) for name in "abc"},
        forward,
        outputs=["c"],
        inexact=dict.fromkeys(inexact, "about b"),
    )


def test_the_inexact_blob_is_measured_and_not_judged() -> None:
    verdict = judged(off_b=0.5)
    a, b, c = verdict.results
    assert (verdict.answer, verdict.passed, verdict.reasons) == ("inexact, as asked", True, [])
    assert (a.inexact, b.inexact, c.inexact) == ("", "about b", "")
    for value in (b.segment, b.end_to_end, c.end_to_end):
        assert value is not None and abs(value - 0.5) < 1e-5
    assert a.segment == 0 and c.segment is not None and c.segment < 1e-6
    assert verdict.smallest_tolerance() < 1e-6 and verdict.first_divergence() is None
    assert "INEXACT, AS ASKED: 3 blobs" in verdict_text(verdict, verbose=False)
    assert [blob["inexact"] for blob in verdict_json(verdict)["blobs"]] == ["", "about b", ""]


def test_without_leave_it_differs() -> None:
    verdict = judged(off_b=0.5, inexact="")
    assert verdict.answer == "differs" and verdict.reasons == ["blob b is the first that differs"]


def test_another_blob_must_be_right() -> None:
    for off in ({"off_a": 2e-4}, {"off_c": 2e-4}):
        verdict = judged(off_b=0.5, **off)
        assert verdict.answer == "differs" and not verdict.passed
        assert verdict.reasons == [f"blob {next(iter(off))[-1]} is the first that differs"]
        assert 1.9e-4 < verdict.smallest_tolerance() < 2.1e-4


def test_what_is_not_finite_is_no_approximation() -> None:
    for off in (math.nan, math.inf):
        verdict = judged(off_b=off)
        assert verdict.answer == "differs" and verdict.smallest_tolerance() == math.inf
        assert "no tolerance up to 1 passes" in verdict_text(verdict, verbose=False)


def test_an_inexact_output_is_an_answer() -> None:
    assert judged(off_c=0.5, inexact="c").answer == "inexact, as asked"
