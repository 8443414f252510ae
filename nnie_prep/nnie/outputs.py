"""Segments: how many there are, what enters and leaves them, and what leaves them by mistake."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nnie_prep.net import Layer
from nnie_prep.nnie.cfg_draft import ROI_POOLING
from nnie_prep.nnie.finding import Found, Rule
from nnie_prep.nnie.subject import Segment, Subject

_STOCK_STRIDES = [32, 16, 8]


def dangling_tops(subject: Subject) -> Iterator[Found]:
    """A layer has several tops and nobody reads one of them.

    To the compiler a blob without a reader is an output of the net. One that is left over (the other half
    of a Slice) takes one of sixteen places, is written to memory each time, and shifts the outputs by which
    your code counts: the stock YOLOv3 sample stops with "astSeg[0].u16DstNum should be 3".

    Instead: `prepare` gives the part that is needed a layer of its own.
    """
    for layer in subject.net.layers:
        readers = [subject.net.readers(layer, number) for number in range(len(layer.tops))]
        if not any(readers) or not layer.bottoms:  # of an Input a top costs nothing
            continue
        for name, found in zip(layer.tops, readers, strict=True):
            if not found:
                message = f"nobody reads its top {name}, which becomes an output of the net"
                yield Found(layer, message, name, "a reader for each top", subject.command("prepare"))


def segment_count(subject: Subject) -> Iterator[Found]:
    """Layers for the CPU cut the net into more segments than a model may have.

    Each Custom or Proposal layer, and each whose name ends in _cpu, ends a segment. A .wk holds 8.

    Instead: join neighbouring layers of the CPU into one Custom layer, or move them to the net's end.
    """
    limit, count = subject.limits["segments"], len(subject.segments)
    if not limit.allows(count):
        layer = subject.segments[int(limit.at_most or 0)].layers[0]
        yield Found(layer, f"the net has {count} segments; here the one too many begins", count, limit)


def segment_inputs(subject: Subject) -> Iterator[Found]:
    """A segment reads more blobs from outside than it may.

    The board's software has sixteen places for what enters a segment.

    Instead: join blobs by a Concat before they leave the segment before, or feed fewer.
    """
    yield from _counted(subject, "inputs")


def segment_outputs(subject: Subject) -> Iterator[Found]:
    """A segment gives out more blobs than it may.

    The board's software has sixteen places for what leaves a segment. Outputs are the blobs that nobody
    reads, those that a layer of the CPU reads, and those whose name ends in _report.

    Instead: join outputs of one size by a Concat, drop what nobody needs (`edit --until`), or report less.
    """
    yield from _counted(subject, "outputs")


def _counted(subject: Subject, what: str) -> Iterator[Found]:
    limit = subject.limits[f"segment_{what}"]
    for number, segment in enumerate(subject.segments):
        names: list[str] = getattr(segment, what)
        if not limit.allows(len(names)):
            layer = _writer_of(segment, names[-1]) if names else segment.layers[-1]
            message = f"segment {number} has {len(names)} {what}"
            yield Found(layer, message, len(names), limit)


def _writer_of(segment: Segment, name: str) -> Layer:
    """Who writes an output, or reads an input, of the segment."""
    return [layer for layer in segment.layers if name in (*layer.tops, *layer.bottoms)][-1]


def roi_layers(subject: Subject) -> Iterator[Found]:
    """There are more ROIPooling or PSROIPooling layers than a model may have.

    A .wk describes four of them, and each segment two.

    Instead: pool several maps as one, joined by a Concat, or compute a second stage by a model of its own.
    """
    pools = [layer for layer in subject.net.layers if layer.type in ROI_POOLING]
    limit = subject.limits["roi_layers"]
    if not limit.allows(len(pools)):
        layer = pools[int(limit.at_most or 0)]
        yield Found(layer, f"the net has {len(pools)} ROI pooling layers", len(pools), limit)
    limit = subject.limits["segment_roi_layers"]
    for number, segment in enumerate(subject.segments):
        own = [layer for layer in segment.layers if layer.type in ROI_POOLING]
        if not limit.allows(len(own)):
            message = f"segment {number} has {len(own)} ROI pooling layers"
            yield Found(own[int(limit.at_most or 0)], message, len(own), limit)


def yolo_outputs(subject: Subject) -> Iterator[Found]:
    """The outputs are not those that the stock YOLOv3 sample decodes.

    The vendor's sample wants exactly three outputs, in the order of stride 32, 16 and 8, and does not look
    at names. In another order it decodes boxes with the wrong anchors; with another number it stops with
    "astSeg[0].u16DstNum should be 3". The rule speaks where the STEM.json beside the prototxt tells of
    heads.

    Instead: with code of your own find the outputs by name, as STEM.json lists them, and nothing needs to
    change. For the stock sample end the net at the three heads (`edit --until`).
    """
    heads = _yolo_heads(subject)
    if not heads or not subject.outputs:
        return
    strides = [heads.get(name, 0) for name in subject.outputs]
    if strides == _STOCK_STRIDES:
        return
    spare = [name for name in subject.outputs if name not in heads]
    last = subject.net.last_writers()[subject.outputs[-1]]
    wanted = "3 outputs of stride 32, 16, 8"
    if spare:
        cuts = [part for name in subject.outputs if name in heads for part in ("--until", name)]
        message = f"{', '.join(spare)} is no head, and the stock sample counts it as one"
        yield Found(
            last, message, strides, wanted, subject.command("edit", *cuts) if cuts else "", severity="warning"
        )
        return
    listed = ", ".join(map(str, strides))
    is_three = len(strides) == len(_STOCK_STRIDES)
    message = f"the stock YOLOv3 sample does not decode outputs of stride {listed}"
    hint = "find the outputs by name, as STEM.json lists them"
    yield Found(last, message, strides, wanted, hint, severity="warning" if is_three else "info")


def _yolo_heads(subject: Subject) -> dict[str, Any]:
    """The blobs that yolo heads read, with their strides."""
    heads = subject.description.get("heads")
    entries = [one for one in heads if isinstance(one, dict)] if isinstance(heads, list) else []
    return {
        str(one["blob"]): one.get("stride", 0)
        for one in entries
        if one.get("type") == "yolo" and isinstance(one.get("blob"), str)
    }


_HEADER = "vendor header hi_nnie.h"
RULES = (
    Rule(dangling_tops, "A", "the compiler's outputs are the blobs without a reader"),
    Rule(segment_count, "A", _HEADER, limits=("segments",)),
    Rule(segment_inputs, "A", _HEADER, limits=("segment_inputs",)),
    Rule(segment_outputs, "A", _HEADER, limits=("segment_outputs",)),
    Rule(roi_layers, "A", _HEADER, limits=("roi_layers", "segment_roi_layers")),
    Rule(yolo_outputs, "A", "vendor's sample code for YOLOv3"),
)
