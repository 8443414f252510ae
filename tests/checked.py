"""What the rules of the chip find in a prototxt of a test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nnie_prep.caffe_io import read_net, read_text
from nnie_prep.nnie import Finding, check

DATA = Path(__file__).parent / "data" / "check"


def findings(prototxt: Path, *rules: str, chip: str | None = "hi3516dv300", **options: Any) -> list[Finding]:
    """What these rules, or all, find in a file."""
    description = prototxt.with_suffix(".json")
    found = check(
        read_net(prototxt),
        chip,
        text=read_text(prototxt),
        description=json.loads(description.read_text()) if description.exists() else None,
        files=[prototxt],
        **options,
    )
    return [one for one in found if not rules or one.rule in rules]
