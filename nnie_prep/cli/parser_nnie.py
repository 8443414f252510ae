"""The commands about NNIE itself and its compiler, and their arguments. Nothing heavy is imported here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nnie_prep.cli.arguments import (
    Parser,
    add_caffe_python,
    add_chip,
    add_command,
    add_output,
    add_pair,
    add_pictures,
    add_weights_engine,
    number,
)


def add_check(commands: Any, name: str) -> None:
    parser = add_command(
        commands,
        name,
        "check.check",
        "Find what the chip's compiler does not take, each with its line, its limit and its repair",
        "deploy.prototxt model.caffemodel --chip hi3516dv300",
    )
    parser.add_argument("prototxt", type=Path, nargs="?", metavar="PROTOTXT")
    parser.add_argument("caffemodel", type=Path, nargs="?", metavar="CAFFEMODEL")
    add_chip(parser)
    parser.add_argument("--rules", action="store_true", help="list the rules")
    parser.add_argument(
        "--explain", metavar="RULE", help="say what a rule finds, why, and what to do instead"
    )
    parser.add_argument("--sarif", type=Path, metavar="FILE", help="write the findings as SARIF 2.1.0")
    parser.add_argument(
        "--force", action="store_true", help="replace a FILE that is not such a report of ours"
    )
    parser.add_argument("--strict", action="store_true", help="take warnings for errors")
    add_weights_engine(parser)
    add_caffe_python(parser)
    add_output(parser)


def add_quantize_sim(commands: Any, name: str) -> None:
    parser = add_command(
        commands,
        name,
        "quantize.quantize_sim",
        "Run a net with the chip's 8-bit numbers, and say which layers lose most",
        "yolov3-tiny.prototxt yolov3-tiny.caffemodel --input pictures.npy",
    )
    add_pair(parser)
    add_pictures(parser)
    parser.add_argument("--bits", type=int, choices=(8, 16), default=8, help="of every layer (default: 8)")
    parser.add_argument(
        "--high-precision",
        action="append",
        default=[],
        metavar="LAYER",
        help="16 bits for this layer, as for one whose name ends in _hp; may be given several times",
    )
    parser.add_argument(
        "--propose",
        type=number(int, 0, 1000),
        default=8,
        metavar="N",
        help="try 16 bits on the N layers that lose most (default: 8; 0: propose nothing)",
    )
    parser.add_argument(
        "--target",
        type=number(float, 0.0, 200.0),
        default=30.0,
        metavar="DB",
        help="signal to noise of the worst output at which no more is proposed (default: 30)",
    )
    add_weights_engine(parser)
    add_caffe_python(parser)
    add_output(parser)


def add_compare_dump(commands: Any, name: str) -> None:
    parser = add_command(
        commands,
        name,
        "quantize.compare_dump",
        "Line the compiler's dumps of every layer up with what the net computes",
        "yolov3-tiny.prototxt yolov3-tiny.caffemodel mapper_quant --input pictures.npy",
    )
    add_pair(parser)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="mapper_quant, as the compiler wrote it")
    add_pictures(parser)
    parser.add_argument(
        "--cosine",
        type=number(float, -1.0, 1.0),
        default=0.95,
        help="similarity below which a layer is named, and the exit code is 1 (default: 0.95)",
    )
    add_weights_engine(parser)
    add_caffe_python(parser)
    add_output(parser)


def add_mapper_cfg(commands: Any, name: str) -> None:
    parser = add_command(
        commands,
        name,
        "mapper.mapper_cfg",
        "Write the compiler's .cfg for a pair, with its calibration pictures; or --check one",
        "yolov3-tiny.prototxt yolov3-tiny.caffemodel --images pictures --resize",
    )
    parser.add_argument("prototxt", type=Path, nargs="?", metavar="PROTOTXT")
    parser.add_argument("caffemodel", type=Path, nargs="?", metavar="CAFFEMODEL")
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE.cfg",
        help="the .cfg that is written, or with / behind it the folder for all that is (default: the "
        "prototxt's name with _mapper.cfg behind it)",
    )
    parser.add_argument("--force", action="store_true", help="replace files whose content is another")
    parser.add_argument("--check", type=Path, metavar="FILE.cfg", help="find what is wrong with this one")
    parser.add_argument("--rules", action="store_true", help="list the rules of --check")
    add_chip(parser)
    _add_calibration(parser)
    add_normalization(parser)
    _add_compilation(parser)
    add_weights_engine(parser)
    add_caffe_python(parser)
    add_output(parser)


def _add_calibration(parser: Parser) -> None:
    parser.add_argument(
        "--images",
        action="append",
        default=[],
        metavar="[INPUT=]FOLDER",
        help="a folder of typical pictures, of which some are listed; for each input where there are several",
    )
    parser.add_argument(
        "--count",
        type=number(int, 1, 10000),
        default=30,
        help="how many pictures to list (default: 30; the compiler's guide advises 20 to 50)",
    )
    parser.add_argument("--seed", type=number(int, 0, 2**63), default=0, help="which ones (default: 0)")
    parser.add_argument(
        "--resize",
        action="store_true",
        help="write copies of the net's size beside the .cfg, and list these",
    )
    parser.add_argument(
        "--tensors",
        action="append",
        default=[],
        metavar="[INPUT=]FILE",
        help="list these tensors in the place of pictures (image_type 0): .npy, or .npz by input name",
    )
    parser.add_argument(
        "--image-type",
        type=int,
        choices=(1, 3, 5),
        default=1,
        help="what a board feeds: 1 planes of bytes (default), 3 YVU420SP, 5 YVU422SP",
    )


def add_normalization(parser: Parser) -> None:
    parser.add_argument(
        "--transform",
        type=Path,
        metavar="PROTOTXT",
        help="take mean and scale from the transform_param in here, a train_val.prototxt (default: PROTOTXT)",
    )
    parser.add_argument(
        "--mean",
        action="append",
        default=[],
        metavar="[INPUT=]MEAN",
        help="104,117,123 in the net's order, a file of them, or a .binaryproto; without INPUT for all "
        "that the net does not normalise itself",
    )
    parser.add_argument(
        "--scale",
        action="append",
        default=[],
        metavar="[INPUT=]SCALE",
        help="what values are multiplied by, after the mean is off; likewise",
    )
    parser.add_argument(
        "--order",
        choices=("rgb", "bgr"),
        help="of the net's channels (default: as files say; bgr for Caffe)",
    )


def _add_compilation(parser: Parser) -> None:
    parser.add_argument(
        "--bits",
        type=int,
        choices=(8, 16),
        help="of all layers (default: 8, and 16 in those whose name ends in _hp)",
    )
    parser.add_argument(
        "--stride",
        type=int,
        choices=(16, 32),
        help="16 for DDR3, 32 for DDR4 (default: as the chip has)",
    )
    parser.add_argument(
        "--batch-num",
        type=int,
        default=1,
        metavar="N",
        help="pictures at once in an InnerProduct (default: 1)",
    )
    parser.add_argument(
        "--sparse-rate",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="of InnerProduct weights set to 0 (default: 0)",
    )
    parser.add_argument("--simulation", action="store_true", help="for a PC's simulator, not for a board")
    parser.add_argument(
        "--log-level",
        type=int,
        choices=(0, 1, 2, 3),
        default=0,
        help="3: what compare-dump reads (default: 0)",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="any other key, compress_mode=1 say"
    )
    parser.add_argument(
        "--absolute", action="store_true", help="write absolute paths (default: from the folder of the .cfg)"
    )
