"""Read, written and read again, a net is the same."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from contract import content
from hypothesis import given, settings
from strategies import Drawn, nets

from nnie_prep.caffe_io import read_net
from nnie_prep.engines.caffe_engine import write_pair
from nnie_prep.net import Net


def _written(net: Net, folder: Path, name: str) -> tuple[Path, Path]:
    (folder / name).mkdir()
    return write_pair(net, folder / name)


@settings(max_examples=100)
@given(nets())
def test_random_nets(drawn: Drawn) -> None:
    """Layers, wiring, parameters and every weight survive; the second writing is the same bytes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = _written(drawn.net, folder, "first")
        again = read_net(*first)
        assert content(again) == content(drawn.net)
        second = _written(again, folder, "second")
        assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


@pytest.mark.parametrize("model", ["open_nsfw", "yolov3_tiny"])
def test_real_models(tmp_path: Path, model: str, request: pytest.FixtureRequest) -> None:
    """A real Caffe model, and what darknet2caffe writes of a real Darknet one."""
    files = request.getfixturevalue(model)
    if model == "yolov3_tiny":
        from nnie_prep.darknet import convert

        net = convert(files.description, files.weights).net
    else:
        net = read_net(files.description, files.weights)
    again = read_net(*_written(net, tmp_path, "net"))
    assert content(again) == content(net)
