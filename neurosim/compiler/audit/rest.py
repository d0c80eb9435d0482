"""Audit: the rest state of a Program in settle is one: derived again from the outputs that it says were sent, synapse by synapse.

In a network without cycles there is exactly one state in which every membrane is start + bias + current + the sum of weights times outputs sent and
every output what its membrane gives, for what the ports have told. So it is enough to find the arrays of the Program consistent: no order of
populations, no map and nothing of the golden model is needed.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from neurosim.compiler.audit.synapses import expand_entry
from neurosim.errors import AuditError
from neurosim.graph import Graph
from neurosim.host import run_host
from neurosim.ops import MaxPool, windows
from neurosim.program import (
    E_MAP,
    E_REGION,
    E_SHIFT,
    G_K,
    G_MAIN,
    G_MASK,
    G_Q,
    G_V,
    G_WINDOW,
    M_DENSE,
    M_MIX,
    OP_COINCIDENCE,
    OP_COUNT,
    OP_GATE,
    OP_HEAD,
    OP_INVERTED,
    OP_KIND,
    OP_MAX,
    OP_SHIFT,
    R_DECAY_V,
    R_MAX_SPIKES,
    R_READOUT,
    R_STRICT,
    REST,
    Program,
)

I64 = NDArray[np.int64]


def _fail(message: str) -> None:
    raise AuditError(f"audit: {message}; this is a defect of neurosim, please report it")


def check_rest(program: Program, graph: Graph) -> None:
    """Raise AuditError for the first array, cell or output of the rest state that is wrong; other disciplines have none."""
    if program.sync != "settle":
        wrong = [name for name in REST if len(getattr(program, name))]
        if wrong or "rest" in program.meta:
            _fail(f"a Program of sync {program.sync} has a rest state ({', '.join(wrong) or 'meta'})")
        return
    if program.steps != 1 or any(p.delay for p in graph.projections):
        _fail(f"a Program of sync settle has {program.steps} steps or delays")
    _lengths(program)
    _told(program)
    cells = _cells(program)
    first = 0
    for q in range(program.slices):
        held = program.rest_v[first : first + int(program.slice_cells[q])]
        first += len(held)
        wanted, seen = _slice(program, graph, q, cells)
        name = graph.populations[int(program.slice_population[q])].name
        if not np.array_equal(held, wanted):
            k = int(np.argmax(held != wanted))
            _fail(f"slice {q} of {name}: cell {k} rests at {held[k]}, what was sent to it makes {wanted[k]}")
        a, b = int(program.neuron_ptr[q]), int(program.neuron_ptr[q + 1])
        outputs = _outputs(program, q, seen)
        if not np.array_equal(program.rest_sent[a:b], outputs):
            k = int(np.argmax(program.rest_sent[a:b] != outputs))
            _fail(f"slice {q} of {name}: neuron {k} rests with output {program.rest_sent[a + k]}, its membrane gives {outputs[k]}")


def _lengths(program: Program) -> None:
    neurons, boxes = int(program.neuron_ptr[-1]), program.source_box[program.slices : program.control_source]
    ports = int(np.prod(boxes[:, 1::2] - boxes[:, ::2], axis=1).sum())
    wanted = {"rest_sent": neurons, "rest_v": int(program.slice_cells.sum()), "rest_input": ports, "rest_current": neurons}
    for name, length in wanted.items():
        if len(getattr(program, name)) != length:
            _fail(f"array {name} has {len(getattr(program, name))} rows, not {length}")


def _told(program: Program) -> None:
    """Kind and digest, and what a black image or nothing at all makes of the ports."""
    rest = program.meta.get("rest", {})
    told = [program.rest_input, program.rest_current]
    digest = hashlib.sha256(b"".join(x.astype("<i8").tobytes() for x in told)).hexdigest()
    if rest.get("digest") != digest or rest.get("kind") not in ("black", "none", "file"):
        _fail(f"the rest state calls itself {rest}, its digest is {digest}")
    shape = next((p["shape"] for p in program.meta["populations"] if p["kind"] == "analog"), None)
    black = rest["kind"] == "black" and program.meta["host"] and shape is not None
    currents, spikes = run_host(program, np.zeros((1, *shape), np.uint8)) if black and shape is not None else ({}, {})
    if rest["kind"] == "file":
        return
    names = [p["name"] for p in program.meta["populations"]]
    at = 0
    for s in range(program.slices, program.control_source):
        box, name = program.source_box[s].tolist(), names[program.source_population[s]]
        values = spikes[name][0, 0] if name in spikes else np.zeros(program.source_shape[s], np.int64)
        wanted = _by_local(values, box)
        if not np.array_equal(program.rest_input[at : at + len(wanted)], wanted):
            _fail(f"port source {s} of {name} rests with spikes that the reference ({rest['kind']}) does not make")
        at += len(wanted)
    for q in range(program.slices):
        name = names[program.slice_population[q]]
        a, b = int(program.neuron_ptr[q]), int(program.neuron_ptr[q + 1])
        wanted = _by_local(currents[name][0], program.slice_box[q].tolist()) if name in currents else np.zeros(b - a, np.int64)
        if not np.array_equal(program.rest_current[a:b], wanted):
            _fail(f"slice {q} of {name} rests with currents that the reference ({rest['kind']}) does not make")


def _by_local(x: NDArray[np.generic], box: list[int]) -> I64:
    c0, c1, y0, y1, x0, x1 = box
    return np.moveaxis(np.asarray(x)[c0:c1, y0:y1, x0:x1], 0, 2).reshape(-1).astype(np.int64)


def _cells(program: Program) -> list[I64]:
    """What the outputs sent add up to in every region, over its box, (c, y, x)."""
    sums = [np.zeros((b[1] - b[0], b[3] - b[2], b[5] - b[4]), np.int64) for b in program.region_box.tolist()]
    at = 0
    for s in range(program.control_source):
        box = program.source_box[s].tolist()
        size = (box[1] - box[0]) * (box[3] - box[2]) * (box[5] - box[4])
        if s < program.slices:
            sent = program.rest_sent[program.neuron_ptr[s] : program.neuron_ptr[s + 1]]
        else:
            sent, at = program.rest_input[at : at + size], at + size
        active = np.flatnonzero(sent)
        pixel, c = np.divmod(active, box[1] - box[0])
        y, x = np.divmod(pixel, box[5] - box[4])
        neurons = np.stack([c + box[0], y + box[2], x + box[4], sent[active]], axis=1)
        for r in range(int(program.route_ptr[s]), int(program.route_ptr[s + 1])):
            _add(program, s, r, neurons, sums)
    return sums


def _add(program: Program, s: int, route: int, neurons: I64, sums: list[I64]) -> None:
    """Everything that a source's neurons (rows c, y, x, value) have sent along a route."""
    low, high = program.route_box[route, ::2], program.route_box[route, 1::2]
    inside = neurons[np.all((neurons[:, :3] >= low) & (neurons[:, :3] < high), axis=1)]
    source = program.source_shape[s].tolist()
    for row in program.entry[program.entry_ptr[route] : program.entry_ptr[route + 1]].tolist():
        g = row[E_REGION]
        box, full = program.region_box[g].tolist(), tuple(program.region_shape[g].tolist())
        if row[E_MAP] in (M_DENSE, M_MIX):
            for part in (inside,) if row[E_MAP] == M_DENSE else [inside[inside[:, 0] == c] for c in np.unique(inside[:, 0])]:
                _rows(program, row, box, source, full, part, sums[g])
            continue
        for c, y, x, value in inside.tolist():
            targets, weights = expand_entry(program, row, box, source, full, (c, y, x))
            _scatter(sums[g], box, full, targets, (weights.astype(np.int64) * value) << row[E_SHIFT])


def _rows(program: Program, row: list[int], box: list[int], source: list[int], full: tuple[int, ...], part: I64, into: I64) -> None:
    """Neurons whose targets are the same: of a dense map all, of a token mixing those of one channel."""
    if not len(part):
        return
    total: I64 | None = None
    for c, y, x, value in part.tolist():
        targets, weights = expand_entry(program, row, box, source, (full[0], full[1], full[2]), (c, y, x))
        each = weights.astype(np.int64) * value
        total = each if total is None else total + each
    assert total is not None
    _scatter(into, box, full, targets, total << row[E_SHIFT])


def _scatter(into: I64, box: list[int], full: tuple[int, ...], targets: I64, values: I64) -> None:
    c, pixel = np.divmod(targets, full[1] * full[2])
    y, x = np.divmod(pixel, full[2])
    np.add.at(into, (c - box[0], y - box[2], x - box[4]), values)


def _slice(program: Program, graph: Graph, q: int, sums: list[I64]) -> tuple[I64, I64]:
    """(cells of a slice in bank order, what its neurons' outputs depend on)."""
    a, b = int(program.neuron_ptr[q]), int(program.neuron_ptr[q + 1])
    box, op = program.slice_box[q].tolist(), program.slice_op[q].tolist()
    numbers = np.flatnonzero((program.region_slice == q) & (program.region_operand != G_MAIN)).tolist()
    operands = {int(program.region_operand[g]): sums[g] for g in numbers}
    own = np.moveaxis(sums[q], 0, 2).reshape(-1) + program.rest_current[a:b] + start_of(program, q)
    seen = own
    tail = [np.moveaxis(sums[g], 0, 2).reshape(-1) for g in numbers]
    if op[OP_KIND] == OP_GATE:
        seen = np.where(_open(program, graph, q, operands[G_MASK]), own, 0)
    elif op[OP_KIND] == OP_MAX:
        own = seen = own + _largest(program, graph, q, operands[G_WINDOW])
    elif op[OP_KIND] == OP_COINCIDENCE:
        d = op[OP_HEAD]
        k, v, r = (operands[name].reshape(-1, d, (box[3] - box[2]) * (box[5] - box[4])) for name in (G_K, G_V, G_Q))
        table = np.einsum("han,hbn->hab", k, v)
        added = np.einsum("han,hab->hbn", r, table) << op[OP_SHIFT]
        own = seen = own + added.reshape(box[1] - box[0], -1).T.reshape(-1)
        tail.append(table.reshape(-1))
    return np.concatenate([own, *tail]), seen


def start_of(program: Program, q: int) -> I64:
    """dec(v_init) + bias of the neurons of a slice, by local index: what a membrane holds before anything comes."""
    a, b = int(program.neuron_ptr[q]), int(program.neuron_ptr[q + 1])
    whole = program.v_init[a:b] * (4096 - program.slice_rule[q, R_DECAY_V])
    rounded = {"floor": whole >> 12, "nearest": (whole + 2048) >> 12, "zero": np.sign(whole) * (np.abs(whole) >> 12)}
    start: I64 = rounded[program.chip.arithmetic.rounding] + program.bias[a:b]
    return start


def _open(program: Program, graph: Graph, q: int, mask: I64) -> NDArray[np.bool_]:
    """Which neurons of a gate's slice, by local index, let pass what they hold."""
    population = graph.populations[int(program.slice_population[q])]
    c0, c1, y0, y1, x0, x1 = program.slice_box[q].tolist()
    g = int(np.flatnonzero((program.region_slice == q) & (program.region_operand == G_MASK))[0])
    sizes = [n // int(m) for n, m in zip(population.shape, program.region_shape[g], strict=True)]
    low = program.region_box[g, ::2]
    opened = (mask >= program.slice_op[q, OP_COUNT]) != bool(program.slice_op[q, OP_INVERTED])
    axes = [np.arange(a, b) // n - m for (a, b), n, m in zip(((c0, c1), (y0, y1), (x0, x1)), sizes, low, strict=True)]
    found: NDArray[np.bool_] = np.moveaxis(opened[np.ix_(*axes)], 0, 2).reshape(-1)
    return found


def _largest(program: Program, graph: Graph, q: int, cells: I64) -> I64:
    """The largest of every neuron's window, by local index."""
    population = graph.populations[int(program.slice_population[q])]
    assert isinstance(population.op, MaxPool)
    c0, c1, y0, y1, x0, x1 = program.slice_box[q].tolist()
    g = int(np.flatnonzero((program.region_slice == q) & (program.region_operand == G_WINDOW))[0])
    low = program.region_box[g].tolist()
    whole = np.full((c1 - c0, *population.op.source[1:]), np.iinfo(np.int64).min)
    whole[:, low[2] : low[3], low[4] : low[5]] = cells
    pooled = windows(whole[None], population.op, (c1 - c0, *population.shape[1:]))[0]
    found: I64 = np.moveaxis(pooled[:, y0:y1, x0:x1], 0, 2).reshape(-1)
    return found


def _outputs(program: Program, q: int, v: I64) -> I64:
    """What the neurons of a slice say for what they hold."""
    rule, a, b = program.slice_rule[q], int(program.neuron_ptr[q]), int(program.neuron_ptr[q + 1])
    if rule[R_READOUT]:
        return np.zeros(b - a, np.int64)
    high = 2 ** (program.chip.arithmetic.state_bits - 1)
    clipped, threshold = np.minimum(np.maximum(v, -high), high - 1), program.threshold[a:b]
    count = np.zeros(b - a, np.int64)
    for n in range(1, int(rule[R_MAX_SPIKES]) + 1):
        level = n * threshold
        passed = clipped > level if rule[R_STRICT] else clipped >= level
        if not np.any(passed):
            break
        count += passed
    return count
