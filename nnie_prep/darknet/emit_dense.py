"""Sections that see their input as one flat vector, and [implicit]: [connected], [softmax]."""

from __future__ import annotations

from nnie_prep.darknet.activations import ANYWHERE, activate, read_activation
from nnie_prep.darknet.builder import Builder, Output, refusal
from nnie_prep.darknet.cfg import Section
from nnie_prep.darknet.emit_convolution import normalize, refuse_partial_loading


def emit_connected(build: Builder, section: Section) -> Output:
    """activation(BatchNorm(W x) + b), x in the order channel, row, column (AlexeyAB connected_layer.c:160).

    The file holds biases, weights (outputs, inputs), then scales, mean and variance. Versions above
    1000 have the matrix transposed.
    """
    activation = read_activation(build, section, "logistic", of=ANYWHERE)
    outputs = section.int("output", 1, at_least=1)
    batch_normalize = bool(section.int("batch_normalize", 0))
    refuse_partial_loading(build, section)
    source = build.input()
    biases = build.take((outputs,), "biases")
    weights = build.take((outputs, source.count), "weights", "by_version")
    parameters: dict[str, object] = {"num_output": outputs}
    if batch_normalize:
        parameters["bias_term"] = False
    blob = build.add(
        "InnerProduct",
        "fc",
        source.blob,
        blobs=[weights] if batch_normalize else [weights, biases],
        inner_product_param=parameters,
    )
    if batch_normalize:
        scales, mean, variance = (build.take((outputs,), what) for what in ("scales", "mean", "variance"))
        normalize(build, blob, mean, variance, scales, biases)
    return Output((outputs, 1, 1), activate(build, activation, blob, owned=True))


def emit_softmax(build: Builder, section: Section) -> Output:
    """softmax(x / temperature) over `groups` equal runs of the flat input (AlexeyAB softmax_layer.c:47)."""
    groups = section.int("groups", 1, at_least=1)
    temperature = section.float("temperature", 1.0, at_least=1e-6)
    per_pixel = bool(section.float("spatial", 0.0))
    tree = section.string("tree")
    source = build.input()
    if tree:
        # One softmax for each group of a tree of classes, whose file is not at hand.
        build.add_head(source, "softmax", tree=tree, temperature=temperature)
        why = "a softmax over the groups of a tree of classes: computed on the CPU"
        return Output(source.shape, none=why)
    if source.count % groups:
        raise refusal(
            section,
            "groups",
            f"groups={groups} does not divide the {source.count} values of its input",
            "correct groups",
        )
    if per_pixel and source.size != (1, 1):
        raise refusal(
            section,
            "spatial",
            "with spatial=1 Darknet computes one thing on the CPU and another on the GPU",
            "remove spatial for a softmax over all values",
        )
    blob, axis = source.blob, 1
    if temperature != 1.0:
        blob = build.add("Power", "temperature", blob, power_param={"scale": 1.0 / temperature})
    if groups > 1:
        blob, axis = build.shaped(blob, (1, groups, source.count // groups, 1)), 2
    elif build.shapes[blob][:2] != (1, source.count):
        blob = build.add("Flatten", "flatten", blob)  # NNIE has it; of Reshape to two axes it is not known
    blob = build.add("Softmax", "softmax", blob, softmax_param={"axis": axis} if axis != 1 else {})
    return Output(source.shape, blob, flat=True)


def emit_implicit(build: Builder, section: Section) -> Output:
    """The output is (filters, atoms, 1) numbers of the weights file (AlexeyAB representation_layer.c)."""
    shape = (section.int("filters", 128, at_least=1), section.int("atoms", 1, at_least=1), 1)
    refuse_partial_loading(build, section)
    blob = build.add(
        "Parameter",
        "implicit",
        [],
        blobs=[build.take((1, *shape), "weights")],
        parameter_param={"shape": {"dim": [1, *shape]}},
    )
    return Output(shape, blob)
