"""Synapse and soma stations of stepped disciplines, and the core station of ``free``: sections 3 to 6 and 11 of docs/machine.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from neurosim.arithmetic import decay, fires, integrate, reset, step_current, step_membrane
from neurosim.engine.events import CURRENT, MARKER, SPIKE, START, STEP
from neurosim.engine.reference.fabric import Item, Results, Server, Service, Station, marker
from neurosim.engine.synapses import Synapses
from neurosim.program import R_DECAY_I, R_DECAY_V, R_READOUT, R_RESET, R_STRICT

if TYPE_CHECKING:
    from neurosim.engine.reference.machine import Machine

INT64_MAX = 2**63 - 1


class Bank:
    """Accumulated input of one slice for one step, and which neurons were touched."""

    __slots__ = ("markers", "touched", "values")

    def __init__(self, neurons: int) -> None:
        self.values: NDArray[np.int64] = np.zeros(neurons, np.int64)
        self.touched: NDArray[np.bool_] = np.zeros(neurons, np.bool_)
        self.markers = 0


class AxonIn(Station):
    """What synapse and core stations share: taking packets, their timing, their counters."""

    def __init__(self, machine: Machine, number: int) -> None:
        super().__init__(machine, number)
        self.input = machine.input_of("axon-in", number, self)
        self.lanes: int = self.plan.chip.arithmetic.lanes

    def take(self, now: int) -> Item:
        """The head of axon-in; its window credit is back with its sender t_wire after this start of service (section 5)."""
        packet = self.input.take(now)
        if self.plan.end_to_end:
            server = self.machine.sender_of(packet)
            self.machine.kernel.post(now + self.plan.time["wire"], server.window_credit, self.number)
        return packet

    def group_end(self, k: int) -> int:
        """Nominal end of the group of the k-th served synapse (section 3)."""
        return self.plan.time["decode"] + (k // self.lanes + 1) * self.plan.time["synop"]

    def served(self, packet: Item, entries: list[Synapses]) -> None:
        """Contributions must fit int64 (the compiler checks widths, section 4)."""
        for e in entries:
            assert (e.largest * abs(packet.value)) << e.shift <= INT64_MAX, f"contribution of slice {packet.slice} overflows int64"


class Synapse(AxonIn):
    """Stepped: adds contributions to banks and counts markers; puts nothing."""

    def __init__(self, machine: Machine, number: int) -> None:
        super().__init__(machine, number)
        self.server = Server(self, 1 + 3 * number)
        self.banks: dict[tuple[int, int], Bank] = {}
        self.cleared = dict.fromkeys(self.plan.slices_of[number], -1)  # last step whose bank the soma has cleared: a check of the protocol
        self._completed: list[tuple[int, int]] = []  # banks that the marker in service completes

    def decide(self, now: int) -> None:
        """End a service, else take the next packet."""
        self.server.progress(now)
        if self.server.service is None and self.input.queue:
            packet = self.take(now)
            if packet.item == SPIKE:
                self._spike(packet)
            elif packet.item == CURRENT:
                self._add(packet.slice, packet.step, np.array([packet.address]), np.array([packet.value]))
                self.machine.record.core["current_writes"][self.number] += 1
                self.server.begin(packet, self.group_end(0), [])
            else:
                self._marker(packet)
                self.server.begin(packet, self.plan.time["decode"], [])
            self.machine.record.decoded(self.number, packet)

    def _spike(self, packet: Item) -> None:
        entries, count, reads_out = self.plan.synapses(packet.slice, packet.address, self.number)
        self.served(packet, entries)
        _, step = self.plan.sample_of(packet.step)
        dropped = 0
        for e in entries:
            if step + e.delay < self.plan.steps:
                self._add(e.slice, packet.step + e.delay, e.targets, (e.weights * packet.value) << e.shift)
            else:
                dropped += len(e.targets)  # beyond the end of the sample: served, counted, not added (section 6)
        duration = self.group_end(count - 1) if count else self.plan.time["decode"]
        self.machine.record.synapses(self.number, packet, count, dropped, reads_out, self.machine.kernel.now)
        self.server.begin(packet, duration, [], count)

    def _add(self, q: int, g: int, targets: NDArray[np.int64], contributions: NDArray[np.int64]) -> None:
        bank = self._bank(q, g)
        bank.values[targets] += contributions
        bank.touched[targets] = True
        assert (abs(bank.values[targets]) <= self.plan.acc_high).all(), f"slice {q}: an accumulation bank overflows acc_bits"

    def _bank(self, q: int, g: int) -> Bank:
        bank = self.banks.get((q, g))
        if bank is None:
            assert self.cleared[q] < g <= self.cleared[q] + self.machine.banks[q], f"slice {q}: step {g} has no open bank"
            bank = self.banks[q, g] = Bank(self.machine.neurons(q))
        return bank

    def _marker(self, packet: Item) -> None:
        _, step = self.plan.sample_of(packet.step)
        for q, delay in self.plan.pairs_at[self.number, packet.slice]:
            if step + delay < self.plan.steps:
                bank = self._bank(q, packet.step + delay)
                bank.markers += 1
                if bank.markers == self.machine.markers_needed(q, step + delay):
                    self._completed.append((q, packet.step + delay))

    def finished(self, server: Server, service: Service, end: int) -> None:
        """Hand completed banks to the soma, which sees them t_bank after the end of the service."""
        for q, g in self._completed:
            soma = self.machine.somas[self.number]
            self.machine.kernel.post(end + self.plan.time["bank"], soma.complete, q, g, self.banks.pop((q, g)), (server.number, service.n))
        self._completed.clear()

    def clear(self, q: int, g: int) -> None:
        """The soma has ended step g, its bank is free again."""
        self.cleared[q] = g


class Soma(Station):
    """Stepped: runs the steps of its core's slices (section 6)."""

    def __init__(self, machine: Machine, number: int) -> None:
        super().__init__(machine, number)
        self.server = Server(self, 2 + 3 * number, spacing=self.plan.time["put"], put_rows=True)
        self.slices = self.plan.slices_of[number]
        self.step = dict.fromkeys(self.slices, 0)  # next step of each slice
        self.complete_banks: dict[tuple[int, int], tuple[Bank, tuple[int, int]]] = {}
        self.heard = {p: dict.fromkeys((q for q, _ in self.plan.below.get(p, ())), -1) for p in self.slices}
        self.v = {q: [0] * machine.neurons(q) for q in self.slices}
        self.i = {q: [0] * machine.neurons(q) for q in self.slices}
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
        """One step of one slice: its neurons ascending, its spikes, its marker."""
        time, rule, count = self.plan.time, self.plan.program.slice_rule[q].tolist(), self.machine.record.core
        _, step = self.plan.sample_of(g)
        bank, cause = self.complete_banks.pop((q, g), (None, (-1, -1)))
        neurons = self.machine.neurons(q)
        inputs = bank.values.tolist() if bank else [0] * neurons
        touched = bank.touched.tolist() if bank else [False] * neurons
        parameters = self.plan.parameters(q)
        if step == 0:  # the slice resets itself before step 0 of each sample
            self.v[q], self.i[q] = [0] * neurons, [0] * neurons
        v, i, bias = self.v[q], self.i[q], parameters["bias"]
        low, high, rounding = self.plan.low, self.plan.high, self.plan.chip.rounding
        n, elapsed, accesses, updates = self.server.services, 0, 0, 0
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
            if not rule[R_READOUT] and fires(membrane, parameters["threshold"][m], rule[R_STRICT]):
                membrane = reset(membrane, rule[R_RESET], parameters["reset_by"][m])
                elapsed += time["fire"]
                results.append((elapsed, Item(SPIKE, q, m, 1, g, -1, n, (-1, -1))))
            assert low <= membrane <= high, f"slice {q} neuron {m}: membrane {membrane} outside state_bits"
            assert rule[R_DECAY_I] < 0 or low <= i[m] <= high, f"slice {q} neuron {m}: current {i[m]} outside state_bits"
            v[m] = membrane
        count["accesses"][self.number] += accesses
        count["updates"][self.number] += updates
        duration = max(1, elapsed)
        results.append((duration, marker(q, g, -1, n)))
        self.machine.record.step(self, q, g, v)
        self.server.begin(Item(STEP, q, -1, 0, g, -1, -1, cause), duration, results)

    def sent(self, server: Server, service: Service, item: Item, time: int) -> None:
        """A spike entered axon-out."""
        if item.item == SPIKE:
            self.machine.record.fire(self.number, item, time)

    def finished(self, server: Server, service: Service, end: int) -> None:
        """The put of the marker, which ends the service, ends the step: wires to all upstream slices go."""
        q, g = service.item.slice, service.item.step
        self.step[q] = g + 1
        machine, heard_at = self.machine, end + self.plan.time["wire"]
        machine.kernel.post(end + 1, machine.synapses[self.number].clear, q, g)
        for station in machine.upstream(q):
            machine.kernel.post(heard_at, station.hear, q, g)
        machine.record.step_ended(q, g, end, self.v[q])


class Core(AxonIn):
    """Free: synapse and soma in one station; neurons fire when a synapse lifts them over the threshold (section 5)."""

    def __init__(self, machine: Machine, number: int) -> None:
        super().__init__(machine, number)
        self.server = Server(self, 1 + 3 * number, spacing=self.plan.time["put"], put_rows=True)
        self.slices = self.plan.slices_of[number]
        self.parameters = {q: self.plan.parameters(q) for q in self.slices}
        self.rule = {q: self.plan.program.slice_rule[q].tolist() for q in self.slices}
        self.v = {q: [0] * machine.neurons(q) for q in self.slices}
        self.touched = {q: [0] * machine.neurons(q) for q in self.slices}  # start of the last service that touched the neuron
        self.biased = [q for q in self.slices if any(self.parameters[q]["bias"])]
        self.started = not self.biased
        if self.biased:
            self.wake(0)

    def decide(self, now: int) -> None:
        """Puts, else the start item, else the next packet."""
        self.server.progress(now)
        if self.server.service is not None:
            return
        if not self.started:
            self.started = True
            self._start_item(now)
        elif self.input.queue:
            self._packet(self.take(now), now)

    def _start_item(self, now: int) -> None:
        """T times the bias into the slices that have one (section 5); service 0 of the core, at time 0."""
        update, fire, done = self.plan.time["update"], self.plan.time["fire"], 0
        results: Results = []
        for q in self.biased:
            bias = self.parameters[q]["bias"]
            nominal = [(done + m + 1) * update + fire for m in range(len(bias))]
            self._integrate(q, list(range(len(bias))), [self.plan.steps * b for b in bias], nominal, now, results)
            done += len(bias)
        self.machine.record.core["accesses"][self.number] += done
        self.machine.record.core["updates"][self.number] += done
        self.server.begin(Item(START, -1, -1, 0, 0, -1, -1, (-1, -1)), done * update, results)
        self._note_readout(self.biased)

    def _packet(self, packet: Item, now: int) -> None:
        fire, record = self.plan.time["fire"], self.machine.record
        results: Results = []
        if packet.item == CURRENT:
            self._integrate(packet.slice, [packet.address], [packet.value], [self.group_end(0) + fire], now, results)
            record.core["current_writes"][self.number] += 1
            self.server.begin(packet, self.group_end(0), results)
            self._note_readout([packet.slice])
        else:
            assert packet.item != MARKER, "a marker in the free discipline"
            entries, count, reads_out = self.plan.synapses(packet.slice, packet.address, self.number)
            self.served(packet, entries)
            k = 0
            for e in entries:
                nominal = [self.group_end(k + j) + fire for j in range(len(e.targets))]
                contributions = (e.weights * packet.value) << e.shift
                self._integrate(e.slice, e.targets.tolist(), contributions.tolist(), nominal, now, results)
                k += len(e.targets)
            record.synapses(self.number, packet, count, 0, reads_out, now)
            self.server.begin(packet, self.group_end(count - 1) if count else self.plan.time["decode"], results, count)
            self._note_readout([e.slice for e in entries])
        record.decoded(self.number, packet)

    def _integrate(self, q: int, targets: list[int], contributions: list[int], nominal: list[int], now: int, results: Results) -> None:
        """Per synapse: leak by local time, v = max(sat(v + c), floor), then the test, up to ``spikes_per_update`` times.

        ``nominal``: when a fire of each synapse is ready, from the start of the service.
        """
        plan, rule, parameters = self.plan, self.rule[q], self.parameters[q]
        membranes, touched, low, high, saturations = self.v[q], self.touched[q], plan.low, plan.high, 0
        leak, readout, most = rule[R_DECAY_V], rule[R_READOUT], plan.chip.arithmetic.spikes_per_update
        for m, contribution, ready in zip(targets, contributions, nominal, strict=True):
            v = membranes[m]
            if leak:
                assert plan.leak is not None, "a leak in free on a chip without timing.leak; the compiler refuses it"
                for _ in range(now // plan.leak - touched[m] // plan.leak):
                    decayed = decay(v, leak, plan.chip.rounding)
                    if decayed == v:
                        break
                    v = decayed
            touched[m] = now
            v, clipped = integrate(v, contribution, parameters["floor"][m], low, high)
            saturations += clipped
            for _ in range(0 if readout else most):
                if not fires(v, parameters["threshold"][m], rule[R_STRICT]):
                    break
                v = reset(v, rule[R_RESET], parameters["reset_by"][m])
                results.append((ready, Item(SPIKE, q, m, 1, 0, -1, self.server.services, (-1, -1))))
            assert low <= v <= high, f"slice {q} neuron {m}: membrane {v} outside state_bits"
            membranes[m] = v
        self.machine.record.core["saturations"][self.number] += saturations

    def _note_readout(self, slices: list[int]) -> None:
        """The service now running may change the argmax over the readout."""
        service = self.server.service
        assert service is not None
        changed = {q: list(self.v[q]) for q in slices if q in self.plan.readout}
        if changed:
            self.machine.record.readout_changed(self.server.number, service, changed)
        for q in slices:
            self.machine.record.step(self, q, 0, self.v[q])

    def sent(self, server: Server, service: Service, item: Item, time: int) -> None:
        """A spike entered axon-out."""
        self.machine.record.fire(self.number, item, time)
