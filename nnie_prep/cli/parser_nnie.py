"""The commands about NNIE itself and its compiler, and their arguments. Nothing heavy is imported here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nnie_prep.cli.arguments import (
    add_caffe_python,
    add_chip,
    add_command,
    add_output,
    add_pair,
    add_pictures,
    add_weights_engine,
    number,
)


def add_check(commands: Any) -> None:
    parser = add_command(
        commands,
        "check",
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


def add_quantize_sim(commands: Any) -> None:
    parser = add_command(
        commands,
        "quantize-sim",
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


def add_compare_dump(commands: Any) -> None:
    parser = add_command(
        commands,
        "compare-dump",
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
