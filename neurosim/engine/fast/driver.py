"""``run_fast``: stimuli in, Result out. Runs the compiled loop in short turns, so that progress, Ctrl-C and bounded buffers work."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from neurosim.engine.anytime import Stop, check_stop
from neurosim.engine.differences import differences
from neurosim.engine.events import CURRENT, Options, Progress, Result, Sink, Stimulus
from neurosim.engine.fast.kernel import DONE, LATE, kernel, kernel_without_cache
from neurosim.engine.fast.results import Collector
from neurosim.engine.fast.settle_kernel import settle_kernel, settle_kernel_without_cache
from neurosim.engine.fast.stop import begin, find_stop
from neurosim.engine.fast.stuck import last_start, raise_deadlock, unfinished
from neurosim.engine.fast.tables import columns as c
from neurosim.engine.fast.tables.differences import Differences, with_differences
from neurosim.engine.fast.tables.layout import Tables, build
from neurosim.engine.stimuli import check_stimulus
from neurosim.errors import Livelock, RunError
from neurosim.program import Program
from neurosim.units import format_time

I64 = NDArray[np.int64]

TURN_S = 0.1
"""Wall time that one turn of the compiled loop aims at."""


def run_fast(
    program: Program,
    stimuli: list[Stimulus],
    options: Options,
    *,
    sink: Sink | None = None,
    progress: Progress | None = None,
    budget: int = 4096,
) -> Result:
    """Simulate ``stimuli`` (one per sample) on ``program``; the contract of ``events.Engine``.

    ``budget`` is the number of wake-ups of the first turn of the compiled loop; later turns adapt to 0.1 s (a budget below 64 is kept as it is, for
    tests). The result does not depend on it.

    Raises RunError (streaming in free without a window, a slice of free that reaches itself without one), DataError (stimuli out of order), Deadlock,
    Livelock.
    """
    if program.sync == "free" and options.streamed and not options.window_ps:
        raise RunError("streamed runs of sync free need window_ps; give it, or run isolated samples")
    stim, stim_ptr, marker_due = _stimuli(program, stimuli, options)
    check_stop(program, options.stop_margin, options.stop_after_ps, options.streamed)
    tables = build(program, options, len(stimuli), stim, stim_ptr, marker_due)
    if program.sync == "settle":
        tables = with_differences(program, tables, len(stimuli))
    collector = Collector(program, options, tables, sink)
    groups = [(0, len(stimuli))] if options.streamed else [(k, k + 1) for k in range(len(stimuli))]
    for first, last in groups:
        sample = 0 if options.streamed else options.first_sample + first
        stop = find_stop(program, options, tables, first, sample) if options.stop_margin else None
        begin(program, options, tables, first, last, sample, stop)
        collector.hold = c.INF if stop is None else stop.time
        budget = _run(program, options, tables, collector, progress, budget, first, len(stimuli), stop)
        collector.finish(first, last)
        if progress is not None:
            progress(last, len(stimuli))
    return collector.result()


def _run(
    program: Program, options: Options, tables: Tables, collector: Collector, progress: Progress | None, budget: int, first: int, total: int,
    stop: Stop | None,
) -> int:  # fmt: skip
    """One sample, or the whole streamed run; returns the budget that the next one begins with."""
    settle = isinstance(tables, Differences)
    loop = settle_kernel() if settle else kernel()
    sample = first + options.first_sample
    while True:
        began = time.perf_counter()
        try:
            code = loop(budget, *tables.arguments())
        except OSError:  # raised while the cache is written, before the first turn: nothing has moved yet
            loop = settle_kernel_without_cache() if settle else kernel_without_cache()
            code = loop(budget, *tables.arguments())
        spent = time.perf_counter() - began
        if code == DONE and last_start(tables) <= options.max_time_ps:
            break
        if code in (DONE, LATE):
            collector.flush(final=True)
            raise Livelock(
                f"sample {sample} was not complete at {format_time(options.max_time_ps)} (max_time_ps {options.max_time_ps}); "
                "raise max_time_ps or look for a network that feeds itself"
            )
        collector.flush()
        tables.make_room()
        if budget >= 64:
            budget = max(64, min(1 << 30, budget * 2 if spent < TURN_S / 2 else budget // 2 if spent > TURN_S * 2 else budget))
        if progress is not None:
            ended = int(tables.sl[:, c.S_ENDED].min(initial=0)) // program.steps if options.streamed else 0
            ended = int(tables.reg[c.G_GLOBAL]) if options.streamed and settle else ended
            progress(min(first + ended, total), total)
    if unfinished(program, tables):
        if stop is not None:
            collector.stopped(first, stop)
            return budget
        if not program.stepped and options.window_ps:
            tables.smp[total - 1 if options.streamed else first, c.X_CUT] = 1
            return budget
        collector.flush(final=True)
        raise_deadlock(program, tables, sample)
    return budget


def _stimuli(program: Program, stimuli: list[Stimulus], options: Options) -> tuple[I64, I64, I64]:
    """All stimuli in one table [M, 6], pointers [samples * ports + 1], and when the markers of each [sample * T + step] are due."""
    stepped = program.stepped
    parts, sizes = [], [np.zeros(1, np.int64)]
    marker_due = np.zeros((max(1, len(stimuli)), program.steps), np.int64)
    for number, s in enumerate(stimuli):
        check_stimulus(program, s, number)  # the compiled loop checks no index
    if program.sync == "settle":
        stimuli = differences(program, stimuli, options.streamed, options.first_sample)
    for number, s in enumerate(stimuli):
        part = np.stack([np.asarray(x, np.int64) for x in (s.due_ps, s.step, s.item, s.slice, s.address, s.value)], axis=1)
        if stepped and s.marker_due_ps is not None:
            marker_due[number] = s.marker_due_ps
        port = np.where(part[:, c.I_ITEM] == CURRENT, 0, program.source_port[part[:, c.I_SLICE]])
        parts.append(part[np.argsort(port, kind="stable")] if program.ports > 1 else part)
        sizes.append(np.bincount(port, minlength=program.ports))
    table = np.ascontiguousarray(np.concatenate(parts or [np.zeros((0, c.I_COLUMNS), np.int64)]))
    pointers = np.cumsum(np.concatenate(sizes)).astype(np.int64)
    return (table if len(table) else np.zeros((1, c.I_COLUMNS), np.int64)), pointers, marker_due.ravel()
