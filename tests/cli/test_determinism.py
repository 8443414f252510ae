"""The same inputs give the same bytes: in another folder, in another process, proven or not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from cli_cases import environment, listing, run, spawn, write_caffe, write_darknet

COMMANDS = (
    ("prepare", "net.cfg", "net.weights", "-o", "out"),
    ("prepare", "net.cfg", "net.weights", "-o", "out", "--target", "caffe"),
    ("darknet2caffe", "net.cfg", "net.weights", "-o", "out"),
    ("merge-bn", "small.prototxt", "small.caffemodel", "-o", "out"),
    ("strip", "small.prototxt", "small.caffemodel", "-o", "out"),
)


def outputs(folder: Path) -> list[bytes]:
    """The bytes of the three files, which are then removed; the inputs must be as they were."""
    found = [(folder / f"out.{suffix}") for suffix in ("prototxt", "caffemodel", "json")]
    content = [path.read_bytes() for path in found]
    for path in found:
        path.unlink()
    return content


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: " ".join(arguments[:3]))
def test_the_same_bytes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: Sequence[str]
) -> None:
    inputs = listing(folder)
    assert run(*arguments).code == 0
    first = outputs(folder)
    assert listing(folder) == inputs

    assert run(*arguments, "--no-verify", "-q").code == 0
    assert outputs(folder) == first
    assert run(*arguments, "--seed", "7", "--tolerance", "1e-3", "--json").code == 0
    assert outputs(folder) == first
    assert run(*arguments).code == run(*arguments).code == 0  # over its own
    assert outputs(folder) == first
    for seed in ("0", "4242"):
        assert spawn(*arguments, env=environment(PYTHONHASHSEED=seed, TZ="Asia/Shanghai")).code == 0
        assert outputs(folder) == first

    other = tmp_path / "quite another folder"
    other.mkdir()
    write_darknet(other)
    write_caffe(other)
    monkeypatch.chdir(tmp_path)
    elsewhere = [f"{other}/{name}" if "." in name or name == "out" else name for name in arguments]
    assert run(*elsewhere).code == 0
    assert outputs(other) == first


def test_inputs_are_never_written_to(folder: Path) -> None:
    np.save("x.npy", np.ones((1, 3, 11, 13), np.float32))
    before = listing(folder)
    times = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    pair = ("small.prototxt", "small.caffemodel")
    for arguments in (
        ("prepare", *pair),
        ("merge-bn", *pair),
        ("add-bias", *pair),
        ("strip", *pair),
        ("verify", *pair, *pair),
        ("run", *pair, "--input", "x.npy", "-o", "y.npz"),
        ("show", *pair),
        ("prepare", "net.cfg", "net.weights"),
        ("prepare", "net.cfg", "net.weights", "--force"),
    ):
        assert run(*arguments).code == 0
        after = listing(folder)
        assert {name: after[name] for name in before} == before
        assert {name: (folder / name).stat().st_mtime_ns for name in times} == times


def test_what_the_files_say_of_themselves(folder: Path) -> None:
    """No folder, no time, no user: they would make the bytes differ."""
    assert run("prepare", "net.cfg", "net.weights", "-o", "out").code == 0
    for name in ("out.prototxt", "out.json"):
        text = Path(name).read_text()
        assert str(folder) not in text and "net.cfg" in text and "xxh128" in text
