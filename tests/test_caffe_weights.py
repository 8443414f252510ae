"""Weights as Caffe itself reads and writes them: the same bits as caffe_io's, whatever the file."""

from __future__ import annotations

import functools
import io
import sys
from pathlib import Path

import numpy as np
import pytest
from caffe_case import save_hdf5
from contract import content
from strategies import MOTIFS, conv_five_blobs, random_net

from nnie_prep import caffe_weights
from nnie_prep.blob import DeferredBlob
from nnie_prep.caffe_io import WeightsReader, read_caffemodel, read_net, read_prototxt, write_caffemodel
from nnie_prep.darknet import convert
from nnie_prep.engines import caffe_engine
from nnie_prep.engines.caffe_engine import write_pair
from nnie_prep.engines.numpy import forward as numpy_forward
from nnie_prep.errors import UserError
from nnie_prep.net import Layer, Net
from nnie_prep.nnie_caffe_pb2 import BlobProto, LayerParameter, NetParameter, V1LayerParameter
from nnie_prep.proof import without_training

pytestmark = pytest.mark.caffe

KNOWN = [motif for motif in MOTIFS if motif is not conv_five_blobs]  # which is NVCaffe's
by_caffe = functools.partial(caffe_weights.read_weights, sys.executable)


def as_hdf5(net: Net, folder: Path) -> Path:
    """What Caffe's Net.save_hdf5 makes of the net."""
    (folder / "hdf5").mkdir()
    pair = write_pair(without_training(net), folder / "hdf5")
    return save_hdf5(*pair, folder / "hdf5" / "net.caffemodel.h5")


def assert_read_alike(prototxt: Path, caffemodel: Path, folder: Path) -> Net:
    """Caffe's reading of the file, and of its twin in HDF5, against ours; with the warnings of the first."""
    warnings: list[list[str]] = [[], []]
    ours = read_net(prototxt, caffemodel, warnings[0])
    assert any(layer.blobs for layer in ours.layers)
    theirs = read_net(prototxt, caffemodel, warnings[1], by_caffe)
    assert content(theirs) == content(ours)
    assert warnings[0] == warnings[1]
    from_hdf5 = read_net(prototxt, as_hdf5(ours, folder), read_weights=by_caffe)
    assert content(from_hdf5) == content(ours)
    return ours


@pytest.mark.parametrize("model", ["open_nsfw", "yolov3_tiny"])
def test_real_models(tmp_path: Path, model: str, request: pytest.FixtureRequest) -> None:
    """A real Caffe model, and what darknet2caffe writes of a real Darknet one."""
    files = request.getfixturevalue(model)
    if model == "yolov3_tiny":
        files = write_pair(convert(files.description, files.weights).net, tmp_path)
    assert_read_alike(*files, tmp_path)


@pytest.mark.parametrize("seed", range(6))
def test_random_nets_of_all_motifs(tmp_path: Path, seed: int) -> None:
    """In place and not, with shared weights; every other one with what only training needs."""
    random = np.random.default_rng(seed)
    motifs = [KNOWN[place] for place in random.permutation(len(KNOWN))]
    drawn = next(
        one
        for one in (random_net(motifs, 100 * seed + count) for count in range(99))
        if ("label" in one.feeds) == bool(seed % 2)
    )
    net = assert_read_alike(*write_pair(drawn.net, tmp_path), tmp_path)
    assert any(spec.name for layer in net.layers for spec in layer.proto.param)


# ---- one layer of everything, in every format that a file may have -------------------------------

DEPLOY = """
name: "small"
input: "data"
input_shape { dim: 2 dim: 6 dim: 5 dim: 7 }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_h: 3 kernel_w: 2 group: 2 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip" inner_product_param { num_output: 3 } }
"""
SHAPES = {"conv": [(4, 3, 3, 2), (4,)], "ip": [(3, 72), (3,)]}
V1_TYPES = {"conv": V1LayerParameter.CONVOLUTION, "ip": V1LayerParameter.INNER_PRODUCT}
V0_TYPES = {"conv": "conv", "ip": "innerproduct"}
# What arithmetic would not leave as it is: -0, a denormal, infinity, a NaN with a payload.
ODD = np.array([0x80000000, 1, 0x7F800000, 0x7FC12345], np.uint32).view(np.float32)


def small_weights(seed: int = 0) -> dict[str, list[np.ndarray]]:
    random = np.random.default_rng(seed)
    found = {name: [random.normal(size=one) for one in shapes] for name, shapes in SHAPES.items()}
    return {name: [one.astype(np.float32) for one in blobs] for name, blobs in found.items()}


def blob(values: np.ndarray, legacy: bool, double: bool) -> BlobProto:
    proto = BlobProto()
    if legacy:
        proto.num, proto.channels, proto.height, proto.width = (1,) * (4 - values.ndim) + values.shape
    else:
        proto.shape.dim.extend(values.shape)
    (proto.double_data if double else proto.data).extend(values.ravel().tolist())
    return proto


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("form", ["layer", "v1", "v0"])
def test_every_format(tmp_path: Path, form: str, legacy: bool, double: bool) -> None:
    weights = small_weights()
    message = NetParameter(name="small")
    for name, blobs in weights.items():
        if form == "layer":
            layer = message.layer.add(name=name)
        elif form == "v1":
            layer = message.layers.add(name=name, type=V1_TYPES[name])
        else:
            layer = message.layers.add().layer
            layer.name, layer.type = name, V0_TYPES[name]
        # Doubles with more digits than floats have, so that both must round.
        layer.blobs.extend(blob(one * (1 + 1e-9 * double), legacy, double) for one in blobs)
    prototxt, caffemodel = tmp_path / "small.prototxt", tmp_path / "small.caffemodel"
    prototxt.write_text(DEPLOY)
    caffemodel.write_bytes(message.SerializeToString())
    assert_read_alike(prototxt, caffemodel, tmp_path)


def small_pair(folder: Path, text: str = DEPLOY) -> tuple[Path, Path]:
    """The prototxt of that text, and the weights of DEPLOY."""
    prototxt, caffemodel = folder / "small.prototxt", folder / "small.caffemodel"
    prototxt.write_text(DEPLOY)
    net = read_prototxt(prototxt)
    for name, blobs in small_weights().items():
        layer = net.layer(name)
        assert layer is not None
        layer.blobs = list(blobs)
    with caffemodel.open("wb") as file:
        write_caffemodel(net, file)
    prototxt.write_text(text)
    return prototxt, caffemodel


def test_values_that_are_no_numbers(tmp_path: Path) -> None:
    prototxt, caffemodel = small_pair(tmp_path)
    net = read_net(prototxt, caffemodel)
    net.layers[0].blobs[1] = ODD
    caffemodel.unlink()
    with caffemodel.open("wb") as file:
        write_caffemodel(net, file)
    assert_read_alike(prototxt, caffemodel, tmp_path)
    theirs = read_net(prototxt, caffemodel, read_weights=by_caffe).layers[0].blobs[1]
    assert np.asarray(theirs).view(np.uint32).tolist() == ODD.view(np.uint32).tolist()


IP = DEPLOY[DEPLOY.index('layer { name: "ip"') :]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(DEPLOY.replace(IP, ""), id="a layer of the file that is not in the prototxt"),
        pytest.param(
            DEPLOY + IP.replace('top: "ip"', 'top: "loss"').replace('"InnerProduct"', '"EuclideanLoss"'),
            id="a loss",
        ),
        pytest.param(
            DEPLOY
            + 'layer { name: "ip" type: "PReLU" bottom: "ip" top: "p" prelu_param { channel_shared: true }'
            " blobs { data: 0.25 shape { } } }",
            id="a name given twice, and weights in the prototxt",
        ),
    ],
)
def test_layers_without_a_counterpart(tmp_path: Path, text: str) -> None:
    if "EuclideanLoss" in text:
        text = text.replace('bottom: "conv" top: "loss"', 'bottom: "ip" bottom: "label" top: "loss"')
        text = text.replace('name: "ip" type: "Eu', 'name: "loss" type: "Eu')
        text += 'input: "label" input_shape { dim: 2 dim: 3 }'
    prototxt, caffemodel = small_pair(tmp_path, text)
    ours, theirs = read_net(prototxt, caffemodel), read_net(prototxt, caffemodel, read_weights=by_caffe)
    assert content(theirs) == content(ours)


def test_unused_weights_are_the_same_warning(tmp_path: Path) -> None:
    prototxt, caffemodel = small_pair(tmp_path, DEPLOY.replace(IP, ""))
    warnings: list[str] = []
    read_net(prototxt, caffemodel, warnings, by_caffe)
    (warning,) = warnings
    assert "weights of 1 layer(s) are not in small.prototxt: ip" in warning


DATA = """
layer { name: "pictures" type: "Data" top: "data" top: "label" SIZE data_param { source: "x" batch_size: 2 } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip" inner_product_param { num_output: 3 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""
CROP = "transform_param { crop_size: 9 }"


def data_pair(folder: Path, channels: int, size: str = CROP) -> tuple[Path, Path]:
    """A net fed from a database that is not there, with weights for pictures of so many channels."""
    random = np.random.default_rng(channels)
    prototxt, caffemodel = folder / "net.prototxt", folder / "net.caffemodel"
    prototxt.write_text(DATA.replace("SIZE", size))
    net = read_prototxt(prototxt)
    for name, shapes in (("conv", [(4, channels, 3, 3), (4,)]), ("ip", [(3, 4 * 7 * 7), (3,)])):
        layer = net.layer(name)
        assert layer is not None
        layer.blobs = [random.normal(size=shape).astype(np.float32) for shape in shapes]
    with caffemodel.open("wb") as file:
        write_caffemodel(net, file)
    return prototxt, caffemodel


@pytest.mark.parametrize(
    ("channels", "size"),
    [
        (3, CROP),
        (1, CROP),
        (2, "transform_param { crop_size: 9 mean_value: 100 mean_value: 120 }"),
    ],
)
def test_databases_are_not_opened(tmp_path: Path, channels: int, size: str) -> None:
    """Nothing in the file may say how many channels its pictures have; the weights do."""
    assert_read_alike(*data_pair(tmp_path, channels, size), tmp_path)


@pytest.mark.parametrize(
    ("channels", "size", "said"),
    [
        (2, CROP, "shape mismatch"),
        (3, "", "Data does not say the height and width of data; replace pictures by an Input layer"),
    ],
)
def test_pictures_of_no_certain_shape(tmp_path: Path, channels: int, size: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        read_net(*data_pair(tmp_path, channels, size), read_weights=by_caffe)


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("hdf5", [False, True])
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (DEPLOY.replace('"conv" type', '"conv1" type'), r"no weights for 1 layer\(s\) of .*: conv1"),
        (DEPLOY.replace("kernel_w: 2", "kernel_w: 1"), "shape mismatch.* 4 3 3 2 "),
        (DEPLOY.replace("group: 2", "group: 2 bias_term: false"), "Incompatible number of blobs"),
        (DEPLOY.replace("ReLU", "Unheard"), "Unknown layer type: Unheard"),
    ],
)
def test_what_does_not_fit(tmp_path: Path, changed: str, said: str, hdf5: bool) -> None:
    """A filler's values are never taken for weights, and Caffe's own words reach the user."""
    prototxt, caffemodel = small_pair(tmp_path)
    file = as_hdf5(read_net(prototxt, caffemodel), tmp_path) if hdf5 else caffemodel
    prototxt.write_text(changed)
    with pytest.raises(UserError, match=said) as caught:
        read_net(prototxt, file, read_weights=by_caffe)
    assert str(caught.value).startswith(f"{file}: ") and "\n" not in str(caught.value)


# A second inner product, with the weights of the first and a bias of its own.
SHARED = DEPLOY.replace('top: "ip"', 'top: "ip" param { name: "w" }')
SHARED += SHARED[SHARED.index('layer { name: "ip"') :].replace('"ip"', '"ip2"')


@pytest.mark.parametrize("read_weights", [None, by_caffe])
def test_a_bias_is_missing_beside_shared_weights(tmp_path: Path, read_weights: WeightsReader | None) -> None:
    with pytest.raises(UserError, match=r"no weights for 1 layer\(s\) of small.prototxt: ip2"):
        read_net(*small_pair(tmp_path, SHARED), read_weights=read_weights)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "run git lfs pull"),
        (DEPLOY.encode(), "is a text file"),
        (b"\x89HDF\r\n\x1a\n" + bytes(200), "Caffe stopped: .*was built without HDF5, run `make caffe`"),
        (b"\x0a\x80\x80", "Caffe stopped: .*Failed to parse NetParameter"),
    ],
)
def test_no_weights_at_all(tmp_path: Path, data: bytes, said: str) -> None:
    prototxt, caffemodel = small_pair(tmp_path)
    caffemodel.write_bytes(data)
    with pytest.raises(UserError, match=said) as caught:
        read_net(prototxt, caffemodel, read_weights=by_caffe)
    assert str(caught.value).startswith(f"{caffemodel}: ")


@pytest.mark.parametrize("name", ["net.caffemodel.h5", "net.caffemodel"])
def test_our_own_reader_names_the_one_that_reads_hdf5(tmp_path: Path, name: str) -> None:
    """By what is in the file, whatever it is called."""
    prototxt, caffemodel = small_pair(tmp_path)
    hdf5 = as_hdf5(read_net(prototxt, caffemodel), tmp_path).rename(tmp_path / name)
    with pytest.raises(UserError, match="is an HDF5 file.*--weights-engine pycaffe"):
        read_net(prototxt, hdf5)
    assert content(read_net(prototxt, hdf5, read_weights=by_caffe))


@pytest.mark.parametrize("name", ["ä b:'.caffemodel", "net\udcff.h5", "-h"])
def test_any_file_name(tmp_path: Path, name: str) -> None:
    prototxt, caffemodel = small_pair(tmp_path)
    ours = content(read_net(prototxt, caffemodel))
    odd = caffemodel.rename(tmp_path / name)
    assert content(read_net(prototxt, odd, read_weights=by_caffe)) == ours


def test_weights_wait_in_a_file_that_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but what is asked for lies in memory, and no temporary file stays."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    net = read_net(*small_pair(tmp_path), read_weights=by_caffe)
    assert not list((tmp_path / "tmp").iterdir())
    blobs = [blob for layer in net.layers for blob in layer.blobs]
    assert len(blobs) == 4 and all(isinstance(blob, DeferredBlob) for blob in blobs)
    expected = [one for some in small_weights().values() for one in some]
    for found, values in zip(blobs, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(found), values)
        pieces = [bytes(piece) for piece in found.pieces()] if isinstance(found, DeferredBlob) else []
        assert b"".join(pieces) == values.astype("<f4").tobytes()


# ---- saving --------------------------------------------------------------------------------------

FORK = DEPLOY + 'layer { name: "again" type: "TanH" bottom: "conv" top: "again" }'


def saved(net: Net) -> bytes:
    file = io.BytesIO()
    caffe_weights.save_weights(sys.executable, net, file)
    return file.getvalue()


def test_saved_by_caffe(tmp_path: Path) -> None:
    """The layers and blobs are ours; what Caffe adds is in the file as it should be."""
    prototxt, caffemodel = small_pair(tmp_path, FORK)
    net = read_net(prototxt, caffemodel)
    net.layers[0].blobs[1] = ODD
    theirs = saved(net)
    message = NetParameter.FromString(theirs)
    assert [layer.type for layer in message.layer] == [
        *("Input", "Convolution", "ReLU", "Split", "InnerProduct", "TanH")
    ]
    assert content(read_net(prototxt, _file(tmp_path, theirs))) == content(net)


@pytest.mark.parametrize("seed", range(2))
def test_saved_random_nets(tmp_path: Path, seed: int) -> None:
    drawn = next(
        one for one in (random_net(KNOWN, 10 * seed + n) for n in range(9)) if "label" not in one.feeds
    )
    prototxt, caffemodel = write_pair(drawn.net, tmp_path)
    theirs = _file(tmp_path, saved(drawn.net))
    assert content(read_net(prototxt, theirs)) == content(read_net(prototxt, caffemodel))


def test_what_caffe_would_save_differently(tmp_path: Path) -> None:
    """Two layers share their weights and the file has other values for each: Caffe keeps the last."""
    prototxt = tmp_path / "shared.prototxt"
    prototxt.write_text(SHARED)
    net = read_prototxt(prototxt)
    weights = small_weights()
    for name, blobs in (weights | {"ip2": small_weights(1)["ip"]}).items():
        layer = net.layer(name)
        assert layer is not None
        layer.blobs = list(blobs)
    with pytest.raises(UserError, match="would write other weights for layer 'ip'.*leave out --save-with"):
        saved(net)
    net.layers[-1].blobs[0] = net.layers[-2].blobs[0]
    assert len(read_caffemodel(_file(tmp_path, saved(net)))) == 6


def _file(folder: Path, data: bytes) -> Path:
    path = folder / "saved.caffemodel"
    path.write_bytes(data)
    return path


# Two layers that share all their weights, in one order or the other.
ALIKE = """input: "data" input_shape { dim: 1 dim: 3 dim: 4 dim: 4 }
layer { name: "one" type: "Convolution" bottom: "data" top: "one" param { name: "w" } param { name: "b" }
  convolution_param { num_output: 3 kernel_size: 3 pad: 1 } }
layer { name: "two" type: "Convolution" bottom: "one" top: "two" param { name: "w" } param { name: "b" }
  convolution_param { num_output: 3 kernel_size: 3 pad: 1 } }
"""


@pytest.mark.parametrize("order", [("one", "two"), ("two", "one"), ("one",), ("two",)], ids="-".join)
def test_of_layers_that_share_weights_the_last_in_the_file_counts(
    tmp_path: Path, order: tuple[str, ...]
) -> None:
    """As in Caffe, which has one memory for them; also where the file has them once."""
    prototxt, caffemodel = tmp_path / "alike.prototxt", tmp_path / "alike.caffemodel"
    prototxt.write_text(ALIKE)
    random = np.random.default_rng(len(order[0]))
    stored = Net()
    for name in order:
        blobs = [random.standard_normal(shape).astype(np.float32) for shape in ((3, 3, 3, 3), (3,))]
        stored.layers.append(Layer(LayerParameter(name=name, type="Convolution"), blobs=list(blobs)))
    with caffemodel.open("wb") as file:
        write_caffemodel(stored, file)
    warnings: list[str] = []
    net = read_net(prototxt, caffemodel, warnings)
    feeds = {"data": random.standard_normal((1, 3, 4, 4)).astype(np.float32)}
    theirs = caffe_engine.forward(sys.executable, prototxt, caffemodel, feeds, None)
    ours = numpy_forward(net, feeds)
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name], value, rtol=0, atol=1e-5 * np.abs(value).max())
    assert [text.partition("; ")[2] for text in warnings] == [
        f"Caffe takes the last, those of {order[-1]}" for _ in ("w", "b") if len(order) == 2
    ]


def test_a_layer_may_name_more_weights_than_it_has(tmp_path: Path) -> None:
    """Its convolution has no bias any more, and the param of that is left."""
    prototxt, caffemodel = tmp_path / "alike.prototxt", tmp_path / "alike.caffemodel"
    before, two, after = ALIKE.partition('name: "two"')
    prototxt.write_text(before + two + after.replace("num_output: 3", "num_output: 3 bias_term: false", 1))
    stored = Net([Layer(LayerParameter(name="one", type="Convolution"))])
    stored.layers[0].blobs = [np.ones(shape, np.float32) for shape in ((3, 3, 3, 3), (3,))]
    with caffemodel.open("wb") as file:
        write_caffemodel(stored, file)
    layer = read_net(prototxt, caffemodel).layer("two")
    assert layer and [blob.shape for blob in layer.blobs] == [(3, 3, 3, 3)]


def test_layers_cannot_share_weights_of_other_sizes(tmp_path: Path) -> None:
    prototxt, caffemodel = tmp_path / "alike.prototxt", tmp_path / "alike.caffemodel"
    prototxt.write_text(ALIKE.replace("num_output: 3", "num_output: 2", 1))
    stored = Net([Layer(LayerParameter(name="one", type="Convolution"))])
    stored.layers[0].blobs = [np.zeros(shape, np.float32) for shape in ((2, 3, 3, 3), (2,))]
    with caffemodel.open("wb") as file:
        write_caffemodel(stored, file)
    said = (
        r"alike.prototxt:4: layer 'two' shares weights \(param name 'w'\) with 'one' and needs 3x2x3x3, where"
    )
    with pytest.raises(UserError, match=said):
        read_net(prototxt, caffemodel)
