"""A .cfg that is right for a net: kind of net, bits, and the normalisation of each input."""

from __future__ import annotations

from collections.abc import Sequence

from nnie_prep.errors import UserError
from nnie_prep.names import HIGH_PRECISION
from nnie_prep.net import Net
from nnie_prep.nnie.limits import Limits
from nnie_prep.nnie.mapper_cfg import FEATURE_MAP
from nnie_prep.nnie.preprocessing import Preprocessing
from nnie_prep.shapes import Shape

RECURRENT = ("LSTM", "RNN")
ROI_POOLING = ("ROIPooling", "PSROIPooling")

CNN_NET, ROI_NET, RECURRENT_NET = 0, 1, 2
BITS_8, BITS_16, BITS_BY_LAYER = 0, 1, 2


def net_type(net: Net) -> int:
    """0 for a CNN, 1 with pooling of regions, 2 with recurrent layers."""
    types = {layer.type for layer in net.layers}
    if types.intersection(RECURRENT):
        return RECURRENT_NET
    return ROI_NET if types.intersection(ROI_POOLING) else CNN_NET


def compile_mode(net: Net, bits: int | None = None) -> int:
    """0 for 8 bits, 1 for 16, 2 where layers ask for 16 by their names; `bits` is the user's wish for all."""
    if bits is not None:
        return {8: BITS_8, 16: BITS_16}[bits]
    return BITS_BY_LAYER if high_precision_layers(net) else BITS_8


def high_precision_layers(net: Net) -> list[str]:
    """The layers that ask for 16 bits by their names, which the compiler heeds in compile_mode 2."""
    return [layer.name for layer in net.layers if layer.name.endswith(HIGH_PRECISION)]


def roi_layers(net: Net) -> list[str]:
    """Each wants a file of regions, in this order."""
    return [layer.name for layer in net.layers if layer.type in ROI_POOLING]


def takes_pictures(shape: Sequence[int], limits: Limits) -> bool:
    """Whether an input of this shape can be a picture: of 1 or 3 channels, and more than a point."""
    return len(shape) == 4 and limits["input_channels"].allows(shape[1]) and tuple(shape[2:]) != (1, 1)


def stride(limits: Limits, given: int | None = None) -> int:
    """What the user said; what the chip's memory wants; 16, which is the compiler's default."""
    known = limits["memory_stride"].one_of or (16,)
    return given or int(known[0])


def norm_type(preprocessing: Preprocessing, image_type: int, shape: Shape, where: str) -> int:
    """What the compiler is to do to values: its own case for each of mean, mean file and scale.

    Raises UserError for a mean that does not fit the channels.
    """
    if preprocessing.in_net or image_type == FEATURE_MAP:
        return 0
    scales = preprocessing.scale != 1
    if preprocessing.mean_file is not None:
        return 4 if scales else 1
    if not any(preprocessing.mean):
        return 3 if scales else 0
    if len(preprocessing.mean) not in (1, shape[1]):
        raise UserError(
            f"{len(preprocessing.mean)} values for {shape[1]} channels",
            where,
            "give one for each channel, in the order of the net's, or one for all",
        )
    return 5 if scales else 2


def mean_text(preprocessing: Preprocessing, channels: int) -> bytes:
    """The mean_file of norm_type 2 and 5: a line for each channel, in the net's order."""
    values = preprocessing.mean * channels if len(preprocessing.mean) == 1 else preprocessing.mean
    return "".join(f"{value!r}\n" for value in values).encode()
