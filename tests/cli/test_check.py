"""`check`: the answer, what people and machines read, and the rules explained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_cases import listing, refuses, run

from nnie_prep.nnie import RULES

HEAD = 'input: "data"\ninput_shape { dim: 1 dim: 3 dim: 32 dim: 32 }\n'
CONV = """layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 16 kernel_size: 3 } }
"""
SOFT = 'layer { name: "soft" type: "BNLL" bottom: "conv" top: "conv" }\n'
FLOOR = """layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool"
        pooling_param { pool: AVE kernel_size: 4 stride: 3 round_mode: FLOOR } }
"""
CHIP = ("--chip", "hi3516cv500")


@pytest.fixture
def nets(folder: Path) -> Path:
    Path("good.prototxt").write_text(HEAD + CONV)
    Path("doubtful.prototxt").write_text(HEAD + CONV + SOFT)
    Path("bad.prototxt").write_text(HEAD + CONV + SOFT + FLOOR)
    return folder


def test_the_answer(nets: Path) -> None:
    before = listing(nets)
    for name, code, strict in (("good", 0, 0), ("doubtful", 0, 1), ("bad", 1, 1)):
        assert run("check", f"{name}.prototxt", *CHIP, "-q") == (code, "", "")
        assert run("check", f"{name}.prototxt", *CHIP, "-q", "--strict") == (strict, "", "")
        assert run("check", f"{name}.prototxt").code == code
    assert run("check", "good.prototxt", "--chip", "Hi3516CV500", "-q") == (0, "", ""), (
        "the vendor's spelling"
    )
    assert listing(nets) == before


def test_what_people_read(nets: Path) -> None:
    done = run("check", "bad.prototxt", *CHIP)
    lines = done.out.splitlines()
    assert lines[:6] == [
        "bad.prototxt:5: warning: soft: no source says that the chip has BNLL (wanted: a type that the chip "
        "has) [unnamed_types]",
        "    try it with is_check_prototxt 1",
        "bad.prototxt:6: error: pool: it rounds 30x30 down to 9x9, and the chip up to 10x10 (wanted: 10x10) "
        "[pooling_rounding]",
        "    nnie-prep prepare bad.prototxt CAFFEMODEL",
        "bad.prototxt:6: error: pool: it has the field round_mode (wanted: no such field) [pooling_field]",
        "    nnie-prep prepare bad.prototxt CAFFEMODEL",
    ]
    assert "NOT ACCEPTED for hi3516cv500: 2 errors, 1 warning, 1 hint" in lines
    out = run("check", "good.prototxt").out
    assert "ACCEPTED for every chip's limits: 0 errors, 0 warnings, 1 hint\n" in out


def test_hints_are_few_unless_all_are_asked_for(nets: Path) -> None:
    one = CONV.replace('"data"', '"conv"')
    more = [
        one.replace('name: "conv"', f'name: "c{i}"').replace('top: "conv"', f'top: "c{i}"') for i in range(5)
    ]
    Path("many.prototxt").write_text(HEAD.replace("32", "40") + CONV + "".join(more))
    out = run("check", "many.prototxt", *CHIP).out
    assert out.count("[width_multiples]") == 3 and "and 3 more width_multiples hints (-v lists them)" in out
    out = run("check", "many.prototxt", *CHIP, "-v").out
    assert out.count("[width_multiples]") == 6 and "-v" not in out


def test_what_machines_read(nets: Path) -> None:
    document = json.loads(run("check", "bad.prototxt", *CHIP, "--json").out)
    assert (document["prototxt"], document["chip"], document["passed"]) == (
        "bad.prototxt", "hi3516cv500", False
    )  # fmt: skip
    assert document["counts"] == {"error": 2, "warning": 1, "info": 1}
    (rounding,) = [one for one in document["findings"] if one["rule"] == "pooling_rounding"]
    assert rounding == {
        "rule": "pooling_rounding",
        "severity": "error",
        "layer": "pool",
        "where": "bad.prototxt:6",
        "line": 6,
        "message": "it rounds 30x30 down to 9x9, and the chip up to 10x10",
        "limit": "10x10",
        "value": "9x9",
        "repair": "nnie-prep prepare bad.prototxt CAFFEMODEL",
    }
    lines = [one["line"] for one in document["findings"]]
    assert lines == sorted(lines)


def test_limits_of_a_users_own(nets: Path) -> None:
    types = {"likely_types": {"confidence": "A", "source": "table 3-1"}}
    Path("my.json").write_text(json.dumps(types | {"efficient_inputs": {"multiple_of": 3}}))
    assert run("check", "doubtful.prototxt", *CHIP, "--limits", "my.json", "-q").code == 0
    Path("my.json").write_text(json.dumps({"input_side": {"at_most": 31}}))
    done = run("check", "good.prototxt", *CHIP, "--limits", "my.json")
    assert done.code == 1 and "(wanted: 8..31) [input_size]" in done.out
    Path("my.json").write_text(json.dumps({"input_side": {"at_most": 31, "confidence": "C"}}))
    assert run("check", "good.prototxt", *CHIP, "--limits", "my.json").code == 0
    Path("my.json").write_text('{"input_sides": {}}')
    message = refuses(nets, "check", "good.prototxt", "--limits", "my.json")
    assert message == "my.json: 'input_sides' is no limit; did you mean input_side?"


def test_sarif(nets: Path) -> None:
    before = listing(nets)
    assert run("check", "bad.prototxt", "--sarif", "new.sarif", "-q").code == 1
    first = Path("new.sarif").read_bytes()
    results = json.loads(first)["runs"][0]["results"]
    assert [result["level"] for result in results] == ["note", "warning", "error", "error"]
    assert run("check", "good.prototxt", "--sarif", "new.sarif", "-q").code == 0, "ours is replaced"
    assert len(json.loads(Path("new.sarif").read_bytes())["runs"][0]["results"]) == 1
    Path("new.sarif").unlink()
    assert listing(nets) == before
    Path("mine.sarif").write_text("{}")
    said = refuses(nets, "check", "bad.prototxt", "--sarif", "mine.sarif")
    assert said == (
        "mine.sarif: exists and nothing shows that nnie_prep made it from these inputs; "
        "--force replaces it, another --sarif spares it"
    )
    said = refuses(nets, "check", "bad.prototxt", "--sarif", ".", "--force")
    assert said == ".: is a folder and is not replaced; name another place for it"
    said = refuses(nets, "check", "bad.prototxt", "--sarif", "-")
    assert said.startswith("-: - is no file's name") and said.endswith("name another place for it")
    assert run("check", "bad.prototxt", "--sarif", "mine.sarif", "--force", "-q").code == 1
    assert "good.prototxt" in refuses(nets, "check", "good.prototxt", "--sarif", "good.prototxt", "--force")


def test_weights(folder: Path) -> None:
    """small.prototxt with its caffemodel; and where nobody knows what weights a net needs."""
    out = run("check", "small.prototxt", "small.caffemodel", *CHIP).out
    assert "nnie-prep merge-bn small.prototxt small.caffemodel" in out
    text = Path("small.prototxt").read_text()
    Path("broken.prototxt").write_text(text.replace("group: 3", "group: 4"))
    done = run("check", "broken.prototxt", "small.caffemodel", *CHIP)
    assert done.code == 1 and "[caffe_refuses]" in done.out
    assert done.err == (
        "nnie_prep: warning: small.caffemodel: its values are not checked, for Caffe refuses the net\n"
    )


def test_the_rules_explained(folder: Path) -> None:
    out = run("check", "--rules").out
    assert [line.split()[0] for line in out.splitlines()[1 : len(RULES) + 1]] == [rule.name for rule in RULES]
    assert [one["rule"] for one in json.loads(run("check", "--rules", "--json").out)] == [
        rule.name for rule in RULES
    ]
    for rule in RULES:
        out = run("check", "--explain", rule.name, "--chip", "hi3559av100").out
        assert rule.text in out and f"Known: {rule.confidence}, " in out and rule.source in out
        assert all(f"Limit {name}: " in out for name in rule.limits)
    assert (
        "Limit nnie_version: 1.1 (A: "
        in run("check", "--explain", "nnie_version", "--chip", "hi3559av100").out
    )
    limits = json.loads(run("check", "--explain", "input_size", "--json").out)["limits"]
    assert [(limit["at_least"], limit["at_most"]) for limit in limits] == [(8, 4096)]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "PROTOTXT is missing; give one, or --rules, or --explain RULE"),
        (("--explain", "no_such"), "no rule is called 'no_such'"),
        (("--explain", "pooling_rounds"), "did you mean pooling_rounding?"),
        (("none.prototxt",), "none.prototxt: cannot be read"),
        (("small.prototxt", "none.caffemodel"), "none.caffemodel: cannot be read"),
        (("net.cfg",), "net.cfg:1:2"),
    ],
)
def test_mistakes(folder: Path, arguments: tuple[str, ...], says: str) -> None:
    assert says in refuses(folder, "check", *arguments)


def test_an_unquoted_type_names_its_place(folder: Path) -> None:
    """Of today's form of layers; protobuf, and so Caffe, refuse the file."""
    Path("unquoted.prototxt").write_text(HEAD + CONV.replace('"Convolution"', "Convolution"))
    assert "unquoted.prototxt:3:" in refuses(folder, "check", "unquoted.prototxt")
