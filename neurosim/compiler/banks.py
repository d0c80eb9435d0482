"""Accumulation banks beyond the least, for skips, while memory lasts (docs/machine.md section 6: a skip costs rate, not safety).

A skip of delay d with L slices between its ends allows B - d steps in flight; L + 3 + d banks approach the full rate.
"""

from __future__ import annotations

from dataclasses import dataclass

from neurosim.chip import Chip
from neurosim.compiler.geometry import Box
from neurosim.compiler.mapping import Slice, chip_projections, current_populations, port_populations
from neurosim.compiler.memory import ROUTE_BITS, MemoryModel
from neurosim.graph import Graph

PORT = "port 0"


@dataclass(frozen=True)
class BankReport:
    """Banks of one population that a skip wants more of: ``bound`` is the share of the full rate that its banks allow, about (B - d) / (L + 3)."""

    population: str
    source: str
    between: int
    delay: int
    banks: int
    wanted: int
    bound: float


@dataclass(frozen=True)
class Skip:
    """A way from ``source`` to ``target`` that passes by ``between`` > 0 populations of the longest way."""

    source: str
    target: str
    delay: int
    between: int


def skips(graph: Graph) -> list[Skip]:
    """All skips. The port is one node, whatever it sends: it begins a step for all of its sources at once."""
    names = {graph.populations[k].name: PORT for k in port_populations(graph)}
    order = {p.name: k for k, p in enumerate(graph.populations)} | {PORT: -1}
    arcs: list[tuple[str, str, int]] = [(PORT, graph.populations[k].name, 0) for k in current_populations(graph)]
    for k in chip_projections(graph):
        p = graph.projections[k]
        source = names.get(p.source, p.source)
        if order[source] < order[p.target]:
            arcs.append((source, p.target, p.delay))
    into: dict[str, list[str]] = {}
    for source, target, _ in arcs:
        into.setdefault(target, []).append(source)
    found = set()
    for start in {source for source, _, _ in arcs}:
        longest = {start: 0}
        for population in graph.populations[order[start] + 1 :]:
            steps = [longest[name] + 1 for name in into.get(population.name, []) if name in longest]
            if steps:
                longest[population.name] = max(steps)
        found |= {Skip(s, t, d, longest[t] - 1) for s, t, d in arcs if s == start and longest[t] > 1}
    return sorted(found, key=lambda skip: (order[skip.target], order[skip.source], skip.delay))


def raise_banks(
    graph: Graph, chip: Chip, sync: str, slices: tuple[Slice, ...], core: tuple[int, ...], banks: tuple[int, ...], reached: dict[tuple[int, int], Box]
) -> tuple[tuple[int, ...], list[BankReport]]:
    """Banks of every slice after the rounds in which each slice that wants one more bank gets it, lowest slice first, while its core has room."""
    if sync != "wavefront":
        return banks, []
    model = MemoryModel(graph, chip, sync)
    found = skips(graph)
    wanted = {p.name: 0 for p in graph.populations}
    for skip in found:
        wanted[skip.target] = max(wanted[skip.target], skip.between + 3 + skip.delay)
    contents = [model.contents(piece.population, piece.box) for piece in slices]
    routes = [0] * len(slices)
    for s, _ in reached:
        if s < len(slices):
            routes[s] += 1
    room = dict.fromkeys(core, 8 * chip.memory.bytes.value)
    given = list(banks)
    for s, held in enumerate(contents):
        room[core[s]] -= held.bits(given[s]) + ROUTE_BITS * routes[s]
    granted = True
    while granted:
        granted = False
        for s, piece in enumerate(slices):
            goal = min(wanted[graph.populations[piece.population].name], chip.capabilities.banks)
            if given[s] < goal and room[core[s]] >= contents[s].bank:
                given[s] += 1
                room[core[s]] -= contents[s].bank
                granted = True
    return tuple(given), _report(graph, slices, given, found)


def _report(graph: Graph, slices: tuple[Slice, ...], banks: list[int], found: list[Skip]) -> list[BankReport]:
    least: dict[str, int] = {}
    for piece, count in zip(slices, banks, strict=True):
        name = graph.populations[piece.population].name
        least[name] = min(least.get(name, count), count)
    return [
        BankReport(k.target, k.source, k.between, k.delay, have, want, round((have - k.delay) / (k.between + 3), 4))
        for k, have, want in ((k, least[k.target], k.between + 3 + k.delay) for k in found)
        if have < want
    ]
