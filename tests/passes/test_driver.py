"""The driver: `run` repeats each pass until it is quiet, and composes what became of the blobs."""

from __future__ import annotations

from strategies import random_net, residual

from nnie_prep.blob_map import BlobMap, Fate, Note
from nnie_prep.net import Net
from nnie_prep.passes import PASSES, names_of, run


def test_names_are_the_functions_and_the_files() -> None:
    assert names_of(PASSES) == [one.__module__.rpartition(".")[2] for one in PASSES]


def test_a_pass_runs_until_it_changes_nothing_and_its_last_refusals_are_kept() -> None:
    sweeps = []

    def rename(net: Net) -> list[Note]:
        sweeps.append(len(sweeps))
        declined = Note("other", f"declined in sweep {sweeps[-1]}", changed=False)
        if sweeps[-1] == 2:
            return [declined]
        step = {f"x{sweeps[-1]}": Fate((f"x{sweeps[-1] + 1}",))}
        return [Note("layer", "renamed", fates=step), declined]

    blob_map = BlobMap(["x0"])
    notes = run(Net(), [rename], blob_map)
    assert [note.text for note in notes["rename"]] == ["renamed", "renamed", "declined in sweep 2"]
    assert blob_map["x0"] == Fate(("x2",))


def test_skipped_passes_do_not_run() -> None:
    net = random_net([residual], 1).net
    notes = run(net, PASSES, BlobMap([]), skip=["drop_identity", "fold_scale"])
    assert list(notes) == [name for name in names_of(PASSES) if name not in ("drop_identity", "fold_scale")]
    assert any(layer.type == "Dropout" for layer in net.layers)
