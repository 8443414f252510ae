"""Fetches Caffe's source with apt and keeps it in the cache. Run by build.py.

The tarball is the one that Debian's source package holds, and it is taken from whichever mirror
this machine is set up with. Neither the mirror nor its signatures need to be trusted: the hash says
whether it is the right file.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

TARBALL = "caffe_1.0.0+git20180821.99bd997.orig.tar.gz"
SHA256 = "e0eb3f06794f7402c77b7dec8e8480273ee1a1bb192e9122b621a69d4147ad0c"
COMMIT = "99bd99795dcdf0b1d3086a8d67ab1782a8a08383"
# Which release of the distribution has that source package; later ones dropped it.
HOLDERS = {"debian": "bullseye main", "ubuntu": "focal universe"}


class SourceMissing(Exception):
    """The source cannot be had here; says why, and how to give it."""


def fetch(cache: Path, say: Callable[[str], None]) -> Path:
    """The path of the tarball in the cache folder; SourceMissing if it cannot be had."""
    kept = cache / TARBALL
    if kept.exists() and hashlib.sha256(kept.read_bytes()).hexdigest() == SHA256:
        return kept
    say("Fetching Caffe's source")
    reasons = []
    holder = HOLDERS.get(platform.freedesktop_os_release()["ID"])
    for mirror in own_mirrors() if holder else []:
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache) as folder:
            reason = download(f"{mirror} {holder}", Path(folder))
            if not reason:
                (Path(folder) / TARBALL).rename(kept)
                return kept
            reasons.append(f"{mirror}: {reason}")
    raise SourceMissing(
        f"Caffe's source cannot be fetched ({'; '.join(reasons) or 'apt has no mirror for it'}); "
        f"get {TARBALL} (sha256 {SHA256}), or a checkout of BVLC Caffe's commit {COMMIT}, "
        "and give its path in CAFFE_SOURCE"
    )


def own_mirrors() -> list[str]:
    """The addresses that apt is set up with for this distribution's own release, in apt's order."""
    codename = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    with tempfile.TemporaryDirectory() as empty:
        Path(empty, "partial").mkdir()
        # What an update would fetch, which apt can say without having lists and without being root.
        command = ["apt-get", "update", "--print-uris", f"-oDir::State::Lists={empty}"]
        listed = subprocess.run(command, capture_output=True, text=True).stdout
    return re.findall(rf"^'(\S+)/dists/{re.escape(codename)}/InRelease'", listed, re.MULTILINE)


def download(repository: str, folder: Path) -> str:
    """Downloads TARBALL into the folder; "" or the reason why not. Leaves apt's own state alone."""
    for name in ("lists/partial", "archives/partial"):
        (folder / name).mkdir(parents=True)
    (folder / "sources.list").write_text(f"deb-src [trusted=yes] {repository}\n")
    options = [
        f"-oDir::Etc::SourceList={folder}/sources.list",
        "-oDir::Etc::SourceParts=/dev/null",
        f"-oDir::State::Lists={folder}/lists",
        f"-oDir::Cache={folder}",
        "-oAPT::Sandbox::User=",
        "-oAcquire::Check-Valid-Until=false",
        "-oAcquire::Languages=none",
        "-qq",
    ]
    environment = dict(os.environ, LC_ALL="C")
    for action in (["update"], ["source", "--download-only", "--only-source", "caffe"]):
        result = subprocess.run(
            ["apt-get", *options, *action], cwd=folder, env=environment, capture_output=True, text=True
        )
        if result.returncode:
            lines = [line for line in result.stderr.splitlines() if line.strip()]
            return lines[-1] if lines else f"apt-get {action[0]} failed"
    file = folder / TARBALL
    if not file.exists():
        return f"its source package caffe has no {TARBALL}"
    if hashlib.sha256(file.read_bytes()).hexdigest() != SHA256:
        return f"its {TARBALL} has another hash"
    return ""
