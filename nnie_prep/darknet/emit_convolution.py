"""[convolutional] and [batchnorm].

conv -> BatchNorm -> Scale -> activation -> blur, all in place on the blob `layerN-conv` but for the
activations that need more than one layer, which write `layerN-act`, and the blur, `layerN-blur`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from nnie_prep import kernels
from nnie_prep.blob import Array, Blob, DeferredBlob
from nnie_prep.darknet.activations import IN_CONVOLUTION, activate, read_activation
from nnie_prep.darknet.builder import LARGEST_STEP, Builder, ConvolutionWeights, Output, refusal
from nnie_prep.darknet.cfg import Section
from nnie_prep.params import Pair

# AlexeyAB blas.c:292; pjreddie has it on the GPU (blas_kernels.cu:200) and sqrt(var) + 1e-6 on the CPU.
_EPS = 1e-5
_PJREDDIE_CPU_EPS = 1e-6


class _Geometry(NamedTuple):
    """Darknet's size, stride, padding (before dilation) and dilation; antialiasing 0, 1 or 2."""

    size: int
    stride: Pair
    padding: int
    dilation: int
    antialiasing: int


def emit_convolutional(build: Builder, section: Section) -> Output:
    """conv, BatchNorm or bias, activation, blur (AlexeyAB convolutional_layer.c:1126)."""
    # These two go on after a fault, what follows does not: so they are told with it.
    activation = read_activation(build, section, "logistic", of=IN_CONVOLUTION)
    _refuse_options(build, section)
    geometry = _read_geometry(build, section)
    filters = section.int("filters", 1, at_least=1)
    groups = section.int("groups", 1, at_least=1)
    batch_normalize = bool(section.int("batch_normalize", 0)) or bool(section.int("cbn", 0))
    source = build.input()
    if source.channels % groups or filters % groups:
        raise refusal(
            section,
            "groups",
            f"groups={groups} must divide filters={filters} and the {source.channels} channels of its input",
            "correct groups or filters",
        )
    _check_size(section, geometry, source)
    wanted = ConvolutionWeights(filters, source.channels, groups, geometry.size, batch_normalize)
    weights = _weights(build, section, wanted)
    build.convolutions[build.index] = weights

    stride = (1, 1) if geometry.antialiasing else geometry.stride
    pad = geometry.padding * geometry.dilation
    blob = build.add(
        "Convolution",
        "conv",
        build.picture(source),
        blobs=[weights.weights] if batch_normalize else [weights.weights, weights.biases],
        convolution_param=kernels.convolution_param(
            filters,
            (geometry.size, geometry.size),
            stride=stride,
            pad=(pad, pad),
            dilation=geometry.dilation,
            group=groups,
            bias=not batch_normalize,
        ),
    )
    if batch_normalize:
        normalize(build, blob, weights.mean, weights.variance, weights.scales, weights.biases)
    blob = activate(build, activation, blob, owned=True)
    if geometry.antialiasing:
        blob = blur(build, blob, geometry.antialiasing, geometry.stride)
    _, channels, height, width = build.shapes[blob]
    return Output((channels, height, width), blob, blurred=bool(geometry.antialiasing))


def _read_geometry(build: Builder, section: Section) -> _Geometry:
    size = section.int("size", 1, at_least=1, at_most=LARGEST_STEP)
    stride = section.int("stride", 1, at_least=1, at_most=LARGEST_STEP)
    padding = section.int("padding", 0, at_least=0, at_most=LARGEST_STEP)
    if section.int("pad", 0):
        padding = size // 2
    if build.flavor == "pjreddie":
        if size == 1 and stride > 1:
            build.refuse(
                "stride",
                f"pjreddie's Darknet skips no pixels in a 1x1 convolution with stride {stride}",
                "convert with the flavor alexeyab, if that trained the network",
            )
        return _Geometry(size, (stride, stride), padding, 1, 0)
    strides = (
        section.int("stride_y", stride, at_least=1, at_most=LARGEST_STEP),
        section.int("stride_x", stride, at_least=1, at_most=LARGEST_STEP),
    )
    dilation = section.int("dilation", 1, at_least=1, at_most=LARGEST_STEP)
    if size == 1:
        dilation = 1
    antialiasing = section.int("antialiasing", 0, at_least=0, at_most=2)
    if dilation > 1 and (size % 2 == 0 or padding != (size - 1) // 2):
        build.refuse(
            "dilation",
            f"Darknet's size of the output does not fit size={size}, padding {padding}, dilation {dilation}",
            "use an odd size with pad=1",
        )
        dilation = 1
    run = (1, 1) if antialiasing else strides
    if size == 1 and run[1] == 1 and (padding or run[0] != 1):
        key = "padding" if padding else "stride_y"
        build.refuse(
            key,
            "Darknet ignores padding and stride_y in a 1x1 convolution with stride_x=1, but not in its size",
            f"remove {key}",
        )
    return _Geometry(size, strides, padding, dilation, antialiasing)


def _check_size(section: Section, geometry: _Geometry, source: Output) -> None:
    for extent, what in zip(source.size, ("high", "wide"), strict=True):
        if extent + 2 * geometry.padding < geometry.size:
            raise refusal(
                section,
                "size",
                f"size={geometry.size} exceeds the input, {extent} {what} and padded by {geometry.padding}",
                "correct size or padding",
            )


def _refuse_options(build: Builder, section: Section) -> None:
    for key in ("xnor", "binary"):
        if section.int(key, 0):
            build.refuse(
                key,
                f"{key}=1 computes with binary weights, which Caffe has no layer for",
                "train without it",
            )
    for key in ("coordconv", "reverse"):
        if build.flavor == "alexeyab" and section.float(key, 0):
            build.refuse(key, f"{key} is not supported", f"train without {key}")
    refuse_partial_loading(build, section)


def refuse_partial_loading(build: Builder, section: Section) -> None:
    """dontload, dontloadscales, pjreddie's numload: the file lacks numbers that the network needs."""
    for key in ("dontload", "dontloadscales", "numload"):
        if (key != "numload" or build.flavor == "pjreddie") and section.int(key, 0):
            build.refuse(
                key,
                f"with {key} the weights file does not hold all that the section needs",
                f"finish the training, and remove {key}",
            )


def _weights(build: Builder, section: Section, wanted: ConvolutionWeights) -> ConvolutionWeights:
    """From the file, in its order, or those of the section that share_index names."""
    if build.flavor == "alexeyab" and section.has("share_index"):
        return _shared(build, section, wanted)
    n = wanted.filters
    taken: dict[str, Any] = {"biases": build.take((n,), "biases")}
    if wanted.batch_normalize:
        for what in ("scales", "mean", "variance"):
            taken[what] = build.take((n,), what)
    shape = (n, wanted.channels // wanted.groups, wanted.size, wanted.size)
    flipped = bool(section.int("flipped", 0))
    weights = build.take(shape, "weights", "transposed" if flipped else "plain")
    return wanted._replace(**taken, weights=weights)


def _shared(build: Builder, section: Section, wanted: ConvolutionWeights) -> ConvolutionWeights:
    written = section.int("share_index", 0)
    index = written if written >= 0 else build.index + written
    found = build.convolutions.get(index)
    if found is None:
        raise refusal(
            section,
            "share_index",
            f"share_index names section {index}, expected a [convolutional] before section {build.index}",
            "correct the number",
        )
    for what in ("filters", "channels", "groups", "size", "batch_normalize"):
        mine, theirs = int(getattr(wanted, what)), int(getattr(found, what))
        if mine != theirs:
            raise refusal(
                section,
                "share_index",
                f"shares the weights of section {index}, but has {what} {mine} where that has {theirs}",
                "share with a section of the same form",
            )
    return found


def normalize(
    build: Builder,
    blob: str,
    mean: Blob | None,
    variance: Blob | None,
    scales: Blob | None,
    biases: Blob | None,
    *,
    in_place: bool = True,
    has_bias: bool = True,
) -> str:
    """BatchNorm and Scale; returns the top. All four are (channels,)."""
    eps = _EPS
    if build.bn_form == "pjreddie-cpu":
        # sqrt(variance' + 0) = sqrt(variance) + 1e-6
        eps = 0.0
        variance = None if variance is None else _pjreddie_variance(variance)
    blob = build.add(
        "BatchNorm",
        "bn",
        blob,
        in_place=in_place,
        blobs=[mean, variance, kernels.filled((1,), 1.0)],
        batch_norm_param={"use_global_stats": True, "eps": eps},
    )
    return build.add(
        "Scale",
        "scale",
        blob,
        in_place=True,
        blobs=[scales, biases] if has_bias else [scales],
        scale_param={"bias_term": has_bias},
    )


def _pjreddie_variance(variance: Blob) -> DeferredBlob:
    def compute() -> Array:
        import numpy as np

        deviation = np.sqrt(np.asarray(variance).astype(np.float64)) + _PJREDDIE_CPU_EPS
        return np.square(deviation)

    return DeferredBlob(variance.shape, compute)


def blur(build: Builder, blob: str, antialiasing: int, stride: Pair) -> str:
    """The blur of antialiasing=1 (3x3, zero padding) or 2 (2x2) (AlexeyAB convolutional_layer.c:715)."""
    import numpy as np

    channels = build.shapes[blob][1]
    line = np.array([1, 2, 1] if antialiasing == 1 else [1, 1], np.float64)
    kernel = np.outer(line, line) / line.sum() ** 2
    pad = 1 if antialiasing == 1 else 0
    return build.add(
        "Convolution",
        "blur",
        blob,
        blobs=[kernels.depthwise(channels, kernel)],
        convolution_param=kernels.convolution_param(
            channels, (len(line), len(line)), stride=stride, pad=(pad, pad), group=channels
        ),
    )


def emit_batchnorm(build: Builder, section: Section) -> Output:
    """BatchNorm of the input, without activation.

    AlexeyAB stores biases, scales, mean, variance; pjreddie has no biases here (parser.c:1144).
    """
    refuse_partial_loading(build, section)
    source = build.input()
    n = source.channels
    has_bias = build.flavor == "alexeyab"
    biases = build.take((n,), "biases") if has_bias else None
    scales, mean, variance = (build.take((n,), what) for what in ("scales", "mean", "variance"))
    blob = normalize(
        build, build.picture(source), mean, variance, scales, biases, in_place=False, has_bias=has_bias
    )
    return Output(source.shape, blob)
