"""`show` and `passes`: what a net consists of, and what this tool does to it."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Sequence

from nnie_prep.cli.report import count_text, number_text, shape_text, size_text, table
from nnie_prep.cli.weights import read_pair
from nnie_prep.passes import PASSES, summary_of
from nnie_prep.passes.pipelines import ALL_PASSES, NNIE_PASSES, STOCK_PASSES
from nnie_prep.show import Subtotal, convolutions, layer_figures, subtotals, totals


def show(options: Namespace) -> int:
    """Prints a row per layer, and totals."""
    net = read_pair(options)
    rows = layer_figures(net)
    parameters, operations = totals(rows)
    if options.json:
        document = {
            "name": net.header.name,
            "inputs": net.inputs(),
            "outputs": net.outputs(),
            "layers": [row._asdict() for row in rows],
            "types": [one._asdict() for one in subtotals(rows)],
            "convolutions": _without_type(convolutions(rows)),
            "parameters": parameters,
            "weight_bytes": None if parameters is None else 4 * parameters,
            "multiply_adds": operations,
        }
        print(json.dumps(document, indent=2))
        return 0
    if options.quiet:
        return 0
    cells = [
        (
            row.name,
            row.type,
            shape_text(row.shape) if row.shape is not None else "?",
            number_text(row.parameters),
            number_text(row.multiply_adds),
            *((" ".join(row.bottoms), " ".join(row.tops), row.origin) if options.verbose else ()),
        )
        for row in rows
    ]
    head = ("layer", "type", "shape", "parameters", "multiply-adds")
    print(table(head + (("bottoms", "tops", "from") if options.verbose else ()), cells))
    print()
    print(_types_text(subtotals(rows)))
    print()
    print(f"inputs         {', '.join(net.inputs())}")
    print(f"outputs        {', '.join(net.outputs())}")
    print(f"layers         {len(rows)}")
    size = "" if parameters is None else f" ({size_text(4 * parameters)} of float32)"
    print(f"parameters     {number_text(parameters)}{size}")
    print(f"multiply-adds  {number_text(operations)}")
    if (all_ := convolutions(rows)).layers:
        weights, products = number_text(all_.weights), number_text(all_.multiply_adds)
        counts = f"{weights} weights without biases, {products} multiply-adds"
        print(f"convolutions   {count_text(all_.layers, 'layer')}, {counts}")
    unknown = sorted({row.type for row in rows if row.multiply_adds is None})
    if unknown:
        print(f"not counted    layers of type {', '.join(unknown)} and what depends on them")
    return 0


def _types_text(rows: Sequence[Subtotal]) -> str:
    """What the layers of each type come to."""
    counts = [(row.layers, row.parameters, row.weights, row.multiply_adds) for row in rows]
    cells = [(row.type, *map(number_text, found)) for row, found in zip(rows, counts, strict=True)]
    return table(("type", "layers", "parameters", "weights", "multiply-adds"), cells)


def _without_type(row: Subtotal) -> dict[str, int | None]:
    return {key: value for key, value in row._asdict().items() if key != "type"}


def passes(options: Namespace) -> int:
    """Prints the passes, which command runs them, and the first line of what they say of themselves."""
    commands = {"merge-bn": PASSES, "prepare": NNIE_PASSES, "--target caffe": STOCK_PASSES}
    lines = {one: summary_of(one) for one in ALL_PASSES}
    if options.json:
        document = {
            one.__name__: {
                "does": line,
                "commands": [name for name, order in commands.items() if one in order],
            }
            for one, line in lines.items()
        }
        print(json.dumps(document, indent=2))
    elif not options.quiet:
        rows = [
            (one.__name__, *("yes" if one in order else "" for order in commands.values()), line)
            for one, line in lines.items()
        ]
        print(table(("pass", *commands, "what it does"), rows))
    return 0
