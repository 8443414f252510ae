"""The layers that our Caffe has beyond BVLC's, against statements of them in NumPy."""

import subprocess

import numpy as np
import pytest
from caffe_case import Case, assert_close, convolve, layer, normal

from nnie_prep.engines.caffe_engine import find_caffe_python
from nnie_prep.nnie_caffe_pb2 import NetParameter

SEEDS = range(4)


@pytest.fixture(scope="module")
def python():
    return find_caffe_python(None)


def draw_shape(rng, axes=4):
    return tuple(int(d) for d in rng.integers(1, 8, axes))


def run_one(folder, python, x, type_, parameters, weights=None):
    weights = {"y_" + type_: weights} if weights else None
    case = Case(folder, python, {"data": x.shape}, layer(type_, "data", "y", parameters), weights)
    return case.run({"data": x}, {"y"})["y"]


@pytest.mark.caffe
@pytest.mark.parametrize("seed", SEEDS)
def test_upsample(tmp_path, python, seed):
    rng = np.random.default_rng(seed)
    x = normal(rng, *draw_shape(rng))
    scale_h, scale_w = (int(s) for s in rng.integers(1, 5, 2)) if seed else (2, 2)
    parameters = f"scale_h: {scale_h} scale_w: {scale_w}" if seed else "scale: 2"
    y = run_one(tmp_path, python, x, "Upsample", f"upsample_param {{ {parameters} }}")
    assert np.array_equal(y, x.repeat(scale_h, axis=2).repeat(scale_w, axis=3))


@pytest.mark.caffe
@pytest.mark.parametrize("seed", SEEDS)
def test_depthwise_convolution(tmp_path, python, seed):
    rng = np.random.default_rng(seed)
    channels, multiple = int(rng.integers(2, 7)), int(rng.integers(1, 4))
    (kh, kw, sh, sw), (ph, pw) = rng.integers(1, 4, 4), rng.integers(0, 3, 2)
    x = normal(rng, 2, channels, 7, 9)
    weights, bias = normal(rng, channels * multiple, 1, kh, kw), normal(rng, channels * multiple)
    parameters = (
        f"convolution_param {{ num_output: {channels * multiple} kernel_h: {kh} kernel_w: {kw} "
        f"stride_h: {sh} stride_w: {sw} pad_h: {ph} pad_w: {pw} }}"
    )
    y = run_one(tmp_path, python, x, "DepthwiseConv", parameters, [weights, bias])
    assert_close(y, convolve(x, weights, bias, (sh, sw), (ph, pw), channels))


@pytest.mark.caffe
@pytest.mark.parametrize("seed", SEEDS)
def test_pass_through(tmp_path, python, seed):
    rng = np.random.default_rng(seed)
    count, channels, rows, columns = draw_shape(rng)
    bh, bw = (int(b) for b in rng.integers(2, 5, 2))
    x = normal(rng, count, channels, rows * bh, columns * bw)
    parameters = f"num_output: {channels * bh * bw} block_height: {bh} block_width: {bw}"
    y = run_one(tmp_path, python, x, "PassThrough", f"pass_through_param {{ {parameters} }}")
    slices = [x[:, :, dy::bh, dx::bw] for dy in range(bh) for dx in range(bw)]
    assert np.array_equal(y, np.concatenate(slices, axis=1))


@pytest.mark.caffe
@pytest.mark.parametrize("seed", SEEDS)
def test_permute(tmp_path, python, seed):
    rng = np.random.default_rng(seed)
    axes = int(rng.integers(2, 6))
    x = normal(rng, *draw_shape(rng, axes))
    order = [int(axis) for axis in rng.permutation(axes)[: rng.integers(1, axes + 1)]]
    y = run_one(
        tmp_path, python, x, "Permute", f"permute_param {{ {' '.join(f'order: {a}' for a in order)} }}"
    )
    rest = [axis for axis in range(axes) if axis not in order]
    assert np.array_equal(y, x.transpose(order + rest))


def normalized(x, scale, across_spatial, eps):
    x = x.astype(np.float64)
    axes = tuple(range(1, x.ndim)) if across_spatial else (1,)
    shape = (1, -1) + (1,) * (x.ndim - 2)
    return x / np.sqrt(eps + (x * x).sum(axes, keepdims=True)) * np.reshape(scale, shape)


def normalize_parameters(across_spatial, shared, eps):
    words = f"across_spatial: {across_spatial} channel_shared: {shared} eps: {eps}".lower()
    return f"norm_param {{ {words} }}"


@pytest.mark.caffe
@pytest.mark.parametrize("across_spatial", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_normalize(tmp_path, python, across_spatial, shared):
    rng = np.random.default_rng(across_spatial + 2 * shared)
    x = normal(rng, 2, 5, 3, 4)
    scale = normal(rng) if shared else normal(rng, 5)
    # An eps of the size of the sums, so that one in the wrong place shows.
    parameters = normalize_parameters(across_spatial, shared, 3.5)
    y = run_one(tmp_path, python, x, "Normalize", parameters, [scale])
    assert_close(y, normalized(x, scale, across_spatial, 3.5))


BACKWARD = """
import sys
import numpy as np
import caffe
folder = sys.argv[1]
net = caffe.Net(folder + "/net.prototxt", caffe.TEST)
if sys.argv[2] == "weights":
    net.copy_from(folder + "/net.caffemodel")
net.blobs["data"].data[...] = np.load(folder + "/x.npy")
net.forward()
net.blobs["y"].diff[...] = np.load(folder + "/g.npy")
net._backward(len(net.layers) - 1, 0)
np.save(folder + "/dx.npy", net.blobs["data"].diff)
parameters = [blob for layer in net.layers for blob in layer.blobs]
if parameters:
    np.save(folder + "/dw.npy", parameters[0].diff)
"""


def run_backward(folder, python, x, g, type_, parameters, weights=None):
    """The gradients of sum(g * y) by x and by the first blob of the layer."""
    named = {"y_" + type_: weights} if weights else None
    layers = "force_backward: true\n" + layer(type_, "data", "y", parameters)
    Case(folder, python, {"data": x.shape}, layers, named)
    np.save(folder / "x.npy", x)
    np.save(folder / "g.npy", g)
    command = [python, "-c", BACKWARD, str(folder), "weights" if weights else ""]
    subprocess.run(command, check=True, capture_output=True, cwd=folder)
    return np.load(folder / "dx.npy"), np.load(folder / "dw.npy") if weights else None


@pytest.mark.caffe
@pytest.mark.parametrize(
    ("type_", "parameters", "apply"),
    [
        (
            "Upsample",
            "upsample_param { scale_h: 2 scale_w: 3 }",
            lambda x: x.repeat(2, axis=2).repeat(3, axis=3),
        ),
        (
            "PassThrough",
            "pass_through_param { num_output: 18 block_height: 2 block_width: 3 }",
            lambda x: np.concatenate([x[:, :, dy::2, dx::3] for dy in range(2) for dx in range(3)], axis=1),
        ),
        ("Permute", "permute_param { order: 2 order: 0 }", lambda x: x.transpose(2, 0, 1, 3)),
        ("ShuffleChannel", "shuffle_channel_param { group: 3 }", lambda x: x[:, [0, 2, 4, 1, 3, 5]]),
    ],
)
def test_backward_of_linear_layers(tmp_path, python, type_, parameters, apply):
    rng = np.random.default_rng(11)
    x = normal(rng, 2, 6 if type_ == "ShuffleChannel" else 3, 4, 6)
    g = normal(rng, *apply(x).shape)
    dx, _ = run_backward(tmp_path, python, x, g, type_, parameters)
    # The gradient of sum(g * apply(x)) is sum(g * apply(e)) for each unit vector e.
    units = np.eye(x.size, dtype=np.float64).reshape(x.size, *x.shape)
    assert_close(dx, np.array([(g * apply(e)).sum() for e in units]).reshape(x.shape))


@pytest.mark.caffe
@pytest.mark.parametrize("across_spatial", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_backward_of_normalize(tmp_path, python, across_spatial, shared):
    rng = np.random.default_rng(12)
    x, g = normal(rng, 2, 3, 2, 4), normal(rng, 2, 3, 2, 4)
    scale = normal(rng) if shared else normal(rng, 3)
    parameters = normalize_parameters(across_spatial, shared, 0.5)
    dx, dscale = run_backward(tmp_path, python, x, g, "Normalize", parameters, [scale])

    def loss(x, scale):
        return (g * normalized(x, scale, across_spatial, 0.5)).sum()

    def gradient(function, at):
        at, step = at.astype(np.float64), 1e-5
        units = np.eye(at.size).reshape(at.size, *at.shape) * step
        slopes = [(function(at + e) - function(at - e)) / (2 * step) for e in units]
        return np.array(slopes).reshape(at.shape)

    # Central differences in float64 are good to about step^2 = 1e-10, so rounding is float32's.
    assert_close(dx, gradient(lambda at: loss(at, scale), x))
    expected = gradient(lambda at: loss(x, at), scale)
    assert dscale.shape == expected.shape
    assert np.max(np.abs(dscale - expected)) <= 1e-5 * np.max(np.abs(expected))


@pytest.mark.caffe
def test_depthwise_convolution_is_saved_without_group(tmp_path, python):
    parameters = (
        "convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: 'gaussian' std: 1 } }"
    )
    case = Case(tmp_path, python, {"data": (1, 4, 5, 5)}, layer("DepthwiseConv", "data", "y", parameters))
    program = "import sys, caffe; caffe.Net(sys.argv[1], caffe.TEST).save(sys.argv[2])"
    saved = tmp_path / "saved.caffemodel"
    command = [python, "-c", program, str(case.prototxt), str(saved)]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    stored = NetParameter.FromString(saved.read_bytes()).layer[-1]
    assert list(stored.blobs[0].shape.dim) == [4, 1, 3, 3]
    assert not stored.convolution_param.HasField("group")
