"""Port, sender and router: sections 2, 3, 5 (windows), 8 and 11 of docs/machine.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from neurosim.engine.events import CURRENT, MARKER, Stimulus
from neurosim.engine.reference.fabric import Channel, Item, Server, Service, Station, marker
from neurosim.errors import DataError

if TYPE_CHECKING:
    from neurosim.engine.reference.machine import Machine

Packet = tuple[int, Item]  # (due time, packet)


class Port(Station):
    """I/O port: one service per packet, paced by t_port, due times, the step rule and windows."""

    def __init__(self, machine: Machine, number: int) -> None:
        super().__init__(machine, number)
        self.server = Server(self, number, jitters=False)
        self.server.open_windows()
        self.heard = dict.fromkeys((q for q, _ in self.plan.below.get(-1, ())), -1)  # last step of a downstream slice whose end was heard
        self._packets = self._agenda(machine.stimuli)
        self.next: Packet | None = next(self._packets, None)
        self.free_from = 0  # time of the previous put + t_port
        self.wake(0)

    def _agenda(self, stimuli: list[Stimulus]) -> Iterator[Packet]:
        """Packets in port order: per step the stimulus rows, then the markers of the port's sources, sources and cores ascending."""
        plan = self.plan
        for sample, stimulus in enumerate(stimuli):
            row, rows = 0, len(stimulus.step)
            if (stimulus.step[1:] < stimulus.step[:-1]).any() or (rows and not 0 <= int(stimulus.step[-1]) < plan.steps):
                raise DataError(f"stimulus {sample}: steps must not decrease and must lie below {plan.steps}; sort it in port order")
            if plan.free:
                for row in range(rows):
                    yield from self._stimulus(stimulus, row, 0)
                continue
            for step in range(plan.steps):
                g = sample * plan.steps + step
                while row < rows and stimulus.step[row] == step:
                    yield from self._stimulus(stimulus, row, g)
                    row += 1
                due = 0 if stimulus.marker_due_ps is None else int(stimulus.marker_due_ps[step])
                for source in range(plan.program.slices, len(plan.routes)):
                    for core, _, _ in plan.routes[source]:
                        yield due, marker(source, g, core, -1)

    def _stimulus(self, stimulus: Stimulus, row: int, g: int) -> Iterator[Packet]:
        kind, target, address = int(stimulus.item[row]), int(stimulus.slice[row]), int(stimulus.address[row])
        cores = [self.plan.core_of[target]] if kind == CURRENT else self.plan.destinations(target, address)
        for core in cores:
            yield int(stimulus.due_ps[row]), Item(kind, target, address, int(stimulus.value[row]), g, core, -1, (-1, -1))

    def may_begin(self, step: int) -> bool:
        """The step rule: for every downstream slice q, step g + d - B_q has ended and was heard."""
        return self.plan.free or all(self.heard[q] >= step + d - self.machine.banks[q] for q, d in self.plan.below.get(-1, ()))

    def hear(self, q: int, step: int) -> None:
        """A downstream slice ended a step, t_wire ago."""
        self.heard[q] = max(step, self.heard[q])
        self.wake(self.machine.kernel.now)

    def decide(self, now: int) -> None:
        """The put that waits, else the next packet once it is due, spaced and allowed by the step rule."""
        self.server.progress(now)
        if self.server.service is not None or self.next is None:
            return
        due, packet = self.next
        if not self.may_begin(packet.step):
            return
        start = max(due, self.free_from)
        if now < start:
            self.wake(start)
            return
        packet.origin = self.server.services  # its own service
        self.server.begin(packet, 0, [(0, packet)])
        self.server.progress(now)

    def finished(self, server: Server, service: Service, end: int) -> None:
        """The next packet may follow t_port after this put."""
        self.free_from = end + self.plan.time["port"]
        self.next = next(self._packets, None)
        if self.next is not None:
            self.wake(self.free_from)
        self.machine.record.injected(service.item, service.start)


class Sender(Station):
    """Turns an item of axon-out into one packet per destination core (sections 2, 3)."""

    def __init__(self, machine: Machine, number: int) -> None:
        super().__init__(machine, number)
        self.server = Server(self, 3 + 3 * number, spacing=self.plan.time["put"], put_rows=True)
        self.server.open_windows()
        self.input = machine.input_of("axon-out", number, self)

    def decide(self, now: int) -> None:
        """Puts, else the next item."""
        self.server.progress(now)
        if self.server.service is None and self.input.queue:
            self._serve(self.input.take(now))

    def _serve(self, item: Item) -> None:
        to_all = item.item == MARKER
        cores = [core for core, _, _ in self.plan.routes[item.slice]] if to_all else self.plan.destinations(item.slice, item.address)
        send = self.plan.time["send"]
        results = [((k + 1) * send, item.sent(core, (-1, -1))) for k, core in enumerate(cores)]
        self.server.begin(item, max(1, len(cores) * send), results)  # without a destination: 1 ps and no packet

    def sent(self, server: Server, service: Service, item: Item, time: int) -> None:
        """A packet entered the network."""
        self.machine.record.packet(self.number, item)


class Router(Station):
    """Input queues, one server per output, arbitration by request time (section 2, choice)."""

    def __init__(self, machine: Machine, number: int) -> None:
        super().__init__(machine, number)
        program = self.plan.program
        self.outputs = [Server(self, v) for v in machine.outputs_of(number)]
        self.hop = {server.number: int(program.server_hop_ps[server.number]) for server in self.outputs}
        self.inputs: list[Channel] = machine.router_inputs(number, self)  # in the order of input numbers
        self.towards = [machine.servers[int(v)] for v in program.next_server[number]]  # destination core -> output

    def decide(self, now: int) -> None:
        """Puts, then start the least (request time, input, output) among heads and the free outputs that they need, until nothing is left."""
        for output in self.outputs:
            output.progress(now)
        while True:
            best: tuple[int, int, int] | None = None  # (request time, input, output)
            for k, channel in enumerate(self.inputs):
                if channel.queue and (best is None or channel.head_since < best[0]):
                    output = self.towards[channel.queue[0].dest]
                    if output.service is None:
                        best = channel.head_since, k, output.number
            if best is None:
                return
            packet = self.inputs[best[1]].take(now)
            self.machine.servers[best[2]].begin(packet, self.hop[best[2]], [(self.hop[best[2]], packet)])

    def finished(self, server: Server, service: Service, end: int) -> None:
        """One packet-hop."""
        self.machine.record.hop(service.item)
