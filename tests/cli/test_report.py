"""Tables, sizes and rounded numbers."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nnie_prep.cli.report import count_text, few, size_text, table, verdict_text
from nnie_prep.verify import BlobResult, Verdict


def test_table() -> None:
    rows = [
        ("conv1", "1x16x8", "1,024", "", "2.5e-06"),
        ("3 pool", "2x4", "-", "", "0"),
        ("", None, "?", "", "inf"),
    ]
    assert table(("layer", "shape", "weights", "unused", "error"), rows).splitlines() == [
        "layer    shape  weights    error",
        "conv1   1x16x8    1,024  2.5e-06",
        "3 pool     2x4        -        0",
        "                      ?      inf",
    ]
    assert table(("a", "b"), []) == ""


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (35_434_956, "35.4 MB"),
        (2_480_000_000, "2480.0 MB"),
    ],
)
def test_sizes(size: int, text: str) -> None:
    assert size_text(size) == text


def test_counts() -> None:
    assert [count_text(count, "blob") for count in (0, 1, 2, 1234)] == [
        "0 blobs", "1 blob", "2 blobs", "1,234 blobs"
    ]  # fmt: skip


def test_few() -> None:
    names = ["a", "b", "c", "d", "e"]
    assert few(names[:4], "note", False) == ["  a", "  b", "  c", "  d"]
    assert few(names, "note", False) == ["  a", "  b", "  c", "  and 2 more notes (-v lists them)"]
    assert few(names, "note", True) == [f"  {name}" for name in names]


@given(st.floats(1e-12, 1.0))
@example(1.7e-2)
@example(0.1)
@example(9.95e-5)
@example(1.0)
def test_the_tolerance_that_is_printed_passes(error: float) -> None:
    result = BlobResult("a", ("a",), (1,), error, error, 0.0, 1e-13, (0,))
    verdict = Verdict(
        [result], tolerance=1e-13, answer="differs", reasons=["blob a is the first that differs"]
    )
    (line,) = [line for line in verdict_text(verdict, False).splitlines() if "tolerance" in line]
    printed = float(line.split()[-1])
    assert error <= printed <= 1.1 * error + 1e-15


def test_a_blob_of_another_name_shows_it() -> None:
    results = [
        BlobResult(name, blobs, (2, 3), 1e-6, 2e-6, 0.0, 1e-4, (0,))
        for name, blobs in (("a", ("b", "c")), ("d", ("d",)))
    ]
    *_, first, second = verdict_text(Verdict(results, answer="equal"), True).splitlines()
    assert first.split()[:6] == ["a", "b", "+", "c", "2x3", "1.0e-06"]
    assert second.split()[:3] == ["d", "2x3", "1.0e-06"]


def test_a_verdict_with_nothing_compared() -> None:
    results = [BlobResult(f"b{index}", (f"b{index}",), problem="could not be run") for index in range(6)]
    text = verdict_text(Verdict(results, answer="not proven", reasons=["no blob proves anything"]), False)
    assert text.splitlines() == [
        "NOT PROVEN: 0 blobs compared, on the numpy engine",
        "  no blob proves anything",
        "  blob b0 could not be run",
        "  blob b1 could not be run",
        "  blob b2 could not be run",
        "  and 3 more such blobs (-v lists them)",
    ]
