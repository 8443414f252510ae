"""Builds the image with docker, podman or buildah, the first of them that works here.

    python docker/image.py build     the image $IMAGE (nnie_prep)
    python docker/image.py base      the base image for machines that can pull none, with debootstrap

What it takes from the environment: TOOL (a command in place of the three, `buildah --storage-driver vfs`
say), BASE (a Debian image), CA_BUNDLE (certificates to trust while building; else what pip is set up
with), CAFFE_SOURCE (Caffe's tarball), APT_MIRROR, PIP_INDEX_URL, http_proxy, https_proxy and no_proxy.

Where none of the three works, buildah is installed: it needs no daemon. A tool that is there but can
run no container, a docker client without its engine say, does not count. Exit codes: 0 done; 1 the
build failed; 2 something is missing that the user has to give.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from container import Tool

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.append(str(HERE / "caffe"))
from build import install_debian_packages, say  # noqa: E402

OFFICIAL_BASE = "docker.io/library/debian:bookworm-slim"
LOCAL_BASE = "nnie_prep-base"
RELEASE = "bookworm"
# What Debian's slim images leave out, and a package that is installed into them later leaves out too.
NOT_IN_SLIM = ("doc", "man", "info", "locale", "groff", "linda", "lintian")
TOOLS = ("docker", "podman", "buildah", "buildah --storage-driver vfs")
# Docker hands these to the steps of a build by itself; they are no part of the image.
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


def fail(message: str, code: int) -> NoReturn:
    """Ends the run with one line on stderr."""
    say(f"image.py: {message}")
    raise SystemExit(code)


def image_name() -> str:
    return os.environ.get("IMAGE") or "nnie_prep"


def build() -> None:
    """Builds $IMAGE with the first tool that works; says how large it is and how to run it."""
    tool, base = choose(find_base)
    version = re.search(r'__version__ = "(.+)"', (ROOT / "nnie_prep/__init__.py").read_text())
    assert version
    arguments = {"BASE": base, "VERSION": version[1], "REVISION": revision()}
    arguments |= {name: value for name in ("APT_MIRROR", "PIP_INDEX_URL") if (value := os.environ.get(name))}
    arguments |= {name: value for name in PROXIES if (value := os.environ.get(name))}
    name = image_name()
    before = tool.image_id(name)
    say(f"Building the image {name} with {tool} on {base}")
    started = time.monotonic()
    with given_files():
        if not tool.build(ROOT, HERE / "Dockerfile", name, arguments):
            fail(f"{tool} did not build the image; the reason stands above", 1)
    seconds = time.monotonic() - started
    if before and before != tool.image_id(name):
        tool.remove_image(before)  # it would stay there without a name
    print(f"{name} {version[1]}: {tool.size(name) / 1e6:.0f} MB, built with {tool} in {seconds:.0f} s")
    print(f"  {tool.how_to_run(name)}")


def make_base() -> None:
    """Makes the base image anew, with the first tool that works."""
    for tool in answering_tools():
        tool.remove_image(LOCAL_BASE)
    tool, base = choose(local_base)
    print(f"{base}: {tool.size(base) / 1e6:.0f} MB, made with {tool}")


def choose(base_of: Callable[[Tool], str]) -> tuple[Tool, str]:
    """The first tool that runs a container here, and the image to build on."""
    found = working_tool(base_of)
    if found is None:
        if os.environ.get("TOOL"):
            fail(f"TOOL={os.environ['TOOL']} does not work here; leave it out, or name another", 2)
        say("No docker, podman or buildah works here")
        install("buildah")
        found = working_tool(base_of)
    if found is None:
        fail("no docker, podman or buildah works here; start a Docker engine, or run as root", 2)
    return found


def answering_tools() -> Iterator[Tool]:
    """The tools that are installed and have what they need, as far as they say."""
    for command in [os.environ["TOOL"]] if os.environ.get("TOOL") else TOOLS:
        tool = Tool(tuple(shlex.split(command)))
        if tool.answers():
            yield tool


def working_tool(base_of: Callable[[Tool], str]) -> tuple[Tool, str] | None:
    """The first tool that runs a container, and the base image it ran it from; None if none does."""
    for tool in answering_tools():
        base = base_of(tool)
        done = tool.run(base, [], entrypoint="true")
        if done.returncode == 0:
            return tool, base
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        say(f"{tool} is here, but it cannot run a container: {said[-1]}")
    return None


def tool_with_image() -> Tool | None:
    """The first tool that runs $IMAGE, as it was built."""
    name = image_name()
    for tool in answering_tools():
        if tool.image_id(name) and tool.run(name, [], entrypoint="true").returncode == 0:
            return tool
    return None


def find_base(tool: Tool) -> str:
    """The image to build on: $BASE, else Debian's, else the one that debootstrap makes."""
    if base := os.environ.get("BASE"):
        return base
    for there in (OFFICIAL_BASE, LOCAL_BASE):
        if tool.image_id(there):
            return there
    say(f"Pulling {OFFICIAL_BASE}")
    if tool.pull(OFFICIAL_BASE):
        return OFFICIAL_BASE
    say("It cannot be pulled here")
    return local_base(tool)


def local_base(tool: Tool) -> str:
    """An image like Debian's slim one, made with debootstrap if it is not there yet."""
    if tool.image_id(LOCAL_BASE):
        return LOCAL_BASE
    if os.geteuid() != 0:
        fail(
            f"a base image is made by root alone; run `sudo make base-image`, or give one that has "
            f"Debian {RELEASE}: make image BASE=NAME",
            2,
        )
    install("debootstrap", "debian-archive-keyring")
    say(f"Making the base image {LOCAL_BASE} with debootstrap")
    mirror = (os.environ.get("APT_MIRROR") or "http://deb.debian.org").rstrip("/")
    with tempfile.TemporaryDirectory(prefix="nnie_prep-base-") as folder:
        root, log = Path(folder, "root"), Path(folder, "log")
        keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
        command = ["debootstrap", "--variant=minbase", f"--keyring={keyring}", RELEASE, str(root)]
        with log.open("wb") as out:
            done = subprocess.run([*command, f"{mirror}/debian"], stdout=out, stderr=out)
        if done.returncode:
            say("\n".join(log.read_text(errors="replace").splitlines()[-20:]))
            fail(f"debootstrap failed with exit code {done.returncode}; give a mirror in APT_MIRROR", 1)
        make_slim(root)
        packed = ["tar", "-C", str(root), "--exclude=./dev/*", "-cf", f"{folder}/base.tar", "."]
        subprocess.run(packed, check=True)
        shutil.rmtree(root)
        recipe = Path(folder, "Dockerfile")
        recipe.write_text('FROM scratch\nADD base.tar /\nCMD ["bash"]\n')
        if not tool.build(Path(folder), recipe, LOCAL_BASE, {}):
            fail(f"{tool} did not build the base image; the reason stands above", 1)
    return LOCAL_BASE


def make_slim(root: Path) -> None:
    """Sets up apt for the release with its updates, and takes away what Debian's slim images leave out."""
    sources = (f"debian {RELEASE}", f"debian {RELEASE}-updates", f"debian-security {RELEASE}-security")
    lines = [f"deb http://deb.debian.org/{source} main\n" for source in sources]
    (root / "etc/apt/sources.list").write_text("".join(lines))
    left_out = [f"path-exclude=/usr/share/{name}/*\n" for name in NOT_IN_SLIM]
    (root / "etc/dpkg/dpkg.cfg.d/slim").write_text("".join([*left_out, "path-include=*/copyright\n"]))
    for name in NOT_IN_SLIM:
        for path in sorted((root / "usr/share" / name).rglob("*"), reverse=True):
            if path.is_dir() and not path.is_symlink():
                if not any(path.iterdir()):
                    path.rmdir()
            elif path.name != "copyright":
                path.unlink()
    for folder in ("var/cache/apt", "var/lib/apt/lists", "var/log"):
        for path in (root / folder).rglob("*"):
            if path.is_file():
                path.unlink()


def install(*packages: str) -> None:
    """Installs Debian packages where they are missing, or ends with the command that does."""
    with tempfile.NamedTemporaryFile(prefix="nnie_prep-apt-", suffix=".log") as log:
        install_debian_packages(list(packages), Path(log.name))


def revision() -> str:
    """The commit that the image is built from, with -dirty behind it if files differ from it."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip() or "unknown"
    except FileNotFoundError:
        return "unknown"


@contextmanager
def given_files() -> Iterator[None]:
    """Certificates and Caffe's source, in docker/given for the time of a build."""
    certificates, source = own_certificates(), os.environ.get("CAFFE_SOURCE")
    given = {HERE / "given/ca.crt": certificates}
    if source:
        given[HERE / "given/caffe.tar"] = source
    placed = []
    try:
        for target, path in given.items():
            if path and not target.exists():
                if not Path(path).is_file():
                    fail(f"{path} is no file; check CA_BUNDLE, CAFFE_SOURCE (a tarball) and pip's `cert`", 2)
                shutil.copy(path, target)
                placed.append(target)
        yield
    finally:
        for target in placed:
            target.unlink()


def own_certificates() -> str:
    """The file of certificates that pip is set up with on this machine, "" if it uses its own."""
    for name in ("CA_BUNDLE", "PIP_CERT"):
        if os.environ.get(name):
            return os.environ[name]
    command = [sys.executable, "-m", "pip", "config", "get", "global.cert"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def main() -> None:
    wanted = sys.argv[1:]
    if wanted == ["build"]:
        build()
    elif wanted == ["base"]:
        make_base()
    else:
        fail("say build or base", 2)


if __name__ == "__main__":
    main()
