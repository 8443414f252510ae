"""README.zh-CN.md says what README.md says: same headings, commands, code, tables, figures and links."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
NAMES = {"README.md": "README.zh-CN.md", "README.zh-CN.md": "README.md"}


def _sections(name: str) -> list[list[str]]:
    """The lines of each section, its heading first; a line in a fence is no heading."""
    sections: list[list[str]] = []
    fenced = False
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
        if line.startswith("#") and not fenced:
            sections.append([])
        fenced ^= line.startswith("```")
        sections[-1].append(line)
    return sections


def _split(section: list[str]) -> tuple[list[str], str]:
    """The lines of its code blocks, fenced or indented, and all the rest."""
    code: list[str] = []
    prose: list[str] = []
    fenced = False
    for line in section:
        fence = line.startswith("```")
        (code if fenced or fence or line.startswith("    ") else prose).append(line)
        fenced ^= fence
    return code, "\n".join(prose)


def _is_layout(code: list[str]) -> bool:
    return "    nnie_prep/" in code


def _code(section: list[str]) -> list[str]:
    """Code byte for byte; of the layout only what stands before the descriptions."""
    code, _ = _split(section)
    return [re.match(r" *\S+ *", line)[0] for line in code] if _is_layout(code) else code


def _inline(section: list[str]) -> Counter[str]:
    """Names and commands within sentences, whose order a translation may change."""
    spans = re.findall(r"`([^`]+)`", _split(section)[1])
    return Counter(" ".join(span.split()) for span in spans)


def _rows(section: list[str]) -> list[list[str]]:
    """For each row of a table, the code in its first cell."""
    rows = [line for line in _split(section)[1].splitlines() if line.startswith("|")]
    return [re.findall(r"`([^`]+)`", re.split(r"(?<!\\)\|", row)[1]) for row in rows]


def _figures(section: list[str]) -> Counter[str]:
    prose = re.sub(r"`[^`]+`", " ", _split(section)[1])
    return Counter(re.findall(r"\d+(?:[.,/]\d+)*", prose))


def _links(section: list[str]) -> list[str]:
    return re.findall(r"\]\(([^)]+)\)", _split(section)[1])


def _level(section: list[str]) -> int:
    return len(section[0]) - len(section[0].lstrip("#"))


def _items(section: list[str]) -> list[str]:
    return re.findall(r"^(-|\d+\.) ", _split(section)[1], re.M)


def test_the_headings_stand_in_the_same_order() -> None:
    ours, theirs = (_sections(name) for name in NAMES)
    assert [_level(section) for section in theirs] == [_level(section) for section in ours]


@pytest.mark.parametrize("of", [_code, _inline, _rows, _figures, _links, _items])
def test_each_section_has_the_same(of: Callable[[list[str]], object]) -> None:
    ours, theirs = (_sections(name) for name in NAMES)
    for english, chinese in zip(ours, theirs, strict=True):
        expected = of(english)
        if of is _links:
            expected = [NAMES.get(link, link) for link in expected]
        assert of(chinese) == expected, (english[0], chinese[0])


def test_what_is_chinese() -> None:
    """Each description, sentence and title was translated, none left over in English."""
    for section in _sections("README.zh-CN.md"):
        code, prose = _split(section)
        lines = code[1:] if _is_layout(code) else []
        rows = [line for line in prose.splitlines() if line.startswith("| ")]
        paragraphs = [part for part in re.split(r"\n\n+", prose) if not part.startswith(("#", "|"))]
        for text in (*rows, *paragraphs, *lines):
            known = "STEM.json" in text or "in-place" in text
            assert not text.strip() or known or re.search(r"[\u4e00-\u9fff]", text), text
