"""What the tests of the command line share: two small networks, and ways to run a command."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import pty
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nnie_prep.cli import main
from nnie_prep.nnie_caffe_pb2 import BlobProto, BlobShape, LayerParameter, NetParameter

# A detection head with three anchors and two classes, as a cfg ends.
HEAD = """\
[convolutional]
size=1
stride=1
pad=1
filters=21
activation=linear

[yolo]
mask=0,1,2
anchors=10,14, 23,27, 37,58
classes=2
num=3
"""

# Every section that a tiny YOLO has, with groups, and the pooling that keeps its size.
CFG = (
    """\
[net]
width=24
height=16
channels=3

[convolutional]
batch_normalize=1
filters=6
size=3
stride=1
pad=1
activation=leaky

[maxpool]
size=2
stride=2

[convolutional]
batch_normalize=1
filters=8
groups=2
size=3
stride=1
pad=1
activation=leaky

[maxpool]
size=2
stride=1

[convolutional]
batch_normalize=1
filters=8
size=1
stride=1
pad=1
activation=leaky

[shortcut]
from=-3
activation=linear

[convolutional]
batch_normalize=1
filters=10
size=3
stride=2
pad=1
activation=leaky

[upsample]
stride=2

[route]
layers=-1,5

"""
    + HEAD
)
CONVOLUTIONS = (((6, 3, 3, 3), True), ((8, 3, 3, 3), True), ((8, 8, 1, 1), True), ((10, 8, 3, 3), True)) + (
    ((21, 18, 1, 1), False),
)

TRAIN_VAL = """\
# a small classifier
name: "small"
layer { name: "pictures" type: "Data" top: "data" top: "label" include { phase: TRAIN }
        transform_param { scale: 0.00390625 crop_size: 13 } data_param { source: "x" batch_size: 4 } }
layer { name: "pictures" type: "Input" top: "data" include { phase: TEST }
        input_param { shape { dim: 1 dim: 3 dim: 11 dim: 13 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 6 kernel_size: 3 stride: 2 group: 3 bias_term: false } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" batch_norm_param { eps: 0.01 } }
layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "drop" type: "Dropout" bottom: "conv" top: "dropped" }
layer { name: "fc" type: "InnerProduct" bottom: "dropped" top: "fc"
        inner_product_param { num_output: 5 bias_term: false } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss"
        include { phase: TRAIN } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" include { phase: TEST } }
"""


class Run(NamedTuple):
    """What a command left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str


def run(*arguments: object) -> Run:
    """Runs a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as exit_:
            code = int(exit_.code or 0)
    return Run(code, out.getvalue(), err.getvalue())


def command(*arguments: object) -> list[str]:
    """The command line of a process of its own."""
    return [sys.executable, "-m", "nnie_prep", *map(str, arguments)]


def spawn(*arguments: object, **options: Any) -> Run:
    """Runs a command in a process of its own."""
    done = subprocess.run(command(*arguments), capture_output=True, text=True, **options)
    return Run(done.returncode, done.stdout, done.stderr)


def on_a_terminal(script: str, *arguments: str) -> Run:
    """Runs a command whose stderr is a terminal of 40 columns; the terminal's text is in `err`."""
    master, slave = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdout=subprocess.PIPE,
        stderr=slave,
        env=environment(COLUMNS="40"),
        text=True,
    )
    os.close(slave)
    assert child.stdout is not None
    out = child.stdout.read()
    shown = b""
    while True:
        try:
            shown += os.read(master, 1 << 16)
        except OSError:  # the terminal is closed when the command has ended
            break
    os.close(master)
    return Run(child.wait(), out, shown.decode())


def screen(text: str) -> list[str]:
    """The lines of a terminal after these characters."""
    lines, column = [""], 0
    for char in text.replace("\r\n", "\n"):
        if char == "\r":
            column = 0
        elif char == "\n":
            lines.append("")
            column = 0
        else:
            lines[-1] = lines[-1][:column].ljust(column) + char + lines[-1][column + 1 :]
            column += 1
    return [line.rstrip() for line in lines]


def listing(folder: Path) -> dict[str, str]:
    """All files below a folder, hidden ones too, with a hash of each."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in sorted(folder.rglob("*"))
        if not path.is_fifo()
    }


def assert_same_files(there: Path, here: Path) -> None:
    """The same names and bytes; but a report also says how the proof went, with the noise of its machine."""
    theirs, ours = listing(there), listing(here)
    assert theirs.keys() == ours.keys()
    differing = [name for name in ours if theirs[name] != ours[name]]
    assert [name for name in differing if not name.endswith(".report.txt")] == []


def refuses(folder: Path, *arguments: object) -> str:
    """Runs a command that must fail as a user's mistake does, and returns the message.

    That is: exit code 2, one line on stderr, nothing on stdout, and the folder as it was.
    """
    before = listing(folder)
    done = run(*arguments)
    assert done.code == 2, done
    assert done.out == ""
    assert done.err.startswith("nnie_prep: error: ") and done.err.count("\n") == 1, done.err
    assert listing(folder) == before
    return done.err.removeprefix("nnie_prep: error: ").rstrip("\n")


def write_darknet(folder: Path, stem: str = "net", seed: int = 0) -> tuple[Path, Path]:
    """The cfg, and weights that keep every layer's output near unit size, some scales negative."""
    random = np.random.default_rng(seed)
    parts = []
    for shape, has_batchnorm in CONVOLUTIONS:
        count = shape[0]
        parts.append(random.normal(0, 0.5, count))
        if has_batchnorm:
            signs = np.where(random.random(count) < 0.3, -1, 1)
            parts += [signs * random.uniform(0.5, 1.5, count), random.normal(0, 0.3, count)]
            parts.append(random.uniform(0.1, 1.5, count))
        parts.append(random.normal(0, np.sqrt(2 / np.prod(shape[1:])), int(np.prod(shape))))
    floats = np.concatenate(parts).astype("<f4")
    cfg, weights = folder / f"{stem}.cfg", folder / f"{stem}.weights"
    cfg.write_text(CFG)
    weights.write_bytes(struct.pack("<iiiQ", 0, 2, 0, 32013312) + floats.tobytes())
    return cfg, weights


def write_caffe(folder: Path, stem: str = "small", seed: int = 0) -> tuple[Path, Path]:
    """The classifier of TRAIN_VAL, with BatchNorm statistics under a factor, and a negative scale."""
    random = np.random.default_rng(seed)

    def layer(name: str, *blobs: np.ndarray) -> LayerParameter:
        stored = [BlobProto(shape=BlobShape(dim=blob.shape), data=blob.ravel()) for blob in blobs]
        return LayerParameter(name=name, blobs=stored)

    factor = 3.0
    statistics = random.normal(0, 20, 6) * factor, random.uniform(0.5, 4, 6) * factor
    net = NetParameter(name="small")
    net.layer.extend(
        [
            layer("conv", random.normal(0, 0.5, (6, 1, 3, 3))),
            layer("bn", *statistics, np.array([factor])),
            layer("scale", np.array([1.0, -0.7, 1.3, 0.4, 2.0, -1.1]), random.normal(0, 0.5, 6)),
            layer("fc", random.normal(0, 0.1, (5, 6 * 5 * 6))),
        ]
    )
    prototxt, caffemodel = folder / f"{stem}.prototxt", folder / f"{stem}.caffemodel"
    prototxt.write_text(TRAIN_VAL)
    caffemodel.write_bytes(net.SerializeToString())
    return prototxt, caffemodel


def environment(**variables: str) -> dict[str, str]:
    """This process's environment with other values."""
    return {**os.environ, **variables}
