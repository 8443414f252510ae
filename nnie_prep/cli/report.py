"""What people read: aligned tables, verdicts in a line, progress on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nnie_prep.verify import BlobResult, Verdict


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns two spaces apart; those whose cells are all numbers are aligned to the right."""
    cells = [list(head)] + [["" if cell is None else str(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    right = [
        all(row[column][:1].isdigit() or row[column] in ("", "-") for row in cells[1:])
        for column in range(len(head))
    ]
    lines = []
    for row in cells:
        padded = [
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(row, widths, right, strict=True)
        ]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def megabytes(size: int) -> str:
    """Bytes as people count files."""
    return f"{size / 1e6:.1f} MB"


def shape_text(shape: Sequence[int]) -> str:
    """1x3x416x416."""
    return "x".join(map(str, shape)) or "scalar"


class Progress:
    """One line on a terminal's stderr that is rewritten; nothing where stderr is piped.

    A step shows up after it has gone on for a while, so quick commands stay silent.
    """

    def __init__(self, enabled: bool) -> None:
        self._enabled = enabled and sys.stderr.isatty()
        self._begin = time.monotonic()
        self._width = 0

    def __call__(self, text: str) -> None:
        if self._enabled and (self._width or time.monotonic() - self._begin > 0.3):
            line = f"{time.monotonic() - self._begin:5.1f} s  {text} ..."[:100]
            print("\r" + line.ljust(self._width), end="", file=sys.stderr, flush=True)
            self._width = len(line)

    def done(self) -> None:
        """Wipes the line."""
        if self._width:
            print("\r" + " " * self._width + "\r", end="", file=sys.stderr, flush=True)
            self._width = 0


def verdict_text(verdict: Verdict, verbose: bool) -> str:
    """The verdict in a line, what it rests on, and a table of the outputs (or of every blob)."""
    compared = verdict.compared()
    lines = [f"{verdict.answer.upper()}: {_summary(verdict)}"]
    lines += [f"  {reason}" for reason in verdict.reasons]
    nothing = [result for result in verdict.results if result.problem]
    for result in nothing if verbose else nothing[:3]:
        lines.append(f"  blob {result.name} {result.problem}")
    if len(nothing) > 3 and not verbose:
        lines.append(f"  and {len(nothing) - 3} more such blobs (-v lists them)")
    if verdict.accounted:
        lines.append(f"  {len(verdict.accounted)} blobs have no counterpart, for a known reason")
        if verbose:
            lines += [f"    {name}: {why}" for name, why in verdict.accounted.items()]
    shown = compared if verbose else [result for result in compared if result.is_output]
    first = verdict.first_divergence()
    if first is not None and first not in shown:
        shown = [first, *shown]
    if shown:
        head = (
            "blob",
            "in the result",
            "shape",
            "by segment",
            "end to end",
            "noise",
            "limit",
            "worst at",
            "",
        )
        lines.append(table(head, [_row(result, result is first) for result in shown]))
    if verdict.answer == "differs" and first is not None:
        lines.append(f"smallest tolerance that passes: {verdict.smallest_tolerance():.2g}")
    return "\n".join(lines)


def _summary(verdict: Verdict) -> str:
    parts = [f"{len(verdict.compared())} blobs compared on the {verdict.engine} engine"]
    for kind, name in (("segment", "by segment"), ("end_to_end", "end to end")):
        worst = verdict.worst(kind)
        if worst is not None:
            parts.append(f"worst {name} {getattr(worst, kind):.1e} ({worst.name})")
    return ", ".join(parts)


def _row(result: BlobResult, is_first: bool) -> list[object]:
    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.1e}"

    return [
        result.name,
        "" if result.blobs == (result.name,) else " + ".join(result.blobs),
        shape_text(result.shape),
        number(result.segment),
        number(result.end_to_end),
        number(result.noise),
        number(result.limit),
        ",".join(map(str, result.worst)),
        "<- first divergence" if is_first else "",
    ]


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """The verdict for machines; infinite errors are written as the string "inf"."""
    first = verdict.first_divergence()

    def number(value: float | None) -> float | str | None:
        return "inf" if value == float("inf") else value

    return {
        "answer": verdict.answer,
        "engine": verdict.engine,
        "tolerance": verdict.tolerance,
        "smallest_tolerance": number(verdict.smallest_tolerance()),
        "reasons": verdict.reasons,
        "first_divergence": first.name if first else None,
        "accounted": verdict.accounted,
        "blobs": [
            {
                "name": result.name,
                "blobs": list(result.blobs),
                "shape": list(result.shape),
                "by_segment": number(result.segment),
                "end_to_end": number(result.end_to_end),
                "noise": number(result.noise),
                "limit": number(result.limit),
                "worst": list(result.worst),
                "problem": result.problem,
                "is_output": result.is_output,
            }
            for result in verdict.results
        ],
    }
