from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from neurosim.errors import DataError
from neurosim.golden import run_network
from neurosim.network import Network


def one_neuron(inputs: list[float], **rule: object) -> tuple[list[int], list[float]]:
    """Spikes and margins of one lif whose input in step t is inputs[t]."""
    net = Network("one", steps=len(inputs))
    x = net.spikes_input("in", (len(inputs), 1, 1))
    y = net.lif("lif", net.linear("w", x, [inputs]), **rule)  # type: ignore[arg-type]
    net.output(y)
    data = np.eye(len(inputs), dtype=np.uint8)[None, :, :, None, None]
    result = run_network(net, data, margins=True)
    return result.spikes["lif"][0, :, 0, 0, 0].tolist(), result.margins["lif"][0, :, 0, 0, 0].tolist()


def test_rules_by_hand() -> None:
    assert one_neuron([0.5, 0.5, 0.5, 1.0], decay=1.0) == ([0, 1, 0, 1], [0.5, 0.0, 0.5, 0.5])
    assert one_neuron([1.5, 0.5, 0.0], decay=1.0, reset="subtract")[0] == [1, 1, 0]
    assert one_neuron([1.5, 0.5, 0.0], decay=0.5, reset="subtract", reset_by=0.5)[0] == [1, 1, 0]
    assert one_neuron([1.0, 1.0], decay=0.0, strict=True)[0] == [0, 0]
    assert one_neuron([-9.0, 1.0], decay=1.0)[0] == [0, 0]
    assert one_neuron([-9.0, 1.5], decay=1.0, floor=-0.5)[0] == [0, 1]
    assert one_neuron([0.0, 0.0, 0.0], decay=1.0, bias=0.5)[0] == [0, 1, 0]
    assert one_neuron([1.0, 0.0], decay=1.0, input_scale=0.5, threshold=0.5)[0] == [1, 0]
    # a rest of 0.5 with a reset to 0: the membrane drifts back to rest without input
    assert one_neuron([0.0, 0.0], decay=0.5, v_rest=0.5, v_reset=0.0, threshold=0.375)[0] == [0, 1]
    # synaptic current 1, 0.5, 0.25 without further input
    assert one_neuron([1.0, 0.0, 0.0], decay=1.0, decay_current=0.5, threshold=1.75)[0] == [0, 0, 1]


def test_delay_and_wrong_data() -> None:
    net = Network("delayed", steps=3)
    x = net.spikes_input("in", (1, 1, 1))
    net.output(net.lif("lif", net.delay("wait", x, 2)))
    data = np.array([1, 0, 1], np.uint8).reshape(1, 3, 1, 1, 1)
    assert run_network(net, data).spikes["lif"].ravel().tolist() == [0, 0, 1]
    with pytest.raises(DataError, match=r"wants \(n, 3, 1, 1, 1\)"):
        run_network(net, data[:, :2])


def test_a_watch_is_told_of_every_neuron_layer_in_order() -> None:
    """What is kept of a run and what a watch sees are the same; values are dropped once nobody reads them any more."""
    rng = np.random.default_rng(0)
    net = Network("watched", 3)
    image = net.input("image", (2, 4, 4), scale=255.0)
    one = net.conv2d("one", image, rng.normal(size=(3, 2, 3, 3)), padding=1)
    a = net.lif("a", one)
    both = net.add("both", one, net.conv2d("two", image, rng.normal(size=(3, 2, 1, 1))))  # constant, read after a neuron and in every step
    b = net.lif("b", net.add("mixed", both, a))
    net.connect("b", "a")
    net.output(net.linear("head", net.mean("mean", b), rng.normal(size=(2, 3))))
    x = rng.integers(0, 256, (5, 2, 4, 4), dtype=np.uint8)
    seen: list[tuple[str, int]] = []
    kept = run_network(net, x, margins=True, values=("one", "both"))

    def watch(name: str, step: int, spikes: Any, margins: Any) -> None:
        seen.append((name, step))
        np.testing.assert_array_equal(spikes, kept.spikes[name][:, step])
        np.testing.assert_array_equal(margins, kept.margins[name][:, step])

    found = run_network(net, x, spikes=False, watch=watch)
    assert seen == [(name, step) for step in range(3) for name in ("a", "b")]
    assert not found.spikes
    assert not found.margins
    np.testing.assert_array_equal(found.scores, kept.scores)
    assert kept.values["both"].shape == (5, 3, 3, 4, 4)
