from __future__ import annotations

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
