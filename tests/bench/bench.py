"""Speed and memory of a conversion without verification, against copying the same bytes.

    python tests/bench/bench.py [--repetitions 9] [--folder build/bench]

Times depend on the disk and on who else uses the machine. So the reference, `cp` and `sync` of
the weights, is measured in the same run, turn by turn with what is judged, and medians are
compared. Exit code 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import compileall
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
MIB = 1 << 20
# NumPy comes compiled to bytecode, and so does what pip installs; here the first run does it.
PACKAGE = HERE.parents[1] / "nnie_prep"
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

# This process imports no numpy: a child's ru_maxrss starts at the size of the process that started it.


@dataclass(frozen=True)
class Run:
    seconds: float
    peak_mib: float


@dataclass(frozen=True)
class Result:
    what: str
    measured: str
    reference: str
    ratio: str
    target: str
    met: bool | None  # None: only to be known


def run(command: list[str]) -> Run:
    """Runs a command, in the folder and with the Python of this script; ends the program if it fails."""
    start = time.perf_counter()
    child = subprocess.Popen(
        command,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stderr is not None
    said = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"bench: `{' '.join(command)}` ended with code {child.returncode}:\n{said.strip()}")
    return Run(seconds, usage.ru_maxrss * 1024 / MIB)


def copy(source: Path, target: Path) -> float:
    """Seconds of cp and sync, without the copy-on-write that some file systems would do instead."""
    start = time.perf_counter()
    subprocess.run(["cp", "--reflink=never", source, target], check=True)
    subprocess.run(["sync", target], check=True)
    return time.perf_counter() - start


def convert(command: str, inputs: list[Path], stem: Path, at_least: int) -> Run:
    for old in stem.parent.glob(f"{stem.name}.*"):
        old.unlink()
    os.sync()  # what others still have to write must not be charged to this run
    done = run(
        [sys.executable, "-m", "nnie_prep", command, *map(str, inputs), "-o", str(stem), "--no-verify"]
    )
    written = stem.with_name(f"{stem.name}.caffemodel").stat().st_size
    if written < at_least:
        sys.exit(f"bench: {command} wrote {written} bytes of weights, fewer than the {at_least} it has to")
    return done


def measure_files(folder: Path, repetitions: int) -> list[Result]:
    run([sys.executable, str(HERE / "yolov3.py"), str(folder)])
    cfg, weights = folder / "yolov3.cfg", folder / "yolov3.weights"
    converted, merged = folder / "converted", folder / "merged"
    pair = [folder / "converted.prototxt", folder / "converted.caffemodel"]
    size = weights.stat().st_size
    # folding removes three of BatchNorm's and Scale's four floats a filter, under 1 part in 500 of yolov3
    folded_size = size * 499 // 500
    copies: list[float] = []
    conversions: list[Run] = []
    merges: list[Run] = []
    starts: list[Run] = []
    for _ in range(repetitions):
        copied = folder / "copied.weights"
        copied.unlink(missing_ok=True)
        os.sync()
        copies.append(copy(weights, copied))
        starts.append(run([sys.executable, "-c", "import numpy"]))
        conversions.append(convert("darknet2caffe", [cfg, weights], converted, folded_size))
        merges.append(convert("merge-bn", pair, merged, folded_size))
    return [
        compare_time("python with numpy, which both include", starts, copies, None),
        compare_time("darknet2caffe --no-verify", conversions, copies, 2),
        compare_peak("darknet2caffe --no-verify", conversions, 120),
        compare_time("merge-bn --no-verify", merges, copies, 3),
        compare_peak("merge-bn --no-verify", merges, 200),
    ]


def compare_time(what: str, runs: list[Run], copies: list[float], limit: float | None) -> Result:
    seconds, reference = median(run.seconds for run in runs), median(copies)
    ratio = seconds / reference
    measured, against = f"{1000 * seconds:.0f} ms", f"cp+sync {1000 * reference:.0f} ms"
    if limit is None:
        return Result(what, measured, against, f"{ratio:.2f}", "", None)
    return Result(what, measured, against, f"{ratio:.2f}", f"<= {limit:.2f}", ratio <= limit)


def compare_peak(what: str, runs: list[Run], limit: float) -> Result:
    peak = max(run.peak_mib for run in runs)
    return Result(
        f"{what}, peak", f"{peak:.0f} MiB", f"{limit:.0f} MiB", f"{peak / limit:.2f}", "< 1.00", peak < limit
    )


def measure_start(repetitions: int) -> Result:
    helps: list[float] = []
    imports: list[float] = []
    for _ in range(repetitions):
        imports.append(run([sys.executable, "-c", "import numpy"]).seconds)
        helps.append(run([sys.executable, "-m", "nnie_prep", "--help"]).seconds)
    limit = 0.150
    beyond = median(helps) - median(imports)
    return Result(
        "--help, beyond python with numpy",
        f"{1000 * beyond:.0f} ms",
        f"{1000 * limit:.0f} ms",
        f"{beyond / limit:.2f}",
        "< 1.00",
        beyond < limit,
    )


def print_table(results: list[Result]) -> None:
    rows = [("what", "measured", "against", "ratio", "target", "")]
    for result in results:
        verdict = {True: "ok", False: "MISSED", None: ""}[result.met]
        rows.append((result.what, result.measured, result.reference, result.ratio, result.target, verdict))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        first, *others = (f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True))
        print("  ".join([row[0].ljust(len(first)), *others]).rstrip())


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Speed and memory, on a yolov3 of 248 MB with random weights."
    )
    parser.add_argument("--repetitions", type=int, default=9, help="of each conversion (default: 9)")
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("build") / "bench",
        help="for 1 GB of files, removed afterwards; on a real disk, not in memory (default: build/bench)",
    )
    options = parser.parse_args()
    compileall.compile_dir(PACKAGE, quiet=1)
    start = measure_start(max(11, options.repetitions))
    options.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        results = [*measure_files(Path(scratch), options.repetitions), start]
    print_table(results)
    missed = [result.what for result in results if result.met is False]
    if missed:
        print(f"bench: missed: {'; '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
