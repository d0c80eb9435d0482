"""Audit: the synapses of source neurons, expanded from the Program's entries and from the graph's maps, and compared one by one.

A synapse is (projection, target neuron, contribution of one spike). The Program's side reads an entry as an engine does, from targets to weights; the
graph's side goes from the weights to the targets, and sums parallel synapses, which the Program has merged. A cell of an operand occurs once for
every region that holds it: several slices may work on it, or none. Delays are compared per entry (reach).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.errors import AuditError
from neurosim.graph import Conv2d, Dense, Graph, Projection, Shape, SumPool, TokenMix
from neurosim.ops import OPERANDS
from neurosim.program import (
    E_CIG,
    E_CO0,
    E_COG,
    E_DH,
    E_DW,
    E_IC0,
    E_INDEX,
    E_KH,
    E_KW,
    E_MAP,
    E_PH,
    E_PROJECTION,
    E_PW,
    E_REGION,
    E_SH,
    E_SHIFT,
    E_SW,
    E_WEIGHT,
    E_WIDTH,
    M_CONV,
    M_DENSE,
    M_MIX,
    M_POOL,
    Program,
)  # fmt: skip

I64 = NDArray[np.int64]
Neuron = tuple[int, int, int]
Pairs = tuple[I64, I64]
"""(target index (c, y, x)-flat in its population, weight) of one projection."""
Outgoing = tuple[int, Projection, Shape, Shape, I64 | None]
"""(number, projection, shape of the source, shape of the cells that it fills, how many regions hold each of these; None: one)."""


def check_synapses(program: Program, graph: Graph, budget: int, seed: int) -> tuple[int, int]:
    """(synapses compared, synapses in all). Every source neuron is expanded while ``budget`` lasts, else neurons drawn from every source in turn."""
    in_all = sum(total_synapses(graph, p) for p in graph.projections if _served(graph, p))
    draw = np.random.default_rng(seed)
    neurons = [_neurons(program, s) for s in range(program.control_source)]
    outgoing: dict[str, list[Outgoing]] = {p.name: [] for p in graph.populations}
    for number, projection in enumerate(graph.projections):
        if _served(graph, projection):
            shapes = graph.population(projection.source).shape, graph.target_shape(projection)
            outgoing[projection.source].append((number, projection, *shapes, _holders(program, graph, projection, shapes[1])))
    orders = [draw.permutation(len(n)) if in_all > budget else np.arange(len(n)) for n in neurons]
    compared = 0
    for turn in range(max((len(n) for n in neurons), default=0)):
        for s, order in enumerate(orders):
            if turn < len(order) and (in_all <= budget or compared < budget):
                c, y, x = neurons[s][order[turn]].tolist()
                compared += _compare(program, graph, outgoing, s, (c, y, x))
        if in_all > budget and compared >= budget:
            break
    if in_all <= budget and compared != in_all:
        raise AuditError(f"audit: {compared} synapses compared, the graph has {in_all}; this is a defect of neurosim, please report it")
    return compared, in_all


def _served(graph: Graph, projection: Projection) -> bool:
    target = graph.population(projection.target)
    return graph.population(projection.source).kind != "analog" and (target.kind == "readout" or (target.kind == "spiking" and not target.host))


def total_synapses(graph: Graph, projection: Projection) -> int:
    """Synapses of a projection with parallel ones merged and zero weights included, counted by axes."""
    linear, source = projection.map, graph.population(projection.source).shape
    channels, height, width = linear.out_shape(source)
    if isinstance(linear, Conv2d | SumPool):
        kernel = linear.weight.shape[2:] if isinstance(linear, Conv2d) else linear.kernel
        dilation = linear.dilation if isinstance(linear, Conv2d) else (1, 1)
        pixels = 1
        for k, outputs in enumerate((height, width)):
            tap = np.arange(outputs)[:, None] * linear.stride[k] - linear.padding[k] + np.arange(kernel[k]) * dilation[k]
            if isinstance(linear, Conv2d) and linear.pool is not None:
                pixels *= sum(int((tap == seen).sum()) for seen in linear.pool.axes[k].tolist() if seen >= 0)
            else:
                pixels *= int(((tap >= 0) & (tap < source[1 + k])).sum())
        return pixels * channels * (linear.weight.shape[1] if isinstance(linear, Conv2d) else 1)
    if isinstance(linear, TokenMix):
        return source[0] * (source[1] * source[2]) ** 2
    if isinstance(linear, Dense):
        return int(linear.weight.size)
    pairs = np.repeat(np.arange(len(linear.indptr) - 1), np.diff(linear.indptr)) * (channels * height * width) + linear.targets
    pairs.sort()
    return int(np.count_nonzero(np.diff(pairs))) + bool(len(pairs))


def _holders(program: Program, graph: Graph, projection: Projection, full: Shape) -> I64 | None:
    """[cells of the operand, (c, y, x)-flat] regions that hold the cell; None for neurons' own cells, which lie in one region each."""
    if not projection.operand:
        return None
    number = [p.name for p in graph.populations].index(projection.target)
    mine = (program.slice_population[program.region_slice] == number) & (program.region_operand == OPERANDS.index(projection.operand))
    count = np.zeros(full, np.int64)
    for c0, c1, y0, y1, x0, x1 in program.region_box[mine].tolist():
        count[c0:c1, y0:y1, x0:x1] += 1
    return count.ravel()


def _neurons(program: Program, source: int) -> I64:
    c0, c1, y0, y1, x0, x1 = program.source_box[source].tolist()
    return np.stack(np.meshgrid(np.arange(c0, c1), np.arange(y0, y1), np.arange(x0, x1), indexing="ij"), -1).reshape(-1, 3)


def _compare(program: Program, graph: Graph, outgoing: dict[str, list[Outgoing]], source: int, neuron: Neuron) -> int:
    held = _of_program(program, graph, source, neuron)
    name = graph.populations[int(program.source_population[source])].name
    count = 0
    for number, projection, shape, full, holders in outgoing[name]:
        targets, weights = of_graph(projection, shape, full, neuron)
        count += len(targets)
        if holders is not None:
            targets, weights = (np.repeat(values, holders[targets]) for values in (targets, weights))
        found = held.pop(number, (np.zeros(0, np.int64), np.zeros(0, np.int64)))
        if not (np.array_equal(found[0], targets) and np.array_equal(found[1], weights)):
            _differ(graph, projection, neuron, found, (targets, weights))
    if held:
        raise AuditError(f"audit: neuron {neuron} of {name} has synapses of projections {sorted(held)}, which the graph lacks")
    return count


def _differ(graph: Graph, projection: Projection, neuron: Neuron, found: Pairs, wanted: Pairs) -> None:
    shape, cells = graph.target_shape(projection), f" ({projection.operand})" if projection.operand else ""
    have, want = (dict(zip(side[0].tolist(), side[1].tolist(), strict=True)) for side in (found, wanted))
    first = min(t for t in have.keys() | want.keys() if have.get(t) != want.get(t)) if have != want else int(found[0][0])
    target = tuple(int(k) for k in np.unravel_index(first, shape))
    raise AuditError(
        f"audit: synapse from neuron {neuron} of {projection.source} to {target} of {projection.target}{cells}: the Program adds "
        f"{have.get(first, 'nothing')}, the graph {want.get(first, 'nothing')} (or it occurs twice); this is a defect of neurosim, please report it"
    )


def _of_program(program: Program, graph: Graph, source: int, neuron: Neuron) -> dict[int, Pairs]:
    """{projection: synapses} of one source neuron, targets ascending; a target that occurs twice stays twice."""
    parts: dict[int, list[Pairs]] = {}
    c, y, x = neuron
    shape = program.source_shape[source].tolist()
    for r in range(int(program.route_ptr[source]), int(program.route_ptr[source + 1])):
        box = program.route_box[r].tolist()
        if not (box[0] <= c < box[1] and box[2] <= y < box[3] and box[4] <= x < box[5]):
            continue
        for row in program.entry[program.entry_ptr[r] : program.entry_ptr[r + 1]].tolist():
            channels, height, width = program.region_shape[row[E_REGION]].tolist()
            targets, weights = expand_entry(program, row, program.region_box[row[E_REGION]].tolist(), shape, (channels, height, width), neuron)
            if len(targets):
                parts.setdefault(row[E_PROJECTION], []).append((targets, weights.astype(np.int64) << row[E_SHIFT]))
    result: dict[int, Pairs] = {}
    for number, found in parts.items():
        targets = np.concatenate([p[0] for p in found])
        order = np.argsort(targets, kind="stable")
        result[number] = targets[order], np.concatenate([p[1] for p in found])[order]
    return result


def expand_entry(program: Program, row: list[int], box: list[int], source: list[int], full: Shape, neuron: Neuron) -> tuple[I64, NDArray[Any]]:
    """(targets, weights) that an entry gives a source neuron, in the order in which they are served; targets are (c, y, x)-flat in ``full``."""
    c, y, x = neuron
    c0, c1, y0, y1, x0, x1 = box
    base, width = row[E_WEIGHT], row[E_WIDTH]
    if row[E_MAP] in (M_CONV, M_POOL):
        if row[E_MAP] == M_CONV and row[E_INDEX] >= 0:
            y, x = (int(program.index[row[E_INDEX] + k]) for k in (y, source[1] + x))
            if min(y, x) < 0:
                return np.zeros(0, np.int64), program.weights[:0]
        ys, ky = _windows(y, y0, y1, row[E_SH], row[E_PH], row[E_DH] if row[E_MAP] == M_CONV else 1, row[E_KH])
        xs, kx = _windows(x, x0, x1, row[E_SW], row[E_PW], row[E_DW] if row[E_MAP] == M_CONV else 1, row[E_KW])
        if row[E_MAP] == M_POOL:
            channels = np.array([c + row[E_CO0]] if c0 <= c + row[E_CO0] < c1 else [], np.int64)
            at = np.broadcast_to(base + channels - c0, (len(ys), len(xs), len(channels)))
        else:
            group = c // row[E_CIG]
            low, high = max(c0, group * row[E_COG] + row[E_CO0]), min(c1, (group + 1) * row[E_COG] + row[E_CO0])
            channels = np.arange(low, max(low, high))
            lines = ((c - row[E_IC0]) * row[E_KH] + ky)[:, None] * row[E_KW] + kx
            at = base + lines[:, :, None] * width + (channels - low)
        return _flat(channels, ys, xs, full), program.weights[at.ravel()]
    rows, columns = np.arange(y0, y1), np.arange(x0, x1)
    number = (y * source[2] + x) * source[0] + c
    if row[E_MAP] == M_DENSE:
        targets = _flat(np.arange(max(c0, row[E_CO0]), min(c1, row[E_CO0] + row[E_COG])), rows, columns, full)
        return targets, program.weights[base + number * width + np.arange(len(targets))]
    if row[E_MAP] == M_MIX:
        channels = np.array([c + row[E_CO0]] if c0 <= c + row[E_CO0] < c1 else [], np.int64)
        targets = _flat(channels, rows, columns, full)
        first = base + ((c // row[E_CIG] - row[E_IC0]) * row[E_KH] + y * source[2] + x) * width
        return targets, program.weights[first + np.arange(len(targets))]
    start, a, b = (int(program.index[row[E_INDEX] + k]) for k in (0, number, number + 1))
    local = program.index[a:b]
    if np.any(np.diff(local) <= 0) or np.any((local < 0) | (local >= (c1 - c0) * (y1 - y0) * (x1 - x0))):
        raise AuditError(
            f"audit: sparse targets of source neuron {neuron} do not ascend within their region; this is a defect of neurosim, please report it"
        )
    channels, pixel = c0 + local % (c1 - c0), local // (c1 - c0)
    targets = (channels * full[1] + y0 + pixel // (x1 - x0)) * full[2] + x0 + pixel % (x1 - x0)
    return targets, program.weights[base + a - start : base + b - start]


def _flat(channels: I64, rows: I64, columns: I64, full: Shape) -> I64:
    """(c, y, x)-flat indices of a product of coordinates, in the order (y, x, c)."""
    grid: I64 = (rows * full[2])[:, None, None] + columns[:, None] + channels * (full[1] * full[2])
    return grid.ravel()


def _windows(at: int, low: int, high: int, stride: int, padding: int, dilation: int, kernel: int) -> Pairs:
    """Output coordinates low..high-1 whose window holds source coordinate ``at``, and the kernel position of each."""
    output = np.arange(low, high)
    tap = at + padding - output * stride
    hit = (tap >= 0) & (tap % dilation == 0) & (tap // dilation < kernel)
    return output[hit], tap[hit] // dilation


def of_graph(projection: Projection, source: Shape, full: Shape, neuron: Neuron) -> Pairs:
    """Synapses of one source neuron through one projection, targets ascending, parallel ones summed."""
    targets, weights = _map_synapses(projection, source, neuron)
    targets = targets + projection.channel_offset * full[1] * full[2]
    order = np.argsort(targets, kind="stable")
    targets, total = targets[order], weights[order].astype(np.int64) << projection.shift
    if len(targets) < 2 or np.all(targets[1:] > targets[:-1]):
        return targets, total
    first = np.flatnonzero(np.diff(targets, prepend=-1))
    return targets[first], np.add.reduceat(total, first)


def _map_synapses(projection: Projection, source: Shape, neuron: Neuron) -> tuple[I64, NDArray[Any]]:
    """(targets (c, y, x)-flat in the map's output, weights)."""
    linear, (c, y, x) = projection.map, neuron
    if isinstance(linear, Conv2d | SumPool):
        out = linear.out_shape(source)
        kernel = linear.weight.shape[2:] if isinstance(linear, Conv2d) else linear.kernel
        dilation = linear.dilation if isinstance(linear, Conv2d) else (1, 1)
        seen = (y, x)
        if isinstance(linear, Conv2d) and linear.pool is not None:
            seen = (int(linear.pool.rows[y]), int(linear.pool.columns[x]))
        if min(seen) < 0:
            return np.zeros(0, np.int64), linear.weight.ravel()[:0]
        hits = []
        for k, at in enumerate(seen):
            tap = at + linear.padding[k] - np.arange(kernel[k]) * dilation[k]
            good = (tap >= 0) & (tap % linear.stride[k] == 0) & (tap // linear.stride[k] < out[1 + k])
            hits.append((np.flatnonzero(good), tap[good] // linear.stride[k]))
        (ky, ys), (kx, xs) = hits
        if isinstance(linear, SumPool):
            channels, values = np.array([c]), np.broadcast_to(linear.weight[c], (1, len(ky), len(kx)))
        else:
            per_in, per_out = linear.weight.shape[1], linear.weight.shape[0] // linear.groups
            group = c // per_in
            channels = np.arange(group * per_out, (group + 1) * per_out)
            values = linear.weight[group * per_out : (group + 1) * per_out, c % per_in][:, ky][:, :, kx]
        grid = (channels * (out[1] * out[2]))[:, None, None] + (ys * out[2])[:, None] + xs
        return grid.ravel(), np.asarray(values).ravel()
    if isinstance(linear, TokenMix):
        head, pixels = c // (source[0] // linear.weight.shape[0]), source[1] * source[2]
        return np.arange(c * pixels, (c + 1) * pixels), linear.weight[head, :, y * source[2] + x]
    flat = (c * source[1] + y) * source[2] + x
    if isinstance(linear, Dense):
        return np.arange(len(linear.weight)), linear.weight[:, flat]
    a, b = int(linear.indptr[flat]), int(linear.indptr[flat + 1])
    return linear.targets[a:b], linear.weight[a:b]
