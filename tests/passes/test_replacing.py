"""The golden cases of the passes that replace what NNIE, or stock Caffe, has not, and Caffe's numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from foreign import FOREIGN
from golden import FOLDER, cases, compare, read
from in_caffe import compare_in_caffe
from strategies import Drawn, random_net

from nnie_prep.blob_map import BlobMap
from nnie_prep.engines import caffe_engine
from nnie_prep.engines.numpy import forward
from nnie_prep.passes import PASSES, Pass, run
from nnie_prep.passes.lowering import REPLACES, lower
from nnie_prep.passes.pipelines import ALL_PASSES, NNIE_PASSES, STOCK_PASSES
from nnie_prep.proof import Engine, Options, prove_surgery

OTHERS = {"replace_inputs", "drop_heads", "rename_long_names"}  # which change inputs and outputs
REPLACING = [one for one in ALL_PASSES if one not in PASSES and one.__name__ not in OTHERS]
CASES = [(one, case) for one in REPLACING for case in cases(one)]


def named(value: object) -> str:
    return getattr(value, "__name__", str(value))


@pytest.mark.parametrize(("one", "case"), CASES, ids=named)
def test_golden(one: Pass, case: str) -> None:
    compare(one, case)


@pytest.mark.parametrize("one", REPLACING, ids=named)
def test_there_is_a_case_that_fires_and_one_that_declines(one: Pass) -> None:
    notes = [run(read_case(one, case).net, [one], BlobMap([]))[one.__name__] for case in cases(one)]
    assert any(note.changed for found in notes for note in found)
    assert any(not note.changed for found in notes for note in found)


def read_case(one: Pass, case: str) -> Drawn:
    return read(FOLDER / one.__name__ / f"{case}.prototxt").drawn


def runs_in_caffe(one: Pass, case: str) -> bool:
    drawn = read_case(one, case)
    return bool(drawn.feeds) and any(note.changed for note in one(drawn.net))


IN_CAFFE = [(one, case) for one, case in CASES if runs_in_caffe(one, case)]


@pytest.mark.caffe
@pytest.mark.parametrize(("one", "case"), IN_CAFFE, ids=named)
def test_caffe_computes_the_same_before_and_after(one: Pass, case: str) -> None:
    assert compare_in_caffe(read_case(one, case), 2e-5, [one])


@pytest.mark.caffe
@pytest.mark.parametrize("passes", [NNIE_PASSES, STOCK_PASSES], ids=["nnie", "caffe"])
@pytest.mark.parametrize("seed", range(3))
def test_every_motif_in_caffe(passes: tuple[Pass, ...], seed: int) -> None:
    """Nets of all motifs in random order. Float32 on both sides, so that depth adds noise."""
    random = np.random.default_rng(seed)
    motifs = [FOREIGN[place] for place in random.permutation(len(FOREIGN))]
    drawn = next(
        one for one in (random_net(motifs, 100 * seed + n) for n in range(99)) if "label" not in one.feeds
    )
    assert any(note.changed for note in compare_in_caffe(drawn, 5e-4, passes))


# ---- lowering for a Caffe that lacks some types ----------------------------------------------------

STOCK_TYPES = {"Convolution", "Deconvolution", "Eltwise", "Power", "ReLU", "Sigmoid", "TanH", "BNLL"}


def every_case_of(one: Pass) -> list[Drawn]:
    return [drawn for drawn in (read_case(one, case) for case in cases(one)) if drawn.feeds]


@pytest.mark.parametrize("one", dict.fromkeys(REPLACES.values()), ids=named)
def test_lowering_keeps_every_blob(one: Pass) -> None:
    for drawn in every_case_of(one):
        lowered, lacking = lower(drawn.net, lambda: STOCK_TYPES)
        if not any(note.changed for note in one(drawn.net.copy())):
            continue
        assert lacking and all(text.split()[1] in REPLACES for text in lacking)
        old, new = (forward(net, drawn.feeds, dtype=np.float64) for net in (drawn.net, lowered))
        assert old.keys() <= new.keys()
        for name, value in old.items():
            np.testing.assert_allclose(new[name], value, rtol=0, atol=1e-6 * np.abs(value).max())


def test_a_caffe_that_knows_all_runs_the_net_itself() -> None:
    (net, *_) = [drawn.net for drawn in every_case_of(REPLACES["Upsample"])]
    assert lower(net, lambda: ["Upsample"]) == (net, [])


@pytest.mark.caffe
def test_a_caffe_without_nnies_layers_is_given_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proof says what it rests on. Here our own Caffe denies what it knows."""
    found = caffe_engine.caffe_info(caffe_engine.find_caffe_python(None))
    given = []

    def info(python: str) -> caffe_engine.CaffeInfo:
        known = [kind for kind in found.layer_types if kind not in REPLACES]
        return caffe_engine.CaffeInfo(found.version, found.path, tuple(known))

    def forward_in_caffe(python: str, prototxt: Path, *others: object) -> object:
        given.append(prototxt.read_text())
        return untouched(python, prototxt, *others)

    untouched = caffe_engine.forward
    monkeypatch.setattr(caffe_engine, "caffe_info", info)
    monkeypatch.setattr(caffe_engine, "forward", forward_in_caffe)
    net = read_case(REPLACES["Upsample"], "upsample").net
    blob_map = BlobMap(net.blob_names())
    fates = {name: blob_map[name] for name in blob_map.names()}
    verdict = prove_surgery(net, net, fates, Options(Engine("caffe")))
    assert verdict.passed
    assert verdict.reasons == ["this Caffe lacks 2 Upsample: run as what it has"]
    assert given and not any("Upsample" in text for text in given)
