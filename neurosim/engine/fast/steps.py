"""A service of a core or soma: its puts as far as credits are known, and the step of a slice that a soma runs."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from neurosim.arithmetic import fires, reset, step_current, step_membrane
from neurosim.engine.events import MARKER, SPIKE, START, STEP
from neurosim.engine.fast.columns import *
from neurosim.engine.fast.compiled import jit
from neurosim.engine.fast.fabric import credit, deliver, finish, scaled, schedule, wake_after
from neurosim.engine.fast.stations import sample_of

A = NDArray[Any]


@jit
def burst(
    par: A, reg: A, hp: A, sv: A, ch: A, slot: A, rin: A, ns: A, wc: A, wf: A, rows: A, spk: A, smp: A, sspk: A, cc: A, sl: A, up: A, ring: A, co: A,
    buf: A, s: int,
) -> bool:  # fmt: skip
    """Go on with the puts of a core or soma as far as credits are known. True when the service has ended."""
    core = sv[s, V_OWNER]
    base = co[core, K_BUFFER]
    while sv[s, V_RESULT] < sv[s, V_RESULTS]:
        b = base + sv[s, V_RESULT]
        due = sv[s, V_START] + buf[b, U_NOMINAL] + sv[s, V_SHIFT]
        ready = due if sv[s, V_LAST_PUT] < 0 else max(due, sv[s, V_LAST_PUT] + par[P_PUT])
        put = credit(par, ch, slot, wc, wf, sv[s, V_CHANNEL], -1, ready)
        if put < 0:
            sv[s, V_OPEN] = 1
            return False
        sv[s, V_WAITED] += put - ready
        sv[s, V_SHIFT] += put - due
        sv[s, V_LAST_PUT] = put
        sv[s, V_REPEAT] += 1
        if sv[s, V_REPEAT] == buf[b, U_COUNT]:
            sv[s, V_REPEAT] = 0
            sv[s, V_RESULT] += 1
        q, address = buf[b, U_SLICE], buf[b, U_ADDRESS]
        step = sv[s, V_STEP]
        item = SPIKE if address >= 0 else MARKER
        n = sv[s, V_SERVICES] - 1
        deliver(par, reg, hp, sv, ch, slot, rin, ns, rows, s, ready, put, item, q, address, 1 if address >= 0 else 0, -1, n, -1, 1)
        if item == SPIKE:
            sample = sample_of(par, step)
            cc[core, N_FIRES] += 1
            smp[sample, X_SPIKES] += 1
            sspk[sample, q] += 1
            if par[P_SPIKES] != 0:
                k = reg[G_SPIKES]
                reg[G_SPIKES] = k + 1
                spk[k, 0], spk[k, 1], spk[k, 2], spk[k, 3], spk[k, 4] = sample, step, q, address, put
        else:
            ring[sl[q, S_RING] + step % sl[q, S_HISTORY], B_END] = put
            sl[q, S_ENDED] = step + 1
            for j in range(sl[q, S_UP], sl[q, S_UP_END]):
                wake_after(hp, sv, up[j], put + par[P_WIRE])
            if sl[q, S_PORT_UP] != 0:
                schedule(hp, 0, put + par[P_WIRE])
    end = max(sv[s, V_START] + sv[s, V_DURATION] + sv[s, V_SHIFT], sv[s, V_LAST_PUT])
    finish(par, reg, sv, rows, s, end)
    if sv[s, V_ITEM] == STEP:
        step, q = sv[s, V_STEP], sv[s, V_SLICE]
        if step % par[P_STEPS] == par[P_STEPS] - 1:
            sample = sample_of(par, step)
            smp[sample, X_COMPLETION] = max(smp[sample, X_COMPLETION], end)
            if sl[q, S_READOUT] != 0:
                smp[sample, X_DECISION] = max(smp[sample, X_DECISION], end + par[P_READOUT])
    elif reg[G_DECISION_SERVER] == s and reg[G_DECISION_SERVICE] == sv[s, V_SERVICES] - 1:
        smp[par[P_SAMPLE_INDEX], X_DECISION] = end
    return True


@jit
def complete_at(sl: A, ring: A, need: A, par: A, p: int) -> int:
    """When the soma sees the bank of slice p's next step complete; INF if it is not known, or if no step is left."""
    g = sl[p, S_NEXT]
    if g >= par[P_GLOBAL_STEPS] or sl[p, S_ENDED] < g:
        return INF
    before = ring[sl[p, S_RING] + (g - 1) % sl[p, S_HISTORY], B_END] if g > 0 else 0
    if need[p * par[P_STEPS] + g % par[P_STEPS]] == 0:
        return before
    return max(before, ring[sl[p, S_RING] + g % sl[p, S_HISTORY], B_READY])


@jit
def run_step(
    par: A, sv: A, sl: A, ring: A, co: A, cc: A, v: A, cur: A, thr: A, bias: A, flo: A, rby: A, acc32: A, acc64: A, touched: A, buf: A, s: int, p: int
) -> None:  # fmt: skip
    """The soma runs the next step of slice p: membranes, fires into ``buf``, nominal times."""
    g = sl[p, S_NEXT]
    sl[p, S_NEXT] = g + 1
    core = sl[p, S_CORE]
    n0, size = sl[p, S_NEURON], sl[p, S_SIZE]
    bank = sl[p, S_BANK] + (g % sl[p, S_BANKS]) * size
    at = co[core, K_BUFFER]
    fresh = g % par[P_STEPS] == 0
    readout, strict, mode = sl[p, S_READOUT] != 0, sl[p, S_STRICT], sl[p, S_RESET]
    decay_v, decay_i = sl[p, S_DECAY_V], sl[p, S_DECAY_I]
    rounding, low, high, wrap = par[P_ROUNDING], par[P_LOW], par[P_HIGH], par[P_WRAP]
    small, visit_all = par[P_SMALL] != 0, par[P_VISIT_ALL] != 0
    access, update, fire = par[P_ACCESS], par[P_UPDATE], par[P_FIRE]
    nominal, visited, active, saturated = 0, 0, 0, 0
    for j in range(size):
        m = n0 + j
        vm = 0 if fresh else v[m]
        im = 0 if fresh else cur[m]
        if touched[bank + j] == 0 and bias[m] == 0 and vm == 0 and im == 0:
            v[m] = 0
            cur[m] = 0
            if visit_all:
                nominal += access
                visited += 1
            continue
        visited += 1
        active += 1
        nominal += access + update
        total = acc32[bank + j] if small else acc64[bank + j]
        current, sat_i = step_current(im, (total << wrap) >> wrap, decay_i, rounding, low, high)
        vm, sat_v = step_membrane(vm, current, bias[m], decay_v, flo[m], rounding, low, high)
        saturated += sat_i + sat_v
        if not readout and fires(vm, thr[m], strict):
            vm = reset(vm, mode, rby[m])
            nominal += fire
            buf[at, U_SLICE] = p
            buf[at, U_ADDRESS] = j
            buf[at, U_NOMINAL] = scaled(sv, s, nominal)
            buf[at, U_COUNT] = 1
            at += 1
        v[m] = vm
        if decay_i >= 0:
            cur[m] = current
    if small:
        acc32[bank : bank + size] = 0
    else:
        acc64[bank : bank + size] = 0
    touched[bank : bank + size] = 0
    slot = sl[p, S_RING] + g % sl[p, S_HISTORY]
    sv[s, V_CAUSE_SERVER], sv[s, V_CAUSE_SERVICE] = ring[slot, B_CAUSE_SERVER], ring[slot, B_CAUSE_SERVICE]
    ring[slot, B_READY], ring[slot, B_CAUSE_SERVER], ring[slot, B_CAUSE_SERVICE], ring[slot, B_MARKERS] = INF, -1, -1, 0
    duration = scaled(sv, s, max(1, nominal))
    buf[at, U_SLICE], buf[at, U_ADDRESS], buf[at, U_NOMINAL], buf[at, U_COUNT] = p, -1, duration, 1
    sv[s, V_DURATION] = duration
    sv[s, V_RESULTS] = at + 1 - co[core, K_BUFFER]
    sv[s, V_ITEM], sv[s, V_SLICE], sv[s, V_ADDRESS], sv[s, V_VALUE] = STEP, p, -1, 0
    sv[s, V_STEP], sv[s, V_DEST], sv[s, V_ORIGIN] = g, -1, -1
    cc[core, N_ACCESSES] += visited
    cc[core, N_UPDATES] += active
    cc[core, N_SATURATIONS] += saturated


@jit
def start_item(par: A, sv: A, s: int) -> None:
    """Item fields of a start."""
    sv[s, V_ITEM], sv[s, V_SLICE], sv[s, V_ADDRESS], sv[s, V_VALUE], sv[s, V_STEP] = START, -1, -1, 0, 0
    sv[s, V_DEST], sv[s, V_ORIGIN], sv[s, V_CAUSE_SERVER], sv[s, V_CAUSE_SERVICE] = -1, -1, -1, -1
