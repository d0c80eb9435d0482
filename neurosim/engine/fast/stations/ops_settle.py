"""Extra ops in settle (docs/machine.md, section 13): cells change by signed values, and outputs follow. Called out of line."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from neurosim.arithmetic import MOST
from neurosim.engine.fast.base.compiled import apart, jit, stay_apart
from neurosim.engine.fast.stations.differences import change, consider, wrapped
from neurosim.engine.fast.stations.ops import reached, walk, weight_at
from neurosim.engine.fast.stations.ops_free import is_open
from neurosim.engine.fast.tables.columns import *
from neurosim.engine.fast.tables.maps import Y_ACT, Y_SLICE

A = NDArray[Any]


@jit
def mask_change(
    par: A, sl: A, op: A, ox: A, cell: A, v: A, v32: A, thr: A, lo: A, hi: A, lo32: A, hi32: A, told: A, due: A, dl: A, dc: A, q: int, group: int,
    contribution: int,
) -> None:  # fmt: skip
    """A contribution to the mask of a group: if that opens or closes it, all its neurons are tested."""
    place = op[q, Q_CELL] + op[q, Q_OPERAND] + group
    before = is_open(op, cell, q, place)
    cell[place] = wrapped(par, cell[place] + contribution)
    if is_open(op, cell, q, place) == before:
        return
    for k in range(ox[op[q, Q_READERS] + group], ox[op[q, Q_READERS] + group + 1]):
        consider(par, sl, op, ox, cell, v, v32, thr, lo, hi, lo32, hi32, told, due, dl, dc, q, ox[k])


@jit
def window_change(
    par: A, cc: A, sl: A, op: A, ox: A, cell: A, v: A, v32: A, thr: A, lo: A, hi: A, lo32: A, hi32: A, told: A, due: A, dl: A, dc: A, q: int,
    local: int, contribution: int,
) -> int:  # fmt: skip
    """A contribution to a cell of a max_pool's source map: neurons that read it get the change of their largest word. Returns the synapses served."""
    base = op[q, Q_CELL] + op[q, Q_OPERAND]
    old = cell[base + local]
    new = wrapped(par, old + contribution)
    cell[base + local] = new
    reader = op[q, Q_READERS] + local
    for k in range(ox[reader], ox[reader + 1]):
        words = op[q, Q_READS] + ox[k]
        rest = -MOST
        for j in range(ox[words], ox[words + 1]):
            if ox[j] != local:
                rest = max(rest, cell[base + ox[j]])
        difference = max(rest, new) - max(rest, old)
        if difference != 0:
            change(par, sl, op, ox, cell, v, v32, thr, lo, hi, lo32, hi32, told, due, dl, dc, q, ox[k], difference)
        cc[sl[q, S_CORE], N_OP_READS] += ox[words + 1] - ox[words]
    return max(1, ox[reader + 1] - ox[reader])


@jit
def pair_change(
    par: A, cc: A, sl: A, op: A, ox: A, cell: A, v: A, v32: A, thr: A, lo: A, hi: A, lo32: A, hi32: A, told: A, due: A, dl: A, dc: A, q: int,
    act: int, local: int, contribution: int,
) -> int:  # fmt: skip
    """A contribution to k or v of a coincidence: entries of the table, and after each what every q has read there. Returns the synapses served."""
    base, channels, d, served = op[q, Q_CELL], op[q, Q_CHANNELS], op[q, Q_HEAD], 1
    keys = act == ACT_K
    own, other = (op[q, Q_K], op[q, Q_V]) if keys else (op[q, Q_V], op[q, Q_K])
    cell[base + own + local] = wrapped(par, cell[base + own + local] + contribution)
    if contribution == 0:
        return served
    channel = local % channels
    here = channel % d
    head, tokens = channel - here, sl[q, S_SIZE] // channels
    for there in range(d):
        held = cell[base + other + local - here + there]
        if held == 0:
            continue
        a, b = (here, there) if keys else (there, here)
        place = base + op[q, Q_TABLE] + (head + a) * d + b
        increment = contribution * held
        cell[place] = wrapped(par, cell[place] + increment)
        cc[sl[q, S_CORE], N_PAIRS] += 1
        served += 1
        for i in range(tokens):
            asked = cell[base + op[q, Q_Q] + i * channels + head + a]
            if asked != 0:
                cc[sl[q, S_CORE], N_OP_READS] += 1
                served += 1
                lifted = (asked * increment) << op[q, Q_SHIFT]
                change(par, sl, op, ox, cell, v, v32, thr, lo, hi, lo32, hi32, told, due, dl, dc, q, i * channels + head + b, lifted)
    return served


@jit
def ask_change(
    par: A, cc: A, sl: A, op: A, ox: A, cell: A, v: A, v32: A, thr: A, lo: A, hi: A, lo32: A, hi32: A, told: A, due: A, dl: A, dc: A, q: int,
    local: int, contribution: int,
) -> int:  # fmt: skip
    """A contribution to q of a coincidence: a row of the table reaches the neurons of its token and head. Returns the synapses served."""
    base, d = op[q, Q_CELL], op[q, Q_HEAD]
    place = base + op[q, Q_Q] + local
    cell[place] = wrapped(par, cell[place] + contribution)
    if contribution == 0:
        return 1
    channel = local % op[q, Q_CHANNELS]
    row, into = base + op[q, Q_TABLE] + channel * d, local - channel % d
    for b in range(d):
        lifted = (contribution * cell[row + b]) << op[q, Q_SHIFT]
        change(par, sl, op, ox, cell, v, v32, thr, lo, hi, lo32, hi32, told, due, dl, dc, q, into + b, lifted)
    cc[sl[q, S_CORE], N_OP_READS] += d
    return d + 1


@apart
def spread_cells(
    par: A, cc: A, sl: A, op: A, ox: A, cell: A, v: A, v32: A, thr: A, lo: A, hi: A, lo32: A, hi32: A, told: A, due: A, dl: A, dc: A, en: A,
    axis: A, index: A, w8: A, w32: A, e: int, c: int, y: int, x: int, factor: int,
) -> int:  # fmt: skip
    """Serve entry ``e`` into cells that act; returns the synapses served."""
    stay_apart()
    q, act = en[e, Y_SLICE], en[e, Y_ACT]
    number, run, columns, target, weight = walk(en, axis, index, e, c, y, x)
    served = 0
    for k in range(number):
        local, place = reached(en, index, e, run, columns, target, weight, k)
        value = weight_at(par, w8, w32, place)
        if value == 0 and par[P_SKIP] != 0:
            continue
        value *= factor
        if act == ACT_WINDOW:
            served += window_change(par, cc, sl, op, ox, cell, v, v32, thr, lo, hi, lo32, hi32, told, due, dl, dc, q, local, value)
        elif act == ACT_Q:
            served += ask_change(par, cc, sl, op, ox, cell, v, v32, thr, lo, hi, lo32, hi32, told, due, dl, dc, q, local, value)
        elif act in (ACT_K, ACT_V):
            served += pair_change(par, cc, sl, op, ox, cell, v, v32, thr, lo, hi, lo32, hi32, told, due, dl, dc, q, act, local, value)
        elif act == ACT_MASK:
            mask_change(par, sl, op, ox, cell, v, v32, thr, lo, hi, lo32, hi32, told, due, dl, dc, q, local, value)
            served += 1
        else:
            change(par, sl, op, ox, cell, v, v32, thr, lo, hi, lo32, hi32, told, due, dl, dc, q, local, value)
            served += 1
    return served
