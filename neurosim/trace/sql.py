"""SQL over a run directory, with DuckDB where it is installed."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from neurosim.errors import DataError, MissingExtra
from neurosim.trace.names import neuron_name, server_names
from neurosim.trace.stored import StoredRun

KINDS = ("port", "synapse", "soma", "sender", "router")


def query(run: StoredRun, text: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """(names of columns, rows) of a SELECT over the tables ``trace`` (if one was recorded), ``counters``, ``spikes``, ``servers`` and ``sources``.

    Nothing is read but what the question needs, so traces may be larger than memory. Raises MissingExtra without duckdb, DataError: the question is
    not understood.
    """
    try:
        import duckdb
    except ImportError:
        raise MissingExtra('--sql needs duckdb: pip install "neurosim[sql]"') from None
    with duckdb.connect() as connection:
        for name, table in _tables(run).items():
            connection.register(name, table)
        files = {"counters": run.path / "counters.parquet", "trace": run.trace_path}
        for name, path in files.items():
            if path is not None:
                connection.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet('{str(path).replace(chr(39), chr(39) * 2)}')")
        try:
            answer = connection.execute(text)
            return [column[0] for column in answer.description or ()], answer.fetchall()
        except duckdb.Error as error:
            reason = str(error).splitlines()[0][:200]
            raise DataError(f"--sql: {reason}; tables are trace, counters, spikes, servers, sources") from None


def _tables(run: StoredRun) -> dict[str, pa.Table]:
    program, spikes = run.program, run.result.spikes
    names = [str(p["name"]) for p in program.meta["populations"]]
    boxes, owners = program.source_box.tolist(), program.source_population.tolist()
    fired = [owners[s] for s in spikes["slice"].tolist()]
    return {
        "servers": pa.table(
            {
                "server": list(range(len(program.server_kind))),
                "name": server_names(program),
                "kind": [KINDS[kind] for kind in program.server_kind.tolist()],
                "owner": program.server_owner.tolist(),
            }
        ),
        "sources": pa.table(
            {
                "slice": list(range(len(owners))),
                "population": [names[p] if p >= 0 else None for p in owners],
                "core": [int(program.slice_core[s]) if s < program.slices else None for s in range(len(owners))],
            }
        ),
        "spikes": pa.table(
            {name: spikes[name] for name in spikes.dtype.names or ()}
            | {
                "population": pa.array([names[p] for p in fired], pa.string()),
                "neuron": pa.array(
                    [neuron_name(boxes[s], a) for s, a in zip(spikes["slice"].tolist(), spikes["address"].tolist(), strict=True)], pa.string()
                ),
            }
        ),
    }
