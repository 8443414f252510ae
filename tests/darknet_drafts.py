"""Darknet networks drawn at random, section by section, with the weights stream that fits them.

    draft = Draft(seed=7)
    draft.convolutional(filters=8, size=3, pad=1, batch_normalize=1, activation="leaky")
    draft.section("route", draft.shape, layers="-1,0")
    cfg, weights = draft.write(tmp_path)

A draft knows Darknet's shapes and the order of its weights by itself. Motifs are functions that add some
sections behind the last one; MOTIFS maps the flavor to those that its Darknet knows. Sizes are odd and not
square, weights He-normal, BatchNorm statistics of the order of what they are applied to, scales of both
signs.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnie_prep.darknet.weights import Flavor

Shape = tuple[int, int, int]

SIMPLE = [
    "linear",
    "logistic",
    "loggy",
    "relu",
    "relu6",
    "elu",
    "selu",
    "gelu",
    "relie",
    "ramp",
    "leaky",
    "tanh",
    "plse",
    "hardtan",
    "lhtan",
]
IN_CONVOLUTION = ["swish", "mish", "hard_mish", "normalize_channels", "normalize_channels_softmax"] + [
    "normalize_channels_softmax_maxval",
    "revleaky",
]
PJREDDIE = [name for name in SIMPLE if name not in ("relu6", "gelu")]


class Draft:
    """A cfg that is being drawn, its weights stream and the shapes (c, h, w) of its sections."""

    def __init__(self, seed: int, flavor: Flavor = "alexeyab", shape: Shape | None = None) -> None:
        self.random = np.random.default_rng(seed)
        self.flavor = flavor
        self.input_shape = shape or (
            self.pick(1, 3, 3, 3, 4),
            self.integer(5, 17),
            self.integer(5, 17),
        )
        channels, height, width = self.input_shape
        self.text = f"[net]\nchannels={channels}\nheight={height}\nwidth={width}\n"
        self.stream: list[NDArray[np.float32]] = []
        self.shapes: list[Shape] = []
        self.closed: set[int] = set()  # sections whose output may not be named: heads, antialiased ones

    # ---- chance --------------------------------------------------------------------------------

    def coin(self, chance: float = 0.5) -> bool:
        return bool(self.random.random() < chance)

    def pick(self, *values: Any) -> Any:
        return values[int(self.random.integers(len(values)))]

    def integer(self, low: int, high: int) -> int:
        """From low to high, both included."""
        return int(self.random.integers(low, high + 1))

    # ---- state ---------------------------------------------------------------------------------

    @property
    def shape(self) -> Shape:
        """Of the last section, or of the input."""
        return self.shapes[-1] if self.shapes else self.input_shape

    @property
    def index(self) -> int:
        """Of the section that comes next."""
        return len(self.shapes)

    def reference(self, index: int) -> int:
        """The index as an option may write it: absolute or counted back."""
        return index if self.coin() else index - self.index

    def open_sections(self, size: tuple[int, int] | None = None) -> list[int]:
        """Sections that may be named, of one height and width if that is given."""
        return [
            index
            for index, shape in enumerate(self.shapes)
            if index not in self.closed and size in (None, shape[1:])
        ]

    def section(self, kind: str, shape: Shape, **options: object) -> int:
        """Adds a section whose output has this shape; returns its index."""
        lines = [f"{key}={value}" for key, value in options.items()]
        self.random.shuffle(lines)
        self.text += "\n".join([f"\n[{kind}]", *lines]) + "\n"
        self.shapes.append(shape)
        return self.index - 1

    # ---- the weights stream ----------------------------------------------------------------------

    def store(self, values: NDArray[Any]) -> None:
        self.stream.append(values.astype(np.float32).reshape(-1))

    def normal(self, *shape: int, spread: float = 1.0) -> NDArray[Any]:
        return self.random.standard_normal(shape) * spread

    def batch_norm(self, count: int) -> list[NDArray[Any]]:
        """Scales, means and variances."""
        signs = np.where(self.random.random(count) < 0.2, -1, 1)
        return [
            self.random.uniform(0.5, 1.5, count) * signs,
            self.normal(count, spread=0.3),
            self.random.uniform(0.5, 2, count),
        ]

    def convolutional(self, filters: int, **options: Any) -> int:
        """[convolutional]; its bytes are drawn unless it shares those of another."""
        channels, height, width = self.shape
        size, groups = options.get("size", 1), options.get("groups", 1)
        stride = options.get("stride", 1)
        pad = size // 2 if options.get("pad") else options.get("padding", 0)
        extents = []
        for extent, step in (
            (height, options.get("stride_y", stride)),
            (width, options.get("stride_x", stride)),
        ):
            if antialiasing := options.get("antialiasing"):
                extent += 2 * pad - size + 1
                extents.append((extent - 1) // step + 1 if antialiasing == 1 else (extent - 2) // step + 1)
            else:
                extents.append((extent + 2 * pad - size) // step + 1)
        if "share_index" not in options:
            self.store(self.normal(filters, spread=0.3))
            if options.get("batch_normalize"):
                for values in self.batch_norm(filters):
                    self.store(values)
            fan_in = channels // groups * size * size
            weights = self.normal(filters, fan_in, spread=np.sqrt(2 / fan_in))
            self.store(weights.T if options.get("flipped") else weights)
        return self.section("convolutional", (filters, extents[0], extents[1]), filters=filters, **options)

    def connected(self, output: int, **options: Any) -> int:
        channels, height, width = self.shape
        inputs = channels * height * width
        self.store(self.normal(output, spread=0.3))
        self.store(self.normal(output, inputs, spread=np.sqrt(2 / inputs)))
        if options.get("batch_normalize"):
            for values in self.batch_norm(output):
                self.store(values)
        return self.section("connected", (output, 1, 1), output=output, **options)

    def write(self, folder: Path) -> tuple[Path, Path]:
        """The cfg and the weights file, with the header that its flavor writes."""
        cfg, weights = folder / "drawn.cfg", folder / "drawn.weights"
        cfg.write_text(self.text)
        revision = 5 if self.flavor == "alexeyab" else 0
        stream = np.concatenate([np.zeros(0, np.float32), *self.stream])
        weights.write_bytes(struct.pack("<3iQ", 0, 2, revision, 64000) + stream.astype("<f4").tobytes())
        return cfg, weights

    def image(self) -> NDArray[np.float32]:
        """An input (c, h, w) in 0..1."""
        return self.random.random(self.input_shape, dtype=np.float32)


# ---- motifs --------------------------------------------------------------------------------------

Motif = Callable[[Draft], None]


def conv(draft: Draft) -> None:
    """A convolution of any kind that keeps the maps' size or shrinks them."""
    channels, height, width = draft.shape
    small = min(height, width)
    groups = draft.pick(*(g for g in range(1, channels + 1) if channels % g == 0))
    options: dict[str, Any] = {"groups": groups, "size": draft.pick(1, 3, 5) if small > 2 else 1}
    if draft.coin():
        options["batch_normalize"] = 1
    if draft.coin(0.8):
        options["pad"] = 1
    elif options["size"] > 1 and draft.coin():
        options["padding"] = draft.integer(0, 3)
    if options["size"] > small:
        options["pad"] = 1
    if small > 4 and draft.coin(0.3):
        options["stride"] = 2
        if options["size"] == 1 and draft.flavor == "pjreddie":
            options["stride"] = 1
    names = SIMPLE + IN_CONVOLUTION if draft.flavor == "alexeyab" else PJREDDIE
    if draft.coin(0.9):
        options["activation"] = draft.pick("leaky", *names)
    if draft.coin(0.1):
        options["flipped"] = 1
    if draft.flavor == "alexeyab":
        _alexeyab_options(draft, options)
    draft.convolutional(groups * draft.integer(1, max(1, 12 // groups)), **options)
    if options.get("antialiasing"):
        draft.closed.add(draft.index - 1)


def _alexeyab_options(draft: Draft, options: dict[str, Any]) -> None:
    size = options["size"]
    if size == 3 and options.get("pad") and draft.coin(0.3):
        options["dilation"] = draft.integer(2, 3)
    if size > 1 and draft.coin(0.2):
        options[draft.pick("stride_x", "stride_y")] = draft.integer(1, 2)
    if size > 1 and options.get("pad") and "dilation" not in options and draft.coin(0.15):
        options["antialiasing"] = draft.pick(1, 2) if min(draft.shape[1:]) > 5 else 1


def shared(draft: Draft) -> None:
    """Two convolutions with the same weights and other strides or dilations, as in a trident block."""
    if draft.flavor != "alexeyab":
        return conv(draft)
    filters = draft.shape[0]
    first = draft.convolutional(filters, size=3, pad=1, batch_normalize=1, activation="leaky")
    draft.convolutional(
        filters,
        size=3,
        pad=1,
        batch_normalize=1,
        share_index=draft.reference(first),
        dilation=2,
        activation=draft.pick("mish", "relu"),
    )
    return None


def pool(draft: Draft) -> None:
    """Every geometry in which no window lies in the padding alone."""
    channels, height, width = draft.shape
    options: dict[str, int] = {"stride": draft.integer(1, 3), "size": draft.integer(1, 6)}
    if draft.coin():
        options["padding"] = draft.integer(0, 2 * options["size"] - 1)
    kind = "maxpool" if draft.flavor == "pjreddie" else draft.pick("maxpool", "maxpool", "local_avgpool")
    size, padding = options["size"], options.get("padding", options["size"] - 1)
    strides = [options["stride"]] * 2
    if draft.flavor == "alexeyab" and draft.coin(0.2):
        strides = [draft.integer(1, 3), draft.integer(1, 3)]
        options["stride_y"], options["stride_x"] = strides
    extents = []
    for extent, stride in zip((height, width), strides, strict=True):
        if extent + padding < size or padding // 2 >= size:
            return
        extents.append((extent + padding - size) // stride + 1)
        if (extents[-1] - 1) * stride - padding // 2 >= extent:
            return
        if kind == "local_avgpool" and stride > size:
            return
    draft.section(kind, (channels, extents[0], extents[1]), **options)


def maxpool_depth(draft: Draft) -> None:
    channels, height, width = draft.shape
    if draft.flavor == "alexeyab":
        n = draft.integer(1, channels)
        draft.section("maxpool", (n, height, width), maxpool_depth=1, out_channels=n)


def blurred_pool(draft: Draft) -> None:
    channels, height, width = draft.shape
    if draft.flavor == "alexeyab" and min(height, width) > 3:
        kind, stride = draft.pick(1, 2), draft.integer(1, 2)
        # padding size - 1 keeps the size, then the blur strides
        size = draft.integer(1, 4)
        span = 1 if kind == 1 else 2
        shape = (channels, (height - span) // stride + 1, (width - span) // stride + 1)
        draft.section("maxpool", shape, size=size, stride=stride, antialiasing=kind)
        draft.closed.add(draft.index - 1)


def route(draft: Draft) -> None:
    """One input or several from far back, sometimes a group of their channels."""
    if not draft.shapes:
        return
    anchor = draft.pick(*draft.open_sections()) if draft.open_sections() else None
    if anchor is None:
        return
    same = draft.open_sections(draft.shapes[anchor][1:])
    chosen = [anchor, *(draft.pick(*same) for _ in range(draft.integer(0, 2)))]
    options: dict[str, object] = {"layers": ",".join(str(draft.reference(index)) for index in chosen)}
    groups = 1
    if draft.flavor == "alexeyab" and draft.coin(0.4):
        divisors = [g for g in (2, 3, 4) if all(draft.shapes[index][0] % g == 0 for index in chosen)]
        if divisors:
            groups = draft.pick(*divisors)
            options["groups"], options["group_id"] = groups, draft.integer(0, groups - 1)
    channels = sum(draft.shapes[index][0] for index in chosen) // groups
    if channels <= 64:
        draft.section("route", (channels, *draft.shapes[anchor][1:]), **options)


def shortcut(draft: Draft) -> None:
    """Additions of any channels; with pjreddie of any size whose ratios agree."""
    if draft.flavor == "pjreddie":
        return _sampled_shortcut(draft)
    candidates = draft.open_sections(draft.shape[1:])
    if not candidates:
        return None
    chosen = [draft.pick(*candidates) for _ in range(draft.integer(1, 3))]
    options: dict[str, object] = {"from": ",".join(str(draft.reference(index)) for index in chosen)}
    kind = draft.pick("", "", "per_feature", "per_channel")
    if kind:
        options |= {"weights_type": kind, "weights_normalization": draft.pick("relu", "softmax")}
        count = (len(chosen) + 1) * (draft.shape[0] if kind == "per_channel" else 1)
        draft.store(draft.random.uniform(-0.2, 1, count))
    if draft.coin():
        options["activation"] = draft.pick("leaky", "swish", "mish", "relu")
    draft.section("shortcut", draft.shape, **options)
    return None


def _sampled_shortcut(draft: Draft) -> None:
    _, height, width = draft.shape
    fitting = [
        index
        for index in draft.open_sections()
        if draft.shapes[index][1] // height == draft.shapes[index][2] // width
        and height // draft.shapes[index][1] == width // draft.shapes[index][2]
    ]
    if fitting:
        options: dict[str, object] = {"from": draft.reference(draft.pick(*fitting))}
        for key in ("alpha", "beta"):
            if draft.coin(0.4):
                options[key] = draft.pick(0.5, 2, -1.5)
        if draft.coin():
            options["activation"] = draft.pick("leaky", "relu")
        draft.section("shortcut", draft.shape, **options)


def squeeze(draft: Draft) -> None:
    """The squeeze and excitation of EfficientNet: avgpool, 1x1, 1x1, scale_channels."""
    channels, height, width = draft.shape
    if draft.flavor == "pjreddie" or draft.index - 1 not in draft.open_sections():
        return
    source = draft.index - 1
    draft.section("avgpool", (channels, 1, 1))
    if draft.coin():
        draft.connected(channels, activation="logistic")
    else:
        draft.convolutional(4, activation="swish")
        draft.convolutional(channels, activation="logistic")
    options: dict[str, object] = {"from": draft.reference(source)}
    if draft.coin():
        options["activation"] = draft.pick("leaky", "relu")
    draft.section("scale_channels", (channels, height, width), **options)


def attention(draft: Draft) -> None:
    """[sam], or a map that scales all channels alike."""
    channels, height, width = draft.shape
    if draft.flavor == "pjreddie" or draft.index - 1 not in draft.open_sections():
        return
    source = draft.index - 1
    if draft.coin():
        draft.convolutional(channels, activation="logistic")
        draft.section("sam", (channels, height, width), **{"from": draft.reference(source)})
    else:
        draft.convolutional(1, activation="logistic")
        draft.section(
            "scale_channels", (channels, height, width), **{"from": draft.reference(source), "scale_wh": 1}
        )


def resample(draft: Draft) -> None:
    channels, height, width = draft.shape
    stride = draft.integer(1, 3)
    options: dict[str, object] = {"scale": draft.pick(0.5, -2)} if draft.coin(0.3) else {}
    if height % stride == 0 and width % stride == 0 and draft.coin():
        draft.section("upsample", (channels, height // stride, width // stride), stride=-stride, **options)
    elif max(height, width) * stride <= 24:
        draft.section("upsample", (channels, height * stride, width * stride), stride=stride, **options)


def reorg(draft: Draft) -> None:
    channels, height, width = draft.shape
    stride = draft.integer(1, 3)
    square = stride * stride
    divides = height % stride == 0 and width % stride == 0
    deep = (channels * square, height // stride, width // stride)
    wide = (channels // square, height * stride, width * stride)
    old, new = "reorg", draft.pick("reorg", "reorg3d") if draft.flavor == "alexeyab" else "reorg"
    if new == "reorg3d" and divides and deep[0] <= 64:
        draft.section("reorg3d", deep, stride=stride)
    elif channels % square**2 == 0 and max(wide) <= 24 and draft.flavor == "alexeyab" and draft.coin():
        draft.section("reorg3d", wide, stride=stride, reverse=1)
    elif channels % square == 0 and max(wide) <= 24 and draft.coin():
        draft.section(old, wide, stride=stride, reverse=1)
    elif channels % square == 0 and divides and deep[0] <= 64:
        draft.section(old, deep, stride=stride)


def crop(draft: Draft) -> None:
    channels, height, width = draft.shape
    if draft.coin(0.5) and min(height, width) > 3:
        rows, columns = draft.integer(max(1, height - 7), height), draft.integer(max(1, width - 7), width)
        draft.section(
            "crop",
            (channels, rows, columns),
            crop_height=rows,
            crop_width=columns,
            noadjust=draft.integer(0, 1),
        )


def nothing(draft: Draft) -> None:
    kinds = ("dropout", "empty") if draft.flavor == "alexeyab" else ("dropout",)
    closed = draft.index - 1 in draft.closed
    if draft.shapes:
        draft.section(draft.pick(*kinds), draft.shape)
        if closed:
            draft.closed.add(draft.index - 1)


def values(draft: Draft) -> None:
    """Sections that keep the shape."""
    kinds = ["activation", "normalization", "batchnorm"]
    kinds += ["logistic", "l2norm"] if draft.flavor == "pjreddie" else []
    kind = draft.pick(*kinds)
    options: dict[str, object] = {}
    if kind == "l2norm":
        # That of zeros is not a number.
        draft.section("activation", draft.shape, activation="logistic")
    if kind == "activation":
        options["activation"] = draft.pick(*(SIMPLE if draft.flavor == "alexeyab" else PJREDDIE))
    elif kind == "normalization":
        # A larger alpha could make the base of the power negative, as Darknet's window takes off squares
        # that it never added.
        options |= {"size": draft.integer(1, min(6, 2 * draft.shape[0])), "alpha": 0.02, "kappa": 2}
    elif kind == "batchnorm":
        if draft.flavor == "alexeyab":
            draft.store(draft.normal(draft.shape[0], spread=0.3))
        for stored in draft.batch_norm(draft.shape[0]):
            draft.store(stored)
    draft.section(kind, draft.shape, **options)


def implicit(draft: Draft) -> None:
    """Stored numbers that scale the channels of the section before."""
    channels, height, width = draft.shape
    if draft.flavor == "alexeyab" and draft.index - 1 in draft.open_sections():
        source = draft.index - 1
        draft.store(draft.normal(channels))
        draft.section("implicit", (channels, 1, 1), filters=channels)
        draft.section("scale_channels", (channels, height, width), **{"from": draft.reference(source)})


def dense(draft: Draft) -> None:
    """Fully connected, and sometimes a convolution or a softmax behind it."""
    names = SIMPLE if draft.flavor == "alexeyab" else PJREDDIE
    draft.connected(
        draft.integer(2, 12),
        activation=draft.pick(*names),
        **({"batch_normalize": 1} if draft.coin() else {}),
    )


def softmax(draft: Draft) -> None:
    channels, height, width = draft.shape
    count = channels * height * width
    options: dict[str, object] = {}
    if draft.coin():
        options["groups"] = draft.pick(*(g for g in range(1, 13) if count % g == 0))
    if draft.coin():
        options["temperature"] = draft.pick(0.5, 3)
    draft.section("softmax", draft.shape, **options)


def head(draft: Draft) -> None:
    """A head of any kind, or a [cost], and a route back to what lies before it."""
    classes, anchors = draft.integer(1, 4), draft.integer(1, 3)
    kind = draft.pick("yolo", "yolo", "region", "detection", "cost" if draft.open_sections() else "yolo")
    if draft.flavor == "alexeyab":
        kind = draft.pick(kind, kind, "Gaussian_yolo", "contrastive")
    if kind == "cost":
        draft.section("cost", draft.shape, type="sse")
    elif kind == "detection":
        side = draft.integer(1, 3)
        draft.connected(side * side * (5 * anchors + classes), activation="linear")
        draft.section("detection", draft.shape, side=side, num=anchors, classes=classes, coords=4)
    else:
        pairs = ",".join(str(draft.integer(4, 99)) for _ in range(2 * anchors))
        name = "yolo" if kind == "contrastive" else kind
        draft.convolutional(anchors * (classes + (9 if kind == "Gaussian_yolo" else 5)), activation="linear")
        draft.section(name, draft.shape, classes=classes, num=anchors, anchors=pairs)
        draft.closed.add(draft.index - 1)
    if kind == "contrastive":
        draft.section("route", draft.shapes[-2], layers=draft.reference(draft.index - 2))
        draft.section(
            "contrastive", draft.shape, classes=classes, yolo_layer=draft.reference(draft.index - 2)
        )
    draft.closed.add(draft.index - 1)
    back = draft.pick(*draft.open_sections())
    draft.section("route", draft.shapes[back], layers=draft.reference(back))


MOTIFS: tuple[Motif, ...] = (
    conv, conv, conv, conv, shared, pool, pool, maxpool_depth, blurred_pool, route, route, shortcut, shortcut,
    squeeze, attention, resample, reorg, crop, nothing, values, implicit, head,
)  # fmt: skip
TAILS: tuple[Motif, ...] = (conv, dense, softmax, head)


def drawn(seed: int, flavor: Flavor) -> Draft:
    """A network of a few motifs, with a tail that often flattens it."""
    draft = Draft(seed, flavor)
    conv(draft)
    for _ in range(draft.integer(2, 9)):
        draft.pick(*MOTIFS)(draft)
    if draft.coin():
        dense(draft)
        draft.pick(*TAILS)(draft)
    elif draft.coin():
        # Darknet gives a softmax no height and width: only vectors go on from it.
        softmax(draft)
        draft.pick(nothing, softmax, dense)(draft)
    return draft
