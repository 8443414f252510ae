"""What is told of a command's work on a net."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from nnie_prep.blob_map import Note
from nnie_prep.cli.report import count_text, few, number_text, proof_text, table, verdict_json, written_text

if TYPE_CHECKING:
    from nnie_prep.cli.job import Job
    from nnie_prep.cli.job_work import Outcome


def report(job: Job, outcome: Outcome) -> None:
    """Prints it: as text, or as one JSON document."""
    options = job.options
    if options.json:
        print(json.dumps(_report_json(job, outcome), indent=2))
        return
    if options.quiet:
        return
    for warning in outcome.warnings:
        print(f"nnie_prep: warning: {warning}", file=sys.stderr)
    lines = [f"{options.command} {' '.join(path.name for path in job.inputs)}"]
    if outcome.floats:
        lines.append(f"{outcome.floats:,} of {outcome.floats:,} floats of {job.inputs[1].name} used")
    if outcome.inexact:
        lines.append(f"{count_text(len(outcome.inexact), 'layer')} inexact, as asked")
        lines += few(outcome.inexact, "such layer", options.verbose)
    lines += outcome.costs + outcome.left_out
    if outcome.notes:
        lines += ["", *_passes_text(outcome.notes, options.verbose)]
    lines += ["", figures_text(outcome), "", proof_text(outcome.verdict, options.verbose), ""]
    print("\n".join([*lines, *written_text(job.written() if outcome.passed else [])]))
    if outcome.configured:
        outcome.configured.report()


def _passes_text(notes: dict[str, list[Note]], verbose: bool) -> list[str]:
    """A row per pass that found something, and what was declined; with -v every pass, and what was done."""
    counts = [(name, sum(note.changed for note in found), len(found)) for name, found in notes.items()]
    rows = [(name, changed, count - changed) for name, changed, count in counts if count or verbose]
    told = [note for found in notes.values() for note in found if verbose or not note.changed]
    texts = [f"{note.layer}: {note.text}" for note in told]
    idle = len(counts) - len(rows)
    if not rows:
        return ["no pass found anything to do"]
    rest = [f"and {idle} that found nothing to do"] if idle else []
    return [table(("pass", "changes", "declined"), rows), *rest, *few(texts, "note", verbose)]


def figures_text(outcome: Outcome) -> str:
    """The table of what the net comes to, before and after."""
    rows = [(name, number_text(before), number_text(after)) for name, before, after in outcome.figures]
    return table(("", "before", "after"), rows)


def _report_json(job: Job, outcome: Outcome) -> dict[str, Any]:
    written, warnings = job.written() if outcome.passed else [], outcome.warnings
    if outcome.configured:
        written, warnings = written + outcome.configured.files, warnings + outcome.configured.warnings
    return {
        "command": job.options.command,
        "inputs": [str(path) for path in job.inputs],
        "outputs": [str(path) for path in written],
        "floats": outcome.floats,
        "inexact": outcome.inexact,
        "costs": outcome.costs,
        "left_out": outcome.left_out,
        "passes": {
            name: [{"layer": note.layer, "text": note.text, "changed": note.changed} for note in found]
            for name, found in outcome.notes.items()
        },
        "warnings": warnings,
        **{name.replace("-", "_"): [before, after] for name, before, after in outcome.figures},
        "verification": None if outcome.verdict is None else verdict_json(outcome.verdict),
    }
