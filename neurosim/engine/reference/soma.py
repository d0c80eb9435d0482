"""Soma stations: a slice's step in wavefront (section 6) and in barrier (section 7), and sections 11 and 12 of docs/machine.md."""

from __future__ import annotations

from neurosim.arithmetic import reset, spike_count, step_current, step_membrane
from neurosim.engine.events import SPIKE, STEP
from neurosim.engine.reference.fabric import Machine, Server, Station
from neurosim.engine.reference.items import Item, Results, Service, marker
from neurosim.engine.reference.ops import step_inputs
from neurosim.engine.reference.synapse import Bank
from neurosim.program import R_DECAY_I, R_DECAY_V, R_MAX_SPIKES, R_READOUT, R_RESET, R_STRICT


class StepSoma(Station):
    """What the somas of both stepped disciplines share: the neurons, and the run of one step (section 6)."""

    def __init__(self, machine: Machine, number: int) -> None:
        super().__init__(machine, number)
        self.server = Server(self, self.plan.sender(number) - 1, spacing=self.plan.time["put"], put_rows=True)
        self.slices = self.plan.slices_of[number]
        self.v = {q: self.plan.parameters(q)["v_init"] for q in self.slices}
        self.i = {q: [0] * machine.neurons(q) for q in self.slices}
        self.latch: dict[int, dict[int, int]] = {q: {} for q in self.slices}  # of latched gates: sums by mask cell

    def steps_left(self) -> dict[int, int]:
        """Slices with steps left -> the next (or blocked) one, for the diagnosis of a deadlock."""
        raise AssertionError(f"{type(self).__name__} must override steps_left")

    def gather(self, q: int, bank: Bank | None) -> tuple[list[int], list[bool], int, int]:
        """(inputs of the neurons, which are touched, time and words that the slice's op reads), from a bank: None if nothing was added to it."""
        cells = int(self.plan.program.slice_cells[q])
        values: list[int] = bank.values.tolist() if bank else [0] * cells
        touched: list[bool] = bank.touched.tolist() if bank else [False] * cells
        if q not in self.plan.cells:
            return values, touched, 0, 0
        found = step_inputs(self.plan.cells[q], values, touched, self.latch[q], self.plan.fit)
        lanes = self.plan.chip.arithmetic.lanes
        return found.values, found.touched, sum(-(-words // lanes) for words in found.bursts) * self.plan.time["synop"], sum(found.bursts)

    def compute(self, q: int, g: int, bank: Bank | None) -> tuple[int, Results, int]:
        """One step of one slice, neurons ascending: (nominal duration, its spikes, words read). Writes the new membranes and currents."""
        time, rule, count = self.plan.time, self.plan.program.slice_rule[q].tolist(), self.machine.record.core
        _, step = self.plan.sample_of(g)
        neurons = self.machine.neurons(q)
        parameters = self.plan.parameters(q)
        if step == 0:  # the slice resets itself before step 0 of each sample
            self.v[q], self.i[q] = parameters["v_init"], [0] * neurons
            self.latch[q].clear()
        inputs, touched, elapsed, words = self.gather(q, bank)
        v, i, bias = self.v[q], self.i[q], parameters["bias"]
        low, high, rounding = self.plan.low, self.plan.high, self.plan.chip.rounding
        n, accesses, updates = self.server.services, 0, 0
        results: Results = []
        visit_all = self.plan.chip.arithmetic.visit == "all"
        for m in range(neurons):
            active = touched[m] or bias[m] != 0 or v[m] != 0 or i[m] != 0
            if active or visit_all:
                accesses += 1
                elapsed += time["access"]
            if not active:
                continue
            updates += 1
            elapsed += time["update"]
            current, clipped = step_current(i[m], inputs[m], rule[R_DECAY_I], rounding, low, high)
            if rule[R_DECAY_I] >= 0:
                i[m] = current
            membrane, more = step_membrane(v[m], current, bias[m], rule[R_DECAY_V], parameters["floor"][m], rounding, low, high)
            count["saturations"][self.number] += clipped + more
            spikes = 0 if rule[R_READOUT] else spike_count(membrane, parameters["threshold"][m], rule[R_STRICT], rule[R_MAX_SPIKES])
            if spikes:  # they leave as one of that value
                membrane = reset(membrane, rule[R_RESET], spikes * parameters["reset_by"][m])
                elapsed += time["fire"]
                results.append((elapsed, Item(SPIKE, q, m, spikes, g, -1, n, (-1, -1))))
            assert low <= membrane <= high, f"slice {q} neuron {m}: membrane {membrane} outside state_bits"
            assert rule[R_DECAY_I] < 0 or low <= i[m] <= high, f"slice {q} neuron {m}: current {i[m]} outside state_bits"
            v[m] = membrane
        count["accesses"][self.number] += accesses
        count["updates"][self.number] += updates
        count["op_reads"][self.number] += words
        self.machine.record.step(self, q, g, v)
        return max(1, elapsed), results, words

    def sent(self, server: Server, service: Service, item: Item, time: int) -> None:
        """A spike entered axon-out."""
        if item.item == SPIKE:
            self.machine.record.fire(self.number, item, time, service)

    def discarded(self, server: Server, service: Service, item: Item, time: int) -> None:
        """A spike found axon-out full: it is a fire all the same."""
        self.machine.record.fire(self.number, item, time, service)


class Soma(StepSoma):
    """Wavefront: a slice's step starts when its bank is complete and every downstream slice has a free one (section 6)."""

    def __init__(self, machine: Machine, number: int) -> None:
        super().__init__(machine, number)
        self.step = dict.fromkeys(self.slices, 0)  # next step of each slice
        self.complete_banks: dict[tuple[int, int], tuple[Bank, tuple[int, int]]] = {}
        self.heard = {p: dict.fromkeys((q for q, _ in self.plan.below.get(p, ())), -1) for p in self.slices}
        self.held_since = -1
        if self.slices:
            self.wake(0)

    def complete(self, q: int, g: int, bank: Bank, cause: tuple[int, int]) -> None:
        """Message: bank g of slice q holds everything, by the service ``cause`` of the synapse station."""
        self.complete_banks[q, g] = bank, cause
        self.wake(self.machine.kernel.now)

    def hear(self, q: int, step: int) -> None:
        """Message: downstream slice q ended a step, t_wire ago."""
        for heard in self.heard.values():
            if q in heard:
                heard[q] = max(step, heard[q])
        self.wake(self.machine.kernel.now)

    def bank_ready(self, q: int, g: int) -> bool:
        """Whether bank g is complete and seen; one that needs no marker is so from the end of the step before."""
        return (q, g) in self.complete_banks or self.machine.markers_needed(q, self.plan.sample_of(g)[1]) == 0

    def wires_allow(self, p: int, g: int) -> bool:
        """Whether every downstream slice has a free bank for step g."""
        return all(self.heard[p][q] >= g + d - self.machine.banks[q] for q, d in self.plan.below.get(p, ()))

    def decide(self, now: int) -> None:
        """Puts and the end of a step, else the startable slice with the least (step, slice)."""
        self.server.progress(now)
        if self.server.service is not None:
            return
        ready = [(self.step[q], q) for q in self.slices if self.step[q] < self.plan.rounds and self.bank_ready(q, self.step[q])]
        startable = [(g, q) for g, q in ready if self.wires_allow(q, g)]
        if startable:
            if self.held_since >= 0:
                self.machine.record.server["held_ps"][self.server.number] += now - self.held_since
            self.held_since = -1
            self._run(*min(startable))
        elif ready and self.held_since < 0:
            self.held_since = now

    def _run(self, g: int, q: int) -> None:
        """One step of one slice: its spikes, then its marker."""
        bank, cause = self.complete_banks.pop((q, g), (None, (-1, -1)))
        duration, results, words = self.compute(q, g, bank)
        results.append((duration, marker(q, g, self.server.services)))
        self.server.begin(Item(STEP, q, -1, 0, g, -1, -1, cause), duration, results, words)

    def steps_left(self) -> dict[int, int]:
        """Slices with steps left -> the next (or blocked) one."""
        return {q: g for q, g in self.step.items() if g < self.plan.rounds}

    def finished(self, server: Server, service: Service, end: int) -> None:
        """The put of the marker, which ends the service, ends the step: wires to all upstream slices go."""
        q, g = service.item.slice, service.item.step
        self.step[q] = g + 1
        machine, heard_at = self.machine, end + self.plan.time["wire"]
        machine.kernel.post(end + 1, machine.synapses[self.number].clear, q, g)
        for station in machine.upstream(q):
            machine.kernel.post(heard_at, station.hear, q, g)
        machine.record.step_ended(q, g, end, self.v[q])


class BarrierSoma(StepSoma):
    """Barrier: runs its slices, ascending, when a global step opens; no markers (section 7)."""

    def __init__(self, machine: Machine, number: int) -> None:
        super().__init__(machine, number)
        self.agenda: list[tuple[int, int, Bank | None]] = []  # (slice, own step, its bank) of the open global step

    def begin_step(self, q: int, h: int, bank: Bank | None) -> None:
        """Message at S_g: slice q runs its own step h on a bank, None if nothing was added to it."""
        self.agenda.append((q, h, bank))
        self.wake(self.machine.kernel.now)

    def decide(self, now: int) -> None:
        """Puts and the end of a slice's step, else the next slice."""
        self.server.progress(now)
        if self.server.service is None and self.agenda:
            q, h, bank = self.agenda.pop(0)
            duration, results, words = self.compute(q, h, bank)
            self.server.begin(Item(STEP, q, -1, 0, h, -1, -1, (-1, -1)), duration, results, words)

    def finished(self, server: Server, service: Service, end: int) -> None:
        """A slice's step is over."""
        q, h = service.item.slice, service.item.step
        self.machine.record.step_ended(q, h, end, self.v[q])

    def steps_left(self) -> dict[int, int]:
        """Slices with steps left -> the next (or blocked) one."""
        assert self.machine.barrier is not None
        running = self.server.service.item.slice if self.server.service is not None else -1
        waiting = {q for q, _, _ in self.agenda} | {running}
        steps = {q: max(0, self.machine.barrier.step_of(q) + (q not in waiting)) for q in self.slices}
        return {q: h for q, h in steps.items() if h < self.plan.rounds}
