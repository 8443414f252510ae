"""The tree of classes of yolo9000: a class is likely if its parent is (tree.c)."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from nnie_prep.blob import Array
from nnie_prep.errors import UserError
from nnie_prep.outputs.input_files import read_input


class ClassTree(NamedTuple):
    """Classes in the file's order. `groups` are the runs of classes with one parent: their softmax is one."""

    names: tuple[str, ...]
    parents: tuple[int, ...]  # -1 for a root
    groups: tuple[slice, ...]

    def softmax(self, x: Array) -> Array:
        """(.., classes): a softmax over each group."""
        y: Array = np.empty_like(x)
        for group in self.groups:
            powers = np.exp(x[..., group] - x[..., group].max(axis=-1, keepdims=True))
            y[..., group] = powers / powers.sum(axis=-1, keepdims=True)
        return y

    def absolute(self, x: Array) -> Array:
        """(.., classes): each probability times those of all its ancestors (hierarchy_predictions)."""
        y: Array = x.copy()
        for group in self.groups:
            parent = self.parents[group.start]
            if parent >= 0:
                y[..., group] *= y[..., parent, np.newaxis]
        return y


def read_tree(path: Path) -> ClassTree:
    """Lines of a name and its parent's number; a parent stands before its children."""
    data = read_input(path, "--tree names the file")
    try:
        lines = data.decode("utf-8").splitlines()
    except UnicodeDecodeError:
        raise UserError("is not a text in UTF-8", str(path), "give a tree of classes") from None
    while lines and not lines[-1].strip():
        lines.pop()
    names, parents = [], []
    for number, line in enumerate(lines):
        words = line.split()
        if len(words) != 2 or not words[1].removeprefix("-").isdecimal() or len(words[1]) > 9:
            raise UserError(
                f"found {line.strip()[:60]!r}, expected a name and its parent's number",
                f"{path}:{number + 1}",
                "give a tree of classes, like Darknet's 9k.tree",
            )
        parent = int(words[1])
        if not -1 <= parent < number:
            raise UserError(
                f"names {parent} as the parent of class {number}",
                f"{path}:{number + 1}",
                "a parent is a class before it, or -1",
            )
        names.append(words[0])
        parents.append(parent)
    starts = [place for place in range(len(parents)) if not place or parents[place] != parents[place - 1]]
    ends = [*starts[1:], len(parents)]
    return ClassTree(tuple(names), tuple(parents), tuple(map(slice, starts, ends)))
