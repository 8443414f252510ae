"""[route], [scale_channels], [sam] and [shortcut]: what they may join."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from darknet_nets import random_net
from darknet_texts import line_of, refusal, structure

from nnie_prep.darknet import convert
from nnie_prep.errors import UserError

# Sections 0 and 1 are 3 x 8 x 6, section 2 is 3 x 4 x 3, section 3 a head's input of 24 channels, 4 the head.
BEFORE = """[maxpool]
size=3
[maxpool]
size=5
[maxpool]
size=2
stride=2
[conv]
filters=24
activation=linear
[yolo]
num=3
classes=3
[route]
layers=1
"""
FIRST = 5 + BEFORE.count("\n")

WRONG = [
    ("[route]\nlayers=0,2", 1, "joins outputs of different sizes: 8 x 6, 4 x 3"),
    ("[route]\nlayers=6", 1, "layers names section 6, expected one of those before section 6: 0 to 5"),
    ("[route]\nlayers=-7", 1, "layers names section -1, expected one of those before section 6"),
    (
        "[route]\nlayers=-2",
        1,
        "[route] reads section 4, the [yolo] of line 15, which has no output to read: a yolo head",
    ),
    ("[route]", 0, "[route] names no sections"),
    ("[route]\ngroups=2\nlayers=0", 1, "groups=2 does not divide 3 channels"),
    ("[route]\ngroup_id=1\nlayers=0", 1, "at most 0"),
    ("[route]\ngroups=0\nlayers=0", 1, "at least 1"),
    ("[shortcut]", 0, "[shortcut] names no sections"),
    ("[shortcut]\nfrom=2", 1, "adds outputs of different sizes, 8 x 6 and 4 x 3"),
    ("[shortcut]\nactivation=hard_mish\nfrom=0", 1, "Darknet computes zeros for activation=hard_mish"),
    ("[shortcut]\nweights_type=per_pixel\nfrom=0", 1, "weights_type=per_pixel is not known"),
    ("[shortcut]\nweights_normalization=max\nweights_type=per_channel\nfrom=0", 1, "found max"),
    (
        "[shortcut]\ndontload=1\nweights_type=per_feature\nweights_normalization=relu\nfrom=0",
        1,
        "with dontload the weights file does not hold all",
    ),
    ("[scale_channels]\nfrom=0", 1, "by one of shape (3, 8, 6), expected (3, 1, 1)"),
    ("[scale_channels]\nscale_wh=1\nfrom=0", 2, "by one of shape (3, 8, 6), expected (1, 8, 6)"),
    ("[scale_channels]", 0, "[scale_channels] names no sections"),
    ("[avgpool]\n[scale_channels]\nactivation=mish\nfrom=1", 2, "Darknet computes zeros for activation=mish"),
    ("[sam]\nfrom=0,1", 1, "from names 2 sections; Darknet reads only the first"),
    ("[scale_channels]\nfrom=-2,-900", 1, "from names 2 sections"),
    (f"[shortcut]\nweights_type={'x' * 9000}\nfrom=0", 1, f"weights_type={'x' * 57}... is not known"),
    (f"[shortcut]\nweights_type=per_channel\nweights_normalization={'x' * 9000}\nfrom=0", 2, "found xxx"),
    ("[sam]\nfrom=2", 1, "multiplies outputs of different shapes, (3, 8, 6) and (3, 4, 3)"),
    ("[sam]\nactivation=swish\nfrom=0", 1, "Darknet computes zeros for activation=swish"),
]


@pytest.mark.parametrize(("text", "line", "words"), WRONG)
def test_refusals(text: str, line: int, words: str, tmp_path: Path) -> None:
    error = refusal(tmp_path, BEFORE + text)
    assert words in error.message and line_of(error) == FIRST + line and error.hint


def test_partial_loading_of_what_has_no_weights(tmp_path: Path) -> None:
    """Nothing is missing then: the key has no say, to the converter and to its judge."""
    text = "[convolutional]\nfilters=3\n[shortcut]\nfrom=-1\ndontload=1"
    (warning,) = structure(tmp_path, text).warnings
    assert warning.endswith(": dontload=1 is not used")
    assert len(random_net(tmp_path, text, (3, 4, 4)).stream) == 12


def test_reading_a_head_by_order(tmp_path: Path) -> None:
    error = refusal(tmp_path, BEFORE.partition("[route]")[0] + "[upsample]")
    assert "[upsample] reads the section before it, the [yolo] of line 15" in error.message


def test_a_route_before_everything(tmp_path: Path) -> None:
    error = refusal(tmp_path, "[route]\nlayers=-1")
    assert "expected one of those before section 0: none" in error.message


def test_ratios_that_differ(tmp_path: Path) -> None:
    text = "[upsample]\n[crop]\ncrop_width=6\ncrop_height=16\nnoadjust=1\n[shortcut]\nfrom=-3\n"
    error = refusal(tmp_path, "[maxpool]\nsize=3\n" + text, flavor="pjreddie")
    assert "whose ratios differ" in error.message


def test_a_route_of_one_needs_no_layer(tmp_path: Path) -> None:
    conversion = structure(tmp_path, BEFORE)
    assert conversion.layers[5].blobs == conversion.layers[1].blobs == ("layer2-maxpool",)


def test_pjreddie_ignores_groups(tmp_path: Path) -> None:
    conversion = structure(
        tmp_path, "[maxpool]\nsize=3\n[route]\nlayers=0\ngroups=3\ngroup_id=1", flavor="pjreddie"
    )
    assert conversion.layers[1].shape == (3, 8, 6)
    assert ["groups" in warning or "group_id" in warning for warning in conversion.warnings] == [True, True]


def test_alexeyab_ignores_alpha(tmp_path: Path) -> None:
    conversion = structure(tmp_path, "[maxpool]\nsize=3\n[shortcut]\nfrom=0\nalpha=3")
    assert len(conversion.warnings) == 1 and "alpha=3 is not used" in conversion.warnings[0]


def test_conversion_needs_no_memory_for_what_is_not_written(tmp_path: Path) -> None:
    """A hundred million channels: lists of that length would be blown up before anybody asks for weights."""
    text = "[conv]\nfilters=3\n[conv]\nfilters=100000000\n[shortcut]\nfrom=0\n"
    tracemalloc.start()
    (*_, last) = structure(tmp_path, text, (1, 1, 1)).net.layers
    needed = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert last.type == "Eltwise" and needed < 3e6


def test_the_channels_that_are_missing_are_zero(tmp_path: Path) -> None:
    channels = structure(tmp_path, "[conv]\nfilters=2\n[conv]\nfilters=3\n[shortcut]\nfrom=0\n").net.layers[
        -2
    ]
    np.testing.assert_array_equal(np.asarray(channels.blobs[0])[:, :, 0, 0], [[1, 0], [0, 1], [0, 0]])


def test_a_part_of_one_section_is_not_joined(tmp_path: Path) -> None:
    conversion = structure(tmp_path, "[max]\nsize=3\n[route]\nlayers=0\ngroups=3\ngroup_id=1")
    assert [layer.type for layer in conversion.net.layers] == ["Pooling", "Convolution"]


@pytest.mark.parametrize(("width", "is_told"), [(66, True), (96, False)])
def test_a_size_that_halves_oddly_is_told_of(tmp_path: Path, width: int, is_told: bool) -> None:
    """width=418 in a YOLO: 209 halves to 105, which is 210 upsampled, and the route shows no more."""
    cfg = tmp_path / "net.cfg"
    halved = "[maxpool]\nsize=2\nstride=2\n"
    joined = "[upsample]\nstride=2\n[route]\nlayers=-1," + ("0" if is_told else "1")
    cfg.write_text(f"[net]\nheight=64\nwidth={width}\nchannels=3\n{halved}{halved}{joined}\n")
    with pytest.raises(UserError, match="joins outputs of different sizes") as caught:
        convert(cfg, None)
    assert caught.value.hint.endswith("name sections of one size")
    assert ("multiples of 32, as YOLOs want them, or " in caught.value.hint) == is_told
