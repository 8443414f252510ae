"""What made a file: the comment at the head of a written prototxt, composed and read back.

    # nnie_prep 0.1.0 darknet2caffe
    # input: yolov3-tiny.cfg xxh128:<32 hex>
    # input: yolov3-tiny.weights xxh128:<32 hex>
    # option: --target nnie
    # output: yolov3-tiny.caffemodel xxh128:<32 hex>
    # output: yolov3-tiny.json xxh128:<32 hex>
    # text below: xxh128:<32 hex>
    <empty line>
    name: "yolov3-tiny" ...

XXH128 tells files apart; it is no proof against forgery. It costs a tenth of what SHA-256 does, which
on a model of 248 MB would take longer than writing it.

The prototxt is written last and so vouches for the files that were written before it: those have no
room for a note of their own. The hash of the text below tells a file that was edited by hand,
or cut short, from one that is as it was written.

A file that is no text has the comment at its end, with `# all above: xxh128:<32 hex>` as its last line and
no more behind it than the file's format needs: see made_inside.py.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from mmap import mmap
from pathlib import Path
from typing import BinaryIO, NamedTuple

import xxhash

from nnie_prep.errors import UserError
from nnie_prep.outputs.target_checks import stat_of_input

# Bytes at a time. Between two of them a thread needs Python's lock, for which it may wait 5 ms.
_CHUNK = 1 << 23
_HEAD_LIMIT = 1 << 16  # bytes; a longer comment is none of ours
_NAMED_HASH = re.compile(r"# (input|output): (.*) xxh128:([0-9a-f]{32})")
_TAIL = re.compile(
    rb"# nnie_prep [^\n]*\n(?:# [^\n]*\n)*?# all above: xxh128:([0-9a-f]{32})\n"
    rb"(?:|\xff\xd9|.{4}\0{4}IEND\xaeB`\x82)\Z",  # nothing, or how a JPEG ends, or a PNG
    re.DOTALL,
)
_BODY_HASH = re.compile(r"# text below: xxh128:([0-9a-f]{32})")
_ABOVE_HASH = re.compile(r"# all above: xxh128:([0-9a-f]{32})")


class Made(NamedTuple):
    """How a set of files was made. Hashes are XXH128 in hexadecimal, as `xxhsum -H2` prints them; names
    have no folder.

    Args:
        command: "nnie_prep 0.1.0 darknet2caffe".
        inputs: (name, hash) in the order of the command line.
        options: as the user would type them; for the reader, not compared.
        outputs: (name, hash) of the files that belong with this one.
        intact: the text below the head is as it was written (always so in what is to be written).
    """

    command: str
    inputs: tuple[tuple[str, str], ...]
    options: tuple[str, ...] = ()
    outputs: tuple[tuple[str, str], ...] = ()
    intact: bool = True

    def input_hashes(self) -> list[str]:
        return [digest for _, digest in self.inputs]

    def output_hashes(self) -> list[str]:
        return [digest for _, digest in self.outputs]


def hash_of(path: Path) -> str:
    """XXH128 of a file's content, in hexadecimal. UserError if it cannot be read."""
    size = stat_of_input(path).st_size
    digest = xxhash.xxh3_128()
    buffer = memoryview(mmap(-1, min(size + 1, _CHUNK)))  # a bytearray is zeroed with the lock held
    try:
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                digest.update(buffer[:count])
    except OSError as error:
        raise _cannot_read(path, error) from error
    return digest.hexdigest()


def head_comment(made: Made, body: bytes) -> bytes:
    """The comment to write before `body`, its closing empty line included."""
    digest = xxhash.xxh3_128(body).hexdigest()
    return "".join(line + "\n" for line in [*_lines(made), f"# text below: xxh128:{digest}", ""]).encode()


def tail_comment(made: Made, digest: str) -> bytes:
    """The comment to write behind what has this hash, in a file that is no text. Its length does not
    depend on the hash."""
    return "".join(line + "\n" for line in [*_lines(made), f"# all above: xxh128:{digest}"]).encode()


def _lines(made: Made) -> list[str]:
    lines = [f"# {made.command}"]
    lines += [f"# input: {_one_line(name)} xxh128:{digest}" for name, digest in made.inputs]
    lines += [f"# option: {_one_line(option)}" for option in made.options]
    return lines + [f"# output: {_one_line(name)} xxh128:{digest}" for name, digest in made.outputs]


def without_head(text: bytes) -> bytes:
    """A text without the head comment that an earlier run put before it, if it has one of ours."""
    head, _, body = text.partition(b"\n\n")
    ours = head.startswith(b"# nnie_prep ") and _BODY_HASH.search(head.decode(errors="replace"))
    return body if ours else text


def made_from(path: Path) -> Made | None:
    """What the comment in a file says, None if it has none of ours. UserError if it cannot be read."""
    try:
        with path.open("rb") as file:
            start = file.read(_HEAD_LIMIT)
            head, _, body = start.partition(b"\n\n")
            if not head.startswith(b"# nnie_prep "):
                return _made_at_end(file)
            digest = xxhash.xxh3_128(body)
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise _cannot_read(path, error) from error
    return _made(head, _BODY_HASH, digest.hexdigest())


def _made_at_end(file: BinaryIO) -> Made | None:
    size = file.seek(0, os.SEEK_END)
    start = file.seek(max(0, size - _HEAD_LIMIT))
    found = _TAIL.search(file.read())
    if found is None:
        return None
    digest, left = xxhash.xxh3_128(), start + found.start()
    file.seek(0)
    while chunk := file.read(min(left, _CHUNK)):
        digest.update(chunk)
        left -= len(chunk)
    return _made(found[0], _ABOVE_HASH, digest.hexdigest())


def _made(comment: bytes, hash_line: re.Pattern[str], digest: str) -> Made:
    lines = comment.decode(errors="replace").split("\n")
    named = [match.groups() for line in lines if (match := _NAMED_HASH.fullmatch(line))]
    return Made(
        command=lines[0].removeprefix("# "),
        inputs=tuple((name, value) for kind, name, value in named if kind == "input"),
        options=tuple(line.removeprefix("# option: ") for line in lines if line.startswith("# option: ")),
        outputs=tuple((name, value) for kind, name, value in named if kind == "output"),
        intact=[m[1] for line in lines if (m := hash_line.fullmatch(line))] == [digest],
    )


def why_mixed(prototxt: Path, caffemodel: Path, digest_of: Callable[[Path], str] = hash_of) -> str:
    """Why the two are not from one run, or "" if they are or if the prototxt's head does not say.

    `digest_of` is hash_of, or what knows its answers already.
    """
    made = made_from(prototxt)
    if made is None or not made.outputs or digest_of(caffemodel) in made.output_hashes():
        return ""
    names = ", ".join(name for name, _ in made.outputs)
    return f"{caffemodel} is not the file that {prototxt} was written with ({names}): its content differs"


def _one_line(text: str) -> str:
    # A file name may hold line breaks and bytes that are not UTF-8. Hashes, not names, are compared.
    return "".join(character if character.isprintable() else "?" for character in text)


def _cannot_read(path: Path, error: OSError) -> UserError:
    return UserError(f"cannot be read: {error.strerror}", where=str(path), hint="check the path")
