"""Audit: routes, boxes, entries and sync pairs are exactly those that the geometry of the graph asks for.

Geometry is followed forward here, from source neurons to targets, axis by axis: every map joins a product of channels, rows and columns, but for
sparse ones, which are followed synapse by synapse.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from neurosim.errors import AuditError
from neurosim.graph import Conv2d, Dense, Graph, Projection, Shape, SumPool, TokenMix
from neurosim.ops import OPERANDS
from neurosim.program import E_DELAY, E_PROJECTION, E_REGION, E_SHIFT, Program

Bools = NDArray[np.bool_]
Span = tuple[int, int]


def _fail(message: str) -> None:
    raise AuditError(f"audit: {message}; this is a defect of neurosim, please report it")


def check_reach(program: Program, graph: Graph) -> None:
    """Compare routes, route boxes, entries and sync pairs with what the slices, their regions and the graph's maps demand."""
    numbers: dict[tuple[int, int], list[tuple[int, int]]] = {}  # (source, core) -> [(projection, region)]
    hulls: dict[tuple[int, int], list[int]] = {}
    pairs: set[tuple[int, int, int]] = set()
    index_of = {p.name: k for k, p in enumerate(graph.populations)}
    control = program.control_source
    for number, projection in enumerate(graph.projections):
        sources = np.flatnonzero(program.source_population == index_of[projection.source])
        targets = np.flatnonzero(program.slice_population == index_of[projection.target])
        shape = graph.population(projection.source).shape
        filled = np.flatnonzero((program.region_operand == OPERANDS.index(projection.operand)) & np.isin(program.region_slice, targets))
        for g, q in zip(filled.tolist(), program.region_slice[filled].tolist(), strict=True):
            box = program.region_box[g].tolist()
            if graph.population(projection.source).kind == "analog":
                pairs.add((q, control, 0))
                hulls.setdefault((control, int(program.slice_core[q])), [0] * 6)
                numbers.setdefault((control, int(program.slice_core[q])), [])
                continue
            for s, found in _hulls(reaching(projection, shape, box), program.source_box, sources):
                key = (s, int(program.slice_core[q]))
                old = hulls.get(key, found)
                hulls[key] = [pick(a, b) for pick, a, b in zip((min, max) * 3, old, found, strict=True)]
                numbers.setdefault(key, []).append((number, g))
                pairs.add((q, s, projection.delay))
    if program.sync == "wavefront":
        fed = {q for q, _, _ in pairs}
        for q in range(program.slices):
            if q not in fed:
                pairs.add((q, control, 0))
                hulls.setdefault((control, int(program.slice_core[q])), [0] * 6)
                numbers.setdefault((control, int(program.slice_core[q])), [])
    else:
        pairs = set()
    _compare_routes(program, graph, hulls, numbers)
    wanted = [[s, q, d] for q, s, d in sorted(pairs)]
    if program.sync_pair.tolist() != wanted:
        missing = [row for row in wanted if row not in program.sync_pair.tolist()]
        extra = [row for row in program.sync_pair.tolist() if row not in wanted]
        _fail(f"sync pairs (source, slice, delay) differ: missing {missing[:3]}, too many {extra[:3]}, or out of order")


def _compare_routes(
    program: Program, graph: Graph, hulls: dict[tuple[int, int], list[int]], numbers: dict[tuple[int, int], list[tuple[int, int]]]
) -> None:
    reached: dict[int, list[int]] = {}
    for source, core in sorted(hulls):
        reached.setdefault(source, []).append(core)
    for s in range(len(program.source_population)):
        first, last = int(program.route_ptr[s]), int(program.route_ptr[s + 1])
        cores = program.route_core[first:last].tolist()
        wanted = reached.get(s, [])
        if cores != wanted:
            _fail(f"source {s} has routes to cores {cores}, geometry says {wanted}")
        for r, core in zip(range(first, last), cores, strict=True):
            if program.route_box[r].tolist() != hulls[s, core]:
                _fail(f"route {r} of source {s} to core {core} has box {program.route_box[r].tolist()}, geometry says {hulls[s, core]}")
            rows = program.entry[program.entry_ptr[r] : program.entry_ptr[r + 1]]
            found = [(int(row[E_PROJECTION]), int(row[E_REGION])) for row in rows]
            if found != sorted(numbers[s, core]):
                _fail(f"route {r} of source {s} to core {core} has entries (projection, region) {found}, geometry says {sorted(numbers[s, core])}")
            for row in rows:
                projection = graph.projections[int(row[E_PROJECTION])]
                if (row[E_SHIFT], row[E_DELAY]) != (projection.shift, projection.delay):
                    _fail(
                        f"route {r}: shift and delay of projection {projection.source} -> {projection.target} are {row[E_SHIFT]} and {row[E_DELAY]}, "
                        f"the graph says {projection.shift} and {projection.delay}"
                    )


def reaching(projection: Projection, source: Shape, box: list[int]) -> tuple[Bools, Bools, Bools] | Bools:
    """Source channels, rows and columns with a synapse into the target box (a product), or for sparse maps one mask (c, y, x)."""
    linear, offset = projection.map, projection.channel_offset
    wanted = [(box[0] - offset, box[1] - offset), (box[2], box[3]), (box[4], box[5])]
    out = linear.out_shape(source)
    if isinstance(linear, Conv2d):
        per_in, per_out = linear.weight.shape[1], linear.weight.shape[0] // linear.groups
        channels = np.array([_overlap((c // per_in * per_out, (c // per_in + 1) * per_out), wanted[0]) for c in range(source[0])])
        axes = []
        for k in range(2):
            seen = np.arange(source[1 + k]) if linear.pool is None else linear.pool.axes[k]
            hit = _forward(
                max(seen) + 1, out[1 + k], linear.weight.shape[2 + k], linear.stride[k], linear.padding[k], linear.dilation[k], wanted[1 + k]
            )
            axes.append(hit[seen] & (seen >= 0))
        return channels, axes[0], axes[1]
    if isinstance(linear, Dense):
        return (np.full(source[0], _overlap((0, out[0]), wanted[0])), np.ones(source[1], np.bool_), np.ones(source[2], np.bool_))
    channels = np.array([_overlap((c, c + 1), wanted[0]) for c in range(source[0])])
    if isinstance(linear, TokenMix):
        return channels, np.ones(source[1], np.bool_), np.ones(source[2], np.bool_)
    if isinstance(linear, SumPool):
        rows = _forward(source[1], out[1], linear.kernel[0], linear.stride[0], linear.padding[0], 1, wanted[1])
        columns = _forward(source[2], out[2], linear.kernel[1], linear.stride[1], linear.padding[1], 1, wanted[2])
        return channels, rows, columns
    mask = np.zeros(int(np.prod(source)), np.bool_)
    inside = np.zeros(out, np.bool_)
    inside[max(0, wanted[0][0]) : max(0, wanted[0][1]), box[2] : box[3], box[4] : box[5]] = True
    hits = np.flatnonzero(inside.ravel()[linear.targets])
    mask[np.searchsorted(linear.indptr, hits, side="right") - 1] = True
    return mask.reshape(source)


def _forward(size: int, outputs: int, kernel: int, stride: int, padding: int, dilation: int, span: Span) -> Bools:
    """Which source coordinates have an output in ``span`` along one axis."""
    tap = np.arange(size)[:, None] + padding - dilation * np.arange(kernel)[None, :]
    output = tap // stride
    hit: Bools = np.any((tap % stride == 0) & (output >= max(0, span[0])) & (output < min(outputs, span[1])), axis=1)
    return hit


def _overlap(a: Span, b: Span) -> bool:
    return max(a[0], b[0]) < min(a[1], b[1])


def _hulls(masks: tuple[Bools, Bools, Bools] | Bools, boxes: NDArray[np.int64], sources: NDArray[np.int64]) -> Iterator[tuple[int, list[int]]]:
    """(source, bounding box of the reaching neurons inside its box) of those sources that have some."""
    if not isinstance(masks, tuple):
        for s in sources.tolist():
            c0, c1, y0, y1, x0, x1 = boxes[s].tolist()
            axes = [axis + low for axis, low in zip(np.nonzero(masks[c0:c1, y0:y1, x0:x1]), (c0, y0, x0), strict=True)]
            if len(axes[0]):
                yield s, [bound for axis in axes for bound in (int(axis.min()), int(axis.max()) + 1)]
        return
    bounds = []
    some = np.ones(len(sources), np.bool_)
    for k, mask in enumerate(masks):
        low, high = boxes[sources, 2 * k], boxes[sources, 2 * k + 1]
        at = np.append(np.where(mask, np.arange(len(mask)), len(mask)), len(mask))
        following = np.minimum.accumulate(at[::-1])[::-1]  # the first reaching coordinate from each on
        before = np.maximum.accumulate(np.append(0, np.where(mask, np.arange(len(mask)) + 1, 0)))  # behind the last one below each
        bounds += [following[low], before[high]]
        some &= following[low] < high
    yield from zip(sources[some].tolist(), np.stack(bounds, axis=1)[some].tolist(), strict=True)
