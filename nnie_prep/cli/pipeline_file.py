"""A report for a pipeline, in a file beside what is printed: `check --sarif`, `batch --junit`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from nnie_prep.errors import UserError
from nnie_prep.outputs import Outputs


@contextmanager
def pipeline_file(
    path: Path, option: str, read: Sequence[Path], force: bool
) -> Iterator[Callable[[bytes], None]]:
    """Gives what writes the file, once; without a call nothing is written.

    Args:
        option: that which names the file; these commands have no -o.
        read: files that it must not replace.
        force: replace a file that is there.

    Raises UserError before the work for what can be known of the file then.
    """
    try:
        with Outputs([path], [], read, force=force) as out:

            def write(data: bytes) -> None:
                with out.open(path) as file:
                    file.write(data)
                out.commit()

            yield write
    except UserError as error:
        if error.where != str(path):
            raise
        raise UserError(error.message, error.where, error.hint.replace("-o", option)) from None
