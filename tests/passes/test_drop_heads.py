"""drop_heads."""

from __future__ import annotations

import pytest
from golden import cases, compare

from nnie_prep.passes.drop_heads import drop_heads


@pytest.mark.parametrize("case", cases(drop_heads))
def test_golden(case: str) -> None:
    compare(drop_heads, case)
