"""Where a command's files go: beside their inputs, to -o STEM, or into -o FOLDER/; or why they cannot."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nnie_prep.errors import UserError

if TYPE_CHECKING:
    from nnie_prep.outputs import Outputs


def beside(path: Path, ending: str) -> Path:
    """The input's own name with another ending."""
    if path.name in ("", ".."):
        raise UserError("is a folder", str(path), "give a file")
    return path.with_name(path.stem + ending)


def named(path: Path, option: str) -> Path:
    """What an option names for a file. UserError where that can only be a folder."""
    if path.name in ("", ".."):
        raise UserError("names no file", f"{option} {str(path)!r}", "give a name for the file")
    return path


def placed(output: str | None, own: Sequence[Path], suffixes: Sequence[str]) -> list[Path]:
    """Where the files go whose places without -o are `own`.

    With -o STEM they are STEM with these suffixes, one for each; with -o FOLDER/ they keep their names.
    A stem that already ends in a suffix of ours loses it.
    """
    if output is None:
        return list(own)
    if _is_folder(output):
        return [Path(output, path.name) for path in own]
    stem = output
    for suffix in (*suffixes, ".json"):
        stem = stem.removesuffix(suffix)
    if stem.rpartition("/")[2] in ("", ".", ".."):
        raise UserError("names no file", f"-o {stem!r}", "give a name for the files, like out/yolov3-tiny")
    return [Path(stem + suffix) for suffix in suffixes]


@contextmanager
def folder_of(output: str | None) -> Iterator[None]:
    """Makes the folder of -o FOLDER/, which is gone again where nothing is written into it."""
    folder = Path(output or "")
    makes = output is not None and _is_folder(output) and not folder.exists()
    if makes:
        try:
            folder.mkdir()
        except OSError as error:
            raise UserError(
                f"cannot be made: {error.strerror}", str(folder), "name a folder in one that exists"
            ) from None
    try:
        yield
    finally:
        if makes and not any(folder.iterdir()):
            folder.rmdir()


@contextmanager
def writing(outputs: Outputs, read: Callable[[], object]) -> Iterator[Outputs]:
    """Enters the outputs. Where that fails, what `read` finds wrong with the inputs is raised instead.

    Who gave a wrong file is not to be told to replace, or to spare, what the right one was made into.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(outputs)
        except UserError:
            read()
            raise
        yield outputs


@contextmanager
def read_back(out: Outputs, targets: Sequence[Path]) -> Iterator[None]:
    """Has a UserError about what was written name the targets, and not the temporary files beside them."""
    try:
        yield
    except UserError as error:
        texts = [error.message, error.where, error.hint]
        for target in targets:
            texts = [text.replace(out.temporary(target).name, target.name) for text in texts]
        raise UserError(*texts) from None


def _is_folder(output: str) -> bool:
    return output.endswith("/") and Path(output) != Path("/")
