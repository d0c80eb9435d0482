"""One simulation's rows with the ways back: from a service to the put that brought its item, and to what let it start."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.engine.events import CURRENT, DUE, ROW_PUT, ROW_SERVICE, STEP
from neurosim.errors import DataError
from neurosim.program import R_BANKS, Program
from neurosim.trace.names import PORT, ROUTER, SENDER
from neurosim.trace.store import read_trace, trace_info
from neurosim.trace.stored import StoredRun

ACK, DEPTH, FORWARD = 6, 4, 5  # columns of Program.channel
I64 = NDArray[np.int64]


@dataclass(frozen=True)
class Service:
    """A ``service`` row as Python integers. ``end`` is -1 while it is open."""

    server: int
    n: int
    start: int
    end: int
    item: int
    slice: int
    address: int
    value: int
    step: int
    dest: int
    cause: tuple[int, int]
    blocked: int
    synops: int


@dataclass(frozen=True)
class Put:
    """A put into a channel: by which service, when, since when it was ready, and its number among the puts into that channel."""

    server: int
    service: int
    time: int
    ready: int
    number: int


class Events:
    """Rows of one simulation: of one isolated sample, or of a whole streamed run. Numbers of services and puts count from 0 in it."""

    def __init__(self, program: Program, rows: NDArray[Any]) -> None:
        """``rows``: TRACE_DTYPE, every row of the simulation."""
        self.program = program
        kind = rows["kind"]
        self.services = _by_server(rows[kind == ROW_SERVICE])
        self.puts = _by_server(rows[kind == ROW_PUT])
        self.lost = rows[kind > ROW_PUT]  # drops and losses
        servers = np.arange(len(program.server_kind) + 1)
        self._service_at: I64 = np.searchsorted(self.services["server"], servers)
        self._put_at: I64 = np.searchsorted(self.puts["server"], servers)
        self.free = not program.stepped
        self.tree = program.chip.noc.multicast == "tree"
        self.windows = program.chip.noc.flow == "end_to_end"

    def destination(self, put: Put) -> int:
        """The (lowest) destination core of a packet that a port, sender or router put."""
        service = self.service(put.server, put.service)
        if service.dest >= 0:
            return service.dest
        rows = self.puts_of(put.server, put.service)
        return int(rows["dest"][rows["time"] == put.time][0])

    # ---- services -----------------------------------------------------------------------------------------------------------------------------

    def service(self, server: int, n: int) -> Service:
        """Service ``n`` of a server. Raises DataError when the trace does not have it."""
        first, last = int(self._service_at[server]), int(self._service_at[server + 1])
        if not 0 <= n < last - first or self.services["index"][first + n] != n:
            raise _lacking(f"service {n} of server {server}")
        return self.at(first + n)

    def at(self, k: int) -> Service:
        """Row ``k`` of ``services``."""
        names = ("server", "index", "time", "end", "item", "slice", "address", "value", "step", "dest", "cause_server", "cause_service")
        v, n, start, end, *what, cause, number = (int(self.services[name][k]) for name in names)
        item, slice_, address, value, step, dest = what
        blocked, synops = int(self.services["blocked"][k]), int(self.services["synops"][k])
        return Service(v, n, start, end, item, slice_, address, value, step, dest, (cause, number), blocked, synops)

    def of(self, server: int) -> NDArray[Any]:
        """The services of a server, by number."""
        return self.services[self._service_at[server] : self._service_at[server + 1]]

    def row_of(self, server: I64, n: I64) -> I64:
        """Rows in ``services`` of services by server and number; -1 for those that the trace lacks."""
        row = self._service_at[server] + n
        inside = (n >= 0) & (row < self._service_at[np.asarray(server) + 1])
        return np.where(inside, row, -1)

    def begun_by(self, server: int, time: int) -> Service:
        """The latest service of a server that had begun at an instant; there must be one."""
        first = int(self._service_at[server])
        return self.at(first + int(np.searchsorted(self.of(server)["time"], time, side="right")) - 1)

    def previous(self, service: Service) -> Service | None:
        """The service before it at the same server."""
        return self.service(service.server, service.n - 1) if service.n else None

    # ---- puts ---------------------------------------------------------------------------------------------------------------------------------

    def puts_of(self, server: int, n: int) -> NDArray[Any]:
        """The ``put`` rows of a service of a core, soma or sender, in order."""
        rows = self.puts[self._put_at[server] : self._put_at[server + 1]]
        a, b = np.searchsorted(rows["service"], (n, n + 1))
        return rows[a:b]

    def brought(self, service: Service) -> Put | None:
        """The put that brought the item of a service; None for steps, starts, due neurons and services of ports."""
        server, n = service.cause
        if server < 0 or service.item in (STEP, DUE):
            return None
        kind = int(self.program.server_kind[server])
        if kind in (PORT, ROUTER):
            row = self.service(server, n)
            return Put(server, n, row.end, row.end - row.blocked, n - self._missed_before(server, n))
        if kind == SENDER:
            rows = self.puts_of(server, n)
            if not self.tree:
                rows = rows[rows["dest"] == service.dest]
        else:  # the sender takes what the core or soma puts one by one: its n-th service has the n-th put
            first = int(self._put_at[server]) + service.n
            rows = self.puts[first : first + 1]
            rows = rows[(rows["server"] == server) & (rows["service"] == n)]
        if not len(rows):
            raise _lacking(f"the put of server {server} that service {service.n} of server {service.server} took")
        row = rows[0]
        return Put(server, n, int(row["time"]), int(row["end"]), int(row["index"]))

    def puts_into(self, channel: int) -> tuple[I64, NDArray[Any]]:
        """(times, rows) of the puts into a channel, in order: of ports and routers the rows of their services, else ``put`` rows."""
        writer = int(self.program.channel[channel, 1])
        if int(self.program.server_kind[writer]) in (PORT, ROUTER):
            rows = self.of(writer)
            lost = self.lost["service"][self.lost["server"] == writer]
            rows = rows[(rows["end"] >= 0) & ~np.isin(rows["index"], lost)]
            return rows["end"].astype(np.int64), rows
        rows = self.puts[self._put_at[writer] : self._put_at[writer + 1]]
        return rows["time"].astype(np.int64), rows

    def left_in(self, channel: int) -> NDArray[Any]:
        """Rows of the puts whose items nobody took, the oldest first: what is in a FIFO, or under way to it, when the rows end."""
        return self.puts_into(channel)[1][len(self.takes(channel)) :]

    def waits(self, service: Service, until: int) -> Iterator[Put]:
        """The puts of a service up to ``until`` (its end, or one of its puts) that had to wait, in order; a put waited from ``ready`` to ``time``."""
        if int(self.program.server_kind[service.server]) in (PORT, ROUTER):
            if service.blocked and until == service.end:
                number = service.n - self._missed_before(service.server, service.n)
                yield Put(service.server, service.n, service.end, service.end - service.blocked, number)
            return
        rows = self.puts_of(service.server, service.n)
        for row in rows[(rows["blocked"] > 0) & (rows["time"] <= until)]:
            yield Put(service.server, service.n, int(row["time"]), int(row["time"] - row["blocked"]), int(row["index"]))

    def credit_time(self, put: Put) -> int:
        """When the channel had a credit for a put; 0 where it had one from the start."""
        channel = int(self.program.server_channel[put.server])
        number = put.number - int(self.program.channel[channel, DEPTH])
        if number < 0:
            return 0
        return int(self.takes(channel)[number]) + int(self.program.channel[channel, ACK])

    def takes(self, channel: int) -> I64:
        """When the items of a channel were taken, in order."""
        if channel not in self._takes:
            self._takes[channel] = self._find_takes(channel)
        return self._takes[channel]

    @cached_property
    def _takes(self) -> dict[int, I64]:
        return {}

    def _find_takes(self, channel: int) -> I64:
        _, writer, reader = (int(v) for v in self.program.channel[channel, :3])
        station = self._reader(channel)
        if station is not None:
            rows = self.of(station)
            taken: I64 = rows["time"][(rows["cause_server"] >= 0) & (rows["item"] != DUE)]
            return taken
        rows = self.services[(self.services["cause_server"] == writer) & (self.program.server_kind[self.services["server"]] == ROUTER)]
        rows = rows[self.program.server_owner[rows["server"]] == reader]
        if not self.tree:
            return np.sort(rows["time"])
        packets, group = np.unique(rows["cause_service"], return_inverse=True)  # taken with the last copy
        last: I64 = np.zeros(len(packets), np.int64)
        np.maximum.at(last, group, rows["time"])
        return last

    def _reader(self, channel: int) -> int | None:
        """The one server that reads a channel; None for inputs of routers, which several outputs read."""
        kind, _, reader = (int(v) for v in self.program.channel[channel, :3])
        return {1: self.program.ports + 3 * reader, 2: self.program.ports + 3 * reader + 2}.get(kind)

    def _missed_before(self, server: int, n: int) -> int:
        """Drops and losses of a port or router output before its service n."""
        rows = self.lost
        return int(np.count_nonzero((rows["server"] == server) & (rows["service"] < n))) if len(rows) else 0

    # ---- steps --------------------------------------------------------------------------------------------------------------------------------

    @cached_property
    def steps(self) -> dict[tuple[int, int], int]:
        """(slice, step) -> row in ``services`` of that step."""
        rows = np.flatnonzero(self.services["item"] == STEP)
        return dict(zip(zip(self.services["slice"][rows].tolist(), self.services["step"][rows].tolist(), strict=True), rows.tolist(), strict=True))

    @cached_property
    def below(self) -> dict[int, list[tuple[int, int, int]]]:
        """Slice, or port p as p - P -> (downstream slice q, largest delay d, banks of q); wavefront."""
        program = self.program
        largest: dict[tuple[int, int], int] = {}
        for source, q, delay in program.sync_pair.tolist():
            upper = source if source < program.slices else int(program.source_port[source]) - program.ports
            largest[upper, q] = max(delay, largest.get((upper, q), 0))
        table: dict[int, list[tuple[int, int, int]]] = {}
        for (upper, q), delay in sorted(largest.items()):
            table.setdefault(upper, []).append((q, delay, int(program.slice_rule[q, R_BANKS])))
        return table

    @cached_property
    def opened(self) -> tuple[I64, I64]:
        """Barrier: (S_g, the row of ``services`` whose end is Q_g, -1 for a step in which nothing happened), by global step."""
        program, rows = self.program, self.services
        own = (rows["slice"] < program.slices) & (rows["item"] != CURRENT)
        offset = np.append(program.slice_offset, np.zeros(len(program.source_population) - program.slices + 1, np.int64))
        step = rows["step"] + np.where(own, offset[rows["slice"]], 0)
        count = int(step.max(initial=-1)) + 2
        order = np.lexsort((-rows["server"], rows["end"], step))
        last = np.full(count, -1, np.int64)
        last[step[order]] = order  # the latest end of each step comes last
        begins = np.zeros(count, np.int64)
        for g in range(count - 1):
            end = int(rows["end"][last[g]]) if last[g] >= 0 else int(begins[g])
            begins[g + 1] = end + program.barrier_ps
        return begins, last

    def global_step(self, service: Service) -> int:
        """Barrier: the global step of a service of a soma or port."""
        own = service.item == STEP
        return service.step + (int(self.program.slice_offset[service.slice]) if own else 0)


def events_of(run: StoredRun, sample: int = 0) -> Events:
    """All rows of a sample (of a streamed run: of all samples) of a stored run, in memory.

    Raises DataError: no such sample, no trace, a trace of less than all events.
    """
    samples = len(run.result.scores)
    if not 0 <= sample < samples:
        raise DataError(f"run {run.path} has no sample {sample}; there are samples 0 to {samples - 1}")
    if run.trace_path is None:
        raise DataError(f"run {run.path} has no trace; run again with --record-level events")
    if not trace_info(run.trace_path).whole:
        raise DataError(f"run {run.path} keeps only a part of its trace, and causes lead out of any part; run again with --record-level events")
    first = int(run.info["options"].get("first_sample", 0))
    return Events(run.program, read_trace(run.trace_path, None if run.streamed else first + sample))


def _lacking(what: str) -> DataError:
    return DataError(f"the trace lacks {what}; causes need a trace of level events without a window")


def _by_server(rows: NDArray[Any]) -> NDArray[Any]:
    return rows[np.lexsort((rows["index"], rows["server"]))]
