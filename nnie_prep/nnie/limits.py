"""The chip's limits, which are data: chips/base.json, over it chips/CHIP.json, over that a user's file.

    {"map_extent": {"at_least": 1, "at_most": 4096, "confidence": "C", "source": "..."}}

A file further up replaces the fields that it names, so one that knows better says only what it knows.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from nnie_prep.description import is_number
from nnie_prep.errors import UserError
from nnie_prep.names import meant
from nnie_prep.outputs.input_files import read_input

# How well a rule or a limit is known, from well to badly.
CONFIDENCES = {
    "A": "a document of the vendor's, or three sources",
    "B": "two sources, or one with an experiment",
    "C": "one source",
    "G": "a guess",
}
_FOLDER = Path(__file__).parent / "chips"
_BOUNDS = ("at_least", "at_most", "one_of", "multiple_of")
_FIELDS = (*_BOUNDS, "confidence", "source")

CHIPS = ("hi3516cv500", "hi3516dv300", "hi3516av300", "hi3519av100", "hi3559v200", "hi3559av100")


@dataclass(frozen=True)
class Limit:
    """What a value must be; None for what does not matter.

    `confidence` is a key of CONFIDENCES, `source` says who knows it.
    """

    name: str
    confidence: str
    source: str
    at_least: float | None = None
    at_most: float | None = None
    one_of: tuple[Any, ...] | None = None
    multiple_of: int | None = None

    def allows(self, value: Any) -> bool:
        """Whether the value keeps the limit."""
        return (
            (self.one_of is None or value in self.one_of)
            and (self.at_least is None or value >= self.at_least)
            and (self.at_most is None or value <= self.at_most)
            and (self.multiple_of is None or value % self.multiple_of == 0)
        )

    def __str__(self) -> str:
        """8..4096, at most 31, 1 or 3, a multiple of 16."""
        parts = []
        if self.one_of is not None:
            *most, last = map(_text, self.one_of)
            parts.append(f"{', '.join(most)} or {last}" if most else last)
        if self.at_least is not None and self.at_most is not None:
            parts.append(f"{self.at_least:g}..{self.at_most:g}")
        elif self.at_least is not None:
            parts.append(f"at least {self.at_least:g}")
        elif self.at_most is not None:
            parts.append(f"at most {self.at_most:g}")
        if self.multiple_of is not None:
            parts.append(f"a multiple of {self.multiple_of}")
        return ", ".join(parts) or "anything"


def _text(value: Any) -> str:
    return ",".join(map(_text, value)) if isinstance(value, tuple) else str(value)


Limits = Mapping[str, Limit]


def read_limits(chip: str | None = None, path: Path | None = None) -> Limits:
    """The limits of a chip of CHIPS, or without one those that all chips share; `path` is laid over them.

    Raises UserError for a chip that is not known, and for a file in which a limit or a field is not, stands
    twice, or is of another kind than the limit.
    """
    if chip is not None and chip not in CHIPS:
        raise UserError(f"chip {chip!r} is not known", hint=_near(chip, CHIPS))
    fields: dict[str, dict[str, Any]] = _read(_FOLDER / "base.json")
    if chip is not None:
        _lay_over(fields, _read(_FOLDER / f"{chip}.json"), f"{chip}.json")
    if path is not None:
        _lay_over(fields, _read(path), str(path))
    return {name: _limit(name, found) for name, found in fields.items()}


def _limit(name: str, fields: Mapping[str, Any]) -> Limit:
    values = {key: value for key, value in fields.items() if value is not None}
    if "one_of" in values:
        values["one_of"] = tuple(tuple(one) if isinstance(one, list) else one for one in values["one_of"])
    return Limit(name, **values)


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """The file's limits, each with fields that may be there and values that may be in them."""
    data = read_input(path)
    try:
        document = json.loads(data, object_pairs_hook=partial(_once, path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"is not JSON: {error}", str(path), "correct it") from None
    hint = 'write {"map_extent": {"at_most": 8192, "confidence": "A", "source": ".."}}, say'
    if not isinstance(document, dict):
        raise UserError("is no object of limits", str(path), hint)
    for name, fields in document.items():
        where = f"{path}: {name}"
        if not isinstance(fields, dict):
            raise UserError(f"found {_short(fields)}, expected an object", where, hint)
        for field, value in fields.items():
            if field not in _FIELDS:
                raise UserError(f"{field!r} is no field of a limit", where, _near(field, _FIELDS))
            if why := _why_wrong(field, value):
                raise UserError(f"{field} is {_short(value)}; {why}", where, "correct it")
    return document


def _once(path: Path, pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object of the file. JSON lets a key stand twice, and its readers take the last without a word."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            both = f"{_short(found[key])} and {_short(value)}"
            raise UserError(f"{json.dumps(key)} is given twice: {both}", str(path), "leave one of them")
        found[key] = value
    return found


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _why_wrong(field: str, value: Any) -> str:
    """What a field must hold, "" if it holds that."""
    if field == "confidence":
        return "" if value in CONFIDENCES else f"it must be one of {', '.join(CONFIDENCES)}"
    if field == "source":
        return "" if isinstance(value, str) else "it must be a text"
    if value is None:  # takes the limit away
        return ""
    if field == "one_of":
        return "" if isinstance(value, list) and value else "it must be a list of values"
    if field == "multiple_of":
        is_count = isinstance(value, int) and not isinstance(value, bool) and value > 0
        return "" if is_count else "it must be a whole number above 0"
    return "" if is_number(value) else "it must be a number, or null for none"


def _lay_over(fields: dict[str, dict[str, Any]], upper: Mapping[str, Mapping[str, Any]], source: str) -> None:
    """Replaces what `upper` names; a limit whose file does not say where it comes from comes from there."""
    for name, found in upper.items():
        if name not in fields:
            raise UserError(f"{name!r} is no limit", source, _near(name, fields))
        for field, value in found.items():
            if why := _why_of_another_kind(field, value, fields[name]):
                told = f"{field} is {_short(value)}; it must be {why}"
                raise UserError(told, f"{source}: {name}", "correct it")
        fields[name] = merged = {**fields[name], "source": source, **found}
        low, high = merged.get("at_least"), merged.get("at_most")
        if low is not None and high is not None and low > high:
            told = f"at_least is {low} and at_most {high}, between which there is nothing"
            raise UserError(told, f"{source}: {name}", "correct one, or write null for none")


def _why_of_another_kind(field: str, value: Any, known: Mapping[str, Any]) -> str:
    """What a bound of a limit must be where it cannot be this one, "" if it can.

    A limit is of the kind that base.json gives it: what may be one of some texts or lists is no number, and
    what has nothing but at_most is a count of which there may be too many.
    """
    if field not in _BOUNDS or value is None:
        return ""
    if [one for one in _BOUNDS if known.get(one) is not None] == ["at_most"]:
        return "" if field == "at_most" and value >= 0 else "at_most, a number from 0"
    example = known["one_of"][0] if known.get("one_of") else 0
    if field != "one_of" and is_number(example):
        return ""
    if field == "one_of" and all(_is_like(one, example) for one in value):
        return ""
    return "one_of, a list of " + ("numbers" if is_number(example) else f"values like {_short(example)}")


def _is_like(value: Any, example: Any) -> bool:
    if isinstance(example, list):
        return isinstance(value, list) and all(map(is_number, value))
    return isinstance(value, str) if isinstance(example, str) else is_number(value)


def _near(name: str, known: Collection[str]) -> str:
    """What was perhaps meant, or all that there is."""
    return meant(name, known) or f"choose from {', '.join(known)}"
