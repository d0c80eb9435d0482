from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray

from neurosim.chip import load_chip
from neurosim.compiler.lower.network import lower
from neurosim.compiler.quantize import adapt
from neurosim.errors import UnsupportedLayer
from neurosim.golden import run_graph, run_network
from neurosim.graph import Conv2d, SumPool
from neurosim.network import Network
from tests.networks import drawn_networks, dyadic, residual_net


def assert_same(net: Network, data: NDArray[Any]) -> None:
    """The lowered graph computes the network: every spike equal, scores to rounding."""
    graph = lower(net)
    expected, found = run_network(net, data), run_graph(graph, data)
    assert set(found.spikes) >= {p.name for p in graph.populations if p.kind == "spiking"}
    for name, spikes in expected.spikes.items():
        if name in found.spikes:
            np.testing.assert_array_equal(found.spikes[name], spikes, err_msg=name)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=1e-9)


@settings(max_examples=int(os.environ.get("NEUROSIM_EXAMPLES", "60")))
@given(drawn_networks())
def test_drawn_networks_keep_every_spike(case: tuple[Network, NDArray[Any]]) -> None:
    assert_same(*case)


def test_residual_of_currents_reaches_every_reader() -> None:
    net = residual_net()
    graph = lower(net)
    data = np.random.default_rng(1).integers(0, 256, (5, 2, 8, 8), dtype=np.uint8)
    assert_same(net, data)
    assert {p.source for p in graph.into("ffn.lif")} == {"image", "lif1", "mix.lif3"}
    assert {p.source for p in graph.into("head")} == {"image", "lif1", "mix.lif3", "ffn.lif"}
    assert graph.population("lif1").host
    assert not graph.population("mix.lif1").host
    assert [r.layer for r in graph.rewrites] == list(net.layers)
    assert {r.status for r in graph.rewrites} == {"host", "rewritten", "native"}


def test_bias_of_a_normalised_image_differs_at_padded_borders() -> None:
    """A constant input offset does not reach the padding, so the folded bias is a map, not a number per channel."""
    net = Network("border")
    x = net.input("image", (1, 4, 4), mean=[64.0])
    y = net.lif("lif", net.conv2d("conv", x, np.ones((1, 1, 3, 3)), padding=1), threshold=64.0)
    net.output(net.linear("head", net.flatten("flat", y), np.ones((2, 16))))
    rule = lower(net).population("lif").rule
    assert rule is not None
    np.testing.assert_array_equal(np.asarray(rule.bias)[0], -64.0 * np.array([[4, 6, 6, 4], [6, 9, 9, 6], [6, 9, 9, 6], [4, 6, 6, 4]]))
    assert_same(net, np.full((1, 1, 4, 4), 80, np.uint8))


def test_projections_of_one_source_are_merged() -> None:
    rng = np.random.default_rng(0)
    net = Network("merge")
    x = net.spikes_input("in", (4, 5, 5))
    y = net.add("sum", x, net.conv2d("a", x, dyadic(rng, 4, 4, 3, 3), padding=1), net.conv2d("b", x, dyadic(rng, 4, 4, 3, 3), padding=1))
    net.output(net.mean("mean", net.lif("lif", y)))
    graph = lower(net)
    (into,) = graph.into("lif")
    assert isinstance(into.map, Conv2d)
    assert into.map.weight.shape == (4, 4, 3, 3)
    assert isinstance(graph.into("mean")[0].map, SumPool)
    assert_same(net, rng.integers(0, 2, (3, 1, 4, 5, 5), dtype=np.uint8))


def test_recurrent_connection_and_synaptic_current() -> None:
    rng = np.random.default_rng(2)
    net = Network("recurrent", steps=5)
    x = net.spikes_input("in", (3, 1, 1))
    y = net.lif("lif", net.conv2d("w", x, dyadic(rng, 4, 3, 1, 1)), decay=0.5, decay_current=0.75)
    net.connect(net.conv2d("back", y, dyadic(rng, 4, 4, 1, 1)), "lif", 2)
    net.connect("back", "lif", 1)
    net.output(y)
    data = rng.integers(0, 2, (6, 5, 3, 1, 1), dtype=np.uint8)
    assert_same(net, data)
    assert [p.name for p in lower(net).populations] == ["in", "lif", "lif.count"]
    without = run_network(net, data).spikes["lif"]
    net.connections.clear()
    assert not np.array_equal(without, run_network(net, data).spikes["lif"])


def test_refusals_name_the_layer() -> None:
    net = Network("refused")
    x = net.spikes_input("in", (2, 4, 4))
    net.lif("bad", x, threshold=0.0)
    net.output(net.mean("mean", "bad"))
    with pytest.raises(UnsupportedLayer, match=r"bad \(lif\): the threshold"):
        lower(net)
    net = Network("pooled")
    net.output(net.mean("mean", net.op("pool", "softmax", net.spikes_input("in", (2, 4, 4)))))
    with pytest.raises(UnsupportedLayer, match=r"pool \(softmax\)"):
        lower(net)
    net = Network("late", steps=2)
    y = net.conv2d("conv", net.spikes_input("in", (2, 4, 4)), np.ones((1, 2, 1, 1)), [1.0])
    net.output(net.mean("mean", net.lif("lif", net.delay("wait", y))))
    with pytest.raises(UnsupportedLayer, match=r"wait \(delay\): it delays a bias"):
        lower(net)


def test_layers_beside_the_output_are_dropped() -> None:
    net = Network("branch")
    x = net.spikes_input("in", (2, 4, 4))
    net.op("training_only", "gelu", x)
    net.output(net.mean("mean", net.lif("lif", x)))
    assert {r.layer: r.status for r in lower(net).rewrites}["training_only"] == "dropped"


def test_sparse_layers_stay_sparse_through_scales_and_joins() -> None:
    rng = np.random.default_rng(6)
    net = Network("sparse", steps=3)
    a = net.spikes_input("in", (4, 2, 1))
    joined = net.concat("joined", net.scale("factors", a, np.array([1.0, 2.0, 0.5, 4.0])), net.lif("early", a, threshold=1.0))
    indptr = np.concatenate([[0], np.cumsum(rng.integers(0, 4, 16))])
    targets = rng.integers(0, 6, indptr[-1])
    sparse = net.sparse("sparse", joined, indptr, targets, dyadic(rng, int(indptr[-1])), (3, 2, 1), bias=np.arange(3) / 4)
    net.output(net.mean("mean", net.lif("late", sparse, input_scale=0.5, reset="subtract")))
    data = rng.integers(0, 2, (6, 3, 4, 2, 1), dtype=np.uint8)
    assert_same(net, data)
    assert [p.map.op for p in lower(net).into("late")] == ["sparse", "sparse"]


def test_an_integrator_is_a_readout_with_its_own_leak() -> None:
    rng = np.random.default_rng(8)
    net = Network("membranes", steps=4)
    x = net.lif("lif", net.linear("w", net.spikes_input("in", (3, 1, 1)), dyadic(rng, 4, 3)), threshold=0.5)
    y = net.linear("head", x, dyadic(rng, 2, 4))
    net.output(net.li("out", y, decay=0.75, bias=[0.5, -0.25], input_scale=0.5, decay_current=0.5))
    assert_same(net, rng.integers(0, 2, (6, 4, 3, 1, 1), dtype=np.uint8))
    net.layers["out"].params["decay_current"] = None
    net.layers["head"].params["bias"] = np.array([1.0, 2.0])
    assert_same(net, rng.integers(0, 2, (6, 4, 3, 1, 1), dtype=np.uint8))
    net.layers["out"].params["decay_current"] = 0.5
    with pytest.raises(UnsupportedLayer, match=r"out \(li\): a bias enters its synaptic current"):
        lower(net)


@pytest.mark.parametrize(
    ("size", "pool", "kernel", "stride", "padding"), [(8, 2, 3, 1, 1), (16, 4, 3, 1, 1), (6, 2, 2, 1, 2), (12, 3, 3, 2, (0, 1)), (9, 2, 3, 1, 1)]
)
def test_a_pooling_joins_the_convolution_behind_it(size: int, pool: int, kernel: int, stride: int, padding: Any) -> None:
    """One compact convolution, each weight once; the last case leaves a row over, which the padding does not see. A chip that cannot divide
    coordinates gets the kernel repeated in every window, or a matrix where that would see the row."""
    rng = np.random.default_rng(size)
    net = Network("pooled", steps=2)
    x = net.lif("lif1", net.spikes_input("in", (2, size, size)), decay=1.0, threshold=1.0)
    y = net.conv2d("conv", net.sum_pool("pool", x, pool), dyadic(rng, 3, 2, kernel, kernel), stride=stride, padding=padding)
    net.output(net.mean("head", net.lif("lif2", y, decay=1.0, threshold=1.0, reset="subtract")))
    graph = lower(net)
    (projection,) = graph.into("lif2")
    assert isinstance(projection.map, Conv2d)
    assert projection.map.weight.shape == (3, 2, kernel, kernel)
    data = rng.integers(0, 2, (8, 2, 2, size, size), dtype=np.uint8)
    assert_same(net, data)
    plain = adapt(graph, load_chip("loihi1-like"))
    (written,) = plain.into("lif2")
    assert written.map.op == ("conv2d" if size % pool == 0 else "pooled_conv2d")
    expected, found = run_graph(graph, data), run_graph(plain, data)
    np.testing.assert_array_equal(found.spikes["lif2"], expected.spikes["lif2"])


HEADS: dict[str, Callable[[Network, str, Callable[..., Any]], str]] = {
    "mean, linear": lambda n, x, w: n.linear("fc", n.mean("m", x), w(6, 3)),
    "mean, norm, linear, linear": lambda n, x, w: n.linear(
        "fc2", n.linear("fc", n.batch_norm("n", n.mean("m", x), w(3) + 2, w(3), w(3), w(3) ** 2 + 1), w(4, 3)), w(6, 4)
    ),
    "pointwise, mean, linear": lambda n, x, w: n.linear("fc", n.mean("m", n.conv2d("p", x, w(4, 3, 1, 1))), w(6, 4)),
    "pool, flatten, linear": lambda n, x, w: n.linear("fc", n.flatten("f", n.avg_pool("m", x, (2, 2))), w(6, 36)),
    "pool, pool, flatten, linear": lambda n, x, w: n.linear("fc", n.flatten("f", n.sum_pool("b", n.avg_pool("m", x, 2), (1, 3))), w(6, 9)),
    "strided, mean, linear": lambda n, x, w: n.linear("fc", n.mean("m", n.conv2d("p", x, w(4, 3, 3, 3), stride=2, padding=1)), w(6, 4)),
    "grouped, overlapping pool, mean, linear": lambda n, x, w: n.linear(
        "fc", n.mean("m", n.conv2d("p", n.avg_pool("a", x, 3, 1, 1), w(6, 1, 1, 1), groups=3)), w(6, 6)
    ),
    "pool, pointwise, pool, linear": lambda n, x, w: n.linear(
        "fc", n.flatten("f", n.sum_pool("b", n.conv2d("p", n.avg_pool("m", x, 2), w(4, 3, 1, 1)), (2, 3))), w(6, 4)
    ),
}

KINDS = {
    "mean, linear": 1, "mean, norm, linear, linear": 1, "pointwise, mean, linear": 1, "pool, flatten, linear": 12, "pool, pool, flatten, linear": 3,
    "pool, pointwise, pool, linear": 1, "strided, mean, linear": 9, "grouped, overlapping pool, mean, linear": 9,
}  # fmt: skip
"""Kinds of pixels that have weights of their own: behind a 3x3 kernel of stride 2, even and odd rows, and the last."""


@pytest.mark.parametrize("name", HEADS)
def test_pooled_heads_keep_one_weight_for_all_pixels_of_a_window(name: str) -> None:
    rng = np.random.default_rng(3)
    net = Network("head", steps=2)
    x = net.lif("lif", net.spikes_input("in", (3, 6, 8)), decay=1.0, threshold=1.0)
    net.output(HEADS[name](net, x, lambda *size: dyadic(rng, *size)))
    (projection,) = lower(net).into(str(net.output_name))
    assert projection.map.op == "pooled_conv2d"
    assert projection.map.weight.size == 6 * 3 * KINDS[name]
    assert_same(net, rng.integers(0, 2, (6, 2, 3, 6, 8), dtype=np.uint8))
