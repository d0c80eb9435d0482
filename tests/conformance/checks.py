"""What the conformance tests ask of engines: outcomes, their equality, and properties of a trace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from neurosim.compiler.emit.deadlock import deadlock_warnings
from neurosim.engine.compare import first_difference
from neurosim.engine.events import CURRENT, ROW_SERVICE, SPIKE, SPIKE_DTYPE, TRACE_DTYPE, Options, Result
from neurosim.engine.fast import run_fast
from neurosim.engine.reference import run_reference
from neurosim.errors import Deadlock, Livelock
from neurosim.golden.graph import run_graph
from neurosim.graph import Graph
from neurosim.program import Program
from tests.conformance.chips import ACYCLIC
from tests.conformance.strategies import Case


class Rows:
    """A sink that keeps what it is handed."""

    def __init__(self) -> None:
        self.chunks = [np.zeros(0, TRACE_DTYPE)]

    def write(self, rows: Any) -> None:
        self.chunks.append(rows.copy())


@dataclass
class Outcome:
    """What came of a run: a result or an error, and the rows handed to the sink."""

    result: Result | None
    error: tuple[Any, ...] | None
    rows: Any


def outcome(run: Callable[..., Result], case: Case, options: Options | None = None, **extra: Any) -> Outcome:
    """The outcome of one engine. Of a livelock only the fact counts: its message and rows say how far the engine had come."""
    sink, options = Rows(), options or case.options
    try:
        result = run(case.program, case.stimuli, options, sink=sink if options.record else None, **extra)
    except Deadlock as error:
        return Outcome(None, ("deadlock", error.cycle, error.time_ps, error.sample, str(error)), np.concatenate(sink.chunks))
    except Livelock:
        return Outcome(None, ("livelock",), np.zeros(0, TRACE_DTYPE))
    result.trace = np.concatenate(sink.chunks)
    return Outcome(result, None, result.trace)


def assert_same(a: Outcome, b: Outcome) -> None:
    """Equal in every field of every row, in every counter, figure, spike and state, and in the error."""
    if a.result is not None and b.result is not None:
        assert first_difference(a.result, b.result) is None, first_difference(a.result, b.result)
    assert a.error == b.error
    assert np.array_equal(a.rows, b.rows)


def assert_conforms(case: Case, seed: int = 0) -> None:
    """Reference, reference with shuffled instants and fast engine agree, the fast one also in small turns and without records."""
    reference = outcome(run_reference, case)
    assert_same(reference, outcome(run_reference, case, shuffle_seed=seed))
    assert_same(reference, outcome(run_fast, case))
    assert_same(reference, outcome(run_fast, case, budget=1 + seed % 23))
    quiet = outcome(run_fast, case, replace(case.options, record=False, spikes=False))
    assert_same(_quiet(reference), quiet)
    if case.program.sync == "wavefront":
        assert_markers_never_overtake(case, reference.rows)
    if case.program.sync != "free" and case.program.chip.noc.topology in ACYCLIC:
        assert reference.error is None or reference.error == ("livelock",), reference.error
    if reference.error is not None and reference.error[0] == "deadlock" and _currents_have_routes(case):
        assert deadlock_warnings(case.program), f"the static check was silent: {reference.error}"


def _currents_have_routes(case: Case) -> bool:
    """Whether currents go only where the Program expects them; in free they are drawn for any slice, which the static check cannot know."""
    program, control = case.program, case.program.control_source
    known = program.route_core[program.route_ptr[control] : program.route_ptr[control + 1]]
    return all(np.isin(program.slice_core[s.slice[s.item == CURRENT]], known).all() for s in case.stimuli)


def _quiet(full: Outcome) -> Outcome:
    """The same outcome as a run gives it that keeps neither rows nor spikes."""
    none = np.zeros(0, TRACE_DTYPE)
    result = None if full.result is None else replace(full.result, trace=none, spikes=np.zeros(0, SPIKE_DTYPE))
    return Outcome(result, full.error, none)


def assert_markers_never_overtake(case: Case, trace: Any) -> None:
    """Per source and core, the synapse station serves the spikes of a step, then its marker, then the next step."""
    served = trace[(trace["kind"] == ROW_SERVICE) & (case.program.server_kind[trace["server"]] == 1) & (trace["item"] != CURRENT)]
    for sample, server, source in {(r["sample"], r["server"], r["slice"]) for r in served}:
        mine = served[(served["sample"] == sample) & (served["server"] == server) & (served["slice"] == source)]
        order = [(int(step), int(item)) for step, item in zip(mine["step"], mine["item"], strict=True)]
        assert order == sorted(order)


def events_of(case: Case) -> Any:
    """[n, T, c, y, x] what the stimuli put into the only input population, from whatever ports its boxes come."""
    program = case.program
    shape = next(p.shape for p in case.graph.populations if p.kind == "input")
    events = np.zeros((len(case.stimuli), program.steps, *shape), np.uint8)
    for n, stimulus in enumerate(case.stimuli):
        assert (stimulus.item == SPIKE).all()
        for step, source, address, value in zip(stimulus.step, stimulus.slice, stimulus.address, stimulus.value, strict=True):
            events[(n, step, *coordinates(program.source_box[source], address))] += value
    return events


def coordinates(box: Any, address: int) -> tuple[int, int, int]:
    """(c, y, x) in the population of local index ``address`` of a box."""
    c0, c1, y0, _, x0, x1 = (int(v) for v in box)
    pixel, c = divmod(int(address), c1 - c0)
    y, x = divmod(pixel, x1 - x0)
    return c + c0, y + y0, x + x0


def fired(graph: Graph, program: Program, result: Result, samples: int, first: int) -> dict[str, Any]:
    """Spiking population -> [n, T, c, y, x] spikes, by value."""
    table = {p.name: np.zeros((samples, program.steps, *p.shape), np.uint8) for p in graph.populations if p.kind == "spiking"}
    for sample, step, q, address, _, value in result.spikes.tolist():
        name = graph.populations[program.slice_population[q]].name
        table[name][(sample - first, step, *coordinates(program.slice_box[q], address))] += value
    return table


def assert_computes_the_model(case: Case, run: Callable[..., Result]) -> None:
    """Spikes of every step, scores and saturations are those of the clock-driven integer model."""
    golden = run_graph(case.graph, events_of(case), case.program.chip, membranes=True)
    result = outcome(run, case).result
    if result is None:  # cyclic routes may deadlock
        assert case.program.chip.noc.topology not in ACYCLIC
        return
    assert np.array_equal(result.scores, golden.scores)
    assert int(result.core["saturations"].sum()) == sum(golden.saturations.values())
    for name, steps in fired(case.graph, case.program, result, len(case.stimuli), case.options.first_sample).items():
        assert np.array_equal(steps, golden.spikes[name]), name
