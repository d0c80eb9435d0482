"""The machine: stations joined by channels, in the state a simulation starts from. One per sample, or one per streamed run."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from neurosim.engine.deadlock import Stuck
from neurosim.engine.events import Options, Stimulus
from neurosim.engine.reference.barrier import Barrier
from neurosim.engine.reference.core import Core
from neurosim.engine.reference.fabric import Channel, Server, Station, check_time
from neurosim.engine.reference.items import Item
from neurosim.engine.reference.kernel import Kernel
from neurosim.engine.reference.plan import Plan
from neurosim.engine.reference.record import Recorder
from neurosim.engine.reference.settle import Samples, Settler
from neurosim.engine.reference.soma import BarrierSoma, Soma
from neurosim.engine.reference.stations import Port, Router, Sender
from neurosim.engine.reference.synapse import Synapse
from neurosim.program import C_AXON_IN, C_AXON_OUT, C_INJECT, C_LINK, C_PORT, R_BANKS

STATIONS: dict[str, type[Any]] = {"port": Port, "synapse": Synapse, "core": Core, "soma": Soma, "sender": Sender, "router": Router}
"""Station classes by kind; in barrier the soma is a BarrierSoma, in settle the core a Settler. ``run_reference(stations={"synapse": MySynapse})``
replaces one; its constructor takes (machine, number)."""
KIND_OF_INPUT = {"axon-in": C_AXON_IN, "axon-out": C_AXON_OUT}


class Machine:
    """All stations and channels of one simulation, and what they may ask about each other's place (never about each other's state)."""

    def __init__(
        self,
        plan: Plan,
        options: Options,
        record: Recorder,
        stimuli: list[Stimulus],
        number: int,
        shuffle: random.Random | None,
        stations: Mapping[str, type[Any]],
    ) -> None:
        self.plan, self.options, self.record, self.stimuli = plan, options, record, stimuli
        self.number = number  # of the sample, for jitter and messages; 0 when streamed
        self.kernel = Kernel(shuffle)
        self.latest = 0  # latest start of a service or put: the time of a deadlock
        self.last = 0  # last end of a service or put: completion
        self.active = 0  # packets and items in channels and services open: none ends a step of the barrier
        # no service begins later (free and settle with a window)
        self.closes = options.window_ps * (len(stimuli) if plan.streamed else 1) if plan.stepless and options.window_ps else None
        program = plan.program
        self.banks: list[int] = program.slice_rule[:, R_BANKS].tolist()
        drops = program.channel_drop.tolist()
        self.channels = [
            Channel(self, k, kind, depth, forward, ack, bool(drops[k]))
            for k, (kind, _, _, _, depth, forward, ack) in enumerate(program.channel.tolist())
        ]
        self.servers: dict[int, Server] = {}
        self._outputs: dict[int, list[int]] = {}
        for v, (kind, owner) in enumerate(zip(program.server_kind.tolist(), program.server_owner.tolist(), strict=True)):
            if kind == 4:
                self._outputs.setdefault(owner, []).append(v)
        barrier = program.sync == "barrier"
        make = STATIONS | ({"soma": BarrierSoma} if barrier else {"core": Settler} if plan.settle else {}) | dict(stations)
        self.barrier = Barrier(self) if barrier else None
        self.samples = Samples(self) if plan.settle and plan.streamed else None
        self.ports = [make["port"](self, p) for p in range(len(program.port_router))]
        cores = range(program.cores)
        self.cores: list[Any] = [make["core"](self, c) for c in cores] if plan.stepless else []
        self.synapses: list[Any] = [] if plan.stepless else [make["synapse"](self, c) for c in cores]
        self.somas: list[Any] = [] if plan.stepless else [make["soma"](self, c) for c in cores]
        self.senders = [make["sender"](self, c) for c in cores]
        self.routers = [make["router"](self, r) for r in range(len(program.next_server))]

    # ---- wiring -------------------------------------------------------------------------------------------------------------------------------

    def channel_of(self, server: int) -> Channel | None:
        """The channel that a server puts into."""
        k = int(self.plan.program.server_channel[server])
        return self.channels[k] if k >= 0 else None

    def input_of(self, what: str, core: int, reader: Station) -> Channel:
        """Axon-in or axon-out of a core, from now on read by ``reader``."""
        rows = self.plan.program.channel
        (k,) = [int(k) for k in ((rows[:, 0] == KIND_OF_INPUT[what]) & (rows[:, 2] == core)).nonzero()[0]]
        self.channels[k].reader = reader
        return self.channels[k]

    def router_inputs(self, router: int, reader: Station) -> list[Channel]:
        """Input queues of a router by input number."""
        rows = self.plan.program.channel
        leads = (rows[:, 2] == router) & ((rows[:, 0] == C_PORT) | (rows[:, 0] == C_INJECT) | (rows[:, 0] == C_LINK))
        found = sorted((int(rows[k, 3]), int(k)) for k in leads.nonzero()[0])
        for _, k in found:
            self.channels[k].reader = reader
        return [self.channels[k] for _, k in found]

    def outputs_of(self, router: int) -> list[int]:
        """Servers of a router's outputs, in their order."""
        return self._outputs.get(router, [])

    def return_window(self, packet: Item, core: int, now: int) -> None:
        """The window credit of a destination core that a packet under way holds is usable again t_wire from now."""
        self.kernel.post(now + self.plan.time["wire"], self.servers[self.plan.holder(packet)].window_credit, core)

    def upstream(self, q: int) -> list[Any]:
        """Soma stations and ports that wait for the ends of slice q's steps."""
        senders = self.plan.above[q]
        somas = [self.somas[core] for core in sorted({self.plan.core_of[p] for p in senders if p >= 0})]
        return somas + [port for port in self.ports if -1 - port.number in senders]

    def neurons(self, q: int) -> int:
        """Neurons of a slice."""
        return int(self.plan.program.neuron_ptr[q + 1] - self.plan.program.neuron_ptr[q])

    def markers_needed(self, q: int, step: int) -> int:
        """Markers that complete the bank of a step within the sample (section 6)."""
        return sum(1 for _, delay in self.plan.needs[q] if step - delay >= 0)

    def membranes(self, name: str) -> list[list[int]]:
        """``v`` or ``i`` of every slice."""
        plan = self.plan
        if plan.free and name == "i":
            return [[0] * self.neurons(q) for q in range(plan.program.slices)]
        return [getattr((self.cores or self.somas)[core], name)[q] for q, core in enumerate(plan.core_of)]

    # ---- run ----------------------------------------------------------------------------------------------------------------------------------

    def closed(self, now: int) -> bool:
        """Whether it is too late for a service to begin (section 11, windows)."""
        return self.closes is not None and now > self.closes

    def note_time(self, time: int) -> None:
        """Something starts, ends or is put at ``time``."""
        if time > self.last:
            check_time(time, self.options.max_time_ps, self.number)
            self.last = time

    def run(self) -> Stuck | None:
        """Until nothing is due; what is stuck then, or None."""
        self.kernel.run()
        pending = any(server.service is not None for server in self.servers.values()) or any(channel.queue for channel in self.channels)
        unfinished = any(port.next is not None for port in self.ports) or any(soma.steps_left() for soma in self.somas) or bool(self._held())
        return self._stuck() if pending or unfinished else None

    def moving(self, sample: int, now: int) -> bool:
        """Settle: whether something of a sample of the stream, or of one before, is still on its way at the end of the instant ``now``."""
        fresh = sum(port.fresh == (now, True) for port in self.ports if port.latest > sample)  # packets of the next sample that entered just now
        return self.active > fresh or bool(self._held()) or any(port.next is not None and port.next[2] <= sample for port in self.ports)

    def _held(self) -> list[Any]:
        """Cores of settle with due neurons."""
        return [core for core in self.cores if core.waiting] if self.plan.settle else []

    def _stuck(self) -> Stuck:
        """Who waits for what, for the diagnosis (section 11, deadlock)."""
        stuck = Stuck(time_ps=self.latest, sample=self.number)
        for v, server in self.servers.items():
            service = server.service
            if service is None:
                continue
            item = service.results[service.made][1]
            assert server.channel is not None
            if server.lacks(item) == "channel":
                stuck.channels[v] = server.channel.index
            else:
                stuck.windows[v] = server.lacking_windows(item)[0]
        for core in self._held():  # its first due neuron lacks a credit, unless it serves a packet or the window has ended
            if core.server.service is None:
                stuck.channels[core.server.number] = core.server.channel.index
        for router in self.routers:
            for k, channel in enumerate(router.inputs):
                if channel.queue:
                    stuck.heads[channel.index] = min(router.pending(k))
        for soma in self.somas:
            stuck.next_step |= soma.steps_left()
        stuck.port_steps = {port.number: port.next[1].step for port in self.ports if port.next is not None}
        return stuck
