"""Sections that join the outputs of several: [route], [scale_channels], [sam]."""

from __future__ import annotations

from nnie_prep import composites
from nnie_prep.darknet.activations import ANYWHERE, activate, read_activation
from nnie_prep.darknet.builder import Builder, Output, refusal
from nnie_prep.darknet.cfg import Section


def emit_route(build: Builder, section: Section) -> Output:
    """Concatenation along the channels; with groups, one of the equal parts of each input.

    One input needs no layer: the section's blob is the input's.
    """
    groups, group_id = 1, 0
    if build.flavor == "alexeyab":
        groups = section.int("groups", 1, at_least=1)
        group_id = section.int("group_id", 0, at_least=0, at_most=groups - 1)
    sources = [build.output("layers", index) for index in read_indices(section, "layers")]
    for source in sources:
        if source.size != sources[0].size:
            raise refusal(
                section,
                "layers",
                f"joins outputs of different sizes: {_sizes(sources)} (height x width)",
                _sizes_hint(build),
            )
        if source.channels % groups:
            raise refusal(
                section,
                "groups",
                f"groups={groups} does not divide {source.channels} channels",
                "correct groups",
            )
    channels = sum(source.channels for source in sources) // groups
    if groups == 1 and len(sources) == 1:
        return sources[0]
    blobs = [build.picture(source) for source in sources]
    if groups > 1:
        blobs = [_part(build, number, blob, groups, group_id) for number, blob in enumerate(blobs, 1)]
    blob = blobs[0]
    if len(blobs) > 1:
        blob = build.add("Concat", "concat", blobs, concat_param={"axis": 1})
    return Output((channels, *sources[0].size), blob)


def _sizes_hint(build: Builder) -> str:
    """An upsampled map meets the one it came of where each halving on the way had an even size."""
    assert build.network_shape is not None  # set before the first section
    odd = [extent for extent in build.network_shape[1:] if extent % 32]
    multiples = "make width and height of [net] multiples of 32, as YOLOs want them, or " if odd else ""
    return f"{multiples}name sections of one size"


def read_indices(section: Section, key: str) -> list[int]:
    """The section indices that an option lists; UserError where it lists none."""
    indices = section.ints(key)
    if not indices:
        raise refusal(section, key, f"[{section.header}] names no sections", f"write {key}=-1, for example")
    return indices


def read_index(section: Section, key: str) -> int:
    """The one section index of an option; UserError where it lists more, of which Darknet reads the first."""
    indices = read_indices(section, key)
    if len(indices) > 1:
        raise refusal(
            section,
            key,
            f"{key} names {len(indices)} sections; Darknet reads only the first",
            "name one section",
        )
    return indices[0]


def _sizes(sources: list[Output]) -> str:
    return ", ".join(f"{source.size[0]} x {source.size[1]}" for source in sources)


def _part(build: Builder, number: int, blob: str, groups: int, group_id: int) -> str:
    channels = build.shapes[blob][1]
    count = channels // groups
    chosen = range(count * group_id, count * (group_id + 1))
    return composites.selected(
        build.add, "route" if number == 1 else f"route{number}", blob, channels, chosen
    )


def emit_scale_channels(build: Builder, section: Section) -> Output:
    """from[c][y][x] * input[c], or with scale_wh from[c][y][x] * input[y][x]."""
    activation = read_activation(build, section, "linear", of=ANYWHERE)
    over_picture = bool(section.int("scale_wh", 0))
    gate = build.input()
    source = _from(build, section)
    wanted = (1, *source.size) if over_picture else (source.channels, 1, 1)
    if gate.shape != wanted:
        raise refusal(
            section,
            "from",
            f"scales an output of shape {source.shape} by one of shape {gate.shape}, expected {wanted}",
            "correct from",
        )
    blob = build.picture(source)
    if over_picture:
        spread = build.add(
            "Tile", "tile", build.picture(gate), tile_param={"axis": 1, "tiles": source.channels}
        )
        blob = build.add("Eltwise", "scale-channels", [blob, spread], eltwise_param={"operation": "PROD"})
    else:
        factors = gate.blob
        if len(build.shapes[factors]) != 2:
            factors = build.add("Flatten", "flatten", factors)
        blob = build.add(
            "Scale", "scale-channels", [blob, factors], scale_param={"axis": 0, "bias_term": False}
        )
    return Output(source.shape, activate(build, activation, blob, owned=True))


def emit_sam(build: Builder, section: Section) -> Output:
    """input * from, element by element."""
    activation = read_activation(build, section, "linear", of=ANYWHERE)
    source = build.input()
    other = _from(build, section)
    if other.shape != source.shape:
        raise refusal(
            section,
            "from",
            f"multiplies outputs of different shapes, {source.shape} and {other.shape}",
            "correct from",
        )
    blob = build.add(
        "Eltwise",
        "sam",
        [build.picture(source), build.picture(other)],
        eltwise_param={"operation": "PROD"},
    )
    return Output(source.shape, activate(build, activation, blob, owned=True))


def _from(build: Builder, section: Section) -> Output:
    return build.output("from", read_index(section, "from"))
