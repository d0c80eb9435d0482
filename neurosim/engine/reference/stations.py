"""Port, sender and router: sections 2, 3, 5 (windows), 8 and 11 of docs/machine.md."""

from __future__ import annotations

from collections.abc import Iterator

from neurosim.engine.events import CURRENT, MARKER, Stimulus
from neurosim.engine.reference.fabric import Channel, Machine, Server, Station
from neurosim.engine.reference.items import Item, Results, Service, marker

Packet = tuple[int, Item, int]  # (due time, packet, number of its stimulus within the simulation)


class Port(Station):
    """I/O port: one service per packet, paced by t_port, due times, the step rule and windows."""

    def __init__(self, machine: Machine, number: int) -> None:
        super().__init__(machine, number)
        self.server = Server(self, number, jitters=False)
        self.server.open_windows()
        self.below = self.plan.below.get(-1 - number, [])
        self.heard = dict.fromkeys((q for q, _ in self.below), -1)  # last step of a downstream slice whose end was heard
        self._packets = self._agenda(machine.stimuli)
        self.next: Packet | None = next(self._packets, None)
        self.free_from = 0  # time of the previous put + t_port
        self.latest, self.fresh = -1, (-1, False)  # stimulus of its last packet; when that began, and whether it has not been dropped
        self.wake(0)

    def _agenda(self, stimuli: list[Stimulus]) -> Iterator[Packet]:
        """This port's packets in port order: per step its stimulus rows, then the markers of its sources, sources and cores ascending."""
        plan = self.plan
        sources = plan.sources_of[self.number] if plan.markers else []
        for sample, stimulus in enumerate(stimuli):
            row, rows = 0, len(stimulus.step)
            if plan.stepless:
                later = sample * self.machine.options.window_ps if plan.free else 0
                for row in range(rows):
                    for packet in self._stimulus(stimulus, row, 0):
                        yield int(stimulus.due_ps[row]) + later, packet, sample
                continue
            for step in range(plan.steps):
                g = sample * plan.steps + step
                while row < rows and stimulus.step[row] == step:
                    for packet in self._stimulus(stimulus, row, g):
                        yield int(stimulus.due_ps[row]), packet, sample
                    row += 1
                due = 0 if stimulus.marker_due_ps is None else int(stimulus.marker_due_ps[step])
                for source in sources:
                    for packet in plan.packets(marker(source, g, -1), [core for core, _, _ in plan.routes[source]]):
                        yield due, packet, sample

    def _stimulus(self, stimulus: Stimulus, row: int, g: int) -> list[Item]:
        """Packets of one row of a stimulus; none if it belongs to another port."""
        kind, target, address = int(stimulus.item[row]), int(stimulus.slice[row]), int(stimulus.address[row])
        if self.number != (0 if kind == CURRENT else self.plan.port_of[target]):
            return []
        cores = [self.plan.core_of[target]] if kind == CURRENT else self.plan.destinations(target, address)
        return self.plan.packets(Item(kind, target, address, int(stimulus.value[row]), g, -1, -1, (-1, -1)), cores)

    def may_begin(self, step: int) -> bool:
        """The step rule: the barrier has opened the step; with markers, for every downstream slice q, step g + d - B_q has ended and was heard."""
        if self.machine.barrier is not None:
            return self.machine.barrier.step >= step
        return self.plan.stepless or all(self.heard[q] >= step + d - self.machine.banks[q] for q, d in self.below)

    def hear(self, q: int, step: int) -> None:
        """A downstream slice ended a step, t_wire ago."""
        self.heard[q] = max(step, self.heard[q])
        self.wake(self.machine.kernel.now)

    def decide(self, now: int) -> None:
        """The put that waits, else the next packet once it is due, spaced and allowed by the step rule."""
        self.server.progress(now)
        if self.server.service is not None or self.next is None:
            return
        due, packet, stimulus = self.next
        if not self.may_begin(packet.step):
            return
        if self.machine.samples is not None:
            offset = self.machine.samples.offset(stimulus)
            if offset is None:
                return
            due += offset
        start = max(due, self.free_from)
        if now < start:
            self.wake(start)
            return
        if self.machine.closed(now):
            return
        packet.origin = self.server.services  # its own service
        self.latest, self.fresh = stimulus, (now, True)
        self.server.begin(packet, 0, [(0, packet)])
        self.server.progress(now)

    def discarded(self, server: Server, service: Service, item: Item, time: int) -> None:
        """The packet found the channel full and is gone."""
        self.fresh = (-1, False)

    def finished(self, server: Server, service: Service, end: int) -> None:
        """The next packet may follow t_port after this put."""
        assert self.next is not None
        self.machine.record.injected(service.item, service.start, self.next[2])
        self.free_from = end + self.plan.time["port"]
        self.next = next(self._packets, None)
        if self.next is not None:
            self.wake(self.free_from)


class Sender(Station):
    """Turns an item of axon-out into packets, one per destination core or one for all of them (sections 2, 3, multicast trees)."""

    def __init__(self, machine: Machine, number: int) -> None:
        super().__init__(machine, number)
        self.server = Server(self, self.plan.sender(number), spacing=self.plan.time["put"], put_rows=True)
        self.server.open_windows()
        self.input = machine.input_of("axon-out", number, self)

    def decide(self, now: int) -> None:
        """Puts, else the next item."""
        self.server.progress(now)
        if self.server.service is None and self.input.queue and not self.machine.closed(now):
            self._serve(self.input.take(now))

    def _serve(self, item: Item) -> None:
        cores = [core for core, _, _ in self.plan.routes[item.slice]] if item.item == MARKER else self.plan.destinations(item.slice, item.address)
        send = self.plan.time["send"]
        results: Results = [((k + 1) * send, packet) for k, packet in enumerate(self.plan.packets(item, cores))]
        self.server.begin(item, max(1, len(results) * send), results)  # without a destination: 1 ps and no packet

    def sent(self, server: Server, service: Service, item: Item, time: int) -> None:
        """A packet entered the network."""
        self.machine.record.packet(self.number, item, service)


class Router(Station):
    """Input queues, one server per output, arbitration by request time (section 2, choice and multicast)."""

    def __init__(self, machine: Machine, number: int) -> None:
        super().__init__(machine, number)
        program = self.plan.program
        self.outputs = [Server(self, v) for v in machine.outputs_of(number)]
        self.hop = {server.number: int(program.server_hop_ps[server.number]) for server in self.outputs}
        self.inputs: list[Channel] = machine.router_inputs(number, self)  # in the order of input numbers
        self.towards: list[int] = program.next_server[number].tolist()  # destination core -> output
        self._pending: list[dict[int, list[int]]] = [{} for _ in self.inputs]  # of each head: outputs that it still needs -> cores behind them

    def pending(self, k: int) -> dict[int, list[int]]:
        """What the head of input k still needs: {output: destination cores behind it}; empty without a head."""
        if not self._pending[k] and self.inputs[k].queue:
            for core in self.inputs[k].queue[0].dests:
                self._pending[k].setdefault(self.towards[core], []).append(core)
        return self._pending[k]

    def decide(self, now: int) -> None:
        """Puts, then start the least (request time, input, output) among heads and the free outputs that they need, until nothing is left."""
        for output in self.outputs:
            output.progress(now)
        while not self.machine.closed(now) and (best := self._choose()) is not None:
            _, k, number = best
            packet = self.inputs[k].queue[0].towards(tuple(self.pending(k).pop(number)))
            if not self._pending[k]:  # the last copy takes the head
                self.inputs[k].take(now)
            self.machine.servers[number].begin(packet, self.hop[number], [(self.hop[number], packet)])

    def _choose(self) -> tuple[int, int, int] | None:
        """(request time, input, output) to start next."""
        servers = self.machine.servers
        free = (
            (channel.head_since, k, number) for k, channel in enumerate(self.inputs) for number in self.pending(k) if servers[number].service is None
        )
        return min(free, default=None)

    def finished(self, server: Server, service: Service, end: int) -> None:
        """One packet-hop."""
        self.machine.record.hop(service)
