"""Runs nets in real Caffe, and has it read and write weights, through caffe_worker.py in a child process.

Caffe ends its process where it does not like a net, and it may be installed under another Python
than ours, 2.7 included: hence the child. Caffe's own message becomes a UserError.

Numbers: results repeat on one machine with one setting of threads. OpenBLAS picks its kernels by
processor and number of threads, so the last bits may differ elsewhere; OPENBLAS_NUM_THREADS and
OPENBLAS_CORETYPE in the environment reach the child as they are, for those who need them the same.
Nothing is set here, as one thread for everybody would make big nets take twice as long.
"""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnie_prep.caffe_io import format_prototxt, write_caffemodel
from nnie_prep.caffe_io.caffemodel import StoredBlob, StoredLayer, stored_floats
from nnie_prep.errors import UserError
from nnie_prep.net import Net

Array = NDArray[np.float32]

ENVIRONMENT_VARIABLE = "NNIE_PREP_CAFFE_PYTHON"
INSTALL = f"run `make caffe`, or name a Python that has Caffe with --caffe-python or {ENVIRONMENT_VARIABLE}"
WORKER = Path(__file__).with_name("caffe_worker.py")
_NO_ROOM = 3  # as in the worker
_ROOM = "set TMPDIR to a folder with room"
_PYTHON_LAYER = "put its module's folder into PYTHONPATH, or leave --engine caffe out"
_TRY_IMPORT = "see whether that Caffe runs the net without nnie_prep"


@dataclass(frozen=True)
class CaffeInfo:
    """What a Caffe build says of itself. `path` is the folder of its Python package."""

    version: str
    path: str
    layer_types: tuple[str, ...]


def find_caffe_python(option: str | None) -> str:
    """The Python to run Caffe in: the option, else $NNIE_PREP_CAFFE_PYTHON, else our own.

    Raises UserError if that Python cannot import caffe, which is tried.
    """
    variable = os.environ.get(ENVIRONMENT_VARIABLE)
    if option:
        python, where = option, "--caffe-python"
    elif variable:
        python, where = variable, ENVIRONMENT_VARIABLE
    else:
        python, where = sys.executable, ""
    try:
        caffe_info(python)
    except UserError as error:
        raise UserError(error.message, where, error.hint) from error
    return python


def caffe_info(python: str) -> CaffeInfo:
    """Which Caffe the Python imports; UserError if none."""
    with temporary_folder() as folder:
        result = _run_worker(python, {"command": "info"}, folder, where="")
    return CaffeInfo(result["version"], result["path"], tuple(result["layer_types"]))


def forward(
    python: str,
    prototxt: Path,
    caffemodel: Path | None,
    feeds: Mapping[str, Array],
    wanted: set[str] | None,
    forced: Mapping[str, Array] | None = None,
) -> dict[str, Array]:
    """Runs the net's TEST phase once and returns blobs by name, each as its last writer left it.

    Args:
        python: a Python that has `import caffe`.
        prototxt: the net. Its inputs take the shapes of `feeds`.
        caffemodel: the weights; None leaves the values of the net's fillers.
        feeds: a value for each input; an input that is missing here may be in `forced`.
        wanted: names of blobs; None for all that the prototxt names.
        forced: values that replace the blobs' own once these are computed and recorded, so that
            each layer behind them computes from the given values.

    Raises:
        UserError: Caffe refuses the net or the weights (its own message), a value's shape does not
            fit, a name is not in the net.
    """
    for path in (prototxt, caffemodel):
        if path is not None:
            _check_readable(path)
    with temporary_folder() as folder:
        request = {
            "command": "forward",
            "prototxt": str(prototxt),
            "caffemodel": str(caffemodel) if caffemodel is not None else None,
            "feeds": _save_arrays(feeds, folder, "feed"),
            "forced": _save_arrays(forced or {}, folder, "forced"),
            "wanted": sorted(wanted) if wanted is not None else None,
        }
        result = _run_worker(python, request, folder, str(prototxt))
        return {blob: np.load(folder / file) for blob, file in result["blobs"].items()}


def read_weights(
    python: str, prototxt: Path, caffemodel: Path, where: str, hint: str = ""
) -> list[StoredLayer]:
    """The layers that Caffe's Net.copy_from gives weights, in the net's order.

    Whatever Caffe can load: HDF5 too, and its own older formats. A layer that the file does not have
    is not in the list. The floats lie in one temporary file, which has no name any more and goes
    with the last blob; each blob is read from there when it is asked for.

    Args:
        python: a Python that has `import caffe`.
        prototxt: the net, with all layers whose weights are wanted.
        caffemodel: what to load.
        where: what messages name.
        hint: what may help where Caffe stops.

    Raises UserError where Caffe stops: it does not know a layer, or the weights have other shapes.
    """
    request = {"command": "weights", "prototxt": str(prototxt), "caffemodel": str(caffemodel)}
    with temporary_folder() as folder:
        result = _run_worker(python, request, folder, where, hint)
        file = Path(folder, result["weights"]).open("rb")  # noqa: SIM115 - the blobs read it as they need it
    layers: list[StoredLayer] = []
    begin = 0
    for layer_name, shapes in result["layers"]:
        layers.append(StoredLayer(layer_name))
        for shape in map(tuple, shapes):
            size = math.prod(shape)
            legacy = len(shape) == 4  # Caffe before 2015 gives every blob four extents
            layers[-1].blobs.append(StoredBlob(stored_floats(file, begin, size), shape, legacy))
            begin += 4 * size
    return layers


def save_weights(python: str, prototxt: Path, caffemodel: Path, folder: Path, where: str) -> Path:
    """Has Caffe load the pair and write it with Net.save, to the file in the folder that is returned.

    Raises UserError where Caffe stops.
    """
    request = {"command": "save", "prototxt": str(prototxt), "caffemodel": str(caffemodel)}
    return folder / str(_run_worker(python, request, folder, where)["caffemodel"])


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder for the time being. What cannot be written to it is a UserError."""
    try:
        with tempfile.TemporaryDirectory(prefix="nnie_prep-") as name:
            yield Path(name)
    except OSError as error:
        where = error.filename or tempfile.gettempdir()
        raise UserError(f"cannot be written: {error.strerror}", str(where), _ROOM) from None


def write_pair(net: Net, folder: Path) -> tuple[Path, Path]:
    """The net's prototxt and caffemodel, written into the folder."""
    prototxt, caffemodel = folder / "net.prototxt", folder / "net.caffemodel"
    prototxt.write_text(format_prototxt(net), encoding="utf-8")
    with caffemodel.open("wb") as file:
        write_caffemodel(net, file)
    return prototxt, caffemodel


def _check_readable(path: Path) -> None:
    """Raises UserError for a file that Caffe could not open."""
    try:
        path.open("rb").close()
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", str(path)) from error


def _save_arrays(arrays: Mapping[str, Array], folder: Path, prefix: str) -> dict[str, str]:
    """Saves the arrays and returns {name: file}; blob names are free text and so no file names."""
    files = {}
    for number, (name, array) in enumerate(arrays.items()):
        files[name] = str(folder / f"{prefix}{number}.npy")
        np.save(files[name], array)
    return files


def _run_worker(
    python: str, request: dict[str, Any], folder: Path, where: str, hint: str = ""
) -> dict[str, Any]:
    """Runs the worker on the request, with its files in the folder, and returns its result."""
    request_file = folder / "request.json"
    request_file.write_text(json.dumps(request), encoding="utf-8")
    command = [python, str(WORKER), str(request_file), str(folder)]
    try:
        child = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
        )
    except OSError as error:
        raise UserError(f"{python} cannot be run: {error.strerror}", where, INSTALL) from error
    if child.returncode:
        raise _why_ended(python, child, where, hint)
    answer = folder / "result.json"
    if not answer.exists():
        raise UserError(f"{python} is no Python: it ran nothing", where, INSTALL)
    result: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    if "missing" in result:
        said = " ".join(result["missing"].split())
        raise UserError(f"{python} cannot import caffe ({said})", where, INSTALL)
    if "error" in result:
        raise UserError(result["error"], where)
    if "python_layer" in result:
        printed = re.search(r"^\w+: .+$", child.stderr, re.MULTILINE)
        said = printed.group() if printed else " ".join(result["python_layer"].split())
        raise UserError(f"a Python layer of the net does not run: {said}", where, _PYTHON_LAYER)
    return result


def _why_ended(
    python: str, child: subprocess.CompletedProcess[str], where: str, hint: str
) -> UserError | RuntimeError:
    """What a worker that did not end by itself is to be reported as."""
    lines = child.stderr.strip().splitlines()
    if said := caffe_message(child.stderr):
        return UserError(f"Caffe stopped: {said}", where, hint or f"this is the Caffe of {python}")
    if child.returncode == _NO_ROOM:
        return UserError(f"cannot be written: {lines[-1]}", tempfile.gettempdir(), _ROOM)
    if child.returncode == -signal.SIGKILL:
        return UserError(f"{python} was killed, for want of memory perhaps", where, "use a smaller input")
    if child.returncode < 0:
        last = f" ({lines[-1]})" if lines else ""
        name = signal.Signals(-child.returncode).name
        return UserError(f"{python} was ended by {name} while Caffe ran{last}", where, hint or _TRY_IMPORT)
    return RuntimeError(f"{WORKER.name} under {python} ended with {child.returncode}:\n{child.stderr}")


def caffe_message(stderr: str) -> str:
    """What Caffe said before it stopped, in one line; "" if it did not say anything.

    Glog's lines begin with a letter for their weight, the date and the place, and the fatal one may
    run on until the stack trace. protobuf's, before it, say what is wrong with a prototxt.
    """
    parts = re.findall(r"^\[libprotobuf (?:ERROR|FATAL) [^\]]*\] (.*)$", stderr, re.MULTILINE)
    fatal = re.search(r"^F\d{4,8} [^\]\n]*\] (.*?)(?=^\*\*\* |\Z)", stderr, re.MULTILINE | re.DOTALL)
    if not fatal:
        return ""
    parts.append(fatal.group(1))
    return "; ".join(" ".join(part.split()).rstrip(".") for part in parts)
