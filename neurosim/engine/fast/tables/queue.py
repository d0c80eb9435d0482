"""The queue of stations that will wake, as tables: single figures, bitmap, buckets, heap. ``base.calendar`` says how it works."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.engine.fast.tables.columns import INF, STATION

A = NDArray[Any]

BUCKETS = 4096
(Z_SHIFT, Z_BASE, Z_HEAP, Z_SUMMARY, Z_BITS) = range(5)
"""log2 of a bucket's width; number of the bucket in hand; stations in the heap; words of the bitmap that are not 0; the bitmap."""
_WORDS = BUCKETS // 64


def make(stations: int, latency: int) -> tuple[A, A, A]:
    """(st, cal, buckets) of an empty queue; ``latency`` is L in ps, at least 1."""
    st = np.zeros(stations, STATION)
    cal = np.zeros(Z_BITS + _WORDS, np.uint64)
    cal[Z_SHIFT] = max(0, int(latency).bit_length() - 1)
    return st, cal, np.zeros(BUCKETS + stations, np.int32)


def clear(st: A, cal: A, buckets: A) -> None:
    """Nobody will wake; time begins at 0."""
    cal[Z_BASE:] = 0
    buckets[:] = -1
    st["wake"], st["place"], st["next"], st["previous"] = INF, -1, -1, -1


def awake_at_start(st: A, cal: A, buckets: A, stations: A) -> None:
    """Wake ``stations`` (distinct) at time 0, in the empty queue."""
    if not len(stations):
        return
    st["wake"][stations], st["place"][stations] = 0, 0
    st["next"][stations] = np.append(stations[1:], -1)
    st["previous"][stations] = np.append(-1, stations[:-1])
    buckets[0] = stations[0]
    cal[Z_SUMMARY] = cal[Z_BITS] = 1
