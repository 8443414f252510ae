"""What runs the nets of a proof, how it is to be proven, and what of a net runs at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nnie_prep.blob import Array
from nnie_prep.engines import numpy as numpy_engine
from nnie_prep.net import Net
from nnie_prep.passes.drop_training import drop_training
from nnie_prep.passes.drop_unreachable import drop_unreachable
from nnie_prep.passes.lowering import lower
from nnie_prep.verify import TOLERANCE, Verdict

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Engine:
    """What runs Caffe nets: "numpy", or "caffe" in a child process under `caffe_python`."""

    name: str = "numpy"
    caffe_python: str | None = None
    told: list[str] = field(default_factory=list, compare=False)  # how nets had to be changed to be run

    def run(
        self,
        net: Net,
        feeds: Mapping[str, Array],
        forced: Mapping[str, Array] | None = None,
        wanted: set[str] | None = None,
    ) -> dict[str, Array]:
        """The blobs of the net, as far as the engine can compute them; see `forward` of the engines."""
        if self.name == "numpy":
            return numpy_engine.forward(net, feeds, wanted, forced)
        from nnie_prep.engines import caffe_engine

        python = caffe_engine.find_caffe_python(self.caffe_python)
        wanted = set(net.blob_names()) if wanted is None else wanted
        net, lacking = lower(net, lambda: caffe_engine.caffe_info(python).layer_types)
        text = f"this Caffe lacks {', '.join(lacking)}: run as what it has"
        self.told.extend([text] if lacking and text not in self.told else [])
        with caffe_engine.temporary_folder() as folder:
            pair = caffe_engine.write_pair(net, folder)
            return dict(caffe_engine.forward(python, *pair, dict(feeds), wanted, forced))


@dataclass(frozen=True)
class Options:
    """How to prove: on which engine, from which input, how strictly."""

    engine: Engine = Engine()
    input: Path | None = None
    seed: int = 0
    tolerance: float = TOLERANCE


def without_training(net: Net) -> Net:
    """The net as it runs at inference: data layers are inputs; losses, and what is not wanted, are gone."""
    twin = net.copy()
    for one in (drop_unreachable, drop_training):
        while any(note.changed for note in one(twin)):
            pass
    return twin


def worst_errors(verdict: Verdict) -> str:
    """Of a proof that passed, in words."""
    segment, end_to_end = verdict.worst("segment"), verdict.worst("end_to_end")
    assert segment and end_to_end  # it passed
    return f"worst by segment {segment.segment:.1e}, end to end {end_to_end.end_to_end:.1e}"
