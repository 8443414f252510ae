"""Findings of rules, for people and for machines."""

from __future__ import annotations

import json
from argparse import Namespace
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from nnie_prep.cli.report import count_text, few
from nnie_prep.nnie import SEVERITIES, Finding, Rule


def tell(
    options: Namespace,
    head: Mapping[str, Any],
    rules: Sequence[Rule],
    findings: Sequence[Finding],
    strict: bool = False,
) -> int:
    """Prints the findings and returns the exit code: 1 for an error, or for a warning too. `head`, for
    machines, says what was checked."""
    kinds = {finding.severity for finding in findings}
    passed = "error" not in kinds and not (strict and "warning" in kinds)
    if options.json:
        print(json.dumps(_findings_json(head, findings, passed), indent=2))
    elif not options.quiet:
        print("\n".join(_findings_text(options, rules, findings, passed)))
    return 0 if passed else 1


def _findings_text(
    options: Namespace, rules: Sequence[Rule], findings: Sequence[Finding], passed: bool
) -> list[str]:
    """A line for each error and warning, and its repair; hints by rule, three of each without -v."""
    counts = Counter(finding.severity for finding in findings)
    lines = []
    for finding in findings:
        if finding.severity != "info":
            lines += _lines(finding)
    for rule in rules:
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


def _findings_json(head: Mapping[str, Any], findings: Sequence[Finding], passed: bool) -> dict[str, Any]:
    counts = Counter(finding.severity for finding in findings)
    return {
        **head,
        "passed": passed,
        "counts": {severity: counts[severity] for severity in SEVERITIES},
        "findings": [asdict(finding) for finding in findings],
    }
