"""max_pool, gate and attention: the lowered graph, its rewriting into neurons and its integers compute the network, spike for spike."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray

from neurosim.chip import load_chip
from neurosim.compiler.lower.network import lower
from neurosim.compiler.lower.op_rewrites import Rewrites, lower_for
from neurosim.compiler.pipeline import compile_network
from neurosim.compiler.quantize.scales import quantize
from neurosim.errors import UnsupportedLayer
from neurosim.golden import run_graph, run_network
from neurosim.graph import Graph
from neurosim.host import run_host
from neurosim.network import Network
from neurosim.ops import Coincidence, Gate, MaxPool, OrPool
from tests.op_networks import lif, op_networks

EXAMPLES = int(os.environ.get("NEUROSIM_EXAMPLES", "60"))


def assert_same(net: Network, graph: Graph, data: NDArray[Any]) -> None:
    expected, found = run_network(net, data), run_graph(graph, data)
    layers = [name for name in expected.spikes if name in found.spikes]
    assert layers
    for name in layers:
        np.testing.assert_array_equal(found.spikes[name], expected.spikes[name], err_msg=name)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=1e-9)


@settings(max_examples=EXAMPLES)
@given(op_networks())
def test_ops_and_their_rewritings_keep_every_spike(case: tuple[Network, NDArray[Any]]) -> None:
    net, data = case
    assert_same(net, lower(net), data)
    rewritten = lower_for(net, Rewrites(maxpool=True, gate=True))
    assert_same(net, rewritten, data)
    if net.steps == 1:
        assert not any(isinstance(p.op, OrPool) for p in rewritten.populations)


@settings(max_examples=EXAMPLES // 2)
@given(op_networks())
def test_integers_of_the_ideal_chip_are_the_network(case: tuple[Network, NDArray[Any]]) -> None:
    net, data = case
    chip = load_chip("ideal")
    for graph in (lower(net), lower_for(net, Rewrites(maxpool=True, gate=True))):
        integer, _ = quantize(graph, chip)
        integer.verify()
        real, found = run_graph(graph, data), run_graph(integer, data, chip)
        for name, spikes in real.spikes.items():
            np.testing.assert_array_equal(found.spikes[name], spikes, err_msg=name)
        assert not sum(found.saturations.values())


def test_populations_are_named_like_their_layers() -> None:
    net = Network("names", steps=4)
    x = lif(net, "first", net.spikes_input("in", (4, 4, 4)))
    pooled = net.max_pool("pool", x, 2)
    mask = net.lif("mask", net.conv2d("sum", pooled, np.ones((1, 4, 1, 1))), decay=0.5, input_scale=0.5, threshold=0.5)
    gated = net.gate("gate", pooled, mask)
    shaped = net.reshape("tokens", gated, (4, 4, 1))
    y = lif(net, "attn_lif", net.scale("s", net.reshape("back", net.attention("attention", shaped, shaped, shaped, heads=2), (4, 2, 2)), 0.125))
    values = net.lif("values", net.max_pool("late", net.conv2d("conv", y, np.ones((4, 4, 1, 1))), 2))
    net.output(net.mean("mean", values))
    graph = lower(net)
    ops = {p.name: p.op for p in graph.populations if p.op is not None}
    assert ops == {
        "pool": OrPool(), "gate": Gate((1, 2, 2)), "attn_lif": Coincidence(2, 0.0625), "values": MaxPool((4, 2, 2), (2, 2), (2, 2)),
    }  # fmt: skip
    told = {r.layer: (r.status, r.text) for r in graph.rewrites}
    assert [r.layer for r in graph.rewrites] == list(net.layers)
    assert told["mask"][0] == "rewritten"
    assert "count of the gate gate" in told["mask"][1]
    assert {told[name][0] for name in ("pool", "gate", "attention", "late")} == {"native"}
    assert_same(net, graph, np.random.default_rng(0).integers(0, 2, (4, 4, 4, 4, 4), dtype=np.uint8))


@pytest.mark.parametrize("mean", [0.0, 0.5])
def test_a_host_layer_pools_its_own_values(mean: float) -> None:
    """The mean of an image is a bias of every window's cells, for it does not reach the padding."""
    net = Network("host", steps=2)
    image = net.input("in", (1, 6, 6), scale=256.0, mean=[mean])
    x = net.conv2d("conv", image, np.stack([np.ones((1, 3, 3)) / 8, -np.eye(3)[None]]), [0.25, -0.5], padding=1)
    x = net.scale("scale", net.max_pool("pool", x, 3, 2, 1), [2.0, 0.5], bias=0.125)
    net.output(net.mean("mean", lif(net, "lif", x, threshold=0.5)))
    graph = lower(net)
    population = graph.population("lif")
    assert population.host
    assert isinstance(population.op, MaxPool)
    assert (population.window_bias is None) == (mean == 0)
    assert {r.layer: r.status for r in graph.rewrites}["pool"] == "host"
    data = np.random.default_rng(1).integers(0, 256, (6, 1, 6, 6), dtype=np.uint8)
    assert_same(net, graph, data)
    result = compile_network(net, "async-mesh")
    _, spikes = run_host(result.program, data)
    np.testing.assert_array_equal(spikes["lif"], run_network(net, data).spikes["lif"])


def image_beside_spikes(net: Network) -> str:
    image = net.input("in", (2, 4, 4), scale=256.0)
    return net.lif("lif", net.max_pool("bad", net.concat("join", image, net.lif("spikes", image)), 2))


REFUSED = {
    "values behind a max-pool": (lambda n: n.lif("lif", n.conv2d("conv", n.max_pool("bad", conv(n), 2), np.ones((1, 2, 1, 1)))), "max_pool"),
    "sums of an attention": (lambda n: n.lif("lif", n.conv2d("c", attend(n, "bad"), np.ones((1, 2, 1, 1)))), "attention"),
    "attention of values": (lambda n: n.lif("lif", n.attention("bad", conv(n), conv(n, "d"), conv(n, "e"), heads=1)), "attention"),
    "gate of values": (lambda n: n.lif("lif", n.gate("bad", conv(n), spikes(n))), "gate"),
    "mask of values": (lambda n: n.lif("lif", n.gate("bad", spikes(n), conv(n))), "gate"),
    "factor below 0": (lambda n: n.lif("lif", n.scale("bad", n.max_pool("pool", conv(n), 2), -1.0)), "scale"),
    "factors of an attention": (lambda n: n.lif("lif", n.scale("bad", attend(n, "a"), [1.0, 2.0])), "scale"),
    "bias by pixel": (lambda n: n.lif("lif", n.max_pool("bad", n.scale("s", conv(n), 1.0, bias=np.arange(32.0).reshape(2, 4, 4)), 2)), "max_pool"),
    "image beside spikes": (image_beside_spikes, "max_pool"),
}


def spikes(net: Network) -> str:
    return "in" if "in" in net.layers else net.spikes_input("in", (2, 4, 4))


def conv(net: Network, name: str = "values") -> str:
    return net.conv2d(name, spikes(net), np.array([[0.3, -0.2], [0.1, 0.25]])[:, :, None, None])


def attend(net: Network, name: str) -> str:
    x = spikes(net)
    return net.attention(name, x, x, x, heads=1)


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_population_is_refused_by_name(case: str) -> None:
    build, op = REFUSED[case]
    net = Network("refused", steps=2)
    net.output(net.mean("mean", build(net)))
    with pytest.raises(UnsupportedLayer) as caught:
        lower(net)
    assert (caught.value.layer, caught.value.op) == ("bad", op)
    assert caught.value.value is not None
    assert caught.value.limit is not None
    assert caught.value.remedy
