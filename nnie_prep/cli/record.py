"""STEM.batch.json beside a model's files: how `batch` made them.

It says with which arguments, from which other files, and what the proof said. A model is up to date when
that record, the head of its prototxt and the files themselves agree with each other, with the inputs and
with this version.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xxhash

from nnie_prep import __version__
from nnie_prep.description import is_number
from nnie_prep.errors import UserError
from nnie_prep.outputs import Outputs, hash_of, made_from

if TYPE_CHECKING:
    from nnie_prep.cli.manifest import Model

RECORD = ".batch.json"
FOR_COMPILER = "_mapper.cfg"
_KINDS: dict[str, Any] = {
    "batch": str,
    "arguments": list,
    "also_read": dict,
    "outputs": dict,
    "proof": dict | None,
}


def write_record(model: Model, outputs: list[str], proof: dict[str, Any] | None) -> None:
    """Args: outputs: what `prepare` wrote, relative to the manifest. UserError where it cannot be."""
    record = {
        "batch": f"nnie_prep {__version__}",
        "arguments": model.arguments(),
        "also_read": _also_read(model),
        "outputs": {name: hash_of(model.folder / name) for name in [*outputs, *_for_compiler(model)]},
        "proof": proof,
    }
    target = model.output(RECORD)
    with Outputs([target], [], force=True) as out:
        with out.open(target) as file:
            file.write(json.dumps(record, indent=2).encode() + b"\n")
        out.commit()


def read_record(path: Path) -> dict[str, Any] | None:
    """None where there is no record of ours that can be read."""
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    ours = isinstance(record, dict) and all(
        key in record and isinstance(record[key], kind) for key, kind in _KINDS.items()
    )
    return record if ours and _is_proof(record["proof"]) else None


def _is_proof(proof: dict[str, Any] | None) -> bool:
    """Whether it is one as children.py makes it; what is not finite is a text there."""
    if proof is None:
        return True
    worst = [proof.get(f"worst_{kind}") for kind in ("by_segment", "end_to_end")]
    known = all(one is None or is_number(one) or one in ("inf", "nan") for one in worst)
    return isinstance(proof.get("answer"), str) and known


def is_recorded(path: Path) -> bool:
    """Whether the record beside a prototxt, or beside a .cfg for the compiler, says that `batch` wrote it."""
    record = read_record(path.with_name(path.name.removesuffix(FOR_COMPILER)).with_suffix(RECORD))
    return record is not None and path.name in [Path(name).name for name in record["outputs"]]


def is_current(model: Model, record: dict[str, Any]) -> bool:
    """Whether `prepare` would write what is there, from what is there."""
    if record["batch"] != f"nnie_prep {__version__}" or record["arguments"] != model.arguments():
        return False
    try:
        made = made_from(model.output(".prototxt"))
        return (
            made is not None
            and made.command == f"nnie_prep {__version__} prepare"
            and made.input_hashes() == [hash_of(path) for path in model.input_paths()]
            and record["also_read"] == _also_read(model)
            and _hashes(model, record) == record["outputs"]
        )
    except UserError:  # a file is gone, or cannot be read
        return False


def changed_since(model: Model, record: dict[str, Any]) -> list[str]:
    """The files that are there and not as the record has them."""
    with suppress(UserError):  # prepare says it better
        return [name for name, digest in _hashes(model, record).items() if digest != record["outputs"][name]]
    return []


def may_replace(model: Model, record: dict[str, Any]) -> bool:
    """Whether all that lies at the outputs is what batch wrote: then new inputs may replace it."""
    try:
        hashes = _hashes(model, record)
    except UserError:
        return False
    known = hashes.items() <= record["outputs"].items()
    return bool(hashes) and known and record["outputs"].keys() >= set(_for_compiler(model))


def _hashes(model: Model, record: dict[str, Any]) -> dict[str, str]:
    """The hashes of those files of a record that are there."""
    return {name: hash_of(path) for name in record["outputs"] if (path := model.folder / name).exists()}


def _also_read(model: Model) -> dict[str, str]:
    return {str(path): _hash_of_all(path) for path in model.also_read()}


def _hash_of_all(path: Path) -> str:
    """Of a file, or of a folder's files and their names."""
    if not path.is_dir():
        return hash_of(path)
    files = sorted(one for one in path.rglob("*") if one.is_file())
    found = [(str(one.relative_to(path)), hash_of(one)) for one in files]
    return xxhash.xxh3_128(json.dumps(found).encode()).hexdigest()


def _for_compiler(model: Model) -> list[str]:
    """What --images had written beside the pair, relative to the manifest."""
    stem = Path(model.stem)
    images = stem.with_name(stem.name + "_images")
    names = [f"{model.stem}{FOR_COMPILER}", f"{model.stem}_mean.txt", f"{images}.txt"]
    names += [str(images / path.name) for path in sorted((model.folder / images).glob("*.bmp"))]
    wanted = any(option.name == "images" for option in model.options)
    return [name for name in names if wanted and (model.folder / name).is_file()]
