"""caffemodel files in every encoding protobuf allows, and in none."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nnie_prep.blob import pieces_of
from nnie_prep.caffe_io import load_weights, read_caffemodel, read_net, read_prototxt, wire, write_caffemodel
from nnie_prep.errors import UserError
from nnie_prep.nnie_caffe_pb2 import BlobProto, NetParameter

DEPLOY = """
name: "small"
input: "data"
input_shape { dim: 1 dim: 6 dim: 5 dim: 7 }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_h: 3 kernel_w: 2 group: 2 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip" inner_product_param { num_output: 3 } }
"""


@pytest.fixture
def prototxt(tmp_path: Path) -> Path:
    path = tmp_path / "deploy.prototxt"
    path.write_text(DEPLOY)
    return path


def _weights(seed: int = 1) -> dict[str, list[np.ndarray]]:
    random = np.random.default_rng(seed)
    shapes = {"conv": [(4, 3, 3, 2), (4,)], "ip": [(3, 4 * 3 * 6), (3,)]}
    return {name: [random.normal(size=s).astype(np.float32) for s in some] for name, some in shapes.items()}


def _blob(values: np.ndarray, legacy: bool = False, double: bool = False) -> BlobProto:
    proto = BlobProto()
    if legacy:
        extents = (1,) * (4 - values.ndim) + values.shape
        proto.num, proto.channels, proto.height, proto.width = extents
    else:
        proto.shape.dim.extend(values.shape)
    (proto.double_data if double else proto.data).extend(values.ravel().tolist())
    return proto


def _assert_loaded(net, weights) -> None:
    for name, blobs in weights.items():
        found = net.layer(name).blobs
        assert [blob.shape for blob in found] == [blob.shape for blob in blobs]
        for ours, theirs in zip(found, blobs, strict=True):
            np.testing.assert_array_equal(np.asarray(ours), theirs)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("form", ["layer", "v1", "v0"])
def test_what_protobuf_writes_is_read(tmp_path, prototxt, legacy, double, form) -> None:
    weights = _weights()
    message = NetParameter(name="small")
    for name, blobs in weights.items():
        if form == "layer":
            layer = message.layer.add(name=name)
        else:
            layer = message.layers.add(name=name) if form == "v1" else message.layers.add().layer
            layer.name = name
        layer.blobs.extend(_blob(values, legacy, double) for values in blobs)
    path = tmp_path / "small.caffemodel"
    path.write_bytes(message.SerializeToString())
    _assert_loaded(read_net(prototxt, path), weights)


def test_a_blob_without_values_is_read(tmp_path: Path) -> None:
    """As Caffe writes one: a shape of 0 and no data."""
    header = 'input: "x" input_shape { dim: 1 } '
    (tmp_path / "a.prototxt").write_text(header + 'layer { name: "a" type: "Python" bottom: "x" top: "y" }')
    message = NetParameter(layer=[{"name": "a", "type": "Python", "blobs": [{"shape": {"dim": [0, 3]}}]}])
    (tmp_path / "a.caffemodel").write_bytes(message.SerializeToString())
    (blob,) = read_net(tmp_path / "a.prototxt", tmp_path / "a.caffemodel").layers[0].blobs
    assert np.asarray(blob).shape == (0, 3)


def _length_delimited_blob(values: np.ndarray, data: bytes) -> bytes:
    shape = BlobProto()
    shape.shape.dim.extend(values.shape)
    return wire.length_delimited(7, shape.SerializeToString() + data)


@pytest.mark.parametrize("form", ["unpacked", "split", "mixed", "data first"])
def test_other_encodings_of_the_floats(tmp_path, prototxt, form) -> None:
    weights = _weights()
    body = b""
    for name, blobs in weights.items():
        layer = wire.length_delimited(1, name.encode())
        for values in blobs:
            flat = values.ravel().astype("<f4")
            one_by_one = b"".join(wire.key(5, 5) + number.tobytes() for number in flat)
            packed = wire.length_delimited(5, flat.tobytes())
            halves = wire.length_delimited(5, flat[:2].tobytes()) + wire.length_delimited(
                5, flat[2:].tobytes()
            )
            mixed = wire.length_delimited(5, flat[:2].tobytes()) + one_by_one[10:]
            if form == "data first":
                proto = BlobProto()
                proto.shape.dim.extend(values.shape)
                layer += wire.length_delimited(7, packed + proto.SerializeToString())
            else:
                layer += _length_delimited_blob(
                    values, {"unpacked": one_by_one, "split": halves, "mixed": mixed}[form]
                )
        body += wire.length_delimited(100, layer)
    path = tmp_path / "small.caffemodel"
    path.write_bytes(body)
    _assert_loaded(read_net(prototxt, path), weights)


def test_what_is_written_is_what_protobuf_reads(prototxt) -> None:
    weights = _weights()
    net = read_prototxt(prototxt)
    for name, blobs in weights.items():
        net.layer(name).blobs = list(blobs)
    file = io.BytesIO()
    write_caffemodel(net, file)
    message = NetParameter.FromString(file.getvalue())
    assert message.name == "small"
    assert [(layer.name, layer.type) for layer in message.layer] == [(x.name, x.type) for x in net.layers]
    assert [list(layer.bottom) for layer in message.layer] == [x.bottoms for x in net.layers]
    assert [list(layer.top) for layer in message.layer] == [x.tops for x in net.layers]
    for layer in message.layer:
        assert len(layer.blobs) == len(weights.get(layer.name, []))
        for blob, values in zip(layer.blobs, weights.get(layer.name, []), strict=True):
            assert tuple(blob.shape.dim) == values.shape
            np.testing.assert_array_equal(np.array(blob.data, np.float32), values.ravel())


def test_same_net_same_bytes(tmp_path, prototxt) -> None:
    net = read_prototxt(prototxt)
    for name, blobs in _weights().items():
        net.layer(name).blobs = list(blobs)
    first = io.BytesIO()
    write_caffemodel(net, first)
    path = tmp_path / "first.caffemodel"
    path.write_bytes(first.getvalue())
    second = io.BytesIO()
    write_caffemodel(read_net(prototxt, path), second)
    assert first.getvalue() == second.getvalue()


def _written(tmp_path: Path, prototxt: Path) -> Path:
    net = read_prototxt(prototxt)
    for name, blobs in _weights().items():
        net.layer(name).blobs = list(blobs)
    path = tmp_path / "small.caffemodel"
    with path.open("wb") as file:
        write_caffemodel(net, file)
    return path


def test_every_truncation_is_noticed(tmp_path, prototxt) -> None:
    whole = _written(tmp_path, prototxt).read_bytes()
    cut = tmp_path / "cut.caffemodel"
    for length in [*range(0, 80), *range(80, len(whole), 7)]:
        cut.write_bytes(whole[:length])
        with pytest.raises(UserError) as caught:
            read_net(prototxt, cut)
        assert "cut.caffemodel" in str(caught.value)


def test_shape_mismatch_names_both_shapes(tmp_path, prototxt) -> None:
    path = _written(tmp_path, prototxt)
    other = tmp_path / "other.prototxt"
    other.write_text(DEPLOY.replace("kernel_w: 2", "kernel_w: 3"))
    with pytest.raises(UserError, match=r"layer 'conv' \(other.prototxt:5\).*4x3x3x2.*needs 4x3x3x3"):
        read_net(other, path)


def test_number_of_blobs(tmp_path, prototxt) -> None:
    path = _written(tmp_path, prototxt)
    other = tmp_path / "other.prototxt"
    other.write_text(DEPLOY.replace("group: 2", "group: 2 bias_term: false"))
    with pytest.raises(UserError, match=r"2 blob\(s\) stored, 1 needed by Convolution"):
        read_net(other, path)


def test_five_blobs_of_a_batchnorm(tmp_path) -> None:
    """As NVCaffe writes them; a prototxt that does not say so is another net's, or lacks a word."""
    head = (
        'input: "x" input_shape { dim: 1 dim: 2 } layer { name: "n" type: "BatchNorm" bottom: "x" top: "y" '
    )
    nets = {"told": head + "batch_norm_param { scale_bias: true } }", "untold": head + "}"}
    for name, text in nets.items():
        (tmp_path / f"{name}.prototxt").write_text(text)
    net = read_net(tmp_path / "told.prototxt")
    blobs = [np.arange(1, size + 1, dtype=np.float32) * place for place, size in enumerate((2, 2, 1, 2, 2))]
    net.layers[0].blobs = list(blobs)
    path = tmp_path / "net.caffemodel"
    with path.open("wb") as file:
        write_caffemodel(net, file)
    for found, blob in zip(read_net(tmp_path / "told.prototxt", path).layers[0].blobs, blobs, strict=True):
        np.testing.assert_array_equal(np.asarray(found), blob)
    with pytest.raises(UserError, match=r"5 blob\(s\) stored, 3 needed by BatchNorm") as caught:
        read_net(tmp_path / "untold.prototxt", path)
    assert "scale_bias: true" in caught.value.hint


def test_caffemodel_of_another_net(tmp_path, prototxt) -> None:
    path = _written(tmp_path, prototxt)
    other = tmp_path / "other.prototxt"
    other.write_text(DEPLOY.replace('"conv" type', '"conv1" type'))
    with pytest.raises(UserError, match=r"no weights for 1 layer.*conv1; it has weights for conv instead"):
        read_net(other, path)


def test_weights_that_the_prototxt_does_not_use_are_a_warning(tmp_path, prototxt) -> None:
    path = _written(tmp_path, prototxt)
    other = tmp_path / "other.prototxt"
    other.write_text(DEPLOY[: DEPLOY.index('layer { name: "ip"')])
    warnings: list[str] = []
    read_net(other, path, warnings)
    assert len(warnings) == 1 and "ip" in warnings[0]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"\x89HDF\r\n\x1a\n" + bytes(60), "HDF5"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b'name: "x"\nlayer {}', "text file"),
        (bytes(range(1, 200)), "is not a whole caffemodel"),
        (b"\x0a\x03abc", "has no layers"),
    ],
)
def test_other_files(tmp_path, content, says) -> None:
    path = tmp_path / "x.caffemodel"
    path.write_bytes(content)
    with pytest.raises(UserError, match=says):
        read_caffemodel(path)


def test_values_that_do_not_fill_the_shape(tmp_path, prototxt) -> None:
    message = NetParameter()
    for name, blobs in _weights().items():
        layer = message.layer.add(name=name)
        layer.blobs.extend(_blob(values) for values in blobs)
    del message.layer[0].blobs[0].data[-1]
    path = tmp_path / "small.caffemodel"
    path.write_bytes(message.SerializeToString())
    with pytest.raises(UserError, match="71 values stored for shape 4x3x3x2"):
        read_net(prototxt, path)


@pytest.mark.parametrize("layers", [100, 2])
def test_fields_that_are_not_known_are_left_out_with_a_note(tmp_path, prototxt, layers) -> None:
    """SSD's permute_param is 202, where the copies of NNIE's Caffe have 172; in V1 layers as well. A layer
    that the net does not have is none of its business."""
    fork = wire.length_delimited(202, b"\x08\x00") + wire.key(777, 0) + wire.varint(5)
    path = tmp_path / "forked.caffemodel"
    with path.open("wb") as file:
        for name, blobs in [("data", []), *_weights().items()]:
            body = wire.length_delimited(1 if layers == 100 else 4, name.encode())
            for values in blobs:
                body += wire.length_delimited(7 if layers == 100 else 6, _blob(values).SerializeToString())
            file.write(wire.length_delimited(layers, body + (2 * fork if name != "conv" else b"")))
    warnings: list[str] = []
    notes: list[str] = []
    net = read_net(prototxt, path, warnings, notes=notes)
    _assert_loaded(net, _weights())
    text = "fields that are not known here are left out, for the prototxt decides"
    assert notes == [f"{path}: {text}: 202 in 1 layer(s), 777 in 1 layer(s)"]
    notes.clear()
    again = tmp_path / "again.caffemodel"
    with again.open("wb") as file:
        write_caffemodel(net, file)
    _assert_loaded(read_net(prototxt, again, warnings, notes=notes), _weights())
    assert not warnings and not notes


def test_a_field_that_is_not_known_in_the_oldest_format(tmp_path, prototxt) -> None:
    """V0, in the layer itself and in what wraps it."""
    path = tmp_path / "v0.caffemodel"
    with path.open("wb") as file:
        for name, blobs in _weights().items():
            layer = wire.length_delimited(1, name.encode()) + wire.key(900, 0) + b"\x01"
            layer += b"".join(wire.length_delimited(50, _blob(one).SerializeToString()) for one in blobs)
            file.write(wire.length_delimited(2, wire.length_delimited(1, layer) + wire.key(901, 0) + b"\x01"))
    notes: list[str] = []
    _assert_loaded(read_net(prototxt, path, notes=notes), _weights())
    (note,) = notes
    assert note.endswith(": 900 in 2 layer(s), 901 in 2 layer(s)")


def test_values_in_a_field_that_is_not_known(tmp_path, prototxt) -> None:
    """NVCaffe writes raw_data (12) and its type (10), of halves or of floats (OpenCV reads them)."""
    halves = wire.key(10, 0) + b"\x00" + wire.length_delimited(12, bytes(2 * 72))
    blobs = 2 * _length_delimited_blob(np.empty((4, 3, 3, 2)), halves)
    path = tmp_path / "raw.caffemodel"
    path.write_bytes(wire.length_delimited(100, wire.length_delimited(1, b"conv") + blobs))
    with pytest.raises(UserError, match="blob 0 has no float32 values, .* not known: 10, 12") as caught:
        read_net(prototxt, path)
    assert "--weights-engine pycaffe" in caught.value.hint


def test_floats_are_left_in_the_file_until_asked_for(tmp_path, prototxt) -> None:
    """Memory stays near one layer: what was read holds no weights."""
    import tracemalloc

    big = 3_000_000
    body = wire.length_delimited(1, b"ip") + _length_delimited_blob(
        np.empty((3, big // 3), np.float32), wire.length_delimited(5, bytes(4 * big))
    )
    path = tmp_path / "big.caffemodel"
    path.write_bytes(wire.length_delimited(100, body))
    tracemalloc.start()
    (layer,) = read_caffemodel(path)
    assert tracemalloc.get_traced_memory()[1] < 300_000
    assert np.asarray(layer.blobs[0].values).size == big
    tracemalloc.stop()


def test_a_file_beyond_2_gib(tmp_path) -> None:
    """One protobuf message ends at 2 GiB; a walk by layers does not. The file is sparse."""
    size = 2**31 + 4096
    head = wire.key(7, 2) + wire.varint(len(wire.key(5, 2) + wire.varint(size)) + size)
    inner = wire.key(5, 2) + wire.varint(size)
    first = wire.length_delimited(1, b"huge") + head + inner
    last = wire.length_delimited(
        100,
        wire.length_delimited(1, b"last")
        + _length_delimited_blob(np.empty((2,)), wire.length_delimited(5, np.array([3, 4], "<f4").tobytes())),
    )
    path = tmp_path / "huge.caffemodel"
    with path.open("wb") as file:
        file.write(wire.key(100, 2) + wire.varint(len(first) + size) + first)
        file.seek(size, 1)
        file.write(last)
    huge, small = read_caffemodel(path)
    assert huge.blobs[0].values.size == size // 4
    np.testing.assert_array_equal(np.asarray(small.blobs[0].values), [3, 4])


def test_layers_of_the_same_name_take_the_first(tmp_path, prototxt) -> None:
    """As Caffe does: the first layer of that name is the one that is filled."""
    net = read_prototxt(prototxt)
    weights = _weights()
    stored = read_caffemodel(_written(tmp_path, prototxt))
    load_weights(net, stored, "x")
    _assert_loaded(net, weights)


def _saved(folder: Path, **layers: list[BlobProto]) -> Path:
    message = NetParameter()
    for name, blobs in layers.items():
        message.layer.add(name=name).blobs.extend(blobs)
    path = folder / "saved.caffemodel"
    path.write_bytes(message.SerializeToString())
    return path


def test_negative_extents_where_nobody_knows_the_shape(tmp_path) -> None:
    prototxt = tmp_path / "unknown.prototxt"
    prototxt.write_text(DEPLOY.replace('"Convolution"', '"Mystery"'))
    blob = BlobProto(data=range(6))
    blob.shape.dim.extend([-2, -3])
    with pytest.raises(UserError, match="blob 0: has the impossible shape -2x-3"):
        read_net(prototxt, _saved(tmp_path, conv=[blob]))


def test_legacy_shapes_where_the_bottom_is_not_known(tmp_path) -> None:
    """Behind a data layer only the type tells how many of the leading ones belong to a shape."""
    prototxt = tmp_path / "data.prototxt"
    text = DEPLOY.split("layer {", 1)[1].replace("num_output: 4 ", "num_output: 1 ").replace(" group: 2", "")
    prototxt.write_text('layer { name: "data" type: "Data" top: "data" }\nlayer {' + text)
    weights = {"conv": [(1, 3, 3, 2), (1,)], "ip": [(3, 72), (3,)]}
    stored = {name: [_blob(np.ones(s), legacy=True) for s in shapes] for name, shapes in weights.items()}
    net = read_net(prototxt, _saved(tmp_path, **stored))
    assert {
        layer.name: [blob.shape for blob in layer.blobs] for layer in net.layers if layer.blobs
    } == weights


def test_blobs_spelt_out_in_the_prototxt_must_fit(tmp_path) -> None:
    blob = "blobs { shape { dim: 2 dim: 3 } data: [1, 2, 3, 4, 5, 6] }"
    prototxt = tmp_path / "spelt.prototxt"
    prototxt.write_text(DEPLOY.replace('name: "ip"', f'name: "ip" {blob} {blob}'))
    with pytest.raises(UserError, match="blob 0 has shape 2x3, and the prototxt needs 3x72"):
        read_net(prototxt)


def test_names_without_end_are_cut(tmp_path, prototxt) -> None:
    stored = {"\n" + "x" * 9000: [_blob(np.ones(3))]}
    with pytest.raises(UserError, match=r"it has weights for \\nxxx") as caught:
        read_net(prototxt, _saved(tmp_path, **stored))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


@pytest.mark.parametrize("call", ["pread", "preadv"])
def test_a_disk_that_fails_to_read_is_told_with_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def broken(*arguments: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    proto = NetParameter()
    proto.layer.add(name="c").blobs.add(data=[1.0, 2.0]).shape.dim.append(2)
    path = tmp_path / "net.caffemodel"
    path.write_bytes(proto.SerializeToString())
    blob = read_caffemodel(path)[0].blobs[0].values
    assert np.array_equal(blob, [1, 2])
    monkeypatch.setattr(os, call, broken)
    reads: dict[str, list[Callable[[], object]]] = {
        "pread": [lambda: read_caffemodel(path)],
        "preadv": [lambda: np.asarray(blob), lambda: list(pieces_of(blob))],
    }
    for read in reads[call]:
        with pytest.raises(UserError, match="net.caffemodel: cannot be read: Input/output error; obtain"):
            read()
