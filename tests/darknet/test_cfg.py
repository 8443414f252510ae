"""Reading cfg files: Darknet's own rules, and what is refused instead of guessed."""

from __future__ import annotations

import ctypes
import string
from pathlib import Path
from typing import Any

import pytest
from darknet_cases import CASES, darknet_case
from hypothesis import given, settings
from hypothesis import strategies as st

from nnie_prep.darknet.cfg import ALIASES, Section, read_cfg
from nnie_prep.errors import UserError

NET = "[net]\nwidth=8\nheight=8\nchannels=3\n"

libc = ctypes.CDLL(None)
libc.atof.restype = libc.strtod.restype = ctypes.c_double
libc.strtol.restype = ctypes.c_long


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "tiny.cfg"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def section_of(folder: Path, options: str, header: str = "conv") -> Section:
    """The one section of a cfg whose options begin in line 6."""
    return read_cfg(written(folder, f"{NET}[{header}]\n{options}\n"))[1]


def refusal(folder: Path, text: str | bytes) -> UserError:
    with pytest.raises(UserError) as caught:
        read_cfg(written(folder, text))
    assert "\n" not in str(caught.value) and caught.value.hint
    return caught.value


# ---- the rules -----------------------------------------------------------------------------------


def test_blanks_go_anywhere_and_comments_only_begin_lines(tmp_path: Path) -> None:
    text = (
        b"\t# first\r\n;second\n [ net ] \r\nwi dth = 3 2\r\nhei\tght=16\nchannels=3\n\n[conv]\n  "
        b"fil ters = 4 0 # 32\nname= a ; b\n[max] \n"
    )
    net, conv, pool = read_cfg(written(tmp_path, text))
    assert (net.index, net.type, net.line, net.int("width", 0), net.int("height", 0)) == (
        -1,
        "net",
        3,
        32,
        16,
    )
    assert (conv.index, conv.header, conv.type) == (0, "conv", "convolutional")
    assert conv.int("filters", 1) == 40 and conv.line_of("filters") == 9
    assert conv.string("name") == "a;b"
    assert (pool.index, pool.type, pool.options) == (1, "maxpool", {})
    assert pool.origin == "tiny.cfg:11" and pool.where("size") == f"{tmp_path}/tiny.cfg:11"


def test_values_keep_further_equals_signs(tmp_path: Path) -> None:
    assert section_of(tmp_path, "a=b=c").string("a") == "b=c"


def test_the_first_of_equal_keys_wins(tmp_path: Path) -> None:
    section = section_of(tmp_path, "size=3\nsize=5\nsize=7")
    assert section.int("size", 1) == 3
    assert [str(remark) for remark in section.unused()] == [
        f"{tmp_path}/tiny.cfg:{line}: size={value} is not used: Darknet takes the first, size=3 in line 6"
        for line, value in ((7, 5), (8, 7))
    ]


@pytest.mark.parametrize(("alias", "name"), ALIASES.items())
def test_aliases(tmp_path: Path, alias: str, name: str) -> None:
    if name == "net":
        assert read_cfg(written(tmp_path, "[network]\nwidth=1\n[conv]"))[0].type == "net"
    else:
        section = section_of(tmp_path, "", alias)
        assert (section.type, section.header) == (name, alias)


def test_other_names_stay_as_they_are(tmp_path: Path) -> None:
    # Darknet compares with strcmp.
    assert section_of(tmp_path, "", "Convolutional").type == "Convolutional"
    assert section_of(tmp_path, "", "Gaussian_yolo").type == "Gaussian_yolo"


def test_defaults_where_nothing_is_written(tmp_path: Path) -> None:
    section = section_of(tmp_path, "size=3")
    assert section.int("stride", 7) == 7 and section.float("scale", 0.5) == 0.5
    assert section.string("activation", "logistic") == "logistic"
    assert section.ints("layers", [1, 2]) == [1, 2] and section.floats("anchors") == []
    assert section.where("stride").endswith(":5") and section.where("size").endswith(":6")


def test_lists_are_cut_at_every_comma(tmp_path: Path) -> None:
    section = section_of(tmp_path, "layers = -1, 180###P6\nanchors = 1.5,2, 3e1")
    assert section.ints("layers") == [-1, 180]
    assert section.floats("anchors") == [1.5, 2, 30]


def test_a_remark_with_a_comma_lengthens_a_list_as_in_darknet(tmp_path: Path) -> None:
    section = section_of(tmp_path, "layers=-1,180###P6,P5")
    with pytest.raises(UserError, match="needs an integer for layers, found 'P5'") as caught:
        section.ints("layers")
    assert caught.value.where.endswith("tiny.cfg:6")


integers = st.integers(-(2**31), 2**31 - 1)
number_texts = st.one_of(
    integers.map(str),
    st.floats(-1e37, 1e37).map(repr),
    st.from_regex(r"[+-]?([0-9]{1,6}\.?[0-9]{0,6}|\.[0-9]{1,6})([eE][+-]?[0-9]{1,2})?", fullmatch=True),
    st.text("0123456789+-.eExinfa#", min_size=1, max_size=9),
)
remarks = st.sampled_from(["", "#", "#32", ";P5", "###-1"])


@settings(max_examples=400)
@given(number_texts, remarks)
def test_numbers_are_what_c_reads_or_refused(text: str, remark: str) -> None:
    section = Section(0, "convolutional", "conv", Path("x.cfg"), 1, {"key": (text + remark, 2)})
    encoded = (text + remark).encode()
    try:
        assert section.int("key", 0) == libc.atoi(encoded)
    except UserError as error:
        assert error.where == "x.cfg:2"
        value, rest = c_number(libc.strtol, text, 10)
        assert rest or not text or not -(2**31) <= value < 2**31
    try:
        assert section.float("key", 0.0) == libc.atof(encoded)
    except UserError:
        value, rest = c_number(libc.strtod, text)
        assert rest or not text or not abs(value) < 3.4028235e38 or "x" in text


def c_number(function: Any, text: str, *base: int) -> tuple[float, str]:
    """What strtol or strtod makes of a text, and what it leaves of it."""
    buffer = ctypes.create_string_buffer(text.encode())
    end = ctypes.c_char_p()
    value = function(buffer, ctypes.byref(end), *base)
    return value, (end.value or b"").decode()


@pytest.mark.parametrize(
    "value", ["abc", "3.5", "1e3", "3x3", "0x10", "-", "--3", "2147483648", "1_0", "٣", "9" * 5000, "nan"]
)
def test_no_integers(tmp_path: Path, value: str) -> None:
    with pytest.raises(UserError) as caught:
        section_of(tmp_path, f"size={value}").int("size", 1)
    assert caught.value.where == f"{tmp_path}/tiny.cfg:6" and len(str(caught.value)) < 400


@pytest.mark.parametrize("value", ["abc", "nan", "inf", "1e39", "-1e999", "1e", "0x1p3", ".", "1_0"])
def test_no_floats(tmp_path: Path, value: str) -> None:
    with pytest.raises(UserError):
        section_of(tmp_path, f"scale={value}").float("scale", 1)


def test_very_long_zeros_are_a_number(tmp_path: Path) -> None:
    assert section_of(tmp_path, f"size={'0' * 6000}3").int("size", 1) == 3


@pytest.mark.parametrize(
    ("bounds", "text"), [({"at_least": 1}, "at least 1"), ({"at_most": -1}, "at most -1")]
)
def test_ranges(tmp_path: Path, bounds: dict[str, int], text: str) -> None:
    section = section_of(tmp_path, "stride=0")
    with pytest.raises(UserError, match=f"has stride=0, expected {text}"):
        section.int("stride", 5, **bounds)
    with pytest.raises(UserError, match=f"has stride=0, expected {text}"):
        section.float("stride", 5, **bounds)
    assert section.int("size", 0, at_least=1) == 0  # the default is the caller's own


# ---- keys that nobody asked for ------------------------------------------------------------------


def test_unused_keys_with_near_misses(tmp_path: Path) -> None:
    section = section_of(tmp_path, "filters=8\nstrides=1\nmomentum=3\nactivtion=leaky\nfilter=3\nclip=1")
    section.int("filters", 1)
    section.int("stride", 1)
    section.string("activation", "logistic")
    section.ignore("momentum")
    assert [remark.text for remark in section.unused()] == [
        "strides=1 is not used; did you mean stride?",
        "activtion=leaky is not used; did you mean activation?",
        # filters is there already, and clip concerns training.
        "filter=3 is not used",
    ]
    assert section.unused()[0].where == f"{tmp_path}/tiny.cfg:7"


@pytest.mark.parametrize("ask", ["has", "string", "ints", "floats", "ignore", "int", "float"])
def test_every_question_counts(tmp_path: Path, ask: str) -> None:
    section = section_of(tmp_path, "foo=1")
    assert len(section.unused()) == 1
    copy = section.unasked()
    getattr(section, ask)("foo", *([0] if ask in ("int", "float") else []))
    assert section.unused() == [] and len(copy.unused()) == 1


def test_training_keys_are_no_mistakes(tmp_path: Path) -> None:
    net = read_cfg(written(tmp_path, f"{NET}batch=1\nbatch=64\nburn_in=1000\nstrides=2\n[conv]\n"))[0]
    for key in ("width", "height", "channels"):
        net.int(key, 0)
    assert [remark.text for remark in net.unused()] == ["strides=2 is not used"]


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (f"{NET}[conv]\nfilters\n", 6, "expected key=value in [conv], found 'filters'"),
        (f"{NET}[conv]\nfilters=\n", 6, "expected key=value"),
        (f"{NET}[conv]\n=4\n", 6, "expected key=value"),
        ("# a\nwidth=3\n[net]\n", 2, "expected [net] before the first option, found 'width=3'"),
        ("\n[conv]\nfilters=1\n", 2, "expected [net] as the first section, found [conv]"),
        (NET, 1, "has no layers after [net]"),
        (f"{NET}[conv]\n\n[network]\n", 7, "found a second [network]"),
        (f"{NET}[conv\n", 5, "expected a section header such as [convolutional], found '[conv'"),
        (f"{NET}[conv]x\n", 5, "expected a section header"),
        (f"{NET}[]\n", 5, "expected a section header"),
        (f"{NET}[[conv]]\n", 5, "expected a section header"),
        (f"{NET}[{'conv' * 11}]\n", 5, "expected a section header"),
        (f"{NET}[con\x85v]\n", 5, "found '[con?v]'"),
        (f"{NET}" + "[a]\n" * 10_000, 10_004, "more than 10000 sections"),
        (f"{NET}[conv]\nsize=\x00\n", 6, "found byte 0x00"),
        (f"{NET}[conv]\nsize=1\x0b\n", 6, "found byte 0x0b"),
        ("[net]\rwidth=3\r[conv]\r", 1, "expected a section header"),  # line ends of an old Macintosh
    ],
)
def test_malformed_lines(tmp_path: Path, text: str, line: int, message: str) -> None:
    error = refusal(tmp_path, text)
    assert error.where == f"{tmp_path}/tiny.cfg:{line}" and message in error.message


@pytest.mark.parametrize("text", ["", "\n\n", "# only\n;comments\n"])
def test_no_sections(tmp_path: Path, text: str) -> None:
    assert refusal(tmp_path, text).message == "has no sections"


def test_files_that_are_no_cfg(tmp_path: Path) -> None:
    assert "no text has" in refusal(tmp_path, NET.encode("utf-16")).message
    assert "longer than 1 MiB" in refusal(tmp_path, NET + "#" * (1 << 20)).message
    with pytest.raises(UserError, match=r"cannot be read: No such file.*give the path"):
        read_cfg(tmp_path / "absent.cfg")
    with pytest.raises(UserError, match="is not a regular file"):
        read_cfg(tmp_path)


def test_comments_may_be_in_any_encoding(tmp_path: Path) -> None:
    sections = read_cfg(written(tmp_path, b"#\xff\xfe\x00 caf\xe9\n" + NET.encode() + b"[conv]\nname=\xe9\n"))
    assert sections[1].string("name") == "é"
    assert read_cfg(written(tmp_path, "\ufeff" + NET + "[conv]"))[0].int("width", 0) == 8


def test_unicode_blanks_and_line_ends_are_not_darknets(tmp_path: Path) -> None:
    assert section_of(tmp_path, "name=a\u00a0b\u2028c\u0085d").string("name") == "a\u00a0b\u2028c\u0085d"


@settings(max_examples=300)
@given(data=st.data())
def test_any_bytes_are_read_or_refused_in_one_line(tmp_path: Path, data: st.DataObject) -> None:
    whole = bytearray(darknet_case("yolo_heads").cfg.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at : at + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
        if not whole:
            break
    path = written(tmp_path, bytes(whole))
    try:
        sections = read_cfg(path)
    except UserError as error:
        assert str(error).startswith(str(path)) and "\n" not in str(error)
    else:
        assert [section.index for section in sections] == list(range(-1, len(sections) - 1))


# ---- a model of a file, written in every way that means the same ---------------------------------

names = st.text(string.ascii_letters + "_", min_size=1, max_size=12)
texts = st.text(string.ascii_letters + string.digits + "=.,#;-+/_é", min_size=1, max_size=16)
models = st.lists(
    st.tuples(names.filter(lambda name: name not in ("net", "network")), st.lists(st.tuples(names, texts))),
    min_size=1,
    max_size=6,
)


@settings(max_examples=200)
@given(model=models, data=st.data())
def test_what_was_written_is_read(
    tmp_path: Path, model: list[tuple[str, list[tuple[str, str]]]], data: st.DataObject
) -> None:
    blank = st.text(" \t\r", max_size=3)
    lines: list[str] = []
    wanted: list[tuple[str, int, dict[str, tuple[str, int]]]] = []

    def write(text: str) -> int:
        for _ in range(data.draw(st.integers(0, 2))):
            lines.append(data.draw(blank) + data.draw(st.sampled_from(["", "#[conv]", ";size=9", "# =\x07"])))
        pieces = [text[at : at + 4] for at in range(0, len(text), 4)]
        lines.append("".join(data.draw(blank) + piece for piece in pieces) + data.draw(blank))
        return len(lines)

    for header, options in [("net", [("width", "3")]), *model]:
        line = write(f"[{header}]")
        found: dict[str, tuple[str, int]] = {}
        for key, value in options:
            found.setdefault(key, (value, write(f"{key}={value}")))
        wanted.append((header, line, found))
    sections = read_cfg(written(tmp_path, "\n".join(lines)))
    assert [(section.header, section.line, section.options) for section in sections] == wanted


@pytest.mark.parametrize("name", CASES)
def test_darknets_layer_types_are_those_read(name: str) -> None:
    case = darknet_case(name)
    # What Darknet calls its layers beside their sections' names.
    synonyms = {"reorg": "reorg_old", "reorg3d": "reorg", "activation": "active", "l2norm": "l2norm"}
    assert len(read_cfg(case.cfg)) - 1 == len(case.layers)
    for section, layer in zip(read_cfg(case.cfg)[1:], case.layers, strict=True):
        assert layer["type"] in (section.type, section.header, synonyms.get(section.type)), section
