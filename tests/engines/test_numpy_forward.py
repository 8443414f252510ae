"""The forward pass of whole nets: order, versions of blobs, forced values, unknown layers, memory."""

from __future__ import annotations

import io
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format

from nnie_prep.blob import Array, DeferredBlob
from nnie_prep.caffe_io import format_prototxt, write_caffemodel
from nnie_prep.engines import caffe_engine
from nnie_prep.engines.numpy import forward, forward_layer, unsupported
from nnie_prep.errors import UserError
from nnie_prep.net import Layer, Net
from nnie_prep.nnie_caffe_pb2 import LayerParameter, NetParameter
from nnie_prep.passes.replace_upsample import replace_upsample
from nnie_prep.proof import Engine
from nnie_prep.shapes import infer_shapes


def net(*layers: Layer, **inputs: tuple[int, ...]) -> Net:
    result = Net(list(layers), NetParameter(name="net"), source="net.prototxt")
    for name, shape in inputs.items():
        result.header.input.append(name)
        result.header.input_shape.add().dim.extend(shape)
    return result


def layer(layer_type: str, bottoms: str, tops: str, text: str = "", *blobs: Array) -> Layer:
    proto = LayerParameter(name=f"{layer_type} {tops}", type=layer_type)
    text_format.Merge(text, proto)
    return Layer(proto, bottoms.split(), tops.split(), list(blobs), origin="net.prototxt:9")


def noise(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


SQUARE, HALF = "power_param { power: 2 }", "power_param { scale: 0.5 }"


def test_result_holds_the_last_version_of_each_blob() -> None:
    x = noise(2, 3, 4, 5)
    found = forward(
        net(
            layer("Power", "x", "a", SQUARE),
            layer("Reshape", "a", "view", "reshape_param { shape { dim: 2 dim: -1 } }"),
            layer("Power", "view", "view", "power_param { shift: 1 }"),
            layer("Power", "x", "x", HALF),
            layer("Eltwise", "x view2", "sum"),
            x=x.shape,
            view2=x.shape,
        ),
        {"x": x, "view2": x},
    )
    np.testing.assert_array_equal(found["a"], x * x)  # not written through its view
    np.testing.assert_array_equal(found["view"], (x * x + 1).reshape(2, -1))
    np.testing.assert_array_equal(found["x"], x * 0.5)
    np.testing.assert_array_equal(found["sum"], x * 0.5 + x)
    assert list(found) == ["view2", "a", "view", "x", "sum"]


def test_feeds_and_weights_are_not_written_to() -> None:
    x, slopes = noise(2, 3, 4, 5), noise(3)
    x.flags.writeable = slopes.flags.writeable = False
    chain = net(
        layer("Dropout", "x", "x"),
        layer("PReLU", "x", "x", "", slopes),
        layer("BatchNorm", "x", "x", "batch_norm_param { use_global_stats: false }"),
        layer("Softmax", "x", "x"),
        layer("Split", "x", "a b"),
        layer("Scale", "a", "a", "", slopes),
        layer("Eltwise", "a b", "a", "eltwise_param { operation: PROD }"),
        x=x.shape,
    )
    found = forward(chain, {"x": x})
    np.testing.assert_array_equal(found["b"], found["x"])
    assert not np.array_equal(found["a"], found["x"])


def test_wanted_blobs_alone_are_returned_and_the_others_freed() -> None:
    size = 2**18
    layers = [layer("Power", f"b{index}", f"b{index + 1}", HALF) for index in range(40)]
    chain = net(*layers, b0=(size,))
    x = noise(size)
    tracemalloc.start()
    found = forward(chain, {"b0": x}, wanted=["b40", "b3"])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert set(found) == {"b3", "b40"}
    np.testing.assert_array_equal(found["b3"], x / 8)
    # b3, a bottom, its top and a temporary: 40 blobs would be ten times as much.
    assert peak < 5 * x.nbytes


def test_whole_computation_has_one_dtype() -> None:
    weights = noise(4, 3, 3, 3)
    parameters = "convolution_param { num_output: 4 kernel_size: 3 bias_term: false }"
    x = noise(1, 3, 6, 5)
    chain = net(
        layer("Convolution", "x", "c", parameters, weights),
        layer("Parameter", "", "p", "parameter_param { shape { dim: 2 } }", noise(2)),
        x=x.shape,
    )
    single, double = forward(chain, {"x": x}), forward(chain, {"x": x}, dtype=np.float64)
    assert {value.dtype for value in single.values()} == {np.dtype(np.float32)}
    assert {value.dtype for value in double.values()} == {np.dtype(np.float64)}
    error = np.abs(single["c"] - double["c"]).max()
    assert 0 < error < 1e-5
    exact = sum(
        np.einsum("nchw,oc->nohw", x[:, :, i : i + 4, j : j + 3].astype(np.float64), weights[:, :, i, j])
        for i in range(3)
        for j in range(3)
    )
    np.testing.assert_allclose(double["c"], exact, rtol=0, atol=1e-13)


# ---- forced values -----------------------------------------------------------------------------


def test_forced_values_are_read_and_computed_ones_returned() -> None:
    x, forced = noise(3, 4), noise(3, 4, seed=1)
    chain = net(
        layer("Power", "x", "a", SQUARE),
        layer("Power", "a", "a", "power_param { shift: 1 }"),  # reads what is computed: the first version
        layer("Power", "a", "b", HALF),
        x=x.shape,
    )
    found = forward(chain, {"x": x}, forced={"a": forced, "not in the net": x})
    np.testing.assert_array_equal(found["a"], x * x + 1)
    np.testing.assert_array_equal(found["b"], forced * 0.5)
    assert "a" not in forward(chain, {"x": x}, wanted=["b"], forced={"a": forced})


@pytest.mark.parametrize("is_layer", [False, True])
def test_forced_inputs(is_layer: bool) -> None:
    x, forced = noise(3, 4), noise(3, 4, seed=1)
    chain = net(layer("Power", "x", "a", HALF), x=x.shape)
    if is_layer:
        chain = net(layer("Input", "", "x"), layer("Power", "x", "a", HALF))
    found = forward(chain, {"x": x}, forced={"x": forced})
    np.testing.assert_array_equal(found["x"], x)
    np.testing.assert_array_equal(found["a"], forced * 0.5)
    np.testing.assert_array_equal(forward(chain, {}, forced={"x": forced})["a"], forced * 0.5)


@pytest.mark.caffe
def test_forced_values_are_treated_as_by_caffe(tmp_path: Path) -> None:
    x = noise(2, 3, 9, 7)
    convolution = "convolution_param { num_output: 3 kernel_size: 3 pad: 1 }"
    chain = net(
        layer("Convolution", "x", "c", convolution, noise(3, 3, 3, 3), noise(3)),
        layer("BatchNorm", "c", "c", "", noise(3), np.abs(noise(3)) + 1, np.full(1, 2, np.float32)),
        layer("Scale", "c", "c", "scale_param { bias_term: true }", noise(3), noise(3)),
        layer("ReLU", "c", "c"),
        layer("Eltwise", "c x", "sum"),
        layer("Pooling", "sum", "pooled", "pooling_param { pool: AVE kernel_size: 3 stride: 2 }"),
        layer("ReLU", "pooled", "pooled", "relu_param { negative_slope: 0.1 }"),
        x=x.shape,
    )
    forced = {"c": noise(*x.shape, seed=5), "sum": noise(*x.shape, seed=6), "x": noise(*x.shape, seed=7)}
    prototxt, caffemodel = tmp_path / "net.prototxt", tmp_path / "net.caffemodel"
    prototxt.write_text(format_prototxt(chain), encoding="utf-8")
    memory = io.BytesIO()
    write_caffemodel(chain, memory)
    caffemodel.write_bytes(memory.getvalue())
    caffe = caffe_engine.forward(sys.executable, prototxt, caffemodel, {"x": x}, None, forced)
    ours = forward(chain, {"x": x}, forced=forced)
    assert set(ours) == set(caffe) == {"x", "c", "sum", "pooled"}
    for name, value in ours.items():
        np.testing.assert_allclose(value, caffe[name], rtol=0, atol=2e-6 * np.abs(value).max(), err_msg=name)


# ---- what cannot be run ------------------------------------------------------------------------


def test_unknown_layers_and_what_depends_on_them_are_not_run() -> None:
    x = noise(2, 3)
    chain = net(
        layer("Power", "x", "a", HALF),
        layer("Unheard", "a", "u"),
        layer("Power", "u", "v", HALF),
        layer("Eltwise", "a v", "w"),
        layer("Power", "a", "b", HALF),
        layer("Unheard", "a", "a"),
        layer("Power", "a", "c", HALF),
        layer("Unheard", "x", "x"),
        x=x.shape,
    )
    found = forward(chain, {"x": x})
    assert set(found) == {"b"}  # a and x are overwritten by layers that were not run
    assert unsupported(chain) == [chain.layers[1], chain.layers[5], chain.layers[7]]
    found = forward(chain, {"x": x}, forced={"u": x})
    assert set(found) == {"b", "v", "w"}
    np.testing.assert_array_equal(found["w"], x * 0.5 + x * 0.5)


def test_refinedet_has_another_detection_output() -> None:
    """Same name, two more bottoms: what it says is not SSD's, so nothing is said."""
    shapes = {"loc": (1, 8), "conf": (1, 4), "prior": (1, 2, 8), "arm_conf": (1, 4), "arm_loc": (1, 8)}
    text = "detection_output_param { num_classes: 2 }"
    chain = net(layer("DetectionOutput", " ".join(shapes), "found", text), **shapes)
    assert unsupported(chain) == chain.layers
    assert not forward(chain, {name: noise(*shape) for name, shape in shapes.items()}, wanted=["found"])
    assert infer_shapes(chain)["found"] == (1, 1, 1, 7)
    del chain.layers[0].bottoms[3:]
    assert unsupported(chain) == []


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("scale: 2", (10, 14)),
        ("", (10, 14)),  # 2 is SegNet's default
        ("scale: 2 pad_out_h: true", (9, 14)),
        ("scale_h: 2 scale_w: 3", (10, 21)),
        ("scale: 2 upsample_h: 11 upsample_w: 13", (11, 13)),
    ],
)
def test_segnet_has_another_upsample(text: str, size: tuple[int, int]) -> None:
    """With the mask of a pooling for a second bottom: its size is known, and no value is invented."""
    shapes = {"x": (1, 3, 5, 7), "mask": (1, 3, 5, 7)}
    chain = net(layer("Upsample", "x mask", "y", f"upsample_param {{ {text} }}"), **shapes)
    assert unsupported(chain) == chain.layers
    assert not forward(chain, {name: noise(*shape) for name, shape in shapes.items()}, wanted=["y"])
    assert infer_shapes(chain)["y"] == (1, 3, *size)
    (note,) = replace_upsample(chain)
    assert note.text == "Upsample not replaced: it has 2 bottoms" and not note.changed


@pytest.mark.parametrize(
    ("text", "shapes", "said"),
    [
        ("scale: 2", {"x": (1, 3, 5, 7), "mask": (1, 3, 5, 6)}, "a mask has the shape of the map"),
        ("scale: 1", {"x": (1, 3, 5, 7), "mask": (1, 3, 5, 7)}, "scale is 1 x 1; with a mask both are 2"),
        ("scale: 2", {"x": (1, 3), "mask": (1, 3)}, "must have 4 axes"),
        ("", {"x": (1, 3, 5, 7), "mask": (1, 3, 5, 7), "z": (1,)}, "3 bottoms; Caffe wants 1 to 2"),
    ],
)
def test_segnet_upsamples_that_cannot_be(text: str, shapes: dict[str, tuple[int, ...]], said: str) -> None:
    chain = net(layer("Upsample", " ".join(shapes), "y", f"upsample_param {{ {text} }}"), **shapes)
    with pytest.raises(UserError, match=said):
        infer_shapes(chain)


def test_data_layers_may_be_fed() -> None:
    x = noise(2, 3)
    chain = net(
        layer("Data", "", "data label"), layer("Power", "data", "a", HALF), layer("ReLU", "label", "b")
    )
    assert set(forward(chain, {"data": x})) == {"data", "a"}
    assert unsupported(chain) == [chain.layers[0]]


def test_progress_counts_layers() -> None:
    seen: list[tuple[int, int]] = []
    chain = net(layer("Power", "x", "a"), layer("Unheard", "a", "b"), layer("ReLU", "b", "c"), x=(3,))
    forward(chain, {"x": noise(3)}, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_wrong_names() -> None:
    chain = net(layer("Power", "x", "a"), x=(3,))
    with pytest.raises(UserError, match="no value is given for input 'x'"):
        forward(chain, {})
    with pytest.raises(UserError, match="'y' is not an input; the net has x"):
        forward(chain, {"x": noise(3), "y": noise(3)})
    with pytest.raises(UserError, match="the net has no blob 'b'"):
        forward(chain, {"x": noise(3)}, wanted=["b"])


# ---- weights -----------------------------------------------------------------------------------

CONVOLUTION = "convolution_param { num_output: 4 kernel_size: 1 }"


def test_weights_may_be_deferred_or_of_the_old_shape() -> None:
    x, kernel, bias = noise(1, 3, 5, 4), noise(4, 3, 1, 1), noise(4)
    plain = layer("Convolution", "x", "y", CONVOLUTION, kernel, bias)
    other = layer("Convolution", "x", "y", CONVOLUTION)
    other.blobs = [DeferredBlob((4, 3, 1, 1), lambda: kernel), bias.reshape(1, 1, 1, 4)]
    np.testing.assert_array_equal(forward_layer(plain, [x])[0], forward_layer(other, [x])[0])


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ([], "0 blobs of weights, and needs 2: [(4, 3, 1, 1), (4,)]"),
        ([(4, 3, 1, 1)], "1 blobs of weights, and needs 2"),
        ([(3, 4, 1, 1), (4,)], "blob 0 has shape (3, 4, 1, 1), and shape (4, 3, 1, 1) is needed"),
        ([(4, 3, 1, 1), (3,)], "blob 1 has shape (3,), and shape (4,) is needed"),
    ],
)
def test_weights_that_do_not_fit(shapes: list[tuple[int, ...]], words: str) -> None:
    convolution = layer("Convolution", "x", "y", CONVOLUTION, *(noise(*shape) for shape in shapes))
    with pytest.raises(UserError) as caught:
        forward_layer(convolution, [noise(1, 3, 5, 4)])
    assert words in caught.value.message and caught.value.where == "net.prototxt:9"


@pytest.mark.parametrize("values", [[0, 3], [-1, 0], [float("nan"), 0]])
def test_indices_beyond_the_end(values: list[float]) -> None:
    index = np.array(values, dtype=np.float32)
    with pytest.raises(UserError, match=r"an index is outside of 0\.\.2"):
        forward_layer(layer("BatchReindex", "x i", "y"), [noise(3, 2), index])
    embed = layer(
        "Embed", "i", "y", "embed_param { input_dim: 3 num_output: 2 bias_term: false }", noise(3, 2)
    )
    with pytest.raises(UserError, match=r"an index is outside of 0\.\.2"):
        forward_layer(embed, [index])


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("ROIPooling", "roi_pooling_param { pooled_h: 2 pooled_w: 2 }"),
        ("PSROIPooling", "psroi_pooling_param { spatial_scale: 1 output_dim: 4 group_size: 1 }"),
    ],
)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_regions_that_are_nowhere(kind: str, text: str, value: float) -> None:
    regions = np.array([[0, 1, 1, 3, 3], [0, 1, value, 3, 3]], dtype=np.float32)
    with pytest.raises(UserError, match="a region's values are not finite"):
        forward_layer(layer(kind, "x r", "y", text), [noise(1, 4, 5, 5), regions])


def test_unknown_type_alone() -> None:
    with pytest.raises(UserError, match="not known to the NumPy engine"):
        forward_layer(layer("Unheard", "x", "y"), [noise(1)])


@pytest.mark.caffe
@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("Reshape", "reshape_param { shape { dim: 0 dim: 12 dim: 5 } }"),
        ("Flatten", ""),
        ("Split", ""),
        ("Concat", ""),
        ("Slice", ""),
        ("Power", "power_param { shift: 0 }"),  # copies, and shares nothing
    ],
)
def test_in_place_is_seen_through_shared_memory(kind: str, text: str) -> None:
    """Readers of the blob before see what a layer in place wrote behind it; those before that do not."""
    tops = "r s" if kind == "Split" else "r"
    drawn = net(
        layer("TanH", "data", "c"),
        layer("Sigmoid", "c", "early"),
        layer(kind, "c", tops, text),
        layer("Power", "r", "r", SQUARE),
        layer("Power", "c", "late", HALF),
        layer("ELU", "r", "own"),
        data=(2, 3, 4, 5),
    )
    if kind == "Split":
        drawn.layers.append(layer("AbsVal", "s", "other"))
    feeds = {"data": noise(2, 3, 4, 5, seed=3)}
    theirs = Engine("caffe").run(drawn, feeds)
    for name, value in forward(drawn, feeds).items():
        if name not in ("c", "s"):  # pycaffe records them before or after, whichever it reads
            np.testing.assert_allclose(value, theirs[name], rtol=0, atol=1e-6, err_msg=name)


@pytest.mark.caffe
@pytest.mark.parametrize(("threshold", "rows"), [(0.5, 2), (0.503, 1), (0.45, 1)])
def test_suppression_tightens_above_a_half_alone(threshold: float, rows: int) -> None:
    """Two boxes that overlap by 0.48: a threshold just above a half shrinks below that once one is kept."""
    apart = 0.52 / 1.48
    text = (
        "detection_output_param { num_classes: 2 background_label_id: 0 code_type: CORNER"
        f" confidence_threshold: 0.1 nms_param {{ nms_threshold: {threshold} eta: 0.9 }} }}"
    )
    shapes = {"loc": (1, 8), "conf": (1, 4), "prior": (1, 2, 8)}
    boxes = np.array([[0, 0, 0.5, 0.5], [0.5 * apart, 0, 0.5 * (1 + apart), 0.5]]).ravel()
    feeds = {
        "loc": np.zeros((1, 8), np.float32),
        "conf": np.float32([[0.1, 0.9, 0.2, 0.8]]),
        "prior": np.stack([boxes, np.ones(8)]).astype(np.float32)[np.newaxis],
    }
    drawn = net(layer("DetectionOutput", "loc conf prior", "found", text), **shapes)
    found = forward(drawn, feeds)["found"]
    assert found.shape == (1, 1, rows, 7)
    np.testing.assert_allclose(found, Engine("caffe").run(drawn, feeds)["found"], rtol=0, atol=1e-6)
