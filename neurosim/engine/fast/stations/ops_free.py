"""Extra ops in ``free`` (docs/machine.md, section 12): operands have cells of their own, and a synapse into one acts at once. Called out of line."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.arithmetic import MOST, add, fires, product
from neurosim.engine.fast.base.compiled import apart, jit, part, stay_apart
from neurosim.engine.fast.base.simd import wide
from neurosim.engine.fast.stations.ops import reached, walk, weight_at
from neurosim.engine.fast.stations.synapses import lift
from neurosim.engine.fast.tables.columns import *
from neurosim.engine.fast.tables.maps import Y_ACT, Y_SLICE
from neurosim.program import OP_GATE, OP_OR

A = NDArray[Any]


@jit
def membrane(par: A, v: A, v32: A, m: int) -> int:
    """Membrane of a neuron, in whatever width it is kept."""
    return wide(v32[m]) if par[P_SMALL] != 0 else v[m]


@jit
def set_membrane(par: A, v: A, v32: A, m: int, value: int) -> None:
    """Keep the membrane of a neuron."""
    if par[P_SMALL] != 0:
        v32[m] = value
    else:
        v[m] = value


@jit
def within(par: A, x: int, change: int) -> int:
    """A cell of ``free`` after a change: it saturates at +-(2**(acc_bits - 1) - 1)."""
    top = np.int64(MOST) >> par[P_WRAP]
    new, _ = add(x, change, -top, top)
    return new


@part
def fire_once(sl: A, buf: A, q: int, local: int, nominal: int, at: int) -> int:
    """One spike among the results of a service; returns the next place."""
    buf[at, U_SLICE] = q
    buf[at, U_ADDRESS] = local
    buf[at, U_NOMINAL] = nominal
    buf[at, U_COUNT] = 1
    buf[at, U_VALUE] = 1
    return at + 1


@jit
def is_open(op: A, cell: A, q: int, place: int) -> bool:
    """Whether the group of a gate whose mask cell lies at ``place`` of ``cell`` lets spikes pass."""
    return (cell[place] >= op[q, Q_COUNT]) != (op[q, Q_INVERTED] != 0)


@apart
def pass_on(
    par: A, sl: A, op: A, ox: A, cell: A, v: A, v32: A, thr: A, cc: A, buf: A, q: int, local: int, contribution: int, nominal: int, at: int
) -> int:
    """A contribution to a neuron's own cell of or_pool or gate; returns the next place in ``buf``."""
    stay_apart()
    m = sl[q, S_NEURON] + local
    old = membrane(par, v, v32, m)
    new, clipped = add(old, contribution, par[P_LOW], par[P_HIGH])
    cc[sl[q, S_CORE], N_SATURATIONS] += clipped
    ripe = fires(new, thr[m], sl[q, S_STRICT])
    if sl[q, S_OP] == OP_OR:
        if ripe and not fires(old, thr[m], sl[q, S_STRICT]):
            at = fire_once(sl, buf, q, local, nominal, at)
    elif ripe and is_open(op, cell, q, op[q, Q_CELL] + op[q, Q_OPERAND] + ox[ox[op[q, Q_READS] + local]]):
        new = 0
        at = fire_once(sl, buf, q, local, nominal, at)
    set_membrane(par, v, v32, m, new)
    return at


@jit
def unmask(
    par: A, sl: A, op: A, ox: A, cell: A, v: A, v32: A, thr: A, buf: A, q: int, group: int, contribution: int, nominal: int, at: int
) -> int:  # fmt: skip
    """A contribution to the mask of a group: if that opens it, what waits there fires. Returns the next place in ``buf``."""
    place = op[q, Q_CELL] + op[q, Q_OPERAND] + group
    before = is_open(op, cell, q, place)
    cell[place] = within(par, cell[place], contribution)
    if before or not is_open(op, cell, q, place):
        return at
    for k in range(ox[op[q, Q_READERS] + group], ox[op[q, Q_READERS] + group + 1]):
        m = sl[q, S_NEURON] + ox[k]
        if fires(membrane(par, v, v32, m), thr[m], sl[q, S_STRICT]):
            set_membrane(par, v, v32, m, 0)
            at = fire_once(sl, buf, q, ox[k], nominal, at)
    return at


@jit
def fire_time(par: A, served: int) -> int:
    """Nominal time of a fire of the synapse after ``served`` others of its packet."""
    return par[P_DECODE] + (served // par[P_LANES] + 1) * par[P_SYNOP] + par[P_FIRE]


@jit
def lift_any(
    par: A, sl: A, v: A, v32: A, tlast: A, thr: A, flo: A, rby: A, cc: A, buf: A, q: int, local: int, contribution: int, period: int, nominal: int,
    at: int,
) -> int:  # fmt: skip
    """``lift`` on membranes of either width."""
    if par[P_SMALL] != 0:
        return lift(par, sl, v32, tlast, thr, flo, rby, cc, buf, q, local, contribution, period, nominal, at)
    return lift(par, sl, v, tlast, thr, flo, rby, cc, buf, q, local, contribution, period, nominal, at)


@jit
def window_change(
    par: A, sl: A, op: A, ox: A, cell: A, v: A, v32: A, tlast: A, thr: A, flo: A, rby: A, cc: A, buf: A, q: int, local: int, contribution: int,
    period: int, served: int, at: int,
) -> tuple[int, int]:  # fmt: skip
    """A contribution to a cell of a max_pool's source map: every neuron that reads it gets the change of its largest word."""
    base = op[q, Q_CELL] + op[q, Q_OPERAND]
    old = cell[base + local]
    new = within(par, old, contribution)
    cell[base + local] = new
    reader = op[q, Q_READERS] + local
    for k in range(ox[reader], ox[reader + 1]):
        words = op[q, Q_READS] + ox[k]
        rest = -MOST
        for j in range(ox[words], ox[words + 1]):
            if ox[j] != local:
                rest = max(rest, cell[base + ox[j]])
        change = max(rest, new) - max(rest, old)  # no more than the contribution
        if change != 0:
            at = lift_any(par, sl, v, v32, tlast, thr, flo, rby, cc, buf, q, ox[k], change, period, fire_time(par, served), at)
        cc[sl[q, S_CORE], N_OP_READS] += ox[words + 1] - ox[words]
        served += 1
    return (served if ox[reader] < ox[reader + 1] else served + 1), at


@jit
def pair_up(par: A, sl: A, op: A, cell: A, cc: A, q: int, act: int, local: int, contribution: int) -> int:
    """A contribution to k or v of a coincidence; returns the increments of the table that it makes."""
    base, channels, d = op[q, Q_CELL], op[q, Q_CHANNELS], op[q, Q_HEAD]
    keys = act == ACT_K
    own, other = (op[q, Q_K], op[q, Q_V]) if keys else (op[q, Q_V], op[q, Q_K])
    cell[base + own + local] = within(par, cell[base + own + local], contribution)
    if contribution == 0:
        return 0
    channel, pairs = local % channels, 0
    a = channel % d
    for b in range(d):
        held = cell[base + other + local - a + b]
        if held != 0:
            row, column = (a, b) if keys else (b, a)
            place = base + op[q, Q_TABLE] + (channel - a + row) * d + column
            cell[place] = within(par, cell[place], product(contribution, held))
            pairs += 1
    cc[sl[q, S_CORE], N_PAIRS] += pairs
    return pairs


@jit
def ask(
    par: A, sl: A, op: A, cell: A, v: A, v32: A, tlast: A, thr: A, flo: A, rby: A, cc: A, buf: A, q: int, local: int, contribution: int, period: int,
    served: int, at: int,
) -> tuple[int, int]:  # fmt: skip
    """A contribution to q of a coincidence: a row of the table reaches the neurons of its token and head."""
    base, d = op[q, Q_CELL], op[q, Q_HEAD]
    place = base + op[q, Q_Q] + local
    cell[place] = within(par, cell[place], contribution)
    served += 1
    if contribution == 0:
        return served, at
    channel = local % op[q, Q_CHANNELS]
    row, into = base + op[q, Q_TABLE] + channel * d, local - channel % d
    for b in range(d):
        lifted = product(product(contribution, cell[row + b]), 1 << op[q, Q_SHIFT])
        at = lift_any(par, sl, v, v32, tlast, thr, flo, rby, cc, buf, q, into + b, lifted, period, fire_time(par, served), at)
        served += 1
    cc[sl[q, S_CORE], N_OP_READS] += d
    return served, at


@apart
def integrate_cells(
    par: A, sl: A, op: A, ox: A, cell: A, v: A, v32: A, tlast: A, thr: A, flo: A, rby: A, cc: A, buf: A, en: A, axis: A, index: A, w8: A, w32: A,
    e: int, c: int, y: int, x: int, factor: int, period: int, served: int, at: int,
) -> tuple[int, int]:  # fmt: skip
    """Serve entry ``e`` into cells that act; returns (synapses served by the packet, next place in ``buf``)."""
    stay_apart()
    q, act = en[e, Y_SLICE], en[e, Y_ACT]
    number, run, columns, target, weight = walk(en, axis, index, e, c, y, x)
    for k in range(number):
        local, place = reached(en, index, e, run, columns, target, weight, k)
        value = weight_at(par, w8, w32, place)
        if value == 0 and par[P_SKIP] != 0:
            continue
        value = product(value, factor)
        if act == ACT_WINDOW:
            served, at = window_change(par, sl, op, ox, cell, v, v32, tlast, thr, flo, rby, cc, buf, q, local, value, period, served, at)
        elif act == ACT_Q:
            served, at = ask(par, sl, op, cell, v, v32, tlast, thr, flo, rby, cc, buf, q, local, value, period, served, at)
        elif act in (ACT_K, ACT_V):
            served += 1 + pair_up(par, sl, op, cell, cc, q, act, local, value)
        elif act == ACT_MASK:
            at = unmask(par, sl, op, ox, cell, v, v32, thr, buf, q, local, value, fire_time(par, served), at)
            served += 1
        else:
            at = pass_on(par, sl, op, ox, cell, v, v32, thr, cc, buf, q, local, value, fire_time(par, served), at)
            served += 1
    return served, at


@apart
def forget(par: A, sl: A, op: A, cell: A, v: A, v32: A, rt: A, en: A, route: int, time: int) -> None:
    """A packet of ``route`` is served from ``time`` on: ops that it reaches, and whose op_window has changed, begin anew."""
    stay_apart()
    period = time // par[P_OP_WINDOW]
    for e in range(rt[route, T_ENTRY], rt[route, T_ENTRY_END]):
        q = en[e, Y_SLICE]
        kind = sl[q, S_OP]
        if kind == 0 or sl[q, S_PERIOD] == period:
            continue
        sl[q, S_PERIOD] = period
        if kind != OP_GATE or op[q, Q_LATCHED] == 0:
            for place in range(op[q, Q_CELL] + sl[q, S_SIZE], op[q, Q_CELL] + sl[q, S_CELLS]):
                cell[place] = 0
        if kind in (OP_OR, OP_GATE):
            for m in range(sl[q, S_NEURON], sl[q, S_NEURON] + sl[q, S_SIZE]):
                set_membrane(par, v, v32, m, 0)
