"""Where the latency of a sample went: the chain of causes walked back from its decision, every picosecond under the name of a part."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from neurosim.engine.events import DUE, SPIKE, STEP, Result
from neurosim.errors import DataError
from neurosim.program import R_READOUT, Program
from neurosim.trace.causes import FORWARD, Events, Put, Service
from neurosim.trace.names import PORT, ROUTER, channel_names, item_name, server_names

Until = Literal["decision", "completion", "first_spike"]
UNTIL: tuple[Until, ...] = get_args(Until)

PARTS = {
    "service": "a synapse, core, soma or sender station at work",
    "hop": "a router output at work",
    "link": "a packet or item under way through a channel",
    "fifo": "a packet or item waiting in a FIFO for its turn",
    "credit": "a result waiting for a free place in the FIFO behind it",
    "window": "a packet waiting for an end-to-end credit of its destination",
    "bank": "a complete bank on its way from the synapse station to the soma",
    "wire": "the end of a downstream step on its way to who waits for the bank that it frees",
    "barrier": "the global barrier",
    "settle": "a neuron that changed its mind waiting until it may say so (timing.settle)",
    "due": "a neuron that may say so waiting in its core's due list for its turn",
    "port": "the spacing of two packets at a port",
    "input": "the input was not due yet",
    "readout": "reading the scores out",
}
"""Names of the parts of a latency."""


@dataclass(frozen=True)
class Segment:
    """A piece of the path: [from_ps, to_ps) went to ``part`` at ``where``, for ``item``."""

    from_ps: int
    to_ps: int
    part: str
    where: str
    item: str

    @property
    def lasts_ps(self) -> int:
        """Its length."""
        return self.to_ps - self.from_ps


@dataclass(frozen=True)
class CriticalPath:
    """The path of one sample; the segments follow each other without a gap from ``start_ps`` to ``end_ps``."""

    sample: int
    until: str
    start_ps: int
    end_ps: int
    segments: tuple[Segment, ...]

    @property
    def latency_ps(self) -> int:
        """What the lengths of the segments add up to."""
        return self.end_ps - self.start_ps

    def totals(self) -> list[dict[str, Any]]:
        """Rows part, where, lasts_ps, share, times: the segments of one part at one place together, the longest first."""
        sums: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
        for segment in self.segments:
            total = sums[segment.part, segment.where]
            total[0] += segment.lasts_ps
            total[1] += 1
        rows = [
            {"part": part, "where": where, "lasts_ps": lasts, "share": lasts / max(1, self.latency_ps), "times": times}
            for (part, where), (lasts, times) in sums.items()
        ]
        return sorted(rows, key=lambda row: (-row["lasts_ps"], row["part"], row["where"]))

    def parts(self) -> dict[str, int]:
        """Part -> ps, of the parts that there are, in the order of PARTS."""
        sums = {part: sum(s.lasts_ps for s in self.segments if s.part == part) for part in PARTS}
        return {part: lasts for part, lasts in sums.items() if lasts}


def critical_path(events: Events, result: Result, sample: int, until: Until = "decision") -> CriticalPath:
    """The chain of causes from a sample's ``decision`` (or ``completion``, or ``first_spike``) back to its start.

    ``sample`` is the row in ``result``. A service is followed back to the put that brought its item, the time between as the FIFO's; where a step or
    a port waited for several things at once (its bank, its station, ends of steps downstream, the barrier), to the one that came last. Segments
    lie within the sample: in a streamed run the path ends where the sample starts.
    Raises DataError: rows are missing (a windowed trace), no first spike.
    """
    start, end = int(result.start_ps[sample]), int(getattr(result, f"{until}_ps")[sample])
    if until == "first_spike" and end < 0:
        raise DataError(f"sample {sample} had no output spike, so there is no path to one")
    walk = _Walk(events, start)
    if end > start:
        walk.run(*_target(events, result, sample, until, walk))
    return CriticalPath(sample, until, start, max(start, end), tuple(reversed(walk.segments)))


def _target(events: Events, result: Result, sample: int, until: Until, walk: _Walk) -> tuple[Service, int]:
    """(the service, the instant in it) from which to walk back."""
    program, rows = events.program, events.services
    end = int(getattr(result, f"{until}_ps")[sample])
    readout = program.slice_rule[:, R_READOUT] != 0
    at_readout = np.isin(program.server_owner, program.slice_core[readout]) & (program.server_kind == 1)
    if until == "first_spike":
        chosen = (rows["time"] == end) & (rows["item"] == SPIKE) & at_readout[rows["server"]] & (rows["synops"] > 0)
    elif until == "decision" and not events.free:
        readout_ps = int(program.chip.timing.readout.value)
        chosen = (rows["end"] == end - readout_ps) & (rows["item"] == STEP) & np.isin(rows["slice"], np.flatnonzero(readout))
        walk.add(end - readout_ps, end, "readout", "host", "")
        end -= readout_ps
    elif until == "decision":
        chosen = ((rows["end"] == end) | ((rows["end"] < 0) & (rows["time"] == end))) & at_readout[rows["server"]]
    else:
        chosen = (rows["end"] == end) | ((rows["end"] < 0) & (rows["time"] == end))
    found = np.flatnonzero(chosen)
    if len(found):
        return events.at(int(found[0])), end
    # a sample that its window cut can end with a put, or a drop, of a service that stayed open
    for table in (events.puts, events.lost):
        last = np.flatnonzero(table["time"] == end)
        if len(last):
            row = table[last[0]]
            return events.service(int(row["server"]), int(row["service"])), end
    raise DataError(f"the trace has nothing that ends at the {until.replace('_', ' ')} of sample {sample}, {end} ps; record all events of it")


class _Walk:
    """Goes back from cause to cause and notes where the time went."""

    def __init__(self, events: Events, start: int) -> None:
        self.events, self.start = events, start
        self.program: Program = events.program
        self.servers, self.channels = server_names(self.program), channel_names(self.program)
        self.segments: list[Segment] = []

    def add(self, begin: int, end: int, part: str, where: str, item: str) -> None:
        """Note a segment, as far as it lies in the sample."""
        begin = max(begin, self.start)
        if begin < end:
            self.segments.append(Segment(begin, end, part, where, item))

    def run(self, service: Service, at: int) -> None:
        """From instant ``at`` of a service back to the start of the sample."""
        step: tuple[Service, int] | None = (service, at)
        while step is not None and step[1] > self.start:
            step = self._back(*step)

    def _back(self, service: Service, at: int) -> tuple[Service, int] | None:
        """Through one service, from ``at`` to its start, then to its cause."""
        item = item_name(self.program, service)
        where = self.servers[service.server]
        kind = int(self.program.server_kind[service.server])
        for put in reversed(list(self.events.waits(service, at))):
            self.add(put.time, at, "hop" if kind == ROUTER else "service", where, item)
            self._waited(service, put, item)
            at = put.ready
        self.add(service.start, at, "hop" if kind == ROUTER else "service", where, item)
        brought = self.events.brought(service)
        if brought is not None:
            channel = int(self.program.server_channel[brought.server])
            arrival = brought.time + int(self.program.channel[channel, FORWARD])
            self.add(arrival, service.start, "fifo", self.channels[channel], item)
            self.add(brought.time, arrival, "link", self.channels[channel], item)
            return self.events.service(brought.server, brought.service), brought.time
        if service.item == DUE:
            return self._due(service, item, where)
        if kind == PORT or service.item == STEP:
            return self._rule(service, item)
        return None  # the start item of free, at 0

    def _due(self, service: Service, item: str, where: str) -> tuple[Service, int]:
        """From the start of a due service back to the service whose test made its neuron due."""
        events = self.events
        made = events.service(*service.cause)
        ready = made.end + self.program.chip.timing.settle.value
        before = events.previous(service)
        free = max(ready, before.end if before is not None else 0)
        puts = events.puts_of(service.server, service.n)
        if len(puts):  # what it said needed a credit before it could begin
            row = puts[0]
            credit = events.credit_time(Put(service.server, service.n, int(row["time"]), int(row["end"]), int(row["index"])))
            if free < credit <= service.start:
                channel = int(self.program.server_channel[service.server])
                self.add(free, service.start, "credit", self.channels[channel], item)
                self.add(ready, free, "due", where, item)
                self.add(made.end, ready, "settle", where, item)
                return made, made.end
        self.add(ready, service.start, "due", where, item)
        self.add(made.end, ready, "settle", where, item)
        return made, made.end

    def _waited(self, service: Service, put: Put, item: str) -> None:
        """A put's wait: for a credit of the channel, then for windows."""
        channel = int(self.program.server_channel[service.server])
        credit = put.time
        kind = int(self.program.server_kind[service.server])
        if self.events.windows and kind in (PORT, 3):
            credit = min(put.time, max(put.ready, self.events.credit_time(put)))
        if credit < put.time:
            self.add(credit, put.time, "window", f"window of core {self.events.destination(put)}", item)
        self.add(put.ready, credit, "credit", self.channels[channel], item)

    def _rule(self, service: Service, item: str) -> tuple[Service, int] | None:
        """What let a step, or a packet of a port, begin: the last of what it had to wait for."""
        found = list(self._conditions(service))
        last = max(found, key=lambda c: c.time, default=None)
        if last is None or last.time < service.start:
            if int(self.program.server_kind[service.server]) != PORT and service.start > (last.time if last else 0):
                raise DataError(f"the trace does not say why {self.servers[service.server]} began service {service.n} at {service.start} ps")
            self.add(self.start, service.start, "input", self.servers[service.server], item)
            return None
        if last.begin is not None:
            return self._barriers(last.begin, item)
        assert last.service is not None
        self.add(last.service.end, last.time, last.part, last.where, item)
        return last.service, last.service.end

    def _conditions(self, service: Service) -> list[_Condition]:
        """All that a service of a port or soma had to wait for, with when it was so; of equals the first counts."""
        events, program, timing = self.events, self.program, self.program.chip.timing
        is_port = int(program.server_kind[service.server]) == PORT
        found: list[_Condition] = []
        if not is_port and service.cause[0] >= 0:
            filled = events.service(*service.cause)
            found.append(_Condition(filled.end + timing.bank.value, "bank", self.servers[service.server], filled))
        if program.sync == "wavefront":
            upper = service.server - program.ports if is_port else service.slice
            for q, delay, banks in events.below.get(upper, ()):
                needed = service.step + delay - banks
                if needed >= 0:
                    ended = events.at(events.steps[q, needed])
                    found.append(_Condition(ended.end + timing.wire.value, "wire", f"from {self.servers[ended.server]}", ended))
        if program.sync == "barrier":
            g = events.global_step(service)
            found.append(_Condition(int(events.opened[0][g]), "barrier", "chip", begin=g))
        before = events.previous(service)
        if before is not None:
            gap = timing.port.value if is_port else 0
            found.append(_Condition(before.end + gap, "port", self.servers[service.server], before))
        return found

    def _barriers(self, g: int, item: str) -> tuple[Service, int] | None:
        """Back from the beginning of global step g to what ended the last step in which something happened."""
        begins, last = self.events.opened
        while g > 0:
            row = int(last[g - 1])
            ended = int(self.events.services["end"][row]) if row >= 0 else int(begins[g - 1])
            self.add(ended, int(begins[g]), "barrier", "chip", item)
            if row >= 0:
                return self.events.at(row), ended
            g -= 1
        return None


@dataclass(frozen=True)
class _Condition:
    time: int
    part: str
    where: str
    service: Service | None = None
    begin: int | None = None
    """The global step of the barrier that begins then."""
