"""A command that is cut short: by a signal, a full disk, a missing permission, a reader that goes away."""

from __future__ import annotations

import ctypes
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_cases import Run, assert_same_files, command, environment, listing, on_a_terminal, run, screen, spawn

pytestmark = pytest.mark.slow

CONVERT = ("prepare", "net.cfg", "net.weights", "-o", "x")

# Says "here" and waits as soon as the named function is called.
_PAUSED = """
import importlib, os, sys, time
from nnie_prep.cli import main
module, _, name = sys.argv[1].rpartition(".")
module = importlib.import_module(module)
def pause(*arguments, **options):
    os.write(2, b"here\\n")
    time.sleep(60)
setattr(module, name, pause)
sys.exit(main(sys.argv[2:]))
"""

PLACES = [
    "nnie_prep.cli.job_work.read_net",  # the read-back of what was written
    "nnie_prep.cli.job_work.write_caffemodel",
    "nnie_prep.cli.job_work.format_prototxt",
    "nnie_prep.proof.darknet.compare",
    "nnie_prep.outputs.make_durable",
    "nnie_prep.outputs.rename_all",
]


def _heed_signals() -> None:
    """Undoes what a background job or nohup, running the tests, has every child inherit."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def cut_short(place: str, number: int, *arguments: str, writes: bool = True) -> Run:
    """Runs a command up to a place, where it is writing or not, and sends it a signal there."""
    child = subprocess.Popen(
        [sys.executable, "-c", _PAUSED, place, *arguments],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_heed_signals,
    )
    assert child.stderr is not None
    assert child.stderr.readline() == "here\n"
    assert any(".nnie_prep-" in path.name for path in Path().iterdir()) == writes
    child.send_signal(number)
    err = child.stderr.read()
    return Run(child.wait(timeout=30), "", err)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_nothing(folder: Path, place: str, number: int) -> None:
    before = listing(folder)
    done = cut_short(place, number, *CONVERT)
    assert done.code == 128 + number
    assert done.err == "nnie_prep: interrupted, no file is half written\n"
    assert listing(folder) == before


def test_a_signal_between_the_pair_and_its_cfg(folder: Path) -> None:
    Path("pictures").mkdir()
    Path("pictures", "a.ppm").write_bytes(b"P6 2 2 255\n" + bytes(12))
    options = (*CONVERT, "--images", "pictures")
    done = cut_short("nnie_prep.cli.mapper.format_cfg", signal.SIGINT, *options, writes=False)
    assert (done.code, done.err) == (130, "nnie_prep: interrupted; the pair is written, its .cfg is not\n")
    assert Path("x.prototxt").is_file() and not Path("x_mapper.cfg").exists()


def test_what_a_killed_run_left_is_cleaned_by_the_next(folder: Path) -> None:
    before = listing(folder)
    cut_short("nnie_prep.proof.darknet.compare", signal.SIGKILL, *CONVERT)
    assert len(listing(folder)) == len(before) + 4
    assert run(*CONVERT).code == 0
    assert listing(folder).keys() == before.keys() | {"x.prototxt", "x.caffemodel", "x.json", "x.report.txt"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("ignored", [True, False])
def test_nohup_is_respected(number: int, ignored: bool) -> None:
    """A signal that was ignored when the program started stays so; only then."""
    code = (
        f"import signal; signal.signal({number}, signal.{'SIG_IGN' if ignored else 'SIG_DFL'});"
        "from nnie_prep.cli import main; main(['passes', '-q']);"
        f"print(signal.getsignal({number}) == signal.SIG_IGN)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{ignored}\n"


# ---- disks and permissions ---------------------------------------------------------------------


def test_a_full_disk(folder: Path) -> None:
    """A limit on the size of files fails as a full disk does, within each of the three."""
    assert run(*CONVERT).code == 0
    sizes = {path.name: path.stat().st_size for path in folder.glob("x.*")}
    for name in sizes:
        Path(name).unlink()
    before = listing(folder)
    for limit in {0, 100, *(size - 1 for size in sizes.values())}:
        done = spawn(
            *CONVERT,
            preexec_fn=lambda limit=limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        )
        assert done.code == 2 and done.out == "" and done.err.count("\n") == 1, done
        name = done.err.split()[2].rstrip(":")
        assert sizes[name] > limit, done.err
        assert "cannot be written: File too large; make room there" in done.err
        assert listing(folder) == before


def without_rights(*arguments: str) -> Run:
    """Runs a command for which permissions count, even if root runs the tests."""

    def drop() -> None:
        for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
            ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP

    return spawn(*arguments, preexec_fn=drop)


def test_without_threads(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tight limit of processes makes no difference to what is written."""

    def refused(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    for name in ("with", "without"):
        Path(name).mkdir()
    assert run("prepare", "net.cfg", "net.weights", "-o", "with/").code == 0
    monkeypatch.setattr(threading.Thread, "start", refused)
    done = run("prepare", "net.cfg", "net.weights", "-o", "without/")
    assert (done.code, done.err) == (0, "")
    assert_same_files(Path("with"), Path("without"))


def test_no_permission(folder: Path) -> None:
    (folder / "closed").mkdir()
    (folder / "closed").chmod(0o555)
    for name, mode in (("net.weights", 0o000), ("small.prototxt", 0o000), ("small.caffemodel", 0o200)):
        Path(name).chmod(mode)
    before = {path.name for path in folder.rglob("*")}
    for arguments, says in (
        (
            ("prepare", "net.cfg", "net.weights"),
            "net.weights: cannot be read: Permission denied",
        ),
        (("show", "small.prototxt"), "small.prototxt: cannot be read: Permission denied"),
        (("show", "small.prototxt", "small.caffemodel"), "small.prototxt: cannot be read: Permission denied"),
    ):
        done = without_rights(*arguments)
        assert done.code == 2 and done.err.startswith(f"nnie_prep: error: {says}"), done
    for name in ("net.weights", "small.prototxt"):
        Path(name).chmod(0o644)
    for arguments, says in (
        (("prepare", "net.cfg", "net.weights", "-o", "closed/x"), "closed/x.caffemodel: cannot be written"),
        (("merge-bn", "small.prototxt", "small.caffemodel"), "small.caffemodel: cannot be read"),
    ):
        done = without_rights(*arguments)
        assert done.code == 2 and says in done.err and done.err.count("\n") == 1, done
    assert {path.name for path in folder.rglob("*")} == before


# ---- who reads what we print -------------------------------------------------------------------


def piped(*arguments: str, redirection: str) -> Run:
    """Runs a command with its stdout where a shell's redirection sends it; the code is the command's own."""
    line = f'"$@" {redirection}; echo "code ${{PIPESTATUS[0]}}" >&2'
    done = subprocess.run(["bash", "-c", line, "bash", *command(*arguments)], capture_output=True, text=True)
    *lines, code = done.stderr.splitlines()
    return Run(int(code.split()[1]), done.stdout, "\n".join(lines))


@pytest.mark.parametrize("redirection", ["| true", "| head -c 1 >/dev/null", ">&-", ">/dev/null"])
def test_the_answer_does_not_depend_on_the_reader(folder: Path, redirection: str) -> None:
    for tolerance, code in (("1e-4", 0), ("0", 1)):
        done = piped(*CONVERT, "--tolerance", tolerance, redirection=redirection)
        assert (done.code, done.err) == (code, "")


@pytest.mark.parametrize("arguments", [("show", "small.prototxt"), ("passes",), CONVERT])
def test_a_report_that_cannot_be_written(folder: Path, arguments: tuple[str, ...]) -> None:
    done = piped(*arguments, redirection=">/dev/full")
    assert done.code == 2
    assert done.err == "nnie_prep: error: standard output: cannot be written to: No space left on device"


@pytest.mark.parametrize("encoding", ["ascii", "utf-8", "latin-1"])
def test_names_that_the_terminal_cannot_show(folder: Path, encoding: str) -> None:
    Path("net.cfg").rename("模型.cfg")
    done = spawn(
        "prepare", "模型.cfg", "net.weights", env=environment(PYTHONIOENCODING=encoding), encoding=encoding
    )
    assert (done.code, done.err) == (0, "")
    assert ("模型" if encoding == "utf-8" else r"\u6a21\u578b") in done.out


# ---- on a terminal -----------------------------------------------------------------------------


# The progress line waits for a while before it shows up; here every step takes that long.
_SLOW = """
import itertools, sys
from nnie_prep.cli import main, report
clock = itertools.count()
class Slow:
    monotonic = staticmethod(lambda: float(next(clock)))
report.time = Slow
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("change", "code", "left"),
    [
        (lambda: None, 0, [""]),
        (
            lambda: Path("net.weights").write_bytes(Path("net.weights").read_bytes() + b"\0\0\0\0"),
            2,
            ["nnie_prep: error: net.weights: 1 floats", ""],
        ),
    ],
)
def test_progress_is_wiped(folder: Path, change: Callable[[], object], code: int, left: list[str]) -> None:
    change()
    done = on_a_terminal(_SLOW, *CONVERT)
    assert done.code == code
    assert "reading ..." in done.err
    for step in done.err.replace("\n", "\r").split("\r"):
        assert len(step) < 40 or code, step  # a line that wraps could not be wiped
    found = screen(done.err)
    assert len(found) == len(left)
    assert all(
        line.startswith(start) if start else line == "" for line, start in zip(found, left, strict=True)
    )
    if not code:
        assert "running the result" in done.err and "EQUAL" in done.out


@pytest.mark.parametrize("option", ["-q", "--json"])
def test_no_progress_for_machines(folder: Path, option: str) -> None:
    assert on_a_terminal(_SLOW, *CONVERT, option).err == ""


def test_no_progress_for_what_is_quick(folder: Path) -> None:
    assert on_a_terminal(_SLOW.replace("next(clock)", "0"), *CONVERT).err == ""
