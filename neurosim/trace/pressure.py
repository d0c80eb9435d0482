"""Where back-pressure began: every wait for a credit is followed to the station that did not make room, and charged to it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.program import C_AXON_IN, C_AXON_OUT
from neurosim.trace.causes import Events, Put
from neurosim.trace.names import PORT, ROUTER, channel_names, server_names


@dataclass
class _Origin:
    held_ps: int = 0
    waits: int = 0
    first_ps: int = 2**63 - 1
    last_ps: int = 0
    held: dict[tuple[int, int], list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))


def back_pressure(events: Events) -> list[dict[str, Any]]:
    """One row per station at which back-pressure began, the most time held up first.

    A result that waits for room in a FIFO waits for who reads that FIFO (a packet that waits for a window: for its destination). For as long as that
    station is itself waiting for room, the wait is passed on to the next, until one is reached that works (or closes a circle).
    Keys: origin (the station), held_ps (waits of all results, as far as they are charged to it), waits (in how many pieces), first_ps, last_ps,
    held: rows station, fifo, held_ps, waits of what was held up, the longest first.
    """
    waits = _Waits(events)
    origins: dict[int, _Origin] = defaultdict(_Origin)
    for begin, end, server, channel in waits.all():
        for number, since, until in waits.charge(server, begin, end):
            origin = origins[number]
            origin.held_ps += until - since
            origin.waits += 1
            origin.first_ps, origin.last_ps = min(since, origin.first_ps), max(until, origin.last_ps)
            held = origin.held[server, channel]
            held[0] += until - since
            held[1] += 1
    servers, channels = server_names(events.program), channel_names(events.program)
    rows = []
    for origin_server, found in sorted(origins.items(), key=lambda entry: (-entry[1].held_ps, entry[0])):
        held_rows = [
            {"station": servers[server], "fifo": channels[channel], "held_ps": ps, "waits": count}
            for (server, channel), (ps, count) in sorted(found.held.items(), key=lambda entry: (-entry[1][0], entry[0]))
        ]
        rows.append(
            {
                "origin": servers[origin_server],
                "held_ps": found.held_ps,
                "waits": found.waits,
                "first_ps": found.first_ps,
                "last_ps": found.last_ps,
                "held": held_rows,
            }
        )
    return rows


class _Waits:
    """All waits for credits of one simulation, to be looked up by station and time."""

    def __init__(self, events: Events) -> None:
        self.events, self.program = events, events.program
        services, puts = events.services, events.puts
        at_end = np.isin(self.program.server_kind[services["server"]], (PORT, ROUTER)) & (services["blocked"] > 0) & (services["end"] >= 0)
        waited = puts["blocked"] > 0
        self.end = np.concatenate([services["end"][at_end], puts["time"][waited]])
        self.begin = self.end - np.concatenate([services["blocked"][at_end], puts["blocked"][waited]])
        self.server = np.concatenate([services["server"][at_end], puts["server"][waited]])
        order = np.lexsort((self.begin, self.server))
        self.begin, self.end, self.server = self.begin[order], self.end[order], self.server[order]
        self._of: dict[int, tuple[list[int], list[int]]] = {}
        self._heads: dict[int, tuple[list[int], list[int]]] = {}

    def all(self) -> list[tuple[int, int, int, int]]:
        """(begin, end, server, channel) of every wait."""
        channel = self.program.server_channel[self.server]
        return list(zip(self.begin.tolist(), self.end.tolist(), self.server.tolist(), channel.tolist(), strict=True))

    def charge(self, server: int, begin: int, end: int, passed: tuple[int, ...] = ()) -> Iterator[tuple[int, int, int]]:
        """(origin, since, until): the pieces of a wait of ``server`` from ``begin`` to ``end``, each with the station that made no room."""
        while begin < end:
            reader, until = self._reader(server, begin, end)
            if reader is None or reader in passed:
                yield (server if reader is None else min(passed)), begin, until
            else:
                yield from self._share(reader, begin, until, (*passed, server))
            begin = until

    def _share(self, reader: int, begin: int, end: int, passed: tuple[int, ...]) -> Iterator[tuple[int, int, int]]:
        """The pieces of a wait for ``reader``: its own while it works, passed on while it waits itself."""
        begins, ends = self._waits_of(reader)
        k = max(0, bisect_right(begins, begin) - 1)
        while begin < end:
            while k < len(begins) and ends[k] <= begin:
                k += 1
            since = min(begins[k], end) if k < len(begins) else end
            if since > begin:
                yield reader, begin, since
                begin = since
            if begin < end:
                until = min(ends[k], end)
                yield from self.charge(reader, begin, until, passed)
                begin = until

    def _waits_of(self, server: int) -> tuple[list[int], list[int]]:
        if server not in self._of:
            a, b = np.searchsorted(self.server, (server, server + 1))
            self._of[server] = (self.begin[a:b].tolist(), self.end[a:b].tolist())
        return self._of[server]

    def _reader(self, server: int, at: int, end: int) -> tuple[int | None, int]:
        """(the station that must make room for what ``server`` waits to put at ``at``, until when, at most ``end``).

        Who takes next from the FIFO, of a router the output that its head goes to; once there is room, the destination whose window is closed.
        """
        channel = int(self.program.server_channel[server])
        kind, _, reader = (int(v) for v in self.program.channel[channel, :3])
        if kind in (C_AXON_IN, C_AXON_OUT):
            return self.program.ports + 3 * reader + (0 if kind == C_AXON_IN else 2), end
        if self.events.windows and int(self.program.server_kind[server]) != ROUTER and (put := self._put_of(server, at)) is not None:
            room = self.events.credit_time(put)
            if room <= at:
                return self.program.ports + 3 * self.events.destination(put), end
            end = min(end, room)
        times, servers = self._next_heads(channel)
        k = bisect_left(times, at)
        return (servers[k] if k < len(times) else None), end

    def _put_of(self, server: int, at: int) -> Put | None:
        """The put for which a port or sender waits at an instant."""
        service = self.events.begun_by(server, at)
        until = service.end if service.end >= 0 else 2**62
        return next((put for put in self.events.waits(service, until) if put.ready <= at < put.time), None)

    def _next_heads(self, channel: int) -> tuple[list[int], list[int]]:
        """(times, servers) of the services that began with a packet from an input of a router, in order."""
        if channel not in self._heads:
            writer, rows = int(self.program.channel[channel, 1]), self.events.services
            chosen: NDArray[Any] = rows[(rows["cause_server"] == writer) & (self.program.server_kind[rows["server"]] == ROUTER)]
            chosen = chosen[self.program.server_owner[chosen["server"]] == int(self.program.channel[channel, 2])]
            chosen = chosen[np.argsort(chosen["time"], kind="stable")]
            self._heads[channel] = (chosen["time"].tolist(), chosen["server"].tolist())
        return self._heads[channel]
