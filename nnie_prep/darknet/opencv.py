"""OpenCV's reader of Darknet networks as the judge of a conversion: a second opinion.

    judge = load(Path("yolov3-tiny.cfg"), Path("yolov3-tiny.weights"))
    for section, output in judge.iterate(picture):          # as reference.Reference does
        ...

OpenCV reads the cfg by itself. The weights are handed to it so that it makes of them what Darknet makes
of the file: its BatchNorm divides by sqrt(variance + 1e-6), so its variances are larger by 9e-6, and it
expects the matrix of a [connected] behind the BatchNorm parameters, never transposed. What it reads
otherwise than Darknet is refused, so that its faults are never taken for those of a conversion: `_fault`
lists them, as found by running OpenCV 4.14 on the cases of tests/data/darknet.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from nnie_prep.blob import Array
from nnie_prep.darknet.cfg import TRAINING_KEYS, Section, read_cfg
from nnie_prep.darknet.reference import Reference
from nnie_prep.darknet.reference.convolution import STATISTICS
from nnie_prep.darknet.reference.precision import in_float64
from nnie_prep.darknet.weights import WeightsFile
from nnie_prep.errors import UserError

# The sections that OpenCV knows, by the only name it knows for each.
_KNOWN = frozenset(
    [
        "net", "avgpool", "connected", "convolutional", "cost", "crop", "dropout", "maxpool", "region",
        "reorg", "route", "sam", "scale_channels", "shortcut", "softmax", "upsample", "yolo",
    ]
)  # fmt: skip
_ACTIVATIONS = frozenset(("linear", "leaky", "relu", "swish", "mish", "logistic", "tanh"))
_ACTIVATED = frozenset(("convolutional", "connected", "shortcut", "sam", "scale_channels"))
# Where these options are not written, OpenCV takes another value than Darknet.
_OTHER_DEFAULTS = {
    "convolutional": ("filters", "size", "activation"),
    "connected": ("activation",),
    "maxpool": ("size", "stride"),
    "reorg": ("stride",),
    "upsample": ("stride",),
}
# Options that OpenCV passes over (alpha and beta: those it heeds and Darknet does not): option, Darknet's
# default, the value at which nothing comes of it.
_ONLY_AT: dict[str, tuple[tuple[str, float, float], ...]] = {
    "convolutional": (("antialiasing", 0, 0), ("cbn", 0, 0), ("dilation", 1, 1), ("flipped", 0, 0)),
    "crop": (("noadjust", 0, 1),),
    "maxpool": (("antialiasing", 0, 0), ("maxpool_depth", 0, 0)),
    "reorg": (("reverse", 0, 0),),
    "scale_channels": (("scale_wh", 0, 0),),
    "shortcut": (("alpha", 1, 1), ("beta", 0, 0)),
    "softmax": (("groups", 1, 1), ("temperature", 1, 1)),
    "upsample": (("scale", 1, 1),),
}
_WITHOUT_OUTPUT = frozenset(("cost", "region", "yolo"))

# What OpenCV's BatchNorm lacks under the root: Darknet's 1e-5 (blas.c:292) less its own 1e-6.
_MISSING_EPS = 1e-5 - 1e-6
# The order in which OpenCV reads the weights of a section.
_ORDER = ("biases", *STATISTICS, "weights")
# A version whose `seen` has 8 bytes and whose matrices are not transposed.
_HEADER = np.array([0, 2, 5, 0, 0], "<i4")

_HINT = "leave out --against opencv"


class OpenCV:
    """A network as OpenCV computes it. `name` is for verdicts: "OpenCV 4.14.0"."""

    left_out: Mapping[int, str] = MappingProxyType({})
    doubts: Mapping[int, str] = MappingProxyType({})

    def __init__(self, cv2: Any, net: Any, reference: Reference, cfg: Path) -> None:
        self.name = f"OpenCV {cv2.__version__}"
        self._cv2 = cv2
        self._net = net
        self._reference = reference
        self._cfg = cfg
        self._outputs = _last_layers(net.getLayerNames(), len(reference.sections), cfg)

    def iterate(self, x: Array, dtype: Any = np.float32) -> Iterator[tuple[Section, Array | None]]:
        """Each section with its output for an input (C, H, W); None for heads and [cost].

        OpenCV computes in float32 alone; as for float64, see `in_float64`.
        """
        with _errors_of(self._cv2, self._cfg):
            self._net.setInput(np.ascontiguousarray(x, np.float32)[np.newaxis])
            found = [output[0] for output in self._net.forward(self._outputs)]
        sections = self._reference.sections
        outputs = [
            None if section.type in _WITHOUT_OUTPUT else output
            for section, output in zip(sections, found, strict=True)
        ]
        if dtype == np.float32:
            yield from zip(sections, outputs, strict=True)
        else:
            yield from in_float64(self._reference, x, outputs)


def load(cfg: Path, weights: Path) -> OpenCV:
    """A network from its two files, which must be right for the NumPy Darknet as well.

    UserError: no OpenCV that reads Darknet networks, or sections that it reads otherwise than Darknet
    (all of them at once).
    """
    cv2 = _import_opencv()
    sections = read_cfg(cfg)
    file = WeightsFile(weights)
    reference = Reference(sections, file)
    _check([section.unasked() for section in sections], reference, cfg)
    text = np.frombuffer(cfg.read_bytes(), np.uint8)
    with _errors_of(cv2, cfg):
        net = cv2.dnn.readNetFromDarknet(text, _stream(file))
        net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
        net.setPreferableTarget(cv2.dnn.DNN_TARGET_CPU)
    # A fused layer has no output of its own, and Winograd's convolutions are less exact.
    net.enableFusion(False)
    net.enableWinograd(False)
    return OpenCV(cv2, net, reference, cfg)


def _import_opencv() -> Any:
    try:
        cv2 = importlib.import_module("cv2")
    except ImportError as error:
        raise UserError(
            f"OpenCV cannot be imported ({error})",
            "--against opencv",
            "pip install 'opencv-python-headless>=4.8,<5'",
        ) from None
    if not hasattr(cv2.dnn, "readNetFromDarknet") or not hasattr(cv2.dnn.Net, "enableWinograd"):
        raise UserError(
            f"found OpenCV {cv2.__version__}, expected 4.8 or a later 4.x, which read Darknet networks",
            "--against opencv",
            "pip install 'opencv-python-headless>=4.8,<5'",
        )
    return cv2


@contextmanager
def _errors_of(cv2: Any, cfg: Path) -> Iterator[None]:
    """Turns OpenCV's errors into UserError."""
    try:
        yield
    except cv2.error as error:
        said = " ".join(str(error.err).split())
        raise UserError(f"OpenCV cannot run this network: {said}", str(cfg), _HINT) from None


def _check(sections: Sequence[Section], reference: Reference, cfg: Path) -> None:
    """UserError that lists every section that OpenCV reads otherwise than Darknet."""
    found = []
    for section in sections:
        if fault := _fault(section, reference):
            found.append(f"{section} in line {section.line} ({fault})")
    if found:
        raise UserError(
            f"OpenCV reads {len(found)} section(s) otherwise than Darknet and so cannot judge this network: "
            f"{', '.join(found)}",
            str(cfg),
            _HINT,
        )


def _fault(section: Section, reference: Reference) -> str:
    """ "" or what OpenCV reads otherwise than Darknet."""
    if section.header not in _KNOWN:
        return "it knows none of that name"
    training = TRAINING_KEYS[""] | TRAINING_KEYS.get(section.type, frozenset())
    for key, value, _ in section.repeated:
        if value != section.options[key][0] and key not in training:
            return f"{key} is written twice, and it takes the last"
    for key in _OTHER_DEFAULTS.get(section.type, ()):
        if not section.has(key):
            return f"no {key}"
    for key, default, neutral in _ONLY_AT.get(section.type, ()):
        if section.float(key, default) != neutral:
            return f"{key}={section.string(key, f'{default:g}')}"
    activation = section.string("activation", "linear")
    if activation not in (_ACTIVATIONS if section.type in _ACTIVATED else ("linear",)):
        return f"activation={activation}"
    return _fault_of_type(section, reference)


def _fault_of_type(section: Section, reference: Reference) -> str:
    """As `_fault`, for what depends on several options."""
    if section.type == "convolutional":
        if section.has("share_index"):
            return "share_index"
        for key in ("stride_x", "stride_y"):
            if section.int(key, -1) >= 1 and section.int(key, -1) != section.int("stride", 1):
                return f"{key}={section.string(key)}"
    if section.type in ("convolutional", "connected") and section.int("batch_normalize", 0) not in (0, 1):
        return f"batch_normalize={section.string('batch_normalize')}"
    if section.type == "route" and section.int("groups", 1) > 1 and len(section.ints("layers")) > 1:
        return "groups of several layers"
    if section.type == "shortcut":
        if len(section.ints("from")) > 1:
            return "several layers"
        if section.string("weights_type", "none") != "none":
            return "weights_type"
    if section.type == "softmax":
        # OpenCV's is over the channels at every place, Darknet's over all values at once.
        before = reference.shapes[section.index - 1] if section.index else reference.input_shape
        if section.has("tree") or before[1:] not in ((), (1, 1)):
            return "tree" if section.has("tree") else "over more than channels"
    return ""


def _stream(file: WeightsFile) -> Array:
    """The weights file's bytes as OpenCV is to read them (see the module's docstring)."""
    floats = np.fromfile(file.path, "<f4", offset=file.header_bytes)
    parts: list[Array] = [_HEADER]
    for taken in sorted(file.taken, key=lambda taken: (taken.section.index, _ORDER.index(taken.what))):
        values = floats[taken.start : taken.start + taken.size]
        if taken.what == "rolling variance":
            values = (values.astype(np.float64) + _MISSING_EPS).astype("<f4")
        if taken.what == "weights" and taken.section.type == "connected" and file.transposed:
            values = values.reshape(-1, taken.shape[0]).T
        parts.append(values.reshape(-1))
    return np.concatenate([part.view(np.uint8) for part in parts])


def _last_layers(names: Sequence[str], count: int, cfg: Path) -> list[str]:
    """Which of OpenCV's layers, in their order, holds the output of each section.

    It numbers them by section (conv_4, bn_4), its activations by the next one (leaky_5).
    """
    last: dict[int, str] = {}
    for name in names:
        match = re.fullmatch(r"(.+)_([0-9]+)", name)
        if match:
            last[int(match[2]) - (match[1] in _ACTIVATIONS)] = name
    if list(last) != list(range(count)):
        raise UserError(
            f"OpenCV makes {len(last)} sections of this network, expected {count}", str(cfg), _HINT
        )
    return list(last.values())
