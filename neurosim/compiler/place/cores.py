"""Slices to cores: one per core while cores last, cut for few packets where cores are left over; else packed so that the graph of cores stays
acyclic where possible, over all the cores that there are: no fuller than must be.

A feed-forward network with one slice per core has an acyclic core graph. Packing keeps it acyclic when a core holds slices of one depth only (depth:
populations on the longest path to here), because every projection then leads from a lower core depth to a higher one. Packing in topological order
leaves loops of a core with itself at most. Largest-first packing takes the fewest cores and promises nothing.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from neurosim.chip import Chip
from neurosim.compiler.place.geometry import Box, volume
from neurosim.compiler.place.layered import LayerModel, Misfit
from neurosim.compiler.place.mapping import SPIKES_PER_MARKER, Mapping, Slice, chip_projections, port_sources
from neurosim.compiler.place.memory import ROUTE_BITS, MemoryModel, alive_cores
from neurosim.compiler.place.partition import DEAR_PACKETS, Partition, least_banks, partition, reached_boxes, split_of
from neurosim.errors import DoesNotFit
from neurosim.graph import Graph

GAIN = 0.02
"""Share of packets x hops that another cut must save, by estimate, to be taken."""
MANY_PACKETS = 8
"""Packets per spike, by estimate, from which on other cuts are looked at. Below, they save traffic but cost time, because slices then get their
spikes one after the other: the shipped STMixer's packets x hops fall by a third, and its images take a fifth longer."""
SHARES = (1, 2, 4, 8)
"""Sizes of boxes tried, as parts of a core, when the boxes of whole cores do not pack."""


@dataclass(frozen=True)
class Load:
    """What one slice asks of a core: neurons, bits with its banks and routes, routes."""

    neurons: int
    bits: int
    routes: int


@dataclass(frozen=True)
class Assignment:
    """Slices, logical core of each, banks of each, and how they were packed: spread, depth, order or size; matched where
    layers are matched to cores."""

    partition: Partition
    core: tuple[int, ...]
    banks: tuple[int, ...]
    strategy: str


def assign(graph: Graph, chip: Chip, sync: str) -> Assignment:
    """Partition the graph and give every slice a core. Raises DoesNotFit with the number of cores that would be needed."""
    if chip.memory.layer_per_core:
        return _matched(graph, chip, sync)
    alive = len(alive_cores(chip))
    fewest: int | None = None
    failure: DoesNotFit | None = None
    for share in SHARES:
        try:
            parts = partition(graph, chip, sync, share)
        except DoesNotFit as error:
            failure = error
            break
        least = least_banks(graph, chip, sync)
        banks = tuple(least[graph.populations[piece.population].name] for piece in parts.slices)
        count = len(parts.slices)
        if count <= alive:
            return _quieter(graph, chip, sync, Assignment(parts, tuple(range(count)), banks, "spread"))
        loads = _loads(graph, chip, sync, parts.slices, banks)
        for strategy, groups in _strategies(graph, sync, parts.slices, loads):
            core, used = _pack(groups, loads, chip)
            fewest = used if fewest is None else min(fewest, used)
            if used <= alive:
                core = _spread(groups, loads, chip, alive) or core
                return Assignment(parts, tuple(core[s] for s in range(count)), banks, strategy)
    if failure is not None and fewest is None:
        raise failure
    dead = chip.memory.cores - alive
    have = f"{chip.memory.cores} (memory.cores)" if not dead else f"{alive} alive ({chip.memory.cores} less {dead} in memory.dead_cores)"
    more = _more_cores(chip, (fewest or 0) + dead)
    raise DoesNotFit(
        f"network {graph.name} needs {fewest} cores, {chip.name} has {have}; use a larger chip ({more}), "
        "raise memory.bytes and memory.neurons, or use a smaller network",
        layer=graph.name, what="cores", value=fewest, limit=alive, remedy=more,
    )  # fmt: skip


def _more_cores(chip: Chip, cores: int) -> str:
    """The overrides that give a chip so many cores."""
    if chip.noc.topology == "graph":
        return f"a chip of {cores} cores (memory.cores, noc.edges)"
    routers = -(-cores // chip.noc.cores_per_router)
    width = math.ceil(math.sqrt(routers))
    return f"--set noc.width={width} --set noc.height={-(-routers // width)} --set memory.cores={cores}"


def _quieter(graph: Graph, chip: Chip, sync: str, plain: Assignment) -> Assignment:
    """One slice per core, cut so that spikes are sent to fewer of them, where cores are left over and spikes go to many; else ``plain``."""
    memory, c = chip.memory, chip.capabilities
    if (memory.axons, c.fan_out, c.neuron_fan_out) != (None, None, None):
        return plain
    alive, least = len(alive_cores(chip)), least_banks(graph, chip, sync)
    entering = port_sources(graph, Mapping(plain.partition.slices, plain.core, plain.banks))
    sources = sum(volume(box) for box in (*(piece.box for piece in plain.partition.slices), *(box for _, box, _ in entering)))
    packets, _ = _packets(graph, plain.partition, entering)
    if packets < MANY_PACKETS * sources:
        return plain
    best, chosen = packets * len(plain.core) ** 0.5 * (1 - GAIN), plain
    for packet_bytes in DEAR_PACKETS:
        parts = partition(graph, chip, sync, 1, packet_bytes)
        count = len(parts.slices)
        if count <= alive:
            packets, routes = _packets(graph, parts, entering)
            cost = packets * count**0.5  # hops grow with the side of the square that the cores take up
            if cost < best and routes <= memory.route_entries.value:
                banks = tuple(least[graph.populations[piece.population].name] for piece in parts.slices)
                best, chosen = cost, Assignment(parts, tuple(range(count)), banks, "spread")
    return chosen


def _packets(graph: Graph, parts: Partition, entering: list[tuple[int, Box, int]]) -> tuple[int, int]:
    """(packets of a step in which every neuron fires, markers counted as placement does; most routes of a slice)."""
    origins = [(piece.population, piece.box) for piece in parts.slices] + [(population, box) for population, box, _ in entering]
    reached = reached_boxes(graph, parts.slices, origins)
    return sum(volume(box) + SPIKES_PER_MARKER for box in reached.values()), max(Counter(s for s, _ in reached).values(), default=0)


def _matched(graph: Graph, chip: Chip, sync: str) -> Assignment:
    """Every layer, or part of one, on a core of its own that is large enough; cores are numbered among those alive."""
    found = LayerModel(graph, chip).match()
    if isinstance(found, Misfit):
        raise DoesNotFit(f"layer {found.population}: {found.reason}; value {found.value}, limit {found.limit}; {found.remedy}")
    least = least_banks(graph, chip, sync)
    model = MemoryModel(graph, chip, sync)
    parts = Counter(part.population for part, _ in found)
    number = {core: k for k, core in enumerate(alive_cores(chip))}
    return Assignment(
        Partition(tuple(Slice(part.population, part.box) for part, _ in found), tuple(split_of(model, k, (n, 1, 1)) for k, n in parts.items())),
        tuple(number[core] for _, core in found),
        tuple(least[graph.populations[part.population].name] for part, _ in found),
        "matched",
    )


def depths(graph: Graph) -> dict[str, int]:
    """Longest undelayed path of chip projections to every population."""
    depth = {p.name: 0 for p in graph.populations}
    order = {name: k for k, name in enumerate(depth)}
    for projection in sorted((graph.projections[k] for k in chip_projections(graph)), key=lambda p: order[p.target]):
        if order[projection.source] < order[projection.target]:
            depth[projection.target] = max(depth[projection.target], depth[projection.source] + 1)
    return depth


def _loads(graph: Graph, chip: Chip, sync: str, slices: tuple[Slice, ...], banks: tuple[int, ...]) -> list[Load]:
    model = MemoryModel(graph, chip, sync)
    reached = Counter(s for s, _ in reached_boxes(graph, slices, [(piece.population, piece.box) for piece in slices]))
    loads = []
    for s, piece in enumerate(slices):
        held, routes = model.contents(piece.population, piece.box), reached[s]
        loads.append(Load(held.neurons, held.bits(banks[s]) + ROUTE_BITS * routes, routes))
    return loads


def _strategies(graph: Graph, sync: str, slices: tuple[Slice, ...], loads: list[Load]) -> Iterable[tuple[str, list[list[int]]]]:
    """(name, groups of slices that may share cores, in packing order); within a group the first core with room is taken."""
    everything = list(range(len(slices)))
    depth = depths(graph)
    levels: dict[int, list[int]] = {}
    for s, piece in enumerate(slices):
        levels.setdefault(depth[graph.populations[piece.population].name], []).append(s)
    if sync == "free":
        yield "depth", [levels[k] for k in sorted(levels)]
    yield "order", [everything]
    yield "size", [sorted(everything, key=lambda s: (-loads[s].bits, s))]


def _spread(groups: list[list[int]], loads: list[Load], chip: Chip, cores: int) -> dict[int, int] | None:
    """Core of each slice, all ``cores`` in use: neighbours of a group join, those first that fill a core least. None where too few of them can."""
    whole = _room(chip)
    held = [s for group in groups for s in group]  # neighbours in packing order; a list per core, gone when it has joined the one before it
    after = list(range(1, len(held) + 1))
    before = list(range(-1, len(held) - 1))
    bounds = set(np.cumsum([len(group) for group in groups]).tolist())
    need = [np.array([loads[s].neurons, loads[s].bits, loads[s].routes], np.float64) / whole for s in held]
    version, gone = [0] * len(held), [False] * len(held)
    waiting: list[tuple[float, int, int, int]] = []

    def propose(first: int) -> None:
        second = after[first]
        if second < len(held) and second not in bounds:
            full = float((need[first] + need[second]).max())
            if full <= 1:
                heapq.heappush(waiting, (full, first, version[first], version[second]))

    for k in range(len(held)):
        propose(k)
    left = len(held)
    while left > cores and waiting:
        _, first, *seen = heapq.heappop(waiting)
        second = after[first]
        if gone[first] or second == len(held) or [version[first], version[second]] != seen:
            continue
        need[first] = need[first] + need[second]
        after[first], gone[second] = after[second], True
        if after[first] < len(held):
            before[after[first]] = first
        version[first] += 1
        left -= 1
        propose(first)
        if before[first] >= 0:
            propose(before[first])
    if left > cores:
        return None
    number = np.cumsum([not joined for joined in gone]) - 1
    return {s: int(number[k]) for k, s in enumerate(held)}


def _room(chip: Chip) -> tuple[int, int, int]:
    """Neurons, bits and routes of a core."""
    return chip.memory.neurons.value, 8 * chip.memory.bytes.value, chip.memory.route_entries.value


def _pack(groups: list[list[int]], loads: list[Load], chip: Chip) -> tuple[dict[int, int], int]:
    """First fit within every group, next fit where there is one group in topological order: (core of each slice, cores used)."""
    core: dict[int, int] = {}
    used = 0
    for group in groups:
        free = np.zeros((len(group), 3), np.int64)  # room of the cores of this group
        begun = 0
        ordered = group == sorted(group) and len(groups) == 1
        for s in group:
            load = np.array([loads[s].neurons, loads[s].bits, loads[s].routes], np.int64)
            first = max(0, begun - 1) if ordered else 0
            fitting = (load <= free[first:begun]).all(axis=1)
            chosen = first + int(fitting.argmax()) if fitting.any() else begun
            if chosen == begun:
                free[begun] = _room(chip)
                begun += 1
            free[chosen] -= load
            core[s] = used + chosen
        used += begun
    return core, used
