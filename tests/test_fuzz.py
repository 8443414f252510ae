"""Some of the damaged files of `make fuzz`, always the same; and that the fuzzer sees what goes wrong."""

from __future__ import annotations

import pytest
from fuzzing.workers import Report, fuzz

pytestmark = pytest.mark.slow


def told(report: Report) -> str:
    return "\n\n".join(f"{fault.name}\n{fault.command}\n{fault.text}" for fault in report.faults.values())


@pytest.mark.parametrize(("kind", "count", "sound"), [("darknet", 700, "converted"), ("caffe", 1000, "read")])
def test_damaged_files_are_converted_or_refused(kind: str, count: int, sound: str) -> None:
    report = fuzz(kind, range(count))
    assert not report.faults, told(report)
    assert report.trials == count
    outcomes = {outcome: 0 for outcome, _ in report.counts}
    for (outcome, _), number in report.counts.items():
        outcomes[outcome] += number
    # Neither all refused at the first line nor all harmless: else the trials say nothing.
    assert outcomes[sound] > count // 10 and outcomes["refused"] > count // 2
    assert len(report.counts) > 30


def test_every_kind_of_fault_is_seen_and_named() -> None:
    report = fuzz("planted", range(7), jobs=2, seconds=1)
    assert report.counts["read", "nothing wrong"] == 1
    names = {fault.seed: fault.name for fault in report.faults.values()}
    assert names[1].startswith("ZeroDivisionError in planted.py")
    assert names[2] == "more than 1 s" and "_hang" in report.faults[names[2]].text
    assert names[3].startswith("ended with exit code -6")
    assert names[4].startswith("MemoryError")
    assert names[5].startswith("Fault in trial.py") and "MiB" in report.faults[names[5]].text
    assert names[6].startswith("Fault in trial.py")


def test_a_fault_is_told_with_the_edits_that_it_needs() -> None:
    (fault,) = fuzz("planted", [1], jobs=1).faults.values()
    assert fault.only is not None and len(fault.only) == 1
    assert fault.command == f"python tests/fuzz.py planted --seed 1 --only {fault.only[0]}"
