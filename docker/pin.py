"""Writes hashes into requirements files that pin packages: `make pins`, after a version was changed.

    python docker/pin.py FILE...

A file holds comments and lines of `name==version`, with a marker or without. Behind each come the
sha256 of the wheels that Python 3.10 to 3.13 take on x86-64 and 64-bit ARM; pip then installs nothing
else. The wheels are downloaded from whichever index pip is set up with.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

PYTHONS = ("3.10", "3.11", "3.12", "3.13")
MACHINES = ("x86_64", "aarch64")
# The C libraries that wheels are made for, up to that of Debian 12 (glibc 2.36). pip, when it is asked
# for another platform than its own, knows of no name that means another.
PLATFORMS = ("manylinux2014", *(f"manylinux_2_{minor}" for minor in (5, 17, 24, 26, 27, 28, 31, 34)))


class Requirement(NamedTuple):
    pin: str  # "numpy==2.2.6"
    marker: str  # 'python_version < "3.11"', or ""
    hashes: list[str]  # sha256, in hexadecimal

    def __str__(self) -> str:
        pin = f"{self.pin} ; {self.marker}" if self.marker else self.pin
        return " \\\n    ".join([pin, *(f"--hash=sha256:{one}" for one in self.hashes)])


def read_requirements(text: str) -> list[Requirement]:
    """The requirements of a file, in its order."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip() and not line.startswith("#"):
            pin, _, marker = re.sub(r"\s--hash=\S+", "", line).partition(";")
            hashes = re.findall(r"\s--hash=sha256:(\S+)", line)
            found.append(Requirement(pin.strip(), marker.strip(), hashes))
    return found


def download(pin: str, python: str, machine: str, folder: Path) -> str:
    """Downloads the wheel of one requirement; "" or why it cannot be had."""
    platforms = [f"--platform={platform}_{machine}" for platform in PLATFORMS]
    command = [sys.executable, "-m", "pip", "download", "-qq", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", f"--python-version={python}", *platforms, "--dest", str(folder), pin]
    done = subprocess.run(command, capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


def hash_wheels(pin: str) -> list[str]:
    """The hashes of all wheels of one requirement; ends the run if there are none."""
    reason = ""
    with tempfile.TemporaryDirectory() as folder:
        for python, machine in itertools.product(PYTHONS, MACHINES):
            reason = download(pin, python, machine, Path(folder)) or reason
        wheels = sorted(Path(folder).iterdir())
        hashes = sorted(hashlib.sha256(wheel.read_bytes()).hexdigest() for wheel in wheels)
    if not hashes:
        raise SystemExit(f"pin.py: {pin} has no wheel for any Python ({reason}); correct its version")
    print(f"{pin}: {', '.join(wheel.name for wheel in wheels)}", file=sys.stderr)
    return hashes


def main(names: list[str]) -> None:
    for file in map(Path, names):
        text = file.read_text()
        lines = [line for line in text.splitlines() if line.startswith("#")]
        for requirement in read_requirements(text):
            lines.append(str(requirement._replace(hashes=hash_wheels(requirement.pin))))
        file.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
