"""Insert a bias of zeros into every layer with weights that has none.

    before:  conv (bias_term: false)        after:  conv (bias of zeros)

For Convolution, Deconvolution, InnerProduct and depthwise convolutions. Declined where the weights
are not loaded, or do not fit num_output.
"""

from __future__ import annotations

import numpy as np

from nnie_prep.blob_map import Note
from nnie_prep.net import Net
from nnie_prep.passes.folding import weighted_param, weights_problem
from nnie_prep.shapes.weights import WEIGHTED


def insert_bias(net: Net) -> list[Note]:
    """Gives each layer that has weights and no bias an explicit one."""
    notes = []
    for layer in net.layers:
        if layer.type not in WEIGHTED or weighted_param(layer).bias_term:
            continue
        if reason := weights_problem(layer):
            notes.append(Note(layer.name, f"no bias inserted: {reason}", changed=False))
            continue
        param = weighted_param(layer)
        param.ClearField("bias_term")  # true is the default
        layer.blobs = [*layer.blobs, np.zeros(param.num_output, dtype=np.float32)]
        for spec in layer.proto.param[1:]:
            spec.ClearField("name")  # the new bias must not be shared with anything
        notes.append(Note(layer.name, f"bias of {param.num_output} zeros inserted"))
    return notes
