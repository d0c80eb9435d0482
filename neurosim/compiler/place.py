"""Which logical core goes where on the chip: least traffic x hops, the port's router considered. Deterministic.

Traffic is an estimate from geometry: one spike in eight neurons and steps, a marker per step and route, a current per neuron and step.
The start is greedy (most connected first), the descent swaps the best pair of sites until none helps or the work limit is reached.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neurosim.chip import Chip
from neurosim.compiler.banks import BankReport, raise_banks
from neurosim.compiler.cores import Assignment, assign
from neurosim.compiler.geometry import Box, hull, volume, whole
from neurosim.compiler.mapping import Mapping, Slice, current_populations, port_populations
from neurosim.compiler.partition import Partition, reached_boxes
from neurosim.compiler.topology import hop_matrix
from neurosim.errors import DoesNotFit
from neurosim.graph import Graph

SPIKES_PER_MARKER = 8
"""Neurons whose spikes weigh as much as one marker or current."""
WORK = 2_000_000_000
"""Multiplications that the descent may take; a step over n sites takes n**3."""

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Mapped:
    """A mapping with the facts that the report wants."""

    mapping: Mapping
    partition: Partition
    strategy: str
    banks: list[BankReport]
    traffic_hops: tuple[int, int]
    """Estimated traffic x hops before and after placement."""


def map_graph(graph: Graph, chip: Chip, sync: str, seed: int = 0) -> Mapped:
    """Partition, cores, banks and placement of an integer graph."""
    return place_slices(graph, chip, sync, assign(graph, chip, sync), seed)


def place_slices(graph: Graph, chip: Chip, sync: str, chosen: Assignment, seed: int = 0) -> Mapped:
    """Banks and sites of an assignment. ``seed`` 0 is the plain descent; others start from a random placement, for studies."""
    slices = chosen.partition.slices
    ports = [(k, whole(graph.populations[k].shape)) for k in port_populations(graph)]
    reached = reached_boxes(graph, slices, [(piece.population, piece.box) for piece in slices] + ports)
    _check_routes(graph, chip, slices, chosen.core, reached)
    banks, reports = raise_banks(graph, chip, sync, slices, chosen.core, chosen.banks, reached)
    traffic, from_port = estimate_traffic(graph, slices, chosen.core, reached, chip.memory.cores)
    site, before, after = place(traffic, from_port, chip, seed)
    mapping = Mapping(slices, tuple(int(site[c]) for c in chosen.core), banks)
    return Mapped(mapping, chosen.partition, chosen.strategy, reports, (before, after))


def _check_routes(graph: Graph, chip: Chip, slices: tuple[Slice, ...], core: tuple[int, ...], reached: dict[tuple[int, int], Box]) -> None:
    """Raise DoesNotFit where a core has more routes, or a slice more destination cores, than the chip has entries for."""
    routes = {(s, core[q]) for s, q in reached if s < len(slices)}
    limit, fan_out = chip.memory.route_entries.value, chip.capabilities.fan_out
    held = Counter(core[s] for s, _ in routes)
    for number, count in sorted(held.items()):
        if count > limit:
            names = ", ".join(dict.fromkeys(graph.populations[piece.population].name for piece, c in zip(slices, core, strict=True) if c == number))
            raise DoesNotFit(
                f"core {number} needs {count} route entries, {chip.name} has {limit} (memory.route_entries) for the slices of {names}; "
                "use a chip with more route entries or with larger cores, so that populations are cut into fewer slices"
            )
    for s, count in sorted(Counter(s for s, _ in routes).items()):
        if fan_out is not None and count > fan_out.value:
            raise DoesNotFit(
                f"population {graph.populations[slices[s].population].name}: a slice sends to {count} cores, {chip.name} allows {fan_out.value} "
                "(capabilities.fan_out); use larger cores, so that its readers are cut into fewer slices"
            )


def estimate_traffic(
    graph: Graph, slices: tuple[Slice, ...], core: tuple[int, ...], reached: dict[tuple[int, int], Box], cores: int
) -> tuple[F64, F64]:
    """(traffic [cores, cores], traffic from port 0 [cores]) in units of one eighth of a packet per step."""
    routes: dict[tuple[int, int], Box] = {}
    for (s, q), box in reached.items():
        key = (s, core[q])
        routes[key] = hull(routes[key], box) if key in routes else box
    traffic, port = np.zeros((cores, cores)), np.zeros(cores)
    for (s, goal), box in routes.items():
        packets = volume(box) + SPIKES_PER_MARKER
        if s < len(slices):
            traffic[core[s], goal] += packets
        else:
            port[goal] += packets
    currents = set(current_populations(graph))
    for q, piece in enumerate(slices):
        if piece.population in currents:
            port[core[q]] += SPIKES_PER_MARKER * (volume(piece.box) + 1)
    return traffic, port


def place(traffic: F64, from_port: F64, chip: Chip, seed: int = 0) -> tuple[NDArray[np.int64], int, int]:
    """(core of the chip for every logical core, cost of the identity, cost of the result)."""
    cores = len(traffic)
    hops = hop_matrix(chip)[:cores, :cores].astype(np.float64)
    distance = (hops + hops.T) / 2
    port = hop_matrix(chip)[chip.noc.ports[0], :cores].astype(np.float64)
    flow = traffic + traffic.T
    np.fill_diagonal(flow, 0)
    identity = np.arange(cores)
    start = _greedy(flow, from_port, distance, port) if seed == 0 else np.random.default_rng(seed).permutation(cores)
    site = min((_descend(flow, from_port, distance, port, s) for s in (start, identity)), key=lambda s: _cost(flow, from_port, distance, port, s))
    return site.astype(np.int64), round(_cost(flow, from_port, distance, port, identity)), round(_cost(flow, from_port, distance, port, site))


def _cost(flow: F64, from_port: F64, distance: F64, port: F64, site: NDArray[np.int64]) -> float:
    return float((flow * distance[np.ix_(site, site)]).sum() / 2 + (from_port * port[site]).sum())


def _greedy(flow: F64, from_port: F64, distance: F64, port: F64) -> NDArray[np.int64]:
    """Place the core that is most connected to those placed (the port is placed first) at the free site that costs least."""
    cores = len(flow)
    site = np.full(cores, -1, np.int64)
    free = np.ones(cores, np.bool_)
    pull = from_port.copy()
    cost = from_port[:, None] * port[None, :]  # of core i at site j, given those placed
    for _ in range(cores):
        core = int(np.argmax(np.where(site < 0, pull, -1.0)))
        goal = int(np.argmin(np.where(free, cost[core], np.inf)))
        site[core], free[goal] = goal, False
        pull += flow[core]
        cost += flow[core][:, None] * distance[goal][None, :]
    return site


def _descend(flow: F64, from_port: F64, distance: F64, port: F64, start: NDArray[np.int64]) -> NDArray[np.int64]:
    site = start.copy()
    for _ in range(max(4, WORK // max(1, len(flow)) ** 3)):
        near = distance[np.ix_(site, site)]
        pulled = flow @ near
        own = np.diag(pulled) + from_port * port[site]
        exchanged = pulled + from_port[:, None] * port[site][None, :]
        # change of the cost when cores i and j swap sites
        change = exchanged + exchanged.T - own[:, None] - own[None, :] + 2 * flow * near
        best = int(np.argmin(change))
        i, j = divmod(best, len(flow))
        if change[i, j] > -0.5:
            break
        site[i], site[j] = site[j], site[i]
    return site
