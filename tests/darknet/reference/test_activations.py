"""Every activation against its formula for one number at a time: Darknet's in NumPy, and its form in Caffe.

AlexeyAB activations.h and activations.c; hard_mish and the normalizations work on whole pixels there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from darknet_nets import random_net
from numpy.typing import NDArray

from nnie_prep.darknet import convert
from nnie_prep.darknet.activations import ACTIVATIONS
from nnie_prep.darknet.reference.activations import known_activations
from nnie_prep.engines.numpy import forward

FORMULAS: dict[str, Callable[[float], float]] = {
    "linear": lambda x: x,
    "logistic": lambda x: 1 / (1 + math.exp(-x)),
    "loggy": lambda x: 2 / (1 + math.exp(-x)) - 1,
    "relu": lambda x: x if x > 0 else 0,
    "relu6": lambda x: min(max(x, 0), 6),
    "elu": lambda x: x if x >= 0 else math.exp(x) - 1,
    "selu": lambda x: 1.0507 * x if x >= 0 else 1.0507 * 1.6732 * (math.exp(x) - 1),
    "gelu": lambda x: 0.5 * x * (1 + math.tanh(0.797885 * x + 0.035677 * x**3)),
    "relie": lambda x: x if x > 0 else 0.01 * x,
    "ramp": lambda x: x * (x > 0) + 0.1 * x,
    "leaky": lambda x: x if x > 0 else 0.1 * x,
    "revleaky": lambda x: x if x > 0 else 0.1 * x,
    "tanh": lambda x: (math.exp(2 * x) - 1) / (math.exp(2 * x) + 1),
    "plse": lambda x: 0.01 * (x + 4) if x < -4 else 0.01 * (x - 4) + 1 if x > 4 else 0.125 * x + 0.5,
    "stair": lambda x: (
        math.floor(x / 2) if math.floor(x) % 2 == 0 else x - math.floor(x) + math.floor(x / 2)
    ),
    "hardtan": lambda x: -1 if x < -1 else 1 if x > 1 else x,
    "lhtan": lambda x: 0.001 * x if x < 0 else 0.001 * (x - 1) + 1 if x > 1 else x,
    "swish": lambda x: x / (1 + math.exp(-x)),
    "mish": lambda x: x * math.tanh(math.log1p(math.exp(x))),
    "hard_mish": lambda x: x if x > 0 else x * x / 2 + x if x > -2 else 0,
}
# Of all channels of a pixel.
OVER_CHANNELS: dict[str, Callable[[list[float]], list[float]]] = {
    "normalize_channels": lambda x: [max(one, 0) / (1e-4 + sum(max(each, 0) for each in x)) for one in x],
    "normalize_channels_softmax": lambda x: [
        math.exp(one) / (1e-4 + sum(math.exp(each) for each in x)) for one in x
    ],
    "normalize_channels_softmax_maxval": lambda x: [
        math.exp(one - max(x)) / (1e-4 + sum(math.exp(each - max(x)) for each in x)) for one in x
    ],
}

# Both sides of every bend, each in a channel of its own; also so small or so low that 1e-4 is much.
POINTS = np.array(
    [-7.25, -4.5, -4, -3.75, -2.5, -2, -1.75, -1, -0.5, -0.125, 0]
    + [0.0625, 0.5, 1, 1.25, 2, 2.5, 3.5, 4, 4.75, 6, 6.5, 7.75]
)
INPUTS = (POINTS, POINTS * 2.0**-13, POINTS - 16)  # which float32 holds


def stated(name: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
    if name in OVER_CHANNELS:
        return np.array(OVER_CHANNELS[name](x.tolist()))
    return np.array([FORMULAS[name](one) for one in x.tolist()], np.float64)


def test_these_are_all() -> None:
    assert {*FORMULAS, *OVER_CHANNELS} == {*known_activations("convolutional", "alexeyab")}
    assert {*FORMULAS, *OVER_CHANNELS} == {*ACTIVATIONS, "stair"}


@pytest.mark.parametrize("name", [*FORMULAS, *OVER_CHANNELS])
def test_in_numpy(name: str) -> None:
    compute = known_activations("convolutional", "alexeyab")[name]
    for x in INPUTS:
        # float64's rounding, of values that a difference may have made small
        np.testing.assert_allclose(
            compute(x.reshape(-1, 1, 1)).ravel(), stated(name, x), rtol=1e-12, atol=1e-15
        )


@pytest.mark.parametrize("name", [*ACTIVATIONS])
def test_in_caffes_layers(tmp_path: Path, name: str) -> None:
    count = len(POINTS)
    net = random_net(tmp_path, f"[convolutional]\nfilters={count}\nactivation={name}", (count, 1, 1))
    stream = np.concatenate([np.zeros(count), np.eye(count).ravel()]).astype("<f4")  # biases, then weights
    net.weights.write_bytes(net.weights.read_bytes()[:20] + stream.tobytes())
    conversion = convert(net.cfg, net.weights)
    (output,) = conversion.net.outputs()
    for x in INPUTS:
        feeds = {"data": x.reshape(1, -1, 1, 1)}
        found = forward(conversion.net, feeds, dtype=np.float64)[output].ravel()
        # Computed in float64, with the formulas' numbers in float32: 6e-8 of each of a few terms.
        terms = np.abs(x).max()
        np.testing.assert_allclose(found, stated(name, x), rtol=3e-7, atol=3e-7 * min(terms, 1.0))
