"""A Network under construction from a ``.nir`` graph, as the readers of single nodes (``maps``, ``neurons``) see it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from neurosim.errors import ModelError
from neurosim.frontends.constants import Constants
from neurosim.frontends.nir.source import Edge, Source
from neurosim.graph import Shape
from neurosim.network import Network

Floats = NDArray[np.float64]
Test = Literal["above", "reach"]


class Reading:
    """Options, layers so far and fields of nodes. ``layers``: the layer that holds a node's output. ``entries``: for a neuron, what else may be fed
    into it."""

    def __init__(
        self, source: Source, dt: float, timed: bool, steps: int, reset: Literal["zero", "subtract"], floor: float | None, test: Test | None,
        readout: str | None, solver: str, image: float | None, input_shape: tuple[int, ...] | None, max_spikes: int,
        v_init: str | float,
    ) -> None:  # fmt: skip
        self.source, self.nodes, self.dt, self.timed = source, source.nodes, dt, timed
        self.reset, self.floor, self.readout, self.input_shape = reset, floor, readout, input_shape
        self.exact, self.image, self.max_spikes, self.v_init = solver == "exact", image, max_spikes, v_init
        self.strict = test == "above" if test else floor is None and max_spikes == 1
        self.net = Network(source.name, steps)
        self.note = source.notes.append
        self.layers: dict[str, str] = {}
        self.entries: dict[str, list[Callable[[str, str, int], None]]] = {}
        self.constants = Constants(self.net, self.free_name)
        self.missing: dict[str, list[str]] = {}
        self.wanted = ""  # the Output whose node gives the scores
        self.closing: list[Edge] = []
        """Edges that close cycles."""

    def array(self, name: str, key: str, default: float | None = None) -> Floats:
        """A field as float64; its default where it is missing, which is told. Raises ModelError: missing, no numbers, NaN."""
        result = self.source.numbers(name, key)
        if result is None:
            if default is None:
                raise ModelError(f"node {name} ({self.nodes[name].kind}): {key} is missing; export the graph again")
            self.missing.setdefault(f"{key} is missing and taken as {default:g}", []).append(name)
            result = np.asarray(default, np.float64)
        return result

    def whole(self, name: str, key: str, default: int) -> int:
        """A field that is one whole number."""
        value = np.ravel(self.array(name, key, float(default)))
        if len(value) != 1 or value[0] != round(value[0]):
            raise ModelError(f"node {name}: {key} {value.tolist()} must be one whole number; export the graph again")
        return int(value[0])

    def per_neuron(self, name: str, key: str, shape: Shape, default: float | None = None) -> Floats:
        """A field for neurons of ``shape``, as an array of that shape."""
        return self.fit(name, key, self.array(name, key, default), shape)

    def fit(self, name: str, key: str, value: Floats, shape: Shape) -> Floats:
        """An array, written in any of the ways that occur, as (c, y, x)."""
        if value.size == math.prod(shape):
            return value.reshape(shape)
        if value.size == 1:
            if value.ndim:
                self.note(f"node {name}: {key} has one value for {math.prod(shape)} neurons, which share it")
            return np.full(shape, float(value.ravel()[0]))
        if value.size == shape[0]:
            self.note(f"node {name}: {key} has one value per channel")
            return np.array(np.broadcast_to(value.reshape(-1, 1, 1), shape))
        raise ModelError(f"node {name}: {key} has shape {value.shape}, its input has shape {shape}; export the graph again")

    def constant(self, layer: str) -> Floats:
        """(c, y, x): what a layer is without any spike."""
        return self.constants.of(layer)

    def free_name(self, name: str) -> str:
        """A layer name that is not taken."""
        while name in self.net.layers or name in self.nodes:
            name += "_"
        return name

    def flat(self, name: str, source: str) -> str:
        """The layer as (n, 1, 1), for a linear node; told where the file has no Flatten."""
        shape = self.net.shape(source)
        if shape[1:] == (1, 1):
            return source
        self.note(f"node {name}: its input of shape {shape} is flattened")
        return self.net.flatten(self.free_name(f"{name}.flatten"), source)
