from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from neurosim.chip import load_chip
from neurosim.compiler.check.supports import check, require_supported, supports
from neurosim.compiler.lower.network import lower
from neurosim.compiler.pipeline import compile_network
from neurosim.errors import UnsupportedLayer
from neurosim.network import Network
from tests.networks import residual_net


def small(build: Callable[[Network, str], str], steps: int = 1, image: bool = False) -> Network:
    net = Network("small", steps=steps)
    x = net.input("in", (2, 8, 8)) if image else net.spikes_input("in", (2, 8, 8))
    net.output(net.mean("head", build(net, x)))
    return net


CASES = {
    "unknown op": (lambda n, x: n.lif("lif", n.op("bad", "softmax", x)), (), "bad", "softmax"),
    "leak": (lambda n, x: n.lif("bad", x, decay=0.5), ("capabilities.neuron.leak=false",), "bad", 0.5),
    "reset": (lambda n, x: n.lif("bad", x, reset="subtract"), ('capabilities.neuron.resets=["zero"]',), "bad", "subtract"),
    "floor": (lambda n, x: n.lif("bad", x, floor=-1.0), ("capabilities.neuron.floor=false",), "bad", "floor"),
    "strict": (lambda n, x: n.lif("bad", x, strict=True), ("capabilities.neuron.strict=false",), "bad", "v > threshold"),
    "current": (lambda n, x: n.lif("bad", x, decay_current=0.5), (), "bad", 0.5),
    "bias": (lambda n, x: n.lif("bad", x, bias=0.5), ("capabilities.neuron.bias=false",), "bad", 0.5),
    "threshold": (
        lambda n, x: n.lif("bad", x, threshold=[1.0, 2.0]),
        ("capabilities.neuron.per_channel_threshold=false",),
        "bad",
        "several thresholds",
    ),
    "kernel": (lambda n, x: n.lif("lif", n.conv2d("bad", x, np.ones((1, 2, 5, 5)))), ("capabilities.ops.conv2d.kernel=4",), "bad", 5),
    "stride": (lambda n, x: n.lif("lif", n.conv2d("bad", x, np.ones((1, 2, 1, 1)), stride=3)), (), "bad", 3),
    "padding": (lambda n, x: n.lif("lif", n.conv2d("bad", x, np.ones((1, 2, 1, 1)), padding=8)), (), "bad", 8),
    "dilation": (lambda n, x: n.lif("lif", n.conv2d("bad", x, np.ones((1, 2, 2, 2)), dilation=2)), (), "bad", 2),
    "groups": (lambda n, x: n.lif("lif", n.conv2d("bad", x, np.ones((2, 1, 1, 1)), groups=2)), ("capabilities.ops.conv2d.groups=1",), "bad", 2),
    "map size": (lambda n, x: n.lif("lif", n.conv2d("bad", x, np.ones((1, 2, 1, 1)))), ("capabilities.ops.conv2d.map_size=7",), "bad", 8),
    "channels": (lambda n, x: n.lif("lif", n.conv2d("bad", x, np.ones((9, 2, 1, 1)))), ("capabilities.ops.conv2d.channels=8",), "bad", 9),
    "fan-in": (lambda n, x: n.lif("bad", n.conv2d("conv", x, np.ones((1, 2, 3, 3)))), ("memory.fan_in=17",), "bad", 18),
    "delay": (lambda n, x: n.lif("lif", n.delay("bad", x, 3)), (), "bad", 3),
    "readout": (lambda n, x: n.lif("lif", x), ("capabilities.readout=false",), "head", "membranes"),
    "events": (lambda n, x: n.lif("lif", x), ('capabilities.inputs=["currents"]',), "in", "spikes"),
}


@pytest.mark.parametrize("name", CASES)
def test_every_limit_is_refused_by_name(name: str) -> None:
    build, overrides, layer, value = CASES[name]
    net = small(build)
    rows = [row for row in check(net, load_chip("async-mesh", overrides)) if row.status == "refused"]
    assert (rows[0].layer, rows[0].value) == (layer, value)
    assert rows[0].reason
    assert rows[0].remedy
    with pytest.raises(UnsupportedLayer, match=layer):
        require_supported(net, load_chip("async-mesh", overrides))


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case[1]])
def test_the_same_layers_pass_without_the_limit(name: str) -> None:
    assert all(row.status != "refused" for row in require_supported(small(CASES[name][0]), load_chip("async-mesh"))[0])


def test_currents_recurrence_and_real_pixels() -> None:
    net = small(lambda n, x: n.lif("b", n.concat("join", n.conv2d("c", x, np.ones((2, 2, 1, 1))), n.lif("a", x))), image=True)
    rows = check(net, load_chip("async-mesh", ['capabilities.inputs=["spikes"]']))
    assert [(r.layer, r.value) for r in rows if r.status == "refused"] == [("b", "real-valued input")]
    net = small(lambda n, x: n.lif("a", x), steps=2)
    net.connect("a", "a", 1)
    rows = check(net, load_chip("async-mesh", ["capabilities.recurrence=false"]))
    assert [(r.layer, r.op) for r in rows if r.status == "refused"] == [("a", "connect")]
    net = Network("real")
    net.output(net.mean("head", net.lif("a", net.input("in", (1, 4, 4), dtype="float32"))))
    assert [(r.layer, r.value) for r in check(net, load_chip("async-mesh")) if r.status == "refused"] == [("in", "float32")]


def test_one_row_per_layer_and_one_rule_for_all() -> None:
    net, chip = residual_net(), load_chip("async-mesh")
    rows = check(net, chip)
    assert [row.layer for row in rows] == list(net.layers)
    assert {row.status for row in rows} == {"native", "rewritten"}
    graph = lower(net)
    assert not [row for node in (*graph.populations, *graph.projections) for row in supports(node, chip, graph)]
    several = load_chip("async-mesh", ["capabilities.neuron.leak=false", "capabilities.neuron.strict=false"])
    assert len([row for row in check(net, several) if row.status == "refused"]) == 5
    with pytest.raises(UnsupportedLayer, match="4 more refused"):
        require_supported(net, several)


def test_fan_in_counts_no_padding_and_compiling_agrees_with_check() -> None:
    """A 3 x 3 kernel on a 2 x 2 map with one channel reaches four neurons at most, whatever its size."""
    net = Network("small map")
    x = net.lif("lif", net.conv2d("conv", net.spikes_input("in", (1, 2, 2)), np.ones((1, 1, 3, 3)), padding=1))
    net.output(net.linear("head", net.flatten("flat", x), np.ones((2, 4))))
    assert compile_network(net, load_chip("async-mesh", ["memory.fan_in=4"])).audit is not None
    with pytest.raises(UnsupportedLayer, match=r"lif .* value 4, limit 3; .*; 1 more refused"):
        compile_network(net, load_chip("async-mesh", ["memory.fan_in=3"]))


def test_check_tells_what_no_discipline_of_the_chip_can_do() -> None:
    net = Network("late", steps=2)
    x = net.spikes_input("in", (2, 1, 1))
    a = net.lif("a", x)
    b = net.lif("b", net.linear("w", a, np.eye(2)))
    net.output(net.lif("c", net.add("sum", b, x)))
    only = ['sync=["barrier"]', "timing.barrier=[{tiles=1,duration=1000}]"]
    rows = [row for row in check(net, load_chip("async-mesh", [*only, "capabilities.max_delay=0"])) if row.status == "refused"]
    assert [(row.layer, row.value, row.limit) for row in rows] == [("c", 2, 0)]
    assert "in -> c needs a chip delay of 2 steps" in rows[0].reason
    assert not any(row.status == "refused" for row in check(net, load_chip("async-mesh", only)))
    assert not any(row.status == "refused" for row in check(net, load_chip("async-mesh", ["capabilities.max_delay=0"])))
