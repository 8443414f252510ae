"""Sections that move values to other places: [upsample], [reorg], [reorg3d], [crop]."""

from __future__ import annotations

from nnie_prep import composites, kernels
from nnie_prep.darknet.builder import LARGEST_STEP, Builder, Output, refusal
from nnie_prep.darknet.cfg import Section


def emit_upsample(build: Builder, section: Section) -> Output:
    """scale * nearest neighbour; with a negative stride, scale * the sum of each block.

    AlexeyAB blas.c:381 upsample_cpu, upsample_layer.c:73.
    """
    stride = section.int("stride", 2, at_least=-LARGEST_STEP, at_most=LARGEST_STEP)
    scale = section.float("scale", 1.0)
    if stride == 0:
        raise refusal(section, "stride", "stride=0, expected another number", "correct it")
    source = build.input()
    blob = build.picture(source)
    if stride == 1 and scale == 1.0:
        return Output(source.shape, blob)
    channels, height, width = source.shape
    if stride < 0:
        _check_divides(section, source, stride)
    if abs(stride) == 1:
        blob = build.add("Power", "upsample", blob, power_param={"scale": scale})
    elif build.target == "nnie" and stride == 2 and scale == 1.0:
        blob = build.add("Upsample", "upsample", blob, upsample_param={"scale": 2})
    elif stride > 0:
        blob = composites.enlarged(build.add, "upsample", blob, channels, (stride, stride), scale)
    else:
        step = (-stride, -stride)
        blob = build.add(
            "Convolution",
            "upsample",
            blob,
            blobs=[kernels.filled((channels, 1, *step), scale)],
            convolution_param=kernels.convolution_param(channels, step, stride=step, group=channels),
        )
    size = (height * stride, width * stride) if stride > 0 else (height // -stride, width // -stride)
    return Output((channels, *size), blob)


def emit_reorg(build: Builder, section: Section) -> Output:
    """The reorg of YOLOv2 (AlexeyAB reorg_old_layer.c, pjreddie reorg_layer.c).

    Forward: the flat input read as (c/s^2, h*s, w*s), its s x s blocks spread over the channels, the flat
    result read as (c*s^2, h/s, w/s). Not the usual space-to-depth, which [reorg3d] is.
    Reverse: each s^2 channels become a block: (c/s^2, h*s, w*s).
    """
    stride, reverse = (
        section.int("stride", 1, at_least=1, at_most=LARGEST_STEP),
        bool(section.int("reverse", 0)),
    )
    if build.flavor == "pjreddie":
        for key in ("flatten", "extra"):
            if section.int(key, 0):
                build.refuse(
                    key, f"[reorg] with {key} has no form in stock Caffe layers", f"train without {key}"
                )
    source = build.input()
    channels, height, width = source.shape
    square = stride * stride
    if channels % square:
        raise refusal(
            section,
            "stride",
            f"stride={stride} needs channels divisible by {square}, found {channels}",
            "correct it",
        )
    if reverse:
        return _depth_to_space(build, build.picture(source), stride)
    _check_divides(section, source, stride)
    blob = build.picture(source)
    if stride == 1:
        return Output(source.shape, blob)
    blob = build.shaped(blob, (1, channels // square, height * stride, width * stride))
    shape = (channels * square, height // stride, width // stride)
    return Output(shape, build.shaped(_space_to_depth(build, blob, stride), (1, *shape)))


def emit_reorg3d(build: Builder, section: Section) -> Output:
    """Space-to-depth: channel off*c + k is channel k at (off / s, off % s) of each block.

    reverse=1 is not its inverse: Darknet passes the output's shape for the input's (AlexeyAB
    reorg_layer.c:103), so the flat input is read as (c/s^2, h*s, w*s) and spread from depth to space, and
    the flat result is read in that same shape.
    """
    stride, reverse = (
        section.int("stride", 1, at_least=1, at_most=LARGEST_STEP),
        bool(section.int("reverse", 0)),
    )
    source = build.input()
    blob = build.picture(source)
    if stride == 1:
        return Output(source.shape, blob)
    if not reverse:
        _check_divides(section, source, stride)
        channels, height, width = source.shape
        blob = _space_to_depth(build, blob, stride)
        return Output((channels * stride * stride, height // stride, width // stride), blob)
    channels, height, width = source.shape
    if channels % stride**4:
        raise refusal(
            section,
            "stride",
            f"reverse=1 with stride={stride} needs channels divisible by {stride**4}, found {channels}; "
            "Darknet writes beyond its output else",
            "correct it",
        )
    shape = (channels // (stride * stride), height * stride, width * stride)
    spread = _depth_to_space(build, build.shaped(blob, (1, *shape)), stride)
    return Output(shape, build.shaped(spread.blob, (1, *shape)))


def _check_divides(section: Section, source: Output, stride: int) -> None:
    height, width = source.size
    if height % stride or width % stride:
        raise refusal(
            section,
            "stride",
            f"stride={stride} does not divide its input, {height} x {width}; Darknet mixes up its rows",
            "use an input size that it divides",
        )


def _space_to_depth(build: Builder, blob: str, stride: int) -> str:
    return composites.space_to_depth(build.add, "reorg", blob, build.shapes[blob][1], (stride, stride))


def _depth_to_space(build: Builder, blob: str, stride: int) -> Output:
    """Channel off*n + k becomes channel k at (off / s, off % s) of each block, n = channels / s^2."""
    _, channels, height, width = build.shapes[blob]
    count = channels // (stride * stride)
    if stride > 1:
        blob = build.add(
            "Deconvolution",
            "reorg",
            blob,
            blobs=[kernels.space_to_depth(count, (stride, stride))],
            convolution_param=kernels.convolution_param(count, (stride, stride), stride=(stride, stride)),
        )
    return Output((count, height * stride, width * stride), blob)


def emit_crop(build: Builder, section: Section) -> Output:
    """The middle of the picture, and 2x - 1 unless noadjust=1 (AlexeyAB crop_layer.c:57)."""
    wanted = (section.int("crop_height", 1, at_least=1), section.int("crop_width", 1, at_least=1))
    adjust = not section.int("noadjust", 0)
    source = build.input()
    spare = [have - want for have, want in zip(source.size, wanted, strict=True)]
    if min(spare) < 0:
        raise refusal(
            section,
            "crop_height" if spare[0] < 0 else "crop_width",
            f"crops to {wanted[0]} x {wanted[1]} an input of {source.size[0]} x {source.size[1]}",
            "correct the size, or that of [net]",
        )
    rows, columns = ((extra // 2, extra - extra // 2) for extra in spare)
    scale, shift = (2.0, -1.0) if adjust else (1.0, 0.0)
    return Output(
        (source.channels, *wanted),
        composites.crop(
            build.add, build.picture(source), source.channels, rows, columns, scale=scale, shift=shift
        ),
    )
