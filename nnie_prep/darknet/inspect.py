"""Darknet's own table of a network, and where each section's numbers lie in the weights file.

    found = inspect(Path("yolov3-tiny.cfg"), Path("yolov3-tiny.weights"))
    for row in found.rows: row.index, row.output, row.start, row.floats
    found.fit.matches                       # whether the file holds exactly what the cfg asks for
    found.fit.ends_in                       # else the section in which it ends

The shapes are those of the conversion, whose emitters run on a ledger in the weights file's place. What
cannot be converted is shown as far as its shape is known: `Row.problems` says why not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnie_prep.darknet import EMITTERS, REFUSED, emit_net, emit_section
from nnie_prep.darknet.builder import Builder, NotKnown, Output
from nnie_prep.darknet.cfg import Section, read_cfg
from nnie_prep.darknet.reference.activations import activation_fault
from nnie_prep.darknet.reference.convolution import local
from nnie_prep.darknet.reference.plan import Plan, Step
from nnie_prep.darknet.reference.resampling import reorg
from nnie_prep.darknet.weights import Flavor, Header, Ledger, Taken, WeightsFile, read_header
from nnie_prep.errors import UserError

Shape = tuple[int, int, int]

_HAVE_WEIGHTS = frozenset(("batchnorm", "connected", "convolutional", "implicit", "shortcut"))
_POOLS = frozenset(("maxpool", "local_avgpool"))
# Sections that read one input, and that Darknet computes where stock Caffe cannot.
_WITHOUT_FORM: dict[str, Callable[[Section, Plan], Step]] = {"local": local, "reorg": reorg}
# Sections that read none but those that they name.
_NAME_ALL = frozenset(("route", "implicit"))


@dataclass(frozen=True)
class Row:
    """One section. Shapes are (channels, height, width), None where they are not known or there is none.

    `window` is "3 x 3/2(1)" as Darknet writes size, stride and, where it is more than 1, dilation;
    `reads` are the sections that it names. `tensors` are what it takes from the weights file and `start`
    counts the floats before them, behind the header; None where they are not known. `problems` say why the
    section cannot be converted to Caffe.
    """

    index: int
    type: str
    line: int
    filters: int | None
    groups: int
    window: str
    input: Shape | None
    reads: tuple[int, ...]
    output: Shape | None
    bflops: float | None
    tensors: tuple[Taken, ...] | None
    start: int | None
    problems: tuple[str, ...]

    @property
    def floats(self) -> int | None:
        """How many floats it takes."""
        return None if self.tensors is None else sum(taken.size for taken in self.tensors)


@dataclass(frozen=True)
class Fit:
    """What is in the weights file, and whether that is what the cfg asks for.

    `floats` are those behind a header of `header_bytes`; `stray_bytes` (0 to 3) make no float. `surplus` is
    how many are left over, negative if some are missing, None where it is not known how many the cfg asks
    for. `ends_in` is the index of the first section that does not get all of its floats. `note` says which
    header was assumed where it is not the one of the version.
    """

    version: tuple[int, int, int]
    seen: int
    header_bytes: int
    floats: int
    stray_bytes: int
    surplus: int | None
    ends_in: int | None
    note: str

    @property
    def matches(self) -> bool:
        return self.surplus == 0 and not self.stray_bytes


@dataclass(frozen=True)
class Inspection:
    """A network's table. `problems` concern [net]; `warnings` name keys that nobody asked for."""

    rows: list[Row]
    floats: int | None
    bflops: float
    fit: Fit | None
    problems: tuple[str, ...]
    warnings: list[str]


def inspect(cfg: Path, weights: Path | None = None, *, flavor: Flavor = "alexeyab") -> Inspection:
    """The table of a network, whether or not it can be converted.

    UserError: the cfg cannot be read, or the weights file is no file or shorter than a header.
    """
    sections = read_cfg(cfg)
    header = read_header(weights, flavor) if weights else None
    ledger = Ledger()
    build = Builder(sections, ledger, flavor=flavor)
    emit_net(build)
    net_problems = _said(build.problems)
    rows: list[Row] = []
    start: int | None = 0
    for section in sections[1:]:
        first_problem, first_taken = len(build.problems), len(ledger.taken)
        output = emit_section(build, section)
        if len(build.problems) > first_problem and section.type in _WITHOUT_FORM:
            output = _by_reference(build, section, ledger)
        tensors = _tensors(section, ledger.taken[first_taken:], output, flavor, start or 0)
        if tensors is None:
            start = None
        rows.append(_row(build, section, output, tensors, start, build.problems[first_problem:]))
        build.outputs.append(output)
        if tensors and start is not None:
            start = tensors[-1].start + tensors[-1].size
    known = {row.index for row in rows if not row.problems and row.output}
    if not net_problems:
        known.add(sections[0].index)
    return Inspection(
        rows=rows,
        floats=start,
        bflops=sum(row.bflops or 0.0 for row in rows),
        fit=_fit(weights, header, rows, start, flavor) if weights and header else None,
        problems=net_problems,
        warnings=[
            str(remark) for section in sections if section.index in known for remark in section.unused()
        ],
    )


def _said(problems: Sequence[UserError]) -> tuple[str, ...]:
    return tuple(f"{one.message}; {one.hint}" if one.hint else one.message for one in problems)


def _by_reference(build: Builder, section: Section, ledger: Ledger) -> Output | None:
    """What has no form in Caffe still has a shape and weights: those that the NumPy Darknet gives it."""
    if activation_fault(section, build.flavor):
        return None
    try:
        plan = Plan(ledger, build.flavor, build.bn_form, build.shape_before())
        channels, height, width = (*_WITHOUT_FORM[section.type](section, plan).shape, 1, 1)[:3]
    except (UserError, NotKnown):
        return None
    blob = f"layer{build.index + 1}-without-form"
    build.shapes[blob] = (1, channels, height, width)
    return Output((channels, height, width), blob)


def _tensors(
    section: Section, taken: Sequence[Taken], output: Output | None, flavor: Flavor, start: int
) -> tuple[Taken, ...] | None:
    """What the section takes from the file, which is not all that it has where options say so.

    dontload: nothing. dontloadscales: no scales, means and variances. pjreddie's numload: fewer filters.
    (AlexeyAB parser.c load_weights_upto and load_convolutional_weights, pjreddie parser.c.)
    """
    unknown = section.type in (_HAVE_WEIGHTS if section.type in EMITTERS else REFUSED)
    if section.type == "shortcut" and "weights_type" not in section.options:
        unknown = False
    if output is None and unknown:
        return None
    if section.int("dontload", 0):
        return ()
    kept = list(taken)
    if section.type != "batchnorm" and section.int("dontloadscales", 0):
        kept = [one for one in kept if one.what not in ("scales", "mean", "variance")]
    filters = section.int("numload", 0) if flavor == "pjreddie" and section.type == "convolutional" else 0
    found = []
    for one in kept:
        shape = (filters, *one.shape[1:]) if filters > 0 else one.shape
        found.append(Taken(section, one.what, shape, start))
        start += found[-1].size
    return tuple(found)


# ---- one row ---------------------------------------------------------------------------------


def _row(
    build: Builder,
    section: Section,
    output: Output | None,
    tensors: tuple[Taken, ...] | None,
    start: int | None,
    problems: Sequence[UserError],
) -> Row:
    before: Shape | None = None
    if section.type not in _NAME_ALL:
        try:
            before = build.shape_before()
        except NotKnown:
            before = None
    filters, groups, window = _options(section, build.flavor) if output else (None, 1, "")
    return Row(
        index=section.index,
        type=section.type,
        line=section.line,
        filters=filters,
        groups=groups,
        window=window,
        input=before,
        reads=_reads(section),
        output=output.shape if output else None,
        bflops=_bflops(build, section, output, before) if output else None,
        tensors=tensors,
        start=start,
        problems=_said(problems),
    )


def _options(section: Section, flavor: Flavor) -> tuple[int | None, int, str]:
    """Filters, groups, and size/stride(dilation). The section has an output, so its options are in order."""
    if section.type in ("convolutional", "local"):
        size, stride = section.int("size", 1), section.int("stride", 1)
        filters = section.int("filters", 1)
        groups = section.int("groups", 1) if section.type == "convolutional" else 1
        window = f"{size} x {size}"
    elif section.type in _POOLS and not section.int("maxpool_depth", 0):
        stride = section.int("stride", 1)
        size = section.int("size", stride)
        filters, groups, window = None, 1, f"{size} x {size}"
    elif section.type in ("upsample", "reorg", "reorg3d"):
        stride = section.int("stride", 2 if section.type == "upsample" else 1)
        return None, 1, f"{stride}x" if section.type == "upsample" else f"/{stride}"
    else:
        return None, 1, ""
    strides = (stride, stride)
    if flavor == "alexeyab" and section.type != "local":
        strides = (section.int("stride_x", stride), section.int("stride_y", stride))
    window += f"/{strides[0]}" if strides[0] == strides[1] else f"/{strides[0]}x{strides[1]}"
    if flavor == "alexeyab" and section.type == "convolutional":
        dilation = section.int("dilation", 1)
        window += f"({dilation})" if dilation > 1 and size > 1 else ""
    return filters, groups, window


def _reads(section: Section) -> tuple[int, ...]:
    """The sections that `layers` or `from` names, as absolute indices."""
    found: list[int] = []
    for key in ("layers", "from"):
        if key in section.options:
            try:
                found += [one if one >= 0 else section.index + one for one in section.ints(key)]
            except UserError:  # the emitter has said so
                return ()
    return tuple(found)


def _bflops(build: Builder, section: Section, output: Output, before: Shape | None) -> float | None:
    """Billions of operations, as Darknet counts them.

    Convolutions, by both trees: 2 * filters * channels/groups * size^2 * places (convolutional_layer.c),
    a 32nd with xnor. AlexeyAB alone counts pools, channels * size^2 * places (maxpool_layer.c), and
    additions, one for each value and input, or two with weights (shortcut_layer.c). An antialiased layer
    is counted before its blur.
    """
    _, height, width = _before_blur(build) or output.shape
    operations = 0.0
    if section.type == "convolutional":
        weights = build.convolutions[section.index]
        operations = 2.0 * weights.filters * (weights.channels // weights.groups) * weights.size**2
        operations *= height * width / (32 if section.int("xnor", 0) else 1)
    elif build.flavor == "alexeyab" and section.type in _POOLS and before:
        size = section.int("size", section.int("stride", 1))
        operations = before[0] * size**2 * height * width
    elif build.flavor == "alexeyab" and section.type == "shortcut":
        weighted = section.string("weights_type", "none") != "none"
        operations = output.count * len(_reads(section)) * (2 if weighted else 1)
    else:
        return None
    return operations / 1e9


def _before_blur(build: Builder) -> Shape | None:
    blur = build.net.layer(f"layer{build.index + 1}-blur")
    if blur is None:
        return None
    _, channels, height, width = build.shapes[blur.bottoms[0]]
    return channels, height, width


# ---- the weights file ------------------------------------------------------------------------


def _fit(weights: Path, header: Header, rows: Sequence[Row], wanted: int | None, flavor: Flavor) -> Fit:
    if wanted is not None and header.size % 4 == 0:
        file = WeightsFile(weights, flavor)
        file.taken = [taken for row in rows for taken in row.tensors or ()]
        try:
            file.finish()
        except UserError:  # what is wrong is shown row by row
            pass
        else:
            return Fit(file.version, file.seen, file.header_bytes, wanted, 0, 0, None, file.note)
    floats, stray_bytes = divmod(header.size - header.length, 4)
    surplus = None if wanted is None else floats - wanted
    ends_in = None
    for row in rows:
        if row.start is None or row.floats is None:
            break
        if row.floats and row.start + row.floats > floats:
            ends_in = row.index
            break
    return Fit(
        header.version,
        header.seen(header.length),
        header.length,
        floats,
        stray_bytes,
        surplus,
        ends_in,
        "",
    )
