"""The commands for many models and for the shell, and their arguments. Nothing heavy is imported here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nnie_prep.cli.arguments import add_command, add_output, number


def add_batch(commands: Any, name: str) -> None:
    parser = add_command(
        commands,
        name,
        "batch.batch",
        "Prepare the models of a manifest, those that are not up to date, and report on them all",
        "models.yaml -j 2",
    )
    parser.add_argument("manifest", type=Path, metavar="MANIFEST", help="YAML or JSON; see the README")
    parser.add_argument(
        "-j",
        "--jobs",
        type=number(int, 1, 1024),
        default=1,
        metavar="N",
        help="how many models at once; each takes memory and a process of its own (default: 1)",
    )
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write the report as JUnit's XML too")
    parser.add_argument(
        "--force", action="store_true", help="prepare all models anew, and replace what lies there"
    )
    parser.add_argument("--list", action="store_true", help="print the models' names and do nothing")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help="this model alone; may be given several times",
    )
    parser.add_argument(
        "--part",
        metavar="I/N",
        help="every Nth model alone, for N machines; I counts from 0 or from 1, on all of them alike",
    )
    add_output(parser)


def add_completion(commands: Any, name: str) -> None:
    parser = add_command(
        commands,
        name,
        "completion.completion",
        "Print what a shell needs to complete commands, options and file names",
        "bash",
    )
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell that is to read it")
