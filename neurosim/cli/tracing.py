"""What ``run`` does about traces: options that say what is kept, the file, a deadlock looked into."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurosim.cli.console import out, print_json
from neurosim.cli.options import with_options
from neurosim.errors import Deadlock, RunError
from neurosim.units import parse_time_ps

if TYPE_CHECKING:
    from neurosim.program import Program
    from neurosim.trace import Selection

TRACE_OPTIONS: dict[str, tuple[Any, Any]] = {
    "record_level": (
        Annotated[
            str | None,
            typer.Option(help="Trace: counters (none), spikes or events (every service and put); events with --record, else counters."),
        ],
        None,
    ),
    "record_from": (Annotated[str | None, typer.Option(help="Trace: only what begins at this time or later, for example 12us.")], None),
    "record_to": (Annotated[str | None, typer.Option(help="Trace: only what begins before this time.")], None),
    "record_core": (Annotated[list[int] | None, typer.Option(help="Trace: only the stations of this core (repeatable).")], None),
    "record_population": (Annotated[list[str] | None, typer.Option(help="Trace: only what is about this population (repeatable).")], None),
}
with_trace_options = with_options(TRACE_OPTIONS, "tracing")


def trace_plan(tracing: dict[str, Any], record: Path | None, output: Path | None) -> tuple[Path | None, Selection]:
    """(where the trace goes, None for no trace; what it keeps). A trace without ``--record`` goes into the run directory ``output``.

    Raises RunError: a trace with no place to go, a window without a trace, a file for a trace that the level ``counters`` does not make.
    """
    from neurosim.trace import Selection

    level: Any = tracing["record_level"] or ("counters" if record is None else "events")
    given = {name: value for name, value in tracing.items() if value not in (None, []) and name != "record_level"}
    selection = Selection(
        level,
        None if tracing["record_from"] is None else parse_time_ps(tracing["record_from"]),
        None if tracing["record_to"] is None else parse_time_ps(tracing["record_to"]),
        tuple(tracing["record_core"]) if tracing["record_core"] else None,
        tuple(tracing["record_population"]) if tracing["record_population"] else None,
    )
    if level == "counters":
        if record is not None:
            raise RunError(f"--record {record} wants a trace and --record-level counters makes none; leave one of them out")
        if given:
            raise RunError(f"--{next(iter(given)).replace('_', '-')} limits a trace, and this run makes none; add --record-level events")
        return None, selection
    if record is not None:
        return record, selection
    if output is None:
        raise RunError(f"--record-level {level} makes a trace, which has no place to go; add --record T.parquet or -o RUN_DIR")
    return output.with_name(f".{output.name}.trace.parquet"), selection


@contextmanager
def trace_file(traced: Path | None, record: Path | None) -> Iterator[None]:
    """Around a run and its saving: a trace of no name of its own goes, for the run directory has it then; without one there is nothing to keep."""
    if traced is None or record is not None:
        yield
        return
    traced.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        traced.unlink(missing_ok=True)


def tell_deadlock(program: Program, error: Deadlock, simulate: Callable[..., Any], json_: bool) -> None:
    """Print the deadlock as a finding, with what its FIFOs hold: the sample is simulated again to see it (jitter and faults repeat)."""
    from neurosim.trace.findings import deadlock_finding

    rows: list[Any] = []
    with suppress(Deadlock):
        simulate(samples=error.sample + 1, observe=lambda chunk: rows.append(chunk[chunk["sample"] == error.sample]))
    import numpy as np

    finding = deadlock_finding(program, error, np.concatenate(rows) if rows else None)
    if json_:
        print_json({"findings": [finding.plain()]})
    else:
        out.print(f"finding: {finding.text}")
