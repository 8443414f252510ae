"""What the user asked of the proof: which engine, which input, whom a conversion is compared with."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from nnie_prep.errors import UserError

if TYPE_CHECKING:
    from nnie_prep.blob import Array
    from nnie_prep.net import Net
    from nnie_prep.proof import Engine, Judge, Options


def engine_of(options: Namespace) -> Engine:
    """The engine that the user chose."""
    from nnie_prep.proof import Engine

    return Engine(options.engine, options.caffe_python)


def computed(
    options: Namespace, net: Net, feeds: Mapping[str, Array], wanted: Collection[str]
) -> tuple[dict[str, Array], list[str]]:
    """These blobs on that engine, and how the net had to be changed for it. UserError: it cannot run one."""
    engine = engine_of(options)
    blobs = engine.run(net, feeds, wanted=set(wanted))
    if missing := [name for name in wanted if name not in blobs]:
        raise UserError(
            f"the {options.engine} engine cannot compute {', '.join(missing)}: unknown layer type",
            str(options.prototxt),
            "use --engine caffe with a Caffe that has the layer",
        )
    return blobs, engine.told


def proof_options(options: Namespace) -> Options:
    """How the user wants it proven."""
    from nnie_prep.proof import Options

    return Options(engine_of(options), options.input, options.seed, options.tolerance)


def check_judge(options: Namespace) -> None:
    """UserError: --against darknet and --darknet-lib are not given together."""
    against, library = getattr(options, "against", ""), getattr(options, "darknet_lib", None)
    if against == "darknet" and library is None:
        raise UserError(
            "needs the library of a Darknet that you built",
            "--against darknet",
            "add --darknet-lib libdarknet.so",
        )
    if library is not None and against != "darknet":
        raise UserError(
            "is of no use without --against darknet", "--darknet-lib", "add that, or leave it out"
        )


def judge_of(options: Namespace, cfg: Path, weights: Path, where: Path, always: Collection[int]) -> Judge:
    """Who says what Darknet computes.

    `where` is the user's cfg, for messages; `always` are indices of sections that must be compared.
    """
    if options.against == "opencv":
        from nnie_prep.darknet import opencv

        if (options.flavor, options.bn_form) != ("alexeyab", "standard"):
            raise UserError(
                "OpenCV knows neither --flavor nor --bn-form", str(where), "leave out --against opencv"
            )
        return opencv.load(cfg, weights)
    if options.against == "darknet":
        from nnie_prep.darknet import library

        return library.load(options.darknet_lib, cfg, weights, options.flavor, options.bn_form, always)
    from nnie_prep.darknet import reference

    return reference.load(cfg, weights, options.flavor, options.bn_form)
