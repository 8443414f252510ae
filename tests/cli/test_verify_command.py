"""`verify`: which pairs it calls equal, and what it says of those that are not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli_cases import listing, refuses, run, write_caffe

from nnie_prep.caffe_io import format_prototxt, read_net, write_caffemodel
from nnie_prep.net import Net
from nnie_prep.outputs.made_by import hash_of

LONG = "probabilities_of_the_five_classes"


def save(net: Net, stem: str) -> tuple[str, str]:
    """Writes a pair that nothing ties together."""
    prototxt, caffemodel = f"{stem}.prototxt", f"{stem}.caffemodel"
    Path(prototxt).write_text(format_prototxt(net, []))
    with Path(caffemodel).open("wb") as file:
        write_caffemodel(net, file)
    return prototxt, caffemodel


@pytest.fixture
def pair(folder: Path) -> tuple[str, str]:
    """The converted tiny YOLO."""
    assert run("prepare", "net.cfg", "net.weights", "-q").code == 0
    return "net.prototxt", "net.caffemodel"


def tampered(pair: tuple[str, str], layer: str = "layer5-conv", factor: float = 1.01) -> tuple[str, str]:
    """The pair with one layer's weights off by a factor."""
    net = read_net(*map(Path, pair))
    target = net.layer(layer)
    assert target is not None
    target.blobs[0] = np.asarray(target.blobs[0]) * np.float32(factor)
    return save(net, "tampered")


def test_a_net_equals_itself(pair: tuple[str, str]) -> None:
    before = listing(Path())
    done = run("verify", *pair, *pair)
    assert done.code == 0 and done.out.startswith("EQUAL: ") and done.err == ""
    assert "smallest tolerance" not in done.out
    assert listing(Path()) == before


def test_surgery_is_seen_as_equal(folder: Path) -> None:
    """By the STEM.json that was written with the pair, a dropped blob is its bottom; else by name alone."""
    source = "small.prototxt", "small.caffemodel"
    assert run("merge-bn", *source, "-q").code == 0
    result = "small_inference.prototxt", "small_inference.caffemodel"
    done = run("verify", *source, *result, "-v")
    assert done.code == 0 and "\ndropped  conv " in done.out
    Path("small_inference.json").unlink()
    done = run("verify", *source, *result, "-v")
    assert done.code == 0 and "dropped: the second net has no blob of that name" in done.out


def test_names_that_were_changed_are_looked_up(folder: Path) -> None:
    """An output whose name was too long for the chip is compared, and what it is made of by another name."""
    text = Path("small.prototxt").read_text().replace('"prob"', f'"{LONG}"')
    Path("long.prototxt").write_text(text)
    source, result = ("long.prototxt", "small.caffemodel"), ("x.prototxt", "x.caffemodel")
    assert run("prepare", *source, "--report", "conv", "-o", "x", "-q").code == 0
    verdict = json.loads(run("verify", *source, *result, "--json").out)
    found = {blob["name"]: blob["blobs"] for blob in verdict["blobs"]}
    assert verdict["answer"] == "equal" and found["conv"] == ["conv_report"]
    assert len(found[LONG][0]) <= 31 and found[LONG][0] in Path("x.prototxt").read_text()
    assert run("verify", *result, *result, "-q").code == 0  # what is said there is not about this net
    Path("x.json").unlink()
    done = run("verify", *source, *result)
    assert done.code == 1 and f"output {LONG} is not in the second net" in done.out


def test_what_was_cut_off_is_accounted_for(folder: Path) -> None:
    """The result ends before the ArgMax, and is for one picture where its source is for three."""
    text = Path("small.prototxt").read_text().replace("dim: 1 dim: 3", "dim: 3 dim: 3")
    Path("tail.prototxt").write_text(
        text + 'layer { name: "best" type: "ArgMax" bottom: "prob" top: "best" }'
    )
    source, result = ("tail.prototxt", "small.caffemodel"), ("x.prototxt", "x.caffemodel")
    assert run("prepare", *source, "-o", "x", "-q").code == 0
    verdict = json.loads(run("verify", *source, *result, "--json").out)
    assert verdict["answer"] == "equal" and verdict["accounted"].keys() == {"best"}
    assert [blob["shape"] for blob in verdict["blobs"] if blob["name"] == "prob"] == [[3, 5]]
    Path("x.json").unlink()
    done = run("verify", *source, *result)
    assert done.code == 1 and "output best is not in the second net" in done.out


def test_a_wrong_result_is_wrong_under_its_new_names(folder: Path) -> None:
    """Whatever the STEM.json says: only where a value is to be found, and not that it is there."""
    source = "small.prototxt", "small.caffemodel"
    assert run("prepare", *source, "--report", "conv", "-o", "x", "-q").code == 0
    net = read_net(Path("x.prototxt"), Path("x.caffemodel"))
    first = next(layer for layer in net.layers if layer.type == "Convolution")
    first.blobs[1] = np.asarray(first.blobs[1]) + np.float32(0.01)
    with Path("y.caffemodel").open("wb") as file:
        write_caffemodel(net, file)
    vouched = (
        Path("x.prototxt").read_text().replace(*map(hash_of, map(Path, ("x.caffemodel", "y.caffemodel"))))
    )
    Path("x.prototxt").write_text(vouched)
    verdict = json.loads(run("verify", *source, "x.prototxt", "y.caffemodel", "--json").out)
    assert verdict["answer"] == "differs" and verdict["first_divergence"] == "conv"


def test_the_first_divergence_is_named_and_the_tolerance_that_would_pass(pair: tuple[str, str]) -> None:
    nets = (*pair, *tampered(pair))
    done = run("verify", *nets)
    assert done.code == 1
    assert done.out.startswith("DIFFERS: ")
    assert "blob layer5-conv is the first that differs" in done.out
    (marked,) = [line for line in done.out.splitlines() if "<- first" in line]
    assert marked.startswith("layer5-conv ")
    (printed,) = [line.split()[-1] for line in done.out.splitlines() if "smallest tolerance" in line]

    verdict = json.loads(run("verify", *nets, "--json").out)
    assert verdict["first_divergence"] == "layer5-conv" and verdict["answer"] == "differs"
    exact = verdict["smallest_tolerance"]
    assert 1e-3 < exact <= float(printed) < 1.2 * exact
    by_name = {blob["name"]: blob for blob in verdict["blobs"]}
    assert by_name["layer4-crop"]["end_to_end"] == 0
    assert by_name["layer5-conv"]["by_segment"] == by_name["layer5-conv"]["end_to_end"] > 1e-3
    # What lies behind is right by segment, and wrong end to end for what it is fed with.
    assert by_name["layer7-conv"]["by_segment"] == 0 and by_name["layer7-conv"]["end_to_end"] > 1e-3

    assert run("verify", *nets, "--tolerance", printed, "-q").code == 0
    assert run("verify", *nets, "--tolerance", repr(exact), "-q").code == 0
    assert run("verify", *nets, "--tolerance", repr(exact * 0.999), "-q").code == 1


def test_when_no_tolerance_passes(pair: tuple[str, str]) -> None:
    done = run("verify", *pair, *tampered(pair, "layer10-conv", -100.0))
    assert done.code == 1 and "no tolerance up to 1 passes" in done.out
    assert run("verify", *pair, "tampered.prototxt", "tampered.caffemodel", "--tolerance", "1").code == 1


def test_a_blob_of_another_shape(pair: tuple[str, str]) -> None:
    net = read_net(*map(Path, pair))
    last = net.layers[-1]
    last.proto.convolution_param.num_output = 20
    last.blobs = [np.asarray(blob)[:20] for blob in last.blobs]
    done = run("verify", *pair, *save(net, "other"))
    assert done.code == 1
    assert "blob layer10-conv has shape 1x21x8x12 in A and 1x20x8x12 in B" in done.out
    assert "no tolerance up to 1 passes" in done.out
    verdict = json.loads(run("verify", *pair, "other.prototxt", "other.caffemodel", "--json").out)
    assert verdict["first_divergence"] == "layer10-conv" and verdict["smallest_tolerance"] == "inf"


def test_an_output_that_is_missing(pair: tuple[str, str]) -> None:
    net = read_net(*map(Path, pair))
    net.remove(net.layers[-1])
    other = save(net, "other")
    done = run("verify", *pair, *other)
    assert done.code == 1 and "output layer10-conv is not in the second net" in done.out
    assert run("verify", *other, *pair).code == 0  # all that the first net has


def test_nothing_in_common(pair: tuple[str, str]) -> None:
    net = read_net(*map(Path, pair))
    for name in net.blob_names():
        net.rename_blob(name, f"their-{name}")
    net.header.input[0] = "their-data"
    message = refuses(Path(), "verify", *pair, *save(net, "other"))
    assert "no blob name in common" in message and "other.prototxt" in message


def test_another_input_name(pair: tuple[str, str]) -> None:
    net = read_net(*map(Path, pair))
    net.rename_blob("data", "image")
    net.header.input[0] = "image"
    assert "data" in refuses(Path(), "verify", *pair, *save(net, "other"))


def test_another_input_shape(pair: tuple[str, str]) -> None:
    """What the nets declare is compared, unless the user feeds both with the same."""
    net = read_net(*map(Path, pair))
    net.header.input_shape[0].dim[3] = 48
    other = save(net, "wide")
    done = run("verify", *pair, *other)
    assert done.code == 1
    assert "input data is 1x3x16x24 in A and 1x3x16x48 in B" in done.out
    np.save("x.npy", np.random.default_rng(0).uniform(0, 1, (1, 3, 16, 24)))
    assert run("verify", *pair, *other, "--input", "x.npy").code == 0


def test_a_net_of_unknown_layers_is_not_proven(folder: Path) -> None:
    text = Path("small.prototxt").read_text().replace('type: "Softmax"', 'type: "Sparsemax"')
    Path("odd.prototxt").write_text(text)
    pair = ("odd.prototxt", "small.caffemodel")
    done = run("verify", *pair, *pair)
    assert done.code == 1 and done.out.startswith("NOT PROVEN: ")
    assert "prob cannot be run on this engine" in done.out
    assert "\n  --engine caffe also runs what your Caffe has layers for" in done.out
    before = listing(Path())
    assert run("merge-bn", *pair, "-o", "x").code == 1
    assert listing(Path()) == before
    done = run("merge-bn", *pair, "-o", "x", "--no-verify")
    assert done.code == 0 and Path("x.prototxt").read_text().count("Sparsemax") == 1


def test_a_net_that_gives_nothing_but_zeros_proves_nothing(folder: Path) -> None:
    _, caffemodel = write_caffe(folder)
    net = read_net(Path("small.prototxt"), caffemodel)
    fc = net.layer("fc")
    assert fc is not None
    fc.blobs = [np.zeros((5, 180), np.float32)]
    pair = save(net, "zeros")
    done = run("verify", *pair, *pair)
    assert done.code == 1 and "NOT PROVEN" in done.out
    assert "blob prob is constant, which proves nothing" in done.out


def test_stages_of_noise_are_tolerated_end_to_end_but_not_by_segment(pair: tuple[str, str]) -> None:
    """A change below the limit by segment passes, one just above it fails."""
    assert run("verify", *pair, *tampered(pair, factor=1 + 3e-6), "-q").code == 0
    assert run("verify", *pair, *tampered(pair, factor=1 + 3e-4), "-q").code == 1


@pytest.mark.caffe
def test_what_numpy_cannot_run_is_proven_in_caffe(folder: Path) -> None:
    shapes = {"cell": (1, 2, 3), "gates": (1, 2, 12), "cont": (1, 2)}
    inputs = [
        f"input: '{name}' input_shape {{ {' '.join(f'dim: {extent}' for extent in shape)} }}"
        for name, shape in shapes.items()
    ]
    wires = "bottom: 'cell' bottom: 'gates' bottom: 'cont' top: 'c' top: 'h'"
    unit = f"layer {{ name: 'unit' type: 'LSTMUnit' {wires} }}"
    Path("unit.prototxt").write_text("\n".join([*inputs, unit]))
    pair = save(read_net(Path("unit.prototxt")), "unit")
    done = run("verify", *pair, *pair)
    assert done.code == 1 and done.out.startswith("NOT PROVEN: ")
    done = run("verify", *pair, *pair, "--engine", "caffe")
    assert done.code == 0 and done.out.startswith("EQUAL: ") and "--engine caffe" not in done.out
