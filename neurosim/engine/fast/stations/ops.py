"""Extra ops on chips with steps (docs/machine.md, section 12). Called out of line; networks without ops never come here.

The cells lie in the banks, where most synapses add as ever. What is new is the table of pairs (``accumulate_pairs``) and the input of every neuron
(``op_inputs``).
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from neurosim.arithmetic import MOST
from neurosim.engine.fast.base.compiled import apart, jit, part, stay_apart
from neurosim.engine.fast.base.simd import wide
from neurosim.engine.fast.stations.synapses import TOUCHED
from neurosim.engine.fast.tables.columns import *
from neurosim.engine.fast.tables.maps import (
    A_NUMBER,
    A_TARGET,
    A_WEIGHT,
    Y_ACT,
    Y_CHANNEL,
    Y_COL_T,
    Y_COL_W,
    Y_COLUMN,
    Y_INDEX,
    Y_ROW,
    Y_ROW_T,
    Y_ROW_W,
    Y_SLICE,
    Y_SPARSE,
    Y_WEIGHT,
)
from neurosim.program import OP_COINCIDENCE, OP_GATE, OP_MAX

A = NDArray[Any]


@part
def walk(en: A, axis: A, index: A, e: int, c: int, y: int, x: int) -> tuple[int, int, int, int, int]:
    """(synapses, run, columns, first target, first weight) of entry ``e`` for the source's local (c, y, x); a sparse map is one run."""
    channel, row, column = en[e, Y_CHANNEL] + c, en[e, Y_ROW] + y, en[e, Y_COLUMN] + x
    weight = axis[channel, A_WEIGHT] + axis[row, A_WEIGHT] + axis[column, A_WEIGHT]
    if en[e, Y_SPARSE] != 0:
        pointer = en[e, Y_INDEX] + weight
        first = wide(index[pointer])
        count = wide(index[pointer + 1]) - first
        return count, count, 1, first, en[e, Y_WEIGHT] + first
    count, columns = axis[channel, A_NUMBER], axis[column, A_NUMBER]
    target = axis[channel, A_TARGET] + axis[row, A_TARGET] + axis[column, A_TARGET]
    return count * axis[row, A_NUMBER] * columns, count, columns, target, en[e, Y_WEIGHT] + weight


@part
def reached(en: A, index: A, e: int, run: int, columns: int, target: int, weight: int, k: int) -> tuple[int, int]:
    """(local target, place of the weight) of synapse ``k`` of a walk."""
    if en[e, Y_SPARSE] != 0:
        return wide(index[target + k]), weight + k
    line = k // run
    j, row = k - line * run, line // columns
    column = line - row * columns
    return target + row * en[e, Y_ROW_T] + column * en[e, Y_COL_T] + j, weight + row * en[e, Y_ROW_W] + column * en[e, Y_COL_W] + j


@jit
def weight_at(par: A, w8: A, w32: A, place: int) -> int:
    """A weight of any width."""
    return wide(w8[place]) if par[P_SMALL] != 0 else wide(w32[place])


@jit
def cell_value(par: A, acc32: A, acc64: A, at: int) -> int:
    """The number in a cell of a bank, which wraps around in acc_bits."""
    raw = wide(acc32[at]) if par[P_SMALL] != 0 else acc64[at]
    return (raw << par[P_WRAP]) >> par[P_WRAP]


@jit
def was_touched(par: A, acc32: A, touched: A, at: int) -> bool:
    """Whether a synapse or current has come to a cell."""
    return bool(acc32[at] < 0) if par[P_SMALL] != 0 else bool(touched[at] != 0)


@jit
def add_to(par: A, acc32: A, acc64: A, touched: A, at: int, value: int) -> None:
    """Add to a cell, which is touched thereby."""
    if par[P_SMALL] != 0:
        acc32[at] = (acc32[at] + value) | TOUCHED
    else:
        acc64[at] += value
        touched[at] = 1


@apart
def accumulate_pairs(
    par: A, cc: A, sl: A, op: A, en: A, axis: A, index: A, w8: A, w32: A, acc32: A, acc64: A, touched: A, e: int, c: int, y: int, x: int, at: int,
    factor: int, add: bool,
) -> int:  # fmt: skip
    """Entry ``e`` into k or v of a coincidence, whose cells begin at ``at``: registers and increments of the table. Returns the synapses served."""
    stay_apart()
    q = en[e, Y_SLICE]
    channels, d = op[q, Q_CHANNELS], op[q, Q_HEAD]
    keys = en[e, Y_ACT] == ACT_K
    bank = at - (op[q, Q_K] if keys else op[q, Q_V])
    other = bank + (op[q, Q_V] if keys else op[q, Q_K])
    number, run, columns, target, weight = walk(en, axis, index, e, c, y, x)
    served, pairs = 0, 0
    for k in range(number):
        local, place = reached(en, index, e, run, columns, target, weight, k)
        value = weight_at(par, w8, w32, place)
        if value == 0 and par[P_SKIP] != 0:
            continue
        served += 1
        if not add:
            continue
        value *= factor
        add_to(par, acc32, acc64, touched, at + local, value)
        if value == 0:
            continue
        channel = local % channels
        a = channel % d
        head = channel - a
        entry, step = (bank + op[q, Q_TABLE] + channel * d, 1) if keys else (bank + op[q, Q_TABLE] + head * d + a, d)
        partner = other + local - a
        for b in range(d):
            held = cell_value(par, acc32, acc64, partner + b)
            if held != 0:
                add_to(par, acc32, acc64, touched, entry + b * step, value * held)
                pairs += 1
    cc[sl[q, S_CORE], N_PAIRS] += pairs
    return served + pairs


@jit
def gate_inputs(par: A, sl: A, op: A, ox: A, cell: A, acc32: A, acc64: A, touched: A, p: int, first: int, fresh: bool) -> tuple[int, int]:
    """Inputs of a gate's neurons into their own cells; (duration, words read)."""
    words = 0
    for g in range(op[p, Q_OPERAND], op[p, Q_OPERAND] + op[p, Q_NUMBER]):
        total = cell_value(par, acc32, acc64, first + g)
        if op[p, Q_LATCHED] != 0:
            kept = op[p, Q_CELL] + g
            if not fresh:
                total += cell[kept]
            total = (total << par[P_WRAP]) >> par[P_WRAP]
            cell[kept] = total
        shut = (total >= op[p, Q_COUNT]) == (op[p, Q_INVERTED] != 0)
        reader = op[p, Q_READERS] + g - op[p, Q_OPERAND]
        read = 0
        for k in range(ox[reader], ox[reader + 1]):
            at = first + ox[k]
            if was_touched(par, acc32, touched, at):
                read = 1
                if shut:
                    add_to(par, acc32, acc64, touched, at, -cell_value(par, acc32, acc64, at))
        words += read
    return words * par[P_SYNOP], words


@jit
def max_inputs(par: A, sl: A, op: A, ox: A, acc32: A, acc64: A, touched: A, p: int, first: int) -> tuple[int, int]:
    """Inputs of a max_pool's neurons into their own cells; (duration, words read)."""
    late, words = 0, 0
    window = first + op[p, Q_OPERAND]
    for j in range(sl[p, S_SIZE]):
        begin, end = ox[op[p, Q_READS] + j], ox[op[p, Q_READS] + j + 1]
        found, largest = was_touched(par, acc32, touched, first + j), -MOST
        for k in range(begin, end):
            at = window + ox[k]
            found |= was_touched(par, acc32, touched, at)
            largest = max(largest, cell_value(par, acc32, acc64, at))
        if found:
            words += end - begin
            late += (end - begin + par[P_LANES] - 1) // par[P_LANES] * par[P_SYNOP]
            add_to(par, acc32, acc64, touched, first + j, largest if end > begin else 0)
    return late, words


@jit
def coincidence_inputs(par: A, sl: A, op: A, acc32: A, acc64: A, touched: A, p: int, first: int) -> tuple[int, int]:
    """Inputs of a coincidence's neurons into their own cells; (duration, words read)."""
    rows, channels, d = 0, op[p, Q_CHANNELS], op[p, Q_HEAD]
    for j in range(sl[p, S_SIZE]):
        query = cell_value(par, acc32, acc64, first + op[p, Q_Q] + j)
        if query == 0:
            continue
        factor = query << op[p, Q_SHIFT]
        rows += 1
        channel = j % channels
        entry, into = first + op[p, Q_TABLE] + channel * d, first + j - channel % d
        for b in range(d):
            add_to(par, acc32, acc64, touched, into + b, factor * cell_value(par, acc32, acc64, entry + b))
    return rows * ((d + par[P_LANES] - 1) // par[P_LANES]) * par[P_SYNOP], rows * d


@apart
def op_inputs(par: A, sl: A, op: A, ox: A, cell: A, acc32: A, acc64: A, touched: A, p: int, first: int, fresh: bool) -> tuple[int, int]:
    """Make the inputs of slice ``p``, whose bank begins at ``first``, in its neurons' own cells and clear all others; (duration, words read)."""
    stay_apart()
    late, words = 0, 0
    if sl[p, S_OP] == OP_GATE:
        late, words = gate_inputs(par, sl, op, ox, cell, acc32, acc64, touched, p, first, fresh)
    elif sl[p, S_OP] == OP_MAX:
        late, words = max_inputs(par, sl, op, ox, acc32, acc64, touched, p, first)
    elif sl[p, S_OP] == OP_COINCIDENCE:
        late, words = coincidence_inputs(par, sl, op, acc32, acc64, touched, p, first)
    for at in range(first + sl[p, S_SIZE], first + sl[p, S_CELLS]):
        if par[P_SMALL] != 0:
            acc32[at] = 0
        else:
            acc64[at] = 0
            touched[at] = 0
    return late, words
