"""Cheaper forms of a section that are not exact, and are built only where the user names them.

    pool-2-1         the 2x2 maxpool of stride 1 as kernel 3, pad 1: each window grows by a row above it and
                     a column left of it. Exact is pad 1 and a crop (emit_pooling.py).
    mish-as-leaky    leaky in the place of mish, for a network that is to be trained again. Exact are BNLL,
                     TanH and a product (activations.py).

Either is what Darknet would compute for another cfg, `approximated_cfg`. So a net with such layers is
held to that network as strictly as any other to its own, and how far that is from the original is measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from nnie_prep.darknet.cfg import Section

Approximation = Literal["pool-2-1", "mish-as-leaky"]

# What each of them replaces.
APPROXIMATIONS: dict[Approximation, str] = {
    "pool-2-1": "a 2x2 maxpool of stride 1",
    "mish-as-leaky": "mish",
}


class Approximated(NamedTuple):
    """A section that is not computed as it is written.

    `form` says what is computed instead; `options` are those with which Darknet would compute just that.
    """

    name: Approximation
    form: str
    options: Mapping[str, object]


def approximated_cfg(sections: Sequence[Section], approximated: Mapping[int, Approximated]) -> str:
    """The text of a cfg that asks for what is computed; `approximated` is by Darknet's index."""
    lines = []
    for section in sections:
        options: dict[str, object] = {key: value for key, (value, _) in section.options.items()}
        if section.index in approximated:
            options.update(approximated[section.index].options)
        lines += [f"[{section.header}]", *(f"{key}={value}" for key, value in options.items())]
    return "\n".join(lines) + "\n"
