"""What cannot be an input file is told of in a line, whoever named it."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnie_prep.errors import UserError
from nnie_prep.outputs.input_files import is_file, read_input


@pytest.mark.parametrize("name", ["a\0b", "a\ud800", "a" * 300])
def test_a_name_that_no_file_can_have(name: str) -> None:
    """As a .json or a .cfg may hold it."""
    assert not is_file(Path(name))
    with pytest.raises(UserError, match=r"no file can have this name|File name too long"):
        read_input(Path(name))
