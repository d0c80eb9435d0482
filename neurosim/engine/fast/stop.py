"""The beginning of a simulation, and where a sample stops by its margin: a run that does not stop says it; the one that counts ends there."""

from __future__ import annotations

from neurosim.engine.anytime import Stop, stop_time
from neurosim.engine.events import Options
from neurosim.engine.fast.kernel import DONE, LATE, kernel
from neurosim.engine.fast.settle_kernel import settle_kernel
from neurosim.engine.fast.tables import columns as c
from neurosim.engine.fast.tables.differences import Differences, rest
from neurosim.engine.fast.tables.layout import Tables, reset
from neurosim.program import Program

TURN = 1 << 16
"""Wake-ups per turn of the run that only looks."""


def begin(program: Program, options: Options, tables: Tables, first: int, last: int, sample: int, stop: Stop | None) -> None:
    """The chip ready for samples [first, last) of the run, the first of them with number ``sample``; no service begins after ``stop``."""
    reset(tables, program, first, last, sample)
    if isinstance(tables, Differences):
        rest(tables, program)
    if options.stop_margin:
        tables.par[c.P_UNTIL] = min(options.window_ps or c.INF, c.INF if stop is None else stop.time)


def find_stop(program: Program, options: Options, tables: Tables, first: int, sample: int) -> Stop | None:
    """Where sample ``first`` stops, if that comes before the end of its window."""
    t, names = tables, [name for name in ("cc", "smp", "sspk", "gone", "back") if hasattr(tables, name)]
    kept = {name: getattr(t, name).copy() for name in names}
    flags = t.par[[c.P_RECORD, c.P_SPIKES]].copy()
    t.par[[c.P_RECORD, c.P_SPIKES, c.P_WATCH]] = 0, 0, 1
    begin(program, options, t, first, first + 1, sample, None)
    loop = settle_kernel() if isinstance(t, Differences) else kernel()
    while loop(TURN, *t.arguments()) not in (DONE, LATE):
        t.make_room()
    log = t.log[: t.reg[c.G_LOGS]].copy()
    for name, array in kept.items():
        getattr(t, name)[...] = array
    t.par[[c.P_RECORD, c.P_SPIKES]], t.par[c.P_WATCH] = flags, 0
    ended = int((log[:, c.LOG_END] < 0).argmax()) if (log[:, c.LOG_END] < 0).any() else len(log)
    seen = log[:ended, [c.LOG_END, c.LOG_MARGIN]].tolist()
    found = stop_time(((end, margin) for end, margin in seen), options.stop_margin, options.stop_after_ps)
    if found is None or (options.window_ps and found[0] > options.window_ps):
        return None
    time, since, last = found
    server, service = log[since, [c.LOG_SERVER, c.LOG_SERVICE]].tolist()
    return Stop(time, server, service, *log[last, [c.LOG_BEST, c.LOG_MARGIN]].tolist())
