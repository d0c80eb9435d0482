"""Questions to a stored run: which cores and links are busy, and what happened at a core in a window of time."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from neurosim.engine.events import ITEM_NAMES, ROW_NAMES, ROW_PUT, Result
from neurosim.errors import DataError
from neurosim.program import C_AXON_IN, C_AXON_OUT, Program
from neurosim.trace.names import ROUTER, SENDER, SOMA, SYNAPSE, link_class, link_reader, module_place, neuron_name, population_names, server_names
from neurosim.trace.store import read_trace, recorded_samples
from neurosim.trace.stored import StoredRun
from neurosim.units import format_time


class HasCounters(Protocol):
    """A program and its result: a stored run, or a run just made."""

    @property
    def program(self) -> Program:
        """The program, weights not needed."""
        ...

    @property
    def result(self) -> Result:
        """Counters of the run."""
        ...


def core_summary(run: HasCounters) -> list[dict[str, Any]]:
    """One row per core that holds a slice, ascending.

    Keys: core, populations (with their extra ops), synops, pairs (of them: increments of activity-written synapses), op_reads (words that extra
    ops read), spikes (fires), retracted and cancelled (settle), packets, saturations; synapse_busy, soma_busy, sender_busy, blocked (the station that
    waits most for credits), held, idle (of the busiest station), all as parts of the simulated window; axon_in_high_water and axon_out_high_water
    (items).
    """
    program, result = run.program, run.result
    window = max(1, result.window_ps)
    names = population_names(program)
    stations = {kind: _by_core(program, kind) for kind in (SYNAPSE, SOMA, SENDER)}
    share = {name: result.server[name] / window for name in ("busy_ps", "blocked_ps", "held_ps")}
    rows = []
    for core in sorted(set(program.slice_core.tolist())):
        servers = [int(stations[kind][core]) for kind in (SYNAPSE, SOMA, SENDER)]
        busy = [float(share["busy_ps"][v]) for v in servers]
        blocked = [float(share["blocked_ps"][v]) for v in servers]
        held = [float(share["held_ps"][v]) for v in servers]
        chosen = sorted(set(program.slice_population[program.slice_core == core].tolist()))
        rows.append(
            {
                "core": core,
                "populations": [names[p] for p in chosen],
                "synops": int(result.core["synops"][core]),
                "pairs": int(result.core["pairs"][core]),
                "op_reads": int(result.core["op_reads"][core]),
                "spikes": int(result.core["fires"][core]),
                "retracted": int(result.core["retracted"][core]) if "retracted" in result.core else 0,
                "cancelled": int(result.core["cancelled"][core]) if "cancelled" in result.core else 0,
                "packets": int(result.core["packets_sent"][core]),
                "saturations": int(result.core["saturations"][core]),
                "synapse_busy": busy[0],
                "soma_busy": busy[1],
                "sender_busy": busy[2],
                "blocked": max(blocked),
                "held": max(held),
                "idle": 1.0 - max(sum(parts) for parts in zip(busy, blocked, held, strict=True)),
                "axon_in_high_water": _high_water(program, result, C_AXON_IN, core),
                "axon_out_high_water": _high_water(program, result, C_AXON_OUT, core),
            }
        )
    return rows


def busiest_cores(run: HasCounters, count: int = 5) -> list[dict[str, Any]]:
    """Rows of ``core_summary``, the busiest station of a core deciding."""
    return sorted(core_summary(run), key=lambda row: (-max(row["synapse_busy"], row["soma_busy"], row["sender_busy"]), row["core"]))[:count]


def link_summary(run: HasCounters) -> list[dict[str, Any]]:
    """One row per router output: link (its name), router, reader (router, or core of a local output), class (of ``link_class``), packets,
    busy and blocked as parts of the window, high_water of the queue that it feeds."""
    program, result = run.program, run.result
    window = max(1, result.window_ps)
    names = server_names(program)
    rows = []
    for v in np.flatnonzero(program.server_kind == ROUTER).tolist():
        rows.append(
            {
                "link": names[v],
                "router": int(program.server_owner[v]),
                "reader": link_reader(program, v),
                "class": link_class(program, v),
                "packets": int(result.server["services"][v]),
                "busy": float(result.server["busy_ps"][v] / window),
                "blocked": float(result.server["blocked_ps"][v] / window),
                "high_water": int(result.channel["high_water"][program.server_channel[v]]),
            }
        )
    return rows


def busiest_links(run: HasCounters, count: int = 5) -> list[dict[str, Any]]:
    """Rows of ``link_summary`` with the most packets; local outputs are left out."""
    links = [row for row in link_summary(run) if row["class"] != "local"]
    return sorted(links, key=lambda row: (-row["packets"], row["link"]))[:count]


def trace_rows(
    run: StoredRun,
    *,
    sample: int | None = None,
    from_ps: int | None = None,
    to_ps: int | None = None,
    core: int | None = None,
    population: str | None = None,
) -> list[dict[str, Any]]:
    """Event rows of a window with readable names, in order of time; a whole trace has millions, ``trace_window`` cuts them off."""
    return trace_window(run, sample=sample, from_ps=from_ps, to_ps=to_ps, core=core, population=population)[0]


def trace_window(
    run: StoredRun,
    *,
    sample: int | None = None,
    from_ps: int | None = None,
    to_ps: int | None = None,
    core: int | None = None,
    population: str | None = None,
    limit: int | None = None,
) -> tuple[list[dict[str, Any]], int]:
    """(the first ``limit`` event rows of a window with readable names, how many there are), in order of time.

    A window has what begins in [from_ps, to_ps), and the services that reach into it.
    Keys: time (ps), station, kind, item, population, neuron (c, y, x), in_module (its place in the tensor of the module that the layer was read from,
    where that has another order), value, step, dest, lasts, blocked (texts), lasts_ps, blocked_ps, synops, cause.
    Raises DataError: a run without a trace, a core or population that does not exist.
    """
    if run.trace_path is None:
        raise DataError(f"run {run.path} has no trace; run again with --record T.parquet")
    cores, populations = None if core is None else [core], None if population is None else [population]
    rows = read_trace(run.trace_path, sample, from_ps, to_ps, cores, populations, reaching=True)
    return readable(run.program, rows[:limit]), len(rows)


def why_empty(run: StoredRun, sample: int, core: int | None, population: str | None) -> str:
    """Why a window of a recorded run has no row: the core holds nothing, the sample was not recorded, or all happens at other times."""
    program, trace = run.program, run.trace_path
    assert trace is not None, "asked of recorded runs alone"
    if core is not None and core not in program.slice_core:
        return f"run {run.path}: core {core} holds no part of the network; those that do are {_ranges(sorted(set(program.slice_core.tolist())))}"
    about = "".join([f" at core {core}" if core is not None else "", f" about {population}" if population is not None else ""])
    words = f" of sample {sample}"
    rows = read_trace(trace, sample, None, None, None if core is None else [core], None if population is None else [population])
    if len(rows):
        first, last = int(rows["time"].min()), int(np.maximum(rows["time"], rows["end"]).max())
        return f"run {run.path}: no event{words}{about} in that window; its events are from {format_time(first)} to {format_time(last)}"
    recorded = recorded_samples(trace)
    if recorded and sample not in recorded:
        return f"run {run.path}: the trace has no event{words}; it has samples {_ranges(recorded)}"
    return f"run {run.path}: the trace has no event{words}{about}; ask about another core or population"


def _ranges(numbers: list[int]) -> str:
    """``0 to 3, 7``."""
    breaks = [0, *(k for k in range(1, len(numbers)) if numbers[k] != numbers[k - 1] + 1), len(numbers)]
    runs = [(numbers[a], numbers[b - 1]) for a, b in pairwise(breaks)]
    return ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in runs)


def readable(program: Program, rows: NDArray[Any]) -> list[dict[str, Any]]:
    """Trace rows (TRACE_DTYPE) as dictionaries of ``trace_rows``."""
    servers = server_names(program)
    names = [str(p["name"]) for p in program.meta["populations"]]
    boxes = program.source_box.tolist()
    populations = program.source_population.tolist()
    readable_rows = []
    for row in rows:
        source, put = int(row["slice"]), int(row["kind"]) == ROW_PUT
        known = source >= 0 and populations[source] >= 0
        lasts = int(row["end"]) - int(row["time"])
        cause = int(row["cause_server"])
        readable_rows.append(
            {
                "time": int(row["time"]),
                "station": servers[int(row["server"])],
                "kind": ROW_NAMES[int(row["kind"])],
                "item": ITEM_NAMES[int(row["item"])],
                "population": names[populations[source]] if known else "",
                "neuron": neuron_name(boxes[source], int(row["address"])) if known else "",
                "in_module": module_place(program, source, int(row["address"])) if known else "",
                "value": int(row["value"]),
                "step": int(row["step"]),
                "dest": int(row["dest"]) if row["dest"] >= 0 else "",
                "lasts": "" if put else "open" if row["end"] < 0 else format_time(lasts),
                "blocked": format_time(int(row["blocked"])) if row["blocked"] else "",
                "lasts_ps": None if put or row["end"] < 0 else lasts,
                "blocked_ps": int(row["blocked"]),
                "synops": int(row["synops"]),
                "cause": f"{servers[cause]} #{int(row['cause_service'])}" if cause >= 0 else "",
            }
        )
    return readable_rows


def _by_core(program: Program, kind: int) -> NDArray[np.int64]:
    """Server of that kind of each core."""
    at = np.full(program.cores, -1, np.int64)
    chosen = np.flatnonzero(program.server_kind == kind)
    at[program.server_owner[chosen]] = chosen
    return at


def _high_water(program: Program, result: Result, kind: int, core: int) -> int:
    chosen = (program.channel[:, 0] == kind) & (program.channel[:, 2] == core)
    return int(result.channel["high_water"][chosen].max(initial=0))
