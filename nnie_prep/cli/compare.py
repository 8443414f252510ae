"""`verify`: two Caffe nets, blob by blob."""

from __future__ import annotations

import json
from argparse import Namespace

from nnie_prep.blob_map import Fate
from nnie_prep.caffe_io import read_net
from nnie_prep.cli.judges import proof_options
from nnie_prep.cli.report import Progress, verdict_json, verdict_text
from nnie_prep.cli.weights import reader_of
from nnie_prep.description import described_fates
from nnie_prep.errors import UserError
from nnie_prep.normalization import folded_into
from nnie_prep.passes.replace_inputs import on_as_many_pictures
from nnie_prep.proof import prove_surgery


def verify(options: Namespace) -> int:
    """Compares the first net's blobs with those of the second that hold their values.

    Where the second was made of the first, its STEM.json says which these are, and why some are gone. Else
    they are those of the same name: nobody says what became of the others, which are named as not compared,
    and an output among them differs. Where the second net takes raw pictures and says so, the first is
    fed with what it took.
    """
    read_weights = reader_of(options)
    a = read_net(options.a_prototxt, options.a_caffemodel, read_weights=read_weights)
    b = read_net(options.b_prototxt, options.b_caffemodel, read_weights=read_weights)
    theirs = set(b.blob_names())
    fates = described = described_fates(options.b_prototxt, a.blob_names())
    if described:
        b = on_as_many_pictures(b, a, fates)
    else:
        fates = {
            name: Fate((name,)) if name in theirs else Fate((), "the second net has no blob of that name")
            for name in a.blob_names()
        }
    if not any(fate.blobs for fate in fates.values()):
        raise UserError(
            "the two nets have no blob name in common",
            str(options.b_prototxt),
            "compare nets with the same names",
        )
    folded = None if folded_into(a) else folded_into(b)
    with Progress(not options.quiet and not options.json) as progress:
        verdict = prove_surgery(
            a, b, fates, proof_options(options), progress, cut=bool(described), folded=folded
        )
    for name in a.outputs():
        if not described and name not in theirs:
            verdict.reasons.append(f"output {name} is not in the second net")
            verdict.answer = "differs"
    if options.json:
        print(json.dumps(verdict_json(verdict), indent=2))
    elif not options.quiet:
        print(verdict_text(verdict, options.verbose))
    return 0 if verdict.passed else 1
