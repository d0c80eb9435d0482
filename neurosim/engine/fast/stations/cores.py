"""The stations that serve synapses: synapse station and soma of stepped disciplines, core station of ``free``."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from neurosim.arithmetic import MOST, product
from neurosim.engine.events import CURRENT, MARKER
from neurosim.engine.fast.base.burst import burst
from neurosim.engine.fast.base.calendar import schedule
from neurosim.engine.fast.base.compiled import jit, part
from neurosim.engine.fast.base.fabric import begin, charged, finish, sample_at, scaled, take, wake_after
from neurosim.engine.fast.base.simd import wide
from neurosim.engine.fast.stations.ops import accumulate_pairs
from neurosim.engine.fast.stations.ops_free import forget, integrate_cells, pass_on
from neurosim.engine.fast.stations.ports import no_room, return_window, sample_of, steps_allow
from neurosim.engine.fast.stations.steps import complete_at, run_step, start_item
from neurosim.engine.fast.stations.synapses import (
    TOUCHED,
    accumulate_narrow,
    accumulate_wide,
    expect,
    integrate_narrow,
    integrate_wide,
    lift,
    place_of,
)
from neurosim.engine.fast.tables.columns import *
from neurosim.engine.fast.tables.maps import Y_ACT, Y_BANK, Y_DELAY, Y_SHIFT, Y_SLICE
from neurosim.program import OP_GATE, OP_OR

A = NDArray[Any]


@jit
def mark(par: A, st: A, cal: A, buckets: A, sv: A, pk: A, sl: A, rt: A, mk: A, need: A, ring: A, s: int, packet: int, end: int) -> None:
    """Count the marker that server ``s`` serves until ``end`` for every slice of its core that waits for it."""
    g, route = pk[packet].step, pk[packet].route
    step = g % par[P_STEPS]
    for k in range(rt[route, T_MARK], rt[route, T_MARK_END]):
        q, delay = mk[k, 0], mk[k, 1]
        if step + delay >= par[P_STEPS]:
            continue
        row = sl[q, S_RING] + (g + delay) % sl[q, S_HISTORY]
        ring[row, B_MARKERS] += 1
        if ring[row, B_MARKERS] == need[q * par[P_STEPS] + step + delay]:
            ring[row, B_READY] = end + par[P_BANK]
            ring[row, B_CAUSE_SERVER] = s
            ring[row, B_CAUSE_SERVICE] = sv[s].services - 1
            wake_after(st, cal, buckets, sv, s + 1, end + par[P_BANK])


@jit
def first_spike(smp: A, sample: int, time: int) -> None:
    """A synapse into a readout was served at ``time``; services come in order only within a bucket of the queue."""
    if smp[sample, X_FIRST_SPIKE] < 0 or time < smp[sample, X_FIRST_SPIKE]:
        smp[sample, X_FIRST_SPIKE] = time


@jit
def note_look(reg: A, log: A, sample: int, server: int, n: int, best: int, margin: int, end: int) -> int:
    """One row of the log; returns its number, counted from 1."""
    k = reg[G_LOGS]
    reg[G_LOGS] = k + 1
    log[k, LOG_SAMPLE], log[k, LOG_SERVER], log[k, LOG_SERVICE] = sample, server, n
    log[k, LOG_BEST], log[k, LOG_MARGIN], log[k, LOG_END] = best, margin, end
    return k + 1


@jit
def look_ends(co: A, log: A, core: int, end: int) -> None:
    """The service under way, which ends now, may have a row in the log."""
    if co[core, K_LOG] != 0:
        log[co[core, K_LOG] - 1, LOG_END] = end
        co[core, K_LOG] = 0


@part
def synapse(
    par: A, reg: A, st: A, cal: A, buckets: A, sv: A, ch: A, cw: A, slot: A, pk: A, spare: A, wc: A, wf: A, rows: A, smp: A, cc: A, sl: A, so: A,
    op: A, rt: A, en: A, axis: A, index: A, w8: A, w32: A, mk: A, need: A, ring: A, co: A, acc32: A, acc64: A, touched: A, s: int, time: int,
) -> None:  # fmt: skip
    """Synapse station of a stepped discipline: packets into banks, markers into counts. It puts nothing, so its end is known at once."""
    core = sv[s].owner
    inlet = co[core, K_AXON_IN]
    while ch[inlet].used != 0:
        start = max(slot[ch[inlet].head].time, sv[s].end)
        if (start > time and st[s].eager == 0) or (par[P_RECORD] != 0 and reg[G_ROWS] + par[P_MARGIN] > rows.shape[0]):
            schedule(st, cal, buckets, s, start)
            return
        time = max(time, start)
        packet = take(par, st, cal, buckets, sv, ch, cw, slot, inlet, time)
        if par[P_SPARSE] != 0 and par[P_SMALL] != 0 and ch[inlet].used != 0:
            expect(pk, rt, en, index, w8, slot[ch[inlet].head].packet)
        begin(par, sv, s, time, packet)
        return_window(par, st, cal, buckets, sl, rt, pk, wc, wf, packet, time)
        p = pk[packet]
        item, source, address, value, g = p.item, p.slice, p.address, p.value, p.step
        sample, step = p.sample, g % par[P_STEPS]
        duration = par[P_DECODE]
        if item == MARKER:
            cc[core, N_MARKER_PACKETS] += 1
        elif item == CURRENT:
            cc[core, N_CURRENT_PACKETS] += 1
            cc[core, N_CURRENT_WRITES] += 1
            duration += par[P_SYNOP]
            at = sl[source, S_BANK] + (g % sl[source, S_BANKS]) * sl[source, S_CELLS] + address
            if par[P_SMALL] != 0:
                acc32[at] = (acc32[at] + value) | TOUCHED
            else:
                acc64[at] += value
                touched[at] = 1
        else:
            cc[core, N_SPIKE_PACKETS] += 1
            c, y, x = place_of(so, source, address)
            served, dropped = 0, 0
            for e in range(rt[p.route, T_ENTRY], rt[p.route, T_ENTRY_END]):
                q = en[e, Y_SLICE]
                add = step + en[e, Y_DELAY] < par[P_STEPS]
                at = en[e, Y_BANK] + ((g + en[e, Y_DELAY]) % sl[q, S_BANKS]) * sl[q, S_CELLS]
                factor = value << en[e, Y_SHIFT]
                if en[e, Y_ACT] != 0:
                    count = accumulate_pairs(par, cc, sl, op, en, axis, index, w8, w32, acc32, acc64, touched, e, c, y, x, at, factor, add)
                elif par[P_SMALL] != 0:
                    count = accumulate_narrow(en, axis, index, w8, acc32, e, c, y, x, at, factor, par[P_SKIP], add)
                else:
                    count = accumulate_wide(en, axis, index, w32, acc64, touched, e, c, y, x, at, factor, par[P_SKIP], add)
                served += count
                if not add:
                    dropped += count
                if count > 0 and sl[q, S_READOUT] != 0:
                    first_spike(smp, sample, time)
            sv[s].synops = served
            cc[core, N_SYNOPS] += served
            cc[core, N_SYNOPS_DROPPED] += dropped
            smp[sample, X_SYNOPS] += served
            duration += (served + par[P_LANES] - 1) // par[P_LANES] * par[P_SYNOP]
        end = time + scaled(sv, s, duration)
        if item == MARKER:
            mark(par, st, cal, buckets, sv, pk, sl, rt, mk, need, ring, s, packet, end)
        finish(par, reg, sv, pk, spare, rows, smp, s, end)


@part
def soma(
    par: A, reg: A, st: A, cal: A, buckets: A, sv: A, ch: A, cw: A, slot: A, pk: A, spare: A, rin: A, mask: A, ns: A, rr: A, rows: A, spk: A, smp: A,
    sspk: A, cc: A, sl: A, op: A, ox: A, cell: A, up: A, dn: A, ring: A, need: A, co: A, csl: A, buf: A, v: A, cur: A, v32: A, cur32: A, thr: A,
    bias: A, flo: A, rby: A, ini: A, flat: A, high: A, floor32: A, bias32: A, ini32: A, acc32: A, acc64: A, touched: A, scores: A, rank: A, log: A,
    along: A, s: int, time: int,
) -> None:  # fmt: skip
    """Soma station: the startable slice with the least (g, slice) runs its step; ``held`` counts complete banks that wait for wires.

    Barrier: in global step g every slice p runs its step g - S_OFFSET, slices ascending, from S_g on.
    """
    core = sv[s].owner
    while True:
        if sv[s].open != 0:
            if not burst(
                par, reg, st, cal, buckets, sv, ch, cw, slot, pk, spare, rin, mask, ns, rr, rows, spk, smp, sspk, cc, co, sl, up, ring, buf, s, time
            ):
                return
            look_ends(co, log, core, sv[s].end)
        best, best_step, wake, seen = -1, INF, INF, INF
        for k in range(co[core, K_SLICE], co[core, K_SLICE_END]):
            p = csl[k]
            if par[P_BARRIER] != 0:
                if best < 0 and sl[p, S_NEXT] == reg[G_GLOBAL] - sl[p, S_OFFSET] and sl[p, S_NEXT] < par[P_GLOBAL_STEPS]:
                    seen = max(sv[s].end, reg[G_BEGAN])
                    if seen > time:
                        wake = seen
                    else:
                        best, seen = p, time
                    break
                continue
            ready = complete_at(sl, ring, need, par, p)
            if ready == INF:
                continue
            seen = min(seen, ready)
            start = max(ready, steps_allow(par, sl, dn, ring, sl[p, S_DOWN], sl[p, S_DOWN_END], sl[p, S_NEXT]), sv[s].end)
            if start > time:
                wake = min(wake, start)
            elif sl[p, S_NEXT] < best_step:
                best, best_step = p, sl[p, S_NEXT]
        if best < 0:
            if wake < INF:
                schedule(st, cal, buckets, s, wake)
            return
        sv[s].held += time - max(seen, sv[s].end)
        begin(par, sv, s, time, s)
        sv[s].open = 1
        run_step(
            par, sv, pk, sl, op, ox, cell, ring, co, cc, v, cur, v32, cur32, thr, bias, flo, rby, ini, flat, high, floor32, bias32, ini32, acc32,
            acc64, touched, buf, s, best,
        )  # fmt: skip
        if sl[best, S_READOUT] != 0:
            step = sl[best, S_NEXT] - 1
            sample, within = sample_of(par, step), step % par[P_STEPS]
            for m in range(sl[best, S_NEURON], sl[best, S_NEURON] + sl[best, S_SIZE]):
                along[sample * par[P_STEPS] + within, rank[m]] = v32[m] if par[P_SMALL] != 0 else v[m]
                if within == par[P_STEPS] - 1:
                    scores[sample, rank[m]] = along[sample * par[P_STEPS] + within, rank[m]]
            co[core, K_LOG] = note_look(reg, log, sample, s, sv[s].services - 1, best, within, -1)


@jit
def score_of(par: A, flo: A, v: A, v32: A, m: int) -> int:
    """The membrane of a readout's neuron as the host reads it; that of free is within its word and above its floor."""
    value = wide(v32[m]) if par[P_SMALL] != 0 else v[m]
    return max(min(value, par[P_HIGH]), par[P_LOW], flo[m]) if par[P_SETTLED] != 0 else value


@part
def best_class(par: A, flo: A, v: A, v32: A, readout: A) -> tuple[int, int]:
    """(lowest class with the largest score, its lead over the next; of a single class its score), those of the readout's parts added up."""
    best, most, second, classes = 0, -MOST, -MOST, par[P_CLASSES]
    for k in range(classes):
        score = score_of(par, flo, v, v32, readout[k])
        for other in range(k + classes, readout.shape[0], classes):
            score += score_of(par, flo, v, v32, readout[other])
        if score > most:
            best, most, second = k, score, most
        elif score > second:
            second = score
    return best, most - second if classes > 1 else most


@jit
def serve_start(par: A, sl: A, v: A, v32: A, tlast: A, thr: A, bias: A, flo: A, rby: A, cc: A, sv: A, pk: A, co: A, csl: A, buf: A, s: int) -> int:
    """The start item: T times the bias into every neuron of the core's slices that have one. Returns the next place in ``buf``."""
    core = sv[s].owner
    at, m = co[core, K_BUFFER], 0
    start_item(par, pk, s)
    for k in range(co[core, K_SLICE], co[core, K_SLICE_END]):
        q = csl[k]
        if sl[q, S_BIASED] == 0:
            continue
        for local in range(sl[q, S_SIZE]):
            m += 1
            total, nominal = product(par[P_STEPS], bias[sl[q, S_NEURON] + local]), m * par[P_UPDATE] + par[P_FIRE]
            if par[P_SMALL] != 0:
                at = lift(par, sl, v32, tlast, thr, flo, rby, cc, buf, q, local, total, 0, nominal, at)
            else:
                at = lift(par, sl, v, tlast, thr, flo, rby, cc, buf, q, local, total, 0, nominal, at)
    cc[core, N_ACCESSES] += m
    cc[core, N_UPDATES] += m
    sv[s].duration = m * par[P_UPDATE]
    return at


@part
def serve_packet(
    par: A, sl: A, op: A, ox: A, cell: A, so: A, rt: A, en: A, axis: A, index: A, w8: A, w32: A, v: A, v32: A, tlast: A, thr: A, flo: A, rby: A,
    flat: A, high: A, floor32: A, cc: A, smp: A, sv: A, pk: A, co: A, buf: A, s: int, packet: int, sample: int, time: int,
) -> tuple[int, bool]:  # fmt: skip
    """All synapses of a packet at core station ``s`` at once: (next place in ``buf``, whether a readout was touched)."""
    core = sv[s].owner
    at = co[core, K_BUFFER]
    p = pk[packet]
    source, address, value = p.slice, p.address, p.value
    sv[s].duration = par[P_DECODE]
    period = time // par[P_LEAK] if par[P_LEAK] > 0 else 0
    if p.item == CURRENT:
        cc[core, N_CURRENT_PACKETS] += 1
        cc[core, N_CURRENT_WRITES] += 1
        sv[s].duration = par[P_DECODE] + par[P_SYNOP]
        nominal = par[P_DECODE] + par[P_SYNOP] + par[P_FIRE]
        if sl[source, S_OP] == OP_OR or sl[source, S_OP] == OP_GATE:
            at = pass_on(par, sl, op, ox, cell, v, v32, thr, cc, buf, source, address, value, nominal, at)
        elif par[P_SMALL] != 0:
            at = lift(par, sl, v32, tlast, thr, flo, rby, cc, buf, source, address, value, period, nominal, at)
        else:
            at = lift(par, sl, v, tlast, thr, flo, rby, cc, buf, source, address, value, period, nominal, at)
        return at, sl[source, S_READOUT] != 0
    if p.item == MARKER:
        cc[core, N_MARKER_PACKETS] += 1
        return at, False
    cc[core, N_SPIKE_PACKETS] += 1
    c, y, x = place_of(so, source, address)
    served, touched = 0, False
    if par[P_OP_WINDOW] != 0:
        forget(par, sl, op, cell, v, v32, rt, en, p.route, time)
    for e in range(rt[p.route, T_ENTRY], rt[p.route, T_ENTRY_END]):
        q, before = en[e, Y_SLICE], served
        factor = product(value, 1 << en[e, Y_SHIFT])
        if en[e, Y_ACT] != 0:
            served, at = integrate_cells(
                par, sl, op, ox, cell, v, v32, tlast, thr, flo, rby, cc, buf, en, axis, index, w8, w32, e, c, y, x, factor, period, served, at
            )
        elif par[P_SMALL] != 0:
            served, at = integrate_narrow(
                par, sl, flat, v32, tlast, high, floor32, thr, flo, rby, cc, buf, en, axis, index, w8, e, c, y, x, q, factor, period, served, at
            )
        else:
            served, at = integrate_wide(par, sl, v, tlast, thr, flo, rby, cc, buf, en, axis, index, w32, e, c, y, x, q, factor, period, served, at)
        if served > before and sl[q, S_READOUT] != 0:
            touched = True
            first_spike(smp, sample, time)
    sv[s].synops = served
    cc[core, N_SYNOPS] += served
    smp[sample, X_SYNOPS] += served
    sv[s].duration = par[P_DECODE] + (served + par[P_LANES] - 1) // par[P_LANES] * par[P_SYNOP]
    return at, touched


@part
def core_station(
    par: A, reg: A, st: A, cal: A, buckets: A, sv: A, ch: A, cw: A, slot: A, pk: A, spare: A, rin: A, mask: A, ns: A, rr: A, wc: A, wf: A, rows: A,
    spk: A, smp: A, sspk: A, cc: A, sl: A, op: A, ox: A, cell: A, so: A, rt: A, en: A, up: A, ring: A, co: A, csl: A, buf: A, v: A, v32: A, tlast: A,
    thr: A, bias: A, flo: A, rby: A, flat: A, high: A, floor32: A, axis: A, index: A, w8: A, w32: A, readout: A, scores: A, log: A, s: int,
    time: int,
) -> None:  # fmt: skip
    """Core station of ``free``: one packet (or the start item) per service, fires put as they come."""
    core = sv[s].owner
    inlet = co[core, K_AXON_IN]
    while True:
        if sv[s].open != 0:
            if not burst(
                par, reg, st, cal, buckets, sv, ch, cw, slot, pk, spare, rin, mask, ns, rr, rows, spk, smp, sspk, cc, co, sl, up, ring, buf, s, time
            ):
                return
            look_ends(co, log, core, sv[s].end)
        starts = sv[s].services == 0 and co[core, K_START] != 0
        if not starts and ch[inlet].used == 0:
            return
        start = time if starts else max(slot[ch[inlet].head].time, sv[s].end)
        if (start > time and st[s].eager == 0) or no_room(par, reg, rows, spk):
            schedule(st, cal, buckets, s, start)
            return
        time = max(time, start)
        if time > par[P_UNTIL]:
            return
        if st[s].ordered != 0:
            windows_end(par, reg, v, v32, readout, scores, time)
        if starts:
            begin(par, sv, s, time, s)
            at = serve_start(par, sl, v, v32, tlast, thr, bias, flo, rby, cc, sv, pk, co, csl, buf, s)
            touched = False
            for k in range(co[core, K_SLICE], co[core, K_SLICE_END]):
                touched = touched or (sl[csl[k], S_BIASED] != 0 and sl[csl[k], S_READOUT] != 0)
        else:
            packet = take(par, st, cal, buckets, sv, ch, cw, slot, inlet, time)
            begin(par, sv, s, time, packet)
            return_window(par, st, cal, buckets, sl, rt, pk, wc, wf, packet, time)
            sample = charged(par, pk, packet, time)
            at, touched = serve_packet(
                par, sl, op, ox, cell, so, rt, en, axis, index, w8, w32, v, v32, tlast, thr, flo, rby, flat, high, floor32, cc, smp, sv, pk, co, buf,
                s, packet, sample, time,
            )  # fmt: skip
        if touched and st[s].ordered != 0:
            winner, margin = best_class(par, flo, v, v32, readout)
            row = sample_at(par, time) if par[P_TIMED] != 0 else par[P_SAMPLE_INDEX]
            if winner != reg[G_ARGMAX] or par[P_WATCH] != 0:
                co[core, K_LOG] = note_look(reg, log, row, s, sv[s].services - 1, winner, margin, -1)
            if winner != reg[G_ARGMAX]:
                reg[G_ARGMAX] = winner
                smp[row, X_DECISION_SERVER] = s
                smp[row, X_DECISION_SERVICE] = sv[s].services - 1
        sv[s].open = 1
        sv[s].duration = scaled(sv, s, sv[s].duration)
        sv[s].results = at - co[core, K_BUFFER]
        if sv[s].jitter != 0:
            for k in range(co[core, K_BUFFER], at):
                buf[k, U_NOMINAL] = scaled(sv, s, buf[k, U_NOMINAL])


@jit
def windows_end(par: A, reg: A, v: A, v32: A, readout: A, scores: A, time: int) -> None:
    """Streamed ``free``: before a readout's core begins a service at ``time``, keep the scores of the windows that are over by then."""
    if par[P_STREAMED] == 0:
        return
    while time > (reg[G_SCORED] + 1) * par[P_WINDOW_PS]:
        for k in range(readout.shape[0]):
            scores[reg[G_SCORED], k] = v32[readout[k]] if par[P_SMALL] != 0 else v[readout[k]]
        reg[G_SCORED] += 1
