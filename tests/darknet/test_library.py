"""A library of Darknet as the judge of a conversion.

Two things stand in for it here: the NumPy Darknet, which is given the same files as the library and refuses
a weights file that does not fit its cfg; and shim.c, a library that answers from what real Darknet
computed, for all that has to do with the library itself.
"""

from __future__ import annotations

import functools
import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from darknet_cases import CASES, DarknetCase, darknet_case
from darknet_nets import RandomNet, random_net
from numpy.typing import NDArray

from nnie_prep.blob_map import BlobMap, Fate, Note
from nnie_prep.cli import main
from nnie_prep.darknet import convert, library, reference
from nnie_prep.darknet.cfg import read_cfg
from nnie_prep.darknet.library import truncated
from nnie_prep.darknet.reference import Reference
from nnie_prep.darknet.weights import Flavor, WeightsFile
from nnie_prep.errors import UserError
from nnie_prep.proof import Options, prove_conversion
from nnie_prep.verify import Verdict

# Records of Darknet's faults, and what the NumPy Darknet refuses.
NOT_DEFINED = ("act_conv_relu6_asis", "act_layer_broken", "act_unknown")
HEADS = ("yolo", "Gaussian_yolo", "region", "detection", "cost")

CONV = "[convolutional]\nfilters=8\nsize=3\nstride=1\npad=1\nbatch_normalize=1\nactivation=leaky\n"
POOL = "[maxpool]\nsize=2\nstride=2\n"
YOLO = "[yolo]\nmask=0\nanchors=1,2\nclasses=3\nnum=1\n"
# Sections that lean on others in every way: backwards, on a head's neighbour, on another's weights.
TANGLED = (
    f"{CONV}{POOL}{CONV}[route]\nlayers=-1,-2\n{CONV}[shortcut]\nfrom=2\nactivation=leaky\n{CONV}{YOLO}"
    "[route]\nlayers=-2\n[dropout]\nprobability=0.5\n[convolutional]\nfilters=8\nsize=3\npad=1\nshare_index=6\n"
    "batch_normalize=1\nactivation=linear\n[route]\nlayers=-1,5\ngroups=2\ngroup_id=1\n[upsample]\nstride=2\n"
    "[connected]\noutput=7\nactivation=tanh\n[softmax]\n[cost]\n"
)


def answer_with(compute: Callable[[Reference], Sequence[Any]] | None = None, tree: str = "alexeyab") -> Any:
    """What replaces `library._ask`: the NumPy Darknet on the files that the worker would be given.

    `compute` may compute something else than the reference's outputs. `asked` lists the networks' lengths.
    """

    def ask(path: Path, folder: Path, network: Sequence[str], when: str, hint: str) -> str:
        if network:
            cfg, weights, fed, count, output = network
            darknet = reference.load(Path(cfg), Path(weights), tree)  # type: ignore[arg-type]
            picture = np.fromfile(fed, "<f4").reshape(darknet.input_shape)
            last = darknet.forward(picture)[-1]
            assert last is not None and last.size == int(count)
            last.astype("<f4").tofile(output)
            asked.append(len(darknet.sections))
        return tree

    asked: list[int] = []
    ask.asked = asked  # type: ignore[attr-defined]
    return ask


@pytest.fixture
def numpy_library(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The NumPy Darknet in the place of the library; the lengths of the networks that it was asked for."""
    ask = answer_with()
    monkeypatch.setattr(library, "_ask", ask)
    asked: list[int] = ask.asked
    return asked


# ---- a network that ends with a section ----------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_truncated_cfg_keeps_every_byte(name: str, tmp_path: Path) -> None:
    cfg = darknet_case(name).cfg.read_bytes()
    sections = read_cfg(darknet_case(name).cfg)
    cut = tmp_path / "cut.cfg"
    for index in range(len(sections) - 1):
        text = truncated(cfg, sections, index)
        header, block, rest = text.partition(b"\n" + b"\n".join(library._FOR_ONE) + b"\n")
        assert (
            block and cfg.startswith(header) and header.splitlines()[-1].strip() in (b"[net]", b"[network]")
        )
        kept = (header + b"\n" + rest).removesuffix(b"\n")
        assert cfg.startswith(kept)
        assert cfg[len(kept) :].strip().startswith(b"[") or index == len(sections) - 2
        cut.write_bytes(text)
        found = read_cfg(cut)
        assert len(found) == index + 2
        for one, other in zip(found[1:], sections[1:], strict=False):
            assert (one.header, one.index) == (other.header, other.index)
            assert [(key, value) for key, (value, _) in one.options.items()] == [
                (key, value) for key, (value, _) in other.options.items()
            ]


def test_truncated_cfg_is_for_one_picture(tmp_path: Path) -> None:
    """Where [net] is written for training, in a file of any system."""
    net = (
        "\ufeff# remark\r\n [ net ]\r\nbatch=64\r\nsubdivisions=8\r\ncontrastive=1\r\nwidth=8\r\nheight=8\r\n"
    )
    path = tmp_path / "net.cfg"
    path.write_bytes(f"{net}channels=3\r\n\r\n[conv]\r\nfilters=2\r\n[conv]\r\nfilters=3".encode())
    for index, filters in enumerate((2, 3)):
        (tmp_path / "cut.cfg").write_bytes(truncated(path.read_bytes(), read_cfg(path), index))
        found = read_cfg(tmp_path / "cut.cfg")
        values = [found[0].int(key, -1) for key in ("batch", "subdivisions", "contrastive", "width")]
        assert values == [1, 1, 0, 8] and len(found) == index + 2
        assert found[-1].int("filters", 0) == filters
        assert not (tmp_path / "cut.cfg").read_bytes().startswith(b"\xef")


def outputs_of(judge: library.Library, picture: NDArray[Any], dtype: Any = np.float32) -> list[Any]:
    return [output for _, output in judge.iterate(picture, dtype)]


@pytest.mark.parametrize("name", [name for name in CASES if name not in NOT_DEFINED])
def test_every_section_comes_from_its_own_network(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = darknet_case(name)
    monkeypatch.setattr(library, "_ask", answer_with(tree=case.flavor))
    monkeypatch.setattr(library, "_MOST", 5)
    weights = case.weights(tmp_path)
    judge = library.load(tmp_path, case.cfg, weights, case.flavor)
    expected = reference.load(case.cfg, weights, case.flavor).forward(case.input)
    found = outputs_of(judge, case.input)
    assert len(found) == len(expected)
    for section, ours, theirs in zip(judge._reference.sections, expected, found, strict=True):
        if section.type in HEADS or section.index in judge.left_out:
            assert theirs is None
        else:
            np.testing.assert_array_equal(theirs, ours)


def tangled(folder: Path) -> RandomNet:
    """A network whose sections lean on others in every way."""
    return random_net(folder, TANGLED, (3, 10, 12), seed=5)


def test_all_sections_of_a_small_network_are_asked_for(tmp_path: Path, numpy_library: list[int]) -> None:
    net = tangled(tmp_path)
    judge = library.load(tmp_path / "libdarknet.so", net.cfg, net.weights)
    assert judge.name == "AlexeyAB's Darknet (libdarknet.so)" and not judge.left_out
    found = outputs_of(judge, net.input)
    expected = net.reference.forward(net.input.astype(np.float32))
    compared = [index for index, output in enumerate(found) if output is not None]
    assert compared == [index for index in range(15) if index != 7]  # all but [yolo] and [cost]
    for index in compared:
        np.testing.assert_array_equal(found[index], expected[index])
    assert numpy_library == [index + 1 for index in compared]


def test_darknet_runs_once_for_an_input(tmp_path: Path, numpy_library: list[int]) -> None:
    """float64 is made of the same run; another input is another run."""
    net = random_net(tmp_path, CONV + CONV, (3, 10, 12), seed=7)
    judge = library.load(tmp_path, net.cfg, net.weights)
    single = outputs_of(judge, net.input)
    double = outputs_of(judge, net.input, np.float64)
    assert numpy_library == [1, 2]
    exact = net.reference.forward(net.input, np.float64)
    for ours, theirs, other in zip(exact, double, single, strict=True):
        np.testing.assert_allclose(theirs, ours, atol=1e-12)
        assert np.abs(theirs - other).max() > 1e-9
    assert not np.array_equal(outputs_of(judge, net.input + 1)[1], single[1])
    assert numpy_library == [1, 2, 1, 2]


@pytest.mark.parametrize("kept", [0, 12, 16])
def test_unusual_headers_are_written_anew(kept: int, tmp_path: Path, numpy_library: list[int]) -> None:
    """Darknet goes by the version alone, and would read such a file wrongly."""
    net = random_net(tmp_path, CONV + CONV, (3, 10, 12), seed=8)
    (expected,) = net.reference.forward(net.input.astype(np.float32))[1:]
    data = net.weights.read_bytes()
    net.weights.write_bytes(data[:kept] + data[20:])
    judge = library.load(tmp_path, net.cfg, net.weights)
    written = tmp_path / "cut.weights"
    judge._write_weights(1, written)
    assert written.read_bytes()[20:] == data[20:] and WeightsFile(written).header.length == 20
    np.testing.assert_array_equal(outputs_of(judge, net.input)[1], expected)


def test_input_of_another_shape_never_reaches_darknet(tmp_path: Path, numpy_library: list[int]) -> None:
    net = random_net(tmp_path, CONV, (3, 10, 12))
    judge = library.load(tmp_path, net.cfg, net.weights)
    with pytest.raises(UserError, match="asks for an input of"):
        outputs_of(judge, net.input[:, :8])
    assert not numpy_library


# ---- larger networks -----------------------------------------------------------------------------


def test_outputs_and_others_evenly_between(tmp_path: Path) -> None:
    text = CONV * 40 + YOLO + "[route]\nlayers=-3\n" + CONV * 20 + YOLO + "[route]\nlayers=10\n" + CONV
    net = random_net(tmp_path, text, (3, 4, 4))
    asked = library._choose(net.reference, ())
    assert len(asked) == library._MOST and {39, 61, 64} <= set(asked)
    assert 40 not in asked and 62 not in asked  # heads
    assert max(after - before for before, after in zip(asked, asked[1:], strict=False)) <= 4
    assert {17, 18} <= set(library._choose(net.reference, (17, 18)))
    # What must be asked for is, however much it is.
    assert len(library._choose(net.reference, range(30))) == 33


def verdict_of(judge: library.Library, net: RandomNet, spoilt: str = "") -> Verdict:
    """The proof of the conversion, with one weight of that layer off by 5 % of the largest."""
    conversion = convert(net.cfg, net.weights)
    b = conversion.net.copy()
    for layer in b.layers:
        if layer.name == spoilt:
            kernel = np.array(layer.blobs[0])
            kernel[3, 2, 1, 0] += 0.05 * np.abs(kernel).max()
            layer.blobs[0] = kernel
            break
    else:
        assert not spoilt, [layer.name for layer in b.layers]
    return prove_conversion(conversion.layers, judge, b, BlobMap(b.blob_names()), Options())


def test_what_is_left_out_is_accounted_for_and_covered(
    tmp_path: Path, numpy_library: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "_MOST", 3)
    net = random_net(tmp_path, CONV * 9 + YOLO.replace("classes=3", "classes=3"), (3, 10, 12), seed=3)
    judge = library.load(tmp_path / "lib.so", net.cfg, net.weights)
    assert judge.name == "AlexeyAB's Darknet (lib.so, asked for 3 of 9 sections)"
    assert sorted(judge.left_out) == [1, 2, 3, 5, 6, 7]
    verdict = verdict_of(judge, net)
    assert verdict.answer == "equal" and numpy_library == [1, 5, 9]
    assert [result.name for result in verdict.compared()] == [f"{i} convolutional" for i in (0, 4, 8)]
    left_out = [name for name, why in verdict.accounted.items() if why.startswith("not compared: ")]
    assert left_out == [f"{index} convolutional" for index in (1, 2, 3, 5, 6, 7)]
    # A fault in a section that was left out shows in the next one.
    verdict = verdict_of(judge, net, "layer7-conv")
    first = verdict.first_divergence()
    assert verdict.answer == "differs" and first and first.name == "8 convolutional"
    assert first.segment and first.segment > 1e-3


def test_what_a_pass_dropped_is_accounted_for_by_that(
    tmp_path: Path, numpy_library: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the library was not asked for it either: nobody could have compared it."""
    monkeypatch.setattr(library, "_MOST", 1)
    net = random_net(tmp_path, CONV * 4, (3, 10, 12), seed=3)
    judge = library.load(tmp_path / "lib.so", net.cfg, net.weights)
    assert sorted(judge.left_out) == [0, 1, 2]
    conversion = convert(net.cfg, net.weights)
    blob_map = BlobMap(conversion.net.blob_names())
    (gone,) = conversion.layers[1].blobs
    blob_map.follow([Note("", "", fates={gone: Fate((), "folded into what reads it")})])
    verdict = prove_conversion(conversion.layers, judge, conversion.net, blob_map, Options())
    assert verdict.answer == "equal"
    assert [why.partition(":")[0] for why in verdict.accounted.values()] == [
        "not compared", "folded into what reads it", "not compared"
    ]  # fmt: skip


# ---- where Darknet itself is wrong ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "flavor", "bn_form", "doubts"),
    [
        ("[maxpool]\nsize=3\nstride=1\n", "alexeyab", "standard", {0: "AVX=1"}),
        ("[maxpool]\nsize=5\nstride=1\n", "alexeyab", "standard", {}),  # 12 columns are not more than 8 + 4
        ("[maxpool]\nsize=4\nstride=1\n", "alexeyab", "standard", {0: "AVX=1"}),  # and more than 8 + 3
        ("[maxpool]\nsize=3\nstride=2\n", "alexeyab", "standard", {}),
        ("[upsample]\nstride=2\n[maxpool]\nsize=2\nstride=2\n", "alexeyab", "standard", {}),  # however wide
        ("[maxpool]\nsize=3\nstride=1\n", "pjreddie", "standard", {}),
        (CONV.replace("leaky", "relu6"), "alexeyab", "standard", {0: "0 for relu6"}),
        (CONV, "alexeyab", "standard", {0: "CUDNN_HALF=1"}),
        (CONV, "pjreddie", "standard", {0: "--bn-form pjreddie-cpu"}),
        (CONV, "pjreddie", "pjreddie-cpu", {}),
        ("[conv]\nstride=2\nfilters=2\n", "pjreddie", "standard", {0: "1x1"}),
        ("[conv]\nfilters=2\n", "pjreddie", "standard", {}),
    ],
)
def test_doubts(
    text: str, flavor: Flavor, bn_form: Any, doubts: dict[int, str], tmp_path: Path, monkeypatch: Any
) -> None:
    net = random_net(tmp_path, text, (3, 12, 12), flavor=flavor)
    monkeypatch.setattr(library, "_ask", answer_with(tree=flavor))
    judge = library.load(tmp_path, net.cfg, net.weights, flavor, bn_form)
    assert judge.doubts.keys() == doubts.keys()
    assert all(doubts[index] in said for index, said in judge.doubts.items())


@pytest.mark.parametrize(
    ("text", "flavor", "hints"),
    [
        (CONV + "[batchnorm]\n" + CONV, "pjreddie", [False, True, True]),
        (CONV + "[batchnorm]\n" + CONV, "alexeyab", [False, False, False]),
        (CONV + CONV, "pjreddie", [False, False]),  # which has its own
    ],
)
def test_the_hint_where_pjreddies_darknet_crashes(
    text: str, flavor: Flavor, hints: list[bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, given = answer_with(tree=flavor), []

    def ask(path: Path, folder: Path, network: Sequence[str], when: str, hint: str) -> str:
        given.append(hint)
        return str(answer(path, folder, network, when, hint))

    monkeypatch.setattr(library, "_ask", ask)
    net = random_net(tmp_path, text, (3, 10, 12), flavor=flavor)
    outputs_of(library.load(tmp_path, net.cfg, net.weights, flavor), net.input)
    plain = "leave out --against darknet"
    crashes = f"pjreddie's has no [batchnorm] on a CPU; {plain}"
    assert given == [plain, *(crashes if one else plain for one in hints)]


def test_verdict_names_the_doubt_where_it_differs(
    tmp_path: Path, numpy_library: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of the first section that differs, and those of the ones before it that were left out."""
    text = CONV + "[maxpool]\nsize=3\nstride=1\n" + CONV.replace("leaky", "relu6") + "[avgpool]\n"
    net = random_net(tmp_path, text, (3, 14, 14), seed=4)
    for most, expected in ((9, ["2 convolutional: "]), (1, ["1 maxpool: ", "2 convolutional: "])):
        monkeypatch.setattr(library, "_MOST", most)
        judge = library.load(tmp_path, net.cfg, net.weights, always=[0])
        assert verdict_of(judge, net).reasons == []
        reasons = verdict_of(judge, net, "layer3-conv").reasons
        assert len(reasons) == 1 + len(expected), reasons
        assert all(reason.startswith(said) for reason, said in zip(reasons[1:], expected, strict=True))


# ---- the library itself --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """compiled("ALEXEYAB") is a library of that kind."""

    @functools.cache
    def compile_shim(kind: str) -> Path:
        path = tmp_path_factory.mktemp(kind) / "libdarknet.so"
        source = Path(__file__).with_name("shim.c")
        subprocess.run(["cc", "-w", "-shared", "-fPIC", f"-D{kind}", "-o", path, source], check=True)
        return path

    return compile_shim


def record(case: DarknetCase, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Lays down what real Darknet computed where the shim looks for it; cfg, weights and input for main."""
    folder.mkdir()
    weights = case.weights(folder)
    file = WeightsFile(weights, case.flavor)
    darknet = Reference(read_cfg(case.cfg), file, case.flavor)
    case.input.astype("<f4").tofile(folder / "input")
    for index, output in case.expected.items():
        output.astype("<f4").tofile(folder / str(index))
    sizes = []
    for index in range(len(darknet.sections)):
        floats = sum(taken.size for taken in file.taken if taken.section.index <= index)
        sizes.append(str(file.header_bytes + 4 * floats))
    (folder / "sizes").write_text(" ".join(sizes))
    np.save(folder / "input.npy", case.input[np.newaxis])
    monkeypatch.setenv("SHIM_FOLDER", str(folder))
    pair = [str(case.cfg), str(weights), "--input", str(folder / "input.npy"), "--flavor", case.flavor]
    return [*pair, "--against", "darknet", "-o", str(folder / "out")]


WHOLE = ("yolo_heads", "yolov2_passthrough", "cost_tail", "route_groups", "shortcut_spatial_pj", "region_pj")


@pytest.mark.caffe  # for the compiler
@pytest.mark.parametrize("name", WHOLE)
def test_command_agrees_with_real_darknets_record(
    name: str,
    tmp_path: Path,
    compiled: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    case = darknet_case(name)
    arguments = record(case, tmp_path / "record", monkeypatch)
    arguments += ["--darknet-lib", str(compiled(case.flavor.upper()))]
    assert main(["prepare", *arguments, "--json"]) == 0
    printed = capfd.readouterr()
    proof = json.loads(printed.out)["verification"]  # not a word of the library's came through
    owner = {"alexeyab": "AlexeyAB", "pjreddie": "pjreddie"}[case.flavor]
    assert (proof["answer"], proof["judge"]) == ("equal", f"{owner}'s Darknet (libdarknet.so)")
    assert printed.err == ""
    compared = [blob["name"] for blob in proof["blobs"] if not blob["problem"]]
    assert compared == [
        f"{layer['index']} {layer['type']}" for layer in case.layers if layer["type"] not in HEADS
    ]

    path = tmp_path / "record" / compared[-1].split()[0]
    spoilt = np.fromfile(path, "<f4")
    spoilt[1] += 0.01 * spoilt.std()
    spoilt.tofile(path)
    assert main(["darknet2caffe", *arguments, "--force"]) == 1
    said = capfd.readouterr().out
    assert f"DIFFERS: {len(compared)} blobs compared with {owner}'s Darknet" in said
    assert f"blob {compared[-1]} is the first that differs" in said


def refusal(arguments: list[str], folder: Path, capfd: pytest.CaptureFixture[str]) -> str:
    """The one line that a command without a result prints."""
    assert main(["prepare", *arguments]) == 2
    printed = capfd.readouterr()
    assert not printed.out and printed.err.count("\n") == 1
    assert printed.err.rstrip("\n").isprintable() and not list(folder.glob("out*"))
    return printed.err


@pytest.mark.caffe  # for the compiler
@pytest.mark.parametrize(
    ("fault", "at", "said"),
    [
        (
            "load abort",
            "5",
            "at section 5 [convolutional]: SIGABRT | Darknet error location: ./src/utils.c | L",
        ),
        ("load exit0", "", "at section 0 [convolutional]: exit code 0 | layer filters size | 0 conv | first"),
        ("load exit1", "", "exit code 1 | 0 conv | CUDA Error: out of memory?[31m | Loading net.weights | "),
        ("load segfault", "", "at section 0 [convolutional]: SIGSEGV | layer filters size | 0 conv"),
        ("predict abort", "6", "at section 6 [upsample]: SIGABRT"),
        ("predict exit0", "", "exit code 0"),
        ("null", "", "returned no output"),
    ],
)
def test_darknet_that_ends_is_one_line(
    fault: str,
    at: str,
    said: str,
    tmp_path: Path,
    compiled: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "record"
    arguments = record(darknet_case("yolo_heads"), folder, monkeypatch)
    monkeypatch.setenv("SHIM_FAULT", fault)
    if at:
        monkeypatch.setenv("SHIM_AT", at)
    shim = compiled("ALEXEYAB")
    error = refusal([*arguments, "--darknet-lib", str(shim)], folder, capfd)
    assert said in error and str(shim) in error and "leave out --against darknet" in error


@pytest.mark.caffe  # for the compiler
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("OLD", "exports load_network_custom and no network_predict_ptr: a Darknet that is too old"),
        ("NO_PREDICT", "exports neither network_predict_ptr nor network_predict"),
        ("NO_LOAD", "exports no load_network"),
        ("PJREDDIE", "is pjreddie's Darknet, and the network is taken for AlexeyAB's; add --flavor pjreddie"),
    ],
)
def test_other_libraries_are_refused(
    kind: str,
    said: str,
    tmp_path: Path,
    compiled: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    arguments = record(darknet_case("yolo_heads"), tmp_path / "record", monkeypatch)
    error = refusal([*arguments, "--darknet-lib", str(compiled(kind))], tmp_path / "record", capfd)
    assert said in error


def test_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library.tempfile, "tempdir", str(tmp_path / "absent"))
    with pytest.raises(UserError, match=r"absent.*cannot be written: No such file.*set TMPDIR"):
        library.load(tmp_path / "x.so", tmp_path / "net.cfg", tmp_path / "net.weights")


def test_what_is_no_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = record(darknet_case("yolo_heads"), tmp_path / "record", monkeypatch)
    (tmp_path / "libdarknet.so").write_text("no library")
    monkeypatch.chdir(tmp_path)
    for name in ("libdarknet.so", "absent.so", "libc.so.6", "."):  # the third would be found in the system
        error = refusal([*arguments, "--darknet-lib", name], tmp_path / "record", capfd)
        assert f"{tmp_path / name}: cannot be loaded: " in error and "leave out --against darknet" in error


def test_both_options_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "record"
    arguments = record(darknet_case("yolo_heads"), folder, monkeypatch)
    assert "--against darknet: needs the library" in refusal(arguments, folder, capfd)
    alone = [argument for argument in arguments if argument not in ("--against", "darknet")]
    assert "--darknet-lib: is of no use without" in refusal([*alone, "--darknet-lib", "x"], folder, capfd)
    for name in ("a.prototxt", "a.caffemodel"):
        (tmp_path / name).touch()
    pair = [str(tmp_path / "a.prototxt"), str(tmp_path / "a.caffemodel")]
    error = refusal([*pair, "--against", "darknet", "--darknet-lib", "x"], tmp_path, capfd)
    assert "--against darknet --darknet-lib x is about Darknet networks" in error


def test_judge_leaves_no_mark_on_the_files(
    tmp_path: Path, numpy_library: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = record(darknet_case("yolo_heads"), tmp_path / "record", monkeypatch)
    plain = [argument for argument in arguments if argument not in ("--against", "darknet")]
    out = tmp_path / "record" / "out.prototxt"
    assert main(["prepare", *plain]) == 0
    first = out.read_bytes()
    assert main(["prepare", *arguments, "--darknet-lib", "libdarknet.so", "--force"]) == 0
    assert out.read_bytes() == first and numpy_library


def test_inexact_layers_are_always_asked_for(
    tmp_path: Path,
    numpy_library: list[int],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Else nothing would say that the result is not what the network computes."""
    monkeypatch.setattr(library, "_MOST", 1)
    text = CONV + CONV + "[maxpool]\nsize=2\nstride=1\n" + CONV + CONV
    net = random_net(tmp_path, text, (3, 10, 12), seed=2)
    asked = ["--against", "darknet", "--darknet-lib", "x", "--approximate", "pool-2-1", "--json"]
    assert main(["prepare", str(net.cfg), str(net.weights), *asked]) == 0
    proof = json.loads(capfd.readouterr().out)["verification"]
    assert proof["answer"] == "inexact, as asked" and "asked for 2 of 5 sections" in proof["judge"]
    assert [blob["name"] for blob in proof["blobs"] if blob["inexact"]] == ["2 maxpool"]
    assert numpy_library == [3, 5, 3, 5]
