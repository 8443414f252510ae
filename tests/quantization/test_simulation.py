"""Rounded runs, against pycaffe that is fed with rounded numbers by hand, and their losses."""

from __future__ import annotations

import numpy as np
import pytest
from google.protobuf import text_format

from nnie_prep.blob import Array
from nnie_prep.engines.numpy import forward
from nnie_prep.errors import UserError
from nnie_prep.net import Layer, Net
from nnie_prep.nnie_caffe_pb2 import LayerParameter, NetParameter
from nnie_prep.proof import Engine
from nnie_prep.quantization import LayerLoss, Simulation, round_to_code, snr
from nnie_prep.quantization.proposal import propose
from nnie_prep.quantization.simulation import cosine


def layer(type_: str, name: str, bottoms: str, tops: str, text: str = "", *blobs: Array) -> Layer:
    proto = LayerParameter(name=name, type=type_)
    text_format.Merge(text, proto)
    return Layer(proto, bottoms.split(), tops.split(), list(blobs), origin=f"net.prototxt:{len(name)}")


def net_of(*layers: Layer, shape: tuple[int, ...]) -> Net:
    header = NetParameter(name="net", input=["data"])
    header.input_shape.add().dim.extend(shape)
    return Net(list(layers), header, source="net.prototxt")


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def net(random: np.random.Generator) -> Net:
    """Two convolutions with a ReLU in place between them, and a sum of both."""

    def weights(*shape: int) -> Array:
        return random.normal(0, 0.3, shape).astype(np.float32)

    return net_of(
        layer(
            *("Convolution", "conv1", "data", "conv1"),
            "convolution_param { num_output: 6 kernel_size: 3 pad: 1 group: 3 }",
            *(weights(6, 2, 3, 3), weights(6)),
        ),
        layer("ReLU", "relu1", "conv1", "conv1", "relu_param { negative_slope: 0.1 }"),
        layer(
            *("Convolution", "conv2", "conv1", "conv2"),
            "convolution_param { num_output: 6 kernel_h: 1 kernel_w: 3 pad_w: 1 }",
            *(weights(6, 6, 1, 3), weights(6)),
        ),
        layer("Eltwise", "sum", "conv1 conv2", "sum"),
        shape=(1, 6, 9, 7),
    )


def largest(*values: Array) -> float:
    return max(float(np.abs(one).max()) for one in values)


@pytest.mark.caffe
def test_a_rounded_run_is_caffe_on_rounded_numbers(net: Net, random: np.random.Generator) -> None:
    x = random.normal(size=(1, 6, 9, 7)).astype(np.float32)
    other = 3 * random.normal(size=x.shape).astype(np.float32)
    simulation = Simulation(net)
    exact = [simulation.calibrate({"data": value}) for value in (other, x)]
    found = simulation.run({"data": x})

    conv1, relu1, conv2, add = net.layers
    rounded = net.copy()
    for one in (0, 2):
        weights = np.asarray(net.layers[one].blobs[0])
        rounded.layers[one].blobs[0] = round_to_code(weights, largest(weights))
    head, middle, tail = (Net(list(part), NetParameter()) for part in
                          (rounded.layers[:2], rounded.layers[2:3], rounded.layers[3:]))  # fmt: skip
    ranges = [largest(x, other), *(largest(*(blobs["conv1"] for blobs in exact)),)]
    ranges.append(largest(*(blobs[name] for blobs in exact for name in ("conv1", "conv2"))))

    def caffe(part: Net, **bottoms: Array) -> dict[str, Array]:
        for name, value in bottoms.items():
            part.header.input.append(name)
            part.header.input_shape.add().dim.extend(value.shape)
        return Engine("caffe").run(part, bottoms)

    first = caffe(head, data=round_to_code(x, ranges[0]))["conv1"]
    second = caffe(middle, conv1=round_to_code(first, ranges[1]))["conv2"]
    third = caffe(
        tail, conv1=round_to_code(first, ranges[2]), conv2=round_to_code(second, ranges[2])
    )["sum"]  # fmt: skip
    # a value whose logarithm lies on the border of two codes may fall to either side: half a step of it
    for name, expected in (("conv1", first), ("conv2", second), ("sum", third)):
        assert snr(expected, found[name]) > 60, name
    assert snr(exact[1]["sum"], found["sum"]) < 45  # rounded at all


@pytest.mark.parametrize(
    ("type_", "text"),
    [("Eltwise", "eltwise_param { operation: PROD }"), ("Scale", "scale_param { axis: 0 }")],
)
def test_a_second_bottom_of_a_layer_in_place_is_read(
    type_: str, text: str, random: np.random.Generator
) -> None:
    """An attention in place: the map is at hand, what it is multiplied with comes from memory."""
    net = net_of(
        layer("ReLU", "map", "data", "map"),
        layer("Sigmoid", "mask", "data", "mask"),
        layer(type_, "times", "map mask", "map", text),
        shape=(1, 6, 9, 7),
    )
    x = {"data": random.normal(size=(1, 6, 9, 7)).astype(np.float32)}
    simulation = Simulation(net)
    simulation.calibrate(x)
    (*_, loss) = simulation.losses(x)
    found = simulation.run(x)
    read = round_to_code(x["data"], largest(x["data"]))
    exact, mask = (1 / (1 + np.exp(-value.astype(np.float64))) for value in (x["data"], read))
    np.testing.assert_allclose(
        found["map"], np.maximum(read, 0) * round_to_code(mask, largest(exact)), rtol=1e-6
    )
    assert loss.largest == pytest.approx(largest(exact), rel=1e-6)


def test_losses_tell_a_layer_from_its_neighbours(net: Net, random: np.random.Generator) -> None:
    """An outlier among conv2's weights, which meets zeros, makes the others 0: conv2 alone loses by it."""
    for place in (0, 1):
        blob = np.array(net.layers[0].blobs[place])
        blob[0] = 0
        net.layers[0].blobs[place] = blob
    weights = np.array(net.layers[2].blobs[0])
    weights[0, 0, 0, 0] = 1e3
    net.layers[2].blobs[0] = weights
    x = random.normal(size=(1, 6, 9, 7)).astype(np.float32)
    simulation = Simulation(net)
    exact = simulation.calibrate({"data": x})
    losses = {loss.layer: loss for loss in simulation.losses({"data": x})}
    assert list(losses) == ["conv1", "relu1", "conv2", "sum"]
    assert losses["relu1"].own == float("inf")  # in place: not rounded
    assert losses["conv1"].own > 30 and losses["sum"].own > 30
    # conv2 alone: the exact values of conv1, rounded, by weights that are
    alone = Net([net.layers[2].copy()], NetParameter(name="conv2", input=["conv1"]))
    alone.layers[0].blobs[0] = round_to_code(weights, largest(weights))
    read = round_to_code(exact["conv1"], largest(exact["conv1"]))
    own = snr(exact["conv2"], forward(alone, {"conv1": read})["conv2"])
    assert losses["conv2"].own == pytest.approx(own) and own < 10
    assert losses["conv2"].largest == largest(exact["conv1"])
    rounded = simulation.run({"data": x})
    for name, blob in (("relu1", "conv1"), ("conv2", "conv2"), ("sum", "sum")):
        assert losses[name].end_to_end == pytest.approx(snr(exact[blob], rounded[blob]))
        assert losses[name].cosine == pytest.approx(cosine(exact[blob], rounded[blob]))


def test_a_layer_without_a_top_loses_nothing(net: Net, random: np.random.Generator) -> None:
    x = {"data": random.normal(size=(1, 6, 9, 7)).astype(np.float32)}
    net.layers.append(layer("Silence", "silence", "sum", ""))
    simulation = Simulation(net)
    simulation.calibrate(x)
    assert [loss.layer for loss in simulation.losses(x)] == ["conv1", "relu1", "conv2", "sum"]


def test_sixteen_bits_by_name_suffix_or_for_all(net: Net, random: np.random.Generator) -> None:
    x = {"data": random.normal(size=(1, 6, 9, 7)).astype(np.float32)}

    def worst(high_precision: tuple[str, ...] = (), bits: int = 8, rename: str = "") -> float:
        twin = net.copy()
        if rename:
            twin.layers[0].proto.name = rename
        simulation = Simulation(twin, 16 if bits == 16 else 8)
        exact = simulation.calibrate(x)
        return snr(exact["conv2"], simulation.run(x, high_precision)["conv2"])

    some = worst(("conv1",))
    assert worst() + 1 < some < worst(("conv1", "conv2")) == worst(bits=16)
    assert worst(rename="conv1_hp") == some


def test_what_is_zero_and_what_is_not_finite(net: Net) -> None:
    x = {"data": np.zeros((1, 6, 9, 7), np.float32)}
    simulation = Simulation(net)
    simulation.calibrate(x)
    assert np.isfinite(simulation.run(x)["sum"]).all()
    net.layers[0].blobs[0] = np.full((6, 2, 3, 3), np.nan, np.float32)
    with pytest.raises(UserError, match="weights of layer 'conv1' are not finite"):
        Simulation(net).calibrate(x)


@pytest.mark.parametrize(("type_", "value"), [("Exp", 100.0), ("Log", -1.0)], ids=["infinity", "NaN"])
def test_there_is_no_range_for_what_is_not_finite(type_: str, value: float) -> None:
    net = net_of(layer(type_, "odd", "data", "odd"), layer("ReLU", "end", "odd", "end"), shape=(1, 2, 3, 4))
    simulation, x = Simulation(net), np.ones((1, 2, 3, 4), np.float32)
    simulation.calibrate({"data": x})
    x[0, 1, 2, 3] = value
    with (
        np.errstate(all="ignore"),
        pytest.raises(UserError, match=rf"net.prototxt:3: layer 'odd' \({type_}\) computes .* not finite"),
    ):
        simulation.calibrate({"data": x})


def test_snr_and_cosine() -> None:
    a = np.array([3.0, -4.0], np.float32)
    assert snr(a, a) == float("inf") and snr(a, a * 0.9) == pytest.approx(20, abs=1e-4)
    assert snr(np.zeros(2, np.float32), a) == float("-inf")
    assert cosine(a, 2 * a) == pytest.approx(1) and cosine(a, np.array([4.0, 3.0])) == pytest.approx(0)
    assert cosine(a * 0, a) == 0 and cosine(a * 0, a * 0) == 1
    some = np.array([3.0, 0.0])
    assert cosine(some, a * 0) == cosine(a * 0, some) == 0


def test_the_proposal_names_what_helps_and_is_measured(net: Net, random: np.random.Generator) -> None:
    for layer, outlier in ((net.layers[0], 300.0), (net.layers[2], 30.0)):
        weights = np.array(layer.blobs[0])
        weights[0, 0, 0, 0] = outlier
        layer.blobs[0] = weights
    x = {"data": random.normal(size=(1, 6, 9, 7)).astype(np.float32)}
    simulation = Simulation(net)
    exact = simulation.calibrate(x)
    losses = simulation.losses(x)

    def ask(target: float) -> list[tuple[str, float]]:
        told: list[tuple[int, int]] = []
        found = propose(net, simulation, x, exact, losses, target, 2, lambda *trial: told.append(trial))
        assert found.before == snr(exact["sum"], simulation.run(x)["sum"])
        assert told == [(number, 5) for number in range(1, len(told) + 1)] and len(told) <= 5
        return [(step.layer, step.snr) for step in found.steps]

    assert ask(0.0) == []
    steps = ask(200.0)
    assert len(steps) == 2
    alone = {name: snr(exact["sum"], simulation.run(x, [name])["sum"]) for name in ("conv1", "conv2")}
    assert steps[0][1] == max(alone.values()) > min(alone.values())
    chosen: list[str] = []
    for name, reached in steps:
        chosen.append(name)
        assert reached == snr(exact["sum"], simulation.run(x, chosen)["sum"])
    assert ask(steps[0][1] - 0.1) == steps[:1]


def test_the_worst_output_counts(net: Net, random: np.random.Generator) -> None:
    """Beside one that loses nothing."""
    net.layers.append(layer("Power", "fine", "data", "fine", "power_param { shift: 1 }"))
    x = {"data": round_to_code(random.normal(size=(1, 6, 9, 7)).astype(np.float32), 4.0)}
    simulation = Simulation(net)
    exact = simulation.calibrate({"data": 4.0 * np.ones_like(x["data"])}) | simulation.calibrate(x)
    found = propose(net, simulation, x, exact, simulation.losses(x), 200.0, candidates=2)
    rounded = simulation.run(x)
    assert snr(exact["fine"], rounded["fine"]) > snr(exact["sum"], rounded["sum"]) == found.before


def test_a_layer_that_hardly_helps_is_not_proposed(net: Net, random: np.random.Generator) -> None:
    """conv3 loses more than all others, and a thousandth of it reaches the output."""
    weights = random.normal(0, 0.3, (6, 6, 1, 1)).astype(np.float32)
    weights[0, 0] = 100.0
    conv3 = "num_output: 6 kernel_size: 1 bias_term: false"
    net.layers += [
        layer("Convolution", "conv3", "sum", "conv3", f"convolution_param {{ {conv3} }}", weights),
        layer("Power", "small", "conv3", "conv3", "power_param { scale: 1e-3 }"),
        layer("Eltwise", "end", "sum conv3", "end"),
    ]
    x = {"data": random.normal(size=(1, 6, 9, 7)).astype(np.float32)}
    simulation = Simulation(net)
    exact = simulation.calibrate(x)
    losses = simulation.losses(x)
    found = propose(net, simulation, x, exact, losses, 200.0, candidates=len(losses))
    reached = [found.before, *(step.snr for step in found.steps)]
    assert "conv3" not in [step.layer for step in found.steps] and len(found.steps) > 1
    assert all(after >= before + 0.2 for before, after in zip(reached, reached[1:], strict=False))
    names = [step.layer for step in found.steps]
    assert reached[-1] < snr(exact["end"], simulation.run(x, [*names, "conv3"])["end"]) < reached[-1] + 0.2


def test_losses_know_sixteen_bits(net: Net, random: np.random.Generator) -> None:
    x = {"data": random.normal(size=(1, 6, 9, 7)).astype(np.float32)}
    simulation = Simulation(net)
    simulation.calibrate(x)

    def of(name: str, high_precision: tuple[str, ...]) -> LayerLoss:
        return next(loss for loss in simulation.losses(x, high_precision) if loss.layer == name)

    assert of("conv2", ()).bits == 8 and of("conv2", ("conv2",)).bits == 16
    assert of("conv2", ("conv2",)).own > of("conv2", ()).own + 10


def test_the_hook_does_not_change_a_plain_run(net: Net, random: np.random.Generator) -> None:
    x = {"data": random.normal(size=(1, 6, 9, 7)).astype(np.float32)}
    plain, recorded = forward(net, x), Simulation(net).calibrate(x)
    for name, value in plain.items():
        np.testing.assert_array_equal(recorded[name], value)


def one_over(power: float, shift: float) -> Net:
    """x -> (x + shift) ^ power -> the same less itself, through a layer that rounds what it reads."""
    return net_of(
        layer("Power", "shifted", "data", "shifted", f"power_param {{ shift: {shift} }}"),
        layer("Power", "power", "shifted", "power", f"power_param {{ power: {power} }}"),
        layer("Eltwise", "none", "power power", "none", "eltwise_param { coeff: 1 coeff: -1 }"),
        layer("TanH", "end", "none", "end"),
        shape=(1, 1, 1, 2),
    )


@pytest.mark.parametrize("power", [-1, 0.5])
def test_values_that_no_range_holds(power: float) -> None:
    """An infinity (1 / 0) and what is no number (the root of -1) are told, with the layer."""
    feeds = {"data": np.float32([[[[0, -1]]]])}
    with pytest.raises(UserError, match=r"layer 'power' \(Power\) computes values that are not finite"):
        Simulation(one_over(power, 0)).calibrate(feeds)


def test_rounding_divides_by_zero() -> None:
    """A value too small for the range becomes 0. What comes of that is clamped, and lost at the end."""
    feeds = {"data": np.float32([[[[1e-4, 1]]]])}
    simulation = Simulation(one_over(-1, 0))
    simulation.calibrate(feeds)
    found = {loss.layer: (loss.own, loss.end_to_end, loss.cosine) for loss in simulation.losses(feeds)}
    assert found["power"] == (-np.inf, -np.inf, 0.0)
    assert np.isfinite(simulation.run(feeds)["end"]).all()


def test_rounding_leaves_no_number() -> None:
    """In place nothing is clamped, and an infinity less the mean of all is none."""
    net = one_over(-1, 0)
    batch = "batch_norm_param { use_global_stats: false }"
    net.layers.insert(2, layer("BatchNorm", "bn", "power", "power", batch))
    feeds = {"data": np.float32([[[[1e-4, 1]]]])}
    simulation = Simulation(net)
    simulation.calibrate(feeds)
    with pytest.raises(UserError, match="layer 'none' reads what is no number any more with rounded values"):
        simulation.run(feeds)
