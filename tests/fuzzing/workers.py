"""Trials in child processes under limits: a crash, a hang or a leak is seen, named and made small.

    report = fuzz("darknet", range(1000), jobs=2)
    report.counts                                  # Counter of (outcome, detail)
    report.faults                                  # one for each kind of fault

A worker reads {"seed": 7, "only": [0, 2], "seconds": 20} and answers in one line of JSON. It may
have 2 GiB of memory more than at its start and 20 seconds for a trial; then it is ended, and another takes
its place.
"""

from __future__ import annotations

import faulthandler
import importlib
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from fuzzing import trial
from fuzzing.trial import peak, reset_peak

KINDS = ("darknet", "caffe")

MEMORY = 2 << 30
SECONDS = 20

_TESTS = Path(__file__).resolve().parent.parent
_PROGRAM = _TESTS / "fuzz.py"
_MOST_FAULTS = 25


# ---- one trial -----------------------------------------------------------------------------------


def attempt(kind: str, seed: int, only: list[int] | None, folder: Path) -> trial.Trial:
    """Draws a pair, applies the edits (or those of `only`) and tries it in the folder, where it stays.

    Each edit has a chance of its own, so that the others are the same without it.
    """
    subject = importlib.import_module(f"fuzzing.{kind}")
    *originals, about = subject.original(Random(f"{kind} {seed}"), folder)
    files = list(originals)
    for number in range(edits_of(kind, seed)):
        if only is None or number in only:
            subject.edit(files, Random(f"{kind} {seed} {number}"))
    paths = [folder / f"case{suffix}" for suffix in subject.SUFFIXES]
    for path, data in zip(paths, files, strict=True):
        path.write_bytes(data)
    outcome: trial.Trial = subject.run(*paths, about, Random(f"{kind} {seed} run"))
    return outcome


def edits_of(kind: str, seed: int) -> int:
    """How many edits the pair gets."""
    return Random(f"{kind} {seed} count").choice([1, 1, 1, 2, 2, 3, 5])


# ---- the worker ----------------------------------------------------------------------------------


def limit_memory() -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))


def work(kind: str) -> None:
    """Answers requests from standard input until it ends."""
    importlib.import_module(f"fuzzing.{kind}")
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a trial prints must not be taken for an answer
    limit_memory()
    for line in sys.stdin:
        request = json.loads(line)
        faulthandler.dump_traceback_later(request.pop("seconds"), exit=True)
        answer = _answer(kind, **request)
        faulthandler.cancel_dump_traceback_later()
        print(json.dumps(answer), file=answers, flush=True)


def _answer(kind: str, seed: int, only: list[int] | None) -> dict[str, Any]:
    before, start = reset_peak(), time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
            folder = Path(name, str(seed))
            folder.mkdir()
            outcome, detail = attempt(kind, seed, only, folder)
        answer = {"outcome": outcome, "detail": detail}
    except Exception as error:  # every one that is not the trial's to expect is a fault to be reported
        answer = {"outcome": "fault", "detail": _name(error), "text": traceback.format_exc()}
    return answer | {"seconds": time.monotonic() - start, "grown": peak() - before, "peak": peak()}


def _name(error: BaseException) -> str:
    """What it is and where it was raised: the same for all trials that meet the same fault."""
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, trial.Fault):
        cause = error.__cause__ or error.__context__
        frames = traceback.extract_tb(cause.__traceback__) if cause else frames
    ours = [frame for frame in frames if Path(frame.filename).is_relative_to(trial.PACKAGE)]
    last = ours[-1] if ours else frames[-1]
    return f"{type(error).__name__} in {Path(last.filename).name}:{last.lineno} {last.name}"


# ---- many of them --------------------------------------------------------------------------------


@dataclass
class Fault:
    """One kind of fault: its first seed with the edits that it needs, what happened, how often."""

    kind: str
    seed: int
    only: list[int] | None
    name: str
    text: str
    count: int = 1

    @property
    def command(self) -> str:
        only = "" if self.only is None else f" --only {','.join(map(str, self.only)) or 'none'}"
        return f"python tests/fuzz.py {self.kind} --seed {self.seed}{only}"


@dataclass
class Report:
    """What came of many trials. Seconds are those of the slowest, bytes those of the largest."""

    kind: str
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: dict[str, Fault] = field(default_factory=dict)
    slowest: tuple[float, int] = (0.0, 0)
    largest: tuple[int, int] = (0, 0)
    peak: int = 0

    @property
    def trials(self) -> int:
        return sum(self.counts.values())

    def add(self, seed: int, answer: dict[str, Any]) -> None:
        self.counts[answer["outcome"], answer["detail"]] += 1
        self.slowest = max(self.slowest, (answer["seconds"], seed))
        self.largest = max(self.largest, (answer["grown"], seed))
        self.peak = max(self.peak, answer["peak"])


class Worker:
    """A child process that is started anew when it has ended."""

    def __init__(self, kind: str, seconds: float = SECONDS) -> None:
        self.kind, self.seconds = kind, seconds
        self.too_long = f"more than {seconds} s"
        self.process: subprocess.Popen[str] | None = None
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115

    def ask(self, seed: int, only: list[int] | None = None) -> dict[str, Any]:
        """What came of a trial; "fault" as well where the process did not survive it."""
        if self.process is None:
            self.errors.seek(0)
            self.errors.truncate()
            self.process = subprocess.Popen(
                [sys.executable, str(_PROGRAM), "--worker", self.kind],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.errors,
                text=True,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )
        assert self.process.stdin and self.process.stdout
        start = time.monotonic()
        self.process.stdin.write(json.dumps({"seed": seed, "only": only, "seconds": self.seconds}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        code = self.process.wait()
        self.process = None
        self.errors.seek(0)
        text = self.errors.read()[-6000:]
        seconds = time.monotonic() - start
        name = self.too_long if "Timeout (" in text else f"ended with exit code {code}"
        return {"outcome": "fault", "detail": name, "text": text, "seconds": seconds, "grown": 0, "peak": 0}

    def shrink(self, seed: int, name: str) -> list[int]:
        """The edits without which the fault would be another or none; each is left out once."""
        only = list(range(edits_of(self.kind, seed)))
        for number in list(only):
            fewer = [other for other in only if other != number]
            if self.ask(seed, fewer)["detail"] == name:
                only = fewer
        return only

    def close(self) -> None:
        if self.process:
            assert self.process.stdin and self.process.stdout
            self.process.stdin.close()
            self.process.wait()
            self.process.stdout.close()
        self.errors.close()


def fuzz(
    kind: str,
    seeds: Iterable[int],
    jobs: int = 2,
    progress: Callable[[Report], None] = lambda report: None,
    seconds: float = SECONDS,
) -> Report:
    """Tries each seed once; stops early where there are many kinds of faults."""
    report, lock, queue = Report(kind), threading.Lock(), iter(seeds)

    def serve() -> None:
        worker = Worker(kind, seconds)
        try:
            while len(report.faults) < _MOST_FAULTS:
                with lock:
                    seed = next(queue, None)
                if seed is None:
                    break
                answer = worker.ask(seed)
                if answer["detail"] == worker.too_long:  # the machine may have stood still: not twice
                    answer = worker.ask(seed)
                name = answer["detail"]
                with lock:
                    report.add(seed, answer)
                    is_new = answer["outcome"] == "fault" and name not in report.faults
                    if is_new:
                        report.faults[name] = Fault(kind, seed, None, name, answer["text"])
                    elif answer["outcome"] == "fault":
                        report.faults[name].count += 1
                    progress(report)
                if is_new:
                    report.faults[name].only = worker.shrink(seed, name)
        finally:
            worker.close()

    threads = [threading.Thread(target=serve) for _ in itertools.repeat(None, jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return report
