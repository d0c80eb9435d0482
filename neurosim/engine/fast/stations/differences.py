"""Settle: synapses into membranes, and which neurons they make due (docs/machine.md, section 13).

Whether an output differs from what was sent is two comparisons: it does not where ``lo`` <= v < ``hi``, the interval of membranes with the output
that was sent; a due neuron's interval is everything. What the comparisons let through is looked at exactly (``consider``).
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from neurosim.arithmetic import fires, saturate, spike_count
from neurosim.engine.fast.base.compiled import apart, jit, part, stay_apart
from neurosim.engine.fast.base.simd import add, choose, load, lowest, mul, reach, shift_left, shift_right, splat, store, wide
from neurosim.engine.fast.stations.ops import reached, walk, weight_at
from neurosim.engine.fast.stations.ops_free import is_open, membrane, set_membrane
from neurosim.engine.fast.stations.synapses import FACTOR_LIMIT
from neurosim.engine.fast.tables.columns import *
from neurosim.engine.fast.tables.columns import LANES
from neurosim.engine.fast.tables.differences import FAR
from neurosim.engine.fast.tables.maps import (
    A_NUMBER,
    A_TARGET,
    A_WEIGHT,
    Y_CHANNEL,
    Y_COL_T,
    Y_COL_W,
    Y_COLUMN,
    Y_MERGED,
    Y_ROW,
    Y_ROW_T,
    Y_ROW_W,
    Y_SPARSE,
    Y_WEIGHT,
)
from neurosim.program import OP_GATE

A = NDArray[Any]


@jit
def wrapped(par: A, x: int) -> int:
    """A word of acc_bits."""
    return (x << par[P_WRAP]) >> par[P_WRAP]


@jit
def output(par: A, sl: A, op: A, ox: A, cell: A, v: A, v32: A, thr: A, q: int, local: int) -> int:
    """n(v) of a neuron that is no readout."""
    if sl[q, S_OP] == OP_GATE and not is_open(op, cell, q, op[q, Q_CELL] + op[q, Q_OPERAND] + ox[ox[op[q, Q_READS] + local]]):
        return 0
    m = sl[q, S_NEURON] + local
    value = saturate(membrane(par, v, v32, m), par[P_LOW], par[P_HIGH])
    if sl[q, S_MOST] == 1:  # a division saved
        return 1 if fires(value, thr[m], sl[q, S_STRICT]) else 0
    return spike_count(value, thr[m], sl[q, S_STRICT], sl[q, S_MOST])


@jit
def set_interval(par: A, lo: A, hi: A, lo32: A, hi32: A, m: int, first: int, end: int) -> None:
    """Keep the membranes of neuron ``m`` with which its output is what was sent; FAR: no end."""
    if par[P_SMALL] != 0:
        lo32[m] = max(first, -(2**31))
        hi32[m] = min(end, 2**31 - 1)
    else:
        lo[m], hi[m] = first, end


@jit
def interval_of(par: A, sl: A, lo: A, hi: A, lo32: A, hi32: A, thr: A, q: int, m: int, n: int) -> None:
    """The interval of output ``n``; of a gate, whose outputs do not follow from the membrane alone, everything."""
    first, end = -FAR, FAR
    if sl[q, S_OP] != OP_GATE:
        strict = sl[q, S_STRICT]
        if n > 0:
            first = n * thr[m] + strict
        if n < sl[q, S_MOST] and (thr[m] <= par[P_HIGH] - strict if n == 0 else thr[m] <= (par[P_HIGH] - strict) // (n + 1)):
            end = (n + 1) * thr[m] + strict
    set_interval(par, lo, hi, lo32, hi32, m, first, end)


@jit
def consider(
    par: A, sl: A, op: A, ox: A, cell: A, v: A, v32: A, thr: A, lo: A, hi: A, lo32: A, hi32: A, told: A, due: A, dl: A, dc: A, q: int, local: int
) -> None:  # fmt: skip
    """The due test: a neuron whose output is not what it sent goes to the end of its core's due list, unless it is in it."""
    m = sl[q, S_NEURON] + local
    if due[m] != 0 or sl[q, S_READOUT] != 0 or output(par, sl, op, ox, cell, v, v32, thr, q, local) == told[m]:
        return
    due[m] = 1
    set_interval(par, lo, hi, lo32, hi32, m, -FAR, FAR)
    core = sl[q, S_CORE]
    place = dc[core, L_HEAD] + dc[core, L_COUNT]
    if place >= dc[core, L_ROOM]:
        place -= dc[core, L_ROOM]
    row = dc[core, L_BASE] + place
    dl[row, D_SLICE], dl[row, D_ADDRESS] = q, local
    dc[core, L_COUNT] += 1


@jit
def change(
    par: A, sl: A, op: A, ox: A, cell: A, v: A, v32: A, thr: A, lo: A, hi: A, lo32: A, hi32: A, told: A, due: A, dl: A, dc: A, q: int, local: int,
    contribution: int,
) -> None:  # fmt: skip
    """One contribution to a neuron's own cell, and its test."""
    m = sl[q, S_NEURON] + local
    set_membrane(par, v, v32, m, wrapped(par, membrane(par, v, v32, m) + contribution))
    consider(par, sl, op, ox, cell, v, v32, thr, lo, hi, lo32, hi32, told, due, dl, dc, q, local)


@part
def sweep(par: A, v32: A, lo32: A, hi32: A, w: A, found: A, m: int, weight: int, count: int, by: Any, hits: int) -> int:
    """``count`` neighbouring neurons from ``m`` get weights * ``by``; ``found`` lists those outside their intervals. Returns how many it has."""
    wrap, j = splat(par[P_WRAP] - 32), 0
    while j < count:
        old = load(v32, m + j)
        new = shift_right(shift_left(add(old, mul(load(w, weight + j), by)), wrap), wrap)
        hit = reach(new, load(hi32, m + j)) | (reach(new, load(lo32, m + j)) ^ ((1 << LANES) - 1))
        if count - j < LANES:
            lanes = (1 << (count - j)) - 1
            new = choose(lanes, new, old)
            hit &= lanes
        store(v32, m + j, new)
        while hit != 0:
            found[hits] = m + j + lowest(hit)
            hit &= hit - 1
            hits += 1
        j += LANES
    return hits


@part
def spread(
    par: A, sl: A, v: A, v32: A, lo: A, hi: A, lo32: A, hi32: A, found: A, en: A, axis: A, index: A, w8: A, w32: A, e: int, c: int, y: int, x: int,
    q: int, factor: int,
) -> tuple[int, int]:  # fmt: skip
    """Serve entry ``e`` into own cells for the source's local (c, y, x): (synapses served, neurons outside their intervals, which ``found`` lists).

    The targets of an entry differ, so they may be tested after all of it.
    """
    channel, row, column = en[e, Y_CHANNEL] + c, en[e, Y_ROW] + y, en[e, Y_COLUMN] + x
    count, rows, columns = axis[channel, A_NUMBER], axis[row, A_NUMBER], axis[column, A_NUMBER]
    if en[e, Y_MERGED] != 0:
        count *= columns
        columns = 1
    if par[P_SMALL] == 0 or par[P_SKIP] != 0 or en[e, Y_SPARSE] != 0 or factor >= FACTOR_LIMIT or factor <= -FACTOR_LIMIT:
        return spread_wide(par, sl, v, v32, lo, hi, lo32, hi32, found, en, axis, index, w8, w32, e, c, y, x, q, factor)
    first = sl[q, S_NEURON] + axis[channel, A_TARGET] + axis[row, A_TARGET] + axis[column, A_TARGET]
    weight = en[e, Y_WEIGHT] + axis[channel, A_WEIGHT] + axis[row, A_WEIGHT] + axis[column, A_WEIGHT]
    row_t, row_w, column_t, column_w = en[e, Y_ROW_T], en[e, Y_ROW_W], en[e, Y_COL_T], en[e, Y_COL_W]
    by, hits = splat(factor), 0
    for r in range(rows):
        m, s = first + r * row_t, weight + r * row_w
        for _ in range(columns):
            if count >= 4:
                hits = sweep(par, v32, lo32, hi32, w8, found, m, s, count, by, hits)
            else:
                for j in range(count):
                    new = wrapped(par, wide(v32[m + j]) + wide(w8[s + j]) * factor)
                    v32[m + j] = new
                    if new >= hi32[m + j] or new < lo32[m + j]:
                        found[hits] = m + j
                        hits += 1
            m += column_t
            s += column_w
    return rows * columns * count, hits


@apart
def spread_wide(
    par: A, sl: A, v: A, v32: A, lo: A, hi: A, lo32: A, hi32: A, found: A, en: A, axis: A, index: A, w8: A, w32: A, e: int, c: int, y: int, x: int,
    q: int, factor: int,
) -> tuple[int, int]:  # fmt: skip
    """``spread`` for membranes, weights and walks of any kind, one synapse at a time."""
    stay_apart()
    number, run, columns, target, weight = walk(en, axis, index, e, c, y, x)
    served, hits, base = 0, 0, sl[q, S_NEURON]
    for k in range(number):
        local, place = reached(en, index, e, run, columns, target, weight, k)
        value = weight_at(par, w8, w32, place)
        if value == 0 and par[P_SKIP] != 0:
            continue
        served += 1
        m = base + local
        new = wrapped(par, membrane(par, v, v32, m) + value * factor)
        set_membrane(par, v, v32, m, new)
        outside = (new >= hi32[m] or new < lo32[m]) if par[P_SMALL] != 0 else (new >= hi[m] or new < lo[m])
        if outside:
            found[hits] = m
            hits += 1
    return served, hits
