"""Edits of a file's bytes, each drawn from a `Random`: what disks, editors and careless hands do."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random

Edit = Callable[[bytes, Random], bytes]

NUMBERS = (
    *("0", "-1", "1", "2", "3", "4", "5", "7", "8", "16", "17", "31", "255", "256", "257", "1000", "4095"),
    *("4096", "4097", "8192", "32768", "60000", "65535", "65536", "1000000", "536870911", "536870912"),
    *("999999999", "2147483647", "2147483648", "-2147483648", "-2147483649", "4294967295", "4294967296"),
    *("9223372036854775807", "-9223372036854775808", "18446744073709551615", "9" * 30, "-2", "-3", "-7"),
    *(
        "-1000",
        "0.5",
        "-0.5",
        "3.7",
        "1e3",
        "1e9",
        "1e38",
        "1e39",
        "-1e38",
        "1e400",
        "1e-7",
        "1e-46",
        "1e-400",
    ),
    *("0.0", "-0", "+5", "--5", "0x10", "010", "nan", "-nan", "inf", "-inf", ".5", "5.", ".", "-", "+", "e5"),
)
WORDS = (
    *("", " ", "abc", ",", ",,", "1,", ",1", "1,2,3", "-1,-1", "0,0,0,0", "-1,-2,-3,-4,-5,-6", "1 2", "true"),
    *(
        "false",
        "#5",
        "5#remark",
        "5;remark",
        "=",
        "==5",
        "[5]",
        '"',
        "'",
        "\\",
        "\\x41",
        "%s%n",
        "{",
        "}",
        "\t",
    ),
    *(
        "\u0663".encode().decode("latin-1"),
        "\uff11".encode().decode("latin-1"),
        "\xb2",
        "\xa0",
        "\x85",
        "\x1b[2J",
    ),
    *(
        "\u2028".encode().decode("latin-1"),
        "\u202e".encode().decode("latin-1"),
        "\xff\xfe",
        "\0",
        "\x7f",
        "\x0c",
    ),
)
# Bytes that some editor, transfer or format puts into a text.
STRANGE = (
    b"\0",
    b"\r",
    b"\n",
    b"\r\n",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\xff",
    b"\x80",
    b"\x1a",
    b"\x1b[31m",
) + (
    *(
        b"\x0b",
        b"\x0c",
        b"\x7f",
        b"\x85",
        b"\xc2\x85",
        b"\xe2\x80\xa8",
        b"\xe2\x80\xae",
        b"\t",
        b" ",
        b'"',
        b"#",
    ),
    *(
        b";",
        b"[",
        b"]",
        b"=",
        b"{",
        b"}",
        b"\\",
        b"<",
        b">",
        b":",
        b",",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
    ),
)
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE]-?\d+)?")


def number(r: Random) -> str:
    return (
        r.choice(NUMBERS)
        if r.random() < 0.9
        else r.choice(["1", "-", "0.", "9"]) + "0" * r.choice([50, 5000])
    )


def value(r: Random) -> str:
    """A number mostly, any text else."""
    return number(r) if r.random() < 0.8 else r.choice(WORDS)


def _slice(data: bytes, r: Random, most: int = 400) -> tuple[int, int]:
    start = r.randrange(len(data) + 1)
    return start, min(len(data), start + r.randint(1, r.choice([1, 4, 40, most])))


# ---- any file ----------------------------------------------------------------------------------


def flip_bits(data: bytes, r: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(r.choice([1, 1, 2, 8, 64]) if data else 0):
        changed[r.randrange(len(changed))] ^= 1 << r.randrange(8)
    return bytes(changed)


def overwrite(data: bytes, r: Random) -> bytes:
    start, end = _slice(data, r)
    return (
        data[:start]
        + r.choice([r.randbytes(end - start), bytes(end - start), b"\xff" * (end - start)])
        + data[end:]
    )


def cut_off(data: bytes, r: Random) -> bytes:
    if r.random() < 0.5:
        return data[: max(0, len(data) - r.choice([1, 2, 3, 4, 7, 8, 40, 400]))]
    return data[: r.randrange(len(data) + 1)]


def cut_start(data: bytes, r: Random) -> bytes:
    return data[r.choice([1, 3, 4, 8, 12, 16, 20, r.randrange(len(data) + 1)]) :]


def cut_out(data: bytes, r: Random) -> bytes:
    start, end = _slice(data, r)
    return data[:start] + data[end:]


def repeat_part(data: bytes, r: Random) -> bytes:
    start, end = _slice(data, r)
    return data[:end] + data[start:end] * r.choice([1, 1, 2, 100]) + data[end:]


def swap_parts(data: bytes, r: Random) -> bytes:
    (a, b), (c, d) = sorted([_slice(data, r), _slice(data, r)])
    return data if c < b else data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]


def extend(data: bytes, r: Random) -> bytes:
    return data + r.choice(
        [b"\0", r.randbytes(r.choice([1, 2, 3, 4, 16, 4000])), bytes(4), data[:4000], b"\n" * 5000]
    )


def replace_all(data: bytes, r: Random) -> bytes:
    """Another kind of file, or none."""
    return r.choice(
        [
            b"", b"\0", b"\n", b"#", b"[net]", b"{", b"}", bytes(12), bytes(20), bytes(4000), b"\xff" * 4000,
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n", 
            b"\x89HDF\r\n\x1a\n" + bytes(90),
            b"PK\x03\x04" + bytes(60), b"<!DOCTYPE html>\n<html></html>\n", b"\x1f\x8b" + bytes(50),
            r.randbytes(r.choice([1, 16, 4096])), b"(" * 3000, b"layer {" * 3000, b"[" * 3000,
        ]
    )  # fmt: skip


def insert_strange(data: bytes, r: Random) -> bytes:
    for _ in range(r.choice([1, 1, 3])):
        at = r.choice([0, len(data), r.randrange(len(data) + 1)])
        data = data[:at] + r.choice(STRANGE) * r.choice([1, 1, 1, 9, 3000]) + data[at:]
    return data


BYTES: tuple[Edit, ...] = (
    flip_bits, flip_bits, flip_bits, overwrite, cut_off, cut_off, cut_start, cut_out, repeat_part, swap_parts,
    extend, replace_all, insert_strange,
)  # fmt: skip


# ---- text --------------------------------------------------------------------------------------


def lines_of(data: bytes) -> list[str]:
    """latin-1 keeps every byte as it is."""
    return data.decode("latin-1").split("\n")


def joined(lines: Sequence[str]) -> bytes:
    return "\n".join(lines).encode("latin-1")


def change_number(data: bytes, r: Random) -> bytes:
    """Any number in the text: another one, its negative, a neighbour."""
    found = list(_NUMBER.finditer(data))
    for match in [r.choice(found)] if found else []:
        old = match[0].decode()
        new = value(r)
        if r.random() < 0.4 and old.lstrip("-").isdigit() and len(old) < 30:
            whole = int(old)
            new = str(
                r.choice([-whole, whole + 1, whole - 1, whole * 2, whole // 2, whole * 1000, whole + 0.5])
            )
        return data[: match.start()] + new.encode("latin-1") + data[match.end() :]
    return data


def delete_lines(data: bytes, r: Random) -> bytes:
    lines = lines_of(data)
    start = r.randrange(len(lines))
    del lines[start : start + r.choice([1, 1, 1, 2, 5, 20])]
    return joined(lines)


def repeat_lines(data: bytes, r: Random) -> bytes:
    """Lines again, behind themselves or elsewhere."""
    lines = lines_of(data)
    start = r.randrange(len(lines))
    part = lines[start : start + r.choice([1, 1, 2, 5, 12, 40])]
    at = r.choice([start, r.randrange(len(lines) + 1)])
    lines[at:at] = part * r.choice([1, 1, 1, 2, 9, 200])
    return joined(lines)


def swap_lines(data: bytes, r: Random) -> bytes:
    lines = lines_of(data)
    a, b = r.randrange(len(lines)), r.randrange(len(lines))
    lines[a], lines[b] = lines[b], lines[a]
    return joined(lines)


def cut_line(data: bytes, r: Random) -> bytes:
    lines = lines_of(data)
    at = r.randrange(len(lines))
    lines[at] = lines[at][: r.randrange(len(lines[at]) + 1)]
    return joined(lines)


def lengthen_line(data: bytes, r: Random) -> bytes:
    lines = lines_of(data)
    at = r.randrange(len(lines))
    lines[at] += r.choice(["x", " ", "1", ",1", "#", "é", "=", "0", '"', "{", "\\"]) * r.choice(
        [100, 10**4, 10**5]
    )
    return joined(lines)


def recode(data: bytes, r: Random) -> bytes:
    """Other line ends, another encoding."""
    text = data.decode("latin-1")
    kind = r.randrange(6)
    if kind == 0:
        return data.replace(b"\n", b"\r\n")
    if kind == 1:
        return data.replace(b"\n", b"\r")
    if kind == 2:
        return b"\xef\xbb\xbf" + data
    if kind == 3:
        return text.encode("utf-16")
    if kind == 4:
        return data.replace(b"\n", b" ")
    return text.swapcase().encode("latin-1", "ignore")


TEXT: tuple[Edit, ...] = (
    change_number, change_number, change_number, delete_lines, repeat_lines, swap_lines, cut_line,
    lengthen_line, recode, insert_strange,
)  # fmt: skip
