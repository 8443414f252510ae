"""fold_input: goldens, what raw pictures become, and the arithmetic against a statement of it.

A golden says in a line `# fold: ..` what is asked for.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from contract import TOLERANCE, content, error
from golden import FOLDER, read, written
from hypothesis import given, settings
from hypothesis import strategies as st
from in_caffe import in_caffe
from strategies import Drawn

from nnie_prep.blob_map import Note
from nnie_prep.engines.numpy import forward
from nnie_prep.net import Layer, Net, check_wiring
from nnie_prep.nnie_caffe_pb2 import LayerParameter
from nnie_prep.normalization import Normalization, asked, folded_into
from nnie_prep.passes.fold_input import fold_input, input_readers

CASES = sorted((FOLDER / "fold_input").glob("*.prototxt"))


def folded(path: Path) -> tuple[Drawn, Net, Normalization, list[Note], str]:
    """The case, the net after, what was asked for, what was said, and what should be."""
    case = read(path)
    spec = re.search("^# fold: (.*)", path.read_text(), re.MULTILINE)
    assert spec
    after = case.drawn.net.copy()
    normalization = asked(spec[1], after)
    return case.drawn, after, normalization, fold_input(after, normalization), case.expected


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    drawn, after, normalization, notes, expected = folded(path)
    found = written(after, notes)
    assert found == expected, f"{path} says\n{expected}\nand it became\n{found}"
    check_wiring(after)
    if not all(note.changed for note in notes):
        assert not any(note.changed for note in notes)
        assert content(after) == content(drawn.net)
        return
    assert folded_into(after) == normalization
    check_values(drawn, after, normalization, border=any("inexact" in note.text for note in notes))


def check_values(drawn: Drawn, after: Net, normalization: Normalization, border: bool = False) -> None:
    """Raw pictures in the result make what normalized ones made in the source, border or no border."""
    raw = np.random.default_rng(3).uniform(0, 255, drawn.feeds[normalization.blob].shape)
    told = {name: value for name, value in drawn.feeds.items() if name != normalization.blob}
    factors = normalization.factors().over(raw.shape[1])
    x = raw[:, ::-1] if normalization.swaps else raw  # stated again, in float64
    x = np.stack([x[:, c] * factors.scale[c] + factors.shift[c] for c in range(x.shape[1])], axis=1)
    old = forward(drawn.net, told | {normalization.blob: x}, dtype=np.float64)
    new = forward(after, told | {normalization.blob: raw}, dtype=np.float64)
    kept_input = normalization.blob not in after.last_writers()
    names = [name for name in old if name != normalization.blob or not kept_input]
    names = [name for name in names if name not in after.inputs()] or names
    assert names
    for name in names:
        a, b = old[name], new[name]
        assert (error(a, b) > 1e-3) == border, name
        if border:
            a, b = a[:, :, 1:-1, 1:-1], b[:, :, 1:-1, 1:-1]
        assert error(a, b) < TOLERANCE, name


@pytest.mark.caffe
@pytest.mark.parametrize("case", ["all_readers", "size_alone"])
def test_in_caffe(case: str) -> None:
    drawn, after, normalization, _, _ = folded(FOLDER / "fold_input" / f"{case}.prototxt")
    raw = np.random.default_rng(4).uniform(0, 255, drawn.feeds["data"].shape)
    fed = raw[:, ::-1] * 0.5 + normalization.factors().over(3).shift.reshape(3, 1, 1)  # RGB of BGR
    old = in_caffe(drawn.net, {"data": fed.astype(np.float32)})
    new = in_caffe(after, {"data": raw.astype(np.float32)})
    for name in old.keys() - {"data"}:
        assert error(old[name].astype(np.float64), new[name].astype(np.float64)) < 1e-5, name


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    scale=st.sampled_from([(1 / 255,), (0.017,), (-2.0, 0.5, 0.1)]),
    mean=st.sampled_from([(0.0,), (127.5,), (103.94, 116.78, 123.68)]),
    orders=st.sampled_from([("", ""), ("RGB", "RGB"), ("BGR", "RGB"), ("RGB", "BGR")]),
)
def test_random_readers(
    seed: int, scale: tuple[float, ...], mean: tuple[float, ...], orders: tuple[str, str]
) -> None:
    """Several readers of one input, of every type that can take it, each with a bias and what it needs."""
    from draft import Draft

    draft = Draft(seed)
    draft.shapes["data"] = (2, 3, 7, 5)
    draft.net.header.input.append("data")
    draft.net.header.input_shape.add().dim.extend(draft.shapes["data"])
    for _ in range(draft.pick(1, 2, 3)):
        kind = draft.pick("convolution", "deconvolution", "inner product", "scale")
        if kind == "convolution":
            top = draft.convolution("data", padded=draft.coin())
        elif kind == "deconvolution":
            top = draft.deconvolution("data", draft.pick(1, 2))
        else:
            top = draft.inner_product("data") if kind == "inner product" else draft.scale("data", False)
        draft.relu(top)
    drawn = Drawn(draft.net, {"data": draft.normal(2, 3, 7, 5)})
    after = drawn.net.copy()
    normalization = Normalization("data", scale, mean, *orders)
    notes = fold_input(after, normalization)
    if all(note.changed for note in notes):
        assert [note.layer for note in notes] == [layer.name for layer in input_readers(after, "data")]
        check_values(drawn, after, normalization)
    else:
        assert not any(note.changed for note in notes)
        assert content(after) == content(drawn.net)


def test_an_input_of_one_axis_has_no_channels() -> None:
    param = {"num_output": 2, "axis": 0, "bias_term": False}
    weights = np.ones((2, 6), np.float32)
    layer = Layer(LayerParameter(name="fc", type="InnerProduct", inner_product_param=param))
    layer.bottoms, layer.tops, layer.blobs = ["data"], ["fc"], [weights]
    net = Net([layer])
    net.header.input.append("data")
    net.header.input_shape.add().dim.append(6)
    (note,) = fold_input(net, Normalization("data", (0.5,), (1.0, 2.0, 3.0)))
    assert not note.changed and "the channels of fc are not on axis 1" in note.text
