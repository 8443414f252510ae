"""Every cfg of some folders, converted with drawn weights and compared with the NumPy Darknet.

    python tests/walk_cfgs.py FOLDER... [--pixels 173056]        # prints the table

For each cfg calibrated weights are drawn (calibrated.py) and every layer of the Caffe net is compared twice:
by segment, computed from the Darknet's values of what it reads, and end to end. An error is the largest
difference in units of the layer's standard deviation. Deep networks of drawn weights amplify what float32
rounds; where that exceeds the limit end to end, both are computed in float64, and must be within it.

The flavor is pjreddie in a folder of that name; elsewhere alexeyab, and pjreddie where that refuses a
network, as it does those residual networks that only pjreddie's Darknet can run.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from calibrated import draw_weights
from numpy.typing import NDArray

from nnie_prep.darknet import Conversion, convert
from nnie_prep.darknet.reference import load
from nnie_prep.darknet.weights import Flavor
from nnie_prep.engines.numpy import forward
from nnie_prep.errors import UserError
from nnie_prep.net import check_wiring
from nnie_prep.shapes import infer_shapes

Array = NDArray[Any]

# Networks that compute something else than a feed-forward one: words of the reason -> what they are.
OTHERS = {"is recurrent": "recurrent", "computes with binary weights": "binary"}
# The only reasons to refuse a feed-forward network that Darknet runs.
ALLOWED = {
    "[local] has weights of its own for every place": "[local]",
    "[reorg] with extra has no form in stock Caffe layers": "[reorg] extra",
}

LIMIT = 1e-3  # in standard deviations
# Smaller inputs are multiples of this, which all networks' strides divide.
_GRID = 128


@dataclass
class Walked:
    """What became of one cfg. `refused` are the reasons if it was, `wrong` what differs."""

    cfg: Path
    flavor: Flavor
    refused: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)  # keys of the cfg that nobody asked for
    size: str = ""
    floats: int = 0
    compared: int = 0  # layers with an output
    constant: int = 0  # those whose output is one value throughout
    heads: tuple[str, ...] = ()
    segment: float = 0.0
    end_to_end: float = 0.0
    precise: float | None = None  # end to end in float64
    wrong: list[str] = field(default_factory=list)

    def answer(self) -> str:
        """ "equal", "WRONG", one of OTHERS, one of ALLOWED if all reasons are, or "REFUSED"."""
        for reason in self.refused:
            for words, kind in OTHERS.items():
                if words in reason:
                    return kind
        if self.refused:
            kinds = {kind for words, kind in ALLOWED.items() if words in self.refused[0]}
            allowed = all(any(words in reason for words in ALLOWED) for reason in self.refused)
            return kinds.pop() if allowed else "REFUSED"
        return "WRONG" if self.wrong else "equal"

    def row(self) -> list[str]:
        name = f"{self.cfg.parent.name}/{self.cfg.name}"
        if self.refused:
            more = f" (and {len(self.refused) - 1} more)" if len(self.refused) > 1 else ""
            return [name, self.flavor, self.answer(), *[""] * 6, self.refused[0] + more]
        precise = "" if self.precise is None else f"{self.precise:.1e}"
        count = f"{self.floats:,}"
        errors = [f"{self.segment:.1e}", f"{self.end_to_end:.1e}", precise]
        told = "; ".join(self.wrong) or ", ".join(dict.fromkeys(self.heads))
        return [name, self.flavor, self.answer(), self.size, str(self.compared), count, *errors, told]


_HEAD = ["cfg", "flavor", "answer", "input", "layers", "floats", "segment", "end to end", "in float64", ""]


def table(walked: Sequence[Walked]) -> str:
    """A row for each, and the totals; networks that differ in comments and blanks alone count once."""
    rows = [_HEAD, *(one.row() for one in walked)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    distinct = {_content(one.cfg): one for one in walked}.values()
    counts = Counter(one.answer() for one in distinct)
    forward_only = sum(count for answer, count in counts.items() if answer not in OTHERS.values())
    listed = ", ".join(f"{count} {answer}" for answer, count in counts.most_common())
    lines.append(f"{len(distinct)} distinct, {forward_only} of them feed-forward: {listed}")
    return "\n".join(lines)


def _content(cfg: Path) -> str:
    lines = ("".join(line.split()) for line in cfg.read_text(encoding="latin-1").split("\n"))
    return "\n".join(line for line in lines if line and line[0] not in "#;")


def flavors_of(cfg: Path) -> tuple[Flavor, ...]:
    """Those to be tried."""
    return ("pjreddie",) if cfg.parent.name == "pjreddie" else ("alexeyab", "pjreddie")


def walk(
    cfg: Path, folder: Path, pixels: int | None = None, flavors: Sequence[Flavor] = (), seed: int = 0
) -> Walked:
    """Converts and compares one cfg; larger inputs than so many pixels are reduced."""
    smaller, size = _reduced(cfg, folder, pixels)
    found: list[Walked] = []
    for flavor in flavors or flavors_of(cfg):
        try:
            convert(smaller, None, flavor=flavor)
        except UserError as error:
            found.append(Walked(cfg, flavor, _reasons(error)))
        else:
            return _compared(Walked(cfg, flavor, size=size), smaller, folder, seed)
    return found[0]


def _reasons(error: UserError) -> list[str]:
    """Each of them with its line, without the path."""
    first, *listed = str(error).split("\n")
    return [re.sub(r"^\S*?([^/\s]+\.cfg)", r"\1", line.strip()) for line in listed or [first]]


def _reduced(cfg: Path, folder: Path, pixels: int | None) -> tuple[Path, str]:
    """The cfg itself, or a copy with a smaller input; and what to say of its size."""
    text = cfg.read_text(encoding="latin-1")
    sizes = {key: int(found[1]) for key in ("width", "height") if (found := _size(key).search(text))}
    if len(sizes) < 2:
        return cfg, ""
    whole = "x".join(map(str, sizes.values()))
    if pixels is None or sizes["width"] * sizes["height"] <= pixels or "[crop]" in text:
        return cfg, whole
    factor = (pixels / (sizes["width"] * sizes["height"])) ** 0.5
    for key in sizes:
        sizes[key] = max(_GRID, int(sizes[key] * factor) // _GRID * _GRID)
    smaller = folder / cfg.name
    smaller.write_text(resized(text, sizes), encoding="latin-1")
    return smaller, f"{'x'.join(map(str, sizes.values()))} of {whole}"


def resized(text: str, sizes: Mapping[str, int]) -> str:
    """The text of a cfg with another width and height."""
    for key, size in sizes.items():
        text, count = _size(key).subn(f"{key}={size}", text, count=1)
        assert count
    return text


def _size(key: str) -> re.Pattern[str]:
    return re.compile(rf"^\s*{key}\s*=\s*(\d+)", re.MULTILINE)


def _compared(walked: Walked, cfg: Path, folder: Path, seed: int) -> Walked:
    weights = folder / "walked.weights"
    picture = np.random.default_rng(seed).random(_shape(cfg, walked.flavor), np.float32)
    draw_weights(cfg, weights, picture, seed=seed + 1, flavor=walked.flavor)
    conversion = convert(cfg, weights, flavor=walked.flavor)
    check_wiring(conversion.net)
    walked.floats, walked.unused = conversion.floats, conversion.warnings
    walked.heads = tuple(str(head["type"]) for head in conversion.heads)
    reference = load(cfg, weights, walked.flavor)
    outputs = reference.forward(picture)
    feeds = {"data": picture[None]}
    shapes = infer_shapes(conversion.net)
    forced = {
        layer.blobs[0]: output.reshape(shapes[layer.blobs[0]])
        for layer, output in zip(conversion.layers, outputs, strict=True)
        if layer.blobs and output is not None
    }
    by_segment = _errors(walked, conversion, outputs, forward(conversion.net, feeds, forced=forced))
    judged = [("", by_segment)]
    end_to_end = _errors(walked, conversion, outputs, forward(conversion.net, feeds))
    if max(end_to_end.values()) >= LIMIT:
        outputs = reference.forward(picture, np.float64)
        precise = _errors(walked, conversion, outputs, forward(conversion.net, feeds, dtype=np.float64))
        walked.precise = max(precise.values())
        judged.append((" in float64", precise))
    walked.compared = len(by_segment)
    walked.segment, walked.end_to_end = max(by_segment.values()), max(end_to_end.values())
    walked.wrong = [
        f"layer {name}{how}: {error:.1e}"
        for how, errors in judged
        for name, error in errors.items()
        if not error < LIMIT
    ]
    weights.unlink()
    return walked


def _shape(cfg: Path, flavor: Flavor) -> tuple[int, ...]:
    shape = convert(cfg, None, flavor=flavor).input["shape"]
    assert isinstance(shape, list)
    return tuple(shape[1:])


def _errors(
    walked: Walked, conversion: Conversion, outputs: Sequence[Array | None], blobs: dict[str, Array]
) -> dict[str, float]:
    """Of each layer that has an output, which must be where the conversion says."""
    errors = {}
    walked.constant = 0
    for layer, want in zip(conversion.layers, outputs, strict=True):
        name = f"{layer.index} {layer.section}"
        if not layer.blobs:
            assert layer.none, name
            continue
        assert want is not None, name
        have = np.concatenate([blobs[blob].reshape(-1) for blob in layer.blobs])
        errors[name] = _error(want.reshape(-1), have)
        walked.constant += want.size > 1 and not want.std()
    return errors


def _error(want: Array, have: Array) -> float:
    """In standard deviations, or of values without any in units of their size; inf for what is no number."""
    assert want.shape == have.shape
    scale = float(want.std(dtype=np.float64)) or float(np.abs(want).max()) or 1.0
    error = float(np.abs(have.astype(np.float64) - want).max()) / scale
    return error if np.isfinite(error) else float("inf")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--pixels", type=int, help="reduce larger inputs to about so many")
    options = parser.parse_args()
    found = []
    for folder in options.folders:
        for cfg in sorted(path for path in folder.rglob("*") if path.suffix == ".cfg"):
            with tempfile.TemporaryDirectory() as scratch:
                found.append(walk(cfg, Path(scratch), options.pixels))
            print("  ".join(found[-1].row()), file=sys.stderr, flush=True)
    print(table(found))
    return int(any(one.answer() in ("WRONG", "REFUSED") for one in found))


if __name__ == "__main__":
    sys.exit(main())
