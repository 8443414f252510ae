"""`completion`: bash itself, with what was printed loaded, is asked what comes next."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from cli_cases import run

COMMANDS = re.findall(r"^    ([a-z][\w-]+)", run("--help").out, re.M)


@pytest.fixture(scope="module")
def script() -> str:
    return run("completion", "bash").out


def completions(script: str, folder: Path, *words: str) -> list[str]:
    """What bash offers for the last word of a command line, as it does on the tab key."""
    call = f"""
compopt() {{ :; }}  # can be asked only when a key was pressed
{script}
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
function=$(complete -p nnie-prep | sed 's/.*-F \\([^ ]*\\).*/\\1/')
$function nnie-prep "${{@: -1}}" "${{@: -2:1}}"
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(
        ["bash", "--norc", "-c", call, "bash", "nnie-prep", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return sorted(line.rstrip() for line in done.stdout.splitlines() if line)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("net.cfg", "net.weights", "other.prototxt"):
        (tmp_path / name).touch()
    (tmp_path / "models").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("",), sorted(COMMANDS)),
        (("pre",), ["prepare"]),
        (("merge-bn", "--output_"), ["--output_model", "--output_weights"]),
        (("prepare", "--target", ""), ["caffe", "nnie"]),
        (("prepare", "net.cfg", "net.weights", "--flavor", "a"), ["alexeyab"]),
        (("prepare", "n"), ["net.cfg", "net.weights"]),
        (("prepare", "net.cfg", "net.w"), ["net.weights"]),
        (("prepare", "net.cfg", "net.weights", "--input", "o"), ["other.prototxt"]),
        (("check", "--chip", "hi3519"), ["hi3519av100"]),
        (("completion", ""), ["bash", "fish", "zsh"]),
        (("batch", "mo"), ["models"]),
    ],
)  # fmt: skip
def test_bash(script: str, folder: Path, words: tuple[str, ...], expected: list[str]) -> None:
    assert completions(script, folder, *words) == expected


def test_options_are_those_of_help(script: str, folder: Path) -> None:
    """Of every command, none missing and none more."""
    for command in COMMANDS:
        shown = re.findall(r"(?<![\w-])--?[\w-]+(?=[ ,\n\]])", run(command, "--help").out.split("\n\n")[0])
        found = completions(script, folder, command, "-")
        assert set(shown) <= set(found), command


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_every_command(shell: str) -> None:
    done = run("completion", shell)
    assert (done.code, done.err) == (0, "")
    assert all(re.search(rf"(?<![\w-]){command}(?![\w-])", done.out) for command in COMMANDS)
    assert run("completion", shell).out == done.out


def test_without_shtab(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    done = run("completion", "bash")
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        "nnie_prep: error: completion: needs shtab, which is not installed; pip install shtab\n"
    )
