"""`check`: what the chip's compiler would not take, before it is asked. And the rules, explained."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from nnie_prep import nnie
from nnie_prep.caffe_io import read_net, read_prototxt, read_text
from nnie_prep.cli.findings import tell
from nnie_prep.cli.report import table
from nnie_prep.cli.weights import reader_of
from nnie_prep.description import description_of
from nnie_prep.errors import UserError
from nnie_prep.names import meant
from nnie_prep.net import Net
from nnie_prep.nnie import CONFIDENCES, RULES, Finding, Limits, Rule
from nnie_prep.nnie.cfg_rules import CFG_RULES
from nnie_prep.nnie.sarif import sarif
from nnie_prep.outputs import Outputs
from nnie_prep.outputs.input_files import read_input
from nnie_prep.shapes import walk_shapes


def check(options: Namespace) -> int:
    """Prints the findings; 1 if there is an error among them, or with --strict a warning."""
    limits = nnie.read_limits(options.chip, options.limits)
    if options.rules:
        return list_rules(options, RULES)
    if options.explain is not None:
        return _explain(options, _rule(options.explain), limits)
    if options.prototxt is None:
        raise UserError("PROTOTXT is missing", hint="give one, or --rules, or --explain RULE")
    read = [path for path in (options.prototxt, options.caffemodel, options.limits) if path]
    if options.sarif is None:
        findings = _findings(options, limits)
    else:
        with Outputs([options.sarif], [], read, force=_may_replace(options), option="--sarif") as out:
            findings = _findings(options, limits)
            with out.open(options.sarif) as file:
                file.write(json.dumps(sarif(findings, RULES, options.prototxt), indent=2).encode() + b"\n")
            out.commit()
    head = {"prototxt": str(options.prototxt), "chip": options.chip}
    return tell(options, head, RULES, findings, options.strict)


def _findings(options: Namespace, limits: Limits) -> list[Finding]:
    net = _read(options)
    files = [path for path in (options.prototxt, options.caffemodel) if path]
    return nnie.check(
        net,
        options.chip,
        limits=limits,
        text=read_text(options.prototxt),
        description=description_of(options.prototxt),
        files=files,
    )


def _read(options: Namespace) -> Net:
    """The net, with its weights unless Caffe refuses one of its layers: then nobody knows what would fit."""
    net = read_prototxt(options.prototxt)
    if options.caffemodel is None:
        return net
    refused: dict[Any, UserError] = {}
    for _ in walk_shapes(net, refused=refused):
        pass
    warnings: list[str] = []
    if refused:
        warnings = [f"{options.caffemodel}: its values are not checked, for Caffe refuses the net"]
    else:
        net = read_net(options.prototxt, options.caffemodel, warnings, reader_of(options))
    if not options.quiet and not options.json:
        for warning in warnings:
            print(f"nnie_prep: warning: {warning}", file=sys.stderr)
    return net


def _may_replace(options: Namespace) -> bool:
    """A pipeline writes its report anew each time: one that is ours needs no --force."""
    try:
        runs = json.loads(read_input(options.sarif))["runs"]
        return bool(runs[0]["tool"]["driver"]["name"] == "nnie_prep")
    except (UserError, ValueError, LookupError, TypeError):
        return bool(options.force)


# ---- the rules -----------------------------------------------------------------------------------


def _rule(name: str) -> Rule:
    known = {rule.name: rule for rule in (*RULES, *CFG_RULES)}
    if name not in known:
        hint = meant(name, known) or "check --rules lists them, mapper-cfg --rules those of a .cfg"
        raise UserError(f"no rule is called {name!r}", hint=hint)
    return known[name]


def list_rules(options: Namespace, rules: Sequence[Rule]) -> int:
    """Prints what each rule finds."""
    if options.json:
        print(json.dumps([_rule_json(rule) for rule in rules], indent=2))
    elif not options.quiet:
        rows = [(rule.name, rule.severity, rule.confidence, rule.summary) for rule in rules]
        print(table(("rule", "always", "known", "what it finds"), rows))
        print()
        print("\n".join(f"{level}  {what}" for level, what in CONFIDENCES.items()))
    return 0


def _rule_json(rule: Rule) -> dict[str, Any]:
    return {
        "rule": rule.name,
        "severity": rule.severity or None,
        "confidence": rule.confidence,
        "source": rule.source,
        "limits": list(rule.limits),
        "text": rule.text,
    }


def _explain(options: Namespace, rule: Rule, limits: Limits) -> int:
    found = [limits[name] for name in rule.limits]
    if options.json:
        print(json.dumps(_rule_json(rule) | {"limits": [asdict(limit) for limit in found]}, indent=2))
    elif not options.quiet:
        print(f"{rule.name}\n\n{rule.text}\n")
        print(f"Known: {rule.confidence}, {CONFIDENCES[rule.confidence]}: {rule.source}.")
        for limit in found:
            print(f"Limit {limit.name}: {limit} ({limit.confidence}: {limit.source}).")
    return 0
