"""Darknet's activation functions (activations.h, activations.c), on arrays of (C, H, W) or (n,)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nnie_prep.blob import Array
from nnie_prep.darknet.cfg import Section, shown
from nnie_prep.darknet.weights import Flavor


def logistic(x: Array) -> Array:
    """1 / (1 + e^-x). e^-x may overflow to infinity, which gives the right limit."""
    result: Array = 1 / (1 + np.exp(-x))
    return result


def _softplus(x: Array) -> Array:
    """ln(1 + e^x) with Darknet's thresholds of 20 (activations.c softplus)."""
    middle = np.log1p(np.exp(np.clip(x, -20, 20)))
    return np.where(x > 20, x, np.where(x < -20, np.exp(np.minimum(x, 0)), middle))


def _plse(x: Array) -> Array:
    return np.where(x < -4, 0.01 * (x + 4), np.where(x > 4, 0.01 * (x - 4) + 1, 0.125 * x + 0.5))


def _stair(x: Array) -> Array:
    """Rises by one over every odd unit interval and stays level over every even one."""
    floor = np.floor(x)
    return np.where(np.mod(floor, 2) == 0, np.floor(x / 2), (x - floor) + np.floor(x / 2))


def _lhtan(x: Array) -> Array:
    return np.where(x < 0, 0.001 * x, np.where(x > 1, 0.001 * (x - 1) + 1, x))


def _hard_mish(x: Array) -> Array:
    return np.where(x > 0, x, np.where(x > -2, x * x / 2 + x, 0))


def _normalize_channels(x: Array) -> Array:
    positive = np.maximum(x, 0)
    result: Array = positive / (1e-4 + positive.sum(axis=0))
    return result


def _normalize_channels_softmax(x: Array) -> Array:
    powers = np.exp(x)
    result: Array = powers / (1e-4 + powers.sum(axis=0))
    return result


def _normalize_channels_softmax_maxval(x: Array) -> Array:
    return _normalize_channels_softmax(x - x.max(axis=0))


# activate() knows these, so they work in every section of either tree.
_EVERYWHERE: dict[str, Callable[[Array], Array]] = {
    "linear": lambda x: x,
    "logistic": logistic,
    "loggy": lambda x: 2 / (1 + np.exp(-x)) - 1,
    "relu": lambda x: np.maximum(x, 0),
    "elu": lambda x: np.where(x >= 0, x, np.expm1(np.minimum(x, 0))),
    "selu": lambda x: 1.0507 * np.where(x >= 0, x, 1.6732 * np.expm1(np.minimum(x, 0))),
    "relie": lambda x: np.where(x > 0, x, 0.01 * x),
    "ramp": lambda x: np.maximum(x, 0) + 0.1 * x,
    "leaky": lambda x: np.where(x > 0, x, 0.1 * x),
    "tanh": np.tanh,
    "plse": _plse,
    "stair": _stair,
    "hardtan": lambda x: np.clip(x, -1, 1),
    "lhtan": _lhtan,
}
# AlexeyAB alone. Its CPU code forgets relu6 (activations.c:77) and outputs 0; its GPU code has it.
_ALEXEYAB: dict[str, Callable[[Array], Array]] = {
    "revleaky": lambda x: np.where(x > 0, x, 0.1 * x),
    "relu6": lambda x: np.clip(x, 0, 6),
    "gelu": lambda x: 0.5 * x * (1 + np.tanh(0.797885 * x + 0.035677 * x * x * x)),
}
# AlexeyAB, and only where a section calls them by itself: elsewhere its CPU code outputs 0.
_SHORTCUT: dict[str, Callable[[Array], Array]] = {
    "swish": lambda x: x * logistic(x),
    "mish": lambda x: x * np.tanh(_softplus(x)),
}
_CONVOLUTIONAL: dict[str, Callable[[Array], Array]] = {
    "hard_mish": _hard_mish,
    "normalize_channels": _normalize_channels,
    "normalize_channels_softmax": _normalize_channels_softmax,
    "normalize_channels_softmax_maxval": _normalize_channels_softmax_maxval,
}
_DEFAULTS = {
    "convolutional": "logistic",
    "connected": "logistic",
    "local": "logistic",
    "shortcut": "linear",
    "activation": "linear",
    "scale_channels": "linear",
    "sam": "linear",
}


def known_activations(section_type: str, flavor: Flavor) -> dict[str, Callable[[Array], Array]]:
    """Those that Darknet computes in sections of this type."""
    if flavor == "pjreddie":
        return _EVERYWHERE
    known = _EVERYWHERE | _ALEXEYAB
    if section_type in ("convolutional", "shortcut"):
        known = known | _SHORTCUT
    if section_type == "convolutional":
        known = known | _CONVOLUTIONAL
    return known


def activation_fault(section: Section, flavor: Flavor) -> str:
    """ "" or what is wrong with the section's activation."""
    if section.type not in _DEFAULTS:
        return ""
    name = section.string("activation", _DEFAULTS[section.type])
    if name in known_activations(section.type, flavor):
        return ""
    if name in known_activations("convolutional", "alexeyab"):
        return f"activation={name}, which {flavor}'s Darknet does not compute in [{section.header}]"
    return f"unknown activation={shown(name)}"


def activation(section: Section, flavor: Flavor) -> Callable[[Array], Array]:
    """The section's activation; `activation_fault` must have been asked before."""
    return known_activations(section.type, flavor)[section.string("activation", _DEFAULTS[section.type])]
