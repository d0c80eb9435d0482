"""The discipline settle: core stations whose neurons say by how much their outputs have changed, and samples that follow each other without reset
(docs/machine.md, section 13)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from neurosim.arithmetic import saturate, spike_count
from neurosim.engine.events import CURRENT, DUE, MARKER, SPIKE
from neurosim.engine.reference.fabric import Machine, Server
from neurosim.engine.reference.items import Item, Results, Service
from neurosim.engine.reference.ops import Cells, pairs
from neurosim.engine.reference.plan import Plan
from neurosim.engine.reference.synapse import AxonIn
from neurosim.program import G_K, G_MAIN, G_MASK, G_Q, G_WINDOW, OP_GATE, R_MAX_SPIKES, R_READOUT, R_STRICT


class Population:
    """The neurons of one slice and, of one with an op, its other cells: membranes first, as in a bank. ``sent``: the outputs that others know of."""

    def __init__(self, plan: Plan, q: int) -> None:
        program = plan.program
        cell, neuron = int(program.slice_cells[:q].sum()), int(program.neuron_ptr[q])
        self.plan = plan
        self.parameters: dict[str, list[int]] = plan.parameters(q)
        self.neurons = len(self.parameters["threshold"])
        self.values: list[int] = program.rest_v[cell : cell + int(program.slice_cells[q])].tolist()
        self.sent: list[int] = program.rest_sent[neuron : neuron + self.neurons].tolist()
        self.due = [False] * self.neurons
        rule = program.slice_rule[q].tolist()
        self.strict: int = rule[R_STRICT]
        self.readout, self.most = bool(rule[R_READOUT]), int(rule[R_MAX_SPIKES])
        self.op = plan.cells.get(q)
        self.pairs = self.reads = 0  # since they were last looked at

    def output(self, m: int) -> int:
        """n(v): what neuron m would have sent in a step of its own with the membrane that it has now."""
        if self.readout or (self.op is not None and self.op.kind == OP_GATE and not self.op.opens(self.values[self.op.mask[m]])):
            return 0
        seen = saturate(self.values[m], self.plan.low, self.plan.high)
        return spike_count(seen, self.parameters["threshold"][m], self.strict, self.most)

    def score(self, m: int) -> int:
        """The membrane as the host reads it."""
        return max(saturate(self.values[m], self.plan.low, self.plan.high), self.parameters["floor"][m])

    def saturations(self) -> int:
        """Neurons whose membrane does not fit the state's word."""
        return sum(not self.plan.low <= v <= self.plan.high for v in self.values[: self.neurons])

    def synapse(self, operand: int, cell: int, contribution: int) -> Iterator[list[int]]:
        """One item per synapse that is served for one into ``cell``, itself first: the neurons to be tested after it, ascending."""
        if operand == G_MAIN:
            self._add(cell, contribution)
            yield [cell]
            return
        assert self.op is not None
        if operand == G_MASK:
            yield self._mask(self.op, cell, contribution)
        elif operand == G_WINDOW:
            yield from self._window(self.op, cell, contribution)
        elif operand == G_Q:
            yield from self._ask(self.op, cell, contribution)
        else:
            yield from self._pair(self.op, operand, cell, contribution)

    def _add(self, cell: int, change: int) -> None:
        self.values[cell] = self.plan.word(self.values[cell] + change)

    def _mask(self, op: Cells, cell: int, contribution: int) -> list[int]:
        """A group that opens or closes changes the outputs of all its neurons here."""
        was_open = op.opens(self.values[cell])
        self._add(cell, contribution)
        return [m for m, mask in enumerate(op.mask) if mask == cell] if op.opens(self.values[cell]) != was_open else []

    def _window(self, op: Cells, cell: int, contribution: int) -> Iterator[list[int]]:
        """Neurons get the change of the largest value in their window."""
        readers = [m for m in range(self.neurons) if cell in op.window[m]]
        before = {m: max(self.values[k] for k in op.window[m]) for m in readers}
        self._add(cell, contribution)
        for m in readers:
            self.reads += len(op.window[m])
            change = max(self.values[k] for k in op.window[m]) - before[m]
            self._add(m, change)
            yield [m] if change != 0 else []
        if not readers:
            yield []

    def _ask(self, op: Cells, cell: int, contribution: int) -> Iterator[list[int]]:
        """A change of q(i, a) times row a of the table."""
        self._add(cell, contribution)
        yield []
        if contribution == 0:
            return
        i, h, a = op.channel(G_Q, cell)
        self.reads += op.d
        for b in range(op.d):
            m = op.register(G_MAIN, i, h, b)
            self._add(m, (contribution * self.values[op.table(h, a, b)]) << op.shift)
            yield [m]

    def _pair(self, op: Cells, operand: int, cell: int, contribution: int) -> Iterator[list[int]]:
        """A change of k or v changes entries of the table, and each of these what every q(i, a) has read there."""
        self._add(cell, contribution)
        yield []
        _, h, here = op.channel(operand, cell)
        tokens = self.neurons // (op.box[1] - op.box[0])
        for entry, increment in pairs(op, self.values, operand, cell, contribution):
            self._add(entry, increment)
            self.pairs += 1
            yield []
            there = entry - op.table(h, here, 0) if operand == G_K else (entry - op.table(h, 0, here)) // op.d
            a, b = (here, there) if operand == G_K else (there, here)
            for i in range(tokens):
                asked = self.values[op.register(G_Q, i, h, a)]
                if asked == 0:
                    continue
                self.reads += 1
                m = op.register(G_MAIN, i, h, b)
                self._add(m, (asked * increment) << op.shift)
                yield [m]


@dataclass(frozen=True)
class Due:
    """An entry of a core's due list: a neuron, from when on it may speak, and the service whose test put it there."""

    slice: int
    address: int
    ready: int
    cause: tuple[int, int]


class Settler(AxonIn):
    """Core station of settle: packets change membranes, due neurons say by how much their outputs have changed."""

    def __init__(self, machine: Machine, number: int) -> None:
        super().__init__(machine, number)
        self.server = Server(self, self.plan.sender(number) - 2, put_rows=True)
        self.populations = {q: Population(self.plan, q) for q in self.plan.slices_of[number]}
        self.waiting: deque[Due] = deque()  # the due list
        self.ended = 0  # end of the last service
        self.by_age = self.plan.chip.arithmetic.settle_order == "age"

    @property
    def v(self) -> dict[int, list[int]]:
        """Membranes by slice."""
        return {q: p.values[: p.neurons] for q, p in self.populations.items()}

    @property
    def i(self) -> dict[int, list[int]]:
        """Outputs last sent by slice."""
        return {q: p.sent for q, p in self.populations.items()}

    def decide(self, now: int) -> None:
        """The put that is due, else a packet or the first due neuron, as the chip's order says."""
        self.server.progress(now)
        if self.server.service is not None or self.machine.closed(now):
            return
        channel, speaks = self.server.channel, False
        assert channel is not None
        self.server.blocked_since = -1
        if self.waiting:
            ready = self.waiting[0].ready
            speaks = ready <= now and channel.credits > 0
            if ready > now:
                self.wake(ready)
            elif not speaks:
                self.server.blocked_since = now  # wakes it when a credit comes; a due neuron's own put never waits
        if self.input.queue and (not speaks or not self.by_age or self.input.arrivals[0] <= self.waiting[0].ready):
            self._note_held(now)
            self._hear(self.take(now), now)
        elif speaks:
            self._note_held(now)
            self._speak(self.waiting.popleft(), now)

    def _note_held(self, now: int) -> None:
        """Idle time before this service in which the first due neuron was ready and lacked a credit."""
        if self.waiting:
            self.machine.record.server["held_ps"][self.server.number] += max(0, now - max(self.ended, self.waiting[0].ready))

    def _speak(self, due: Due, now: int) -> None:
        """Serve a due neuron: its difference, if there is one left, is its spike."""
        population, time, record = self.populations[due.slice], self.plan.time, self.machine.record
        population.due[due.address] = False
        n = population.output(due.address)
        d = n - population.sent[due.address]
        population.sent[due.address] = n
        results: Results = []
        duration = time["access"]
        if d != 0:
            duration += time["update"] + time["fire"]
            results.append((duration, Item(SPIKE, due.slice, due.address, d, 0, -1, self.server.services, (-1, -1))))
        record.spoke(self.number, due.slice, d, now)
        self.server.begin(Item(DUE, due.slice, due.address, d, 0, -1, -1, due.cause), duration, results)

    def _hear(self, packet: Item, now: int) -> None:
        """Serve a packet: every synapse, and after each the test of the neurons whose outputs it may have changed."""
        assert packet.item != MARKER, "a marker in the discipline settle"
        record = self.machine.record
        tested: list[tuple[int, int]]
        if packet.item == CURRENT:
            touched = [packet.slice]
            _, tested = self._integrate(packet.slice, G_MAIN, [packet.address], [packet.value])
            record.core["current_writes"][self.number] += 1
            self.server.begin(packet, self.group_end(0), [])
        else:
            entries, _, reads_out = self.plan.synapses(packet.slice, packet.address, self.number)
            touched, tested, count = [e.slice for e in entries if len(e.targets)], [], 0
            for e in entries:
                contributions = ((e.weights * packet.value) << e.shift).tolist()
                served, became = self._integrate(e.slice, e.operand, e.targets.tolist(), contributions)
                count += served
                tested += became
            record.synapses(self.number, packet, count, 0, reads_out, now)
            self.server.begin(packet, self.group_end(count - 1) if count else self.plan.time["decode"], [], count)
        record.decoded(self.number, packet)
        service = self.server.service
        assert service is not None
        ready = service.ready + self.plan.time["settle"]
        self.waiting += [Due(q, m, ready, (self.server.number, service.n)) for q, m in tested]
        self._note_readout(touched, service)

    def _integrate(self, q: int, operand: int, cells: list[int], contributions: list[int]) -> tuple[int, list[tuple[int, int]]]:
        """Synapses into cells of a slice: (how many were served, the neurons that became due, in order)."""
        population, became, count = self.populations[q], [], 0
        for cell, contribution in zip(cells, contributions, strict=True):
            for neurons in population.synapse(operand, cell, contribution):
                count += 1
                for m in neurons:
                    if not population.readout and not population.due[m] and population.output(m) != population.sent[m]:
                        population.due[m] = True
                        became.append((q, m))
        core = self.machine.record.core
        core["pairs"][self.number] += population.pairs
        core["op_reads"][self.number] += population.reads
        population.pairs = population.reads = 0
        return count, became

    def _note_readout(self, slices: list[int], service: Service) -> None:
        """The service now running may change the argmax over the readout."""
        changed = {q: self.scores(q) for q in slices if q in self.plan.readout}
        if changed:
            self.machine.record.readout_changed(self.server.number, service, changed)
        for q in slices:
            self.machine.record.step(self, q, 0, self.populations[q].values[: self.populations[q].neurons])

    def scores(self, q: int) -> list[int]:
        """Membranes of a slice as the host reads them."""
        population = self.populations[q]
        return [population.score(m) for m in range(population.neurons)]

    def finished(self, server: Server, service: Service, end: int) -> None:
        """The station is idle from now on, unless this decision begins another service."""
        self.ended = end

    def sent(self, server: Server, service: Service, item: Item, time: int) -> None:
        """A difference entered axon-out."""
        self.machine.record.fire(self.number, item, time, service)


class Samples:
    """Streamed settle: when each sample begins and ends. The next begins ``timing.quiet`` after nothing moves any more, or every ``window_ps``."""

    def __init__(self, machine: Machine) -> None:
        self.machine, self.window = machine, machine.options.window_ps
        self.sample, self.began = 0, 0  # the one that is open, and since when
        self.open = True
        machine.kernel.closing = self._instant_ended
        machine.kernel.post(self.window, self._look)
        if not self.window:
            machine.record.sample_began(0, 0)

    def offset(self, sample: int) -> int | None:
        """When the stimuli of a sample that are due at 0 fall due; None: not known yet."""
        if self.window:
            return sample * self.window
        return self.began if self.open and sample == self.sample else None

    def _look(self) -> None:
        """An instant at whose end there is something to see, though nothing else need be due."""

    def _begin(self) -> None:
        self.sample, self.began, self.open = self.sample + 1, self.machine.kernel.now, True
        self.machine.record.sample_began(self.sample, self.began)
        for port in self.machine.ports:
            port.wake(self.began)

    def _instant_ended(self, now: int) -> None:
        machine = self.machine
        if not self.open or (now < self.began + self.window if self.window else machine.moving(self.sample, now)):
            return
        machine.record.sample_settled(machine, self.sample, machine.moving(self.sample, now), now)
        last = self.sample + 1 == len(machine.stimuli)
        if self.window and not last:
            self.sample, self.began = self.sample + 1, now
            machine.kernel.post(now + self.window, self._look)
            return
        self.open = False
        if not last:
            machine.kernel.post(now + machine.plan.time["quiet"], self._begin)
