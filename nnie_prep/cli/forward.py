"""`run`: a Caffe net forward, its blobs into a file."""

from __future__ import annotations

import json
from argparse import Namespace

import numpy as np

from nnie_prep import __version__
from nnie_prep.cli.judges import computed
from nnie_prep.cli.placing import writing
from nnie_prep.cli.report import Progress, shape_text, table
from nnie_prep.cli.weights import read_pair
from nnie_prep.errors import UserError
from nnie_prep.outputs import Outputs
from nnie_prep.outputs.made_inside import write_npz
from nnie_prep.proof import read_feeds, without_training
from nnie_prep.shapes import infer_shapes


def run(options: Namespace) -> int:
    """Saves the net's outputs, or all its blobs, as arrays of an .npz under the blobs' names."""
    inputs = [options.prototxt, options.caffemodel, options.input]
    outputs = Outputs([options.output], inputs, force=options.force)
    with writing(outputs, lambda: read_pair(options)) as out:
        if options.output.suffix == ".npy":
            name = options.output.with_suffix(".npz").name
            raise UserError(
                "is to be an .npz, with arrays by the blobs' names", str(options.output), f"-o {name}"
            )
        net = without_training(read_pair(options))
        shapes = infer_shapes(net)
        feeds = read_feeds(options.input, {name: shapes[name] for name in net.inputs()})
        names = net.outputs() if options.blobs == "outputs" else net.blob_names()
        with Progress(not options.quiet and not options.json) as progress:
            progress("running the net")
            blobs, told = computed(options, net, feeds, names)
        with out.open(options.output) as file:
            made = out.made(f"nnie_prep {__version__} run", [f"--blobs {options.blobs}"])
            write_npz(file, {name: blobs[name] for name in names}, made)
        out.commit()
    if options.json:
        print(json.dumps({name: list(blobs[name].shape) for name in names}, indent=2))
    elif not options.quiet:
        rows = [
            (
                name,
                shape_text(blobs[name].shape),
                *(f"{f(blobs[name]):.6g}" for f in (np.min, np.mean, np.max)),
            )
            for name in names
        ]
        print(table(("blob", "shape", "min", "mean", "max"), rows))
        print("".join(f"{text}\n" for text in told), end="")
        print(f"wrote {options.output}")
    return 0
