"""drop_unreachable, and what the other passes leave alone because it was asked for."""

from __future__ import annotations

import pytest
from contract import check
from golden import FOLDER, cases, compare, read

from nnie_prep.edit import want
from nnie_prep.errors import UserError
from nnie_prep.passes import PASSES
from nnie_prep.passes.drop_unreachable import drop_unreachable


@pytest.mark.parametrize("case", cases(drop_unreachable))
def test_golden(case: str) -> None:
    compare(drop_unreachable, case)


def test_nothing_is_dropped_where_nothing_is_asked_for() -> None:
    net = read(FOLDER / "drop_unreachable" / "branch.prototxt").drawn.net
    net.wanted = ()
    assert drop_unreachable(net) == []


@pytest.mark.parametrize(
    ("folder", "case", "wanted"),
    [
        ("fold_batchnorm", "own_names", "conv"),
        ("fold_batchnorm", "own_names", "bn"),
        ("fold_scale", "several_in_a_row", "conv"),
        ("fold_scale_forward", "depthwise", "first"),
        ("merge_batchnorm", "own_names", "bn"),
        ("drop_identity", "dropout", ""),
        ("drop_identity", "power", ""),
        ("drop_identity", "output_keeps_its_name", ""),
    ],
)
def test_what_was_asked_for_keeps_its_name_and_value(folder: str, case: str, wanted: str) -> None:
    """Each of these blobs goes where nobody asks for it; or all that there are, one after the other."""
    drawn = read(FOLDER / folder / f"{case}.prototxt").drawn
    names = [wanted] if wanted in drawn.net.last_writers() else list(drawn.net.last_writers())
    for name in names:
        drawn.net.wanted = (name, *drawn.net.outputs())
        check(drawn, PASSES)


def test_a_blob_that_is_not_there() -> None:
    net = read(FOLDER / "drop_unreachable" / "branch.prototxt").drawn.net
    for name, words in (("fc", "the net has no blob 'fc'"), ("data", "no layer computes data")):
        with pytest.raises(UserError, match=words):
            want(net, [name])
    want(net, ["prob", "conv", "prob"])
    assert net.wanted == ("prob", "conv")
