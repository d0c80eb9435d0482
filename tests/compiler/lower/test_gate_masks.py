"""Which mask lifs become counts of their gates, and which have to stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from neurosim.compiler.lower.network import lower
from neurosim.golden import run_graph, run_network
from neurosim.network import Network
from neurosim.ops import Gate

MEMORYLESS: dict[str, Any] = {"decay": 0.5, "input_scale": 0.5, "threshold": 0.5}
LATCH: dict[str, Any] = {"decay": 1.0, "reset": "subtract", "reset_by": 0.0, "threshold": 3.0}


def gated(steps: int, lif: dict[str, Any], weight: Any = 1.0, shared: bool = False, **gate: Any) -> Network:
    """Six channels of events gated per pixel by a lif over their sum."""
    net = Network("gated", steps=steps)
    x = net.spikes_input("in", (6, 3, 1))
    mask = net.lif("mask", net.conv2d("sum", x, np.broadcast_to(weight, (1, 6, 1, 1))), **lif)
    y = net.gate("gate", x, net.reshape("same", mask, (1, 3, 1)), **gate)
    if shared:
        y = net.add("both", y, net.conv2d("spread", mask, np.ones((6, 1, 1, 1))))
    net.output(net.mean("mean", y))
    return net


FOLDED = {
    "QKFormer": (4, MEMORYLESS, {}, Gate((1, 3, 1), 1)),
    "MSViT": (53, {**MEMORYLESS, "threshold": 1.0}, {}, Gate((1, 3, 1), 2)),
    "strict": (1, {**MEMORYLESS, "strict": True}, {"inverted": True}, Gate((1, 3, 1), 2, inverted=True)),
    "one step remembers nothing": (1, {**MEMORYLESS, "threshold": 2.5}, {}, Gate((1, 3, 1), 5)),
    "weights with a factor": (4, {"decay": 0.25, "threshold": 0.3}, {"weight": 0.1}, Gate((1, 3, 1), 3)),
    "weights of two and three": (4, {"decay": 0.5, "threshold": 1.0}, {"weight": np.resize([1.0, 1.5], (1, 6, 1, 1))}, Gate((1, 3, 1), 2)),
    "latch": (4, LATCH, {"inverted": True}, Gate((1, 3, 1), 3, inverted=True, latched=True)),
    "latched by any spike": (4, MEMORYLESS, {"latched": True}, Gate((1, 3, 1), 1, latched=True)),
    "latched by a sum": (4, {**LATCH, "reset_by": None}, {"latched": True}, Gate((1, 3, 1), 3, latched=True)),
}
KEPT = {
    "a count too many steps": (54, {**MEMORYLESS, "threshold": 1.0}, {}, "it remembers"),
    "what is left": (4, {**MEMORYLESS, "reset": "subtract"}, {}, "keeps what is left"),
    "another reader": (4, MEMORYLESS, {"shared": True}, "read it as well"),
    "bias": (4, {**MEMORYLESS, "bias": 0.25}, {}, "a bias"),
    "several thresholds": (4, {**MEMORYLESS, "threshold": np.array([[[0.5], [1.0], [0.5]]])}, {}, "thresholds differ"),
    "negative weights": (4, MEMORYLESS, {"weight": -1.0}, "whole multiples"),
    "floor": (4, {**MEMORYLESS, "floor": -1.0}, {}, "a floor"),
    "start": (4, {**MEMORYLESS, "v_init": 0.25}, {}, "a resting, reset or start potential"),
    "several spikes": (4, {**MEMORYLESS, "max_spikes": 2}, {}, "counts its spikes"),
    "latched by a step": (4, {**MEMORYLESS, "threshold": 1.0}, {"latched": True}, "not by their sum"),
}


def assert_same(net: Network) -> None:
    graph = lower(net)
    for rate in (0.1, 0.3):
        data = (np.random.default_rng(0).random((8, net.steps, 6, 3, 1)) < rate).astype(np.uint8)
        found, expected = run_graph(graph, data), run_network(net, data, values=("gate",))
        np.testing.assert_array_equal(found.spikes["gate"], expected.values["gate"])
        np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", FOLDED)
def test_a_mask_without_memory_becomes_the_count(name: str) -> None:
    steps, lif, options, op = FOLDED[name]
    net = gated(steps, lif, **options)
    graph = lower(net)
    assert graph.population("gate").op == op
    assert "mask" not in {p.name for p in graph.populations}
    (told,) = [r for r in graph.rewrites if r.layer == "mask"]
    assert told.status == "rewritten"
    assert_same(net)


@pytest.mark.parametrize("name", KEPT)
def test_a_mask_with_memory_stays(name: str) -> None:
    steps, lif, options, reason = KEPT[name]
    net = gated(steps, lif, **options)
    graph = lower(net)
    op = graph.population("gate").op
    assert isinstance(op, Gate)
    assert op.count == 1
    assert graph.population("mask").rule is not None
    (told,) = [r for r in graph.rewrites if r.layer == "gate"]
    assert reason in told.text
    assert_same(net)
