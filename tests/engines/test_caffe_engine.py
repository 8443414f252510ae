import ast
import re
import sys
import venv
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from caffe_case import Case, assert_close, caffemodel, convolve, layer, normal

from nnie_prep.caffe_io import read_net
from nnie_prep.caffe_weights import read_weights
from nnie_prep.engines import caffe_engine
from nnie_prep.engines.caffe_engine import caffe_info, caffe_message, find_caffe_python
from nnie_prep.errors import UserError


@pytest.fixture(scope="module")
def python():
    return find_caffe_python(None)


CONVOLUTION = "convolution_param { num_output: 6 group: 2 kernel_h: 3 kernel_w: 2 stride_h: 2 stride_w: 1 "
CONVOLUTION += "pad_h: 1 pad_w: 2 }"


@pytest.fixture
def convolution(tmp_path, python):
    """data -> Convolution c, then ReLU in place on c; two layers read c, so that Caffe inserts a Split."""
    rng = np.random.default_rng(7)
    weights = [normal(rng, 6, 2, 3, 2), normal(rng, 6)]
    layers = (
        layer("Convolution", "data", "c", CONVOLUTION)
        + layer("ReLU", "c", "c", "relu_param { negative_slope: 0.1 }")
        + layer("Power", "c", "tripled", "power_param { scale: 3 }")
        + layer("Power", "c", "shifted", "power_param { shift: 5 }")
    )
    case = Case(tmp_path, python, {"data": (1, 4, 7, 5)}, layers, {"c_Convolution": weights})
    case.weights = weights
    return case


def expected_c(case, x):
    raw = convolve(x, *case.weights, stride=(2, 1), pad=(1, 2), group=2)
    return np.where(raw > 0, raw, raw * 0.1)


@pytest.mark.caffe
def test_forward_equals_numpy(convolution):
    rng = np.random.default_rng(1)
    x = normal(rng, 2, 4, 9, 6)  # another shape than the prototxt's
    blobs = convolution.run({"data": x})
    # The Split's tops are no names of the user's, and c is what the layer in place left.
    assert set(blobs) == {"data", "c", "tripled", "shifted"}
    c = expected_c(convolution, x)
    assert_close(blobs["c"], c)
    assert_close(blobs["tripled"], 3 * c)
    assert_close(blobs["shifted"], c + 5)
    assert np.array_equal(blobs["data"], x)


@pytest.mark.caffe
def test_wanted_limits_the_result(convolution):
    x = normal(np.random.default_rng(2), 1, 4, 7, 5)
    blobs = convolution.run({"data": x}, wanted={"c"})
    assert set(blobs) == {"c"}
    assert_close(blobs["c"], expected_c(convolution, x))


@pytest.mark.caffe
def test_forced_values_are_read_and_own_values_are_reported(convolution):
    rng = np.random.default_rng(3)
    x = normal(rng, 1, 4, 7, 5)
    c = expected_c(convolution, x)
    taught = normal(rng, *c.shape)
    blobs = convolution.run({"data": x}, forced={"c": taught})
    assert_close(blobs["c"], c)
    assert_close(blobs["tripled"], 3 * taught.astype(np.float64))
    assert_close(blobs["shifted"], taught.astype(np.float64) + 5)


@pytest.mark.caffe
def test_inputs_may_come_from_the_forced_values(convolution):
    x = normal(np.random.default_rng(4), 2, 4, 8, 5)
    assert_close(convolution.run({}, forced={"data": x})["c"], expected_c(convolution, x))


@pytest.mark.caffe
def test_forcing_a_blob_leaves_the_one_that_shares_its_memory(tmp_path, python):
    layers = (
        layer("Power", "data", "a", "power_param { scale: 2 }")
        + layer("Flatten", "a", "flat")
        + layer("Power", "flat", "from_flat", "power_param { shift: 1 }")
        + layer("Power", "a", "from_a", "power_param { shift: 1 }")
    )
    case = Case(tmp_path, python, {"data": (2, 3, 4, 5)}, layers)
    rng = np.random.default_rng(5)
    x, taught = normal(rng, 2, 3, 4, 5), normal(rng, 2, 60)
    blobs = case.run({"data": x}, forced={"flat": taught})
    assert_close(blobs["from_flat"], taught.astype(np.float64) + 1)
    assert_close(blobs["from_a"], 2.0 * x + 1)
    assert_close(blobs["flat"], 2.0 * x.reshape(2, 60))


@pytest.mark.caffe
def test_an_input_overwritten_in_place(tmp_path, python):
    layers = layer("Power", "data", "data", "power_param { scale: -2 }") + layer("AbsVal", "data", "absolute")
    case = Case(tmp_path, python, {"data": (1, 2, 3, 4)}, layers)
    rng = np.random.default_rng(6)
    x, taught = normal(rng, 1, 2, 3, 4), normal(rng, 1, 2, 3, 4)
    blobs = case.run({"data": x}, forced={"data": taught})
    assert_close(blobs["data"], -2.0 * x)
    assert_close(blobs["absolute"], np.abs(taught).astype(np.float64))


@pytest.mark.caffe
def test_blob_names_are_free_text(tmp_path, python):
    layers = layer("Power", "data", "a:b/ä.npy", "power_param { scale: 2 }", "p")
    layers += layer("Power", "data", "file", "power_param { scale: 3 }", "q")
    case = Case(tmp_path, python, {"data": (1, 2, 3, 4)}, layers)
    x = normal(np.random.default_rng(8), 1, 2, 3, 4)
    blobs = case.run({"data": x})
    assert_close(blobs["a:b/ä.npy"], 2.0 * x)
    assert_close(blobs["file"], 3.0 * x)


# ---- what a user can get wrong ------------------------------------------------------------------


def one_line(error):
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.caffe
@pytest.mark.parametrize(
    ("feeds", "forced", "said"),
    [
        ({}, {}, "no value is given for input 'data'"),
        ({"data": (1, 4, 7, 5), "typo": (1,)}, {}, "'typo': not an input"),
        ({"data": (1, 4, 7, 5)}, {"cc": (1,)}, "no blob 'cc'"),
        ({"data": (1, 4, 7, 5)}, {"c": (1, 6, 4, 9)}, "has shape (1, 6, 4, 8) in Caffe"),
        ({"data": (1, 3, 7, 5)}, {}, "Caffe stopped: Check failed"),
    ],
)
def test_values_that_do_not_fit(convolution, feeds, forced, said):
    feeds = {name: np.ones(shape, np.float32) for name, shape in feeds.items()}
    forced = {name: np.ones(shape, np.float32) for name, shape in forced.items()}
    with pytest.raises(UserError) as error:
        convolution.run(feeds, forced=forced)
    text = one_line(error)
    assert text.startswith(f"{convolution.prototxt}: ")
    assert said in text


@pytest.mark.caffe
@pytest.mark.parametrize(
    ("layers", "said"),
    [
        (layer("Convolutoin", "data", "c"), "Unknown layer type: Convolutoin"),
        (layer("ReLU", "date", "c"), "Unknown bottom blob 'date'"),
        (layer("ReLU", "data", "c", "relu_parm { }"), 'has no field named "relu_parm"'),
        (layer("Upsample", "data", "u"), "upsample_param needs either scale"),
        (layer("Upsample", "data", "u", "upsample_param { scale_h: 2 }"), "both of scale_h and scale_w"),
        (layer("Upsample", "data", "u", "upsample_param { scale: 2 pad_out_h: true }"), "and nothing else"),
        (layer("DepthwiseConv", "data", "d", CONVOLUTION), "takes no group"),
        (layer("DepthwiseConv", "data", "d", CONVOLUTION.replace("group: 2", "")), "multiple of the 4"),
        (
            layer(
                "PassThrough",
                "data",
                "p",
                "pass_through_param { num_output: 4 block_height: 2 block_width: 1 }",
            ),
            "block_height must divide",
        ),
        (
            layer(
                "PassThrough",
                "data",
                "p",
                "pass_through_param { num_output: 4 block_height: 1 block_width: 5 }",
            ),
            "num_output must be",
        ),
        (layer("Permute", "data", "p", "permute_param { order: 1 order: 1 }"), "axis 1 stands twice"),
        (layer("Permute", "data", "p", "permute_param { order: 4 }"), "has no axis 4"),
    ],
)
def test_caffe_stops(tmp_path, python, layers, said):
    case = Case(tmp_path, python, {"data": (1, 4, 7, 5)}, layers)
    with pytest.raises(UserError) as error:
        case.run({"data": np.ones((1, 4, 7, 5), np.float32)})
    text = one_line(error)
    assert text.startswith(f"{case.prototxt}: Caffe stopped: ")
    assert said in text


PYTHON_LAYER = """
import caffe
class Boxes(caffe.Layer):
    def setup(self, bottom, top): SETUP
    def reshape(self, bottom, top): top[0].reshape(*bottom[0].shape)
    def forward(self, bottom, top): FORWARD
"""


@pytest.mark.caffe
@pytest.mark.parametrize(
    ("module", "setup", "forward", "said"),
    [
        ("absent_module", "pass", "pass", "ModuleNotFoundError: No module named 'absent_module'"),
        ("boxes", "raise ValueError('no feat_stride')", "pass", "ValueError: no feat_stride"),
        ("boxes", "open('absent.yml')", "pass", "FileNotFoundError: [Errno 2] No such file"),
        ("boxes", "pass", "raise KeyError('TEST')", "KeyError: 'TEST'"),
        ("boxes", "pass", "top[0].data[...] = 2 * bottom[0].data", ""),
    ],
)
def test_python_layers(tmp_path, python, monkeypatch, module, setup, forward, said):
    """What the user's own module raises is no fault of ours: one line, which says what to do."""
    (tmp_path / "boxes.py").write_text(PYTHON_LAYER.replace("SETUP", setup).replace("FORWARD", forward))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    parameters = f"python_param {{ module: '{module}' layer: 'Boxes' }}"
    case = Case(tmp_path, python, {"data": (1, 2, 3, 4)}, layer("Python", "data", "rois", parameters))
    x = normal(np.random.default_rng(0), 1, 2, 3, 4)
    if not said:
        np.testing.assert_array_equal(case.run({"data": x})["rois"], 2 * x)
        return
    with pytest.raises(UserError) as error:
        case.run({"data": x})
    text = one_line(error)
    assert f"a Python layer of the net does not run: {said}" in text
    assert text.endswith("; put its module's folder into PYTHONPATH, or leave --engine caffe out")


@pytest.mark.caffe
def test_weights_of_another_shape(convolution):
    prototxt = convolution.prototxt.read_text()
    wrong = {"c_Convolution": [np.ones((6, 2, 3, 3)), np.ones(6)]}
    convolution.caffemodel.write_bytes(caffemodel(prototxt, wrong))
    with pytest.raises(UserError, match="shape mismatch.  ?Source param shape is 6 2 3 3"):
        convolution.run({"data": np.ones((1, 4, 7, 5), np.float32)})


@pytest.mark.caffe
def test_a_missing_file(convolution):
    convolution.caffemodel.unlink()
    with pytest.raises(UserError) as error:
        convolution.run({"data": np.ones((1, 4, 7, 5), np.float32)})
    assert one_line(error) == f"{convolution.caffemodel}: cannot be read: No such file or directory"


def test_a_python_that_is_not_there(tmp_path):
    with pytest.raises(UserError) as error:
        find_caffe_python(str(tmp_path / "python"))
    assert one_line(error).startswith(f"--caffe-python: {tmp_path}/python cannot be run")


def test_a_python_without_caffe(tmp_path, monkeypatch):
    venv.create(tmp_path / "bare", symlinks=True)
    bare = str(tmp_path / "bare/bin/python")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setenv("NNIE_PREP_CAFFE_PYTHON", bare)
    with pytest.raises(UserError) as error:
        find_caffe_python(None)
    text = one_line(error)
    assert text.startswith(f"NNIE_PREP_CAFFE_PYTHON: {bare} cannot import caffe (ModuleNotFoundError: ")
    assert "make caffe" in text


@pytest.mark.caffe
def test_info_names_the_layers_of_our_own(python, monkeypatch):
    monkeypatch.setenv("NNIE_PREP_CAFFE_PYTHON", "/nowhere")
    assert find_caffe_python(python) == python  # the option goes before the environment
    info = caffe_info(python)
    assert info.version == "1.0.0"
    assert (Path(info.path) / "__init__.py").exists()
    files = Path(__file__).parents[2].glob("docker/caffe/layers/*_layer.cpp")
    ours = {re.search(r"REGISTER_LAYER_CLASS\((\w+)\)", file.read_text()).group(1) for file in files}
    assert {"Upsample", "DetectionOutput"} <= ours
    assert ours <= set(info.layer_types)


def test_message_of_older_glog():
    said = (
        "WARNING: Logging before InitGoogleLogging() is written to STDERR\n"
        "F1121 09:02:07.4658 26015 insert_splits.cpp:29] Unknown bottom blob 'x' (layer 'y',\n"
        "bottom index 0)\n*** Check failure stack trace: ***\n    @  0x7f google::LogMessage::Fail()\n"
    )
    assert caffe_message(said) == "Unknown bottom blob 'x' (layer 'y', bottom index 0)"
    assert caffe_message("Traceback (most recent call last):\n  Fine\n") == ""


def test_worker_keeps_to_what_python_2_has():
    tree = ast.parse(caffe_engine.WORKER.read_text(encoding="utf-8"))
    newer = (ast.JoinedStr, ast.AnnAssign, ast.NamedExpr, ast.Nonlocal, ast.YieldFrom, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        assert not isinstance(node, newer), ast.dump(node)
        if isinstance(node, ast.FunctionDef):
            arguments = node.args
            assert not (arguments.kwonlyargs or arguments.posonlyargs or node.returns)
            assert not any(argument.annotation for argument in arguments.args)
        if isinstance(node, ast.Raise):
            assert node.cause is None
        if isinstance(node, ast.Call):
            assert sum(isinstance(argument, ast.Starred) for argument in node.args) <= 1
        if isinstance(node, ast.Assign):
            assert not any(isinstance(target, ast.Starred) for target in ast.walk(node.targets[0]))


# ---- a Caffe that misbehaves ---------------------------------------------------------------------

FAKE = """
import os, signal, sys
import numpy as np

class Blob:
    def __init__(self):
        self.data = np.zeros((2, 3), np.float32)

class Layer:
    blobs = [Blob()]

class Net:
    inputs, _layer_names, layers = [], ["ip"], [Layer()]

    def __init__(self, prototxt, phase):
        pass

    def copy_from(self, caffemodel):
        BODY

TEST = 1
def set_mode_cpu(): pass
def layer_type_list(): return []
"""
FATAL = "F1121 09:02:07.4 2 net.cpp:839] CopyTrainedLayersFromHDF5 requires hdf5; compile with USE_HDF5."


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Puts a package `caffe` before the real one, whose Net.copy_from does what is asked."""

    def install(body):
        (tmp_path / "fake" / "caffe").mkdir(parents=True)
        (tmp_path / "fake/caffe/__init__.py").write_text(FAKE.replace("BODY", body))
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fake"))
        prototxt, caffemodel = tmp_path / "net.prototxt", tmp_path / "net.caffemodel.h5"
        prototxt.write_text(
            'input: "x" input_shape { dim: 1 dim: 3 } layer { name: "ip" type: "InnerProduct" bottom: "x" '
            'top: "ip" inner_product_param { num_output: 2 bias_term: false } }'
        )
        caffemodel.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
        return prototxt, caffemodel

    return install


KILL = "os.kill(os.getpid(), signal.{})"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (KILL.format("SIGKILL"), "was killed, for want of memory perhaps"),
        (KILL.format("SIGSEGV"), "was ended by SIGSEGV while Caffe ran"),
        (
            "print('what(): std::bad_alloc', file=sys.stderr, flush=True); os.abort()",
            "was ended by SIGABRT while Caffe ran (what(): std::bad_alloc)",
        ),
        (
            f"print({FATAL!r}, file=sys.stderr, flush=True); os.abort()",
            "Caffe stopped: CopyTrainedLayersFromHDF5 requires hdf5; compile with USE_HDF5; if that Caffe",
        ),
        (
            "pass",
            "found no weights in this HDF5 file; if that Caffe was built without HDF5, run `make caffe`",
        ),
        ("raise IOError(28, 'No space left on device')", "No space left on device; set TMPDIR to a folder"),
        ("raise TypeError('a fault of ours')", "ended with 1"),
    ],
)
def test_a_caffe_that_ends(fake, body, said):
    """Each is one line for the user, but for what is a fault of the worker's own."""
    prototxt, caffemodel = fake(body)
    with pytest.raises((UserError, RuntimeError)) as error:
        read_net(prototxt, caffemodel, read_weights=partial(read_weights, sys.executable))
    assert said in str(error.value)
    assert isinstance(error.value, UserError) == ("of ours" not in body)
    if isinstance(error.value, UserError):
        one_line(error)


def test_a_caffe_that_talks(fake):
    """Whatever it prints, to either stream and as much as it likes, is none of the result."""
    talk = "print('result.json' * 99999); print('I' * 999999, file=sys.stderr); "
    prototxt, caffemodel = fake(talk + "self.layers[0].blobs[0].data[...] = 7")
    net = read_net(prototxt, caffemodel, read_weights=partial(read_weights, sys.executable))
    assert np.array_equal(net.layers[0].blobs[0], np.full((2, 3), 7, np.float32))


@pytest.mark.caffe
def test_two_nets_at_once(tmp_path, python):
    """Each in a process and a folder of its own."""
    x = normal(np.random.default_rng(9), 1, 2, 3, 4)
    cases = []
    for scale in range(1, 4):
        (tmp_path / str(scale)).mkdir()
        layers = layer("Power", "data", "y", f"power_param {{ scale: {scale} }}")
        cases.append(Case(tmp_path / str(scale), python, {"data": x.shape}, layers))
    with ThreadPoolExecutor(len(cases)) as pool:
        results = list(pool.map(lambda case: case.run({"data": x})["y"], cases))
    for scale, y in enumerate(results, 1):
        assert_close(y, scale * x.astype(np.float64))


def test_a_program_that_is_no_python(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no Python"):
        caffe_engine.caffe_info("/bin/true")
