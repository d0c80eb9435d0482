"""Services taken apart into work and waiting for room: a service lasts until its last put has found room, and only a part of that is work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]


@dataclass(frozen=True)
class Pieces:
    """Stretches of time of services, each array [pieces]: ``row`` of the service, ``start`` and ``end`` in ps; by service and time."""

    row: I64
    start: I64
    end: I64

    def chosen(self, services: NDArray[np.bool_]) -> Pieces:
        """Those of some services, given by a mask over their rows."""
        kept = services[self.row]
        return Pieces(self.row[kept], self.start[kept], self.end[kept])


def work_and_waits(services: NDArray[Any], puts: NDArray[Any]) -> tuple[Pieces, Pieces]:
    """(work, waits) of complete services; the put rows of the same simulation say when they waited: from when a put was ready until it was made.

    A port's service is all waiting. Of services whose puts a trace does not have, or not all, the waiting is taken to come last.
    """
    waiting = puts[puts["end"] < puts["time"]]
    order = np.lexsort((services["index"], services["server"]))
    sorted_keys = _keys(services["server"], services["index"])[order]
    keys = _keys(waiting["server"], waiting["service"])
    at = np.minimum(np.searchsorted(sorted_keys, keys), max(len(order) - 1, 0))
    known = sorted_keys[at] == keys if len(order) else np.zeros(len(keys), bool)
    waits = Pieces(order[at[known]], waiting["end"][known].astype(np.int64), waiting["time"][known].astype(np.int64))
    blocked = services["blocked"].astype(np.int64)
    explained = np.bincount(waits.row, weights=waits.end - waits.start, minlength=len(services)).astype(np.int64) == blocked
    waits = waits.chosen(explained)
    rest = np.flatnonzero(~explained & (blocked > 0))
    ends = services["end"].astype(np.int64)
    waits = _sorted(
        np.concatenate([waits.row, rest]), np.concatenate([waits.start, ends[rest] - blocked[rest]]), np.concatenate([waits.end, ends[rest]])
    )
    rows = np.arange(len(services))
    # the waits of a service lie apart, so that the k-th end of work follows the k-th start
    starts = _sorted(np.concatenate([rows, waits.row]), np.concatenate([services["time"].astype(np.int64), waits.end]), None)
    stops = _sorted(np.concatenate([rows, waits.row]), np.concatenate([ends, waits.start]), None)
    longer = stops.start > starts.start
    return Pieces(starts.row[longer], starts.start[longer], stops.start[longer]), waits


def _keys(server: NDArray[Any], number: NDArray[Any]) -> I64:
    return (server.astype(np.int64) << 40) + number.astype(np.int64)


def _sorted(row: I64, start: I64, end: I64 | None) -> Pieces:
    order = np.lexsort((start, row))
    return Pieces(row[order], start[order], (start if end is None else end)[order])
