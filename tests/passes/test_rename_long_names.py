"""rename_long_names."""

from __future__ import annotations

import pytest
from golden import cases, compare

from nnie_prep.passes.rename_long_names import rename_long_names


@pytest.mark.parametrize("case", cases(rename_long_names))
def test_golden(case: str) -> None:
    compare(rename_long_names, case)
