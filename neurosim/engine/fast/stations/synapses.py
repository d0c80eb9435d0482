"""The synapses of one spike through one entry (the walks of ``maps.py``), in the order of docs/machine.md: targets ascending, channel last.

``accumulate_*`` add them into a bank (stepped disciplines); ``integrate_*`` lift membranes one synapse after the other (free). Both have a path
of vectors (``simd.py``) for runs that lie together, and a plain one for everything else.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.arithmetic import decay, fires, integrate, product, reset
from neurosim.engine.fast.base.compiled import jit, part, prefetch_item
from neurosim.engine.fast.base.simd import add, choose, differ, either, largest, least, load, lowest, mul, ones, reach, splat, store, wide
from neurosim.engine.fast.tables.columns import *
from neurosim.engine.fast.tables.columns import LANES
from neurosim.engine.fast.tables.maps import (
    A_NUMBER,
    A_TARGET,
    A_WEIGHT,
    Y_CHANNEL,
    Y_COL_T,
    Y_COL_W,
    Y_COLUMN,
    Y_INDEX,
    Y_MERGED,
    Y_ROW,
    Y_ROW_T,
    Y_ROW_W,
    Y_SPARSE,
    Y_WEIGHT,
    Z_FLAT,
    Z_FLOOR,
    Z_THRESHOLD,
)

A = NDArray[Any]

TOUCHED = -(2**31)
"""Bit 31 of a narrow bank: a synapse or current has been here. Sums live in the bits below, which carry over into it but not out of it."""
FACTOR_LIMIT = 1 << 22
"""Below this, a membrane of NARROW_BITS plus an 8-bit weight times the factor fits int32."""


@part
def place_of(so: A, source: int, address: int) -> tuple[int, int, int]:
    """(c, y, x) in its source's box of neuron ``address``. Divided as 32-bit numbers, which takes half the time."""
    channels = np.uint32(so[source, O_C1] - so[source, O_C0])
    columns = np.uint32(so[source, O_X1] - so[source, O_X0])
    local = np.uint32(address)
    pixel = np.uint32(local // channels)
    y = np.uint32(pixel // columns)
    return wide(np.uint32(local - pixel * channels)), wide(y), wide(np.uint32(pixel - y * columns))


@part
def seek(so: A, rt: A, en: A, axis: A, index: A, route: int, source: int, address: int) -> int:
    """The row of pointers of a spike's first entry if that is a sparse map, asked for; else -1. Rows lie anywhere in a large table."""
    e = rt[route, T_ENTRY]
    if e == rt[route, T_ENTRY_END] or en[e, Y_SPARSE] == 0:
        return -1
    c, y, x = place_of(so, source, address)
    weight = axis[en[e, Y_CHANNEL] + c, A_WEIGHT] + axis[en[e, Y_ROW] + y, A_WEIGHT] + axis[en[e, Y_COLUMN] + x, A_WEIGHT]
    pointer = en[e, Y_INDEX] + weight
    prefetch_item(index, pointer)
    return pointer


@part
def expect(pk: A, rt: A, en: A, index: A, w8: A, packet: int) -> None:
    """Ask for the synapses of a packet that is served next."""
    p = pk[packet]
    if p.row >= 0:
        first, end = wide(index[p.row]), wide(index[p.row + 1])
        prefetch_item(index, first)
        prefetch_item(index, end)
        prefetch_item(w8, first + en[rt[p.route, T_ENTRY], Y_WEIGHT])


@part
def add_vectors(bank: A, w: A, target: int, weight: int, count: int, factor: int) -> None:
    """bank[target : target + count] += weights * factor, marked as touched."""
    mark, by = splat(TOUCHED), splat(factor)
    j = 0
    while j + LANES <= count:
        store(bank, target + j, either(add(load(bank, target + j), mul(load(w, weight + j), by)), mark))
        j += LANES
    if j < count:
        old = load(bank, target + j)
        new = either(add(old, mul(load(w, weight + j), by)), mark)
        store(bank, target + j, choose((1 << (count - j)) - 1, new, old))


@part
def accumulate_narrow(en: A, axis: A, index: A, w: A, bank: A, e: int, c: int, y: int, x: int, at: int, factor: int, skip: int, add_: bool) -> int:
    """Add the synapses of entry ``e`` for the source's local (c, y, x) into the int32 bank that begins at ``at``; returns the synapses served."""
    channel, row, column = en[e, Y_CHANNEL] + c, en[e, Y_ROW] + y, en[e, Y_COLUMN] + x
    weight = axis[channel, A_WEIGHT] + axis[row, A_WEIGHT] + axis[column, A_WEIGHT]
    if en[e, Y_SPARSE] != 0:
        pointer = en[e, Y_INDEX] + weight
        first, end = wide(index[pointer]), wide(index[pointer + 1])
        shift = en[e, Y_WEIGHT]
        if skip == 0:
            if add_:
                for k in range(first, end):
                    t = at + index[k]
                    bank[t] = (bank[t] + w[shift + k] * factor) | TOUCHED
            return end - first
        served = 0
        for k in range(first, end):
            if w[shift + k] != 0:
                served += 1
                if add_:
                    t = at + index[k]
                    bank[t] = (bank[t] + w[shift + k] * factor) | TOUCHED
        return served
    count, rows, columns = axis[channel, A_NUMBER], axis[row, A_NUMBER], axis[column, A_NUMBER]
    if skip == 0 and not add_:
        return count * rows * columns
    if en[e, Y_MERGED] != 0:
        count *= columns
        columns = 1
    target = at + axis[channel, A_TARGET] + axis[row, A_TARGET] + axis[column, A_TARGET]
    weight += en[e, Y_WEIGHT]
    row_t, row_w, column_t, column_w = en[e, Y_ROW_T], en[e, Y_ROW_W], en[e, Y_COL_T], en[e, Y_COL_W]  # once: stores might change them
    if skip == 0:
        for r in range(rows):
            t, s = target + r * row_t, weight + r * row_w
            if count == 1:
                for _ in range(columns):
                    bank[t] = (bank[t] + w[s] * factor) | TOUCHED
                    t += column_t
                    s += column_w
                continue
            for _ in range(columns):
                if count >= 4:
                    add_vectors(bank, w, t, s, count, factor)
                else:
                    for j in range(count):
                        bank[t + j] = (bank[t + j] + w[s + j] * factor) | TOUCHED
                t += column_t
                s += column_w
        return rows * columns * count
    served = 0
    for r in range(rows):
        for k in range(columns):
            t, s = target + r * row_t + k * column_t, weight + r * row_w + k * column_w
            for j in range(count):
                if w[s + j] != 0:
                    served += 1
                    if add_:
                        bank[t + j] = (bank[t + j] + w[s + j] * factor) | TOUCHED
    return served


@part
def add_wide(bank: A, touched: A, w: A, target: int, weight: int, count: int, factor: int, skip: int, add_: bool) -> int:
    """``add_vectors`` for int64 banks; returns the synapses served."""
    if skip == 0 and add_:
        into, mark, weights = bank[target : target + count], touched[target : target + count], w[weight : weight + count]
        for j in range(count):
            into[j] += weights[j] * factor
        for j in range(count):
            mark[j] = 1
        return count
    served = 0
    for j in range(count):
        if skip == 0 or w[weight + j] != 0:
            served += 1
            if add_:
                bank[target + j] += wide(w[weight + j]) * factor
                touched[target + j] = 1
    return served


@jit
def accumulate_wide(
    en: A, axis: A, index: A, w: A, bank: A, touched: A, e: int, c: int, y: int, x: int, at: int, factor: int, skip: int, add_: bool
) -> int:
    """``accumulate_narrow`` for int64 banks."""
    channel, row, column = en[e, Y_CHANNEL] + c, en[e, Y_ROW] + y, en[e, Y_COLUMN] + x
    weight = axis[channel, A_WEIGHT] + axis[row, A_WEIGHT] + axis[column, A_WEIGHT]
    served = 0
    if en[e, Y_SPARSE] != 0:
        pointer = en[e, Y_INDEX] + weight
        for k in range(index[pointer], index[pointer + 1]):
            served += add_wide(bank, touched, w, at + index[k], en[e, Y_WEIGHT] + k, 1, factor, skip, add_)
        return served
    count, columns = axis[channel, A_NUMBER], axis[column, A_NUMBER]
    if en[e, Y_MERGED] != 0:
        count *= columns
        columns = 1
    target = at + axis[channel, A_TARGET] + axis[row, A_TARGET] + axis[column, A_TARGET]
    weight += en[e, Y_WEIGHT]
    for r in range(axis[row, A_NUMBER]):
        for k in range(columns):
            t, s = target + r * en[e, Y_ROW_T] + k * en[e, Y_COL_T], weight + r * en[e, Y_ROW_W] + k * en[e, Y_COL_W]
            served += add_wide(bank, touched, w, t, s, count, factor, skip, add_)
    return served


@jit
def leaked(value: int, periods: int, factor: int, rounding: int) -> int:
    """A membrane after so many leak periods; stops when nothing changes any more."""
    for _ in range(periods):
        before = value
        value = decay(value, factor, rounding)
        if value == before:
            break
    return value


@part
def fire_at(par: A, sl: A, rby: A, v: A, thr: A, buf: A, q: int, m: int, value: int, nominal: int, at: int) -> int:
    """Neuron ``m`` of slice ``q``, over its threshold with membrane ``value``: fires, resets. Returns the next place in ``buf``."""
    count = 0
    while count < par[P_SPIKES_PER_UPDATE] and fires(value, thr[m], sl[q, S_STRICT]):
        value = reset(value, sl[q, S_RESET], rby[m])
        count += 1
    v[m] = value
    buf[at, U_SLICE] = q
    buf[at, U_ADDRESS] = m - sl[q, S_NEURON]
    buf[at, U_NOMINAL] = nominal
    buf[at, U_COUNT] = count
    buf[at, U_VALUE] = 1
    return at + 1


@jit
def lift(
    par: A, sl: A, v: A, tlast: A, thr: A, flo: A, rby: A, cc: A, buf: A, q: int, local: int, contribution: int, period: int, nominal: int, at: int
) -> int:
    """Free: one contribution to neuron ``local`` of slice ``q``: leak, integrate, test, reset. Returns the next place in ``buf``.

    ``period`` is the number of whole leak periods before the service; ``tlast`` holds that of the last touch.
    """
    m = sl[q, S_NEURON] + local
    value = wide(v[m])
    if sl[q, S_DECAY_V] != 0:
        value = leaked(value, period - tlast[m], sl[q, S_DECAY_V], par[P_ROUNDING])
        tlast[m] = period
    value, clipped = integrate(value, contribution, flo[m], par[P_LOW], par[P_HIGH])
    if clipped != 0:
        cc[sl[q, S_CORE], N_SATURATIONS] += 1
    v[m] = value
    if sl[q, S_READOUT] == 0 and fires(value, thr[m], sl[q, S_STRICT]):
        at = fire_at(par, sl, rby, v, thr, buf, q, m, value, nominal, at)
    return at


@jit
def leak_run(par: A, sl: A, v: A, tlast: A, q: int, first: int, count: int, period: int) -> None:
    """Leak of a run of neurons up to ``period``; most of the time none is due."""
    last = tlast[first : first + count]
    due = False
    for j in range(count):
        due |= last[j] != period
    if due:
        for j in range(count):
            if last[j] != period:
                v[first + j] = leaked(wide(v[first + j]), period - last[j], sl[q, S_DECAY_V], par[P_ROUNDING])
                last[j] = period


@part
def lifted(old: Any, contribution: Any, floor: Any, bottom: Any, top: Any) -> Any:
    """``arithmetic.integrate`` on vectors: (membranes before the test, mask of saturations)."""
    total = add(old, contribution)
    clipped = least(largest(total, bottom), top)
    return largest(clipped, floor), differ(total, clipped)


@part
def sweep(par: A, flat: A, v: A, high: A, floor32: A, w: A, q: int, m: int, weight: int, count: int, by: Any) -> tuple[int, int]:
    """Free: ``count`` neighbouring neurons from ``m`` get weights * ``by``, saturate and are floored; (whether any fires, saturations).

    ``high`` and ``floor32`` are the tables of thresholds and floors of ``maps.py``.
    """
    bottom, top = splat(par[P_LOW]), splat(par[P_HIGH])
    limit, floor = splat(flat[q, Z_THRESHOLD]), splat(flat[q, Z_FLOOR])
    same = flat[q, Z_FLAT] != 0
    saturated, hits, j = 0, 0, 0
    while j + LANES <= count:
        if not same:
            limit, floor = load(high, m + j), load(floor32, m + j)
        new, over = lifted(load(v, m + j), mul(load(w, weight + j), by), floor, bottom, top)
        store(v, m + j, new)
        saturated += ones(over)
        hits |= reach(new, limit)
        j += LANES
    if j < count:
        if not same:
            limit, floor = load(high, m + j), load(floor32, m + j)
        lanes = (1 << (count - j)) - 1
        old = load(v, m + j)
        new, over = lifted(old, mul(load(w, weight + j), by), floor, bottom, top)
        store(v, m + j, choose(lanes, new, old))
        saturated += ones(over & lanes)
        hits |= reach(new, limit) & lanes
    return hits, saturated


@part
def collect(par: A, sl: A, flat: A, v: A, high: A, thr: A, rby: A, buf: A, q: int, m: int, count: int, served: int, at: int) -> int:
    """Free: the fires among ``count`` neurons just swept, in order. Returns the next place in ``buf``."""
    same = flat[q, Z_FLAT] != 0
    limit, j = splat(flat[q, Z_THRESHOLD]), 0
    while j < count:
        if not same:
            limit = load(high, m + j)
        hit = reach(load(v, m + j), limit)
        if count - j < LANES:
            hit &= (1 << (count - j)) - 1
        while hit != 0:
            k = j + lowest(hit)
            hit &= hit - 1
            nominal = par[P_DECODE] + ((served + k) // par[P_LANES] + 1) * par[P_SYNOP] + par[P_FIRE]
            at = fire_at(par, sl, rby, v, thr, buf, q, m + k, wide(v[m + k]), nominal, at)
        j += LANES
    return at


@part
def integrate_narrow(
    par: A, sl: A, flat: A, v: A, tlast: A, high: A, floor32: A, thr: A, flo: A, rby: A, cc: A, buf: A, en: A, axis: A, index: A, w: A, e: int,
    c: int, y: int, x: int, q: int, factor: int, period: int, served: int, at: int,
) -> tuple[int, int]:  # fmt: skip
    """Free: serve entry ``e`` for the source's local (c, y, x) on int32 membranes; returns (synapses served by the packet, next in ``buf``).

    First all its targets get their contribution, then those that fire are looked up: the targets of an entry differ, so no fire changes another.
    """
    channel, row, column = en[e, Y_CHANNEL] + c, en[e, Y_ROW] + y, en[e, Y_COLUMN] + x
    count, rows, columns = axis[channel, A_NUMBER], axis[row, A_NUMBER], axis[column, A_NUMBER]
    if en[e, Y_MERGED] != 0:
        count *= columns
        columns = 1
    if par[P_SKIP] != 0 or count < 4 or en[e, Y_SPARSE] != 0 or factor >= FACTOR_LIMIT or factor <= -FACTOR_LIMIT:
        return integrate_wide(par, sl, v, tlast, thr, flo, rby, cc, buf, en, axis, index, w, e, c, y, x, q, factor, period, served, at)
    first = sl[q, S_NEURON] + axis[channel, A_TARGET] + axis[row, A_TARGET] + axis[column, A_TARGET]
    weight = en[e, Y_WEIGHT] + axis[channel, A_WEIGHT] + axis[row, A_WEIGHT] + axis[column, A_WEIGHT]
    row_t, row_w, column_t, column_w = en[e, Y_ROW_T], en[e, Y_ROW_W], en[e, Y_COL_T], en[e, Y_COL_W]
    by = splat(factor)
    hits, saturated = 0, 0
    for r in range(rows):
        for k in range(columns):
            m = first + r * row_t + k * column_t
            if sl[q, S_DECAY_V] != 0:
                leak_run(par, sl, v, tlast, q, m, count, period)
            hit, over = sweep(par, flat, v, high, floor32, w, q, m, weight + r * row_w + k * column_w, count, by)
            hits |= hit
            saturated += over
    if saturated != 0:
        cc[sl[q, S_CORE], N_SATURATIONS] += saturated
    if hits != 0:
        for r in range(rows):
            for k in range(columns):
                done = served + (r * columns + k) * count
                at = collect(par, sl, flat, v, high, thr, rby, buf, q, first + r * row_t + k * column_t, count, done, at)
    return served + rows * columns * count, at


@jit
def integrate_wide(
    par: A, sl: A, v: A, tlast: A, thr: A, flo: A, rby: A, cc: A, buf: A, en: A, axis: A, index: A, w: A, e: int, c: int, y: int, x: int, q: int,
    factor: int, period: int, served: int, at: int,
) -> tuple[int, int]:  # fmt: skip
    """``integrate_narrow`` for membranes and weights of any width, one synapse at a time."""
    channel, row, column = en[e, Y_CHANNEL] + c, en[e, Y_ROW] + y, en[e, Y_COLUMN] + x
    weight = axis[channel, A_WEIGHT] + axis[row, A_WEIGHT] + axis[column, A_WEIGHT]
    skip, sparse = par[P_SKIP], en[e, Y_SPARSE] != 0
    count, rows, columns, target = axis[channel, A_NUMBER], axis[row, A_NUMBER], axis[column, A_NUMBER], 0
    if sparse:
        pointer = en[e, Y_INDEX] + weight
        target = wide(index[pointer])
        count = index[pointer + 1] - target
        weight = target
    else:
        target = axis[channel, A_TARGET] + axis[row, A_TARGET] + axis[column, A_TARGET]
    weight += en[e, Y_WEIGHT]
    plain = -(2**32) < factor < 2**32  # times a weight of 32 bits within int64
    for _ in range(rows):
        t, s = target, weight
        for _ in range(columns):
            for j in range(count):
                value = wide(w[s + j])
                if skip != 0 and value == 0:
                    continue
                local = wide(index[t + j]) if sparse else t + j
                nominal = par[P_DECODE] + (served // par[P_LANES] + 1) * par[P_SYNOP] + par[P_FIRE]
                at = lift(
                    par, sl, v, tlast, thr, flo, rby, cc, buf, q, local, value * factor if plain else product(value, factor), period, nominal, at
                )
                served += 1
            t += en[e, Y_COL_T]
            s += en[e, Y_COL_W]
        target += en[e, Y_ROW_T]
        weight += en[e, Y_ROW_W]
    return served, at
