"""``trace``: questions to a run directory. Each question is one option; without one, a summary per core."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neurosim.cli.console import Json, friendly, out, print_json, table
from neurosim.cli.runs import RunDir
from neurosim.errors import DataError
from neurosim.units import format_count, format_time, parse_time_ps

if TYPE_CHECKING:
    from neurosim.trace import StoredRun

MOST_SEGMENTS = 12
"""Rows of the critical path's totals, and of other lists, that are printed without --limit."""


@friendly
def trace(
    run_dir: RunDir,
    core: Annotated[int | None, typer.Option(help="Rows of this core only.")] = None,
    population: Annotated[str | None, typer.Option(help="Rows about this population only.")] = None,
    sample: Annotated[int | None, typer.Option(min=0, help="The sample that is asked about; by default sample 0.")] = None,
    from_: Annotated[str | None, typer.Option("--from", help="Start of the window, for example 12us.")] = None,
    to: Annotated[str | None, typer.Option("--to", help="End of the window.")] = None,
    critical_path: Annotated[bool, typer.Option("--critical-path", help="Where the latency of a sample went, part by part.")] = False,
    until: Annotated[str | None, typer.Option(help="Critical path: to decision, completion or first_spike.")] = None,
    back_pressure: Annotated[bool, typer.Option("--back-pressure", help="Where back-pressure began and what it held up.")] = False,
    findings: Annotated[bool, typer.Option("--findings", help="What is wrong with the run, with its trace: also since when.")] = False,
    links: Annotated[bool, typer.Option("--links", help="The busiest links.")] = False,
    why: Annotated[str | None, typer.Option(help='Why a neuron fired: "POPULATION (c, y, x)" or, as in Run.spikes, [i, j]; needs --program.')] = None,
    program: Annotated[Path | None, typer.Option(help="The P.nsim that the run simulated.")] = None,
    against: Annotated[Path | None, typer.Option(metavar="RUN_DIR", help="The first difference from another run.")] = None,
    sql: Annotated[str | None, typer.Option(help="A SELECT over trace, counters, spikes, servers, sources (needs duckdb).")] = None,
    export: Annotated[
        Path | None, typer.Option(help="Write the window of a sample: .pftrace (Perfetto), .json (Chrome), .vcd, .npz (spikes of --population).")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Most rows to print.")] = None,
    json_: Json = False,
) -> None:
    """Look into a run: cores, event rows in a window, critical path, back-pressure, links, why a neuron fired, differences, SQL, exports."""
    from neurosim.trace import load_run

    asked = {
        "--critical-path": critical_path, "--back-pressure": back_pressure, "--links": links, "--findings": findings, "--why": why is not None,
        "--against": against is not None, "--sql": sql is not None, "--export": export is not None,
    }  # fmt: skip
    questions = [name for name, wanted in asked.items() if wanted]
    if len(questions) > 1:
        raise DataError(f"{questions[0]} and {questions[1]} are two questions; ask one at a time")
    if until is not None and not critical_path:
        raise DataError("--until belongs to --critical-path; add it")
    loaded = load_run(run_dir)
    window = (parse_time_ps(from_) if from_ is not None else None, parse_time_ps(to) if to is not None else None)
    if critical_path:
        _critical_path(loaded, sample or 0, until, limit or MOST_SEGMENTS, json_)
    elif back_pressure:
        _back_pressure(loaded, sample or 0, limit or MOST_SEGMENTS, json_)
    elif findings:
        _findings(loaded, json_)
    elif links:
        _links(loaded, limit or MOST_SEGMENTS, json_)
    elif why is not None:
        _why(loaded, why, program, sample or 0, window[1], limit or 2 * MOST_SEGMENTS, json_)
    elif against is not None:
        _against(loaded, load_run(against), json_)
    elif sql is not None:
        _sql(loaded, sql, json_)
    elif export is not None:
        from neurosim.report.exports import export as write

        path = write(loaded, export, sample=sample, from_ps=window[0], to_ps=window[1], core=core, population=population)
        print_json({"export": str(path)}) if json_ else out.print(f"wrote {path}")
    elif core is None and population is None and sample is None and window == (None, None):
        _cores(loaded, json_)
    else:
        _rows(loaded, sample or 0, window, core, population, limit or 40, json_)


def _cores(run: StoredRun, json_: bool) -> None:
    from neurosim.trace import core_summary

    rows = core_summary(run)
    if json_:
        print_json({"cores": rows})
        return
    table(
        ("core", "populations", "synops", "spikes", "synapse busy", "soma busy", "blocked", "held", "axon-in high"),
        [
            (r["core"], ", ".join(r["populations"]), format_count(r["synops"]), format_count(r["spikes"]), f"{r['synapse_busy']:.1%}",
             f"{r['soma_busy']:.1%}", f"{r['blocked']:.1%}", f"{r['held']:.1%}", r["axon_in_high_water"])
            for r in rows
        ],
        right=(0, 2, 3, 4, 5, 6, 7, 8),
    )  # fmt: skip


def _rows(
    run: StoredRun, sample: int, window: tuple[int | None, int | None], core: int | None, population: str | None, limit: int, json_: bool
) -> None:
    from neurosim.trace import trace_window, why_empty

    if window[0] is not None and window[1] is not None and window[0] >= window[1]:
        raise DataError(f"--from {format_time(window[0])} is not before --to {format_time(window[1])}; give the start of the window first")
    rows, total = trace_window(run, sample=sample, from_ps=window[0], to_ps=window[1], core=core, population=population, limit=limit)
    if not rows:
        raise DataError(why_empty(run, sample, core, population))
    if json_:
        print_json({"rows": rows, "total": total})
        return
    other = ("in_module",) if any(r["in_module"] for r in rows) else ()
    names = ("station", "kind", "item", "population", "neuron", *other, "step", "dest", "lasts", "blocked", "synops")
    table(
        ("time", "station", "what", "item", "population", "neuron", *("in module" for _ in other), "step", "to core", "lasts", "blocked", "synops"),
        [(f"{r['time'] / 1e6:.6f} us", *(r[name] for name in names)) for r in rows],
        right=(0,),
    )
    _more(total - limit, "; --from and --to narrow the window")


def _critical_path(run: StoredRun, sample: int, until: str | None, limit: int, json_: bool) -> None:
    from dataclasses import asdict

    from neurosim.trace import critical_path, events_of
    from neurosim.trace.critical import UNTIL

    if until is not None and (until := until.replace("-", "_")) not in UNTIL:
        raise DataError(f"--until {until!r} does not exist; there are {', '.join(UNTIL)}")
    events = events_of(run, sample)
    if until is None:  # a free network that never left class 0 has no decision
        until = "decision" if run.result.decision_ps[sample] > run.result.start_ps[sample] else "completion"
    path = critical_path(events, run.result, sample, UNTIL[UNTIL.index(until)])
    totals = path.totals()
    if json_:
        print_json(
            {
                "sample": sample, "until": until, "start_ps": path.start_ps, "end_ps": path.end_ps, "latency_ps": path.latency_ps,
                "parts": path.parts(), "totals": totals, "segments": [asdict(s) | {"lasts_ps": s.lasts_ps} for s in path.segments],
            }
        )  # fmt: skip
        return
    out.print(f"sample {sample}: {format_time(path.latency_ps)} to its {until.replace('_', ' ')}, in {len(path.segments)} pieces", style="bold")
    out.print(", ".join(f"{part} {format_time(ps)} ({ps / max(1, path.latency_ps):.1%})" for part, ps in path.parts().items()))
    table(
        ("part", "where", "time", "share", "times"),
        [(r["part"], r["where"], format_time(r["lasts_ps"]), f"{r['share']:.1%}", r["times"]) for r in totals[:limit]],
        right=(2, 3, 4),
    )
    _more(len(totals) - limit, "; --json has every piece")


def _back_pressure(run: StoredRun, sample: int, limit: int, json_: bool) -> None:
    from neurosim.trace import back_pressure, events_of

    rows = back_pressure(events_of(run, sample))
    if json_:
        print_json({"sample": sample, "back_pressure": rows})
        return
    if not rows:
        out.print(f"sample {sample}: no packet or spike ever waited for room")
        return
    table(
        ("began at", "held up", "first", "last", "most of it at"),
        [
            (r["origin"], format_time(r["held_ps"]), format_time(r["first_ps"]), format_time(r["last_ps"]),
             ", ".join(f"{h['station']} ({format_time(h['held_ps'])})" for h in r["held"][:3]))
            for r in rows[:limit]
        ],
        right=(1, 2, 3),
    )  # fmt: skip
    _more(len(rows) - limit)


def _findings(run: StoredRun, json_: bool) -> None:
    from neurosim.energy import price
    from neurosim.trace.findings import findings

    energy = price(run.program, run.result, host_macs_per_sample=run.host_macs_per_sample, streamed=run.streamed)
    realtime = bool(run.info["summary"].get("realtime", False))
    found = findings(run.program, run.result, energy, realtime=realtime, trace=run.trace_path)
    if json_:
        print_json({"findings": [finding.plain() for finding in found]})
    elif not found:
        out.print("no findings")
    for finding in found if not json_ else ():
        out.print(f"{finding.kind}: {finding.text}; {finding.remedy}")


def _links(run: StoredRun, limit: int, json_: bool) -> None:
    from neurosim.trace import busiest_links

    rows = busiest_links(run, limit)
    if json_:
        print_json({"links": rows})
        return
    table(
        ("link", "packets", "busy", "blocked", "FIFO high"),
        [(r["link"], format_count(r["packets"]), f"{r['busy']:.1%}", f"{r['blocked']:.1%}", r["high_water"]) for r in rows],
        right=(1, 2, 3, 4),
    )


def _why(run: StoredRun, neuron: str, program: Path | None, sample: int, to_ps: int | None, limit: int, json_: bool) -> None:
    from neurosim.program import load_program
    from neurosim.trace import why_fired

    if program is None:
        raise DataError("--why needs the weights, which a run directory does not hold; add --program P.nsim, the program that was run")
    answer = why_fired(run, load_program(program), neuron, sample, to_ps)
    if json_:
        print_json(answer)
        return
    out.print(answer["text"], style="bold")
    rows = answer["contributions"]
    table(
        ("served at", "from", "neuron", "step", "weight", "value", "contribution", "membrane after"),
        [
            (f"{r['time'] / 1e6:.6f} us", r["population"], r["neuron"], r["step"], r["weight"], r["value"], r["contribution"], r["membrane"])
            for r in rows[-limit:]
        ],
        right=(0, 3, 4, 5, 6, 7),
    )
    _more(len(rows) - limit, " before these")


def _against(run: StoredRun, other: StoredRun, json_: bool) -> None:
    from neurosim.trace import run_difference

    answer = run_difference(run, other)
    if json_:
        print_json(answer)
        return
    if not answer["same_program"]:
        out.print("the two runs simulated different programs", style="yellow")
    if answer["equal"]:
        out.print("equal: " + ("every row of the traces, " if answer["trace"] else "(no comparable traces) ") + "every counter, score and spike")
    else:
        out.print(answer["text"])


def _sql(run: StoredRun, text: str, json_: bool) -> None:
    from neurosim.trace.sql import query

    columns, rows = query(run, text)
    if json_:
        print_json({"columns": columns, "rows": rows})
    else:
        table(columns, rows)


def _more(count: int, hint: str = "") -> None:
    if count > 0:
        out.print(f"{count} more rows{hint}; --limit shows more")
