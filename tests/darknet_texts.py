"""Small cfg files written in a test, and what the converter says of them.

refusal(tmp_path, "[convolutional]\\nxnor=1")      # the text begins in line 5 of the cfg, behind [net]
"""

from __future__ import annotations

from pathlib import Path

import pytest

from nnie_prep.darknet import Conversion, convert
from nnie_prep.darknet.builder import Target
from nnie_prep.darknet.weights import Flavor
from nnie_prep.errors import UserError

Shape = tuple[int, int, int]


def written(folder: Path, text: str, shape: Shape = (3, 8, 6)) -> Path:
    """A cfg with an input of (channels, height, width) and these sections."""
    path = folder / "tiny.cfg"
    path.write_text("[net]\nchannels={}\nheight={}\nwidth={}\n".format(*shape) + text + "\n")
    return path


def structure(
    folder: Path,
    text: str,
    shape: Shape = (3, 8, 6),
    flavor: Flavor = "alexeyab",
    target: Target = "nnie",
) -> Conversion:
    """The conversion of the cfg without weights."""
    return convert(written(folder, text, shape), None, flavor=flavor, target=target)


def refusal(folder: Path, text: str, shape: Shape = (3, 8, 6), flavor: Flavor = "alexeyab") -> UserError:
    """The error that the sections cause: one line, which names the file."""
    path = written(folder, text, shape)
    with pytest.raises(UserError) as caught:
        convert(path, None, flavor=flavor)
    assert "\n" not in str(caught.value)
    assert caught.value.where.startswith("tiny.cfg" if "/" not in caught.value.where else str(path))
    return caught.value


def line_of(error: UserError) -> int:
    """The line of the cfg that the error names; the sections begin in line 5."""
    return int(error.where.rpartition(":")[2])
