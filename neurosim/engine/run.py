"""Run stimuli on a Program: choice of the engine, checks, and isolated samples spread over worker processes."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import fields, replace
from itertools import pairwise
from typing import Any

import networkx as nx
import numpy as np

from neurosim.engine.anytime import check_stop
from neurosim.engine.events import Engine, Options, Progress, Result, Sink, Stimulus
from neurosim.errors import RunError
from neurosim.program import E_REGION, Program

ENGINES = ("fast", "reference")
SYNCS = ("free", "settle", "wavefront", "barrier")
WATCHED_PARTS = 200
"""Parts into which a watched run of isolated samples is cut, at most."""
CHUNKS_PER_WORKER = 4
"""Parts that each worker is dealt, so that slow samples even out."""


Watch = Callable[[Result, int, int], None]
"""Called with the result of the next part of the samples, the number of samples done and that in all."""


def engine_of(name: str) -> Engine:
    """The engine of that name, imported only now: each brings its own heavy library. Raises RunError with the names there are."""
    if name == "fast":
        from neurosim.engine.fast import run_fast

        return run_fast
    if name == "reference":
        from neurosim.engine.reference import run_reference

        return run_reference
    raise RunError(f"engine {name!r} does not exist; engines are {', '.join(ENGINES)}")


def simulate_stimuli(
    program: Program,
    stimuli: Sequence[Stimulus],
    *,
    engine: str = "fast",
    streamed: bool = False,
    jitter: int = 0,
    seed: int = 0,
    max_time_ps: int = 10**15,
    record: bool = False,
    fires_only: bool = False,
    spikes: bool = True,
    state: bool = False,
    link_loss: int = 0,
    window_ps: int = 0,
    stop_margin: int = 0,
    stop_after_ps: int = 0,
    first_sample: int = 0,
    workers: int = 1,
    sink: Sink | None = None,
    progress: Progress | None = None,
    watch: Watch | None = None,
) -> Result:
    """Simulate one stimulus per sample; the options are those of ``events.Options``.

    ``workers`` > 1 spreads isolated samples over that many processes (spawned, so the caller's script needs ``if __name__ == "__main__"``). The
    result is the same for every number of workers; ``sink`` then receives the trace part by part, in order of samples. ``watch`` is called with the
    result of every part of the isolated samples as it comes, in order, and with the samples done and in all; not in streamed runs.
    Raises RunError: unknown engine, discipline not simulated, streaming without steps or over workers, nothing to simulate, jitter out of range;
    Deadlock and Livelock (also RunErrors); DataError for a malformed stimulus.
    """
    run = engine_of(engine)
    if program.sync not in SYNCS:
        raise RunError(f"sync {program.sync!r} is not simulated in this version; compile with sync {' or '.join(SYNCS)}")
    if window_ps and program.stepped:
        raise RunError(f"window_ps {window_ps} belongs to sync free and settle; in sync {program.sync} a sample ends with its last step")
    if not 0 <= window_ps < 2**62:
        raise RunError(f"window_ps {window_ps} must lie between 1 and 2**62 (0 = until nothing moves)")
    if streamed and program.sync == "free" and not window_ps:
        raise RunError("sync free streams samples in fixed windows without reset; give window_ps, or use isolated samples or sync wavefront")
    if program.sync == "free" and not window_ps and (name := feeds_itself(program)) is not None:
        raise RunError(f"population {name} feeds itself, so in sync free a sample need not end; give window_ps")
    if not 0 <= link_loss <= 2**32:
        raise RunError(f"link_loss {link_loss} must lie between 0 and 2**32 (in 1/2**32 of the spikes on a link)")
    check_stop(program, stop_margin, stop_after_ps, streamed)
    if not stimuli:
        raise RunError("nothing to simulate: 0 samples; give at least 1")
    if not isinstance(jitter, int) or not 0 <= jitter <= 65535:
        raise RunError(f"jitter {jitter} is no whole number from 0 to 65535 (in 1/65536 of a service time, 6554 = 10 %)")
    if not 0 < max_time_ps < 2**63:
        raise RunError(f"max_time_ps {max_time_ps} must lie between 1 and 2**63 - 1")
    if workers < 1:
        raise RunError(f"workers {workers} must be at least 1")
    if streamed and workers > 1:
        raise RunError(f"workers {workers}: a streamed run is one simulation and cannot be split; use workers=1 or isolated samples")
    options = Options(
        streamed=streamed, jitter=jitter, seed=seed, max_time_ps=max_time_ps, record=record or sink is not None, fires_only=fires_only,
        spikes=spikes, state=state,
        link_loss=link_loss, window_ps=window_ps, stop_margin=stop_margin, stop_after_ps=stop_after_ps, first_sample=first_sample,
    )  # fmt: skip
    workers = min(workers, len(stimuli))
    if workers > 1:
        return _spread(program, stimuli, options, engine, workers, sink, progress, watch)
    if watch is not None and not streamed:
        return _in_parts(program, stimuli, options, run, sink, progress, watch)
    return run(program, list(stimuli), options, sink=sink, progress=progress)


def _in_parts(
    program: Program, stimuli: Sequence[Stimulus], options: Options, run: Engine, sink: Sink | None, progress: Progress | None, watch: Watch
) -> Result:
    """Isolated samples in consecutive parts, one after the other in this process."""
    bounds = np.linspace(0, len(stimuli), min(len(stimuli), WATCHED_PARTS) + 1).astype(int).tolist()
    parts = []
    for a, b in pairwise(bounds):
        part = run(program, list(stimuli[a:b]), replace(options, first_sample=options.first_sample + a), sink=sink)
        parts.append(part)
        if progress is not None:
            progress(b, len(stimuli))
        watch(part, b, len(stimuli))
    return join_results(parts)


def feeds_itself(program: Program) -> str | None:
    """Name of a population on a cycle of slices joined by entries, the first in Program order; None when there is none."""
    graph = nx.DiGraph()
    for s in range(program.slices):
        for r in range(int(program.route_ptr[s]), int(program.route_ptr[s + 1])):
            targets = program.region_slice[program.entry[program.entry_ptr[r] : program.entry_ptr[r + 1], E_REGION]]
            graph.add_edges_from((s, int(q)) for q in targets)
    parts = nx.strongly_connected_components(graph)
    looped = sorted(min(part) for part in parts if len(part) > 1 or graph.has_edge(*(2 * tuple(part))))
    return program.meta["populations"][int(program.slice_population[looped[0]])]["name"] if looped else None


def _spread(
    program: Program, stimuli: Sequence[Stimulus], options: Options, engine: str, workers: int, sink: Sink | None, progress: Progress | None,
    watch: Watch | None,
) -> Result:  # fmt: skip
    """Deal the samples out in consecutive parts, gather the results in order of samples."""
    # the trace of a part comes back in one piece, so with a sink a part is one sample
    count = len(stimuli) if sink is not None else min(len(stimuli), workers * CHUNKS_PER_WORKER)
    bounds = np.linspace(0, len(stimuli), count + 1).astype(int)
    parts = list(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True))
    results: list[Result | None] = [None] * len(parts)
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_load, initargs=(program, engine))
    try:
        futures = {
            pool.submit(_run_part, list(stimuli[a:b]), replace(options, first_sample=options.first_sample + a)): k for k, (a, b) in enumerate(parts)
        }
        written, done = 0, 0
        for future in as_completed(futures):
            k = futures[future]
            results[k] = future.result()
            done += parts[k][1] - parts[k][0]
            while written < len(parts) and (part := results[written]) is not None:
                if sink is not None:
                    sink.write(part.trace)
                    part.trace = part.trace[:0]
                written += 1
                if watch is not None:
                    watch(part, parts[written - 1][1], len(stimuli))
            if progress is not None:
                progress(done, len(stimuli))
    except BaseException:  # an error or Ctrl-C: nobody wants the rest
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return join_results([part for part in results if part is not None])


_worker: dict[str, Any] = {}
"""In a worker process: the program and the engine, loaded once."""


def _load(program: Program, engine: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends its workers
    _worker["program"], _worker["run"] = program, engine_of(engine)


def _run_part(stimuli: list[Stimulus], options: Options) -> Result:
    result: Result = _worker["run"](_worker["program"], stimuli, options)
    return result


def join_results(parts: Sequence[Result]) -> Result:
    """One Result of isolated runs over consecutive samples: arrays per sample joined, counters added, high-water marks the largest."""
    values: dict[str, Any] = {}
    for field in fields(Result):
        column = [getattr(part, field.name) for part in parts]
        if field.name == "window_ps":
            values[field.name] = sum(column)
        elif field.name == "sample":
            values[field.name] = {name: np.concatenate([table[name] for table in column]) for name in column[0]}
        elif field.name in ("server", "core", "channel"):
            values[field.name] = {name: (np.max if name == "high_water" else np.sum)([table[name] for table in column], axis=0) for name in column[0]}
        else:
            values[field.name] = np.concatenate(column)
    return Result(**values)
