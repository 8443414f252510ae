"""Findings as SARIF 2.1.0, which pipelines and editors show beside the line of the prototxt."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from nnie_prep import __version__
from nnie_prep.nnie.finding import Finding, Rule, severity_of

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {"error": "error", "warning": "warning", "info": "note"}


def sarif(findings: Sequence[Finding], rules: Sequence[Rule], prototxt: Path) -> dict[str, Any]:
    """One run with all rules and a result for each finding, at its line of the prototxt.

    The prototxt is named relative to the current folder. What belongs to the net as a whole has line 1.
    """
    places = {rule.name: place for place, rule in enumerate(rules)}
    driver = {
        "name": "nnie_prep",
        "version": __version__,
        "semanticVersion": __version__,
        "rules": [_rule(rule) for rule in rules],
    }
    return {
        "version": "2.1.0",
        "$schema": _SCHEMA,
        "runs": [
            {
                "tool": {"driver": driver},
                "artifacts": [{"location": {"uri": _uri(prototxt)}, "roles": ["analysisTarget"]}],
                "results": [_result(finding, places[finding.rule], prototxt) for finding in findings],
                "columnKind": "unicodeCodePoints",
            }
        ],
    }


def _rule(rule: Rule) -> dict[str, Any]:
    _, _, rest = rule.text.partition("\n\n")
    level = _LEVELS[rule.severity or severity_of(rule.confidence)]
    return {
        "id": rule.name,
        "shortDescription": {"text": rule.summary},
        "fullDescription": {"text": rule.text},
        "help": {"text": rest, "markdown": rest},
        "defaultConfiguration": {"level": level},
        "properties": {"confidence": rule.confidence, "source": rule.source},
    }


def _result(finding: Finding, place: int, prototxt: Path) -> dict[str, Any]:
    layer = f"{finding.layer}: " if finding.layer else ""
    location: dict[str, Any] = {
        "physicalLocation": {
            "artifactLocation": {"uri": _uri(prototxt), "index": 0},
            "region": {"startLine": max(finding.line, 1)},
        }
    }
    if finding.layer:
        location["logicalLocations"] = [{"name": finding.layer, "kind": "layer"}]
    repair = f" Repair: {finding.repair}" if finding.repair else ""
    return {
        "ruleId": finding.rule,
        "ruleIndex": place,
        "level": _LEVELS[finding.severity],
        "message": {"text": f"{layer}{finding.message}; wanted: {finding.limit}.{repair}"},
        "locations": [location],
        "properties": {"limit": finding.limit, "value": finding.value, "repair": finding.repair},
    }


def _uri(path: Path) -> str:
    """The path from the current folder on, as a relative reference."""
    relative = Path(os.path.relpath(path))
    text = quote(relative.as_posix())
    return f"./{text}" if ":" in text.partition("/")[0] else text
