"""The global barrier of the discipline of that name: section 7 and section 11, barrier, of docs/machine.md."""

from __future__ import annotations

from neurosim.engine.reference.fabric import Machine


class Barrier:
    """Opens the global steps one after the other: S_0 = 0, S_(g+1) = Q_g + t_barrier, until the last step of the slice with the largest offset.

    Q_g is the first instant at whose end no packet is in a channel, no server serves and no port has an event of step g left.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.offset: list[int] = machine.plan.program.slice_offset.tolist()
        self.steps = machine.plan.rounds + max(self.offset, default=0)  # global steps of the simulation
        self.duration = machine.plan.program.barrier_ps
        self.step = -1  # the one that is open, or was last
        self._open = False
        machine.kernel.closing = self._instant_ended
        machine.kernel.post(0, self._begin, 0)

    def step_of(self, q: int) -> int:
        """The own step h = g - o that slice q runs in the open global step g; outside 0 .. rounds - 1 where it rests."""
        return self.step - self.offset[q]

    @property
    def left(self) -> bool:
        """Whether a step is open or still to come."""
        return self._open or self.step < self.steps - 1

    def _begin(self, g: int) -> None:
        """S_g: banks are handed to the somas, ports may go on."""
        machine = self.machine
        self.step, self._open = g, True
        machine.record.step_began(g, machine.kernel.now)
        for q, core in enumerate(machine.plan.core_of):
            h = self.step_of(q)
            if 0 <= h < machine.plan.rounds:
                machine.somas[core].begin_step(q, h, machine.synapses[core].banks.pop((q, h), None))
        for port in machine.ports:
            port.wake(machine.kernel.now)

    def _instant_ended(self, now: int) -> None:
        machine = self.machine
        if not self._open or machine.active or any(port.next is not None and port.next[1].step <= self.step for port in machine.ports):
            return
        self._open = False
        if self.step < self.steps - 1:
            machine.kernel.post(now + self.duration, self._begin, self.step + 1)
