"""cut_ssd: what was cut off stands behind the net again, and gives what it gave.

tests/passes/test_drop_heads.py has it for every kind of head, tests/cli/test_detect_ssd.py for a network.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from golden import FOLDER, read

from nnie_prep.detection.cut_ssd import ssd_head, with_head
from nnie_prep.detection.fields import Fields
from nnie_prep.engines.numpy import forward
from nnie_prep.errors import UserError
from nnie_prep.net import Layer
from nnie_prep.nnie_caffe_pb2 import LayerParameter
from nnie_prep.passes.drop_heads import drop_heads

DRAWN = read(FOLDER / "drop_heads" / "ssd.prototxt").drawn


def test_a_blob_that_was_split_is_joined() -> None:
    feeds = {name: value / 20 for name, value in DRAWN.feeds.items()}
    net = DRAWN.net.copy()
    expected = forward(net, feeds)["detection_out"]
    (head,) = [dict(one) for note in drop_heads(net) for one in note.heads]
    place = head["sources"][0]["location"]
    whole = place.pop("blob")
    place["blobs"] = ["first", "second"]
    slices = LayerParameter(name="halves", type="Slice", slice_param={"slice_point": [3]})
    net.layers.append(Layer(slices, [whole], ["first", "second"]))
    whole_again = with_head(net, Fields(head | {"layer": "boxes"}, "head", Path(), None))
    assert whole_again.layers[-1].name == "boxes"
    found = forward(whole_again, feeds)["detection_out"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)

    place["blobs"] = ["first", head["sources"][1]["location"]["blob"]]
    with pytest.raises(UserError, match="differ in more than channels"):
        with_head(net, Fields(head, "head", Path(), None))


def test_a_head_of_two_stages_is_not_decoded(tmp_path: Path) -> None:
    net = read(FOLDER / "drop_heads" / "refinedet.prototxt").drawn.net
    heads = [dict(one) for note in drop_heads(net) for one in note.heads]
    path = tmp_path / "net.json"
    path.write_text(json.dumps({"heads": heads}))
    with pytest.raises(UserError, match="two stages, RefineDet's, .* decode it on") as told:
        ssd_head(path)
    assert told.value.where == f"{path}: head 0"


def test_what_is_gone_is_named() -> None:
    net = DRAWN.net.copy()
    (head,) = [dict(one) for note in drop_heads(net) for one in note.heads]
    without = {key: value for key, value in head.items() if key != "confidence_threshold"}
    with pytest.raises(UserError, match="confidence_threshold is missing, expected a number"):
        with_head(net, Fields(without, "head", Path(), None))
    head["sources"][1]["confidence"] = {"none": "dropped: nobody", "order": [0, 1, 2, 3]}
    with pytest.raises(UserError, match="source 1: confidence: its blob is gone: dropped: nobody"):
        with_head(net, Fields(head, "head", Path(), None))
