"""Extra ops as ordinary neurons: on chips without the ops, step by step what the network does; and where there is no such rewriting."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from neurosim import api
from neurosim.chip import load_chip
from neurosim.compiler.check.supports import check
from neurosim.compiler.lower.network import lower
from neurosim.compiler.lower.op_rewrites import Rewrites, lower_for, obstacle, read_rewrites
from neurosim.errors import ModelError
from neurosim.golden import run_network
from neurosim.network import Network

BOTH = {"maxpool": "or_pool", "gate": "neurons"}


def small(steps: int, **mask: Any) -> Network:
    """Whole weights and neurons without leak, so that eight bits are exact: or_pool, token gate, halting of a sum, channel gate."""
    rng = np.random.default_rng(3)
    net = Network("small", steps=steps)
    x = net.spikes_input("in", (2, 6, 6))

    def layer(name: str, source: str, channels: int = 4) -> str:
        weight = rng.integers(-2, 4, (channels, net.shape(source)[0], 3, 3))
        return net.lif(name, net.conv2d(f"{name}.conv", source, weight, padding=1), decay=1.0, threshold=6.0)

    y = net.max_pool("pool", layer("first", x), 3, 2, 1)
    tokens = net.lif("tokens", net.conv2d("count", layer("q", y), np.ones((1, 4, 1, 1))), **{"decay": 0.5, "threshold": 2.0, **mask})
    gated = net.gate("token_gate", layer("k", y), tokens)
    halt = net.lif("halt", net.conv2d("score", y, np.ones((1, 4, 1, 1))), decay=1.0, reset="subtract", reset_by=0.0, threshold=5.0)
    kept = net.gate("halting", net.add("sum", gated, y), halt, inverted=True)
    channels = net.gate("channel_gate", layer("last", kept), net.sum_pool("channels", kept, 3), count=3)
    net.output(net.linear("head", net.flatten("flat", channels), rng.integers(-3, 4, (3, 36))))
    return net


@pytest.mark.parametrize(("chip", "sync"), [("async-mesh", "wavefront"), ("loihi2-like", "barrier")])
@pytest.mark.parametrize("steps", [1, 4])
def test_chips_without_the_ops_compute_the_same(chip: str, sync: str, steps: int) -> None:
    net = small(steps)
    assert {row.layer for row in check(net, load_chip(chip)) if row.status == "refused"} >= {"pool", "token_gate", "halting", "channel_gate"}
    program = api.build(net, chip, sync, rewrite=BOTH)
    data = (np.random.default_rng(0).random((3, steps, 2, 6, 6)) < 0.2).astype(np.uint8)
    run = api.simulate(program, data, engine="reference")
    expected = run_network(net, data, values=("pool", "token_gate", "halting", "channel_gate"))
    for name in ("first", "q", "k", "last"):
        np.testing.assert_array_equal(run.spikes(name), expected.spikes[name], err_msg=name)
    for name in ("pool", "token_gate", "channel_gate"):
        np.testing.assert_array_equal(run.spikes(name), expected.values[name], err_msg=name)
    parts = [run.spikes(f"halting.{k}").astype(int) for k in (1, 2)]  # one for each layer of the sum
    np.testing.assert_array_equal(parts[0] + parts[1], expected.values["halting"])
    np.testing.assert_allclose(run.readout, expected.scores * steps)
    assert 0.02 < expected.values["channel_gate"].mean() < 0.9


def test_a_mask_of_single_spikes_needs_no_neuron_of_its_own() -> None:
    graph = lower_for(small(4, threshold=3.0), Rewrites(gate=True))  # a threshold that remembers: the mask stays a lif
    names = {p.name for p in graph.populations}
    assert "token_gate.mask" not in names
    assert {p.source for p in graph.into("token_gate")} == {"k", "tokens"}
    assert {"halting.mask", "halting.1", "halting.2", "channel_gate.mask"} <= names


def test_no_leak_is_needed_for_one_step() -> None:
    def refused(steps: int) -> set[str]:
        chip = load_chip("async-mesh", ["capabilities.neuron.leak=false"])
        return {row.layer for row in check(small(steps, decay=1.0), chip, read_rewrites(BOTH)) if row.status == "refused"}

    assert not refused(1)
    assert refused(2) == {"pool", "token_gate", "halting.1", "halting.2", "channel_gate.mask", "channel_gate"}


def test_pooled_values_are_an_or_in_one_step_alone() -> None:
    def pooled(steps: int, **more: Any) -> Network:
        net = Network("pooled", steps=steps)
        y = net.max_pool("pool", net.conv2d("conv", net.spikes_input("in", (2, 4, 4)), np.full((2, 2, 3, 3), 0.3), padding=1), 2)
        net.output(net.mean("mean", net.lif("lif", y, **more)))
        return net

    def why(net: Network) -> str:
        graph = lower(net)
        return obstacle(graph, graph.population("lif"))

    assert why(pooled(1)) == ""
    assert "the network has 4" in why(pooled(4))
    assert "several spikes" in why(pooled(1, max_spikes=2))
    assert "pixel to pixel" in why(pooled(1, threshold=np.arange(1.0, 9.0).reshape(2, 2, 2)))
    graph = lower_for(pooled(1, threshold=[1.0, 2.0]), Rewrites(maxpool=True))
    assert [p.name for p in graph.populations] == ["in", "lif.unpooled", "lif", "mean"]
    assert {p.op for p in graph.populations} == {None}


def test_free_says_that_the_neurons_are_another_function() -> None:
    program = api.build(small(1), "async-mesh", "free", rewrite=BOTH)
    (note,) = [text for text in program.meta["warnings"] if "another function" in text]
    assert "pool, token_gate, halting, channel_gate" in note


@pytest.mark.parametrize("given", [{"maxpool": "sum"}, {"pool": "or_pool"}])
def test_an_unknown_rewriting_names_the_known_ones(given: dict[str, str]) -> None:
    with pytest.raises(ModelError, match=r"maxpool=or_pool, gate=neurons, avgpool=sum"):
        read_rewrites(given)
