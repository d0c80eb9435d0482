"""Audit: the Program respects the chip: memory per core, banks, widths, fan-in and fan-out, and no bank can overflow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from neurosim.arithmetic import NO_FLOOR
from neurosim.compiler.audit.bounds import check_overflow, sums_of_weights
from neurosim.compiler.audit.words import check_axons, check_weight_values, check_words
from neurosim.errors import AuditError
from neurosim.graph import Graph
from neurosim.program import (
    E_CIG,
    E_CO0,
    E_COG,
    E_DELAY,
    E_INDEX,
    E_KH,
    E_KW,
    E_MAP,
    E_REGION,
    E_SHIFT,
    E_WEIGHT,
    E_WIDTH,
    G_K,
    G_MAIN,
    G_Q,
    G_V,
    M_CONV,
    M_MIX,
    M_POOL,
    M_SPARSE,
    OP_COINCIDENCE,
    OP_GATE,
    OP_HEAD,
    OP_KIND,
    OP_LATCHED,
    OP_OR,
    R_BANKS,
    R_DECAY_I,
    R_READOUT,
    R_RESET,
    Program,
)  # fmt: skip

F64 = NDArray[np.float64]


def _fail(message: str) -> None:
    raise AuditError(f"audit: {message}; this is a defect of neurosim, please report it")


def check_limits(program: Program, graph: Graph) -> None:
    """Raise AuditError for the first limit that the Program breaks."""
    _check_words(program)
    _check_banks(program)
    if program.sync != "free":
        check_overflow(program, graph)
    _check_memory(program)
    check_words(program, graph)
    check_weight_values(program, graph)
    check_axons(program)
    limit = program.chip.memory.fan_in
    if limit is not None:
        for name, count in _fan_in(graph).items():
            if count > limit.value:
                _fail(f"population {name} has {count} synapses into one neuron, the chip allows {limit.value}")


def _check_words(program: Program) -> None:
    bits, shifts = program.chip.arithmetic.weight_bits, program.entry[:, E_SHIFT]
    for weight in (program.weights.min(initial=0), program.weights.max(initial=0)):
        if not -(2 ** (bits - 1)) <= int(weight) < 2 ** (bits - 1):
            _fail(f"weight {weight} does not fit {bits} bits")
    if len(shifts) and not (shifts.min() >= 0 and shifts.max() <= program.chip.arithmetic.max_shift):
        _fail(f"shifts are {shifts.min()} to {shifts.max()}, the chip has 0 to {program.chip.arithmetic.max_shift}")


def _check_memory(program: Program) -> None:
    memory = program.chip.memory
    for q, core in enumerate(program.slice_core.tolist()):
        if core in memory.dead_cores:
            _fail(f"core {core} holds slice {q} but is dead (memory.dead_cores)")
    rows = {row["core"]: row for row in program.meta["memory"]}
    for core in np.unique(program.slice_core).tolist():
        found = {"neurons": 0, "route_entries": 0, "bytes": (core_bits(program, core) + 7) // 8}
        for q in np.flatnonzero(program.slice_core == core).tolist():
            found["neurons"] += int(program.neuron_ptr[q + 1] - program.neuron_ptr[q])
            routes = int(program.route_ptr[q + 1] - program.route_ptr[q])
            found["route_entries"] += routes
            if program.chip.capabilities.fan_out is not None and routes > program.chip.capabilities.fan_out.value:
                _fail(f"slice {q} sends to {routes} cores, the chip allows {program.chip.capabilities.fan_out.value}")
        limits = {"neurons": memory.neurons.value, "route_entries": memory.route_entries.value, "bytes": memory.bytes.value}
        for name, limit in limits.items():
            if found[name] > limit:
                _fail(f"core {core} holds {found[name]} {name.replace('_', ' ')}, the chip allows {limit}")
            if core not in rows or rows[core][name] != found[name]:
                _fail(f"core {core} holds {found[name]} {name.replace('_', ' ')}, its memory row says {rows.get(core, {}).get(name, 'nothing')}")


def core_bits(program: Program, core: int) -> int:
    """Bits that a core holds, counted from the Program: states, banks, parameters, routes, and each weight block once."""
    words = program.chip.arithmetic
    bits = 0
    blocks: dict[tuple[int, int], int] = {}
    slices = np.flatnonzero(program.slice_core == core)
    for q in slices.tolist():
        first, last = int(program.neuron_ptr[q]), int(program.neuron_ptr[q + 1])
        rule, box = program.slice_rule[q], program.slice_box[q]
        states = 0 if program.sync == "settle" else 2 if rule[R_DECAY_I] >= 0 else 1
        bits += (last - first) * states * words.state_bits + _cell_bits(program, q)
        held = [program.bias]
        if program.floor[first] != NO_FLOOR:
            held.append(program.floor)
        if not rule[R_READOUT]:
            held.append(program.threshold)
            if rule[R_RESET]:
                held.append(program.reset_by)
        if np.any(program.v_init[first:last]):
            held.append(program.v_init)
        for values in held:
            grid = values[first:last].reshape(-1, int(box[1] - box[0]))
            bits += words.state_bits * (grid.shape[1] if np.all(grid == grid[:1]) else grid.size)
        bits += 64 * int(program.route_ptr[q + 1] - program.route_ptr[q])
    owner = np.repeat(np.arange(len(program.source_shape)), np.diff(program.route_ptr))
    route = np.repeat(np.arange(len(program.route_core)), np.diff(program.entry_ptr))
    for e in np.flatnonzero(np.isin(program.region_slice[program.entry[:, E_REGION]], slices)).tolist():
        row = program.entry[e]
        shape, box = program.source_shape[owner[route[e]]].tolist(), program.region_box[row[E_REGION]].tolist()
        blocks[int(row[E_WEIGHT]), int(row[E_INDEX])] = _block_bits(program, row.tolist(), shape, box)
    return bits + sum(blocks.values())


def _cell_bits(program: Program, q: int) -> int:
    """Bits of all cells of a slice: banks of the stepped disciplines, one set of operands' cells in free; and the sums of a latched gate. In settle
    all cells and outputs twice (the copy that samples start from) and what being due takes of firing neurons."""
    word, kind, box = program.chip.arithmetic.acc_bits, int(program.slice_op[q, OP_KIND]), program.slice_box[q].tolist()
    own = (8 if kind in (OP_OR, OP_GATE) else word) * int(program.neuron_ptr[q + 1] - program.neuron_ptr[q])
    operands = latch = 0
    for g in np.flatnonzero((program.region_slice == q) & (program.region_operand != G_MAIN)).tolist():
        c0, c1, y0, y1, x0, x1 = program.region_box[g].tolist()
        cells = (c1 - c0) * (y1 - y0) * (x1 - x0)
        operands += cells * (8 if program.region_operand[g] in (G_K, G_V, G_Q) else word)
        if program.slice_op[q, OP_LATCHED]:
            latch += cells * word
    if kind == OP_COINCIDENCE:
        operands += int(box[1] - box[0]) * int(program.slice_op[q, OP_HEAD]) * word
    if program.sync == "settle":
        neurons = 0 if program.slice_rule[q, R_READOUT] else int(program.neuron_ptr[q + 1] - program.neuron_ptr[q])
        room = int(np.ceil(np.log2(program.chip.memory.neurons.value)))
        due = 1 + room + (32 if program.chip.timing.settle.value > 0 else 0)
        return 2 * (own + operands) + neurons * (2 * 8 + due)
    return operands if program.sync == "free" else int(program.slice_rule[q, R_BANKS]) * (own + operands) + latch


def _block_bits(program: Program, row: list[int], source: list[int], box: list[int]) -> int:
    bits = program.chip.arithmetic.weight_bits
    if row[E_MAP] == M_SPARSE:
        rows = int(np.prod(source))
        targets = int(program.index[row[E_INDEX] + rows] - program.index[row[E_INDEX]])
        return targets * (bits + 16) + (rows + 1) * 32
    low = max(box[0] - row[E_CO0], 0)
    if row[E_MAP] == M_CONV:
        groups = {(c - row[E_CO0]) // row[E_COG] for c in range(box[0], box[1]) if 0 <= c - row[E_CO0] < source[0] // row[E_CIG] * row[E_COG]}
        table = (source[1] + source[2]) * 16 if row[E_INDEX] >= 0 else 0  # of a pooling: where each row and column is seen
        return len(groups) * row[E_CIG] * row[E_KH] * row[E_KW] * row[E_WIDTH] * bits + table
    if row[E_MAP] == M_MIX:
        high = min(box[1] - row[E_CO0], source[0])
        return len({c // row[E_CIG] for c in range(low, high)}) * row[E_KH] * row[E_WIDTH] * bits
    return (int(np.prod(source)) if row[E_MAP] != M_POOL else 1) * row[E_WIDTH] * bits


def _check_banks(program: Program) -> None:
    most = program.chip.capabilities.banks
    for q in range(program.slices):
        banks = int(program.slice_rule[q, R_BANKS])
        if not program.stepped:
            if banks != 1:
                _fail(f"slice {q} has {banks} banks in sync {program.sync}, which has none (1)")
            continue
        delays = program.entry[program.region_slice[program.entry[:, E_REGION]] == q, E_DELAY]
        least = 1 + int(delays.max(initial=0)) if program.sync == "wavefront" else 2  # barrier: by chip delays, in audit_offsets
        if not least <= banks <= most:
            _fail(f"slice {q} has {banks} banks, its delays need {least} and the chip has {most}")


def _fan_in(graph: Graph) -> dict[str, int]:
    """Most synapses into one cell of every population on the chip; taps in the padding are none."""
    result = {}
    for population in graph.populations:
        if population.host or population.kind not in ("spiking", "readout"):
            continue
        shapes = {"": population.shape, **({} if population.op is None else population.op.operands(population.shape))}
        count = {operand: np.zeros(shape) for operand, shape in shapes.items()}
        for projection in graph.into(population.name):
            source = graph.population(projection.source)
            if source.kind != "analog":
                ones = replace(projection.map, weight=np.ones(projection.map.weight.shape))
                into = sums_of_weights(replace(projection, map=ones), source.shape, 1.0)
                count[projection.operand][projection.channel_offset : projection.channel_offset + len(into)] += into
        result[population.name] = int(max(cells.max(initial=0) for cells in count.values()))
    return result
