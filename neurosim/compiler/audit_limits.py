"""Audit: the Program respects the chip: memory per core, banks, widths, fan-in and fan-out, and no bank can overflow."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.arithmetic import NO_FLOOR
from neurosim.compiler.audit_words import check_axons, check_weight_values, check_words
from neurosim.errors import AuditError
from neurosim.graph import Conv2d, Dense, Graph, Projection, Shape, SumPool, TokenMix
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
    M_CONV,
    M_MIX,
    M_POOL,
    M_SPARSE,
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
        _check_overflow(program, graph)
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
        states = 2 if rule[R_DECAY_I] >= 0 else 1
        banks = 0 if program.sync == "free" else int(rule[R_BANKS])
        bits += (last - first) * (states * words.state_bits + banks * words.acc_bits)
        held = [program.bias]
        if program.floor[first] != NO_FLOOR:
            held.append(program.floor)
        if not rule[R_READOUT]:
            held.append(program.threshold)
            if rule[R_RESET]:
                held.append(program.reset_by)
        for values in held:
            grid = values[first:last].reshape(-1, int(box[1] - box[0]))
            bits += words.state_bits * (grid.shape[1] if np.all(grid == grid[:1]) else grid.size)
        bits += 64 * int(program.route_ptr[q + 1] - program.route_ptr[q])
    owner = np.repeat(np.arange(len(program.source_shape)), np.diff(program.route_ptr))
    route = np.repeat(np.arange(len(program.route_core)), np.diff(program.entry_ptr))
    for e in np.flatnonzero(np.isin(program.entry[:, E_REGION], slices)).tolist():
        row = program.entry[e]
        shape, box = program.source_shape[owner[route[e]]].tolist(), program.slice_box[row[E_REGION]].tolist()
        blocks[int(row[E_WEIGHT]), int(row[E_INDEX])] = _block_bits(program, row.tolist(), shape, box)
    return bits + sum(blocks.values())


def _block_bits(program: Program, row: list[int], source: list[int], box: list[int]) -> int:
    bits = program.chip.arithmetic.weight_bits
    if row[E_MAP] == M_SPARSE:
        rows = int(np.prod(source))
        targets = int(program.index[row[E_INDEX] + rows] - program.index[row[E_INDEX]])
        return targets * (bits + 16) + (rows + 1) * 32
    low = max(box[0] - row[E_CO0], 0)
    if row[E_MAP] == M_CONV:
        groups = {(c - row[E_CO0]) // row[E_COG] for c in range(box[0], box[1]) if 0 <= c - row[E_CO0] < source[0] // row[E_CIG] * row[E_COG]}
        return len(groups) * row[E_CIG] * row[E_KH] * row[E_KW] * row[E_WIDTH] * bits
    if row[E_MAP] == M_MIX:
        high = min(box[1] - row[E_CO0], source[0])
        return len({c // row[E_CIG] for c in range(low, high)}) * row[E_KH] * row[E_WIDTH] * bits
    return (int(np.prod(source)) if row[E_MAP] != M_POOL else 1) * row[E_WIDTH] * bits


def _check_banks(program: Program) -> None:
    most = program.chip.capabilities.banks
    for q in range(program.slices):
        banks = int(program.slice_rule[q, R_BANKS])
        if program.sync == "free":
            if banks != 1:
                _fail(f"slice {q} has {banks} banks in the free discipline, which has none (1)")
            continue
        delays = program.entry[program.entry[:, E_REGION] == q, E_DELAY]
        least = 1 + int(delays.max(initial=0)) if program.sync == "wavefront" else 2  # barrier: by chip delays, in audit_offsets
        if not least <= banks <= most:
            _fail(f"slice {q} has {banks} banks, its delays need {least} and the chip has {most}")


def _check_overflow(program: Program, graph: Graph) -> None:
    """No bank can leave ``acc_bits`` even if every source fires: positive and negative contributions summed apart, per neuron."""
    limit = 2.0 ** (program.chip.arithmetic.acc_bits - 1)
    host = 2.0 ** (program.chip.arithmetic.current_bits - 1)
    least, most = _pixels(program)
    for population in graph.populations:
        if population.host or population.kind not in ("spiking", "readout"):
            continue
        high, low, current = np.zeros(population.shape), np.zeros(population.shape), np.zeros(population.shape)
        for projection in graph.into(population.name):
            source = graph.population(projection.source)
            plus, minus = (_sums(projection, source.shape, sign) for sign in (1.0, -1.0))
            into = slice(projection.channel_offset, projection.channel_offset + plus.shape[0])
            if source.kind == "analog":
                span = np.maximum(plus * most - minus * least, minus * most - plus * least)
                current[into] += span * 2.0 ** (projection.shift - projection.fraction_bits) + 1
            else:
                high[into] += plus * 2.0**projection.shift
                low[into] += minus * 2.0**projection.shift
        if any(graph.population(p.source).kind == "analog" for p in graph.into(population.name)):
            high, low = high + np.minimum(current, host), low + np.minimum(current, host)
        worst = max(float(high.max()), float(low.max()) - 1)
        if worst > limit - 1:
            _fail(f"a bank of population {population.name} can reach {worst:.0f}, {program.chip.arithmetic.acc_bits} bits hold {limit - 1:.0f}")


def _pixels(program: Program) -> tuple[float, float]:
    """Least (at most 0) and greatest pixel of an image input; bytes where the contract says nothing."""
    contract: dict[str, Any] = program.meta.get("input") or {}
    info = np.iinfo(contract.get("dtype", "uint8"))
    return float(min(0, info.min)), float(info.max)


def _sums(projection: Projection, source: Shape, sign: float) -> F64:
    """Sum of the weights of one sign into every neuron of the map's output, as a magnitude."""
    linear = projection.map
    shape = linear.out_shape(source)
    part = np.maximum(sign * np.asarray(linear.weight, np.float64), 0)
    if isinstance(linear, Conv2d | SumPool):
        kernel = part.sum(axis=1) if isinstance(linear, Conv2d) else np.broadcast_to(part[:, None, None], (len(part), *linear.kernel))
        dilation = linear.dilation if isinstance(linear, Conv2d) else (1, 1)
        inside = []
        for k in range(2):
            tap = np.arange(shape[1 + k])[:, None] * linear.stride[k] - linear.padding[k] + np.arange(kernel.shape[1 + k]) * dilation[k]
            inside.append(((tap >= 0) & (tap < source[1 + k])).astype(np.float64))
        total = np.einsum("okl,yk,xl->oyx", kernel, inside[0], inside[1], optimize=True)
    elif isinstance(linear, Dense):
        total = part.sum(axis=1).reshape(shape)
    elif isinstance(linear, TokenMix):
        total = np.repeat(part.sum(axis=2).reshape(-1, shape[1], shape[2]), shape[0] // len(part), axis=0)
    else:
        total = np.bincount(linear.targets, weights=part, minlength=int(np.prod(shape))).reshape(shape)
    return np.asarray(total)


def _fan_in(graph: Graph) -> dict[str, int]:
    """Most synapses into one neuron of every population on the chip; taps in the padding are none."""
    result = {}
    for population in graph.populations:
        if population.host or population.kind not in ("spiking", "readout"):
            continue
        count = np.zeros(population.shape)
        for projection in graph.into(population.name):
            source = graph.population(projection.source)
            if source.kind != "analog":
                ones = replace(projection.map, weight=np.ones(projection.map.weight.shape))
                into = _sums(replace(projection, map=ones), source.shape, 1.0)
                count[projection.channel_offset : projection.channel_offset + len(into)] += into
        result[population.name] = int(count.max(initial=0))
    return result
