"""An order-free model of the discipline settle, for tests: differences of a Program's outputs are applied one by one, in a random order, synapse by
synapse, until nothing moves. It knows nothing of time and shares no code with the engines, the golden model or the rest state."""

from __future__ import annotations

import numpy as np

from neurosim.compiler.audit.synapses import expand_entry
from neurosim.program import (
    E_REGION,
    E_SHIFT,
    G_K,
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
    OP_MAX,
    OP_PW,
    OP_SHIFT,
    R_MAX_SPIKES,
    R_READOUT,
    R_STRICT,
    Program,
)

At = tuple[int, int, int]


class Settling:
    """The state of a Program, from its rest on: ``sent`` by source and coordinates, sums in ``cells`` by region and coordinates."""

    def __init__(self, program: Program, seed: int) -> None:
        self.program, self.draw = program, np.random.default_rng(seed)
        self.places = [places(box) for box in program.source_box[: program.control_source].tolist()]
        told = np.concatenate([program.rest_sent, program.rest_input]).tolist()
        ends = np.cumsum([0] + [len(found) for found in self.places])
        self.sent = [dict(zip(found, told[a:], strict=False)) for found, a in zip(self.places, ends, strict=False)]
        start = np.cumsum(program.slice_cells) - program.slice_cells
        self.cells: list[dict[At, int]] = []
        for g, q in enumerate(program.region_slice.tolist()):
            held = program.rest_v[start[q] + program.region_first[g] :].tolist()
            self.cells.append(dict(zip(places(program.region_box[g].tolist()), held, strict=False)))
        for q in range(program.slices):  # membranes contain what a max_pool or a coincidence adds
            for at in self.cells[q]:
                self.cells[q][at] -= self._added(q, at)
        self.retracted = 0

    def settle(self) -> None:
        """Neurons speak in a random order until none differs from what it has said."""
        firing = [q for q in range(self.program.slices) if not self.program.slice_rule[q, R_READOUT]]
        while due := [(q, at) for q in firing for k, at in enumerate(self.places[q]) if self.output(q, k) != self.sent[q][at]]:
            for k in self.draw.permutation(len(due))[: 1 + len(due) // 2].tolist():  # also those that no longer differ
                q, at = due[k]
                self.tell(q, at, self.output(q, self.places[q].index(at)))

    def tell(self, s: int, at: At, value: int) -> None:
        """A neuron or port of source s now has this value: the difference goes to all its synapses."""
        p, change = self.program, value - self.sent[s][at]
        self.sent[s][at] = value
        self.retracted += change < 0
        for r in range(int(p.route_ptr[s]), int(p.route_ptr[s + 1])):
            box = p.route_box[r].tolist()
            if change and all(low <= x < high for x, low, high in zip(at, box[::2], box[1::2], strict=True)):
                for row in p.entry[p.entry_ptr[r] : p.entry_ptr[r + 1]].tolist():
                    g, (channels, height, width) = row[E_REGION], p.region_shape[row[E_REGION]].tolist()
                    full = (channels, height, width)
                    targets, weights = expand_entry(p, row, p.region_box[g].tolist(), p.source_shape[s].tolist(), full, at)
                    for c, y, x, weight in zip(*np.unravel_index(targets, full), weights, strict=True):
                        self.cells[g][int(c), int(y), int(x)] += (int(weight) * change) << row[E_SHIFT]

    def membrane(self, q: int, at: At) -> int:
        """v before saturation, of an or_pool or gate the own cell."""
        return self.cells[q][at] + self._added(q, at)

    def output(self, q: int, k: int) -> int:
        """What neuron k of a slice would say now."""
        p, at, number = self.program, self.places[q][k], int(self.program.neuron_ptr[q]) + k
        v = self.membrane(q, at)
        if p.slice_op[q, OP_KIND] == OP_GATE:
            g = self._region(q, G_MASK)
            sizes = [n // m for n, m in zip(p.source_shape[q].tolist(), p.region_shape[g].tolist(), strict=True)]
            c, y, x = (i // size for i, size in zip(at, sizes, strict=True))
            v = v if (self.cells[g][c, y, x] >= p.slice_op[q, OP_COUNT]) != bool(p.slice_op[q, OP_INVERTED]) else 0
        high = 2 ** (p.chip.arithmetic.state_bits - 1)
        v, threshold, n = max(-high, min(high - 1, v)), int(p.threshold[number]), 0
        while n < p.slice_rule[q, R_MAX_SPIKES] and v - int(p.slice_rule[q, R_STRICT]) >= (n + 1) * threshold:
            n += 1
        return n

    def _region(self, q: int, operand: int) -> int:
        return int(np.flatnonzero((self.program.region_slice == q) & (self.program.region_operand == operand))[0])

    def _added(self, q: int, at: At) -> int:
        """What the op adds to a neuron's own cell."""
        op, (c, y, x) = self.program.slice_op[q], at
        if op[OP_KIND] == OP_MAX:
            cells, (kh, kw, sh, sw, ph, pw) = self.cells[self._region(q, G_WINDOW)], op[OP_KH : OP_PW + 1].tolist()
            window = [(c, y * sh - ph + i, x * sw - pw + j) for i in range(kh) for j in range(kw)]
            return max(cells[place] for place in window if place in cells)
        if op[OP_KIND] == OP_COINCIDENCE:
            k, v, r = (self.cells[self._region(q, operand)] for operand in (G_K, G_V, G_Q))
            first = c - c % int(op[OP_HEAD])
            tokens = [(i, j) for b, i, j in k if b == c]
            pairs = {a: sum(k[a, i, j] * v[c, i, j] for i, j in tokens) for a in range(first, first + int(op[OP_HEAD])) if r[a, y, x]}
            return sum(r[a, y, x] * m for a, m in pairs.items()) << int(op[OP_SHIFT])
        return 0


def places(box: list[int]) -> list[At]:
    """Coordinates (c, y, x) of a box by local index."""
    c0, c1, y0, y1, x0, x1 = box
    return [(c, y, x) for y in range(y0, y1) for x in range(x0, x1) for c in range(c0, c1)]
