"""A timeline as Chrome's trace JSON (chrome://tracing, Perfetto, Speedscope). Its unit is the microsecond, at true scale."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from neurosim.report.timeline import Timeline
from neurosim.trace.names import PORT, ROUTER

PS_PER_US = 1_000_000
PLACES = ("ports", "cores", "routers")


def write_chrome(timeline: Timeline, path: Path) -> None:
    """Write ``path``: complete events (``X``; category service, and wait within), flows, FIFO and power counters. args: start_ps, end_ps."""
    with path.open("w", encoding="utf-8") as file:
        file.write('{"displayTimeUnit": "ns", "otherData": {"unit": "1 us shown = 1 us of the chip"}, "traceEvents": [\n')
        for k, event in enumerate(_events(timeline)):
            file.write((",\n" if k else "") + json.dumps(event, separators=(",", ":")))
        file.write("\n]}\n")


def _events(timeline: Timeline) -> Iterator[dict[str, Any]]:
    for pid, name in enumerate((*PLACES, "FIFOs and power")):
        yield {"ph": "M", "pid": pid, "name": "process_name", "args": {"name": name}}
    kinds = timeline.program.server_kind.tolist()
    for server in timeline.servers.tolist():
        yield {"ph": "M", "pid": _pid(kinds[server]), "tid": server, "name": "thread_name", "args": {"name": timeline.server_names[server]}}
    flows = timeline.flows()
    for row, piece in timeline.slices():
        end = piece.end_ps if piece.end_ps >= 0 else timeline.to_ps
        event = {
            "ph": "X", "name": piece.name, "cat": "wait" if piece.wait else "service", "pid": _pid(kinds[piece.server]), "tid": piece.server,
            "ts": piece.start_ps / PS_PER_US, "dur": (end - piece.start_ps) / PS_PER_US,
        }  # fmt: skip
        exact = {"start_ps": piece.start_ps, "end_ps": piece.end_ps}
        yield event | {"args": exact if piece.wait else timeline.arguments(timeline.events.at(row)) | exact}
        if not piece.wait and row in flows:
            cause = timeline.events.at(flows[row])
            shared = {"name": "cause", "cat": "flow", "id": row}
            yield {"ph": "s", "pid": _pid(kinds[cause.server]), "tid": cause.server, "ts": cause.start / PS_PER_US, **shared}
            yield {"ph": "f", "bp": "e", "pid": _pid(kinds[piece.server]), "tid": piece.server, "ts": piece.start_ps / PS_PER_US, **shared}
    for channel in timeline.channels:
        for time, items in zip(*(column.tolist() for column in timeline.occupancy(channel)), strict=True):
            yield {"ph": "C", "pid": 3, "name": timeline.channel_names[channel], "ts": time / PS_PER_US, "args": {"items": items}}
    for time, mw in zip(*(column.tolist() for column in timeline.power()), strict=True):
        yield {"ph": "C", "pid": 3, "name": "power", "ts": time / PS_PER_US, "args": {"mW": mw}}


def _pid(kind: int) -> int:
    return {PORT: 0, ROUTER: 2}.get(kind, 1)
