"""Which logical core goes where on the chip: least traffic x hops, the port's router considered. Deterministic.

Traffic is an estimate from geometry: one spike in eight neurons and steps, a marker per step and route, a current per neuron and step.
The start is greedy (most connected first), the descent swaps the best pair of sites until none helps. Sites are the cores that are alive; the
distance of two sites is the number of links between their routers, on whatever topology, so cores of one cluster are 0 apart.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neurosim.chip import Chip
from neurosim.compiler.place.banks import BankReport, raise_banks
from neurosim.compiler.place.cores import Assignment, assign
from neurosim.compiler.place.geometry import Box, hull, volume
from neurosim.compiler.place.mapping import SPIKES_PER_MARKER, Mapping, Slice, current_populations, port_sources
from neurosim.compiler.place.memory import alive_cores
from neurosim.compiler.place.partition import Partition, reached_boxes
from neurosim.compiler.place.topology import hop_matrix
from neurosim.errors import DoesNotFit
from neurosim.graph import Graph

PAIRS_AT_A_TIME = 65_536
"""Swaps weighed in one step of the descent: all of them up to 256 sites, a band of rows beyond."""
MOST_SITES = 1024
"""Sites that are weighed on a chip with more of them, if twice the cores in use do not need more."""
MOST_FOR_TWO_STARTS = 256
"""Sites up to which the descent is tried from the greedy placement and from the given order; beyond, from the better one."""
WORK = 20_000_000_000
"""Entries of tables that the descent may touch before it stops where it is."""

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


def map_graph(graph: Graph, chip: Chip, sync: str, seed: int = 0, ports: tuple[tuple[int, Box, int], ...] = ()) -> Mapped:
    """Partition, cores, banks and placement of an integer graph; ``ports`` as in ``Mapping``, by default everything enters through port 0."""
    return place_slices(graph, chip, sync, assign(graph, chip, sync), seed, ports)


def place_slices(graph: Graph, chip: Chip, sync: str, chosen: Assignment, seed: int = 0, ports: tuple[tuple[int, Box, int], ...] = ()) -> Mapped:
    """Banks and sites of an assignment. ``seed`` 0 is the plain descent; others start from a random placement, for studies."""
    slices = chosen.partition.slices
    entering = port_sources(graph, Mapping(slices, chosen.core, chosen.banks, ports))
    origins = [(piece.population, piece.box) for piece in slices] + [(population, box) for population, box, _ in entering]
    reached = reached_boxes(graph, slices, origins)
    _check_routes(graph, chip, slices, chosen.core, reached)
    banks, reports = raise_banks(graph, chip, sync, slices, chosen.core, chosen.banks, reached)
    shape = len(chip.noc.ports), len(alive_cores(chip))
    traffic, from_port = estimate_traffic(graph, slices, chosen.core, reached, shape, [port for _, _, port in entering])
    site, before, after = place(traffic, from_port, chip, seed)
    mapping = Mapping(slices, tuple(int(site[c]) for c in chosen.core), banks, ports)
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
    _check_neurons(graph, chip, slices, core, reached)


def _check_neurons(graph: Graph, chip: Chip, slices: tuple[Slice, ...], core: tuple[int, ...], reached: dict[tuple[int, int], Box]) -> None:
    """Raise DoesNotFit where a core listens to more neurons than it has axons, or a neuron sends to more cores than it can."""
    axons, per_neuron = chip.memory.axons, chip.capabilities.neuron_fan_out
    if axons is None and per_neuron is None:
        return
    routes: dict[tuple[int, int], Box] = {}
    for (s, q), box in reached.items():
        key = (s, core[q])
        routes[key] = hull(routes[key], box) if key in routes else box
    heard: Counter[int] = Counter()
    for (_, goal), box in routes.items():
        heard[goal] += volume(box)
    for goal, count in sorted(heard.items()):
        if axons is not None and count > axons.value:
            names = ", ".join(dict.fromkeys(graph.populations[piece.population].name for piece, c in zip(slices, core, strict=True) if c == goal))
            raise DoesNotFit(
                f"the core of {names} listens to {count} neurons, {chip.name} has {axons.value} axons per core (memory.axons); "
                "use fewer input channels, a smaller kernel or smaller maps"
            )
    if per_neuron is None:
        return
    for s, piece in enumerate(slices):
        goals = np.zeros(graph.populations[piece.population].shape, np.int64)
        for (source, _), (c0, c1, y0, y1, x0, x1) in routes.items():
            if source == s:
                goals[c0:c1, y0:y1, x0:x1] += 1
        if goals.max() > per_neuron.value:
            raise DoesNotFit(
                f"population {graph.populations[piece.population].name}: a neuron sends to {goals.max()} cores, {chip.name} allows "
                f"{per_neuron.value} (capabilities.neuron_fan_out); use readers that fit one core"
            )


def estimate_traffic(
    graph: Graph, slices: tuple[Slice, ...], core: tuple[int, ...], reached: dict[tuple[int, int], Box], shape: tuple[int, int], entering: list[int]
) -> tuple[F64, F64]:
    """(traffic [cores, cores], traffic from the ports [ports, cores]) in units of one eighth of a packet per step.

    ``shape``: (ports, cores); ``entering``: port of every port source.
    """
    routes: dict[tuple[int, int], Box] = {}
    for (s, q), box in reached.items():
        key = (s, core[q])
        routes[key] = hull(routes[key], box) if key in routes else box
    traffic, port = np.zeros((shape[1], shape[1])), np.zeros(shape)
    for (s, goal), box in routes.items():
        packets = volume(box) + SPIKES_PER_MARKER
        if s < len(slices):
            traffic[core[s], goal] += packets
        else:
            port[entering[s - len(slices)], goal] += packets
    currents = set(current_populations(graph))
    for q, piece in enumerate(slices):
        if piece.population in currents:
            port[0, core[q]] += SPIKES_PER_MARKER * (volume(piece.box) + 1)
    return traffic, port


def place(traffic: F64, from_port: F64, chip: Chip, seed: int = 0) -> tuple[NDArray[np.int64], int, int]:
    """(core of the chip for every logical core, cost of the identity, cost of the result).

    ``traffic`` [n, n] and ``from_port`` [ports, n] are of the n logical cores, as many as are alive. Deterministic; 1,024 cores take seconds.
    """
    sites = np.array(alive_cores(chip), np.int64)
    hops = hop_matrix(chip)
    used = 1 + int(np.flatnonzero(traffic.any(axis=0) | traffic.any(axis=1) | from_port.any(axis=0)).max(initial=-1))
    most = max(MOST_SITES, 2 * used)
    if len(sites) > most:  # a large chip with much room: only the sites nearest to a port are weighed
        near = hops[np.array(chip.noc.ports)][:, sites // chip.noc.cores_per_router].min(axis=0)
        sites = sites[np.sort(np.argsort(near, kind="stable")[:most])]
        traffic, from_port = traffic[:most, :most], from_port[:, :most]
    home = sites // chip.noc.cores_per_router
    distance = ((hops + hops.T) / 2)[np.ix_(home, home)]
    port = hops[np.ix_(np.array(chip.noc.ports), home)].astype(np.float64)
    flow = traffic + traffic.T
    np.fill_diagonal(flow, 0)
    # cores that talk to nobody go where room is left
    busy = 1 + int(np.flatnonzero(flow.any(axis=0) | from_port.any(axis=0)).max(initial=0))
    problem = _Problem(flow[:busy, :busy].copy(), from_port[:, :busy], distance, port)
    identity = np.arange(len(sites))
    if chip.memory.layer_per_core:  # cores differ, and layers have been matched to them
        return sites, round(problem.cost(identity)), round(problem.cost(identity))
    start = _greedy(problem) if seed == 0 else np.random.default_rng(seed).permutation(len(sites))
    starts = [start, identity] if len(sites) <= MOST_FOR_TWO_STARTS else [min(start, identity, key=problem.cost)]
    found = min((_descend(problem, s) for s in starts), key=problem.cost)
    return sites[found], round(problem.cost(identity)), round(problem.cost(found))


@dataclass(frozen=True)
class _Problem:
    """A quadratic assignment of the first cores, which talk, and of the others, which do not, to as many sites: flow [busy, busy] (symmetric),
    from_port [ports, busy], distance [sites, sites] (symmetric), port [ports, sites] (links from a port)."""

    flow: F64
    from_port: F64
    distance: F64
    port: F64

    def cost(self, site: NDArray[np.int64]) -> float:
        """Traffic x hops of a placement."""
        at = site[: len(self.flow)]
        return float((self.flow * self.distance[np.ix_(at, at)]).sum() / 2 + (self.from_port * self.port[:, at]).sum())


def _greedy(problem: _Problem) -> NDArray[np.int64]:
    """Place the core that is most connected to those placed (the port is placed first) at the free site that costs least."""
    busy, sites = len(problem.flow), len(problem.distance)
    site = np.full(busy, -1, np.int64)
    free = np.ones(sites, np.bool_)
    pull = problem.from_port.sum(axis=0)
    cost = problem.from_port.T @ problem.port  # of core i at site j, given those placed
    for _ in range(busy):
        core = int(np.argmax(np.where(site < 0, pull, -1.0)))
        goal = int(np.argmin(np.where(free, cost[core], np.inf)))
        site[core], free[goal] = goal, False
        near = np.flatnonzero(problem.flow[core])
        pull[near] += problem.flow[core, near]
        cost[near] += problem.flow[core, near][:, None] * problem.distance[goal][None, :]
    return np.concatenate([site, np.flatnonzero(free)])


def _descend(problem: _Problem, start: NDArray[np.int64]) -> NDArray[np.int64]:
    """Swap the best pair of a band of rows until no band has one that helps: then no swap of two sites does."""
    flow, distance = problem.flow, problem.distance
    busy, cores = len(flow), len(start)
    site = start.copy()
    # [busy, cores] cost of core i at the place of core j, all others where they are; kept up to date swap by swap
    at = flow @ distance[np.ix_(site[:busy], site)] + problem.from_port.T @ problem.port[:, site]
    band = max(1, PAIRS_AT_A_TIME // cores)
    quiet = first = 0  # rows in a row without a swap; first row of the band
    work = WORK
    while quiet < busy and work > 0:
        rows = np.arange(first, min(first + band, busy))
        own = np.diagonal(at)
        change = at[rows] - own[rows][:, None]
        change[:, :busy] += at[:, rows].T - own[None, :] + 2 * flow[rows] * distance[np.ix_(site[rows], site[:busy])]
        best = int(np.argmin(change))
        i, j = int(rows[best // cores]), best % cores
        work -= 4 * change.size
        if change[best // cores, j] > -0.5:
            quiet += len(rows)
            first = 0 if first + band >= busy else first + band
            continue
        quiet = 0
        # the costs of the cores that talk to i or j change by how much nearer the two have come
        nearer = distance[site[j]][site] - distance[site[i]][site]
        gone = flow[i] - flow[j] if j < busy else flow[i]
        talking = np.flatnonzero(gone)
        at[talking] += gone[talking][:, None] * nearer[None, :]
        site[i], site[j] = site[j], site[i]
        at[:, [i, j]] = at[:, [j, i]]
        work -= len(talking) * cores
    return site
