"""[convolutional] and [batchnorm]: forms, shared weights, and geometries in which Darknet is inconsistent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from darknet_nets import random_net
from darknet_texts import line_of, refusal, structure

from nnie_prep.darknet import convert

# The text begins in line 5: the section's header; its first option stands in line 6.
INCONSISTENT = [
    ("dilation=2\nsize=3", 6, "does not fit size=3, padding 0, dilation 2"),
    ("dilation=2\nsize=4\npad=1", 6, "does not fit size=4"),
    ("dilation=3\nsize=5\npadding=1", 6, "does not fit size=5"),
    ("padding=1", 6, "ignores padding and stride_y"),
    ("stride_y=2", 6, "ignores padding and stride_y"),
    ("antialiasing=1\nstride=2\npadding=1", 8, "ignores padding and stride_y"),
]
WRONG = [
    ("size=9", 6, "size=9 exceeds the input, 8 high and padded by 0"),
    ("size=7\npadding=0", 6, "size=7 exceeds the input, 6 wide"),
    ("groups=2", 6, "groups=2 must divide filters=4 and the 3 channels"),
    ("size=0", 6, "at least 1"),
    ("stride=-1", 6, "at least 1"),
    ("dilation=0", 6, "at least 1"),
    ("stride_x=0", 6, "at least 1"),
    ("stride_y=0", 6, "at least 1"),
    ("stride=100000", 6, "at most 4096"),
    ("xnor=1", 6, "xnor=1 computes with binary weights"),
    ("binary=1", 6, "binary=1 computes with binary weights"),
    ("coordconv=1", 6, "coordconv is not supported"),
    ("reverse=1", 6, "reverse is not supported"),
    ("dontload=1", 6, "with dontload the weights file does not hold all"),
    ("dontloadscales=1", 6, "with dontloadscales"),
    ("antialiasing=3", 6, "at most 2"),
    ("share_index=5", 6, "share_index names section 5, expected a [convolutional] before section 0"),
    ("share_index=-1", 6, "share_index names section -1"),
    ("activation=stair", 6, "activation=stair has no form in Caffe"),
    ("activation=Leaky", 6, "activation=Leaky is not known"),
]


@pytest.mark.parametrize(("options", "line", "words"), INCONSISTENT + WRONG)
def test_refusals(options: str, line: int, words: str, tmp_path: Path) -> None:
    error = refusal(tmp_path, f"[convolutional]\n{options}\nfilters=4")
    assert words in error.message and line_of(error) == line and error.hint


def test_filters_that_groups_do_not_divide(tmp_path: Path) -> None:
    error = refusal(tmp_path, "[convolutional]\ngroups=3\nfilters=4")
    assert "groups=3 must divide filters=4" in error.message


def test_one_by_one_with_a_stride_is_right_in_alexeyab_only(tmp_path: Path) -> None:
    text = "[convolutional]\nstride=2\nactivation=relu"
    assert structure(tmp_path, text).layers[0].shape == (1, 4, 3)
    error = refusal(tmp_path, text, flavor="pjreddie")
    assert "skips no pixels" in error.message and line_of(error) == 6 and "alexeyab" in error.hint


@pytest.mark.parametrize("key", ["deform", "numload"])
def test_keys_that_alexeyabs_darknet_does_not_read(key: str, tmp_path: Path) -> None:
    """It makes `deform` of sway, rotate and stretch, which only training heeds (parser.c)."""
    text = f"[convolutional]\n{key}=1\nsize=3\nactivation=relu"
    (warning,) = structure(tmp_path, text).warnings
    assert warning.endswith(f":6: {key}=1 is not used")
    assert len(random_net(tmp_path, text, (3, 4, 4)).stream) == 28


def test_pjreddie_loads_a_part(tmp_path: Path) -> None:
    error = refusal(tmp_path, "[convolutional]\nnumload=2\nfilters=4", flavor="pjreddie")
    assert "with numload the weights file does not hold all" in error.message and line_of(error) == 6


def test_pjreddie_has_one_stride(tmp_path: Path) -> None:
    """Its Darknet does not look at the others: they are keys that nobody asked for."""
    text = "[convolutional]\nsize=3\nstride=2\nstride_x=1\ndilation=2\nactivation=relu"
    conversion = structure(tmp_path, text, flavor="pjreddie")
    assert conversion.layers[0].shape == (1, 3, 2)
    assert [warning.split(": ")[1] for warning in conversion.warnings] == [
        "stride_x=1 is not used",
        "dilation=2 is not used",
    ]


@pytest.mark.parametrize("name", ["swish", "mish", "relu6", "gelu", "hard_mish", "normalize_channels"])
def test_activations_that_pjreddie_would_take_for_relu(name: str, tmp_path: Path) -> None:
    error = refusal(tmp_path, f"[convolutional]\nactivation={name}", flavor="pjreddie")
    assert "computes relu in its place" in error.message and line_of(error) == 6


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("filters=6", "has filters 6 where that has 4"),
        ("filters=4\nsize=5\npad=1", "has size 5 where that has 3"),
        ("filters=4\nsize=3\npad=1\ngroups=2", "has groups 2 where that has 1"),
        ("filters=4\nsize=3\npad=1", "has batch_normalize 0 where that has 1"),
    ],
)
def test_sharing_with_another_form(options: str, words: str, tmp_path: Path) -> None:
    first = "[convolutional]\nfilters=4\nsize=3\npad=1\nbatch_normalize=1\nactivation=relu"
    error = refusal(tmp_path, f"{first}\n[convolutional]\nshare_index=0\n{options}", shape=(4, 8, 6))
    assert words in error.message and line_of(error) == 12


def test_sharing_with_a_section_of_another_type(tmp_path: Path) -> None:
    error = refusal(tmp_path, "[maxpool]\nsize=3\n[convolutional]\nshare_index=0")
    assert "share_index names section 0, expected a [convolutional]" in error.message


def test_output_of_an_antialiased_layer_cannot_be_named(tmp_path: Path) -> None:
    """Darknet would read it as it is before the blur; the section behind it reads the right one."""
    text = "[conv]\nsize=3\npad=1\nstride=2\nantialiasing=1\nactivation=relu\n"
    assert structure(tmp_path, text + "[maxpool]\nsize=3").layers[0].shape == (1, 4, 3)
    for reader in ("[route]\nlayers=-1", "[shortcut]\nfrom=0", "[dropout]\n[route]\nlayers=1"):
        error = refusal(tmp_path, text + reader)
        assert "which is antialiased" in error.message


def test_weights_larger_than_caffe_can_load(tmp_path: Path) -> None:
    error = refusal(tmp_path, "[conv]\nfilters=60000\nsize=3\npad=1\nactivation=relu", shape=(2000, 3, 3))
    assert "would have 60000 x 2000 x 3 x 3 weights, more than Caffe can load" in error.message
    assert line_of(error) == 5


@pytest.mark.parametrize(
    ("section", "keys"),
    [
        ("convolutional", ("size", "stride", "stride_x", "stride_y", "padding", "dilation")),
        ("maxpool", ("size", "stride", "stride_x", "stride_y")),
        ("upsample", ("stride",)),
        ("reorg", ("stride",)),
    ],
)
def test_windows_have_an_end(section: str, keys: tuple[str, ...], tmp_path: Path) -> None:
    """4096 each way, far above any network's."""
    for key in keys:
        error = refusal(tmp_path, f"[{section}]\n{key}=4097")
        assert f"{key}=4097" in error.message and "4096" in error.message and line_of(error) == 6, key


@pytest.mark.parametrize("key", ["dontload", "dontloadscales"])
def test_batchnorm_refusals(key: str, tmp_path: Path) -> None:
    error = refusal(tmp_path, f"[batchnorm]\n{key}=1")
    assert f"with {key}" in error.message and line_of(error) == 6


def test_batchnorm_has_a_bias_in_alexeyab_only(tmp_path: Path) -> None:
    for flavor, has_bias in (("alexeyab", True), ("pjreddie", False)):
        conversion = structure(tmp_path, "[batchnorm]", flavor=flavor)  # type: ignore[arg-type]
        assert conversion.net.layers[1].proto.scale_param.bias_term == has_bias


def test_the_deviation_of_pjreddies_cpu_is_rounded_once(tmp_path: Path) -> None:
    """sqrt(variance) + 1e-6, squared, since Caffe takes a variance: all in float64."""
    net = random_net(tmp_path, "[convolutional]\nfilters=64\nbatch_normalize=1\nactivation=linear", (3, 4, 4))
    variance = net.stream[3 * 64 : 4 * 64].astype(np.float64)
    _, batch_norm, _ = convert(net.cfg, net.weights, bn_form="pjreddie-cpu").net.layers
    assert batch_norm.proto.batch_norm_param.eps == 0
    found = np.asarray(batch_norm.blobs[1])
    assert np.array_equal(found, ((np.sqrt(variance) + 1e-6) ** 2).astype(np.float32))
    assert not np.array_equal(found, variance.astype(np.float32))


def test_a_misspelt_activation_is_recognised(tmp_path: Path) -> None:
    error = refusal(tmp_path, "[convolutional]\nfilters=2\nsize=1\nactivation=lekay\n")
    assert error.hint == "did you mean leaky?"
