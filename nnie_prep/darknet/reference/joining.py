"""[route], [shortcut], [scale_channels], [sam], [implicit] and the sections that keep their input's shape."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nnie_prep.blob import Array
from nnie_prep.darknet.cfg import Section, shown
from nnie_prep.darknet.reference.activations import activation, logistic
from nnie_prep.darknet.reference.plan import Plan, Shape, Step, inconsistent, quotient, values
from nnie_prep.errors import UserError

_NORMALIZATIONS = {"relu": "relu", "avg_relu": "relu", "softmax": "softmax"}
_WEIGHTS_TYPES = {"none": "none", "per_feature": "feature", "per_layer": "feature", "per_channel": "channel"}


def route(section: Section, plan: Plan) -> Step:
    """Concatenation along the channels; groups slices every input before (route_layer.c:92)."""
    sources = plan.sources(section, "layers")
    shapes = [plan.shape(index, section) for index in sources]
    modern = plan.flavor == "alexeyab"
    groups = section.int("groups", 1, at_least=1) if modern else 1
    group = section.int("group_id", 0, at_least=0, at_most=groups - 1) if modern else 0
    if any(len(shape) != 3 or shape[1:] != shapes[0][1:] for shape in shapes):
        # Darknet copies the numbers all the same, but the output is no image to the sections behind it.
        if groups > 1:
            raise inconsistent(section, "groups of inputs that differ in height and width")

        def flat(inputs: list[Array], dtype: Any) -> Any:
            return np.concatenate([x.reshape(-1) for x in inputs])

        return plan.step(section, (sum(math.prod(shape) for shape in shapes),), sources, flat)
    if any(shape[0] % groups for shape in shapes):
        raise inconsistent(
            section, f"groups={groups} does not divide {[shape[0] for shape in shapes]} channels"
        )

    def compute(inputs: list[Array], dtype: Any) -> Any:
        parts = [x[len(x) // groups * group : len(x) // groups * (group + 1)] for x in inputs]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    channels = sum(shape[0] // groups for shape in shapes)
    return plan.step(section, (channels, *shapes[0][1:]), sources, compute)


def shortcut_fault(section: Section) -> str:
    """ "" or what is wrong with the options of AlexeyAB's weighted shortcut (parser.c parse_shortcut)."""
    weights_type = section.string("weights_type", "none")
    normalization = section.string("weights_normalization", "none")
    if weights_type not in _WEIGHTS_TYPES:
        return f"unknown weights_type={shown(weights_type)}"
    if weights_type != "none" and normalization not in _NORMALIZATIONS:
        return f"weights_type={weights_type} with weights_normalization={shown(normalization)}"
    return ""


def shortcut(section: Section, plan: Plan) -> Step:
    """The sum of the previous layer and others, in the channels that both have; then the activation."""
    if plan.flavor == "pjreddie":
        return _sampling_shortcut(section, plan)
    shape = plan.image(plan.previous, section)
    sources = plan.sources(section, "from")
    for index in sources:
        other = plan.image(index, section)
        if other[1:] != shape[1:]:
            raise UserError(
                f"{section} adds layer {index} of {other[1]} x {other[2]} to {shape[1]} x {shape[2]}, which "
                "AlexeyAB's Darknet cannot",
                section.where("from"),
                "convert with --flavor pjreddie if the network was trained with that",
            )
    activate = activation(section, plan.flavor)
    kind = _WEIGHTS_TYPES[section.string("weights_type", "none")]
    if kind == "none":

        def add(inputs: list[Array], dtype: Any) -> Any:
            total = inputs[0].copy()
            for x in inputs[1:]:
                both = min(len(x), len(total))
                total[:both] += x[:both]
            return activate(total)

        return plan.step(section, shape, [plan.previous, *sources], add)
    per_input = shape[0] if kind == "channel" else 1
    weights = plan.take((len(sources) + 1, per_input), "weights", section)
    normalization = _NORMALIZATIONS[section.string("weights_normalization", "none")]

    def add_weighted(inputs: list[Array], dtype: Any) -> Any:
        factors = _normalized(values(weights, dtype), normalization)[:, :, None, None]
        total = inputs[0] * factors[0]
        for x, factor in zip(inputs[1:], factors[1:], strict=True):
            both = min(len(x), len(total))
            total[:both] += x[:both] * factor[:both]
        return activate(total)

    return plan.step(section, shape, [plan.previous, *sources], add_weighted)


def _normalized(weights: Array, normalization: str) -> Array:
    """(inputs, channels or 1) so that they sum to nearly 1 over the inputs (blas.c:86)."""
    positive = np.maximum(weights, 0) if normalization == "relu" else np.exp(weights - weights.max(axis=0))
    normalized: Array = positive / (1e-4 + positive.sum(axis=0))
    return normalized


def _sampling_shortcut(section: Section, plan: Plan) -> Step:
    """pjreddie's, which samples the other layer (shortcut_layer.c, blas.c shortcut_cpu).

    out[k, j*sample, i*sample] = alpha * out + beta * other[k, j*stride, i*stride], over the smallest
    channels, heights and widths; the rest of the previous layer stays as it is.
    """
    shape = plan.image(plan.previous, section)
    sources = plan.sources(section, "from")
    if len(sources) > 1:
        raise UserError(
            f"{section} names {len(sources)} layers; pjreddie's Darknet reads only the first",
            section.where("from"),
            "name one layer, or convert with --flavor alexeyab",
        )
    other = plan.image(sources[0], section)
    alpha, beta = section.float("alpha", 1.0), section.float("beta", 1.0)
    strides = [quotient(theirs, ours) for theirs, ours in zip(other[1:], shape[1:], strict=True)]
    samples = [quotient(ours, theirs) for theirs, ours in zip(other[1:], shape[1:], strict=True)]
    if strides[0] != strides[1] or samples[0] != samples[1]:
        raise inconsistent(section, f"{other[1:]} and {shape[1:]} differ by unlike factors")
    stride, sample = max(strides[0], 1), max(samples[0], 1)
    channels, rows, columns = (min(theirs, ours) for theirs, ours in zip(other, shape, strict=True))
    activate = activation(section, plan.flavor)

    def compute(inputs: list[Array], dtype: Any) -> Any:
        out = inputs[0].copy()
        into = out[:channels, : (rows - 1) * sample + 1 : sample, : (columns - 1) * sample + 1 : sample]
        what = inputs[1][:channels, : (rows - 1) * stride + 1 : stride, : (columns - 1) * stride + 1 : stride]
        into[...] = dtype(alpha) * into + dtype(beta) * what
        return activate(out)

    return plan.step(section, shape, [plan.previous, sources[0]], compute)


def scale_channels(section: Section, plan: Plan) -> Step:
    """Another layer times this one's input, which has one number a channel or, with scale_wh, a place."""
    gate = plan.image(plan.previous, section)
    shape, source = _single_source(section, plan)
    by_place = bool(section.int("scale_wh", 0))
    wanted = (1, *shape[1:]) if by_place else (shape[0], 1, 1)
    if gate != wanted:
        raise inconsistent(section, f"expected a gate of {wanted} for {shape}, found {gate}")
    activate = activation(section, plan.flavor)

    def compute(inputs: list[Array], dtype: Any) -> Any:
        return activate(inputs[0] * inputs[1])

    return plan.step(section, shape, [plan.previous, source], compute)


def sam(section: Section, plan: Plan) -> Step:
    """The product of the previous layer and another of the same shape."""
    shape, source = _single_source(section, plan)
    if plan.image(plan.previous, section) != shape:
        raise inconsistent(section, f"{plan.image(plan.previous, section)} times {shape}")
    activate = activation(section, plan.flavor)

    def compute(inputs: list[Array], dtype: Any) -> Any:
        return activate(inputs[0] * inputs[1])

    return plan.step(section, shape, [plan.previous, source], compute)


def _single_source(section: Section, plan: Plan) -> tuple[tuple[int, int, int], int]:
    sources = plan.sources(section, "from")
    if len(sources) > 1:
        raise UserError(
            f"{section} names {len(sources)} layers; Darknet reads only the first",
            section.where("from"),
            "name one layer",
        )
    return plan.image(sources[0], section), sources[0]


def implicit(section: Section, plan: Plan) -> Step:
    """Stored numbers, whatever the input (representation_layer.c)."""
    shape = (section.int("filters", 128, at_least=1), section.int("atoms", 1, at_least=1), 1)
    weights = plan.take(shape, "weights", section)
    return plan.step(section, shape, [], lambda inputs, dtype: values(weights, dtype))


def activation_layer(section: Section, plan: Plan) -> Step:
    """The activation alone."""
    return _alike(section, plan, activation(section, plan.flavor))


def logistic_layer(section: Section, plan: Plan) -> Step:
    """pjreddie's [logistic], whose loss only training has."""
    return _alike(section, plan, logistic)


def l2norm(section: Section, plan: Plan) -> Step:
    """pjreddie's [l2norm]: each place divided by the length of its channels' vector (blas.c:125)."""
    plan.image(plan.previous, section)
    return _alike(section, plan, lambda x: x / np.sqrt((x * x).sum(axis=0)))


def normalization(section: Section, plan: Plan) -> Step:
    """Darknet's own local response normalisation (normalization_layer.c:60).

    n_0 = kappa + alpha * sum of x_c^2 for c < size/2; n_k = n_(k-1) - alpha * x^2 of channel
    k - (size-1)/2 - 1 + alpha * x^2 of channel k + size/2; y = x * n^-beta. Channel size/2 is never added
    and yet subtracted later, and alpha is not divided by size.
    """
    channels = plan.image(plan.previous, section)[0]
    size = section.int("size", 5, at_least=1)
    alpha, beta = section.float("alpha", 1e-4), section.float("beta", 0.75)
    kappa = section.float("kappa", 1.0)
    if size // 2 > channels:
        raise inconsistent(section, f"size={size} reaches beyond {channels} channels")

    def compute(x: Array) -> Any:
        squares = x * x * x.dtype.type(alpha)
        norms = np.empty_like(x)
        norms[0] = squares[: size // 2].sum(axis=0) + x.dtype.type(kappa)
        for channel in range(1, channels):
            norms[channel] = norms[channel - 1]
            if channel - (size - 1) // 2 - 1 >= 0:
                norms[channel] -= squares[channel - (size - 1) // 2 - 1]
            if channel + size // 2 < channels:
                norms[channel] += squares[channel + size // 2]
        return x * norms ** x.dtype.type(-beta)

    return _alike(section, plan, compute)


def identity(section: Section, plan: Plan) -> Step:
    """[dropout] and [empty] at inference: their input's own buffer (parser.c:1585)."""
    return _alike(section, plan, lambda x: x)


def _alike(section: Section, plan: Plan, function: Callable[[Array], Any]) -> Step:
    shape: Shape = plan.shape(plan.previous, section)
    return plan.step(section, shape, [plan.previous], lambda inputs, dtype: function(inputs[0]))


BUILDERS: dict[str, Callable[[Section, Plan], Step]] = {
    "route": route,
    "shortcut": shortcut,
    "scale_channels": scale_channels,
    "sam": sam,
    "implicit": implicit,
    "activation": activation_layer,
    "logistic": logistic_layer,
    "l2norm": l2norm,
    "normalization": normalization,
    "dropout": identity,
    "empty": identity,
}
