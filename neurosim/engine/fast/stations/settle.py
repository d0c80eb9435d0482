"""Core station of settle and what ends a sample there (docs/machine.md, section 13)."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from neurosim.engine.events import CURRENT, DUE, SPIKE
from neurosim.engine.fast.base.calendar import schedule
from neurosim.engine.fast.base.compiled import jit, part
from neurosim.engine.fast.base.fabric import begin, deliver, finish, free_place, late, new_packet, sample_at, scaled, take
from neurosim.engine.fast.stations.cores import best_class, first_spike, note_look, score_of
from neurosim.engine.fast.stations.differences import change, consider, interval_of, output, spread
from neurosim.engine.fast.stations.ops_free import membrane
from neurosim.engine.fast.stations.ops_settle import spread_cells
from neurosim.engine.fast.stations.ports import no_room, return_window
from neurosim.engine.fast.stations.synapses import place_of
from neurosim.engine.fast.tables.columns import *
from neurosim.engine.fast.tables.maps import Y_ACT, Y_SHIFT, Y_SLICE

A = NDArray[Any]


@jit
def settled(
    par: A, sl: A, co: A, csl: A, cc: A, smp: A, sspk: A, v: A, v32: A, flo: A, told: A, rank: A, scores: A, core: int, sample: int
) -> None:  # fmt: skip
    """What a core has to say at the end of a sample: its neurons' outputs that are not 0, membranes beyond the state's word, scores."""
    for k in range(co[core, K_SLICE], co[core, K_SLICE_END]):
        q = csl[k]
        spikes, saturated = 0, 0
        for m in range(sl[q, S_NEURON], sl[q, S_NEURON] + sl[q, S_SIZE]):
            spikes += told[m] != 0
            value = membrane(par, v, v32, m)
            saturated += value < par[P_LOW] or value > par[P_HIGH]
            if rank[m] >= 0:
                scores[sample, rank[m]] = score_of(par, flo, v, v32, m)
        sspk[sample, q] = spikes
        smp[sample, X_SPIKES] += spikes
        cc[core, N_SATURATIONS] += saturated


@jit
def next_sample(
    par: A, reg: A, st: A, cal: A, buckets: A, sv: A, pt: A, sl: A, co: A, csl: A, dc: A, cc: A, smp: A, sspk: A, v: A, v32: A, flo: A, told: A,
    rank: A, scores: A, spare: A,
) -> bool:  # fmt: skip
    """Streamed without windows: nothing wakes any more, so a sample is over. False: it was the last, or something is stuck."""
    if reg[G_SPARE] != spare.shape[0]:  # a packet is left in a channel or in a blocked service
        return False
    for core in range(par[P_CORES]):
        if dc[core, L_COUNT] != 0:
            return False
    sample = reg[G_GLOBAL]
    for k in range(par[P_PORTS]):
        if sv[k].open != 0 or (pt[k, J_PHASE] != PHASE_DONE and pt[k, J_SAMPLE] <= sample):
            return False
    if sample == par[P_LAST_SAMPLE]:
        return False
    ended = max(reg[G_LAST_END], reg[G_BEGAN])
    smp[sample, X_COMPLETION] = ended
    for core in range(par[P_CORES]):
        settled(par, sl, co, csl, cc, smp, sspk, v, v32, flo, told, rank, scores, core, sample)
    reg[G_GLOBAL] = sample + 1
    if sample + 1 == par[P_LAST_SAMPLE]:
        return False
    began = ended + par[P_QUIET]
    reg[G_BEGAN] = began
    smp[sample + 1, X_START] = began
    smp[sample + 1, X_DECISION] = began
    for k in range(par[P_PORTS]):
        schedule(st, cal, buckets, k, began)
    return True


@part
def hear(
    par: A, cc: A, smp: A, sl: A, op: A, ox: A, cell: A, so: A, rt: A, en: A, axis: A, index: A, w8: A, w32: A, v: A, v32: A, thr: A, lo: A, hi: A,
    lo32: A, hi32: A, told: A, due: A, dl: A, dc: A, found: A, sv: A, pk: A, s: int, packet: int, sample: int, time: int,
) -> bool:  # fmt: skip
    """All synapses of a packet at once; its nominal duration goes to ``sv``. Returns whether a readout was touched."""
    core = sv[s].owner
    p = pk[packet]
    source, address, value = p.slice, p.address, p.value
    if p.item == CURRENT:
        cc[core, N_CURRENT_PACKETS] += 1
        cc[core, N_CURRENT_WRITES] += 1
        sv[s].duration = par[P_DECODE] + par[P_SYNOP]
        change(par, sl, op, ox, cell, v, v32, thr, lo, hi, lo32, hi32, told, due, dl, dc, source, address, value)
        return sl[source, S_READOUT] != 0
    cc[core, N_SPIKE_PACKETS] += 1
    c, y, x = place_of(so, source, address)
    served, touched = 0, False
    for e in range(rt[p.route, T_ENTRY], rt[p.route, T_ENTRY_END]):
        q, before = en[e, Y_SLICE], served
        factor = value << en[e, Y_SHIFT]
        if en[e, Y_ACT] != 0:
            served += spread_cells(
                par, cc, sl, op, ox, cell, v, v32, thr, lo, hi, lo32, hi32, told, due, dl, dc, en, axis, index, w8, w32, e, c, y, x, factor
            )
        else:
            number, hits = spread(par, sl, v, v32, lo, hi, lo32, hi32, found, en, axis, index, w8, w32, e, c, y, x, q, factor)
            served += number
            for k in range(hits):
                consider(par, sl, op, ox, cell, v, v32, thr, lo, hi, lo32, hi32, told, due, dl, dc, q, found[k] - sl[q, S_NEURON])
        if served > before and sl[q, S_READOUT] != 0:
            touched = True
            first_spike(smp, sample, time)
    sv[s].synops = served
    cc[core, N_SYNOPS] += served
    smp[sample, X_SYNOPS] += served
    sv[s].duration = par[P_DECODE] + (served + par[P_LANES] - 1) // par[P_LANES] * par[P_SYNOP]
    return touched


@part
def speak(
    par: A, reg: A, st: A, cal: A, buckets: A, sv: A, ch: A, cw: A, slot: A, pk: A, spare: A, rin: A, mask: A, ns: A, rr: A, rows: A, spk: A, smp: A,
    cc: A, sl: A, op: A, ox: A, cell: A, v: A, v32: A, thr: A, lo: A, hi: A, lo32: A, hi32: A, told: A, due: A, dl: A, dc: A, gone: A, back: A,
    s: int, sample: int, time: int,
) -> None:  # fmt: skip
    """The service of the first due neuron, which may begin: its difference, if one is left, is put at the end of the service."""
    core = sv[s].owner
    row = dc[core, L_BASE] + dc[core, L_HEAD]
    head = dc[core, L_HEAD] + 1
    dc[core, L_HEAD] = 0 if head == dc[core, L_ROOM] else head
    dc[core, L_COUNT] -= 1
    q, local = dl[row, D_SLICE], dl[row, D_ADDRESS]
    m = sl[q, S_NEURON] + local
    n = output(par, sl, op, ox, cell, v, v32, thr, q, local)
    difference = n - told[m]
    told[m], due[m] = n, 0
    interval_of(par, sl, lo, hi, lo32, hi32, thr, q, m, n)
    begin(par, sv, s, time, s)
    own = pk[s]
    own.item = DUE
    own.slice = q
    own.address = local
    own.value = difference
    own.step = 0
    own.dest = -1
    own.origin = -1
    own.cause_server = s
    own.cause_service = dl[row, D_CAUSE]
    own.route = -1
    own.sample = sample
    cc[core, N_ACCESSES] += 1
    if difference == 0:
        cc[core, N_CANCELLED] += 1
        smp[sample, X_CANCELLED] += 1
        gone[sample, q] += 1
        finish(par, reg, sv, pk, spare, rows, smp, s, time + scaled(sv, s, par[P_ACCESS]))
        return
    cc[core, N_UPDATES] += 1
    cc[core, N_FIRES] += 1
    if difference < 0:
        cc[core, N_RETRACTED] += 1
        smp[sample, X_RETRACTED] += 1
        back[sample, q] += 1
    end = time + scaled(sv, s, par[P_ACCESS] + par[P_UPDATE] + par[P_FIRE])
    sv[s].last_put = end
    k = new_packet(reg, spare)
    p = pk[k]
    p.item = SPIKE
    p.slice = q
    p.address = local
    p.value = difference
    p.step = 0
    p.dest = -1
    p.origin = sv[s].services - 1
    p.route = -1
    p.sample = sample
    deliver(par, reg, st, cal, buckets, sv, ch, cw, slot, pk, spare, rin, mask, ns, rr, rows, s, end, end, k)
    if par[P_SPIKES] != 0:
        k = reg[G_SPIKES]
        reg[G_SPIKES] = k + 1
        spk[k, 0] = sample
        spk[k, 1] = 0
        spk[k, 2] = q
        spk[k, 3] = local
        spk[k, 4] = end
        spk[k, 5] = difference
    finish(par, reg, sv, pk, spare, rows, smp, s, end)


@part
def settle_core(
    par: A, reg: A, st: A, cal: A, buckets: A, sv: A, ch: A, cw: A, slot: A, pk: A, spare: A, rin: A, mask: A, ns: A, rr: A, wc: A, wf: A, rows: A,
    spk: A, smp: A, sspk: A, cc: A, sl: A, op: A, ox: A, cell: A, so: A, rt: A, en: A, co: A, csl: A, v: A, v32: A, thr: A, flo: A, axis: A, index: A,
    w8: A, w32: A, readout: A, scores: A, rank: A, log: A, lo: A, hi: A, lo32: A, hi32: A, told: A, due: A, dl: A, dc: A, gone: A, back: A, found: A,
    s: int, time: int,
) -> None:  # fmt: skip
    """Core station ``s``: the next packet or the first due neuron, whichever the chip's order says.

    It acts ahead of time only where nothing that may still arrive could change the choice: a packet that nothing else can precede, or a due neuron
    before a packet that is known to come later. A core with a readout keeps to the order of time.
    """
    core = sv[s].owner
    inlet = co[core, K_AXON_IN]
    ahead = par[P_AHEAD] != 0 and st[s].ordered == 0
    while True:
        idle = sv[s].end
        arrival, ready, speaks, unknown = INF, INF, INF, False
        if ch[inlet].used != 0:
            arrival = slot[ch[inlet].head].time
        hears = max(arrival, idle)
        if dc[core, L_COUNT] != 0:
            ready = dl[dc[core, L_BASE] + dc[core, L_HEAD], D_READY]
            if ch[s].used >= ch[s].depth:
                ch[s].waiting = 1
                unknown = True
            else:
                speaks = max(ready, idle, slot[free_place(ch, s)].time)
        older = par[P_BY_AGE] == 0 or arrival <= ready
        listens = hears < speaks or (hears == speaks and older)
        start = hears if listens else speaks
        if start >= INF:
            return
        if start > time:
            known = ahead
            if not listens:
                known = known and arrival < INF
            elif unknown:
                soonest = max(ready, idle)
                known = known and (hears < soonest or (hears == soonest and older))
            if not known:
                schedule(st, cal, buckets, s, start)
                return
        if no_room(par, reg, rows, spk):
            schedule(st, cal, buckets, s, max(start, time))
            return
        time = max(time, start)
        if time > par[P_UNTIL]:
            return
        sample = par[P_SAMPLE_INDEX]
        if par[P_TIMED] != 0:
            sample = sample_at(par, time)
            while dc[core, L_ENDED] < sample:  # what the windows that are over by now have left
                settled(par, sl, co, csl, cc, smp, sspk, v, v32, flo, told, rank, scores, core, dc[core, L_ENDED])
                dc[core, L_ENDED] += 1
        elif par[P_STREAMED] != 0:
            sample = reg[G_GLOBAL]
        if ready < INF:
            sv[s].held += max(0, time - max(idle, ready))
        if not listens:
            if par[P_TIMED] != 0:
                late(par, smp, sample_at(par, ready - par[P_SETTLE]), time)
            speak(
                par, reg, st, cal, buckets, sv, ch, cw, slot, pk, spare, rin, mask, ns, rr, rows, spk, smp, cc, sl, op, ox, cell, v, v32, thr, lo,
                hi, lo32, hi32, told, due, dl, dc, gone, back, s, sample, time,
            )  # fmt: skip
            continue
        packet = take(par, st, cal, buckets, sv, ch, cw, slot, inlet, time)
        if par[P_TIMED] != 0:
            late(par, smp, sample_at(par, arrival - par[P_COLUMNS + FIGURES * ch[inlet].figures + FORWARD]), time)
        n = begin(par, sv, s, time, packet)
        return_window(par, st, cal, buckets, sl, rt, pk, wc, wf, packet, time)
        before = dc[core, L_COUNT]
        touched = hear(
            par, cc, smp, sl, op, ox, cell, so, rt, en, axis, index, w8, w32, v, v32, thr, lo, hi, lo32, hi32, told, due, dl, dc, found, sv, pk,
            s, packet, sample, time,
        )  # fmt: skip
        end = time + scaled(sv, s, sv[s].duration)
        for k in range(before, dc[core, L_COUNT]):
            place = dc[core, L_HEAD] + k
            if place >= dc[core, L_ROOM]:
                place -= dc[core, L_ROOM]
            row = dc[core, L_BASE] + place
            dl[row, D_READY], dl[row, D_CAUSE] = end + par[P_SETTLE], n
        finish(par, reg, sv, pk, spare, rows, smp, s, end)
        if touched:
            winner, margin = best_class(par, flo, v, v32, readout)
            if winner != reg[G_ARGMAX] or par[P_WATCH] != 0:
                note_look(reg, log, sample, s, n, winner, margin, end)
            if winner != reg[G_ARGMAX]:
                reg[G_ARGMAX] = winner
                smp[sample, X_DECISION] = end
