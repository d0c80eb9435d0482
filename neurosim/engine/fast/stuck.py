"""When nothing wakes any more: is the run complete, and if not, what is it that ``neurosim.engine.deadlock`` should name?"""

from __future__ import annotations

import numpy as np

from neurosim.engine.deadlock import Stuck, diagnose
from neurosim.engine.fast import columns as c
from neurosim.engine.fast.layout import Tables
from neurosim.program import C_AXON_IN, C_AXON_OUT, Program


def unfinished(program: Program, tables: Tables) -> bool:
    """Whether a packet is in a channel, a service is blocked, the port is not empty or a slice has steps left."""
    t = tables
    steps_left = program.sync != "free" and bool(np.any(t.sl[:, c.S_ENDED] < t.par[c.P_GLOBAL_STEPS]))
    return bool(steps_left or np.any(t.sv[:, c.V_OPEN]) or np.any(t.ch[:, c.C_PUTS] != t.ch[:, c.C_TAKES]) or int(t.reg[c.G_PHASE]) != c.PHASE_DONE)


def raise_deadlock(program: Program, tables: Tables, sample: int) -> None:
    """Raise the Deadlock that ``diagnose`` makes of the state of the tables."""
    t = tables
    stuck = Stuck(time_ps=int(t.reg[c.G_LAST_START]), sample=0 if t.par[c.P_STREAMED] else sample)
    for server in np.flatnonzero(t.sv[:, c.V_OPEN]).tolist():
        channel = int(t.sv[server, c.V_CHANNEL])
        if t.ch[channel, c.C_PUTS] - t.ch[channel, c.C_TAKES] >= t.ch[channel, c.C_DEPTH]:
            stuck.channels[server] = channel
        else:
            dest = t.rt[t.sv[server, c.V_ROUTE], c.T_CORE] if server > 0 else t.sv[0, c.V_DEST]
            stuck.windows[server] = int(dest)
    for channel in np.flatnonzero(t.ch[:, c.C_PUTS] != t.ch[:, c.C_TAKES]).tolist():
        if t.ch[channel, c.C_KIND] not in (C_AXON_IN, C_AXON_OUT):
            router = t.ch[channel, c.C_READER] - t.par[c.P_ROUTER0]
            stuck.heads[channel] = int(t.ns[router, t.slot[t.ch[channel, c.C_HEAD], c.L_DEST]])
    if program.sync != "free":
        left = np.flatnonzero(t.sl[:, c.S_ENDED] < t.par[c.P_GLOBAL_STEPS])
        stuck.next_step = {int(q): int(t.sl[q, c.S_ENDED]) for q in left}
    if t.sv[0, c.V_OPEN]:
        stuck.port_steps[0] = int(t.sv[0, c.V_STEP])
    elif int(t.reg[c.G_PHASE]) != c.PHASE_DONE:
        start = int(t.reg[c.G_SAMPLE]) * program.steps if t.par[c.P_STREAMED] else 0
        stuck.port_steps[0] = start + int(t.reg[c.G_STEP])
    raise diagnose(program, stuck)
