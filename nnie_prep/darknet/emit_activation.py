"""Sections that compute on values or on the channels of a pixel, without weights.

[activation], [logistic], [l2norm] and [normalization], Darknet's own local response normalisation.
"""

from __future__ import annotations

from nnie_prep import composites, kernels
from nnie_prep.blob import Array, DeferredBlob
from nnie_prep.darknet.activations import ANYWHERE, activate, read_activation
from nnie_prep.darknet.builder import LARGEST_STEP, Builder, Output, refusal
from nnie_prep.darknet.cfg import Section


def emit_activation(build: Builder, section: Section) -> Output:
    activation = read_activation(build, section, "linear", of=ANYWHERE)
    source = build.input()
    return Output(source.shape, activate(build, activation, source.blob, owned=False))


def emit_logistic(build: Builder, section: Section) -> Output:
    """1 / (1 + e^-x) (pjreddie logistic_layer.c)."""
    source = build.input()
    return Output(source.shape, activate(build, "logistic", source.blob, owned=False))


def emit_l2norm(build: Builder, section: Section) -> Output:
    """x / sqrt(sum of the squares over the channels) (pjreddie blas.c:145 l2normalize_cpu)."""
    source = build.input()
    blob = build.picture(source)
    n = source.channels
    return Output(source.shape, _divided(build, "l2norm", blob, kernels.filled((n, n, 1, 1), 1.0), 0.0, -0.5))


def emit_normalization(build: Builder, section: Section) -> Output:
    """x * (kappa + alpha * sum of some squares) ^ -beta (AlexeyAB normalization_layer.c:66).

    Which squares: `_window`. alpha is not divided by the size, as Caffe's LRN does.
    """
    alpha, beta = section.float("alpha", 0.0001), section.float("beta", 0.75)
    kappa, size = section.float("kappa", 1.0), section.int("size", 5, at_least=1, at_most=LARGEST_STEP)
    source = build.input()
    blob = build.picture(source)
    n = source.channels
    if size // 2 > n:
        raise refusal(
            section,
            "size",
            f"size={size} makes Darknet read beyond the {n} channels of its input",
            "correct it",
        )
    weights = DeferredBlob((n, n, 1, 1), lambda: alpha * _window(n, size).reshape(n, n, 1, 1))
    return Output(source.shape, _divided(build, "lrn", blob, weights, kappa, -beta))


def _window(channels: int, size: int) -> Array:
    """(channels, channels): how often the square of channel c counts at channel k.

    Darknet slides the window by adding channel k + size/2 and taking off channel k - (size-1)/2 - 1. As
    it begins with the channels below size/2, channel size/2 never enters, yet it is taken off.
    """
    import numpy as np

    counts: Array = np.zeros((channels, channels))
    counts[0, : size // 2] = 1
    for k in range(1, channels):
        counts[k] = counts[k - 1]
        leaving, entering = k - (size - 1) // 2 - 1, k + size // 2
        if leaving >= 0:
            counts[k, leaving] -= 1
        if entering < channels:
            counts[k, entering] += 1
    return counts


def _divided(
    build: Builder, name: str, blob: str, weights: DeferredBlob, shift: float, exponent: float
) -> str:
    """x * (shift + weights * x^2) ^ exponent"""
    return composites.scaled_by_squares(build.adder(name), blob, weights, shift, exponent)
