"""The step of a slice that a soma runs, and the start item of a core."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from neurosim.engine.events import START, STEP
from neurosim.engine.fast.base.compiled import jit
from neurosim.engine.fast.base.fabric import scaled
from neurosim.engine.fast.stations.neurons import step_narrow, step_wide
from neurosim.engine.fast.stations.ops import op_inputs
from neurosim.engine.fast.stations.ports import sample_of
from neurosim.engine.fast.tables.columns import *
from neurosim.program import OP_OR

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
    par: A, sv: A, pk: A, sl: A, op: A, ox: A, cell: A, ring: A, co: A, cc: A, v: A, cur: A, v32: A, cur32: A, thr: A, bias: A, flo: A, rby: A,
    ini: A, flat: A, high: A, floor32: A, bias32: A, ini32: A, acc32: A, acc64: A, touched: A, buf: A, s: int, p: int,
) -> None:  # fmt: skip
    """The soma runs the next step of slice p: membranes, fires into ``buf``, nominal times."""
    g = sl[p, S_NEXT]
    sl[p, S_NEXT] = g + 1
    core = sl[p, S_CORE]
    first = sl[p, S_BANK] + (g % sl[p, S_BANKS]) * sl[p, S_CELLS]
    at = co[core, K_BUFFER]
    fresh, late = g % par[P_STEPS] == 0, 0
    if sl[p, S_OP] > OP_OR:
        late, words = op_inputs(par, sl, op, ox, cell, acc32, acc64, touched, p, first, fresh)
        sv[s].synops = words
        cc[core, N_OP_READS] += words
    if par[P_SMALL] != 0:
        at, nominal, visited, active, saturated = step_narrow(
            par, sl, flat, v32, cur32, high, floor32, bias32, ini32, thr, rby, acc32, buf, p, first, fresh, late, at
        )
    else:
        at, nominal, visited, active, saturated = step_wide(par, sl, v, cur, thr, bias, flo, rby, ini, acc64, touched, buf, p, first, fresh, late, at)
    if sv[s].jitter != 0:
        for k in range(co[core, K_BUFFER], at):
            buf[k, U_NOMINAL] = scaled(sv, s, buf[k, U_NOMINAL])
    slot = sl[p, S_RING] + g % sl[p, S_HISTORY]
    own = pk[s]
    own.cause_server = ring[slot, B_CAUSE_SERVER]
    own.cause_service = ring[slot, B_CAUSE_SERVICE]
    ring[slot, B_READY], ring[slot, B_CAUSE_SERVER], ring[slot, B_CAUSE_SERVICE], ring[slot, B_MARKERS] = INF, -1, -1, 0
    duration = scaled(sv, s, max(1, nominal))
    if par[P_BARRIER] == 0:  # the marker
        buf[at, U_SLICE], buf[at, U_ADDRESS], buf[at, U_NOMINAL], buf[at, U_COUNT], buf[at, U_VALUE] = p, -1, duration, 1, 0
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
