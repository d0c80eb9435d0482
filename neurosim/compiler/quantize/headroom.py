"""How many events of one input neuron in one step the banks of a program can take."""

from __future__ import annotations

from neurosim.chip import Chip
from neurosim.compiler.place import on_chip
from neurosim.compiler.quantize.sums import bank_sums, settle_sums
from neurosim.graph import Graph, Population

MOST_EVENTS = 255
"""The host counts in bytes."""


def most_events(graph: Graph, chip: Chip, pixels: tuple[int, int] = (0, 1), *, sync: str = "wavefront") -> int:
    """The greatest k (at most 255) for which no cell of the integer graph, and nothing that an op makes of cells, can overflow when every input
    neuron has k events in every step and every other neuron fires what it can; in ``sync`` settle no membrane either. At least 1: that has been
    proven before."""
    inputs = {p.name for p in graph.populations if p.kind == "input"}
    result = MOST_EVENTS
    for population in graph.populations:
        if on_chip(population) and any(p.source in inputs for p in graph.into(population.name)):
            result = _largest(graph, population, chip, pixels, result, sync)
    return result


def _largest(graph: Graph, population: Population, chip: Chip, pixels: tuple[int, int], most: int, sync: str) -> int:
    """The greatest k of 1..most with which everything in a population fits: by halving, since more events never make a sum smaller."""
    into, low = graph.into(population.name), 1
    while low < most:
        k = (low + most + 1) // 2
        if sync == "settle":
            sums = settle_sums(graph, population, into, chip, pixels, k)
        else:
            sums = bank_sums(graph, population, into, chip.arithmetic.acc_bits, pixels, k)
        if all(one.fits for one in sums):
            low = k
        else:
            most = k - 1
    return low
