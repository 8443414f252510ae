"""Damaged files by the thousand: nnie_prep converts each or refuses it in one message, and nothing else.

    python tests/fuzz.py                             ten thousand of each kind
    python tests/fuzz.py darknet --count 500         cfg and weights
    python tests/fuzz.py caffe --from 20000          prototxt and caffemodel, other seeds
    python tests/fuzz.py darknet --seed 7 --only 0   one trial, with the first of its edits alone
    python tests/fuzz.py darknet --seed 7 --keep .   and its files kept in a folder

Exit code 1 where anything else happened: an exception that is no UserError, a crash, more than 20 seconds,
more memory than a small network may take, a message that fills the screen, files left behind.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from fuzzing import workers
from fuzzing.workers import KINDS, Report, fuzz


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", nargs="?", choices=KINDS, help="which files (default: both kinds)")
    parser.add_argument("--count", type=int, default=10_000, help="how many of each kind (default: 10000)")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first seed (default: 0)")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: all cores)"
    )
    parser.add_argument("--seed", type=int, help="this trial alone, its traceback and all")
    parser.add_argument("--only", help="the edits of that trial to apply: 0,2 or none")
    parser.add_argument("--keep", type=Path, help="a folder for the files of that trial")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        workers.work(options.worker)
        return 0
    if options.seed is not None and not options.kind:
        parser.error("say which kind: darknet or caffe")
    if options.seed is not None:
        return _one(options.kind, options.seed, options.only, options.keep)
    seeds = range(options.first, options.first + options.count)
    reports = []
    for kind in [options.kind] if options.kind else KINDS:
        start = time.monotonic()
        reports.append(fuzz(kind, seeds, options.jobs, _Progress(options.count)))
        print("\n".join(_table(reports[-1], time.monotonic() - start)))
    return int(any(report.faults for report in reports))


def _one(kind: str, seed: int, only: str | None, keep: Path | None) -> int:
    chosen = None if only is None else [int(number) for number in only.split(",") if number != "none"]
    workers.limit_memory()
    with tempfile.TemporaryDirectory() as folder:
        outcome, detail = workers.attempt(kind, seed, chosen, keep or Path(folder))
    print(f"{outcome}: {detail}")
    return 0


class _Progress:
    """A line on a terminal, now and then one elsewhere."""

    def __init__(self, count: int) -> None:
        self.count, self.shown = count, time.monotonic()

    def __call__(self, report: Report) -> None:
        if time.monotonic() - self.shown > (0.5 if sys.stderr.isatty() else 30):
            self.shown = time.monotonic()
            text = f"{report.kind}: {report.trials} of {self.count}, {len(report.faults)} kinds of faults"
            print(text, end="\r" if sys.stderr.isatty() else "\n", file=sys.stderr, flush=True)


def _table(report: Report, seconds: float) -> list[str]:
    """Totals, and how often each ending occurred."""
    lines = [f"{report.kind}: {report.trials} trials in {seconds:.0f} s"]
    for outcome in dict.fromkeys(outcome for outcome, _ in report.counts):
        found = [(count, detail) for (one, detail), count in report.counts.most_common() if one == outcome]
        lines.append(f"{sum(count for count, _ in found):7} {outcome}")
        lines += [f"{count:11} {detail}" for count, detail in found]
    (slowest, slow_seed), (grown, large_seed) = report.slowest, report.largest
    lines.append(
        f"slowest {slowest:.1f} s (seed {slow_seed}), most memory {grown >> 20} MiB (seed {large_seed}), "
        f"a worker's peak {report.peak >> 20} MiB"
    )
    for fault in report.faults.values():
        lines += ["", f"FAULT, {fault.count} times: {fault.name}", f"  {fault.command}"]
        lines += [f"    {line[:200]}" for line in fault.text.splitlines()[-30:]]
    return lines


if __name__ == "__main__":
    sys.exit(main())
