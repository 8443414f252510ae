"""What a rule is, what it says, and what becomes of that: Rule, Found, Finding."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from nnie_prep.net import Layer
from nnie_prep.nnie.limits import Limit

SEVERITIES = ("error", "warning", "info")


@dataclass(frozen=True)
class Finding:
    """Something in a net that the chip or its compiler does not take, or takes badly.

    `where` is file:line as far as known, and `line` that line, 0 if it is not known. `limit` says what
    would do and `value` what is there, as JSON can hold it. `repair` is a command, or what to do by hand.
    """

    rule: str
    severity: str
    layer: str
    where: str
    line: int
    message: str
    limit: str
    value: Any
    repair: str


@dataclass(frozen=True)
class Found:
    """What a rule yields: `layer` is None for what concerns the whole net, and `line` its line then.

    The severity follows from how well the rule, or the limit that is broken, is known, unless the rule
    itself gives one.
    """

    layer: Layer | None
    message: str
    value: Any
    limit: Limit | str
    repair: str = ""
    line: int = 0
    severity: str = ""


@dataclass(frozen=True)
class Rule:
    """One rule: its function, whose docstring is the user's documentation, and how well it is known.

    `confidence` is a key of CONFIDENCES; `limits` names what of chips/ it reads, which have their own.
    `severity` is for rules whose findings are hints however well they are known.
    """

    check: Callable[[Any], Iterator[Found]]  # of a Subject, or of a CfgSubject
    confidence: str
    source: str
    severity: str = ""
    limits: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.check.__name__

    @property
    def text(self) -> str:
        """What, why it is bad, and what to do instead: three paragraphs."""
        return inspect.getdoc(self.check) or ""

    @property
    def summary(self) -> str:
        return self.text.partition("\n")[0]

    def severity_of(self, found: Found) -> str:
        known = found.limit.confidence if isinstance(found.limit, Limit) else self.confidence
        return found.severity or self.severity or severity_of(known)


def severity_of(confidence: str) -> str:
    """What is known well is an error, what rests on one source or a guess a warning."""
    return "error" if confidence in ("A", "B") else "warning"
