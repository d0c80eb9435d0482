"""Sources, routes, entries, weights and sync pairs of a Program: everything that says which spike reaches which neuron."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.compiler.emit.pack import Packed, pack
from neurosim.compiler.matrices import merged
from neurosim.compiler.place import Box, Mapping, chip_projections, current_populations, hull, port_sources, reach_all, region_numbers, regions_of
from neurosim.graph import Graph, Sparse
from neurosim.program import E_DELAY, E_INDEX, E_MAP, E_PROJECTION, E_REGION, E_WEIGHT, ENTRY_COLUMNS, M_SPARSE

I64 = NDArray[np.int64]
Words = NDArray[np.signedinteger[Any]]
NO_BOX: Box = (0, 0, 0, 0, 0, 0)


@dataclass(frozen=True)
class Routes:
    """The arrays of the same names of a Program."""

    source_population: I64
    source_box: I64
    source_shape: I64
    source_port: I64
    route_ptr: I64
    route_core: I64
    route_box: I64
    entry_ptr: I64
    entry: I64
    weights: NDArray[np.integer[Any]]
    index: I64
    sync_pair: I64


class _Store:
    """Weights and sparse index words of the chip; identical blocks are stored once, each in the smallest type that holds it."""

    def __init__(self) -> None:
        self.weights: list[Words] = []
        self.index: list[Words] = []
        self.sizes = [0, 0]
        self.known: tuple[dict[bytes, int], dict[bytes, int]] = ({}, {})

    def put(self, block: Packed) -> I64:
        """The entry row of a block with its offsets filled in."""
        row = block.row.copy()
        row[E_WEIGHT] = self._place(0, block.weights, self.weights)
        if row[E_INDEX] >= 0:
            row[E_INDEX] = self._place(1, block.index, self.index, b"sparse" if row[E_MAP] == M_SPARSE else b"pooling")
        return row

    def _place(self, which: int, data: I64, store: list[Words], kind: bytes = b"") -> int:
        data = data.astype(_smallest([data]))
        key = kind + data.dtype.char.encode() + sha256(data.data).digest()
        known = self.known[which]
        if key not in known:
            known[key] = self.sizes[which]
            store.append(data)
            self.sizes[which] += len(data)
        return known[key]

    def finish(self, rows: I64, shapes: list[int]) -> tuple[Words, I64]:
        """Weights in the smallest type, index with the row pointers made absolute."""
        weights = np.concatenate([np.zeros(0, np.int8), *self.weights], dtype=_smallest(self.weights))
        index = np.concatenate([np.zeros(0, np.int64), *self.index])
        self.weights, self.index = [], []
        # the row pointers of a sparse block count from the block's beginning until here
        done: set[int] = set()
        for row, size in zip(rows, shapes, strict=True):
            start = int(row[E_INDEX])
            if row[E_MAP] == M_SPARSE and start not in done:
                done.add(start)
                index[start : start + size + 1] += start
        return weights, index


def _smallest(blocks: Sequence[Words]) -> type[np.signedinteger[Any]]:
    """The smallest signed type that holds all values."""
    low = min((int(block.min()) for block in blocks if len(block)), default=0)
    high = max((int(block.max()) for block in blocks if len(block)), default=0)
    return next(t for t in (np.int8, np.int16, np.int32, np.int64) if np.iinfo(t).min <= low and high <= np.iinfo(t).max)


def sources(graph: Graph, mapping: Mapping) -> list[tuple[int, Box]]:
    """(population, box) of every source with neurons: the slices, then the port sources."""
    return [(s.population, s.box) for s in mapping.slices] + [(population, box) for population, box, _ in port_sources(graph, mapping)]


def build_routes(graph: Graph, sync: str, mapping: Mapping) -> Routes:
    """Routes and entries. Entries of a route are ordered by (projection in the graph, destination region)."""
    index_of = {p.name: k for k, p in enumerate(graph.populations)}
    origins = sources(graph, mapping)
    of_population: dict[int, list[int]] = {}
    for s, (population, _) in enumerate(origins):
        of_population.setdefault(population, []).append(s)
    slices_of: dict[int, list[int]] = {}
    for q, piece in enumerate(mapping.slices):
        slices_of.setdefault(piece.population, []).append(q)

    regions = regions_of(graph, mapping.slices)
    region_of = region_numbers(regions)
    store = _Store()
    boxes: dict[tuple[int, int], Box] = {}  # (source, core) -> box of its route
    rows: dict[tuple[int, int], list[I64]] = {}
    source_size: dict[int, int] = {}
    for number in chip_projections(graph):
        projection = graph.projections[number]
        if isinstance(projection.map, Sparse):
            projection = replace(projection, map=merged(projection.map))
        shape = graph.population(projection.source).shape
        source_size[number] = int(np.prod(shape))
        for q in slices_of[index_of[projection.target]]:
            g = region_of[q, projection.operand]
            block = pack(projection, shape, regions[g].box)
            if block is None:
                continue
            stored: I64 | None = None
            near = of_population.get(index_of[projection.source], [])
            for s, box in zip(near, reach_all(projection, shape, [origins[s][1] for s in near], regions[g].box), strict=True):
                if box is None:
                    continue
                if stored is None:
                    stored = store.put(block)
                    stored[E_REGION], stored[E_PROJECTION] = g, number
                key = (s, mapping.core[q])
                boxes[key] = hull(boxes[key], box) if key in boxes else box
                rows.setdefault(key, []).append(stored)

    control = len(origins)
    pairs = {(s, regions[int(row[E_REGION])].slice, int(row[E_DELAY])) for (s, _), found in rows.items() for row in found}
    fed = _fed_by_control(graph, sync, mapping, {q for _, q, _ in pairs})
    for q in fed:
        boxes.setdefault((control, mapping.core[q]), NO_BOX)
        rows.setdefault((control, mapping.core[q]), [])
    # free and barrier have no markers, so no slice waits for any
    waits = sorted(pairs | {(control, q, 0) for q in fed}, key=lambda p: (p[1], p[0], p[2])) if sync == "wavefront" else []

    keys = sorted(boxes)
    entries = [row for key in keys for row in rows[key]]
    table = np.array(entries, np.int64).reshape(-1, len(ENTRY_COLUMNS))
    weights, index = store.finish(table, [source_size[int(row[E_PROJECTION])] for row in table])
    shapes = [graph.populations[population].shape for population, _ in origins] + [(0, 0, 0)]
    return Routes(
        source_population=np.array([population for population, _ in origins] + [-1], np.int64),
        source_box=np.array([box for _, box in origins] + [NO_BOX], np.int64),
        source_shape=np.array(shapes, np.int64),
        source_port=np.array([-1] * len(mapping.slices) + [port for _, _, port in port_sources(graph, mapping)] + [0], np.int64),
        route_ptr=np.searchsorted([s for s, _ in keys], np.arange(len(origins) + 2)).astype(np.int64),
        route_core=np.array([core for _, core in keys], np.int64),
        route_box=np.array([boxes[key] for key in keys], np.int64).reshape(-1, 6),
        entry_ptr=np.cumsum([0] + [len(rows[key]) for key in keys]).astype(np.int64),
        entry=table,
        weights=weights,
        index=index,
        sync_pair=np.array(waits, np.int64).reshape(-1, 3),
    )


def _fed_by_control(graph: Graph, sync: str, mapping: Mapping, reached: set[int]) -> list[int]:
    """Slices that the control source serves: those with host currents and, where there are markers, those without any upstream."""
    currents = set(current_populations(graph))
    return [q for q, piece in enumerate(mapping.slices) if piece.population in currents or (sync == "wavefront" and q not in reached)]
