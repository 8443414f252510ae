"""BatchNorm folded inside Darknet's files: the same network for real Darknet and for the converter."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from darknet_cases import CASES, darknet_case
from darknet_drafts import drawn
from darknet_nets import random_net
from hypothesis import given, settings
from hypothesis import strategies as st

from nnie_prep.blob import Array
from nnie_prep.darknet import convert
from nnie_prep.darknet import fold as fold_module
from nnie_prep.darknet.cfg import read_cfg
from nnie_prep.darknet.fold import Fold, read_fold
from nnie_prep.darknet.reference import Reference, load
from nnie_prep.darknet.weights import Flavor, WeightsFile
from nnie_prep.engines.numpy import forward
from nnie_prep.errors import UserError

# Two float32 roundings, of weights and biases, on top of those of Darknet (1e-4 at the most).
LIMIT = 1e-4
REFUSED = ("act_unknown", "act_layer_broken")
BROKEN = ("act_conv_relu6_asis",)


def written(fold: Fold, folder: Path) -> tuple[Path, Path]:
    """The folded pair."""
    cfg, weights = folder / "folded.cfg", folder / "folded.weights"
    cfg.write_bytes(fold.cfg_text)
    with weights.open("wb") as file:
        fold.write_weights(file)
    return cfg, weights


def error(have: Array | None, want: Array | None) -> float:
    """In units of the standard deviation (or of the largest value, where there is one value)."""
    assert have is not None and want is not None and have.size == want.size
    scale = float(np.abs(want).max()) if want.size == 1 else float(want.std())
    scale = max(scale, 1e-3 * float(np.abs(want).max()), 1e-12)
    return float(np.abs(have.reshape(-1).astype(np.float64) - want.reshape(-1)).max()) / scale


def batch_normalized(cfg: Path) -> list[int]:
    """Sections whose line says so, found in the text."""
    sections = cfg.read_text().split("\n[")[1:]
    return [
        index
        for index, text in enumerate(sections)
        if not text.startswith("batchnorm") and any(f"\n{k}=1" in text for k in ("batch_normalize", "cbn"))
    ]


@pytest.mark.parametrize("name", [name for name in CASES if name not in (*REFUSED, *BROKEN)])
def test_equals_real_darknet(name: str, tmp_path: Path) -> None:
    """Every section of the folded pair, as real Darknet computed the unfolded one."""
    case = darknet_case(name)
    weights = case.weights(tmp_path)
    fold = read_fold(case.cfg, weights, flavor=case.flavor, bn_form=case.bn_form)
    assert fold.folded == batch_normalized(case.cfg)
    # The form of BatchNorm has no say where none is left.
    forms = ["standard", "pjreddie-cpu"] if name != "batchnorm_layer" else ["standard"]
    cfg, folded = written(fold, tmp_path)
    for form in forms:
        compared = 0
        for section, output in load(cfg, folded, case.flavor, form).iterate(case.input):  # type: ignore[arg-type]
            if section.index in case.expected and section.type != "cost":
                assert error(output, case.expected[section.index]) <= LIMIT, section
                compared += 1
        assert compared
    assert folded.stat().st_size == weights.stat().st_size - 4 * (fold.floats[0] - fold.floats[1])
    assert fold.floats[0] - fold.floats[1] > 0 or not fold.folded


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.sampled_from(("alexeyab", "pjreddie")), st.booleans())
def test_drawn_networks(seed: int, flavor: Flavor, pjreddie_cpu: bool) -> None:
    """Section by section in float64, where only the rounding of weights and biases is left, 6e-8 of each.

    That is 6e-5 in the unit of a section of one value, which is 1e-3 of that value.
    """
    draft = drawn(seed, flavor)
    form = "pjreddie-cpu" if pjreddie_cpu else "standard"
    with TemporaryDirectory() as name:
        folder = Path(name)
        cfg, weights = draft.write(folder)
        fold = read_fold(cfg, weights, flavor=flavor, bn_form=form)  # type: ignore[arg-type]
        assert fold.folded == batch_normalized(cfg)
        pair = written(fold, folder)
        image = draft.image()
        expected = fold.reference.forward(image, np.float64)
        forced = {index: want for index, want in enumerate(expected) if want is not None}
        found = load(*pair, flavor, form).iterate(image, np.float64, forced)  # type: ignore[arg-type]
        for (section, have), want in zip(found, expected, strict=True):
            if want is not None:
                assert error(have, want) < 1e-4, section
        again = read_fold(*pair, flavor=flavor, bn_form=form)  # type: ignore[arg-type]
        assert again.folded == [] and again.cfg_text == fold.cfg_text
        second = folder / "second"
        second.mkdir()
        assert written(again, second)[1].read_bytes() == pair[1].read_bytes()


@pytest.mark.parametrize("name", ["ab_yolov4-tiny", "ab_enet-coco", "pj_resnet18", "conv_flipped"])
def test_a_later_conversion_gives_the_same_numbers(name: str, tmp_path: Path) -> None:
    case = darknet_case(name)
    weights = case.weights(tmp_path)
    fold = read_fold(case.cfg, weights, flavor=case.flavor)
    first = convert(case.cfg, weights, flavor=case.flavor)
    second = convert(*written(fold, tmp_path), flavor=case.flavor)
    feeds = {"data": case.input[None]}
    before, after = forward(first.net, feeds), forward(second.net, feeds)
    for old, new in zip(first.layers, second.layers, strict=True):
        assert (old.index, old.shape, bool(old.blobs)) == (new.index, new.shape, bool(new.blobs))
        for blob, same in zip(old.blobs, new.blobs, strict=True):
            assert error(after[same], before[blob]) <= LIMIT, old
    assert not {layer.type for layer in second.net.layers} & {"BatchNorm"}


# ---- the weights ---------------------------------------------------------------------------------


def folded_by_hand(
    net_stream: Array, filters: int, rest: int, *, transposed: bool, weights_first: bool
) -> Array:
    """y = s (W x - m) / sqrt(v + 1e-5) + b, from the order of numbers that darknet.c reads."""
    stream = net_stream.astype(np.float64)
    biases, stream = stream[:filters], stream[filters:]
    if weights_first:
        kernel, statistics = stream[: filters * rest], stream[filters * rest :]
    else:
        statistics, kernel = stream[: 3 * filters], stream[3 * filters :]
    scales, mean, variance = statistics.reshape(3, filters)
    factor = scales / np.sqrt(variance + 1e-5)
    matrix = (
        kernel.reshape(rest, filters) * factor if transposed else kernel.reshape(filters, rest).T * factor
    )
    stored = matrix if transposed else matrix.T
    return np.concatenate([biases - mean * factor, stored.reshape(-1)])


@pytest.mark.parametrize(
    ("text", "minor", "rest", "transposed"),
    [
        ("[conv]\nfilters=5\nsize=3\nbatch_normalize=1", 2, 27, False),
        ("[conv]\nfilters=6\ngroups=3\nsize=3\nbatch_normalize=1", 2, 9, False),
        ("[conv]\nfilters=5\nsize=3\nflipped=1\nbatch_normalize=1", 2, 27, True),
        ("[conv]\nfilters=5\nsize=3\nbatch_normalize=1", 1001, 27, False),
        ("[conn]\noutput=5\nbatch_normalize=1", 2, 90, False),
        ("[conn]\noutput=5\nbatch_normalize=1", 1001, 90, True),
    ],
)
@pytest.mark.parametrize("block", [1, 60, 1 << 20])
def test_the_stored_order(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    minor: int,
    rest: int,
    transposed: bool,
    block: int,
) -> None:
    """Number by number, rounded once: the header and with it the layout are as they were."""
    monkeypatch.setattr(fold_module, "_BLOCK", block)
    net = random_net(tmp_path, text, (3, 5, 6), minor=minor)
    _, weights = written(read_fold(net.cfg, net.weights), tmp_path)
    filters = 6 if "groups" in text else 5
    wanted = folded_by_hand(net.stream, filters, rest, transposed=transposed, weights_first="conn" in text)
    assert weights.read_bytes()[:20] == net.weights.read_bytes()[:20]
    np.testing.assert_array_equal(np.fromfile(weights, "<f4", offset=20), wanted.astype(np.float32))


def test_a_shared_kernel_is_folded_once(tmp_path: Path) -> None:
    text = (
        "[conv]\nfilters=3\nsize=3\npad=1\nbatch_normalize=1\n"
        "[conv]\nfilters=3\nsize=3\npad=1\nbatch_normalize=1\nshare_index=0\ndilation=2\n"
        "[conv]\nfilters=3\nsize=3\npad=1\nbatch_normalize=1\nshare_index=-1\n"
    )
    net = random_net(tmp_path, text, (3, 9, 8))
    fold = read_fold(net.cfg, net.weights)
    assert fold.folded == [0, 1, 2] and fold.floats == (93, 84)
    cfg, weights = written(fold, tmp_path)
    assert b"batch_normalize=1" not in cfg.read_bytes()
    for have, want in zip(load(cfg, weights).forward(net.input), net.outputs(), strict=True):
        assert error(have, want) <= 1e-5


def test_a_large_layer_is_never_in_memory(tmp_path: Path) -> None:
    """64 MB of weights, 4 MB of which are written at a time."""
    cfg, weights = tmp_path / "net.cfg", tmp_path / "net.weights"
    text = "[net]\nchannels=3\nheight=64\nwidth=64\n[conn]\noutput={}\nbatch_normalize=1\n"
    outputs = (1 << 24) // (3 * 64 * 64)
    cfg.write_text(text.format(outputs))
    floats = outputs * (3 * 64 * 64 + 4)
    for minor in (2, 1001):
        with weights.open("wb") as file:
            file.write(struct.pack("<3iQ", 0, minor, 5, 0))
            file.truncate(20 + 4 * floats)
        fold = read_fold(cfg, weights)
        with (tmp_path / "out").open("wb") as file:
            tracemalloc.start()
            fold.write_weights(file)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert (tmp_path / "out").stat().st_size == 20 + 4 * (floats - 3 * outputs)
        assert peak < 5 * (1 << 22), peak


@pytest.mark.parametrize(("length", "minor"), [(16, 2), (12, 2), (0, 2), (20, 1)])
def test_a_header_that_darknet_would_not_understand(tmp_path: Path, length: int, minor: int) -> None:
    """The new file has the one that its version asks for, with `seen` as far as the old one had it."""
    net = random_net(tmp_path, "[conv]\nfilters=5\nbatch_normalize=1\n", (3, 4, 6))
    wanted = net.outputs()[0]
    header = struct.pack("<3iQ", 0, minor, 0, 777)[:length]
    net.weights.write_bytes(header + net.stream.tobytes())
    fold = read_fold(net.cfg, net.weights)
    cfg, weights = written(fold, tmp_path)
    assert f"{length} bytes" in fold.notes[0]
    reference = load(cfg, weights)
    assert reference.note == ""
    file = WeightsFile(weights)
    assert file.seen == (777 if length > 12 else 0)
    assert file.version == ((0, minor, 0) if length else (0, 2, 5))
    assert error(reference.forward(net.input)[0], wanted) < 1e-5


def test_what_is_not_finite_stays(tmp_path: Path) -> None:
    """A variance below zero; the sections that share it stay with it."""
    text = "[conv]\nfilters=3\nbatch_normalize=1\n[conv]\nfilters=3\nbatch_normalize=1\nshare_index=0\n"
    text += "[conv]\nfilters=4\nbatch_normalize=1\n"
    net = random_net(tmp_path, text, (3, 4, 6))
    data = bytearray(net.weights.read_bytes())
    data[20 + 4 * 10 : 20 + 4 * 11] = struct.pack("<f", -1.0)  # the second of the first variances
    net.weights.write_bytes(data)
    fold = read_fold(net.cfg, net.weights)
    assert fold.folded == [2] and "section 0 [conv] in line 5 stays" in fold.notes[0]
    cfg, weights = written(fold, tmp_path)
    assert weights.read_bytes()[20 : 20 + 4 * 21] == data[20 : 20 + 4 * 21]
    Reference(read_cfg(cfg), WeightsFile(weights))


def test_a_batchnorm_that_stands_alone_stays(tmp_path: Path) -> None:
    net = random_net(tmp_path, "[conv]\nfilters=2\nbatch_normalize=1\n[batchnorm]\n", (3, 4, 6))
    fold = read_fold(net.cfg, net.weights)
    assert fold.folded == [0] and fold.notes == [
        "section 1 [batchnorm] in line 8 stays: it stands alone, and Darknet cannot fold it"
    ]
    for have, want in zip(load(*written(fold, tmp_path)).forward(net.input), net.outputs(), strict=True):
        assert error(have, want) < 1e-5


def test_weights_that_are_not_in_the_file(tmp_path: Path) -> None:
    net = random_net(tmp_path, "[conv]\nfilters=2\nbatch_normalize=1\n", (3, 4, 6))
    for option in ("dontload=1", "dontloadscales=1", "xnor=1"):
        net.cfg.write_text(net.cfg.read_text().split("dont")[0].split("xnor")[0] + option)
        with pytest.raises(UserError, match=option):
            read_fold(net.cfg, net.weights)


# ---- the cfg -------------------------------------------------------------------------------------

LAYOUT = (
    b"\t; a remark\r\n\r\n [ n e t ] \r\nchannels=3\r\nheight=4\nwidth = 6\r\n# batch_normalize=1\r\n"
    b"[convolutional]\r\n  batch _normalize =\t%s\t#\xe4 remark, 1\r\nfilters=2#1\r\nbatch_normalize=1\r\n"
    b"train_only_bn=1\n\n[conv]\nfilters=2\nbatch_normalize=0\n%s\r\nactivation=leaky"
)


@pytest.mark.parametrize(
    ("first", "second"),
    [(b"1", b"cbn=1"), (b"+ 1", b"cbn= 0 2"), (b"1 0", b" c b n=+1\t"), (b"-1", b"cbn=3")],
)
def test_nothing_else_of_the_cfg_changes(tmp_path: Path, first: bytes, second: bytes) -> None:
    """Blanks, line ends, remarks, old encodings, repeated keys, and no line end at the end."""
    cfg, weights = tmp_path / "net.cfg", tmp_path / "net.weights"
    cfg.write_bytes(LAYOUT % (first, second))
    weights.write_bytes(struct.pack("<3iQ", 0, 2, 5, 0) + np.arange(1, 27, dtype="<f4").tobytes())
    fold = read_fold(cfg, weights)
    assert fold.folded == [0, 1]
    off = (
        second.partition(b"=")[0] + b"=" + (b" 0" if b" 0 2" in second else b"0") + second.partition(b"1")[2]
    )
    assert fold.cfg_text == LAYOUT % (b"0", off)
    assert read_fold(*written(fold, tmp_path)).folded == []


def test_a_byte_order_mark_goes(tmp_path: Path) -> None:
    """Darknet takes it for a part of the first line."""
    net = random_net(tmp_path, "[conv]\nbatch_normalize=1\n", (3, 4, 6))
    text = net.cfg.read_bytes()
    net.cfg.write_bytes(b"\xef\xbb\xbf" + text)
    fold = read_fold(net.cfg, net.weights)
    assert fold.cfg_text == text.replace(b"batch_normalize=1", b"batch_normalize=0")
