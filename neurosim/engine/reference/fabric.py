"""Items, channels and servers: sections 1 and 2 of docs/machine.md, drops and losses of section 11.

A server serves one item at a time and puts its results by the put rule. Stations own servers; a router owns one per output, every other station one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

from neurosim.arithmetic import is_lost, jitter_draw, jittered
from neurosim.engine.events import ROW_DROP, ROW_LOSS, SPIKE, Options, Stimulus
from neurosim.engine.reference.items import Item, Results, Service
from neurosim.engine.reference.kernel import Kernel
from neurosim.engine.reference.plan import Plan
from neurosim.errors import Livelock
from neurosim.program import C_LINK


class Record(Protocol):
    """What stations report (``record.Recorder`` takes it down)."""

    server: dict[str, list[int]]
    core: dict[str, list[int]]

    def service(self, server: Server, service: Service, end: int) -> None:
        """A service ended."""

    def put(self, server: Server, service: Service, item: Item, ready: int, time: int, waited: int) -> None:
        """A result was put."""

    def discarded(self, server: Server, service: Service, item: Item, time: int, kind: int) -> None:
        """A spike was dropped or lost."""

    def injected(self, item: Item, start: int, stimulus: int) -> None:
        """A port served a packet of a stimulus."""

    def step_began(self, g: int, now: int) -> None:
        """A global step opened."""

    def packet(self, core: int, item: Item, service: Service) -> None:
        """A sender put a packet."""

    def hop(self, service: Service) -> None:
        """A router output served a packet."""

    def decoded(self, core: int, packet: Item) -> None:
        """A synapse or core station took a packet."""

    def synapses(self, core: int, packet: Item, count: int, dropped: int, reads_out: bool, now: int) -> None:
        """The synapses of a spike packet were served."""

    def fire(self, core: int, item: Item, time: int, service: Service) -> None:
        """A spike entered axon-out, or was dropped there."""

    def step(self, station: Station, q: int, g: int, membranes: list[int]) -> None:
        """A slice has new membranes."""

    def step_ended(self, q: int, g: int, end: int, membranes: list[int]) -> None:
        """A soma ended a step."""

    def readout_changed(self, server: int, service: Service, membranes: dict[int, list[int]]) -> None:
        """Free and settle: a service touched readout slices."""

    def spoke(self, core: int, q: int, difference: int, now: int) -> None:
        """Settle: a due neuron of a slice was served."""

    def sample_began(self, sample: int, now: int) -> None:
        """Streamed settle: a sample fell due."""

    def sample_settled(self, machine: Machine, sample: int, moving: bool, now: int) -> None:
        """Settle: a sample is over."""


class Steps(Protocol):
    """What stations may ask the barrier."""

    @property
    def step(self) -> int:
        """The global step that is open, or was last."""

    def step_of(self, q: int) -> int:
        """The own step of a slice in it."""


class Machine(Protocol):
    """What a station, channel or server may ask of the machine that it belongs to: its place, the time, the record; never another station's state.

    ``machine.Machine`` is the one that there is; tests may bring their own.
    """

    latest: int
    last: int
    active: int
    servers: dict[int, Server]
    channels: list[Channel]

    @property
    def plan(self) -> Plan:
        """The Program as the stations read it."""

    @property
    def options(self) -> Options:
        """The run's options."""

    @property
    def record(self) -> Record:
        """Who is told what happened."""

    @property
    def kernel(self) -> Kernel:
        """The clock: ``now``, ``wake``, ``post``."""

    @property
    def number(self) -> int:
        """Of the sample, for jitter and messages; 0 when streamed."""

    @property
    def stimuli(self) -> list[Stimulus]:
        """What the ports inject."""

    @property
    def banks(self) -> Sequence[int]:
        """Banks of every slice."""

    @property
    def barrier(self) -> Steps | None:
        """The global barrier, where the discipline has one."""

    @property
    def samples(self) -> Any:
        """The samples of a streamed run of settle, else None: when each falls due."""

    def moving(self, sample: int, now: int) -> bool:
        """Settle: whether something of a sample of the stream, or of one before, is still on its way."""

    @property
    def cores(self) -> Sequence[Any]:
        """Core stations, of disciplines without steps."""

    @property
    def ports(self) -> Sequence[Any]:
        """Port stations, which a user may have written."""

    @property
    def somas(self) -> Sequence[Any]:
        """Soma stations by core, for messages to them."""

    @property
    def synapses(self) -> Sequence[Any]:
        """Synapse stations by core, for messages to them."""

    def channel_of(self, server: int) -> Channel | None:
        """The channel that a server puts into."""

    def input_of(self, what: str, core: int, reader: Station) -> Channel:
        """Axon-in or axon-out of a core, from now on read by ``reader``."""

    def router_inputs(self, router: int, reader: Station) -> list[Channel]:
        """Input queues of a router."""

    def outputs_of(self, router: int) -> list[int]:
        """Servers of a router's outputs."""

    def return_window(self, packet: Item, core: int, now: int) -> None:
        """A window credit goes back."""

    def upstream(self, q: int) -> list[Any]:
        """Stations that wait for the ends of slice q's steps."""

    def neurons(self, q: int) -> int:
        """Neurons of a slice."""

    def markers_needed(self, q: int, step: int) -> int:
        """Markers that complete a bank."""

    def membranes(self, name: str) -> list[list[int]]:
        """``v`` or ``i`` of every slice."""

    def closed(self, now: int) -> bool:
        """Whether it is too late for a service to begin."""

    def note_time(self, time: int) -> None:
        """Something starts, ends or is put at ``time``."""


class Station:
    """Base of all stations. ``decide`` reads and writes only its own station; it acts on others through ``machine.kernel.post``.

    A user-written station takes (machine, number), where ``number`` is its core, router or port, and overrides what it needs.
    """

    def __init__(self, machine: Machine, number: int) -> None:
        self.machine, self.number = machine, number
        self.plan = machine.plan

    def decide(self, now: int) -> None:
        """Do everything that is due: puts first, then takes."""
        raise AssertionError(f"{type(self).__name__} must override decide")

    def sent(self, server: Server, service: Service, item: Item, time: int) -> None:
        """One result was put at ``time``."""

    def discarded(self, server: Server, service: Service, item: Item, time: int) -> None:
        """A spike was dropped, or lost on a link, at ``time``, when it was ready."""

    def finished(self, server: Server, service: Service, end: int) -> None:
        """A service ended; the next item may be taken in this same decision."""

    def wake(self, time: int) -> None:
        """Decide at ``time``."""
        self.machine.kernel.wake(self, time)


class Channel:
    """A bounded FIFO: the writer's side owns ``credits``, the reader's side owns ``queue`` (section 1)."""

    __slots__ = (
        "ack", "arrivals", "credits", "depth", "drops", "forward", "head_since", "high_water", "index", "kind", "machine", "puts", "queue", "reader",
        "writer",
    )  # fmt: skip

    def __init__(self, machine: Machine, index: int, kind: int, depth: int, forward: int, ack: int, drops: bool) -> None:
        self.machine, self.index, self.kind, self.drops = machine, index, kind, drops
        self.depth, self.forward, self.ack = depth, forward, ack
        self.credits = depth
        self.queue: deque[Item] = deque()
        self.arrivals: deque[int] = deque()  # of the items in the queue
        self.head_since = -1  # request time of the head (section 2, choice)
        self.puts = self.high_water = 0
        self.writer: Server
        self.reader: Station

    def put(self, item: Item, now: int) -> None:
        """Writer's side: uses a credit; the item is in the queue from now + forward."""
        assert self.credits > 0, f"channel {self.index}: put without a credit"
        self.credits -= 1
        self.puts += 1
        self.machine.active += 1
        self.machine.kernel.post(now + self.forward, self._arrive, item)

    def take(self, now: int) -> Item:
        """Reader's side: removes the head; its slot is usable by the writer from now + ack."""
        self.head_since = now
        self.machine.active -= 1
        self.arrivals.popleft()
        self.machine.kernel.post(now + self.ack, self._credit)
        return self.queue.popleft()

    def _arrive(self, item: Item) -> None:
        now = self.machine.kernel.now
        if not self.queue:
            self.head_since = now
        self.queue.append(item)
        self.arrivals.append(now)
        assert len(self.queue) <= self.depth, f"channel {self.index}: more than {self.depth} items"
        self.high_water = max(self.high_water, len(self.queue))  # after the arrivals, before the takes of this instant
        self.machine.kernel.wake(self.reader, now)

    def _credit(self) -> None:
        self.credits += 1
        assert self.credits <= self.depth, f"channel {self.index}: more than {self.depth} credits"
        if self.writer.blocked_since >= 0:
            self.machine.kernel.wake(self.writer.station, self.machine.kernel.now)


class Server:
    """Serves one item at a time and puts its results by the put rule of section 2."""

    def __init__(self, station: Station, number: int, *, spacing: int = 0, put_rows: bool = False, jitters: bool = True) -> None:
        self.station, self.number, self.machine = station, number, station.machine
        self.channel = self.machine.channel_of(number)
        if self.channel is not None:
            self.channel.writer = self
        self.spacing = spacing  # t_put
        self.put_rows = put_rows
        self.jitters = jitters
        self.windows: dict[int, int] | None = None  # end-to-end credits per destination core, for a port and senders
        self.service: Service | None = None
        self.services = self.puts = self.discarded = 0
        self.blocked_since = -1  # q_k of a put that waits for a credit, else -1
        self.machine.servers[number] = self

    def begin(self, item: Item, duration: int, results: Results, synops: int = 0) -> None:
        """Start service n at this instant; durations and nominal times are those before jitter."""
        machine, now = self.machine, self.machine.kernel.now
        assert self.service is None, f"server {self.number} serves two items"
        n, self.services = self.services, self.services + 1
        options = machine.options
        if options.jitter and self.jitters:
            r = jitter_draw(options.seed, machine.number, self.number, n, options.jitter)
            duration = jittered(duration, r)
            results = [(jittered(nominal, r), result) for nominal, result in results]
        self.service = Service(n, now, item, duration, results, synops)
        machine.active += 1
        machine.note_time(now)
        machine.latest = max(machine.latest, now)
        self._aim(self.service, now)

    def _aim(self, service: Service, earliest: int) -> None:
        """When the next put is ready (q_k), or, after the last one, when the service ends."""
        if service.made < len(service.results):
            service.nominal = service.start + service.results[service.made][0] + service.shift  # w_k
            service.ready = max(service.nominal, earliest)
        else:
            service.ready = max(service.start + service.duration + service.shift, service.last_put)
            self.machine.note_time(service.ready)
        if service.ready > self.machine.kernel.now:
            self.station.wake(service.ready)

    def progress(self, now: int) -> None:
        """The puts that are due, then the end of the service if it is due."""
        service = self.service
        while service is not None and now >= service.ready:
            if service.made == len(service.results):
                self._end(service, now)
                return
            item = service.results[service.made][1]
            fate = self._fate(service, item, now)
            if fate != "put":
                self._discard(service, item, now, ROW_LOSS if fate == "loss" else ROW_DROP)
            elif self.lacks(item):
                self.blocked_since = service.ready
                return
            else:
                self._put(service, item, now)

    def _fate(self, service: Service, item: Item, now: int) -> str:
        """``"put"``, or ``"loss"`` or ``"drop"`` of a spike, at the one look that its writer takes at q_k."""
        if item.item != SPIKE or now > service.ready:
            return "put"
        channel, options = self.channel, self.machine.options
        assert channel is not None
        if options.link_loss and channel.kind == C_LINK and is_lost(options.seed, self.machine.number, self.number, service.n, options.link_loss):
            return "loss"
        return "drop" if channel.drops and channel.credits == 0 else "put"

    def lacks(self, item: Item) -> str:
        """What a put waits for: ``"channel"``, ``"window"`` or nothing, the channel first (section 11, deadlock)."""
        assert self.channel is not None
        if self.channel.credits == 0:
            return "channel"
        return "window" if self.lacking_windows(item) else ""

    def lacking_windows(self, item: Item) -> list[int]:
        """Destination cores, ascending, whose window credit is missing."""
        return [core for core in item.dests if self.windows[core] == 0] if self.windows is not None else []

    def _put(self, service: Service, item: Item, now: int) -> None:
        assert self.channel is not None
        waited = now - service.ready
        self.blocked_since = -1
        service.blocked += waited
        if self.windows is not None:
            for core in item.dests:
                self.windows[core] -= 1
        self.channel.put(item.sent((self.number, service.n)), now)
        self.machine.record.put(self, service, item, service.ready, now, waited)
        self.puts += 1
        self.station.sent(self, service, item, now)
        self._go_on(service, now)

    def _discard(self, service: Service, item: Item, now: int, kind: int) -> None:
        """A spike goes no further: p_k = q_k, no credit is used, and the windows that a packet under way held go back."""
        assert self.channel is not None
        self.machine.record.discarded(self, service, item, now, kind)
        self.discarded += 1
        if self.windows is None and self.machine.plan.end_to_end:
            for core in item.dests:  # none for items in axon-out
                self.machine.return_window(item, core, now)
        self.station.discarded(self, service, item, now)
        self._go_on(service, now)

    def _go_on(self, service: Service, now: int) -> None:
        """After result ``made`` left at p_k = now."""
        service.shift += now - service.nominal
        service.last_put = now
        service.made += 1
        self.machine.note_time(now)
        self.machine.latest = max(self.machine.latest, now)
        self._aim(service, now + self.spacing)

    def _end(self, service: Service, end: int) -> None:
        self.service = None
        self.machine.active -= 1
        self.machine.record.service(self, service, end)
        self.station.finished(self, service, end)

    def window_credit(self, core: int) -> None:
        """A credit of (this sender, destination core) is usable again."""
        assert self.windows is not None
        self.windows[core] += 1
        assert self.windows[core] <= self.plan_window, f"server {self.number}: too many window credits of core {core}"
        if self.blocked_since >= 0:
            self.machine.kernel.wake(self.station, self.machine.kernel.now)

    @property
    def plan_window(self) -> int:
        """Window credits per destination core at the start."""
        return self.machine.plan.chip.noc.window

    def open_windows(self) -> None:
        """Give this server its end-to-end credits, where the chip has them (section 5)."""
        plan = self.machine.plan
        if plan.end_to_end:
            self.windows = dict.fromkeys(range(plan.program.cores), self.plan_window)


def check_time(time: int, limit: int, sample: int) -> None:
    """Raise Livelock when something happens later than the limit."""
    if time > limit:
        raise Livelock(
            f"sample {sample}: {time} ps > max_time_ps {limit} before completion; raise max_time_ps or look for a network that feeds itself"
        )
