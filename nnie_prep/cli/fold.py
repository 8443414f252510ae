"""`fold-darknet`: BatchNorm folded inside the Darknet files, proven before they appear."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnie_prep import __version__
from nnie_prep.cli.placing import beside, folder_of, placed, read_back, writing
from nnie_prep.cli.report import Progress, count_text, few, proof_text, table, verdict_json, written_text
from nnie_prep.darknet.fold import Fold, read_fold
from nnie_prep.outputs import Outputs
from nnie_prep.outputs.made_by import head_comment, without_head

if TYPE_CHECKING:
    from nnie_prep.verify import Verdict

_PAIR = (".weights", ".cfg")


def fold_darknet(options: Namespace) -> int:
    """Reads, folds, writes to temporary files, proves what was written, and commits."""
    own = [beside(options.cfg, "_folded" + suffix) for suffix in _PAIR]
    weights, cfg = placed(options.output, own, _PAIR)
    inputs = [options.cfg, options.weights]
    also_read = [options.input] if options.input else []
    outputs = Outputs([weights, cfg], inputs, also_read, force=options.force)
    verdict = None
    with (
        folder_of(options.output),
        writing(outputs, lambda: _read(options)) as out,
        Progress(not options.quiet and not options.json) as progress,
    ):
        progress("reading")
        fold = _read(options)
        with out.open(weights) as file:
            fold.write_weights(file, progress)
        influences = (f"--flavor {options.flavor}", f"--bn-form {options.bn_form}")
        made = out.made(f"nnie_prep {__version__} fold-darknet", influences)
        body = without_head(fold.cfg_text)
        with out.open(cfg) as file:
            file.write(head_comment(made, body) + body)
        if not options.no_verify:
            with read_back(out, [weights, cfg]):
                verdict = _prove(options, fold, out.temporary(cfg), out.temporary(weights), progress)
        passed = verdict is None or verdict.passed
        if passed:
            out.commit()
    if options.json:
        print(json.dumps(_json(options, fold, verdict, [weights, cfg] if passed else []), indent=2))
    elif not options.quiet:
        print("\n".join(_text(options, fold, verdict, [weights, cfg] if passed else [])))
    return 0 if passed else 1


def _read(options: Namespace) -> Fold:
    return read_fold(options.cfg, options.weights, flavor=options.flavor, bn_form=options.bn_form)


def _prove(options: Namespace, fold: Fold, cfg: Path, weights: Path, progress: Progress) -> Verdict:
    """Compares every section of both pairs, the second as it is on the disk."""
    from nnie_prep.darknet import reference
    from nnie_prep.proof import Options, prove_darknet

    folded = reference.load(cfg, weights, options.flavor, options.bn_form)
    how = Options(input=options.input, seed=options.seed, tolerance=options.tolerance)
    return prove_darknet(fold.reference, folded, how, progress)


def _text(options: Namespace, fold: Fold, verdict: Verdict | None, written: list[Path]) -> list[str]:
    lines = [f"fold-darknet {options.cfg.name} {options.weights.name}", ""]
    if fold.folded:
        lines.append(f"folded the BatchNorm of {count_text(len(fold.folded), 'section')}")
        if options.verbose:
            lines.append(f"  {', '.join(map(str, fold.folded))}")
    else:
        lines.append("nothing to fold: the numbers are those of the input")
    lines += few(fold.notes, "note", options.verbose)
    before, after = fold.floats
    lines += ["", table(("", "before", "after"), [("floats", f"{before:,}", f"{after:,}")]), ""]
    return [*lines, proof_text(verdict, options.verbose), "", *written_text(written)]


def _json(options: Namespace, fold: Fold, verdict: Verdict | None, written: list[Path]) -> dict[str, Any]:
    return {
        "command": "fold-darknet",
        "inputs": [str(options.cfg), str(options.weights)],
        "outputs": [str(path) for path in written],
        "folded": fold.folded,
        "notes": fold.notes,
        "floats": list(fold.floats),
        "verification": None if verdict is None else verdict_json(verdict),
    }
