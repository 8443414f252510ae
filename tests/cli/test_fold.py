"""`fold-darknet`: names, what is printed, and that nothing appears that was not proven."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli_cases import CFG, listing, refuses, run

from nnie_prep.cli import main
from nnie_prep.darknet import fold
from nnie_prep.outputs import made_from
from nnie_prep.weights import Factors

PAIR = ("fold-darknet", "net.cfg", "net.weights")


def new(folder: Path, before: dict[str, str]) -> list[str]:
    after = listing(folder)
    assert {name: after.get(name) for name in before} == before
    return sorted(set(after) - set(before))


def test_the_folded_pair(folder: Path) -> None:
    before = listing(folder)
    done = run(*PAIR)
    assert (done.code, done.err) == (0, "")
    assert new(folder, before) == ["net_folded.cfg", "net_folded.weights"]
    assert "folded the BatchNorm of 4 sections" in done.out
    assert "EQUAL: 11 blobs compared, on the NumPy Darknet engine" in done.out
    text = (folder / "net_folded.cfg").read_text()
    assert text.endswith("\n\n" + CFG.replace("batch_normalize=1", "batch_normalize=0"))
    made = made_from(folder / "net_folded.cfg")
    assert made and made.intact and len(made.outputs) == 1 and len(made.inputs) == 2
    size = (folder / "net.weights").stat().st_size
    assert (folder / "net_folded.weights").stat().st_size == size - 4 * 3 * (6 + 8 + 8 + 10)
    assert run("inspect", "net_folded.cfg", "net_folded.weights").code == 0


def test_again_is_the_same(folder: Path) -> None:
    """Over its own files; and folding what is folded changes no byte but the head comment."""
    assert run(*PAIR, "-o", "a").code == 0
    first = listing(folder)
    assert run(*PAIR, "-o", "a.weights").code == 0
    assert listing(folder) == first
    done = run("fold-darknet", "a.cfg", "a.weights", "-o", "b")
    assert done.code == 0 and "nothing to fold" in done.out and "EQUAL" in done.out
    after = listing(folder)
    assert after["b.weights"] == after["a.weights"]
    heads_and_bodies = [(folder / name).read_text().split("\n\n", 1) for name in ("a.cfg", "b.cfg")]
    assert heads_and_bodies[0][1] == heads_and_bodies[1][1]
    assert heads_and_bodies[1][0].count("fold-darknet") == 1


def test_a_later_preparation(folder: Path) -> None:
    assert run(*PAIR).code == 0
    done = run("prepare", "net_folded.cfg", "net_folded.weights", "-o", "out", "--json")
    document = json.loads(done.out)
    assert document["verification"]["answer"] == "equal"
    assert document["passes"]["fold_batchnorm"] == []


def test_files_of_others_and_inputs(folder: Path) -> None:
    assert "is the input" in refuses(folder, *PAIR, "-o", "net")
    (folder / "a.cfg").write_text("mine")
    assert "nothing shows that nnie_prep made it" in refuses(folder, *PAIR, "-o", "a")
    assert run(*PAIR, "-o", "a", "--force").code == 0
    assert "names no file" in refuses(folder, *PAIR, "-o", ".cfg")
    assert "sections cannot be computed" in _with(folder, "activation=leaky", "activation=lekay")
    assert "left over" in _with(folder, "filters=6", "filters=4")


def _with(folder: Path, old: str, new: str) -> str:
    (folder / "other.cfg").write_text(CFG.replace(old, new))
    return refuses(folder, "fold-darknet", "other.cfg", "net.weights")


def test_options(folder: Path) -> None:
    np.save(folder / "x.npy", np.random.default_rng(1).random((3, 16, 24)).astype(np.float32))
    for options in (("--seed", "7"), ("--input", "x.npy"), ("--bn-form", "pjreddie-cpu")):
        assert "EQUAL" in run(*PAIR, *options, "--force").out, options
    assert run(*PAIR, "--force", "-q")[:2] == (0, "")
    verbose = run(*PAIR, "--force", "-v").out
    assert "0, 2, 4, 6" in verbose and "0 convolutional" in verbose
    np.save(folder / "two.npy", np.zeros((2, 3, 16, 24), np.float32))
    assert "holds 2 pictures" in refuses(folder, *PAIR, "--force", "--input", "two.npy")
    done = run(*PAIR, "--force", "--no-verify", "--json")
    document = json.loads(done.out)
    assert document["verification"] is None and document["folded"] == [0, 2, 4, 6]
    assert document["outputs"] == ["net_folded.weights", "net_folded.cfg"]
    strict = run(*PAIR, "--force", "--tolerance", "0")
    assert strict.code == 1 and "DIFFERS" in strict.out


def test_bn_forms_differ(folder: Path) -> None:
    for form in ("standard", "pjreddie-cpu"):
        assert run(*PAIR, "-o", form, "--bn-form", form).code == 0
    after = listing(folder)
    assert after["standard.weights"] != after["pjreddie-cpu.weights"]


@pytest.mark.parametrize("wrong", ["scale", "shift"])
def test_a_wrong_fold_never_appears(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wrong: str
) -> None:
    """One channel of one section off by a hundredth."""
    right = fold._batch_norm

    def spoilt(mean, variance, form):
        factors = right(mean, variance, form)
        if len(mean) == 10:
            values = getattr(factors, wrong).copy()
            values[3] *= 1.01
            return factors._replace(**{wrong: values})
        return Factors(*factors)

    monkeypatch.setattr(fold, "_batch_norm", spoilt)
    before = listing(folder)
    assert main(list(PAIR)) == 1
    assert listing(folder) == before
    said = capsys.readouterr().out
    assert "DIFFERS" in said and "blob 6 convolutional is the first that differs" in said
    assert "nothing was written" in said
    main([*PAIR, "--json"])
    blobs = {blob["name"]: blob for blob in json.loads(capsys.readouterr().out)["verification"]["blobs"]}
    assert [name for name, blob in blobs.items() if blob["by_segment"] > 1e-4] == ["6 convolutional"]
    assert blobs["9 convolutional"]["end_to_end"] > 1e-4
