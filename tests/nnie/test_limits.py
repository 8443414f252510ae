"""Limits: the chips' files, and a user's own laid over them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nnie_prep.caffe_io import read_prototxt
from nnie_prep.errors import UserError
from nnie_prep.nnie import CHIPS, CONFIDENCES, RULES, Limit, check, read_limits
from nnie_prep.nnie.cfg_rules import CFG_RULES

CHECKED = Path(__file__).parents[1] / "data" / "check"
FOLDER = Path(__file__).parents[2] / "nnie_prep" / "nnie" / "chips"


def written(folder: Path, document: Any) -> Path:
    path = folder / "my.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def test_a_file_for_each_chip() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == {"base", *CHIPS}


@pytest.mark.parametrize("chip", [None, *CHIPS])
def test_every_limit_says_how_well_it_is_known_and_from_whom(chip: str | None) -> None:
    for name, limit in read_limits(chip).items():
        assert limit.name == name and limit.confidence in CONFIDENCES and limit.source
        bounds = (limit.at_least, limit.at_most, limit.one_of, limit.multiple_of)
        assert any(bound is not None for bound in bounds)


def test_every_limit_is_some_rules() -> None:
    assert set(read_limits()) == {name for rule in (*RULES, *CFG_RULES) for name in rule.limits}


@pytest.mark.parametrize(
    ("bounds", "text", "good", "bad"),
    [
        ({"at_least": 8, "at_most": 4096}, "8..4096", [8, 100, 4096], [7, 4097]),
        ({"at_most": 31}, "at most 31", [0, 31], [32]),
        ({"at_least": 16}, "at least 16", [16], [15]),
        ({"one_of": (1, 3)}, "1 or 3", [1, 3], [0, 2]),
        ({"one_of": ((0, 2, 3, 1),)}, "0,2,3,1", [(0, 2, 3, 1)], [(0, 1, 2, 3)]),
        ({"multiple_of": 16, "at_most": 64}, "at most 64, a multiple of 16", [16, 64], [8, 80]),
        ({}, "anything", [0, "x"], []),
    ],
)
def test_a_limit(bounds: dict[str, Any], text: str, good: list[Any], bad: list[Any]) -> None:
    limit = Limit("x", "A", "somebody", **bounds)
    assert str(limit) == text
    assert all(limit.allows(value) for value in good)
    assert not any(limit.allows(value) for value in bad)


def test_a_users_file_replaces_what_it_names(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        {
            "map_extent": {"at_most": 8192, "confidence": "A", "source": "table 3-5"},
            "power_exponent": {"one_of": None, "at_least": -3},
        },
    )
    before, after = read_limits("hi3519av100"), read_limits("hi3519av100", path)
    assert {name for name in before if before[name] != after[name]} == {"map_extent", "power_exponent"}
    assert after["map_extent"] == Limit("map_extent", "A", "table 3-5", at_least=1, at_most=8192)
    power = after["power_exponent"]
    assert (power.one_of, power.at_least, power.confidence) == (None, -3, "C")
    assert power.source == str(path)  # who does not say from whom it is says it himself


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({"map_extend": {"at_most": 1}}, "'map_extend' is no limit; did you mean map_extent?"),
        ({"zzz": {"at_most": 1}}, "'zzz' is no limit; choose from nnie_version, input_side"),
        ({"map_extent": {"most": 1}}, "map_extent: 'most' is no field of a limit; did you mean at_most?"),
        ({"map_extent": {"at_most": "x"}}, 'at_most is "x"; it must be a number, or null for none'),
        ({"map_extent": {"at_most": True}}, "at_most is true; it must be a number"),
        ({"map_extent": {"at_most": float("nan")}}, "at_most is NaN; it must be a number"),
        ({"map_extent": {"at_least": float("inf")}}, "at_least is Infinity; it must be a number"),
        ({"map_extent": {"one_of": []}}, "one_of is []; it must be a list of values"),
        ({"map_extent": {"at_most": 10**400}}, "; it must be a number, or null for none"),
        ({"map_extent": {"multiple_of": 0}}, "multiple_of is 0; it must be a whole number above 0"),
        ({"map_extent": {"confidence": "D"}}, 'confidence is "D"; it must be one of A, B, C, G'),
        ({"map_extent": {"source": 7}}, "source is 7; it must be a text"),
        (
            {"layer_types": {"at_most": 3}},
            "layer_types: at_most is 3; it must be one_of, a list of values like",
        ),
        ({"layer_types": {"one_of": ["ReLU", 3]}}, 'it must be one_of, a list of values like "BatchNorm"'),
        ({"permute_order": {"multiple_of": 2}}, "it must be one_of, a list of values like [0, 2, 3, 1]"),
        ({"permute_order": {"one_of": [[0, "x"]]}}, "it must be one_of, a list of values like [0, 2, 3, 1]"),
        ({"window_size": {"one_of": ["three"]}}, "it must be one_of, a list of numbers"),
        ({"memory_stride": {"one_of": [[16]]}}, "it must be one_of, a list of numbers"),
        ({"roi_layers": {"at_least": 1}}, "roi_layers: at_least is 1; it must be at_most, a number from 0"),
        ({"segments": {"one_of": [1, 2]}}, "one_of is [1, 2]; it must be at_most, a number from 0"),
        ({"segments": {"at_most": -1}}, "at_most is -1; it must be at_most, a number from 0"),
        ({"map_extent": {"at_least": 5000}}, "at_least is 5000 and at_most 4096, between which there is"),
        ({"map_extent": 4096}, "map_extent: found 4096, expected an object"),
        (
            '{"map_extent": {"at_most": 1, "at_least": 0, "at_most": 2}}',
            '"at_most" is given twice: 1 and 2; leave one of them',
        ),
        (
            '{"map_extent": {"at_most": 1}, "map_extent": {"at_least": 1}}',
            '"map_extent" is given twice: {"at_most": 1} and {"at_least": 1}',
        ),
        ([1], "is no object of limits"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_mistakes_in_it(tmp_path: Path, document: Any, says: str) -> None:
    path = written(tmp_path, document)
    with pytest.raises(UserError) as caught:
        read_limits("hi3516cv500", path)
    message = str(caught.value)
    assert message.startswith(str(path)) and says in message and "; " in message


def test_none_of_a_kind_may_be_allowed(tmp_path: Path) -> None:
    limits = read_limits(None, written(tmp_path, {"roi_layers": {"at_most": 0}}))
    found = check(read_prototxt(CHECKED / "roi_layers" / "passes.prototxt"), limits=limits)
    assert ("roi_layers", "pool0", 4) in [(one.rule, one.layer, one.value) for one in found]


def test_no_such_file_or_chip(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.json: cannot be read: .*; check the path"):
        read_limits(None, tmp_path / "none.json")
    with pytest.raises(UserError, match=r"chip 'hi3516cv50' is not known; did you mean hi3516cv500\?"):
        read_limits("hi3516cv50")


BOUNDS: tuple[dict[str, Any], ...] = (
    *({field: value} for field in ("at_least", "at_most", "multiple_of") for value in (0, 1, 3, 0.5, None)),
    *({"one_of": [value]} for value in (0, 0.5, 16, "ReLU", "", [0, 2, 3, 1], [])),
    {"at_least": None, "at_most": None, "one_of": None},
)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({name for rule in RULES for name in rule.limits}))
def test_what_is_not_refused_does_no_harm(tmp_path: Path, name: str) -> None:
    """Each limit with each bound is refused, or the rules work with it, on nets in which much is wrong."""
    nets = [read_prototxt(path) for path in sorted(CHECKED.glob("*/breaks.prototxt"))]
    accepted = 0
    for bounds in BOUNDS:
        try:
            limits = read_limits("hi3516cv500", written(tmp_path, {name: bounds}))
        except UserError:
            continue
        accepted += 1
        for net in nets:
            check(net, "hi3516cv500", limits=limits)
    assert 0 < accepted < len(BOUNDS)
