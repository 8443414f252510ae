"""Outputs: whole or absent, whatever happens and whenever."""

from __future__ import annotations

import errno
import fcntl
import functools
import gc
import os
import random
import resource
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import xxhash

from nnie_prep.errors import UserError
from nnie_prep.outputs import Outputs, early_sync, hashing_writer, head_comment, made_from, why_mixed

# The child of a fork here writes files and dies; it never takes a lock that a thread could hold.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")

COMMAND = "nnie_prep 0.1.0 darknet2caffe"
NAMES = ("yolo.caffemodel", "yolo.json", "yolo.prototxt")
MODEL, JSON, TEXT = NAMES


class Folder:
    """A folder with a pair of inputs, and a command that turns them into three outputs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.inputs = [path / "yolo.cfg", path / "yolo.weights"]
        self.targets = [path / name for name in NAMES]
        self.inputs[0].write_bytes(b"[net]\n")
        self.inputs[1].write_bytes(random.Random(5).randbytes(70_001))

    @staticmethod
    @functools.cache
    def bodies(version: str) -> list[bytes]:
        model = random.Random(version).randbytes(9_007)
        return [model, f'{{"version": "{version}"}}\n'.encode(), f'name: "{version}"\n'.encode() * 99]

    def write(self, out: Outputs, version: str) -> None:
        model, json, text = self.bodies(version)
        with out.open(self.targets[0]) as file:
            file.write(model[:11])
            file.write(model[11:])
        with out.open(self.targets[1]) as file:
            file.write(json)
        with out.open(self.targets[2]) as file:
            file.write(head_comment(out.made(COMMAND, [f"--version {version}"]), text) + text)

    def run(self, version: str, *, force: bool = False) -> None:
        with Outputs(self.targets, self.inputs, force=force) as out:
            self.write(out, version)
            out.commit()

    def state(self) -> list[bytes | None]:
        return [path.read_bytes() if path.exists() else None for path in self.targets]

    def hidden(self) -> list[str]:
        return sorted(path.name for path in self.path.iterdir() if path.name.startswith("."))

    def made(self, version: str) -> list[bytes | None]:
        """What a run leaves, from a run in another folder."""
        other = self.path / f"made-{version}"
        if not other.exists():
            other.mkdir()
            folder = Folder(other)
            folder.inputs = self.inputs
            folder.run(version)
        return [(other / name).read_bytes() for name in NAMES]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    folder = Folder(tmp_path)
    before = [path.read_bytes() for path in folder.inputs]
    yield folder
    assert [path.read_bytes() for path in folder.inputs] == before


@pytest.fixture
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests with hundreds of runs: what a killed process leaves does not depend on fsync."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)


def refused(folder: Folder, version: str = "new", *, force: bool = False) -> UserError:
    before = {path: path.lstat().st_mtime_ns for path in folder.path.rglob("*") if path.is_file()}
    with pytest.raises(UserError) as caught:
        folder.run(version, force=force)
    assert {path: path.lstat().st_mtime_ns for path in folder.path.rglob("*") if path.is_file()} == before
    assert caught.value.hint and "\n" not in str(caught.value)
    return caught.value


# ---- what is written ---------------------------------------------------------------------------


def test_the_files_hold_what_was_written_and_nothing_else_remains(folder: Folder) -> None:
    folder.run("a")
    state = folder.state()
    model, json, text = folder.bodies("a")
    assert state[:2] == [model, json]
    assert state[2] and state[2].endswith(b"\n\n" + text)
    assert sorted(path.name for path in folder.path.iterdir()) == sorted([*NAMES, "yolo.cfg", "yolo.weights"])
    made = made_from(folder.targets[2])
    assert made and made.intact and made.command == COMMAND and made.options == ("--version a",)
    sha = [xxhash.xxh3_128(path.read_bytes()).hexdigest() for path in [*folder.inputs, *folder.targets]]
    assert made.inputs == (("yolo.cfg", sha[0]), ("yolo.weights", sha[1]))
    assert made.outputs == ((MODEL, sha[2]), (JSON, sha[3]))


def test_the_same_again_gives_the_same_bytes_wherever_it_runs(folder: Folder) -> None:
    folder.run("a")
    assert folder.state() == folder.made("a")
    folder.run("a")
    assert folder.state() == folder.made("a")


def test_nothing_is_visible_before_the_commit_and_what_was_written_can_be_read(folder: Folder) -> None:
    folder.run("old")
    with Outputs(folder.targets, folder.inputs) as out:
        folder.write(out, "new")
        assert folder.state() == folder.made("old")
        assert [out.temporary(target).read_bytes() for target in folder.targets] == folder.made("new")
        out.commit()
        assert folder.state() == folder.made("new")


def test_a_target_can_be_started_anew(folder: Folder) -> None:
    with Outputs(folder.targets, folder.inputs) as out:
        with out.open(folder.targets[0]) as file:
            file.write(bytes(3_000_000))
        assert out.hash(folder.targets[0]) == xxhash.xxh3_128(bytes(3_000_000)).hexdigest()
        folder.write(out, "a")
        out.commit()
    assert folder.state() == folder.made("a")


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002, 0o277])
def test_new_files_have_ordinary_permissions(folder: Folder, umask: int) -> None:
    before = os.umask(umask)
    try:
        folder.run("a")
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.targets} == {0o666 & ~umask}


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o444])
def test_a_replaced_file_keeps_its_mode_and_is_never_more_open_than_that(folder: Folder, mode: int) -> None:
    folder.run("old")
    folder.targets[0].chmod(mode)
    with Outputs(folder.targets, folder.inputs) as out:
        assert stat.S_IMODE(out.temporary(folder.targets[0]).stat().st_mode) == mode | 0o600
        folder.write(out, "new")
        out.commit()
    assert stat.S_IMODE(folder.targets[0].stat().st_mode) == mode
    assert folder.state() == folder.made("new")


def test_all_is_on_the_disk_before_the_first_rename_and_the_folder_after_the_last(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[object] = []
    fsync, rename = os.fsync, Path.rename

    def synced(fd: int) -> None:
        events.append(os.fstat(fd).st_ino)
        fsync(fd)

    def renamed(self: Path, target: Path) -> Path:
        events.append(target.name)
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "rename", renamed)
    folder.run("a")
    inodes = [path.stat().st_ino for path in [*folder.targets, folder.path]]
    assert events == [*inodes[:3], *NAMES, inodes[3]]


def test_numpy_writes_an_archive(folder: Folder) -> None:
    target = folder.path / "blobs.npz"
    x = np.random.default_rng(1).normal(size=(3, 517, 301))
    with Outputs([target], [], also_read=folder.inputs) as out:
        with out.open(target) as file:
            np.savez(file, x=x, y=x[0])
        out.commit()
    with np.load(target) as blobs:
        assert np.array_equal(blobs["x"], x) and np.array_equal(blobs["y"], x[0])
    with pytest.raises(UserError, match="nothing shows that nnie_prep made it"):
        Outputs([target], [], also_read=folder.inputs).__enter__()


# ---- leaving without a commit ------------------------------------------------------------------


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError, None])
def test_leaving_without_commit_leaves_nothing(
    folder: Folder, error: type[BaseException] | None, old: bool
) -> None:
    if old:
        folder.run("old")
    before = sorted(path.name for path in folder.path.iterdir()), folder.state()
    try:
        with Outputs(folder.targets, folder.inputs) as out:
            folder.write(out, "new")
            unfinished = out.open(folder.targets[0])
            unfinished.write(b"half")
            assert len(folder.hidden()) == 3
            if error:
                raise error
    except BaseException as caught:
        assert type(caught) is error
    assert (sorted(path.name for path in folder.path.iterdir()), folder.state()) == before


COMMITTING = {"commit", "make_durable", "rename_all", "_rename", "_clean", "remove", "close", "stop"}
WRITING = {
    "write",
    "_hand_over",
    "_append",
    "close",
    "start_thread",
    "grown",
    "sync",
    "end",
    "stop",
    "__exit__",
}


def _trace_lines(at: int, act: Callable[[], None], functions: set[str] | None) -> Any:
    """A trace function that acts before the at-th line of (these functions of) nnie_prep/outputs."""
    count = 0

    def line(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal count
        if event == "line":
            count += 1
            if count == at:
                act()
        return line

    def call(frame: FrameType, event: str, argument: object) -> Any:
        code = frame.f_code
        ours = f"{os.sep}nnie_prep{os.sep}outputs{os.sep}" in code.co_filename
        return line if ours and (functions is None or code.co_name in functions) else None

    return call


def _in_child(trap: Callable[[], None], work: Callable[[], None]) -> int:
    """Forks, sets a trap, runs work, and returns how the child ended."""
    child = os.fork()
    if child == 0:
        code = 70
        signal.alarm(60)  # a hang is a failure
        try:
            trap()
            work()
            code = 0
        except KeyboardInterrupt:
            code = 71
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _die_at_change(at: int) -> None:
    """Kills this process just before its at-th system call that changes what a folder or a file holds."""
    count = 0

    def step(event: str, arguments: Any) -> None:
        nonlocal count
        change = {
            "os.rename",
            "os.link",
            "os.remove",
            "os.truncate",
            "os.chmod",
            "fcntl.flock",
            "pwrite",
            "fsync",
        }
        if event in change or (event == "open" and arguments[2] & os.O_CREAT):
            count += 1
            if count == at:
                _die()

    def announced(name: str, function: Any) -> Any:
        def call(*arguments: Any) -> Any:
            step(name, arguments)
            return function(*arguments)

        return call

    sys.addaudithook(step)
    os.pwrite = announced("pwrite", os.pwrite)
    os.fsync = announced("fsync", os.fsync)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.parametrize(
    ("functions", "stride", "buffer"), [(COMMITTING, 1, 1 << 19), (None, 17, 1 << 19), (WRITING, 2, 1_000)]
)
@pytest.mark.usefixtures("quick_disk")
def test_an_interrupt_at_any_line_leaves_all_old_or_all_new(
    folder: Folder, functions: set[str] | None, stride: int, buffer: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing_writer, "_BUFFER", buffer)
    monkeypatch.setattr(early_sync, "_STEP", 2 * buffer)
    old, new = folder.made("old"), folder.made("new")
    folder.run("old")
    seen = {"old": 0, "new": 0}
    gc.collect()  # writers of other tests: what interrupts a finalizer is lost
    for at in range(1, 5000, stride):
        trace = _trace_lines(at, _interrupt, functions)
        code = _in_child(functools.partial(sys.settrace, trace), lambda: folder.run("new"))
        if code == 0:
            break
        assert code == 71, at
        state = folder.state()
        assert state in (old, new), at
        assert functions is None or folder.hidden() == [], at
        seen["new" if state == new else "old"] += 1
        if state == new:
            folder.run("old")
    assert code == 0 and seen["old"] >= 40 and seen["new"] >= 1


# ---- kill -9 -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("start", ["absent", "older"])
@pytest.mark.usefixtures("quick_disk")
def test_killed_anywhere_each_file_is_whole_and_the_next_run_goes_on(folder: Folder, start: str) -> None:
    nothing: list[bytes | None] = [None, None, None]
    old, new = folder.made("old") if start == "older" else nothing, folder.made("new")
    mixed = 0
    for at in range(1, 2000):
        for path in folder.targets:
            path.unlink(missing_ok=True)
        if start == "older":
            folder.run("old")
        code = _in_child(functools.partial(_die_at_change, at), lambda: folder.run("new"))
        state = folder.state()
        assert all(now in (before, after) for now, before, after in zip(state, old, new, strict=True)), at
        if code == 0:
            break
        assert code == -signal.SIGKILL
        if state not in (old, new):
            mixed += 1
            assert state[0] == new[0], "the caffemodel comes first"
            assert state[2] == old[2], "and the prototxt last"
            if start == "older":
                assert why_mixed(folder.targets[2], folder.targets[0])
        folder.run("third")
        assert folder.state() == folder.made("third")
        assert folder.hidden() == []
    assert code == 0 and mixed >= 2
    assert why_mixed(folder.targets[2], folder.targets[0]) == ""


@pytest.mark.slow
@pytest.mark.usefixtures("quick_disk")
def test_killed_in_the_commit_and_killed_again_anywhere_the_third_run_goes_on(folder: Folder) -> None:
    old = folder.made("old")

    for at in range(1, 2000):
        folder.run("old", force=True)
        _kill_after_renames(folder, "new", 1)
        assert folder.state() == [folder.made("new")[0], *old[1:]]
        code = _in_child(functools.partial(_die_at_change, at), lambda: folder.run("third"))
        if code == 0:
            break
        assert code == -signal.SIGKILL
        folder.run("fourth")
        assert folder.state() == folder.made("fourth")
        assert folder.hidden() == []
    assert code == 0
    assert folder.state() == folder.made("third") and folder.hidden() == []


def test_a_run_that_fails_after_a_killed_one_does_not_lose_what_vouches(folder: Folder) -> None:
    folder.run("old")
    _kill_after_renames(folder, "new", 1)
    with Outputs(folder.targets, folder.inputs) as out:
        folder.write(out, "third")
    folder.run("fourth")
    assert folder.state() == folder.made("fourth") and folder.hidden() == []


def test_what_a_killed_run_left_does_not_vouch_for_a_file_of_the_users(folder: Folder) -> None:
    _kill_after_renames(folder, "new", 1)
    folder.targets[0].write_bytes(b"finetuned by the user")
    assert "differs from what nnie_prep made" in refused(folder).message
    assert folder.targets[0].read_bytes() == b"finetuned by the user"


def test_what_a_killed_run_left_does_not_vouch_for_other_inputs(folder: Folder) -> None:
    _kill_after_renames(folder, "new", 1)
    content = folder.inputs[0].read_bytes()
    folder.inputs[0].write_bytes(b"[net]\nwidth=64\n")
    assert "nothing shows that nnie_prep made it" in refused(folder).message
    folder.inputs[0].write_bytes(content)


def test_what_keeps_the_replaced_does_not_vouch(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may vanish under the reader: a run that has just ended removes it."""
    folder.run("a")
    kept: list[Path] = []
    with monkeypatch.context() as patch:
        patch.setattr(os, "link", lambda old, new: kept.append(new))
        folder.run("a")
    assert len(kept) == 3 and all(path.name.endswith("-old") for path in kept)
    folder.targets[2].rename(kept[2])
    assert refused(folder).where == str(folder.targets[0])


def test_files_that_only_look_like_leftovers_stay(folder: Folder) -> None:
    mine = [
        f".{MODEL}.nnie_prep-notes",
        f".{MODEL}.nnie_prep-12-0123456g",
        f".x{MODEL}.nnie_prep-1-01234567",
        f".{TEXT}.nnie_prep-1-01234567-older",
    ]
    for name in mine:
        (folder.path / name).write_bytes(b"mine")
    for stale in (f".{MODEL}.nnie_prep-99-0123abcd", f".{TEXT}.nnie_prep-99-0123abcd-old"):
        (folder.path / stale).write_bytes(b"half")
    folder.run("a")
    assert folder.hidden() == sorted(mine)


def _kill_after_renames(folder: Folder, version: str, count: int) -> None:
    def trap() -> None:
        rename, done = Path.rename, 0

        def renamed(self: Path, target: Path) -> None:
            nonlocal done
            rename(self, target)
            done += 1
            if done == count:
                _die()

        Path.rename = renamed  # type: ignore[method-assign, assignment]

    assert _in_child(trap, lambda: folder.run(version)) == -signal.SIGKILL


# ---- whose files these are ---------------------------------------------------------------------


def test_files_made_from_the_same_inputs_are_replaced(folder: Folder) -> None:
    folder.run("a")
    renamed = [folder.path / "copy.cfg", folder.path / "copy.weights"]
    for path, copy in zip(folder.inputs, renamed, strict=True):
        copy.write_bytes(path.read_bytes())
    with Outputs(folder.targets, renamed) as out:
        folder.write(out, "b")
        out.commit()
    assert folder.state()[:2] == folder.made("b")[:2]


@pytest.mark.parametrize("name", NAMES)
def test_a_strangers_file_is_refused_and_force_replaces_it(folder: Folder, name: str) -> None:
    (folder.path / name).write_bytes(b"name: 'a stranger'\n")
    error = refused(folder)
    assert error.where == str(folder.path / name) and "--force" in error.hint
    folder.run("new", force=True)
    assert folder.state() == folder.made("new")


@pytest.mark.parametrize("which", [0, 1])
def test_files_made_from_other_inputs_are_refused(folder: Folder, which: int) -> None:
    folder.run("a")
    content = folder.inputs[which].read_bytes()
    folder.inputs[which].write_bytes(content[:-1] + b"\x00")
    assert "other inputs or other versions of them (yolo.cfg, yolo.weights)" in refused(folder).message
    folder.inputs[which].write_bytes(content)
    folder.inputs.reverse()
    assert "other inputs" in refused(folder).message
    folder.inputs.reverse()
    folder.run("b")


@pytest.mark.parametrize("name", NAMES)
def test_a_file_edited_by_hand_is_refused(folder: Folder, name: str) -> None:
    folder.run("a")
    with (folder.path / name).open("ab") as file:
        file.write(b"# mine\n")
    error = refused(folder)
    assert error.where == str(folder.path / name)
    assert ("edited" if name == TEXT else "differs from what nnie_prep made of these") in error.message


def test_a_caffemodel_whose_prototxt_is_gone_is_refused(folder: Folder) -> None:
    folder.run("a")
    folder.targets[2].unlink()
    assert refused(folder).where == str(folder.targets[0])


@pytest.mark.parametrize("before", [False, True])
def test_what_another_program_writes_meanwhile_is_kept(folder: Folder, before: bool) -> None:
    if before:
        folder.run("old")
    with (
        pytest.raises(UserError, match="another program meanwhile"),
        Outputs(folder.targets, folder.inputs) as out,
    ):
        folder.write(out, "new")
        folder.targets[2].write_bytes(b"mine")
        out.commit()
    assert folder.state() == ([*folder.made("old")[:2], b"mine"] if before else [None, None, b"mine"])
    assert folder.hidden() == []


# ---- never an input, a link, a folder ----------------------------------------------------------


@pytest.mark.parametrize("how", ["written to", "replaced", "cut short", "removed"])
def test_an_input_that_changes_meanwhile_is_not_vouched_for(folder: Folder, how: str) -> None:
    folder.run("old")
    old, path = folder.state(), folder.inputs[1]
    content = path.read_bytes()
    with Outputs(folder.targets, folder.inputs) as out:
        folder.write(out, "new")
        if how == "written to":
            path.write_bytes(content[:-1] + b"x")
        elif how == "cut short":
            os.truncate(path, 9)
        else:
            path.unlink()
        if how == "replaced":
            path.write_bytes(content)
        if how == "removed":
            out.commit()
        else:
            with pytest.raises(UserError, match="was changed while it was read; run the command again"):
                out.commit()
    assert (folder.state() == old) == (how != "removed") and folder.hidden() == []
    path.write_bytes(content)


def _as_relative(path: Path) -> Path:
    return path.parent / ".." / path.parent.name / path.name


def _as_hard_link(path: Path) -> Path:
    os.link(path, path.with_suffix(".hard"))
    return path.with_suffix(".hard")


def _as_link(path: Path) -> Path:
    path.with_suffix(".soft").symlink_to(path)
    return path.with_suffix(".soft")


def _through_linked_folder(path: Path) -> Path:
    (path.parent / "linked").symlink_to(path.parent)
    return path.parent / "linked" / path.name


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("spelling", [Path, _as_relative, _as_hard_link, _as_link, _through_linked_folder])
def test_an_input_is_never_overwritten(folder: Folder, spelling: Callable[[Path], Path], force: bool) -> None:
    folder.targets[0] = spelling(folder.inputs[1])
    what = (
        f"is a symbolic link to {folder.inputs[1]}"
        if spelling is _as_link
        else f"is the input {folder.inputs[1]}"
    )
    assert what in refused(folder, force=force).message


@pytest.mark.parametrize("force", [False, True])
def test_nor_is_what_is_only_read(folder: Folder, force: bool) -> None:
    photo = folder.path / "photo.npy"
    photo.write_bytes(b"photo")
    with pytest.raises(UserError, match="is the input"), Outputs([photo], [], [photo], force=force):
        pass
    with pytest.raises(UserError, match="is the input"):
        Outputs([folder.targets[0], folder.inputs[0]], [], folder.inputs, force=force).__enter__()
    assert photo.read_bytes() == b"photo" and folder.hidden() == []


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("kind", ["link", "dangling link", "folder", "fifo"])
def test_links_folders_and_pipes_are_refused(folder: Folder, kind: str, force: bool) -> None:
    target, real = folder.targets[1], folder.path / "real"
    if kind == "link":
        real.write_bytes(b"real")
    if "link" in kind:
        target.symlink_to(real)
    elif kind == "folder":
        target.mkdir()
    else:
        os.mkfifo(target)
    error = refused(folder, force=force)
    assert error.where == str(target)
    expected = {"folder": "is a folder", "fifo": "is not a regular file"}.get(
        kind, f"symbolic link to {real}"
    )
    assert expected in error.message


def test_a_folder_may_be_a_link(folder: Folder) -> None:
    (folder.path / "linked").symlink_to(folder.path / "real")
    (folder.path / "real").mkdir()
    folder.targets = [folder.path / "linked" / name for name in NAMES]
    folder.run("a")
    assert folder.state() == folder.made("a")
    assert sorted(path.name for path in (folder.path / "real").iterdir()) == sorted(NAMES)


def test_two_targets_in_one_place_are_refused(folder: Folder) -> None:
    folder.targets[1] = _as_relative(folder.targets[0])
    assert "two outputs" in refused(folder).message


@pytest.mark.parametrize("kind", ["absent", "folder", "fifo"])
def test_an_input_that_is_no_file_is_refused(folder: Folder, kind: str) -> None:
    path = folder.path / "other.cfg"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    folder.inputs.append(path)
    error = refused(folder)
    folder.inputs.pop()
    assert error.where == str(path)
    assert ("No such file" if kind == "absent" else "not a regular file") in error.message


# ---- folders and disks that do not take it -----------------------------------------------------


def test_a_missing_folder_is_told_with_the_command_that_makes_it(folder: Folder) -> None:
    folder.targets = [folder.path / "my nets" / name for name in NAMES]
    error = refused(folder)
    assert error.hint == f"mkdir -p '{folder.path}/my nets'"
    subprocess.run(error.hint, shell=True, check=True)
    folder.run("a")


def test_a_file_in_the_place_of_a_folder_is_refused(folder: Folder) -> None:
    folder.targets = [folder.inputs[0] / name for name in NAMES]
    assert "is not a folder" in refused(folder).message
    folder.targets = [folder.inputs[0] / "further" / name for name in NAMES]
    assert "Not a directory" in refused(folder).message


@pytest.mark.parametrize("where", ["/proc", "/proc/self"])
def test_a_folder_that_cannot_be_written_fails_before_the_work(folder: Folder, where: str) -> None:
    """/proc takes no file from anyone, root included."""
    folder.targets[1] = Path(where) / JSON
    error = refused(folder)
    assert error.message.startswith("cannot be written: ") and error.where == f"{where}/{JSON}"


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_a_folder_without_permission(folder: Folder, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def denied(path: Path, flags: int, mode: int = 0) -> int:
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(os, "open", denied)
    assert refused(folder).message == f"cannot be written: {os.strerror(code)}"


def _limit_file_size() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))


def test_a_file_that_may_not_grow_leaves_nothing(folder: Folder) -> None:
    """The kernel itself refuses, for any user: the limit on the size of a file."""
    folder.run("old")
    child = os.fork()
    if child == 0:
        code = 70
        try:
            _limit_file_size()
            folder.run("new")
        except UserError as error:
            good = error.where == str(folder.targets[0]) and "make room" in error.hint
            code = 2 if good else 71
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    assert folder.state() == folder.made("old") and folder.hidden() == []


@pytest.mark.parametrize("after", [0, 1, 4_000, 9_010, 9_060])
def test_a_full_disk_leaves_nothing(folder: Folder, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """/dev/full answers as a full disk does; the first bytes still find room."""
    folder.run("old")
    pwrite, room = os.pwrite, after
    full = os.open("/dev/full", os.O_WRONLY)

    def until_full(fd: int, data: memoryview, offset: int) -> int:
        nonlocal room
        if not room:
            return os.write(full, data)
        count = pwrite(fd, data[:room], offset)
        room -= count
        return count

    folder.made("old")
    monkeypatch.setattr(os, "pwrite", until_full)
    error = refused(folder)
    os.close(full)
    assert error.message == "cannot be written: No space left on device" and "make room" in error.hint
    assert error.where == str(folder.targets[0 if after < 9_007 else 1 if after < 9_026 else 2])
    assert folder.state() == folder.made("old") and folder.hidden() == []


@pytest.mark.parametrize("name", ["fsync", "fchmod", "ftruncate"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fails_leaves_nothing(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    folder.run("old")
    folder.made("old")

    def fails(*arguments: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, name, fails)
    assert refused(folder).message == f"cannot be written: {os.strerror(code)}"
    assert folder.state() == folder.made("old") and folder.hidden() == []


@pytest.mark.parametrize("code", [errno.EPERM, errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
@pytest.mark.parametrize("name", ["os.fchmod", "os.fsync", "os.fdatasync", "os.link", "fcntl.flock"])
def test_a_file_system_that_lacks_something_keeps_the_files(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    """vfat has no modes and no links, others have no locks, and some of a program no flush."""
    called = threading.Event()

    def lacks(*arguments: object) -> None:
        called.set()
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(name, lacks)
    monkeypatch.setattr(early_sync, "_STEP", 1_000)
    monkeypatch.setattr(hashing_writer, "_BUFFER", 1_000)
    for version in ("old", "new"):
        folder.run(version, force=True)
        assert folder.state() == folder.made(version) and folder.hidden() == []
    assert called.wait(30)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("fails_at", [0, 1, 2])
def test_a_rename_that_fails_takes_the_others_back(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, fails_at: int, old: bool
) -> None:
    if old:
        folder.run("old")
    before = folder.state()
    rename, calls = Path.rename, 0

    def fails(self: Path, target: Path) -> Path:
        nonlocal calls
        calls += 1
        if calls == fails_at + 1:
            raise PermissionError(errno.EPERM, "Operation not permitted")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(UserError, match="not permitted") as caught:
        folder.run("new")
    assert caught.value.where == str(folder.targets[fails_at])
    assert folder.state() == before and folder.hidden() == []


# ---- two runs at once --------------------------------------------------------------------------


@pytest.mark.parametrize("shared", NAMES)
def test_a_second_run_gives_way_to_a_living_one(folder: Folder, shared: str) -> None:
    with Outputs(folder.targets, folder.inputs) as out:
        folder.write(out, "first")
        with (
            pytest.raises(UserError, match=rf"another run \(process {os.getpid()}\)") as caught,
            Outputs([folder.path / shared], folder.inputs, force=True),
        ):
            pass
        assert caught.value.where == str(folder.path / shared)
        with Outputs([folder.path / "tiny.caffemodel"], folder.inputs):
            pass
        assert len(folder.hidden()) == 3
        out.commit()
    assert folder.state() == folder.made("first")
    folder.run("second")


def _before_lock(monkeypatch: pytest.MonkeyPatch, flag: int, act: Callable[[], None]) -> None:
    """Acts once, before the first lock that is or is not (flag 0) waited for."""
    flock, acted = fcntl.flock, False

    def locked(fd: int, operation: int) -> None:
        nonlocal acted
        if operation & fcntl.LOCK_NB == flag and not acted:
            acted = True
            act()
        flock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", locked)


def test_a_file_taken_for_a_leftover_before_it_was_locked_is_made_anew(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    _before_lock(monkeypatch, 0, lambda: (folder.path / folder.hidden()[0]).unlink())
    folder.run("a")
    assert folder.state() == folder.made("a")


@pytest.mark.parametrize("how", ["removed", "committed"])
def test_a_living_run_that_ends_while_it_is_looked_at_is_not_a_leftover(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    folder.run("old")
    other = folder.path / f".{TEXT}.nnie_prep-99-0123abcd"
    other.write_bytes(folder.targets[2].read_bytes())
    _before_lock(
        monkeypatch,
        fcntl.LOCK_NB,
        other.unlink if how == "removed" else functools.partial(other.rename, folder.targets[2]),
    )
    folder.run("new")
    assert folder.state() == folder.made("new") and folder.hidden() == []


@pytest.mark.usefixtures("quick_disk")
def test_many_runs_at_once_never_mix(folder: Folder) -> None:
    versions = [f"v{number}" for number in range(4)]
    children = []
    for version in versions:
        child = os.fork()
        if child == 0:
            code = 70
            try:
                committed = 0
                for _ in range(40):
                    try:
                        folder.run(version)
                        committed += 1
                    except UserError as error:
                        assert "another run" in error.message, error
                code = 0 if committed else 3
            finally:
                os._exit(code)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert set(codes) <= {0, 3} and 0 in codes
    assert folder.state() in [folder.made(version) for version in versions]
    assert folder.hidden() == []
