"""`quantize-sim` and `compare-dump`: what the chip's numbers do to a net, simulated and in dumps."""

from __future__ import annotations

import json
import math
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nnie_prep.blob import Array
from nnie_prep.cli.report import Progress, few, json_value, shape_text, table
from nnie_prep.cli.weights import read_pair
from nnie_prep.engines.numpy import unsupported
from nnie_prep.errors import UserError
from nnie_prep.net import Layer, Net
from nnie_prep.nnie.calibration import cfg_feeds
from nnie_prep.nnie.mapper_cfg import read_cfg
from nnie_prep.proof import read_feeds, without_training
from nnie_prep.quantization import LayerLoss, Simulation
from nnie_prep.quantization.dump import Comparison, compare_dumps, find_dumps
from nnie_prep.quantization.proposal import Proposal, propose
from nnie_prep.shapes import Shape, infer_shapes, walk_shapes

_WORST = 5  # layers that are shown without -v


def quantize_sim(options: Namespace) -> int:
    """Runs the net with the chip's numbers and says what each layer loses."""
    net, pictures = _read(options)
    unknown = [name for name in options.high_precision if net.layer(name) is None]
    if unknown:
        raise UserError(f"the net has no layer {', '.join(unknown)}", str(options.prototxt), "see `show`")
    with Progress(not options.quiet and not options.json) as progress:
        simulation = Simulation(net, options.bits)
        exact: dict[str, Array] = {}
        for place, feeds in enumerate(pictures):
            told = _counted(progress, f"picture {place + 1}, layer")
            exact = simulation.calibrate(feeds, net.outputs(), told)
        last = pictures[-1]
        losses = simulation.losses(last, options.high_precision, _counted(progress, "rounding layer"))
        proposal = None
        if options.propose and options.bits == 8:
            told = _counted(progress, "proposing, run")
            proposal = propose(net, simulation, last, exact, losses, options.target, options.propose, told)
    if options.json:
        print(json.dumps(_losses_json(options, len(pictures), losses, proposal), indent=2))
    elif not options.quiet:
        print(_losses_text(options, net, len(pictures), losses, proposal))
    return 0


def compare_dump(options: Namespace) -> int:
    """Lines the compiler's dumps up with the net's blobs; exit code 1 where one is not alike."""
    dumps, others = find_dumps(options.folder)
    net, pictures = _read(options)
    with Progress(not options.quiet and not options.json) as progress:
        progress("running the net")
        found, problems = compare_dumps(net, pictures[-1], dumps)
    problems += [f"{name}: its name says no layer" for name in others]
    if not found:
        raise UserError(f"nothing could be compared: {problems[0]}", str(options.folder))
    unlike = [one for one in found if not one.cosine >= options.cosine]
    if options.json:
        rows = [_finite(vars(one)) | {"extents": list(one.extents)} for one in found]
        first = None if not unlike else unlike[0].layer
        print(json.dumps({"compared": rows, "not_compared": problems, "first_unlike": first}, indent=2))
    elif not options.quiet:
        print(_dumps_text(options, found, unlike, problems))
    return 1 if unlike else 0


def _read(options: Namespace) -> tuple[Net, list[dict[str, Array]]]:
    """The net, and the pictures of --input or --cfg one by one."""
    net = read_pair(options)
    net = without_training(net)
    if missing := unsupported(net):
        raise UserError(
            f"layer {missing[0].name!r} is of a type that cannot be run here ({missing[0].type})",
            missing[0].origin,
            "cut the net before it: nnie-prep edit --until BLOB",
        )
    shapes = infer_shapes(net)
    wanted = {name: shapes[name] for name in net.inputs()}
    if options.cfg is not None:
        _warn_of_another(options)
        feeds, source = cfg_feeds(options.cfg, wanted), options.cfg
    else:
        arrays, source = read_feeds(options.input, wanted), options.input
        feeds = {name: [value[i : i + 1] for i in range(len(value))] for name, value in arrays.items()}
    counts = {len(value) for value in feeds.values()}
    if len(counts) > 1:
        raise UserError("its inputs hold different numbers of pictures", str(source))
    pictures = [{name: value[i] for name, value in feeds.items()} for i in range(counts.pop())]
    _keep_batch(options, net, shapes, pictures[0])
    return net, pictures


def _keep_batch(
    options: Namespace, net: Net, shapes: Mapping[str, Shape], picture: Mapping[str, Array]
) -> None:
    """Has a Reshape that names the batch keep the one that comes, and says so.

    Else it would tear a single picture into rows, and a layer behind it would find its weights another net's.
    """
    while layer := _tearing(net, shapes, picture):
        dims = layer.proto.reshape_param.shape.dim
        what = f"layer {layer.name!r} (Reshape) is for batches of {dims[0]} (dim: {dims[0]})"
        if not options.quiet:
            warning = f"{layer.origin}: {what}; pictures are run one by one, with dim: 0 in its place"
            print(f"nnie_prep: warning: {warning}", file=sys.stderr)
        dims[0] = 0


def _tearing(net: Net, shapes: Mapping[str, Shape], picture: Mapping[str, Array]) -> Layer | None:
    """The first Reshape that names the batch, and makes something else of a picture than of the batch."""
    whole = walk_shapes(net, {name: (*shapes[name][:1], *x.shape[1:]) for name, x in picture.items()})
    single = walk_shapes(net, {name: x.shape for name, x in picture.items()})
    batches = {shapes[name][0] for name in picture if shapes[name]} - {1}
    for layer, _, was in whole:
        becomes, is_refused = None, False
        try:
            _, _, becomes = next(single)
        except UserError:
            is_refused = True
        names_batch = layer.type == "Reshape" and {*layer.proto.reshape_param.shape.dim[:1]} & batches
        differs = was is not None and becomes is not None and was[0][1:] != becomes[0][1:]
        if names_batch and (is_refused or differs):
            return layer
        if is_refused:
            return None
    return None


def _warn_of_another(options: Namespace) -> None:
    """Numbers come out all the same where a net is fed as another one is."""
    cfg = read_cfg(options.cfg)
    if not cfg.is_of(options.prototxt, options.caffemodel) and not options.quiet:
        what = f"is about {cfg.prototxt_file} and {cfg.caffemodel_file}"
        warning = f"{options.cfg}: {what}; {options.prototxt.name} is fed as that net is"
        print(f"nnie_prep: warning: {warning}", file=sys.stderr)


def _counted(progress: Progress, what: str) -> Callable[[int, int], None]:
    return lambda done, count: progress(f"{what} {done} of {count}")


def _losses_text(
    options: Namespace, net: Net, pictures: int, losses: Sequence[LayerLoss], proposal: Proposal | None
) -> str:
    outputs = {net.last_writers()[name].name for name in net.outputs() if name in net.last_writers()}
    ends = [loss for loss in losses if loss.layer in outputs]
    # what rounding costs a layer that computes nothing, a Concat say, its neighbours lose as well
    worst = sorted((loss for loss in losses if math.isfinite(loss.own)), key=lambda loss: loss.own)[:_WORST]
    head = ("layer", "type", "bits", "range", "own dB", "end to end dB", "cosine")
    seen = "1 picture" if pictures == 1 else f"{pictures} pictures"
    lines = [f"{options.prototxt.name} at {options.bits} bits, ranges from {seen}, measured on the last", ""]
    if options.verbose:
        lines += [table(head, [_loss_row(loss) for loss in losses]), ""]
    lines += ["outputs", table(head, [_loss_row(loss) for loss in ends]), ""]
    lines += ["layers that lose most by themselves", table(head, [_loss_row(loss) for loss in worst])]
    if proposal is not None:
        lines += ["", *_proposal_text(options, proposal)]
    return "\n".join(lines)


def _loss_row(loss: LayerLoss) -> list[object]:
    largest = f"{loss.largest:.4g}" if loss.largest else ""
    decibels = ["-" if math.isinf(value) else f"{value:.1f}" for value in (loss.own, loss.end_to_end)]
    return [loss.layer, loss.type, loss.bits, largest, *decibels, f"{loss.cosine:.5f}"]


def _proposal_text(options: Namespace, proposal: Proposal) -> list[str]:
    lines = [f"worst output {proposal.before:.1f} dB; wanted {options.target:.1f} dB (--target)"]
    if proposal.before >= options.target:
        return [*lines, "no layer needs 16 bits"]
    if not proposal.steps:
        return [
            *lines,
            "16 bits for single layers do not help; try --bits 16, or train on with the chip's numbers",
        ]
    rows = [(step.layer, f"{step.snr:.1f}") for step in proposal.steps]
    given = " ".join(f"--high-precision {step.layer}" for step in proposal.steps)
    return [
        *lines,
        table(("16 bits for", "worst output dB"), rows),
        f"for the compiler (compile_mode 2): nnie-prep prepare ... {given}",
    ]


def _losses_json(
    options: Namespace, pictures: int, losses: Sequence[LayerLoss], proposal: Proposal | None
) -> dict[str, Any]:
    proposed = None
    if proposal is not None:
        proposed = _finite(vars(proposal)) | {"steps": [_finite(vars(step)) for step in proposal.steps]}
    return {
        "bits": options.bits,
        "pictures": pictures,
        "layers": [_finite(vars(loss)) for loss in losses],
        "proposal": proposed,
    }


def _finite(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: json_value(value) for key, value in row.items()}


def _dumps_text(
    options: Namespace, found: Sequence[Comparison], unlike: Sequence[Comparison], problems: Sequence[str]
) -> str:
    shown = found if options.verbose else [one for one in found if one.side == "output"] or found
    rows = [
        (
            one.layer if not one.after else f"{one.layer} .. {one.after}",
            f"{one.side} {one.index}",
            shape_text(one.extents),
            f"{one.cosine:.5f}",
            "-" if math.isinf(one.snr) else f"{one.snr:.1f}",
            "<- first below" if unlike and one is unlike[0] else "",
        )
        for one in shown
    ]
    lines = [table(("layer", "blob", "shape", "cosine", "dB", ""), rows), ""]
    lines.append(f"{len(found)} dumps compared, {len(unlike)} with a cosine below {options.cosine:g}")
    if problems:
        lines += [f"{len(problems)} not compared", *few(problems, "file", options.verbose)]
    return "\n".join(lines)
