"""Core station of ``free``, synapse and soma in one: sections 4, 5, 11 and 12 of docs/machine.md."""

from __future__ import annotations

from neurosim.arithmetic import MOST, decay, fires, integrate, product, reset
from neurosim.engine.events import CURRENT, MARKER, SPIKE, START
from neurosim.engine.reference.fabric import Machine, Server
from neurosim.engine.reference.items import Item, Results, Service
from neurosim.engine.reference.ops import FreeOp
from neurosim.engine.reference.synapse import AxonIn
from neurosim.engine.synapses import Synapses
from neurosim.program import G_MAIN, R_DECAY_V, R_READOUT, R_RESET, R_STRICT


def contributions_of(e: Synapses, value: int) -> list[int]:
    """What the synapses of an entry bring for a spike of that value, each clipped to 64 bits (section 4)."""
    factor = product(value, 1 << e.shift)
    if e.largest * abs(factor) <= MOST:
        return [int(c) for c in (e.weights * factor).tolist()]
    return [product(w, factor) for w in e.weights.tolist()]


class Core(AxonIn):
    """Free: synapse and soma in one station; neurons fire when a synapse lifts them over the threshold (section 5)."""

    def __init__(self, machine: Machine, number: int) -> None:
        super().__init__(machine, number)
        self.server = Server(self, self.plan.sender(number) - 2, spacing=self.plan.time["put"], put_rows=True)
        self.slices = self.plan.slices_of[number]
        self.parameters = {q: self.plan.parameters(q) for q in self.slices}
        self.rule = {q: self.plan.program.slice_rule[q].tolist() for q in self.slices}
        self.v = {q: list(self.parameters[q]["v_init"]) for q in self.slices}
        self.touched = {q: [0] * machine.neurons(q) for q in self.slices}  # start of the last service that touched the neuron
        plan, given = self.plan, self.parameters
        self.ops = {
            q: FreeOp(plan.cells[q], self.v[q], given[q]["threshold"], plan.acc_high, plan.low, plan.high) for q in self.slices if q in plan.cells
        }
        self.biased = [q for q in self.slices if any(self.parameters[q]["bias"])]
        self.started = not self.biased
        if self.biased:
            self.wake(0)

    def decide(self, now: int) -> None:
        """Puts, else the start item, else the next packet."""
        self.server.progress(now)
        if self.server.service is not None or self.machine.closed(now):
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
            self._integrate(q, list(range(len(bias))), [product(self.plan.steps, b) for b in bias], nominal, now, results)
            done += len(bias)
        self.machine.record.core["accesses"][self.number] += done
        self.machine.record.core["updates"][self.number] += done
        self.server.begin(Item(START, -1, -1, 0, 0, -1, -1, (-1, -1)), done * update, results)
        self._note_readout(self.biased)

    def _packet(self, packet: Item, now: int) -> None:
        fire, record = self.plan.time["fire"], self.machine.record
        results: Results = []
        if packet.item == CURRENT:
            if packet.slice in self.ops:
                self._operate(packet.slice, G_MAIN, [packet.address], [packet.value], 0, now, results)
            else:
                self._integrate(packet.slice, [packet.address], [packet.value], [self.group_end(0) + fire], now, results)
            record.core["current_writes"][self.number] += 1
            self.server.begin(packet, self.group_end(0), results)
            self._note_readout([packet.slice])
        else:
            assert packet.item != MARKER, "a marker in the free discipline"
            entries, _, reads_out = self.plan.synapses(packet.slice, packet.address, self.number)
            for q in {e.slice for e in entries} & self.ops.keys():
                self.ops[q].enter(now, self.plan.time.get("op_window"))
            count = 0  # synapses served
            for e in entries:
                targets, contributions = e.targets.tolist(), contributions_of(e, packet.value)
                if e.slice in self.ops:
                    count = self._operate(e.slice, e.operand, targets, contributions, count, now, results)
                else:
                    nominal = [self.group_end(count + j) + fire for j in range(len(targets))]
                    self._integrate(e.slice, targets, contributions, nominal, now, results)
                    count += len(targets)
            record.synapses(self.number, packet, count, 0, reads_out, now)
            self.server.begin(packet, self.group_end(count - 1) if count else self.plan.time["decode"], results, count)
            self._note_readout([e.slice for e in entries if len(e.targets)])
        record.decoded(self.number, packet)

    def _operate(self, q: int, operand: int, cells: list[int], contributions: list[int], k: int, now: int, results: Results) -> int:
        """Synapses into cells of a slice with an op, the first of them the k-th of its packet: the number after the last (section 12)."""
        op, count = self.ops[q], self.machine.record.core
        for cell, contribution in zip(cells, contributions, strict=True):
            for firing, added in op.synapse(operand, cell, contribution):
                ready = self.group_end(k) + self.plan.time["fire"]
                results += [(ready, Item(SPIKE, q, m, 1, 0, -1, self.server.services, (-1, -1))) for m in firing]
                for m, c in added:
                    self._integrate(q, [m], [c], [ready], now, results)
                k += 1
        for name, number in (("saturations", op.saturations), ("pairs", op.pairs), ("op_reads", op.reads)):
            count[name][self.number] += number
        op.saturations = op.pairs = op.reads = 0
        return k

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
        self.machine.record.fire(self.number, item, time, service)

    def discarded(self, server: Server, service: Service, item: Item, time: int) -> None:
        """A spike found axon-out full: it is a fire all the same."""
        self.machine.record.fire(self.number, item, time, service)
