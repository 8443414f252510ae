"""Every rule: a prototxt that breaks it, one that just does not, and the repair that it recommends.

tests/data/check/RULE/breaks.prototxt ends with what the rule must find there, and nothing else:

    # finds [line, severity, layer, limit, value]

passes.prototxt lies on the right side of the limit, as near to it as it can be.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checked import DATA, findings
from cli_cases import run
from golden import filled

from nnie_prep.caffe_io import format_prototxt, read_net, write_caffemodel
from nnie_prep.nnie import CHIPS, RULES, Rule, check
from nnie_prep.passes.lowering import REPLACES
from nnie_prep.passes.pipelines import NNIE_PASSES
from nnie_prep.quantization.code import round_to_code
from nnie_prep.shapes import TOP_SHAPES, blob_shapes, walk_shapes

CASED = [rule for rule in RULES if rule.name != "nnie_version"]  # which depends on the chip alone


@pytest.mark.parametrize("rule", CASED, ids=lambda rule: rule.name)
def test_what_breaks_it(rule: Rule) -> None:
    path = DATA / rule.name / "breaks.prototxt"
    expected = [json.loads(line) for line in re.findall(r"^# finds (.*)$", path.read_text(), re.M)]
    found = findings(path, rule.name)
    assert [[one.line, one.severity, one.layer, one.limit, one.value] for one in found] == expected
    assert expected
    for one in found:
        assert one.where == (f"breaks.prototxt:{one.line}" if one.line else "breaks.prototxt")
        assert one.message and not one.message.endswith(".")


@pytest.mark.parametrize("rule", CASED, ids=lambda rule: rule.name)
def test_what_just_does_not(rule: Rule) -> None:
    assert findings(DATA / rule.name / "passes.prototxt", rule.name) == []


def test_every_case_has_its_rule() -> None:
    assert {path.name for path in DATA.iterdir()} == {rule.name for rule in CASED}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_the_documentation_of_a_rule(rule: Rule) -> None:
    """What in a line, why it is bad, what to do instead; and who says so."""
    what, why, instead = rule.text.split("\n\n")
    assert "\n" not in what and what.endswith(".")
    assert why.endswith(".") and instead.startswith("Instead: ") and instead.endswith(".")
    assert rule.source


def test_a_batch_of_vectors(tmp_path: Path) -> None:
    """Where no input is a picture, the batch of what there is counts; unless it is time to some layer."""
    path = tmp_path / "net.prototxt"
    inner = 'type: "InnerProduct" inner_product_param { num_output: 2 }'
    lstm = 'layer { name: "lstm" type: "LSTM" bottom: "data" top: "h" recurrent_param { num_output: 2 } }'
    for batch, more, lines in ((4, "", [2]), (1, "", []), (4, lstm, [])):
        path.write_text(
            f"""input: "data"
            input_shape {{ dim: {batch} dim: 8 }}
            layer {{ name: "fc" bottom: "data" top: "fc" {inner} }} {more}"""
        )
        assert [(one.line, one.value) for one in findings(path, "input_batch")] == [
            (line, 4) for line in lines
        ]


@pytest.mark.parametrize("seed", range(40))
def test_lost_filters_are_those_of_which_no_weight_is_left(tmp_path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    path, caffemodel = tmp_path / "net.prototxt", tmp_path / "net.caffemodel"
    path.write_text(
        """input: "data" input_shape { dim: 1 dim: 1 dim: 3 dim: 3 }
        layer { name: "c" type: "Convolution" bottom: "data" top: "c"
                convolution_param { num_output: 30 kernel_size: 2 bias_term: false } }"""
    )
    net = read_net(path)
    weights = random.normal(size=(30, 1, 2, 2)) * 10.0 ** random.uniform(-4, 0, (30, 1, 1, 1))
    weights[random.random(weights.shape) < 0.5] = 0
    net.layers[0].blobs = [weights.astype(np.float32)]
    with caffemodel.open("wb") as file:
        write_caffemodel(net, file)
    kept = round_to_code(weights, np.abs(weights).max())
    lost = [row for row in range(30) if weights[row].any() and not kept[row].any()]
    found = [one for one in check(read_net(path, caffemodel)) if one.rule == "lost_filters"]
    assert [one.value for one in found] == ([len(lost)] if lost else [])


@pytest.mark.parametrize(
    ("rule", "text", "expected"),
    [
        ("segment_outputs", 'type: "ReLU" bottom: "data" top: "a"', "swallow"),
        ("segment_inputs", 'type: "DummyData" top: "a" dummy_data_param { shape { dim: 1 } }', "swallow"),
    ],
)
def test_a_segment_without_any(tmp_path: Path, rule: str, text: str, expected: str) -> None:
    """What a net for training may have. There is no blob whose layer could be named: the last one is."""
    path = tmp_path / "net.prototxt"
    path.write_text(
        f"""input: "data"
        input_shape {{ dim: 1 dim: 3 dim: 16 dim: 16 }}
        layer {{ name: "a" {text} }}
        layer {{ name: "swallow" type: "Silence" bottom: "a" }}"""
    )
    (found,) = findings(path, rule)
    assert (found.layer, found.line, found.value, found.limit) == (expected, 4, 0, "1..16")


INPUT = 'input: "data"\ninput_shape { dim: 1 dim: 3 dim: 16 dim: 16 }\n'
CONV = 'type: "Convolution" convolution_param { num_output: 8 kernel_size: 1 }'
POOLED_SUM = f"""{INPUT}
layer {{ name: "a" bottom: "data" top: "a" {CONV} }}
layer {{ name: "b" bottom: "data" top: "b" {CONV} }}
layer {{ name: "above 0" type: "ReLU" bottom: "a" top: "a" }}
layer {{ name: "other" type: "KIND" bottom: "b" top: "b" }}
layer {{ name: "sum" type: "Eltwise" bottom: "a" bottom: "b" top: "sum" HOW }}
layer {{ name: "pool" type: "Pooling" bottom: "sum" top: "pool" pooling_param {{ kernel_size: 3 pad: 1 }} }}
"""
TWO_INPUTS = """
layer { name: "one" type: "Input" top: "a" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
layer { name: "two" type: "Input" top: "b" input_param { shape { dim: 1 dim: 3 } } }
"""

REDUCED = INPUT + 'layer { name: "whole" type: "Reduction" bottom: "data" top: "whole" }'


def pooled_sum(other: str, how: str = "") -> str:
    return POOLED_SUM.replace("KIND", other).replace("HOW", f"eltwise_param {{ {how} }}")


@pytest.mark.parametrize(
    ("rule", "text", "expected"),
    [
        ("pooling_padding", pooled_sum("ReLU"), []),
        ("pooling_padding", pooled_sum("TanH"), ["pool"]),
        ("pooling_padding", pooled_sum("TanH", "operation: MAX"), []),
        ("pooling_padding", pooled_sum("ReLU", "coeff: 1 coeff: -1"), ["pool"]),
        ("input_form", TWO_INPUTS, ["two"]),
        ("batch_axis", REDUCED, ["whole"]),
    ],
)
def test_which_layer_it_is(tmp_path: Path, rule: str, text: str, expected: list[str]) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    assert [one.layer for one in findings(path, rule)] == expected


@pytest.mark.parametrize("chip", CHIPS)
def test_nnie_version(chip: str) -> None:
    (found,) = findings(DATA / "input_size" / "passes.prototxt", "nnie_version", chip=chip)
    version = "1.1" if chip == "hi3559av100" else "1.2"
    assert (found.severity, found.limit, found.value) == ("info", version, [version])
    assert f"nnie_mapper_{version.replace('.', '')}" in found.repair


@pytest.mark.parametrize(
    "parameters",
    [
        'type: "Convolution" convolution_param { kernel_size: 3 group: 2 }',
        'type: "DepthwiseConv" convolution_param { num_output: 4 group: 2 kernel_size: 3 }',
        'type: "Deconvolution" convolution_param { num_output: 4 }',
        'type: "Pooling" pooling_param { pool: AVE round_mode: FLOOR }',
        'type: "Pooling" pooling_param { kernel_size: 2 pad: 2 }',
        'type: "Permute" permute_param { order: 0 order: 0 }',
        'type: "Eltwise" bottom: "b" eltwise_param { operation: PROD coeff: 1 }',
        'type: "Upsample" upsample_param { scale: 0 }',
        'type: "PassThrough" pass_through_param { num_output: 4 }',
        'type: "Reshape" reshape_param { }',
        'type: "SPP" spp_param { }',
        'type: "InnerProduct" inner_product_param { }',
        'type: "LRN" lrn_param { local_size: 2 }',
    ],
)
@pytest.mark.parametrize("source", ["Sigmoid", "Mystery"])
def test_what_caffe_refuses_stops_no_rule(tmp_path: Path, source: str, parameters: str) -> None:
    """Behind a layer of unknown type nobody knows shapes, and parameters may be nonsense all the same."""
    path = tmp_path / "net.prototxt"
    path.write_text(
        f'''input: "data"
        input_shape {{ dim: 1 dim: 4 dim: 9 dim: 9 }}
        layer {{ name: "b" type: "{source}" bottom: "data" top: "b" }}
        layer {{ name: "c" bottom: "b" top: "c" {parameters} }}
        layer {{ name: "p" type: "Pooling" bottom: "c" top: "p" pooling_param {{ kernel_size: 3 pad: 1 }} }}
        layer {{ name: "e" type: "Eltwise" bottom: "c" bottom: "b" top: "e" }}'''
    )
    found = findings(path, "caffe_refuses", "unknown_types", "upsample_form", "pass_through_form")
    if source == "Mystery":
        assert (found[0].rule, found[0].layer) == ("unknown_types", "b")
    else:
        assert found[0].layer == "c"


@pytest.mark.parametrize("wires", ['top: "r"', 'bottom: "data"', 'bottom: "data" top: "r" top: "q"', ""])
def test_layers_that_lack_wires_stop_no_rule(tmp_path: Path, wires: str) -> None:
    path = tmp_path / "net.prototxt"
    path.with_suffix(".json").write_text('{"heads": [{"type": "yolo", "blob": "r", "stride": 8}]}')
    behind = (
        'layer { name: "e" type: "Eltwise" bottom: "r" bottom: "data" top: "e" }'
        'layer { name: "p" type: "Pooling" bottom: "r" top: "p" pooling_param { kernel_size: 3 pad: 1 } }'
    ) * ('"r"' in wires)
    for type_ in TOP_SHAPES:
        layer = f'layer {{ name: "one" type: "{type_}" {wires} }}'
        path.write_text(f'input: "data" input_shape {{ dim: 1 dim: 4 dim: 9 dim: 9 }}{layer}{behind}')
        assert findings(path)


# ---- repairs -------------------------------------------------------------------------------------

REPAIRED = [
    path.name
    for path in sorted(DATA.iterdir())
    if any(one.repair.startswith("nnie-prep ") for one in findings(path / "breaks.prototxt", path.name))
]


@pytest.mark.parametrize("name", REPAIRED)
def test_the_repair_repairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Each command that the rule's findings give is run, and what it was to repair is gone.

    Layers that no command repairs are not in the net.
    """
    monkeypatch.chdir(tmp_path)
    prototxt, breaks = Path("net.prototxt"), DATA / name / "breaks.prototxt"
    by_hand = {one.line for one in findings(breaks, name) if not one.repair.startswith("nnie-prep ")}
    lines = enumerate(breaks.read_text().splitlines(), 1)
    prototxt.write_text("\n".join(line for number, line in lines if number not in by_hand))
    _write_weights(prototxt, Path("net.caffemodel"))
    prototxt.write_text(re.sub(r" blobs \{ shape \{.*?\}.*?\}", "", prototxt.read_text()))
    files = [prototxt, Path("net.caffemodel")]
    before = _checked(files, name)
    commands = {one["repair"] for one in before if one["repair"].startswith("nnie-prep ")}
    assert commands
    for number, command in enumerate(sorted(commands)):
        done = run(*shlex.split(command)[1:], "-o", f"fixed{number}", "-q")
        assert done.code == 0, (command, done)
        fixed = [Path(f"fixed{number}.{suffix}") for suffix in ("prototxt", "caffemodel")]
        left = {(one["layer"], one["message"]) for one in _checked(fixed, name)}
        repaired = [one for one in before if one["repair"] == command]
        assert left.isdisjoint((one["layer"], one["message"]) for one in repaired)


def _checked(files: list[Path], rule: str) -> list[dict[str, Any]]:
    document = json.loads(run("check", *files, "--chip", "hi3516dv300", "--json").out)
    return [one for one in document["findings"] if one["rule"] == rule]


def _write_weights(prototxt: Path, caffemodel: Path) -> None:
    """The weights that the prototxt spells out, and random ones for all other layers."""
    net = read_net(prototxt)
    random = np.random.default_rng(len(format_prototxt(net)))
    for layer, bottoms, _ in walk_shapes(net, refused={}):
        if not layer.blobs and bottoms:
            shapes = blob_shapes(layer, bottoms)
            layer.blobs = [filled(layer, place, shape, random) for place, shape in enumerate(shapes)]
    with caffemodel.open("wb") as file:
        write_caffemodel(net, file)


@pytest.mark.parametrize("rule", CASED, ids=lambda rule: rule.name)
def test_a_repair_is_a_command_or_a_word_of_advice(rule: Rule) -> None:
    commands = re.findall(r"^    ([a-z][\w-]+)", run("--help").out, re.M)
    for found in findings(DATA / rule.name / "breaks.prototxt", rule.name):
        if found.repair.startswith("nnie-prep"):
            assert shlex.split(found.repair)[1] in commands
        else:
            assert not found.repair.endswith(".")


def test_a_cut_keeps_the_other_outputs_and_spares_weights(tmp_path: Path) -> None:
    """A tail is cut off, and only a tail: nothing with weights, and no other output of the net."""
    conv = 'type: "Convolution" convolution_param { num_output: 8 kernel_size: 1 }'
    turn = 'type: "Permute" permute_param { order: 0 order: 3 order: 1 order: 2 }'
    text = f"""input: "data"
    input_shape {{ dim: 1 dim: 3 dim: 16 dim: 16 }}
    layer {{ name: "a" bottom: "data" top: "a" {conv} }}
    layer {{ name: "b" bottom: "data" top: "b" {conv} }}
    layer {{ name: "t" bottom: "a" top: "t" {turn} }}
    layer {{ name: "s" type: "Softmax" bottom: "t" top: "s" }}
    """
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    (tail,) = findings(path, "permute_order")
    assert shlex.split(tail.repair)[-4:] == ["--until", "a", "--until", "b"]
    path.write_text(text + f'layer {{ name: "c" bottom: "s" top: "c" {conv} }}')
    (inside,) = findings(path, "permute_order")
    assert inside.repair == ""


@pytest.mark.parametrize("kind", [kind for kind, one in REPLACES.items() if one in NNIE_PASSES])
def test_what_prepare_replaces_is_not_left_to_the_user(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(
        'input: "data"\ninput_shape { dim: 1 dim: 4 dim: 9 dim: 9 }\n'
        f'layer {{ name: "other" type: "{kind}" bottom: "data" top: "other" }}\n'
    )
    (found,) = findings(path, "unknown_types")
    assert found.repair.startswith("nnie-prep prepare ") and "`prepare`" in found.message


@pytest.mark.parametrize("kind", ["ConvolutionDepthwise", "DepthwiseConvolution"])
def test_a_depthwise_convolution_is_given_the_chips_name(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(
        'input: "data"\ninput_shape { dim: 1 dim: 3 dim: 9 dim: 9 }\n'
        f'layer {{ name: "a" type: "{kind}" bottom: "data" top: "a"'
        "  convolution_param { num_output: 3 kernel_size: 3 } }\n"
    )
    (found,) = findings(path, "unknown_types")
    command = shlex.split(found.repair)
    assert command[:2] + command[-2:] == ["nnie-prep", "edit", "--set", "layer[name=a].type=DepthwiseConv"]


@pytest.mark.parametrize("kind", ["AnnotatedData", "MyOwnLoss", "DetectionEvaluate", "Yolov3DetectionOutput"])
def test_what_another_rule_tells_of_is_told_once(tmp_path: Path, kind: str) -> None:
    """Neither is a type of the chip, and each has a rule that says what it is and how it goes."""
    path = tmp_path / "net.prototxt"
    bottom = "" if kind == "AnnotatedData" else 'bottom: "data"'
    path.write_text(
        'input: "data"\ninput_shape { dim: 1 dim: 3 dim: 9 dim: 9 }\n'
        f'layer {{ name: "other" type: "{kind}" {bottom} top: "other" }}\n'
    )
    found = findings(path, "unknown_types", "unnamed_types", "training_layers", "box_layers", "input_form")
    assert len(found) == 1 and found[0].rule != "unknown_types"
