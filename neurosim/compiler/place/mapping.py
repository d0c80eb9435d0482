"""The noun between partition, placement and assembly: which slice of which population lies on which core."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurosim.compiler.place.geometry import Box, volume, whole
from neurosim.errors import ModelError
from neurosim.graph import Graph, Population

SPIKES_PER_MARKER = 8
"""Neurons whose spikes weigh as much as one marker or current, where traffic is estimated."""


@dataclass(frozen=True)
class Slice:
    """A box (channels x rows x columns) of population ``population`` (index in the graph)."""

    population: int
    box: Box


@dataclass(frozen=True)
class Mapping:
    """Slices in Program order, the core and the number of accumulation banks of each (1 in free and settle, which have none).

    ``ports``: (population, box, port) for populations that enter through other ports than 0 or through several; the boxes of a population tile it.
    """

    slices: tuple[Slice, ...]
    core: tuple[int, ...]
    banks: tuple[int, ...]
    ports: tuple[tuple[int, Box, int], ...] = ()


def on_chip(population: Population) -> bool:
    """Whether the population has slices: spiking and not computed by the host, or a readout."""
    return population.kind == "readout" or (population.kind == "spiking" and not population.host)


def port_populations(graph: Graph) -> list[int]:
    """Populations whose spikes come through the port, ascending: inputs and host-computed ones that a population on the chip reads."""
    read = {p.source for p in graph.projections if on_chip(graph.population(p.target))}
    return [
        k
        for k, population in enumerate(graph.populations)
        if population.name in read and (population.kind == "input" or (population.kind == "spiking" and population.host))
    ]


def port_sources(graph: Graph, mapping: Mapping) -> list[tuple[int, Box, int]]:
    """(population, box, port) of every port source with neurons: by population, its boxes as the mapping has them, else whole on port 0.

    Raises ModelError: a population that does not enter through a port, or boxes that do not tile theirs.
    """
    given: dict[int, list[tuple[int, Box, int]]] = {}
    for row in mapping.ports:
        given.setdefault(row[0], []).append(row)
    entering = port_populations(graph)
    for k, rows in given.items():
        population = graph.populations[k]
        if k not in entering:
            raise ModelError(f"mapping.ports names population {population.name}, which does not enter the chip through a port; leave it out")
        count = np.zeros(population.shape, np.int64)
        for _, (c0, c1, y0, y1, x0, x1), _ in rows:
            count[c0:c1, y0:y1, x0:x1] += 1
        if np.any(count != 1) or sum(volume(box) for _, box, _ in rows) != population.size:
            raise ModelError(f"mapping.ports: the {len(rows)} boxes of {population.name} {population.shape} do not tile it; cover each neuron once")
    return [row for k in entering for row in given.get(k, [(k, whole(graph.populations[k].shape), 0)])]


def current_populations(graph: Graph) -> list[int]:
    """Populations on the chip that receive currents which the host computes."""
    names = {p.target for p in graph.projections if graph.population(p.source).kind == "analog" and on_chip(graph.population(p.target))}
    return [k for k, population in enumerate(graph.populations) if population.name in names]


def chip_projections(graph: Graph) -> list[int]:
    """Projections (indices in the graph) that the chip serves: from a population that spikes to one on the chip."""
    return [k for k, p in enumerate(graph.projections) if graph.population(p.source).kind != "analog" and on_chip(graph.population(p.target))]


def largest_delay(graph: Graph, name: str) -> int:
    """Largest trained delay of the projections into a population (0 without any)."""
    return max((p.delay for p in graph.into(name)), default=0)
