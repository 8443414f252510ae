"""`completion`: the command line in a form that shells complete from."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from nnie_prep.cli.parser import make_parser
from nnie_prep.errors import UserError


def completion(options: Namespace) -> int:
    """Prints a script for the shell, with file names where a file is asked for."""
    try:
        import shtab
    except ModuleNotFoundError:
        raise UserError("needs shtab, which is not installed", "completion", "pip install shtab") from None
    parser, commands = make_parser()
    for command in commands.values():
        for action in command._actions:
            if action.type is Path:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    print(shtab.complete(parser, options.shell))
    return 0
