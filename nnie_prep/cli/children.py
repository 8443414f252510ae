"""Models prepared in processes of their own, so many at a time, and the record of each that was.

STEM.batch.json beside a model's files says how `batch` made them: with which arguments, from which other
files, and what the proof said. A model is up to date when that record, the head of its prototxt and the
files themselves agree with each other, with the inputs and with this version.
"""

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

from nnie_prep import __version__
from nnie_prep.cli.manifest import Model
from nnie_prep.cli.record import RECORD, read_record, write_record
from nnie_prep.errors import UserError
from nnie_prep.outputs import hash_of, made_from

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
                if not force and record is not None and _is_current(model, record):
                    outputs = list(record["outputs"])
                    results[model.name] = Result(model, "up to date", proof=record["proof"], outputs=outputs)
                else:
                    notes = Path(folder, str(len(waiting)))
                    running.append(_start(model, force or _is_whole(model, record), jobs, notes))
            for child in running[:]:
                if (ended := _ended(child)) is not None:
                    running.remove(child)
                    results[child.model.name] = ended
            tell(list(results.values()), [child.model.name for child in running])
            if running:
                time.sleep(_TICK)
    return [results[model.name] for model in models]


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
        result.state = "prepared"
        result.outputs = [os.path.relpath(path, child.model.folder) for path in report["outputs"]]
        _write_record(result)
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


# ---- the record -----------------------------------------------------------------------------------


def _write_record(result: Result) -> None:
    model = result.model
    record = {
        "batch": f"nnie_prep {__version__}",
        "arguments": model.arguments(),
        "also_read": {str(path): hash_of(path) for path in model.also_read()},
        "outputs": {name: hash_of(model.folder / name) for name in result.outputs},
        "proof": result.proof,
    }
    write_record(model.output(RECORD), record)


def _is_current(model: Model, record: dict[str, Any]) -> bool:
    """Whether `prepare` would write what is there, from what is there."""
    if record["batch"] != f"nnie_prep {__version__}" or record["arguments"] != model.arguments():
        return False
    try:
        made = made_from(model.output(".prototxt"))
        return (
            made is not None
            and made.command == f"nnie_prep {__version__} prepare"
            and made.input_hashes() == [hash_of(path) for path in model.input_paths()]
            and record["also_read"] == {str(path): hash_of(path) for path in model.also_read()}
            and _hashes(model, record) == record["outputs"]
        )
    except UserError:  # a file is gone, or cannot be read
        return False


def _is_whole(model: Model, record: dict[str, Any] | None) -> bool:
    """Whether all that lies at the outputs is what batch wrote: then new inputs may replace it."""
    if record is None:
        return False
    try:
        hashes = _hashes(model, record)
    except UserError:
        return False
    return bool(hashes) and hashes.items() <= record["outputs"].items()


def _hashes(model: Model, record: dict[str, Any]) -> dict[str, str]:
    """The hashes of those files of a record that are there."""
    return {name: hash_of(path) for name in record["outputs"] if (path := model.folder / name).exists()}
