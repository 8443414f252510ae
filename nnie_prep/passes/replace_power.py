"""Replace Power layers with exponents that NNIE has not by several in a row that it has.

    before:  Power { power: 4 }        after:  Power { power: 2 } -> Power { power: 2 }

NNIE has -3, -2, -1, -1/2, 1/2, 1, 2 and 3. An exponent that is a product of two of these, or of three, is
computed so. Declined for all others.
"""

from __future__ import annotations

from itertools import combinations_with_replacement
from math import prod

from nnie_prep.blob_map import Note
from nnie_prep.composites import Add, power
from nnie_prep.net import Layer, Net
from nnie_prep.passes.replacement import replace_layer

# Whole ones first, as a root has no values below 0: (x^3)^1/2 is x^3/2 where that exists, and there only.
_EXPONENTS = (3.0, 2.0, 0.5, -0.5, -1.0, -2.0, -3.0)


def replace_power(net: Net) -> list[Note]:
    """Replaces each Power with another exponent."""
    return [
        _replaced(net, layer)
        for layer in list(net.layers)
        if layer.type == "Power" and layer.proto.power_param.power not in (1.0, *_EXPONENTS)
    ]


def _replaced(net: Net, layer: Layer) -> Note:
    parameter = layer.proto.power_param
    factors = _factors(parameter.power)
    reason = "" if factors else "it is no product of few that NNIE has"

    def form(add: Add, blob: str) -> str:
        kind, parameters = power(parameter.scale, parameter.shift, factors[0])
        blob = add(kind, "first", blob, **parameters)
        for exponent in factors[1:]:
            kind, parameters = power(power=exponent)
            blob = add(kind, "next", blob, in_place=True, **parameters)
        return blob

    if not reason:
        _, reason = replace_layer(net, layer, form)
    if reason:
        return Note(layer.name, f"exponent {parameter.power:g} not replaced: {reason}", changed=False)
    texts = " and ".join(f"{factor:g}" for factor in factors)
    return Note(layer.name, f"exponent {parameter.power:g} replaced by {texts}")


def _factors(exponent: float) -> tuple[float, ...]:
    """Exponents of NNIE's whose product it is; () if there are none."""
    for count in (2, 3):
        for factors in combinations_with_replacement(_EXPONENTS, count):
            if prod(factors) == exponent:
                return factors
    return ()
