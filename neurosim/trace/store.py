"""The event trace as a Parquet file: streamed in sorted order, explained by its own metadata, readable with pyarrow, duckdb or pandas."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from neurosim.engine.events import ITEM_NAMES, ROW_NAMES, ROW_SERVICE, SORT_KEYS, TRACE_DTYPE
from neurosim.errors import DataError, RunError
from neurosim.program import Program
from neurosim.trace.names import server_names
from neurosim.trace.selection import Selection, Sieve, known_cores, known_populations, server_core

FORMAT, FORMAT_VERSION = "neurosim-trace", 2
METADATA_KEY = b"neurosim"
ROW_GROUP = 1 << 18
# columns that rise or change little from row to row are stored as differences, the rest through dictionaries
_DELTA = ("time", "index", "end", "service", "origin", "cause_service")

Columns = dict[str, NDArray[Any]]
"""A chunk of a trace: its columns by the names of TRACE_DTYPE."""


@dataclass(frozen=True)
class TraceInfo:
    """The metadata of a trace file: what its numbers stand for."""

    rows: int
    complete: bool
    """False when the run stopped early (a deadlock): the rows are those served until then."""
    header: dict[str, Any]
    """JSON: recorded (level and window), program_digest, network, chip, sync, steps, populations, sources, servers, items, kinds."""

    @property
    def whole(self) -> bool:
        """Whether the trace holds every row of its run up to where it stopped."""
        return bool(self.header["recorded"] == Selection().describe())


class TraceWriter:
    """A sink that writes trace rows to a Parquet file in row groups of about a quarter of a million, within bounded memory.

    The file has a temporary name until ``close``. As a context manager it closes at the end; when the run stops with RunError (deadlock, livelock)
    the rows so far are kept and marked incomplete; any other error leaves no file. ``selection``: level and window of what is kept.
    Raises RunError when the file cannot be written, DataError for a core or population of the selection that the program does not have.
    """

    def __init__(self, path: str | os.PathLike[str], program: Program, *, selection: Selection | None = None, row_group: int = ROW_GROUP) -> None:
        self.path = Path(path)
        if not self.path.name or self.path.is_dir():
            raise RunError(f"cannot write trace {str(path)!r}: it names a directory, not a file; give a file name")
        if not self.path.parent.is_dir():
            raise RunError(f"cannot write trace {self.path}: {self.path.parent} is no directory; make it or choose another path")
        self._sieve = Sieve(program, selection or Selection())
        self.rows = 0
        self._row_group = row_group
        self._buffers = [{name: np.empty(row_group, TRACE_DTYPE[name]) for name in TRACE_DTYPE.names or ()} for _ in range(2)]
        self._buffered = 0  # rows in the first of the two; the other is being written, or free
        self._thread = ThreadPoolExecutor(1, "trace")
        self._writing: Future[None] | None = None
        self._temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        schema = pa.schema(
            [(name, pa.from_numpy_dtype(TRACE_DTYPE[name])) for name in TRACE_DTYPE.names or ()],
            metadata={METADATA_KEY: json.dumps(_header(program, self._sieve.selection)).encode()},
        )
        try:
            self._writer = pq.ParquetWriter(
                str(self._temporary),
                schema,
                compression="zstd",
                use_dictionary=[name for name in schema.names if name not in _DELTA],
                column_encoding=dict.fromkeys(_DELTA, "DELTA_BINARY_PACKED"),
            )
        except OSError as error:
            raise self._failed(error) from None

    def write(self, rows: NDArray[Any]) -> None:
        """Append those rows of TRACE_DTYPE that the selection wants; sorted, not before those already written."""
        self.write_columns({name: np.ascontiguousarray(rows[name]) for name in TRACE_DTYPE.names or ()})

    def write_columns(self, columns: Columns) -> None:
        """The same rows as columns, by the names of TRACE_DTYPE."""
        if not self._sieve.selection.whole:
            kept = self._sieve.wanted(columns)
            columns = {name: column[kept] for name, column in columns.items()}
        count, done = len(columns["time"]), 0
        self.rows += count
        while done < count:
            part = min(count - done, self._row_group - self._buffered)
            for name, buffer in self._buffers[0].items():
                buffer[self._buffered : self._buffered + part] = columns[name][done : done + part]
            self._buffered, done = self._buffered + part, done + part
            if self._buffered == self._row_group:
                self._flush()

    def close(self, *, complete: bool = True) -> None:
        """Write what is buffered, finish the file and give it its name. Closing twice is harmless."""
        if self._writer is None:
            return
        self._flush()
        try:
            self._wait()
            self._writer.add_key_value_metadata({"neurosim.rows": str(self.rows), "neurosim.complete": "true" if complete else "false"})
            self._writer.close()
            self._writer = None
            os.replace(self._temporary, self.path)
        except OSError as error:
            raise self._failed(error) from None
        self._thread.shutdown()

    def abort(self) -> None:
        """Drop the file."""
        self._thread.shutdown()
        if self._writer is not None:
            writer, self._writer = self._writer, None
            # the file is deleted below: what could not be written of it does not matter
            with contextlib.suppress(OSError):
                writer.close()
        self._temporary.unlink(missing_ok=True)

    def __enter__(self) -> TraceWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self.close()
        elif isinstance(error, RunError) and self._writer is not None:
            self.close(complete=False)
        else:
            self.abort()

    def _flush(self) -> None:
        """Hand the buffer to the thread that writes, beside the simulation, and go on with the other."""
        if not self._buffered:
            return
        # from their buffers: arrays made from numpy's look for pandas first, for a quarter of a second
        schema, count = self._writer.schema, self._buffered
        arrays = [pa.Array.from_buffers(field.type, count, [None, pa.py_buffer(self._buffers[0][field.name][:count])]) for field in schema]
        table = pa.Table.from_arrays(arrays, schema=schema)
        try:
            self._wait()
            self._writing = self._thread.submit(self._writer.write_table, table, row_group_size=self._row_group)
        except OSError as error:
            raise self._failed(error) from None
        self._buffers.reverse()
        self._buffered = 0

    def _wait(self) -> None:
        """Until the table under way is in the file; raises what went wrong."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def _failed(self, error: OSError) -> RunError:
        self._writer = getattr(self, "_writer", None)
        self.abort()
        return RunError(f"cannot write trace {self.path}: {error.strerror or error}; nothing was kept, free space or choose another path")


def _header(program: Program, selection: Selection) -> dict[str, Any]:
    names = [str(p["name"]) for p in program.meta["populations"]]
    sources = [
        {
            "population": names[p] if p >= 0 else None,
            "core": int(program.slice_core[s]) if s < program.slices else None,
            "box": program.source_box[s].tolist(),
        }
        for s, p in enumerate(program.source_population.tolist())
    ]
    return {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "recorded": selection.describe(),
        "program_digest": program.digest(),
        "network": program.meta.get("name", ""),
        "chip": program.chip.name,
        "sync": program.sync,
        "steps": program.steps,
        "sorted_by": list(SORT_KEYS),
        "time_unit": "ps",
        "kinds": list(ROW_NAMES),
        "items": list(ITEM_NAMES),
        "populations": names,
        "sources": sources,
        "servers": server_names(program),
        "server_core": server_core(program).tolist(),
    }


def trace_info(path: str | os.PathLike[str]) -> TraceInfo:
    """The metadata of a trace file. Raises DataError: missing, broken, truncated, of another kind or version."""
    with _open(path) as file:
        return _info(file, path)


def read_trace(
    path: str | os.PathLike[str],
    sample: int | None = None,
    from_ps: int | None = None,
    to_ps: int | None = None,
    cores: Iterable[int] | None = None,
    populations: Iterable[str] | None = None,
    *,
    reaching: bool = False,
) -> NDArray[Any]:
    """Rows (TRACE_DTYPE, sorted) that begin in [from_ps, to_ps), at stations of ``cores``, about slices or ports of ``populations``; None = all.

    ``reaching``: also services that begin before ``from_ps`` and end after it, or are open. Row groups outside the window are not read.
    Raises DataError: a broken file, a core or population that the trace does not have.
    """
    with _open(path) as file:
        info = _info(file, path)
        allowed: dict[str, Any] = {}
        if cores is not None:
            allowed["server"] = _servers_of(info, cores, path)
        if populations is not None:
            allowed["slice"] = _sources_of(info, populations, path)
        low = {"sample": sample, "time": None if reaching else from_ps}
        high = {"sample": sample, "time": None if to_ps is None else to_ps - 1}
        parts = [np.zeros(0, TRACE_DTYPE)]
        try:
            for k in range(file.num_row_groups):
                if not _may_hold(file.metadata.row_group(k), low, high, from_ps if reaching else None):
                    continue
                rows = _rows(file.read_row_group(k, columns=list(TRACE_DTYPE.names or ()), use_threads=False))
                chosen = np.ones(len(rows), bool)
                for name, end in low.items():
                    if end is not None:
                        chosen &= rows[name] >= end
                for name, end in high.items():
                    if end is not None:
                        chosen &= rows[name] <= end
                for name, values in allowed.items():
                    chosen &= np.isin(rows[name], values)
                if reaching and from_ps is not None:
                    chosen &= (rows["time"] >= from_ps) | ((rows["kind"] == ROW_SERVICE) & ((rows["end"] > from_ps) | (rows["end"] < 0)))
                parts.append(rows[chosen])
        except (OSError, pa.ArrowInvalid) as error:
            raise _broken(path, error) from None
    return np.concatenate(parts)


def _may_hold(group: Any, low: dict[str, int | None], high: dict[str, int | None], reaching_ps: int | None) -> bool:
    """Whether a row group can have rows between these ends, and that reach beyond ``reaching_ps``, by its statistics."""
    known = {}
    for k in range(group.num_columns):
        column = group.column(k)
        name, found = column.path_in_schema, column.statistics
        if found is None or not found.has_min_max:
            continue
        known[name] = found
        if name not in low:
            continue
        if (low[name] is not None and found.max < low[name]) or (high[name] is not None and found.min > high[name]):
            return False
    if reaching_ps is None or not {"time", "end"} <= set(known):
        return True
    return bool(known["time"].max >= reaching_ps or known["end"].max > reaching_ps or known["end"].min < 0)


def recorded_samples(path: str | os.PathLike[str]) -> list[int]:
    """The samples that a trace has rows of, ascending. Raises DataError: a broken file."""
    with _open(path) as file:
        _info(file, path)
        found: set[int] = set()
        try:
            for batch in file.iter_batches(1 << 18, columns=["sample"], use_threads=False):
                found.update(np.unique(batch.column(0).to_numpy()).tolist())
        except (OSError, pa.ArrowInvalid) as error:
            raise _broken(path, error) from None
        return sorted(found)


def read_batches(path: str | os.PathLike[str], size: int = 1 << 16) -> Iterator[NDArray[Any]]:
    """All rows in order, ``size`` at a time, within bounded memory. Raises DataError: a broken file."""
    with _open(path) as file:
        _info(file, path)
        batches = file.iter_batches(size, columns=list(TRACE_DTYPE.names or ()), use_threads=False)
        while True:
            try:
                batch = next(batches, None)
            except (OSError, pa.ArrowInvalid) as error:
                raise _broken(path, error) from None
            if batch is None:
                return
            yield _rows(batch)


def _rows(table: Any) -> NDArray[Any]:
    rows = np.empty(table.num_rows, TRACE_DTYPE)
    for name in TRACE_DTYPE.names or ():
        rows[name] = table.column(name).to_numpy()
    return rows


def _open(path: str | os.PathLike[str]) -> Any:
    try:
        return pq.ParquetFile(path)
    except FileNotFoundError:
        raise DataError(f"trace {path} does not exist; record one with `neurosim run ... --record {Path(path).name}`") from None
    except (OSError, pa.ArrowInvalid) as error:
        raise _broken(path, error) from None


def _broken(path: str | os.PathLike[str], error: Exception) -> DataError:
    reason = str(error).splitlines()[0][:160]
    return DataError(f"trace {path} is broken, truncated or no Parquet file ({reason}); record it again")


def _info(file: Any, path: str | os.PathLike[str]) -> TraceInfo:
    metadata = file.metadata.metadata or {}
    try:
        header = json.loads(metadata[METADATA_KEY])
    except (KeyError, ValueError):
        raise DataError(f"{path} is a Parquet file but no neurosim trace; give a file that `--record` wrote") from None
    if header.get("format") != FORMAT or header.get("version") != FORMAT_VERSION:
        raise DataError(
            f"{path} is {header.get('format')} version {header.get('version')}, "
            f"this neurosim reads {FORMAT} version {FORMAT_VERSION}; record it again"
        )
    return TraceInfo(rows=file.metadata.num_rows, complete=metadata.get(b"neurosim.complete") == b"true", header=header)


def _servers_of(info: TraceInfo, cores: Iterable[int], path: str | os.PathLike[str]) -> NDArray[np.int64]:
    at = np.array(info.header["server_core"])
    chosen = known_cores(at, list(cores), f"trace {path}")
    return np.flatnonzero(np.isin(at, chosen))


def _sources_of(info: TraceInfo, populations: Iterable[str], path: str | os.PathLike[str]) -> NDArray[np.int64]:
    chosen = known_populations(info.header["populations"], list(populations), f"trace {path}")
    return np.array([s for s, source in enumerate(info.header["sources"]) if source["population"] in chosen], np.int64)
