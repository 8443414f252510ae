"""How weights are read and written: --weights-engine, --save-with, and the names of their files."""

from __future__ import annotations

from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from nnie_prep.caffe_io import WeightsReader
    from nnie_prep.net import Net

_HDF5_SUFFIXES = (".h5", ".hdf5")


def reader_of(options: Namespace) -> WeightsReader | None:
    """What reads a caffemodel for `read_net`; None for its own way."""
    if options.weights_engine == "protobuf":
        return None
    from nnie_prep import caffe_weights
    from nnie_prep.engines.caffe_engine import find_caffe_python

    return partial(caffe_weights.read_weights, find_caffe_python(options.caffe_python))


def read_pair(options: Namespace) -> Net:
    """The net of PROTOTXT and CAFFEMODEL, read as --weights-engine asks."""
    from nnie_prep.caffe_io import read_net

    return read_net(options.prototxt, options.caffemodel, read_weights=reader_of(options))


def save_with_caffe(options: Namespace, net: Net, file: BinaryIO) -> None:
    """Has Caffe write the caffemodel, as --save-with pycaffe asks."""
    from nnie_prep import caffe_weights
    from nnie_prep.engines.caffe_engine import find_caffe_python

    caffe_weights.save_weights(find_caffe_python(options.caffe_python), net, file)


def has_weights(path: Path) -> bool:
    """Whether the name is that of a caffemodel, HDF5 included."""
    return path.suffix.lower() in (".caffemodel", *_HDF5_SUFFIXES)


def named_after(path: Path) -> Path:
    """What a result is named after: the weights file, or x.caffemodel for the HDF5 file x.caffemodel.h5."""
    if path.suffix.lower() not in _HDF5_SUFFIXES:
        return path
    return path.with_name(path.stem.removesuffix(".caffemodel") + ".caffemodel")
