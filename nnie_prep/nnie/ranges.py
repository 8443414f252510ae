"""Numbers: integer parameters, extents of maps and weights, exponents."""

from __future__ import annotations

from collections.abc import Iterator

from nnie_prep import params
from nnie_prep.net import Layer
from nnie_prep.nnie.finding import Found, Rule
from nnie_prep.nnie.subject import Subject, blocks
from nnie_prep.shapes import blob_shapes
from nnie_prep.shapes.weights import CONVOLUTION_TYPES

# Integer parameters besides those of windows: message and field.
_INTEGERS = {
    "LRN": (("lrn_param", "local_size"),),
    "PSROIPooling": (("psroi_pooling_param", "group_size"),),
    "ROIPooling": (("roi_pooling_param", "pooled_h"), ("roi_pooling_param", "pooled_w")),
    "SPP": (("spp_param", "pyramid_height"),),
}


def window_range(subject: Subject) -> Iterator[Found]:
    """A kernel, a stride or a pad is out of the chip's range.

    Most integer parameters may be 1 to 255, and a pad 0 as well. For some layers the true limits may be
    narrower; the vendor's table of them was not at hand when this rule was written.

    Instead: write a large kernel as several small ones, and a pooling over the whole map as global_pooling.
    If you have the table, write it into a file of limits (`--limits`).
    """
    size, pad = subject.limits["window_size"], subject.limits["window_pad"]
    for layer in subject.net.layers:
        window = _window(subject, layer)
        if window is None:
            continue
        for name, values, limit in (
            ("kernel", window.kernel, size),
            ("stride", window.stride, size),
            ("pad", window.pad, pad),
        ):
            wrong = [value for value in values if not limit.allows(value)]
            if wrong and not (name == "kernel" and values == (0, 0)):  # of global pooling
                yield Found(layer, f"its {name} is {blocks(values)}", wrong[0], limit)


def _window(subject: Subject, layer: Layer) -> params.Convolution | params.Pooling | None:
    if layer.type in CONVOLUTION_TYPES:
        return subject.parameters(params.convolution, layer)
    return subject.parameters(params.pooling, layer) if layer.type == "Pooling" else None


def integer_range(subject: Subject) -> Iterator[Found]:
    """An integer parameter is out of the chip's range.

    Most of them may be 1 to 255: LRN's local_size, SPP's pyramid_height, the sizes of ROI pooling.

    Instead: choose a smaller one; the net has to be trained with it.
    """
    limit = subject.limits["integer_parameter"]
    for layer in subject.net.layers:
        for message, field in _INTEGERS.get(layer.type, ()):
            value = getattr(getattr(layer.proto, message), field)
            if not limit.allows(value):
                yield Found(layer, f"its {field} is {value}", value, limit)


def map_extent(subject: Subject) -> Iterator[Found]:
    """A map has more channels, rows or columns than the chip can address.

    Most dimensions of maps may be at most 4096. Vectors, which is what inner products give, are not meant.

    Instead: fewer filters, or a smaller picture; one layer's channels can be computed by two and joined
    later.
    """
    limit = subject.limits["map_extent"]
    for layer in subject.net.layers:
        before = {extent for shape in subject.bottom_shapes(layer) for extent in shape[1:]}
        for name, shape in zip(layer.tops, subject.top_shapes(layer), strict=False):
            wrong = [extent for extent in shape[1:] if not limit.allows(extent) and extent not in before]
            if len(shape) == 4 and wrong and shape[2:] != (1, 1):
                yield Found(layer, f"its top {name} is {blocks(shape[1:])}", wrong[0], limit)


def weight_extent(subject: Subject) -> Iterator[Found]:
    """The weights of a convolution have more filters, or more channels, than the chip can address.

    Most dimensions of weights may be at most 4096. Those of inner products, which are larger in networks of
    the vendor's own, are not meant.

    Instead: fewer filters; or two convolutions, each with a part of them, joined by a Concat.
    """
    limit = subject.limits["weight_extent"]
    for layer in subject.net.layers:
        bottoms = subject.bottom_shapes(layer)
        if layer.type in CONVOLUTION_TYPES and bottoms and layer not in subject.refused:
            shape = blob_shapes(layer, bottoms)[0]
            wrong = [extent for extent in shape[:2] if not limit.allows(extent)]
            if wrong:
                yield Found(layer, f"its weights are {blocks(shape)}", wrong[0], limit)


def power_exponent(subject: Subject) -> Iterator[Found]:
    """A Power has an exponent that the chip lacks.

    It knows -3, -2, -1, -1/2, 1/2, 1, 2 and 3. Other scales and shifts are no matter.

    Instead: `prepare` writes one that is a product of these as several Powers one behind the other (4 is 2
    and 2). Make any other a layer of type Custom.
    """
    limit = subject.limits["power_exponent"]
    for layer in subject.net.layers:
        value = layer.proto.power_param.power
        if layer.type == "Power" and not limit.allows(value):
            yield Found(layer, f"its power is {value:g}", value, limit)


_READER = "one reader of the vendor's tables"
RULES = (
    Rule(window_range, "C", _READER, limits=("window_size", "window_pad")),
    Rule(integer_range, "C", _READER, limits=("integer_parameter",)),
    Rule(map_extent, "C", _READER, limits=("map_extent",)),
    Rule(weight_extent, "C", _READER, limits=("weight_extent",)),
    Rule(power_exponent, "C", _READER, limits=("power_exponent",)),
)
