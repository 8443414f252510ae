"""Activations in layers that stock Caffe has. Formulas: AlexeyAB activations.h and activations.c.

Each function appends layers to one blob and returns the blob that holds the result. Where `owned` is
true the blob is nobody else's and may be overwritten. The layer with the result is `layerN-act`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from nnie_prep import composites, kernels
from nnie_prep.composites import Step, branch, power, relu, times, weighted_sum
from nnie_prep.darknet.builder import Builder
from nnie_prep.darknet.cfg import Section, shown
from nnie_prep.names import meant

Activate = Callable[[Builder, str, bool], str]

# normalize_channels and its kin add it to the sum of the channels (activations.c:131)
_NORMALIZE_EPS = 0.0001


def read_activation(build: Builder, section: Section, default: str, *, of: frozenset[str]) -> str:
    """The section's activation; what is not among `of` is refused and replaced by linear."""
    name = section.string("activation", default)
    if build.flavor == "pjreddie" and name in ALEXEYAB_ONLY:
        build.refuse(
            "activation",
            f"pjreddie's Darknet does not know activation={name} and computes relu in its place",
            "convert with the flavor alexeyab, or write relu",
        )
    elif name in of:
        if name == "mish" and build.approximates("mish-as-leaky", "leaky for mish", activation="leaky"):
            return "leaky"
        return name
    elif name == "stair":
        build.refuse("activation", "activation=stair has no form in Caffe", "train with another activation")
    elif name in ACTIVATIONS:
        build.refuse(
            "activation",
            f"Darknet computes zeros for activation={name} in [{section.header}]; it knows it only in "
            + ("[convolutional] and [shortcut]" if name in SHORTCUT_ONLY else "[convolutional]"),
            "use an activation that Darknet computes there",
        )
    else:
        build.refuse(
            "activation",
            f"activation={shown(name)} is not known; Darknet computes relu in its place",
            meant(name, of) or f"write relu if that is meant, or one of {', '.join(sorted(of))}",
        )
    return "linear"


def activate(build: Builder, name: str, blob: str, *, owned: bool) -> str:
    """Appends the activation; returns the blob of the result."""
    before = len(build.net.layers)
    result = ACTIVATIONS[name](build, blob, owned)
    if len(build.net.layers) > before + 1:
        build.composed[name] += 1
    return result


# ---- one after the other ---------------------------------------------------------------------


def _chain(build: Builder, blob: str, owned: bool, *, steps: tuple[Step, ...]) -> str:
    for number, (kind, parameters) in enumerate(steps, 1):
        suffix = "act" if number == 1 else f"act-{kind.lower()}"
        blob = build.add(kind, suffix, blob, in_place=owned, **parameters)
        owned = True
    return blob


def _steps(*steps: Step) -> Activate:
    return partial(_chain, steps=steps)


# ---- sums and products of several branches -----------------------------------------------------


def _swish(build: Builder, blob: str, owned: bool) -> str:
    return composites.swish(build.adder("act"), blob)


def _mish(build: Builder, blob: str, owned: bool) -> str:
    return composites.mish(build.adder("act"), blob)


def _relu6(build: Builder, blob: str, owned: bool) -> str:
    """AlexeyAB's CPU code lacks the case and computes 0 (activations.c:77); its GPU code has it."""
    return composites.clip(build.adder("act"), blob, 0.0, 6.0)


def _gelu(build: Builder, blob: str, owned: bool) -> str:
    """0.5 x (1 + tanh(0.797885 x + 0.035677 x^3))"""
    cube = branch(build.adder("act"), "cube", blob, power(power=3.0))
    inner = weighted_sum(build.adder("act"), "inner", [blob, cube], [0.797885, 0.035677])
    build.add("TanH", "act-tanh", inner, in_place=True)
    build.add("Power", "act-half", inner, in_place=True, **power(0.5, 0.5)[1])
    return times(build.adder("act"), blob, inner)


def _plse(build: Builder, blob: str, owned: bool) -> str:
    """x < -4: 0.01 (x + 4); x > 4: 0.01 (x - 4) + 1; else 0.125 x + 0.5, as a sum of two bent lines."""
    low = branch(build.adder("act"), "low", blob, power(shift=4.0), relu(0.08))
    high = branch(build.adder("act"), "high", blob, power(shift=-4.0), relu())
    return weighted_sum(build.adder("act"), "", [low, high], [0.125, -0.115])


def _hardtan(build: Builder, blob: str, owned: bool) -> str:
    """min(max(x, -1), 1) = relu(x + 1) - relu(x - 1) - 1"""
    low = branch(build.adder("act"), "low", blob, power(shift=1.0), relu())
    high = branch(build.adder("act"), "high", blob, power(shift=-1.0), relu())
    result = weighted_sum(build.adder("act"), "", [low, high], [1.0, -1.0])
    return build.add("Power", "act-power", result, in_place=True, **power(shift=-1.0)[1])


def _lhtan(build: Builder, blob: str, owned: bool) -> str:
    """x < 0: 0.001 x; x > 1: 0.001 (x - 1) + 1; else x"""
    low = branch(build.adder("act"), "low", blob, relu(0.001))
    high = branch(build.adder("act"), "high", blob, power(shift=-1.0), relu())
    return weighted_sum(build.adder("act"), "", [low, high], [1.0, -0.999])


def _hard_mish(build: Builder, blob: str, owned: bool) -> str:
    """x > 0: x; -2 < x <= 0: x^2 / 2 + x; else 0: x times half of min(max(x + 2, 0), 2)."""
    low = branch(build.adder("act"), "low", blob, power(shift=2.0), relu())
    high = branch(build.adder("act"), "high", blob, relu())
    return times(build.adder("act"), blob, weighted_sum(build.adder("act"), "gate", [low, high], [0.5, -0.5]))


# ---- over all channels of a pixel --------------------------------------------------------------


def _share(build: Builder, positive: str) -> str:
    """x / (1e-4 + sum of the channels)"""
    channels = build.shapes[positive][1]
    divisor = build.add(
        "Convolution",
        "act-sum",
        positive,
        blobs=[kernels.filled((channels, channels, 1, 1), 1.0), kernels.filled((channels,), _NORMALIZE_EPS)],
        convolution_param={"num_output": channels, "kernel_size": [1]},
    )
    build.add("Power", "act-inverse", divisor, in_place=True, **power(power=-1.0)[1])
    return times(build.adder("act"), positive, divisor)


def _normalize_channels(build: Builder, blob: str, owned: bool) -> str:
    return _share(build, build.add("ReLU", "act-relu", blob, in_place=owned))


def _normalize_softmax(build: Builder, blob: str, owned: bool) -> str:
    return _share(build, build.add("Exp", "act-exp", blob, in_place=owned))


def _normalize_softmax_maxval(build: Builder, blob: str, owned: bool) -> str:
    """e^(x - m) / (1e-4 + S), where m is the largest x and S the sum of the e^(x - m).

    With p = softmax(x) = e^(x - m) / S, whose largest value is 1 / S, this is p / (1 + 1e-4 max p).
    The maximum over the channels is that of a pooling over a (channels, pixels) picture.
    """
    _, channels, height, width = build.shapes[blob]
    softmax = build.add("Softmax", "act-softmax", blob, in_place=owned, softmax_param={"axis": 1})
    flat = build.add(
        "Reshape", "act-flat", softmax, reshape_param={"shape": {"dim": [0, 1, channels, height * width]}}
    )
    largest = build.add(
        "Pooling",
        "act-max",
        flat,
        pooling_param={"pool": "MAX", "kernel_h": channels, "kernel_w": 1},
    )
    largest = build.add(
        "Reshape", "act-unflat", largest, reshape_param={"shape": {"dim": [0, 1, height, width]}}
    )
    divisor = build.add(
        "Convolution",
        "act-spread",
        largest,
        blobs=[kernels.filled((channels, 1, 1, 1), _NORMALIZE_EPS), kernels.filled((channels,), 1.0)],
        convolution_param={"num_output": channels, "kernel_size": [1]},
    )
    build.add("Power", "act-inverse", divisor, in_place=True, **power(power=-1.0)[1])
    return times(build.adder("act"), softmax, divisor)


def _linear(build: Builder, blob: str, owned: bool) -> str:
    return blob


_SELU_ALPHA, _SELU_SCALE = 1.6732, 1.0507

ACTIVATIONS: dict[str, Activate] = {
    "linear": _linear,
    "logistic": _steps(("Sigmoid", {})),
    "loggy": _steps(("Sigmoid", {}), power(2.0, -1.0)),
    "relu": _steps(relu()),
    "relu6": _relu6,
    "elu": _steps(("ELU", {})),
    "selu": _steps(("ELU", {"elu_param": {"alpha": _SELU_ALPHA}}), power(_SELU_SCALE)),
    "gelu": _gelu,
    "relie": _steps(relu(0.01)),
    # max(x, 0) + 0.1 x, that is 1.1 x or 0.1 x
    "ramp": _steps(relu(0.1 / 1.1), power(1.1)),
    "leaky": _steps(relu(0.1)),
    "revleaky": _steps(relu(0.1)),
    "tanh": _steps(("TanH", {})),
    "plse": _plse,
    "hardtan": _hardtan,
    "lhtan": _lhtan,
    "swish": _swish,
    "mish": _mish,
    "hard_mish": _hard_mish,
    "normalize_channels": _normalize_channels,
    "normalize_channels_softmax": _normalize_softmax,
    "normalize_channels_softmax_maxval": _normalize_softmax_maxval,
}

# Which sections Darknet computes them in (AlexeyAB convolutional_layer.c:1281, shortcut_layer.c:265).
CONVOLUTION_ONLY = frozenset(
    ["hard_mish", "normalize_channels", "normalize_channels_softmax", "normalize_channels_softmax_maxval"]
)
SHORTCUT_ONLY = frozenset(("swish", "mish"))
ANYWHERE = frozenset(ACTIVATIONS) - CONVOLUTION_ONLY - SHORTCUT_ONLY
IN_SHORTCUT = ANYWHERE | SHORTCUT_ONLY
IN_CONVOLUTION = frozenset(ACTIVATIONS)
ALEXEYAB_ONLY = CONVOLUTION_ONLY | SHORTCUT_ONLY | {"relu6", "gelu", "revleaky"}
