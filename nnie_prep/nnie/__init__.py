"""What the chip's compiler accepts: rules, and the limits they hold a net against.

finding.py       Rule, Found, Finding
subject.py       the net that is checked, and what rules ask about it
limits.py        chips/*.json: limits as data, with who knows them
sarif.py         findings as SARIF, for pipelines
form.py          how the prototxt is written          names.py        names and their suffixes
inputs.py        what the net is fed with             outputs.py      segments and what they give
layer_types.py   types that the chip has, or lacks    pooling.py      rounding, padding
reshaping.py     Permute, Reshape, Upsample ..        convolutions.py groups
ranges.py        integers, extents, exponents         activations.py  BatchNorm, in place, composites
efficiency.py    multiples, small maps                weights.py      values that 8 bits lose

mapper_cfg.py    the compiler's .cfg, in and out      cfg_draft.py    what is right for a net
preprocessing.py how a net's pictures are normalised  calibration.py  pictures and lists, as it feeds them
cfg_subject.py   a .cfg that is checked               cfg_rules.py, cfg_input_rules.py   the rules for that

To add a rule: write a generator of its name in the file of its family, with a docstring of three
paragraphs: what it finds, why that is bad, and what to do, which begins with "Instead:". Enter it in the
RULES of that file, with how well it is known and from where. Numbers belong into chips/base.json. Add a
prototxt that breaks it and one that just does not: tests/data/check/RULE/breaks.prototxt, passes.prototxt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnie_prep.caffe_io import field_lines
from nnie_prep.net import Net
from nnie_prep.nnie import (
    activations,
    convolutions,
    efficiency,
    form,
    inputs,
    layer_types,
    names,
    outputs,
    pooling,
    ranges,
    reshaping,
    weights,
)
from nnie_prep.nnie.finding import SEVERITIES, Finding, Found, Rule
from nnie_prep.nnie.limits import CHIPS, CONFIDENCES, Limit, Limits, read_limits
from nnie_prep.nnie.subject import Subject, line_of

__all__ = [
    "CHIPS",
    "CONFIDENCES",
    "RULES",
    "SEVERITIES",
    "Finding",
    "Limit",
    "Limits",
    "Rule",
    "check",
    "read_limits",
]

RULES: tuple[Rule, ...] = (
    *form.RULES,
    *inputs.RULES,
    *names.RULES,
    *outputs.RULES,
    *layer_types.RULES,
    *pooling.RULES,
    *reshaping.RULES,
    *convolutions.RULES,
    *ranges.RULES,
    *activations.RULES,
    *efficiency.RULES,
    *weights.RULES,
)


def check(
    net: Net,
    chip: str | None = None,
    *,
    limits: Limits | None = None,
    text: str = "",
    description: Mapping[str, Any] | None = None,
    files: Sequence[Path] = (),
) -> list[Finding]:
    """What stands between a net and the chip, by line.

    Args:
        net: with its weights or without; what needs them is then left out.
        chip: one of CHIPS, or None for what all of them share.
        limits: those of `read_limits`, for a user's own; the chip's otherwise.
        text: the prototxt as it is written, of which the net has forgotten the older forms.
        description: the STEM.json that was written with the pair: its heads and its input.
        files: the prototxt and the caffemodel, for the commands that repair.
    """
    subject = Subject(
        net,
        limits or read_limits(chip),
        chip,
        lines=field_lines(text) if text else {},
        description=description or {},
        files=tuple(files),
    )
    findings = [_finding(subject, rule, found) for rule in RULES for found in rule.check(subject)]
    return sorted(findings, key=lambda finding: finding.line)


def _finding(subject: Subject, rule: Rule, found: Found) -> Finding:
    origin = found.layer.origin if found.layer else ""
    line = found.line or line_of(origin)
    source = origin.rpartition(":")[0] if line_of(origin) else origin
    source = source or subject.net.source
    return Finding(
        rule=rule.name,
        severity=rule.severity_of(found),
        layer=found.layer.name if found.layer else "",
        where=f"{source}:{line}" if line else source,
        line=line,
        message=found.message,
        limit=str(found.limit),
        value=found.value,
        repair=found.repair,
    )
