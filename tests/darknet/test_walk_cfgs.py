"""Every cfg in tests/data converts and equals the NumPy Darknet in every layer, or is refused for a reason.

The walk itself, which runs over any folder: tests/walk_cfgs.py.
"""

from __future__ import annotations

import functools
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import walk_cfgs
from darknet_cases import CASES, darknet_case
from walk_cfgs import ALLOWED, LIMIT, OTHERS, Walked, table, walk

from nnie_prep.darknet import EMITTERS, Conversion, convert
from nnie_prep.darknet import REFUSED as REFUSED_SECTIONS
from nnie_prep.darknet.activations import ACTIVATIONS
from nnie_prep.darknet.cfg import ALIASES

FOLDER = Path(__file__).parents[1] / "data"

# The networks that are refused, and why. All others convert.
RECURRENT, BINARY, LOCAL, EXTRA = "recurrent", "binary", "[local]", "[reorg] extra"
REFUSED = {
    "cfg/crnn.cfg": RECURRENT,
    "cfg/gru_lstm.cfg": RECURRENT,
    "cfg/rnn.cfg": RECURRENT,
    "cfg/yolo_xnor.cfg": BINARY,
    # Weights of its own for every place: no Caffe layer, and as a matrix it costs too much.
    "cfg/yolov1_local.cfg": LOCAL,
    "darknet/local/net.cfg": LOCAL,
    "darknet/local_s2_pad/net.cfg": LOCAL,
    # Zeros behind all values, of another shape: no stock Caffe layer appends them.
    "cfg/pjreddie/go_extra.cfg": EXTRA,
    "darknet/reorg_extra_pj/net.cfg": EXTRA,
}
# Cases of single options that no network uses: words of the reason.
REFUSED_OPTIONS = {
    "darknet/act_conv_all/net.cfg": "activation=stair has no form in Caffe",
    "darknet/act_layer_broken/net.cfg": "Darknet computes zeros for activation=swish in [activation]",
    "darknet/act_unknown/net.cfg": "activation=foo is not known",
    "darknet/reorg_flatten_pj/net.cfg": "[reorg] with flatten has no form",
}

CFGS = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.cfg"))
STOCK = ("cfg/yolov3.cfg", "cfg/yolov4.cfg", "cfg/yolov4-tiny.cfg")
PIXELS = 128 * 128  # of the input at most; those of stock size are reduced


@functools.cache
def walked(name: str) -> Walked:
    """What became of one cfg; of a case with Darknet's outputs, in the flavor that computed them."""
    case = name.removeprefix("darknet/").removesuffix("/net.cfg")
    flavors = (darknet_case(case).flavor,) if case in CASES else ()
    with TemporaryDirectory() as folder:
        return walk(FOLDER / name, Path(folder), PIXELS, flavors)


@pytest.mark.parametrize("name", CFGS)
def test_converts_and_equals_the_numpy_darknet_or_is_refused(name: str) -> None:
    found = walked(name)
    if name in REFUSED_OPTIONS:
        assert REFUSED_OPTIONS[name] in found.refused[0]
    elif name in REFUSED:
        assert found.answer() == REFUSED[name], found
    else:
        assert found.answer() == "equal", found
        assert 0 <= found.segment < LIMIT and found.compared > 0
        assert found.end_to_end < LIMIT or (found.precise is not None and found.precise < LIMIT)
        assert found.constant == 0


def test_the_table() -> None:
    """Printed with `pytest -s`, and where it is not as expected."""
    found = [walked(name) for name in CFGS]
    printed = table(found)
    print("\n" + printed)
    refused = {name for name, one in zip(CFGS, found, strict=True) if one.refused}
    assert refused == {*REFUSED, *REFUSED_OPTIONS}
    assert set(REFUSED.values()) == {*OTHERS.values(), *ALLOWED.values()}
    answers = {line.split()[2] for line in printed.split("\n")[1:-1]}
    assert answers == {"equal", "recurrent", "binary", "[local]", "[reorg]", "REFUSED"}


def test_our_cfgs_have_every_section_and_activation() -> None:
    """No misspelt key, which would be left at its default, and nothing that is not walked."""
    ours = [name for name in CFGS if name.startswith("cfg/") and name not in STOCK]
    unused = {remark.split(": ")[1] for name in ours for remark in walked(name).unused}
    assert unused == {"groups=2 is not used", "group_id=1 is not used"}  # of a route of pjreddie's
    text = "".join((FOLDER / name).read_text() for name in ours)
    headers = {ALIASES.get(header, header) for header in re.findall(r"^\[(.+)\]$", text, re.MULTILINE)}
    assert headers == {"net", *EMITTERS, *REFUSED_SECTIONS} - {
        *("conv_lstm", "history", "deconvolutional", "iseg"),  # in no network that can be had
    }
    assert set(re.findall(r"^activation=(.+)$", text, re.MULTILINE)) == {*ACTIVATIONS}


# ---- the walk sees what is wrong -----------------------------------------------------------------


def spoil_weights(conversion: Conversion) -> None:
    kernel = np.array(conversion.net.layers[0].blobs[0])
    kernel[0] *= 1.01
    conversion.net.layers[0].blobs[0] = kernel


def spoil_order(conversion: Conversion) -> None:
    next(layer for layer in conversion.net.layers if layer.type == "Concat").bottoms.reverse()


@pytest.mark.parametrize(("spoil", "first"), [(spoil_weights, "0 convolutional"), (spoil_order, "6 route")])
def test_a_wrong_conversion_is_seen(
    spoil: Callable[[Conversion], None], first: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoiled(cfg: Path, weights: Path | None, **options: Any) -> Conversion:
        conversion = convert(cfg, weights, **options)
        if weights:
            spoil(conversion)
        return conversion

    monkeypatch.setattr(walk_cfgs, "convert", spoiled)
    found = walk(FOLDER / "cfg" / "yolov4_tiny_groups.cfg", tmp_path)
    assert found.answer() == "WRONG" and found.wrong[0].startswith(f"layer {first}: ")
    assert "WRONG" in table([found])


def test_another_reason_is_no_reason(tmp_path: Path) -> None:
    """One that is not in the list, alone or beside one that is."""
    for text in ("[maxpool]\nstride=x", "[local]\nsize=3\n[maxpool]\nstride=x"):
        cfg = tmp_path / "odd.cfg"
        cfg.write_text(f"[net]\nwidth=8\nheight=8\nchannels=3\n{text}\n")
        assert walk(cfg, tmp_path).answer() == "REFUSED"


def test_the_script(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("rnn.cfg", "yolov1_local.cfg", "vgg_classifier.cfg"):
        shutil.copy(FOLDER / "cfg" / name, tmp_path)
    shutil.copy(FOLDER / "cfg" / "rnn.cfg", tmp_path / "copy.cfg")
    monkeypatch.setattr("sys.argv", ["walk_cfgs.py", str(tmp_path), "--pixels", "2000"])
    assert walk_cfgs.main() == 0
    last = capsys.readouterr().out.split("\n")[-2]
    assert last == "3 distinct, 2 of them feed-forward: 1 recurrent, 1 equal, 1 [local]"
    (tmp_path / "bad.cfg").write_text("[net]\nwidth=8\nheight=8\nchannels=3\n[cnov]\n")
    assert walk_cfgs.main() == 1
