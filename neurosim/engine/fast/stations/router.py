"""What a router does when it wakes. This is where most of the time goes: a service is written out and compiled into the loop.

A decision at ``time`` reads its own station only; what it causes elsewhere is written early, with the future time at which it is due.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.arithmetic import jittered
from neurosim.engine.events import ROW_DROP, ROW_LOSS, SPIKE
from neurosim.engine.fast.base.calendar import arm, trailing_zeros
from neurosim.engine.fast.base.compiled import jit, part
from neurosim.engine.fast.base.fabric import (
    ends_at,
    enqueue,
    free_place,
    heads,
    is_lost,
    jitter_draw,
    late,
    missed,
    no_head,
    release,
    return_credit,
    sample_at,
    service_row,
    take,
)
from neurosim.engine.fast.stations.trees import branch, dest_windows, least_pair
from neurosim.engine.fast.tables.columns import *
from neurosim.program import C_LINK

A = NDArray[Any]

_ONE = np.uint64(1)


@jit
def give_windows_back(
    par: A, st: A, cal: A, buckets: A, wc: A, wf: A, pk: A, bits: A, sl: A, so: A, rt: A, packet: int, time: int
) -> None:  # fmt: skip
    """The window credits of every destination of a spike that was dropped or lost at ``time``."""
    if par[P_WINDOW] == 0:
        return
    if par[P_TREE] != 0:
        dest_windows(par, st, cal, buckets, wc, wf, pk, bits, so, rt, packet, time)
    else:
        return_credit(par, st, cal, buckets, wc, wf, rt[pk[packet].route, T_WINDOW], time)


@jit
def unsent(
    par: A, reg: A, st: A, cal: A, buckets: A, sv: A, ch: A, cw: A, wc: A, wf: A, pk: A, bits: A, spare: A, sl: A, so: A, rt: A, rows: A, smp: A,
    output: int, kind: int, packet: int, time: int, waited: int,
) -> None:  # fmt: skip
    """The service of ``output`` ends at ``time`` with a drop or a loss."""
    v, n = sv[output], ch[output].services - 1
    ch[output].end = time
    v.open = 0
    reg[G_LAST_END] = max(reg[G_LAST_END], time)
    if par[P_TIMED] != 0:
        ends_at(par, smp, v.start, time, 0)
    if par[P_RECORD] == RECORD_ALL:
        service_row(reg, sv, pk, rows, output, n, time, packet, waited)
    p = pk[packet]
    p.cause_server = output
    p.cause_service = n
    missed(par, reg, sv, cw, pk, rows, output, n, kind, packet, time)
    give_windows_back(par, st, cal, buckets, wc, wf, pk, bits, sl, so, rt, packet, time)
    release(par, reg, spare, packet)


@part
def send(
    par: A, reg: A, st: A, cal: A, buckets: A, sv: A, ch: A, slot: A, pk: A, rin: A, mask: A, ns: A, rr: A, rows: A, smp: A, words: int, cores: int,
    output: int, place: int, put: int, packet: int, dest: int, waited: int,
) -> None:  # fmt: skip
    """The service of ``output`` ends with its put."""
    ch[output].end = put
    if put > reg[G_LAST_END]:
        reg[G_LAST_END] = put
    if par[P_TIMED] != 0:
        ends_at(par, smp, sv[output].start, put, 0)
    if par[P_RECORD] == RECORD_ALL:
        service_row(reg, sv, pk, rows, output, ch[output].services - 1, put, packet, waited)
        p = pk[packet]
        p.cause_server = output
        p.cause_service = ch[output].services - 1
    enqueue(par, st, cal, buckets, sv, ch, slot, pk, mask, ns, rr, words, cores, par[P_ROUTER0], output, place, put, packet, dest
    )  # fmt: skip


@jit
def waiting_puts(
    par: A, reg: A, st: A, cal: A, buckets: A, sv: A, ch: A, cw: A, slot: A, wc: A, wf: A, pk: A, bits: A, spare: A, rin: A, mask: A, ns: A, rr: A,
    sl: A, so: A, rt: A, rows: A, smp: A, k: int, time: int,
) -> int:  # fmt: skip
    """Puts of router ``k`` that wait for a credit. Returns when one of them must look again, INF if the credit itself will wake the router."""
    wake = INF
    for output in range(rr[k].out, rr[k].out_end):
        v = sv[output]
        if v.open == 0 or v.private != 0:
            continue
        c = ch[output]
        if c.used >= c.depth:
            if v.open == 1:
                c.waiting = 1
                continue
            if time < c.end:
                wake = min(wake, c.end)
                continue
        place = free_place(ch, output)
        put = max(v.ready, slot[place].time)
        rr[k].open -= 1
        if v.open == 2 and (c.used >= c.depth or put > v.ready):
            unsent(par, reg, st, cal, buckets, sv, ch, cw, wc, wf, pk, bits, spare, sl, so, rt, rows, smp, output, ROW_DROP, v.packet, v.ready, 0)
            continue
        v.open = 0
        v.blocked += put - v.ready
        send(
            par, reg, st, cal, buckets, sv, ch, slot, pk, rin, mask, ns, rr, rows, smp, par[P_WORDS], par[P_CORES], output, place, put, v.packet,
            pk[v.packet].dest if par[P_TREE] == 0 else -1, put - v.ready,
        )  # fmt: skip
    return wake


@part
def waits(sv: A, r: Any, output: int, packet: int, time: int, ready: int, how: int) -> None:
    """A service of router ``r`` that began at ``time`` stays open: ``how`` as in ``open`` of servers."""
    v = sv[output]
    v.packet = packet
    v.start = time
    v.ready = ready
    v.waited = 0
    v.open = how
    if v.private != 0:
        r.held += 1
    else:
        r.open += 1


@part
def ask(st: A, cal: A, buckets: A, sv: A, ch: A, ns: A, rr: A, cores: int, k: int, inlet: int, dest: int, time: int) -> None:
    """The new head of input channel ``inlet`` of router ``k`` asks for its output; a private one is served by the express station."""
    local = ns[k * cores + dest]
    if local >= 0:
        ch[inlet].output = rr[k].out + local
        return
    output = rr[k].out + ~local
    ch[inlet].output = ~output
    if ch[output].end < INF:
        arm(st, cal, buckets, sv[output].station, time)


@part
def router(
    par: A, reg: A, st: A, cal: A, buckets: A, sv: A, ch: A, cw: A, slot: A, wc: A, wf: A, pk: A, bits: A, spare: A, rin: A, mask: A, ns: A, rr: A,
    sl: A, so: A, rt: A, rows: A, smp: A, k: int, station: int, time: int,
) -> None:  # fmt: skip
    """Router ``k``: puts that waited, then again and again the least (request time, input, output) among heads whose output is free."""
    r = rr[k]
    soonest = INF
    if r.open > 0:
        soonest = waiting_puts(
            par, reg, st, cal, buckets, sv, ch, cw, slot, wc, wf, pk, bits, spare, rin, mask, ns, rr, sl, so, rt, rows, smp, k, time
        )  # fmt: skip
    words, cores, tree = par[P_WORDS], par[P_CORES], par[P_TREE]
    first = r.first
    while time <= par[P_UNTIL]:
        best, output, earliest, wake = -1, -1, INF, soonest
        if tree != 0:
            best, output, wake = least_pair(par, sv, slot, ch, pk, bits, so, rt, rin, mask, ns, rr, k, time, soonest)
        else:
            for w in range(words):
                left = heads(rr, mask, words, k, w)
                while left != 0:
                    j = rin[first + (w << 6) + trailing_zeros(left)]
                    left &= left - _ONE
                    e = ch[j]
                    wanted = e.output if e.output >= 0 else ~e.output
                    start = max(max(e.arrive, e.taken), ch[wanted].end)
                    if start > time:
                        if e.output >= 0:  # else the express station will see to it
                            wake = min(wake, start)
                        continue
                    request = max(e.arrive, e.taken)
                    if request < earliest:
                        best, earliest, output = j, request, wanted
        if best < 0:
            if wake < INF:
                arm(st, cal, buckets, station, wake)
            return
        inlet = best
        e = ch[inlet]
        came = e.arrive
        if tree != 0:
            packet, dest = branch(par, reg, ch, slot, pk, bits, spare, so, rt, ns, rr, k, best, output), -1
            last = packet == slot[ch[inlet].head].packet
        else:
            at = slot[ch[inlet].head]
            packet, dest = at.packet, at.dest
            last = True
        if last:
            take(par, st, cal, buckets, sv, ch, cw, slot, inlet, time)
            e.taken = time
            if e.used > 0:
                head = slot[e.head]
                e.arrive = head.time
                if tree != 0:
                    e.output = -1
                else:
                    ask(st, cal, buckets, sv, ch, ns, rr, cores, k, inlet, head.dest, time)
            else:
                no_head(rr, mask, words, k, e.bit)
        c = ch[output]
        n = c.services
        c.services = n + 1
        hop = par[P_COLUMNS + FIGURES * c.figures + HOP]
        if par[P_AMPLITUDE] > 0:
            hop = jittered(hop, jitter_draw(par[P_SEED], par[P_SAMPLE], output, n, par[P_AMPLITUDE]))
            sv[output].busy += hop
        ready = time + hop
        if par[P_KEEP] != 0:
            sv[output].start = time
        if par[P_STREAMED] != 0:
            smp[sample_at(par, time) if par[P_TIMED] != 0 else pk[packet].sample, X_HOPS] += 1
            if par[P_TIMED] != 0:
                since = sample_at(par, came - par[P_COLUMNS + FIGURES * e.figures + FORWARD])
                late(par, smp, max(since, pk[packet].sample), time)
        place = free_place(ch, output)
        put = max(ready, slot[place].time)
        blocked = c.used >= c.depth
        if par[P_UNUSUAL] != 0 and pk[packet].item == SPIKE:
            if par[P_LOSS] > 0 and cw[output, C_KIND] == C_LINK and is_lost(par[P_SEED], par[P_SAMPLE], output, n, par[P_LOSS]):
                unsent(par, reg, st, cal, buckets, sv, ch, cw, wc, wf, pk, bits, spare, sl, so, rt, rows, smp, output, ROW_LOSS, packet, ready, 0)
                continue
            if cw[output, C_DROP] != 0 and (blocked or put > ready):
                reg[G_LAST_END] = max(reg[G_LAST_END], ready)
                if not blocked:
                    unsent(par, reg, st, cal, buckets, sv, ch, cw, wc, wf, pk, bits, spare, sl, so, rt, rows, smp, output, ROW_DROP, packet, ready, 0)
                    continue
                # whether there is a credit at ``ready`` shows only then; the output is free again in either case
                waits(sv, r, output, packet, time, ready, 2)
                c.end = ready
                soonest = min(soonest, ready)
                continue
        if blocked:
            waits(sv, r, output, packet, time, ready, 1)
            c.end = INF
            c.waiting = 1
            continue
        if put > ready:
            sv[output].blocked += put - ready
        send(par, reg, st, cal, buckets, sv, ch, slot, pk, rin, mask, ns, rr, rows, smp, words, cores, output, place, put, packet, dest, put - ready)
    if soonest < INF:
        arm(st, cal, buckets, station, soonest)


@part
def held_puts(
    par: A, reg: A, st: A, cal: A, buckets: A, sv: A, ch: A, slot: A, pk: A, rin: A, mask: A, ns: A, rr: A, rows: A, smp: A, k: int
) -> None:  # fmt: skip
    """Puts of private outputs of router ``k`` that wait for a credit."""
    for output in range(rr[k].out, rr[k].out_end):
        v, c = sv[output], ch[output]
        if v.open == 0 or v.private == 0:
            continue
        if c.used >= c.depth:
            c.waiting = 1
            continue
        place = free_place(ch, output)
        put = max(v.ready, slot[place].time)
        rr[k].held -= 1
        v.open = 0
        v.blocked += put - v.ready
        send(
            par, reg, st, cal, buckets, sv, ch, slot, pk, rin, mask, ns, rr, rows, smp, par[P_WORDS], par[P_CORES], output, place, put, v.packet,
            pk[v.packet].dest, put - v.ready,
        )  # fmt: skip


@part
def express(
    par: A, reg: A, st: A, cal: A, buckets: A, sv: A, ch: A, cw: A, slot: A, pk: A, rin: A, mask: A, ns: A, rr: A, rows: A, smp: A, k: int,
    station: int,
) -> None:  # fmt: skip
    """Router ``k``, private outputs. Whatever is known is done, however far ahead: nothing that arrives elsewhere can come between.

    One input is looked at after the other, and of one input head after head, until a head is for another kind of output or a put finds no credit.
    """
    r = rr[k]
    first, words, cores, router0 = r.first, par[P_WORDS], par[P_CORES], par[P_ROUTER0]
    if r.held > 0:
        held_puts(par, reg, st, cal, buckets, sv, ch, slot, pk, rin, mask, ns, rr, rows, smp, k)
    for w in range(words):
        left = heads(rr, mask, words, k, w)
        while left != 0:
            inlet = rin[first + (w << 6) + trailing_zeros(left)]
            left &= left - _ONE
            e = ch[inlet]
            while e.output < 0:
                output = ~e.output
                c = ch[output]
                if c.end == INF:
                    break
                time = max(max(e.arrive, e.taken), c.end)
                if time > par[P_UNTIL]:
                    break
                if par[P_RECORD] != 0 and reg[G_ROWS] + par[P_MARGIN] > rows.shape[0]:
                    arm(st, cal, buckets, station, time)
                    return
                at = slot[e.head]
                packet, dest, came = at.packet, at.dest, e.arrive
                take(par, st, cal, buckets, sv, ch, cw, slot, inlet, time)
                e.taken = time
                n = c.services
                c.services = n + 1
                hop = par[P_COLUMNS + FIGURES * c.figures + HOP]
                if par[P_AMPLITUDE] > 0:
                    hop = jittered(hop, jitter_draw(par[P_SEED], par[P_SAMPLE], output, n, par[P_AMPLITUDE]))
                    sv[output].busy += hop
                ready = time + hop
                if par[P_KEEP] != 0:
                    sv[output].start = time
                if par[P_STREAMED] != 0:
                    smp[sample_at(par, time) if par[P_TIMED] != 0 else pk[packet].sample, X_HOPS] += 1
                    if par[P_TIMED] != 0:
                        since = sample_at(par, came - par[P_COLUMNS + FIGURES * e.figures + FORWARD])
                        late(par, smp, max(since, pk[packet].sample), time)
                if c.used >= c.depth:
                    v = sv[output]
                    v.packet = packet
                    v.start = time
                    v.ready = ready
                    v.waited = 0
                    v.open = 1
                    r.held += 1
                    c.end = INF
                    c.waiting = 1
                else:
                    place = free_place(ch, output)
                    put = max(ready, slot[place].time)
                    if put > ready:
                        sv[output].blocked += put - ready
                    send(
                        par, reg, st, cal, buckets, sv, ch, slot, pk, rin, mask, ns, rr, rows, smp, words, cores, output, place, put, packet, dest,
                        put - ready,
                    )  # fmt: skip
                if e.used == 0:
                    no_head(rr, mask, words, k, e.bit)
                    break
                head = slot[e.head]
                e.arrive = head.time
                local = ns[k * cores + head.dest]
                e.output = ~(r.out + ~local) if local < 0 else r.out + local
                if local >= 0:
                    wake = max(max(e.arrive, e.taken), ch[e.output].end)
                    if wake < INF:
                        arm(st, cal, buckets, router0 + k, wake)
