"""What the tests of examples/nets share: a network drawn by its script, what surgery in Caffe makes of it,
and the table of its README."""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from cli_cases import run
from numpy.typing import NDArray

from nnie_prep.caffe_io import read_net
from nnie_prep.engines.numpy import forward

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SCRIPT = EXAMPLES / "nets" / "draw.py"

# What a fold may cost by segment, in units of a blob's deviation.
BY_SEGMENT = 5e-5

Pair = tuple[Path, Path]  # prototxt, caffemodel


def draw(folder: Path, network: str, *options: str) -> Pair:
    """Runs the script, which must say nothing."""
    command = [sys.executable, str(SCRIPT), network, *options, "-o", str(folder / "net")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), (network, options)
    return folder / "net.prototxt", folder / "net.caffemodel"


_FOLDERS: list[tempfile.TemporaryDirectory[str]] = []  # until the process ends


@functools.cache
def drawn(network: str, *options: str) -> Pair:
    """A network that is not to be written to, drawn once in a process."""
    _FOLDERS.append(tempfile.TemporaryDirectory(prefix="drawn_nets-"))
    return draw(Path(_FOLDERS[-1].name), network, *options)


def figures(*files: Path) -> Any:
    """What `show --json` says."""
    done = run("show", *files, "--json")
    assert done.code == 0, done
    return json.loads(done.out)


def parameters_of(document: Any, *types: str) -> int:
    """The parameters of all layers of these types."""
    return sum(one["parameters"] for one in document["types"] if one["type"] in types)


def layer_counts(document: Any) -> dict[str, int]:
    return {one["type"]: one["layers"] for one in document["types"]}


def conditioned(pair: Pair) -> dict[str, NDArray[np.float32]]:
    """The blobs of a net on another picture than its own, on which no map vanishes or explodes.

    What counts is how a channel varies over a map of 30 cells or more, in the median of the channels.
    """
    net = read_net(*pair)
    shape = tuple(net.header.input_shape[0].dim)
    x = np.random.default_rng(1).uniform(-128, 128, shape).astype(np.float32)
    values = forward(net, {"data": x})
    writers = net.last_writers()
    first = net.layers[0].tops[0]  # whose values may be as large as bytes
    spreads = {
        name: float(np.median(value.std((0, 2, 3))))
        for name, value in values.items()
        if name in writers and writers[name].type not in _NO_MAPS and name != first
        if value.ndim == 4 and value.shape[2] * value.shape[3] >= 30
    }
    assert len(spreads) > 10 and min(spreads.values()) > 0.05 and max(spreads.values()) < 5, spreads
    scales = [np.asarray(layer.blobs[0]) for layer in net.layers if layer.type == "Scale"]
    assert not scales or 0.05 < float((np.concatenate(scales) < 0).mean()) < 0.3
    factors = {float(np.asarray(layer.blobs[2])[0]) for layer in net.layers if layer.type == "BatchNorm"}
    assert not factors or factors == {1.0, float(np.float32(999.98))}
    return values


_NO_MAPS = ("Permute", "PriorBox", "DetectionOutput")


class Surgery(NamedTuple):
    """What `strip` and `merge-bn` on the engine caffe reported and left."""

    before: Any  # of show
    stripped: Any
    merged: Any
    passes: dict[str, list[dict[str, Any]]]  # of merge-bn

    def names(self, name: str, changed: bool) -> list[str]:
        """The layers that a pass changed or declined to."""
        return [note["layer"] for note in self.passes[name] if note["changed"] is changed]

    def row(self) -> list[str]:
        """As the READMEs' tables have it."""
        folded = len(self.names("fold_batchnorm", changed=True))
        scales = layer_counts(self.merged).get("Scale", 0)
        numbers = [
            self.before["parameters"], self.before["multiply_adds"],
            *(len(one["layers"]) for one in (self.before, self.stripped, self.merged)), folded, scales,
        ]  # fmt: skip
        return [f"{number:,}" for number in numbers]


def operate(folder: Path, pair: Pair) -> Surgery:
    """Strips and merges, each proven in Caffe; merging again must change nothing.

    Where there is nothing to strip, that is not proven, as it would cost as much as the rest.
    """
    stripped = command(folder, "strip", pair, "--no-verify")
    if stripped["layers"][0] != stripped["layers"][1]:
        prove(folder, "strip", pair)
    merged = prove(folder, "merge-bn", pair)
    again = command(folder, "merge-bn", _written(folder, "merge-bn"), "--no-verify", stem="again")
    assert not [note for notes in again["passes"].values() for note in notes if note["changed"]]
    after = {name: figures(*_written(folder, name)) for name in ("strip", "merge-bn")}
    return Surgery(figures(*pair), after["strip"], after["merge-bn"], merged["passes"])


def prove(folder: Path, name: str, pair: Pair) -> Any:
    """Runs a command that changes a net, proven in Caffe by segment too, and returns its report."""
    report = command(folder, name, pair, "--engine", "caffe", "--force")
    verdict = report["verification"]
    assert (verdict["answer"], verdict["engine"]) == ("equal", "caffe")
    assert verdict["blobs"] and max(blob["by_segment"] for blob in verdict["blobs"]) < BY_SEGMENT
    return report


def command(folder: Path, name: str, pair: Pair, *options: str, stem: str = "") -> Any:
    """Runs a command that writes STEM in the folder, and returns its report."""
    done = run(name, *pair, "-o", folder / (stem or name), *options, "--json")
    assert done.code == 0, done
    return json.loads(done.out)


def _written(folder: Path, stem: str) -> Pair:
    return folder / f"{stem}.prototxt", folder / f"{stem}.caffemodel"


def table(example: str) -> dict[str, list[str]]:
    """The rows of the README's table of networks, by the network's name."""
    text = (EXAMPLES / example / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z0-9_]+)` \|(.*)\|$", text, re.M)
    return {name: [cell.strip() for cell in cells.split("|")] for name, cells in rows}
