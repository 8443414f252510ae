"""How a command writes its files: whole or absent, never over an input, never over a stranger's file.

    with Outputs([caffemodel, json, prototxt], inputs=[cfg, weights]) as out:
        with out.open(caffemodel) as file: ...      # into .yolo.caffemodel.nnie_prep-<pid>-<random> beside it
        with out.open(json) as file: ...
        with out.open(prototxt) as file:
            file.write(head_comment(out.made("nnie_prep 0.1.0 darknet2caffe"), text) + text)
        verify(out.temporary(prototxt), out.temporary(caffemodel))
        out.commit()                                # fsync all, rename in this order, fsync the folders

Leaving without a commit, by an exception too, removes the temporary files. The program has to turn SIGTERM
and SIGHUP into exceptions; after SIGKILL or a power cut the next run for the same targets cleans up.

    made_by.py         the head comment: composed, read, compared
    made_inside.py     the same at the end of pictures and .npz
    hashing_writer.py  hashes a file while it is written
    early_sync.py      and has the disk take it meanwhile; threads with a descriptor of their own
    target_checks.py   what must never be replaced
    input_files.py     what is read, looked at and read
    temporaries.py     creating, locking, finding and renaming the temporary files

An existing target is replaced without `force` if this tool wrote it from the same inputs and nobody edited
it. The last target's head comment says so for itself and, by their hashes, for the others; any other
with a head comment speaks for itself. A run that was
killed between two renames left its last target as a temporary file, which vouches as well; it stays until
the next commit, since the next run may be killed too.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, cast

from nnie_prep.errors import UserError
from nnie_prep.outputs.hashing_writer import Background, HashingWriter
from nnie_prep.outputs.made_by import Made, hash_of, head_comment, made_from, why_mixed
from nnie_prep.outputs.target_checks import (
    check_distinct,
    check_same,
    check_target,
    check_unchanged,
    stat_of_input,
)
from nnie_prep.outputs.temporaries import (
    Temporary,
    cannot_write,
    create,
    is_backup,
    lock_leftovers,
    make_durable,
    remove,
    rename_all,
    set_mode,
)

__all__ = ["Made", "Outputs", "head_comment", "made_from", "hash_of", "why_mixed"]


class Outputs:
    """The files that one command writes, in one commit.

    Args:
        targets: in the order in which they appear; the last carries the head comment.
        inputs: the files that the outputs are made from; their content decides what "the same inputs" are.
        also_read: files that must not be overwritten either, but do not decide what the outputs are.
        force: replace existing targets, whoever wrote them. Never an input, a folder or a link.
        option: what the user names the targets with, for messages.

    Entering raises UserError for every reason that can be known before the work. So do `open`, the
    writing into what it returned, and `commit`, naming the target, when a disk is full or fails.
    """

    def __init__(
        self,
        targets: Sequence[Path],
        inputs: Sequence[Path],
        also_read: Sequence[Path] = (),
        *,
        force: bool = False,
        option: str = "output (-o)",
    ) -> None:
        self._inputs = list(inputs)
        self._also_read = list(also_read)
        self._force = force
        self._option = option
        self._files = [Temporary(target) for target in targets]
        self._as_found: list[os.stat_result] = []  # the inputs
        self._witnesses: list[Path] = []  # leftovers that vouch for an existing target
        self._hashes = Background(lambda: tuple((path.name, hash_of(path)) for path in self._inputs))

    def __enter__(self) -> Outputs:
        read = {path: stat_of_input(path) for path in [*self._inputs, *self._also_read]}
        self._as_found = [read[path] for path in self._inputs]
        for file in self._files:
            check_target(file.target, read)
        check_distinct([file.target for file in self._files])
        self._hashes.start()
        try:
            for file in self._files:
                create(file)
            with lock_leftovers(self._files) as leftovers:
                for file in self._files:
                    # Again, for another run may just have ended; from here on none can begin.
                    file.replaced = check_target(file.target, read)
                    if file.replaced:
                        set_mode(file, file.replaced.st_mode)
                if not self._force:
                    last = leftovers[self._files[-1].target]
                    self._refuse_strangers([path for path in last if not is_backup(path)])
                for path in sum(leftovers.values(), []):
                    if path not in self._witnesses:
                        remove(path)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def input_hashes(self) -> tuple[tuple[str, str], ...]:
        """(name, XXH128) of each input, hashed in the background since the context was entered."""
        return self._hashes.result()

    def input_hash(self, path: Path) -> str:
        """XXH128 of one input."""
        return self.input_hashes()[self._inputs.index(path)][1]

    def open(self, target: Path) -> BinaryIO:
        """Opens a target's temporary file for writing; it does not seek. A second call starts it anew."""
        file = self._file(target)
        if file.writer:
            assert file.writer.closed, f"{target} is still being written"
            file.writer.stop()
        try:
            os.ftruncate(file.fd, 0)
        except OSError as error:
            raise cannot_write(target, error) from error
        file.writer = HashingWriter(file.fd, lambda error: cannot_write(target, error))
        return cast(BinaryIO, file.writer)

    def temporary(self, target: Path) -> Path:
        """Where a target's content lies until the commit, to be read, never written."""
        return self._file(target).path

    def hash(self, target: Path) -> str:
        """XXH128 of what was written, once its file is closed."""
        writer = self._file(target).writer
        assert writer and writer.closed, f"{target} is not written yet"
        return writer.hash()

    def made(self, command: str, options: Sequence[str] = ()) -> Made:
        """What a file written now is to say of the run: its inputs, and the outputs written before."""
        written = [file.target for file in self._files if file.writer and file.writer.closed]
        outputs = [(target.name, self.hash(target)) for target in written]
        return Made(command, self.input_hashes(), tuple(options), tuple(outputs))

    def commit(self) -> None:
        """Makes the targets visible and durable: all of them or, with a UserError, none."""
        for file in self._files:
            assert file.writer and file.writer.closed, f"{file.target} is not written"
            check_unchanged(file.target, file.replaced)
            make_durable(file)
        for path, status in zip(self._inputs, self._as_found, strict=True):
            check_same(path, status)
        rename_all(self._files)
        for path in [*self._witnesses, *(file.backup for file in self._files)]:
            remove(path)
        for folder in {file.target.parent for file in self._files}:
            with suppress(OSError):  # not every file system can; the files are whole
                fd = os.open(folder, os.O_RDONLY)
                try:
                    os.fsync(fd)
                finally:
                    os.close(fd)

    def _file(self, target: Path) -> Temporary:
        return next(file for file in self._files if file.target == target)

    def _refuse_strangers(self, leftovers: list[Path]) -> None:
        existing = [file.target for file in self._files if file.replaced]
        if not existing:
            return
        last = self._files[-1].target
        ours = [digest for _, digest in self.input_hashes()]
        if last in existing and (what := _why_strange(made_from(last), ours)):
            raise self._stranger(last, what)
        vouched: dict[str, Path] = {}  # content hash -> who says that we wrote it
        named: set[str] = set()
        for path in [*leftovers, *([last] if last in existing else [])]:
            made = made_from(path)
            if made and made.input_hashes() == ours:
                vouched.update(dict.fromkeys(made.output_hashes(), path))
                named.update(name for name, _ in made.outputs)
        for target in existing:
            if target != last:
                own = made_from(target)
                if own and not _why_strange(own, ours):
                    continue  # it has a head of its own
                witness = vouched.get(hash_of(target))
                if witness is None:
                    what = "differs from what nnie_prep made of these inputs" if target.name in named else ""
                    raise self._stranger(target, what or _why_strange(own, ours))
                if witness != last:
                    self._witnesses.append(witness)

    def _stranger(self, target: Path, what: str) -> UserError:
        hint = f"--force replaces it, another {self._option} spares it"
        return UserError(f"exists and {what}", str(target), hint)

    def _close(self) -> None:
        try:
            self._clean()
        except KeyboardInterrupt:  # removing a large file takes long enough to be interrupted
            self._clean()
            raise

    def _clean(self) -> None:
        for file in self._files:
            remove(file.path)
            remove(file.backup)
        for file in self._files:
            if file.writer:
                file.writer.stop()
            fd, file.fd = file.fd, -1
            if fd >= 0:
                os.close(fd)


def _why_strange(made: Made | None, input_hashes: list[str]) -> str:
    if made is None:
        return "nothing shows that nnie_prep made it from these inputs"
    if made.input_hashes() != input_hashes:
        names = ", ".join(name for name, _ in made.inputs)
        return f"was made from other inputs or other versions of them ({names})"
    return "" if made.intact else "was edited after nnie_prep wrote it"
