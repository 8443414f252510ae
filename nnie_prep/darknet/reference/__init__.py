"""A NumPy Darknet: the judge of every conversion.

    reference = load(Path("yolov3-tiny.cfg"), Path("yolov3-tiny.weights"))
    outputs = reference.forward(image)                      # one (C, H, W) array for each section, or None
    for section, output in reference.iterate(image):        # the same, without keeping them all in memory
        ...

Computed straight from the sections and the weights by Darknet's formulas (the file:line of sources name
AlexeyAB/darknet at 59596d7 and pjreddie/darknet at f6afaab). It shares the readers of both files with the
converter and nothing else: neither the emitters nor the engines that run Caffe's layers.

    convolution.py   [convolutional] [connected] [local] [batchnorm]
    resampling.py    [maxpool] [local_avgpool] [avgpool] [upsample] [reorg] [reorg3d] [crop]
    joining.py       [route] [shortcut] [scale_channels] [sam] [implicit] and those that keep the shape
    heads.py         [softmax] [yolo] [Gaussian_yolo] [region] [detection] [cost] [contrastive]

Where Darknet's CPU code has a fault (relu6 gives 0, the AVX build's pools) this computes what its GPU code
and its formulas say. Where Darknet has no defined result, or would guess, there is a UserError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from nnie_prep.blob import Array
from nnie_prep.darknet.cfg import Section, read_cfg, shown
from nnie_prep.darknet.reference import convolution, heads, joining, resampling
from nnie_prep.darknet.reference.activations import activation_fault
from nnie_prep.darknet.reference.joining import shortcut_fault
from nnie_prep.darknet.reference.plan import Plan, Shape, Step, check_size
from nnie_prep.darknet.weights import BatchNormForm, Flavor, WeightsFile
from nnie_prep.errors import UserError

__all__ = ["Reference", "load"]

_BUILDERS: dict[str, Callable[[Section, Plan], Step]] = {
    **convolution.BUILDERS,
    **resampling.BUILDERS,
    **joining.BUILDERS,
    **heads.BUILDERS,
}
# Options that make a section something else than its type says, and why it is refused then.
_REFUSED_OPTIONS = {
    "xnor": "binarised weights and inputs",
    "binary": "weights that Darknet binarises on a GPU and not on a CPU",
    "spatial": "a softmax that Darknet's CPU and GPU compute differently",
    "coordconv": "coordinates that Darknet adds on a GPU and not on a CPU",
    "dontload": "weights that are not in the file",
    "dontloadscales": "BatchNorm parameters that are not in the file",
    "numload": "weights that are not all in the file",
}
_HAVE_WEIGHTS = ("convolutional", "connected", "local", "batchnorm", "implicit")


class Reference:
    """A network as Darknet computes it.

    `sections` are those of the layers, without [net]; `input_shape` is (channels, height, width);
    `shapes` are those of the outputs, () for none; `unread` are the indices of those that no section reads;
    `note` is what the weights file's header gave to say.
    """

    name = "Darknet in NumPy"
    left_out: Mapping[int, str] = MappingProxyType({})
    doubts: Mapping[int, str] = MappingProxyType({})

    def __init__(
        self,
        sections: Sequence[Section],
        weights: WeightsFile,
        flavor: Flavor = "alexeyab",
        bn_form: BatchNormForm = "standard",
    ) -> None:
        """Takes all weights and finishes the file. The sections' own account of used keys stays untouched.

        UserError: sections or options that are unknown or have no defined result (all of them at once),
        sizes that do not fit, weights that do not match.
        """
        own = [section.unasked() for section in sections]
        _check_all(own, flavor)
        plan = Plan(weights, flavor, bn_form, _input_shape(own[0]))
        for section in own[1:]:
            plan.steps.append(_BUILDERS[section.type](section, plan))
        weights.finish()
        self.sections = list(sections[1:])
        self.input_shape = plan.input_shape
        self.shapes = [step.shape for step in plan.steps]
        self.note = weights.note
        read = {index for step in plan.steps for index in step.reads}
        self.unread = [position for position in range(len(plan.steps)) if position not in read]
        self._where = sections[0].where()
        self._steps = plan.steps

    def check_input(self, x: Array) -> None:
        """UserError: the input has another shape."""
        if tuple(x.shape) != self.input_shape:
            raise UserError(
                f"[net] asks for an input of {self.input_shape} (channels, height, width), got {x.shape}",
                self._where,
                "give an input of that shape",
            )

    def forward(self, x: Array, dtype: Any = np.float32) -> list[Array | None]:
        """The output of each section for an input (C, H, W): (C, H, W), or (n,) where it is no image."""
        return [output for _, output in self.iterate(x, dtype)]

    def iterate(
        self, x: Array, dtype: Any = np.float32, forced: Mapping[int, Array] | None = None
    ) -> Iterator[tuple[Section, Array | None]]:
        """Each section with its output, which must not be written into.

        Keeps only outputs that a later section reads. dtype is np.float32 or np.float64. `forced` maps
        indices of sections to values that later sections read in place of their outputs.
        """
        self.check_input(x)
        last_reader = {index: position for position, step in enumerate(self._steps) for index in step.reads}
        kept: dict[int, Array] = {-1: np.asarray(x, dtype)}
        for position, step in enumerate(self._steps):
            with np.errstate(all="ignore"):
                output = step.compute([kept[index] for index in step.reads], np.dtype(dtype).type)
            if output is not None:
                assert output.shape == step.shape and output.dtype == dtype, (step.section, output.shape)
                if position in last_reader:
                    kept[position] = (forced or {}).get(position, output)
            for index in step.reads:
                if last_reader[index] == position:
                    kept.pop(index, None)
            yield self.sections[position], output


def load(
    cfg: Path, weights: Path, flavor: Flavor = "alexeyab", bn_form: BatchNormForm = "standard"
) -> Reference:
    """A network from its two files."""
    return Reference(read_cfg(cfg), WeightsFile(weights, flavor), flavor, bn_form)


def _input_shape(net: Section) -> Shape:
    shape = tuple(net.int(key, 0) for key in ("channels", "height", "width"))
    if min(shape) < 1:
        raise UserError(
            f"[{net.header}] has channels={shape[0]}, height={shape[1]}, width={shape[2]}; "
            "expected all to be at least 1",
            net.where(),
            "write the size of the input that the network was trained for",
        )
    check_size(net, shape)
    return shape


def _check_all(sections: Sequence[Section], flavor: Flavor) -> None:
    """UserError that lists every section that cannot be computed, whatever the sizes."""
    faults = [(section, fault) for section in sections[1:] if (fault := _fault(section, flavor))]
    if len(faults) == 1:
        section, fault = faults[0]
        raise UserError(f"{section}: {fault}", section.where(), "remove or replace it and train again")
    if faults:
        listed = ", ".join(f"{section} in line {section.line} ({fault})" for section, fault in faults)
        raise UserError(
            f"{len(faults)} sections cannot be computed: {listed}",
            str(sections[0].path),
            "remove or replace them and train again",
        )


def _has_weights(section: Section) -> bool:
    if section.type == "shortcut":
        return section.string("weights_type", "none") != "none"
    return section.type in _HAVE_WEIGHTS


def _fault(section: Section, flavor: Flavor) -> str:
    if section.type not in _BUILDERS:
        return "unknown or without a defined result for a single image"
    for key, reason in _REFUSED_OPTIONS.items():
        if key == "numload" and flavor == "alexeyab":
            continue
        loading = key.startswith("dontload") or key == "numload"
        concerns = (
            _has_weights(section)
            if loading
            else section.type == ("softmax" if key == "spatial" else "convolutional")
        )
        if concerns and section.has(key) and section.float(key, 0.0):
            return f"{key}={shown(section.string(key))}: {reason}"
    fault = activation_fault(section, flavor)
    if not fault and section.type == "shortcut" and flavor == "alexeyab":
        fault = shortcut_fault(section)
    return fault
