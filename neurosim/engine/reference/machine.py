"""The machine: stations joined by channels, in the state a simulation starts from. One per sample, or one per streamed run."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from neurosim.engine.deadlock import Stuck
from neurosim.engine.events import CURRENT, Options, Stimulus
from neurosim.engine.reference.cores import Core, Soma, Synapse
from neurosim.engine.reference.fabric import Channel, Item, Server, Station, check_time
from neurosim.engine.reference.kernel import Kernel
from neurosim.engine.reference.plan import Plan
from neurosim.engine.reference.record import Recorder
from neurosim.engine.reference.stations import Port, Router, Sender
from neurosim.program import C_AXON_IN, C_AXON_OUT, C_INJECT, C_LINK, C_PORT, R_BANKS

STATIONS: dict[str, type[Any]] = {"port": Port, "synapse": Synapse, "core": Core, "soma": Soma, "sender": Sender, "router": Router}
"""Station classes by kind. ``run_reference(stations={"synapse": MySynapse})`` replaces one; its constructor takes (machine, number)."""
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
        program = plan.program
        self.banks: list[int] = program.slice_rule[:, R_BANKS].tolist()
        self.channels = [Channel(self, k, *row[4:]) for k, row in enumerate(program.channel.tolist())]
        self.servers: dict[int, Server] = {}
        self._outputs: dict[int, list[int]] = {}
        for v, (kind, owner) in enumerate(zip(program.server_kind.tolist(), program.server_owner.tolist(), strict=True)):
            if kind == 4:
                self._outputs.setdefault(owner, []).append(v)
        make = STATIONS | dict(stations)
        self.ports = [make["port"](self, p) for p in range(len(program.port_router))]
        cores = range(program.cores)
        self.cores: list[Any] = [make["core"](self, c) for c in cores] if plan.free else []
        self.synapses: list[Any] = [] if plan.free else [make["synapse"](self, c) for c in cores]
        self.somas: list[Any] = [] if plan.free else [make["soma"](self, c) for c in cores]
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
        rows = self.plan.program.channel.tolist()
        found = sorted((row[3], k) for k, row in enumerate(rows) if row[0] in (C_PORT, C_INJECT, C_LINK) and row[2] == router)
        for _, k in found:
            self.channels[k].reader = reader
        return [self.channels[k] for _, k in found]

    def outputs_of(self, router: int) -> list[int]:
        """Servers of a router's outputs, in their order."""
        return self._outputs.get(router, [])

    def sender_of(self, packet: Item) -> Server:
        """The port or sender that put a packet into the network: the holder of its window."""
        plan = self.plan
        if packet.item == CURRENT or packet.slice >= plan.program.slices:
            return self.servers[0]
        return self.servers[3 + 3 * plan.core_of[packet.slice]]

    def upstream(self, q: int) -> list[Any]:
        """Soma stations and ports that wait for the ends of slice q's steps."""
        senders = self.plan.above[q]
        return [self.somas[core] for core in sorted({self.plan.core_of[p] for p in senders if p >= 0})] + (self.ports if -1 in senders else [])

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

    def note_time(self, time: int) -> None:
        """Something starts, ends or is put at ``time``."""
        if time > self.last:
            check_time(time, self.options.max_time_ps, self.number)
            self.last = time

    def run(self) -> Stuck | None:
        """Until nothing is due; what is stuck then, or None."""
        self.kernel.run()
        plan = self.plan
        pending = any(server.service is not None for server in self.servers.values()) or any(channel.queue for channel in self.channels)
        unfinished = any(port.next is not None for port in self.ports) or any(soma.step[q] < plan.rounds for soma in self.somas for q in soma.slices)
        return self._stuck() if pending or unfinished else None

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
                stuck.windows[v] = item.dest
        for router in self.routers:
            for channel in router.inputs:
                if channel.queue:
                    stuck.heads[channel.index] = router.towards[channel.queue[0].dest].number
        for soma in self.somas:
            stuck.next_step |= {q: soma.step[q] for q in soma.slices if soma.step[q] < self.plan.rounds}
        stuck.port_step = min((port.next[1].step for port in self.ports if port.next is not None), default=None)
        return stuck
