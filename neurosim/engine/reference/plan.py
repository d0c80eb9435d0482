"""The Program's arrays as Python tables, made once per run and shared by its samples."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.chip.figures import Figure
from neurosim.engine.events import CURRENT
from neurosim.engine.reference.items import Item
from neurosim.engine.reference.ops import Cells
from neurosim.engine.synapses import Box, Synapses, box_of, coordinates, decode, inside
from neurosim.program import OP_KIND, OP_NONE, R_READOUT, Program

CACHED_SYNAPSES = 4_000_000  # bound on the decoded synapses that are kept, about 64 MB


class Plan:
    """Timings, routes, markers and upstream lists of a Program. ``rounds``: global steps of one simulation, T or N * T (section 6)."""

    def __init__(self, program: Program, streamed: bool, samples: int) -> None:
        self.program, self.chip, self.streamed = program, program.chip, streamed
        self.samples = samples
        self.free, self.settle = program.sync == "free", program.sync == "settle"
        self.stepless = not program.stepped
        self.markers = program.sync == "wavefront"  # the other disciplines have none
        self.tree = self.chip.noc.multicast == "tree"
        self.wraps = bool(program.meta.get("faulty"))  # faulty weights: the compiler's proof against overflow of banks no longer holds
        timing = self.chip.timing
        self.time: dict[str, int] = {name: figure.value for name in type(timing).model_fields if isinstance(figure := getattr(timing, name), Figure)}
        self.leak: int | None = self.time.get("leak")
        self.steps = program.steps
        self.rounds = 0 if self.stepless else program.steps * (samples if streamed else 1)
        self.end_to_end = self.chip.noc.flow == "end_to_end"
        bits = self.chip.arithmetic.state_bits
        self.low, self.high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        acc = self.chip.arithmetic.acc_bits
        self.acc_bits: int = acc
        self.acc_high: int = 2 ** (acc - 1) - 1

        slices = program.slices
        self.cells = {q: Cells(program, q) for q in range(slices) if program.slice_op[q, OP_KIND] != OP_NONE}  # of slices with an op
        self.core_of: list[int] = program.slice_core.tolist()
        self.slices_of = [[q for q in range(slices) if self.core_of[q] == core] for core in range(program.cores)]
        self.boxes: list[Box] = [box_of(row) for row in program.source_box]
        self.port_of: list[int] = program.source_port.tolist()
        self.sources_of = [[s for s in range(slices, len(self.port_of)) if self.port_of[s] == port] for port in range(program.ports)]
        ptr = program.route_ptr.tolist()
        self.routes = [
            [(int(program.route_core[r]), box_of(program.route_box[r]), r) for r in range(ptr[s], ptr[s + 1])] for s in range(len(self.boxes))
        ]
        self.route_of = {(s, core): r for s, routes in enumerate(self.routes) for core, _, r in routes}
        assert len(self.route_of) == len(program.route_core), "a source has two routes to one core"

        # markers (section 6): who waits for whom
        self.pairs_at: dict[tuple[int, int], list[tuple[int, int]]] = {}  # (core, source) -> [(slice, delay)]
        self.needs: list[list[tuple[int, int]]] = [[] for _ in range(slices)]  # slice -> [(source, delay)]
        below: dict[int, dict[int, int]] = {}  # sender of markers (slice, or -1 - p for port p) -> {downstream slice: largest delay}
        for source, q, delay in program.sync_pair.tolist():
            self.pairs_at.setdefault((self.core_of[q], source), []).append((q, delay))
            self.needs[q].append((source, delay))
            near = below.setdefault(source if source < slices else -1 - self.port_of[source], {})
            near[q] = max(delay, near.get(q, 0))
        self.below = {p: sorted(near.items()) for p, near in below.items()}
        self.above = [sorted({p for p, near in below.items() if q in near}) for q in range(slices)]

        # readout: class k of the readout is neuron (c, y, x) in that order
        self.readout = {q: self._classes(q) for q in range(slices) if program.slice_rule[q, R_READOUT]}
        self.classes = sum(len(places) for places in self.readout.values())
        self._cache: OrderedDict[tuple[int, int], tuple[list[Synapses], int, bool]] = OrderedDict()
        self._cached = 0
        self._masks: dict[int, Any] = {}  # Program.carried by route

    def word(self, x: int) -> int:
        """x as a word of acc_bits, wrapped around (settle)."""
        return ((x + self.acc_high + 1) & ((1 << self.acc_bits) - 1)) - self.acc_high - 1

    def fit(self, x: int) -> int:
        """x as a word of acc_bits, in which it fits; with faulty weights, where nothing is proved, it wraps around."""
        if self.wraps:
            return self.word(x)
        assert abs(x) <= self.acc_high, f"{x} overflows acc_bits"
        return x

    def _classes(self, q: int) -> list[int]:
        """Place of every neuron of a readout slice: its class; several readout populations follow each other."""
        program = self.program
        mine = int(program.slice_population[q])
        readouts = sorted({int(program.slice_population[p]) for p in range(program.slices) if program.slice_rule[p, R_READOUT]})
        sizes = {p: self._shape(p) for p in readouts}
        base = sum(int(np.prod(sizes[p])) for p in readouts if p < mine)
        _, height, width = sizes[mine]
        box = self.boxes[q]
        places = (coordinates(box, a) for a in range(int(program.neuron_ptr[q + 1] - program.neuron_ptr[q])))
        return [base + (c * height + y) * width + x for c, y, x in places]

    def _shape(self, population: int) -> tuple[int, int, int]:
        source = int(np.flatnonzero(self.program.source_population == population)[0])
        c, y, x = (int(v) for v in self.program.source_shape[source])
        return c, y, x

    def destinations(self, source: int, address: int) -> list[int]:
        """Cores that a spike goes to, ascending (section 3)."""
        c, y, x = coordinates(self.boxes[source], address)
        near = [(core, self._carried(source, route)) for core, box, route in self.routes[source] if inside(box, c, y, x)]
        return [core for core, carried in near if carried is None or carried[address]]

    def _carried(self, source: int, route: int) -> Any:
        if route not in self._masks:
            self._masks[route] = self.program.carried(source, route)
        return self._masks[route]

    def synapses(self, source: int, address: int, core: int) -> tuple[list[Synapses], int, bool]:
        """(entries, synapses served, one of them into a readout slice) of a spike packet at a core."""
        route = self.route_of[source, core]
        known = self._cache.get((route, address))
        if known is None:
            entries = decode(self.program, route, source, address, self.chip.arithmetic.skip_zero_weights)
            known = entries, sum(len(e.targets) for e in entries), any(len(e.targets) and e.slice in self.readout for e in entries)
            self._cache[route, address] = known
            self._cached += known[1] + 16
            while self._cached > CACHED_SYNAPSES:
                self._cached -= self._cache.popitem(last=False)[1][1] + 16
        return known

    def sample_of(self, step: int) -> tuple[int, int]:
        """(sample within the simulation, step within the sample) of a global step."""
        return divmod(step, self.steps) if self.streamed else (0, step)

    def packets(self, item: Item, cores: list[int]) -> list[Item]:
        """The packets that carry an item to cores, ascending: one each, or one for all of them that branches on its way."""
        if self.tree and cores:
            return [item.towards(tuple(cores))]
        return [item.towards((core,)) for core in cores]

    def sender(self, core: int) -> int:
        """Server of a core's sender; its synapse (core) station comes two before, its soma one before."""
        return self.program.ports + 3 * core + 2

    def holder(self, packet: Item) -> int:
        """The port or sender that put a packet into the network: the holder of its window."""
        if packet.item == CURRENT:
            return 0
        return self.port_of[packet.slice] if packet.slice >= len(self.core_of) else self.sender(self.core_of[packet.slice])

    def first_scores(self) -> NDArray[np.int64]:
        """[places in readouts] scores, not yet added up, before anything has happened: start membranes, in settle those of the rest state as read."""
        scores, program = np.zeros(self.classes, np.int64), self.program
        for q, places in self.readout.items():
            cell, neuron = int(program.slice_cells[:q].sum()), int(program.neuron_ptr[q])
            scores[places] = program.v_init[neuron : neuron + len(places)]
            if self.settle:
                v = np.clip(program.rest_v[cell : cell + len(places)], self.low, self.high)
                scores[places] = np.maximum(v, program.floor[neuron : neuron + len(places)])
        return scores

    def parameters(self, q: int) -> dict[str, Any]:
        """Neuron parameters of a slice as Python integers."""
        program = self.program
        a, b = int(program.neuron_ptr[q]), int(program.neuron_ptr[q + 1])
        return {name: getattr(program, name)[a:b].tolist() for name in ("threshold", "bias", "floor", "reset_by", "v_init")}
