"""Maps that a chip lacks, written with maps that it has: the same numbers, stored at greater length."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from neurosim.chip import Chip, MapLimits
from neurosim.compiler.matrices import MATRIX_LIMIT, matrix_map, matrix_of, sparse_to_dense, unpooled
from neurosim.compiler.sparse_maps import sparse_map
from neurosim.graph import Conv2d, Dense, Graph, LinearMap, Projection, Shape, Sparse, SumPool
from neurosim.ops import OrPool

DENSE_LIMIT = 2**20
"""Most weights of a pooling that is written out as a dense map."""
POINTWISE_LIMIT = 2**24
"""Most pairs of channels times pixels that are looked through for a 1x1 convolution."""


def adapt(graph: Graph, chip: Chip) -> Graph:
    """The graph with sparse maps stored as 1x1 convolutions or dense where the chip has no sparse ones, windows beyond the chip's limits as sparse
    maps, poolings also as dense ones, and convolutions behind a pooling with their kernels repeated, or dense, where the chip does not look
    coordinates up.

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
    if isinstance(m, Conv2d) and m.pool is not None:
        m = _without_pool(m, source, chip)
    if chip.memory.layer_per_core and m.out_shape(source)[1:] != (1, 1):
        return m
    if isinstance(m, Conv2d) and m.pool is None and "sparse" in ops and "conv2d" in ops and not _fits(m, ops["conv2d"]):
        return sparse_map([(m, source)], source, m.out_shape(source)) or m
    if isinstance(m, SumPool) and not (m.op in ops and _within(m, source, ops[m.op])):
        out = m.out_shape(source)
        if math.prod(out) * math.prod(source) <= DENSE_LIMIT and ("dense" in ops or "sparse" in ops):
            matrix = matrix_of(m, source)
            m = matrix_map(matrix, out) if "sparse" in ops else Dense(matrix, out)
    if isinstance(m, Sparse) and "sparse" not in ops:
        short = pointwise(m, source) if "conv2d" in ops and _small(m, source, ops["conv2d"]) else None
        return short or (sparse_to_dense(m) if "dense" in ops else None) or m
    return m


def _without_pool(m: Conv2d, source: Shape, chip: Chip) -> LinearMap:
    """The map as it is where the chip looks a spike's row and column up (cores that pool what they send do so before any kernel), else written out
    while that stays below MATRIX_LIMIT."""
    limits, out = chip.capabilities.ops.get("pooled_conv2d"), m.out_shape(source)
    if limits is not None and not chip.memory.layer_per_core and conv_within(m, source, limits):
        return m
    if out[1:] == (1, 1) and math.prod(out) * math.prod(source) <= MATRIX_LIMIT:
        return matrix_map(matrix_of(m, source), out)
    plain = unpooled(m, MATRIX_LIMIT)
    return m if plain is None else plain


def conv_within(m: Conv2d, source: Shape, limits: MapLimits) -> bool:
    """Whether a convolution keeps the limits of its op."""
    out = m.out_shape(source)
    pairs = (
        (max(m.weight.shape[2:]), limits.kernel), (max(m.padding), limits.padding), (max(m.dilation), limits.dilation), (m.groups, limits.groups),
        (max(out[1:]), limits.map_size), (max(out[0], source[0]), limits.channels),
    )  # fmt: skip
    return all(limit is None or value <= limit for value, limit in pairs) and (limits.stride is None or set(m.stride) <= set(limits.stride))


def _small(m: Sparse, source: Shape, limits: MapLimits) -> bool:
    """Whether a 1x1 convolution in its place would keep the chip's limits; of single pixels it would only be a dense map."""
    return (
        source[1] * source[2] > 1
        and (limits.channels is None or max(m.shape[0], source[0]) <= limits.channels)
        and (limits.map_size is None or max(source[1:]) <= limits.map_size)
        and (limits.kernels is None or 1 in limits.kernels)
    )


def pointwise(m: Sparse, source: Shape) -> Conv2d | None:
    """A sparse map that joins each pixel with itself alone, and all alike (a choice of channels), as a 1x1 convolution."""
    pixels, out = source[1] * source[2], m.shape[0]
    origin = m.origin
    if m.shape[1:] != source[1:] or np.any(origin % pixels != m.targets % pixels) or out * math.prod(source) > POINTWISE_LIMIT:
        return None
    weight = np.zeros((out * source[0], pixels), m.weight.dtype)
    np.add.at(weight, (m.targets // pixels * source[0] + origin // pixels, m.targets % pixels), m.weight)
    return Conv2d(weight[:, 0].reshape(out, source[0], 1, 1)) if np.all(weight == weight[:, :1]) else None


def _fits(m: Conv2d, limits: MapLimits) -> bool:
    """Whether the chip has such windows, whatever the size of the map."""
    return (
        (limits.kernel is None or max(m.weight.shape[2:]) <= limits.kernel)
        and (limits.padding is None or max(m.padding) <= limits.padding)
        and (limits.dilation is None or max(m.dilation) <= limits.dilation)
    )


def _within(m: SumPool, source: Shape, limits: MapLimits) -> bool:
    height, width = m.out_shape(source)[1:]
    return (
        (limits.kernel is None or max(m.kernel) <= limits.kernel)
        and (limits.stride is None or set(m.stride) <= set(limits.stride))
        and (limits.padding is None or max(m.padding) <= limits.padding)
        and (limits.map_size is None or max(height, width) <= limits.map_size)
    )
