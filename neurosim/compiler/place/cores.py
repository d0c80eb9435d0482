"""Slices to cores: one per core while cores last, else packed so that the graph of cores stays acyclic where possible.

A feed-forward network with one slice per core has an acyclic core graph. Packing keeps it acyclic when a core holds slices of one depth only (depth:
populations on the longest path to here), because every projection then leads from a lower core depth to a higher one. Packing in topological order
leaves loops of a core with itself at most. Largest-first packing takes the fewest cores and promises nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from neurosim.chip import Chip
from neurosim.compiler.place.layered import LayerModel, Misfit
from neurosim.compiler.place.mapping import Slice, chip_projections
from neurosim.compiler.place.memory import ROUTE_BITS, MemoryModel, alive_cores
from neurosim.compiler.place.partition import Partition, least_banks, partition, reached_boxes, split_of
from neurosim.errors import DoesNotFit
from neurosim.graph import Graph

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
            return Assignment(parts, tuple(range(count)), banks, "spread")
        loads = _loads(graph, chip, sync, parts.slices, banks)
        for strategy, groups in _strategies(graph, sync, parts.slices, loads):
            core, used = _pack(groups, loads, chip)
            fewest = used if fewest is None else min(fewest, used)
            if used <= alive:
                return Assignment(parts, tuple(core[s] for s in range(count)), banks, strategy)
    if failure is not None and fewest is None:
        raise failure
    dead = chip.memory.cores - alive
    have = f"{chip.memory.cores} (memory.cores)" if not dead else f"{alive} alive ({chip.memory.cores} less {dead} in memory.dead_cores)"
    raise DoesNotFit(
        f"network {graph.name} needs {fewest} cores, {chip.name} has {have}; use a larger chip, "
        "raise memory.bytes and memory.neurons, or use a smaller network"
    )


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


def _pack(groups: list[list[int]], loads: list[Load], chip: Chip) -> tuple[dict[int, int], int]:
    """First fit within every group, next fit where there is one group in topological order: (core of each slice, cores used)."""
    memory = chip.memory
    core: dict[int, int] = {}
    used = 0
    for group in groups:
        free: list[list[int]] = []  # room of the cores of this group
        ordered = group == sorted(group) and len(groups) == 1
        for s in group:
            load = loads[s]
            fitting = [k for k, room in enumerate(free) if load.neurons <= room[0] and load.bits <= room[1] and load.routes <= room[2]]
            if ordered:
                fitting = [k for k in fitting if k == len(free) - 1]
            if not fitting:
                free.append([memory.neurons.value, 8 * memory.bytes.value, memory.route_entries.value])
                fitting = [len(free) - 1]
            room = free[fitting[0]]
            room[0], room[1], room[2] = room[0] - load.neurons, room[1] - load.bits, room[2] - load.routes
            core[s] = used + fitting[0]
        used += len(free)
    return core, used
