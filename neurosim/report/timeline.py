"""A window of a stored run as a timeline: services by server, waits, causes, FIFO occupancy, power. What the exports write in their formats."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.energy import price
from neurosim.energy.pricing import HOP_PRICES
from neurosim.errors import DataError
from neurosim.program import Program
from neurosim.trace import StoredRun, events_of
from neurosim.trace.causes import FORWARD, Events, Service
from neurosim.trace.names import PORT, ROUTER, SENDER, SOMA, SYNAPSE, channel_names, item_name, server_names

I64 = NDArray[np.int64]
MOST_SERVICES = 2_000_000
"""Services that a window may have: viewers become slow long before."""


@dataclass(frozen=True)
class Slice:
    """A service in the window, or (``wait``) the part of one in which a result waited for room. ``end_ps`` is -1 for a service that never ended."""

    server: int
    n: int
    start_ps: int
    end_ps: int
    name: str
    wait: bool = False


class Timeline:
    """One sample of a run (of a streamed run: all of it) between two instants, at some servers."""

    def __init__(
        self, run: StoredRun, sample: int = 0, *, from_ps: int | None = None, to_ps: int | None = None, cores: Sequence[int] | None = None
    ) -> None:
        """``cores``: only their stations and FIFOs, and none of routers and ports.

        Raises DataError: no whole trace, an empty window, more services than viewers bear.
        """
        self.run, self.sample, self.program = run, sample, run.program
        self.events: Events = events_of(run, sample)
        self.from_ps = 0 if from_ps is None else from_ps
        self.to_ps = int(self.events.services["end"].max(initial=0)) + 1 if to_ps is None else to_ps
        self.servers = np.arange(len(self.program.server_kind))
        if cores is not None:
            at_core = (self.program.server_kind >= SYNAPSE) & (self.program.server_kind <= SENDER)
            self.servers = np.flatnonzero(at_core & np.isin(self.program.server_owner, list(cores)))
        rows = self.events.services
        chosen = (rows["time"] < self.to_ps) & ((rows["end"] > self.from_ps) | (rows["end"] < 0) | (rows["time"] >= self.from_ps))
        self.rows: I64 = np.flatnonzero(chosen & np.isin(rows["server"], self.servers))
        if not len(self.rows):
            raise DataError(f"{run.path}: nothing happens in that window of sample {sample}; widen --from and --to")
        if len(self.rows) > MOST_SERVICES:
            raise DataError(f"{run.path}: {len(self.rows)} services in that window, the limit is {MOST_SERVICES}; narrow --from and --to")

    @cached_property
    def server_names(self) -> list[str]:
        """Of every server of the program."""
        return server_names(self.program)

    @cached_property
    def channel_names(self) -> list[str]:
        """Of every channel of the program."""
        return channel_names(self.program)

    @property
    def channels(self) -> list[int]:
        """The channels that the servers of the window write or read, ascending."""
        chosen = set(self.program.server_channel[self.servers].tolist()) - {-1}
        for k, (kind, _, reader) in enumerate(self.program.channel[:, :3].tolist()):
            station = {1: self.program.ports + 3 * reader, 2: self.program.ports + 3 * reader + 2}.get(kind)
            if station is not None and station in self.servers:
                chosen.add(k)
        return sorted(chosen)

    def services(self) -> Iterator[tuple[int, Service]]:
        """(row, service) of the window, by server and number."""
        for k in self.rows.tolist():
            yield k, self.events.at(k)

    def slices(self) -> Iterator[tuple[int, Slice]]:
        """(row, slice) by server, in order of time; a service is followed by the waits within it."""
        for k, service in self.services():
            yield k, Slice(service.server, service.n, service.start, service.end, item_name(self.program, service))
            until = service.end if service.end >= 0 else 2**62
            for put in self.events.waits(service, until):
                yield k, Slice(service.server, service.n, put.ready, put.time, "waits for room", wait=True)

    def arguments(self, service: Service) -> dict[str, int | str]:
        """What a viewer shows about a service."""
        found: dict[str, int | str] = {"n": service.n, "start_ps": service.start, "step": service.step, "value": service.value}
        if service.dest >= 0:
            found["to core"] = service.dest
        if service.synops:
            found["synops"] = service.synops
        if service.blocked:
            found["blocked_ps"] = service.blocked
        if service.cause[0] >= 0:
            found["cause"] = f"{self.server_names[service.cause[0]]} #{service.cause[1]}"
        return found

    def flows(self) -> dict[int, int]:
        """Row of a service -> row of the service that caused it, both in the window."""
        rows = self.events.services
        chosen = self.rows[rows["cause_server"][self.rows] >= 0]
        cause = self.events.row_of(rows["cause_server"][chosen], rows["cause_service"][chosen])
        kept = np.isin(cause, self.rows)
        return dict(zip(chosen[kept].tolist(), cause[kept].tolist(), strict=True))

    def occupancy(self, channel: int) -> tuple[I64, I64]:
        """(times, items from then on): what a FIFO holds, from the beginning of the window, net of each instant."""
        return clipped(*occupancy(self.events, channel), self.from_ps, self.to_ps)

    def power(self) -> tuple[I64, NDArray[np.float64]]:
        """(times, mW from then on): static power, and of every station at work its mean power of the whole run; ports take no time, so none.

        Over a whole run its integral is the energy of the chip less that of the ports.
        """
        times, values = power(self.run, self.events)
        at = np.searchsorted(times, self.from_ps, side="right") - 1
        times, values = np.append(self.from_ps, times[at + 1 :]), np.append(values[at], values[at + 1 :])
        inside = times < self.to_ps
        return times[inside], values[inside]


def clipped(times: I64, values: I64, from_ps: int, to_ps: int) -> tuple[I64, I64]:
    """A step function (0 before its first time) within a window: its value at the beginning, then its changes."""
    k = int(np.searchsorted(times, from_ps, side="right"))
    first = int(values[k - 1]) if k else 0
    inside = slice(k, int(np.searchsorted(times, to_ps)))
    return np.append(from_ps, times[inside]), np.append(first, values[inside])


def occupancy(events: Events, channel: int) -> tuple[I64, I64]:
    """(times, items from then on): arrived and not yet taken, net of each instant."""
    arrivals = events.puts_into(channel)[0] + int(events.program.channel[channel, FORWARD])
    taken = events.takes(channel)
    times = np.concatenate([arrivals, taken])
    change = np.concatenate([np.ones(len(arrivals), np.int64), -np.ones(len(taken), np.int64)])
    instants, place = np.unique(times, return_inverse=True)
    net = np.zeros(len(instants), np.int64)
    np.add.at(net, place, change)
    changed = net != 0
    return instants[changed], np.cumsum(net[changed])


def power(run: StoredRun, events: Events) -> tuple[I64, NDArray[np.float64]]:
    """(times from 0 on, mW from then on) of a simulation; see ``Timeline.power``."""
    watts = station_power(run)
    rows = events.services
    rows = rows[rows["end"] >= 0]
    begin, end = [rows["time"]], [rows["end"]]
    mean = [watts[rows["server"]]]
    waits = np.flatnonzero(events.puts["blocked"] > 0)
    for table, until in ((events.puts[waits], events.puts["time"][waits]), (at_end := _waits_at_end(events.program, rows), at_end["end"])):
        begin.append(until - table["blocked"])
        end.append(until)
        mean.append(-watts[table["server"]])
    times = np.concatenate([[0], *begin, *end])
    change = np.concatenate([[_static_mw(run)], *mean, *(-m for m in mean)])
    instants, place = np.unique(times, return_inverse=True)
    net = np.zeros(len(instants))
    np.add.at(net, place, change)
    return instants.astype(np.int64), np.cumsum(net)


def _waits_at_end(program: Program, rows: NDArray[Any]) -> NDArray[Any]:
    return rows[(rows["blocked"] > 0) & np.isin(program.server_kind[rows["server"]], (PORT, ROUTER))]


def station_power(run: StoredRun) -> NDArray[np.float64]:
    """[servers] mean power of each station while it works, in mW: its energy over the whole run by its busy time; 0 for ports."""
    program, result = run.program, run.result
    energy = price(program, result, host_macs_per_sample=run.host_macs_per_sample, streamed=run.streamed)
    spent = np.zeros(len(program.server_kind))
    stations = {SYNAPSE: "synapse", SOMA: "soma", SENDER: "noc"}
    for kind, component in stations.items():
        at = np.flatnonzero(program.server_kind == (SYNAPSE if kind == SOMA and not program.stepped else kind))
        spent[at] += energy.core_fj[component][program.server_owner[at]]
    prices = program.chip.prices
    for code, name, _ in HOP_PRICES:
        figure = getattr(prices, name)
        chosen = (program.server_kind == ROUTER) & (program.server_class == code)
        if figure is not None:
            spent[chosen] = result.server["services"][chosen] * figure.value
    return spent / np.maximum(result.server["busy_ps"], 1)


def _static_mw(run: StoredRun) -> float:
    energy = price(run.program, run.result, host_macs_per_sample=run.host_macs_per_sample, streamed=run.streamed)
    return energy.component_fj("static") / max(1, run.result.window_ps)
