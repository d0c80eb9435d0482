"""Hypothesis strategies for whole cases: a small integer Graph, a chip, a discipline, a mapping, stimuli and options, assembled into a Program."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import reject
from hypothesis import strategies as st

from neurosim.chip import Chip
from neurosim.compiler.emit.assemble import assemble
from neurosim.compiler.place.geometry import Box, whole
from neurosim.compiler.place.mapping import Mapping, current_populations, largest_delay, port_populations
from neurosim.compiler.place.placement import map_graph
from neurosim.engine.events import CURRENT, SPIKE, Options, Stimulus
from neurosim.engine.faults import Faults, apply_faults
from neurosim.engine.run import feeds_itself
from neurosim.errors import DoesNotFit, ModelError
from neurosim.graph import Graph
from neurosim.program import Program
from tests.conformance.chips import TIMINGS, chips
from tests.conformance.graphs import graphs
from tests.conformance.settled import at_rest, of_one_step


@dataclass(frozen=True)
class Case:
    """One drawn simulation."""

    graph: Graph
    program: Program
    stimuli: list[Stimulus]
    options: Options

    def __repr__(self) -> str:
        spikes = [int((s.item == SPIKE).sum()) for s in self.stimuli]
        noc, timing = self.program.chip.noc, self.program.chip.timing
        times = {name: getattr(timing, name).value for name in TIMINGS}
        return (
            f"Case({self.program.sync}, {self.graph}\n slices {self.program.slices} on cores {self.program.slice_core.tolist()}, "
            f"spikes {spikes}, {self.options}\n {noc}\n {self.program.chip.arithmetic}\n {times})"
        )

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        printer.text(repr(self))  # hypothesis would print every array of the Program


@st.composite
def stimuli_of(
    draw: st.DrawFn, graph: Graph, program: Program, samples: int, realtime: bool, streamed: bool, currents: bool = True
) -> list[Stimulus]:
    """Spikes into input populations in every step and currents into slices that the host feeds, in port order."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    density = draw(st.sampled_from([0.3, 0.8, 0.8, 0.05, 0.0]))
    spread = draw(st.sampled_from([1, 50, 5000]))
    steps = 1 if program.sync in STEPLESS else program.steps
    fed = [q for q in _fed(graph, program) if currents and draw(st.booleans())]
    most = draw(st.sampled_from([1, 1, 1, 3]))  # events of a neuron and step, as one packet with that value or as several
    repeats = draw(st.booleans())
    marked = realtime and program.sync == "wavefront" and draw(st.booleans())
    result, clock = [], 0
    for _ in range(samples):
        rows: list[tuple[int, int, int, int, int, int]] = []
        ends = []
        for step in range(steps):
            now = []
            for q in fed:
                size = int(program.neuron_ptr[q + 1] - program.neuron_ptr[q])
                now += [(step, CURRENT, q, int(a), int(rng.integers(-3, 6))) for a in np.flatnonzero(rng.random(size) < density)]
            for source in range(program.slices, program.control_source):
                size = int(np.prod(program.source_box[source, 1::2] - program.source_box[source, ::2]))
                for a in np.flatnonzero(rng.random(size) < density):
                    count = int(rng.integers(1, most + 1))
                    now += [(step, SPIKE, source, int(a), 1)] * count if repeats else [(step, SPIKE, source, int(a), count)]
            dues = [clock + int(rng.integers(0, spread)) if realtime else 0 for _ in now]
            order = {CURRENT: 0, SPIKE: 1}
            rows += sorted(((due, *row) for due, row in zip(dues, now, strict=True)), key=lambda r: (r[0], r[1], order[r[2]], r[3], r[4], r[5]))
            clock += spread if realtime else 0
            ends.append(clock)
        table = np.array(rows, np.int64).reshape(-1, 6)
        kinds = (np.int64, np.int32, np.uint8, np.int32, np.int32, np.int64)
        columns = (table[:, k].astype(kind) for k, kind in enumerate(kinds))
        result.append(Stimulus(*columns, marker_due_ps=np.array(ends, np.int64) if marked else None))
        if not streamed or program.sync in STEPLESS:
            clock = 0
    return result


def _fed(graph: Graph, program: Program) -> list[int]:
    """Slices that may get currents: any without steps, those that wait for the control source in wavefront, those with host currents in barrier."""
    if program.sync in STEPLESS:
        return list(range(program.slices))
    if program.sync == "wavefront":
        return sorted({int(q) for s, q, _ in program.sync_pair.tolist() if s == program.control_source})
    return np.flatnonzero(np.isin(program.slice_population, current_populations(graph))).tolist()


@st.composite
def mappings(draw: st.DrawFn, graph: Graph, chip: Chip, sync: str) -> Mapping:
    """The compiler's mapping, or its slices scattered over the cores that live: neighbours on one core, cycles of cores, few banks."""
    try:
        mapping = map_graph(graph, chip, sync).mapping
    except (DoesNotFit, ModelError):
        reject()
    slices, core, banks = mapping.slices, mapping.core, mapping.banks
    if draw(st.booleans()):
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        alive = [c for c in range(chip.memory.cores) if c not in chip.memory.dead_cores]
        core = tuple(int(c) for c in rng.choice(alive, len(slices)))
        if sync == "wavefront":
            banks = tuple(1 + largest_delay(graph, graph.populations[piece.population].name) + int(rng.integers(0, 3)) for piece in slices)
        elif sync == "barrier":
            banks = tuple(b + int(rng.integers(0, 3)) for b in banks)
    if len(chip.noc.ports) == 1 or draw(st.booleans()):
        return Mapping(slices, core, banks)
    return Mapping(slices, core, banks, ports=draw(_boxes_on_ports(graph, len(chip.noc.ports))))


@st.composite
def _boxes_on_ports(draw: st.DrawFn, graph: Graph, ports: int) -> tuple[tuple[int, Box, int], ...]:
    """Every population that comes through the ports, whole or cut in two along one axis, each box on any port."""
    result: list[tuple[int, Box, int]] = []
    for k in port_populations(graph):
        box = whole(graph.populations[k].shape)
        axis = draw(st.integers(0, 2))
        size = graph.populations[k].shape[axis]
        cut = draw(st.integers(0, size - 1))
        parts = [(0, size)] if cut == 0 else [(0, cut), (cut, size)]
        for a, b in parts:
            part = [*box]
            part[2 * axis], part[2 * axis + 1] = a, b
            result.append((k, (part[0], part[1], part[2], part[3], part[4], part[5]), draw(st.integers(0, ports - 1))))
    return tuple(result)


@st.composite
def _worn(draw: st.DrawFn, program: Program) -> Program:
    """The Program with flipped bits in its weights, which are then any numbers of 8, 16 or 32 bits."""
    words = program.chip.arithmetic.model_copy(update={"weight_bits": 8 * program.weights.dtype.itemsize})
    program = replace(program, chip=program.chip.model_copy(update={"arithmetic": words}))
    return apply_faults(program, Faults(weight_flip=draw(st.sampled_from([0.02, 0.5])), seed=draw(st.integers(0, 9))))


STEPPED = ("wavefront", "barrier")
STEPLESS = ("free", "settle")


@st.composite
def cases(draw: st.DrawFn, sync: str, plain: bool = False, reliable: bool = False, streamed: bool | None = None, ops: bool = False) -> Case:
    """A whole case of one discipline; ``plain`` draws only what the clock-driven model computes (so it is ``reliable`` too),
    ``reliable`` no drops, losses, worn weights or time limits, ``streamed`` fixes how samples follow, ``ops`` has populations with extra ops.
    """
    faulty = not plain and not reliable
    words: tuple[int, ...] = (24, 24, 48) if sync == "settle" else (24, 24, 48, 64)
    if sync == "free" and ops:
        words += 5, 8  # there cells saturate
    chip = draw(chips(drops=faulty, words=words))
    if sync == "settle":  # nothing can be dropped at axon-out there
        chip = chip.model_copy(update={"noc": chip.noc.model_copy(update={"axon_out_overflow": "stall"})})
    graph = draw(graphs(sync, chip, plain, ops))
    if sync == "settle":
        graph = of_one_step(graph)
    try:
        program = assemble(graph, chip, sync, draw(mappings(graph, chip, sync)))
    except (DoesNotFit, ModelError):
        reject()
    if sync == "settle":
        program = draw(at_rest(graph, program))
    elif faulty and draw(st.integers(0, 3)) == 3:
        program = draw(_worn(program))
    samples = draw(st.integers(1, 3))
    if streamed is None:
        streamed = draw(st.booleans())
    window = 0
    must = streamed or feeds_itself(program) is not None  # have a window, in free
    if (sync == "free" and (must or draw(st.integers(0, 3)) == 3)) or (sync == "settle" and not plain and draw(st.integers(0, 3)) == 3):
        window = draw(st.sampled_from([1000, 100, 10])) * draw(st.integers(1, 9)) * chip.timing.put.value
    stimuli = draw(stimuli_of(graph, program, samples, draw(st.booleans()), streamed, currents=not plain))
    limited = faulty and draw(st.integers(0, 19)) == 19
    stops = program.sync in STEPLESS and not streamed and not plain and not limited and draw(st.integers(0, 3)) == 3
    lossy = faulty and draw(st.integers(0, 3)) == 3
    options = Options(
        streamed=streamed,
        jitter=draw(st.sampled_from([0, 0, 1, 6554, 65535])),
        seed=draw(st.integers(0, 9)),
        first_sample=draw(st.sampled_from([0, 0, 3])),
        link_loss=draw(st.sampled_from([2**29, 2**31, 2**32])) if lossy else 0,
        window_ps=window,
        stop_margin=draw(st.sampled_from([1, 2, 5, 20, 1000])) if stops else 0,
        stop_after_ps=draw(st.integers(1, 300)) * chip.timing.put.value if stops else 0,
        max_time_ps=300 * chip.timing.put.value if limited else 10**15,
        record=True,
        spikes=True,
        state=True,
    )
    return Case(graph, program, stimuli, options)
