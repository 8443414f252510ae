"""Small networks with what real Darknet computed for them: data/darknet/<case>, read only.

    case = darknet_case("route_groups")
    case.cfg, case.weights(tmp_path)          # paths; larger weights are unpacked into the folder
    case.flavor, case.bn_form                 # which Darknet computed it
    case.input, case.expected                 # (C, H, W) and {section index: flat array}

`data/darknet/README.md` says how the files came about and which cases record a fault of Darknet.
"""

from __future__ import annotations

import functools
import json
import lzma
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnie_prep.darknet.weights import Flavor

FOLDER = Path(__file__).parent / "data" / "darknet"
CASES = sorted(folder.name for folder in FOLDER.iterdir() if folder.is_dir())


@dataclass(frozen=True)
class DarknetCase:
    """One case. `layers` has index, type, out_c, out_h, out_w, is_head and head_input of each section."""

    name: str
    computed_by: str
    layers: list[dict[str, Any]]

    @property
    def cfg(self) -> Path:
        return FOLDER / self.name / "net.cfg"

    def weights(self, folder: Path) -> Path:
        """The weights file; those of whole networks are unpacked into the folder first."""
        plain = FOLDER / self.name / "net.weights"
        if plain.exists():
            return plain
        unpacked = folder / f"{self.name}.weights"
        if not unpacked.exists():
            planes = np.frombuffer(lzma.decompress(plain.with_suffix(".weights.xz").read_bytes()), np.uint8)
            unpacked.write_bytes(planes.reshape(4, -1).T.tobytes())
        return unpacked

    @property
    def flavor(self) -> Flavor:
        return "pjreddie" if self.computed_by.startswith("pjreddie") else "alexeyab"

    @property
    def bn_form(self) -> Any:
        """pjreddie's CPU form only where its code was left as it is."""
        return "pjreddie-cpu" if self.computed_by == "pjreddie" else "standard"

    @functools.cached_property
    def _arrays(self) -> dict[str, NDArray[np.float32]]:
        with np.load(FOLDER / self.name / "expected.npz") as arrays:
            return dict(arrays)

    @functools.cached_property
    def input(self) -> NDArray[np.float32]:
        if "input" in self._arrays:
            return self._arrays["input"]
        text = self.cfg.read_text()
        shape = [text.split(f"\n{key}=")[1].split()[0] for key in ("channels", "height", "width")]
        with np.load(FOLDER / "inputs.npz") as inputs:
            array: NDArray[np.float32] = inputs["x".join(shape)]
        return array

    @functools.cached_property
    def expected(self) -> dict[int, NDArray[np.float32]]:
        """Section index -> the output that Darknet computed, flat."""
        return {
            int(name.removeprefix("layer_")): array.reshape(-1)
            for name, array in self._arrays.items()
            if name != "input"
        }


@functools.cache
def darknet_case(name: str) -> DarknetCase:
    """The case of that name."""
    known = json.loads((FOLDER / name / "case.json").read_text())
    return DarknetCase(name, known["computed_by"], known["layers"])
