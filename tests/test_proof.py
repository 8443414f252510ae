"""Two networks on an engine: what they are fed with, what is compared, and which faults are seen."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_cases import CFG, run, write_caffe, write_darknet
from darknet_nets import random_net
from numpy.typing import NDArray

from nnie_prep.blob_map import BlobMap, Fate
from nnie_prep.caffe_io import read_net
from nnie_prep.darknet import convert, reference
from nnie_prep.engines import caffe_engine
from nnie_prep.errors import UserError
from nnie_prep.net import Net
from nnie_prep.proof import (
    Engine,
    Options,
    draw_feeds,
    prove_conversion,
    prove_darknet,
    prove_surgery,
    read_feeds,
)
from nnie_prep.proof.feeds import drawn
from nnie_prep.verify import Verdict

WANTED = {"data": (1, 3, 4, 5)}


@pytest.fixture
def small(tmp_path: Path) -> Net:
    return read_net(*write_caffe(tmp_path))


def kept(net: Net) -> dict[str, Fate]:
    return {name: Fate((name,)) for name in net.blob_names()}


def errors(verdict: Verdict) -> dict[str, float | None]:
    return {result.name: result.end_to_end for result in verdict.results}


# ---- what nets are fed with --------------------------------------------------------------------


def test_feeds_are_seeded(small: Net) -> None:
    def draw(seed: int, low: float = -1, high: float = 2) -> NDArray[Any]:
        (value,) = draw_feeds(small, Options(seed=seed), low, high).values()
        return value

    assert draw(0).shape == (1, 3, 11, 13) and draw(0).dtype == np.float32
    np.testing.assert_array_equal(draw(0), draw(0))
    assert not np.array_equal(draw(0), draw(1))
    assert -1 <= draw(0).min() < -0.9 and 1.9 < draw(0).max() <= 2


POOLS = {
    "ROIPooling": "roi_pooling_param { pooled_w: 2 pooled_h: 3 spatial_scale: 0.5 }",
    "PSROIPooling": "psroi_pooling_param { output_dim: 2 group_size: 2 spatial_scale: 0.5 }",
}


@pytest.mark.parametrize("engine", ["numpy", pytest.param("caffe", marks=pytest.mark.caffe)])
@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 1, 1)])
@pytest.mark.parametrize("type_", POOLS)
def test_regions_are_fed_as_such(tmp_path: Path, type_: str, shape: tuple[int, ...], engine: str) -> None:
    """The second stage of an R-CNN: what it pools by are regions of the picture, no two alike."""
    path, dims = tmp_path / "net.prototxt", "".join(f"dim: {extent} " for extent in shape)
    path.write_text(
        "input: 'data' input_shape { dim: 1 dim: 3 dim: 31 dim: 17 } "
        f"input: 'rois' input_shape {{ {dims}}} "
        "layer { name: 'half' type: 'Convolution' bottom: 'data' top: 'map' "
        "convolution_param { num_output: 8 kernel_size: 1 stride: 2 weight_filler { type: 'gaussian' } } } "
        f"layer {{ name: 'pool' type: '{type_}' bottom: 'map' bottom: 'rois' top: 'pool' {POOLS[type_]} }}"
    )
    net = read_net(path)
    net.layers[0].blobs = [
        np.random.default_rng(0).standard_normal((8, 3, 1, 1), np.float32),
        np.zeros(8, "f4"),
    ]
    feeds = draw_feeds(net, Options(seed=3), -1, 1)
    assert feeds["rois"].shape == shape and feeds["data"].min() < -0.9
    image, left, top, right, bottom = feeds["rois"].reshape(6, 5).T
    assert not image.any()
    assert ((left >= 0) & (left < right) & (right <= 18)).all() and right.max() > 9
    assert ((top >= 0) & (top < bottom) & (bottom <= 32)).all() and bottom.max() > 18
    verdict = prove_surgery(net, net, kept(net), Options(Engine(engine)))
    assert verdict.passed, verdict
    (pooled,) = [one for one in verdict.results if one.name == "pool"]
    assert pooled.shape[0] == 6


def test_a_net_without_an_input(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text('layer { name: "d" type: "DummyData" top: "d" dummy_data_param { shape { dim: 2 } } }')
    with pytest.raises(
        UserError, match="nobody says how large the pictures are that d \\(DummyData\\) feeds"
    ) as caught:
        draw_feeds(read_net(path), Options(), 0, 1)
    assert "input_shape { .. }" in caught.value.hint


@pytest.mark.parametrize("type_", [np.float32, np.float64, np.uint8, np.int64, np.bool_, ">f4"])
@pytest.mark.parametrize("shape", [(1, 3, 4, 5), (3, 4, 5), (2, 3, 4, 5), (1, 3, 9, 2)])
def test_feeds_from_a_file(tmp_path: Path, type_: Any, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).uniform(0, 200, shape).astype(type_)
    np.save(tmp_path / "x.npy", np.asfortranarray(values))
    np.savez_compressed(tmp_path / "x.npz", data=values)
    for name in ("x.npy", "x.npz"):
        (found,) = read_feeds(tmp_path / name, WANTED).values()
        assert found.dtype == np.float32 and found.ndim == 4
        np.testing.assert_array_equal(found.reshape(shape), values.astype(np.float32))


def test_feeds_for_several_inputs(tmp_path: Path) -> None:
    wanted = {"data": (1, 3, 4, 5), "info": (1, 3)}
    np.savez(tmp_path / "x.npz", info=np.ones(3), data=np.zeros((3, 4, 5)))
    found = read_feeds(tmp_path / "x.npz", wanted)
    assert {name: value.shape for name, value in found.items()} == wanted
    np.save(tmp_path / "x.npy", np.zeros((3, 4, 5)))
    with pytest.raises(UserError, match="holds data, and the net's inputs are data, info"):
        read_feeds(tmp_path / "x.npy", wanted)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_one_value_of_the_input_that_is_not_finite(tmp_path: Path, value: float) -> None:
    values = np.zeros((1, 3, 4, 5))
    values[0, 1, 2, 3] = value
    np.save(tmp_path / "x.npy", values)
    with pytest.raises(UserError, match="'data' holds values that are not finite in float32"):
        read_feeds(tmp_path / "x.npy", WANTED)


def test_an_input_that_is_no_array(tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_text("0 0 0")
    with pytest.raises(UserError, match="x.npy: is not a .npy or .npz file"):
        read_feeds(tmp_path / "x.npy", WANTED)


@pytest.mark.parametrize(
    ("transform", "low", "high"),
    [
        ("", -128, 128),
        ("transform_param { }", 0, 255),
        ("transform_param { scale: 0.00392157 }", 0, 1),
        ("transform_param { mean_value: 100 mean_value: 110 mean_value: 120 }", -110, 145),
        ("transform_param { mean_file: 'x' scale: 0.5 }", -64, 63.5),
        ("transform_param { mean_value: 127.5 scale: -2 }", -255, 255),
    ],
)
def test_the_range_of_the_noise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transform: str, low: float, high: float
) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(
        f"""layer {{ name: "d" type: "Input" top: "d" {transform}
                     input_param {{ shape {{ dim: 1 dim: 3 dim: 50 dim: 50 }} }} }}
        layer {{ name: "a" type: "AbsVal" bottom: "d" top: "a" }}"""
    )
    net, seen = read_net(path), []

    def watch(self: Engine, net: Net, feeds: Any, *rest: Any) -> Any:
        seen.append(feeds["d"])
        return original(self, net, feeds, *rest)

    original = Engine.run
    monkeypatch.setattr(Engine, "run", watch)
    assert prove_surgery(net, net, kept(net), Options()).passed
    assert len(seen) == 3  # A, B, and B by segment
    span = high - low
    assert low <= seen[0].min() < low + 0.01 * span and high - 0.01 * span < seen[0].max() <= high


# ---- surgery -----------------------------------------------------------------------------------


def test_a_net_equals_itself(small: Net) -> None:
    verdict = prove_surgery(small, small.copy(), kept(small), Options())
    assert verdict.passed and set(errors(verdict).values()) == {0.0}
    assert [result.name for result in verdict.results if result.is_output] == ["prob"]
    assert all(result.noise > 0 for result in verdict.results if result.name != "data")


@pytest.mark.parametrize("layer", ["conv", "bn", "scale", "fc"])
def test_any_weight_matters(small: Net, layer: str) -> None:
    for index in range(len(small.layer(layer).blobs)):  # type: ignore[union-attr]
        other = small.copy()
        target = other.layer(layer)
        assert target is not None
        values = np.array(target.blobs[index])
        values.flat[0] = 1.5 * values.flat[0] + 0.1
        target.blobs[index] = values
        verdict = prove_surgery(small, other, kept(small), Options())
        first = verdict.first_divergence()
        assert first is not None and first.name == ("fc" if layer == "fc" else "conv")


def test_a_user_decides_how_strictly(small: Net, tmp_path: Path) -> None:
    other = small.copy()
    fc = other.layer("fc")
    assert fc is not None
    fc.blobs = [np.asarray(fc.blobs[0]) * np.float32(1.001)]
    assert not prove_surgery(small, other, kept(small), Options()).passed
    assert prove_surgery(small, other, kept(small), Options(tolerance=0.1)).passed
    # zeros through all but the bias prove as little as the bias does
    np.save(tmp_path / "x.npy", np.zeros((1, 3, 11, 13)))
    verdict = prove_surgery(small, other, kept(small), Options(input=tmp_path / "x.npy"))
    assert next(result for result in verdict.results if result.name == "data").problem


def test_training_layers_are_not_run_and_need_no_proof(tmp_path: Path) -> None:
    prototxt, caffemodel = write_caffe(tmp_path)
    text = prototxt.read_text().replace("include { phase: TEST }", "").replace("TRAIN", "TEST")
    inputs = """layer { name: "pictures" type: "Input" top: "data" top: "label"
        input_param { shape { dim: 1 dim: 3 dim: 11 dim: 13 } shape { dim: 1 } } }
    """
    prototxt.write_text(text[: text.index("layer {")] + inputs + text[text.index('layer { name: "conv"') :])
    net = read_net(prototxt, caffemodel)
    assert set(net.outputs()) == {"loss", "prob"}
    verdict = prove_surgery(net, net.copy(), kept(net), Options())
    assert verdict.passed
    assert verdict.accounted == dict.fromkeys(["label", "loss"], "only training needs it, and it was not run")
    for command in ("add-bias", "strip", "merge-bn"):
        assert run(command, prototxt, caffemodel, "-q").code == 0


@pytest.mark.caffe
def test_caffe_proves_the_same(small: Net) -> None:
    other = small.copy()
    scale = other.layer("scale")
    assert scale is not None
    scale.blobs = [np.asarray(scale.blobs[0]) * np.float32(1.01), scale.blobs[1]]
    for second, answer in ((small, "equal"), (other, "differs")):
        ours, theirs = (
            prove_surgery(small, second, kept(small), Options(Engine(name))) for name in ("numpy", "caffe")
        )
        assert ours.answer == theirs.answer == answer
        assert (ours.engine, theirs.engine) == ("numpy", "caffe")
        for mine, its in zip(ours.results, theirs.results, strict=True):
            assert its.end_to_end == pytest.approx(mine.end_to_end, rel=1e-3, abs=1e-5)
            assert its.segment == pytest.approx(mine.segment, rel=1e-3, abs=1e-5)


def test_what_a_caffe_lacks_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what is asked of it are the blobs of the net, not those of the layers that stand in for others."""
    path = tmp_path / "net.prototxt"
    path.write_text(
        """input: "data"
        input_shape { dim: 1 dim: 2 dim: 3 dim: 4 }
        layer { name: "six" type: "ReLU6" bottom: "data" top: "six" }
        layer { name: "abs" type: "AbsVal" bottom: "six" top: "abs" }"""
    )
    net, given = read_net(path), []

    def forward(python: str, prototxt: Path, weights: Path, feeds: Any, wanted: Any, forced: Any) -> Any:
        given.append((python, "ReLU6" in prototxt.read_text(), wanted))
        return {}

    monkeypatch.setattr(caffe_engine, "find_caffe_python", lambda option: f"found {option}")
    monkeypatch.setattr(caffe_engine, "forward", forward)
    for known, told in (
        (("ReLU", "ReLU6"), []),
        (("ReLU", "Power"), ["this Caffe lacks 1 ReLU6: run as what it has"]),
    ):
        info = caffe_engine.CaffeInfo("1.0", "", known)
        monkeypatch.setattr(caffe_engine, "caffe_info", lambda python, info=info: info)
        engine = Engine("caffe", "python2")
        engine.run(net, {})
        assert engine.told == told
        engine.run(net, {}, wanted={"six"})
        assert engine.told == told
        own = {"data", "six", "abs"}
        assert given == [("found python2", not told, own), ("found python2", not told, {"six"})]
        given.clear()


# ---- conversions -------------------------------------------------------------------------------


def proven(folder: Path, options: Options, change: Any = lambda net: None) -> Verdict:
    files = folder / "net.cfg", folder / "net.weights"
    conversion = convert(*files)
    change(conversion.net)
    return prove_conversion(
        conversion.layers,
        reference.load(*files),
        conversion.net,
        BlobMap(conversion.net.blob_names()),
        options,
    )


def test_every_darknet_layer_is_compared(tmp_path: Path) -> None:
    write_darknet(tmp_path)
    verdict = proven(tmp_path, Options())
    assert verdict.passed and verdict.judge
    sections = [line[1:-1] for line in CFG.splitlines() if line.startswith("[")][1:]
    names = [f"{index} {section}" for index, section in enumerate(sections)]
    assert [*errors(verdict), *verdict.accounted] == names
    assert [result.name for result in verdict.results if result.is_output] == ["9 convolutional"]
    assert all(result.noise > 0 and result.segment is not None for result in verdict.results)


def test_a_layer_of_darknet_that_the_net_lost(tmp_path: Path) -> None:
    write_darknet(tmp_path)

    def lose_the_end(net: Net) -> None:
        net.remove(net.layers[-1])

    assert not proven(tmp_path, Options(), lose_the_end).passed


def test_by_segment_only_the_faulty_layer_is_off(tmp_path: Path) -> None:
    """What lies behind it is fed with Darknet's own values."""
    write_darknet(tmp_path)

    def spoil(net: Net) -> None:
        layer = net.layer("layer3-conv")
        assert layer is not None
        layer.blobs[0] = np.asarray(layer.blobs[0]) * np.float32(1.1)

    verdict = proven(tmp_path, Options(), spoil)
    first = verdict.first_divergence()
    assert first is not None and first.name == "2 convolutional"
    for result in verdict.results[2:]:
        assert result.end_to_end is not None and result.end_to_end > 1e-2
        assert result.segment is not None and (result.segment > 1e-2) == (result is first)


@pytest.mark.parametrize("seed", range(12))
def test_a_network_with_one_value_as_its_output(tmp_path: Path, seed: int) -> None:
    """Rounding in 2584 products is no divergence, though a single value has no deviation to be judged by."""
    random = np.random.default_rng(seed)
    (tmp_path / "net.cfg").write_text(
        "[net]\nwidth=19\nheight=17\nchannels=3\n"
        "[convolutional]\nbatch_normalize=1\nfilters=8\nsize=3\nstride=1\npad=1\nactivation=leaky\n"
        "[connected]\noutput=1\nactivation=linear\n"
    )
    parts = [random.normal(0, 1, 8), random.uniform(0.5, 2, 8), random.normal(0, 1, 8)]
    parts += [random.uniform(0.5, 2, 8), random.normal(0, 0.3, 216), random.normal(0, 1, 1)]
    parts.append(random.normal(0, 0.02, 8 * 17 * 19))
    data = struct.pack("<iiiQ", 0, 2, 0, 0) + np.concatenate(parts).astype("<f4").tobytes()
    (tmp_path / "net.weights").write_bytes(data)
    assert proven(tmp_path, Options(seed=seed)).passed
    half_off = np.float32(1.0005)

    def spoil(net: Net) -> None:
        last = net.layers[-1]
        last.blobs = [np.asarray(blob) * half_off for blob in last.blobs]

    assert proven(tmp_path, Options(seed=seed), spoil).answer == "differs"


@pytest.mark.caffe
def test_two_darknet_networks_have_the_noise_of_the_first(tmp_path: Path) -> None:
    net = random_net(tmp_path, "[conv]\nfilters=5\nsize=3\n" * 2, (3, 9, 8))
    verdict = prove_darknet(net.reference, net.reference, Options())
    assert verdict.passed and [result.name for result in verdict.results] == [
        *("0 convolutional", "1 convolutional"),
    ]
    for index, result in enumerate(verdict.results):
        assert result.end_to_end == 0  # itself
        single, double = (
            net.reference.forward(feeds_of(net.reference), dtype)[index] for dtype in (np.float32, np.float64)
        )
        assert single is not None and double is not None
        assert result.noise == pytest.approx(np.abs(single - double).max() / single.std(), rel=1e-3)
        assert result.noise > 0


def feeds_of(network: reference.Reference) -> NDArray[Any]:
    """What the proof feeds by default."""
    (value,) = drawn({"data": (1, *network.input_shape)}, Options(), 0.0, 1.0).values()
    return np.asarray(value[0])


def test_no_room_for_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_caffe(tmp_path)
    net = read_net(*sorted(tmp_path.glob("*.prototxt")), *tmp_path.glob("*.caffemodel"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))
    with pytest.raises(UserError, match="set TMPDIR"):
        Engine("caffe").run(net, {})


def test_an_unknown_layer_that_overwrites_the_input(tmp_path: Path) -> None:
    """What is behind it cannot be run; that is no answer, and no traceback."""
    path = tmp_path / "net.prototxt"
    path.write_text(
        'input: "data" input_shape { dim: 1 dim: 2 dim: 3 dim: 4 }\n'
        'layer { name: "x" type: "Unheard" bottom: "data" top: "data" }\n'
        'layer { name: "r" type: "ReLU" bottom: "data" top: "r" }\n'
    )
    net = read_net(path)
    fates = {name: Fate((name,)) for name in net.blob_names()}
    assert prove_surgery(net, net.copy(), fates, Options()).answer == "not proven"


SSD = """
name: "ssd"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 6 dim: 5 } } }
layer { name: "loc" type: "Convolution" bottom: "data" top: "loc"
        convolution_param { num_output: 8 kernel_size: 3 pad: 1 } }
layer { name: "loc_perm" type: "Permute" bottom: "loc" top: "loc_perm"
        permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "loc_flat" type: "Flatten" bottom: "loc_perm" top: "loc_flat" }
layer { name: "conf" type: "Convolution" bottom: "data" top: "conf"
        convolution_param { num_output: 6 kernel_size: 3 pad: 1 } }
layer { name: "conf_perm" type: "Permute" bottom: "conf" top: "conf_perm"
        permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "conf_flat" type: "Flatten" bottom: "conf_perm" top: "conf_flat" }
layer { name: "conf_rows" type: "Reshape" bottom: "conf_flat" top: "conf_rows"
        reshape_param { shape { dim: 0 dim: -1 dim: 3 } } }
layer { name: "softmax" type: "Softmax" bottom: "conf_rows" top: "softmax" softmax_param { axis: 2 } }
layer { name: "soft_flat" type: "Flatten" bottom: "softmax" top: "soft_flat" }
layer { name: "prior" type: "PriorBox" bottom: "loc" bottom: "data" top: "prior"
        prior_box_param { min_size: 2 max_size: 3 } }
layer { name: "found" type: "DetectionOutput" bottom: "loc_flat" bottom: "soft_flat" bottom: "prior"
        top: "found" detection_output_param { num_classes: 3 keep_top_k: 20 confidence_threshold: 0.2
        code_type: CENTER_SIZE nms_param { nms_threshold: 0.45 top_k: 50 } } }
layer { name: "boxes" type: "Slice" bottom: "found" top: "rest" top: "boxes"
        slice_param { axis: 3 slice_point: 3 } }
"""


def ssd(tmp_path: Path) -> Net:
    """With two boxes at each place, for which the confidences are equal."""
    path = tmp_path / "ssd.prototxt"
    path.write_text(SSD)
    net, random = read_net(path), np.random.default_rng(5)
    loc, conf = net.layer("loc"), net.layer("conf")
    assert loc is not None and conf is not None
    loc.blobs = [random.normal(0, 5e-3, (8, 3, 3, 3)).astype(np.float32), np.zeros(8, np.float32)]
    each = random.normal(0, 1e-2, (3, 3, 3, 3))
    conf.blobs = [np.concatenate([each, each]).astype(np.float32), np.zeros(6, np.float32)]
    return net


@pytest.mark.parametrize("engine", ["numpy", pytest.param("caffe", marks=pytest.mark.caffe)])
def test_detections_that_change_places_for_a_rounding_are_equal(tmp_path: Path, engine: str) -> None:
    net, other = ssd(tmp_path), ssd(tmp_path)
    conf = other.layer("conf")
    assert conf is not None
    conf.blobs[1] = np.float32([0, 0, 0, 0, 1e-6, 1e-6])  # the second of two equal boxes is the better now
    runs = [Engine(engine).run(one, draw_feeds(one, Options(), -128, 128)) for one in (net, other)]
    assert runs[0]["found"].shape[2] > 10 and np.abs(runs[0]["boxes"] - runs[1]["boxes"]).max() > 0.1
    verdict = prove_surgery(net, other, kept(net), Options(Engine(engine)))
    assert verdict.passed, verdict.reasons
    (found,) = [result for result in verdict.results if result.name == "found"]
    assert found.segment == 0 and found.end_to_end is None


@pytest.mark.parametrize("engine", ["numpy", pytest.param("caffe", marks=pytest.mark.caffe)])
@pytest.mark.parametrize(("field", "value"), [("top_k", 3), ("nms_threshold", 0.2)])
def test_other_detections_differ(tmp_path: Path, engine: str, field: str, value: float) -> None:
    net, other = ssd(tmp_path), ssd(tmp_path)
    layer = other.layer("found")
    assert layer is not None
    setattr(layer.proto.detection_output_param.nms_param, field, value)
    verdict = prove_surgery(net, other, kept(net), Options(Engine(engine)))
    first = verdict.first_divergence()
    assert verdict.answer == "differs" and first is not None and first.name == "found"


# ---- memory ------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["caffe", "darknet"])
def test_a_proof_keeps_all_blobs_of_two_runs_at_most(tmp_path: Path, source: str) -> None:
    """There are four: A in float32 and in float64, B by itself and on A's values."""
    cfg, weights = tmp_path / "net.cfg", tmp_path / "net.weights"
    layer = "[convolutional]\nfilters=16\nsize=1\nactivation=linear\n"
    cfg.write_text("[net]\nheight=99\nwidth=101\nchannels=16\n" + 24 * layer)
    numbers = np.random.default_rng(0).normal(0, 0.25, 24 * (16 + 16 * 16)).astype("<f4")
    weights.write_bytes(struct.pack("<3iQ", 0, 2, 5, 0) + numbers.tobytes())
    conversion = convert(cfg, weights)
    whole = 24 * 16 * 99 * 101 * 4
    tracemalloc.start()
    if source == "caffe":
        verdict = prove_surgery(conversion.net, conversion.net.copy(), kept(conversion.net), Options())
    else:
        judge = reference.load(cfg, weights)
        blob_map = BlobMap(conversion.net.blob_names())
        verdict = prove_conversion(conversion.layers, judge, conversion.net, blob_map, Options())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert verdict.passed and len(verdict.compared()) >= 24
    assert 2 * whole < peak < 2.7 * whole
