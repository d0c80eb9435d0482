"""What ports and senders do when they wake, and what they share with the stations of cores: samples, step rules, windows.

Each function leaves its station armed for the next thing it can do.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from neurosim.engine.events import CURRENT, MARKER, SPIKE
from neurosim.engine.fast.base.calendar import schedule
from neurosim.engine.fast.base.compiled import jit, part
from neurosim.engine.fast.base.fabric import (
    DROPPED,
    UNKNOWN,
    begin,
    charged,
    copy_packet,
    credit,
    deliver,
    finish,
    late,
    new_packet,
    return_credit,
    sample_at,
    scaled,
    take,
    window_credit,
)
from neurosim.engine.fast.stations.synapses import seek
from neurosim.engine.fast.stations.trees import add_dest, all_windows, await_windows, no_dests, set_lowest, use_windows
from neurosim.engine.fast.tables.columns import *

A = NDArray[Any]


@jit
def sample_of(par: A, step: int) -> int:
    """Row of ``smp`` for a step of a slice."""
    if par[P_STREAMED] != 0 and par[P_TIMED] == 0:
        return step // par[P_STEPS]
    return par[P_SAMPLE_INDEX]


@jit
def next_route(so: A, rt: A, source: int, address: int, route: int) -> int:
    """First route >= ``route`` of the source that takes neuron ``address`` (every route for a marker, address -1); the end of its routes if none."""
    end = so[source, O_ROUTE_END]
    if address < 0 or route >= end:
        return route
    channels, columns = so[source, O_C1] - so[source, O_C0], so[source, O_X1] - so[source, O_X0]
    c = address % channels + so[source, O_C0]
    pixel = address // channels
    x = pixel % columns + so[source, O_X0]
    y = pixel // columns + so[source, O_Y0]
    while route < end and not (
        rt[route, T_C0] <= c < rt[route, T_C1] and rt[route, T_Y0] <= y < rt[route, T_Y1] and rt[route, T_X0] <= x < rt[route, T_X1]
    ):
        route += 1
    return route


@jit
def steps_allow(par: A, sl: A, dn: A, ring: A, first: int, end: int, step: int) -> int:
    """When the wires of all downstream slices allow step ``step``; INF if some step has not ended yet."""
    time = 0
    for k in range(first, end):
        q = dn[k, 0]
        wanted = step + dn[k, 1] - sl[q, S_BANKS]
        if wanted < 0:
            continue
        if wanted >= sl[q, S_ENDED]:
            return INF
        if wanted + sl[q, S_HISTORY] >= sl[q, S_ENDED]:  # an older end is forgotten: its wire was heard before now
            time = max(time, ring[sl[q, S_RING] + wanted % sl[q, S_HISTORY], B_END] + par[P_WIRE])
    return time


@jit
def step_begins(par: A, reg: A, pt: A, sl: A, dn: A, ring: A, k: int) -> bool:
    """Whether port ``k`` may take up its next step, from J_ALLOWED on."""
    j = pt[k]
    if par[P_FREE] != 0:
        if par[P_TIMED] != 0:
            j[J_ALLOWED] = j[J_SAMPLE] * par[P_WINDOW_PS]
        elif par[P_STREAMED] != 0:  # settle: a sample falls due when the one before is over
            j[J_ALLOWED] = reg[G_BEGAN]
            return j[J_SAMPLE] == reg[G_GLOBAL]
        return True
    g = j[J_STEP]
    if par[P_STREAMED] != 0:
        g += j[J_SAMPLE] * par[P_STEPS]
    if par[P_BARRIER] != 0:
        j[J_ALLOWED] = reg[G_BEGAN]
        return g == reg[G_GLOBAL]
    allowed = steps_allow(par, sl, dn, ring, j[J_DOWN], j[J_DOWN_END], g)
    if allowed == INF:
        return False
    j[J_ALLOWED] = allowed
    return True


@jit
def step_ends(par: A, j: A) -> None:
    """A port goes on to its next step or sample, or is done."""
    j[J_PHASE] = PHASE_STEP
    j[J_STEP] += 1
    if par[P_FREE] != 0 or j[J_STEP] == par[P_STEPS]:
        j[J_STEP] = 0
        j[J_SAMPLE] += 1
        if j[J_SAMPLE] == par[P_LAST_SAMPLE]:
            j[J_PHASE] = PHASE_DONE


@part
def port_next(
    par: A, reg: A, sv: A, pk: A, bits: A, pt: A, ps: A, sl: A, so: A, rt: A, lp: A, lr: A, dn: A, ring: A, stim: A, stim_ptr: A, marker_due: A,
    k: int,
) -> bool:  # fmt: skip
    """Put the next packet of port ``k`` into its own row of ``pk`` and its start into ``ready``; False when there is none, or none yet."""
    j, v, p = pt[k], sv[k], pk[k]
    while j[J_PHASE] != PHASE_DONE:
        sample, step, due = j[J_SAMPLE], j[J_STEP], 0
        if j[J_PHASE] == PHASE_STEP:
            if not step_begins(par, reg, pt, sl, dn, ring, k):
                return False
            j[J_PHASE] = PHASE_STIMULI
            j[J_STIMULUS] = max(j[J_STIMULUS], stim_ptr[sample * par[P_PORTS] + k])
            j[J_ROUTE] = -1
            continue
        if j[J_PHASE] == PHASE_STIMULI:
            m = j[J_STIMULUS]
            if m >= stim_ptr[sample * par[P_PORTS] + k + 1] or (par[P_FREE] == 0 and stim[m, I_STEP] != step):
                if par[P_FREE] != 0 or par[P_BARRIER] != 0:
                    step_ends(par, j)
                else:
                    j[J_PHASE] = PHASE_MARKERS
                    j[J_SOURCE] = j[J_SOURCES]
                    j[J_ROUTE] = -1
                continue
            item, source, address, value, due = stim[m, I_ITEM], stim[m, I_SLICE], stim[m, I_ADDRESS], stim[m, I_VALUE], stim[m, I_DUE]
            if par[P_FREE] != 0:
                due += j[J_ALLOWED]
        else:
            if j[J_SOURCE] >= j[J_SOURCES_END]:
                step_ends(par, j)
                continue
            item, source, address, value, due = MARKER, ps[j[J_SOURCE]], -1, 0, marker_due[sample * par[P_STEPS] + step]
        route, found = -1, True
        if item == CURRENT:
            p.dest = sl[source, S_CORE]
        else:
            if j[J_ROUTE] < 0:
                first_route(sv, so, lp, lr, k, source, address)
            route = this_route(sv, so, rt, lr, k, source, address)
            found = route >= 0
            j[J_ROUTE] = 0
        if found and par[P_TREE] != 0 and route >= 0:
            no_dests(par, bits, k)
            while route >= 0:
                add_dest(par, bits, k, route - so[source, O_ROUTE])
                v.route += 1
                route = this_route(sv, so, rt, lr, k, source, address)
            p.slice = source
            set_lowest(par, pk, bits, so, rt, k)
            route = p.route
        elif found and route >= 0:
            v.route += 1
            p.dest = rt[route, T_CORE]
        if not found or item == CURRENT:  # all packets of this stimulus or source have been sent
            j[J_ROUTE] = -1
            if j[J_PHASE] == PHASE_MARKERS:
                j[J_SOURCE] += 1
            else:
                j[J_STIMULUS] += 1
            if not found:
                continue
        p.item = item
        p.slice = source
        p.address = address
        p.value = value
        p.step = 0
        if par[P_FREE] == 0:
            p.step = sample * par[P_STEPS] + step if par[P_STREAMED] != 0 else step
        p.route = route
        p.origin = v.services
        p.sample = sample
        start = max(due, j[J_ALLOWED])
        if j[J_PREVIOUS] >= 0:
            start = max(start, j[J_PREVIOUS] + par[P_PORT])
        v.ready = start
        return True
    return False


@part
def first_route(sv: A, so: A, lp: A, lr: A, s: int, source: int, address: int) -> None:
    """Let server ``s`` begin with the routes of a spike or marker."""
    v = sv[s]
    base = so[source, O_LIST]
    if address >= 0 and base >= 0:
        v.listed = 1
        first = lp[base + address]
        v.route = first + 1
        v.route_end = first + 1 + lr[first]
    else:
        v.listed = 0
        v.route = so[source, O_ROUTE]
        v.route_end = so[source, O_ROUTE_END]


@part
def this_route(sv: A, so: A, rt: A, lr: A, s: int, source: int, address: int) -> int:
    """The route at which server ``s`` is, -1 behind the last; leaves ``route`` there."""
    v = sv[s]
    if v.listed != 0:
        return lr[v.route] if v.route < v.route_end else -1
    route = next_route(so, rt, source, address, v.route)
    v.route = route
    return route if route < v.route_end else -1


@part
def port(
    par: A, reg: A, st: A, cal: A, buckets: A, sv: A, ch: A, cw: A, slot: A, wc: A, wf: A, pk: A, bits: A, spare: A, rin: A, mask: A, ns: A, rr: A,
    rows: A, smp: A, pt: A, ps: A, sl: A, so: A, rt: A, lp: A, lr: A, dn: A, ring: A, stim: A, stim_ptr: A, marker_due: A, s: int, now: int,
) -> None:  # fmt: skip
    """Port ``s``: one sequence without choices, so packets are put as far ahead of time as credits and wires are known."""
    v, p = sv[s], pk[s]
    while True:
        if v.open == 0:
            if not port_next(par, reg, sv, pk, bits, pt, ps, sl, so, rt, lp, lr, dn, ring, stim, stim_ptr, marker_due, s):
                return
            if v.ready > par[P_UNTIL]:
                return
            begin(par, sv, s, v.ready, s)
            v.open = 1
            if par[P_TIMED] != 0:
                late(par, smp, p.sample, v.ready)
        time = credit(st, cal, buckets, ch, cw, slot, s, v.start, now, s, p.item)
        time = with_windows(par, st, cal, buckets, wc, wf, pk, bits, sl, so, rt, s, time, now)
        if time == UNKNOWN:
            return
        copy = new_packet(reg, spare)
        copy_packet(pk, s, copy)
        if par[P_TREE] != 0:
            copy_dests(par, bits, s, copy)
        put = v.start if time == DROPPED else time
        v.waited = put - v.start
        deliver(par, reg, st, cal, buckets, sv, ch, cw, slot, pk, spare, rin, mask, ns, rr, rows, s, v.start, time, copy)
        pt[s, J_PREVIOUS] = put
        finish(par, reg, sv, pk, spare, rows, smp, s, put)
        row = p.sample
        if smp[row, X_START] < 0 or v.start < smp[row, X_START]:
            smp[row, X_START] = v.start
        if p.item == SPIKE:
            smp[row, X_IN_SPIKES] += 1
        elif p.item == CURRENT:
            smp[row, X_IN_CURRENTS] += 1


@jit
def with_windows(
    par: A, st: A, cal: A, buckets: A, wc: A, wf: A, pk: A, bits: A, sl: A, so: A, rt: A, s: int, ready: int, now: int
) -> int:  # fmt: skip
    """The time of a put of the packet in row ``s``, server s, for which ``credit`` says ``ready``, window credits considered and, if known, used.

    Where spikes can be lost on the way, a credit may still come back before the earliest that is known: the server then waits for that time.
    """
    if par[P_WINDOW] == 0 or ready < 0:
        return ready
    p = pk[s]
    tree = par[P_TREE] != 0 and p.item != CURRENT
    window = sl[p.slice, S_WINDOW] if p.item == CURRENT else rt[p.route, T_WINDOW]
    time = all_windows(par, wc, wf, pk, bits, so, rt, s, ready) if tree else window_credit(par, wc, wf, window, ready)
    if time == UNKNOWN:
        return UNKNOWN
    if par[P_UNUSUAL] != 0 and time > ready and time > now:
        if tree:
            await_windows(par, wc, pk, bits, so, rt, s)
        else:
            wc[window, W_WAITING] = 1
        schedule(st, cal, buckets, s, time)
        return UNKNOWN
    if tree:
        use_windows(par, wc, pk, bits, so, rt, s)
    else:
        wc[window, W_PUTS] += 1
        wc[window, W_WAITING] = 0
    return time


@jit
def no_room(par: A, reg: A, rows: A, spk: A) -> bool:
    """Whether the buffers must be emptied before a station that acts ahead of time goes on."""
    return (par[P_RECORD] != 0 and reg[G_ROWS] + par[P_MARGIN] > rows.shape[0]) or (
        par[P_SPIKES] != 0 and reg[G_SPIKES] + par[P_MARGIN] > spk.shape[0]
    )


@jit
def copy_dests(par: A, bits: A, source: int, copy: int) -> None:
    """The same set of destinations for another packet."""
    for word in range(par[P_BIT_WORDS]):
        bits[copy * par[P_BIT_WORDS] + word] = bits[source * par[P_BIT_WORDS] + word]


@part
def sender(
    par: A, reg: A, st: A, cal: A, buckets: A, sv: A, ch: A, cw: A, slot: A, wc: A, wf: A, pk: A, bits: A, spare: A, rin: A, mask: A, ns: A, rr: A,
    rows: A, spk: A, smp: A, cc: A, co: A, sl: A, so: A, rt: A, lp: A, lr: A, en: A, axis: A, index: A, s: int, time: int,
) -> None:  # fmt: skip
    """Sender: one packet per destination core of the item it took from axon-out, or one for all (trees).

    The packet in hand is written into the sender's own row of ``pk``; what is put is a copy.
    """
    v = sv[s]
    core, tree = v.owner, par[P_TREE] != 0
    inlet = co[core, K_AXON_OUT]
    while True:
        if v.open != 0:
            item, out = pk[v.packet], pk[s]
            source, address = item.slice, item.address
            sample = charged(par, pk, v.packet, v.start)
            while True:
                route = this_route(sv, so, rt, lr, s, source, address)
                if route < 0:
                    break
                due = v.start + scaled(sv, s, (v.result + 1) * par[P_SEND]) + v.shift
                ready = due if v.last_put < 0 else max(due, v.last_put + par[P_PUT])
                out.route = route
                out.dest = rt[route, T_CORE]
                out.row = -1
                if par[P_SPARSE] != 0 and item.item == SPIKE and not tree:
                    out.row = seek(so, rt, en, axis, index, route, source, address)
                if tree:
                    all_dests(par, sv, pk, bits, so, rt, lr, s)
                put = credit(st, cal, buckets, ch, cw, slot, s, ready, time, s, item.item)
                put = with_windows(par, st, cal, buckets, wc, wf, pk, bits, sl, so, rt, s, put, time)
                if put == UNKNOWN:
                    return
                copy = new_packet(reg, spare)
                copy_packet(pk, s, copy)
                if tree:
                    copy_dests(par, bits, s, copy)
                v.result += 1
                happened = ready
                if put != DROPPED:
                    happened = put
                    cc[core, N_PACKETS_SENT] += 1
                    smp[sample, X_PACKETS] += 1
                v.waited += happened - ready
                v.shift += happened - due
                v.last_put = happened
                deliver(par, reg, st, cal, buckets, sv, ch, cw, slot, pk, spare, rin, mask, ns, rr, rows, s, ready, put, copy)
                v.route = v.route_end if tree else v.route + 1
            duration = par[P_SEND] * v.result if v.result > 0 else 1
            finish(par, reg, sv, pk, spare, rows, smp, s, max(v.start + scaled(sv, s, duration) + v.shift, v.last_put))
        if ch[inlet].used == 0:
            return
        start = max(slot[ch[inlet].head].time, v.end)
        if (start > time and st[s].eager == 0) or no_room(par, reg, rows, spk):
            schedule(st, cal, buckets, s, start)
            return
        came = slot[ch[inlet].head].time
        time = max(time, start)
        if time > par[P_UNTIL]:
            return
        packet = take(par, st, cal, buckets, sv, ch, cw, slot, inlet, time)
        if par[P_TIMED] != 0:
            late(par, smp, sample_at(par, came - par[P_COLUMNS + FIGURES * ch[inlet].figures + FORWARD]), time)
        begin(par, sv, s, time, packet)
        v.open = 1
        copy_packet(pk, packet, s)
        first_route(sv, so, lp, lr, s, pk[s].slice, pk[s].address)


@jit
def all_dests(par: A, sv: A, pk: A, bits: A, so: A, rt: A, lr: A, s: int) -> None:
    """Destinations of the sender's packet: all from the route in hand on; the cursor stays."""
    v, p = sv[s], pk[s]
    cursor = v.route
    no_dests(par, bits, s)
    route = this_route(sv, so, rt, lr, s, p.slice, p.address)
    while route >= 0:
        add_dest(par, bits, s, route - so[p.slice, O_ROUTE])
        v.route += 1
        route = this_route(sv, so, rt, lr, s, p.slice, p.address)
    v.route = cursor
    set_lowest(par, pk, bits, so, rt, s)


@jit
def return_window(par: A, st: A, cal: A, buckets: A, sl: A, rt: A, pk: A, wc: A, wf: A, packet: int, time: int) -> None:
    """The packet taken at ``time`` by its synapse (core) station gives its window credit back."""
    if par[P_WINDOW] != 0:
        p = pk[packet]
        return_credit(par, st, cal, buckets, wc, wf, sl[p.slice, S_WINDOW] if p.item == CURRENT else rt[p.route, T_WINDOW], time)
