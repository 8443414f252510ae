"""STEM.batch.json, the record of a model that `batch` prepared: children.py says what it is good for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nnie_prep.outputs import Outputs

RECORD = ".batch.json"
_KINDS: dict[str, Any] = {
    "batch": str,
    "arguments": list,
    "also_read": dict,
    "outputs": dict,
    "proof": dict | None,
}


def write_record(path: Path, record: dict[str, Any]) -> None:
    with Outputs([path], [], force=True) as out:
        with out.open(path) as file:
            file.write(json.dumps(record, indent=2).encode() + b"\n")
        out.commit()


def read_record(path: Path) -> dict[str, Any] | None:
    """None where there is no record of ours that can be read."""
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    ours = isinstance(record, dict) and all(
        key in record and isinstance(record[key], kind) for key, kind in _KINDS.items()
    )
    return record if ours else None


def is_recorded(prototxt: Path) -> bool:
    """Whether the record beside a prototxt says that `batch` wrote it."""
    record = read_record(prototxt.with_suffix(RECORD))
    return record is not None and prototxt.name in [Path(name).name for name in record["outputs"]]
