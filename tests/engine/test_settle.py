"""Settle by hand: a neuron that takes a spike back, what that costs in time, what the ports send, who speaks first, and where a sample stops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from neurosim.engine.differences import differences
from neurosim.engine.events import DUE, ROW_PUT, ROW_SERVICE, ROW_STOP, SPIKE, Engine, Options, Stimulus
from neurosim.engine.fast import run_fast
from neurosim.engine.run import simulate_stimuli
from neurosim.errors import DataError, RunError
from neurosim.graph import Graph
from neurosim.program import Program
from tests.engine.networks import ENGINES, Rows, chain, dense, mapped, population, server_number

pytestmark = pytest.mark.parametrize("run", ENGINES)


def stimulus(program: Program, rows: list[tuple[int, int, int]], source: int = 0) -> Stimulus:
    """(due, address, value) spikes of an input."""
    table = np.array(rows, np.int64).reshape(-1, 3)
    n = len(table)
    owner = np.full(n, program.slices + source, np.int32)
    return Stimulus(table[:, 0], np.zeros(n, np.int32), np.full(n, SPIKE, np.uint8), owner, table[:, 1].astype(np.int32), table[:, 2])


def changing(**chip: Any) -> Program:
    """Two inputs into one neuron of threshold 5, +6 and -3, and its spikes into a readout, all on one core."""
    graph = Graph(
        "changing",
        1,
        (population("a", kind="input"), population("b", kind="input"), population("n"), population("out", 2, "readout")),
        (dense("a", "n", 6), dense("b", "n", -3), dense("n", "out", 2, (1, 2))),
    )
    return mapped(graph, [0, 1], "settle", **chip)


def due_rows(program: Program, trace: Any) -> list[tuple[int, int, int]]:
    """(start, end, value) of the due services of core 0."""
    rows = trace[(trace["kind"] == ROW_SERVICE) & (trace["item"] == DUE) & (trace["server"] == server_number(program, "core 0"))]
    return list(zip(rows["time"].tolist(), rows["end"].tolist(), rows["value"].tolist(), strict=True))


def test_a_neuron_takes_its_spike_back(run: Engine) -> None:
    program = changing(timing__decode=1, timing__synop=1)
    first, second = stimulus(program, [(0, 0, 1)]), stimulus(program, [(300, 0, 1)], 1)
    both = Stimulus(
        *(np.concatenate([getattr(first, name), getattr(second, name)]) for name in ("due_ps", "step", "item", "slice", "address", "value"))
    )
    result = run(program, [both], Options(record=True, state=True))
    # access 2, update 5, fire 7: a service of 14 ps each, +1 when a has come and -1 when b has
    assert [(end - start, value) for start, end, value in due_rows(program, result.trace)] == [(14, 1), (14, -1)]
    assert result.spikes["value"].tolist() == [1, -1]
    assert result.sample["retracted"].tolist() == [1]
    assert result.sample["spikes"].tolist() == [0]
    assert result.state_v[0, :1].tolist() == [3]
    assert result.scores.tolist() == [[0, 0]]
    puts = result.trace[(result.trace["kind"] == ROW_PUT) & (result.trace["server"] == server_number(program, "core 0"))]
    assert puts["blocked"].tolist() == [0, 0]


def test_a_change_of_mind_in_time_costs_one_access(run: Engine) -> None:
    program = changing(timing__settle='"1 ns"')
    both = Stimulus(
        np.zeros(2, np.int64), np.zeros(2, np.int32), np.zeros(2, np.uint8), program.slices + np.arange(2, dtype=np.int32), np.zeros(2, np.int32),
        np.ones(2, np.int64),
    )  # fmt: skip
    result = run(program, [both], Options(record=True))
    ((start, end, value),) = due_rows(program, result.trace)
    assert (end - start, value) == (2, 0)
    assert (result.core["cancelled"].sum(), result.core["updates"].sum(), result.core["fires"].sum()) == (1, 0, 0)
    assert result.slice_cancelled.tolist() == [[1, 0]]


def test_streams_send_what_has_changed(run: Engine) -> None:
    program = chain([4, 2, 2], [6, 1], [0, 1], "settle")
    inputs = [stimulus(program, [(0, 0, 1), (0, 2, 2)]), stimulus(program, [(0, 0, 1), (0, 1, 1)]), stimulus(program, [(0, 0, 1), (0, 1, 1)])]
    result = run(program, inputs, Options(streamed=True, record=True))
    ports = result.trace[(result.trace["server"] == 0) & (result.trace["kind"] == ROW_SERVICE)]
    assert list(zip(ports["address"].tolist(), ports["value"].tolist(), strict=True)) == [(0, 1), (2, 2), (1, 1), (2, -2)]
    assert result.sample["injected_spikes"].tolist() == [2, 2, 0]
    quiet = program.chip.timing.quiet.value
    assert result.start_ps[1:].tolist() == (result.completion_ps[:-1] + quiet).tolist()
    assert result.completion_ps[2] == result.decision_ps[2] == result.start_ps[2]  # nothing to do
    alone = run(program, inputs, Options())
    assert np.array_equal(alone.scores, result.scores)


def test_order_input_hears_before_it_speaks(run: Engine) -> None:
    served = {}
    for order in ("input", "age"):
        program = chain([6, 3, 2], [6, 1], [0, 1], "settle", arithmetic__settle_order=f'"{order}"', noc__axon_in=8)
        result = run(program, [stimulus(program, [(0, k, 1) for k in range(6)])], Options(record=True))
        rows = result.trace[(result.trace["kind"] == ROW_SERVICE) & (result.trace["server"] == server_number(program, "core 0"))]
        served[order] = (rows["item"] == DUE).tolist()
    assert served["input"] != served["age"]
    assert sum(served["age"]) >= sum(served["input"]) == 3


def test_a_standing_margin_stops_a_sample(run: Engine) -> None:
    graph = Graph("stop", 1, (population("a", 8, "input"), population("out", 2, "readout")), (dense("a", "out", 1, (8, 2)),))
    object.__setattr__(graph.projections[0].map, "weight", np.array([[3] * 8, [0] * 8]))
    program = mapped(graph, [0], "settle", mesh=(1, 1))
    given = [stimulus(program, [(1000 * k, k, 1) for k in range(8)])]
    whole = run(program, given, Options(record=True))
    stopped = run(program, given, Options(record=True, stop_margin=6, stop_after_ps=500))
    (row,) = stopped.trace[stopped.trace["kind"] == ROW_STOP]
    second = whole.trace[(whole.trace["kind"] == ROW_SERVICE) & (whole.trace["server"] == server_number(program, "core 0"))][1]
    assert (row["time"], row["address"], row["value"]) == (second["end"] + 500, 0, 6)
    assert stopped.sample["stopped"].tolist() == [1]
    more: dict[str, Any] = {} if run is not run_fast else {"budget": 1}  # rows are handed on turn by turn, the stop among them in its place
    sink = Rows()
    run(program, given, Options(record=True, stop_margin=6, stop_after_ps=500), sink=sink, **more)
    assert np.array_equal(sink.all, stopped.trace)
    assert stopped.scores.tolist() == [[6, 0]]
    before = whole.trace[(whole.trace["time"] <= row["time"]) & (whole.trace["kind"] == ROW_SERVICE)]
    assert len(before) == len(stopped.trace[stopped.trace["kind"] == ROW_SERVICE])
    assert whole.anytime["best"].tolist() == [0]  # both 0 at first, class 0 from then on


def test_mistakes_are_refused(run: Engine) -> None:
    program = chain([4, 2, 2], [6, 1], [0, 1], "settle")
    with pytest.raises(DataError, match=r"0\.\.256, .*0\.\.255"):
        differences(program, [stimulus(program, [(0, 0, 256)])], streamed=False)
    with pytest.raises(RunError, match="go together"):
        simulate_stimuli(program, [stimulus(program, [])], stop_margin=3)
    with pytest.raises(RunError, match="streamed"):
        simulate_stimuli(program, [stimulus(program, [])], stop_margin=3, stop_after_ps=5, streamed=True)
