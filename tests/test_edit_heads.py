"""What STEM.json says of heads whose maps got another size: what `prepare` says for that size, or nothing."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from golden import FOLDER, read

from nnie_prep.edit.heads import RESIZED, resize_head
from nnie_prep.edit.inputs import input_shape
from nnie_prep.net import Net
from nnie_prep.passes.drop_heads import drop_heads
from nnie_prep.shapes import infer_shapes, net_input_shapes

# Which heads are told of at another size too; the others have priors or a Reshape.
STAY = {"argmax": True, "yolov2": True, "yolov3": True, "permute_tail": False, "refinedet": False}
STAY |= {"ssd": False, "ssd_one_map": False}


def cut(case: str, wider: int = 0) -> tuple[Net, list[dict[str, Any]]]:
    """The net of a golden case, or one with a picture that much wider, and its heads."""
    net = read(FOLDER / "drop_heads" / f"{case}.prototxt").drawn.net
    ((name, shape),) = net_input_shapes(net).items()
    if wider:
        input_shape(net, (*shape[:3], shape[3] + wider), name)
    return net, [deepcopy(dict(head)) for note in drop_heads(net) for head in note.heads]


@pytest.mark.parametrize("wider", [1, 32])
@pytest.mark.parametrize("case", STAY)
def test_a_head_is_true_of_another_size_or_is_not_told_of(case: str, wider: int) -> None:
    """One pixel more may leave every map as it was; priors are in units of the picture all the same."""
    _, heads = cut(case)
    net, truth = cut(case, wider)
    assert heads and len(heads) == len(truth)
    for head, true in zip(heads, truth, strict=True):
        assert resize_head(head, infer_shapes(net), pictures_differ=True) is STAY[case]
        if STAY[case]:
            assert head == true
        else:
            names = {name: true[name] for name in ("layer", "line", "type", "output")}
            assert head == names | {"none": RESIZED}


@pytest.mark.parametrize("case", [case for case in STAY if not STAY[case]])
def test_maps_of_another_size_are_seen_without_the_picture(case: str) -> None:
    """As after `--set` of a stride."""
    _, (head,) = cut(case)
    net, _ = cut(case, 32)
    assert not resize_head(head, infer_shapes(net), pictures_differ=False)


@pytest.mark.parametrize("case", STAY)
def test_a_head_of_its_own_size_is_left_as_it_is(case: str) -> None:
    net, heads = cut(case)
    for head in heads:
        before = deepcopy(head)
        assert resize_head(head, infer_shapes(net), pictures_differ=False) and head == before
