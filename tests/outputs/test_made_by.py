"""The head comment says what made a file, and is believed only as far as its hashes go."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from nnie_prep.errors import UserError
from nnie_prep.outputs import Made, hash_of, head_comment, made_from, why_mixed

HASH = st.binary(max_size=9).map(lambda content: xxhash.xxh3_128(content).hexdigest())
NAMED = st.lists(st.tuples(st.text(), HASH), max_size=4).map(tuple)
MADE = st.builds(
    Made,
    st.sampled_from(["nnie_prep 0.1.0 merge-bn", "nnie_prep 12 x"]),
    NAMED,
    st.lists(st.text(), max_size=3).map(tuple),
    NAMED,
)


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)


@given(made=MADE, body=st.binary(max_size=300))
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, made: Made, body: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "head.prototxt"
    head = head_comment(made, body)
    path.write_bytes(head + body)
    assert all(line.startswith(b"# ") for line in head.split(b"\n")[:-2]) and head.endswith(b"\n\n")
    assert made_from(path) == Made(
        made.command,
        tuple((_printable(name), digest) for name, digest in made.inputs),
        tuple(_printable(option) for option in made.options),
        tuple((_printable(name), digest) for name, digest in made.outputs),
    )


@given(body=st.binary(min_size=1, max_size=99), at=st.integers(0, 98), data=st.data())
def test_one_changed_byte_below_the_head_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, body: bytes, at: int, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "edited.prototxt"
    head = head_comment(Made("nnie_prep 1 x", ()), body)
    edited = bytearray(body)
    edited[at % len(body)] ^= data.draw(st.integers(1, 255))
    for changed in (edited, body[:-1], body + b"\n"):
        path.write_bytes(head + changed)
        made = made_from(path)
        assert made and not made.intact


def test_a_long_text_is_hashed_to_its_end(tmp_path: Path) -> None:
    body = bytes(range(256)) * 20_000
    path = tmp_path / "long.prototxt"
    head = head_comment(Made("nnie_prep 1 x", ()), body)
    path.write_bytes(head + body)
    made = made_from(path)
    assert made and made.intact
    path.write_bytes(head + body[:-1] + b"?")
    made = made_from(path)
    assert made and not made.intact


@pytest.mark.parametrize(
    "content", [b"", b'name: "x"\n', b"# nnie_prepared\n\n", b"\x0a\x04yolo\xa2\x06", b"\n\n"]
)
def test_what_has_no_head_of_ours_says_nothing(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.prototxt"
    path.write_bytes(content)
    assert made_from(path) is None


def test_a_head_cut_short_names_only_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "x.prototxt"
    a, b = (xxhash.xxh3_128(name).hexdigest() for name in (b"a", b"b"))
    head = head_comment(Made("nnie_prep 1 x", (("x.cfg", a),), (), (("x.caffemodel", b),)), b"text")
    for end in range(len(head)):
        path.write_bytes(head[:end])
        made = made_from(path)
        if made is not None:
            assert not made.intact
            assert made.inputs in ((), (("x.cfg", a),)) and made.outputs in ((), (("x.caffemodel", b),))


def test_a_mixed_pair_is_told_by_the_recorded_hash(tmp_path: Path) -> None:
    prototxt, caffemodel = tmp_path / "x.prototxt", tmp_path / "x.caffemodel"
    caffemodel.write_bytes(b"weights")
    made = Made("nnie_prep 1 x", (), (), (("x.caffemodel", xxhash.xxh3_128(b"weights").hexdigest()),))
    prototxt.write_bytes(head_comment(made, b"text") + b"text")
    assert why_mixed(prototxt, caffemodel) == ""
    caffemodel.write_bytes(b"Weights")
    reason = why_mixed(prototxt, caffemodel)
    assert str(prototxt) in reason and str(caffemodel) in reason and "(x.caffemodel)" in reason
    prototxt.write_bytes(b"text without a head")
    assert why_mixed(prototxt, caffemodel) == ""


def test_hashes_agree_with_hashlib_across_chunks(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for size in (0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3_333_333):
        content = hashlib.shake_128(b"x").digest(size)
        path.write_bytes(content)
        assert hash_of(path) == xxhash.xxh3_128(content).hexdigest()


def test_what_cannot_be_read_is_the_users_to_repair(tmp_path: Path) -> None:
    for read in (hash_of, made_from):
        with pytest.raises(UserError, match="cannot be read: No such file") as caught:
            read(tmp_path / "absent")
        assert caught.value.where == str(tmp_path / "absent")
