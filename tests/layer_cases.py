"""Random layers of every type: parameters, shapes of bottoms and kinds of values, drawn from a seed.

What is drawn is valid by construction, by conditions written here from Caffe's source, so that
nothing in nnie_prep decides which layers are tested.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, ...]
Values = Callable[[int, Shape, np.random.Generator], NDArray[np.float64]]


@dataclass(frozen=True)
class Case:
    """One layer: the text of its parameters, the shapes of its bottoms, its number of tops.

    `values` says what the bottoms hold: "normal"; "special", with infinities, NaN and both zeros
    mixed in; "positive"; "tied", few different numbers; an int n, indices below n (in the last
    bottom only); or a function that draws them for a bottom of that index and shape.
    """

    parameters: str
    bottoms: tuple[Shape, ...]
    tops: int = 1
    in_place: bool = False
    values: str | int | Values = "normal"


def picture(r: Random, height: int = 0, width: int = 0, channels: int = 0) -> Shape:
    """(N, C, H, W), sizes odd or even, rarely square; what is not given is drawn."""
    return (
        r.randint(1, 3),
        channels or r.randint(1, 7),
        height or r.randint(1, 13),
        width or r.randint(1, 13),
    )


def any_shape(r: Random, fewest: int = 1, most: int = 5) -> Shape:
    return tuple(r.randint(1, 6) for _ in range(r.randint(fewest, most)))


def axis_of(r: Random, axis: int, axes: int) -> int:
    """The axis, counted from the front or the back."""
    return r.choice([axis, axis - axes])


# ---- windows -----------------------------------------------------------------------------------


def spell(r: Random, pair: tuple[int, int], both: str, split: tuple[str, str] | None) -> str:
    """One of the ways to write a pair in a convolution_param."""
    ways = [f"{both}: {pair[0]} {both}: {pair[1]}"]
    if pair[0] == pair[1]:
        ways.append(f"{both}: {pair[0]}")
    if split:
        ways.append(f"{split[0]}: {pair[0]} {split[1]}: {pair[1]}")
    return r.choice(ways)


def window(r: Random, transposed: bool = False) -> tuple[str, tuple[int, int]]:
    """The text of kernel, stride, pad and dilation, and a size of the bottom that gives a top."""
    kernel = (r.randint(1, 5), r.randint(1, 5)) if r.random() < 0.7 else (r.choice([1, 3]),) * 2
    stride = (r.randint(1, 3), r.randint(1, 4)) if r.random() < 0.6 else (1, 1)
    dilation = (r.randint(1, 3), r.randint(1, 3)) if r.random() < 0.4 else (1, 1)
    pad, size = [0, 0], [0, 0]
    for axis in (0, 1):
        extent = dilation[axis] * (kernel[axis] - 1) + 1
        pad[axis] = r.choice([0, 0, extent // 2, r.randint(0, 4)])
        if transposed:
            # stride * (size - 1) + extent - 2 * pad >= 1
            least = -(-(1 + 2 * pad[axis] - extent) // stride[axis]) + 1
        else:
            # Down to one stride less than the kernel, where C++ rounds the division up to 0.
            least = extent - 2 * pad[axis] - (stride[axis] - 1)
        size[axis] = max(1, least) + r.choice([0, 1, r.randint(0, 11)])
    text = [
        spell(r, kernel, "kernel_size", ("kernel_h", "kernel_w")),
        spell(r, stride, "stride", ("stride_h", "stride_w")),
        spell(r, (pad[0], pad[1]), "pad", ("pad_h", "pad_w")),
        spell(r, dilation, "dilation", None),
    ]
    return " ".join(text), (size[0], size[1])


def convolution(r: Random, transposed: bool = False) -> Case:
    text, size = window(r, transposed)
    group = r.choice([1, 1, 2, 3, 5])
    inputs, outputs = group * r.randint(1, 3), group * r.randint(1, 3)
    bias = "" if r.random() < 0.5 else f"bias_term: {r.choice(['true', 'false'])}"
    parameters = f"num_output: {outputs} group: {group} {text} {bias}"
    bottom = picture(r, *size, channels=inputs)
    if r.random() < 0.15:
        bottom = (2, *bottom)
        parameters += f" axis: {r.choice([2, -3])}"
    count = 2 if r.random() < 0.1 else 1
    return Case(f"convolution_param {{ {parameters} }}", (bottom,) * count, tops=count)


def deconvolution(r: Random) -> Case:
    return convolution(r, transposed=True)


def depthwise(r: Random) -> Case:
    text, size = window(r)
    channels = r.choice([1, 2, 4, 9])
    outputs = channels * r.choice([1, 1, 2, 3])
    text += f" num_output: {outputs} bias_term: {r.choice(['true', 'false'])}"
    bottom = picture(r, *size, channels=channels)
    if r.random() < 0.15:
        bottom = (2, *bottom)
        text += f" axis: {r.choice([2, -3])}"
    count = 2 if r.random() < 0.1 else 1
    return Case(f"convolution_param {{ {text} }}", (bottom,) * count, tops=count)


def im2col(r: Random) -> Case:
    text, size = window(r)
    return Case(f"convolution_param {{ {text} }}", (picture(r, *size),))


def pooling(r: Random) -> Case:
    method = r.choice(["MAX", "AVE"])
    tops = r.choice([1, 1, 2]) if method == "MAX" else 1
    values = r.choice(["normal", "special", "tied"]) if method == "MAX" else "normal"
    if r.random() < 0.15:
        text = f"pool: {method} global_pooling: true"
        return Case(f"pooling_param {{ {text} }}", (picture(r),), tops=tops, values=values)
    floor = r.random() < 0.3
    kernel, stride, pad, size = [0, 0], [0, 0], [0, 0], [0, 0]
    for axis in (0, 1):
        kernel[axis], stride[axis] = r.randint(1, 5), r.randint(1, 4)
        pad[axis] = r.choice([0, r.randint(0, kernel[axis] - 1)])
        # Rounded up, one stride less than the kernel is enough; one element is clipped with padding.
        least = kernel[axis] - 2 * pad[axis] - (0 if floor else stride[axis] - 1)
        size[axis] = max(1, least) + r.choice([0, 1, r.randint(0, 11)])
    text = [f"pool: {method}", "round_mode: FLOOR" if floor else r.choice(["", "round_mode: CEIL"])]
    for name, pair in (("kernel", kernel), ("stride", stride), ("pad", pad)):
        both = "kernel_size" if name == "kernel" else name
        if pair[0] == pair[1] and r.random() < 0.5:
            text.append(f"{both}: {pair[0]}")
        else:
            text.append(f"{name}_h: {pair[0]} {name}_w: {pair[1]}")
    return Case(f"pooling_param {{ {' '.join(text)} }}", (picture(r, *size),), tops=tops, values=values)


def spp(r: Random) -> Case:
    while True:
        height, width, levels = r.randint(1, 17), r.randint(1, 17), r.randint(1, 3)
        # Caffe refuses where the padding of a level, half of what its kernels exceed, reaches a kernel.
        fits = True
        for extent in (height, width):
            for bins in (2**level for level in range(levels)):
                kernel = -(-extent // bins)
                fits &= (kernel * bins - extent + 1) // 2 < kernel
        if fits:
            text = f"pyramid_height: {levels} pool: {r.choice(['MAX', 'AVE'])}"
            return Case(f"spp_param {{ {text} }}", (picture(r, height, width),))


# ---- elements ----------------------------------------------------------------------------------


def element_wise(
    draw: Callable[[Random], str], values: str = "special", axes: tuple[int, int] = (1, 5)
) -> Callable[[Random], Case]:
    def case(r: Random) -> Case:
        shape = any_shape(r, *axes)
        return Case(draw(r), (shape,), in_place=r.random() < 0.5, values=r.choice(["normal", values]))

    return case


def number(r: Random) -> float:
    return r.choice([0.0, 1.0, -1.0, 2.0, 0.5, round(r.uniform(-2, 2), 3)])


def relu(r: Random) -> str:
    return r.choice(["", f"relu_param {{ negative_slope: {number(r)} }}"])


def power(r: Random) -> str:
    exponent = r.choice([0, 1, 2, 3, -1, 0.5, round(r.uniform(-2, 2), 2)])
    return f"power_param {{ power: {exponent} scale: {number(r)} shift: {number(r)} }}"


def exp(r: Random) -> str:
    return f"exp_param {{ base: {r.choice([-1, 1, 2, 0.3, 10])} scale: {number(r)} shift: {number(r)} }}"


def log(r: Random) -> str:
    base, scale = r.choice([-1, 2, 0.3, 10]), r.choice([1, 0.5, 3])
    return f"log_param {{ base: {base} scale: {scale} shift: {r.choice([0, 1, 0.25])} }}"


def log_case(r: Random) -> Case:
    return Case(log(r), (any_shape(r),), in_place=r.random() < 0.5, values="positive")


def clip(r: Random) -> str:
    return f"clip_param {{ min: {number(r)} max: {number(r)} }}"


def absval(r: Random) -> Case:
    return Case("", (any_shape(r),), values="special")


def swish(r: Random) -> str:
    # Not 0: how 0 * infinity comes out depends on the BLAS that Caffe was built with.
    return r.choice(["", f"swish_param {{ beta: {r.choice([-1, 0.5, 1, 2])} }}"])


def prelu(r: Random) -> str:
    return r.choice(["", "prelu_param { channel_shared: true }"])


def eltwise(r: Random) -> Case:
    count, shape = r.randint(2, 4), any_shape(r)
    operation = r.choice(["PROD", "SUM", "MAX", ""])
    text = f"operation: {operation}" if operation else ""
    if operation in ("SUM", "") and r.random() < 0.6:
        text += "".join(f" coeff: {number(r)}" for _ in range(count))
    in_place = operation == "PROD" and r.random() < 0.4
    values = r.choice(["special", "normal"]) if operation == "MAX" else "normal"
    return Case(f"eltwise_param {{ {text} }}", (shape,) * count, in_place=in_place, values=values)


def scale(r: Random, name: str = "scale_param") -> Case:
    shape = any_shape(r, 2, 5)
    axis = r.choice([1, 1, r.randrange(len(shape))])
    bias = r.choice(["", "bias_term: true", "bias_term: false"]) if name == "scale_param" else ""
    if r.random() < 0.35:
        count = r.randint(0, len(shape) - axis)
        text = f"axis: {axis_of(r, axis, len(shape))} {bias}"
        bottoms: tuple[Shape, ...] = (shape, shape[axis : axis + count])
    else:
        count = r.choice([1, 1, -1, r.randint(0, len(shape) - axis)])
        text = f"axis: {axis_of(r, axis, len(shape))} num_axes: {count} {bias}"
        bottoms = (shape,)
    return Case(f"{name} {{ {text} }}", bottoms, in_place=r.random() < 0.4)


def bias(r: Random) -> Case:
    return scale(r, "bias_param")


# ---- statistics --------------------------------------------------------------------------------


def batch_norm(r: Random) -> Case:
    eps = f"eps: {r.choice([1e-5, 1e-3, 0.1])}" if r.random() < 0.5 else ""
    stats = r.choice(["", "use_global_stats: true", "use_global_stats: false"])
    if stats.endswith("false"):
        shape: Shape = (r.randint(2, 4), r.randint(1, 5), r.randint(2, 6), r.randint(2, 6))
    else:
        shape = any_shape(r, 2, 5)
    return Case(f"batch_norm_param {{ {eps} {stats} }}", (shape,), in_place=r.random() < 0.5)


def lrn(r: Random) -> Case:
    region = r.choice(["ACROSS_CHANNELS", "WITHIN_CHANNEL"])
    text = f"local_size: {r.choice([1, 3, 5, 7])} norm_region: {region} alpha: {r.choice([1e-4, 0.5, 2])}"
    text += f" beta: {r.choice([0.75, 0.5, 1.2])} k: {r.choice([1, 2, 0.5])}"
    return Case(f"lrn_param {{ {text} }}", (picture(r),))


def mvn(r: Random) -> Case:
    text = f"normalize_variance: {r.choice(['true', 'false'])} across_channels: {r.choice(['true', 'false'])}"
    if r.random() < 0.5:
        text += f" eps: {r.choice([0.01, 0.5])}"
    axes = r.choice([2, 3, 4, 4])
    # With at least 8 elements to a mean, so that the variance is not mere rounding.
    shape = (r.randint(1, 3), r.randint(2, 5), r.randint(8, 12), r.randint(2, 9))[:axes]
    if axes == 2:
        text = "normalize_variance: false"
    return Case(f"mvn_param {{ {text} }}", (shape,), in_place=axes == 4 and r.random() < 0.5)


def normalize(r: Random) -> Case:
    text = f"across_spatial: {r.choice(['true', 'false'])} channel_shared: {r.choice(['true', 'false'])}"
    if r.random() < 0.5:
        text += f" eps: {r.choice([1e-6, 0.1])}"
    return Case(f"norm_param {{ {text} }}", (any_shape(r, 2, 4),))


def softmax(r: Random) -> Case:
    shape = any_shape(r)
    text = f"axis: {axis_of(r, r.randrange(len(shape)), len(shape))}"
    if len(shape) > 1 and r.random() < 0.3:
        text = ""
    return Case(f"softmax_param {{ {text} }}", (shape,), in_place=r.random() < 0.4)


# ---- products and reductions -------------------------------------------------------------------


def inner_product(r: Random) -> Case:
    shape = any_shape(r)
    axis = r.choice([min(1, len(shape) - 1), r.randrange(len(shape))])
    text = f"num_output: {r.randint(1, 9)} axis: {axis_of(r, axis, len(shape))}"
    text += f" transpose: {r.choice(['true', 'false'])} bias_term: {r.choice(['true', 'false'])}"
    return Case(f"inner_product_param {{ {text} }}", (shape,))


def embed(r: Random) -> Case:
    words = r.randint(1, 9)
    text = f"input_dim: {words} num_output: {r.randint(1, 6)} bias_term: {r.choice(['true', 'false'])}"
    return Case(f"embed_param {{ {text} }}", (any_shape(r, 1, 3),), values=words)


def reduction(r: Random) -> Case:
    shape = any_shape(r)
    text = f"operation: {r.choice(['SUM', 'ASUM', 'SUMSQ', 'MEAN'])}"
    text += f" axis: {axis_of(r, r.randrange(len(shape)), len(shape))} coeff: {number(r)}"
    return Case(f"reduction_param {{ {text} }}", (shape,))


def argmax(r: Random) -> Case:
    shape = any_shape(r)
    text = r.choice(["", "out_max_val: true"])
    choices = 1
    if r.random() < 0.6:
        axis = r.randrange(len(shape))
        text += f" axis: {axis_of(r, axis, len(shape))}"
        choices = shape[axis]
    else:
        for extent in shape[1:]:
            choices *= extent
    return Case(
        f"argmax_param {{ {text} top_k: {r.randint(1, choices)} }}",
        (shape,),
        values=r.choice(["tied", "normal"]),
    )


# ---- layers that move values -------------------------------------------------------------------


def concat(r: Random) -> Case:
    shape = any_shape(r)
    axis = r.randrange(len(shape))
    count = r.randint(1, 4)
    bottoms = tuple((*shape[:axis], r.randint(1, 5), *shape[axis + 1 :]) for _ in range(count))
    name = r.choice(["axis", "concat_dim"])
    at = axis if name == "concat_dim" else axis_of(r, axis, len(shape))
    text = "" if axis == 1 and r.random() < 0.5 else f"{name}: {at}"
    return Case(f"concat_param {{ {text} }}", bottoms)


def slice_(r: Random) -> Case:
    axis = r.randint(0, 3)
    tops = r.randint(1, 4)
    name = r.choice(["axis", "slice_dim"])
    text = f"{name}: {axis if name == 'slice_dim' else axis_of(r, axis, 4)}"
    shape = [r.randint(1, 5) for _ in range(4)]
    if r.random() < 0.6 and tops > 1:
        shape[axis] = tops + r.randint(0, 5)
        points = sorted(r.sample(range(1, shape[axis]), tops - 1))
        text += "".join(f" slice_point: {point}" for point in points)
    else:
        shape[axis] = tops * r.randint(1, 3)
    return Case(f"slice_param {{ {text} }}", (tuple(shape),), tops=tops)


def split(r: Random) -> Case:
    return Case("", (any_shape(r),), tops=r.randint(1, 3))


def silence(r: Random) -> Case:
    return Case("", (any_shape(r),) * r.randint(1, 2), tops=0)


def parameter(r: Random) -> Case:
    dims = "".join(f" dim: {extent}" for extent in any_shape(r))
    return Case(f"parameter_param {{ shape {{{dims} }} }}", ())


def reshape(r: Random) -> Case:
    shape = any_shape(r, 1, 4)
    start = r.randint(0, len(shape) - 1)
    end = r.randint(start, len(shape))
    old = shape[start:end]
    count = 1
    for extent in old:
        count *= extent
    new = []
    for factor in (2, 3, 2, 5):  # a random factorisation of what is replaced
        if count % factor == 0 and r.random() < 0.6:
            new.append(factor)
            count //= factor
    new.append(count)
    r.shuffle(new)
    for place, extent in enumerate(new):
        if start + place < len(shape) and shape[start + place] == extent and r.random() < 0.5:
            new[place] = 0
    if r.random() < 0.6:
        new[r.randrange(len(new))] = -1
    dims = "".join(f" dim: {extent}" for extent in new)
    axis = r.choice([start, start - len(shape) - 1])
    num_axes = -1 if end == len(shape) and r.random() < 0.5 else end - start
    return Case(f"reshape_param {{ shape {{{dims} }} axis: {axis} num_axes: {num_axes} }}", (shape,))


def flatten(r: Random) -> Case:
    shape = any_shape(r, 2, 5)
    start = r.randrange(len(shape))
    end = r.randrange(max(0, start - 1), len(shape))  # one in front of the start adds an axis of 1
    if start == 1 and end == len(shape) - 1:
        return Case("", (shape,))
    text = f"axis: {axis_of(r, start, len(shape))} end_axis: {axis_of(r, end, len(shape))}"
    return Case(f"flatten_param {{ {text} }}", (shape,))


def crop(r: Random) -> Case:
    shape = any_shape(r, 2, 4)
    axis = r.randrange(len(shape))
    one = r.random() < 0.4
    smallest = min(shape[axis:])
    common = r.randrange(smallest)
    offsets, size = [], list(shape[:axis])
    for extent in shape[axis:]:
        offset = common if one else r.randrange(extent)
        offsets.append(offset)
        size.append(r.randint(1, extent - offset))
    written = offsets[:1] if one else offsets
    text = "".join(f" offset: {offset}" for offset in written) if any(written) or r.random() < 0.5 else ""
    second = tuple(r.randint(1, 4) for _ in range(axis)) + tuple(size[axis:])
    return Case(f"crop_param {{ axis: {axis_of(r, axis, len(shape))}{text} }}", (shape, second))


def tile(r: Random) -> Case:
    shape = any_shape(r)
    return Case(
        f"tile_param {{ axis: {axis_of(r, r.randrange(len(shape)), len(shape))} tiles: {r.randint(1, 4)} }}",
        (shape,),
    )


def batch_reindex(r: Random) -> Case:
    shape = any_shape(r)
    return Case("", (shape, (r.randint(1, 7),)), values=shape[0])


def permute(r: Random) -> Case:
    shape = any_shape(r)
    order = r.sample(range(len(shape)), r.randint(0, len(shape)))
    return Case(f"permute_param {{ {' '.join(f'order: {axis}' for axis in order)} }}", (shape,))


def upsample(r: Random) -> Case:
    text = r.choice([f"scale: {r.randint(1, 4)}", f"scale_h: {r.randint(1, 4)} scale_w: {r.randint(1, 4)}"])
    return Case(f"upsample_param {{ {text} }}", (picture(r),))


def pass_through(r: Random) -> Case:
    block, channels = (r.randint(1, 3), r.randint(1, 4)), r.randint(1, 5)
    shape = picture(r, block[0] * r.randint(1, 4), block[1] * r.randint(1, 4), channels)
    text = f"num_output: {channels * block[0] * block[1]} block_height: {block[0]} block_width: {block[1]}"
    return Case(f"pass_through_param {{ {text} }}", (shape,))


def shuffle_channel(r: Random) -> Case:
    group, in_group = r.randint(1, 4), r.randint(1, 4)
    shape = any_shape(r, 2, 5)
    text = "" if group == 1 and r.random() < 0.5 else f"shuffle_channel_param {{ group: {group} }}"
    return Case(text, ((shape[0], group * in_group, *shape[2:]),))


def crelu(r: Random) -> Case:
    return Case("", (any_shape(r, 2, 5),), values=r.choice(["normal", "special"]))


def axpy(r: Random) -> Case:
    shape = any_shape(r, 2, 5)
    return Case("", ((*shape[:2], *[1] * r.randint(0, 2)), shape, shape))


def interp(r: Random) -> Case:
    beg, end = -r.choice([0, 0, 1, 2]), -r.choice([0, 0, 1, 3])
    bottom = picture(r, r.randint(1, 9) - beg - end, r.randint(1, 9) - beg - end)
    by_factor = [
        f"zoom_factor: {r.randint(1, 4)}",
        f"shrink_factor: {r.randint(1, 4)} height: 99 width: 99",
        f"zoom_factor: {r.randint(1, 4)} shrink_factor: {r.randint(1, 4)}",
    ]
    by_size = f"height: {r.randint(1, 14)} width: {r.randint(1, 14)}"
    pads = f" pad_beg: {beg} pad_end: {end}" if beg + end or r.random() < 0.5 else ""
    return Case(f"interp_param {{ {r.choice([*by_factor, by_size])}{pads} }}", (bottom,))


# ---- boxes -------------------------------------------------------------------------------------


def prior_box(r: Random) -> Case:
    # SSD cuts sizes off to whole pixels, which only those that are not whole can show.
    smallest = [r.choice([r.randint(1, 60), r.uniform(1, 60)]) for _ in range(r.choice([1, 1, 2, 3]))]
    text = "".join(f" min_size: {size:.3f}" for size in smallest)
    if r.random() < 0.6:
        text += "".join(f" max_size: {size + r.uniform(0.5, 50):.3f}" for size in smallest)
    ratios = r.choices([1, 2, 3, 0.5, 1.7, 1 / 3], k=r.randint(0, 4))
    text += "".join(f" aspect_ratio: {ratio:.7g}" for ratio in ratios)
    text += r.choice(["", " flip: true", " flip: false"]) + r.choice(["", " clip: true", " clip: false"])
    variances = [0.1, 0.1, 0.2, 0.3][: r.choice([0, 1, 4, 4])]
    text += "".join(f" variance: {variance}" for variance in r.sample(variances, len(variances)))
    image = r.choice(["", "", f" img_size: {r.randint(20, 300)}", f" img_h: {r.randint(20, 300)} img_w: 75"])
    text += image + r.choice(["", "", " step: 7.5", " step_h: 8 step_w: 16.25"])
    text += r.choice(["", f" offset: {r.choice([0, 0.25, 0.5])}"])
    one = image and r.random() < 0.5
    return Case(f"prior_box_param {{ {text} }}", (picture(r),) if one else (picture(r), picture(r, 96, 41)))


def detection_output(r: Random) -> Case:
    """With few different confidences, some of which are the threshold itself."""
    priors, classes, images = r.randint(1, 40), r.randint(1, 5), r.randint(1, 3)
    text = f"num_classes: {classes}" + r.choice(["", " share_location: true", " share_location: false"])
    sets = classes if text.endswith("false") else 1
    text += r.choice(["", " background_label_id: 0", f" background_label_id: {r.randint(-1, classes)}"])
    text += r.choice(["", " code_type: CORNER", " code_type: CENTER_SIZE", " code_type: CORNER_SIZE"])
    text += r.choice(["", " variance_encoded_in_target: true"])
    text += r.choice(["", f" keep_top_k: {r.choice([-1, 0, 2, 5, 30])}"])
    text += r.choice(["", " confidence_threshold: 0.25", " confidence_threshold: 0.7"])
    nms = r.choice(["", f"nms_threshold: {r.choice([0, 0.1, 0.45, 0.83, 1])}"])
    nms += r.choice(["", f" top_k: {r.choice([-1, 0, 3, 10])}"]) + r.choice(["", " eta: 0.9", " eta: 1"])
    text += f" nms_param {{ {nms} }}" if nms or r.random() < 0.5 else ""
    text += r.choice(
        ["", ' save_output_param { output_format: "VOC" resize_param { height: 3 } } visualize: false']
    )
    ones = [1] * r.randint(0, 2)  # as convolutions leave them
    few = r.random() < 0.5

    def values(index: int, shape: Shape, random: np.random.Generator) -> NDArray[np.float64]:
        if index == 0:
            return random.normal(size=shape) * 0.4
        if index == 1:
            confidences = random.random(shape)
            return np.round(confidences * 8) / 8 if few else confidences
        corners = random.random((priors, 2)) * 0.7
        boxes = np.concatenate([corners, corners + 0.1 + random.random((priors, 2)) * 0.4], axis=1)
        return np.stack([boxes, random.uniform(0.05, 0.6, boxes.shape)]).reshape(shape)

    shapes = (images, priors * sets * 4, *ones), (images, priors * classes, *ones), (1, 2, priors * 4, *ones)
    return Case(f"detection_output_param {{ {text} }}", shapes, values=values)


def regions(batch: int, size: tuple[int, int], scale: float) -> Values:
    """On the map, beyond it, turned inside out, and ending halfway between pixels."""

    def values(index: int, shape: Shape, random: np.random.Generator) -> NDArray[np.float64]:
        if index == 0:
            return random.normal(size=shape)
        image = random.integers(0, batch, (shape[0], 1))
        far = np.array([size[1], size[0]] * 2) / scale
        corners = random.uniform(-0.3, 1.3, (shape[0], 4)) * far
        halves = random.random(corners.shape) < 0.3
        corners = np.where(halves, (np.floor(corners * scale) + 0.5) / scale, corners)
        in_order = np.sort(corners.reshape(-1, 2, 2), axis=1).reshape(-1, 4)
        corners = np.where(random.random((shape[0], 1)) < 0.8, in_order, corners)
        return np.concatenate([image, corners], axis=1).reshape(shape)

    return values


def roi_pooling(r: Random) -> Case:
    bottom, count = picture(r), r.randint(1, 9)
    scale = r.choice([1, 0.0625, 0.25, 0.3])
    text = f"pooled_h: {r.randint(1, 7)} pooled_w: {r.randint(1, 7)}"
    text += "" if scale == 1 and r.random() < 0.5 else f" spatial_scale: {scale}"
    values = regions(bottom[0], bottom[2:], scale)
    return Case(
        f"roi_pooling_param {{ {text} }}", (bottom, (count, 5, *[1] * r.choice([0, 0, 2]))), values=values
    )


def psroi_pooling(r: Random) -> Case:
    group, outputs, scale = r.randint(1, 5), r.randint(1, 4), r.choice([1, 0.0625, 0.25, 0.3])
    bottom = picture(r, channels=outputs * group * group)
    text = f"spatial_scale: {scale} output_dim: {outputs} group_size: {group}"
    values = regions(bottom[0], bottom[2:], scale)
    return Case(f"psroi_pooling_param {{ {text} }}", (bottom, (r.randint(1, 9), 5)), values=values)


def relu6(r: Random) -> str:
    return r.choice(["", f"relu6_param {{ negative_slope: {number(r)} threshold: {r.choice([6, 1, 0.5])} }}"])


def nothing(r: Random) -> str:
    return ""


DRAW: dict[str, Callable[[Random], Case]] = {
    "AbsVal": absval,
    "ArgMax": argmax,
    "Axpy": axpy,
    "BatchNorm": batch_norm,
    "BatchReindex": batch_reindex,
    "Bias": bias,
    "BNLL": element_wise(nothing),
    "Clip": element_wise(clip),
    "Concat": concat,
    "Convolution": convolution,
    "ConvolutionDepthwise": depthwise,
    "CReLU": crelu,
    "Crop": crop,
    "Deconvolution": deconvolution,
    "DepthwiseConv": depthwise,
    "DepthwiseConvolution": depthwise,
    "DetectionOutput": detection_output,
    "Dropout": element_wise(nothing),
    "Eltwise": eltwise,
    "ELU": element_wise(lambda r: r.choice(["", f"elu_param {{ alpha: {number(r)} }}"])),
    "Embed": embed,
    "Exp": element_wise(exp, "normal"),
    "Flatten": flatten,
    "Im2col": im2col,
    "InnerProduct": inner_product,
    "Interp": interp,
    "Log": log_case,
    "LRN": lrn,
    "Mish": element_wise(nothing),
    "MVN": mvn,
    "Normalize": normalize,
    "Parameter": parameter,
    "PassThrough": pass_through,
    "Permute": permute,
    "Pooling": pooling,
    "Power": element_wise(power),
    "PriorBox": prior_box,
    "PReLU": element_wise(prelu, axes=(2, 4)),
    "PSROIPooling": psroi_pooling,
    "Reduction": reduction,
    "ReLU": element_wise(relu),
    "ReLU6": element_wise(relu6),
    "Reshape": reshape,
    "ROIPooling": roi_pooling,
    "Scale": scale,
    "ShuffleChannel": shuffle_channel,
    "Sigmoid": element_wise(nothing),
    "Silence": silence,
    "Slice": slice_,
    "Softmax": softmax,
    "Split": split,
    "SPP": spp,
    "Swish": element_wise(swish),
    "TanH": element_wise(nothing),
    "Threshold": element_wise(lambda r: f"threshold_param {{ threshold: {number(r)} }}"),
    "Tile": tile,
    "Upsample": upsample,
}
