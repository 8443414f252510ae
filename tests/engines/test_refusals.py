"""What the engine refuses, and that Caffe refuses it too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from layer_refusals import REFUSALS, Refusal

from nnie_prep.caffe_io import format_prototxt
from nnie_prep.engines.numpy import forward_layer
from nnie_prep.errors import UserError
from nnie_prep.net import Net
from nnie_prep.nnie_caffe_pb2 import NetParameter
from nnie_prep.shapes import top_shapes

# Caffe ends its process, so each net gets a child: forked, since importing Caffe takes longest.
TRY_NETS = """
import os, sys
import caffe
for path in sys.argv[1:]:
    child = os.fork()
    if not child:
        os.close(2)
        net = caffe.Net(path, caffe.TEST)
        for name in net.inputs:
            net.blobs[name].data[...] = 1  # as forward_layer is given
        net.forward()
        os._exit(0)
    print(int(os.waitpid(child, 0)[1] != 0))
"""


def name(refusal: Refusal) -> str:
    return f"{refusal.type} {refusal.words}"


@pytest.mark.parametrize("refusal", REFUSALS, ids=name)
def test_refused_in_one_line_that_names_layer_and_place(refusal: Refusal) -> None:
    layer = refusal.layer()
    with pytest.raises(UserError) as caught:
        if layer.type == "Input":
            top_shapes(layer, [])
        forward_layer(layer, [np.ones(shape, dtype=np.float32) for shape in refusal.bottoms])
    assert refusal.words in caught.value.message
    assert caught.value.message.startswith(f"{layer.type} layer 'bad': ")
    assert caught.value.where == "bad.prototxt:7"
    assert "\n" not in str(caught.value)


@pytest.mark.caffe
def test_caffe_refuses_the_same(tmp_path: Path) -> None:
    paths = []
    for number, refusal in enumerate(REFUSALS):
        layer = refusal.layer()
        net = Net([layer], NetParameter(name="refused"))
        for bottom, shape in zip(layer.bottoms, refusal.bottoms, strict=True):
            net.header.input.append(bottom)
            net.header.input_shape.add().dim.extend(shape)
        paths.append(tmp_path / f"{number}.prototxt")
        paths[-1].write_text(format_prototxt(net), encoding="utf-8")
        text_format.Parse(paths[-1].read_text(encoding="utf-8"), NetParameter())
    command = [sys.executable, "-c", TRY_NETS, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    refused = [line == "1" for line in done.stdout.split()]
    assert len(refused) == len(REFUSALS)
    differing = [case for case, by_caffe in zip(REFUSALS, refused, strict=True) if case.by_caffe != by_caffe]
    assert not differing
