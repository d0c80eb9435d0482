"""The step of a slice that a soma runs, and the start item of a core."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from neurosim.arithmetic import fires, reset, step_current, step_membrane
from neurosim.engine.events import START, STEP
from neurosim.engine.fast.columns import *
from neurosim.engine.fast.compiled import jit
from neurosim.engine.fast.fabric import scaled
from neurosim.engine.fast.stations import sample_of

A = NDArray[Any]


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
    par: A, sv: A, pk: A, sl: A, ring: A, co: A, cc: A, v: A, cur: A, thr: A, bias: A, flo: A, rby: A, acc32: A, acc64: A, touched: A, buf: A, s: int,
    p: int,
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
    own = pk[s]
    own.cause_server = ring[slot, B_CAUSE_SERVER]
    own.cause_service = ring[slot, B_CAUSE_SERVICE]
    ring[slot, B_READY], ring[slot, B_CAUSE_SERVER], ring[slot, B_CAUSE_SERVICE], ring[slot, B_MARKERS] = INF, -1, -1, 0
    duration = scaled(sv, s, max(1, nominal))
    if par[P_BARRIER] == 0:  # the marker
        buf[at, U_SLICE], buf[at, U_ADDRESS], buf[at, U_NOMINAL], buf[at, U_COUNT] = p, -1, duration, 1
        at += 1
    sv[s].duration = duration
    sv[s].results = at - co[core, K_BUFFER]
    own.item = STEP
    own.slice = p
    own.address = -1
    own.value = 0
    own.step = g
    own.dest = -1
    own.origin = -1
    own.route = -1
    own.sample = sample_of(par, g)
    cc[core, N_ACCESSES] += visited
    cc[core, N_UPDATES] += active
    cc[core, N_SATURATIONS] += saturated


@jit
def start_item(par: A, pk: A, s: int) -> None:
    """Item fields of a start."""
    own = pk[s]
    own.item = START
    own.slice = -1
    own.address = -1
    own.value = 0
    own.step = 0
    own.dest = -1
    own.origin = -1
    own.cause_server = -1
    own.cause_service = -1
    own.route = -1
    own.sample = par[P_SAMPLE_INDEX]
