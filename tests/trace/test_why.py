"""Why a neuron fired: its membrane replayed from the trace's synapses fires when the trace says, and ends where the engine ended."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, seed, settings

from neurosim.energy import price
from neurosim.engine.events import Options
from neurosim.engine.reference import run_reference
from neurosim.errors import DataError, Deadlock, Livelock
from neurosim.graph import NeuronRule
from neurosim.program import OP_KIND, R_DECAY_V, Program
from neurosim.trace import StoredRun, TraceWriter, load_run, summarise, why_fired, write_run
from neurosim.trace.why import replay_neuron
from tests.conformance.strategies import Case, cases
from tests.engine.networks import chain, rule, spikes
from tests.trace.test_critical import ASKED, EXAMPLES, simulations


@pytest.mark.parametrize("sync", ["free", "settle", "wavefront", "barrier"])
def test_every_drawn_neuron_replayed_fires_as_it_did(sync: str) -> None:
    fires = 0

    def check(case: Case) -> None:
        nonlocal fires
        program, options = case.program, case.options
        try:
            result = run_reference(program, case.stimuli, options)
        except (Deadlock, Livelock):
            return
        of_sample = simulations(program, result, options)
        whole = sync in ("free", "settle") and options.streamed
        for sample in range(1 if whole else len(of_sample)):
            for q in range(program.slices):
                first, last = (int(v) for v in program.neuron_ptr[q : q + 2])
                for neuron in range(first, last, max(1, (last - first) // 3)) if not program.slice_op[q, OP_KIND] else ():
                    replay = replay_neuron(program, of_sample[sample], q, neuron - first, sample if options.streamed else None)
                    assert replay.agrees
                    fires += len(replay.fired)
                    lazy = sync == "free" and program.slice_rule[q, R_DECAY_V]  # the leak since the last touch
                    if not options.streamed and not (result.sample["cut"] | result.sample["stopped"]).any() and not lazy:
                        assert replay.membrane == result.state_v[sample][neuron]

    run = settings(max_examples=max(1, EXAMPLES // 5))(given(cases(sync))(check))
    (run if ASKED else seed(2)(run))()
    assert fires > 20


def stored(folder: Path, program: Program, rows: list[tuple[int, int]]) -> StoredRun:
    with TraceWriter(folder / "t.parquet", program) as writer:
        result = run_reference(program, [spikes(program, rows)], Options(record=True), sink=writer)
    energy = price(program, result)
    path = write_run(
        folder / "run", program, result, Options(record=True), summarise(program, result, energy), energy=energy, trace_path=folder / "t.parquet"
    )
    return load_run(path)


def test_a_fire_worked_out_by_hand(tmp_path: Path) -> None:
    # threshold 5, weights 2, reset by subtraction: inputs 0 and 1 in step 0 give 4, input 2 in step 1 gives 6, which fires and leaves 1
    program = chain([3, 2, 1], [2, 1], [0, 1], steps=3, rules={0: rule(reset="subtract", reset_by=np.full((1, 1, 1), 5))})
    run = stored(tmp_path, program, [(0, 0), (0, 1), (1, 2), (2, 0), (2, 1)])
    answer = why_fired(run, program, "p0 (1, 0, 0)")
    assert (answer["fired"], answer["step"], answer["membrane"], answer["threshold"], answer["core"]) == (True, 1, 6, 5, 0)
    rows = [(r["population"], r["neuron"], r["step"], r["weight"], r["contribution"], r["membrane"]) for r in answer["contributions"]]
    assert rows == [("in", "(0, 0, 0)", 0, 2, 2, 4), ("in", "(1, 0, 0)", 0, 2, 2, 4), ("in", "(2, 0, 0)", 1, 2, 2, 6)]
    assert "p0 (1, 0, 0) fired in step 1 at" in answer["text"]
    later = why_fired(run, program, "p0 (1, 0, 0)", to_ps=10**9)
    assert (later["step"], later["membrane"], len(later["contributions"])) == (2, 5, 2)
    early = why_fired(run, program, "p0 (1, 0, 0)", to_ps=1)
    assert not early["fired"]
    readout = why_fired(run, program, "p1 (0, 0, 0)")
    assert "never fires" in readout["text"]
    assert [r["population"] for r in readout["contributions"]] == ["p0"] * 4
    for asked, words in (("p0", "is not understood"), ("x (0, 0, 0)", "there are in, p0, p1"), ("p0 (2, 0, 0)", r"its shape is \(2, 1, 1\)")):
        with pytest.raises(DataError, match=words):
            why_fired(run, program, asked)
    with pytest.raises(DataError, match="another program"):
        why_fired(run, chain([3, 2, 1], [3, 1], [0, 1], steps=3), "p0 (0, 0, 0)")


def test_the_start_item_of_free_touches_neurons_without_a_bias_too() -> None:
    # biases 1 and 0 on one slice; the second neuron starts at its threshold and fires when the start item tests it
    starts = NeuronRule(threshold=np.full((2, 1, 1), 5), bias=np.array([1, 0]).reshape(2, 1, 1), v_init=np.array([0, 5]).reshape(2, 1, 1))
    program = chain([1, 2, 1], [2, 1], [0, 1], "free", rules={0: starts})
    options = Options(record=True, state=True)
    rows = run_reference(program, [spikes(program, [])], options)
    (events,) = simulations(program, rows, options)
    replay = replay_neuron(program, events, 0, 1, None)
    assert replay.agrees
    assert [membrane for _, _, membrane in replay.fired] == [5]
