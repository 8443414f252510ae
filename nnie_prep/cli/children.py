"""Models prepared in processes of their own, so many at a time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnie_prep.cli.manifest import Model
from nnie_prep.cli.record import RECORD, changed_since, is_current, may_replace, read_record, write_record
from nnie_prep.errors import UserError

# The child finds the modules that this process finds, and never one in the folder that it runs in.
_PROGRAM = (
    "import os, sys; sys.path[:] = sys.argv.pop(1).split(os.pathsep);"
    "from nnie_prep.cli import main; sys.exit(main())"
)
_TICK = 0.02  # seconds
_PATIENCE = 30.0  # seconds until a child that was asked to end is killed


@dataclass
class Result:
    """What became of a model.

    Attributes:
        state: "prepared", "up to date" or "failed".
        code: exit code of `prepare`; negative, the signal that ended it.
        proof: {answer, worst_by_segment, worst_end_to_end}; None where nothing was verified.
        error: why it failed, in a line.
        said: all that it wrote to stderr.
        memory: the most that it held at a time, in bytes.
    """

    model: Model
    state: str
    code: int = 0
    proof: dict[str, Any] | None = None
    error: str = ""
    said: str = ""
    seconds: float = 0.0
    memory: int = 0
    outputs: list[str] = field(default_factory=list)


@dataclass
class _Child:
    model: Model
    process: subprocess.Popen[bytes]
    out: Path
    err: Path
    begin: float


def prepare_all(
    models: Sequence[Model],
    jobs: int,
    force: bool,
    tell: Callable[[list[Result], list[str]], None],
) -> list[Result]:
    """Prepares the models that are not up to date, `jobs` at a time; the results in the models' order.

    On SIGINT, SIGTERM and SIGHUP the children are stopped and clean up, and KeyboardInterrupt is raised.

    Args:
        tell: is called again and again with the results so far and the names of those at work.
    """
    waiting = list(models)
    running: list[_Child] = []
    results: dict[str, Result] = {}
    with tempfile.TemporaryDirectory(prefix="nnie_prep-") as folder, _signals() as caught:
        while waiting or running:
            if caught:
                _stop(running)
                raise KeyboardInterrupt(caught[0])
            while waiting and len(running) < jobs:
                model = waiting.pop(0)
                record = read_record(model.output(RECORD))
                known = None if force else _known(model, record)
                if known is not None:
                    results[model.name] = known
                else:
                    replace = force or (record is not None and may_replace(model, record))
                    running.append(_start(model, replace, jobs, Path(folder, str(len(waiting)))))
            for child in running[:]:
                if (ended := _ended(child)) is not None:
                    running.remove(child)
                    results[child.model.name] = ended
            tell(list(results.values()), [child.model.name for child in running])
            if running:
                time.sleep(_TICK)
    return [results[model.name] for model in models]


def _known(model: Model, record: dict[str, Any] | None) -> Result | None:
    """What becomes of a model for which `prepare` need not be asked."""
    if record is None:
        return None
    if is_current(model, record):
        return Result(model, "up to date", proof=record["proof"], outputs=list(record["outputs"]))
    changed = changed_since(model, record)
    if not changed:
        return None
    names = ", ".join(str(model.folder / name) for name in changed)
    what = f"what is there now is not what batch wrote, by {model.output(RECORD)}"
    hint = "--force replaces it, another output spares it"
    return Result(model, "failed", 2, error=str(UserError(what, names, hint)))


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collects the signals that are to end the program, instead of being cut short anywhere by one."""
    caught: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:  # as `nohup` wants it
            signal.signal(number, lambda caught_one, frame: caught.append(caught_one))
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# ---- a child --------------------------------------------------------------------------------------


def _start(model: Model, force: bool, jobs: int, notes: Path) -> _Child:
    """Starts `prepare`, in a session of its own: an interrupt reaches it once, and from here."""
    with suppress(OSError):  # prepare says it better
        model.output("").parent.mkdir(parents=True, exist_ok=True)
    path = os.pathsep.join(map(os.path.abspath, sys.path))
    command = [sys.executable, "-c", _PROGRAM, path, "prepare", *model.arguments(model.folder), "--json"]
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    child_out, child_err = notes.with_suffix(".out"), notes.with_suffix(".err")
    with child_out.open("wb") as out, child_err.open("wb") as err:
        process = subprocess.Popen(
            [*command, "--force"] if force else command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env={"OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads, **os.environ},
            start_new_session=True,
        )
    return _Child(model, process, child_out, child_err, time.monotonic())


def _ended(child: _Child) -> Result | None:
    """What became of a child, None while it runs."""
    pid, status, usage = os.wait4(child.process.pid, os.WNOHANG)
    if not pid:
        return None
    code = child.process.returncode = os.waitstatus_to_exitcode(status)
    out, err = (path.read_text("utf-8", "replace") for path in (child.out, child.err))
    result = Result(child.model, "failed", code, said=err)
    result.seconds = time.monotonic() - child.begin
    result.memory = usage.ru_maxrss * 1024
    report = _report(out) if code in (0, 1) else None
    if report is None:
        result.error = _last_line(err, code)
        return result
    result.proof = _proof(report["verification"])
    if code:
        result.error = _why_refused(report["verification"])
    else:
        result.outputs = [os.path.relpath(path, child.model.folder) for path in report["outputs"]]
        try:
            write_record(child.model, result.outputs, result.proof)
            result.state = "prepared"
        except UserError as error:
            result.error = f"is prepared, but without a record of it: {error}"
    return result


def _report(out: str) -> dict[str, Any] | None:
    """What `prepare` has to report; None where it came to no end, for Python's own exit code is 1 too."""
    try:
        report: dict[str, Any] = json.loads(out)
    except ValueError:
        return None
    return report


def _proof(verification: dict[str, Any] | None) -> dict[str, Any] | None:
    """A verdict in short; an error that is not finite is the text "inf"."""
    if verification is None:
        return None
    proof = {"answer": verification["answer"]}
    for kind in ("by_segment", "end_to_end"):
        known = [blob[kind] for blob in verification["blobs"] if blob[kind] is not None]
        proof[f"worst_{kind}"] = max(known, key=float, default=None)
    return proof


def _why_refused(verification: dict[str, Any]) -> str:
    first = verification["first_divergence"]
    parts = [verification["answer"], *verification["reasons"]]
    return "; ".join([*parts, *([f"blob {first} is the first that differs"] if first else [])])


def _last_line(err: str, code: int) -> str:
    lines = [line for line in err.splitlines() if line.strip()]
    if code < 0:
        name = signal.Signals(-code).name
        return f"was ended by {name}" + ", for want of memory perhaps; lower -j" * (name == "SIGKILL")
    return lines[-1].removeprefix("nnie_prep: error: ") if lines else f"exit code {code}"


def _stop(children: Sequence[_Child]) -> None:
    """Asks all children to end, waits until they have cleaned up, and kills one that does not."""
    for child in children:
        if child.process.returncode is None:
            child.process.terminate()
    end = time.monotonic() + _PATIENCE
    for child in children:
        try:
            child.process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.process.kill()
            child.process.wait()
