"""``run_fast``: stimuli in, Result out. Runs the compiled loop in short turns, so that progress, Ctrl-C and bounded buffers work."""

from __future__ import annotations

import time

import numpy as np

from neurosim.engine.events import SPIKE, CURRENT, Options, Progress, Result, Sink, Stimulus
from neurosim.engine.fast import columns as c
from neurosim.engine.fast.kernel import DONE, LATE, kernel
from neurosim.engine.fast.layout import Tables, build, reset
from neurosim.engine.fast.results import Collector
from neurosim.engine.fast.stuck import raise_deadlock, unfinished
from neurosim.errors import DataError, Livelock, RunError
from neurosim.program import Program
from neurosim.units import format_time

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

    Raises RunError (discipline not built, streaming in free), DataError (stimuli out of order), Deadlock, Livelock.
    """
    if program.sync not in ("free", "wavefront"):
        raise RunError(f"sync {program.sync!r} is not simulated; compile with sync free or wavefront")
    if program.sync == "free" and options.streamed:
        raise RunError("streamed runs need steps, sync is 'free'; run isolated samples or compile with sync wavefront")
    stim, stim_ptr = _stimuli(program, stimuli)
    tables = build(program, options, len(stimuli), stim, stim_ptr)
    collector = Collector(program, options, tables, sink)
    groups = [(0, len(stimuli))] if options.streamed else [(k, k + 1) for k in range(len(stimuli))]
    for first, last in groups:
        sample = 0 if options.streamed else options.first_sample + first
        reset(tables, program, first, last, sample)
        budget = _run(program, options, tables, collector, progress, budget, first, len(stimuli))
        collector.finish(first, last)
        if progress is not None:
            progress(last, len(stimuli))
    for kind, column in ((SPIKE, "injected_spikes"), (CURRENT, "injected_currents")):
        collector.injected[column] = np.array([int(np.sum(s.item == kind)) for s in stimuli], np.int64)
    return collector.result()


def _run(
    program: Program, options: Options, tables: Tables, collector: Collector, progress: Progress | None, budget: int, first: int, total: int
) -> int:
    """One sample, or the whole streamed run; returns the budget that the next one begins with."""
    loop, arguments = kernel(), tables.arguments()
    sample = first + options.first_sample
    while True:
        began = time.perf_counter()
        code = loop(budget, *arguments)
        spent = time.perf_counter() - began
        if code == DONE:
            break
        if code == LATE:
            collector.flush(final=True)
            raise Livelock(
                f"sample {sample} was not complete at {format_time(options.max_time_ps)} (max_time_ps {options.max_time_ps}); "
                "raise max_time_ps or look for neurons that keep each other firing"
            )
        collector.flush()
        if budget >= 64:
            budget = max(64, min(1 << 30, budget * 2 if spent < TURN_S / 2 else budget // 2 if spent > TURN_S * 2 else budget))
        if progress is not None:
            ended = int(tables.sl[:, c.S_ENDED].min(initial=0)) // program.steps if options.streamed else 0
            progress(min(first + ended, total), total)
    if unfinished(program, tables):
        collector.flush(final=True)
        raise_deadlock(program, tables, sample)
    return budget


def _stimuli(program: Program, stimuli: list[Stimulus]) -> tuple[np.ndarray[tuple[int, int], np.dtype[np.int64]], np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """All stimuli in one table [M, 6] with pointers per sample."""
    stepped = program.sync != "free"
    parts = []
    for number, s in enumerate(stimuli):
        table = np.stack([np.asarray(x, np.int64) for x in (s.due_ps, s.step, s.item, s.slice, s.address, s.value)], axis=1)
        steps = table[:, c.I_STEP]
        if stepped and len(steps) and (np.any(np.diff(steps) < 0) or steps[0] < 0 or steps[-1] >= program.steps):
            raise DataError(f"stimulus of sample {number}: steps must ascend within 0..{program.steps - 1}, got {steps.min()}..{steps.max()}; sort by step")
        parts.append(table)
    table = np.ascontiguousarray(np.concatenate(parts or [np.zeros((0, c.I_COLUMNS), np.int64)]))
    pointers = np.cumsum([0] + [len(p) for p in parts]).astype(np.int64)
    return (table if len(table) else np.zeros((1, c.I_COLUMNS), np.int64)), pointers
