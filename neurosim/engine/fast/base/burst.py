"""A service of a core or soma after its item is served: its fires and its marker, put as far as credits are known."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from neurosim.engine.events import MARKER, SPIKE, STEP
from neurosim.engine.fast.base.compiled import jit
from neurosim.engine.fast.base.fabric import DROPPED, UNKNOWN, charged, credit, deliver, finish, new_packet, wake_after
from neurosim.engine.fast.tables.columns import *

A = NDArray[Any]


@jit
def step_ended(par: A, st: A, cal: A, buckets: A, sv: A, sl: A, up: A, ring: A, q: int, step: int, time: int) -> None:
    """Wavefront: the marker of a slice was put at ``time``; all upstream hear of it t_wire later."""
    ring[sl[q, S_RING] + step % sl[q, S_HISTORY], B_END] = time
    sl[q, S_ENDED] = step + 1
    for k in range(sl[q, S_UP], sl[q, S_UP_END]):
        wake_after(st, cal, buckets, sv, up[k], time + par[P_WIRE])


@jit
def fired(reg: A, par: A, spk: A, smp: A, sspk: A, cc: A, core: int, sample: int, step: int, q: int, address: int, time: int, value: int) -> None:
    """Count a fire and keep it where wanted."""
    cc[core, N_FIRES] += 1
    smp[sample, X_SPIKES] += 1
    sspk[sample, q] += 1
    if par[P_SPIKES] != 0:
        k = reg[G_SPIKES]
        reg[G_SPIKES] = k + 1
        spk[k, 0] = sample
        spk[k, 1] = step
        spk[k, 2] = q
        spk[k, 3] = address
        spk[k, 4] = time
        spk[k, 5] = value


@jit
def burst(
    par: A, reg: A, st: A, cal: A, buckets: A, sv: A, ch: A, cw: A, slot: A, pk: A, spare: A, rin: A, mask: A, ns: A, rr: A, rows: A, spk: A, smp: A,
    sspk: A, cc: A, co: A, sl: A, up: A, ring: A, buf: A, s: int, now: int,
) -> bool:  # fmt: skip
    """Go on with the puts of core or soma ``s`` as far as credits are known. True when the service has ended."""
    v = sv[s]
    own = pk[v.packet]
    core, step, n = v.owner, own.step, v.services - 1
    base = co[core, K_BUFFER]
    sample = charged(par, pk, v.packet, v.start)
    while v.result < v.results:
        b = base + v.result
        due = v.start + buf[b, U_NOMINAL] + v.shift
        ready = due if v.last_put < 0 else max(due, v.last_put + par[P_PUT])
        q, address = buf[b, U_SLICE], buf[b, U_ADDRESS]
        item = SPIKE if address >= 0 else MARKER
        put = credit(st, cal, buckets, ch, cw, slot, s, ready, now, s, item)
        if put == UNKNOWN:
            v.open = 1
            return False
        happened = ready if put == DROPPED else put
        v.waited += happened - ready
        v.shift += happened - due
        v.last_put = happened
        v.repeat += 1
        if v.repeat == buf[b, U_COUNT]:
            v.repeat = 0
            v.result += 1
        k = new_packet(reg, spare)
        value = buf[b, U_VALUE]
        p = pk[k]
        p.item = item
        p.slice = q
        p.address = address
        p.value = value
        p.step = step
        p.dest = -1
        p.origin = n
        p.route = -1
        p.sample = sample
        deliver(par, reg, st, cal, buckets, sv, ch, cw, slot, pk, spare, rin, mask, ns, rr, rows, s, ready, put, k)
        if item == SPIKE:
            fired(reg, par, spk, smp, sspk, cc, core, sample, step, q, address, happened, value)
        else:
            step_ended(par, st, cal, buckets, sv, sl, up, ring, q, step, happened)
    end = max(v.start + v.duration + v.shift, v.last_put)
    item, q = own.item, own.slice
    finish(par, reg, sv, pk, spare, rows, smp, s, end)
    if item == STEP:
        if par[P_BARRIER] != 0:
            sl[q, S_ENDED] = step + 1
        if step % par[P_STEPS] == par[P_STEPS] - 1:
            smp[sample, X_COMPLETION] = max(smp[sample, X_COMPLETION], end)
            if sl[q, S_READOUT] != 0:
                smp[sample, X_DECISION] = max(smp[sample, X_DECISION], end + par[P_READOUT])
    elif smp[sample, X_DECISION_SERVER] == s and smp[sample, X_DECISION_SERVICE] == n:
        smp[sample, X_DECISION] = end
    return True
