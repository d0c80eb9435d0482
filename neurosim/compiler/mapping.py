"""The noun between partition, placement and assembly: which slice of which population lies on which core."""

from __future__ import annotations

from dataclasses import dataclass

from neurosim.compiler.geometry import Box
from neurosim.graph import Graph, Population


@dataclass(frozen=True)
class Slice:
    """A box (channels x rows x columns) of population ``population`` (index in the graph)."""

    population: int
    box: Box


@dataclass(frozen=True)
class Mapping:
    """Slices in Program order, the core and the number of accumulation banks of each (1 in the free discipline, which has none)."""

    slices: tuple[Slice, ...]
    core: tuple[int, ...]
    banks: tuple[int, ...]


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
