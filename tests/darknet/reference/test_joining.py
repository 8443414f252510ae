"""Routes, shortcuts, gates and normalisations against Darknet's loops written out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from darknet_nets import assert_near, random_net
from hypothesis import given, settings
from hypothesis import strategies as st

drawn = settings(max_examples=60)


def convs(*filters: int) -> str:
    """1x1 convolutions without activation, one after the other."""
    return "".join(f"[conv]\nfilters={count}\nactivation=linear\n" for count in filters)


@pytest.mark.parametrize("flavor", ["alexeyab", "pjreddie"])
@pytest.mark.parametrize(("groups", "group"), [(1, 0), (2, 0), (2, 1), (3, 2)])
def test_route_slices_every_input(tmp_path: Path, flavor: Any, groups: int, group: int) -> None:
    text = convs(6, 12) + f"[route]\nlayers=-1,0,-2\ngroups={groups}\ngroup_id={group}"
    first, second, joined = random_net(tmp_path, text, (3, 4, 5), flavor=flavor).outputs()
    if flavor == "pjreddie":
        groups, group = 1, 0
    parts = [x[len(x) // groups * group :][: len(x) // groups] for x in (second, first, first)]
    assert_near(joined, np.concatenate(parts))


def test_route_of_unlike_sizes_is_flat(tmp_path: Path) -> None:
    text = convs(2) + "[max]\nstride=2\n[route]\nlayers=0,1\n[connected]\noutput=3\nactivation=linear"
    net = random_net(tmp_path, text, (3, 4, 5))
    first, second, joined, connected = net.outputs()
    assert_near(joined, np.concatenate([first.ravel(), second.ravel()]))
    biases, matrix = net.stream[8:11].astype(float), net.stream[11:].astype(float)
    assert_near(connected.ravel(), matrix.reshape(3, -1) @ joined + biases)


def test_shortcut_adds_the_channels_that_both_have(tmp_path: Path) -> None:
    text = convs(7, 3, 5) + "[shortcut]\nfrom=-3,1\nactivation=leaky"
    first, second, third, actual = random_net(tmp_path, text, (3, 4, 5)).outputs()
    expected = third.copy()
    for x in (first, second):
        for channel in range(min(len(x), 5)):
            expected[channel] += x[channel]
    assert_near(actual, np.where(expected > 0, expected, 0.1 * expected))


@pytest.mark.parametrize("kind", ["per_feature", "per_layer", "per_channel"])
@pytest.mark.parametrize("normalization", ["relu", "avg_relu", "softmax"])
def test_weighted_shortcut(tmp_path: Path, kind: str, normalization: str) -> None:
    options = f"weights_type={kind}\nweights_normalization={normalization}\nactivation=swish"
    net = random_net(tmp_path, convs(7, 3, 5) + f"[shortcut]\nfrom=-3,1\n{options}", (2, 3, 4), seed=5)
    first, second, third, actual = net.outputs()
    per_input = 5 if kind == "per_channel" else 1
    weights = net.stream[-3 * per_input :].astype(np.float64)
    expected = np.zeros_like(third)
    for c, y, x in np.ndindex(*third.shape):
        own = [weights[index * per_input + (c if per_input > 1 else 0)] for index in range(3)]
        if normalization == "softmax":
            raised = [np.exp(weight - max(own)) for weight in own]
        else:
            raised = [max(weight, 0.0) for weight in own]
        for share, source in zip(raised, (third, first, second), strict=True):
            if c < len(source):
                expected[c, y, x] += source[c, y, x] * share / (1e-4 + sum(raised))
    assert_near(actual, expected / (1 + np.exp(-expected)))


@drawn
@given(
    stride=st.integers(1, 3),
    upsample=st.integers(1, 2),
    filters=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    size=st.integers(3, 9),
    factors=st.sampled_from([None, (0.5, 2.0), (-1.5, 0.25)]),
)
def test_pjreddies_sampling_shortcut(
    tmp_path: Path,
    stride: int,
    upsample: int,
    filters: tuple[int, int],
    size: int,
    factors: tuple[float, float] | None,
) -> None:
    """Square images, for Darknet asserts that both axes have one ratio."""
    alpha, beta = factors or (1, 1)
    text = convs(filters[0]) + f"[max]\nstride={stride}\n[upsample]\nstride={upsample}\n" + convs(filters[1])
    text += "[shortcut]\nfrom=0\n" + (f"alpha={alpha}\nbeta={beta}\n" if factors else "")
    first, _, _, last, actual = random_net(tmp_path, text, (2, size, size), flavor="pjreddie").outputs()
    (c1, h1, w1), (c2, h2, w2) = first.shape, last.shape
    step, sample = max(w1 // w2, 1), max(w2 // w1, 1)
    expected = last.copy()
    for k, j, i in np.ndindex(min(c1, c2), min(h1, h2), min(w1, w2)):
        here = (k, j * sample, i * sample)
        expected[here] = alpha * expected[here] + beta * first[k, j * step, i * step]
    assert_near(actual, expected)


@pytest.mark.parametrize("by_place", [0, 1])
def test_scale_channels(tmp_path: Path, by_place: int) -> None:
    gate = convs(1) if by_place else "[avgpool]\n" + convs(4)
    text = convs(4) + gate + f"[scale_channels]\nfrom=0\nscale_wh={by_place}\nactivation=tanh"
    outputs = random_net(tmp_path, text, (2, 3, 5)).outputs()
    first, factor, actual = outputs[0], outputs[-2].ravel(), outputs[-1]
    expected = np.empty(60)
    for index, value in enumerate(first.ravel()):
        expected[index] = np.tanh(value * factor[index % 15 if by_place else index // 15])
    assert_near(actual.ravel(), expected)


def test_sam(tmp_path: Path) -> None:
    text = convs(4, 4) + "[sam]\nfrom=-2\nactivation=relu"
    first, second, actual = random_net(tmp_path, text, (2, 3, 5)).outputs()
    expected = [max(a * b, 0.0) for a, b in zip(first.ravel(), second.ravel(), strict=True)]
    assert_near(actual.ravel(), np.array(expected))


def test_implicit_is_what_the_file_holds(tmp_path: Path) -> None:
    net = random_net(tmp_path, convs(2) + "[implicit]\nfilters=5\natoms=3\nmean=1", (2, 3, 5))
    assert_near(net.outputs()[1], net.stream[6:].astype(float).reshape(5, 3, 1))


def test_activation_alone_and_what_keeps_its_input(tmp_path: Path) -> None:
    text = "[activation]\nactivation=relu6\n[dropout]\nprobability=.9\n[silence]\n[activation]"
    net = random_net(tmp_path, text, (4, 5, 6))
    clipped = np.minimum(np.maximum(net.input.astype(float) * 4, 0), 6)
    for output in net.reference.forward(net.input * 4, np.float64):
        assert output is not None
        assert_near(output, clipped)


@drawn
@given(
    size=st.integers(1, 7),
    channels=st.integers(1, 9),
    values=st.tuples(st.floats(0.1, 1), st.floats(0.25, 1), st.floats(1, 3)),
)
def test_normalization(tmp_path: Path, size: int, channels: int, values: tuple[float, float, float]) -> None:
    if size // 2 > channels:
        return
    alpha, beta, kappa = values
    text = f"[lrn]\nsize={size}\nalpha={alpha!r}\nbeta={beta!r}\nkappa={kappa!r}"
    net = random_net(tmp_path, text, (channels, 2, 3))
    x = net.input.astype(np.float64)
    norm = np.full((2, 3), kappa)
    for channel in range(size // 2):
        norm += alpha * x[channel] ** 2
    expected = [x[0] * norm**-beta]
    for k in range(1, channels):
        gone, come = k - (size - 1) // 2 - 1, k + size // 2
        norm = (
            norm
            + (alpha * x[come] ** 2 if come < channels else 0)
            - (alpha * x[gone] ** 2 if gone >= 0 else 0)
        )
        if norm.min() <= 1e-3:
            return  # Darknet's own off-by-one takes more away than it added, and a root of that is nan.
        expected.append(x[k] * norm**-beta)
    assert_near(net.outputs()[0], np.stack(expected))
