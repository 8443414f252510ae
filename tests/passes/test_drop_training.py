"""drop_training."""

from __future__ import annotations

import numpy as np
import pytest
from golden import FOLDER, cases, compare, read

from nnie_prep.net import Layer
from nnie_prep.nnie_caffe_pb2 import LayerParameter
from nnie_prep.passes.data_shapes import data_shape
from nnie_prep.passes.drop_training import drop_training


@pytest.mark.parametrize("case", cases(drop_training))
def test_golden(case: str) -> None:
    compare(drop_training, case)


@pytest.mark.parametrize(
    ("proto", "shape"),
    [
        ({"type": "ImageData", "image_data_param": {"new_height": 5, "new_width": 7}}, (1, 3, 5, 7)),
        (
            {
                "type": "ImageData",
                "image_data_param": {"new_height": 5, "new_width": 7, "is_color": False},
                "transform_param": {"crop_size": 4},
            },
            (1, 1, 4, 4),
        ),
        (
            {
                "type": "WindowData",
                "window_data_param": {"crop_size": 9},
                "transform_param": {"force_gray": True},
            },
            (1, 1, 9, 9),
        ),
        ({"type": "Data", "transform_param": {"crop_size": 8, "mean_value": [1, 2, 3, 4]}}, (1, 4, 8, 8)),
        ({"type": "AnnotatedData", "transform_param": {"crop_size": 8, "force_color": True}}, (1, 3, 8, 8)),
        (
            {
                "type": "MemoryData",
                "memory_data_param": {"batch_size": 9, "channels": 2, "height": 3, "width": 4},
            },
            (1, 2, 3, 4),
        ),
        (
            {
                "type": "DummyData",
                "dummy_data_param": {"num": [9], "channels": [2], "height": [3], "width": [4]},
            },
            (1, 2, 3, 4),
        ),
        ({"type": "DummyData", "dummy_data_param": {}}, None),
        ({"type": "DummyData", "dummy_data_param": {"shape": [{"dim": [9, 2, 3, 4]}] * 3}}, None),
        ({"type": "Data", "transform_param": {"crop_size": 8, "mean_value": [104]}}, None),
        ({"type": "Data", "transform_param": {"mean_value": [1, 2, 3]}}, None),
        ({"type": "HDF5Data", "hdf5_data_param": {"source": "list.txt"}}, None),
    ],
)
def test_the_shape_of_a_data_layer(proto: dict[str, object], shape: tuple[int, ...] | None) -> None:
    """What each type of data layer lets one be certain of."""
    net = read(FOLDER / "drop_training" / "memory_data.prototxt").drawn.net
    net.layers[0].proto.CopyFrom(LayerParameter(name="data", **proto))
    for layer in net.layers:
        layer.blobs = []
    notes = drop_training(net)
    if shape is None:
        assert [note.changed for note in notes] == [False]
        assert "input_param { shape {" in notes[0].text
    else:
        assert net.layers[0].type == "Input"
        assert tuple(net.layers[0].proto.input_param.shape[0].dim) == shape


@pytest.mark.parametrize("count", [1, 2, 3])
def test_dummy_data_has_a_shape_for_each_top_or_one(count: int) -> None:
    shapes = [{"dim": [9, 2, 3, 4 + place]} for place in range(count)]
    proto = LayerParameter(name="data", type="DummyData", dummy_data_param={"shape": shapes})
    layer = Layer(proto, tops=["a", "b", "c"])
    found = [data_shape(layer, top, [])[0] for top in layer.tops]
    last = {1: (4, 4, 4), 2: (), 3: (4, 5, 6)}[count]
    assert found == ([(1, 2, 3, width) for width in last] or [()] * 3)


def test_weights_that_contradict_the_data_layer() -> None:
    """The convolution takes 3 channels and the pictures are grey: nobody can say who is right."""
    net = read(FOLDER / "drop_training" / "image_data.prototxt").drawn.net
    net.layers[0].proto.image_data_param.is_color = False
    del net.layers[0].proto.transform_param.mean_value[:]
    (note,) = drop_training(net)
    assert not note.changed
    assert "1 or 3 channels" in note.text


def test_an_inner_product_for_pictures_of_another_size() -> None:
    """Its weights fit no picture of 5 x 7, whatever the data layer says of colours."""
    net = read(FOLDER / "drop_training" / "inner_product_reader.prototxt").drawn.net
    data = {"type": "ImageData", "image_data_param": {"new_height": 5, "new_width": 7}}
    net.layers[0].proto.CopyFrom(LayerParameter(name="data", **data))
    reader = next(layer for layer in net.layers if layer.type == "InnerProduct")
    reader.blobs = [np.zeros((4, 3 * 5 * 7 + 14), np.float32)]
    (note,) = drop_training(net)
    assert not note.changed
    assert "3 or 3.4 channels" in note.text
