"""Accumulation banks beyond the least, for skips, while memory lasts (docs/machine.md section 6: a skip costs rate, not safety).

A skip of delay d with L slices between its ends allows B - d steps in flight; L + 3 + d banks approach the full rate. A cycle of H projections with
D steps of delay allows D steps in flight, whatever the banks, and wants H + 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import networkx as nx

from neurosim.chip import Chip
from neurosim.compiler.place.geometry import Box
from neurosim.compiler.place.mapping import Slice, chip_projections, current_populations, port_populations
from neurosim.compiler.place.memory import ROUTE_BITS, MemoryModel
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


@dataclass(frozen=True)
class Loop:
    """The cycle of populations with the least delay per hop, and the share of the full rate that it allows, about D / (H + 1)."""

    populations: tuple[str, ...]
    delay: int
    hops: int
    bound: float


def slowest_loop(graph: Graph) -> Loop | None:
    """The cycle that bounds the rate most (the shortest of those with the least delay per hop), None in a network without cycles."""
    arcs: dict[tuple[str, str], int] = {}
    for k in chip_projections(graph):
        p = graph.projections[k]
        arcs[p.source, p.target] = min(p.delay, arcs.get((p.source, p.target), p.delay))
    delay, hops = sum(arcs.values()) + 1, 1  # per hop more than any cycle has
    found: list[str] | dict[str, int]
    while isinstance(found := _cycle_below(arcs, delay, hops), list):
        delay, hops = sum(arcs[arc] for arc in pairwise([*found, found[0]])), len(found)
    tight = nx.DiGraph(arc for arc, d in arcs.items() if found[arc[0]] + d * hops - delay == found[arc[1]])
    part_of = {name: k for k, part in enumerate(nx.strongly_connected_components(tight)) for name in part}
    ways = [nx.shortest_path(tight, target, source) for source, target in tight.edges if part_of[source] == part_of[target]]
    if not ways:
        return None
    cycle = min(ways, key=len)
    delay = sum(arcs[arc] for arc in pairwise([*cycle, cycle[0]]))
    return Loop(tuple(cycle), delay, len(cycle), round(min(1.0, delay / (len(cycle) + 1)), 4))


def _cycle_below(arcs: dict[tuple[str, str], int], delay: int, hops: int) -> list[str] | dict[str, int]:
    """A cycle with less than ``delay`` per ``hops`` hops, or shortest distances under arcs of d * hops - delay (Bellman, Ford)."""
    length = {name: 0 for arc in arcs for name in arc}
    before: dict[str, str] = {}
    moved = None
    for _ in range(len(length) + 1):
        moved = None
        for (source, target), d in arcs.items():
            if length[source] + d * hops - delay < length[target]:
                length[target], before[target], moved = length[source] + d * hops - delay, source, target
        if moved is None:
            return length
    assert moved is not None
    for _ in length:  # far enough back to be on the cycle
        moved = before[moved]
    cycle = [moved]
    while before[cycle[-1]] != moved:
        cycle.append(before[cycle[-1]])
    return cycle[::-1]


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
