"""`batch`: a manifest read, five models of which one is broken, what is done again and what is not."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from cli_cases import (
    command,
    environment,
    listing,
    on_a_terminal,
    refuses,
    run,
    screen,
    write_caffe,
    write_darknet,
)
from junitparser import Error, Failure, JUnitXml

from nnie_prep.outputs import hash_of

pytestmark = pytest.mark.slow

NAMES = ["a", "b", "c", "d", "small"]
MANIFEST = """\
defaults:
  output: out/{name}
models:
  - cfg: models/*.cfg
  - prototxt: models/small.prototxt
"""


def _write_five(place: Path) -> None:
    (place / "models").mkdir(parents=True)
    for seed, name in enumerate(NAMES[:-1]):
        write_darknet(place / "models", name, seed)
    write_caffe(place / "models")
    (place / "models.yaml").write_text(MANIFEST)


@pytest.fixture
def five(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, the current one, with five small models and a manifest of them."""
    place = tmp_path / "work"
    _write_five(place)
    monkeypatch.chdir(place)
    return place


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("once") / "work"
    _write_five(place)
    assert run("batch", place / "models.yaml").code == 0
    return place


@pytest.fixture
def done_five(once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same folder when its models have been prepared."""
    shutil.copytree(once, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def break_it(name: str = "c") -> None:
    """Cuts a model's weights off."""
    path = Path("models", f"{name}.weights")
    path.write_bytes(path.read_bytes()[:-8])


def ran(*arguments: object) -> dict[str, Any]:
    """The JSON report of a run, whose exit code must agree with it."""
    done = run("batch", "models.yaml", "--json", *arguments)
    assert done.err == "", done
    report: dict[str, Any] = json.loads(done.out)
    assert done.code == (not report["passed"])
    return report


def states(report: dict[str, Any]) -> dict[str, str]:
    return {model["name"]: model["state"] for model in report["models"]}


def outputs() -> dict[str, str]:
    """What lies in out/ but the records."""
    return {name: digest for name, digest in listing(Path("out")).items() if ".batch." not in name}


# ---- five models ---------------------------------------------------------------------------------


def test_one_broken_of_five(five: Path) -> None:
    """The others are what `prepare` writes for each, and the table has the manifest's order."""
    break_it()
    done = run("batch", "models.yaml", "-j", 2)
    assert (done.code, done.err) == (1, "")
    head, *rows = done.out.split("\n\n")[0].splitlines()
    titles = ["model", "proof", "by segment", "end to end", "seconds", "memory", "files"]
    assert re.split("  +", head) == titles
    assert [row.split()[0] for row in rows] == NAMES
    assert [re.split("  +", row)[1:3] for row in rows if row[0] != "c"] == [["prepared", "equal"]] * 4
    assert re.fullmatch(r"c +failed +[\d.]+ +[\d.]+ MB", rows[2])
    assert "\nc: models/c.cfg:57: the weights file models/c.weights ends in section 9" in done.out
    assert re.search(r"\n5 models in [\d.]+ s: 4 prepared, 1 failed\n$", done.out)

    by_batch = outputs()
    assert {name.partition(".")[0] for name in by_batch} == set(NAMES) - {"c"}
    for path in Path("out").iterdir():
        path.unlink()
    for name in ("a", "b", "d"):
        assert run("prepare", f"models/{name}.cfg", f"models/{name}.weights", "-o", f"out/{name}").code == 0
    assert run("prepare", "models/small.prototxt", "models/small.caffemodel", "-o", "out/small").code == 0
    assert outputs() == by_batch


def test_the_order_is_the_manifests(five: Path) -> None:
    """Also where the first takes longest. Models at once make no difference to the bytes."""
    found = []
    for jobs in (9, 2, 1):
        report = ran("-j", jobs, "--force")
        assert list(states(report).items()) == [(name, "prepared") for name in NAMES]
        assert report["counts"] == {"prepared": 5, "up to date": 0, "failed": 0}
        assert all(model["seconds"] > 0 and model["memory"] > 1e7 for model in report["models"])
        found.append(outputs())
    assert found[0] == found[1] == found[2]


def test_junit_tells_a_no_from_an_error(five: Path) -> None:
    """As an independent reader sees it. The report is written anew each time, another file is not."""
    break_it()
    Path("models.yaml").write_text(MANIFEST + "    options: {tolerance: 0}\n")
    for _ in range(2):
        report = ran("--junit", "report.xml")
        (suite,) = JUnitXml.fromfile("report.xml")
        assert (suite.tests, suite.failures, suite.errors, suite.skipped) == (5, 1, 1, 0)
        found = {case.name: case.result[0] if case.result else None for case in suite}
        assert list(found) == NAMES
        for model in report["models"]:
            kind = {"c": Error, "small": Failure}.get(model["name"], type(None))
            assert isinstance(found[model["name"]], kind)
            if model["error"]:
                assert found[model["name"]].message == model["error"]
    assert "blob" in found["small"].message and "weights file" in found["c"].message
    Path("report.xml").write_text("<testsuites name='of somebody else'/>")
    said = refuses(five, "batch", "models.yaml", "--junit", "report.xml")
    assert "report.xml: exists and nothing shows that nnie_prep made it" in said
    assert said.endswith("; --force replaces it, another --junit spares it")
    said = refuses(five, "batch", "models.yaml", "--junit", "models")
    assert said.startswith("models: is a folder and is not replaced; ") and "-o" not in said
    assert "does not exist" in refuses(five, "batch", "models.yaml", "--junit", "no/report.xml")


@pytest.mark.parametrize("name", ["models.yaml", "models/a.cfg", "models/small.caffemodel", "fed.npy"])
def test_junit_over_an_input(five: Path, name: str) -> None:
    """Not even with --force, nor where the model is not one of those to be done."""
    Path("models.yaml").write_text(MANIFEST + "    options: {input: fed.npy}\n")
    Path("fed.npy").write_bytes(b"not read before")
    Path("models/b.weights").unlink()
    said = refuses(five, "batch", "models.yaml", "--force", "--only", "d", "--junit", name)
    assert f"{name}: is the input {name} and is not replaced" in said


def test_texts_that_xml_cannot_hold(five: Path) -> None:
    Path("models.yaml").write_text('models:\n  - {cfg: "\\x01\\u263a", name: "<&]]>\'\\""}\n')
    ran("--junit", "report.xml")
    (suite,) = JUnitXml.fromfile("report.xml")
    (case,) = suite
    assert case.name == "<&]]>'\""
    assert "?\u263a" in case.result[0].message


def spoil(monkeypatch: pytest.MonkeyPatch, statement: str) -> None:
    """Has a module that `prepare` imports do something else, in the processes of the models."""
    Path("spoilt/google").mkdir(parents=True)
    Path("spoilt/google/__init__.py").write_text(f"import os, sys\n{statement}\n")
    monkeypatch.syspath_prepend("spoilt")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")


def test_a_model_that_dies(five: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed for want of memory, say. The others go on, and the report says by what."""
    spoil(
        monkeypatch,
        "if 'models/c.cfg' in sys.argv: os.kill(os.getpid(), 9)\ndel sys.path[0]; "
        "del sys.modules['google']; import google",
    )
    report = ran("--junit", "report.xml")
    assert states(report) == {name: "failed" if name == "c" else "prepared" for name in NAMES}
    assert report["models"][2]["error"] == "was ended by SIGKILL, for want of memory perhaps; lower -j"
    assert report["models"][2]["exit_code"] == -9


def test_a_fault_of_the_program_keeps_its_traceback(five: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, "raise ArithmeticError('planted')")
    done = run("batch", "models.yaml", "--only", "a")
    assert done.code == 1
    assert "a: ArithmeticError: planted\n  Traceback (most recent call last):\n" in done.out


# ---- again ---------------------------------------------------------------------------------------


def test_nothing_is_done_twice(done_five: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in Path("out").iterdir()}
    first, second = ran(), ran()
    assert states(first) == dict.fromkeys(NAMES, "up to date")
    assert {path: path.stat().st_mtime_ns for path in Path("out").iterdir()} == before
    assert first["models"] == second["models"]
    assert all(model["proof"]["answer"] == "equal" and model["outputs"] for model in first["models"])
    assert run("batch", "models.yaml").out.count("up to date  equal") == 5


def _retrain() -> None:
    write_darknet(Path("models"), "b", 77)


def _reword() -> None:
    """Another cfg of the same function is another input."""
    path = Path("models/b.cfg")
    path.write_text(path.read_text() + "\n# trained again\n")


def _record(**changes: object) -> None:
    path = Path("out/b.batch.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _manifest(options: str) -> Callable[[], None]:
    own = f"  - {{name: b, cfg: models/b.cfg, {options}}}\n"
    text = MANIFEST.replace("*.cfg", "[acd].cfg").replace("  - prototxt", own + "  - prototxt")
    return lambda: [None, Path("models.yaml").write_text(text)][0]


AGAIN: dict[str, Callable[[], object]] = {
    "other weights": _retrain,
    "another cfg": _reword,
    "other options": _manifest("options: {target: caffe}"),
    "another proof": _manifest("options: {tolerance: 1e-3}"),
    "a lost file": lambda: Path("out/b.json").unlink(),
    "a lost prototxt": lambda: Path("out/b.prototxt").unlink(),
    "a lost record": lambda: Path("out/b.batch.json").unlink(),
    "a record that is none": lambda: Path("out/b.batch.json").write_text("[1]"),
    "a record cut short": lambda: Path("out/b.batch.json").write_text('{"batch": "nnie_prep 0.1.0"}'),
    "a record too deep": lambda: Path("out/b.batch.json").write_text("[" * 100_000),
    "a record without an answer": lambda: _record(proof={"worst_by_segment": "none"}),
    "another version": lambda: _record(batch="nnie_prep 0.0.9"),
}


@pytest.mark.parametrize("what", AGAIN)
def test_what_changed_is_done_again(done_five: Path, what: str) -> None:
    """That model alone, without --force, and then it is up to date."""
    AGAIN[what]()
    expected = {name: "prepared" if name == "b" else "up to date" for name in NAMES}
    assert states(ran()) == expected
    assert states(ran()) == dict.fromkeys(NAMES, "up to date")


def test_the_version_in_the_head_counts(done_five: Path) -> None:
    """A prototxt that an earlier version wrote is not what this one would."""
    path = Path("out/b.prototxt")
    path.write_text(path.read_text().replace("# nnie_prep 0.1.0", "# nnie_prep 0.0.9", 1))
    _record(outputs=json.loads(Path("out/b.batch.json").read_text())["outputs"] | {str(path): hash_of(path)})
    assert states(ran())["b"] == "prepared"


def test_the_input_of_the_proof_counts(done_five: Path) -> None:
    pictures = np.random.default_rng(0)
    np.save("x.npy", pictures.random((1, 3, 16, 24), np.float32))
    _manifest("options: {input: x.npy}")()
    ran()
    assert states(ran())["b"] == "up to date"
    np.save("x.npy", pictures.random((1, 3, 16, 24), np.float32))
    assert states(ran())["b"] == "prepared"
    Path("x.npy").unlink()
    assert states(ran())["b"] == "failed"


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "longer": lambda content: content + b"\n",
    "cut short": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "another's": lambda content: b"\xff" * len(content),
    "another version": lambda content: content.replace(b"0.1.0", b"0.1.1", 1) + b"\n",
}


@pytest.mark.parametrize("suffix", [".prototxt", ".caffemodel", ".json", ".report.txt"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_not_as_batch_wrote_it_is_not_replaced(done_five: Path, suffix: str, damage: str) -> None:
    """Not even where the inputs are new, and the message names the file that is to blame; --force does it."""
    path = Path("out/b" + suffix)
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    for change in (lambda: None, _retrain):
        change()
        before = outputs()
        report = ran("--only", "b")
        assert states(report) == {"b": "failed"} and report["models"][0]["exit_code"] == 2
        assert report["models"][0]["error"] == (
            f"{path}: what is there now is not what batch wrote, by out/b.batch.json; "
            "--force replaces it, another output spares it"
        )
        assert outputs() == before
    assert states(ran("--force", "--only", "b")) == {"b": "prepared"}
    assert states(ran()) == dict.fromkeys(NAMES, "up to date")


def test_without_the_record_the_files_speak_for_themselves(done_five: Path) -> None:
    Path("out/b.batch.json").unlink()
    Path("out/b.caffemodel").write_bytes(b"finetuned")
    assert ran()["models"][1]["error"] == (
        "out/b.caffemodel: exists and differs from what nnie_prep made of these inputs; "
        "--force replaces it, another output (-o) spares it"
    )


def test_a_record_that_cannot_be_written(five: Path) -> None:
    """That model fails, and the others do not."""
    Path("out/b.batch.json").mkdir(parents=True)
    report = ran("-j", 2)
    assert states(report) == {name: "failed" if name == "b" else "prepared" for name in NAMES}
    said = report["models"][1]["error"]
    assert said.startswith(
        "is prepared, but without a record of it: out/b.batch.json: is a folder and is not"
    )
    assert "-o" not in said


@pytest.mark.parametrize("is_pattern", [False, True])
def test_pictures_for_the_compiler(five: Path, is_pattern: bool) -> None:
    """They count, and so do the files made of them, which are no model."""
    cfg = "models/[a]*.cfg" if is_pattern else "models/a.cfg"
    Path("models.yaml").write_text(f"models: [{{cfg: '{cfg}', options: {{images: pictures}}}}]")
    Path("pictures").mkdir()
    for name in "ab":
        cv2.imwrite(f"pictures/{name}.png", np.full((9, 7, 3), ord(name), np.uint8))
    assert states(ran()) == {"a": "prepared"}
    assert states(ran()) == {"a": "up to date"}
    cv2.imwrite("pictures/b.png", np.random.default_rng(5).integers(0, 256, (9, 7, 3)))
    assert states(ran()) == {"a": "prepared"}
    assert states(ran()) == {"a": "up to date"}
    Path("pictures/b.png").rename("pictures/c.png")
    assert states(ran()) == {"a": "prepared"}
    Path("models/a_mapper.cfg").write_text(Path("models/a_mapper.cfg").read_text() + "[batch_num] 1\n")
    assert "models/a_mapper.cfg: what is there now is not" in ran()["models"][0]["error"]


def test_a_cfg_of_the_users_own_for_the_compiler(five: Path) -> None:
    """It stays when the model is first asked for one, though all else there is batch's own."""
    Path("models.yaml").write_text("models: [{cfg: models/a.cfg}]")
    ran()
    Path("pictures").mkdir()
    cv2.imwrite("pictures/a.png", np.zeros((9, 7, 3), np.uint8))
    done = run("mapper-cfg", "models/a.prototxt", "models/a.caffemodel", "--images", "pictures", "-q")
    assert done.code == 0
    own = Path("models/a_mapper.cfg").read_bytes()
    Path("models.yaml").write_text("models: [{cfg: models/a.cfg, options: {images: pictures}}]")
    report = ran()
    assert states(report) == {"a": "failed"}
    assert re.search("models/a_.*: exists and", report["models"][0]["error"])
    assert Path("models/a_mapper.cfg").read_bytes() == own
    assert states(ran("--force")) == {"a": "prepared"}


def test_repaired_and_restarted(five: Path) -> None:
    """The way of a nightly build: what failed is tried again, what was done is not."""
    break_it()
    assert states(ran("-j", 2))["c"] == "failed"
    write_darknet(Path("models"), "c", 2)
    assert states(ran("-j", 2)) == {name: "prepared" if name == "c" else "up to date" for name in NAMES}


# ---- some of them --------------------------------------------------------------------------------


def test_list_and_only(five: Path) -> None:
    assert run("batch", "models.yaml", "--list").out.split() == NAMES
    assert json.loads(run("batch", "models.yaml", "--list", "--json").out) == NAMES
    assert not Path("out").exists()
    assert list(states(ran("--only", "small", "--only", "b"))) == ["b", "small"]
    said = refuses(five, "batch", "models.yaml", "--only", "smal")
    assert said == "models.yaml: no model is called 'smal'; did you mean small?"


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("start", [0, 1])
def test_parts_are_all_and_none_twice(five: Path, count: int, start: int) -> None:
    """As Kubernetes counts, from 0, and as GitLab does, from 1."""
    parts = [
        run("batch", "models.yaml", "--list", "--part", f"{index}/{count}").out.split()
        for index in range(start, start + count)
    ]
    assert sorted(sum(parts, [])) == NAMES
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("part", ["", "1", "3/2", "0/0", "-1/2", "a/b", "1/2/3"])
def test_no_such_part(five: Path, part: str) -> None:
    assert "is not I/N, with I from 0 to N; write --part 0/4" in refuses(
        five, "batch", "models.yaml", f"--part={part}"
    )


def test_a_part_without_models_passes(five: Path) -> None:
    report = ran("--part", "7/8", "--junit", "report.xml")
    assert report["passed"] and report["models"] == []
    assert run("batch", "models.yaml", "--part", "7/8").out.endswith(": none\n")


# ---- at once, and cut short ----------------------------------------------------------------------

# In the place of a Python with Caffe: says that it is there, and waits as long as it is told.
WAITER = """\
#!/bin/sh
echo $$ > running.$$
{}
rm running.$$
exit 1
"""


def wait_in_children(script: str) -> None:
    Path("waiter").write_text(WAITER.format(script))
    Path("waiter").chmod(0o755)
    waiting = "  options: {engine: caffe, caffe-python: ./waiter}\n"
    Path("models.yaml").write_text(MANIFEST.replace("models:\n", waiting + "models:\n"))


@pytest.mark.parametrize("jobs", [1, 3])
def test_as_many_at_once_as_asked(five: Path, jobs: int) -> None:
    """Each waits until there once were so many, and a while longer for one too many."""
    Path("models/d.cfg").unlink()
    met = f"[ -e met ] || {{ [ $(ls running.* | wc -l) -ge {jobs} ] && touch met; }}"
    wait_in_children(
        f"for i in $(seq 600); do {met} && break; sleep 0.1; done\n"
        + "sleep 0.3; ls running.* | wc -l >> counts\nsleep 0.2"
    )
    run("batch", "models.yaml", "-j", jobs)
    counts = [int(line) for line in Path("counts").read_text().split()]
    assert max(counts) == jobs


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_children(five: Path, number: int) -> None:
    """They clean up, nobody is left at work, what was done before stays, and the next run goes on."""
    ran("--only", "a", "--only", "d")
    before = listing(five)
    wait_in_children("exec sleep 60")
    batch = subprocess.Popen(
        command("batch", "models.yaml", "-j", 2),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while len(list(five.glob("running.*"))) < 2:
        assert batch.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    assert [path for path in Path("out").iterdir() if ".nnie_prep-" in path.name]
    batch.send_signal(number)
    out, err = batch.communicate(timeout=60)
    assert batch.returncode == 128 + number
    assert (out, err) == ("", "nnie_prep: interrupted; what is prepared stays; run it again to go on\n")
    for path in five.glob("running.*"):
        assert not Path("/proc", path.suffix[1:]).exists(), "one is still at work"
        path.unlink()
    Path("waiter").unlink()
    Path("models.yaml").write_text(MANIFEST)
    assert listing(five) == before
    assert states(ran()) == {name: "up to date" if name in "ad" else "prepared" for name in NAMES}


def test_what_never_ran_held_no_memory(done_five: Path) -> None:
    Path("out/b.prototxt").write_text("mine\n")
    done = run("batch", "models.yaml", "--only", "b")
    assert done.code == 1 and "0 bytes" not in done.out


def test_progress_on_a_terminal(five: Path) -> None:
    """How many are done and who is at work; wiped in the end. Nothing of it for machines."""
    script = "import sys; from nnie_prep.cli import main; sys.exit(main(sys.argv[1:]))"
    done = on_a_terminal(script, "batch", "models.yaml", "-j", "2")
    assert done.code == 0 and "5 models in" in done.out
    assert re.search(r"[0-4] of 5 done, at work on [a-e]", done.err)
    assert "at work on  " not in done.err
    assert re.search(r"5 of 5 done \.\.\.", done.err)
    assert screen(done.err) == [""]
    assert on_a_terminal(script, "batch", "models.yaml", "--force", "--json").err == ""


def test_verbose_tells_of_each_as_it_ends(five: Path) -> None:
    break_it()
    done = run("batch", "models.yaml", "-v")
    lines = [f"{number} of 5: {name} " for number, name in enumerate(NAMES, 1)]
    assert [line[: len(start)] for line, start in zip(done.err.splitlines(), lines, strict=True)] == lines
    quiet = run("batch", "models.yaml", "-q")
    assert (quiet.code, quiet.out, quiet.err) == (1, "", "")


# ---- the manifest --------------------------------------------------------------------------------


def model(text: str) -> str:
    return f"models:\n  - cfg: models/a.cfg\n    {text}\n"


MISTAKES = {
    "": "models.yaml: is empty",
    "models: [": "models.yaml:1: is not YAML: while parsing a flow node",
    "models: 3": "models.yaml:1: models is '3', and a list is wanted",
    "models: []": "models.yaml:1: the list of models is empty",
    "defaults: {}": "models.yaml: there is no list of models",
    "- cfg: models/a.cfg": "models.yaml:1: the manifest is a list, and a mapping is wanted",
    "modles: []": "models.yaml:1: the manifest has no key 'modles'; did you mean models?",
    "models:\n  - models/a.cfg": "models.yaml:2: a model is 'models/a.cfg', and a mapping is wanted",
    model("weihgts: x"): "models.yaml:3: a model has no key 'weihgts'; did you mean weights?",
    model("target: nnie"): "models.yaml:3: a model has no key 'target'; it is an option of prepare",
    model("cfg: models/b.cfg"): "models.yaml:3: cfg stands twice, before in line 2",
    model("prototxt: x"): "models.yaml:2: cfg and prototxt given, of cfg and prototxt",
    "models: [{name: x}]": "models.yaml:1: neither given, of cfg and prototxt",
    model("caffemodel: x"): "models.yaml:3: caffemodel given with cfg; write weights",
    model("name: [x]"): "models.yaml:3: name is a list, and a text is wanted",
    model("name: yes"): "models.yaml:3: name is 'yes', and a text is wanted; quote it if it is one",
    model('output: "a\\0b"'): "models.yaml:3: output is 'a\\x00b', and a text is wanted",
    model("name:"): "models.yaml:3: name is empty, and a text is wanted",
    model("name: '{stm}'"): "models.yaml:3: name has {stm}, which is not known; known are {stem}, ",
    model('name: "a\\nb"'): "models.yaml:2: 'a\\nb' is no name",
    model("output: a.json"): "models.yaml:2: a would be written as 'a.json'; output is a name",
    model("output: x/.."): "models.yaml:2: a would be written as 'x/..'; output is a name",
    model("output: x\n  - {cfg: b.cfg, output: ./x}"): "models.yaml:4: a and b would both be writ",
    model("output: x.batch\n  - {cfg: b.cfg, output: x}"): "models.yaml:4: a and b would both be ",
    model("output: models/s\n  - prototxt: models/s.prototxt"): "models.yaml:2: a would be written o",
    model("options: {taget: nnie}"): "models.yaml:3: options has no key 'taget'; did you mean target?",
    model("options:\n      skip: []\n      force: true"): "models.yaml:5: force cannot be given in",
    model("options: {target: nie}"): "models.yaml:2: a: argument --target: invalid choice: 'nie'",
    model("options: {tolerance: 7}"): "models.yaml:2: a: argument --tolerance: 7 is not between 0",
    model("options: {strict: 1}"): "models.yaml:3: strict is '1', and true or false is wanted",
    model("options: {target: true}"): "models.yaml:3: target is 'true', and a text is wanted",
    model("options: {target: [nnie]}"): "models.yaml:3: target is a list, and a text is wanted",
    model("options: {skip: [[fold_scale]]}"): "models.yaml:3: skip is a list, and a text is wanted",
    "models:\n  - cfg: models/*.cgf": "models.yaml:2: no file matches models/*.cgf; paths are relat",
    "models:\n  - cfg: models/*.cfg\n    weights: x": "models.yaml:3: weights given with a pattern",
    "models:\n  - cfg: models/*.cfg\n    name: x": "models.yaml:2: two models are called x: models/",
    "models:\n  - cfg: models/*.cfg\n  - cfg: models/b.cfg": "models.yaml:3: two models are called b",
    "models:\n  - cfg: models/*.cfg\n    output: x": "models.yaml:2: a and b would both be written ",
    "defaults: {cfg: x}\nmodels: []": "models.yaml:1: defaults has no key 'cfg'; known are name, ",
    "defaults: {options: {taget: x}}\nmodels: []": "models.yaml:1: options has no key 'taget'",
    "models: \x07": "models.yaml: is not YAML: unacceptable character",
    "[" * 5000: "models.yaml: is nested too deeply",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_mistakes_are_found_before_anything_runs(five: Path, text: str) -> None:
    Path("models.yaml").write_text(text)
    assert refuses(five, "batch", "models.yaml").startswith(MISTAKES[text])


def test_a_manifest_that_cannot_be_read(five: Path) -> None:
    assert refuses(five, "batch", "no.yaml").startswith("no.yaml: cannot be read: No such file")
    assert refuses(five, "batch", "models").startswith("models: is not a regular file")
    Path("models.yaml").write_bytes(b"models: \xff\xfe")
    assert refuses(five, "batch", "models.yaml").startswith("models.yaml: is not YAML: ")


def test_without_pyyaml(five: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    said = refuses(five, "batch", "models.yaml")
    assert said == "batch: needs PyYAML, which is not installed; pip install pyyaml"


def test_json_is_a_manifest_too(five: Path) -> None:
    Path("models.yaml").write_text(json.dumps({"models": [{"cfg": "models/a.cfg", "output": "a"}]}))
    assert states(ran()) == {"a": "prepared"}


def options_of(name: str) -> list[str]:
    return list(json.loads(Path(f"out/{name}.json").read_text())["made_by"]["options"])


def test_options_and_defaults(five: Path) -> None:
    """A model's own stand in the place of the defaults, an empty one takes a default away."""
    Path("models.yaml").write_text(
        """\
defaults: {output: "out/{name}", options: {target: caffe, skip: [fold_scale, drop_identity]}}
models:
  - {cfg: models/a.cfg}
  - {cfg: models/b.cfg, options: {target: nnie}}
  - {cfg: models/c.cfg, options: {skip: insert_bias, flavor: pjreddie}}
  - {cfg: models/d.cfg, options: {target: ~, skip: ~, no-verify: true, strict: false}}
"""
    )
    report = ran()
    assert {name: options_of(name) for name in "abcd"} == {
        "a": ["--target caffe", "--skip drop_identity", "--skip fold_scale"],
        "b": ["--target nnie", "--skip drop_identity", "--skip fold_scale"],
        "c": ["--target caffe", "--flavor pjreddie", "--skip insert_bias"],
        "d": ["--target nnie"],
    }
    assert [bool(model["proof"]) for model in report["models"]] == [True, True, True, False]
    assert "not verified" in run("batch", "models.yaml").out


def test_every_option_of_prepare_can_be_given(five: Path) -> None:
    """All but those that are batch's own."""
    shown = set(re.findall(r"^  (?:-\w, )?--([a-z-]+)", run("prepare", "--help").out, re.M))
    refused = set()
    for name in shown | {"output", "help"}:
        Path("models.yaml").write_text(model(f"options: {{{name}: 1}}"))
        said = run("batch", "models.yaml", "--list").err
        assert "has no key" not in said
        refused |= {name} if "cannot be given" in said else set()
    assert refused == {"help", "output", "force", "json", "quiet", "verbose"}


@pytest.mark.parametrize("where", [".", "models", "elsewhere"])
def test_paths_are_relative_to_the_manifest(five: Path, where: str) -> None:
    """From wherever it is run, and what was done from one place is up to date from another."""
    Path("models.yaml").write_text(
        "defaults: {name: '{folder}-{stem}', output: 'out/{folder}/'}\nmodels: [{cfg: models/a.cfg}]"
    )
    ran()
    assert Path("out/models/models-a.prototxt").exists()
    Path(where).mkdir(exist_ok=True)
    manifest = os.path.relpath("models.yaml", where)
    done = subprocess.run(
        command("batch", manifest, "--json"), cwd=where, env=environment(), capture_output=True, text=True
    )
    assert [model["state"] for model in json.loads(done.stdout)["models"]] == ["up to date"]


def test_a_file_whose_name_looks_like_a_pattern(five: Path) -> None:
    for suffix in (".cfg", ".weights"):
        Path("models/a").with_suffix(suffix).rename(f"models/a[1]{suffix}")
    Path("models.yaml").write_text("models: [{cfg: 'models/a[1].cfg', name: a}]")
    assert states(ran()) == {"a": "prepared"}
    assert Path("models/a[1].prototxt").exists()


def test_a_pattern_does_not_find_what_was_made_of_its_files(five: Path) -> None:
    """But a source of a name like that is one, of which somebody else's result lies in the way."""
    Path("models.yaml").write_text("models: [{prototxt: 'models/*.prototxt'}]")
    assert states(ran()) == {"small": "prepared"}
    assert states(ran()) == {"small": "up to date"}
    Path("models/small.prototxt").write_bytes(Path("models/small.prototxt").read_bytes() + b"# new\n")
    assert states(ran("--force")) == {"small": "prepared"}
    Path("models/small_nnie.prototxt").write_bytes(Path("models/small.prototxt").read_bytes())
    said = refuses(five, "batch", "models.yaml", "--force")
    assert "small would be written over models/small_nnie.prototxt, an input of small_nnie" in said


BOTH = "models:\n  - cfg: models/[ab].cfg{}\n  - prototxt: '**/*.prototxt'\n"


@pytest.mark.parametrize("output", ["", "\n    output: out/{name}"])
def test_a_pattern_does_not_find_what_another_entry_made(five: Path, output: str) -> None:
    """In a run before, and where the other entry is gone or writes elsewhere now; a file's own name does."""
    Path("models.yaml").write_text(BOTH.format(output))
    expected = ["a", "b", "small"]
    assert states(ran()) == dict.fromkeys(expected, "prepared")
    assert states(ran()) == dict.fromkeys(expected, "up to date")
    Path("models/a.batch.json" if not output else "out/a.batch.json").unlink()
    assert states(ran()) == {name: "prepared" if name == "a" else "up to date" for name in expected}
    Path("models.yaml").write_text(BOTH.format("\n    output: new/{name}"))
    assert states(ran()) == {name: "up to date" if name == "small" else "prepared" for name in expected}
    Path("models.yaml").write_text("models: [{prototxt: '*/*.prototxt'}]")
    assert states(ran()) == {"small": "up to date"}
    Path("models.yaml").write_text("models: [{prototxt: new/a.prototxt}]")
    assert states(ran()) == {"a": "prepared"}
    Path("models.yaml").write_text("models: [{prototxt: 'new/*.prototxt'}]")
    said = refuses(five, "batch", "models.yaml")
    assert said == (
        "models.yaml:1: new/*.prototxt finds nothing but results of batch, like new/a.prototxt; "
        "name a file of them to have it prepared again"
    )


def test_a_pattern_finds_what_the_user_made_of_a_source(five: Path) -> None:
    """By another command, or by `prepare` under a name of the user's own."""
    sources = ("models/small.prototxt", "models/small.caffemodel")
    assert run("strip", *sources, "-q", "-o", "models/lean").code == 0
    assert run("prepare", *sources, "-q", "-o", "models/own").code == 0
    Path("models.yaml").write_text("models: [{prototxt: 'models/*.prototxt', output: 'out/{name}'}]")
    assert run("batch", "models.yaml", "--list").out.split() == ["lean", "own", "small"]


def test_modules_in_the_models_folder_are_not_imported(five: Path) -> None:
    Path("numpy.py").write_text("raise SystemExit('imported from the folder of the models')\n")
    program = Path(sys.executable).with_name("nnie-prep")
    done = subprocess.run([program, "batch", "models.yaml", "--only", "a"], capture_output=True, text=True)
    assert done.returncode == 0, done
