"""[convolutional], [connected], [batchnorm] against Darknet's loops written out element by element."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from darknet_nets import assert_near, random_net
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nnie_prep.darknet.reference import convolution, load
from nnie_prep.errors import UserError

Array = NDArray[Any]

drawn = settings(max_examples=80)


def c_div(dividend: int, divisor: int) -> int:
    return int(dividend / divisor)


def convolved(
    x: Array, kernel: Array, groups: int, stride: tuple[int, int], pad: int, dilation: int
) -> Array:
    """Every output its own sum; a place outside of the input counts nothing, as im2col_get_pixel has it."""
    channels, height, width = x.shape
    filters, per_group, size, _ = kernel.shape
    out = [
        c_div(n + 2 * pad - (dilation * (size - 1) + 1), s) + 1
        for n, s in zip((height, width), stride, strict=True)
    ]
    result = np.zeros((filters, *out))
    for f, y, column in np.ndindex(*result.shape):
        first = f // (filters // groups) * per_group
        for c, ky, kx in np.ndindex(per_group, size, size):
            row = y * stride[0] - pad + ky * dilation
            place = column * stride[1] - pad + kx * dilation
            if 0 <= row < height and 0 <= place < width:
                result[f, y, column] += x[first + c, row, place] * kernel[f, c, ky, kx]
    return result


@drawn
@given(st.data())
def test_convolution(tmp_path: Path, data: st.DataObject) -> None:
    groups = data.draw(st.sampled_from([1, 1, 2, 3]))
    channels = groups * data.draw(st.integers(1, 3))
    filters = groups * data.draw(st.integers(1, 3))
    shape = (channels, data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9)))
    size = data.draw(st.integers(1, 5))
    stride_y, stride_x = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
    options = {"filters": filters, "size": size, "groups": groups, "activation": "linear"}
    spelling = data.draw(st.sampled_from(["both", "x only", "x and y"]))
    if spelling == "both":
        stride_x = stride_y
        options["stride"] = stride_y
    elif spelling == "x only":
        options |= {"stride": stride_y, "stride_x": stride_x}
    else:
        options |= {"stride": 7, "stride_x": stride_x, "stride_y": stride_y}
    dilation, padding = 1, data.draw(st.integers(0, 3))
    if data.draw(st.booleans()):
        options["padding"] = padding
    else:
        # pad=1 overrides padding, and with an odd size is what dilation can be had with.
        options |= {"pad": data.draw(st.sampled_from([1, 2])), "padding": padding}
        padding = size // 2
        if size % 2:
            options["dilation"] = data.draw(st.integers(1, 3))
            dilation = options["dilation"] if size > 1 else 1
    if "pad" not in options:
        options["padding"] = padding
    normalized = data.draw(st.sampled_from([{}, {"batch_normalize": 1}, {"cbn": 1}]))
    text = "[conv]\n" + "\n".join(f"{key}={value}" for key, value in (options | normalized).items())
    out = [c_div(n + 2 * padding - size, s) + 1 for n, s in zip(shape[1:], (stride_y, stride_x), strict=True)]
    undefined = size == 1 and stride_x == 1 and (padding or stride_y > 1)
    if min(out) < 1 or undefined:
        with pytest.raises(UserError, match="does not fit|a 1x1 convolution"):
            random_net(tmp_path, text, shape)
        return
    net = random_net(tmp_path, text, shape, seed=data.draw(st.integers(0, 99)))
    stream = net.stream.astype(np.float64)
    biases, rest = stream[:filters], stream[filters:]
    if normalized:
        (scales, mean, variance), rest = rest[: 3 * filters].reshape(3, -1), rest[3 * filters :]
    kernel = rest.reshape(filters, channels // groups, size, size)
    expected = convolved(net.input, kernel, groups, (stride_y, stride_x), padding * dilation, dilation)
    if normalized:
        for f in range(filters):
            expected[f] = scales[f] * (expected[f] - mean[f]) / np.sqrt(variance[f] + 1e-5)
    (actual,) = net.outputs()
    np.testing.assert_allclose(actual, expected + biases[:, None, None], rtol=1e-9, atol=1e-9)


def test_large_inputs_are_unfolded_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "[conv]\nfilters=6\nsize=3\nstride=2\npad=1\ngroups=2\n[conv]\nfilters=5\nsize=1\n"
    net = random_net(tmp_path, text, (4, 23, 17))
    whole = net.outputs()
    for limit in (1, 1000):
        monkeypatch.setattr(convolution, "_COLUMNS", limit)
        for first, second in zip(net.outputs(), whole, strict=True):
            assert_near(first, second)


@pytest.mark.parametrize(("kind", "stride"), [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2)])
def test_antialiasing_is_a_blur_behind_the_activation(tmp_path: Path, kind: int, stride: int) -> None:
    text = "[conv]\nfilters=4\nsize=3\npad=1\nstride={}\nactivation=leaky\n{}"
    blurred = random_net(
        tmp_path, text.format(stride, f"antialiasing={kind}\n[conv]\nfilters=2"), (3, 11, 14)
    )
    out, after = blurred.outputs()
    plain = random_net(tmp_path, text.format(1, ""), (3, 11, 14))
    np.testing.assert_array_equal(plain.stream, blurred.stream[: plain.stream.size])
    (unblurred,) = plain.reference.forward(blurred.input, np.float64)
    assert unblurred is not None
    expected = []
    for channel in unblurred:
        if kind == 1:
            kernel = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
            smooth = cv2.filter2D(channel, -1, kernel, borderType=cv2.BORDER_CONSTANT)
        else:
            smooth = (channel[:-1, :-1] + channel[1:, :-1] + channel[:-1, 1:] + channel[1:, 1:]) / 4
        expected.append(smooth[::stride, ::stride])
    assert_near(out, np.stack(expected))
    assert after.shape == (2, *out.shape[1:])


def test_shared_weights_are_those_of_the_named_layer(tmp_path: Path) -> None:
    layer = "[conv]\nfilters=3\nsize=3\npad=1\nbatch_normalize=1\n{}"
    options = ["activation=relu\n", "stride=2\nactivation=linear\n{}", "dilation=2\nactivation=leaky\n{}"]
    text = "".join(layer.format(option) for option in options)
    shared = random_net(tmp_path, text.format("share_index=0\n", "share_index=-1\n"), (3, 9, 9))
    outputs = shared.outputs()
    own = random_net(tmp_path, text.format("", ""), (3, 9, 9))
    assert own.stream.size == 3 * shared.stream.size
    header = own.weights.read_bytes()[:20]
    own.weights.write_bytes(header + np.tile(shared.stream, 3).tobytes())
    for actual, expected in zip(
        outputs, load(own.cfg, own.weights).forward(shared.input, np.float64), strict=True
    ):
        assert expected is not None
        assert_near(actual, expected)


@pytest.mark.parametrize("minor", [2, 1001])
@pytest.mark.parametrize("flavor", ["alexeyab", "pjreddie"])
def test_connected_takes_its_weights_before_its_batchnorm(tmp_path: Path, minor: int, flavor: Any) -> None:
    text = "[connected]\noutput=5\nbatch_normalize=1\nactivation=linear\n[conn]\noutput=4"
    net = random_net(tmp_path, text, (3, 4, 2), minor=minor, flavor=flavor)
    stream = net.stream.astype(np.float64)
    biases, matrix, parameters = stream[:5], stream[5 : 5 + 120], stream[125:140].reshape(3, 5)
    weights = matrix.reshape(24, 5).T if minor > 1000 else matrix.reshape(5, 24)
    first = (
        parameters[0] * (weights @ net.input.ravel() - parameters[1]) / np.sqrt(parameters[2] + 1e-5) + biases
    )
    second_weights = stream[144:].reshape(5, 4).T if minor > 1000 else stream[144:].reshape(4, 5)
    second = 1 / (1 + np.exp(-(second_weights @ first + stream[140:144])))
    actual = net.outputs()
    assert_near(actual[0], first.reshape(5, 1, 1))
    assert_near(actual[1], second.reshape(4, 1, 1))


@pytest.mark.parametrize("flavor", ["alexeyab", "pjreddie"])
def test_batchnorm_of_pjreddie_has_no_biases(tmp_path: Path, flavor: Any) -> None:
    net = random_net(tmp_path, "[batchnorm]", (3, 4, 5), flavor=flavor)
    parameters = net.stream.astype(np.float64).reshape(-1, 3)
    assert len(parameters) == (4 if flavor == "alexeyab" else 3)
    scales, mean, variance = (row[:, None, None] for row in parameters[-3:])
    biases = parameters[0][:, None, None] if flavor == "alexeyab" else 0.0
    assert_near(net.outputs()[0], scales * (net.input - mean) / np.sqrt(variance + 1e-5) + biases)


def test_pjreddie_ignores_what_it_does_not_know(tmp_path: Path) -> None:
    plain = "[conv]\nfilters=4\nsize=3\nstride=2\npad=1\nactivation=leaky\n"
    more = "stride_x=1\nstride_y=3\ndilation=2\nantialiasing=1\nshare_index=-1\n"
    net = random_net(tmp_path, plain, (3, 9, 8), flavor="pjreddie")
    expected = net.outputs()[0]
    assert_near(random_net(tmp_path, plain + more, (3, 9, 8), flavor="pjreddie").outputs()[0], expected)
