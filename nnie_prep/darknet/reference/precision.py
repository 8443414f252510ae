"""What a judge that computes in float32 alone would give in float64."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from nnie_prep.blob import Array
from nnie_prep.darknet.cfg import Section
from nnie_prep.darknet.reference import Reference


def in_float64(
    reference: Reference, x: Array, outputs: Sequence[Array | None]
) -> Iterator[tuple[Section, Array | None]]:
    """Each section with its output, corrected by what the NumPy Darknet loses to float32.

    So the difference of both outputs is the rounding noise that this network has, and says nothing of
    how far the judge and NumPy are apart.
    """
    rounded = reference.iterate(x, np.float32)
    precise = reference.iterate(x, np.float64)
    for output, (section, single), (_, double) in zip(outputs, rounded, precise, strict=True):
        if output is None or single is None or double is None or output.size != double.size:
            yield section, None
        else:
            yield section, output + (double - single).reshape(output.shape)
