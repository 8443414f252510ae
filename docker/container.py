"""One way to build and run images with docker, podman and buildah, which differ in words only.

buildah without a container runtime runs what it is told in a chroot: the files and the user are those of
a container. The network is taken away from it here, and the folders that any user may write to.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Done = subprocess.CompletedProcess[str]

_OPEN_TO_ALL = ("/tmp", "/var/tmp")
_SAID = "/run/said"  # where a container of buildah finds the files that its output goes to


@dataclass(frozen=True)
class Tool:
    """`command` is docker, podman or buildah, and options of its own."""

    command: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join(self.command)

    @property
    def is_buildah(self) -> bool:
        return self.command[0].rpartition("/")[2] == "buildah"

    @property
    def is_docker(self) -> bool:
        return self.command[0].rpartition("/")[2] == "docker"

    def answers(self) -> bool:
        """Whether it is installed, and has the engine or the storage that it needs."""
        return shutil.which(self.command[0]) is not None and self._ask("info").returncode == 0

    def build(self, context: Path, recipe: Path, name: str, arguments: Mapping[str, str]) -> bool:
        """Builds an image with its words on stderr; whether it went well."""
        # The OCI format, which is the others' own choice, has no HEALTHCHECK.
        options = [] if self.is_docker else ["--format", "docker"]
        options += ["--isolation", "chroot"] if self.is_buildah else []
        for key, value in arguments.items():
            options += ["--build-arg", f"{key}={value}"]
        command = [*self.command, "build", *options, "-f", str(recipe), "-t", name, str(context)]
        environment = os.environ | {"DOCKER_BUILDKIT": "1"}
        return subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=2).returncode == 0

    def pull(self, name: str) -> bool:
        return self._ask("pull", "-q", name).returncode == 0

    def image_id(self, name: str) -> str:
        """The id of an image on this machine, "" if it is not there."""
        found = self._inspected(name)
        return "" if found is None else found["FromImageID" if self.is_buildah else "Id"]

    def remove_image(self, name: str) -> None:
        self._ask("rmi", name)

    def configuration(self, name: str) -> dict[str, Any]:
        """User, Entrypoint, WorkingDir, Labels, Healthcheck ... of an image that is there."""
        found = self._inspected(name)
        assert found is not None, name
        configuration: dict[str, Any] = found["Docker"]["config"] if self.is_buildah else found["Config"]
        return configuration

    def size(self, name: str) -> int:
        """The bytes of all files of an image, unpacked."""
        if not self.is_buildah:
            found = self._inspected(name)
            assert found is not None, name
            return int(found["Size"])
        with self._container(name) as container:
            root = self._ask("mount", container).stdout.strip()
            sized = subprocess.run(["du", "-sxB1", root], capture_output=True, text=True, check=True)
            return int(sized.stdout.split()[0])

    def run(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        entrypoint: str | None = None,
        folder: Path | None = None,
        user: str | None = None,
    ) -> Done:
        """Runs a command in a new container of the image: no network, and nothing but `folder` to write to.

        Args:
            arguments: behind the image's entry point.
            entrypoint: a program in the place of the image's own.
            folder: stands there as /models.
            user: "uid:gid", else the image's own.
        """
        options = [] if user is None else ["--user", user]
        options += [] if folder is None else ["--volume", f"{folder}:/models"]
        if not self.is_buildah:
            options += ["--rm", "--network", "none", "--read-only"]
            options += [] if self.is_docker else ["--read-only-tmpfs=false"]
            options += [] if entrypoint is None else ["--entrypoint", entrypoint]
            return self._ask("run", *options, name, *arguments)
        program = [entrypoint] if entrypoint else self.configuration(name)["Entrypoint"] or []
        return self._run_in_chroot(name, [*program, *arguments], options)

    def _run_in_chroot(self, name: str, program: Sequence[str], options: Sequence[str]) -> Done:
        """Runs it with its output in files: what buildah hands on itself is at times not all of it."""
        with self._container(name) as container, tempfile.TemporaryDirectory() as folder:
            for stream in ("out", "err"):
                Path(folder, stream).touch()
                Path(folder, stream).chmod(0o666)
            Path(folder).chmod(0o755)
            Path(folder, "empty").mkdir()
            mounts = [f"{folder}:{_SAID}", *(f"{folder}/empty:{place}:ro" for place in _OPEN_TO_ALL)]
            own = [*self.command, "run", "--isolation", "chroot", *options]
            own += [word for mount in mounts for word in ("--volume", mount)]
            redirected = ["sh", "-c", f'exec "$@" >{_SAID}/out 2>{_SAID}/err', "sh", *program]
            # Root alone may take the network away.
            alone = ["unshare", "--net"] if os.geteuid() == 0 else []
            done = _ended([*alone, *own, container, "--", *redirected])
            out, err = (Path(folder, stream).read_text() for stream in ("out", "err"))
        if done.returncode and not (out or err):
            err = done.stderr  # it did not come to run the program
        return Done(list(program), done.returncode, out, err)

    def how_to_run(self, name: str) -> str:
        """A line that runs the image on the folder that one is in."""
        if self.is_buildah:
            return f"hand it to docker or podman: {self} push {name} docker-archive:{name}.tar:{name}"
        return f'{self} run --rm --user "$(id -u):$(id -g)" -v "$PWD:/models" {name} --help'

    def _inspected(self, name: str) -> dict[str, Any] | None:
        kind = ["inspect", "--type", "image"] if self.is_buildah else ["image", "inspect"]
        done = self._ask(*kind, name)
        if done.returncode:
            return None
        found = json.loads(done.stdout)
        first: dict[str, Any] = found[0] if isinstance(found, list) else found
        return first

    @contextmanager
    def _container(self, name: str) -> Iterator[str]:
        done = self._ask("from", "--pull-never", name)
        if done.returncode:
            raise RuntimeError(f"{self} makes no container of {name}: {done.stderr.strip()}")
        container = done.stdout.strip()
        try:
            yield container
        finally:
            self._ask("rm", container)

    def _ask(self, *arguments: str) -> Done:
        return _ended([*self.command, *arguments])


def _ended(command: Sequence[str]) -> Done:
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
