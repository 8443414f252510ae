"""What Darknet takes where an option is not written: the converter, the NumPy Darknet and the table know it.

An option that is left out must mean the same as one that is written with Darknet's default, and another value
must not, or the row would show nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from darknet_nets import random_net

from nnie_prep.caffe_io import format_prototxt
from nnie_prep.darknet import convert
from nnie_prep.darknet.inspect import inspect
from nnie_prep.darknet.weights import Flavor
from nnie_prep.errors import UserError

SHAPE = (4, 8, 6)
CONV = "[convolutional]\nfilters={}\nactivation=linear\n"
TWO = CONV.format(4) + CONV.format(4)
SQUEEZE = CONV.format(4) + "[avgpool]\n"

# The sections before, the section with what else it says; then the key, its default and another value.
# Of AlexeyAB's parser.c, in the parse_ function of each section.
ALEXEYAB = [
    ("", "[net]", "letter_box", "0", "1"),
    ("", "[convolutional]", "filters", "1", "2"),
    ("", "[convolutional]", "activation", "logistic", "linear"),
    ("", "[convolutional] filters=2", "groups", "1", "2"),
    ("", "[convolutional] filters=2", "size", "1", "3"),
    ("", "[convolutional] filters=2", "stride", "1", "2"),
    ("", "[convolutional] filters=2 stride=2", "stride_x", "2", "1"),
    ("", "[convolutional] filters=2 stride=2", "stride_y", "2", "1"),
    ("", "[convolutional] filters=2 size=3 pad=1 stride=2", "antialiasing", "0", "1"),
    ("", "[convolutional] filters=2 size=3", "dilation", "1", "2"),
    ("", "[convolutional] filters=2 size=3", "pad", "0", "1"),
    ("", "[convolutional] filters=2 size=3", "padding", "0", "2"),
    ("", "[convolutional] filters=2", "batch_normalize", "0", "1"),
    ("", "[convolutional] filters=2", "cbn", "0", "1"),
    ("", "[convolutional] filters=2", "flipped", "0", "1"),
    ("", "[local] filters=2", "size", "1", "3"),
    ("", "[local] filters=2", "stride", "1", "2"),
    ("", "[local] filters=2 size=3", "pad", "0", "1"),
    ("", "[local]", "filters", "1", "2"),
    ("", "[connected]", "output", "1", "2"),
    ("", "[connected] output=3", "activation", "logistic", "tanh"),
    ("", "[connected] output=3", "batch_normalize", "0", "1"),
    ("", "[softmax]", "groups", "1", "2"),
    ("", "[softmax]", "temperature", "1", "2"),
    ("", "[softmax]", "spatial", "0", "1"),
    ("", "[implicit]", "filters", "128", "127"),
    ("", "[implicit] filters=5", "atoms", "1", "2"),
    ("", "[activation]", "activation", "linear", "relu"),
    ("", "[maxpool] size=2", "stride", "1", "2"),
    ("", "[maxpool] stride=3", "size", "3", "2"),
    ("", "[maxpool] size=3", "padding", "2", "1"),
    ("", "[maxpool] stride=2", "stride_x", "2", "1"),
    ("", "[maxpool] stride=2", "stride_y", "2", "1"),
    ("", "[maxpool] stride=2", "maxpool_depth", "0", "1"),
    ("", "[maxpool] maxpool_depth=1", "out_channels", "1", "2"),
    ("", "[maxpool] size=2 stride=2", "antialiasing", "0", "1"),
    ("", "[local_avgpool] size=2", "stride", "1", "2"),
    ("", "[local_avgpool] stride=3", "size", "3", "2"),
    ("", "[local_avgpool] size=3", "padding", "2", "1"),
    ("", "[local_avgpool] stride=2", "stride_x", "2", "1"),
    ("", "[local_avgpool] stride=2", "stride_y", "2", "1"),
    (CONV.format(7), "[normalization]", "alpha", "0.0001", "0.5"),
    (CONV.format(7), "[normalization] alpha=2", "beta", "0.75", "0.76"),
    (CONV.format(7), "[normalization] alpha=2", "kappa", "1", "1.5"),
    (CONV.format(7), "[normalization] alpha=2", "size", "5", "3"),
    (TWO, "[shortcut] from=-2", "activation", "linear", "relu"),
    (TWO, "[shortcut] from=-2", "weights_type", "none", "per_feature"),
    (SQUEEZE, "[scale_channels] from=-2", "activation", "linear", "relu"),
    (SQUEEZE, "[scale_channels] from=-2", "scale_wh", "0", "1"),
    (TWO, "[sam] from=-2", "activation", "linear", "relu"),
    ("", "[upsample]", "stride", "2", "3"),
    ("", "[upsample]", "scale", "1", "0.5"),
    ("", "[reorg]", "stride", "1", "2"),
    ("", "[reorg] stride=2", "reverse", "0", "1"),
    ("", "[reorg3d]", "stride", "1", "2"),
    ("", "[reorg3d] stride=2", "reverse", "0", "1"),
    ("", "[crop] crop_width=3", "crop_height", "1", "2"),
    ("", "[crop] crop_height=3", "crop_width", "1", "2"),
    ("", "[crop]", "noadjust", "0", "1"),
    (TWO, "[route] layers=0,1", "groups", "1", "2"),
    (TWO, "[route] layers=0,1 groups=2", "group_id", "0", "1"),
    (CONV.format(25), "[yolo]", "classes", "20", "21"),
    (CONV.format(8), "[yolo] classes=3", "num", "1", "2"),
    (CONV.format(8), "[yolo] classes=3", "scale_x_y", "1", "1.1"),
    (CONV.format(8), "[yolo] classes=3", "new_coords", "0", "1"),
    (CONV.format(8), "[yolo] classes=3", "ignore_thresh", "0.5", "0.6"),
    (CONV.format(8), "[yolo] classes=3", "truth_thresh", "1", "0.9"),
    (CONV.format(8), "[yolo] classes=3", "nms_kind", "default", "greedynms"),
    (CONV.format(8), "[yolo] classes=3", "beta_nms", "0.6", "0.5"),
    (CONV.format(8), "[yolo] classes=3", "objectness_smooth", "0", "1"),
    (CONV.format(29), "[Gaussian_yolo]", "classes", "20", "21"),
    (CONV.format(12), "[Gaussian_yolo] classes=3", "num", "1", "2"),
    (CONV.format(12), "[Gaussian_yolo] classes=3", "scale_x_y", "1", "1.1"),
    (CONV.format(12), "[Gaussian_yolo] classes=3", "yolo_point", "center", "left_top"),
    (CONV.format(12), "[Gaussian_yolo] classes=3", "objectness_smooth", "0", "1"),
    (CONV.format(25), "[region]", "classes", "20", "21"),
    (CONV.format(8), "[region] classes=3", "num", "1", "2"),
    (CONV.format(8), "[region] classes=3", "coords", "4", "5"),
    (CONV.format(8), "[region] classes=3", "softmax", "0", "1"),
    (CONV.format(8), "[region] classes=3", "thresh", "0.5", "0.6"),
    (CONV.format(8), "[region] classes=3", "classfix", "0", "-1"),
    ("[connected]\noutput=147\n", "[detection]", "side", "7", "6"),
    ("[connected]\noutput=48\n", "[detection] side=4", "classes", "1", "2"),
    ("[connected]\noutput=48\n", "[detection] side=4", "num", "1", "2"),
    ("[connected]\noutput=48\n", "[detection] side=4", "coords", "1", "4"),
    ("[connected]\noutput=80\n", "[detection] side=4 classes=3", "softmax", "0", "1"),
    ("[connected]\noutput=48\n", "[detection] side=4", "sqrt", "0", "1"),
    (
        f"{CONV.format(8)}[yolo]\nclasses=3\n[route]\nlayers=0\n",
        "[contrastive] yolo_layer=-2",
        "classes",
        "1000",
        "999",
    ),
]
# Of pjreddie's, where it has others.
PJREDDIE = [
    (TWO, "[shortcut] from=-2", "alpha", "1", "2"),
    (TWO, "[shortcut] from=-2", "beta", "1", "2"),
    (CONV.format(8), "[region] classes=3", "background", "0", "1"),
]
ROWS = [("alexeyab", *row) for row in ALEXEYAB] + [("pjreddie", *row) for row in PJREDDIE]

# What a head's boxes are made with, but not its values: nothing that the NumPy Darknet computes. Nor does it
# compute what a [contrastive] does in training.
DECODING = {
    *("letter_box", "ignore_thresh", "truth_thresh", "nms_kind", "beta_nms", "objectness_smooth"),
    *("yolo_point", "thresh", "classfix", "sqrt"),
}


class Meaning(NamedTuple):
    """What three readers make of a cfg."""

    converted: object
    reference: object
    table: object


def meaning(folder: Path, flavor: Flavor, before: str, section: str, option: str) -> Meaning:
    text = "\n".join([section.replace(" ", "\n"), option])
    text = f"{option}\n[maxpool]\nsize=2" if section == "[net]" else f"{before}{text}"
    try:
        net = random_net(folder, text, SHAPE, seed=5, flavor=flavor)
    except UserError as error:
        return Meaning(error.message, error.message, error.message)
    try:
        conversion = convert(net.cfg, net.weights, flavor=flavor)
    except UserError as error:
        converted: object = error.message
    else:
        blobs = [np.asarray(blob).tobytes() for layer in conversion.net.layers for blob in layer.blobs]
        heads = [{key: head[key] for key in head if key != "line"} for head in conversion.heads]
        shapes = [layer.shape for layer in conversion.layers]
        converted = (format_prototxt(conversion.net), blobs, heads, shapes, conversion.input)
    outputs = [(output.shape, output.tobytes()) for output in net.outputs()]
    rows = [(row.filters, row.groups, row.window, row.output, row.bflops, row.floats)
            for row in inspect(net.cfg, net.weights, flavor=flavor).rows]  # fmt: skip
    return Meaning(converted, outputs, rows)


@pytest.mark.parametrize(("flavor", "before", "section", "key", "default", "other"), ROWS)
def test_what_is_not_written(
    tmp_path: Path, flavor: Flavor, before: str, section: str, key: str, default: str, other: str
) -> None:
    unsaid, said, another = (
        meaning(tmp_path, flavor, before, section, option)
        for option in ("", f"{key}={default}", f"{key}={other}")
    )
    assert unsaid == said
    assert not isinstance(said.reference, str), "the section is refused"
    # Darknet's [local] has no form in Caffe.
    assert another.converted != said.converted or "no Caffe layer has" in str(said.converted)
    assert (another.reference != said.reference) == (key not in DECODING and "contrastive" not in section)
