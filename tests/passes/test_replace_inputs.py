"""replace_inputs."""

from __future__ import annotations

import pytest
from golden import cases, compare

from nnie_prep.passes.replace_inputs import replace_inputs


@pytest.mark.parametrize("case", cases(replace_inputs))
def test_golden(case: str) -> None:
    compare(replace_inputs, case)
