"""Biases that charge a synaptic current: what a layer gives without any spike, and how it becomes the spikes of a neuron that always fires.

A bias in front of a neuron with a current of its own (CUBA) builds up in that current over the steps. Chips add biases to membranes alone; spikes,
one per step with the bias as weight, do the same to the current.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from neurosim.golden.network import linear_layer
from neurosim.network import Network
from neurosim.network.layers import LINEAR_OPS

Floats = NDArray[np.float64]


class Constants:
    """Constant parts of the layers of one Network. ``free(name)`` gives a layer name that is not taken."""

    def __init__(self, net: Network, free: Callable[[str], str]) -> None:
        self.net, self.free = net, free
        self.known: dict[str, Floats] = {}
        self.one = ""
        """The neuron that fires in every step, once there is one."""

    def of(self, layer: str) -> Floats:
        """(c, y, x): the value of a layer when no spike comes and all pixels are 0 before scaling."""
        if layer not in self.known:
            made = self.net.layers[layer]
            linear = made.op in LINEAR_OPS and made.op != "delay"
            self.known[layer] = linear_layer(made, [self.of(x)[None] for x in made.inputs])[0] if linear else np.zeros(made.shape)
        return self.known[layer]

    def without(self, name: str, layer: str) -> str:
        """The layer less its constant part; the layer itself where that is 0."""
        inside = self.of(layer)
        return self.net.scale(self.free(name), layer, 1.0, -inside) if np.any(inside) else layer

    def as_spikes(self, name: str, layer: str, bias: Floats) -> str:
        """``layer`` plus a bias (c, y, x) that comes as spikes; ``name`` of what they go into. A note tells it."""
        net = self.net
        if not self.one:
            contract = net.input_contract
            nothing = net.sparse(self.free("one.input"), contract.name, np.zeros(int(np.prod(contract.shape)) + 1), [], [], (1, 1, 1))
            self.one = net.lif(self.free("one"), nothing, decay=0.0, threshold=1.0, bias=1.0)
        net.notes.append(f"{name}: the bias of its current comes as spikes of {self.one}, a neuron that fires in every step")
        current = net.linear(self.free(f"{name}.bias"), self.one, bias.reshape(-1, 1))
        if bias.shape[1:] != (1, 1):
            current = net.reshape(self.free(f"{name}.bias.shape"), current, (bias.shape[0], bias.shape[1], bias.shape[2]))
        return net.add(self.free(f"{name}.biased"), layer, current)
