"""Each command as its user types it: names of the files, what is printed, what --json promises."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from cli_cases import CFG, CONVOLUTIONS, listing, refuses, run, spawn

from nnie_prep import passes
from nnie_prep.caffe_io import read_net
from nnie_prep.net import Net
from nnie_prep.passes import pipelines

DARKNET = ("net.cfg", "net.weights")
CAFFE = ("small.prototxt", "small.caffemodel")
NAMES = ("prototxt", "caffemodel", "json")
REPORT = "report.txt"  # which `prepare` adds
SECTIONS = [line[1:-1] for line in CFG.splitlines() if line.startswith("[")][1:]
PASSES = passes.names_of(passes.PASSES)
NNIE_PASSES = passes.names_of(pipelines.NNIE_PASSES)


def made(folder: Path, before: dict[str, str]) -> list[str]:
    """The files that are new; the old ones must be as they were."""
    after = listing(folder)
    assert {name: after.get(name) for name in before} == before
    return sorted(set(after) - set(before))


def types(net: Net) -> set[str]:
    return {layer.type for layer in net.layers}


@pytest.mark.parametrize(
    ("arguments", "stems"),
    [
        (("prepare", "net.cfg", "net.weights"), ("net", "net")),
        (("prepare", "net.weights", "net.cfg"), ("net", "net")),
        (("prepare", "net.cfg", "net.weights", "--target", "caffe"), ("net", "net")),
        (("darknet2caffe", "net.cfg", "net.weights"), ("net", "net")),
        (("darknet2caffe", "net.cfg", "net.weights", "--merge-bn"), ("net", "net")),
        (("prepare", "small.prototxt", "weights.caffemodel"), ("small_nnie", "small_nnie")),
        (("merge-bn", "small.prototxt", "weights.caffemodel"), ("small_inference", "weights_inference")),
        (
            ("merge-bn", "--model", "small.prototxt", "--weights", "weights.caffemodel"),
            ("small_inference", "weights_inference"),
        ),
        (("add-bias", "small.prototxt", "weights.caffemodel"), ("small_bias", "weights_bias")),
        (("strip", "small.prototxt", "weights.caffemodel"), ("small_stripped", "weights_stripped")),
    ],
)
def test_default_names(folder: Path, arguments: tuple[str, ...], stems: tuple[str, str]) -> None:
    (folder / "small.caffemodel").rename(folder / "weights.caffemodel")
    before = listing(folder)
    done = run(*arguments)
    assert (done.code, done.err) == (0, "")
    assert "EQUAL: " in done.out
    prototxt, caffemodel = stems
    report = [f"{prototxt}.{REPORT}"] if arguments[0] == "prepare" else []
    assert made(folder, before) == sorted(
        [f"{prototxt}.prototxt", f"{caffemodel}.caffemodel", f"{prototxt}.json", *report]
    )
    read_net(folder / f"{prototxt}.prototxt", folder / f"{caffemodel}.caffemodel")


@pytest.mark.parametrize(
    "stem", ["a", "a.prototxt", "a.caffemodel", "a.json", "sub/a", "./a", "a.b.c", "a b"]
)
@pytest.mark.parametrize(
    "arguments",
    [("prepare", "net.cfg", "net.weights"), ("merge-bn", "small.prototxt", "small.caffemodel")],
)
def test_a_stem_of_the_users(folder: Path, arguments: tuple[str, ...], stem: str) -> None:
    (folder / "sub").mkdir()
    before = listing(folder)
    assert run(*arguments, "-q", "-o", stem).code == 0
    for name in NAMES:
        stem = stem.removesuffix(f".{name}")
    stem = stem.removeprefix("./")
    names = NAMES + ((REPORT,) if arguments[0] == "prepare" else ())
    assert made(folder, before) == sorted(f"{stem}.{name}" for name in names)


def test_outputs_lie_beside_their_inputs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    before = listing(folder)
    assert run("merge-bn", "work/small.prototxt", "work/small.caffemodel", "-q").code == 0
    assert made(folder, before) == sorted(f"small_inference.{name}" for name in NAMES)
    assert listing(folder.parent).keys() == {"work", *(f"work/{name}" for name in listing(folder))}


def test_the_well_known_scripts_spelling(folder: Path) -> None:
    four = ("--model", "small.prototxt", "--weights", "small.caffemodel")
    before = listing(folder)
    assert run("merge-bn", *four, "--output_model", "x.txt", "--output_weights", "y.bin").code == 0
    assert made(folder, before) == ["x.json", "x.txt", "y.bin"]
    Path("out").mkdir()
    for option, name in (("--output_model", "out/m.prototxt"), ("--output_weights", "out/w.caffemodel")):
        there = listing(folder)
        assert run("merge-bn", *four, option, name).code == 0
        stem = name.partition(".")[0]
        assert made(folder, there) == [f"{stem}.{kind}" for kind in sorted(NAMES)], "one names the other"
    assert run("merge-bn", "small.prototxt", "small.caffemodel", "-o", "z").code == 0
    assert Path("y.bin").read_bytes() == Path("z.caffemodel").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "gone", "kept"),
    [
        (("prepare", "net.cfg", "net.weights"), {"BatchNorm", "Scale"}, {"Upsample", "Convolution"}),
        (
            ("prepare", "net.cfg", "net.weights", "--target", "caffe"),
            {"BatchNorm", "Scale", "Upsample"},
            {"Deconvolution"},
        ),
        (("darknet2caffe", "net.cfg", "net.weights"), set(), {"BatchNorm", "Scale", "Upsample"}),
        (("darknet2caffe", "net.cfg", "net.weights", "--merge-bn"), {"BatchNorm", "Scale"}, {"Upsample"}),
        (
            ("prepare", "small.prototxt", "small.caffemodel"),
            {"BatchNorm", "Scale", "Dropout"},
            {"InnerProduct", "Softmax"},
        ),
        (("merge-bn", "small.prototxt", "small.caffemodel"), {"BatchNorm", "Scale", "Dropout"}, {"ReLU"}),
        (("add-bias", "small.prototxt", "small.caffemodel"), set(), {"BatchNorm", "Scale", "Dropout"}),
        (("strip", "small.prototxt", "small.caffemodel"), {"Dropout"}, {"BatchNorm", "Scale"}),
        (
            (
                *("merge-bn", "small.prototxt", "small.caffemodel"),
                *("--skip", "fold_batchnorm", "--skip", "merge_batchnorm"),
            ),
            {"Dropout"},
            {"BatchNorm"},
        ),
        (
            ("prepare", "net.cfg", "net.weights", "--skip", "fold_batchnorm", "--skip", "fold_scale"),
            {"BatchNorm"},
            {"Scale"},
        ),
        (
            ("strip", "small.prototxt", "small.caffemodel", "--skip", "drop_identity"),
            set(),
            {"Dropout"},
        ),
    ],
)
def test_what_each_command_changes(
    folder: Path, arguments: tuple[str, ...], gone: set[str], kept: set[str]
) -> None:
    assert run(*arguments, "-o", "x").code == 0
    found = types(read_net(folder / "x.prototxt", folder / "x.caffemodel"))
    assert not gone & found and kept <= found


@pytest.mark.parametrize("command", ["add-bias", "merge-bn", "prepare"])
def test_biases_are_explicit(folder: Path, command: str) -> None:
    assert run(command, "small.prototxt", "small.caffemodel", "-o", "x").code == 0
    for layer in read_net(folder / "x.prototxt", folder / "x.caffemodel").layers:
        if layer.type in ("Convolution", "InnerProduct"):
            assert len(layer.blobs) == 2


def test_a_net_keeps_no_losses_and_no_labels(folder: Path) -> None:
    text = Path("small.prototxt").read_text().replace("include { phase: TEST }", "").replace("TRAIN", "TEST")
    pictures, labelled = text.index("layer {"), text.index('layer { name: "conv"')
    inputs = """layer { name: "pictures" type: "Input" top: "data" top: "label"
        input_param { shape { dim: 1 dim: 3 dim: 11 dim: 13 } shape { dim: 1 } } }
    """
    Path("t.prototxt").write_text(text[:pictures] + inputs + text[labelled:])
    assert "SoftmaxWithLoss" in types(read_net(Path("t.prototxt")))
    assert run("strip", "t.prototxt", "small.caffemodel", "-o", "x").code == 0
    net = read_net(folder / "x.prototxt", folder / "x.caffemodel")
    assert net.inputs() == ["data"] and net.outputs() == ["prob"]
    assert not types(net) & {"SoftmaxWithLoss", "Dropout"}


# ---- what is printed ---------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["prepare", "darknet2caffe"])
def test_json_of_a_conversion(folder: Path, command: str) -> None:
    done = run(command, "net.cfg", "net.weights", "-o", "x", "--json")
    assert (done.code, done.err) == (0, "")
    report = json.loads(done.out)
    assert report["command"] == command
    assert report["inputs"] == ["net.cfg", "net.weights"]
    prepares = command == "prepare"
    assert report["outputs"] == ["x.prototxt", "x.caffemodel", "x.json"] + ["x.report.txt"] * prepares
    assert list(report["passes"]) == (NNIE_PASSES if prepares else [])
    proof = report["verification"]
    assert proof["answer"] == "equal" and proof["reasons"] == [] and proof["first_divergence"] is None
    assert 0 < proof["smallest_tolerance"] < proof["tolerance"] == 1e-4
    assert list(proof["accounted"]) == ["10 yolo"]
    assert [blob["name"] for blob in proof["blobs"]] == [
        f"{index} {section}" for index, section in enumerate(SECTIONS[:-1])
    ]
    assert [blob["name"] for blob in proof["blobs"] if blob["is_output"]] == ["9 convolutional"]
    for blob in proof["blobs"]:
        assert 0 <= blob["by_segment"] <= 1e-5 and 0 < blob["end_to_end"] <= 1e-5 and blob["noise"] > 0
        assert blob["limit"] == max(1e-4, 20 * blob["noise"]) and blob["problem"] == ""
        assert len(blob["worst"]) == len(blob["shape"]) == 3
    converted = sum(shape[0] * (4 if bn else 1) + int(np.prod(shape)) for shape, bn in CONVOLUTIONS)
    folded = sum(shape[0] + int(np.prod(shape)) for shape, _ in CONVOLUTIONS)
    window = 8 * 2 * 2  # of the maxpool that keeps its size, one 2x2 filter and a bias for each channel
    factors = sum(bn for _, bn in CONVOLUTIONS)  # the third blob of Caffe's BatchNorm
    after = folded + window + 8 if command == "prepare" else converted + window + factors
    assert report["parameters"] == [converted + window + factors, after]
    places = (16 * 24, 8 * 12, 8 * 12, 4 * 6, 8 * 12)
    products = sum(
        int(np.prod(shape)) * count for (shape, _), count in zip(CONVOLUTIONS, places, strict=True)
    )
    assert report["multiply_adds"] == [products + window * 8 * 12] * 2


def test_add_bias_with_engine_caffe(folder: Path) -> None:
    """Every 1 x 1 convolution of both files, no other layer, and only where it is asked for."""
    assert run("darknet2caffe", "net.cfg", "net.weights", "-o", "x").code == 0
    for options in ((), ("--engine-caffe",)):
        assert run("add-bias", "x.prototxt", "x.caffemodel", "-o", "y", *options).code == 0
        layers = read_net(Path("y.prototxt")).layers
        params = {one.name: one.proto.convolution_param for one in layers if one.type == "Convolution"}
        small = {name for name, param in params.items() if list(param.kernel_size) == [1]}
        assert 0 < len(small) < len(params)
        found = {layer.name for layer in layers if "CAFFE" in str(layer.proto)}
        assert found == (small if options else set())
    assert "--engine-caffe" in Path("y.prototxt").read_text().partition("layer {")[0]


def test_json_of_passes_that_decline(folder: Path) -> None:
    report = json.loads(
        run("merge-bn", "small.prototxt", "small.caffemodel", "--json", "--skip", "insert_bias").out
    )
    notes = {
        name: [note for note in notes if not note["changed"]] for name, notes in report["passes"].items()
    }
    assert list(notes) == [name for name in PASSES if name != "insert_bias"]
    (note,) = notes["fold_batchnorm"]
    assert note["layer"] == "bn" and "no bias to take the shift" in note["text"]


def test_json_of_the_other_commands(folder: Path) -> None:
    np.save("x.npy", np.ones((1, 3, 11, 13), np.float32))
    pair = ("small.prototxt", "small.caffemodel")
    shown = json.loads(run("show", *pair, "--json").out)
    assert shown.keys() == {
        "name", "inputs", "outputs", "layers", "types", "convolutions", "parameters", "weight_bytes",
        "multiply_adds",
    }  # fmt: skip
    assert shown["layers"][1] == {
        "name": "conv",
        "type": "Convolution",
        "bottoms": ["data"],
        "tops": ["conv"],
        "shape": [1, 6, 5, 6],
        "parameters": 54,
        "weights": 54,
        "multiply_adds": 54 * 5 * 6,
        "origin": "small.prototxt:7",
    }
    assert json.loads(run("run", *pair, "--input", "x.npy", "-o", "y.npz", "--json").out) == {"prob": [1, 5]}
    assert json.loads(run("verify", *pair, *pair, "--json").out)["answer"] == "equal"
    assert list(json.loads(run("passes", "--json").out)) == passes.names_of(pipelines.ALL_PASSES)


def test_quiet_is_silent(folder: Path) -> None:
    np.save("x.npy", np.ones((1, 3, 11, 13), np.float32))
    Path("net.cfg").write_text(
        Path("net.cfg").read_text().replace("[upsample]\nstride", "[upsample]\nstrides")
    )
    pair = ("small.prototxt", "small.caffemodel")
    for arguments in (
        ("prepare", "net.cfg", "net.weights"),
        ("darknet2caffe", "net.cfg", "net.weights", "-o", "x"),
        ("merge-bn", *pair),
        ("add-bias", *pair),
        ("strip", *pair),
        ("verify", *pair, *pair),
        ("run", *pair, "--input", "x.npy", "-o", "y.npz"),
        ("show", *pair),
        ("passes",),
    ):
        assert run(*arguments, "-q") == (0, "", ""), arguments
    assert run("prepare", "net.cfg", "net.weights", "--tolerance", "0", "-q", "-o", "z") == (1, "", "")


def test_nothing_to_do_is_no_empty_table(folder: Path) -> None:
    few, all_ = (run("merge-bn", *CAFFE, "-o", "once", *more).out for more in ((), ("-v",)))
    shown, known = (len(re.findall(r"^\w+ +\d+ +\d+$", out, re.M)) for out in (few, all_))
    assert f"\nand {known - shown} that found nothing to do\n" in few
    assert "found nothing to do" not in all_
    done = run("merge-bn", "once.prototxt", "once.caffemodel")
    assert "\nno pass found anything to do\n" in done.out and "changes" not in done.out
    assert "\n\n\n" not in done.out
    assert "pass  " in run("merge-bn", "once.prototxt", "once.caffemodel", "-v").out


def test_verbose_tells_every_note_and_every_blob(folder: Path) -> None:
    pair = ("small.prototxt", "small.caffemodel")
    brief, full = run("prepare", *pair).out, run("prepare", *pair, "-v").out
    for text in ("conv: bias of 6 zeros inserted", "conv: folded bn (BatchNorm), scale (Scale) into conv"):
        assert text in full and text not in brief
    rows = {line.split()[0] for line in full.splitlines() if line.count("e-") >= 3}
    assert rows == {"conv", "dropped", "fc", "prob"}


def test_what_is_piped_is_plain(folder: Path) -> None:
    done = spawn("prepare", "net.cfg", "net.weights")
    assert (done.code, done.err) == (0, "")
    assert all(char.isprintable() or char == "\n" for char in done.out)
    assert done.out.isascii()


@pytest.mark.parametrize("columns", [80])
def test_reports_fit_a_narrow_terminal(folder: Path, columns: int) -> None:
    pair = ("small.prototxt", "small.caffemodel")
    for arguments in (
        ("prepare", "net.cfg", "net.weights"),
        ("prepare", "net.cfg", "net.weights", "--tolerance", "0", "-o", "x"),
        ("merge-bn", *pair),
        ("show", *pair),
        ("verify", *pair, *pair),
    ):
        assert max(map(len, run(*arguments).out.splitlines())) <= columns, arguments


# ---- warnings ----------------------------------------------------------------------------------


def test_a_key_that_nobody_reads_is_a_warning_or_with_strict_an_error(folder: Path) -> None:
    Path("net.cfg").write_text(
        Path("net.cfg").read_text().replace("[upsample]\nstride", "[upsample]\nstrides")
    )
    done = run("prepare", "net.cfg", "net.weights")
    assert done.code == 0
    assert done.err == "nnie_prep: warning: net.cfg:52: strides=2 is not used; did you mean stride?\n"
    report = json.loads(run("prepare", "net.cfg", "net.weights", "--json").out)
    assert report["warnings"] == [done.err.removeprefix("nnie_prep: warning: ").strip()]
    message = refuses(folder, "prepare", "net.cfg", "net.weights", "--strict", "-o", "x")
    assert "strides=2 is not used" in message and "leave out --strict" in message


def test_weights_that_no_layer_takes_are_a_warning(folder: Path) -> None:
    text = Path("small.prototxt").read_text()
    fc = text.index('layer { name: "fc"')
    Path("cut.prototxt").write_text(text[:fc])
    done = run("merge-bn", "cut.prototxt", "small.caffemodel")
    assert done.code == 0
    assert done.err == (
        "nnie_prep: warning: small.caffemodel: weights of 1 layer(s) are not in cut.prototxt: fc\n"
    )
    assert "fc" in refuses(folder, "merge-bn", "cut.prototxt", "small.caffemodel", "--strict", "-o", "x")


# ---- existing files ----------------------------------------------------------------------------


def test_what_may_be_replaced(folder: Path) -> None:
    convert = ("prepare", "net.cfg", "net.weights", "-q")
    assert run(*convert).code == 0
    first = listing(folder)
    assert run(*convert).code == 0 and listing(folder) == first  # its own, from the same inputs

    weights = Path("net.weights").read_bytes()
    Path("net.weights").write_bytes(weights[:-4] + b"\0\0\0\0")
    assert "made from other inputs" in refuses(folder, *convert)
    assert run(*convert, "--force").code == 0 and listing(folder) != first

    Path("net.prototxt").write_text(Path("net.prototxt").read_text() + "# mine\n")
    assert "edited" in refuses(folder, *convert)
    Path("net.prototxt").write_text("# mine\n")
    assert "nothing shows that nnie_prep made it" in refuses(folder, *convert)
    Path("net.prototxt").unlink()
    assert "net." in refuses(folder, *convert)  # a caffemodel whose maker is not known
    assert run(*convert, "--force").code == 0


def test_no_verify_writes_the_same_and_says_so(folder: Path) -> None:
    assert run("prepare", "net.cfg", "net.weights", "-o", "a").code == 0
    done = run("prepare", "net.cfg", "net.weights", "-o", "b", "--no-verify")
    assert done.code == 0 and "NOT VERIFIED" in done.out and "EQUAL" not in done.out
    assert Path("a.caffemodel").read_bytes() == Path("b.caffemodel").read_bytes()
    report = json.loads(run("prepare", "net.cfg", "net.weights", "-o", "c", "--no-verify", "--json").out)
    assert report["verification"] is None


def test_when_the_proof_fails_nothing_is_written(folder: Path) -> None:
    for arguments in (
        ("prepare", "net.cfg", "net.weights"),
        ("darknet2caffe", "net.cfg", "net.weights"),
        ("merge-bn", "small.prototxt", "small.caffemodel"),
        ("prepare", "small.prototxt", "small.caffemodel"),
    ):
        before = listing(folder)
        done = run(*arguments, "--tolerance", "0")
        assert done.code == 1 and done.err == ""
        assert "DIFFERS: " in done.out and "nothing was written" in done.out
        assert listing(folder) == before
        report = json.loads(run(*arguments, "--tolerance", "0", "--json").out)
        assert report["outputs"] == [] and report["verification"]["answer"] == "differs"
        assert listing(folder) == before


def test_the_tolerance_that_is_named_passes_and_less_does_not(folder: Path) -> None:
    arguments = ("prepare", "net.cfg", "net.weights", "-o", "x")
    done = run(*arguments, "--tolerance", "0")
    (printed,) = [line.split()[-1] for line in done.out.splitlines() if line.startswith("smallest tolerance")]
    assert run(*arguments, "--tolerance", printed).code == 0
    exact = json.loads(run(*arguments, "--tolerance", "0", "--json").out)["verification"][
        "smallest_tolerance"
    ]
    assert exact <= float(printed) < 1.2 * exact
    assert run(*arguments, "--tolerance", repr(exact)).code == 0
    assert run(*arguments, "--tolerance", repr(exact * 0.999)).code == 1


def test_seed_and_input_decide_what_the_nets_are_fed_with(folder: Path) -> None:
    def errors(*options: object) -> list[float]:
        report = json.loads(run("prepare", "net.cfg", "net.weights", "-o", "x", "--json", *options).out)
        return [blob["end_to_end"] for blob in report["verification"]["blobs"]]

    assert errors() == errors("--seed", 0) != errors("--seed", 1)
    picture = np.random.default_rng(1).uniform(0, 1, (1, 3, 16, 24)).astype(np.float32)
    np.save("x.npy", picture)
    np.savez("x.npz", data=picture[0])
    assert errors("--input", "x.npy") == errors("--input", "x.npz") == errors("--seed", 1)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("prepare", *CAFFE),
         "small_nnie.caffemodel small_nnie.json small_nnie.prototxt small_nnie.report.txt"),
        (("darknet2caffe", *DARKNET), "net.caffemodel net.json net.prototxt"),
        (("merge-bn", *CAFFE), "small_inference.caffemodel small_inference.json small_inference.prototxt"),
        (("strip", *CAFFE), "small_stripped.caffemodel small_stripped.json small_stripped.prototxt"),
        (("edit", *CAFFE, "--rename-layer", "fc=last"),
         "small_edited.caffemodel small_edited.json small_edited.prototxt"),
        (("edit", CAFFE[0], "--rename-layer", "fc=last"), "small_edited.json small_edited.prototxt"),
        (("fold-darknet", *DARKNET), "net_folded.cfg net_folded.weights"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)  # fmt: skip
def test_into_a_folder(folder: Path, arguments: tuple[str, ...], names: str) -> None:
    """The folder is made, and what is in it is called as beside its inputs; or it is gone again."""
    before = listing(folder)
    assert run(*arguments, "-o", "out/").code == 0
    assert made(folder, before) == ["out", *(f"out/{name}" for name in names.split())]
    assert run(*arguments, "-o", "deep/er/").code == 2 and not Path("deep").exists()
