"""`check`: what the chip's compiler would not take, before it is asked. And the rules, explained."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nnie_prep import nnie
from nnie_prep.caffe_io import read_net, read_prototxt, read_text
from nnie_prep.cli.report import count_text, few, table
from nnie_prep.cli.weights import reader_of
from nnie_prep.errors import UserError
from nnie_prep.net import Net
from nnie_prep.nnie import CONFIDENCES, RULES, SEVERITIES, Finding, Limits, Rule
from nnie_prep.nnie.sarif import sarif
from nnie_prep.outputs import Outputs
from nnie_prep.shapes import walk_shapes


def check(options: Namespace) -> int:
    """Prints the findings; 1 if there is an error among them, or with --strict a warning."""
    limits = nnie.read_limits(options.chip, options.limits)
    if options.rules:
        return _list_rules(options)
    if options.explain is not None:
        return _explain(options, _rule(options.explain), limits)
    if options.prototxt is None:
        raise UserError("PROTOTXT is missing", hint="give one, or --rules, or --explain RULE")
    read = [path for path in (options.prototxt, options.caffemodel, options.limits) if path]
    if options.sarif is None:
        findings = _findings(options, limits)
    else:
        with Outputs([options.sarif], [], read, force=_may_replace(options)) as out:
            findings = _findings(options, limits)
            with out.open(options.sarif) as file:
                file.write(json.dumps(sarif(findings, RULES, options.prototxt), indent=2).encode() + b"\n")
            out.commit()
    counts = Counter(finding.severity for finding in findings)
    passed = not counts["error"] and not (options.strict and counts["warning"])
    if options.json:
        print(json.dumps(_json(options, findings, counts, passed), indent=2))
    elif not options.quiet:
        print("\n".join(_text(options, findings, counts, passed)))
    return 0 if passed else 1


def _findings(options: Namespace, limits: Limits) -> list[Finding]:
    net = _read(options)
    files = [path for path in (options.prototxt, options.caffemodel) if path]
    return nnie.check(
        net,
        options.chip,
        limits=limits,
        text=read_text(options.prototxt),
        description=_description(options.prototxt),
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


def _description(prototxt: Path) -> dict[str, Any]:
    """The STEM.json beside a prototxt; {} where there is none, or something else of that name."""
    try:
        document = json.loads(prototxt.with_suffix(".json").read_bytes())
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) and "made_by" in document else {}


def _may_replace(options: Namespace) -> bool:
    """A pipeline writes its report anew each time: one that is ours needs no --force."""
    try:
        runs = json.loads(options.sarif.read_bytes())["runs"]
        return bool(runs[0]["tool"]["driver"]["name"] == "nnie_prep")
    except (OSError, ValueError, LookupError, TypeError):
        return bool(options.force)


# ---- what people and machines read ---------------------------------------------------------------


def _text(options: Namespace, findings: Sequence[Finding], counts: Counter[str], passed: bool) -> list[str]:
    """A line for each error and warning, and its repair; hints by rule, three of each without -v."""
    lines = []
    for finding in findings:
        if finding.severity != "info":
            lines += _lines(finding)
    for rule in RULES:
        hints = [finding for finding in findings if (finding.rule, finding.severity) == (rule.name, "info")]
        texts = [_headline(finding) for finding in hints]
        lines += [line.removeprefix("  ") for line in few(texts, f"{rule.name} hint", options.verbose)]
        repairs = list(dict.fromkeys(finding.repair for finding in hints if finding.repair))
        lines += [f"    {repair}" for repair in (repairs if options.verbose else repairs[:1])]
    numbers = ", ".join(
        count_text(counts[one], noun)
        for one, noun in zip(SEVERITIES, ("error", "warning", "hint"), strict=True)
    )
    answer = "ACCEPTED" if passed else "NOT ACCEPTED"
    chip = options.chip or "every chip's limits"
    lines += [""] * bool(lines) + [f"{answer} for {chip}: {numbers}"]
    if counts.total():
        lines.append("check --explain RULE says more of a rule")
    return lines


def _headline(finding: Finding) -> str:
    layer = f" {finding.layer}:" if finding.layer else ""
    return (
        f"{finding.where}: {finding.severity}:{layer} {finding.message}"
        f" (wanted: {finding.limit}) [{finding.rule}]"
    )


def _lines(finding: Finding) -> list[str]:
    return [_headline(finding)] + [f"    {finding.repair}"] * bool(finding.repair)


def _json(
    options: Namespace, findings: Sequence[Finding], counts: Counter[str], passed: bool
) -> dict[str, Any]:
    return {
        "prototxt": str(options.prototxt),
        "chip": options.chip,
        "passed": passed,
        "counts": {severity: counts[severity] for severity in SEVERITIES},
        "findings": [asdict(finding) for finding in findings],
    }


# ---- the rules -----------------------------------------------------------------------------------


def _rule(name: str) -> Rule:
    found = next((rule for rule in RULES if rule.name == name), None)
    if found is None:
        raise UserError(f"no rule is called {name!r}", hint="check --rules lists them")
    return found


def _list_rules(options: Namespace) -> int:
    if options.json:
        print(json.dumps([_rule_json(rule) for rule in RULES], indent=2))
    elif not options.quiet:
        rows = [(rule.name, rule.severity, rule.confidence, rule.summary) for rule in RULES]
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
