"""The NumPy Darknet against what real Darknet computed, and what it refuses."""

from __future__ import annotations

import ast
import weakref
from pathlib import Path

import numpy as np
import pytest
from darknet_cases import CASES, darknet_case
from darknet_nets import random_net

from nnie_prep.darknet.cfg import read_cfg
from nnie_prep.darknet.reference import Reference, load
from nnie_prep.darknet.weights import WeightsFile
from nnie_prep.errors import UserError

# Real Darknet computes in float32 and stays within 1.3e-4 of its own formulas on the deepest stock
# nets; on these, 3e-5 was the worst of any layer.
TOLERANCE = 1e-4

REFUSED = ("act_unknown", "act_layer_broken")
# Section -> zero in the record because Darknet's CPU code has no case for relu6.
BROKEN_RELU6 = {"act_conv_relu6_asis": 1}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", [name for name in CASES if name not in REFUSED])
def test_equals_real_darknet(tmp_path: Path, name: str, dtype: type) -> None:
    case = darknet_case(name)
    reference = load(case.cfg, case.weights(tmp_path), case.flavor, case.bn_form)
    assert reference.note == ""
    compared = 0
    for section, output in reference.iterate(case.input, dtype):
        expected = case.expected.get(section.index)
        if expected is None:
            continue
        if section.type == "cost":
            assert output is None and not expected.any()
            continue
        if name in BROKEN_RELU6 and section.index >= BROKEN_RELU6[name]:
            assert expected.any() == (section.index > BROKEN_RELU6[name])
            continue
        assert output is not None and output.dtype == dtype
        if output.ndim == 3:
            layer = case.layers[section.index]
            assert output.shape == (layer["out_c"], layer["out_h"], layer["out_w"])
        assert expected.std() > 0
        error = np.abs(output.reshape(-1).astype(np.float64) - expected).max() / expected.std()
        assert error <= TOLERANCE, f"{section} ({section.type}): {error}"
        compared += 1
    assert compared


def test_every_head_input_is_compared() -> None:
    for name in CASES:
        case = darknet_case(name)
        wanted = {layer["index"] for layer in case.layers if layer["head_input"] and layer["type"] != "cost"}
        assert wanted <= case.expected.keys(), name


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_what_darknet_only_gets_wrong(tmp_path: Path, name: str) -> None:
    case = darknet_case(name)
    with pytest.raises(UserError, match=r"activation=(foo|swish)"):
        load(case.cfg, case.weights(tmp_path))


def test_imports_nothing_of_the_converter() -> None:
    """What judges a conversion shares only the readers of both files with it."""
    allowed = {"blob", "errors", "net", "outputs.target_checks", "stored", "darknet.cfg", "darknet.weights"}
    root = Path(__file__).parents[2] / "nnie_prep"
    files = list((root / "darknet" / "reference").glob("*.py"))
    assert len(files) > 4
    for path in [*files, root / "darknet" / "cfg.py", root / "darknet" / "weights.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, "relative imports hide what is imported"
                names = [node.module or ""]
                if node.module in ("nnie_prep", "nnie_prep.darknet"):
                    names = [f"{node.module}.{alias.name}" for alias in node.names]
            for name in names:
                if name.startswith("nnie_prep"):
                    part = name.removeprefix("nnie_prep.")
                    assert part in allowed or part.startswith("darknet.reference"), (path.name, name)


# ---- how it computes -----------------------------------------------------------------------------


def test_iterate_lets_go_of_what_nobody_reads(tmp_path: Path) -> None:
    text = "[conv]\nfilters=3\n" * 3 + "[route]\nlayers=0,-1\n" + "[conv]\nfilters=2\n" * 3
    net = random_net(tmp_path, text, (3, 6, 7))
    alive: list[weakref.ref[np.ndarray]] = []
    counts = []
    for _, output in net.reference.iterate(net.input):
        assert output is not None
        alive.append(weakref.ref(output))
        counts.append([ref() is not None for ref in alive])
    # Section 0 lives until the route that names it has been computed, all others until the next has.
    for position, lives in enumerate(counts):
        wanted = [position == index or (index == 0 and position < 3) for index in range(position + 1)]
        assert lives == wanted, position


def test_both_dtypes_give_the_same_network(tmp_path: Path) -> None:
    case = darknet_case("ab_yolov4-tiny")
    reference = load(case.cfg, case.weights(tmp_path))
    single, double = reference.forward(case.input), reference.forward(case.input, np.float64)
    for first, second in zip(single, double, strict=True):
        assert first is not None and second is not None
        assert first.dtype == np.float32 and second.dtype == np.float64
        assert 0 < np.abs(first - second).max() < 1e-4 * second.std()


@pytest.mark.parametrize(
    "name",
    [
        "batchnorm_layer",
        "shortcut_basic",
        "shortcut_w_per_channel_relu",
        "shortcut_alphabeta_pj",
        "yolo_heads",
    ]
    + ["region", "region_pj", "detection", "lrn", "upsample", "scale_channels"],
)
def test_outputs_are_not_written_into(tmp_path: Path, name: str) -> None:
    """A section that works in place would change what the sections before gave."""
    case = darknet_case(name)
    reference = load(case.cfg, case.weights(tmp_path), case.flavor)
    kept = []
    for _, output in reference.iterate(case.input):
        assert output is not None
        kept.append((output, output.copy()))
    for output, copy in kept:
        np.testing.assert_array_equal(output, copy)


def test_the_sections_own_account_stays_untouched(tmp_path: Path) -> None:
    case = darknet_case("connected")
    sections = read_cfg(case.cfg)
    before = [section.unused() for section in sections]
    reference = Reference(sections, WeightsFile(case.weights(tmp_path)))
    assert [section.unused() for section in sections] == before and any(before)
    assert reference.sections == sections[1:]
    assert reference.shapes == [(8, 7, 9), (20, 1, 1), (12, 1, 1), (12,)]


def test_a_note_on_the_header(tmp_path: Path) -> None:
    case = darknet_case("connected")
    data = case.weights(tmp_path).read_bytes()
    path = tmp_path / "short.weights"
    path.write_bytes(data[:16] + data[20:])
    reference = load(case.cfg, path)
    assert "16 bytes" in reference.note
    np.testing.assert_array_equal(
        reference.forward(case.input)[3], load(case.cfg, case.weights(tmp_path)).forward(case.input)[3]
    )


# ---- what is refused -----------------------------------------------------------------------------


def refusal(folder: Path, text: str, flavor: str = "alexeyab") -> UserError:
    with pytest.raises(UserError) as caught:
        random_net(folder, text, (4, 6, 7), flavor="pjreddie" if flavor == "pjreddie" else "alexeyab")
    assert "\n" not in str(caught.value) and caught.value.hint
    return caught.value


def test_all_faults_at_once(tmp_path: Path) -> None:
    text = "[rnn]\n[conv]\nactivation=foo\n[conv]\n[Max]\n[connected]\nactivation=mish\n[conv]\nxnor=1\n"
    error = refusal(tmp_path, text)
    assert str(error) == (
        f"{tmp_path}/net.cfg: 5 sections cannot be computed: section 0 [rnn] in line 5 (unknown or without a "
        "defined result for a single image), section 1 [conv] in line 6 (unknown activation=foo), section 3 "
        "[Max] in line 9 (unknown or without a defined result for a single image), section 4 [connected] in "
        "line 10 (activation=mish, which alexeyab's Darknet does not compute in [connected]), section 5 "
        "[conv] in line 12 (xnor=1: binarised weights and inputs); remove or replace them and train again"
    )


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("[conv]\nbinary=1", 5, "binary=1"),
        ("[conv]\ndontload=1", 5, "dontload=1: weights that are not in the file"),
        ("[conv]\nbatch_normalize=1\ndontloadscales=1", 5, "dontloadscales=1"),
        (
            "[conv]\n[shortcut]\nfrom=0\nweights_type=per_feature\nweights_normalization=relu\ndontload=1",
            6,
            "dontload=1: weights that are not in the file",
        ),
        ("[softmax]\nspatial=1", 5, "spatial=1"),
        ("[conv]\nactivation=Leaky", 5, "unknown activation=Leaky"),
        ("[conv]\n[shortcut]\nfrom=0\nactivation=hard_mish", 6, "does not compute in [shortcut]"),
        ("[conv]\n[shortcut]\nfrom=0\nweights_type=per_pixel", 6, "unknown weights_type=per_pixel"),
        ("[conv]\n[shortcut]\nfrom=0\nweights_type=per_feature", 6, "with weights_normalization=none"),
        ("[conv]\nstride=0", 6, "has stride=0"),
        ("[conv]\nfilters=0", 6, "has filters=0, expected at least 1"),
        ("[conv]\nsize=abc", 6, "needs an integer"),
        ("[conv]\nsize=9", 5, "size=9 does not fit an input of 6 x 7"),
        ("[conv]\ngroups=3\nfilters=3", 5, "groups=3 divides not both 4 channels and 3 filters"),
        ("[conv]\nsize=2\npad=1\ndilation=2", 5, "dilation=2 with padding 1 and size=2"),
        ("[conv]\nsize=3\ndilation=2", 5, "dilation=2 with padding 0"),
        ("[conv]\nsize=1\npadding=1", 5, "a 1x1 convolution with padding"),
        ("[conv]\nsize=1\nstride_y=2", 5, "a 1x1 convolution with padding or with stride_y alone"),
        ("[conv]\n[conv]\nshare_index=0", 7, "share_index=0"),
        ("[conv]\nshare_index=0", 6, "no earlier convolution"),
        ("[max]\nsize=2\npadding=4", 5, "a window of 2 lies outside of the 6 inputs"),
        ("[max]\nsize=2\nstride=1\npadding=3", 5, "a window of 2 lies outside"),
        ("[max]\nsize=12\npadding=0", 5, "a window of 12 lies outside"),
        ("[max]\nstride=-1", 6, "has a stride of -1"),
        ("[max]\nmaxpool_depth=1\nout_channels=5", 7, "expected at most 4"),
        ("[upsample]\nstride=0", 6, "has stride=0"),
        ("[upsample]\nstride=-2", 5, "6 x 7 cannot be divided by 2"),
        ("[reorg]\nstride=2", 5, "6 x 7 cannot be divided by 2"),
        ("[reorg]\nstride=3\nreverse=1", 5, "4 channels cannot be divided by 9"),
        ("[reorg3d]\nstride=2\nreverse=1", 5, "1 output channels cannot be divided by 4"),
        ("[crop]\ncrop_height=7\ncrop_width=7", 6, "expected at most 6"),
        ("[conv]\n[route]", 6, "names no layer"),
        ("[conv]\n[route]\nlayers=1", 7, "has layers=1, which is layer 1; expected one of 0 to 0"),
        ("[conv]\n[route]\nlayers=-2", 7, "which is layer -1"),
        ("[conv]\nfilters=4\n[route]\nlayers=0\ngroups=3", 7, "groups=3 does not divide [4] channels"),
        ("[conv]\nfilters=4\n[route]\nlayers=0\ngroups=2\ngroup_id=2", 10, "expected at most 1"),
        ("[max]\nstride=2\n[max]\nstride=2\n[shortcut]\nfrom=0", 10, "adds layer 0 of 3 x 4 to 2 x 2"),
        ("[conv]\nantialiasing=1\n[route]\nlayers=0", 8, "names layer 0, which has antialiasing"),
        ("[conv]\n[scale_channels]\nfrom=0", 6, "expected a gate of (1, 1, 1) for (1, 6, 7)"),
        ("[max]\nstride=2\n[max]\nstride=2\n[sam]\nfrom=0", 9, "(4, 2, 2) times (4, 3, 4)"),
        ("[conv]\n[max]\n[sam]\nfrom=0,1", 8, "names 2 layers; Darknet reads only the first"),
        ("[softmax]\n[conv]", 6, "section 0 [softmax] before it outputs 168 numbers"),
        ("[softmax]\ngroups=5", 5, "168 inputs in groups=5"),
        ("[cost]\n[conv]", 6, "reads section 0 [cost], which has no output"),
        ("[softmax]\ntree=a.tree\n[connected]", 7, "which has no output"),
        ("[yolo]\nclasses=3\nmask=0,1", 5, "needs 2 anchors x 8 = 16 channels, its input has 4"),
        ("[region]\nclasses=3", 5, "needs 1 anchors x 8 = 8 channels, its input has 4"),
        ("[detection]\nclasses=3", 5, "needs 245 inputs, the layer before has 168 outputs"),
        ("[region]\nclasses=1\ncoords=2", 5, "coords=2, where AlexeyAB's Darknet counts on 4"),
        ("[lrn]\nsize=11", 5, "size=11 reaches beyond 4 channels"),
        ("[local]\nsize=5\npad=1", 5, "give two sizes"),
        ("[upsample]\nstride=9999", 5, "numbers, more than 268435456"),
    ],
)
def test_refusals(tmp_path: Path, text: str, line: int, message: str) -> None:
    error = refusal(tmp_path, text)
    assert error.where == f"{tmp_path}/net.cfg:{line}" and message in error.message, str(error)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[conv]\nactivation=mish", "activation=mish, which pjreddie's Darknet does not compute"),
        ("[conv]\nnumload=3", "numload=3"),
        ("[conv]\n[max]\n[shortcut]\nfrom=0,1", "pjreddie's Darknet reads only the first"),
        ("[conv]\n[conv]\nstride=2\nsize=3\n[shortcut]\nfrom=0", "differ by unlike factors"),
    ],
)
def test_refusals_of_pjreddies(tmp_path: Path, text: str, message: str) -> None:
    assert message in refusal(tmp_path, text, "pjreddie").message


@pytest.mark.parametrize(
    "net", ["", "width=3\nheight=3", "width=0\nheight=3\nchannels=3", "width=99999\nheight=99999\nchannels=3"]
)
def test_inputs_without_a_size(tmp_path: Path, net: str) -> None:
    cfg, weights = tmp_path / "net.cfg", tmp_path / "net.weights"
    cfg.write_text(f"[net]\n{net}\n[max]\n")
    weights.write_bytes(bytes(16))
    with pytest.raises(UserError, match=r"net\.cfg:1: .*(channels|numbers)"):
        load(cfg, weights)


def test_an_input_of_another_shape(tmp_path: Path) -> None:
    net = random_net(tmp_path, "[max]\n", (3, 6, 7))
    with pytest.raises(UserError, match=r"asks for an input of \(3, 6, 7\).*got \(3, 7, 6\)"):
        net.reference.forward(np.zeros((3, 7, 6)))
