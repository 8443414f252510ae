"""Arguments that several commands have in common. Nothing heavy is imported here."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from nnie_prep.errors import UserError


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with a command line, and takes no abbreviated options."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """A command refuses what it does not know itself, as it knows what it might have been."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def format_help(self) -> str:
        """As wide as the terminal, which is asked for here alone: every argument makes a formatter."""
        import shutil

        self.formatter_class = partial(HelpFormatter, width=shutil.get_terminal_size().columns - 2)
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        raise UserError(message, hint=f"{self._question(message)} see {self.prog} --help".lstrip())

    def _question(self, message: str) -> str:
        """What may have been meant, by argparse's message, or ""."""
        from nnie_prep.names import meant

        if choice := re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message):
            known = re.findall(r"[\w-]+", choice[2])
            begun = [name for name in known if name.startswith(choice[1])]
            return f"did you mean {' or '.join(begun)}?" if begun[1:] else meant(choice[1], known)
        if option := re.match(r"unrecognized arguments: (?:.*? )??--([\w-]+)", message):
            known = [name[2:] for name in self._option_string_actions if name.startswith("--")]
            return meant(option[1], known).replace("mean ", "mean --", 1)
        return ""


class HelpFormatter(argparse.HelpFormatter):
    """Fits all to a width but an example, which is to be copied in one line."""

    def __init__(self, prog: str, width: int = 80) -> None:
        super().__init__(prog, width=width)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith("Example: ") else super()._fill_text(text, width, indent)


def add_command(commands: Any, name: str, runs: str, what: str, example: str) -> Parser:
    """A subcommand; `runs` is "module.function" below nnie_prep.cli."""
    parser: Parser = commands.add_parser(
        name,
        help=what[0].lower() + what[1:],
        description=what + ".",
        epilog=f"Example: nnie-prep {name} {example}".rstrip(),
        formatter_class=HelpFormatter,
    )
    module, function = runs.split(".")
    parser.set_defaults(command=name, module=module, function=function)
    return parser


def add_pair(parser: Parser) -> None:
    parser.add_argument("prototxt", type=Path, metavar="PROTOTXT")
    parser.add_argument("caffemodel", type=Path, metavar="CAFFEMODEL")


def add_target(parser: Parser) -> None:
    parser.add_argument(
        "--target",
        choices=("nnie", "caffe"),
        default="nnie",
        help="whose layers may be used: NNIE's own too (default), or stock BVLC Caffe's alone",
    )


def add_darknet(parser: Parser) -> None:
    """What is asked of a conversion from Darknet."""
    add_target(parser)
    add_flavor(parser)
    add_bn_form(parser)
    parser.add_argument(
        "--approximate",
        action="append",
        default=[],
        choices=("pool-2-1", "mish-as-leaky"),
        help="build this cheaper, inexact form, and measure the difference: the 2x2 maxpool of stride 1 as "
        "kernel 3, pad 1; leaky for mish, before training again. May be given several times",
    )
    add_against(parser)


def add_against(parser: Parser) -> None:
    parser.add_argument(
        "--against",
        choices=("numpy", "opencv", "darknet"),
        default="numpy",
        help="who computes what Darknet computes: our own statement of it (default), OpenCV's reader, or "
        "Darknet itself, with --darknet-lib",
    )
    parser.add_argument(
        "--darknet-lib",
        type=Path,
        metavar="PATH",
        help="the libdarknet.so of a Darknet that you built (AlexeyAB's, hank-ai's or pjreddie's)",
    )


def add_chip(parser: Parser) -> None:
    parser.add_argument(
        "--chip",
        type=str.lower,  # the vendor writes Hi3516DV300
        choices=("hi3516cv500", "hi3516dv300", "hi3516av300", "hi3519av100", "hi3559v200", "hi3559av100"),
        metavar="CHIP",
        help="whose limits hold: %(choices)s (default: what all chips share)",
    )
    parser.add_argument(
        "--limits", type=Path, metavar="FILE", help="limits of your own, as JSON, laid over the chip's"
    )


def add_flavor(parser: Parser) -> None:
    parser.add_argument(
        "--flavor",
        choices=("alexeyab", "pjreddie"),
        default="alexeyab",
        help="whose Darknet trained the network (default: alexeyab)",
    )


def add_bn_form(parser: Parser) -> None:
    parser.add_argument(
        "--bn-form",
        choices=("standard", "pjreddie-cpu"),
        default="standard",
        help="what BatchNorm divides by: sqrt(variance + 1e-5) (default), or sqrt(variance) + 1e-6",
    )


def add_writing(parser: Parser, default_stem: str) -> None:
    parser.add_argument(
        "-o",
        "--output",
        metavar="STEM",
        help=f"name of the files, without suffix, or FOLDER/ (default: {default_stem})",
    )
    parser.add_argument(
        "--force", action="store_true", help="replace files that were not made from this input"
    )
    parser.add_argument("--no-verify", action="store_true", help="write the result without proving it")


def add_save_with(parser: Parser) -> None:
    parser.add_argument(
        "--save-with",
        choices=("protobuf", "pycaffe"),
        default="protobuf",
        help="what writes the caffemodel: our own writer (default), or Caffe's Net.save; the same weights",
    )


def add_change(parser: Parser, default_stem: str) -> None:
    """What all commands that change a Caffe net have in common."""
    add_writing(parser, default_stem)
    parser.add_argument(
        "--skip", action="append", default=[], metavar="PASS", help="leave out a pass; see `passes`"
    )
    parser.add_argument("--strict", action="store_true", help="take warnings for errors")
    add_save_with(parser)
    add_proof(parser)
    add_output(parser)


def add_until(parser: Parser) -> None:
    parser.add_argument(
        "--until",
        action="append",
        default=[],
        metavar="BLOB",
        help="an output that is wanted: what it does not need is dropped; may be given several times",
    )


def add_fold_input(parser: Parser) -> None:
    parser.add_argument(
        "--fold-input",
        metavar="WHAT",
        help="take what is done to the pictures into the first layers, so that raw bytes are fed: transform "
        "(what the net's transform_param says), darknet (x / 255), or "
        "scale=0.017,mean=103.94/116.78/123.68,order=bgr; with feed=rgb for pictures in another order than "
        "the net's, input=NAME where there are several",
    )


def add_requests(parser: Parser) -> None:
    """What is asked of single layers and blobs, for NNIE's compiler."""
    for name, form, what in (
        ("report", "BLOB", "have the compiler report this inner blob: _report behind its name"),
        ("high-precision", "LAYER", "ask for 16 bits in this layer: _hp behind its name"),
        ("cpu", "LAYER", "have the CPU do this layer: _cpu behind its name"),
        (
            "custom",
            "LAYER[=N,C,H,W]",
            "make this layer NNIE's Custom, which your own code on the CPU computes; the shape where it is "
            "not known, for several tops with / between",
        ),
        ("proposal", "LAYER", "make this layer NNIE's Proposal, likewise"),
    ):
        parser.add_argument(
            f"--{name}",
            action="append",
            default=[],
            metavar=form,
            help=f"{what}. May be given several times",
        )


def add_proof(parser: Parser) -> None:
    add_measure(parser)
    add_engine(parser)


def add_measure(parser: Parser) -> None:
    parser.add_argument("--input", type=Path, help="what both nets are fed with: .npy, or .npz by input name")
    parser.add_argument(
        "--seed", type=number(int, 0, 2**63), default=0, help="of the random input (default: 0)"
    )
    parser.add_argument(
        "--tolerance",
        type=number(float, 0.0, 1.0),
        default=1e-4,
        help="largest error in units of a blob's standard deviation (default: 1e-4)",
    )


def add_pictures(parser: Parser) -> None:
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument(
        "--input",
        type=Path,
        help="typical pictures as the net is fed with them, one behind the other: .npy, or .npz by input "
        "name. Their largest values set the ranges; the last one is measured",
    )
    given.add_argument(
        "--cfg",
        type=Path,
        metavar="FILE.cfg",
        help="the compiler's .cfg: its pictures, normalised as it says (see mapper-cfg)",
    )


def add_engine(parser: Parser) -> None:
    parser.add_argument(
        "--engine", choices=("numpy", "caffe"), default="numpy", help="what runs the nets (default: numpy)"
    )
    add_caffe_python(parser)


def add_caffe_python(parser: Parser) -> None:
    parser.add_argument(
        "--caffe-python", metavar="PATH", help="a Python that can `import caffe` (default: this one)"
    )


def add_weights_engine(parser: Parser) -> None:
    """For the commands that read a caffemodel; they take --caffe-python as well."""
    parser.add_argument(
        "--weights-engine",
        choices=("protobuf", "pycaffe"),
        default="protobuf",
        help="what reads the weights: our own reader (default), or Caffe, which reads HDF5 too",
    )


def add_output(parser: Parser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("-q", "--quiet", action="store_true", help="print nothing but errors")
    parser.add_argument("-v", "--verbose", action="store_true", help="print every blob and every note")


def number(kind: Callable[[str], Any], low: float, high: float) -> Callable[[str], Any]:
    """A number in a closed range; NaN is in none."""

    def convert(text: str) -> Any:
        value = kind(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} is not between {low:g} and {high:g}")
        return value

    convert.__name__ = kind.__name__ if isinstance(kind, type) else "number"
    return convert
