"""BlobMap: the fates of several passes, composed."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from nnie_prep.blob_map import BlobMap, Fate, Note, blobs_in, fate_at, place

FOLDED = Fate((), "folded into conv")
CUT = Fate((), "cut: belongs to the head")


def note(fates: Mapping[str, Fate]) -> Note:
    return Note("layer", "text", fates=fates)


@pytest.mark.parametrize(
    ("steps", "fate"),
    [
        ([], Fate(("a",))),
        ([{"b": FOLDED}], Fate(("a",))),
        ([{"a": Fate(("x",))}], Fate(("x",))),
        ([{"a": Fate(("x",))}, {"x": Fate(("y",))}], Fate(("y",))),
        ([{"a": Fate(("x",))}, {"a": FOLDED}], Fate(("x",))),
        ([{"a": FOLDED}], FOLDED),
        ([{"a": FOLDED}, {"a": CUT}], FOLDED),
        ([{"a": Fate(("x",))}, {"x": FOLDED}], FOLDED),
        ([{"a": Fate(("x", "y"))}], Fate(("x", "y"))),
        ([{"a": Fate(("x", "y"))}, {"y": Fate(("z",))}], Fate(("x", "z"))),
        ([{"a": Fate(("x", "y"))}, {"x": Fate(("p", "q"))}], Fate(("p", "q", "y"))),
        ([{"a": Fate(("x", "y"))}, {"y": CUT}], CUT),
    ],
)
def test_steps_follow_one_another(steps: list[dict[str, Fate]], fate: Fate) -> None:
    """Once as one note for each pass, once as the notes of one pass."""
    blob_map = BlobMap(["a", "b"])
    for step in steps:
        blob_map.follow([note(step)])
    assert blob_map["a"] == fate
    blob_map = BlobMap(["a", "b"])
    blob_map.follow([note(step) for step in steps])
    assert blob_map["a"] == fate


def test_two_names_in_one_step_are_taken_at_once() -> None:
    blob_map = BlobMap(["a", "b"])
    blob_map.follow([note({"a": Fate(("b",)), "b": Fate(("a",))})])
    assert (blob_map["a"], blob_map["b"]) == (Fate(("b",)), Fate(("a",)))


def test_names_are_those_of_the_first_net() -> None:
    blob_map = BlobMap(["b", "a"])
    blob_map.follow([note({"a": Fate(("c",)), "new": FOLDED})])
    assert blob_map.names() == ["b", "a"]
    with pytest.raises(KeyError):
        blob_map["c"]


def test_blobs_are_found_however_deep_and_each_once() -> None:
    value = {"reads": [{"blob": "x"}, {"inner": {"blobs": ["y", "x"]}}], "blob": "z", "blobs": []}
    assert blobs_in(value) == ["x", "y", "z"]


@pytest.mark.parametrize("fate", [Fate(("a",)), Fate(("a", "b")), FOLDED])
def test_what_is_written_of_a_fate_says_all_of_it(fate: Fate) -> None:
    assert fate_at(place(fate)) == fate
