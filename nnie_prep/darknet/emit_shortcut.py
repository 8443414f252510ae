"""[shortcut]: the input plus outputs of earlier sections, in three dialects.

AlexeyAB            input + from + from ..., of the first min(channels)
... weights_type    w0 * input + w1 * from ..., with normalised weights that the file holds
pjreddie            alpha * input + beta * from, of any size: see `_placed`
"""

from __future__ import annotations

from collections.abc import Callable

from nnie_prep import kernels
from nnie_prep.blob import Array, DeferredBlob
from nnie_prep.composites import selected
from nnie_prep.darknet.activations import IN_SHORTCUT, activate, read_activation
from nnie_prep.darknet.builder import Builder, Output, refusal
from nnie_prep.darknet.cfg import Section, shown
from nnie_prep.darknet.emit_convolution import refuse_partial_loading
from nnie_prep.darknet.emit_merging import read_index, read_indices

# shortcut_multilayer_cpu (AlexeyAB blas.c:73)
_NORMALIZE_EPS = 0.0001


def emit_shortcut(build: Builder, section: Section) -> Output:
    """The output has the shape of the input (AlexeyAB shortcut_layer.c, pjreddie shortcut_layer.c)."""
    activation = read_activation(build, section, "linear", of=IN_SHORTCUT)
    if build.flavor == "pjreddie":
        blob, shape = _sampled_sum(build, section)
    else:
        blob, shape = _sum(build, section)
    return Output(shape, activate(build, activation, blob, owned=True))


# ---- AlexeyAB --------------------------------------------------------------------------------


def _sum(build: Builder, section: Section) -> tuple[str, tuple[int, int, int]]:
    per = section.string("weights_type", "none")
    normalization = section.string("weights_normalization", "none")
    if per not in ("none", "per_feature", "per_layer", "per_channel"):
        build.refuse(
            "weights_type", f"weights_type={shown(per)} is not known", "use none, per_feature or per_channel"
        )
        per = "none"
    if per != "none" and normalization not in ("relu", "avg_relu", "softmax"):
        build.refuse(
            "weights_normalization",
            "Darknet needs weights_normalization=relu or softmax with weights_type, found "
            + shown(normalization),
            "correct it",
        )
    if per != "none":
        refuse_partial_loading(build, section)
    indices = read_indices(section, "from")
    source = build.input()
    others = [build.output("from", index) for index in indices]
    for other in others:
        if other.size != source.size:
            raise refusal(
                section,
                "from",
                f"adds outputs of different sizes, {source.size[0]} x {source.size[1]} and "
                f"{other.size[0]} x {other.size[1]} (height x width); AlexeyAB's Darknet refuses that",
                "if pjreddie's Darknet trained the network, convert with the flavor pjreddie",
            )
    blobs = [build.picture(source)]
    blobs += [_fit_channels(build, number, other, source.channels) for number, other in enumerate(others, 1)]
    if per != "none":
        blobs = _weighted(build, blobs, source.channels, per == "per_channel", normalization == "softmax")
    blob = build.add("Eltwise", "shortcut", blobs, eltwise_param={"operation": "SUM"})
    return blob, source.shape


def _fit_channels(build: Builder, number: int, source: Output, channels: int) -> str:
    """The first channels; where there are fewer, zeros follow."""
    blob = build.picture(source)
    if source.channels == channels:
        return blob
    return selected(
        build.add, "channels" if number == 1 else f"channels{number}", blob, source.channels, range(channels)
    )


def _weighted(build: Builder, blobs: list[str], channels: int, per_channel: bool, softmax: bool) -> list[str]:
    """Each term times its normalised weight; the file holds (terms,) or (terms, channels) of them."""
    shape = (len(blobs), channels if per_channel else 1)
    stored = build.take(shape, "weights")

    def factor(term: int) -> DeferredBlob | None:
        if stored is None:
            return None
        return DeferredBlob((channels,), _normalized(stored, term, channels, softmax))

    return [
        build.add(
            "Scale",
            f"weight{term + 1}",
            blob,
            blobs=[factor(term)],
            scale_param={"bias_term": False},
        )
        for term, blob in enumerate(blobs)
    ]


def _normalized(stored: DeferredBlob, term: int, channels: int, softmax: bool) -> Callable[[], Array]:
    def compute() -> Array:
        import numpy as np

        weights = np.asarray(stored).astype(np.float64)
        weights = np.exp(weights - weights.max(axis=0)) if softmax else np.maximum(weights, 0)
        factors = weights[term] / (_NORMALIZE_EPS + weights.sum(axis=0))
        return np.broadcast_to(factors, (channels,))

    return compute


# ---- pjreddie --------------------------------------------------------------------------------


def _sampled_sum(build: Builder, section: Section) -> tuple[str, tuple[int, int, int]]:
    alpha, beta = section.float("alpha", 1.0), section.float("beta", 1.0)
    index = read_index(section, "from")
    source = build.input()
    other = build.output("from", index)
    stride, sample = (
        max(1, other.size[1] // source.size[1]),
        max(1, source.size[1] // other.size[1]),
    )
    if (stride, sample) != (
        max(1, other.size[0] // source.size[0]),
        max(1, source.size[0] // other.size[0]),
    ):
        raise refusal(
            section,
            "from",
            f"adds outputs of sizes {source.size} and {other.size} (height, width), whose ratios differ "
            "between height and width; Darknet refuses that",
            "correct from",
        )
    blob = build.picture(source)
    coefficients = [1.0, beta]
    region = tuple(min(mine, theirs) for mine, theirs in zip(source.shape, other.shape, strict=True))
    if alpha != 1.0:
        if region == source.shape and sample == 1:
            coefficients[0] = alpha
        else:
            blob = _scale_region(build, blob, (region[0], region[1], region[2]), sample, alpha)
    placed = _placed(build, other, source, stride, sample)
    parameters: dict[str, object] = {"operation": "SUM"}
    if coefficients != [1.0, 1.0]:
        parameters["coeff"] = coefficients
    return build.add("Eltwise", "shortcut", [blob, placed], eltwise_param=parameters), source.shape


def _scale_region(build: Builder, blob: str, region: tuple[int, int, int], sample: int, alpha: float) -> str:
    """alpha where something is added, 1 elsewhere: one coefficient for each element."""
    shape = build.shapes[blob][1:]

    def compute() -> Array:
        import numpy as np

        factors: Array = np.ones(shape, np.float32)
        channels, height, width = region
        factors[:channels, : height * sample : sample, : width * sample : sample] = alpha
        return factors

    return build.add(
        "Scale",
        "alpha",
        blob,
        blobs=[DeferredBlob(shape, compute)],
        scale_param={"axis": 1, "num_axes": 3, "bias_term": False},
    )


def _placed(build: Builder, other: Output, source: Output, stride: int, sample: int) -> str:
    """`other` in the shape of `source`: every stride-th element of it, or its elements at every
    sample-th place, from the top left corner on (pjreddie blas.c:64 shortcut_cpu).

    The strides are quotients rounded down, so 17 beside 9 means the first 9 of the 17.
    """
    blob = _fit_channels(build, 1, other, source.channels)
    channels = source.channels
    # Along each axis one of the two is 1: the convolution drops, the deconvolution spreads.
    drop = [_span(theirs, mine, stride) for theirs, mine in zip(other.size, source.size, strict=True)]
    if max(*drop, stride) > 1:
        kernel = (drop[0], drop[1])
        blob = build.add(
            "Convolution",
            "sample",
            blob,
            blobs=[kernels.depthwise(channels, kernels.one_hot(kernel, (0, 0)))],
            convolution_param=kernels.convolution_param(
                channels, kernel, stride=(stride, stride), group=channels
            ),
        )
    spread = [
        _span(mine, have, sample) for mine, have in zip(source.size, build.shapes[blob][2:], strict=True)
    ]
    if max(*spread, sample) > 1:
        kernel = (spread[0], spread[1])
        blob = build.add(
            "Deconvolution",
            "spread",
            blob,
            blobs=[kernels.depthwise(channels, kernels.one_hot(kernel, (0, 0)))],
            convolution_param=kernels.convolution_param(
                channels, kernel, stride=(sample, sample), group=channels
            ),
        )
    return blob


def _span(large: int, small: int, step: int) -> int:
    """The kernel that leads from `large` to `small` elements with a stride, or from small to large."""
    return max(1, large - (min(large, small) - 1) * step)
