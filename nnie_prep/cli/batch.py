"""`batch`: many models from a manifest, whatever becomes of one of them, and a report on all."""

from __future__ import annotations

import json
import signal
import sys
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from nnie_prep.cli import junit
from nnie_prep.cli.children import Result, prepare_all
from nnie_prep.cli.manifest import Model, read_manifest
from nnie_prep.cli.report import Progress, count_text, size_text, table
from nnie_prep.errors import UserError
from nnie_prep.names import meant
from nnie_prep.outputs import Outputs

_STATES = ("prepared", "up to date", "failed")


def batch(options: Namespace) -> int:
    """0 when all models are prepared or up to date, 1 when one is not, 2 for a bad manifest."""
    manifest = read_manifest(options.manifest)
    models = _chosen(options, manifest)
    if options.list:
        names = [model.name for model in models]
        print(json.dumps(names) if options.json else "\n".join(names))
        return 0
    begin = time.monotonic()
    with ExitStack() as stack:
        if options.junit is not None:
            force = options.force or junit.is_ours(options.junit)
            read = [path for model in manifest for path in [*model.input_paths(), *model.also_read()]]
            read = [options.manifest, *filter(Path.is_file, read)]  # a missing one is its model's failure
            out = stack.enter_context(Outputs([options.junit], [], read, force=force, option="--junit"))
        try:
            results = _run(options, models)
        except KeyboardInterrupt as error:
            told = "what is prepared stays; run it again to go on"
            print(f"nnie_prep: interrupted; {told}", file=sys.stderr)
            return 128 + int(*error.args or (signal.SIGINT,))
        seconds = time.monotonic() - begin
        if options.junit is not None:
            with out.open(options.junit) as file:
                file.write(junit.document(str(options.manifest), results, seconds))
            out.commit()
    if options.json:
        print(json.dumps(_json(options.manifest, results, seconds), indent=2))
    elif not options.quiet:
        print("\n".join(_text(results, seconds)))
    return 1 if any(result.state == "failed" for result in results) else 0


def _chosen(options: Namespace, models: list[Model]) -> list[Model]:
    """Those that --only and --part ask for, in the manifest's order."""
    names = [model.name for model in models]
    for name in options.only:
        if name not in names:
            hint = meant(name, names) or "--list prints their names"
            raise UserError(f"no model is called {name!r}", str(options.manifest), hint)
    if options.only:
        models = [model for model in models if model.name in options.only]
    if options.part is None:
        return models
    index, _, count = options.part.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) <= int(count) and int(count)):
        raise UserError("is not I/N, with I from 0 to N", f"--part {options.part!r}", "write --part 0/4")
    # Counted from 0 or from 1, each model is in one part: the last of the one is the first of the other.
    return models[int(index) % int(count) :: int(count)]


def _run(options: Namespace, models: Sequence[Model]) -> list[Result]:
    told = 0
    with Progress(not options.quiet and not options.json) as progress:

        def tell(results: list[Result], running: list[str]) -> None:
            nonlocal told
            if options.verbose:
                for number, result in enumerate(results[told:], told + 1):
                    print(f"{number} of {len(models)}: {result.model.name} {result.state}", file=sys.stderr)
                told = len(results)
            at_work = f", at work on {', '.join(running)}" if running else ""
            progress(f"{len(results)} of {len(models)} done{at_work}")

        return prepare_all(models, options.jobs, options.force, tell)


# ---- what people and machines read ---------------------------------------------------------------


def _text(results: Sequence[Result], seconds: float) -> list[str]:
    head = ("model", "", "proof", "by segment", "end to end", "seconds", "memory", "files")
    lines = [table(head, [_row(result) for result in results]), ""]
    for result in results:
        if result.error:
            lines.append(f"{result.model.name}: {result.error}")
            said = result.said.splitlines()
            lines += [f"  {line}" for line in said if len(said) > 1]
    counts = Counter(result.state for result in results)
    told = ", ".join(f"{counts[state]} {state}" for state in _STATES if counts[state])
    return [*lines, f"{count_text(len(results), 'model')} in {seconds:.1f} s: {told or 'none'}"]


def _row(result: Result) -> tuple[object, ...]:
    proof = result.proof or {}
    ran = result.state != "up to date"
    return (
        result.model.name,
        result.state,
        proof.get("answer") or ("not verified" if result.outputs else ""),
        *(_error_text(proof.get(f"worst_{kind}")) for kind in ("by_segment", "end_to_end")),
        f"{result.seconds:.1f}" if ran else "",
        size_text(result.memory) if result.memory else "",
        f"{result.model.stem}.*" if result.outputs else "",
    )


def _error_text(value: float | str | None) -> str:
    return "" if value is None else f"{float(value):.1e}"


def _json(manifest: Path, results: Sequence[Result], seconds: float) -> dict[str, Any]:
    counts = Counter(result.state for result in results)
    return {
        "manifest": str(manifest),
        "passed": not counts["failed"],
        "counts": {state: counts[state] for state in _STATES},
        "seconds": round(seconds, 3),
        "models": [
            {
                "name": result.model.name,
                "state": result.state,
                "exit_code": result.code,
                "inputs": list(result.model.inputs),
                "outputs": result.outputs,
                "proof": result.proof,
                "error": result.error or None,
                "seconds": round(result.seconds, 3),
                "memory": result.memory,
            }
            for result in results
        ],
    }
