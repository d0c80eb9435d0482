"""Extra ops: the cells of a slice, and what its neurons get from them (docs/machine.md, section 12).

``Cells`` is where they lie, made once per Program. ``pairs`` and ``step_inputs`` are what a bank of the stepped disciplines does; ``FreeOp`` keeps
the cells of ``free`` and says what each synapse into one of them causes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neurosim.arithmetic import MOST, add, integrate, product, saturate
from neurosim.engine.synapses import Box, box_of, coordinates
from neurosim.program import (
    G_K,
    G_MAIN,
    G_MASK,
    G_Q,
    G_V,
    G_WINDOW,
    OP_COINCIDENCE,
    OP_COUNT,
    OP_GATE,
    OP_HEAD,
    OP_INVERTED,
    OP_KH,
    OP_KIND,
    OP_KW,
    OP_LATCHED,
    OP_MAX,
    OP_OR,
    OP_PH,
    OP_PW,
    OP_SH,
    OP_SHIFT,
    OP_SW,
    Program,
)


class Cells:
    """The cells of one slice's bank, by number: the neurons' own, those of the operands, the table of a coincidence."""

    def __init__(self, program: Program, q: int) -> None:
        row = [int(x) for x in program.slice_op[q]]
        self.kind = row[OP_KIND]
        self.count, self.inverted, self.latched = row[OP_COUNT], bool(row[OP_INVERTED]), bool(row[OP_LATCHED])
        self.d, self.shift = row[OP_HEAD], row[OP_SHIFT]
        self.total = int(program.slice_cells[q])
        self.box: Box = box_of(program.slice_box[q])
        self.neurons = int(program.neuron_ptr[q + 1] - program.neuron_ptr[q])
        self.places = [coordinates(self.box, m) for m in range(self.neurons)]  # (c, y, x) of each neuron in its population
        self.first: dict[int, int] = {}  # operand -> first cell
        self.region_box: dict[int, Box] = {}
        shapes: dict[int, list[int]] = {}
        for g in np.flatnonzero(program.region_slice == q).tolist():
            operand = int(program.region_operand[g])
            self.first[operand] = int(program.region_first[g])
            self.region_box[operand] = box_of(program.region_box[g])
            shapes[operand] = program.region_shape[g].tolist()
        # gate: the mask cell of every neuron; max_pool: the cells of every neuron's window
        self.mask = [self._group(place, shapes[G_MAIN], shapes[G_MASK]) for place in self.places] if self.kind == OP_GATE else []
        self.window = [self._window(place, row, shapes[G_WINDOW]) for place in self.places] if self.kind == OP_MAX else []

    def cell(self, operand: int, c: int, y: int, x: int) -> int:
        """The cell that holds (c, y, x) of an operand."""
        c0, c1, y0, y1, x0, x1 = self.region_box[operand]
        assert c0 <= c < c1
        assert y0 <= y < y1
        assert x0 <= x < x1
        return self.first[operand] + ((y - y0) * (x1 - x0) + x - x0) * (c1 - c0) + c - c0

    def _group(self, place: tuple[int, int, int], shape: Sequence[int], groups: Sequence[int]) -> int:
        c, y, x = (at // (size // number) for at, size, number in zip(place, shape, groups, strict=True))
        return self.cell(G_MASK, c, y, x)

    def _window(self, place: tuple[int, int, int], row: Sequence[int], source: Sequence[int]) -> list[int]:
        c, y, x = place
        down = [y * row[OP_SH] - row[OP_PH] + ky for ky in range(row[OP_KH])]
        across = [x * row[OP_SW] - row[OP_PW] + kx for kx in range(row[OP_KW])]
        return [self.cell(G_WINDOW, c, Y, X) for Y in down if 0 <= Y < source[1] for X in across if 0 <= X < source[2]]

    # ---- coincidence: token n is a pixel of the slice, head h and channels a, b within it are counted on the slice ------------------------------

    def channel(self, operand: int, cell: int) -> tuple[int, int, int]:
        """(token, head, channel within the head) of a cell of k, v or q, or of a neuron's own."""
        channels = self.box[1] - self.box[0]
        n, c = divmod(cell - self.first[operand], channels)
        return n, c // self.d, c % self.d

    def register(self, operand: int, n: int, h: int, a: int) -> int:
        """The cell of k, v or q, or the neuron (its own cell), at (token, head, channel within the head)."""
        return self.first[operand] + n * (self.box[1] - self.box[0]) + h * self.d + a

    def table(self, h: int, a: int, b: int) -> int:
        """The cell M[a, b] of a head."""
        channels = self.box[1] - self.box[0]
        return self.total - channels * self.d + (h * self.d + a) * self.d + b

    def opens(self, total: int) -> bool:
        """Whether a group with that sum of masks is open."""
        return (total >= self.count) != self.inverted


def pairs(at: Cells, values: Sequence[int] | NDArray[np.int64], operand: int, cell: int, contribution: int) -> list[tuple[int, int]]:
    """(cell of the table, increment) that a synapse into a register of k or v adds right after the register itself; ``values`` of all cells."""
    n, h, here = at.channel(operand, cell)
    other = G_V if operand == G_K else G_K
    found = []
    for there in range(at.d):
        value = int(values[at.register(other, n, h, there)])
        if contribution != 0 and value != 0:
            found.append((at.table(h, here, there) if operand == G_K else at.table(h, there, here), contribution * value))
    return found


@dataclass(frozen=True)
class StepInputs:
    """What the neurons of a slice get in a step, which of them are touched, and the bursts of words that were read."""

    values: list[int]
    touched: list[bool]
    bursts: list[int]


def step_inputs(at: Cells, values: list[int], touched: list[bool], latch: dict[int, int], fit: Callable[[int], int]) -> StepInputs:
    """Inputs of a step from a full bank. ``latch``: sums of a latched gate's masks, by mask cell, which are brought forward here.

    ``fit`` makes a word of acc_bits (wrapped around in faulty Programs only).
    """
    own = range(at.neurons)
    if at.kind == OP_GATE:
        return _gate(at, values, touched, latch, fit)
    inputs, mine, bursts = values[: at.neurons], touched[: at.neurons], []
    if at.kind == OP_MAX:
        mine = [touched[m] or any(touched[cell] for cell in at.window[m]) for m in own]
        bursts = [len(at.window[m]) for m in own if mine[m]]
        inputs = [fit(values[m] + max(values[cell] for cell in at.window[m])) if mine[m] else 0 for m in own]
    elif at.kind == OP_COINCIDENCE:
        sums = [0] * at.neurons
        for cell in range(at.first[G_Q], at.first[G_Q] + at.neurons):
            if values[cell] == 0:
                continue
            bursts.append(at.d)
            n, h, a = at.channel(G_Q, cell)
            for b in range(at.d):
                m = at.register(G_MAIN, n, h, b)
                mine[m] = True
                sums[m] += values[cell] * values[at.table(h, a, b)]
        inputs = [fit(values[m] + (sums[m] << at.shift)) for m in own]
    return StepInputs(inputs, mine, bursts)


def _gate(at: Cells, values: list[int], touched: list[bool], latch: dict[int, int], fit: Callable[[int], int]) -> StepInputs:
    groups = range(at.first[G_MASK], at.total)
    total = {cell: values[cell] for cell in groups}
    if at.latched:
        for cell in groups:
            total[cell] = latch[cell] = fit(latch.get(cell, 0) + values[cell])
    inputs = [values[m] if at.opens(total[cell]) else 0 for m, cell in enumerate(at.mask)]
    read = {cell for m, cell in enumerate(at.mask) if touched[m]}
    return StepInputs(inputs, touched[: at.neurons], [1] * len(read))


Served = tuple[list[int], list[tuple[int, int]]]
"""What one served synapse does to neurons: (those that fire once, ascending, (neuron, contribution) pairs that act as ordinary synapses do)."""


class FreeOp:
    """Free: the cells of one slice from the beginning of the sample to its end. ``membranes``: those of the slice's neurons, shared with its core."""

    def __init__(self, at: Cells, membranes: list[int], threshold: list[int], acc_high: int, low: int, high: int) -> None:
        self.at, self.membranes, self.threshold = at, membranes, threshold
        self.acc_high, self.low, self.high = acc_high, low, high
        self.values = [0] * at.total
        self.period = 0  # floor(t0 / op_window) of the last service of a packet with an entry into the slice
        self.saturations = self.pairs = self.reads = 0  # since they were last looked at
        self._readers: dict[int, list[int]] = {}
        for m, cells in enumerate(at.window):
            for cell in cells:
                self._readers.setdefault(cell, []).append(m)

    def enter(self, now: int, window: int | None) -> None:
        """A packet with an entry into the slice is served from ``now`` on: what lies in a window before is forgotten."""
        if window is None or now // window == self.period:
            return
        self.period = now // window
        kept = self.at.kind == OP_GATE and self.at.latched
        self.values = self.values if kept else [0] * self.at.total
        if self.at.kind in (OP_OR, OP_GATE):
            self.membranes[:] = [0] * self.at.neurons

    def synapse(self, operand: int, cell: int, contribution: int) -> Iterator[Served]:
        """The synapses that are served for one into ``cell``, in their order: itself, then those that it brings about."""
        if operand == G_MAIN and self.at.kind in (OP_OR, OP_GATE):
            yield self._pass(cell, contribution), []
        elif operand == G_MAIN:
            yield [], [(cell, contribution)]
        elif operand == G_MASK:
            yield self._mask(cell, contribution), []
        elif operand == G_WINDOW:
            yield from self._window(cell, contribution)
        elif operand == G_Q:
            yield from self._read(cell, contribution)
        else:
            self._add(cell, contribution)
            yield [], []
            for entry, increment in pairs(self.at, self.values, operand, cell, contribution):
                self._add(entry, saturate(increment, -MOST, MOST))
                self.pairs += 1
                yield [], []

    def _add(self, cell: int, contribution: int) -> None:
        self.values[cell], _ = add(self.values[cell], contribution, -self.acc_high, self.acc_high)

    def _pass(self, m: int, contribution: int) -> list[int]:
        """A spike for neuron m of an or_pool or gate."""
        before = self.membranes[m]
        after, clipped = integrate(before, contribution, self.low, self.low, self.high)
        self.saturations += clipped
        self.membranes[m] = after
        if self.at.kind == OP_OR:
            return [m] if before < self.threshold[m] <= after else []
        return self._release([m]) if self.at.opens(self.values[self.at.mask[m]]) else []

    def _mask(self, cell: int, contribution: int) -> list[int]:
        """A spike for a group's mask: all its neurons fire whose spikes have waited, if it opens."""
        was_open = self.at.opens(self.values[cell])
        self._add(cell, contribution)
        if was_open or not self.at.opens(self.values[cell]):
            return []
        return self._release([m for m, mask in enumerate(self.at.mask) if mask == cell])

    def _release(self, neurons: list[int]) -> list[int]:
        """Those of a gate's neurons that have reached the threshold fire once; nothing of them is left."""
        ready = [m for m in neurons if self.membranes[m] >= self.threshold[m]]
        for m in ready:
            self.membranes[m] = 0
        return ready

    def _window(self, cell: int, contribution: int) -> Iterator[Served]:
        """A current for a max_pool: one synapse per window that has the cell, at least one."""
        readers = self._readers.get(cell, [])
        before = {m: self._largest(m) for m in readers}
        self._add(cell, contribution)
        for m in readers:
            self.reads += len(self.at.window[m])
            change = self._largest(m) - before[m]
            yield [], [(m, change)] if change != 0 else []
        if not readers:
            yield [], []

    def _largest(self, m: int) -> int:
        return max(self.values[cell] for cell in self.at.window[m])

    def _read(self, cell: int, contribution: int) -> Iterator[Served]:
        """A spike of q: its row of the table, one synapse per word."""
        self._add(cell, contribution)
        yield [], []
        if contribution == 0:
            return
        n, h, a = self.at.channel(G_Q, cell)
        self.reads += self.at.d
        for b in range(self.at.d):
            value = product(product(contribution, self.values[self.at.table(h, a, b)]), 1 << self.at.shift)
            yield [], [(self.at.register(G_MAIN, n, h, b), value)]
