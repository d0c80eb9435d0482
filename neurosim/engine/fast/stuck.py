"""When nothing wakes any more: is the run complete, and if not, what is it that ``neurosim.engine.deadlock`` should name?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neurosim.engine.deadlock import Stuck, diagnose
from neurosim.engine.events import CURRENT
from neurosim.engine.fast.tables import columns as c
from neurosim.engine.fast.tables.differences import Differences
from neurosim.engine.fast.tables.layout import Tables
from neurosim.program import C_AXON_IN, C_AXON_OUT, Program

I64 = NDArray[np.int64]


def unfinished(program: Program, tables: Tables) -> bool:
    """Whether a packet is in a channel, a service is blocked, a port is not empty or a slice has steps left."""
    t = tables
    steps_left = program.stepped and bool(np.any(t.sl[:, c.S_ENDED] < t.par[c.P_GLOBAL_STEPS]))
    return bool(steps_left or len(held(t)) or np.any(t.sv["open"]) or np.any(t.ch["used"]) or np.any(t.pt[:, c.J_PHASE] != c.PHASE_DONE))


def held(tables: Tables) -> I64:
    """Cores of settle with due neurons."""
    return np.flatnonzero(tables.dc[:, c.L_COUNT]) if isinstance(tables, Differences) else np.zeros(0, np.int64)


def still_moving(program: Program, tables: Differences) -> list[int]:
    """Streamed settle with windows: since which window each thing has been under way that the end of the run has left over."""
    t, width = tables, int(tables.par[c.P_WINDOW_PS])

    def window(time: int) -> int:
        return max(0, time - 1) // width

    found = [int(t.pt[port, c.J_SAMPLE]) for port in np.flatnonzero(t.pt[:, c.J_PHASE] != c.PHASE_DONE).tolist()]
    for server in np.flatnonzero(t.sv["open"]).tolist():
        since = window(int(t.sv["start"][server]))
        found.append(max(since, int(t.pk["sample"][server])) if server < program.ports else since)
    for channel in np.flatnonzero(t.ch["used"]).tolist():
        base, head, depth = (int(t.ch[name][channel]) for name in ("base", "head", "depth"))
        forward = int(t.par[c.P_COLUMNS + c.FIGURES * int(t.ch["figures"][channel]) + c.FORWARD])
        for k in range(int(t.ch["used"][channel])):
            place = t.slot[base + (head - base + k) % depth]
            found.append(max(window(int(place["time"]) - forward), int(t.pk["sample"][place["packet"]])))
    for core in held(t).tolist():
        base, room, head, count = (int(t.dc[core, k]) for k in (c.L_BASE, c.L_ROOM, c.L_HEAD, c.L_COUNT))
        found += [window(int(t.dl[base + (head + k) % room, c.D_READY]) - int(t.par[c.P_SETTLE])) for k in range(count)]
    return found


def last_start(tables: Tables) -> int:
    """Latest start of a service or put."""
    sv, ends = tables.sv, tables.ch["end"][int(tables.par[c.P_ROUTER0]) :]
    ports = int(tables.par[c.P_PORTS])
    latest = max(int(sv["start"].max()), int(sv["last_put"].max()), int(sv["end"][:ports].max()))
    return max(latest, int(ends[ends < c.INF].max(initial=0)))


def _destinations(program: Program, t: Tables, packet: int) -> tuple[list[int], list[int]]:
    """Routes and cores that a packet still serves, ascending; of a current the core only."""
    if t.pk["item"][packet] == CURRENT:
        return [], [int(t.pk["dest"][packet])]
    if not t.par[c.P_TREE]:
        return [int(t.pk["route"][packet])], [int(t.pk["dest"][packet])]
    first, words = int(program.route_ptr[t.pk["slice"][packet]]), int(t.par[c.P_BIT_WORDS])
    held = t.bits[packet * words : (packet + 1) * words].tolist()
    routes = [first + 64 * word + bit for word in range(words) for bit in range(64) if held[word] >> bit & 1]
    return routes, program.route_core[routes].tolist()


def _lacking(program: Program, t: Tables, server: int) -> int:
    """The lowest destination core of a blocked sender or port whose window has no credit."""
    routes, cores = _destinations(program, t, server)
    for route, core in zip(routes, cores, strict=False):
        window = t.rt[route, c.T_WINDOW]
        if t.wc[window, c.W_PUTS] - t.wc[window, c.W_TAKES] >= t.par[c.P_WINDOW]:
            return core
    return cores[0]


def raise_deadlock(program: Program, tables: Tables, sample: int) -> None:
    """Raise the Deadlock that ``diagnose`` makes of the state of the tables."""
    t = tables
    stuck = Stuck(time_ps=last_start(t), sample=0 if t.par[c.P_STREAMED] else sample)
    for server in np.flatnonzero(t.sv["open"]).tolist():
        if t.ch["used"][server] >= t.ch["depth"][server]:
            stuck.channels[server] = int(program.server_channel[server])
        else:
            stuck.windows[server] = _lacking(program, t, server)
    for core in held(t).tolist():  # its first due neuron lacks a credit
        server = program.ports + 3 * core
        stuck.channels[server] = int(program.server_channel[server])
    for channel in np.flatnonzero(t.ch["used"]).tolist():  # by its writer
        if t.cw[channel, c.C_KIND] not in (C_AXON_IN, C_AXON_OUT):
            _, cores = _destinations(program, t, int(t.slot["packet"][t.ch["head"][channel]]))
            outputs = program.next_server[t.ch["reader"][channel] - t.par[c.P_ROUTER0], cores]
            stuck.heads[int(program.server_channel[channel])] = int(outputs.min())
    if program.stepped:
        left = np.flatnonzero(t.sl[:, c.S_ENDED] < t.par[c.P_GLOBAL_STEPS])
        stuck.next_step = {int(q): int(t.sl[q, c.S_ENDED]) for q in left}
    for port in np.flatnonzero(t.pt[:, c.J_PHASE] != c.PHASE_DONE).tolist():
        start = int(t.pt[port, c.J_SAMPLE]) * program.steps if t.par[c.P_STREAMED] else 0
        stuck.port_steps[port] = int(t.pk["step"][port]) if t.sv["open"][port] else start + int(t.pt[port, c.J_STEP])
    raise diagnose(program, stuck)
