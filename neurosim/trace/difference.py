"""Where two stored runs differ first: their traces row by row, then their counters and outputs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.engine.compare import CONTEXT_ROWS, describe_row, first_difference
from neurosim.engine.events import SORT_KEYS, TRACE_DTYPE
from neurosim.trace.store import read_batches, trace_info
from neurosim.trace.stored import StoredRun

BATCH = 1 << 16


def run_difference(a: StoredRun, b: StoredRun) -> dict[str, Any]:
    """Keys: same_program; trace (whether both have a comparable one); equal; text, the first difference in words (None when equal); for a
    difference of the traces also row, fields, a, b (rows as dictionaries, None where a trace is over) and before (the last rows of that station).

    Traces are compared in batches of rows, so they may be larger than memory.
    Raises DataError: a broken trace.
    """
    answer: dict[str, Any] = {"same_program": a.info["digests"]["program"] == b.info["digests"]["program"], "trace": False}
    if a.trace_path is not None and b.trace_path is not None:
        kept = [trace_info(path).header["recorded"] for path in (a.trace_path, b.trace_path)]
        answer["trace"] = kept[0] == kept[1]
        if answer["trace"] and (found := _traces(a.trace_path, b.trace_path)) is not None:
            return {**answer, "equal": False, **found}
    text = first_difference(a.result, b.result)
    return {**answer, "equal": text is None, "text": text}


def _traces(a: Path, b: Path) -> dict[str, Any] | None:
    left, right = _Rows(a), _Rows(b)
    before, done = np.zeros(0, TRACE_DTYPE), 0
    while True:
        rows_a, rows_b = left.take(BATCH), right.take(BATCH)
        shared = min(len(rows_a), len(rows_b))
        unequal = np.flatnonzero(rows_a[:shared] != rows_b[:shared])
        if not len(unequal) and len(rows_a) == len(rows_b):
            if not shared:
                return None
            before, done = rows_a, done + shared
            continue
        k = int(unequal[0]) if len(unequal) else shared
        row_a, row_b = (rows[k] if k < len(rows) else None for rows in (rows_a, rows_b))
        first = min((row for row in (row_a, row_b) if row is not None), key=lambda row: tuple(row[key] for key in SORT_KEYS))
        known = np.concatenate([before, rows_a[:k]])
        context = known[known["server"] == first["server"]][-CONTEXT_ROWS:]
        fields = [name for name in TRACE_DTYPE.names or () if row_a is not None and row_b is not None and row_a[name] != row_b[name]]
        lines = [f"trace row {done + k} differs" + (f" in {', '.join(fields)}" if fields else "")]
        lines += [f"  {name}: {describe_row(row) if row is not None else 'has no such row'}" for name, row in (("a", row_a), ("b", row_b))]
        return {
            "text": "\n".join(lines), "row": done + k, "fields": fields, "a": _plain(row_a), "b": _plain(row_b),
            "before": [_plain(row) for row in context],
        }  # fmt: skip


class _Rows:
    """The rows of a trace, handed out in the numbers asked for."""

    def __init__(self, path: Path) -> None:
        self._batches: Iterator[NDArray[Any]] = read_batches(path)
        self._rest = np.zeros(0, TRACE_DTYPE)

    def take(self, count: int) -> NDArray[Any]:
        """The next ``count`` rows, fewer at the end."""
        parts, have = [self._rest], len(self._rest)
        while have < count and (batch := next(self._batches, None)) is not None:
            parts.append(batch)
            have += len(batch)
        rows = np.concatenate(parts)
        self._rest = rows[count:]
        return rows[:count]


def _plain(row: Any) -> dict[str, int] | None:
    return None if row is None else {name: int(row[name]) for name in row.dtype.names}
