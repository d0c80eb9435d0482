"""Maps that a chip lacks, written with maps that it has: the same numbers, stored at greater length."""

from __future__ import annotations

import math
from dataclasses import replace

from neurosim.chip import Chip, MapLimits
from neurosim.compiler.stages import matrix_map, sparse_to_dense, written_out
from neurosim.graph import Dense, Graph, LinearMap, Projection, Shape, Sparse, SumPool
from neurosim.ops import OrPool

DENSE_LIMIT = 2**20
"""Most weights of a pooling that is written out as a dense map."""


def adapt(graph: Graph, chip: Chip) -> Graph:
    """The graph with sparse maps stored dense where the chip has no sparse ones, and poolings beyond the chip's limits as dense or sparse maps.

    Cores that hold one layer each address their neurons by row and column, so there only maps onto single pixels are written out. What the host
    computes and the windows of an or_pool stay as they are.
    """

    def adapted(p: Projection) -> Projection:
        window = isinstance(graph.population(p.target).op, OrPool) and isinstance(p.map, SumPool)
        source = graph.population(p.source)
        return p if window or source.kind == "analog" else replace(p, map=_adapted(p.map, source.shape, chip))

    return replace(graph, projections=tuple(adapted(p) for p in graph.projections))


def _adapted(m: LinearMap, source: Shape, chip: Chip) -> LinearMap:
    ops = chip.capabilities.ops
    if chip.memory.layer_per_core and m.out_shape(source)[1:] != (1, 1):
        return m
    if isinstance(m, SumPool) and not (m.op in ops and _within(m, source, ops[m.op])):
        out = m.out_shape(source)
        if math.prod(out) * math.prod(source) <= DENSE_LIMIT and ("dense" in ops or "sparse" in ops):
            matrix = written_out((m,), source)
            m = matrix_map(matrix, out) if "sparse" in ops else Dense(matrix, out)
    if isinstance(m, Sparse) and "sparse" not in ops and "dense" in ops:
        return sparse_to_dense(m)
    return m


def _within(m: SumPool, source: Shape, limits: MapLimits) -> bool:
    height, width = m.out_shape(source)[1:]
    return (
        (limits.kernel is None or max(m.kernel) <= limits.kernel)
        and (limits.stride is None or set(m.stride) <= set(limits.stride))
        and (limits.padding is None or max(m.padding) <= limits.padding)
        and (limits.map_size is None or max(height, width) <= limits.map_size)
    )
