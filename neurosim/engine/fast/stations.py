"""What port, sender and router do when they wake. Each function leaves its station armed for the next thing it can do.

A decision at ``time`` reads its own station only; what it causes elsewhere is written early, with the future time at which it is due.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from neurosim.arithmetic import jittered
from neurosim.engine.events import CURRENT, MARKER, SPIKE
from neurosim.engine.fast.columns import *
from neurosim.engine.fast.compiled import jit, part
from neurosim.engine.fast.fabric import begin, credit, credit_of, deliver, enqueue, finish, jitter_draw, notify, scaled, schedule, take

A = NDArray[Any]


@jit
def sample_of(par: A, step: int) -> int:
    """Row of ``smp`` for a packet of global step ``step``."""
    if par[P_STREAMED] != 0:
        return step // par[P_STEPS]
    return par[P_SAMPLE_INDEX]


@jit
def next_route(rt: A, so: A, source: int, address: int, route: int) -> int:
    """First route >= ``route`` of the source that takes neuron ``address`` (every route for a marker, address -1); the end of its routes if none."""
    end = so[source, O_ROUTE_END]
    if address < 0 or route >= end:
        return route
    channels, columns = so[source, O_C1] - so[source, O_C0], so[source, O_X1] - so[source, O_X0]
    c = address % channels + so[source, O_C0]
    pixel = address // channels
    x = pixel % columns + so[source, O_X0]
    y = pixel // columns + so[source, O_Y0]
    while route < end:
        if rt[route, T_C0] <= c < rt[route, T_C1] and rt[route, T_Y0] <= y < rt[route, T_Y1] and rt[route, T_X0] <= x < rt[route, T_X1]:
            word = rt[route, T_MASK] + address
            if rt[route, T_MASK] < 0 or rt[word // T_COLUMNS, word % T_COLUMNS] != 0:
                break
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
def port_next(par: A, reg: A, sv: A, sl: A, so: A, rt: A, dn: A, ring: A, stim: A, stim_ptr: A, marker_due: A) -> int:
    """Find the port's next packet and put it into its item fields: 1; 0 when there is none, or none yet. Its start goes to V_READY."""
    while reg[G_PHASE] != PHASE_DONE:
        step = reg[G_STEP]
        sample = reg[G_SAMPLE]
        due = 0
        if reg[G_PHASE] == PHASE_STEP:
            if par[P_FREE] == 0:
                g = sample * par[P_STEPS] + step if par[P_STREAMED] != 0 else step
                allowed = steps_allow(par, sl, dn, ring, par[P_PORT_DOWN], par[P_PORT_DOWN_END], g)
                if allowed == INF:
                    return 0
                reg[G_ALLOWED] = allowed
            reg[G_PHASE] = PHASE_STIMULI
            reg[G_ROUTE] = -1
            continue
        if reg[G_PHASE] == PHASE_STIMULI:
            k = reg[G_STIMULUS]
            if k >= stim_ptr[sample + 1] or (par[P_FREE] == 0 and stim[k, I_STEP] != step):
                reg[G_PHASE] = PHASE_MARKERS if par[P_FREE] == 0 else PHASE_DONE
                reg[G_SOURCE] = par[P_SLICES]
                reg[G_ROUTE] = -1
                continue
            item, source, address, value, due = stim[k, I_ITEM], stim[k, I_SLICE], stim[k, I_ADDRESS], stim[k, I_VALUE], stim[k, I_DUE]
            route, dest = -1, 0
            if item == CURRENT:
                dest = sl[source, S_CORE]
                reg[G_STIMULUS] = k + 1
            else:
                route = next_route(rt, so, source, address, so[source, O_ROUTE] if reg[G_ROUTE] < 0 else reg[G_ROUTE])
                if route >= so[source, O_ROUTE_END]:
                    reg[G_STIMULUS] = k + 1
                    reg[G_ROUTE] = -1
                    continue
                dest = rt[route, T_CORE]
                reg[G_ROUTE] = route + 1
        else:
            source = reg[G_SOURCE]
            if source >= par[P_SOURCES]:
                reg[G_PHASE] = PHASE_STEP
                reg[G_STEP] = step + 1
                if step + 1 == par[P_STEPS]:
                    reg[G_STEP] = 0
                    reg[G_SAMPLE] = sample + 1
                    if sample + 1 == par[P_LAST_SAMPLE]:
                        reg[G_PHASE] = PHASE_DONE
                continue
            route = so[source, O_ROUTE] if reg[G_ROUTE] < 0 else reg[G_ROUTE]
            if route >= so[source, O_ROUTE_END]:
                reg[G_SOURCE] = source + 1
                reg[G_ROUTE] = -1
                continue
            item, address, value, due = MARKER, -1, 0, marker_due[sample * par[P_STEPS] + step]
            dest = rt[route, T_CORE]
            reg[G_ROUTE] = route + 1
        sv[0, V_ITEM], sv[0, V_SLICE], sv[0, V_ADDRESS], sv[0, V_VALUE] = item, source, address, value
        sv[0, V_STEP] = 0
        if par[P_FREE] == 0:
            sv[0, V_STEP] = sample * par[P_STEPS] + step if par[P_STREAMED] != 0 else step
        sv[0, V_DEST], sv[0, V_ROUTE], sv[0, V_ORIGIN] = dest, route, sv[0, V_SERVICES]
        sv[0, V_CAUSE_SERVER], sv[0, V_CAUSE_SERVICE] = -1, -1
        start = max(due, reg[G_ALLOWED])
        if reg[G_PREVIOUS] >= 0:
            start = max(start, reg[G_PREVIOUS] + par[P_PORT])
        sv[0, V_READY] = start
        return 1
    return 0


@jit
def port(
    par: A, reg: A, hp: A, sv: A, ch: A, slot: A, rin: A, ns: A, wc: A, wf: A, rows: A, smp: A, sl: A, so: A, rt: A, dn: A, ring: A, stim: A,
    stim_ptr: A, marker_due: A,
) -> None:  # fmt: skip
    """Port 0: one sequence without choices, so packets are put as far ahead of time as credits and wires are known."""
    while True:
        if sv[0, V_OPEN] == 0:
            if port_next(par, reg, sv, sl, so, rt, dn, ring, stim, stim_ptr, marker_due) == 0:
                return
            begin(par, reg, sv, 0, sv[0, V_READY])
            sv[0, V_OPEN] = 1
            row = sample_of(par, sv[0, V_STEP])
            if smp[row, X_START] < 0:
                smp[row, X_START] = sv[0, V_START]
            if sv[0, V_ITEM] == SPIKE:
                smp[row, X_IN_SPIKES] += 1
            elif sv[0, V_ITEM] == CURRENT:
                smp[row, X_IN_CURRENTS] += 1
        dest = sv[0, V_DEST]
        window = dest if par[P_WINDOW] > 0 else -1
        time = credit(par, ch, slot, wc, wf, sv[0, V_CHANNEL], window, sv[0, V_START])
        if time < 0:
            return
        if window >= 0:
            wc[window, W_PUTS] += 1
        sv[0, V_WAITED] = time - sv[0, V_START]
        deliver(
            par, reg, hp, sv, ch, slot, rin, ns, rows, 0, time, time, sv[0, V_ITEM], sv[0, V_SLICE], sv[0, V_ADDRESS], sv[0, V_VALUE],
            dest, sv[0, V_ORIGIN], sv[0, V_ROUTE], 0,
        )  # fmt: skip
        reg[G_PREVIOUS] = time
        finish(par, reg, sv, rows, 0, time)


@part
def sender(
    par: A, reg: A, hp: A, sv: A, ch: A, slot: A, rin: A, ns: A, wc: A, wf: A, rows: A, smp: A, cc: A, co: A, so: A, rt: A, s: int, time: int
) -> None:  # fmt: skip
    """Sender: one packet per destination core of the item it took from axon-out."""
    core = sv[s, V_OWNER]
    inlet = co[core, K_AXON_OUT]
    while True:
        if sv[s, V_OPEN] != 0:
            source, address = sv[s, V_SLICE], sv[s, V_ADDRESS]
            blocked = False
            while sv[s, V_ROUTE] < so[source, O_ROUTE_END]:
                route = sv[s, V_ROUTE]
                due = sv[s, V_START] + scaled(sv, s, (sv[s, V_RESULT] + 1) * par[P_SEND]) + sv[s, V_SHIFT]
                ready = due if sv[s, V_LAST_PUT] < 0 else max(due, sv[s, V_LAST_PUT] + par[P_PUT])
                dest = rt[route, T_CORE]
                window = (core + 1) * par[P_CORES] + dest if par[P_WINDOW] > 0 else -1
                put = credit(par, ch, slot, wc, wf, sv[s, V_CHANNEL], window, ready)
                if put < 0:
                    blocked = True
                    break
                if window >= 0:
                    wc[window, W_PUTS] += 1
                sv[s, V_RESULT] += 1
                sv[s, V_WAITED] += put - ready
                sv[s, V_SHIFT] += put - due
                sv[s, V_LAST_PUT] = put
                cc[core, N_PACKETS_SENT] += 1
                smp[sample_of(par, sv[s, V_STEP]), X_PACKETS] += 1
                deliver(
                    par,
                    reg,
                    hp,
                    sv,
                    ch,
                    slot,
                    rin,
                    ns,
                    rows,
                    s,
                    ready,
                    put,
                    sv[s, V_ITEM],
                    source,
                    address,
                    sv[s, V_VALUE],
                    dest,
                    sv[s, V_ORIGIN],
                    route,
                    1,
                )
                sv[s, V_ROUTE] = next_route(rt, so, source, address, route + 1)
            if blocked:
                return
            duration = par[P_SEND] * sv[s, V_RESULT] if sv[s, V_RESULT] > 0 else 1
            finish(par, reg, sv, rows, s, max(sv[s, V_START] + scaled(sv, s, duration) + sv[s, V_SHIFT], sv[s, V_LAST_PUT]))
        if ch[inlet, C_PUTS] == ch[inlet, C_TAKES]:
            return
        arrival = slot[ch[inlet, C_HEAD], L_ARRIVE]
        if time < sv[s, V_END] or time < arrival:
            schedule(hp, s, max(arrival, sv[s, V_END]))
            return
        take(hp, sv, ch, slot, inlet, time, s)
        begin(par, reg, sv, s, time)
        sv[s, V_OPEN] = 1
        sv[s, V_ROUTE] = next_route(rt, so, sv[s, V_SLICE], sv[s, V_ADDRESS], so[sv[s, V_SLICE], O_ROUTE])


@part
def router(par: A, reg: A, hp: A, sv: A, ch: A, slot: A, rin: A, ns: A, rows: A, smp: A, rr: A, k: int, time: int) -> None:
    """Router ``k``: puts that waited for a credit, then again and again the least (request time, input) among heads whose output is free.

    This is where most of the time goes, so a service is not made of the general functions but written out.
    """
    first, end = rr[k, Q_IN], rr[k, Q_IN_END]
    waiting = rr[k, Q_OUT] if rr[k, Q_OPEN] > 0 else rr[k, Q_OUT_END]
    while True:
        if waiting < rr[k, Q_OUT_END]:
            output = waiting
            waiting += 1
            if sv[output, V_OPEN] == 0:
                continue
        else:
            best, output, earliest, wake = -1, -1, INF, INF
            for j in range(first, end):
                arrival = rin[j, R_ARRIVE]
                if arrival == INF:
                    continue
                start = max(arrival, sv[rin[j, R_OUTPUT], V_END])
                if start > time:
                    wake = min(wake, start)
                    continue
                request = max(arrival, rin[j, R_TAKE])
                if request < earliest:
                    best, earliest = j, request
            if best < 0:
                if wake < INF:
                    schedule(hp, par[P_ROUTER0] + k, wake)
                return
            inlet, output = rin[best, R_CHANNEL], rin[best, R_OUTPUT]
            take(hp, sv, ch, slot, inlet, time, output)
            rin[best, R_TAKE] = time
            rin[best, R_ARRIVE] = INF
            if ch[inlet, C_PUTS] != ch[inlet, C_TAKES]:
                head = ch[inlet, C_HEAD]
                rin[best, R_ARRIVE] = slot[head, L_ARRIVE]
                rin[best, R_OUTPUT] = ns[k, slot[head, L_DEST]]
            n = sv[output, V_SERVICES]
            sv[output, V_SERVICES] = n + 1
            sv[output, V_START] = time
            reg[G_LAST_START] = max(reg[G_LAST_START], time)
            hop = sv[output, V_HOP]
            if par[P_AMPLITUDE] > 0:
                hop = jittered(hop, jitter_draw(par[P_SEED], par[P_SAMPLE], output, n, par[P_AMPLITUDE]))
            sv[output, V_READY] = time + hop
            smp[sample_of(par, sv[output, V_STEP]), X_HOPS] += 1
        channel, ready = sv[output, V_CHANNEL], sv[output, V_READY]
        put = credit_of(ch, slot, channel, ready)
        if put < 0:
            if sv[output, V_OPEN] == 0:
                sv[output, V_OPEN] = 1
                sv[output, V_WAITED] = 0
                sv[output, V_END] = INF
                rr[k, Q_OPEN] += 1
            continue
        if sv[output, V_OPEN] != 0:
            rr[k, Q_OPEN] -= 1
        sv[output, V_WAITED] = put - ready
        place = enqueue(ch, slot, channel, put)
        for j in range(F_COLUMNS):
            slot[place, L_ITEM + j] = sv[output, V_ITEM + j]
        slot[place, L_CAUSE_SERVER] = output
        slot[place, L_CAUSE_SERVICE] = sv[output, V_SERVICES] - 1
        reg[G_LAST_START] = max(reg[G_LAST_START], put)
        notify(par, hp, sv, ch, slot, rin, ns, channel, place)
        finish(par, reg, sv, rows, output, put)


@jit
def return_window(par: A, hp: A, sv: A, sl: A, wc: A, wf: A, s: int, core: int, time: int) -> None:
    """The packet just taken by server ``s`` gives its window credit back, t_wire after ``time``."""
    if par[P_WINDOW] == 0:
        return
    source = 0
    if sv[s, V_ITEM] != CURRENT and sv[s, V_SLICE] < par[P_SLICES]:
        source = 1 + sl[sv[s, V_SLICE], S_CORE]
    window = source * par[P_CORES] + core
    wf[window * par[P_WINDOW] + wc[window, W_TAKES] % par[P_WINDOW]] = time + par[P_WIRE]
    wc[window, W_TAKES] += 1
    if wc[window, W_WAITING] != 0:
        wc[window, W_WAITING] = 0
        schedule(hp, 3 * source, time + par[P_WIRE])
