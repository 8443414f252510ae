"""Who says how a net's pictures are normalised, and what a .cfg makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nnie_prep.caffe_io import read_prototxt
from nnie_prep.errors import UserError
from nnie_prep.nnie import cfg_draft, read_limits
from nnie_prep.nnie.preprocessing import Preprocessing, has_transform, known_preprocessing, transform_of

PLAIN = """input: "data"
input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 2 kernel_size: 3 } }
"""
SCALED = PLAIN.replace("layer", 'layer { name: "s" type: "Scale" bottom: "data" top: "data" }\nlayer', 1)
BEHIND = SCALED.replace("layer", 'layer { name: "r" type: "ReLU" bottom: "data" top: "data" }\nlayer', 1)
LATE = PLAIN + 'layer { name: "s" type: "Scale" bottom: "conv" top: "conv" }\n'
DATA = """layer {{ name: "{0}" type: "Data" top: "data" include {{ phase: {1} }}
  transform_param {{ {2} }} data_param {{ source: "x" batch_size: 4 }} }}
"""
CONV = PLAIN[PLAIN.index("layer") :]
MOBILENET = "scale: 0.017 mean_value: 103.94 mean_value: 116.78 mean_value: 123.68"


def written(folder: Path, text: str, name: str = "n.prototxt") -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "described", "expected"),
    [
        (PLAIN, {}, None),
        (LATE, {}, None),
        (BEHIND, {}, None),
        (PLAIN, {"blob": "other", "scale": 0.5, "order": "RGB"}, None),
        (PLAIN, {"blob": "data", "scale": 1 / 255, "order": "RGB"}, Preprocessing(1 / 255, order="RGB")),
        (PLAIN, {"blob": "data", "scale": 0.5, "order": "grey"}, Preprocessing(0.5)),
        (PLAIN, {"blob": "data", "scale": [0.1, 0.2], "order": "RGB", "folded": True},
         Preprocessing(order="RGB", in_net=True)),
        (PLAIN, {"blob": "data", "scale": 0.5, "order": None, "folded": True}, Preprocessing(in_net=True)),
        ("# input folded: scale=0.5,mean=1/2/3,order=BGR,feed=RGB data\n\n" + PLAIN, {},
         Preprocessing(order="RGB", in_net=True)),
        ("# input folded: scale=0.5,order=BGR data\n\n" + PLAIN, {}, Preprocessing(order="BGR", in_net=True)),
        (PLAIN, {"blob": "data", "scale": "1/255", "order": "RGB"}, None),
        (PLAIN, {"blob": "data", "scale": 10**400, "order": "RGB"}, None),
        (PLAIN, {"blob": "data", "scale": True, "order": "RGB"}, None),
        (PLAIN, {"blob": "data", "scale": 0.5, "mean_file": 5, "mean": [10**400]}, Preprocessing(0.5)),
        (PLAIN, {"blob": "data", "scale": [0.1, 0.2], "order": ["RGB"]}, None),
        (SCALED, {}, None),
        (SCALED.replace("Scale", "Power"), {}, Preprocessing(in_net=True)),
        (SCALED, {"blob": "data", "scale": 0.5, "order": "RGB"}, Preprocessing(0.5, order="RGB")),
    ],
)  # fmt: skip
def test_who_is_believed(tmp_path: Path, text: str, described: dict[str, Any], expected: Any) -> None:
    net = read_prototxt(written(tmp_path, text))
    path = tmp_path / "n.prototxt"
    found = known_preprocessing(net, "data", path, {"input": described} if described else {})
    assert (found and Preprocessing(found.scale, found.mean, None, found.order, "", found.in_net)) == expected
    assert found is None or found.who


@pytest.mark.parametrize(
    ("seen", "believed"),
    [
        (lambda raw: raw, True),
        (lambda raw: raw - 120, False),
        (lambda raw: raw / 255, False),
        (lambda raw: raw / 127.5 - 1, False),
    ],
)
@pytest.mark.parametrize("factor", [1.0, 999.98])
@pytest.mark.parametrize("kind", ["black and white", "all greys", "pale"])
def test_a_batchnorm_tells_what_it_was_trained_on(
    tmp_path: Path, kind: str, seen: Any, believed: bool, factor: float
) -> None:
    draw = np.random.default_rng(0)
    raw = {
        "black and white": draw.choice([0.0, 255.0], (3, 999)),
        "all greys": draw.uniform(0, 255, (3, 999)),
        "pale": draw.normal(90, 9, (3, 999)),
    }[kind]
    net = read_prototxt(written(tmp_path, SCALED.replace("Scale", "BatchNorm")))
    told = seen(raw)
    statistics = (told.mean(1), told.var(1) * 0.999, np.ones(1))
    net.layers[0].blobs = [(values * factor).astype(np.float32) for values in statistics]
    assert (known_preprocessing(net, "data", tmp_path / "n.prototxt", {}) is not None) == believed


def test_what_transform_param_says(tmp_path: Path) -> None:
    train = DATA.format("train", "TRAIN", MOBILENET + " mirror: true crop_size: 8")
    test = DATA.format("test", "TEST", "scale: 0.5")
    mean = (103.94, 116.78, 123.68)
    path = written(tmp_path, train + test + CONV)
    assert transform_of(path) == Preprocessing(0.5, order="BGR", who="the transform_param of n.prototxt")
    path = written(tmp_path, train + PLAIN)
    assert (transform_of(path).scale, transform_of(path).mean) == (0.017, mean), "TRAIN, where TEST has none"
    found = known_preprocessing(read_prototxt(path), "data", path, {})
    assert found is not None and found.mean == mean
    assert not has_transform(written(tmp_path, PLAIN))
    with pytest.raises(UserError, match="has no layer with a transform_param"):
        transform_of(tmp_path / "n.prototxt")
    with pytest.raises(UserError, match="has layers with different transform_param"):
        transform_of(written(tmp_path, test + test.replace("0.5", "0.25").replace('"data"', '"b"') + CONV))


def test_the_mean_file_of_transform_param(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, DATA.format("d", "TEST", 'mean_file: "data/m.binaryproto"') + CONV)
    assert transform_of(path).mean_file == tmp_path / "data" / "m.binaryproto", "where it would be looked for"
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "m.binaryproto").write_bytes(b"")
    assert transform_of(path).mean_file == tmp_path / "data" / "m.binaryproto"
    elsewhere = tmp_path / "models"
    elsewhere.mkdir()
    moved = path.rename(elsewhere / "n.prototxt")
    monkeypatch.chdir(tmp_path)
    assert transform_of(moved).mean_file == Path("data/m.binaryproto"), "from where Caffe was started"


@pytest.mark.parametrize(
    ("preprocessing", "expected"),
    [
        (Preprocessing(), 0),
        (Preprocessing(mean=(0.0, 0.0, 0.0)), 0),
        (Preprocessing(mean_file=Path("m")), 1),
        (Preprocessing(mean=(1.0,)), 2),
        (Preprocessing(0.5), 3),
        (Preprocessing(0.5, mean_file=Path("m")), 4),
        (Preprocessing(0.5, (1.0, 2.0, 3.0)), 5),
        (Preprocessing(0.5, (1.0, 2.0, 3.0), in_net=True), 0),
    ],
)
def test_norm_type(preprocessing: Preprocessing, expected: int) -> None:
    assert cfg_draft.norm_type(preprocessing, 1, (1, 3, 8, 8), "data") == expected
    assert cfg_draft.norm_type(preprocessing, 0, (1, 3, 8, 8), "data") == 0


def test_the_mean_of_each_channel() -> None:
    assert cfg_draft.mean_text(Preprocessing(mean=(104.0, 117.0, 123.68)), 3) == b"104.0\n117.0\n123.68\n"
    assert cfg_draft.mean_text(Preprocessing(mean=(127.5,)), 3) == b"127.5\n" * 3
    with pytest.raises(UserError, match="3 values for 1 channels"):
        cfg_draft.norm_type(Preprocessing(mean=(1.0, 2.0, 3.0)), 1, (1, 1, 8, 8), "data")


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        (["Convolution"], 0),
        (["Convolution", "ROIPooling"], 1),
        (["PSROIPooling"], 1),
        (["LSTM"], 2),
        (["RNN"], 2),
    ],
)
def test_net_type(tmp_path: Path, types: list[str], expected: int) -> None:
    layers = "".join(
        f'layer {{ name: "l{place}" type: "{kind}" bottom: "data" top: "t{place}" }}\n'
        for place, kind in enumerate(types)
    )
    net = read_prototxt(written(tmp_path, 'input: "data"\ninput_shape { dim: 1 dim: 3 }\n' + layers))
    assert cfg_draft.net_type(net) == expected


def test_bits(tmp_path: Path) -> None:
    for text, modes in ((PLAIN, (0, 0, 1)), (PLAIN.replace('name: "conv"', 'name: "conv_hp"'), (2, 0, 1))):
        net = read_prototxt(written(tmp_path, text))
        assert tuple(cfg_draft.compile_mode(net, bits) for bits in (None, 8, 16)) == modes


def test_stride() -> None:
    found = [cfg_draft.stride(read_limits(chip)) for chip in (None, "hi3516dv300", "hi3559av100")]
    assert found == [16, 16, 32]
    assert cfg_draft.stride(read_limits("hi3559av100"), 16) == 16
