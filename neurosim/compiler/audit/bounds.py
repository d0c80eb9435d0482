"""Audit: no cell of a bank can overflow, whatever spikes arrive, and no input that an op makes of its cells can.

Positive and negative contributions are summed apart, per cell, each source neuron with the largest value that its spikes can have. Registers of
spikes hold REGISTER_BITS. The stepped disciplines have such a proof; in free, cells saturate. Settle has it too, and one of its membranes, which are
never clipped: bias and start beside all positive contributions, and beside all negative ones, whatever came first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.compiler.audit.rest import start_of
from neurosim.errors import AuditError
from neurosim.graph import Conv2d, Dense, Graph, Population, Projection, Shape, SumPool, TokenMix
from neurosim.ops import REGISTER_BITS, Coincidence, Gate, MaxPool, OrPool, coincide, windows
from neurosim.program import Program

F64 = NDArray[np.float64]


def _fail(message: str) -> None:
    raise AuditError(f"audit: {message}; this is a defect of neurosim, please report it")


def check_overflow(program: Program, graph: Graph) -> None:
    """Raise AuditError for the first population of which a cell, a sum or an input can leave its bits."""
    bits = program.chip.arithmetic.acc_bits
    for population in graph.populations:
        if population.host or population.kind not in ("spiking", "readout"):
            continue
        high, low = _cells(program, graph, population)
        registers = {"k", "v", "q"} if isinstance(population.op, Coincidence) else {""} if isinstance(population.op, OrPool | Gate) else set()
        for operand in high:
            width = REGISTER_BITS + 1 if operand in registers else bits
            _check(population, f"a bank{f' ({operand})' if operand else ''}", high[operand], low[operand], width)
        for what, most, least in _sums(graph, population, high, low):
            _check(population, what, most, least, bits)
        if program.sync == "settle":
            _check_membranes(program, population, high, low, _sums(graph, population, high, low))


def _check_membranes(program: Program, population: Population, high: dict[str, F64], low: dict[str, F64], sums: list[tuple[str, F64, F64]]) -> None:
    """Membranes within ``acc_bits``; with a synaptic current the input alone within ``state_bits``, for settle clips once and steps clip twice."""
    most, least = next(((up, down) for what, up, down in sums if what == "an input"), (high[""], low[""]))
    start = np.zeros(population.shape)
    for q in np.flatnonzero(program.slice_population == program.population_index(population.name)).tolist():
        c0, c1, y0, y1, x0, x1 = program.slice_box[q].tolist()
        start[c0:c1, y0:y1, x0:x1] = np.moveaxis(start_of(program, q).reshape(y1 - y0, x1 - x0, c1 - c0), 2, 0)
    _check(population, "a membrane", most + start, least - start, program.chip.arithmetic.acc_bits)
    if population.rule is not None and population.rule.decay_current is not None:
        _check(population, "a synaptic current", most, least, program.chip.arithmetic.state_bits)


def _check(population: Population, what: str, high: F64, low: F64, bits: int) -> None:
    limit = 2.0 ** (bits - 1)
    worst = max(float(high.max(initial=0)), float(low.max(initial=0)) - 1)
    if worst > limit - 1:
        _fail(f"{what} of population {population.name} can reach {worst:.0f}, {bits} bits hold {limit - 1:.0f}")


def _cells(program: Program, graph: Graph, population: Population) -> tuple[dict[str, F64], dict[str, F64]]:
    """(greatest, least as a magnitude) value of every cell in a step, by operand; '' are the neurons' own."""
    host = 2.0 ** (program.chip.arithmetic.current_bits - 1)
    shapes = {"": population.shape, **({} if population.op is None else population.op.operands(population.shape))}
    high, low = ({operand: np.zeros(shape) for operand, shape in shapes.items()} for _ in range(2))
    current = np.zeros(population.shape)
    least, most = _pixels(program)
    for projection in graph.into(population.name):
        source = graph.population(projection.source)
        plus, minus = (sums_of_weights(projection, source.shape, sign) for sign in (1.0, -1.0))
        into = slice(projection.channel_offset, projection.channel_offset + plus.shape[0])
        if source.kind == "analog":
            span = np.maximum(plus * most - minus * least, minus * most - plus * least)
            current[into] += span * 2.0 ** (projection.shift - projection.fraction_bits) + 1
        else:
            unit = _largest_value(program, source) * 2.0**projection.shift
            high[projection.operand][into] += plus * unit
            low[projection.operand][into] += minus * unit
    high[""], low[""] = (side + np.minimum(current, host) for side in (high[""], low[""]))
    return high, low


def _largest_value(program: Program, source: Population) -> int:
    """Largest value of one neuron's spikes in a step: what its rule allows; of an input what the contract lets it have."""
    if source.rule is not None:
        return source.rule.max_spikes
    contract: dict[str, Any] = program.meta.get("input") or {}
    return int(contract.get("most_events", 1))


def _sums(graph: Graph, population: Population, high: dict[str, F64], low: dict[str, F64]) -> list[tuple[str, F64, F64]]:
    """(what, greatest, least) of everything that the op adds up from the cells."""
    match population.op:
        case Gate(latched=True):
            return [("the latched sum", high["mask"] * graph.steps, low["mask"])]
        case MaxPool() as op:
            most = windows(high["window"][None], op, population.shape)[0]
            least = -windows(-low["window"][None], op, population.shape)[0]
            return [("an input", high[""] + most, low[""] + least)]
        case Coincidence() as op:
            c, height, width = population.shape
            heads = (op.heads, c // op.heads, height * width)
            k, v, q = (high[operand][None] for operand in ("k", "v", "q"))
            table = np.einsum("han,hbn->hab", k.reshape(heads), v.reshape(heads))
            most = high[""] + coincide(q, k, v, op.heads)[0] * 2.0**op.shift
            return [("an activity-written synapse", table, np.zeros(1)), ("an input", most, low[""])]
    return []


def _pixels(program: Program) -> tuple[float, float]:
    """Least (at most 0) and greatest pixel of an image input; bytes where the contract says nothing."""
    contract: dict[str, Any] = program.meta.get("input") or {}
    info = np.iinfo(contract.get("dtype", "uint8"))
    return float(min(0, info.min)), float(info.max)


def sums_of_weights(projection: Projection, source: Shape, sign: float) -> F64:
    """Sum of the weights of one sign into every cell of the map's output, as a magnitude."""
    linear = projection.map
    shape = linear.out_shape(source)
    part = np.maximum(sign * np.asarray(linear.weight, np.float64), 0)
    if isinstance(linear, Conv2d | SumPool):
        kernel = part.sum(axis=1) if isinstance(linear, Conv2d) else np.broadcast_to(part[:, None, None], (len(part), *linear.kernel))
        dilation, pool = (linear.dilation, linear.pool) if isinstance(linear, Conv2d) else ((1, 1), None)
        inside = []
        for k in range(2):
            tap = np.arange(shape[1 + k])[:, None] * linear.stride[k] - linear.padding[k] + np.arange(kernel.shape[1 + k]) * dilation[k]
            seen = np.arange(source[1 + k]) if pool is None else pool.axes[k]
            inside.append(np.sum([tap == at for at in seen if at >= 0], axis=0, dtype=np.float64))
        total = np.einsum("okl,yk,xl->oyx", kernel, inside[0], inside[1], optimize=True)
    elif isinstance(linear, Dense):
        total = part.sum(axis=1).reshape(shape)
    elif isinstance(linear, TokenMix):
        total = np.repeat(part.sum(axis=2).reshape(-1, shape[1], shape[2]), shape[0] // len(part), axis=0)
    else:
        total = np.bincount(linear.targets, weights=part, minlength=int(np.prod(shape))).reshape(shape)
    return np.asarray(total)
