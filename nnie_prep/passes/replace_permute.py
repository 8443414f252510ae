"""Replace a Permute that leaves the values in their order by a Reshape.

    before:  (N, C, 1, 1) -> Permute { order: 0 2 3 1 }        after:  Reshape { dim: 0, 1, 1, C }

That is so where all axes that change places but one have the extent 1, as behind a global pooling.

Declined where values move, where the batch does, where the shape of the bottom is not known, and where
others read what the Reshape would share its memory with.
"""

from __future__ import annotations

from nnie_prep import params
from nnie_prep.blob_map import Note
from nnie_prep.memory import reads_alone
from nnie_prep.net import Net
from nnie_prep.nnie_caffe_pb2 import LayerParameter
from nnie_prep.shapes import known_shapes


def replace_permute(net: Net) -> list[Note]:
    """Replaces each Permute that only changes the shape."""
    found = [layer for layer in net.layers if layer.type == "Permute"]
    shapes = known_shapes(net) if found else {}
    notes = []
    for layer in found:
        shape = shapes.get(layer.bottoms[0])
        order = params.permutation(layer, len(shape)) if shape is not None else ()
        reason = ""
        if shape is None:
            reason = f"the shape of {layer.bottoms[0]} is not known"
        elif order[0] != 0 or sorted(_moving(shape, order)) != _moving(shape, order):
            reason = "it moves values, for which stock Caffe has no layer"
        elif not reads_alone(net, layer):
            reason = f"others read the memory of {layer.bottoms[0]}, which a Reshape shares"
        if reason or shape is None:
            notes.append(Note(layer.name, f"Permute not replaced: {reason}", changed=False))
            continue
        dims = [0, *(shape[axis] for axis in order[1:])]
        layer.proto = LayerParameter(name=layer.name, type="Reshape", reshape_param={"shape": {"dim": dims}})
        notes.append(Note(layer.name, f"Permute of {shape} moves no values: replaced by Reshape"))
    return notes


def _moving(shape: tuple[int, ...], order: tuple[int, ...]) -> list[int]:
    """The axes of more than one element, in their new order."""
    return [axis for axis in order if shape[axis] > 1]
