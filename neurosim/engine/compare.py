"""Where two results differ first: for people who change an engine, a chip figure or a seed and want to know what it did."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.engine.events import ITEM_NAMES, ROW_NAMES, SORT_KEYS, TRACE_DTYPE, Result

CONTEXT_ROWS = 20


def first_difference(a: Result, b: Result) -> str | None:
    """The first disagreement of two results in words, or None when they are equal.

    Looked at in this order: trace rows (with both records and the last 20 rows of that server), counters of servers, cores, channels and samples,
    figures per sample, scores, fires, final states. Every field is compared exactly.
    """
    return _trace(a.trace, b.trace) or _tables(a, b) or _arrays(a, b)


def describe_row(row: Any) -> str:
    """One trace row on one line, ``name=value`` in the order of the record, items and kinds in words."""
    words = {"kind": ROW_NAMES, "item": ITEM_NAMES}
    return " ".join(f"{name}={words[name][row[name]] if name in words else row[name]}" for name in row.dtype.names)


def _trace(a: NDArray[Any], b: NDArray[Any]) -> str | None:
    if np.array_equal(a, b):
        return None
    shared = min(len(a), len(b))
    unequal = np.flatnonzero(a[:shared] != b[:shared])
    k = int(unequal[0]) if len(unequal) else shared
    row_a, row_b = (rows[k] if k < len(rows) else None for rows in (a, b))
    lines = [f"trace row {k} of {len(a)} and {len(b)} differs"]
    if row_a is not None and row_b is not None and all(row_a[key] == row_b[key] for key in SORT_KEYS):
        lines[0] += " in " + ", ".join(name for name in TRACE_DTYPE.names or () if row_a[name] != row_b[name])
    for name, row in (("a", row_a), ("b", row_b)):
        lines.append(f"  {name}: {describe_row(row) if row is not None else 'has no such row'}")
    first = min((row for row in (row_a, row_b) if row is not None), key=lambda row: tuple(row[key] for key in SORT_KEYS))
    before = a[:k][a["server"][:k] == first["server"]][-CONTEXT_ROWS:]
    lines.append(f"  the {len(before)} rows before it at server {first['server']}, which agree:")
    return "\n".join(lines + [f"    {describe_row(row)}" for row in before])


def _tables(a: Result, b: Result) -> str | None:
    for table in ("server", "core", "channel", "sample"):
        of_a, of_b = getattr(a, table), getattr(b, table)
        if list(of_a) != list(of_b):
            return f"{table} counters differ in their names: {', '.join(of_a)} and {', '.join(of_b)}"
        for name in of_a:
            found = _array(f"{table} counter {name}", of_a[name], of_b[name])
            if found:
                return found
    return None


def _arrays(a: Result, b: Result) -> str | None:
    names = (
        "start_ps",
        "first_spike_ps",
        "decision_ps",
        "completion_ps",
        "window_ps",
        "scores",
        "slice_spikes",
        "slice_cancelled",
        "slice_retracted",
        "spikes",
        "anytime",
        "state_v",
        "state_i",
    )
    for name in names:
        found = _array(name, np.asarray(getattr(a, name)), np.asarray(getattr(b, name)))
        if found:
            return found
    return None


def _array(name: str, a: NDArray[Any], b: NDArray[Any]) -> str | None:
    if a.shape != b.shape:
        return f"{name} differs in shape: {a.shape} and {b.shape}"
    unequal = np.argwhere(a != b)
    if not len(unequal):
        return None
    place = tuple(int(v) for v in unequal[0])
    where = f"[{', '.join(str(v) for v in place)}]" if place else ""
    return f"{name}{where} differs: {a[place]} and {b[place]} ({len(unequal)} of {a.size} differ)"
