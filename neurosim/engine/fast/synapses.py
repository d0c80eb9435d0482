"""From a packet to its synapses: runs of synapses that lie together in the weights, and what is done with them.

``expand`` turns one entry of a route into runs, in the order of docs/machine.md (targets ascending, channel last). ``accumulate`` adds runs into a
bank (stepped disciplines), ``integrate_fire`` lifts membranes one synapse after the other (free).
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from neurosim.arithmetic import decay, fires, integrate, reset
from neurosim.engine.fast.columns import *
from neurosim.engine.fast.compiled import jit
from neurosim.program import (
    E_CIG,
    E_CO0,
    E_COG,
    E_DH,
    E_DW,
    E_IC0,
    E_INDEX,
    E_KH,
    E_KW,
    E_MAP,
    E_PH,
    E_PW,
    E_SH,
    E_SLICE,
    E_SW,
    E_WEIGHT,
    E_WIDTH,
    M_CONV,
    M_DENSE,
    M_MIX,
    M_POOL,
)  # fmt: skip

A = NDArray[Any]


@jit
def span(x: int, pad: int, kernel: int, dilation: int, stride: int, low: int, high: int) -> tuple[int, int]:
    """Outputs Y in [low, high) with 0 <= x + pad - Y * stride <= (kernel - 1) * dilation: (first, end)."""
    first = max(low, -((-(x + pad - (kernel - 1) * dilation)) // stride))
    end = min(high, (x + pad) // stride + 1)
    return first, end


@jit
def run(runs: A, k: int, target: int, stride: int, weight: int, count: int) -> int:
    """Append one run; returns the new number of runs."""
    runs[k, D_TARGET] = target
    runs[k, D_STRIDE] = stride
    runs[k, D_WEIGHT] = weight
    runs[k, D_COUNT] = count
    return k + 1


@jit
def expand(en: A, sl: A, so: A, index: A, runs: A, e: int, source: int, c: int, y: int, x: int) -> int:
    """Runs of entry ``e`` for the source neuron at (c, y, x) of its population; returns their number. Targets are slice-local."""
    q = en[e, E_SLICE]
    c0, c1 = sl[q, S_C0], sl[q, S_C1]
    y0, y1, x0, x1 = sl[q, S_Y0], sl[q, S_Y1], sl[q, S_X0], sl[q, S_X1]
    channels, columns = c1 - c0, x1 - x0
    kind, weight, width = en[e, E_MAP], en[e, E_WEIGHT], en[e, E_WIDTH]
    cog, cig, co0 = en[e, E_COG], en[e, E_CIG], en[e, E_CO0]
    kh, kw, sh, sw, ph, pw = en[e, E_KH], en[e, E_KW], en[e, E_SH], en[e, E_SW], en[e, E_PH], en[e, E_PW]
    k = 0
    if kind == M_CONV:
        group = c // cig
        first = max(group * cog + co0, c0)
        count = min((group + 1) * cog + co0, c1) - first
        if count <= 0:
            return 0
        dh, dw = en[e, E_DH], en[e, E_DW]
        ya, yb = span(y, ph, kh, dh, sh, y0, y1)
        xa, xb = span(x, pw, kw, dw, sw, x0, x1)
        base = weight + (c - en[e, E_IC0]) * kh * kw * width
        for row in range(ya, yb):
            ky = y + ph - row * sh
            if dh > 1:
                if ky % dh != 0:
                    continue
                ky //= dh
            for column in range(xa, xb):
                kx = x + pw - column * sw
                if dw > 1:
                    if kx % dw != 0:
                        continue
                    kx //= dw
                target = ((row - y0) * columns + column - x0) * channels + first - c0
                k = run(runs, k, target, 1, base + (ky * kw + kx) * width, count)
        return k
    if kind == M_DENSE:
        row = (y * so[source, O_WIDTH] + x) * so[source, O_CHANNELS] + c
        first = max(co0, c0)
        count = min(co0 + cog, c1) - first
        if count <= 0:
            return 0
        pixels = (y1 - y0) * columns
        if count == channels:
            return run(runs, 0, 0, 1, weight + row * width, pixels * channels)
        for pixel in range(pixels):
            k = run(runs, k, pixel * channels + first - c0, 1, weight + row * width + pixel * count, count)
        return k
    target_channel = c + co0 - c0
    if kind == M_MIX:
        if target_channel < 0 or target_channel >= channels:
            return 0
        token = y * so[source, O_WIDTH] + x
        return run(runs, 0, target_channel, channels, weight + ((c // cig - en[e, E_IC0]) * kh + token) * width, (y1 - y0) * columns)
    if kind == M_POOL:
        if target_channel < 0 or target_channel >= channels:
            return 0
        ya, yb = span(y, ph, kh, 1, sh, y0, y1)
        xa, xb = span(x, pw, kw, 1, sw, x0, x1)
        for row in range(ya, yb):
            for column in range(xa, xb):
                k = run(runs, k, ((row - y0) * columns + column - x0) * channels + target_channel, 1, weight + target_channel, 1)
        return k
    row = (y * so[source, O_WIDTH] + x) * so[source, O_CHANNELS] + c + en[e, E_INDEX]
    if index[row + 1] == index[row]:
        return 0
    return run(runs, 0, index[row], 0, weight + index[row] - index[en[e, E_INDEX]], index[row + 1] - index[row])


@jit
def accumulate(bank: A, touched: A, w: A, index: A, runs: A, n: int, factor: int, skip: int, add: bool) -> int:
    """Add ``n`` runs times ``factor`` into a bank (views of one slice); returns the synapses served. ``add`` False: served only."""
    served = 0
    for k in range(n):
        target, stride, start, count = runs[k, D_TARGET], runs[k, D_STRIDE], runs[k, D_WEIGHT], runs[k, D_COUNT]
        if skip == 0 and not add:
            served += count
        elif skip == 0 and stride == 1:
            # the common path: two contiguous views, no test inside, so that it becomes vector code
            into, mark, weights = bank[target : target + count], touched[target : target + count], w[start : start + count]
            for j in range(count):
                into[j] += weights[j] * factor
            for j in range(count):
                mark[j] = 1
            served += count
        elif skip == 0 and stride > 1:
            weights = w[start : start + count]
            for j in range(count):
                bank[target + j * stride] += weights[j] * factor
                touched[target + j * stride] = 1
            served += count
        else:
            for j in range(count):
                if skip != 0 and w[start + j] == 0:
                    continue
                served += 1
                if add:
                    t = index[target + j] if stride == 0 else target + j * stride
                    bank[t] += w[start + j] * factor
                    touched[t] = 1
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


@jit
def lift(
    par: A, sl: A, v: A, tlast: A, thr: A, flo: A, rby: A, cc: A, buf: A, q: int, local: int, contribution: int, period: int, nominal: int, at: int
) -> int:
    """Free: one contribution to neuron ``local`` of slice ``q``: leak, integrate, test, reset. Returns the next place in ``buf``.

    ``period`` is the number of whole leak periods before the service; ``tlast`` holds that of the last touch.
    """
    m = sl[q, S_NEURON] + local
    value = v[m]
    if sl[q, S_DECAY_V] != 0:
        value = leaked(value, period - tlast[m], sl[q, S_DECAY_V], par[P_ROUNDING])
        tlast[m] = period
    value, clipped = integrate(value, contribution, flo[m], par[P_LOW], par[P_HIGH])
    if clipped != 0:
        cc[sl[q, S_CORE], N_SATURATIONS] += 1
    if sl[q, S_READOUT] == 0 and fires(value, thr[m], sl[q, S_STRICT]):
        count = 0
        while count < par[P_SPIKES_PER_UPDATE] and fires(value, thr[m], sl[q, S_STRICT]):
            value = reset(value, sl[q, S_RESET], rby[m])
            count += 1
        buf[at, U_SLICE] = q
        buf[at, U_ADDRESS] = local
        buf[at, U_NOMINAL] = nominal
        buf[at, U_COUNT] = count
        at += 1
    v[m] = value
    return at


@jit
def integrate_fire(
    par: A, sl: A, v: A, tlast: A, thr: A, flo: A, rby: A, cc: A, buf: A, w: A, index: A, runs: A, n: int, q: int, factor: int, period: int,
    served: int, at: int,
) -> tuple[int, int]:  # fmt: skip
    """Free: serve ``n`` runs into slice ``q``, in order; returns (synapses served by the packet so far, next place in ``buf``)."""
    leak, rounding = sl[q, S_DECAY_V], par[P_ROUNDING]
    tested, strict, mode = sl[q, S_READOUT] == 0, sl[q, S_STRICT], sl[q, S_RESET]
    low, high, saturated = par[P_LOW], par[P_HIGH], 0
    for k in range(n):
        target, stride, start, count = runs[k, D_TARGET], runs[k, D_STRIDE], runs[k, D_WEIGHT], runs[k, D_COUNT]
        if par[P_SKIP] == 0 and stride > 0:
            # the common path: ``lift`` on views, with everything that is the same for the slice read once
            first = sl[q, S_NEURON] + target
            past = first + (count - 1) * stride + 1
            values, thresholds, floors, weights = v[first:past], thr[first:past], flo[first:past], w[start : start + count]
            touches = tlast[first:past]
            for j in range(count):
                m = j * stride
                value = values[m]
                if leak != 0 and touches[m] != period:
                    value = leaked(value, period - touches[m], leak, rounding)
                    touches[m] = period
                value, clipped = integrate(value, weights[j] * factor, floors[m], low, high)
                saturated += clipped
                if tested and fires(value, thresholds[m], strict):
                    fired = 0
                    while fired < par[P_SPIKES_PER_UPDATE] and fires(value, thresholds[m], strict):
                        value = reset(value, mode, rby[first + m])
                        fired += 1
                    buf[at, U_SLICE] = q
                    buf[at, U_ADDRESS] = target + m
                    buf[at, U_NOMINAL] = par[P_DECODE] + ((served + j) // par[P_LANES] + 1) * par[P_SYNOP] + par[P_FIRE]
                    buf[at, U_COUNT] = fired
                    at += 1
                values[m] = value
            served += count
            continue
        for j in range(count):
            if par[P_SKIP] != 0 and w[start + j] == 0:
                continue
            local = index[target + j] if stride == 0 else target + j * stride
            nominal = par[P_DECODE] + (served // par[P_LANES] + 1) * par[P_SYNOP] + par[P_FIRE]
            at = lift(par, sl, v, tlast, thr, flo, rby, cc, buf, q, local, w[start + j] * factor, period, nominal, at)
            served += 1
    cc[sl[q, S_CORE], N_SATURATIONS] += saturated
    return served, at
