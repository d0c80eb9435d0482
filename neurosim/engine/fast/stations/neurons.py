"""One step of the neurons of a slice, as the soma runs it: bank in, membranes on, fires out. Narrow slices sixteen neurons at a time."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from neurosim.arithmetic import fires, reset, spike_count, step_current, step_membrane
from neurosim.engine.fast.base.compiled import jit
from neurosim.engine.fast.base.simd import (
    add,
    both,
    choose,
    differ,
    largest,
    least,
    load,
    lowest,
    mul,
    negate,
    ones,
    reach,
    shift_left,
    shift_right,
    splat,
    store,
    wide,
)  # fmt: skip
from neurosim.engine.fast.tables.columns import *
from neurosim.engine.fast.tables.maps import Z_BIAS, Z_FLAT, Z_FLOOR, Z_START, Z_THRESHOLD

A = NDArray[Any]


@jit
def decayed(x: Any, factor: int, rounding: int) -> Any:
    """``arithmetic.decay`` on vectors: x = 4096 a + b with 0 <= b < 4096, so (x k + r) >> 12 = a k + ((b k + r) >> 12), all within 32 bits."""
    by, twelve, low = splat(4096 - factor), splat(12), splat(4095)
    positive = x
    if rounding == 1:
        positive = largest(x, negate(x))
    rest = mul(both(positive, low), by)
    if rounding == 2:
        rest = add(rest, splat(2048))
    result = add(mul(shift_right(positive, twelve), by), shift_right(rest, twelve))
    if rounding == 1:
        result = choose(reach(x, splat(0)), result, negate(result))
    return result


@jit
def result_row(buf: A, at: int, q: int, address: int, nominal: int, value: int) -> int:
    """One spike among the results of a step; returns the next place."""
    buf[at, U_SLICE] = q
    buf[at, U_ADDRESS] = address
    buf[at, U_NOMINAL] = nominal
    buf[at, U_COUNT] = 1
    buf[at, U_VALUE] = value
    return at + 1


@jit
def step_narrow(
    par: A, sl: A, flat: A, v: A, cur: A, high: A, floor32: A, bias32: A, ini32: A, thr: A, rby: A, bank: A, buf: A, q: int, first: int,
    fresh: bool, late: int, at: int,
) -> tuple[int, int, int, int, int]:  # fmt: skip
    """Step of slice ``q`` on the int32 bank that begins at ``first``, of which its own cells are left clear; ``late``: its neurons' first share.

    Returns (next place in ``buf``, nominal duration without jitter, neurons visited, active, saturations). An inactive neuron computes too: nothing
    in, nothing out.
    """
    n0, size = sl[q, S_NEURON], sl[q, S_SIZE]
    decay_v, decay_i, mode, rounding = sl[q, S_DECAY_V], sl[q, S_DECAY_I], sl[q, S_RESET], par[P_ROUNDING]
    visit_all, access, update, fire = par[P_VISIT_ALL] != 0, par[P_ACCESS], par[P_UPDATE], par[P_FIRE]
    nothing, bottom, top, wrap = splat(0), splat(par[P_LOW]), splat(par[P_HIGH]), splat(par[P_WRAP] - 32)
    same, strict, most = flat[q, Z_FLAT] != 0, sl[q, S_STRICT], sl[q, S_MOST]
    limit, floor, bias = splat(flat[q, Z_THRESHOLD]), splat(flat[q, Z_FLOOR]), splat(flat[q, Z_BIAS])
    start = splat(flat[q, Z_START])
    active, saturated, begin, j = 0, 0, at, 0
    while j < size:
        m = n0 + j
        inside = (1 << min(LANES, size - j)) - 1
        if not same:
            limit, floor, bias = load(high, m), load(floor32, m), load(bias32, m)
        raw = load(bank, first + j)
        before = load(v, m)
        if fresh and not same:
            start = load(ini32, m)
        old = start if fresh else before
        current = shift_right(shift_left(raw, wrap), wrap)
        touched = inside & (~reach(raw, nothing) | differ(old, nothing) | differ(bias, nothing))
        total = old
        if decay_i >= 0:
            held = load(cur, m)
            past = nothing if fresh else held
            touched |= inside & differ(past, nothing)
            total = add(decayed(past, decay_i, rounding), current)
            current = least(largest(total, bottom), top)
            saturated += ones(inside & differ(total, current))
            store(cur, m, choose(inside, current, held))
        total = old
        if decay_v != 0:
            total = decayed(old, decay_v, rounding)
        total = add(add(total, current), bias)
        clipped = least(largest(total, bottom), top)
        saturated += ones(inside & differ(total, clipped))
        new = largest(clipped, floor)
        hit = inside & reach(new, limit)
        store(v, m, choose(inside, new, before))
        store(bank, first + j, choose(inside, nothing, raw))
        while hit != 0:
            k = lowest(hit)
            hit &= hit - 1
            value = 1
            if most > 1:
                value = spike_count(wide(v[m + k]), thr[m + k], strict, most)
            v[m + k] = reset(wide(v[m + k]), mode, value * rby[m + k])
            up_to = active + ones(touched & ((2 << k) - 1))
            visited = j + k + 1 if visit_all else up_to
            at = result_row(buf, at, q, j + k, late + access * visited + update * up_to + fire * (at - begin + 1), value)
        active += ones(touched)
        j += LANES
    visited = size if visit_all else active
    return at, late + access * visited + update * active + fire * (at - begin), visited, active, saturated


@jit
def step_wide(
    par: A, sl: A, v: A, cur: A, thr: A, bias: A, flo: A, rby: A, ini: A, bank: A, touched: A, buf: A, q: int, first: int, fresh: bool, late: int,
    at: int,
) -> tuple[int, int, int, int, int]:  # fmt: skip
    """``step_narrow`` on int64, one neuron at a time."""
    n0, size = sl[q, S_NEURON], sl[q, S_SIZE]
    readout, strict, mode = sl[q, S_READOUT] != 0, sl[q, S_STRICT], sl[q, S_RESET]
    decay_v, decay_i = sl[q, S_DECAY_V], sl[q, S_DECAY_I]
    rounding, low, high, wrap = par[P_ROUNDING], par[P_LOW], par[P_HIGH], par[P_WRAP]
    visit_all, access, update, fire = par[P_VISIT_ALL] != 0, par[P_ACCESS], par[P_UPDATE], par[P_FIRE]
    nominal, visited, active, saturated = late, 0, 0, 0
    for j in range(size):
        m = n0 + j
        vm = ini[m] if fresh else v[m]
        im = 0 if fresh else cur[m]
        if touched[first + j] == 0 and bias[m] == 0 and vm == 0 and im == 0:
            v[m] = 0
            cur[m] = 0
            if visit_all:
                nominal += access
                visited += 1
            continue
        visited += 1
        active += 1
        nominal += access + update
        current, sat_i = step_current(im, (bank[first + j] << wrap) >> wrap, decay_i, rounding, low, high)
        vm, sat_v = step_membrane(vm, current, bias[m], decay_v, flo[m], rounding, low, high)
        saturated += sat_i + sat_v
        if not readout and fires(vm, thr[m], strict):
            value = spike_count(vm, thr[m], strict, sl[q, S_MOST])
            vm = reset(vm, mode, value * rby[m])
            nominal += fire
            at = result_row(buf, at, q, j, nominal, value)
        v[m] = vm
        if decay_i >= 0:
            cur[m] = current
    bank[first : first + size] = 0
    touched[first : first + size] = 0
    return at, nominal, visited, active, saturated
