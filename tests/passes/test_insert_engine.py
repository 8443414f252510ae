"""insert_engine."""

from __future__ import annotations

import pytest
from contract import check
from golden import cases, compare
from hypothesis import given, settings
from strategies import Drawn, nets

from nnie_prep.passes.insert_engine import insert_engine


@pytest.mark.parametrize("case", cases(insert_engine))
def test_golden(case: str) -> None:
    compare(insert_engine, case)


@settings(max_examples=20)
@given(drawn=nets())
def test_the_promises_of_a_pass(drawn: Drawn) -> None:
    check(drawn, [insert_engine])
