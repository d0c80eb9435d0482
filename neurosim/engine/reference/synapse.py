"""Synapse station of the stepped disciplines, and what it shares with the core station of ``free``: sections 3, 4, 6, 11, 12 of docs/machine.md."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neurosim.engine.events import CURRENT, SPIKE
from neurosim.engine.reference.fabric import Machine, Server, Station
from neurosim.engine.reference.items import Item, Service
from neurosim.engine.reference.ops import pairs
from neurosim.engine.synapses import Synapses
from neurosim.program import G_K, G_V


class Bank:
    """Accumulated input of one slice for one step, and which cells were touched; without an op, neurons are the only cells."""

    __slots__ = ("markers", "touched", "values")

    def __init__(self, cells: int) -> None:
        self.values: NDArray[np.int64] = np.zeros(cells, np.int64)
        self.touched: NDArray[np.bool_] = np.zeros(cells, np.bool_)
        self.markers = 0


def wrapped(x: NDArray[np.int64], bits: int) -> NDArray[np.int64]:
    """Two's complement of ``bits`` bits (at most 64; the sum that made x has wrapped around in 64)."""
    if bits == 64:
        return x
    half = np.int64(1 << (bits - 1))
    return ((x + half) & np.int64((1 << bits) - 1)) - half


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
            self.machine.return_window(packet, self.number, now)
        return packet

    def group_end(self, k: int) -> int:
        """Nominal end of the group of the k-th served synapse (section 3)."""
        return self.plan.time["decode"] + (k // self.lanes + 1) * self.plan.time["synop"]


class Synapse(AxonIn):
    """Stepped: adds contributions to banks and counts markers; puts nothing."""

    def __init__(self, machine: Machine, number: int) -> None:
        super().__init__(machine, number)
        self.server = Server(self, self.plan.sender(number) - 2)
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
        _, step = self.plan.sample_of(packet.step)
        dropped = 0
        for e in entries:
            if step + e.delay < self.plan.steps:
                contributions = (e.weights * packet.value) << e.shift  # modulo 2**64, as banks add
                if e.operand in (G_K, G_V):
                    count += self._coincide(e, packet.step + e.delay, contributions.tolist())
                else:
                    self._add(e.slice, packet.step + e.delay, e.targets, contributions)
            else:
                dropped += len(e.targets)  # beyond the end of the sample: served, counted, not added (section 6)
        duration = self.group_end(count - 1) if count else self.plan.time["decode"]
        self.machine.record.synapses(self.number, packet, count, dropped, reads_out, self.machine.kernel.now)
        self.server.begin(packet, duration, [], count)

    def _add(self, q: int, g: int, targets: NDArray[np.int64], contributions: NDArray[np.int64]) -> None:
        bank = self._bank(q, g)
        bank.touched[targets] = True
        if self.plan.wraps:
            bank.values[targets] = wrapped(bank.values[targets] + contributions, self.plan.acc_bits)
        else:
            bank.values[targets] += contributions
            assert (abs(bank.values[targets]) <= self.plan.acc_high).all(), f"slice {q}: an accumulation bank overflows acc_bits"

    def _coincide(self, e: Synapses, g: int, contributions: list[int]) -> int:
        """Synapses into k or v, and the pairs of each, which write the table: the number of pairs (section 12)."""
        found = 0
        for cell, contribution in zip(e.targets.tolist(), contributions, strict=True):
            self._add(e.slice, g, np.array([cell]), np.array([contribution]))
            values = self._bank(e.slice, g).values
            for entry, increment in pairs(self.plan.cells[e.slice], values, e.operand, cell, contribution):
                values[entry] = self.plan.fit(int(values[entry]) + increment)
                found += 1
        self.machine.record.core["pairs"][self.number] += found
        return found

    def _bank(self, q: int, g: int) -> Bank:
        bank = self.banks.get((q, g))
        if bank is None:
            barrier, done, room = self.machine.barrier, self.cleared[q], self.machine.banks[q]
            if barrier is not None:  # the bank of the own step that is under way or over is not free before the next
                done, room = barrier.step_of(q), room - 1
            assert done < g <= done + room, f"slice {q}: step {g} has no open bank"
            bank = self.banks[q, g] = Bank(int(self.plan.program.slice_cells[q]))
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
