"""The values of one head in STEM.json. What is missing or of another kind is a UserError."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnie_prep.blob import Array
from nnie_prep.description import is_number
from nnie_prep.detection.class_tree import ClassTree, read_tree
from nnie_prep.errors import UserError
from nnie_prep.outputs.input_files import is_file

MOST = 1 << 16  # of an integer


@dataclass(frozen=True)
class Fields:
    """One head, or an object in it; `where` is its place in the file."""

    values: dict[str, Any]
    where: str
    folder: Path
    tree_file: Path | None

    def integer(self, key: str, least: int) -> int:
        value = self.values.get(key)
        if type(value) is not int or not least <= value <= MOST:
            raise self.wrong(key, f"an integer of {least} to {MOST}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value: Any = self.values.get(key, default)
        if not is_number(value):
            raise self.wrong(key, "a number")
        return float(value)

    def numbers(self, key: str, count: int | None = None) -> list[float]:
        values = self.values.get(key)
        good = isinstance(values, list) and all(map(is_number, values))
        if not isinstance(values, list) or not good or count not in (None, len(values)):
            raise self.wrong(key, "a list of numbers" if count is None else f"a list of {count} numbers")
        return [float(value) for value in values]

    def integers(self, key: str, least: int, count: int | None = None) -> list[int]:
        values = self.values.get(key)
        good = isinstance(values, list) and all(type(one) is int and least <= one <= MOST for one in values)
        if not isinstance(values, list) or not good or count not in (None, len(values)):
            many = "" if count is None else f"{count} "
            raise self.wrong(key, f"a list of {many}integers of {least} to {MOST}")
        return list(values)

    def flag(self, key: str) -> bool:
        value = self.values.get(key)
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def inner(self, key: str) -> Fields:
        value = self.values.get(key)
        if not isinstance(value, dict):
            raise self.wrong(key, "an object")
        return Fields(value, f"{self.where}: {key}", self.folder, self.tree_file)

    def text(self, key: str, default: str | None = None) -> str:
        value = self.values.get(key, default)
        if not isinstance(value, str) or any("\ud800" <= one <= "\udfff" for one in value):
            raise self.wrong(key, "a text")
        return value

    def expect(self, key: str, only: str) -> None:
        if self.values.get(key) != only:
            raise self.wrong(key, repr(only))

    def anchors(self) -> Array:
        """(anchors, 2), width and height."""
        pairs: Any = self.values.get("anchors")
        good = isinstance(pairs, list) and 0 < len(pairs) <= MOST
        good = good and all(isinstance(pair, list) and len(pair) == 2 for pair in pairs)
        numbers = [number for pair in pairs for number in pair] if good else []
        if not good or not all(map(is_number, numbers)):
            raise self.wrong("anchors", "a list of [width, height]")
        return np.array(pairs, np.float64)

    def blobs(self) -> tuple[str, ...]:
        if "none" in self.values:
            raise UserError(f"its blob is gone: {self.values['none']}", self.where, "convert without that")
        names = self.values.get("blobs", [self.values.get("blob")])
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise self.wrong("blob", "the name of a blob")
        return tuple(names)

    def tree(self) -> ClassTree | None:
        if self.values.get("tree") is None:
            return None
        named = Path(self.text("tree"))
        places = (
            [self.tree_file] if self.tree_file else [named, self.folder / named, self.folder / named.name]
        )
        place = next((one for one in places if is_file(one)), places[0])
        found = read_tree(place)
        classes = self.integer("classes", 1)
        if len(found.names) != classes:
            raise UserError(
                f"holds {len(found.names)} classes, and the head has {classes}",
                str(place),
                "give its own tree",
            )
        return found

    def wrong(self, key: str, expected: str) -> UserError:
        value = json.dumps(self.values.get(key))
        found = "is missing" if key not in self.values else f"is {value[:60]}"
        return UserError(f"{key} {found}, expected {expected}", self.where, "convert the network anew")
