"""A Darknet pair that is damaged at random, and all that nnie_prep does with one.

Originals are the networks in tests/data/darknet whose weights are small, and drawn ones.
"""

from __future__ import annotations

import functools
import json
import struct
from pathlib import Path
from random import Random

import numpy as np
from darknet_cases import FOLDER, darknet_case
from darknet_drafts import drawn
from fuzzing import edits
from fuzzing.edits import Edit, joined, lines_of, value
from fuzzing.trial import Small, Trial, check_lean, check_message, command, read_back, refusal, size_of

from nnie_prep import passes
from nnie_prep.blob_map import BlobMap
from nnie_prep.darknet import EMITTERS, REFUSED, convert, describe
from nnie_prep.darknet.builder import Target
from nnie_prep.darknet.cfg import ALIASES, TRAINING_KEYS
from nnie_prep.darknet.inspect import inspect
from nnie_prep.darknet.weights import BatchNormForm, Flavor
from nnie_prep.errors import UserError

SUFFIXES = (".cfg", ".weights")

_LARGEST_WEIGHTS = 150_000
_HEADERS = sorted({*EMITTERS, *REFUSED, *ALIASES, "yolov9", ""})
_ACTIVATIONS = [
    "linear", "logistic", "loggy", "relu", "relu6", "elu", "selu", "gelu", "relie", "ramp", "leaky", "tanh",
    "plse", "stair", "hardtan", "lhtan", "swish", "mish", "hard_mish", "normalize_channels",
    "normalize_channels_softmax", "normalize_channels_softmax_maxval", "revleaky", "hswish", "x",
]  # fmt: skip
# What the emitters read; keys of training and misspelt ones come beside them.
_KEYS = [
    "width", "height", "channels", "inputs", "letter_box", "filters", "size", "stride", "stride_x",
    "stride_y", "pad", "padding", "groups", "dilation", "antialiasing", "activation", "batch_normalize",
    "cbn", "flipped", "share_index", "xnor", "binary", "coordconv", "reverse", "deform", "dontload",
    "dontloadscales", "numload", "layers", "group_id", "from", "weights_type", "weights_normalization",
    "alpha", "beta", "kappa", "scale_wh", "scale", "maxpool_depth", "out_channels", "spatial", "temperature",
    "tree", "output", "atoms", "crop_height", "crop_width", "noadjust", "extra", "flatten", "mask",
    "anchors", "num", "classes", "coords", "new_coords", "scale_x_y", "map", "background", "softmax",
    "classfix", "side", "yolo_layer", "nms_kind", "beta_nms", "embedding_layer", "objectness_smooth",
    "ignore_thresh", "truth_thresh",
]  # fmt: skip
_ALL_KEYS = sorted(
    {*_KEYS, *(key for keys in TRAINING_KEYS.values() for key in keys), "strides", "Filters", "_"}
)


# ---- originals -----------------------------------------------------------------------------------


@functools.cache
def _cases() -> list[str]:
    """The names of those whose weights lie there unpacked and are small."""
    return sorted(
        path.parent.name for path in FOLDER.glob("*/net.weights") if path.stat().st_size <= _LARGEST_WEIGHTS
    )


def original(r: Random, folder: Path) -> tuple[bytes, bytes, Flavor]:
    """cfg, weights, and whose Darknet they are for."""
    if r.random() < 0.5:
        case = darknet_case(r.choice(_cases()))
        return case.cfg.read_bytes(), case.weights(folder).read_bytes(), case.flavor
    flavor: Flavor = r.choice(["alexeyab", "alexeyab", "pjreddie"])
    cfg, weights = drawn(r.randrange(10**6), flavor).write(folder)
    return cfg.read_bytes(), weights.read_bytes(), flavor


# ---- edits ---------------------------------------------------------------------------------------


def _options(lines: list[str]) -> list[int]:
    return [number for number, line in enumerate(lines) if "=" in line]


def _headers(lines: list[str]) -> list[int]:
    return [number for number, line in enumerate(lines) if line.startswith("[")]


def change_value(data: bytes, r: Random) -> bytes:
    lines = lines_of(data)
    if options := _options(lines):
        at = r.choice(options)
        key, _, old = lines[at].partition("=")
        if key.strip() == "activation" and r.random() < 0.8:
            new = r.choice(_ACTIVATIONS)
        elif r.random() < 0.3 and old.strip().lstrip("-").isdigit() and len(old) < 20:
            new = str(r.choice([-int(old), int(old) + 1, int(old) - 1, int(old) * 2, int(old) // 2]))
        else:
            new = value(r)
        lines[at] = f"{key}={new}"
    return joined(lines)


def change_key(data: bytes, r: Random) -> bytes:
    lines = lines_of(data)
    if options := _options(lines):
        at = r.choice(options)
        key, _, old = lines[at].partition("=")
        typo = key[: r.randrange(len(key) + 1)] + r.choice(["", "s", "é", "_"])
        lines[at] = f"{r.choice([typo, r.choice(_ALL_KEYS)])}={old}"
    return joined(lines)


def add_option(data: bytes, r: Random) -> bytes:
    lines = lines_of(data)
    lines.insert(r.randrange(len(lines) + 1), f"{r.choice(_ALL_KEYS)}={value(r)}")
    return joined(lines)


def change_header(data: bytes, r: Random) -> bytes:
    lines = lines_of(data)
    if headers := _headers(lines):
        lines[r.choice(headers)] = r.choice(
            [f"[{r.choice(_HEADERS)}]"] * 9 + ["[conv", "conv]", "[[conv]]", "[]"]
        )
    return joined(lines)


def add_section(data: bytes, r: Random) -> bytes:
    """A section of any type with a few options, also ones that it does not know."""
    lines = lines_of(data)
    options = [f"{r.choice(_KEYS)}={value(r)}" for _ in range(r.randrange(4))]
    at = r.choice([*_headers(lines), len(lines)])
    lines[at:at] = [f"[{r.choice(_HEADERS)}]", *options]
    return joined(lines)


def move_section(data: bytes, r: Random) -> bytes:
    """Sections repeated, deleted or moved."""
    lines = lines_of(data)
    bounds = [*_headers(lines), len(lines)]
    if len(bounds) < 2:
        return data
    place = r.randrange(len(bounds) - 1)
    part = lines[bounds[place] : bounds[place + 1]]
    kind = r.choice(["repeat", "repeat", "delete", "move"])
    if kind != "repeat":
        del lines[bounds[place] : bounds[place + 1]]
    if kind != "delete":
        at = r.choice([*_headers(lines), len(lines)])
        lines[at:at] = part * (r.choice([1, 2, 5, 60, 500]) if kind == "repeat" else 1)
    return joined(lines)


def change_reference(data: bytes, r: Random) -> bytes:
    """What route, shortcut and others name: themselves, what follows, what is not there, too many."""
    lines = lines_of(data)
    found = [
        n for n in _options(lines) if lines[n].partition("=")[0].strip() in ("layers", "from", "share_index")
    ]
    if not found:
        return add_section(data, r)
    at = r.choice(found)
    index = sum(header < at for header in _headers(lines)) - 2
    near = [index, index + 1, index - 1, -1, -2, 0, -index, -index - 1, 10**6, -(10**6), 2**31 - 1, -(2**31)]
    chosen = [r.choice([*near, r.randint(-index - 1, index + 1)]) for _ in range(r.choice([1, 1, 2, 3, 64]))]
    if r.random() < 0.3:
        chosen = [r.choice(chosen)] * r.choice([2, 8, 300])
    lines[at] = f"{lines[at].partition('=')[0]}={','.join(map(str, chosen))}"
    return joined(lines)


def change_input(data: bytes, r: Random) -> bytes:
    """Sizes of the picture, small and absurd."""
    for key in r.sample(["width", "height", "channels"], r.randint(1, 3)):
        new = r.choice([1, 2, 3, 5, 13, 24, 33, 200, 1000, 46340, 60000, 65535, 65536])
        lines = [f"{key}={new}" if line.startswith(f"{key}=") else line for line in lines_of(data)]
        data = joined(lines)
    return data


_CFG: tuple[Edit, ...] = (
    change_value, change_value, change_value, change_value, change_key, add_option, add_option, change_header,
    add_section, move_section, move_section, change_reference, change_reference, change_input,
)  # fmt: skip


def change_version(data: bytes, r: Random) -> bytes:
    """A header of other numbers, or of another length."""
    numbers = [r.choice([0, 1, 2, 5, 999, 1000, 1001, -1, 2**31 - 1, -(2**31)]) for _ in range(3)]
    length = r.choice([20, 20, 16, 12, 0])
    head = struct.pack("<3i", *numbers) + r.choice([bytes(8), b"\xff" * 8, struct.pack("<Q", 64000)])
    return head[:length] + data[r.choice([20, 20, 16, 12, 0]) :]


def change_floats(data: bytes, r: Random) -> bytes:
    """Some floats, or all of them, become numbers that nobody trains."""
    head, stream = data[:20], bytearray(data[20:])
    count = len(stream) // 4
    number = r.choice([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e38, -1e38, 1e-45, -1.0, 1e20, 3e-39])
    where = (
        range(count)
        if r.random() < 0.2
        else [r.randrange(count) for _ in range(r.choice([1, 9]) if count else 0)]
    )
    for position in where:
        struct.pack_into("<f", stream, 4 * position, number)
    return head + bytes(stream)


def change_count(data: bytes, r: Random) -> bytes:
    """Some floats more or less, whole ones."""
    count = r.choice([1, 1, 2, 3, 16, 1000])
    if r.random() < 0.5:
        return data + r.randbytes(4 * count)
    return data[: max(0, len(data) - 4 * count)]


_WEIGHTS: tuple[Edit, ...] = (change_version, change_version, change_floats, change_floats, change_count)


def edit(files: list[bytes], r: Random) -> None:
    """One edit of one of the two files."""
    kind = r.random()
    if kind < 0.55:
        files[0] = r.choice(_CFG)(files[0], r)
    elif kind < 0.75:
        files[0] = r.choice(edits.TEXT)(files[0], r)
    elif kind < 0.8:
        files[0] = r.choice(edits.BYTES)(files[0], r)
    elif kind < 0.9:
        files[1] = r.choice(_WEIGHTS)(files[1], r)
    elif kind < 0.995:
        files[1] = r.choice(edits.BYTES)(files[1], r)
    else:
        files.reverse()


# ---- what is done with a pair --------------------------------------------------------------------


def run(cfg: Path, weights: Path, flavor: Flavor, r: Random) -> Trial:
    """Converts, plans and writes the pair, and sometimes runs a whole command on it."""
    flavor = flavor if r.random() < 0.8 else r.choice(["alexeyab", "pjreddie"])
    target: Target = r.choice(["nnie", "caffe"])
    bn_form: BatchNormForm = r.choice(["standard", "standard", "pjreddie-cpu"])
    options = ("--flavor", flavor, "--bn-form", bn_form)
    has_weights = r.random() < 0.85
    if r.random() < 0.6:
        _refit(cfg, weights, flavor, r)
    chance = r.random()
    try:
        with check_lean():
            conversion = convert(
                cfg, weights if has_weights else None, target=target, flavor=flavor, bn_form=bn_form
            )
    except UserError as error:
        check_message(error)
        if chance < 0.1:
            command(2, "prepare", cfg, weights, *options, "--target", target) if has_weights else None
        elif chance < 0.25:
            command(None, "inspect", cfg, *([weights] if has_weights else []), "--flavor", flavor)
        elif chance < 0.4:
            command(None, "fold-darknet", cfg, weights, *options, "--no-verify")
        return refusal(error)
    size = size_of(conversion.net)
    with check_lean():
        blob_map = BlobMap(conversion.net.blob_names())
        changed = conversion.net.copy()
        if has_weights or size.fits:
            passes.run(changed, passes.PASSES, blob_map)
        json.dumps(describe(conversion, blob_map), allow_nan=False)
    if size.fits and has_weights:
        read_back(changed, size.known)
    return Trial("converted", _commands(cfg, weights, has_weights, options, target, size, chance))


def _refit(cfg: Path, weights: Path, flavor: Flavor, r: Random) -> None:
    """Writes weights that fit an edited cfg, so that not every edit ends at their number."""
    try:
        wanted = inspect(cfg, flavor=flavor).floats
    except UserError as error:
        check_message(error)
        return
    if wanted is not None and wanted <= _LARGEST_WEIGHTS:
        stream = np.random.default_rng(r.randrange(2**32)).uniform(0.05, 1, wanted).astype("<f4")
        weights.write_bytes(struct.pack("<3iQ", 0, 2, 0, 0) + stream.tobytes())


def _commands(
    cfg: Path,
    weights: Path,
    has_weights: bool,
    options: tuple[str, ...],
    target: str,
    size: Small,
    chance: float,
) -> str:
    """Maybe a whole command on a pair that converts; says which, and how it ended."""
    if chance < 0.3 and has_weights and size.fits:
        prove = size.runs
        code = command(
            None, "prepare", cfg, weights, *options, "--target", target, *([] if prove else ["--no-verify"])
        )
        return f"prepare{'' if prove else ' --no-verify'}: exit {code}"
    if chance < 0.45:
        code = command(0, "inspect", cfg, *([weights] if has_weights else []), "--flavor", options[1])
        return f"inspect: exit {code}"
    if chance < 0.6:
        prove = size.runs and chance < 0.52
        code = command(None, "fold-darknet", cfg, weights, *options, *([] if prove else ["--no-verify"]))
        return f"fold-darknet{'' if prove else ' --no-verify'}: exit {code}"
    return "convert and plan"
