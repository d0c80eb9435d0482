"""Trace rows, counters and per-sample results of a run: section 11 of docs/machine.md. Watches the machine and never steers it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.engine.anytime import Stop, best_and_margin
from neurosim.engine.events import (
    ANYTIME_DTYPE,
    CHANNEL_COUNTERS,
    CORE_COUNTERS,
    CURRENT,
    MARKER,
    ROW_DROP,
    ROW_PUT,
    ROW_SERVICE,
    SERVER_COUNTERS,
    SPIKE,
    SPIKE_DTYPE,
    TRACE_DTYPE,
    Options,
    Result,
    Sink,
)
from neurosim.engine.reference.fabric import Machine, Server, Station
from neurosim.engine.reference.items import Item, Service, row_of
from neurosim.engine.reference.plan import Plan

CHUNK_ROWS = 1 << 18
PACKET_COUNTERS = {SPIKE: "spike_packets", CURRENT: "current_packets", MARKER: "marker_packets"}


class Probe:
    """Base of user-written observers; override what you want to see. A probe must not change anything it is handed."""

    def service(self, station: Station, server: Server, service: Service, end: int) -> None:
        """A service ended."""

    def put(self, station: Station, server: Server, item: Item, ready: int, time: int) -> None:
        """A result was put at ``time``; it was ready at ``ready``."""

    def step(self, station: Station, slice_: int, step: int, membranes: list[int]) -> None:
        """The membranes of a slice after a step was computed (stepped) or a service touched it (free: step 0)."""


class Recorder:
    """Collects one run. Totals over samples are arrays by server, core, channel; ``sample`` is the row of the sample being simulated."""

    def __init__(self, plan: Plan, options: Options, samples: int, sink: Sink | None, probes: tuple[Probe, ...]) -> None:
        program = plan.program
        self.plan, self.options, self.sink, self.probes = plan, options, sink, probes
        self.server = {name: [0] * len(program.server_kind) for name in SERVER_COUNTERS}
        self.core = {name: [0] * program.cores for name in CORE_COUNTERS}
        self.channel = {name: [0] * len(program.channel) for name in CHANNEL_COUNTERS}
        names = (
            "spikes",
            "synops",
            "packets",
            "injected_spikes",
            "injected_currents",
            "hops",
            "cut",
            "unsettled",
            "cancelled",
            "retracted",
            "stopped",
        )
        self.samples = {name: [0] * samples for name in names}
        self.slice_spikes, self.slice_cancelled, self.slice_retracted = ([[0] * program.slices for _ in range(samples)] for _ in range(3))
        self.scores = np.zeros((samples, plan.classes), np.int64)
        self.start, self.first_spike = [-1] * samples, [-1] * samples
        self.decision, self.completion = [0] * samples, [0] * samples
        self.windows = options.window_ps if plan.stepless and plan.streamed else 0  # streamed free and settle: length of a sample
        if self.windows:
            self.start = [n * self.windows for n in range(samples)]
            self.decision, self.completion = self.start.copy(), self.start.copy()
        self.window = 0
        self.tracing = options.record or sink is not None
        self.rows: list[tuple[int, ...]] = []
        self.kept: list[NDArray[Any]] = []
        self.fires: list[tuple[int, ...]] = []
        self.state_v: list[list[int]] = []
        self.state_i: list[list[int]] = []
        self.sample = 0
        self._opened: dict[int, int] = {}  # barrier, streamed: S of each sample's first global step
        self._readout: list[tuple[int, int, int, Service, dict[int, list[int]]]] = []
        self._steps: list[tuple[int, int, int, list[int]]] = []  # stepped: (time, slice, sample, membranes) of readout slices
        self.anytime: list[tuple[int, int, int, int]] = []
        self.open = 0  # settle, streamed without windows: the sample under way

    # ---- what the machine reports -------------------------------------------------------------------------------------------------------------

    def sample_of(self, step: int, start: int) -> int:
        """Row of the sample that something belongs to: of a global step, or of a service that starts then where windows make the samples."""
        if self.windows:
            return max(0, start - 1) // self.windows
        if self.plan.settle and self.plan.streamed:
            return self.open
        return self.plan.sample_of(step)[0] if self.plan.streamed else self.sample

    @property
    def trace_sample(self) -> int:
        """The sample column of trace rows."""
        return 0 if self.plan.streamed else self.options.first_sample + self.sample

    def service(self, server: Server, service: Service, end: int) -> None:
        """A service ended: its row, and busy and blocked time."""
        counters, v = self.server, server.number
        service.end = end
        counters["services"][v] += 1
        counters["blocked_ps"][v] += service.blocked
        counters["busy_ps"][v] += end - service.start - service.blocked
        if self.windows:
            sample = self.sample_of(0, service.start)
            self.completion[sample] = max(self.completion[sample], end)
        if self.tracing and self._injects(server, service):
            self.rows.append(self._row(server, service, end))
        for probe in self.probes:
            probe.service(server.station, server, service, end)

    def _injects(self, server: Server, service: Service) -> bool:
        """Whether a service has a row: with ``fires_only`` those of ports for spikes and currents."""
        return not self.options.fires_only or (server.number < len(self.plan.program.port_router) and service.item.item != MARKER)

    def _fires(self, server: Server, item: Item) -> bool:
        """Whether a put or drop has a row: with ``fires_only`` those of spikes by cores and somas."""
        return not self.options.fires_only or (item.item == SPIKE and int(self.plan.program.server_kind[server.number]) in (1, 2))

    def _row(self, server: Server, service: Service, end: int) -> tuple[int, ...]:
        head = (self.trace_sample, service.start, server.number, ROW_SERVICE, service.n, end, service.n)
        return head + row_of(service.item) + (service.blocked, service.synops)

    def put(self, server: Server, service: Service, item: Item, ready: int, time: int, waited: int) -> None:
        """A put of any server; only cores, somas and senders have rows of their puts."""
        if self.tracing and server.put_rows and self._fires(server, item):
            self.rows.append(self._put_row(server, service, item, ready, time, ROW_PUT, server.puts, waited))
        for probe in self.probes:
            probe.put(server.station, server, item, ready, time)

    def discarded(self, server: Server, service: Service, item: Item, time: int, kind: int) -> None:
        """A spike was dropped (ROW_DROP) or lost (ROW_LOSS) instead of put."""
        assert server.channel is not None
        self.channel["drops" if kind == ROW_DROP else "losses"][server.channel.index] += 1
        if self.tracing and self._fires(server, item):
            self.rows.append(self._put_row(server, service, item, time, time, kind, server.discarded, 0))

    def _put_row(self, server: Server, service: Service, item: Item, ready: int, time: int, kind: int, index: int, waited: int) -> tuple[int, ...]:
        what = row_of(item.sent((server.number, service.n)))
        return (self.trace_sample, time, server.number, kind, index, ready, service.n) + what + (waited, 0)

    def injected(self, item: Item, start: int, stimulus: int) -> None:
        """A service of a port, for a packet of stimulus number ``stimulus`` of the simulation."""
        sample = stimulus if self.plan.streamed else self.sample
        if item.item != MARKER:
            self.samples["injected_spikes" if item.item == SPIKE else "injected_currents"][sample] += 1
        if self.start[sample] < 0 or start < self.start[sample]:
            self.start[sample] = start

    def step_began(self, g: int, now: int) -> None:
        """S_g of the barrier discipline: where a streamed sample starts if no port serves anything for it."""
        if self.plan.streamed and g % self.plan.steps == 0 and g < self.plan.rounds:
            self._opened[g // self.plan.steps] = now

    def packet(self, core: int, item: Item, service: Service) -> None:
        """A packet put by a sender."""
        self.core["packets_sent"][core] += 1
        self.samples["packets"][self.sample_of(item.step, service.start)] += 1

    def hop(self, service: Service) -> None:
        """A service of a router output."""
        self.samples["hops"][self.sample_of(service.item.step, service.start)] += 1

    def decoded(self, core: int, packet: Item) -> None:
        """A packet taken by a synapse or core station."""
        self.core[PACKET_COUNTERS[packet.item]][core] += 1

    def synapses(self, core: int, packet: Item, count: int, dropped: int, reads_out: bool, now: int) -> None:
        """The synapses served for a spike packet."""
        sample = self.sample_of(packet.step, now)
        self.core["synops"][core] += count
        self.core["synops_dropped"][core] += dropped
        self.samples["synops"][sample] += count
        if reads_out and (self.first_spike[sample] < 0 or now < self.first_spike[sample]):
            self.first_spike[sample] = now

    def fire(self, core: int, item: Item, time: int, service: Service) -> None:
        """A spike was put into axon-out, or dropped there."""
        sample = self.sample_of(item.step, service.start)
        self.core["fires"][core] += 1
        if not self.plan.settle:
            self.samples["spikes"][sample] += 1
            self.slice_spikes[sample][item.slice] += 1
        if self.options.spikes:
            self.fires.append((self.options.first_sample + sample, self.plan.sample_of(item.step)[1], item.slice, item.address, time, item.value))

    def spoke(self, core: int, q: int, difference: int, now: int) -> None:
        """Settle: a due neuron of slice q is served."""
        sample, count = self.sample_of(0, now), self.core
        count["accesses"][core] += 1
        if difference == 0:
            count["cancelled"][core] += 1
            self.samples["cancelled"][sample] += 1
            self.slice_cancelled[sample][q] += 1
            return
        count["updates"][core] += 1
        if difference < 0:
            count["retracted"][core] += 1
            self.samples["retracted"][sample] += 1
            self.slice_retracted[sample][q] += 1

    def sample_began(self, sample: int, now: int) -> None:
        """Settle, streamed without windows: a sample falls due."""
        self.open = sample
        self.start[sample] = self.decision[sample] = self.completion[sample] = now

    def sample_settled(self, machine: Machine, sample: int, moving: bool, now: int) -> None:
        """Settle: the end of a sample: what its neurons say, and whether their membranes fit the state's word."""
        self.samples["unsettled"][sample] = int(moving)
        if self.plan.streamed and not self.windows:
            self.completion[sample] = now
        for core in machine.cores:
            for q, population in core.populations.items():
                spikes = sum(n != 0 for n in population.sent)
                self.samples["spikes"][sample] += spikes
                self.slice_spikes[sample][q] = spikes
                self.core["saturations"][core.number] += population.saturations()

    def step(self, station: Station, q: int, g: int, membranes: list[int]) -> None:
        """A slice has new membranes."""
        for probe in self.probes:
            probe.step(station, q, g, membranes)

    def step_ended(self, q: int, g: int, end: int, membranes: list[int]) -> None:
        """A soma ended a step: scores, decision, streamed completion."""
        sample, step = self.sample_of(g, end), self.plan.sample_of(g)[1]
        if q in self.plan.readout:
            self._steps.append((end + self.plan.time["readout"], q, sample, list(membranes)))
        if step != self.plan.steps - 1:
            return
        if q in self.plan.readout:
            self.scores[sample, self.plan.readout[q]] = membranes
            self.decision[sample] = max(self.decision[sample], end + self.plan.time["readout"])
        if self.plan.streamed:
            self.completion[sample] = max(self.completion[sample], end)

    def readout_changed(self, server: int, service: Service, membranes: dict[int, list[int]]) -> None:
        """Free and settle: a service touched readout slices; ``membranes`` as they are read."""
        self._readout.append((service.start, server, self.sample_of(0, service.start), service, membranes))

    # ---- ends ---------------------------------------------------------------------------------------------------------------------------------

    def sample_ended(self, machine: Machine, cut: bool, stop: Stop | None) -> None:
        """A simulation came to rest: one sample, or the whole streamed run; ``cut``: at the end of its window, with something left; ``stop``: by its
        margin."""
        if stop is not None:
            self.samples["stopped"][self.sample] = 1
            if self.tracing and not self.options.fires_only:
                self.rows.append((self.trace_sample, *stop.columns()))
        self.window += machine.last
        self.samples["cut"][len(self.start) - 1 if self.plan.streamed else self.sample] = int(cut)
        if not self.plan.streamed:
            self.completion[self.sample] = machine.last
            self.start[self.sample] = 0
        for sample, opened in self._opened.items():
            if self.start[sample] < 0:
                self.start[sample] = opened
        if self.plan.settle and not self.plan.streamed:
            self.sample_settled(machine, self.sample, moving=False, now=machine.last)
        if self.plan.stepless:
            self._decide_stepless()
        else:
            self._decide_stepped()
        if self.options.state:
            for name, kept in (("v", self.state_v), ("i", self.state_i)):
                kept.append([x for values in machine.membranes(name) for x in values])
        self.flush(machine)

    def _decide_stepless(self) -> None:
        """Scores, and the end of the last service after which the argmax differs from before it, services ordered by (start, server).

        A service that the end of the window left open counts with its start. Streamed samples inherit membranes and argmax from those before them;
        else a sample begins with the start membranes, in settle with the rest state.
        """
        changes: dict[int, list[tuple[Service, dict[int, list[int]]]]] = {}
        for _, _, sample, service, touched in sorted(self._readout, key=lambda entry: entry[:2]):
            changes.setdefault(sample, []).append((service, touched))
        membranes = self.plan.first_scores()
        scores = self.plan.program.scores_of(membranes)
        best = int(scores.argmax()) if len(scores) else 0
        for sample in range(len(self.start)) if self.plan.streamed else [self.sample]:
            self._say(sample, self.start[sample], membranes)
            for service, touched in changes.get(sample, []):
                for q, values in touched.items():
                    membranes[self.plan.readout[q]] = values
                scores = self.plan.program.scores_of(membranes)
                if int(scores.argmax()) != best:
                    best, self.decision[sample] = int(scores.argmax()), service.end if service.end >= 0 else service.start
                    self._say(sample, self.decision[sample], membranes)
            self.scores[sample] = membranes
        self._readout.clear()

    def _decide_stepped(self) -> None:
        """What the readout says after each of its slices' steps, in order of (time, slice)."""
        said: dict[int, tuple[NDArray[np.int64], int]] = {}
        for sample in range(len(self.start)) if self.plan.streamed else [self.sample]:
            scores = self.plan.first_scores()
            self._say(sample, self.start[sample], scores)
            said[sample] = scores, self._best(scores)
        for time, q, sample, membranes in sorted(self._steps):
            scores, best = said[sample]
            scores[self.plan.readout[q]] = membranes
            if self._best(scores) != best:
                said[sample] = scores, self._best(scores)
                self._say(sample, time, scores)
        self._steps.clear()

    def _best(self, places: NDArray[np.int64]) -> int:
        """The lowest class with the largest score, parts added up."""
        scores = self.plan.program.scores_of(places)
        return int(scores.argmax()) if len(scores) else 0

    def _say(self, sample: int, time: int, scores: NDArray[np.int64]) -> None:
        """An entry of the anytime record; ``scores`` by place."""
        if len(scores):
            self.anytime.append((self.options.first_sample + sample, time, *best_and_margin(self.plan.program.scores_of(scores))))

    def looks(self) -> list[tuple[Service, int, int, int]]:
        """(service, its server, best class, margin) of all services that have touched the readout, in order of (start, server)."""
        scores, found = self.plan.first_scores(), []
        for _, server, _, service, touched in sorted(self._readout, key=lambda entry: entry[:2]):
            for q, values in touched.items():
                scores[self.plan.readout[q]] = values
            found.append((service, server, *best_and_margin(self.plan.program.scores_of(scores))))
        return found

    def flush(self, machine: Machine) -> None:
        """Sort this simulation's rows and hand them on; services still open (deadlock) come after the complete rows of their time."""
        for channel in machine.channels:
            self.channel["puts"][channel.index] += channel.puts
            self.channel["high_water"][channel.index] = max(self.channel["high_water"][channel.index], channel.high_water)
        if not self.tracing:
            return
        running = [(server, server.service) for server in machine.servers.values() if server.service is not None]
        opened = [self._row(server, service, -1) for server, service in running if self._injects(server, service)]
        rows = np.array(self.rows + opened, TRACE_DTYPE)
        late = np.arange(len(rows)) >= len(self.rows)
        rows = rows[np.lexsort((rows["index"], rows["kind"], rows["server"], late, rows["time"], rows["sample"]))]
        self.rows = []
        if self.sink is None:
            self.kept.append(rows)
        else:
            for a in range(0, len(rows), CHUNK_ROWS):
                self.sink.write(rows[a : a + CHUNK_ROWS])

    def result(self) -> Result:
        """The run as arrays."""
        spikes = np.array(self.fires, SPIKE_DTYPE)
        spikes = spikes[np.lexsort(tuple(spikes[name] for name in ("time", "address", "slice", "step", "sample")))]
        neurons = int(self.plan.program.neuron_ptr[-1])
        anytime = np.array(self.anytime, ANYTIME_DTYPE)
        return Result(
            scores=self.plan.program.scores_of(self.scores),
            start_ps=np.array(self.start, np.int64),
            first_spike_ps=np.array(self.first_spike, np.int64),
            decision_ps=np.array(self.decision, np.int64),
            completion_ps=np.array(self.completion, np.int64),
            window_ps=self.window,
            server={name: np.array(values, np.int64) for name, values in self.server.items()},
            core={name: np.array(values, np.int64) for name, values in self.core.items()},
            channel={name: np.array(values, np.int64) for name, values in self.channel.items()},
            sample={name: np.array(values, np.int64) for name, values in self.samples.items()},
            slice_spikes=self._by_slice(self.slice_spikes),
            slice_cancelled=self._by_slice(self.slice_cancelled),
            slice_retracted=self._by_slice(self.slice_retracted),
            spikes=spikes,
            anytime=anytime[np.argsort(anytime["sample"], kind="stable")],
            trace=np.concatenate(self.kept) if self.kept else np.zeros(0, TRACE_DTYPE),
            state_v=np.array(self.state_v, np.int64).reshape(-1, neurons) if self.options.state else np.zeros((0, 0), np.int64),
            state_i=np.array(self.state_i, np.int64).reshape(-1, neurons) if self.options.state else np.zeros((0, 0), np.int64),
        )

    def _by_slice(self, counts: list[list[int]]) -> NDArray[np.int64]:
        return np.array(counts, np.int64).reshape(len(self.start), self.plan.program.slices)
