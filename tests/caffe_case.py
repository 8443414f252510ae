"""Nets of a few layers for real Caffe, and what their results are measured with."""

import subprocess
import sys

import numpy as np
from google.protobuf import text_format

from nnie_prep.engines.caffe_engine import forward
from nnie_prep.nnie_caffe_pb2 import NetParameter

# Sums of some dozen float32 products of size 1 against float64.
ROUNDING = 1e-6


def layer(type_, bottom, top, parameters="", name=None):
    bottoms = "".join(f'bottom: "{blob}" ' for blob in bottom.split())
    tops = "".join(f'top: "{blob}" ' for blob in top.split())
    return f'layer {{ name: "{name or top + "_" + type_}" type: "{type_}" {bottoms}{tops}{parameters} }}\n'


class Case:
    """A prototxt in a folder of its own, with weights by layer name if any are given."""

    def __init__(self, folder, python, shapes, layers, weights=None):
        inputs = "".join(
            f'input: "{name}" input_shape {{ {" ".join(f"dim: {d}" for d in shape)} }}\n'
            for name, shape in shapes.items()
        )
        self.python = python
        self.prototxt = folder / "net.prototxt"
        self.prototxt.write_text(inputs + layers)
        self.caffemodel = None
        if weights:
            self.caffemodel = folder / "net.caffemodel"
            self.caffemodel.write_bytes(caffemodel(inputs + layers, weights))

    def run(self, feeds, wanted=None, forced=None):
        return forward(self.python, self.prototxt, self.caffemodel, feeds, wanted, forced)


def caffemodel(prototxt, weights):
    net = text_format.Parse(prototxt, NetParameter())
    for stored in net.layer:
        for array in weights.get(stored.name, ()):
            blob = stored.blobs.add()
            blob.shape.dim.extend(array.shape)
            blob.data.extend(np.ravel(array).tolist())
    return net.SerializeToString()


def save_hdf5(prototxt, caffemodel, target):
    """What Caffe's Net.save_hdf5 makes of a pair that it can run."""
    program = "import caffe, sys; net = caffe.Net(sys.argv[1], caffe.TEST); net.copy_from(sys.argv[2]); "
    program += "net.save_hdf5(sys.argv[3])"
    command = [sys.executable, "-c", program, *map(str, (prototxt, caffemodel, target))]
    subprocess.run(command, check=True, capture_output=True)
    assert target.read_bytes().startswith(b"\x89HDF")
    return target


def normal(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def assert_close(actual, expected, limit=ROUNDING):
    """Relative to the size of the expected values, which must be neither constant nor all zero."""
    assert actual.shape == expected.shape
    scale = np.std(expected)
    assert scale > 1e-3
    assert np.max(np.abs(actual.astype(np.float64) - expected)) <= limit * scale


def convolve(x, weights, bias, stride, pad, group):
    """Convolution in float64, position by position. stride and pad are (vertical, horizontal)."""
    x = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (pad[0],) * 2, (pad[1],) * 2))
    count, inputs, height, width = x.shape
    outputs, _, kh, kw = weights.shape
    x = x.reshape(count, group, inputs // group, height, width)
    w = weights.astype(np.float64).reshape(group, outputs // group, inputs // group, kh, kw)
    rows, columns = (height - kh) // stride[0] + 1, (width - kw) // stride[1] + 1
    y = np.empty((count, outputs, rows, columns))
    for row in range(rows):
        for column in range(columns):
            top, left = row * stride[0], column * stride[1]
            window = x[:, :, :, top : top + kh, left : left + kw]
            y[:, :, row, column] = np.einsum("ngihw,goihw->ngo", window, w).reshape(count, outputs)
    return y + bias.reshape(1, -1, 1, 1)
