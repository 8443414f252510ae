"""The activations of the heads, entry by entry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from darknet_nets import assert_near, random_net
from numpy.typing import NDArray

Array = NDArray[Any]


def logistic(x: Any) -> Any:
    return 1 / (1 + np.exp(-np.asarray(x, dtype=float)))


def softmaxed(x: Any, temperature: float = 1) -> Any:
    powers = [np.exp((value - max(x)) / temperature) for value in x]
    return [power / sum(powers) for power in powers]


@pytest.mark.parametrize("flavor", ["alexeyab", "pjreddie"])
@pytest.mark.parametrize(("new_coords", "stretch"), [(0, 1.0), (0, 1.05), (1, 2.0)])
def test_yolo(tmp_path: Path, flavor: Any, new_coords: int, stretch: float) -> None:
    text = f"[yolo]\nclasses=2\nnum=6\nmask=3,5\nscale_x_y={stretch}\nnew_coords={new_coords}"
    net = random_net(tmp_path, text, (14, 3, 4), flavor=flavor)
    if flavor == "pjreddie":
        new_coords, stretch = 0, 1.0
    expected = net.input.astype(float)
    for channel in range(14):
        entry = channel % 7
        if entry not in (2, 3) and not new_coords:
            expected[channel] = logistic(expected[channel])
        if entry < 2:
            expected[channel] = expected[channel] * stretch - 0.5 * (stretch - 1)
    assert_near(net.outputs()[0], expected)


def test_yolo_without_a_mask_has_all_anchors(tmp_path: Path) -> None:
    assert random_net(tmp_path, "[yolo]\nclasses=1\nnum=3", (18, 2, 2)).reference.shapes == [(18, 2, 2)]


def test_gaussian_yolo(tmp_path: Path) -> None:
    text = "[Gaussian_yolo]\nclasses=3\nnum=9\nmask=0,4\nscale_x_y=1.2"
    net = random_net(tmp_path, text, (24, 3, 4))
    expected = net.input.astype(float)
    for channel in range(24):
        entry = channel % 12
        if entry not in (4, 6):  # the means of width and height
            expected[channel] = logistic(expected[channel])
        if entry in (0, 2):  # the means of x and y
            expected[channel] = expected[channel] * 1.2 - 0.1
    assert_near(net.outputs()[0], expected)


@pytest.mark.parametrize("by_softmax", [0, 1])
def test_region_of_alexeyab(tmp_path: Path, by_softmax: int) -> None:
    net = random_net(tmp_path, f"[region]\nclasses=3\nnum=2\nsoftmax={by_softmax}", (16, 2, 3))
    expected = []
    for y, x, anchor in np.ndindex(2, 3, 2):
        entries = net.input[anchor * 8 : anchor * 8 + 8, y, x].astype(float).tolist()
        classes = softmaxed(entries[5:]) if by_softmax else entries[5:]
        expected += [*entries[:4], float(logistic(entries[4])), *classes]
    assert_near(net.outputs()[0], np.array(expected))


@pytest.mark.parametrize("by_softmax", [0, 1])
@pytest.mark.parametrize("background", [0, 1])
@pytest.mark.parametrize("coords", [4, 5])
def test_region_of_pjreddie(tmp_path: Path, by_softmax: int, background: int, coords: int) -> None:
    options = f"classes=3\nnum=2\ncoords={coords}\nsoftmax={by_softmax}\nbackground={background}"
    entries = coords + 4
    net = random_net(tmp_path, f"[region]\n{options}", (2 * entries, 2, 3), flavor="pjreddie")
    expected = net.input.astype(float)
    for anchor, y, x in np.ndindex(2, 2, 3):
        box = expected[anchor * entries : (anchor + 1) * entries, y, x]
        raw = box.copy()
        box[:2] = logistic(raw[:2])
        if not background:
            box[coords] = logistic(raw[coords])
        if by_softmax:
            first = coords + (not background)
            box[first:] = softmaxed(raw[first:])
        else:
            box[coords + 1 :] = logistic(raw[coords + 1 :])
    assert_near(net.outputs()[0], expected)


@pytest.mark.parametrize("by_softmax", [0, 1])
def test_detection(tmp_path: Path, by_softmax: int) -> None:
    options = f"classes=3\ncoords=4\nside=2\nnum=2\nsoftmax={by_softmax}"
    net = random_net(tmp_path, f"[detection]\n{options}", (13, 2, 2))
    expected = net.input.ravel().astype(float)
    if by_softmax:
        for place in range(4):
            expected[place * 3 : place * 3 + 3] = softmaxed(expected[place * 3 : place * 3 + 3])
    assert_near(net.outputs()[0], expected)


@pytest.mark.parametrize(("groups", "temperature"), [(1, 1), (4, 0.5), (12, 3)])
def test_softmax(tmp_path: Path, groups: int, temperature: float) -> None:
    net = random_net(tmp_path, f"[softmax]\ngroups={groups}\ntemperature={temperature}", (3, 4, 2))
    runs = net.input.astype(float).reshape(groups, -1)
    expected = np.concatenate([softmaxed(run, temperature) for run in runs])
    assert_near(net.outputs()[0], expected)


def test_what_has_no_output(tmp_path: Path) -> None:
    text = "[conv]\nfilters=8\n[route]\nlayers=0\n[region]\nclasses=3\ntree=a.tree\n[route]\nlayers=0\n"
    net = random_net(tmp_path, text + "[contrastive]\n[route]\nlayers=0\n[cost]", (3, 4, 2))
    outputs = net.reference.forward(net.input)
    assert [output is None for output in outputs] == [False, False, True, False, True, False, True]
    assert net.reference.shapes[2::2] == [(), (), ()]
