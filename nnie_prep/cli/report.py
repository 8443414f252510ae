"""What people read: aligned tables, verdicts in a line, progress on a terminal."""

from __future__ import annotations

import math
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nnie_prep.verify import BlobResult, Verdict

_HEAD = ("blob", "result", "shape", "segment", "end to end", "limit", "noise", "worst at", "inexact", "")
_NUMBER = re.compile(r"[\d.,x]*(e[-+]\d+)?|[-?]|inf")


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns two spaces apart, numbers aligned to the right; a column that holds nothing is left out."""
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    lines = [""] * (len(cells) + 1)
    for title, *column in zip(head, *cells, strict=True):
        if not any(column):
            continue
        width = max(map(len, [title, *column]))
        right = all(_NUMBER.fullmatch(cell) for cell in column)
        for place, cell in enumerate([title, *column]):
            lines[place] += (cell.rjust(width) if right else cell.ljust(width)) + "  "
    return "\n".join(line.rstrip() for line in lines)


def size_text(size: int) -> str:
    """Bytes as people count files."""
    for unit, power in (("MB", 1_000_000), ("kB", 1_000)):
        if size >= power:
            return f"{size / power:.1f} {unit}"
    return f"{size} bytes"


def number_text(number: int | None) -> str:
    """12,345, or ? for what is not known."""
    return "?" if number is None else f"{number:,}"


def count_text(count: int, noun: str) -> str:
    """1 blob, 2 blobs."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def shape_text(shape: Sequence[int]) -> str:
    """1x3x416x416."""
    return "x".join(map(str, shape)) or "scalar"


class Progress:
    """One line on a terminal's stderr that is rewritten; nothing where stderr is piped.

    A step shows up after it has gone on for a while, so quick commands stay silent. On leaving
    the context the line is wiped.
    """

    def __init__(self, enabled: bool) -> None:
        self._enabled = enabled and sys.stderr is not None and sys.stderr.isatty()
        self._begin = time.monotonic()
        self._shown = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:
            self._show("")

    def __call__(self, text: str) -> None:
        passed = time.monotonic() - self._begin
        if self._enabled and (self._shown or passed > 0.3):
            self._show(f"{passed:5.1f} s  {text} ...")
            self._shown = True

    def _show(self, text: str) -> None:
        import shutil

        width = shutil.get_terminal_size().columns - 1  # a line that wraps cannot be wiped
        print("\r" + " " * width + "\r" + text[:width], end="", file=sys.stderr, flush=True)


def verdict_text(verdict: Verdict, verbose: bool) -> str:
    """The verdict in a line, what it rests on, and a table of the outputs (or of every blob)."""
    compared = verdict.compared()
    judge = f" with {verdict.judge}" if verdict.judge else ""
    blobs = count_text(len(compared), "blob")
    lines = [f"{verdict.answer.upper()}: {blobs} compared{judge}, on the {verdict.engine} engine"]
    lines += [f"  {reason}" for reason in verdict.reasons]
    for kind, name in (("segment", "by segment"), ("end_to_end", "end to end")):
        worst = verdict.worst(kind)
        if worst is not None:
            lines.append(f"  worst {name} {_error_text(getattr(worst, kind))} ({worst.name})")
    nothing = [f"blob {result.name} {result.problem}" for result in verdict.results if result.problem]
    lines += few(nothing, "such blob", verbose)
    if verdict.engine == "numpy" and verdict.not_run():
        lines.append("  --engine caffe also runs what your Caffe has layers for and NumPy has not")
    if verdict.accounted:
        more = ":" if verbose else " (-v says why)"
        gone = count_text(len(verdict.accounted), "blob")
        lines.append(f"  {gone} without a counterpart{more}")
        if verbose:
            lines += [f"    {name}: {why}" for name, why in verdict.accounted.items()]
    inexact = [result for result in compared if result.inexact and not result.is_output]
    outputs = [result for result in compared if result.is_output]
    shown = compared if verbose else inexact[:3] + outputs
    first = verdict.first_divergence()
    if first is not None and first not in shown:
        shown = [first, *shown]
    if shown:
        lines += ["", table(_HEAD, [_row(result, result is first, verbose) for result in shown])]
    if first is not None:
        lines += ["", _tolerance_text(verdict.smallest_tolerance())]
    return "\n".join(lines)


def proof_text(verdict: Verdict | None, verbose: bool) -> str:
    """The verdict, or that there is none."""
    return "NOT VERIFIED: --no-verify was given" if verdict is None else verdict_text(verdict, verbose)


def written_text(paths: Sequence[Path]) -> list[str]:
    """What was written, with its size; or that nothing was, since the proof said no."""
    written = [f"wrote {path} ({size_text(path.stat().st_size)})" for path in paths]
    return written or ["nothing was written; --no-verify writes the result unproven"]


def few(items: Sequence[str], noun: str, verbose: bool) -> list[str]:
    """A line for each, or for the first three and how many there are besides."""
    shown = items if verbose or len(items) <= 4 else items[:3]
    lines = [f"  {item}" for item in shown]
    if len(shown) < len(items):
        lines.append(f"  and {count_text(len(items) - len(shown), 'more ' + noun)} (-v lists them)")
    return lines


def _error_text(value: float | None) -> str:
    return "-" if value is None else "0" if value == 0 else f"{value:.1e}"


def _tolerance_text(tolerance: float) -> str:
    """Rounded up, so that what is printed passes."""
    if tolerance > 1:
        return "no tolerance up to 1 passes"
    unit = 10.0 ** (math.floor(math.log10(tolerance)) - 1)
    return f"smallest tolerance that passes: {math.ceil(tolerance / unit) * unit:.1e}"


def _row(result: BlobResult, is_first: bool, verbose: bool) -> list[object]:
    return [
        result.name,
        "" if result.blobs == (result.name,) else " + ".join(result.blobs),
        shape_text(result.shape),
        _error_text(result.segment),
        _error_text(result.end_to_end),
        "" if math.isinf(result.limit) else _error_text(result.limit),
        _error_text(result.noise) if verbose else "",
        ",".join(map(str, result.worst)) if verbose else "",
        result.inexact,
        "<- first" if is_first else "",
    ]


def json_value(value: Any) -> Any:
    """JSON has no infinity and no NaN; they are written as the strings "inf", "-inf" and "nan"."""
    if isinstance(value, list):
        return [json_value(one) for one in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """The verdict for machines."""
    first = verdict.first_divergence()
    return {
        "answer": verdict.answer,
        "engine": verdict.engine,
        "judge": verdict.judge,
        "tolerance": verdict.tolerance,
        "smallest_tolerance": json_value(verdict.smallest_tolerance()),
        "reasons": verdict.reasons,
        "first_divergence": first.name if first else None,
        "accounted": verdict.accounted,
        "blobs": [
            {
                "name": result.name,
                "blobs": list(result.blobs),
                "shape": list(result.shape),
                "by_segment": json_value(result.segment),
                "end_to_end": json_value(result.end_to_end),
                "noise": json_value(result.noise),
                "limit": json_value(result.limit),
                "worst": list(result.worst),
                "problem": result.problem,
                "is_output": result.is_output,
                "inexact": result.inexact,
            }
            for result in verdict.results
        ],
    }
