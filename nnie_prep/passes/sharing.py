"""Which layers share their weights, by the names of their params (`param { name: "w" }`)."""

from __future__ import annotations

import numpy as np

from nnie_prep.net import Layer, Net


class Sharing:
    """The layers of a net that share weights, at one moment."""

    def __init__(self, net: Net) -> None:
        self._users = net.shared_params()

    def group(self, layer: Layer) -> list[Layer]:
        """The layer, and all that share with it or with those, in no particular order."""
        found = [layer]
        for one in found:  # which grows
            for spec in one.proto.param:
                found += [other for other in dict(self._users.get(spec.name, ())) if other not in found]
        return found

    def text(self, layer: Layer) -> str:
        """That the layer's weights are shared, in words; "" if they are not."""
        for spec in layer.proto.param:
            if spec.name in self._users:
                return f"the weights of {layer.name} are shared (param name {spec.name!r})"
        return ""

    def dispute(self, layer: Layer) -> str:
        """Why it is not certain which weights Caffe gives this layer, or "".

        Each layer of a file has its own copy, and Caffe takes whichever it reads last.
        """
        for place, spec in enumerate(layer.proto.param):
            for other, there in self._users.get(spec.name, ()):
                if other is layer and there == place:
                    continue
                if place >= len(layer.blobs) or there >= len(other.blobs):
                    return f"{self.text(layer)}, and {other.name} has other blobs"
                if not np.array_equal(np.asarray(layer.blobs[place]), np.asarray(other.blobs[there])):
                    return f"{self.text(layer)}, and {other.name} has other values of them"
        return ""
