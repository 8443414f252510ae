"""The commands and their arguments. Nothing heavy is imported here."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nnie_prep import __version__
from nnie_prep.cli.arguments import (
    HelpFormatter,
    Parser,
    add_bn_form,
    add_caffe_python,
    add_change,
    add_chip,
    add_command,
    add_darknet,
    add_engine,
    add_flavor,
    add_fold_input,
    add_measure,
    add_output,
    add_pair,
    add_proof,
    add_requests,
    add_save_with,
    add_until,
    add_weights_engine,
    add_writing,
    number,
)
from nnie_prep.cli.parser_batch import add_batch, add_completion
from nnie_prep.cli.parser_nnie import (
    add_check,
    add_compare_dump,
    add_mapper_cfg,
    add_normalization,
    add_quantize_sim,
)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parses a command line; `module` and `function` of the result name what runs it."""
    given = sys.argv[1:] if arguments is None else arguments
    return make_parser(*given[:1])[0].parse_args(given)


def make_parser(command: str = "") -> tuple[Parser, dict[str, Parser]]:
    """What parses all command lines, and what parses each command's, by its name.

    With the name of a command, what parses those of that command alone, which takes a fifth of the time.
    """
    parser = Parser(
        prog="nnie-prep",
        description="Takes Darknet and Caffe networks to HiSilicon's NNIE, and proves the result equal.",
        epilog="Example: nnie-prep prepare yolov3-tiny.cfg yolov3-tiny.weights",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"nnie_prep {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, add in _ADDERS.items():
        if command not in _ADDERS or name == command:
            add(commands, name)
    return parser, commands.choices


def _prepare(commands: Any, name: str) -> None:
    parser = add_command(
        commands,
        name,
        "change.prepare",
        "Do it all: convert, drop layers, replace what NNIE lacks, cut off heads, fold, prove, write",
        "yolov3-tiny.cfg yolov3-tiny.weights -o out/yolov3-tiny",
    )
    parser.add_argument(
        "inputs", nargs="+", type=Path, metavar="INPUT", help="x.cfg x.weights, or x.prototxt x.caffemodel"
    )
    add_weights_engine(parser)
    add_darknet(parser)
    add_until(parser)
    add_fold_input(parser)
    parser.add_argument(
        "--upsample",
        choices=("layer", "deconvolution"),
        default="layer",
        help="what enlarges by nearest neighbour for NNIE: its Upsample layer (default), or a Deconvolution",
    )
    add_requests(parser)
    parser.add_argument(
        "--images",
        type=Path,
        metavar="FOLDER",
        help="typical pictures: writes the compiler's .cfg and its list of pictures too, as mapper-cfg does, "
        "with copies of the net's size",
    )
    add_chip(parser)
    add_change(parser, "the input's name; with _nnie behind it for a Caffe net")


def _darknet2caffe(commands: Any, name: str) -> None:
    parser = add_command(
        commands,
        name,
        "change.darknet2caffe",
        "Convert a Darknet network to Caffe, layer by layer",
        "yolov3-tiny.cfg yolov3-tiny.weights -o yolov3-tiny",
    )
    parser.add_argument("cfg", type=Path, metavar="CFG")
    parser.add_argument("weights", type=Path, metavar="WEIGHTS")
    parser.add_argument("--merge-bn", action="store_true", help="fold BatchNorm and Scale as well")
    add_darknet(parser)
    add_change(parser, "the cfg's name")


def _merge_bn(commands: Any, name: str) -> None:
    parser = add_command(
        commands,
        name,
        "change.merge_bn",
        "Insert biases, fold BatchNorm and Scale into the layers around them, drop what became empty",
        "deploy.prototxt model.caffemodel",
    )
    parser.add_argument("prototxt", type=Path, nargs="?", metavar="PROTOTXT")
    parser.add_argument("caffemodel", type=Path, nargs="?", metavar="CAFFEMODEL")
    parser.add_argument("--model", type=Path, metavar="PROTOTXT", help="the same as the first argument")
    parser.add_argument("--weights", type=Path, metavar="CAFFEMODEL", help="the same as the second argument")
    for option, file, other in (("model", "prototxt", "caffemodel"), ("weights", "caffemodel", "prototxt")):
        parser.add_argument(
            f"--output_{option}",
            type=Path,
            metavar=file.upper(),
            help=f"where the {file} goes; given alone, the {other} goes beside it under its name",
        )
    add_weights_engine(parser)
    add_until(parser)
    add_fold_input(parser)
    add_change(parser, "each input's own name with _inference behind it")


def _add_bias(commands: Any, name: str) -> None:
    parser = add_command(
        commands,
        name,
        "change.add_bias",
        "Give every convolution and inner product without a bias one of zeros",
        "deploy.prototxt model.caffemodel",
    )
    add_pair(parser)
    parser.add_argument(
        "--engine-caffe", action="store_true", help="also write engine: CAFFE into the 1x1 convolutions"
    )
    add_weights_engine(parser)
    add_change(parser, "each input's own name with _bias behind it")


def _strip(commands: Any, name: str) -> None:
    parser = add_command(
        commands,
        name,
        "change.strip",
        "Drop layers that only training needs, layers that compute nothing, and what no wanted output needs",
        "train_val.prototxt model.caffemodel",
    )
    add_pair(parser)
    add_weights_engine(parser)
    add_until(parser)
    add_change(parser, "each input's own name with _stripped behind it")


def _fold_darknet(commands: Any, name: str) -> None:
    parser = add_command(
        commands,
        name,
        "fold.fold_darknet",
        "Fold BatchNorm inside a Darknet cfg and weights file, for Darknet itself",
        "yolov3-tiny.cfg yolov3-tiny.weights -o yolov3-tiny_folded",
    )
    parser.add_argument("cfg", type=Path, metavar="CFG")
    parser.add_argument("weights", type=Path, metavar="WEIGHTS")
    add_flavor(parser)
    add_bn_form(parser)
    add_writing(parser, "the cfg's name with _folded behind it")
    add_measure(parser)
    add_output(parser)


def _verify(commands: Any, name: str) -> None:
    parser = add_command(
        commands,
        name,
        "compare.verify",
        "Compare two Caffe nets blob by blob on the same input",
        "deploy.prototxt model.caffemodel deploy_inference.prototxt model_inference.caffemodel",
    )
    for name, what in (("a", "the reference"), ("b", "the net that is judged")):
        parser.add_argument(f"{name}_prototxt", type=Path, metavar=f"{name.upper()}.prototxt", help=what)
        parser.add_argument(f"{name}_caffemodel", type=Path, metavar=f"{name.upper()}.caffemodel")
    add_weights_engine(parser)
    add_proof(parser)
    add_output(parser)


def _run(commands: Any, name: str) -> None:
    parser = add_command(
        commands,
        name,
        "forward.run",
        "Run a Caffe net forward and save its blobs",
        "deploy.prototxt model.caffemodel --input x.npy --output y.npz",
    )
    add_pair(parser)
    parser.add_argument("--input", type=Path, required=True, help=".npy, or .npz with one array per input")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the .npz that is written")
    parser.add_argument(
        "--blobs", choices=("outputs", "all"), default="outputs", help="which blobs (default: outputs)"
    )
    parser.add_argument(
        "--force", action="store_true", help="replace a file that was not made from these inputs"
    )
    add_weights_engine(parser)
    add_engine(parser)
    add_output(parser)


def _detect(commands: Any, name: str) -> None:
    parser = add_command(
        commands,
        name,
        "detect.detect_on_picture",
        "Run a detector, Darknet's or an SSD, on a picture, print the boxes and draw them",
        "yolov3-tiny.prototxt yolov3-tiny.caffemodel photo.jpg --names coco.names",
    )
    add_pair(parser)
    parser.add_argument("picture", type=Path, metavar="PICTURE", help=".jpg, .png, .bmp, .ppm or .webp")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="PICTURE",
        help="the .png, .jpg or .bmp that is written (default: the picture's name with _detected.png behind)",
    )
    parser.add_argument(
        "--force", action="store_true", help="replace a file that was not made from these inputs"
    )
    parser.add_argument(
        "--heads", type=Path, metavar="STEM.json", help="what describes the heads (default: beside PROTOTXT)"
    )
    parser.add_argument(
        "--names", type=Path, metavar="FILE", help="the classes' names, one a line (default: numbers)"
    )
    parser.add_argument(
        "--threshold",
        type=number(float, 0.0, 1.0),
        default=0.25,
        help="what a confidence must exceed (default: 0.25)",
    )
    parser.add_argument(
        "--nms",
        type=number(float, 0.0, 1.0),
        help="overlap above which the weaker of two boxes of a class goes (default: 0.45; a DetectionOutput "
        "has its own)",
    )
    parser.add_argument(
        "--letterbox",
        action=argparse.BooleanOptionalAction,
        help="keep the picture's proportions, on grey, or stretch it (default: as the network's Darknet did)",
    )
    parser.add_argument("--tree", type=Path, metavar="FILE", help="the tree of classes of a yolo9000")
    parser.add_argument("--font", type=Path, metavar="FILE", help="a TrueType font for the labels")
    add_normalization(parser)
    add_weights_engine(parser)
    add_engine(parser)
    add_output(parser)


def _inspect(commands: Any, name: str) -> None:
    parser = add_command(
        commands,
        name,
        "inspect.inspect_darknet",
        "Print Darknet's own table of a network, and where the weights file parts from its cfg",
        "yolov3-tiny.cfg yolov3-tiny.weights",
    )
    parser.add_argument("cfg", type=Path, metavar="CFG")
    parser.add_argument("weights", type=Path, nargs="?", metavar="WEIGHTS")
    add_flavor(parser)
    add_output(parser)


def _show(commands: Any, name: str) -> None:
    parser = add_command(
        commands,
        name,
        "show.show",
        "List layers, shapes, parameters and multiply-adds",
        "deploy.prototxt model.caffemodel",
    )
    parser.add_argument("prototxt", type=Path, metavar="PROTOTXT")
    parser.add_argument("caffemodel", type=Path, nargs="?", metavar="CAFFEMODEL")
    add_weights_engine(parser)
    add_caffe_python(parser)
    add_output(parser)


def _diff(commands: Any, name: str) -> None:
    parser = add_command(
        commands,
        name,
        "diff.diff",
        "List what is not the same in two Caffe nets: layers, parameters, wiring, shapes, weights",
        "deploy.prototxt model.caffemodel deploy_inference.prototxt model_inference.caffemodel",
    )
    parser.add_argument(
        "files",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="A.prototxt [A.caffemodel] B.prototxt [B.caffemodel]; weights are compared where both have them",
    )
    add_weights_engine(parser)
    add_caffe_python(parser)
    add_output(parser)


def _edit(commands: Any, name: str) -> None:
    parser = add_command(
        commands,
        name,
        "edit.edit",
        "Cut a Caffe net, rename, drop, set shapes and fields; edits are done in the order given",
        "deploy.prototxt model.caffemodel --until conv --rename-blob data=image -o head",
    )
    parser.add_argument("prototxt", type=Path, metavar="PROTOTXT")
    parser.add_argument("caffemodel", type=Path, nargs="?", metavar="CAFFEMODEL")
    for name, form, what in (
        ("until", "BLOB", "end the net at this blob; given several times, at all of them"),
        ("from", "BLOB", "begin the net at this blob, which becomes an input; likewise"),
        ("rename-layer", "OLD=NEW", "rename a layer"),
        ("rename-blob", "OLD=NEW", "rename a blob"),
        ("input-shape", "[NAME=]N,C,H,W", "declare another shape for an input"),
        ("batch", "N", "set the first extent of every input"),
        ("drop", "LAYER", "take a layer out; its readers read its bottom"),
        ("set", "PATH=VALUE", "set a field, like 'layer[name=conv1].convolution_param.pad=1'"),
    ):
        parser.add_argument(
            f"--{name}",
            action="append",
            type=_named_value(name),
            default=[],
            dest="edits",
            metavar=form,
            help=what,
        )
    add_writing(parser, "each input's own name with _edited behind it")
    add_weights_engine(parser)
    add_save_with(parser)
    add_proof(parser)
    add_output(parser)


def _named_value(name: str) -> Callable[[str], tuple[str, str]]:
    """An option's value with its name, so that several options make one list in the order given."""
    return lambda text: (name, text)


def _passes(commands: Any, name: str) -> None:
    parser = add_command(commands, name, "show.passes", "List the passes in their order", "")
    add_output(parser)


# In the order of the README: the way to the board, single steps, what looks and compares.
_ADDERS: dict[str, Callable[[Any, str], None]] = {
    "prepare": _prepare,
    "batch": add_batch,
    "check": add_check,
    "mapper-cfg": add_mapper_cfg,
    "quantize-sim": add_quantize_sim,
    "compare-dump": add_compare_dump,
    "detect": _detect,
    "darknet2caffe": _darknet2caffe,
    "merge-bn": _merge_bn,
    "add-bias": _add_bias,
    "strip": _strip,
    "edit": _edit,
    "fold-darknet": _fold_darknet,
    "verify": _verify,
    "diff": _diff,
    "run": _run,
    "show": _show,
    "inspect": _inspect,
    "passes": _passes,
    "completion": add_completion,
}
