"""The embedded engine: a forward pass of a Caffe net in NumPy, as Caffe computes it at TEST phase.

LAYERS          for each layer type one function of (layer, bottoms)
forward_layer   one layer, with its shapes and weights checked
forward         a net, in float32 or float64
unsupported     the layers of a net that cannot be run
"""

from nnie_prep.engines.numpy.layers import LAYERS, forward_layer, unsupported
from nnie_prep.engines.numpy.run import forward

__all__ = ["LAYERS", "forward", "forward_layer", "unsupported"]
