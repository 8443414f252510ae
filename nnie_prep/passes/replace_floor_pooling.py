"""Replace poolings that round down by ones that round up, which is all that NNIE and older Caffes know.

    before:  x -> Pooling (FLOOR) -> y        after:  x -> Pooling -> one-hot convolution -> y

Where both give the same size, only the field goes. Where rounding up adds a last row or column, it is cut
off again; where that window would hold nothing, what it begins at is cut off before. A kernel of one pixel
becomes a convolution with a stride, which rounds down by itself.

Declined where the size of the bottom is not known, and where a second top is asked for, with the places
of the maxima.
"""

from __future__ import annotations

from nnie_prep import composites, params
from nnie_prep.blob_map import Note
from nnie_prep.composites import Add
from nnie_prep.net import Layer, Net
from nnie_prep.params import Pair
from nnie_prep.passes.replacement import replace_layer
from nnie_prep.shapes import Shape, known_shapes
from nnie_prep.shapes.windows import pooled_size


def replace_floor_pooling(net: Net) -> list[Note]:
    """Leaves no pooling that says how it rounds."""
    poolings = [layer for layer in net.layers if layer.type == "Pooling" and _says_how(layer)]
    shapes = known_shapes(net) if poolings else {}
    return [_replaced(net, layer, shapes) for layer in poolings]


def _says_how(layer: Layer) -> bool:
    parameter = layer.proto.pooling_param
    return parameter.HasField("round_mode") or parameter.HasField("ceil_mode")


def _replaced(net: Net, layer: Layer, shapes: dict[str, Shape]) -> Note:
    window = params.pooling(layer)
    if window.round_up:
        _round_up(layer)
        return Note(layer.name, "rounds up, as is the default: the field left out")
    shape = shapes.get(layer.bottoms[0])
    if window.global_pooling or window.stride == (1, 1):
        _round_up(layer)
        return Note(layer.name, "rounds nothing: the field left out")
    if shape is None:
        return Note(
            layer.name, "not replaced: rounds down, and the size of its bottom is not known", changed=False
        )
    size = shape[2], shape[3]
    down, up = pooled_size(window, size), pooled_size(window._replace(round_up=True), size)
    sizes = f"{down[0]} x {down[1]} where Caffe's rounding up gives {up[0]} x {up[1]}"
    if down == up:
        _round_up(layer)
        return Note(layer.name, f"makes {up[0]} x {up[1]} however it is rounded: the field left out")
    if len(layer.tops) > 1:
        return Note(layer.name, f"not replaced: makes {sizes}, and has a second top", changed=False)
    return _rewritten(net, layer, window, shape, down, up, sizes)


def _rewritten(
    net: Net, layer: Layer, window: params.Pooling, shape: Shape, down: Pair, up: Pair, sizes: str
) -> Note:
    _, channels, *size = shape
    # Without padding Caffe computes a window that begins behind the picture.
    holds_nothing = window.pad == (0, 0) and any(
        (have - 1) * step >= extent for have, step, extent in zip(up, window.stride, size, strict=True)
    )

    def pixels(add: Add, blob: str) -> str:
        return composites.thinned(add, blob, channels, window.stride)

    def cut_before(add: Add, blob: str) -> str:
        used = [
            (count - 1) * step + kernel
            for count, step, kernel in zip(down, window.stride, window.kernel, strict=True)
        ]
        rows, columns = (
            (0, extent - end if have != count else 0)
            for extent, end, have, count in zip(size, used, up, down, strict=True)
        )
        blob = composites.crop(add, blob, channels, rows, columns)
        return pooling(add, "", blob)

    def cut_behind(add: Add, blob: str) -> str:
        blob = pooling(add, "ceil", blob)
        rows, columns = ((0, have - count) for have, count in zip(up, down, strict=True))
        return composites.crop(add, blob, channels, rows, columns)

    def pooling(add: Add, suffix: str, blob: str) -> str:
        _round_up(layer)
        return add("Pooling", suffix, blob, pooling_param=layer.proto.pooling_param)

    if window.kernel == (1, 1):
        form, text = pixels, "it is a convolution with that stride now"
    elif holds_nothing:
        form, text = cut_before, "what its windows do not reach is cut off before it"
    else:
        form, text = cut_behind, "the rest is cut off behind it"
    _, reason = replace_layer(net, layer, form)
    assert not reason, reason  # a pooling is never in place
    return Note(layer.name, f"makes {sizes}: {text}")


def _round_up(layer: Layer) -> None:
    for field in ("round_mode", "ceil_mode"):
        layer.proto.pooling_param.ClearField(field)
