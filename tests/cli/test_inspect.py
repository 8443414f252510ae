"""`inspect`: the table that people read, the mark where the file ends, and the exit code."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from cli_cases import CFG, listing, refuses, run

HEADERS = [number for number, line in enumerate(CFG.splitlines(), 1) if line.startswith("[")][1:]


def rows(text: str) -> list[str]:
    """The table's rows, those of the sections."""
    lines = text.split("\n\n")[0].splitlines()
    assert lines[0].split() == [
        "line",
        "layer",
        "filters",
        "size/strd(dil)",
        "input",
        "output",
        "BF",
        "floats",
    ] + ["first", "float", "first", "byte"]
    return lines[1:]


def test_the_table(folder: Path) -> None:
    before = listing(folder)
    done = run("inspect", "net.cfg", "net.weights")
    assert (done.code, done.err) == (0, "")
    lines = rows(done.out)
    assert [int(line.split()[0]) for line in lines] == HEADERS
    assert [int(line.split()[1]) for line in lines] == list(range(len(HEADERS)))
    assert re.sub(" +", " ", lines[2]).strip() == (
        f"{HEADERS[2]} 2 convolutional 8/2 3 x 3/1 12 x 8 x 6 -> 12 x 8 x 8 0.000 248 186 764"
    )
    assert "5  shortcut" in lines[5] and "12 x   8 x    8 + 2  ->" in lines[5]
    assert "-> " in lines[8] and " 7 5 " in lines[8]
    assert "version 0.2.0, seen 32,013,312 images" in done.out
    assert "header        20 bytes, as the version asks for" in done.out
    assert "MATCHES: " in done.out and listing(folder) == before


def test_without_weights(folder: Path) -> None:
    done = run("inspect", "net.cfg")
    assert done.code == 0 and "usual 20 bytes" in done.out
    with_weights = run("inspect", "net.cfg", "net.weights")
    assert rows(done.out) == rows(with_weights.out)


@pytest.mark.parametrize(
    ("change", "marked", "said"),
    [
        (-4, 9, "DIFFERS: the file ends in section 9 [convolutional]"),
        (-3, 9, "DIFFERS: the file ends in section 9 [convolutional]"),
        (-4 * 400, 6, "DIFFERS: the file ends in section 6 [convolutional]"),
        (8, None, "DIFFERS: 2 floats left over behind section 9 [convolutional]"),
        (3, None, "DIFFERS: 3 bytes that make no float behind section 9"),
    ],
)
def test_where_they_part(folder: Path, change: int, marked: int | None, said: str) -> None:
    path = folder / "net.weights"
    data = path.read_bytes()
    path.write_bytes(data[:change] if change < 0 else data + bytes(change))
    done = run("inspect", "net.cfg", "net.weights")
    assert (done.code, done.err) == (1, "")
    assert said in done.out
    lines = done.out.split("\n\n")[0].splitlines()[1:]
    assert len(lines) == len(HEADERS)
    assert ["<- the file ends here" in line for line in lines] == [n == marked for n in range(len(lines))]
    assert ["not in the file" in line for line in lines] == [
        marked == 6 and n == 9 for n in range(len(lines))
    ]
    quiet = run("inspect", "net.cfg", "net.weights", "-q")
    assert (quiet.code, quiet.out, quiet.err) == (1, "", "")
    document = json.loads(run("inspect", "net.cfg", "net.weights", "--json").out)
    assert document["weights"]["matches"] is False and document["weights"]["ends_in"] == marked


def test_a_pretrained_backbone(folder: Path) -> None:
    """It ends exactly before a section."""
    document = json.loads(run("inspect", "net.cfg", "--json").out)
    first = document["layers"][9]["first_byte"]
    path = folder / "net.weights"
    path.write_bytes(path.read_bytes()[:first])
    done = run("inspect", "net.cfg", "net.weights")
    assert done.code == 1 and f"ends just before section 9 [convolutional], line {HEADERS[9]}" in done.out
    assert "with 0 of 399 floats" in done.out


def test_json(folder: Path) -> None:
    document = json.loads(run("inspect", "net.cfg", "net.weights", "--json").out)
    layer = document["layers"][2]
    assert layer == {
        "index": 2,
        "type": "convolutional",
        "line": HEADERS[2],
        "filters": 8,
        "groups": 2,
        "window": "3 x 3/1",
        "input": [6, 8, 12],
        "reads": [],
        "output": [8, 8, 12],
        "bflops": 2 * 8 * 3 * 9 * 96 / 1e9,
        "floats": 248,
        "first_float": 186,
        "first_byte": 764,
        "tensors": [
            {"name": "biases", "shape": [8]},
            {"name": "scales", "shape": [8]},
            {"name": "mean", "shape": [8]},
            {"name": "variance", "shape": [8]},
            {"name": "weights", "shape": [8, 3, 3, 3]},
        ],
        "problems": [],
    }
    assert document["layers"][8]["reads"] == [7, 5]
    assert document["weights"]["matches"] is True


def test_what_is_refused_is_marked_with_its_reason(folder: Path) -> None:
    cfg = folder / "net.cfg"
    text = CFG.replace("size=2\nstride=1\n", "size=2\nstride=1\npadding=9\n").replace("=leaky", "=stair", 1)
    cfg.write_text(text.replace("stride=1", "strid=1", 1))
    done = run("inspect", cfg.name)
    assert done.code == 0 and "did you mean" not in done.err  # of a section that is refused
    refused = [line for line in done.out.splitlines() if line.endswith("  refused")]
    assert [int(line.split()[1]) for line in refused] == [0, 3]
    assert "\n  0: activation=stair has no form in Caffe" in done.out
    assert "\n  3: with size=2 and padding 9 there are windows" in done.out
    assert "not known: " in done.out
    assert run("inspect", cfg.name, "net.weights").code == 1


def test_bad_input(folder: Path) -> None:
    assert "No such file" in refuses(folder, "inspect", "no.cfg")
    assert "No such file" in refuses(folder, "inspect", "net.cfg", "no.weights")
    (folder / "short.weights").write_bytes(bytes(7))
    assert "has 7 bytes" in refuses(folder, "inspect", "net.cfg", "short.weights")
