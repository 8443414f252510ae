"""`inspect`: Darknet's table of a network, and where the weights file parts from it."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from nnie_prep.cli.report import count_text, few, size_text, table
from nnie_prep.darknet.inspect import Fit, Inspection, Row, Shape, inspect

# The length of the header that both trees write today.
_USUAL_HEADER = 20


def inspect_darknet(options: Namespace) -> int:
    """Prints the table; 1 where the weights file does not hold what the cfg asks for."""
    found = inspect(options.cfg, options.weights, flavor=options.flavor)
    if options.json:
        print(json.dumps(_json(found), indent=2))
    elif not options.quiet:
        for warning in found.warnings:
            print(f"nnie_prep: warning: {warning}", file=sys.stderr)
        print("\n".join(_text(found, options)))
    return 0 if found.fit is None or found.fit.matches else 1


def _text(found: Inspection, options: Namespace) -> list[str]:
    header = found.fit.header_bytes if found.fit else _USUAL_HEADER
    head = ["line", "layer", "", "filters", "size/strd(dil)", "input", "", "output", "BF"]
    head += ["floats", "first float", "first byte", ""] + (["tensors"] if options.verbose else [])
    rows = [
        [*_cells(row), *_places(row, header), _mark(row, found.fit)]
        + ([_tensors_text(row)] if options.verbose else [])
        for row in found.rows
    ]
    lines = [table(head, rows), "", f"Total BFLOPS  {found.bflops:.3f}"]
    if found.floats is None:
        lines.append("floats        not known: a section that may have weights has no known shape")
    else:
        lines.append(f"floats        {found.floats:,} ({size_text(4 * found.floats)})")
    if found.fit:
        lines += _fit_text(found, found.fit, str(options.weights))
    else:
        lines.append(f"header        not read; first byte is counted with the usual {_USUAL_HEADER} bytes")
    return lines + _problems_text(found, options.verbose)


def _cells(row: Row) -> list[str]:
    """Darknet's own columns."""
    filters = "" if row.filters is None else str(row.filters)
    filters += f"/{row.groups}" if row.groups > 1 else ""
    reads = " ".join(map(str, row.reads))
    source = _size_text(row.input) if row.input else ""
    if reads:
        source = f"{source} + {reads}" if source else reads
    output = _size_text(row.output) if row.output else "?"
    bflops = "" if row.bflops is None else f"{row.bflops:.3f}"
    return [str(row.line), str(row.index), row.type, filters, row.window, source, "->", output, bflops]


def _size_text(shape: Shape) -> str:
    """Width x height x channels, as Darknet has it."""
    channels, height, width = shape
    return f"{width:3d} x {height:3d} x {channels:4d}"


def _places(row: Row, header: int) -> list[str]:
    """How many floats, and where they begin; nothing for sections without."""
    if row.floats is None:
        return ["?", "?", "?"]
    if not row.floats:
        return ["", "", ""]
    if row.start is None:
        return [f"{row.floats:,}", "?", "?"]
    return [f"{row.floats:,}", f"{row.start:,}", f"{header + 4 * row.start:,}"]


def _mark(row: Row, fit: Fit | None) -> str:
    marks = ["refused"] if row.problems else []
    if fit and fit.ends_in is not None and row.floats and row.start is not None:
        there = max(fit.floats - row.start, 0)
        if row.index == fit.ends_in:
            marks.append(f"<- the file ends here, with {there:,} of {row.floats:,} floats")
        elif row.index > fit.ends_in:
            marks.append("not in the file")
    return ", ".join(marks)


def _tensors_text(row: Row) -> str:
    return ", ".join(f"{taken.what} {'x'.join(map(str, taken.shape))}" for taken in row.tensors or ())


def _fit_text(found: Inspection, fit: Fit, weights: str) -> list[str]:
    version = ".".join(map(str, fit.version))
    rule = fit.note or "as the version asks for"
    stray = f" and {count_text(fit.stray_bytes, 'stray byte')}" if fit.stray_bytes else ""
    lines = [
        f"weights       {weights}: version {version}, seen {fit.seen:,} images",
        f"header        {fit.header_bytes} bytes, {rule}",
        f"in the file   {count_text(fit.floats, 'float')}{stray}",
        "",
    ]
    return [*lines, verdict(found, fit)]


def verdict(found: Inspection, fit: Fit) -> str:
    """Whether they belong together, in one line."""
    if fit.matches:
        return "MATCHES: the file holds exactly what the cfg asks for"
    if fit.ends_in is not None:
        row = found.rows[fit.ends_in]
        assert row.start is not None and row.floats is not None
        there = fit.floats - row.start
        section = f"section {row.index} [{row.type}], line {row.line}"
        missing = "" if fit.surplus is None else f"; {count_text(-fit.surplus, 'float')} missing in all"
        if not there and not fit.stray_bytes:
            return f"DIFFERS: the file ends just before {section}{missing}"
        return (
            f"DIFFERS: the file ends in {section}, which gets {there:,} of its {row.floats:,} floats{missing}"
        )
    if fit.surplus is None:
        return "NOT KNOWN: what the cfg asks for could be counted in part only, and so much is in the file"
    over = f"{count_text(fit.surplus, 'float')} left over" if fit.surplus else ""
    stray = f"{count_text(fit.stray_bytes, 'byte')} that make no float" if fit.stray_bytes else ""
    last = next((row for row in reversed(found.rows) if row.floats), None)
    after = f" behind section {last.index} [{last.type}], the last that takes any" if last else ""
    return f"DIFFERS: {' and '.join(part for part in (over, stray) if part)}{after}"


def _problems_text(found: Inspection, verbose: bool) -> list[str]:
    """Each reason once, with the sections that it concerns."""
    concerned: dict[str, list[str]] = {problem: ["[net]"] for problem in found.problems}
    for row in found.rows:
        for problem in row.problems:
            concerned.setdefault(problem, []).append(str(row.index))
    if not concerned:
        return []
    texts = [f"{', '.join(where)}: {problem}" for problem, where in concerned.items()]
    return ["", "cannot be converted to Caffe:", *few(texts, "reason", verbose)]


def _json(found: Inspection) -> dict[str, Any]:
    fit = found.fit
    header = fit.header_bytes if fit else _USUAL_HEADER
    return {
        "layers": [_row_json(row, header) for row in found.rows],
        "bflops": found.bflops,
        "floats": found.floats,
        "problems": list(found.problems),
        "warnings": found.warnings,
        "weights": None
        if fit is None
        else {
            "version": list(fit.version),
            "seen": fit.seen,
            "header_bytes": fit.header_bytes,
            "header_note": fit.note,
            "floats": fit.floats,
            "stray_bytes": fit.stray_bytes,
            "surplus": fit.surplus,
            "ends_in": fit.ends_in,
            "matches": fit.matches,
            "verdict": verdict(found, fit),
        },
    }


def _row_json(row: Row, header: int) -> dict[str, Any]:
    """Shapes as [channels, height, width]."""

    def listed(shape: Sequence[int] | None) -> list[int] | None:
        return None if shape is None else list(shape)

    return {
        "index": row.index,
        "type": row.type,
        "line": row.line,
        "filters": row.filters,
        "groups": row.groups,
        "window": row.window,
        "input": listed(row.input),
        "reads": list(row.reads),
        "output": listed(row.output),
        "bflops": row.bflops,
        "floats": row.floats,
        "first_float": row.start,
        "first_byte": None if row.start is None else header + 4 * row.start,
        "tensors": None
        if row.tensors is None
        else [{"name": taken.what, "shape": list(taken.shape)} for taken in row.tensors],
        "problems": list(row.problems),
    }
