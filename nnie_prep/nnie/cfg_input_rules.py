"""What a .cfg does to the net's inputs: their kind, order, scale and mean."""

from __future__ import annotations

import math
from collections.abc import Iterator

from nnie_prep.errors import UserError
from nnie_prep.nnie import cfg_draft
from nnie_prep.nnie.calibration import read_mean
from nnie_prep.nnie.cfg_subject import CfgSubject
from nnie_prep.nnie.finding import Found, Rule
from nnie_prep.nnie.mapper_cfg import FEATURE_MAP, NO_FILE, WITH_MEAN_IMAGE, WITH_MEAN_VALUES
from nnie_prep.nnie.preprocessing import normalising_layer
from nnie_prep.nnie.subject import blocks

_YUV = (3, 5)
_MEAN_ALONE = (1, 2)  # norm_type
# Of the scale: 0.00392 for 1/255 does no harm (a step of 8 bits is 4 %), 1/256 is 0.4 % off.
_SCALE_TOLERANCE = 1e-3
_MEAN_TOLERANCE = 0.5  # of 255


def cfg_group_count(subject: CfgSubject) -> Iterator[Found]:
    """There is not one group of image_list, image_type, norm_type and mean_file for each input.

    The compiler gives the first group to the first input of the prototxt, and so on.

    Instead: repeat the keys for each input, in the order of the prototxt.
    """
    if subject.net is not None and len(subject.cfg.groups) != len(subject.net.inputs()):
        names = subject.net.inputs()
        message = f"{len(subject.cfg.groups)} image_list, and the net's inputs are {', '.join(names)}"
        line = subject.cfg.groups[-1].lines.get("image_list", 0)
        yield Found(None, message, len(subject.cfg.groups), str(len(names)), "give each input its own", line)


def cfg_image_type(subject: CfgSubject) -> Iterator[Found]:
    """image_type is not what the input can be.

    Pictures have one channel or three (image_type 1), YUV has three (3 and 5); all else is a feature map
    (0), for which the list holds tensors and not pictures.

    Instead: set image_type 0 and norm_type 0, and have `mapper-cfg --tensors` write the list.
    """
    for name, shape, group in subject.inputs():
        if group.image_type == FEATURE_MAP:
            continue
        fits = cfg_draft.takes_pictures(shape, subject.limits)
        if not fits or (group.image_type in _YUV and shape[1] != 3):
            message = f"image_type is {group.image_type}, and input {name} is {blocks(shape[1:])}"
            wanted = "0 or 1" if fits else "0"
            line = subject.line("image_type", group)
            yield Found(None, message, group.image_type, wanted, f"set image_type {wanted}", line)


def cfg_feature_norm(subject: CfgSubject) -> Iterator[Found]:
    """A feature map is to be normalised.

    With image_type 0 norm_type can be 0 alone: values are taken as they are listed.

    Instead: set norm_type 0, and list what the net is fed with.
    """
    for group in subject.cfg.groups:
        if group.image_type == FEATURE_MAP and group.norm_type != 0:
            message = f"norm_type is {group.norm_type}, with image_type 0"
            line = subject.line("norm_type", group)
            yield Found(None, message, group.norm_type, "0", "set norm_type 0", line)


def cfg_twice(subject: CfgSubject) -> Iterator[Found]:
    """The net normalises its input itself, and the .cfg does it again.

    Values become 255 times too small, say, boxes weak or none, and nothing says so.

    Instead: set norm_type 0. (Where a first layer stands behind a mean that the net was trained with as
    well, give that to `mapper-cfg` with --mean and --scale.)
    """
    for name, _, group in subject.pictures():
        wanted = subject.wanted.get(name)
        if wanted is None or (wanted.open_mean and group.norm_type in _MEAN_ALONE):
            continue
        if wanted.in_net and group.norm_type != 0 and subject.net is not None:
            is_sure = normalising_layer(subject.net, name) is None
            message = f"norm_type is {group.norm_type}, and input {name} is normalised by {wanted.who}"
            line = subject.line("norm_type", group)
            yield Found(None, message, group.norm_type, "0", "set norm_type 0", line,
                        severity="" if is_sure else "warning")  # fmt: skip


def cfg_order(subject: CfgSubject) -> Iterator[Found]:
    """RGB_order is not the order that the net was trained with.

    Red and blue are swapped: detections become weak, colours wrong. Darknet's networks want RGB, those
    trained with Caffe's own layers BGR, which is the compiler's default.

    Instead: set it as the finding says.
    """
    for name, shape, group in subject.pictures():
        wanted = subject.wanted.get(name)
        if wanted and wanted.order and shape[1] == 3 and subject.cfg.RGB_order != wanted.order:
            message = (
                f"RGB_order is {subject.cfg.RGB_order}, and input {name} wants {wanted.order} ({wanted.who})"
            )
            line = subject.line("RGB_order") or subject.line("image_list", group)
            yield Found(
                None, message, subject.cfg.RGB_order, wanted.order, f"set RGB_order {wanted.order}", line
            )


def cfg_scale(subject: CfgSubject) -> Iterator[Found]:
    """Values are not multiplied by what the net was trained with.

    Without data_scale the compiler takes 1/256, where a Darknet network wants 1/255; and it is used with
    norm_type 3, 4 and 5 alone. A wrong scale weakens everything that the net finds.

    Instead: set norm_type and data_scale as the finding says.
    """
    for name, _, group in subject.pictures():
        wanted = subject.wanted.get(name)
        if wanted is None or wanted.in_net:
            continue
        if not math.isclose(group.scale, wanted.scale, rel_tol=_SCALE_TOLERANCE):
            message = f"input {name} is multiplied by {group.scale:.10g} (norm_type {group.norm_type})"
            limit = f"{wanted.scale:.10g} ({wanted.who})"
            repair = f"set data_scale {wanted.scale:.10g}, with norm_type 3, 4 or 5"
            line = subject.line("data_scale", group) or subject.line("norm_type", group)
            yield Found(None, message, group.scale, limit, repair, line)


def cfg_mean(subject: CfgSubject) -> Iterator[Found]:
    """The mean that is subtracted is missing, does not fit, or is not what the net was trained with.

    norm_type 1 and 4 want a .binaryproto of the input's size, 2 and 5 a text with a line for each channel, in
    the order of the net's channels. The key must be there in any case; `null` stands for none.

    Instead: `mapper-cfg --mean 104,117,123`, or --mean FILE, writes it as it must be.
    """
    for group in subject.cfg.groups:
        if "mean_file" not in group.lines and group.lines:
            line = subject.line("image_list", group)
            yield Found(None, "mean_file is missing", None, "a path, or null", "add [mean_file] null", line)
    for name, shape, group in subject.pictures():
        line = subject.line("mean_file", group) or subject.line("norm_type", group)
        form = (".binaryproto", True) if group.norm_type in WITH_MEAN_IMAGE else ("one float a line", False)
        wants_mean = group.norm_type in (*WITH_MEAN_IMAGE, *WITH_MEAN_VALUES)
        is_image = group.mean_file.endswith(".binaryproto")
        if wants_mean and group.mean_file != NO_FILE and is_image != form[1]:
            message = f"mean_file is {group.mean_file}, with norm_type {group.norm_type}"
            yield Found(None, message, group.mean_file, form[0], "choose another norm_type", line)
            continue
        try:
            mean = read_mean(subject.cfg, group, shape)
        except UserError as error:
            yield Found(None, error.message, group.mean_file, form[0], error.hint, line)
            continue
        wanted = subject.wanted.get(name)
        if wanted is not None and not wanted.in_net and wanted.mean_file is None:
            values = wanted.mean or (0.0,)
            found = mean.reshape(len(mean), -1)
            trained = [values[place % len(values)] for place in range(len(mean))]
            worst = max(abs(found[place] - value).max() for place, value in enumerate(trained))
            if worst > _MEAN_TOLERANCE:
                average = ",".join(f"{value:.6g}" for value in found.mean(axis=1))
                limit = f"{','.join(f'{value:.6g}' for value in trained)} ({wanted.who})"
                message = f"{average} is subtracted from input {name}"
                yield Found(None, message, average, limit, "write the mean of each channel", line)


def cfg_untold(subject: CfgSubject) -> Iterator[Found]:
    """Nobody says what is done to the pictures that the net was trained with.

    Then order, scale and mean in the .cfg cannot be checked.

    Instead: give what you know with --transform, --scale, --mean and --order.
    """
    for name, _, group in subject.pictures():
        if subject.wanted.get(name) is None:
            message = f"nobody says how input {name} is to be normalised"
            line = subject.line("norm_type", group)
            yield Found(
                None, message, None, "what it was trained with", "give --transform train_val.prototxt", line
            )


GUIDE = "an engineer's notes on the compiler, which quote the vendor's guide"
INPUT_RULES = (
    Rule(cfg_group_count, "B", GUIDE + ", and the guide as others quote it"),
    Rule(cfg_image_type, "B", GUIDE + ", and the vendor's header"),
    Rule(cfg_feature_norm, "B", GUIDE + ", and the guide as others quote it"),
    Rule(cfg_twice, "A", "the arithmetic of normalising twice"),
    Rule(cfg_order, "A", "what each framework trains with; users' reports"),
    Rule(cfg_scale, "A", "what each framework trains with; users' reports"),
    Rule(cfg_mean, "B", GUIDE + ", and the vendor's documents on the compiler's successor"),
    Rule(cfg_untold, "A", "nobody says", "info"),
)
